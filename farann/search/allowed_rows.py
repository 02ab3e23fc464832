"""Allowed rows, as the core searches them: listed, or marked."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from farann import _core
from farann._types import Int64Array, UInt8Array
from farann.runtime.cost import COSTS

if TYPE_CHECKING:
    from farann.store.store import Store, View

# Allowed rows are either listed, and each query scores those alone as float32, or marked in a
# mask: queries scan the codes of all rows, and pass over those that are not marked. A row of a
# list costs so many nanoseconds to fetch from anywhere in memory, and so many for each coordinate
# to read and pack it; a code costs so many a coordinate to read. Scoring comes to these for each
# query. Measured on the machine of `cost.COSTS`, with 1 to 1,000 queries in 50 and 512 dimensions.
# Approximate searches know masks alone.
_FETCH = 40.0
_LISTED_COORDINATE = 0.8
_CODED_COORDINATE = 0.05

# Searches for single queries, by instruction-set level, k and recall.
Singles: TypeAlias = dict[tuple[str, int, float | None], _core.SingleSearch]


class Rows:
    """Allowed rows of a store, as a mask of its slots or as a list of them; each makes the other.

    The filters that are made of them are kept, and of a `Filter` what answers single queries.
    """

    def __init__(self, store: Store, *, mask: UInt8Array | None = None,
                 slots: Int64Array | None = None) -> None:
        self._mask, self._slots = mask, slots
        if slots is not None:
            self.count = len(slots)
        else:
            assert mask is not None
            self.count = int(np.count_nonzero(mask.view(np.bool_)))
        self._n_slots = store.n_slots
        self._by_mask: _core.Filter | None = None
        self._by_list: _core.Filter | None = None
        self.singles: Singles | None = None

    def mask(self) -> UInt8Array:
        """A byte for each slot, 1 for the rows."""
        if self._mask is not None:
            return self._mask
        assert self._slots is not None
        mask = np.zeros(self._n_slots, np.uint8)
        mask[self._slots] = 1
        return mask

    def slots(self) -> Int64Array:
        """The slots of the rows, ascending."""
        if self._slots is not None:
            return self._slots
        assert self._mask is not None
        return np.flatnonzero(self._mask.view(np.bool_)).astype(np.int64, copy=False)

    def filter(self, store: Store, view: View, n_queries: int, exact: bool) -> _core.Filter:
        """The rows as the core searches them for so many queries with least work."""
        if exact and _list_pays(store, view, self.count, n_queries):
            if self._by_list is None:
                self._by_list = _core.Filter(view.snapshot, slots=self.slots())
            return self._by_list
        if self._by_mask is None:
            share = self.count / max(self._n_slots, 1)
            self._by_mask = _core.Filter(view.snapshot, self.mask(), share=share)
        return self._by_mask


def _list_pays(store: Store, view: View, count: int, n_queries: int) -> bool:
    """Whether so many rows are better listed; where there are no vectors they can't be."""
    if store.n_coded is not None:
        return False
    costs = COSTS[view.snapshot.isa]
    listed = store.dim * (_LISTED_COORDINATE + n_queries * costs.float_product)
    if store.codes is None:
        scanned = listed
    else:
        # The coordinates that a scan of all rows goes along.
        n_coded = store.n_directions or store.n_axes or store.dim
        scanned = n_coded * (_CODED_COORDINATE + n_queries * costs.code_product)
    return count * (_FETCH + listed) < store.n_slots * scanned
