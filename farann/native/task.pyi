"""Types of `task.pyx`."""

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from farann.contract.stop_rule import StopRule
from farann.native.process import CancelFlag
from farann.native.snapshot import Filter, Snapshot

class Task:
    def __init__(
        self,
        snapshot: Snapshot,
        filter: Filter,
        queries: npt.NDArray[np.float32],
        start: int,
        stop: int,
        k: int,
        nearest: bool,
        rule: StopRule | None = None,
        *,
        radii: npt.NDArray[np.float64] | None = None,
        flag: CancelFlag | None = None,
        costs: tuple[float, float, float, float] = ...,
        by_codes: bool = True,
        tells_late: bool = False,
    ) -> None: ...
    futile: Final[bool]
    gave_up: Final[bool]
    def run(self) -> None: ...
    def n_in_line(self) -> int: ...
    def search_only(self, first: int, end: int, leader: Task | None = None) -> None: ...
    def late_to(self, late: npt.NDArray[np.float32], start: int) -> None: ...
    def did(self) -> tuple[int, int, int, int, int, int, int, int]: ...
    def counts(self) -> list[int]: ...
    def write_top(
        self, scores: npt.NDArray[np.float32], ids: npt.NDArray[np.int64], start: int
    ) -> None: ...
    def write_beyond(
        self, scores: npt.NDArray[np.float32], ids: npt.NDArray[np.int64], start: int
    ) -> None: ...

def write_best(
    tasks: Sequence[Task], scores: npt.NDArray[np.float32], ids: npt.NDArray[np.int64]
) -> None: ...
