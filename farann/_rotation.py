"""The rotation that codes are made in, in numpy: small numbers of vectors, there and back."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from farann._types import Float64Array


def turned(vectors: Float64Array, signs: npt.NDArray[np.int8]) -> Float64Array:
    """Vectors (n, dim) as the core turns them: signs and Hadamard transforms, some rounds."""
    x = vectors.astype(np.float64)
    size = _power_below(x.shape[1])
    for row in signs:
        x *= row
        x[:, :size] = _hadamard(x[:, :size])
        if size < x.shape[1]:  # two transforms that overlap cover all coordinates
            x[:, -size:] = _hadamard(x[:, -size:])
    return x


def turned_back(vectors: Float64Array, signs: npt.NDArray[np.int8]) -> Float64Array:
    """The inverse of `turned`: each of its steps undoes itself."""
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
