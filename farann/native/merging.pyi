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
