"""The mean that a selection begins with.

Rows are added up exactly, so that the mean has the same bits in whatever order they lie, and
however they are divided among shards.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from farann import _core
from farann._types import Float32Array, Int64Array
from farann.runtime.process import ieee_arithmetic


class RowSum(NamedTuple):
    """The exact sum of some rows, or of their directions, and how many these are."""

    digits: Int64Array
    n: int

    @classmethod
    def of(cls, blocks: Iterable[Float32Array], dim: int, normalized: bool) -> RowSum:
        """The sum of blocks of C-contiguous rows."""
        digits, n = _core.empty_sum(dim), 0
        with ieee_arithmetic():
            for rows in blocks:
                n += len(rows)
                if normalized:
                    wide = rows.astype(np.float64)
                    wide /= np.linalg.norm(wide, axis=1, keepdims=True)
                    _core.add_directions_exactly(wide, digits)
                else:
                    _core.add_rows_exactly(rows.view(np.uint32), digits)
        return cls(digits, n)

    def plus(self, other: RowSum) -> RowSum:
        """The sum of both."""
        return RowSum(self.digits + other.digits, self.n + other.n)

    def mean(self) -> Float32Array:
        """The mean, rounded to float32."""
        with ieee_arithmetic():
            return _core.mean_of_sum(self.digits, self.n)
