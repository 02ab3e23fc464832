"""Types of `pair_search.pyx`."""

import numpy as np
import numpy.typing as npt

from farann.native.process import CancelFlag
from farann.native.snapshot import Filter, Snapshot
from farann.native.task import Task

class PairSearch(Task):
    def __init__(
        self,
        snapshot: Snapshot,
        filter: Filter,
        queries: npt.NDArray[np.float32],
        start: int,
        stop: int,
        least: float,
        flag: CancelFlag | None = None,
        costs: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0),
    ) -> None: ...

    def write_keys(
        self, keys: npt.NDArray[np.float64], ids: npt.NDArray[np.int64], start: int
    ) -> None: ...
