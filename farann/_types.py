"""Types that several modules speak of, of arrays most of all."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Set
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
_Drawing: TypeAlias = "np.random.Generator | np.random.BitGenerator | np.random.SeedSequence"
Rng: TypeAlias = "int | _Drawing | None"
# Names of metrics, which editors complete; any case is taken, and so are other spellings.
Metric: TypeAlias = (Literal["l2", "dot", "cosine", "euclidean", "ip", "inner_product", "cos"]
                     | str)
# Ids as searches give them: int64, or objects where they are strings.
IdArray: TypeAlias = npt.NDArray[Any]
# Types that ids may have as arguments, and labels of groups.
Ids: TypeAlias = npt.ArrayLike | Set[int] | Set[str]
LabelsLike: TypeAlias = Ids
# Ids to leave out: for all queries, or for each its own.
Exclude: TypeAlias = Ids | Sequence[Ids | Sequence[str | None] | None]
# Scores of others: of each id a number.
Scores: TypeAlias = Mapping[Any, float] | Sequence[Mapping[Any, float]]
Scale: TypeAlias = Literal["unit", "ranks", "as given"] | str
# Rough scores of an index.
CodesName: TypeAlias = Literal["int8", "int4", "float32"] | str
