"""A PCA filter: along how many principal directions, and rows coded along them."""

from __future__ import annotations

import numpy as np

from farann._types import Float64Array
from farann.quantize.transform import MOST_DIRECTIONS, Projection, some_of

_NUMBERS = (4, 8, 12, 16, 24, 32, 48, 64, 96, MOST_DIRECTIONS)  # of directions that are tried
_SCAN_END = 8  # multiply-adds that the end of a scanned row costs, measured
_REFINE_ROW = 2500  # multiply-adds to refine a row at a random place in memory, measured
_REFINE_COORDINATE = 4  # multiply-adds more for each byte of that row
_YOUNG = 2.0  # factor on the rows that pass: thresholds are looser at the beginning of a search
_WORTH_IT = 0.8  # most cost with a PCA filter, as a share of that of the whole scan
_LARGEST_SHARE = 0.35  # most bytes of codes with a PCA filter, as a share of the float32 rows'
_RATIO_ROWS = 256  # most sampled rows that participation ratios are estimated from
# Vectors of equal deviations hold at most sqrt(1/2) of their squares along half of all directions.
_LITTLE_MORE = 0.75


def lie_anywhere(sample: Float64Array, query_vectors: Float64Array) -> bool:
    """Whether half of all directions hold little more than half of rows and of queries.

    No filter pays then: by Cauchy and Schwarz, what it leaves of both lets most rows pass.
    """
    number = max(sample.shape[1] // 2, 1)
    return max(most_held(each[:: max(-(-len(each) // _RATIO_ROWS), 1)], number)
               for each in (sample, query_vectors)) <= _LITTLE_MORE


def most_held(vectors: Float64Array, number: int) -> float:
    """Most of the squares of vectors, as a share, that `number` directions can hold.

    It is at most the root of number / d, where d, their participation ratio, is told by the
    products of some of them (trace and Frobenius norm of the second moment).
    """
    n = len(vectors)
    squares = np.einsum("ij,ij->i", vectors, vectors)
    products = vectors @ vectors.T
    total = max(float(np.mean(squares)), 1e-300)
    others = max(float(np.sum(products**2) - np.sum(squares**2)), 0.0) / max(n * (n - 1), 1)
    return min(np.sqrt(number * others) / total, 1.0) if n > 1 else 1.0


def choose(directions: Float64Array, sample: Float64Array, n_rows: int, query_vectors: Float64Array,
           thresholds: Float64Array, squares_sign: float, width: int,
           seed: int) -> Projection | None:
    """Choose the number of directions that makes the search cheapest; None if none does.

    Of the `directions` (m, dim) the first are taken, and rotated among each other by the
    `seed`, which evens their codes out. `sample` (s, dim) is of `n_rows` centered rows, whose whole
    codes have `width` bytes. Keys and thresholds are those of `CostModel`.
    """
    dim, sample = sample.shape[1], some_of(sample)
    directions = directions[: min(len(directions), dim // 2, MOST_DIRECTIONS)]
    along = sample @ directions.T
    query_along = query_vectors @ directions.T
    squares = np.einsum("ij,ij->i", sample, sample)
    query_squares = np.einsum("ij,ij->i", query_vectors, query_vectors)
    # `least`: products that rows must reach; `products`: those along the directions so far.
    least = thresholds[:, None] - squares_sign * squares
    products, bounds = np.zeros_like(least), np.empty_like(least)
    rest, query_rest = squares.copy(), query_squares.copy()
    best, best_cost, before = 0, _WORTH_IT * n_rows * (width + _SCAN_END), 0
    for m in _NUMBERS:
        if m > len(directions) or n_rows * (m + 4 + _SCAN_END) >= best_cost or (
                width + m + 4 + 8 + 4 * (squares_sign != 0.0) > _LARGEST_SHARE * 4 * dim):
            break
        new = slice(before, m)
        products += query_along[:, new] @ along[:, new].T
        rest -= (along[:, new] ** 2).sum(axis=1)
        query_rest -= (query_along[:, new] ** 2).sum(axis=1)
        np.multiply.outer(np.sqrt(np.maximum(query_rest, 0.0)), np.sqrt(np.maximum(rest, 0.0)),
                          out=bounds)
        bounds += products
        left = _YOUNG * np.count_nonzero(bounds >= least) / least.size
        cost = n_rows * (m + 4 + _SCAN_END + left * (_REFINE_ROW + _REFINE_COORDINATE * width))
        if cost < best_cost:
            best, best_cost = m, cost
        before = m
    if best == 0:
        return None
    rotation = np.linalg.qr(np.random.default_rng(seed).standard_normal((best, best)))[0]
    return Projection(np.ascontiguousarray(rotation @ directions[:best]))
