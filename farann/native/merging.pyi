"""Types of `merging.pyx`."""

import numpy as np
import numpy.typing as npt

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
