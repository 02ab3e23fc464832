"""Making the codes of an index: which rotation, which scale, which rows they can't hold."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from farann import _core
from farann._types import Float32Array, Float64Array, Int64Array

ROTATION_ROUNDS = 3
# The codes' scale is set by the largest coordinate; these few rows may be left out of it.
_MOST_OUTLIERS = 16
# An outlier must be this much larger, else leaving it out gains nothing.
_OUTLIER_RATIO = 1.5
_ROWS_AT_ONCE = 16_384
# Beyond this dimension float32 sums of squares are not bounded well enough; see metric.c.
_LARGEST_DIM = 16_000


class CodeArrays(NamedTuple):
    """What `_core.Codes` is made of, and what a file keeps of it."""

    codes: npt.NDArray[np.int8]
    sums: npt.NDArray[np.int32]
    norms: Float32Array
    signs: npt.NDArray[np.int8]
    outliers: Int64Array
    scale: float
    residual: float
    norm: float


def make_codes(rows: Float32Array, centre: Float64Array, metric: int, seed: int,
               progress: bool) -> CodeArrays | None:
    """Code rows in 8 bits, or None where codes could not help: no spread, or too many dimensions."""
    n, dim = rows.shape
    if n == 0 or dim > _LARGEST_DIM:
        return None
    draw = np.random.default_rng(seed)
    signs = draw.integers(0, 2, (ROTATION_ROUNDS, dim), dtype=np.int8) * np.int8(2) - np.int8(1)
    unit = metric == _core.METRICS.index("cosine")
    extents = np.empty(n)
    blocks = [slice(i, min(i + _ROWS_AT_ONCE, n)) for i in range(0, n, _ROWS_AT_ONCE)]
    for block in tqdm(blocks, "measuring rows", disable=not progress):
        _core.code_extents(rows[block], centre, unit, signs, extents[block])
    largest = _largest_coded(extents)
    scale = largest / 127.0
    if not 1e-30 < scale < 1e30:
        return None
    groups = -(-dim // 4)
    n_padded = _core.code_rows(n)
    codes = np.zeros((n_padded, 4 * groups), np.int8)
    sums, norms = np.zeros(n_padded, np.int32), np.full(n_padded, np.nan, np.float32)
    residual2 = norm2 = 0.0
    for block in tqdm(blocks, "coding rows", disable=not progress):
        held = slice(block.start, _core.code_rows(block.stop))
        e2, z2 = _core.encode_rows(rows[block], centre, metric, signs, scale, codes[held],
                                   sums[held], norms[held])
        residual2, norm2 = max(residual2, e2), max(norm2, z2)
    outliers = np.flatnonzero(np.isnan(norms[:n])).astype(np.int64)
    up = 1.0 + 1e-9  # pays for the rounding of these sums
    return CodeArrays(codes, sums, norms, signs, outliers, scale,
                      float(np.sqrt(residual2) * up), float(np.sqrt(norm2) * up))


def _largest_coded(extents: Float64Array) -> float:
    """The largest coordinate that the codes must hold: the first below a gap, if there is one."""
    if len(extents) <= 4 * _MOST_OUTLIERS:
        return float(extents.max())
    top = np.sort(np.partition(extents, -_MOST_OUTLIERS - 1)[-_MOST_OUTLIERS - 1 :])[::-1]
    gaps = np.flatnonzero((top[:-1] > _OUTLIER_RATIO * top[1:]) & (top[1:] > 0.0))
    return float(top[gaps[-1] + 1 if len(gaps) else 0])
