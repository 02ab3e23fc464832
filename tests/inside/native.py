"""Of `farann/native`: instruction-set levels, mechanisms to leave out, what a task did."""

from __future__ import annotations

import farann
import farann._core as core
from farann.native.process import MECHANISMS, leave_out

_only: tuple[str, ...] | None = None


def levels() -> tuple[str, ...]:
    """The instruction-set levels to test, slowest first: all that the core has on this CPU."""
    return core.isa_levels() if _only is None else _only


def only_level(level: str) -> None:
    """Test at this level alone (pytest --one-level)."""
    global _only
    _only = (level,)


def largest_code(level: str) -> int:
    """Of a query's codes, in magnitude: what the products of bytes of a level allow."""
    return core.largest_query_code(level)


def work_of(task: core.Task) -> farann.SearchStats:
    """What a task did."""
    return farann.SearchStats(1, *task.did())
