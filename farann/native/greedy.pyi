"""Types of `greedy.pyx`."""

from typing import Final

import numpy as np
import numpy.typing as npt

from farann.native.process import CancelFlag
from farann.native.snapshot import Filter, Snapshot

class Front: ...

class Greedy:
    finished: Final[bool]
    by_float32: Final[bool]
    def __init__(
        self,
        snapshot: Snapshot,
        filter: Filter,
        first: npt.NDArray[np.int64],
        most: int,
        *,
        radius: float | None = None,
    ) -> None: ...

    def run(self, count: int, flag: CancelFlag | None = None) -> int: ...

    def write(
        self, ids: npt.NDArray[np.int64], scores: npt.NDArray[np.float32]
    ) -> None: ...

    def did(self) -> tuple[int, int, int]: ...
