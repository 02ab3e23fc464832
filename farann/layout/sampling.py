"""Choose the sample queries that a layout is made with; fewer for small sets."""

from __future__ import annotations

import numpy as np

from farann import _core
from farann._types import Float32Array, Float64Array, Int64Array, RowArray
from farann.contract.index_spec import IndexSpec
from farann.quantize import pca_filter
from farann.quantize.scalar import sample_of

# _WORK: multiply-adds that the exact answers to the sample queries may take.
# _MOST, _LEAST: limits on the number of sample queries.
# _ROWS_A_QUERY: rows for each sample query.
_WORK, _MOST, _LEAST, _ROWS_A_QUERY = 1e11, 2048, 64, 16
# _MANY: sample queries of small sets, where one for 16 rows would be fewer.
# _SMALL_WORK: if these took more multiply-adds than this, some 20 ms, there are only _FEW queries.
_MANY, _SMALL_WORK, _FEW = 512, 1 << 30, 256
# Small sets whose rows and queries lie in all directions have little to teach: samples are thinned.
# _SMALL: most rows of such a set.
# _ONE_IN: one in 4 sample queries and one in 8 rows is kept.
# _SPARED: products of rows and sample queries, in multiply-adds, below which nothing is thinned.
_SMALL, _ONE_IN, _SPARED = 1 << 14, 4, 1 << 28
# Most queries that order the rows of a run: each is compared with all rows of it.
_MOST_FOR_RUNS = 512
# Limits on the number of queries that layouts are compared with; see _WORK.
_MOST_HELD_OUT, _LEAST_HELD_OUT = 256, 128


def sample_queries(rows: RowArray, seed: int, queries: Float32Array | None) -> Float32Array:
    """Sample the queries that a layout is made with; None: rows serve as queries."""
    n, dim = rows.shape
    source = rows if queries is None or len(queries) == 0 else queries
    return _core.widened(source[sampled(len(source), n, dim, seed)])


def sampled(n_queries: int, n: int, dim: int, seed: int) -> Int64Array:
    """Numbers of the queries, out of `n_queries`, that a layout of n rows is made with."""
    most = min(max(n // _ROWS_A_QUERY, _MANY), _MOST)
    if n <= _ROWS_A_QUERY * _MANY and most * n * dim > _SMALL_WORK:
        most = _FEW
    number = min(n_queries, int(np.clip(_WORK / (n * dim), _LEAST, most)))
    return np.sort(np.random.default_rng(seed).choice(n_queries, number, replace=False))


def few_of(queries: Float32Array) -> Float32Array:
    """Some of the queries, for the order of runs of added rows."""
    return queries[:: -(-len(queries) // _MOST_FOR_RUNS)].copy()


def typical(rows: RowArray, centre: Float64Array, normalized: bool, query_sample: Float32Array,
            query_vectors: Float64Array) -> tuple[Float64Array, Float32Array, Float64Array]:
    """Sample of rows, centered, with the sample queries and their vectors.

    There are fewer of all these where there is little to be learned."""
    if len(rows) <= _SMALL and len(query_sample) * rows.size > _SPARED:
        some = sample_of(rows[:: 2 * _ONE_IN], centre, normalized)
        if pca_filter.lie_anywhere(some, query_vectors):
            return some, np.ascontiguousarray(query_sample[::_ONE_IN]), query_vectors[::_ONE_IN]
    return sample_of(rows, centre, normalized), query_sample, query_vectors


def samples_for(rows: RowArray, queries: Float32Array | None, unused: Float32Array | None,
                spec: IndexSpec, nearest: bool) -> tuple[Float32Array | None, Float32Array | None]:
    """The queries to make a layout with, and other ones to compare layouts with.

    None for the first: rows serve as queries. The second are from `unused` if there are any; None
    where layouts aren't compared. `nearest`: rows that serve as queries are mirrored, for the
    nearest rows.
    """
    n = len(rows)
    used = sampled(n, n, rows.shape[1], spec.seed) if n else np.empty(0, np.int64)
    if nearest and n and (queries is None or len(queries) == 0):
        queries = spec.metric.mirrored(_core.widened(rows[used]))
    if spec.cells != "auto" or n == 0:
        return queries, None
    number = int(np.clip(_WORK / rows.size, _LEAST_HELD_OUT, _MOST_HELD_OUT))
    if unused is not None and len(unused):
        return queries, unused[:number]
    fresh = np.setdiff1d(np.arange(n), used, assume_unique=True)
    draw = np.random.default_rng([spec.seed, 2])
    others = _core.widened(rows[np.sort(draw.choice(fresh, min(number, len(fresh)), False))])
    return queries, spec.metric.mirrored(others) if nearest else others
