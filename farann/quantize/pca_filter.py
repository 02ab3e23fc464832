"""A PCA filter: along how many principal directions, and rows coded along them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from farann import _core
from farann._types import Float32Array, Float64Array, Int64Array, RowArray, UInt8Array
from farann.quantize.records import CodeBounds
from farann.quantize.scalar import blocks_of, centered, largest_of_panels
from farann.quantize.transform import MOST_DIRECTIONS, Projection, some_of
from farann.runtime.process import each

_NUMBERS = (4, 8, 12, 16, 24, 32, 48, 64, 96, MOST_DIRECTIONS)  # of directions that are tried
_SCAN_END = 8  # multiply-adds that the end of a scanned row costs, measured
_REFINE_ROW = 2500  # multiply-adds to refine a row at a random place in memory, measured
_REFINE_COORDINATE = 4  # and for each byte of it
_YOUNG = 2.0  # times the rows that pass: thresholds are looser at the beginning of a search
_WORTH_IT = 0.8  # most cost with a PCA filter, as a share of that of the whole scan
_LARGEST_SHARE = 0.35  # most bytes of codes with a PCA filter, as a share of the float32 rows'
_FEW = 256  # most sampled rows that participation ratios are estimated from
# Vectors of equal deviations hold at most sqrt(1/2) of their squares along half of all directions.
_LITTLE_MORE = 0.75
_UP = 1.0 + 1e-9  # factor that covers the rounding of sums in float64
_UP32 = 2.0**-23  # relative rounding of a number to float32, twice over


class AlongCodes(NamedTuple):
    """Panels of codes along a basis, the length of what is outside it in the last group."""

    panels: UInt8Array
    inv_scale: Float32Array
    bounds: CodeBounds


def lets_most_pass(sample: Float64Array, query_vectors: Float64Array, thresholds: Float64Array,
                   squares_sign: float) -> bool:
    """Whether no directions can rule out half of the rows, as these or the queries lie in too many.

    By Cauchy and Schwarz, m directions hold at most the root of m / d of the squares of vectors,
    where d, their participation ratio, is told by the products of some of them (trace and Frobenius
    norm of the second moment). What they leave of rows times what they leave of queries is allowed
    for; products along them are taken to be as small as they hardly ever are.
    """
    number = min(MOST_DIRECTIONS, sample.shape[1] // 2)
    some = sample[:: max(-(-len(sample) // _FEW), 1)]
    left = np.sqrt((1.0 - most_held(some, number)) * (1.0 - most_held(query_vectors, number)))
    lengths, query_lengths = (np.sqrt(np.einsum("ij,ij->i", each, each))
                              for each in (some, query_vectors))
    products = query_vectors @ some.T
    bounds = left * query_lengths[:, None] * lengths - 2.0 * np.sqrt(np.mean(products**2))
    bounds += squares_sign * lengths**2
    return bool((bounds >= thresholds[:, None]).mean() >= 0.5)


def lie_anywhere(sample: Float64Array, query_vectors: Float64Array) -> bool:
    """Whether half of all directions can hold little more than half of rows and of queries."""
    number = max(sample.shape[1] // 2, 1)
    return max(most_held(each[:: max(-(-len(each) // _FEW), 1)], number)
               for each in (sample, query_vectors)) <= _LITTLE_MORE


def most_held(vectors: Float64Array, number: int) -> float:
    """Most of the squares of vectors, as a share, that `number` directions can hold."""
    n = len(vectors)
    squares = np.einsum("ij,ij->i", vectors, vectors)
    products = vectors @ vectors.T
    total = max(float(np.mean(squares)), 1e-300)
    others = max(float(np.sum(products**2) - np.sum(squares**2)), 0.0) / max(n * (n - 1), 1)
    return min(np.sqrt(number * others) / total, 1.0) if n > 1 else 1.0


def choose(found: Float64Array, sample: Float64Array, n_rows: int, query_vectors: Float64Array,
           thresholds: Float64Array, squares_sign: float, width: int,
           seed: int) -> Projection | None:
    """Choose the number of directions that makes the search cheapest; None if none does.

    Of the directions `found` (m, dim) the first are taken. `sample` (s, dim) is of `n_rows`
    centered rows, whose whole codes have `width` bytes. Keys are <query vector, row>, plus |row|^2
    times `squares_sign`; the answers of sample queries end with the `thresholds` (q,). The `seed`
    is for a rotation within the space of the directions, which evens their codes out.
    """
    dim, sample = sample.shape[1], some_of(sample)
    found = found[: min(len(found), dim // 2, MOST_DIRECTIONS)]
    along = sample @ found.T
    query_along = query_vectors @ found.T
    squares = np.einsum("ij,ij->i", sample, sample)
    query_squares = np.einsum("ij,ij->i", query_vectors, query_vectors)
    # `least`: what products must reach; `products`: those along the directions up to now.
    least = thresholds[:, None] - squares_sign * squares
    products, bounds = np.zeros_like(least), np.empty_like(least)
    rest, query_rest = squares.copy(), query_squares.copy()
    best, best_cost, before = 0, _WORTH_IT * n_rows * (width + _SCAN_END), 0
    for m in _NUMBERS:
        if m > len(found) or n_rows * (m + 4 + _SCAN_END) >= best_cost or (
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
    return Projection(np.ascontiguousarray(rotation @ found[:best]))


def code_along(basis: Projection, rows: RowArray, center: Float64Array, normalized: bool,
               outliers: Int64Array, order: Int64Array, places: Int64Array,
               rest_step: float = 0.0, threads: int = 1) -> AlongCodes:
    """Code rows, centered, along a basis, each by the inverse scale of its panel.

    `order` has the slots of positions, `places` the position of each row. With a `rest_step` other
    than 0, scales are such that what is outside the basis fits its 127 steps. What rows are along
    the basis is computed twice, as keeping it would take the memory of a good part of the rows.
    """
    n, m = len(rows), len(basis)
    largest, rest = np.zeros(n), np.zeros(n)
    outlying = np.zeros(n, np.bool_)
    outlying[outliers] = True

    def coded_vectors(block: slice) -> Float64Array:
        vectors = centered(rows[block], center, normalized)
        vectors[outlying[block]] = 0.0  # float32 might not hold them
        return vectors

    def measure(block: slice) -> None:
        vectors = coded_vectors(block)
        along = basis.along(vectors)
        largest[block] = np.abs(along).max(axis=1)
        rest[block] = basis.residual_norms(vectors, along)

    each(measure, blocks_of(n), threads)
    # The floor: of rows that hardly lie along the basis, scales must not grow beyond float32.
    longest = max(float(largest.max()) * (1.0 + _UP32), 1e-6 * float(rest.max()), 1e-28)
    room = np.maximum(largest_of_panels(largest, order) * (1.0 + _UP32),
                      longest / _core.CODE_SPAN)
    if rest_step:
        room = np.maximum(room, largest_of_panels(rest, order) / (rest_step * (1.0 - _UP32)))
    inv_scale = (127.0 / room).astype(np.float32)
    of_row = np.where(places >= 0, inv_scale[np.maximum(places, 0) // _core.code_rows(1)],
                      np.float32(0.0))
    rest *= of_row
    if not rest_step:
        rest_step = max(float(rest.max()) / 127.0, 1e-30) * _UP
    panels = np.zeros((len(order), -(-m // 4) * 4 + 4), np.uint8)
    extremes: list[list[float]] = []  # of blocks, in any order

    def code(block: slice) -> None:
        along = basis.along(coded_vectors(block)).astype(np.float32)
        exact = along.astype(np.float64)
        scaled = exact * of_row[block, None]
        whole = np.clip(np.rint(scaled), -127.0, 127.0)
        codes = np.full((len(along), panels.shape[1]), 128, np.uint8)
        codes[:, :m] = whole + 128.0
        codes[:, -4:] = 128.0 + np.ceil(rest[block] / rest_step)[:, None]
        _core.pack_codes(codes, places[block], False, panels)
        extremes.append(
            [_largest_square(scaled - whole), _largest_square(scaled), 0.0, _largest_square(exact)])

    each(code, blocks_of(n), threads)
    residual, length, _, norm = np.sqrt(np.max(extremes, axis=0)).tolist()
    return AlongCodes(panels, inv_scale, CodeBounds(
        (residual + _UP32 * length) * _UP, length * (_UP + _UP32), 0.0, norm * (_UP + _UP32),
        rest_step))


def _largest_square(vectors: Float64Array) -> float:
    return float(np.einsum("ij,ij->i", vectors, vectors).max())
