"""Types of `guard.pyx`."""

import numpy as np
import numpy.typing as npt

from farann.native.process import CancelFlag

class Guard:
    def __init__(
        self,
        isa: str,
        unit: bool,
        signs: npt.NDArray[np.float32],
        centre: npt.NDArray[np.float32],
        scale: float,
        points: npt.NDArray[np.float32],
        reaches: npt.NDArray[np.float32],
        axes: npt.NDArray[np.float32],
    ) -> None: ...
    def find(
        self,
        queries: npt.NDArray[np.float32],
        start: int,
        stop: int,
        unlike: npt.NDArray[np.uint8],
        flag: CancelFlag | None = None,
    ) -> int: ...
    def is_like(
        self, queries: npt.NDArray[np.float32], i: int, times: float = 1.0
    ) -> bool: ...
    def count_alone(self) -> int: ...
    late_surplus: float
    def how_late(
        self, asked: int, late: float, usual: float, spread: float, sampled: int
    ) -> float: ...
