"""Estimate which layouts pay, from samples of rows and queries, and counted work."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from farann._types import Float32Array, Float64Array, Int64Array, RowArray
from farann.contract.index_spec import MetricTraits
from farann.quantize import pca_filter
from farann.quantize.projection import Projection, directions
from farann.quantize.scalar import centred

# Most queries that costs are estimated from.
_QUERIES = 128
# Key bounds are kept if sample queries can skip more than this share of the rows by them.
_WORTH_AN_ORDER = 0.1
# Weight of the mean query direction in the order of rows: 2 leaves the fewest rows to scan.
_DIRECTION_COUNTS = 2.0


class CostModel(NamedTuple):
    """Samples that costs are estimated from: rows, centered, and queries.

    Keys are <query vector, row>, plus |row|^2 times `squares_sign`; an answer ends with the key
    `threshold`.
    """

    rows: Float64Array
    query_vectors: Float64Array
    thresholds: Float64Array
    squares_sign: float  # 1 or -1 under l2 for the furthest or the nearest rows, else 0

    def ruled_out(self) -> float:
        """The share of rows that are too near the center to be an answer."""
        if self.squares_sign < 0.0:
            return 0.0  # what is nearest may have any length
        lengths = np.sort(_lengths(self.rows))
        factors = _lengths(self.query_vectors)
        bounds = factors[:, None] * lengths + self.squares_sign * lengths**2
        return float((bounds < self.thresholds[:, None]).mean())

    def key_bounds_pay(self, query_vectors: Float64Array) -> tuple[bool, MeanQueryDirection | None]:
        """Whether key bounds of panels pay, and the mean query direction if it beats lengths.

        `query_vectors` are those of all sample queries.
        """
        mean_query = self.mean_query(query_vectors)
        of_lengths, of_direction = self.ruled_out(), self.ruled_out_along(mean_query)
        pays = max(of_lengths, of_direction) > _WORTH_AN_ORDER
        return pays, mean_query if pays and of_direction > of_lengths else None

    def mean_query(self, query_vectors: Float64Array) -> MeanQueryDirection | None:
        """The direction of the mean query vector; None under l2, where they have none in common."""
        total = query_vectors.sum(axis=0)
        length = float(np.linalg.norm(total))
        if self.squares_sign or not 1e-30 < length < 1e30:
            return None
        direction = total / length
        direction = Projection((direction / np.linalg.norm(direction))[np.newaxis])
        along, across = along_and_across(query_vectors, direction)
        return MeanQueryDirection(direction, float(along.mean()), float(across.mean()))

    def ruled_out_along(self, mean_query: MeanQueryDirection | None) -> float:
        """The share of rows that key bounds along and across the mean query direction rule out.

        Each row is bounded by the largest components of all rows from it on."""
        if mean_query is None:
            return 0.0
        along, across = along_and_across(self.rows, mean_query.direction)
        order = np.argsort(-mean_query.optimistic_score(along, across))
        most_along = np.maximum.accumulate(along[order][::-1])[::-1]
        most_across = np.maximum.accumulate(across[order][::-1])[::-1]
        ours, rest = along_and_across(self.query_vectors, mean_query.direction)
        bounds = ours[:, None] * most_along + rest[:, None] * most_across
        return float(((bounds < self.thresholds[:, None]) & (ours > 0.0)[:, None]).mean())


class MeanQueryDirection(NamedTuple):
    """The mean query direction, with the query vectors' mean components along and across it."""

    direction: Projection
    along: float
    across: float

    def optimistic_score(self, along: Float64Array, across: Float64Array) -> Float64Array:
        """The score that rows are ordered by."""
        return _DIRECTION_COUNTS * self.along * along + self.across * across


def along_and_across(vectors: Float64Array,
                     direction: Projection) -> tuple[Float64Array, Float64Array]:
    """Components of vectors along a direction, and lengths of the rest, rounded up."""
    along = direction.along(vectors)
    return along[:, 0], direction.residual_norms(vectors, along)


def _lengths(vectors: Float64Array) -> Float64Array:
    """Lengths of vectors, without a copy of all squares."""
    squares: Float64Array = np.einsum("ij,ij->i", vectors, vectors)
    return np.sqrt(squares)


def cost_model_of(rows: RowArray, centre: Float64Array, metric: MetricTraits,
                  queries: Float32Array, last: Int64Array, sample: Float64Array,
                  nearest: bool) -> CostModel:
    """Make a cost model from evenly spaced sample queries.

    `last` ends each query's answer; `sample` is a sample of rows, see `scalar.sample_of`.
    """
    some = slice(None, None, -(-len(queries) // _QUERIES))
    query_vectors = metric.query_vectors(queries[some], centre, nearest)
    ends = centred(rows[last[some]], centre, metric.normalized)
    thresholds = np.einsum("ij,ij->i", query_vectors, ends)
    sign = 0.0
    if metric.adds_squared_norm:
        sign = -1.0 if nearest else 1.0
        thresholds += sign * (ends**2).sum(axis=1)
    return CostModel(sample, query_vectors, thresholds, sign)


def pca_filter_for(cost_model: CostModel, n: int, width: int, seed: int) -> Projection | None:
    """Directions of a PCA filter of n rows with codes of `width` bytes; None: it doesn't pay."""
    rows, asked = cost_model.rows, (cost_model.query_vectors, cost_model.thresholds,
                                    cost_model.squares_sign)
    if pca_filter.lets_most_pass(rows, *asked):
        return None
    return pca_filter.choose(directions(rows, seed), rows, n, *asked, width, seed)
