"""Types of `greedy_passes.pyx`."""

from typing import Final

import numpy as np
import numpy.typing as npt

from farann.native.process import CancelFlag

class GreedyPasses:
    possible: Final[bool]
    finished: Final[bool]
    def __init__(
        self,
        rows: npt.NDArray[np.float32],
        metric: int,
        isa: str,
        first: npt.NDArray[np.int64],
        most: int,
        *,
        ids: npt.NDArray[np.int64] | None = None,
        allowed: npt.NDArray[np.uint8] | None = None,
        radius: float | None = None,
    ) -> None: ...

    def run(self, count: int, flag: CancelFlag | None = None) -> int: ...

    def write(
        self, ids: npt.NDArray[np.int64], scores: npt.NDArray[np.float32]
    ) -> None: ...

    def did(self) -> tuple[int, int, int]: ...
