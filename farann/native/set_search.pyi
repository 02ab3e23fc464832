"""Types of `set_search.pyx`."""

import numpy as np
import numpy.typing as npt

from farann.native.process import CancelFlag
from farann.native.snapshot import Filter, Snapshot

class SetSearch:
    def __init__(
        self,
        snapshot: Snapshot,
        filter: Filter,
        members: npt.NDArray[np.float32],
        offsets: npt.NDArray[np.int64],
        start: int,
        k: int,
        *,
        epsilon: float = 0.0,
        budget: int = 0,
        raw: bool = False,
        floor: float = -np.inf,
        flag: CancelFlag | None = None,
    ) -> None: ...

    def run(self) -> None: ...

    def write_top(
        self, scores: npt.NDArray[np.float32], ids: npt.NDArray[np.int64], start: int
    ) -> None: ...

    def write_keys(self, keys: npt.NDArray[np.float64], start: int) -> None: ...

    def did(self) -> tuple[int, ...]: ...
