"""Of `farann/search` and `farann/diverse`: where runs of added rows stop, selections."""

from __future__ import annotations

import numpy as np

import farann
import farann._core as core
from farann.diverse import greedy as _greedy
from farann.diverse.greedy import RowSum
from farann.search.tables import stops_for, stops_of
from inside import store as _store


def selection_of(index: farann.Index, most: int) -> core.Greedy:
    """A selection of so many rows after the row in slot 0."""
    snapshot = _greedy.snapshot_of(_store.of(index), index.isa)
    return core.Greedy(snapshot, core.Filter(snapshot), np.zeros(1, np.int64), most)
