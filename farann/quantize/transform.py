"""The transform of vectors before they are coded, and its inverse."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from farann import _core
from farann._types import Float64Array
from farann.quantize.projection import Projection
from farann.runtime.pool import default_isa

ROTATION_ROUNDS = 3
# The largest direction of rows is found by 16 steps of the power method, over up to 1,024 rows.
_POWER_STEPS, _ROWS_OF_POWER = 16, 1024


def rotation_signs(dim: int, seed: int) -> npt.NDArray[np.int8]:
    """The signs of the rotation that evens coordinates out, (ROTATION_ROUNDS, dim)."""
    draw = np.random.default_rng(seed)
    return draw.integers(0, 2, (ROTATION_ROUNDS, dim), dtype=np.int8) * np.int8(2) - np.int8(1)


class Transform(NamedTuple):
    """PCA axes, if only components along them are coded, and a random rotation.

    Products of rows and query vectors don't change, but for what is outside the axes.
    """

    signs: npt.NDArray[np.int8]
    pca_axes: Projection | None = None

    @property
    def n_coded(self) -> int:
        """Coordinates that are coded."""
        return len(self.signs[0])

    @property
    def width(self) -> int:
        """Bytes of a row's codes, in whole groups."""
        return -(-self.n_coded // 4) * 4

    def rows(self, vectors: Float64Array) -> Float64Array:
        """Transform centered rows (n, dim) as they are coded, (n, n_coded)."""
        return rotated(self._along(vectors), self.signs)

    def query_vectors(self, vectors: Float64Array) -> Float64Array:
        """Query vectors (n, dim) as they are coded, (n, n_coded)."""
        return self.rows(vectors)

    def outside(self, vectors: Float64Array) -> float:
        """Root mean square of the lengths of centered rows outside the axes."""
        left = self._left_outside(vectors)
        return float(np.sqrt(np.einsum("ij,ij->", left, left) / max(len(left), 1)))

    def outside_at_most(self, vectors: Float64Array) -> float:
        """An upper bound of `outside` for rows that may have something in common outside the axes.

        Every direction is taken to hold the mean square of the one that holds most."""
        left = self._left_outside(vectors)
        left = left[:: -(-len(left) // _ROWS_OF_POWER)]
        along = left[np.einsum("ij,ij->i", left, left).argmax()]
        square = 0.0
        for _ in range(_POWER_STEPS):
            length = np.sqrt(along @ along)
            if length == 0.0:
                return 0.0
            products = left @ (along / length)
            square, along = products @ products / len(left), products @ left
        return float(np.sqrt(square * (left.shape[1] - self.n_coded)))

    def _left_outside(self, vectors: Float64Array) -> Float64Array:
        """The parts of centered rows outside the axes."""
        if self.pca_axes is None:
            return np.zeros((1, 1))
        return vectors - self.pca_axes.back(self.pca_axes.along(vectors))

    def rows_from(self, vectors: Float64Array) -> Float64Array:
        """The inverse of `rows`, (n, dim), without what is outside the axes."""
        vectors = rotated_back(vectors, self.signs)
        return vectors if self.pca_axes is None else self.pca_axes.back(vectors)

    def _along(self, vectors: Float64Array) -> Float64Array:
        return vectors if self.pca_axes is None else self.pca_axes.along(vectors)


def rotated(vectors: Float64Array, signs: npt.NDArray[np.int8]) -> Float64Array:
    """Vectors (n, dim) rotated: changes of signs and Hadamard transforms, some rounds."""
    x = np.array(vectors, np.float64, order="C")
    _core.rotate(x, signs, default_isa())
    return x


def rotated_back(vectors: Float64Array, signs: npt.NDArray[np.int8]) -> Float64Array:
    """The inverse of `rotated`, for few vectors: each of its steps undoes itself."""
    x = vectors.astype(np.float64)
    size = _power_below(x.shape[1])
    for row in signs[::-1]:
        if size < x.shape[1]:
            x[:, -size:] = _hadamard(x[:, -size:])
        x[:, :size] = _hadamard(x[:, :size])
        x *= row
    return x


def _power_below(dim: int) -> int:
    return 1 << (dim.bit_length() - 1)


def _hadamard(x: Float64Array) -> Float64Array:
    n, size = x.shape
    half = 1
    x = x * size**-0.5
    while half < size:
        pairs = x.reshape(n, size // (2 * half), 2, half)
        x = np.stack([pairs[:, :, 0] + pairs[:, :, 1], pairs[:, :, 0] - pairs[:, :, 1]], axis=2)
        half *= 2
    return x.reshape(n, size)
