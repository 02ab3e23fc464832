"""Sets of vectors: checked, cut into tasks, and their answers gathered."""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from farann import _core
from farann._types import Float32Array, Float64Array, Int64Array
from farann.contract import checks
from farann.contract.stop_rule import Limits
from farann.results import Hits, SearchStats
from farann.runtime import pool
from farann.search.ask import rows_of
from farann.search.filters import spans
from farann.search.plan import Question
from farann.store.store import Store

# _MEMBERS_A_TASK: members of one task: enough to fill tiles, few enough for the caches.
# _TASK_BYTES: most bytes of a task's answers; _ENTRY_BYTES: bytes of one entry of them.
_MEMBERS_A_TASK, _TASK_BYTES, _ENTRY_BYTES = 256, 1 << 28, 16
# _SMALL_WORK: multiply-adds below which a second thread costs more than it saves.
# _LONG_SETS_WORK: multiply-adds from which Ctrl+C must be heard.
_SMALL_WORK, _LONG_SETS_WORK = 1 << 22, 1 << 28


@dataclass(frozen=True, slots=True)
class MemberSets:
    """The members of all sets, set by set, with offsets by set, and the ids of members that are
    rows."""

    members: Float32Array | Float64Array
    offsets: Int64Array
    ids: Int64Array | None = None

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, which: Int64Array) -> MemberSets:
        """Some of the sets, in this order."""
        places, offsets = spans(self.offsets, which)
        return MemberSets(self.members[places], offsets,
                          None if self.ids is None else self.ids[places])

    def own(self) -> tuple[Int64Array, Int64Array] | None:
        """The ids, and where each set's begin, for `Filtering.own`."""
        return None if self.ids is None else (self.ids, self.offsets)


def to_sets(name: str, value: Any, dim: int | None, *, normalized: bool,
            may_be_empty: bool = False) -> MemberSets:
    """Check sets: an array (n, m, dim), or a sequence of arrays (m_i, dim)."""
    if isinstance(value, np.ndarray) and value.dtype != object:
        if value.ndim != 3 or (value.shape[1] == 0 and not may_be_empty):
            hint = "; pass one set as [set]" if value.ndim == 2 else ""
            raise ValueError(f"{name}: expected shape (n, m, dim) with m of 1 or more, "
                             f"got {value.shape}{hint}")
        n, m, own = value.shape
        flat = value.reshape(n * m, own)
        return MemberSets(checks.to_vectors(name, flat, dim, normalized=normalized, single=False),
                          np.arange(n + 1, dtype=np.int64) * m)
    if isinstance(value, np.ndarray):  # of arrays
        value = list(value) if value.ndim == 1 else value.tolist()
    if isinstance(value, (str, bytes)) or not isinstance(value, Sequence):
        raise TypeError(f"{name}: expected a sequence of sets of vectors, "
                        f"got {checks.shown(value)}")
    sets = []
    for i, one in enumerate(value):
        vectors = checks.to_vectors(f"{name}[{i}]", one, dim, normalized=normalized, single=False)
        if len(vectors) == 0 and not may_be_empty:
            raise ValueError(f"{name}[{i}]: expected at least one vector, got an empty set")
        dim = vectors.shape[1]
        sets.append(vectors)
    return MemberSets(np.concatenate([np.empty((0, dim or 1), np.float32), *sets]),
                      np.cumsum([0, *map(len, sets)], dtype=np.int64))


def of_ids(store: Store | None, name: str, value: Any, *, may_be_empty: bool = False) -> MemberSets:
    """Sets of rows by their ids."""
    if isinstance(value, (str, Set)) or not hasattr(value, "__len__"):
        raise TypeError(f"{name}: expected a sequence of sets of ids, got {checks.shown(value)}")
    members = []
    for i, one in enumerate(value):
        if checks.is_single_id(one):
            raise ValueError(f"{name}: expected a sequence of sets of ids, got "
                             f"{checks.shown(value)}; pass one set as [ids]")
        members.append(rows_of(store, one, f"{name}[{i}]"))
        if len(members[i][1]) == 0 and not may_be_empty:
            raise ValueError(f"{name}[{i}]: expected at least one id, got an empty set")
    offsets = np.cumsum([0] + [len(ids) for _, ids in members], dtype=np.int64)
    dim = 1 if store is None else store.dim
    rows = [np.empty((0, dim), np.float32), *(rows for rows, _ in members)]
    ids = [np.empty(0, np.int64), *(ids for _, ids in members)]
    return MemberSets(np.concatenate(rows), offsets, np.concatenate(ids))


def search(question: Question, *, raw: bool = False) -> tuple[Hits, SearchStats]:
    """The k rows furthest from each set, where all sets may find the same rows; `raw` as in
    `_core.SetSearch`."""
    store, sets, k, threads = question.store, question.queries, question.k, question.threads
    limits, snapshot = question.limits or Limits(None, None, None), question.view.exact
    n, row_filters = len(sets), question.row_filters
    chosen = row_filters.filter(store, question.view, len(sets.members), exact=not limits.budget,
                                k=k)
    keys = np.empty((n, k) if question.keyed else (0, k), np.float64)
    scores, ids = np.empty((n, k), np.float32), np.empty((n, k), np.int64)
    did: list[tuple[int, ...]] = []
    wanted, by_slot = k, None
    if question.per_group is not None and store.groups is not None:
        wanted = row_filters.most_of_groups(store.groups, k, question.per_group)
        by_slot = store.groups.by_slot()

    def search(start: int, stop: int, flag: _core.CancelFlag) -> None:
        first, last = sets.offsets[start], sets.offsets[stop]
        members = sets.members[first:last].astype(np.float64)
        task = _core.SetSearch(snapshot, chosen, members, sets.offsets[start : stop + 1] - first,
                               start, wanted, flag=flag, raw=raw, epsilon=limits.epsilon or 0.0,
                               per_group=question.per_group or 0, by_slot=by_slot,
                               budget=limits.budget or 0, seconds=limits.seconds or 0.0,
                               rests=_low_bits(members) if sets.members.itemsize == 8 else None)
        task.run()
        task.write_top(scores, ids, start)
        if question.keyed:
            task.write_keys(keys, start)
        did.append(task.did())

    work = len(sets.members) * chosen.n_rows * snapshot.dim
    if work < _SMALL_WORK:
        threads = 1
    most = min(_MEMBERS_A_TASK, len(sets.members) // threads,
               _TASK_BYTES // (_ENTRY_BYTES * min(k, max(chosen.n_rows, 1))))
    bounds = _bounds(sets.offsets, max(1, most))
    pool.run_all([partial(search, start, stop) for start, stop in bounds], threads,
                 long=work >= _LONG_SETS_WORK)
    return (Hits(ids, scores, keys + 0.0 if question.keyed else None),  # never -0.0
            SearchStats(n, *map(sum, zip(*did, strict=True))))


def _low_bits(members: Float64Array) -> Float64Array:
    """The low 24 bits of 53, as numbers (Veltkamp's splitting)."""
    scaled = members * (2.0**24 + 1.0)
    return members - (scaled - (scaled - members))


def _bounds(offsets: Int64Array, most: int) -> list[tuple[int, int]]:
    """Ranges of sets with at most `most` members together, or of one larger set."""
    bounds, start = [], 0
    while start < len(offsets) - 1:
        stop = int(np.searchsorted(offsets, offsets[start] + most, "right")) - 1
        stop = max(stop, start + 1)
        bounds.append((start, stop))
        start = stop
    return bounds
