"""Types of `search.pyx`."""

from typing import Final

import numpy as np
import numpy.typing as npt

from farann.contract.stop_rule import StopRule
from farann.native.answers import Answers
from farann.native.process import CancelFlag
from farann.native.snapshot import Filter, Snapshot

class Task(Answers):
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
    ) -> None: ...
    futile: Final[bool]
    gave_up: Final[bool]
    def run(self) -> None: ...
    def n_in_line(self) -> int: ...
    def search_only(self, first: int, end: int, leader: Task | None = None) -> None: ...

class ApproximateTask(Task):
    def __init__(
        self,
        snapshot: Snapshot,
        filter: Filter,
        queries: npt.NDArray[np.float32],
        start: int,
        stop: int,
        k: int,
        rule: StopRule,
        *,
        nearest: bool = False,
        flag: CancelFlag | None = None,
        tells_late: bool = False,
    ) -> None: ...
    def late_to(self, late: npt.NDArray[np.float32], start: int) -> None: ...
