"""Making the codes of an index: which rotation, which scale, which rows they can't hold."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from farann import _core
from farann._types import Float32Array, Float64Array

ROTATION_ROUNDS = 3
# The codes' scale is set by the largest coordinate; these few rows may be left out of it.
_MOST_OUTLIERS = 16
# An outlier must be this much larger, else leaving it out gains nothing.
_OUTLIER_RATIO = 1.5
_ROWS_AT_ONCE = 4096
# Beyond this dimension float32 sums of squares are not bounded well enough; see metric.c.
_LARGEST_DIM = 16_000
# Pays for the rounding of sums in float64.
_UP = 1.0 + 1e-9


class RowCodes(NamedTuple):
    """8-bit codes of all coordinates, in the order of the rows."""

    codes: npt.NDArray[np.int8]  # (n or more, dim rounded up to whole groups)
    sums: npt.NDArray[np.int32]
    squares: Float64Array
    signs: npt.NDArray[np.int8]
    scale: float
    residual: float
    norm: float


def rotation_signs(dim: int, seed: int) -> npt.NDArray[np.int8]:
    """The signs of the rotation that evens coordinates out, (ROTATION_ROUNDS, dim)."""
    draw = np.random.default_rng(seed)
    return draw.integers(0, 2, (ROTATION_ROUNDS, dim), dtype=np.int8) * np.int8(2) - np.int8(1)


def centred(rows: Float32Array, centre: Float64Array, unit: bool) -> Float64Array:
    """What is coded: rows less the centre, of length 1 before that if `unit`."""
    vectors = rows.astype(np.float64)
    if unit:
        vectors /= np.sqrt(np.einsum("ij,ij->i", vectors, vectors))[:, None]
    vectors -= centre
    return vectors


def blocks_of(n: int) -> list[slice]:
    """Rows to take at a time."""
    return [slice(i, min(i + _ROWS_AT_ONCE, n)) for i in range(0, n, _ROWS_AT_ONCE)]


def code_rows(rows: Float32Array, centre: Float64Array, unit: bool, seed: int, isa: str,
              progress: bool, room: int = 0) -> RowCodes | None:
    """Code rows in 8 bits, or None where codes could not help: no spread, or too many dimensions.

    There is space for `room` more codes behind those of the rows.
    """
    n, dim = rows.shape
    if n == 0 or dim > _LARGEST_DIM:
        return None
    signs = rotation_signs(dim, seed)
    extents = np.empty(n)
    for block in tqdm(blocks_of(n), "measuring rows", disable=not progress):
        _core.code_extents(rows[block], centre, unit, signs, isa, extents[block])
    scale = _largest_coded(extents) / 127.0
    if not 1e-30 < scale < 1e30:
        return None
    codes = np.empty((n + room, -(-dim // 4) * 4), np.int8)
    sums, squares = np.empty(n, np.int32), np.empty(n)
    residual2 = norm2 = 0.0
    for block in tqdm(blocks_of(n), "coding rows", disable=not progress):
        e2, z2 = _core.encode_rows(rows[block], centre, unit, signs, scale, isa, codes[block],
                                   sums[block], squares[block])
        residual2, norm2 = max(residual2, e2), max(norm2, z2)
    squares[sums == _core.NOT_CODED] = 0.0
    return RowCodes(codes, sums, squares, signs, scale, float(np.sqrt(residual2) * _UP),
                    float(np.sqrt(norm2) * _UP))


def _largest_coded(extents: Float64Array) -> float:
    """The largest coordinate that the codes must hold: the first below a gap, if there is one."""
    if len(extents) <= 4 * _MOST_OUTLIERS:
        return float(extents.max())
    top = np.sort(np.partition(extents, -_MOST_OUTLIERS - 1)[-_MOST_OUTLIERS - 1 :])[::-1]
    gaps = np.flatnonzero((top[:-1] > _OUTLIER_RATIO * top[1:]) & (top[1:] > 0.0))
    return float(top[gaps[-1] + 1 if len(gaps) else 0])
