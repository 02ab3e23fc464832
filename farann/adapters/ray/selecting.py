"""Greedy selections over shards: picks that one index over all rows would make.

Each shard proposes its best rows with float64 keys, which are the same bits in any index, and with
their vectors. A row is picked as soon as no row that wasn't proposed can be better.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from farann._types import Float32Array, Float64Array, Int64Array
from farann.adapters.ray.manifest import Manifest
from farann.contract.metric_traits import traits_of
from farann.diverse.selection import Selection
from farann.index import Index
from farann.merging import merge
from farann.results import Hits, no_hits

Ask = Callable[..., tuple[list[Any], tuple[str, ...]]]

# Rows that each shard proposes at a time.
_PROPOSED = 64


class Choice(NamedTuple):
    """What a selection is asked for, checked."""

    k: int
    start: npt.NDArray[Any] | None
    first: npt.NDArray[Any]
    radius: float | None
    filters: dict[str, Any]


class _Proposed:
    """The best rows of all shards for the picks so far, and what all others are at most."""

    def __init__(self, parts: list[tuple[Any, Int64Array, Float32Array]],
                 manifest: Manifest) -> None:
        self.ids = np.concatenate([hits.ids[hits.found] for hits, _, _ in parts])
        self.orders = np.concatenate([orders for _, orders, _ in parts])
        self.rows = np.concatenate([rows for _, _, rows in parts])
        self.keys: Float64Array = np.concatenate([hits.keys[hits.found] for hits, _, _ in parts])
        # The last that a shard proposes, if it proposes all that it was asked for.
        self._last = [(float(hits.keys[0, -1]), int(orders[-1])) for hits, orders, _ in parts
                      if hits.found.all()]
        self._index = Index(manifest.dim, manifest.metric, codes="float32", threads=1)
        if len(self.ids):
            self._index.add(self.rows)

    def best(self) -> int | None:
        """Which row is next; None if another one may be."""
        if len(self.ids) == 0 or self.keys.max() == -inf:
            return None
        equal = np.flatnonzero(self.keys == self.keys.max())
        best = int(equal[self.orders[equal].argmin()])
        key, order = float(self.keys[best]), int(self.orders[best])
        certain = all(key > last or (key == last and order <= last_order)
                      for last, last_order in self._last)
        return best if certain else None

    def take(self, which: int) -> None:
        """Pick a row: keys are the smallest over the picks."""
        hits: Any = self._index.search_furthest_from(
            [_as_set(self.rows[which : which + 1])], len(self.ids), return_keys=True)
        self.keys[hits.ids[0]] = np.minimum(self.keys[hits.ids[0]], hits.keys[0])
        self.keys[which] = -inf


def select(ask: Ask, reconstruct: Callable[[npt.NDArray[Any]], Float32Array], manifest: Manifest,
           choice: Choice) -> Selection:
    """Greedy k-center over shards."""
    traits = traits_of(manifest.metric)
    ids, scores = list[Any](), list[float]()
    first = np.unique(choice.first)
    if len(first) == 0:
        start = choice.start
        if start is None:
            start = _furthest_from_mean(ask, manifest, choice.filters)
            if start is None:
                return _selection(ids, scores, first.dtype)
        elif "allowed" in choice.filters and not np.isin(start, choice.filters["allowed"]).all():
            raise ValueError(f"start: expected an id that may be chosen, got {start[0]!r}")
        first = start
        ids.append(start[0])
        scores.append(-inf if manifest.metric != "l2" else inf)
    members = reconstruct(first)
    picked = first
    while len(ids) < choice.k:
        options = {"k": _PROPOSED, "exclude": [picked], **choice.filters}
        parts, _ = ask("search_with_rows", "search_furthest_from", [_as_set(members)], options)
        proposed = _Proposed(parts, manifest)
        if len(proposed.ids) == 0:
            break
        new: list[int] = []
        while len(ids) < choice.k and (best := proposed.best()) is not None:
            score = _score(float(proposed.keys[best]), traits.adds_squared_norm,
                           traits.normalized)
            if choice.radius is not None and not _is_beyond(score, choice.radius, traits):
                return _selection(ids, scores, picked.dtype)
            ids.append(proposed.ids[best])
            scores.append(score)
            new.append(best)
            proposed.take(best)
        members = np.concatenate([members, proposed.rows[new]])
        picked = np.concatenate([picked, proposed.ids[new]])
    return _selection(ids, scores, picked.dtype)


def _selection(ids: list[Any], scores: list[float], dtype: np.dtype[Any]) -> Selection:
    with np.errstate(over="ignore"):
        return Selection(np.array(ids, dtype), np.array(scores).astype(np.float32))


def _score(key: float, squared: bool, normalized: bool) -> float:
    if squared:
        return float(np.sqrt(key))
    return min(1.0, max(-1.0, 0.0 - key)) if normalized else 0.0 - key


def _is_beyond(score: float, radius: float, traits: Any) -> bool:
    return score > radius if traits.larger_is_further else score < radius


def _as_set(members: Float32Array) -> Float32Array:
    """Two members at least: keys of a set of one aren't divided by its norm under cosine."""
    return np.resize(members, (max(len(members), 2), members.shape[1]))


def _furthest_from_mean(ask: Ask, manifest: Manifest,
                        filters: dict[str, Any]) -> npt.NDArray[Any] | None:
    sums = ask("sum_of_rows", filters.get("allowed"))[0]
    n = sum(count for _, count in sums)
    if n == 0:
        return None
    mean = (np.sum([total for total, _ in sums], axis=0) / n).astype(np.float32)
    if manifest.metric == "cosine" and not mean.any():
        mean[0] = 1.0  # there is no direction: any will do
    parts = ask("search", "search_furthest", mean[None], {"k": 1, **filters})[0]
    ids: npt.NDArray[Any] = merge(parts, 1).ids[0]
    return ids


# ---- maximal marginal relevance ----


def mmr(ask: Ask, queries: Float32Array, k: int, diversity: float, filters: dict[str, Any],
        strings: bool) -> Hits:
    """Each shard says its best next row for each query; the best of these is the pick."""
    n, dim = queries.shape
    hits = _no_hits(n, k, strings)
    rows = np.zeros((n, 0, dim), np.float32)
    for step in range(k):
        picks = hits.ids[:, :step].copy(), rows
        answers, _ = ask("next_mmr", queries, picks, {"diversity": diversity, **filters})
        best, order = np.full(n, -1, np.int64), np.full(n, -inf)
        vectors = np.zeros((n, dim), np.float32)
        for named, (ids, orders, values), found in answers:
            there = ids >= 0
            better = there & ((orders > order) | (best < 0)
                              | ((orders == order) & (ids < best)))
            best[better], order[better] = ids[better], orders[better]
            hits.ids[better, step] = named[better]
            with np.errstate(over="ignore"):
                hits.scores[better, step] = values[better]
            vectors[better] = found[(np.cumsum(there) - 1)[better]]
        if (best < 0).all():
            break
        rows = np.concatenate([rows, vectors[:, None]], axis=1)
    return hits


def mmr_of_nearest(ask: Ask, manifest: Manifest, queries: Float32Array, k: int, diversity: float,
                   options: dict[str, Any], strings: bool) -> Hits:
    """Choose among the most similar rows of all shards, which have all that it takes."""
    parts, _ = ask("search_with_rows", "search_nearest", queries, options)
    nearest = merge([hits for hits, _, _ in parts], options["k"])
    known: dict[Any, tuple[int, Float32Array]] = {}
    for hits, orders, rows in parts:
        known.update(zip(hits.ids[hits.found].tolist(), zip(orders.tolist(), rows, strict=True),
                         strict=True))
    answer = _no_hits(len(queries), k, strings)
    for i, (found, there) in enumerate(zip(nearest.ids, nearest.found, strict=True)):
        ids = sorted(found[there].tolist(), key=lambda id: known[id][0])
        if ids:
            index = Index(manifest.dim, manifest.metric, codes="float32", threads=1)
            index.add(np.stack([known[id][1] for id in ids]), ids)
            answer.scores[i], answer.ids[i] = index.search_mmr(
                queries[i], k, diversity=diversity, candidates=len(ids))
    return answer


def _no_hits(n: int, k: int, strings: bool) -> Hits:
    hits = no_hits(n, k)
    return hits._replace(ids=np.full((n, k), None)) if strings else hits
