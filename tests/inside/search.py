"""Of `farann/search` and `farann/diverse`: where runs of added rows stop, selections."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

import farann
import farann._core as core
from farann.diverse import greedy as _greedy
from farann.diverse.greedy import RowSum
from farann.search import ask as _ask
from farann.search import singles
from farann.search import tables as _tables
from farann.search.changes import laid_out as _laid_out
from farann.search.filters import Filtering as _Filtering
from farann.search.tables import stops_for, stops_of
from inside import store as _store

# Searches without a look at the cache of single queries.
furthest_in_full: Any = inspect.unwrap(farann.Index.search_furthest)
nearest_in_full: Any = inspect.unwrap(farann.Index.search_nearest)


def selection_of(index: farann.Index, most: int) -> core.Greedy:
    """A selection of so many rows after the row in slot 0."""
    snapshot = _greedy.snapshot_of(_store.of(index), index.isa)
    return core.Greedy(snapshot, core.Filter(snapshot), np.zeros(1, np.int64), most)


def collected(index: farann.Index, queries: npt.NDArray[np.float32], k: int,
              collect: Callable[..., core.Collector]) -> farann.Hits:
    """What collectors find that `collect` makes of k."""
    return _ask._top(index._live, queries, False, k, None, _Filtering(), None, False, False,
                     collect=collect)


def finish_measuring(index: farann.Index, k: int, nearest: bool = False) -> None:
    """Have searches lend what measuring a table for k takes, if it is to be measured."""
    store = _laid_out(index._live)
    assert store is not None
    store = store.mirrored(index.isa) if nearest else store
    while _tables.lacks_table(store, k, 0.5):
        _tables.lend(store, k, index.isa, 10**6)
