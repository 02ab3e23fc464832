"""Types of the native core's names for Python."""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from farann.contract.stop_rule import StopRule
from farann.quantize.records import CodeArrays, PartitionArrays
from farann.quantize.transform import Projection

class Cancelled(Exception): ...

class CancelFlag:
    def cancel(self) -> None: ...
    def is_cancelled(self) -> bool: ...
    def cancel_at(self, look: int) -> int: ...

def fail_allocation(n: int) -> int: ...
def begin_arithmetic() -> int: ...
def end_arithmetic(before: int) -> None: ...
def flush_denormals(on: bool) -> int: ...

METRICS: Final[tuple[str, str, str]]

def isa_levels() -> tuple[str, ...]: ...
def largest_query_code(isa: str) -> int: ...
def first_bad_row(rows: npt.NDArray[Any], unit: bool) -> int: ...
def widened(rows: npt.NDArray[Any], isa: str | None = None) -> npt.NDArray[np.float32]: ...
def sum_of_rows(rows: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]: ...

CODE_SPAN: Final[int]
MOST_AXES: Final[int]

class Transform:
    def __init__(
        self,
        signs: npt.NDArray[np.int8],
        axes: Projection | None = None,
    ) -> None: ...

def code_rows(n: int) -> int: ...
def rotate(
    vectors: npt.NDArray[np.float64], signs: npt.NDArray[np.int8], isa: str
) -> None: ...
def code_extents(
    rows: npt.NDArray[Any],
    center: npt.NDArray[np.float64],
    unit: bool,
    signs: npt.NDArray[np.int8],
    axes: Projection | None,
    isa: str,
    extents: npt.NDArray[np.float64],
) -> None: ...
def add_to_groups(
    vectors: npt.NDArray[np.float32] | npt.NDArray[np.float64],
    groups: npt.NDArray[np.int32],
    sums: npt.NDArray[np.float64],
) -> None: ...
def encode_rows(
    rows: npt.NDArray[Any],
    center: npt.NDArray[np.float64],
    unit: bool,
    signs: npt.NDArray[np.int8],
    axes: Projection | None,
    inv_scale: npt.NDArray[np.float32],
    isa: str,
    codes: npt.NDArray[np.uint8],
    squares: npt.NDArray[np.float64],
    low_nibble_norm: npt.NDArray[np.float32],
) -> tuple[float, float, float, float, float, float]: ...
def pack_codes(
    rows: npt.NDArray[np.uint8],
    places: npt.NDArray[np.int64],
    halves: bool,
    panels: npt.NDArray[np.uint8],
    lower: npt.NDArray[np.uint8] | None = None,
) -> None: ...

class Codes:
    n_filled: int
    high_nibbles_first: bool
    whole_codes_first: bool
    def __init__(
        self, n_rows: int, dim: int, arrays: CodeArrays, in_runs: bool = False
    ) -> None: ...

class Partitions:
    def __init__(self, n_coded: int, n_positions: int, arrays: PartitionArrays) -> None: ...

class Snapshot:
    codes: Final[Codes | None]
    added: Final[Codes | None]
    code_trials: Final[dict[Any, Any]]
    isa: Final[str]
    dim: Final[int]
    n_slots: Final[int]
    def __init__(
        self,
        base: npt.NDArray[Any],
        tail: npt.NDArray[Any],
        ids: npt.NDArray[np.int64] | None,
        alive: npt.NDArray[np.uint8] | None,
        center: npt.NDArray[np.float64],
        metric: int,
        isa: str,
        *,
        codes: Codes | None = None,
        partitions: Partitions | None = None,
        vectors: bool = True,
        added: Codes | None = None,
        runs: npt.NDArray[np.int64] | None = None,
        uncoded: npt.NDArray[np.int64] | None = None,
    ) -> None: ...

def marked(
    ids: npt.NDArray[np.int64], least: int, n: int
) -> npt.NDArray[np.uint8]: ...

class Filter:
    n_rows: Final[int]
    def __init__(
        self,
        snapshot: Snapshot,
        allowed: npt.NDArray[np.uint8] | None = None,
        slots: npt.NDArray[np.int64] | None = None,
        *,
        share: float = 1.0,
    ) -> None: ...

    def excluding(
        self, ids: npt.NDArray[np.int64], offsets: npt.NDArray[np.int64]
    ) -> Filter: ...
    def outside(
        self, groups: npt.NDArray[np.int32], left_out: npt.NDArray[np.int32]
    ) -> Filter: ...

class Guard:
    def __init__(
        self,
        isa: str,
        unit: bool,
        signs: npt.NDArray[np.float32],
        center: npt.NDArray[np.float32],
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

class CodeTrials:
    def begin(self) -> bool: ...
    def note(self, gave_up: bool) -> None: ...

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
        most: int = 0,
        flag: CancelFlag | None = None,
        costs: tuple[float, float, float, float] = ...,
        by_codes: bool = True,
        tells_late: bool = False,
    ) -> None: ...
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
    def write_range(
        self, scores: npt.NDArray[np.float32], ids: npt.NDArray[np.int64], start: int
    ) -> None: ...

def write_best(
    tasks: Sequence[Task], scores: npt.NDArray[np.float32], ids: npt.NDArray[np.int64]
) -> None: ...

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
        float32_below: float = 0.0,
    ) -> None: ...
    def search(
        self, queries: object, within: Filter | None = None
    ) -> (
        tuple[npt.NDArray[np.int64], npt.NDArray[np.float32], tuple[int, ...]] | tuple[()] | None
    ): ...

def score_slots(
    snapshot: Snapshot,
    queries: npt.NDArray[np.float32],
    slots: npt.NDArray[np.int64],
    scores: npt.NDArray[np.float32],
    start: int,
    stop: int,
    flag: CancelFlag | None = None,
) -> None: ...

def keys_of_found(
    snapshot: Snapshot,
    queries: npt.NDArray[np.float32],
    offsets: npt.NDArray[np.int64],
    slots: npt.NDArray[np.int64],
    nearest: bool,
    keys: npt.NDArray[np.float64],
    start: int,
    stop: int,
    flag: CancelFlag | None = None,
) -> None: ...

def surprises(
    snapshot: Snapshot,
    filter: Filter,
    queries: npt.NDArray[np.float32],
    scores: npt.NDArray[np.float32],
    k: int,
    rule: StopRule,
    *,
    nearest: bool = False,
) -> npt.NDArray[np.float64]: ...

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

def member_keys(
    snapshot: Snapshot,
    members: npt.NDArray[np.float32],
    slots: npt.NDArray[np.int64],
    keys: npt.NDArray[np.float64],
    flag: CancelFlag | None = None,
) -> None: ...

class SetSearch:
    def __init__(
        self,
        snapshot: Snapshot,
        filter: Filter,
        members: npt.NDArray[np.float64],
        offsets: npt.NDArray[np.int64],
        start: int,
        k: int,
        *,
        epsilon: float = 0.0,
        budget: int = 0,
        seconds: float = 0.0,
        rests: npt.NDArray[np.float64] | None = None,
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
        groups: npt.NDArray[np.int32] | None = None,
        per_group: int = 0,
    ) -> None: ...

    def run(self, count: int, flag: CancelFlag | None = None) -> int: ...

    def write(
        self, ids: npt.NDArray[np.int64], scores: npt.NDArray[np.float32]
    ) -> None: ...

    def did(self) -> tuple[int, int, int]: ...

def merge_sorted(
    keys: npt.NDArray[np.float64],
    ids: npt.NDArray[np.int64],
    starts: npt.NDArray[np.int64],
    stops: npt.NDArray[np.int64],
    offsets: npt.NDArray[np.int64],
    places: npt.NDArray[np.int64],
) -> None: ...
def empty_sum(dim: int) -> npt.NDArray[np.int64]: ...
def add_rows_exactly(rows: npt.NDArray[np.uint32], sums: npt.NDArray[np.int64]) -> None: ...
def add_directions_exactly(rows: npt.NDArray[np.float64], sums: npt.NDArray[np.int64]) -> None: ...
def mean_of_sum(sums: npt.NDArray[np.int64], n: int) -> npt.NDArray[np.float32]: ...
