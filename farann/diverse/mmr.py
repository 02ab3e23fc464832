"""Maximal marginal relevance over all rows, exactly.

With sim for the dot product or cosine, and picks s, the row x has the value
(1 - d) sim(q, x) - d max sim(s, x), which is the smallest product of x with (1 - d) q - d s over
the picks. Each of these vectors bounds it from above, so a search for a set of them gives rows, the
pool, and a bound on the value of all others. Picks come from the pool as long as they are above the
bound; then the next search has the picks since as members, too, and begins with a guess at what
their values will be (`likely`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from math import inf, isfinite
from typing import NamedTuple
from weakref import WeakKeyDictionary

import numpy as np

from farann import _core
from farann._types import BoolArray, Float32Array, Float64Array, Int64Array
from farann.diverse.member_sets import member_keys
from farann.results import Hits, SearchStats, no_hits
from farann.runtime import batches, pool
from farann.runtime.process import ieee_arithmetic
from farann.search import plan
from farann.search.plan import Question
from farann.store.store import Store

# _FIRST_POOL: rows of the first pool; _GROWTH: factor to the next larger one.
# _SMALL_SHARE: where a pool would hold over 1/8 of the rows, all rows are taken.
_FIRST_POOL, _GROWTH, _SMALL_SHARE = 128, 8, 8
# Error bound of float64 arithmetic, relative to norms.
_FLOAT64_ERROR = 1e-13
# Rows that are read at a time to find the largest norm.
_NORMS_AT_ONCE = 65_536
# _MOST_ABOVE: least room, in rows, of a search above a guessed floor.
# _GUESS_OFF: error bound of the guess in float32, relative to norms.
_MOST_ABOVE, _GUESS_OFF = 8192, 1e-5
# Error bounds of a score in float32: relative, and absolute for tiny scores.
_FLOAT32_ERROR, _SMALLEST = 2.0**-23, 2.0**-148

# Sampled rows: 1/64 of all, at most 4,096.
_FLOOR_SHARE, _MOST_FLOOR_ROWS = 64, 4096
# _MOST_KNOWN: most known rows that a guess is made from, those with the largest values.
# _MOST_FOUND: most rows, by estimate, whose bounds may reach the guessed floor.
_MOST_KNOWN, _MOST_FOUND = 256, 2048

_largest_norms: WeakKeyDictionary[Store, float] = WeakKeyDictionary()


@dataclass(frozen=True, slots=True)
class Begun:
    """Queries, and the picks that each has: ids (n_queries, m), -1 for rows of other indexes, and
    vectors (n_queries, m, dim)."""

    queries: Float32Array
    picked: Int64Array
    vectors: Float32Array

    def __len__(self) -> int:
        return len(self.queries)

    def __getitem__(self, which: Int64Array) -> Begun:
        """Some of the queries, in this order."""
        return Begun(self.queries[which], self.picked[which], self.vectors[which])


def search(question: Question, diversity: float,
           candidates: int | None = None) -> tuple[Hits, SearchStats]:
    """The first k picks of each query, or with `Begun` the next ones.

    Keys are by what picks of several indexes compare: of first ones similarities, of others values.
    """
    store, view, begun, k, threads, row_filters = question[:6]
    n = len(begun)
    if row_filters.groups is not None:
        return plan.top_of_groups(question, lambda part: search(part, diversity, candidates),
                                  keyed=True)
    if not isinstance(begun, Begun):
        begun = Begun(begun, np.empty((n, 0), np.int64), np.empty((n, 0, store.dim), np.float32))
        question = question._replace(queries=begun)
    hits, keys = no_hits(n, k), np.full((n, k), -inf)
    size = 1 if candidates is None else min(candidates, len(store))
    chosen = row_filters.filter(store, view, n, exact=True)
    nearest, stats = batches.top(view.exact, chosen, begun.queries, size, True, threads)
    did = [stats]

    def answer(i: int, flag: _core.CancelFlag) -> None:
        found = nearest.ids[i][nearest.ids[i] >= 0]
        if len(found) == 0:
            return
        # A value may be too large for float32.
        with ieee_arithmetic(), np.errstate(over="ignore"):
            ranker = _Ranker(question.of(np.array([i])), diversity, store.slots_of(found), flag)
            if candidates is not None:
                ranker.bound = -inf
            for j, (id, value, key) in zip(range(k), ranker.picks(), strict=False):
                hits.ids[i, j], hits.scores[i, j], keys[i, j] = id, value, key
            did.extend(ranker.did)

    pool.run_all([partial(answer, i) for i in range(n)], threads, long=True)
    hits.keys = keys
    return hits, plan.total_of(did, n)


class _Ranker:
    """The picks of one query."""

    def __init__(self, question: Question, diversity: float, slots: Int64Array,
                 flag: _core.CancelFlag) -> None:
        self._question, self._flag = question, flag
        self._store, self._view, begun = question[:3]
        self._query, self._diversity = begun.queries, diversity
        picked = self._store.slots_of(begun.picked[0])
        self._picked, self._vectors = picked[picked >= 0].tolist(), list(begun.vectors[0][:, None])
        self._wanted = question.k + len(self._vectors)  # picks in all
        self.did = list[SearchStats]()  # searches, and exact keys
        self._size, self._picked_before = _FIRST_POOL, -1
        # No row that isn't in the pool has a value above it.
        self.bound = inf
        self._take_pool(slots)

    def picks(self) -> Iterator[tuple[int, float, float]]:
        """Ids, values and keys, until there are no more rows."""
        while True:
            values = self._values()
            best = self._best(values)
            # The first pick is the most similar row, which the pool begins with.
            if self.bound > -inf and (
                    best is None or (self._vectors and values[best] <= self.bound)):
                self._extend()
            elif best is None:
                return
            else:
                value = float(values[best])
                yield int(self._ids[best]), value, (
                    value if self._vectors else float(self._similar[best]))
                self._pick(best)

    def _values(self) -> Float64Array:
        """Values of the rows in the pool; -infinity for those that were picked."""
        values: Float64Array = (1.0 - self._diversity) * self._similar
        if self._vectors:
            values -= self._diversity * self._closest
        values[self._done] = -inf
        return values

    def _best(self, values: Float64Array) -> int | None:
        """The best row of the pool, of equal ones that with the smallest id."""
        if self._done.all():
            return None
        if not self._vectors:
            values = np.where(self._done, -inf, self._similar)
        best = np.flatnonzero((values == values.max()) & ~self._done)
        return int(best[self._ids[best].argmin()])

    def _pick(self, which: int) -> None:
        slot = int(self._slots[which])
        vector = self._store.take(np.array([slot]))
        self._picked.append(slot)
        self._vectors.append(vector)
        self._done[which] = True
        np.maximum(self._closest, -self._keys(vector, self._slots)[0], out=self._closest)

    def _take_pool(self, slots: Int64Array) -> None:
        self._slots = slots
        self._ids = self._store.ids.ids_of(slots)
        self._done: BoolArray = np.isin(slots, self._picked)
        self._similar = -self._keys(self._query, slots)[0]
        self._closest = np.full(len(slots), -inf)
        if self._vectors:
            self._closest = (-self._keys(np.concatenate(self._vectors), slots)).max(axis=0)

    def _keys(self, members: Float32Array, slots: Int64Array) -> Float64Array:
        self.did.append(SearchStats(1, rows_rescored=len(members) * len(slots)))
        return member_keys(self._view.exact, members, slots, self._flag)

    # ---- other rows ----

    def _extend(self) -> None:
        """Search for another pool; a larger one if the last gave no pick or was full."""
        n_rows = self._view.everything.n_rows
        is_stuck = len(self._vectors) == self._picked_before
        if is_stuck:
            self._size *= _GROWTH
        self._picked_before = len(self._vectors)
        size = self._size + len(self._picked)
        members, off = self._members()
        if size * _SMALL_SHARE > n_rows or members is None:
            self._take_all()
            return
        norm = longest = 1.0
        if not self._store.spec.metric.normalized:
            norm = largest_norm(self._store)
            longest = float(np.linalg.norm(np.concatenate([self._query, *self._vectors])
                                           .astype(np.float64), axis=1).max())
        slack = norm * (off + _FLOAT64_ERROR * (1.0 + longest))
        floor = -inf
        if len(members) > 1 and not is_stuck:
            guess = self._floor(members) - 2.0 * slack - _GUESS_OFF * norm * longest
            if isfinite(guess):
                floor, size = guess, max(size, _MOST_ABOVE)
        ids, least = self._furthest(members, size, floor)
        ids = ids[ids >= 0]
        if len(ids) == size:
            self._size *= _GROWTH
        self._take_pool(self._store.slots_of(ids))
        self.bound = least + slack

    def _floor(self, members: Float32Array) -> float:
        """Guess a value that the next picks are likely to reach."""
        filters = self._question.row_filters
        sample = None
        if filters.rows is None and filters.outside_groups is None:
            sample = sample_of(self._store)
        query = self._query[0].astype(np.float64)
        if self._store.spec.metric.normalized:
            query = query / np.linalg.norm(query)
        return likely(
            self._store, sample, Known(self._slots, self._values()), self._picked,
            members, ((1.0 - self._diversity) * query).astype(np.float32), self._diversity,
            self._wanted - len(self._vectors))

    def _furthest(self, members: Float32Array, size: int,
                  floor: float) -> tuple[Int64Array, float]:
        """The rows furthest from some vectors, without those below a floor, and what the keys of
        all others are at most."""
        question, view = self._question, self._view
        chosen = question.row_filters.filter(self._store, view, len(members), exact=True)
        if len(members) == 1:
            hits, did = batches.top(view.exact, chosen, members, size, False, 1)
            self.did.append(did)
            score = float(hits.scores[0, -1])
            if hits.ids[0, -1] < 0:
                return hits.ids[0], -inf
            if not np.isfinite(score):  # float32 can't hold it
                return hits.ids[0], inf
            if self._store.spec.metric.normalized:
                score *= float(np.linalg.norm(members.astype(np.float64)))
            return hits.ids[0], -score + abs(score) * _FLOAT32_ERROR + _SMALLEST
        task = _core.SetSearch(view.exact, chosen, members.astype(np.float64),
                               np.array([0, len(members)], np.int64), 0, size, raw=True,
                               floor=floor, flag=self._flag)
        task.run()
        self.did.append(SearchStats(1, *task.did()))
        keys, ids = np.empty((1, size)), np.empty((1, size), np.int64)
        task.write_keys(keys, 0)
        task.write_top(np.empty((1, size), np.float32), ids, 0)
        return ids[0], max(float(keys[0, -1]), floor)

    def _take_all(self) -> None:
        self.bound = -inf
        self._take_pool(self._question.row_filters.slots(self._store))

    def _members(self) -> tuple[Float32Array | None, float]:
        """The members to search the furthest rows from, and their rounding error; None where
        one of them is zero, and bounds nothing."""
        query = self._query.astype(np.float64)
        picks = np.concatenate(self._vectors).astype(np.float64)
        if self._store.spec.metric.normalized:
            query /= np.linalg.norm(query)
            picks /= np.linalg.norm(picks, axis=1, keepdims=True)
        exact = self._diversity * picks - (1.0 - self._diversity) * query
        members = exact.astype(np.float32)
        off = float(np.linalg.norm(exact - members, axis=1).max())
        if not np.isfinite(members).all() or not members.any(axis=1).all():
            return None, off
        return members, off


def largest_norm(store: Store) -> float:
    """The largest norm of a row, found once for each store."""
    norm = _largest_norms.get(store)
    if norm is None:
        norm = 0.0
        for segment in (store.base, store.tail):
            for start in range(0, len(segment), _NORMS_AT_ONCE):
                part = _core.widened(segment[start : start + _NORMS_AT_ONCE]).astype(np.float64)
                norm = max(norm, float(np.linalg.norm(part, axis=1).max()))
        norm *= 1.0 + 1e-9
        _largest_norms[store] = norm
    return norm


# ---- a guess at the values of the next picks ----


class Sample(NamedTuple):
    """Some rows of a store, of length 1 under cosine, and how many rows each stands for."""

    slots: Int64Array
    rows: Float32Array
    stand_for: float


_samples: WeakKeyDictionary[Store, Sample] = WeakKeyDictionary()


def sample_of(store: Store) -> Sample:
    """Draw a random sample of rows, once for each store."""
    sample = _samples.get(store)
    if sample is None:
        live = store.live_slots()
        n = min(_MOST_FLOOR_ROWS, len(live) // _FLOOR_SHARE)
        slots = np.sort(np.random.default_rng(0).choice(live, n, replace=False))
        sample = Sample(slots, unit_rows(store, slots), len(live) / max(n, 1))
        _samples[store] = sample
    return sample


def unit_rows(store: Store, slots: Int64Array) -> Float32Array:
    """Some rows, of length 1 under cosine."""
    rows = store.take(slots)
    if store.spec.metric.normalized:
        wide = rows.astype(np.float64)
        rows = (wide / np.linalg.norm(wide, axis=1, keepdims=True)).astype(np.float32)
    return rows


class Known(NamedTuple):
    """Rows that were found, and their values so far; -infinity of those that were picked."""

    slots: Int64Array
    values: Float64Array


@np.errstate(over="ignore", invalid="ignore")
def likely(store: Store, sample: Sample | None, known: Known, picked: list[int],
           members: Float32Array, query: Float32Array, diversity: float, n: int) -> float:
    """Guess a value that the next picks, n at most, reach; -infinity where nothing is known.

    Not many other rows have a bound above it. `members` are the vectors whose largest product with
    a row, times -1, is its bound; `query` is the query's part of these. Where products are too
    large for float32, nothing is known.
    """
    if len(known.slots) > _MOST_KNOWN:
        kept = np.argpartition(-known.values, _MOST_KNOWN)[:_MOST_KNOWN]
        known = Known(known.slots[kept], known.values[kept])
    rows, bounds = unit_rows(store, known.slots), known.values.astype(np.float32)
    stand_for = np.ones(len(rows))
    if sample is not None and len(sample.slots):
        # One by one: a product of matrices would go to threads of BLAS.
        of_sample = np.full(len(sample.slots), np.float32(inf))
        for member in members:
            np.minimum(of_sample, -(sample.rows @ member), out=of_sample)
        of_sample[np.isin(sample.slots, picked)] = -inf
        rows, bounds = np.concatenate([rows, sample.rows]), np.concatenate([bounds, of_sample])
        stand_for = np.concatenate([stand_for, np.full(len(of_sample), sample.stand_for)])
    floor, values = -inf, bounds.copy()
    for i in range(n if len(values) else 0):
        best = int(values.argmax())
        if not np.isfinite(values[best]) or (
                i and stand_for[bounds >= values[best]].sum() > _MOST_FOUND):
            break
        floor = float(values[best])
        np.minimum(values, -(rows @ (diversity * rows[best] - query)), out=values)
        values[best] = -inf
    return floor
