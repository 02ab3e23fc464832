"""A first look along few directions: which ones, how many, and rows coded along them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from farann import _core
from farann._codes import blocks_of, centred
from farann._types import Float32Array, Float64Array

_NUMBERS = (4, 8, 12, 16, 24, 32, 48, 64, 96, 128)
_POWER_STEPS = 3
# Costs in multiply-adds, measured: the end of a scanned row, and a row scored again by all its
# coordinates, which lies anywhere in memory. Thresholds are looser while the search is young.
_SCAN_END = 8
_REFINE_ROW, _REFINE_COORDINATE = 2500, 4
_YOUNG = 2.0
# A first look must save this share of the whole scan, and codes must not grow beyond this share
# of the float32 rows.
_WORTH_IT = 0.8
_LARGEST_SHARE = 0.35
# A share of |y|^2 that pays for a basis that is not quite orthonormal, and for rounding.
_REST_SHARE = 1e-9
# Pays for the rounding of float64, and of a number to float32.
_UP, _UP32 = 1.0 + 1e-9, 2.0**-23


class AlongCodes(NamedTuple):
    """Rows coded along a basis, with the length of what is outside it in four last coordinates."""

    codes: npt.NDArray[np.int8]  # (n or more, m rounded up to whole groups, and one more)
    sums: npt.NDArray[np.int32]
    bounds: tuple[float, float, float, float]  # scale, residual, norm, unit of the rest


def directions(sample: Float64Array, seed: int) -> Float64Array:
    """Orthonormal directions (m, dim) along which the sample is long, the longest first.

    By orthogonal iteration (Rutishauser 1969): a few steps give directions that are good, and
    best ones aren't needed.
    """
    dim = sample.shape[1]
    m = min(_NUMBERS[-1] + 16, dim)
    basis = np.random.default_rng(seed).standard_normal((dim, m))
    for _ in range(_POWER_STEPS):
        basis = np.linalg.qr(sample.T @ (sample @ basis))[0]
    # Within their space, the principal axes.
    along = sample @ basis
    axes = np.linalg.eigh(along.T @ along)[1][:, ::-1]
    return np.linalg.qr(basis @ axes)[0].T.copy()


def choose(found: Float64Array, sample: Float64Array, n_rows: int, weights: Float64Array,
           thresholds: Float64Array, squared: bool, seed: int) -> Float64Array | None:
    """As many of the directions as make the search cheapest, or None if none do.

    Parameters
    ----------
    found : (m, dim)
    sample : (s, dim)
        Centred rows.
    n_rows : int
        How many there are of them in all.
    weights : (q, dim)
        Of sample queries: keys are <weight, row>, plus |row|^2 if `squared`.
    thresholds : (q,)
        The keys of the rows that their answers end with.
    seed : int
        For the rotation within the space of the directions, which evens their codes out.
    """
    dim = sample.shape[1]
    whole = -(-dim // 4) * 4
    along, query_along = sample @ found.T, weights @ found.T
    squares, query_squares = (sample**2).sum(axis=1), (weights**2).sum(axis=1)
    best, best_cost = 0, _WORTH_IT * n_rows * (whole + _SCAN_END)
    for m in _NUMBERS:
        if m > min(len(found), dim // 2) or (
                whole + m + 4 + 8 + 4 * squared > _LARGEST_SHARE * 4 * dim):
            break
        rest = np.sqrt(np.maximum(squares - (along[:, :m] ** 2).sum(axis=1), 0.0))
        query_rest = np.sqrt(np.maximum(
            query_squares - (query_along[:, :m] ** 2).sum(axis=1), 0.0))
        bounds = query_along[:, :m] @ along[:, :m].T + query_rest[:, None] * rest
        if squared:
            bounds += squares
        left = _YOUNG * float((bounds >= thresholds[:, None]).mean())
        cost = n_rows * (m + 4 + _SCAN_END + left * (_REFINE_ROW + _REFINE_COORDINATE * dim))
        if cost < best_cost:
            best, best_cost = m, cost
    if best == 0:
        return None
    turn = np.linalg.qr(np.random.default_rng(seed).standard_normal((best, best)))[0]
    return np.ascontiguousarray(turn @ found[:best])


def code_along(basis: Float64Array, rows: Float32Array, centre: Float64Array, unit: bool,
               not_coded: npt.NDArray[np.bool_], room: int = 0) -> AlongCodes:
    """Code rows, centred, along a basis; with space for `room` more codes behind theirs."""
    n, m = len(rows), len(basis)

    def look(block: slice) -> tuple[Float64Array, Float64Array]:
        vectors = centred(rows[block], centre, unit)
        vectors[not_coded[block]] = 0.0  # float32 might not hold them
        return vectors, vectors @ basis.T

    rest, largest = np.empty(n), 0.0
    for block in blocks_of(n):
        vectors, products = look(block)
        squares = np.einsum("ij,ij->i", vectors, vectors)
        largest = max(largest, float(np.abs(products.astype(np.float32)).max()))
        rest[block] = np.sqrt(np.maximum(
            squares - np.einsum("ij,ij->i", products, products), 0.0) + squares * _REST_SHARE)
    scale = max(largest / 127.0, 1e-30)
    rest_unit = max(float(rest.max()) / 127.0, 1e-30) * _UP
    codes = np.zeros((n + room, -(-m // 4) * 4 + 4), np.int8)
    sums = np.empty(n, np.int32)
    residual2 = norm2 = 0.0
    for block in blocks_of(n):
        # Once more, as keeping them takes more memory than the codes.
        left = look(block)[1].astype(np.float32).astype(np.float64)
        norm2 = max(norm2, float(np.einsum("ij,ij->i", left, left).max()))
        whole = np.rint(left / scale)
        codes[block, :m] = whole
        codes[block, -4:] = np.ceil(rest[block] / rest_unit)[:, None]
        sums[block] = np.where(not_coded[block], _core.NOT_CODED,
                               codes[block].sum(axis=1, dtype=np.int32))
        left -= whole * scale
        residual2 = max(residual2, float(np.einsum("ij,ij->i", left, left).max()))
    norm = norm2**0.5 * (1.0 + _UP32)
    return AlongCodes(codes, sums, (scale, residual2**0.5 + _UP32 * norm, norm, rest_unit))
