"""Samples of rows and queries, and choices by them: transforms, PCA filters, key bounds."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from farann import _core
from farann._types import Float32Array, Float64Array, Int64Array, RowArray
from farann.contract.index_spec import IndexSpec, MetricTraits
from farann.quantize import pca_filter, transform
from farann.quantize.scalar import LEAST_SAMPLE, centered, sample_of
from farann.quantize.transform import Projection, Transform, directions, directions_of
from farann.runtime import paging

# Multiply-adds that exact answers to sample queries may take: some seconds of one CPU.
_ANSWERS_WORK = 1e11
_MOST_SAMPLE_QUERIES = 2048  # most sample queries
_LEAST_SAMPLED = 64  # least sample queries
_ROWS_A_SAMPLED_QUERY = 16  # rows for each sample query, between these limits
_MANY = 512  # sample queries of small sets, where one query per 16 rows would be fewer
# Multiply-adds beyond which small sets have only _FEW_SAMPLED_QUERIES sample queries: some 20 ms.
_SMALL_SET_WORK = 1 << 30
_FEW_SAMPLED_QUERIES = 256
# Samples of small sets are thinned if rows and queries lie in all directions: few suffice.
_SMALL = 1 << 14  # most rows of such a set
_ONE_IN = 4  # one in 4 sample queries and one in 8 rows is kept
_SPARED = 1 << 28  # multiply-adds of rows and sample queries below which nothing is thinned
_MOST_FOR_RUNS = 512  # queries that order the rows of a run: each is compared with all rows of it
_MOST_HELD_OUT = 256  # most queries that layouts are compared with, if _ANSWERS_WORK allows
_LEAST_HELD_OUT = 128  # least queries that layouts are compared with
_QUERIES = 128  # most queries that costs are estimated from
# Key bounds are kept if sample queries can skip more than this share of the rows by them.
_WORTH_AN_ORDER = 0.1
_WORTH_SQUARES = 0.5  # likewise for lengths from the origin, in whose order .95 may take longer
_TIED = 1e-9  # relative difference below which a key and its bound are the same
# Weight of the mean query direction in the order of rows: 2 leaves the fewest rows to scan.
_DIRECTION_COUNTS = 2.0
# Most that the part outside the PCA axes may move keys, as a share of their root mean square.
_LARGEST_OUTSIDE = 0.15
_LEAST_SAVED = 0.1  # share of the coordinates that axes must save: more rows pass along them
_MOST_TURNED = 256  # dimensions; beyond, axes make preparing a query cost more than its search
_MOST_PASSING = 8  # rows of the sample, per query, that the axes may let pass
_ASKED = 128  # most sample queries that `_passing` counts rows for


def sample_queries(rows: RowArray, seed: int, queries: Float32Array | None) -> Float32Array:
    """Sample the queries that a layout is made with; None: rows serve as queries."""
    n, dim = rows.shape
    source = rows if queries is None or len(queries) == 0 else queries
    return _core.widened(paging.taken(source, sampled(len(source), n, dim, seed)))


def sampled(n_queries: int, n: int, dim: int, seed: int) -> Int64Array:
    """Numbers of the queries, out of `n_queries`, that a layout of n rows is made with."""
    most = min(max(n // _ROWS_A_SAMPLED_QUERY, _MANY), _MOST_SAMPLE_QUERIES)
    if n <= _ROWS_A_SAMPLED_QUERY * _MANY and most * n * dim > _SMALL_SET_WORK:
        most = _FEW_SAMPLED_QUERIES
    number = min(n_queries, int(np.clip(_ANSWERS_WORK / (n * dim), _LEAST_SAMPLED, most)))
    return np.sort(np.random.default_rng(seed).choice(n_queries, number, replace=False))


def few_of(queries: Float32Array) -> Float32Array:
    """Some of the queries, for the order of runs of added rows."""
    return queries[:: -(-len(queries) // _MOST_FOR_RUNS)].copy()


def typical(rows: RowArray, center: Float64Array, normalized: bool, query_sample: Float32Array,
            query_vectors: Float64Array) -> tuple[Float64Array, Float32Array, Float64Array]:
    """Sample of rows, centered, sample queries and their vectors; thinned as `_SMALL` says."""
    if len(rows) <= _SMALL and len(query_sample) * rows.size > _SPARED:
        some = sample_of(rows[:: 2 * _ONE_IN], center, normalized)
        if pca_filter.lie_anywhere(some, query_vectors):
            return some, np.ascontiguousarray(query_sample[::_ONE_IN]), query_vectors[::_ONE_IN]
    return sample_of(rows, center, normalized), query_sample, query_vectors


def samples_for(rows: RowArray, queries: Float32Array | None, unused: Float32Array | None,
                spec: IndexSpec, nearest: bool) -> tuple[Float32Array | None, Float32Array]:
    """The queries to make a layout with, and other ones to compare layouts and levels with.

    None for the first: rows serve as queries. The second are from `unused` if there are any.
    `nearest`: rows that serve as queries are mirrored, for the nearest rows.
    """
    n, dim = rows.shape
    used = sampled(n, n, dim, spec.seed)
    if nearest and (queries is None or len(queries) == 0):
        queries = spec.metric.mirrored(_core.widened(paging.taken(rows, used)))
    number = int(np.clip(_ANSWERS_WORK / rows.size, _LEAST_HELD_OUT, _MOST_HELD_OUT))
    if unused is not None and len(unused):
        return queries, unused[:number]
    fresh = np.delete(np.arange(n), used)
    draw = np.random.default_rng([spec.seed, 2])
    drawn = np.sort(draw.choice(fresh, min(number, len(fresh)), False))
    others = _core.widened(paging.taken(rows, drawn))
    return queries, spec.metric.mirrored(others) if nearest else others


# ---- the transform ----


def transform_for(rows: RowArray, seed: int, sample: Float64Array | None,
                  query_vectors: Float64Array) -> Transform:
    """Choose the transform of rows before they are coded, by a sample of them and query vectors;
    without a sample it is a rotation."""
    (n, dim), pca_axes = rows.shape, None
    if sample is not None and n >= LEAST_SAMPLE and dim <= _MOST_TURNED:
        pca_axes = pca_axes_for(sample, directions_of(query_vectors), seed)
    signs = transform.rotation_signs(dim if pca_axes is None else len(pca_axes), seed)
    return Transform(signs, pca_axes)


def pca_axes_for(sample: Float64Array, queries: Float64Array, seed: int) -> Projection | None:
    """The fewest principal axes, in whole groups, along which codes of rows are nearly as precise;
    None if these save less than a tenth of the coordinates."""
    dim = sample.shape[1]
    along = directions(sample, seed)
    outside = _left(queries, along).mean(axis=0) * _left(sample, along).max(axis=0)
    # The mean square of products, which are about zero on average as rows are centered.
    squares = (sample.T @ sample) * (queries.T @ queries)
    differ = np.sqrt(max(float(squares.sum()), 0.0) / (len(sample) * len(queries)))
    numbers = np.arange(4, min(len(along), transform.MOST_DIRECTIONS) + 1, 4)
    for number in numbers[outside[numbers - 1] <= _LARGEST_OUTSIDE * differ]:
        if number > (1.0 - _LEAST_SAVED) * 4 * -(-dim // 4):
            break
        axes = Projection(np.ascontiguousarray(along[:number]))
        if _passing(sample, queries, axes) <= _MOST_PASSING:
            return axes
    return None


def _passing(sample: Float64Array, queries: Float64Array, pca_axes: Projection) -> float:
    """Mean number of sampled rows per query that the axes can't tell from the best one."""
    # The common part of all rows shifts all keys of a query equally: it is left out.
    sample = sample - np.median(sample, axis=0)
    queries = queries[:: -(-len(queries) // _ASKED)]
    best = (sample @ queries.T).max(axis=0)
    along = pca_axes.along(sample) @ pca_axes.along(queries).T
    # A few rows that are large may be left out of the codes.
    far = np.quantile(_left(sample, pca_axes.directions)[:, -1], 0.99, method="lower")
    outside = _left(queries, pca_axes.directions)[:, -1] * far
    return float((along >= best - outside).sum(axis=0).mean())


def _left(vectors: Float64Array, axes: Float64Array) -> Float64Array:
    """Lengths of vectors outside the first direction, the first two, and so on."""
    along = np.cumsum((vectors @ axes.T) ** 2, axis=1)
    left: Float64Array = np.einsum("ij,ij->i", vectors, vectors)[:, None] - along
    return np.sqrt(np.maximum(left, 0.0, out=left), out=left)


# ---- costs ----


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
            return 0.0  # the nearest rows may have any length
        lengths, factors = (np.sqrt(np.einsum("ij,ij->i", vectors, vectors))
                            for vectors in (self.rows, self.query_vectors))
        bounds = factors[:, None] * lengths + self.squares_sign * lengths**2
        return float((bounds < self.thresholds[:, None]).mean())

    def squares_pay(self, center: Float64Array) -> bool:
        """Whether |x|^2 + |q|^2 + 2 |x| |q-| rules out more rows than lengths do, where q- is the
        negative part of q. It bounds |x - q|^2 if x has no negative numbers."""
        if self.squares_sign <= 0.0:
            return False
        offsets = self.query_vectors / -2.0
        queries = center + offsets
        squares, of_queries, negative, offsets = (
            np.einsum("ij,ij->i", vectors, vectors) for vectors in (
                self.rows + center, queries, np.minimum(queries, 0.0), offsets))
        bounds = squares + of_queries[:, None] + 2.0 * np.sqrt(np.outer(negative, squares))
        bounds = bounds * (1.0 + _TIED) - offsets[:, None]
        share = float((bounds < self.thresholds[:, None]).mean())
        return share > max(self.ruled_out(), _WORTH_SQUARES)

    def key_bounds_pay(
            self, mean_query: MeanQueryDirection | None) -> tuple[bool, MeanQueryDirection | None]:
        """Whether key bounds of panels pay, and the mean query direction if it beats lengths."""
        of_lengths, of_direction = self.ruled_out(), self.ruled_out_along(mean_query)
        pays = max(of_lengths, of_direction) > _WORTH_AN_ORDER
        return pays, mean_query if pays and of_direction > of_lengths else None

    def ruled_out_along(self, mean_query: MeanQueryDirection | None) -> float:
        """The share of rows that key bounds along and across the direction rule out."""
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


def mean_query_of(query_vectors: Float64Array, metric: MetricTraits) -> MeanQueryDirection | None:
    """The direction of the mean query vector; None under l2, where they have none in common."""
    total = query_vectors.sum(axis=0)
    length = float(np.linalg.norm(total))
    if metric.adds_squared_norm or not 1e-30 < length < 1e30:
        return None
    direction = total / length
    direction = Projection((direction / np.linalg.norm(direction))[np.newaxis])
    along, across = along_and_across(query_vectors, direction)
    return MeanQueryDirection(direction, float(along.mean()), float(across.mean()))


def along_and_across(vectors: Float64Array,
                     direction: Projection) -> tuple[Float64Array, Float64Array]:
    """Components of vectors along a direction, and lengths of the rest, rounded up."""
    along = direction.along(vectors)
    return along[:, 0], direction.residual_norms(vectors, along)


def cost_model_of(rows: RowArray, center: Float64Array, metric: MetricTraits,
                  query_vectors: Float64Array, last: Int64Array, sample: Float64Array,
                  nearest: bool) -> CostModel:
    """Make a cost model from evenly spaced sample queries, whose answers end with `last`."""
    some = slice(None, None, -(-len(query_vectors) // _QUERIES))
    query_vectors = query_vectors[some]
    ends = centered(paging.taken(rows, last[some]), center, metric.normalized)
    thresholds = np.einsum("ij,ij->i", query_vectors, ends)
    sign = 0.0
    if metric.adds_squared_norm:
        sign = -1.0 if nearest else 1.0
        thresholds += sign * (ends**2).sum(axis=1)
    return CostModel(sample, query_vectors, thresholds, sign)


def pca_filter_for(cost_model: CostModel, n: int, width: int, seed: int) -> Projection | None:
    """Directions of a PCA filter of n rows with codes of `width` bytes; None: it doesn't pay."""
    rows, query_vectors, thresholds, squares_sign = cost_model
    if pca_filter.lie_anywhere(rows, query_vectors):
        return None
    return pca_filter.choose(directions(rows, seed), rows, n, query_vectors, thresholds,
                             squares_sign, width, seed)
