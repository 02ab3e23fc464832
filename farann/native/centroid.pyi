"""Types of `centroid.pyx`."""

import numpy as np
import numpy.typing as npt

def empty_sum(dim: int) -> npt.NDArray[np.int64]: ...
def add_rows_exactly(rows: npt.NDArray[np.uint32], sums: npt.NDArray[np.int64]) -> None: ...
def add_directions_exactly(rows: npt.NDArray[np.float64], sums: npt.NDArray[np.int64]) -> None: ...
def mean_of_sum(sums: npt.NDArray[np.int64], n: int) -> npt.NDArray[np.float32]: ...
def furthest_row(
    rows: npt.NDArray[np.float32],
    metric: int,
    isa: str,
    query: npt.NDArray[np.float32],
    *,
    ids: npt.NDArray[np.int64] | None = None,
    allowed: npt.NDArray[np.uint8] | None = None,
) -> int: ...
