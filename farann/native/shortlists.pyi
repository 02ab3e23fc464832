"""Types of `shortlists.pyx`."""

import numpy as np
import numpy.typing as npt

from farann.native.codes import Codes
from farann.quantize import records

class Shortlists:
    def __init__(
        self,
        codes: Codes,
        arrays: records.Shortlists,
        rows: npt.NDArray[np.uint8],
        row_weights: npt.NDArray[np.float32],
        row_squares: npt.NDArray[np.float32] | None,
    ) -> None: ...
