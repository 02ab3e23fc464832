"""Of `farann/tuning`: tables, what measures them, guards."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

import farann
import farann._core as core
from farann.results import share_found
from farann.runtime.pieces import Allowance as _Allowance
from farann.tuning.guard import Guard, GuardArrays, signs_of
from farann.tuning.guard import guard_in_pieces as _guard_in_pieces
from farann.tuning.measure import Answered, rule_of, sample_size
from farann.tuning.measure import in_pieces as measure_in_pieces
from farann.tuning.table import Measured, Tunings, missing_at
from inside import store as _store


def tables_of(index: farann.Index, nearest: bool = False) -> dict[int, farann.Tuning]:
    """What is tuned, by k."""
    store = _store.of(index)
    tunings = store.nearest_tunings if nearest else store.tunings
    return {k: measured.tuning for k, measured in tunings.by_k.items()}


def guards_of(index: farann.Index) -> dict[int, Guard]:
    """The guards of these, by k."""
    return {k: measured.guard for k, measured in _store.of(index).tunings.by_k.items()
            if measured.guard is not None}


def watches_of(index: farann.Index) -> list[core.Watch]:
    """What watches answers of all kinds of searches with a recall."""
    return [watch for guard in guards_of(index).values() for watch in guard._watches.values()]


def replace(index: farann.Index, k: int, table: farann.Tuning | None = None,
            **parts: Any) -> None:
    """Let an index have another table for k, or other parts of what was measured."""
    by_k = _store.of(index).tunings.by_k
    parts |= {} if table is None else {"tuning": table}
    by_k[k] = by_k[k]._replace(**parts) if k in by_k else Measured(**{"guard": None, **parts})


def measure(snapshot: core.Snapshot, queries: npt.NDArray[np.float32], k: int,
            **options: Any) -> tuple[farann.Tuning, npt.NDArray[np.int64]]:
    """Measure a table at once."""
    allowed = _Allowance()
    return allowed.completed(measure_in_pieces(snapshot, queries, k, allowed, **options))


def make_guard(queries: npt.NDArray[np.float32], scale_free: bool, seed: int, isa: str) -> Guard:
    """Make a guard at once."""
    allowed = _Allowance()
    return allowed.completed(_guard_in_pieces(allowed, queries, scale_free, seed, isa))
