"""Which queries a layout is made with, and how many: of small sets fewer."""

from __future__ import annotations

import numpy as np

from farann import _core
from farann._types import Float32Array, Float64Array, Int64Array, RowArray
from farann.contract.index_spec import IndexSpec
from farann.quantize import pca_filter
from farann.quantize.scalar import sample_of

# Sample queries: as many as cost about so many multiply-adds, one for so many rows.
_WORK, _MOST, _LEAST, _ROWS_A_QUERY = 1e11, 2048, 64, 16
# For sets so small that these would be fewer than _MANY there are as many, unless they took more
# multiply-adds than this, which is some 20 ms: then no more than a few.
_MANY, _SMALL_WORK, _FEW = 512, 1 << 30, 256
# Of so many rows or fewer, where they and the queries lie in so many directions that there is next
# to nothing to be learned, one in some of both will do; if that spares so many multiply-adds.
_SMALL, _ONE_IN, _SPARED = 1 << 14, 4, 1 << 28
# Queries that tell which rows of a run come first: each is compared with all rows of it.
_MOST_FOR_RUNS = 512
# Queries that layouts are compared with: as many as cost about _WORK multiply-adds to answer.
_MOST_HELD_OUT, _LEAST_HELD_OUT = 256, 128


def sample_queries(rows: RowArray, seed: int, queries: Float32Array | None) -> Float32Array:
    """Those of some queries that a layout is made with; None: rows are asked."""
    n, dim = rows.shape
    source = rows if queries is None or len(queries) == 0 else queries
    return _core.widened(source[sampled(len(source), n, dim, seed)])


def sampled(n_queries: int, n: int, dim: int, seed: int) -> Int64Array:
    """Which of `n_queries` a layout of n rows is made with."""
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
    """Typical rows, centred, the sample queries and their vectors; fewer of all these where there
    is little to be learned: more would find what some find."""
    if len(rows) <= _SMALL and len(query_sample) * rows.size > _SPARED:
        some = sample_of(rows[:: 2 * _ONE_IN], centre, normalized)
        if pca_filter.lie_anywhere(some, query_vectors):
            return some, np.ascontiguousarray(query_sample[::_ONE_IN]), query_vectors[::_ONE_IN]
    return sample_of(rows, centre, normalized), query_sample, query_vectors


def samples_for(rows: RowArray, queries: Float32Array | None, unused: Float32Array | None,
                spec: IndexSpec, nearest: bool) -> tuple[Float32Array | None, Float32Array | None]:
    """The queries to make a layout with, None: rows; and some that it isn't made with, if layouts
    are to be compared, from those that are `unused` if there are any.

    `nearest`: where rows serve as queries they are asked for the nearest.
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
