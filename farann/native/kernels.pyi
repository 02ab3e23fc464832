"""Types of `kernels.pyx`."""

from typing import Final

import numpy as np
import numpy.typing as npt

METRICS: Final[tuple[str, str, str]]

def isa_levels() -> tuple[str, ...]: ...
def largest_query_code(isa: str) -> int: ...
def first_bad_row(rows: npt.NDArray[np.float32], unit: bool) -> int: ...
