"""Map ids to slots and back."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from farann import _core
from farann._types import Int64Array, UInt8Array
from farann.contract.row_types import empty_rows

_LARGEST_ID = np.iinfo(np.int64).max
_FEW_IDS = 256  # ids that are sorted again with every addition


class _Table(NamedTuple):
    """The ids of the slots from `first` on in order, and the slot of each, counted from there."""

    first: int
    ids: Int64Array
    order: Int64Array | None  # None: ids ascend by slot


class IdMap:
    """Ids by slot and slots by id; never changes.

    As long as every id is its own slot nothing is stored. Other ids are found by binary search in
    tables of the first slots, the next, and so on. Small tables are merged, so that there are few.
    """

    def __init__(self) -> None:
        self._ids: Int64Array | None = None  # with spare room at the end
        self._count = 0
        self.next = 0  # the id that the next row gets if it brings none
        # Made when they are first asked for; two threads may make the same, and either will do.
        self._tables: tuple[_Table, ...] = ()

    def __len__(self) -> int:
        return self._count

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return (0 if self._ids is None else self._ids.nbytes) + sum(
            table.ids.nbytes + table.order.nbytes for table in self._tables
            if table.order is not None)

    def by_slot(self) -> Int64Array | None:
        """Ids of all slots, or None while every id is its slot; later adds don't change it."""
        return None if self._ids is None else self._ids[: self._count]

    def ids_of(self, slots: Int64Array) -> Int64Array:
        """Ids of some slots."""
        return slots.copy() if self._ids is None else self._ids[slots]

    def slots_of(self, ids: Int64Array, live: UInt8Array | None) -> Int64Array:
        """Slots of some ids; -1 for those that no row has."""
        if self._ids is None:
            slots = np.where((ids >= 0) & (ids < self._count), ids, -1)
        else:
            slots = np.full(len(ids), -1, np.int64)
            # Of an id that was removed and came back, the last slot counts.
            for first, ordered, order in self._covering():
                at = ordered.searchsorted(ids, "right") - 1
                slots = np.where(ordered[at] == ids,
                                 first + (at if order is None else order[at]), slots)
        if live is not None and len(live):
            slots[live[slots] == 0] = -1
        return slots

    def marked(self, ids: Int64Array) -> UInt8Array:
        """A byte for each slot: 1 where its id is among `ids`, which come in any order."""
        if self._count == 0 or len(ids) == 0:
            return np.zeros(self._count, np.uint8)
        by_slot, ids = self.by_slot(), np.ascontiguousarray(ids)
        if by_slot is None:
            return _core.marked(ids, 0, self._count)
        tables = self._covering()
        least = min(int(table.ids[0]) for table in tables)
        most = max(int(table.ids[-1]) for table in tables)
        if most - least < 8 * self._count:
            # Ids that lie close are marked in an array of their own: no search, no sorting.
            return _core.marked(ids, least, most - least + 1)[by_slot - least]
        # The last is for ids that no row has, whose slot is -1.
        marks = np.zeros(self._count + 1, np.uint8)
        # Searches in order stay in the caches.
        marks[self.slots_of(ids if _ascending(ids) else np.sort(ids), None)] = 1
        return marks[:-1]

    def default_ids(self, n: int) -> Int64Array:
        """Ids for n rows that bring none."""
        if n == 0:
            return np.empty(0, np.int64)
        if self.next > _LARGEST_ID - n + 1:
            raise ValueError("ids: no int64 is left after the largest id in use; give ids")
        return self.next + np.arange(n, dtype=np.int64)

    def grown(self, ids: Int64Array) -> IdMap:
        """The map with one more slot for each of `ids`, which must be new."""
        new, n = IdMap(), self._count + len(ids)
        new.__dict__.update(self.__dict__)
        if len(ids) == 0:
            return new
        new._count, new.next = n, max(self.next, int(ids.max()) + 1)
        if self._ids is None and ids[0] == self._count and ids[-1] == n - 1 and _ascending(ids):
            return new
        held = np.arange(self._count) if self._ids is None else self._ids
        new._ids = appended(held, self._count, ids)
        return new

    def subset(self, slots: Int64Array) -> IdMap:
        """The map of these slots alone, in this order, as slots 0, 1, ..."""
        return IdMap.restored(self.ids_of(slots), len(slots), self.next)

    def _covering(self) -> tuple[_Table, ...]:
        """Tables of all slots; the last ones are merged if they are small."""
        tables, n, held = self._tables, self._count, self._ids
        first = tables[-1].first + len(tables[-1].ids) if tables else 0
        if first < n and held is not None:
            while tables and len(tables[-1].ids) < max(2 * (n - first), _FEW_IDS):
                first, tables = tables[-1].first, tables[:-1]
            ids, order = held[first:n], None
            if not _ascending(ids):
                order = ids.argsort(kind="stable")
                ids = ids[order]
            self._tables = tables = (*tables, _Table(first, ids, order))
        return tables

    @classmethod
    def restored(cls, ids: Int64Array | None, count: int, next_id: int) -> IdMap:
        """The map that a file describes."""
        new = cls() if ids is None else cls().grown(ids)
        new._count, new.next = count, max(new.next, next_id, count if ids is None else 0)
        return new


def appended(held: npt.NDArray[Any], count: int, new: npt.NDArray[Any], share: float = 0.5,
             least: int = 64) -> npt.NDArray[Any]:
    """The first `count` elements of an array, and new ones behind them: in its spare room, or where
    that doesn't do in a longer array with a share more than there were, and at least some.

    Readers of the first elements aren't affected. If a change fails, the next one writes to the
    same place. Arrays loaded with mmap=True can't be written to, not even at their end."""
    needed = count + len(new)
    if len(held) < needed or not held.flags.writeable:
        room = needed if count == 0 else max(needed, count + int(share * count) + least)
        try:
            longer = empty_rows((room, *held.shape[1:]), held.dtype)
        except MemoryError:
            longer = empty_rows((needed, *held.shape[1:]), held.dtype)
        longer[:count] = held[:count]
        held = longer
    held[count:needed] = new
    return held


def distinct(values: Int64Array) -> Int64Array:
    """The values in order, each once.

    Not numpy.unique: it imports a module when it is called, which hangs in a child that was
    forked while another thread did so.
    """
    ordered = np.sort(values)
    return ordered[np.append(True, ordered[1:] != ordered[:-1])] if len(ordered) else ordered


def _ascending(ids: Int64Array) -> bool:
    # Differences would take eight times the memory.
    return bool((ids[1:] > ids[:-1]).all())
