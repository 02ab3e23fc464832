"""Components of vectors along a few directions, and lengths of the rest: one type, three uses.

A PCA filter scans codes along some principal directions before those of all coordinates; PCA axes
are all that is coded of rows that lie near them; and along the mean query direction key bounds are
tighter than by lengths.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from farann import _core
from farann._types import Float64Array

# Most directions: the core's limit, as rounding errors of products grow with their number.
MOST_DIRECTIONS = _core.MOST_AXES
# Steps of the orthogonal iteration, and most rows of the sample that it runs on.
_POWER_STEPS, _ROWS_OF_DIRECTIONS = 3, 4096
# _ITERATED: directions that are iterated, 16 more than are kept; in no more dimensions than these
# the eigenvectors of the second moment are computed directly.
# _OF_MOMENT: dimensions up to which products with the second moment cost less than with rows.
_ITERATED, _OF_MOMENT = MOST_DIRECTIONS + 16, 1024
# Share of |y|^2 that covers rounding and directions that are not quite orthonormal; the same as
# REST_SHARE in src_c/quantize.c.
_REST_SHARE = 1e-9


@dataclass(frozen=True, eq=False)
class Projection:
    """Orthonormal directions, (m, dim). Its length is their number."""

    directions: Float64Array

    def __len__(self) -> int:
        return len(self.directions)

    def along(self, vectors: Float64Array) -> Float64Array:
        """Components (n, m) of vectors (n, dim) along the directions."""
        products: Float64Array = vectors @ self.directions.T
        return products

    def back(self, along: Float64Array) -> Float64Array:
        """Vectors (n, dim) with components `along` (n, m) along the directions and no others."""
        vectors: Float64Array = along @ self.directions
        return vectors

    def residual_norms(self, vectors: Float64Array, along: Float64Array) -> Float64Array:
        """Lengths of what `along` leaves of vectors, (n,), rounded up."""
        squares = np.einsum("ij,ij->i", vectors, vectors)
        left: Float64Array = np.sqrt(np.maximum(
            squares - np.einsum("ij,ij->i", along, along), 0.0) + squares * _REST_SHARE)
        return left


def directions(sample: Float64Array, seed: int) -> Float64Array:
    """Orthonormal directions (m, dim) along which the sample is long, the longest first.

    By orthogonal iteration (Rutishauser 1969), where dimensions are many: a few steps give
    directions that are good, and best ones aren't needed; neither are more rows, nor more than
    float32.
    """
    dim = sample.shape[1]
    sample = some_of(sample)
    largest = max(float(sample.max(initial=0.0)), -float(sample.min(initial=0.0)), 1e-300)
    rows = (sample / largest).astype(np.float32)
    moment = rows.T @ rows if dim <= _OF_MOMENT else None
    if moment is not None and dim <= _ITERATED:
        axes: Float64Array = np.linalg.eigh(moment.astype(np.float64))[1][:, ::-1]
        return axes.T.copy()

    def stretched(basis: Any) -> Any:
        return rows.T @ (rows @ basis) if moment is None else moment @ basis

    basis: Any = np.random.default_rng(seed).standard_normal((dim, _ITERATED)).astype(np.float32)
    for _ in range(_POWER_STEPS):
        basis = np.linalg.qr(stretched(basis))[0]
    # Within their space, the principal axes.
    axes = np.linalg.eigh((basis.T @ stretched(basis)).astype(np.float64))[1][:, ::-1]
    return np.linalg.qr(basis @ axes)[0].T.copy()


def some_of(sample: Float64Array) -> Float64Array:
    """Take evenly spaced rows of a sample, at most 4,096, to find directions by."""
    return sample[:: max(-(-len(sample) // _ROWS_OF_DIRECTIONS), 1)]
