"""Maximal marginal relevance over all rows, exactly.

With sim for the dot product or cosine, and picks s, the row x has the value
(1 - d) sim(q, x) - d max sim(s, x), which is the smallest product of x with (1 - d) q - d s over
the picks. Each of these vectors bounds it from above, so a search for a set of them gives rows, the
pool, and a bound on the value of all others. Picks come from the pool as long as they are above the
bound; then the next search has the picks since as members, too, and begins with a guess at what
their values will be (`likely`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from math import inf, isfinite
from weakref import WeakKeyDictionary

import numpy as np

from farann import _core
from farann._types import BoolArray, Float32Array, Float64Array, Int64Array
from farann.results import Hits, SearchStats, no_hits
from farann.runtime import batches, pool
from farann.runtime.process import ieee_arithmetic
from farann.search import plan
from farann.search.plan import Question
from farann.store.store import Store

# _FIRST_POOL: rows of the first pool; _GROWTH: factor to the next larger one.
# _SMALL_SHARE: where a pool would hold over 1/8 of the rows, all rows are taken.
_FIRST_POOL, _GROWTH, _SMALL_SHARE = 128, 8, 8
_FLOAT64_ERROR = 1e-13  # error bound of float64 arithmetic, relative to norms
_NORMS_AT_ONCE = 65_536  # rows that are read at a time to find the largest norm
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

# Values that are computed once for each store.
_largest_norms: WeakKeyDictionary[Store, float] = WeakKeyDictionary()
_samples: WeakKeyDictionary[Store, tuple[Int64Array, Float32Array, float]] = WeakKeyDictionary()


@dataclass(frozen=True, slots=True)
class Begun:
    """Queries, and the picks that each has: ids (n_queries, m), -1 for rows of other indexes, and
    vectors (n_queries, m, dim); and the numbers of the groups that have enough of them."""

    queries: Float32Array
    picked: Int64Array
    vectors: Float32Array
    full: Sequence[Int64Array] = ()

    def __len__(self) -> int:
        return len(self.queries)

    def __getitem__(self, which: Int64Array) -> Begun:
        """Some of the queries, in this order."""
        return Begun(self.queries[which], self.picked[which], self.vectors[which],
                     [self.full[i] for i in which.tolist()] if self.full else ())


def search(question: Question, diversity: float, candidates: int | None = None,
           scored: Sequence[tuple[Int64Array, Float64Array]] | None = None,
           ) -> tuple[Hits, SearchStats]:
    """The first k picks of each query, or with `Begun` the next ones. Keys are for picks of several
    indexes: similarities of the first, values of the others. `scored`: for each query the slots
    to choose among, and numbers in place of their similarities to it."""
    store, view, begun, k = question.store, question.view, question.queries, question.k
    n, row_filters = len(begun), question.row_filters
    if row_filters.groups is not None:
        return plan.top_of_groups(question, lambda part: search(part, diversity, candidates))
    if not isinstance(begun, Begun):
        begun = Begun(begun, np.empty((n, 0), np.int64), np.empty((n, 0, store.dim), np.float32))
        question = question._replace(queries=begun)
    hits = no_hits(n, k, keyed=True)
    did, relevance = list[SearchStats](), [None] * n if scored is None else [r for _, r in scored]
    if scored is None:
        size = 1 if candidates is None else min(candidates, len(store))
        chosen = row_filters.filter(store, view, n, exact=True, k=size)
        nearest, stats = batches.top(view.exact, chosen, begun.queries, size, True,
                                     question.threads)
        did.append(stats)
        slots = [store.slots_of(ids[ids >= 0]) for ids in nearest.ids]
    else:
        slots = [some for some, _ in scored]

    def answer(i: int, flag: _core.CancelFlag) -> None:
        if len(slots[i]) == 0:
            return
        # A value may be too large for float32.
        with ieee_arithmetic(), np.errstate(over="ignore"):
            ranker = Ranker(question.of(np.array([i])), diversity, slots[i], flag, relevance[i])
            if candidates is not None or scored is not None:
                ranker.bound = -inf
            for j, pick in zip(range(k), ranker.picks(), strict=False):
                hits.ids[i, j], hits.scores[i, j], hits.keys[i, j] = pick
            did.extend(ranker.did)

    pool.run_all([partial(answer, i) for i in range(n)], question.threads, long=True)
    return hits, plan.total_of(did, n)


class Ranker:
    """The picks of one query."""
    did: list[SearchStats]
    bound: float

    def __init__(self, question: Question, diversity: float, slots: Int64Array,
                 flag: _core.CancelFlag, relevance: Float64Array | None = None) -> None:
        self._relevance = relevance  # of the slots; None: similarity to the query
        self._question, self._diversity, self._flag = question, diversity, flag
        self._store, self._view, begun = question.store, question.view, question.queries
        picked = self._store.slots_of(begun.picked[0])
        self._query, self._picked = begun.queries, picked[picked >= 0].tolist()
        self._vectors = list(begun.vectors[0][:, None])
        groups = self._store.groups
        # Groups that have enough picks.
        self._full: list[int] = begun.full[0].tolist() if begun.full else []
        self._groups = None if groups is None or (
            question.per_group is None and not begun.full) else groups.by_slot()
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
            # The first pick is the most similar row, which the pool begins with.
            ranks = values if self._vectors else np.where(self._done, -inf, self._similar)
            tied = np.flatnonzero((ranks == ranks.max(initial=-inf)) & ~self._done)
            if self.bound > -inf and (
                    not len(tied) or (self._vectors and ranks[tied[0]] <= self.bound)):
                self._extend()
            elif not len(tied):
                return
            else:
                best = tied[self._ids[tied].argmin()]
                yield int(self._ids[best]), float(values[best]), float(
                    (values if self._vectors else self._similar)[best])
                self._pick(best)

    def _values(self) -> Float64Array:
        """Values of the rows in the pool; -infinity for those that were picked."""
        values: Float64Array = (1.0 - self._diversity) * self._similar
        if self._vectors:
            values -= self._diversity * self._closest
        values[self._done] = -inf
        return values

    def _pick(self, which: np.intp) -> None:
        slot = self._slots[which]
        vector = self._store.take(np.array([slot]))
        self._picked.append(slot)
        self._vectors.append(vector)
        self._done[which] = True
        if self._groups is not None and self._question.per_group is not None:
            group = self._groups[slot]
            if (self._groups[self._picked] == group).sum() == self._question.per_group:
                self._full.append(int(group))
                self._done |= self._groups[self._slots] == group
        np.maximum(self._closest, -self._keys(vector, self._slots)[0], out=self._closest)

    def _take_pool(self, slots: Int64Array) -> None:
        self._slots = slots
        self._ids = self._store.ids.ids_of(slots)
        self._done: BoolArray = np.isin(slots, self._picked) | self._are_full(slots)
        self._similar = (-self._keys(self._query, slots)[0] if self._relevance is None
                         else self._relevance)
        self._closest = np.full(len(slots), -inf)
        if self._vectors:
            self._closest = (-self._keys(np.concatenate(self._vectors), slots)).max(axis=0)

    def _are_full(self, slots: Int64Array) -> BoolArray:
        """Mask of the rows in groups that have enough picks."""
        if self._groups is None:
            return np.zeros(len(slots), np.bool_)
        return np.isin(self._groups[slots], self._full)

    def _keys(self, members: Float32Array, slots: Int64Array) -> Float64Array:
        self.did.append(SearchStats(1, rows_rescored=len(members) * len(slots)))
        keys = np.empty((len(members), len(slots)))
        _core.keys_of_slots(self._view.exact, members, slots, keys, self._flag)
        return keys

    # ---- other rows ----

    def _extend(self) -> None:
        """Search for another pool; a larger one if the last gave no pick or was full."""
        is_stuck = len(self._vectors) == self._picked_before
        if is_stuck:
            self._size *= _GROWTH
        self._picked_before = len(self._vectors)
        size = self._size + len(self._picked)
        vectors = unit_vectors(self._store, np.concatenate([self._query, *self._vectors]))
        exact = self._diversity * vectors[1:] - (1.0 - self._diversity) * vectors[0]
        members = exact.astype(np.float32)
        # A member that is zero bounds nothing.
        if (size * _SMALL_SHARE > self._view.everything.n_rows or not np.isfinite(members).all()
                or not members.any(axis=1).all()):
            self.bound = -inf
            self._take_pool(self._question.row_filters.slots(self._store))
            return
        norm, longest = largest_norm(self._store), float(np.linalg.norm(vectors, axis=1).max())
        off = float(np.linalg.norm(exact - members, axis=1).max())
        slack, floor = norm * (off + _FLOAT64_ERROR * (1.0 + longest)), -inf
        if len(members) > 1 and not is_stuck:
            guess = self.likely(members, (1.0 - self._diversity) * vectors[0])
            guess -= 2.0 * slack + _GUESS_OFF * norm * longest
            if isfinite(guess):
                floor, size = guess, max(size, _MOST_ABOVE)
        ids, least = self._furthest(members, size, floor)
        ids = ids[ids >= 0]
        if len(ids) == size:
            self._size *= _GROWTH
        self._take_pool(self._store.slots_of(ids))
        self.bound = least + slack

    def _furthest(self, members: Float32Array, size: int, floor: float) -> tuple[Int64Array, float]:
        """The rows furthest from some vectors, without those below a floor, and an upper bound on
        the keys of all others."""
        question, view = self._question, self._view
        chosen = question.row_filters.filter(self._store, view, len(members), exact=True, k=size)
        if len(members) == 1:  # 1.2 to 2.4 times as fast as for a set of it
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

    @np.errstate(over="ignore", invalid="ignore")
    def likely(self, members: Float32Array, query: Float64Array) -> float:
        """Guess a value that the next picks reach, and few bounds of other rows; -infinity: no
        guess. The largest product of a row with `members`, times -1, is its bound, of which `query`
        is the query's part."""
        slots, known = self._slots, self._values()
        if len(slots) > _MOST_KNOWN:
            largest = np.argpartition(-known, _MOST_KNOWN)[:_MOST_KNOWN]
            slots, known = slots[largest], known[largest]
        rows, bounds = unit_rows(self._store, slots), known.astype(np.float32)
        stand_for, filters = np.ones(len(rows)), self._question.row_filters
        if filters.rows is None and filters.outside_groups is None:
            slots, sample, each = sample_of(self._store)
            # One by one: a product of matrices would go to threads of BLAS.
            of_sample = np.full(len(slots), np.float32(inf))
            for member in members:
                np.minimum(of_sample, -(sample @ member), out=of_sample)
            of_sample[np.isin(slots, self._picked) | self._are_full(slots)] = -inf
            rows, bounds = np.concatenate([rows, sample]), np.concatenate([bounds, of_sample])
            stand_for = np.append(stand_for, np.full(len(slots), each))
        floor, values, part = -inf, bounds.copy(), query.astype(np.float32)
        for i in range(self._wanted - len(self._vectors) if len(values) else 0):
            best = int(values.argmax())
            if not np.isfinite(values[best]) or (
                    i and stand_for[bounds >= values[best]].sum() > _MOST_FOUND):
                break
            floor = float(values[best])
            np.minimum(values, -(rows @ (self._diversity * rows[best] - part)), out=values)
            values[best] = -inf
        return floor


def largest_norm(store: Store) -> float:
    """The largest norm of a row; 1 under cosine, where rows count as unit vectors."""
    norm = 1.0 if store.spec.metric.normalized else _largest_norms.get(store, 0.0)
    if norm == 0.0:
        for segment in (store.base, store.tail):
            for start in range(0, len(segment), _NORMS_AT_ONCE):
                part = _core.widened(segment[start : start + _NORMS_AT_ONCE]).astype(np.float64)
                norm = max(norm, float(np.linalg.norm(part, axis=1).max()))
        _largest_norms[store] = norm = norm * (1.0 + 1e-9)
    return norm


def sample_of(store: Store) -> tuple[Int64Array, Float32Array, float]:
    """Slots of a random sample of rows, these rows, and how many rows each stands for."""
    sample = _samples.get(store)
    if sample is None:
        live = store.live_slots()
        n = min(_MOST_FLOOR_ROWS, len(live) // _FLOOR_SHARE)
        slots = np.sort(np.random.default_rng(0).choice(live, n, replace=False))
        _samples[store] = sample = slots, unit_rows(store, slots), len(live) / max(n, 1)
    return sample


def unit_vectors(store: Store, vectors: Float32Array) -> Float64Array:
    """Vectors in float64, of length 1 under cosine."""
    wide = vectors.astype(np.float64)
    if store.spec.metric.normalized:
        wide /= np.linalg.norm(wide, axis=1, keepdims=True)
    return wide


def unit_rows(store: Store, slots: Int64Array) -> Float32Array:
    """Some rows, of length 1 under cosine."""
    return unit_vectors(store, store.take(slots)).astype(np.float32)
