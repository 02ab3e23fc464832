"""Types of `furthest_row.pyx`."""

import numpy as np
import numpy.typing as npt

def furthest_row(
    rows: npt.NDArray[np.float32],
    metric: int,
    isa: str,
    query: npt.NDArray[np.float32],
    *,
    ids: npt.NDArray[np.int64] | None = None,
    allowed: npt.NDArray[np.uint8] | None = None,
) -> int: ...
