"""What a metric asks for: the traits by which the package tells one from another."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from farann import _core
from farann._types import Float32Array, Float64Array


class MetricTraits(NamedTuple):
    """One metric.

    Rows are ranked by keys, the largest first: the product of a vector that is made of the query
    and the row less the center, which may have the row's squared norm added.
    """

    name: str
    normalized: bool = False  # only directions of rows count
    adds_squared_norm: bool = False  # to keys
    scale_free: bool = True  # a query times a positive number has the same answer
    larger_is_further: bool = False  # scores

    @property
    def number(self) -> int:
        """The metric's number in the core."""
        return _core.METRICS.index(self.name)

    def query_vectors(self, queries: Float32Array, centre: Float64Array,
                      nearest: bool = False) -> Float64Array:
        """Vectors (n, dim) whose products with centered rows find the furthest or nearest ones."""
        vectors, sign = queries.astype(np.float64), 1.0 if nearest else -1.0
        if self.normalized:
            vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        return sign * 2.0 * (vectors - centre) if self.adds_squared_norm else sign * vectors

    def mirrored(self, queries: Float32Array) -> Float32Array:
        """Queries whose furthest rows are the nearest to these; under l2 there are none, and it is
        the nearest rows that are searched for."""
        return queries if self.adds_squared_norm else -queries


_ALL = {traits.name: traits for traits in (
    MetricTraits("l2", adds_squared_norm=True, scale_free=False, larger_is_further=True),
    MetricTraits("dot"),
    MetricTraits("cosine", normalized=True),
)}
assert tuple(_ALL) == _core.METRICS


def traits_of(name: str) -> MetricTraits:
    """The traits of the metric with this name."""
    return _ALL[name]
