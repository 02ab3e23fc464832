"""Types of `encoding.pyx`."""

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from farann.quantize.transform import Projection as Directions

CODE_SPAN: Final[int]
MOST_AXES: Final[int]

class Projection:
    def __init__(self, given: Directions, dim: int, name: str) -> None: ...

class Transform:
    def __init__(
        self,
        signs: npt.NDArray[np.int8],
        axes: Directions | None = None,
    ) -> None: ...

def code_rows(n: int) -> int: ...
def rotate(
    vectors: npt.NDArray[np.float64], signs: npt.NDArray[np.int8], isa: str
) -> None: ...
def code_extents(
    rows: npt.NDArray[Any],
    centre: npt.NDArray[np.float64],
    unit: bool,
    signs: npt.NDArray[np.int8],
    axes: Directions | None,
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
    centre: npt.NDArray[np.float64],
    unit: bool,
    signs: npt.NDArray[np.int8],
    axes: Directions | None,
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
