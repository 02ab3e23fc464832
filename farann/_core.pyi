"""Types of the native core; `_core.pyx` documents it."""

from typing import Final

import numpy as np
import numpy.typing as npt

from farann.quantize.records import CodeArrays, PartitionArrays, Shortlists

METRICS: Final[tuple[str, str, str]]

def isa_levels() -> tuple[str, ...]: ...
def largest_query_code(isa: str) -> int: ...
def first_bad_row(rows: npt.NDArray[np.float32], unit: bool) -> int: ...

class Cancelled(Exception): ...

class CancelFlag:
    def cancel(self) -> None: ...
    def is_cancelled(self) -> bool: ...

def fail_allocation(n: int) -> int: ...
def begin_arithmetic() -> int: ...
def end_arithmetic(before: int) -> None: ...
def flush_denormals(on: bool) -> int: ...

class Turn:
    def __init__(
        self,
        signs: npt.NDArray[np.int8],
        stretch: npt.NDArray[np.float64] | None = None,
        axes: npt.NDArray[np.float64] | None = None,
    ) -> None: ...

def code_rows(n: int) -> int: ...
def rotate(
    vectors: npt.NDArray[np.float64], signs: npt.NDArray[np.int8], isa: str
) -> None: ...
def code_extents(
    rows: npt.NDArray[np.float32],
    centre: npt.NDArray[np.float64],
    unit: bool,
    signs: npt.NDArray[np.int8],
    stretch: npt.NDArray[np.float64] | None,
    axes: npt.NDArray[np.float64] | None,
    isa: str,
    extents: npt.NDArray[np.float64],
) -> None: ...
def encode_rows(
    rows: npt.NDArray[np.float32],
    centre: npt.NDArray[np.float64],
    unit: bool,
    signs: npt.NDArray[np.int8],
    stretch: npt.NDArray[np.float64] | None,
    axes: npt.NDArray[np.float64] | None,
    weights: npt.NDArray[np.float32],
    isa: str,
    codes: npt.NDArray[np.uint8],
    squares: npt.NDArray[np.float64],
    unknown: npt.NDArray[np.float32],
) -> tuple[float, float, float, float, float, float]: ...
def pack_codes(
    rows: npt.NDArray[np.uint8],
    places: npt.NDArray[np.int64],
    halves: bool,
    panels: npt.NDArray[np.uint8],
    lower: npt.NDArray[np.uint8] | None = None,
) -> None: ...

CODE_SPAN: Final[int]
LARGEST_STRETCH: Final[int]
MOST_AXES: Final[int]
CACHED_BYTES: int
HUB_ROWS: int

class Codes:
    n_filled: int
    def __init__(
        self, n_rows: int, dim: int, arrays: CodeArrays, in_runs: bool = False
    ) -> None: ...

class Cells:
    def __init__(self, n_coded: int, n_positions: int, arrays: PartitionArrays) -> None: ...

class Seeds:
    def __init__(
        self,
        codes: Codes,
        arrays: Shortlists,
        rows: npt.NDArray[np.uint8],
        row_weights: npt.NDArray[np.float32],
        row_squares: npt.NDArray[np.float32] | None,
    ) -> None: ...

class Snapshot:
    added: Final[Codes | None]
    isa: Final[str]
    dim: Final[int]
    n_slots: Final[int]
    def __init__(
        self,
        base: npt.NDArray[np.float32],
        tail: npt.NDArray[np.float32],
        ids: npt.NDArray[np.int64] | None,
        alive: npt.NDArray[np.uint8] | None,
        centre: npt.NDArray[np.float64],
        metric: int,
        isa: str,
        codes: Codes | None = None,
        cells: Cells | None = None,
        vectors: bool = True,
        seeds: Seeds | None = None,
        added: Codes | None = None,
        runs: npt.NDArray[np.int64] | None = None,
        uncoded: npt.NDArray[np.int64] | None = None,
    ) -> None: ...

    def seeds_for(self, k: int) -> bool: ...

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

class Filter:
    n_rows: Final[int]
    def __init__(
        self,
        snapshot: Snapshot,
        allowed: npt.NDArray[np.uint8] | None = None,
        slots: npt.NDArray[np.int64] | None = None,
    ) -> None: ...

    def excluding(
        self, ids: npt.NDArray[np.int64], offsets: npt.NDArray[np.int64]
    ) -> Filter: ...

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
