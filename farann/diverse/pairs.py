"""Pairs of rows: the diameter, each row's furthest others, pairs within a radius."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import pairwise
from math import inf
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from farann import _core
from farann._types import Float32Array, Float64Array, Int64Array, Progress
from farann.results import Hits, Pairs, RangeHits
from farann.runtime import batches, pool
from farann.runtime.cost import row_costs
from farann.runtime.process import ieee_arithmetic
from farann.runtime.progress import told
from farann.search import plan
from farann.search.filters import only
from farann.search.plan import Question
from farann.store.store import Store, View

if TYPE_CHECKING:
    from scipy.sparse import csr_array

# Queries of the first and of the largest batch in the search for the diameter.
# _PAIR_ROWS_AT_ONCE: rows that serve as queries at a time.
_FIRST_QUERIES, _MOST_PAIRED = 64, 1024
_PAIR_ROWS_AT_ONCE = 8_192
_LENGTH_ERROR = 1e-12  # error bound of float64 arithmetic, relative to lengths
# Under cosine each row of a pair has a key for the other; they differ by at most 4 roundings of
# 2**-53. Twice that is allowed for.
_KEYS_DIFFER = 2.0**-50
_MOST_JOINED = 4096  # queries of the largest batch of pairs within a radius
# Rows that a batch may find; of more, a smaller batch is tried. A row takes some 60 bytes.
_MOST_JOINED_ROWS = 1 << 22
_PAIR_BYTES = 20  # bytes that a pair takes in the answer


class Pair(NamedTuple):
    """Two rows, and their key: the best is the largest, of equal ones that with smaller ids."""

    key: float
    a: int
    b: int

    def beats(self, other: Pair) -> bool:
        """Whether it comes before another one."""
        return (-self.key, self.a, self.b) < (-other.key, other.a, other.b)


def furthest_pair(store: Store, view: View, slots: Int64Array, threads: int,
                  progress: Progress = False) -> Pair:
    """Find the pair of rows whose key is largest, of equal ones that with the smaller ids.

    Rows are asked for their furthest row in the order of their reaches, which bound keys of pairs,
    until even two rows of the next reach can't beat the best pair. Under cosine the larger key of
    a pair counts, in whatever order rows are asked: those that were not, and are about as far from
    one that was, are asked as well.
    """
    slack = _KEYS_DIFFER if store.spec.metric.normalized else 0.0
    chosen = only(store, view, slots, _MOST_PAIRED)
    with ieee_arithmetic():
        reach = _reaches(store, slots)
    order = np.argsort(-reach, kind="stable")
    slots, reach = slots[order], reach[order]
    best, start, size = Pair(-inf, -1, -1), 0, _FIRST_QUERIES
    keys, ask = np.empty(len(slots)), partial(_best_of, store, view, chosen, slack, threads)
    with told("rows asked", len(slots), progress) as advance:
        while start < len(slots) and _most(store, reach[start]) >= best.key - slack:
            some = slots[start : start + size]
            best, keys[start : start + size] = ask(some, best)
            start, size = start + len(some), min(2 * size, _MOST_PAIRED)
            advance(len(some))
    if slack:
        close = slots[:start][keys[:start] >= best.key - slack]
        others = _about_as_far(store, view, chosen, close, slots[start:], best.key - slack, threads)
        for at in range(0, len(others), _MOST_PAIRED):
            best, _ = ask(others[at : at + _MOST_PAIRED], best)
    return best


def _about_as_far(store: Store, view: View, chosen: _core.Filter, close: Int64Array,
                  others: Int64Array, key: float, threads: int) -> Int64Array:
    """The slots among `others` of rows whose keys for one of some rows are above a key."""
    there = np.zeros(store.n_slots, np.bool_)
    for start in range(0, len(close) if len(others) else 0, _FIRST_QUERIES):
        rows = store.take(close[start : start + _FIRST_QUERIES])
        hits, _ = batches.in_range(view.exact, chosen, rows, np.full(len(rows), -key), False,
                                    threads)
        there[store.slots_of(hits.ids)] = True
    return others[there[others]]


def score_of(store: Store, pair: Pair) -> float:
    """The score of a pair as searches give it."""
    metric = store.spec.metric
    score = pair.key**0.5 if metric.adds_squared_norm else -pair.key
    if metric.normalized:
        score = min(1.0, max(-1.0, score))
    with np.errstate(over="ignore"):
        return float(np.float32(score))


def _best_of(store: Store, view: View, chosen: _core.Filter, slack: float, threads: int,
             slots: Int64Array, best: Pair) -> tuple[Pair, Float64Array]:
    """The best pair, with those of some more rows, and these rows' largest keys; -infinity for
    those further than `slack` below the best."""
    queries, own = store.take(slots), store.ids.ids_of(slots)
    chosen = chosen.excluding(own, np.arange(len(own) + 1, dtype=np.int64))
    keys, ids = np.empty(len(slots)), np.empty(len(slots), np.int64)
    costs = row_costs(len(slots), store.dim, view.exact.isa)

    def search(start: int, stop: int, flag: _core.CancelFlag) -> None:
        task = _core.Task(view.exact, chosen, queries, start, stop, _core.Collector(1), flag=flag,
                          costs=costs)
        task.rule_out(best.key - slack)
        task.run()
        task.write_keys(keys, ids, start)

    bounds = [len(slots) * i // threads for i in range(threads + 1)]
    pool.run_all([partial(search, *each) for each in pairwise(bounds) if each[0] < each[1]],
                 threads, long=True)
    for i in np.flatnonzero((keys >= best.key) & (ids >= 0)):
        a, b = sorted((int(own[i]), int(ids[i])))
        pair = Pair(float(keys[i]), a, b)
        if pair.beats(best):
            best = pair
    return best, keys


def _reaches(store: Store, slots: Int64Array) -> Float64Array:
    """Bounds on keys of pairs, see `_most`: distance from the center, angle, or a half key.

    For a dot product, with the center m: -<x, y> is (-<m, x> + |m|^2 / 2) + (-<m, y> + |m|^2 / 2)
    - <x - m, y - m>, of which the last is at most |x - m|^2 / 2 + |y - m|^2 / 2.
    """
    metric, reach, center = store.spec.metric, np.empty(len(slots)), store.center
    square = float(center @ center)
    direction = center / np.sqrt(square) if square else np.eye(1, len(center))[0]
    for start in range(0, len(slots), _PAIR_ROWS_AT_ONCE):
        rows = store.take(slots[start : start + _PAIR_ROWS_AT_ONCE]).astype(np.float64)
        along = rows @ (direction if metric.normalized else center)
        squares = np.square(rows if metric.normalized else rows - center).sum(axis=1)
        if metric.normalized:
            angles = np.arccos(np.clip(along / np.sqrt(squares), -1.0, 1.0)) + 1e-7
        elif metric.adds_squared_norm:
            angles = np.sqrt(squares) * (1.0 + _LENGTH_ERROR)
        else:
            angles = 0.5 * (square + squares) - along
            angles += _LENGTH_ERROR * (square + squares + np.abs(along))
        reach[start : start + len(rows)] = angles
    return reach


def _most(store: Store, reach: float) -> float:
    """The largest key that two rows of these reaches can have."""
    metric = store.spec.metric
    if metric.normalized:
        return 1.0 if 2.0 * reach >= np.pi else -float(np.cos(2.0 * reach)) + _LENGTH_ERROR
    if metric.adds_squared_norm:
        return float((2.0 * reach) ** 2 * (1.0 + _LENGTH_ERROR))
    return 2.0 * reach


def furthest_of_all(question: Question, progress: Progress) -> Hits:
    """The k furthest rows of the rows of some slots, which are the queries of the question."""
    parts, n = list[Hits](), len(question.queries)
    with told("rows asked", n, progress) as advance:
        for start in range(0, n, _PAIR_ROWS_AT_ONCE):
            part = question.of(np.arange(start, min(start + _PAIR_ROWS_AT_ONCE, n)))
            rows = question.store.take(part.queries)
            parts.append(plan.top(part._replace(queries=rows))[0])
            advance(len(rows))
    return Hits(np.concatenate([part.ids for part in parts]),
                np.concatenate([part.scores for part in parts]))


def as_graph(ids: Int64Array, hits: Hits) -> csr_array:
    """The furthest rows of each row as a sparse matrix of scores, in the order of `ids`."""
    from scipy.sparse import csr_array as sparse_array

    there = hits.ids >= 0
    order = np.argsort(ids, kind="stable")
    columns = order[np.searchsorted(ids[order], hits.ids[there])]
    offsets = np.zeros(len(ids) + 1, np.int64)
    np.cumsum(there.sum(axis=1), out=offsets[1:])
    data: Float32Array = hits.scores[there]
    return sparse_array((data, columns, offsets), shape=(len(ids), len(ids)))


def within(store: Store, view: View, slots: Int64Array, radius: float, limit: int, threads: int,
           progress: Progress) -> Pairs:
    """All pairs of some rows that are no further apart than a radius."""
    ids, chosen = store.ids.ids_of(slots), only(store, view, slots, _MOST_JOINED)
    order = np.argsort(ids, kind="stable")

    def search(some: slice, most: int) -> tuple[RangeHits, bool]:
        rows = store.take(slots[order[some]])
        hits, _ = batches.in_range(view.exact, chosen, rows, np.full(len(rows), radius), True,
                                   threads, most)
        return hits, is_cut(hits, most)

    return joined(ids[order], search, radius, limit, progress)


def is_cut(hits: RangeHits, most: int) -> bool:
    """Whether a query may have more rows, as its search stopped at `most`; 0: none did."""
    return bool(0 < most <= np.diff(hits.offsets).max(initial=0))


def joined(ids: Int64Array, search: Callable[[slice, int], tuple[RangeHits, bool]], radius: float,
           limit: int, progress: Progress) -> Pairs:
    """All pairs of rows with ascending ids, by a search within the radius that may stop early, and
    says so. The smaller id is the query: under cosine the other way may round differently."""
    parts, n_found, start, size = list[tuple[Int64Array, Float32Array]](), 0, 0, _MOST_JOINED
    with told("rows asked", len(ids), progress) as advance:
        while start < len(ids):
            some = slice(start, min(start + size, len(ids)))
            n_asked = some.stop - start
            most = _MOST_JOINED_ROWS // n_asked if n_asked > 1 else 0
            hits, cut = search(some, most)
            firsts = np.repeat(ids[some], np.diff(hits.offsets))
            once = firsts < hits.ids
            n_found += (n_new := int(np.count_nonzero(once)))
            if n_found > limit:
                raise ValueError(
                    f"radius: expected at most limit={limit:,} pairs within {radius:g}, got "
                    f"{'at least ' * cut}{n_found:,} for the first {some.stop:,} of {len(ids):,} "
                    "rows; take another radius, or a limit for which there is memory, "
                    f"{_PAIR_BYTES} bytes a pair")
            if cut:
                n_found, size = n_found - n_new, max(n_asked // 8, 1)
                continue
            parts.append((np.stack([firsts[once], hits.ids[once]], axis=1), hits.scores[once]))
            start, size = some.stop, min(2 * size, _MOST_JOINED)
            advance(n_asked)
    none = np.empty((0, 2), np.int64), np.empty(0, np.float32)
    return Pairs(*map(np.concatenate, zip(none, *parts, strict=True)))
