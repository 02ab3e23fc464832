"""Types of `search.pyx`."""

from typing import Final

import numpy as np
import numpy.typing as npt

from farann.native.guard import Guard
from farann.native.process import CancelFlag
from farann.native.snapshot import Filter, Snapshot

class Task:
    scanned: Final[int]
    refined: Final[int]
    rescored: Final[int]
    bytes_read: Final[int]
    code_products: Final[int]
    float_products: Final[int]
    blocks: Final[int]
    passed: Final[int]
    def __init__(
        self,
        snapshot: Snapshot,
        filter: Filter,
        queries: npt.NDArray[np.float32],
        start: int,
        stop: int,
        k: int,
        nearest: bool,
        radius: float | None = None,
        epsilon: float = 0.0,
        flag: CancelFlag | None = None,
        costs: tuple[float, float, float, float] = ...,
        by_codes: bool = True,
    ) -> None: ...
    gave_up: Final[bool]
    def run(self) -> None: ...
    def n_in_line(self) -> int: ...
    def search_only(self, first: int, end: int, leader: Task | None = None) -> None: ...
    def did(self) -> tuple[int, int, int, int, int, int, int, int]: ...
    def counts(self) -> list[int]: ...
    def write_top(
        self, scores: npt.NDArray[np.float32], ids: npt.NDArray[np.int64], start: int
    ) -> None: ...
    def write_beyond(
        self, scores: npt.NDArray[np.float32], ids: npt.NDArray[np.int64], start: int
    ) -> None: ...

class ApproximateTask(Task):
    def __init__(
        self,
        snapshot: Snapshot,
        filter: Filter,
        queries: npt.NDArray[np.float32],
        start: int,
        stop: int,
        k: int,
        effort: float,
        budget: int = 0,
        expected: float = ...,
        flag: CancelFlag | None = None,
        tells_late: bool = False,
        stops: npt.NDArray[np.int64] | None = None,
    ) -> None: ...
    def late_to(self, late: npt.NDArray[np.float32], start: int) -> None: ...

class SingleSearch:
    plan: Final[object]
    def __init__(
        self,
        snapshot: Snapshot,
        filter: Filter,
        k: int,
        plan: object,
        costs: tuple[float, float, float, float],
        effort: float | None = None,
        expected: float = ...,
        guard: Guard | None = None,
        late: tuple[float, float, int] | None = None,
        stops: npt.NDArray[np.int64] | None = None,
    ) -> None: ...
    def search(
        self, queries: object
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64], tuple[int, ...]] | None: ...

def surprises(
    snapshot: Snapshot,
    filter: Filter,
    queries: npt.NDArray[np.float32],
    scores: npt.NDArray[np.float32],
    k: int,
    effort: float,
) -> npt.NDArray[np.float64]: ...

def write_best(
    tasks: list[Task], scores: npt.NDArray[np.float32], ids: npt.NDArray[np.int64]
) -> None: ...
def score_slots(
    snapshot: Snapshot,
    queries: npt.NDArray[np.float32],
    slots: npt.NDArray[np.int64],
    scores: npt.NDArray[np.float32],
    start: int,
    stop: int,
    flag: CancelFlag | None = None,
) -> None: ...
