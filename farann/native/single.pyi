"""Types of `single.pyx`."""

from typing import Final

import numpy as np
import numpy.typing as npt

from farann.contract.stop_rule import StopRule
from farann.native.guard import Guard
from farann.native.snapshot import Filter, Snapshot

class SingleSearch:
    plan: Final[object]
    def __init__(
        self,
        snapshot: Snapshot,
        filter: Filter,
        k: int,
        plan: object,
        costs: tuple[float, float, float, float],
        rule: StopRule,
        *,
        guard: Guard | None = None,
        nearest: bool = False,
    ) -> None: ...
    def search(
        self, queries: object, within: Filter | None = None
    ) -> (
        tuple[npt.NDArray[np.float32], npt.NDArray[np.int64], tuple[int, ...]] | tuple[()] | None
    ): ...
