"""From ids to leave out, or to allow, to the filter that the core understands."""

from __future__ import annotations

from typing import Any

import numpy as np

from farann import _checks, _core
from farann._ids import distinct
from farann._store import Store
from farann._types import Int64Array

# If fewer than one row in so many is allowed, those rows are listed and the others not read.
_LIST_BELOW = 4


def make_filter(store: Store, snapshot: _core.Snapshot, exclude: Any, allowed: Any,
                n_queries: int, single: bool) -> _core.Filter:
    """Check `exclude` and `allowed` and look their ids up."""
    mask = slots = excluded = offsets = None
    if allowed is not None:
        slots = _allowed_slots(store, allowed)
        # Of rows without vectors there is no list to go through.
        if len(slots) * _LIST_BELOW > store.n_slots or store.n_coded is not None:
            mask = np.zeros(store.n_slots, np.uint8)
            mask[slots] = 1
            slots = None
    if exclude is not None:
        excluded, offsets = _excluded_slots(store, exclude, n_queries, single)
    return _core.Filter(snapshot, mask, slots, excluded, offsets)


def _allowed_slots(store: Store, allowed: Any) -> Int64Array:
    array = _checks.to_array("allowed", allowed)
    if array.dtype == np.bool_:
        mask = _checks.to_mask("allowed", array, len(store))
        return store.live_slots()[mask]
    slots = distinct(store.slots_of(_checks.to_ids("allowed", array)))
    return slots[slots >= 0]


def _excluded_slots(store: Store, exclude: Any, n_queries: int,
                    single: bool) -> tuple[Int64Array, Int64Array]:
    """Sorted slots of all queries one after the other, and where each query's begin."""
    lists = _checks.to_id_lists("exclude", exclude, n_queries, single)
    query = np.repeat(np.arange(len(lists)), [len(ids) for ids in lists])
    slots = store.slots_of(np.concatenate([*lists, np.empty(0, np.int64)]))
    query, slots = query[slots >= 0], slots[slots >= 0]
    offsets = np.searchsorted(query, np.arange(n_queries + 1)).astype(np.int64)
    return slots[np.lexsort((slots, query))], offsets
