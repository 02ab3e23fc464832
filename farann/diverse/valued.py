"""Selections of large scores and large distances, within a proven factor of the best.

The value of a selection is the sum of its scores and a weight times its smallest distance. Greedy
selections by score are made for radii that grow by a factor of 1 + epsilon, and beside them the two
rows that are furthest apart: the best of these has at least 2/3 - epsilon of the best value there
is (Fahrbach et al., "GIST", NeurIPS 2025, for a linear utility). A radius up to half of the best
selection's distance loses none of its scores, as no ball around a pick holds two of its rows.

A radius is left early if rows that are yet to come can't make it the best, and left out if a
smaller one gave rows that are as far apart: these are its own.
"""

from __future__ import annotations

from collections.abc import Callable
from math import fsum, inf

import numpy as np

from farann._types import Float64Array, Int64Array, Progress
from farann.diverse.pairs import furthest_pair
from farann.diverse.spaced import Ranked
from farann.runtime.progress import told
from farann.store.store import Store, View

_EPSILON = 0.05  # each radius is larger by this share
_ROUNDING = 1.0 - 2.0**-22  # distances come from float32 scores


def select_valued(store: Store, view: View, rows: Ranked, scores: Float64Array, k: int,
                  weight: float, threads: int,
                  progress: Progress) -> tuple[float | None, Int64Array]:
    """The rows of a store of the best value that is found, by slots, and the score of the two that
    are nearest; under cosine distances are those of unit vectors."""
    furthest = rows.order
    if len(furthest) > 2:
        pair = furthest_pair(store, view, np.sort(rows.order), threads)
        furthest = store.slots_of(np.array([pair.a, pair.b]))
    picks = _best(rows, scores, k, weight, furthest, progress)
    return rows.nearest(picks), picks


def _best(rows: Ranked, scores: Float64Array, k: int, weight: float, furthest: Int64Array,
          progress: Progress) -> Int64Array:
    """The rows of the best value that are found, at most k, in their order; `scores` are by number,
    `furthest` the two rows furthest from each other."""
    order, is_l2 = rows.order, rows.larger_is_further
    sums = np.concatenate([[0.0], np.cumsum(scores[order])])
    best, value = order[:k], -inf

    def spacing(picks: Int64Array) -> float:
        """The smallest distance; 0 for one row."""
        score = rows.nearest(picks)
        if score is None:
            return 0.0
        return score if is_l2 else max(2.0 - 2.0 * score, 0.0) ** 0.5

    def try_out(picks: Int64Array) -> float:
        nonlocal best, value
        apart = spacing(picks)
        total = fsum(scores[picks].tolist()) + weight * apart
        if total > value:
            best, value = picks, total
        return apart

    def leaves_none(apart: list[float], known: list[int]) -> Callable[[list[int], int], bool]:
        """Whether selections that begin with some picks can't have a larger value."""
        def can_not(picks: list[int], met: int) -> bool:
            if len(picks) >= 2 * known[0]:  # more picks are only nearer
                known[0], apart[0] = len(picks), spacing(np.array(picks, np.int64))
            to_come = sums[min(met + k - len(picks), len(order))] - sums[met]
            most = float(scores[picks].sum() + to_come) + weight * apart[0]
            return most * (1.0 + 1e-12) < value
        return can_not

    apart, widest = try_out(order[:k]), 0.0
    if k > 1 and len(order) > 1:
        widest = try_out(furthest)
    steps = int(np.log(2.0 / _EPSILON) / np.log1p(_EPSILON)) + 1
    with told("radii tried", steps, progress) as advance:
        for step in range(steps):
            radius = widest * _EPSILON / 2.0 * (1.0 + _EPSILON) ** step
            advance(1)
            if apart < radius <= widest:
                limit = radius if is_l2 else 1.0 - radius * radius / 2.0
                picks = rows.spaced(limit, k, hopeless=leaves_none([widest], [1]))
                apart = max(spacing(picks) * _ROUNDING, radius) if len(picks) > 1 else widest
                try_out(picks)
    ranks = np.empty(rows.n_rows, np.int64)
    ranks[order] = np.arange(len(order))
    return best[np.argsort(ranks[best])]
