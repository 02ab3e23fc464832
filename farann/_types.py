"""Types that several modules speak of, of arrays most of all."""

from __future__ import annotations

from collections.abc import Callable, Set
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

Float32Array: TypeAlias = npt.NDArray[np.float32]
Float64Array: TypeAlias = npt.NDArray[np.float64]
Int32Array: TypeAlias = npt.NDArray[np.int32]
Int64Array: TypeAlias = npt.NDArray[np.int64]
UInt8Array: TypeAlias = npt.NDArray[np.uint8]
BoolArray: TypeAlias = npt.NDArray[np.bool_]
# Rows as an index keeps them, see `contract.row_types`; `_core.widened` gives them as float32.
RowArray: TypeAlias = npt.NDArray[Any]
# Whether a bar is shown, or a function of the step's name, the work done, and the work in all.
Progress: TypeAlias = bool | Callable[[str, int, int], object]
# Sources of random numbers (SPEC 7).
Rng: TypeAlias = ("int | np.random.Generator | np.random.BitGenerator | np.random.SeedSequence"
                  " | None")
# Names of metrics, which editors complete; any case is taken, and so are other spellings.
Metric: TypeAlias = (Literal["l2", "dot", "cosine", "euclidean", "ip", "inner_product", "cos"]
                     | str)
# Ids as searches give them: int64, or objects where they are strings.
IdArray: TypeAlias = npt.NDArray[Any]
# Types that ids may have as arguments.
Ids: TypeAlias = npt.ArrayLike | Set[int]


class UnknownKeyword:
    """The type of keywords that a function doesn't take: no value has it, so type checkers refuse
    what the function would refuse with a hint."""
