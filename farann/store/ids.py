"""Map ids to slots and back."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from farann import _core
from farann._types import Int64Array, UInt8Array
from farann.contract.row_types import empty_rows

_LARGEST_ID = np.iinfo(np.int64).max


class IdMap:
    """Ids by slot and slots by id.

    As long as every id is its own slot nothing is stored. Ids that only grow are found by
    binary search. Any others are found in a sorted copy, and the newest of them in a dict, so
    that adding rows one by one stays cheap.
    """

    # Most ids in the dict; beyond, they are merged into the sorted copy.
    _LARGEST_RECENT = 65_536

    def __init__(self) -> None:
        self._ids: Int64Array | None = None  # with spare room at the end
        self._count = 0
        self._next = 0
        self._sorted_ids = np.empty(0, np.int64)
        self._sorted_slots: Int64Array | None = None  # None: ids ascend by slot
        self._recent: dict[int, int] = {}

    def __len__(self) -> int:
        return self._count

    @property
    def next(self) -> int:
        """The id that the next row gets if it brings none."""
        return self._next

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        held = 0 if self._ids is None else self._ids.nbytes
        if self._sorted_slots is None:
            return held
        return held + self._sorted_ids.nbytes + self._sorted_slots.nbytes + 100 * len(self._recent)

    def by_slot(self) -> Int64Array | None:
        """Ids of all slots, or None while every id is its slot; later adds don't change it."""
        return None if self._ids is None else self._ids[: self._count]

    def ids_of(self, slots: Int64Array) -> Int64Array:
        """Ids of some slots."""
        return slots.copy() if self._ids is None else self._ids[slots]

    def slots_of(self, ids: Int64Array, alive: UInt8Array | None) -> Int64Array:
        """Slots of some ids; -1 for those that no row has."""
        if self._ids is None:
            slots = ids.copy()
            if len(ids) and (ids.min() < 0 or ids.max() >= self._count):
                slots[(ids < 0) | (ids >= self._count)] = -1
        else:
            slots = _search(self._sorted_ids, self._sorted_slots, ids)
            if self._recent:
                get = self._recent.get
                recent = np.fromiter((get(i, -1) for i in ids.tolist()), np.int64, len(ids))
                # The dict is shared with maps that grew from this one, or failed to.
                valid = (recent >= 0) & (recent < self._count)
                valid[valid] = self._ids[recent[valid]] == ids[valid]
                slots = np.where(valid, recent, slots)
        if alive is not None and len(alive):
            slots[alive[slots] == 0] = -1
        return slots

    def marked(self, ids: Int64Array) -> UInt8Array:
        """A byte for each slot: 1 where its id is among `ids`, which come in any order."""
        if self._count == 0 or len(ids) == 0:
            return np.zeros(self._count, np.uint8)
        by_slot, ids = self.by_slot(), np.ascontiguousarray(ids)
        if by_slot is None:
            return _core.marked(ids, 0, self._count)
        least, most = int(by_slot[0]), int(by_slot[-1])
        if self._sorted_slots is not None:
            least, most = int(by_slot.min()), int(by_slot.max())
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
        if self._next > _LARGEST_ID - n + 1:
            raise ValueError("ids: no int64 is left after the largest id in use; give ids")
        return self._next + np.arange(n, dtype=np.int64)

    def grown(self, ids: Int64Array) -> IdMap:
        """The map with one more slot for each of `ids`, which must be new; self stays valid.

        Memory is taken before anything changes, so a MemoryError changes nothing.
        """
        n = len(ids)
        new = IdMap()
        new.__dict__.update(self.__dict__)
        new._count = self._count + n
        if n == 0:
            return new
        new._next = max(self._next, int(ids.max()) + 1)
        consecutive = bool(ids[0] == self._count and ids[-1] == new._count - 1
                           and _ascending(ids))
        if self._ids is None and consecutive:
            return new
        held = np.arange(self._count) if self._ids is None else self._ids
        new._ids = appended(held, self._count, ids)
        last = int(new._ids[self._count - 1]) if self._count else -1
        if self._sorted_slots is None and ids[0] > last and _ascending(ids):
            new._sorted_ids = new._ids[: new._count]
        elif self._sorted_slots is None or n + len(self._recent) > self._LARGEST_RECENT:
            new._index_all()
        else:
            listed = ids.tolist()
            # Older maps read the dict, too: they ignore ids of later slots, but not other slots of
            # their own ids, which come back after they were removed.
            if not self._recent.keys().isdisjoint(listed):
                new._recent = dict(self._recent)
            new._recent.update(zip(listed, range(self._count, new._count), strict=True))
        return new

    def kept(self, slots: Int64Array) -> IdMap:
        """The map of these slots alone, in this order, as slots 0, 1, ..."""
        new = IdMap()
        new._count, new._next = len(slots), self._next
        ids = self.ids_of(slots)
        if len(ids) == 0 or (ids[0] == 0 and ids[-1] == len(ids) - 1
                             and _ascending(ids)):
            return new
        new._ids = new._sorted_ids = ids
        if not _ascending(ids):
            new._index_all()
        return new

    def _index_all(self) -> None:
        """Sort all ids; of an id that was removed and came back, the last slot counts."""
        assert self._ids is not None
        ids = self._ids[: self._count]
        order = np.argsort(ids, kind="stable")
        ordered = ids[order]
        is_last = np.append(ordered[1:] != ordered[:-1], True)
        self._sorted_ids, self._sorted_slots = ordered[is_last], order[is_last]
        self._recent = {}

    @classmethod
    def restored(cls, ids: Int64Array | None, count: int, next_id: int) -> IdMap:
        """The map that a file describes."""
        new = cls() if ids is None else cls().grown(ids)
        new._count = count
        new._next = max(new._next, count if ids is None else 0, next_id)
        return new


def appended(held: npt.NDArray[Any], count: int, new: npt.NDArray[Any], share: float = 0.5,
             least: int = 64) -> npt.NDArray[Any]:
    """The first `count` elements of an array, and new ones behind them: in its spare room, or where
    that doesn't do in a longer array with a share more than there were, and at least some.

    Whoever sees those first elements alone keeps them; if a change fails, the next one writes to
    the same place. What was loaded with mmap=True can't be written to, not even at its end."""
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


def _search(ordered: Int64Array, slots: Int64Array | None, ids: Int64Array) -> Int64Array:
    """Slots of ids by binary search in ordered ids; -1 where there is none."""
    if len(ordered) == 0:
        return np.full(len(ids), -1, np.int64)
    at = np.minimum(np.searchsorted(ordered, ids), len(ordered) - 1)
    found = at if slots is None else slots[at]
    return np.where(ordered[at] == ids, found, np.int64(-1))
