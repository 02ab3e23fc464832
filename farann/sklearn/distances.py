"""What is common to the estimators: distances, and rows that have a direction."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from farann._types import BoolArray, Float32Array, Float64Array
from farann.index import Index


def distances_of(metric: str, scores: Float32Array) -> Float64Array:
    """Distances of which the largest is the furthest."""
    far: Float64Array = scores.astype(np.float64)
    return far if metric == "l2" else -far if metric == "dot" else 1.0 - far


def directed_rows(index: Index, rows: npt.NDArray[Any]) -> BoolArray:
    """Mask of the rows that an index takes: under cosine those that are not zeros in float32."""
    if index.metric != "cosine":
        return np.ones(len(rows), np.bool_)
    with np.errstate(over="ignore", under="ignore"):
        return np.asarray((rows.astype(np.float32) != 0.0).any(axis=1))
