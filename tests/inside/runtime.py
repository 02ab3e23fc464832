"""Of `farann/runtime`: tasks of a batch, their costs, threads, the process."""

from __future__ import annotations

from farann.runtime import process as _process
from farann.runtime.batches import _QUERY_BYTES as QUERY_BYTES
from farann.runtime.batches import _TASK_BYTES as TASK_BYTES
from farann.runtime.batches import _is_long as is_long
from farann.runtime.batches import top
from farann.runtime.cost import (
    COSTS,
    FEW_QUERIES,
    SINGLE_COSTS,
    bytes_waited_for,
    codes_pay,
    cost_of,
    guard_cost,
    row_costs,
)
from farann.runtime.paging import memory, taken
from farann.runtime.pieces import Allowance
from farann.runtime.pool import _forget_executors as forget_executors
from farann.runtime.pool import run_all
from farann.runtime.process import each, ieee_arithmetic, one_thread
from farann.runtime.progress import build_steps, shown


def blas_is_held() -> bool:
    """Whether a thread holds BLAS to one thread."""
    return bool(_process._users or _process._limited)
