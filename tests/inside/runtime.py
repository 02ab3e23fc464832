"""Of `farann/runtime`: tasks of a batch, their costs, threads, the process."""

from __future__ import annotations

from farann.runtime import pool as _pool
from farann.runtime import process as _process
from farann.runtime.batches import _PARTS_A_THREAD as PARTS_A_THREAD
from farann.runtime.batches import _QUERY_BYTES as QUERY_BYTES
from farann.runtime.batches import _TASK_BYTES as TASK_BYTES
from farann.runtime.batches import _is_long as is_long
from farann.runtime.batches import top
from farann.runtime.cost import COSTS, SINGLE_COSTS, codes_pay, cost_of, guard_cost, row_costs
from farann.runtime.pool import _forget_executors as forget_executors
from farann.runtime.pool import run_all
from farann.runtime.process import each, ieee_arithmetic, one_thread
from farann.runtime.progress import build_steps, shown


def force_level(level: str) -> None:
    """Let new indexes use a level, as the variable FARANN_ISA does."""
    _pool._forced = level


def blas_users() -> int:
    """How many threads hold BLAS to one thread."""
    return len(_process._users)


def blas_limited() -> bool:
    """Whether BLAS is held to one thread."""
    return bool(_process._limited)
