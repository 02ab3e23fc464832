"""Directions, and the transform of vectors before they are coded.

A `Projection` has three uses: a PCA filter scans codes along some principal directions before those
of all coordinates; PCA axes are all that is coded of rows that lie near them; and along the mean
query direction key bounds are tighter than by lengths.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from farann import _core
from farann._types import Float32Array, Float64Array
from farann.runtime.pool import default_isa

# Directions of a projection: the core's limit, as rounding errors of products grow with them.
MOST_DIRECTIONS = _core.MOST_AXES
_POWER_STEPS = 3  # steps of the orthogonal iteration: directions needn't be the best ones
_ROWS_OF_DIRECTIONS = 4096  # most sampled rows of the iteration; more find no better directions
# Directions that are iterated, 16 more than are kept (Halko et al. 2011 take 5 to 10). In no more
# dimensions than these the eigenvectors of the second moment are computed directly.
_ITERATED = MOST_DIRECTIONS + 16
# Dimensions up to which products with the second moment cost less than with the rows.
_OF_MOMENT = 1024
# Share of |y|^2 that covers rounding and directions that are not quite orthonormal; the same as
# REST_SHARE in src_c/quantize.c.
_REST_SHARE = 1e-9
_MAIN_DIRECTIONS = 96  # most directions of queries that a moment distinguishes
ROTATION_ROUNDS = 3  # rounds of signs and Hadamard transforms, as src_c/quantize.c does them
_ROWS_OF_LONGEST = 1024  # most rows whose largest singular value is computed


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
        """Norms of vectors across the directions of `along`, (n,), rounded up."""
        squares = np.einsum("ij,ij->i", vectors, vectors)
        left: Float64Array = np.sqrt(np.maximum(
            squares - np.einsum("ij,ij->i", along, along), 0.0) + squares * _REST_SHARE)
        return left


def directions(sample: Float64Array, seed: int) -> Float64Array:
    """Orthonormal directions (m, dim) along which the sample is long, the longest first, by
    orthogonal iteration (Rutishauser 1969) in float32, where dimensions are many."""
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


def directions_of(query_vectors: Float64Array) -> Float64Array:
    """Query vectors of length 1: long queries aren't more important. Zeros stay what they are."""
    lengths = np.linalg.norm(query_vectors, axis=1, keepdims=True)
    directions: Float64Array = query_vectors / np.maximum(lengths, np.finfo(np.float64).tiny)
    return directions


class Moment(NamedTuple):
    """The second moment of the directions of query vectors: E (V - m I) E' + m I, with m the
    `rest` that all directions have beyond the main ones."""

    axes: Float64Array  # E (dim, n)
    values: Float64Array  # V (n,), ascending
    rest: float

    def root(self) -> Float64Array:
        """F with F F' + m I the moment, (dim, n)."""
        return self.axes * np.sqrt(np.maximum(self.values - self.rest, 0.0))

    def weighed(self, vectors: Float32Array) -> Float32Array:
        """Vectors (n, dim) times the fourth root of the moment, over that of its typical value."""
        typical = max(float(self.values.mean()), self.rest)
        factors = (self.values / typical) ** 0.25
        others = (self.rest / typical) ** 0.25
        axes = self.axes.astype(np.float32)
        products: Float32Array = ((vectors @ axes) * (factors - others).astype(np.float32)) @ axes.T
        products += np.float32(others) * vectors
        return products


def moment_of(query_vectors: Float64Array) -> Moment:
    """The second moment of a sample of query vectors. As few queries are a poor estimate, all
    directions count a little; of many dimensions only the main ones are distinguished."""
    n, dim = query_vectors.shape
    unit = directions_of(query_vectors)
    values, axes = np.linalg.eigh((unit.T @ unit + np.eye(dim)) / (n + dim))
    others = values[:-_MAIN_DIRECTIONS]
    rest = float(others.mean()) if len(others) else 0.0
    return Moment(axes[:, len(others) :], values[len(others) :], rest)


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
        """Transform centered rows or query vectors (n, dim) as they are coded, (n, n_coded)."""
        x = np.array(vectors if self.pca_axes is None else self.pca_axes.along(vectors),
                     np.float64, order="C")
        _core.rotate(x, self.signs, default_isa())
        return x

    def rows_from(self, vectors: Float64Array) -> Float64Array:
        """The inverse of `rows`, (n, dim), for few vectors: each step of a rotation is its own."""
        x = vectors.astype(np.float64)
        dim = x.shape[1]
        size = 1 << (dim.bit_length() - 1)  # the power of 2 that fits
        for row in self.signs[::-1]:
            if size < dim:
                x[:, -size:] = _hadamard(x[:, -size:])
            x[:, :size] = _hadamard(x[:, :size])
            x *= row
        return x if self.pca_axes is None else self.pca_axes.back(x)

    def outside(self, vectors: Float64Array) -> float:
        """Root mean square of the lengths of centered rows outside the axes."""
        left = self._left_outside(vectors)
        return float(np.sqrt(np.einsum("ij,ij->", left, left) / max(len(left), 1)))

    def outside_at_most(self, vectors: Float64Array) -> float:
        """An upper bound of `outside` for rows that may have something in common outside the axes.

        Every direction is taken to hold the mean square of the one that holds most."""
        left = self._left_outside(vectors)
        left = left[:: -(-len(left) // _ROWS_OF_LONGEST)]
        free = max(left.shape[1] - self.n_coded, 0)
        return float(np.linalg.norm(left, 2) * np.sqrt(free / len(left)))

    def _left_outside(self, vectors: Float64Array) -> Float64Array:
        """The parts of centered rows outside the axes."""
        if self.pca_axes is None:
            return np.zeros((1, 1))
        return vectors - self.pca_axes.back(self.pca_axes.along(vectors))


def _hadamard(x: Float64Array) -> Float64Array:
    n, size = x.shape
    half = 1
    x = x * size**-0.5
    while half < size:
        pairs = x.reshape(n, size // (2 * half), 2, half)
        x = np.stack([pairs[:, :, 0] + pairs[:, :, 1], pairs[:, :, 0] - pairs[:, :, 1]], axis=2)
        half *= 2
    return x.reshape(n, size)
