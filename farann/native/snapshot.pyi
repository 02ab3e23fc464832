"""Types of `snapshot.pyx`."""

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from farann.native.codes import Codes
from farann.native.partitions import Partitions

class Snapshot:
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
        centre: npt.NDArray[np.float64],
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
