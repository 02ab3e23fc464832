"""A sample of queries: which directions they look in."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from farann._types import Float32Array, Float64Array

# Most directions of queries that a moment keeps apart.
_MAIN_DIRECTIONS = 96


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
    """The second moment of a sample of query vectors.

    Few queries say little, so all directions count a little; of many only the main ones are told
    apart.
    """
    n, dim = query_vectors.shape
    directions = directions_of(query_vectors)
    values, axes = np.linalg.eigh((directions.T @ directions + np.eye(dim)) / (n + dim))
    others = values[:-_MAIN_DIRECTIONS]
    rest = float(others.mean()) if len(others) else 0.0
    main = slice(len(others), None)
    return Moment(axes[:, main], values[main], rest)
