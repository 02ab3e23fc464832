"""Coarse codes: 8-bit ones without their last bits, rounded so that likely queries see least of it.

Without vectors, but with partitions, they are those of what is left of a row less the mean of its
partition.
"""

from __future__ import annotations

import numpy as np

from farann._types import Float32Array, Float64Array, Progress, RowArray
from farann.contract.index_spec import INT4, CodeWidth
from farann.quantize.records import Origins
from farann.quantize.scalar import CodedBlock, Extents, Laying, blocks_of, centred, outliers_of
from farann.runtime.process import each

# Most dimensions for rounding that looks at all coordinates: it takes dim^2 steps a row.
_MOST_SHAPED = 256
# Least mean square along any direction, as a share of that of a query's coordinates.
_FLOOR = 0.1


def shape_of(query_vectors: Float64Array) -> Float64Array | None:
    """The shape that rounding errors of rows should have, from sample query vectors (q, dim).

    Gives the Cholesky factor L of their second moment: an error e costs |L' e|^2 on average. None
    where plain rounding does as well.
    """
    dim = query_vectors.shape[1]
    if len(query_vectors) == 0 or dim > _MOST_SHAPED:
        return None
    moment = query_vectors.T @ (query_vectors / len(query_vectors))
    mean = float(np.trace(moment)) / dim
    if not 1e-30 < mean < 1e30:
        return None
    factor: Float64Array = np.linalg.cholesky(moment / mean + _FLOOR * np.eye(dim))
    return factor


def code_coarse(rows: RowArray, centre: Float64Array, normalized: bool, extents: Extents,
                inv_scale: Float32Array, width: CodeWidth, shape: Float64Array | None,
                origins: Origins | None, lay: Laying, progress: Progress,
                threads: int = 1) -> Float64Array:
    """Code rows as `code_rows` does, but for the first bits alone, and relative to `origins`.

    The low nibbles, where these are dropped, come as close to the row as the high ones let them:
    what is proved about 8-bit codes then holds for these, too.
    """
    n, dim = rows.shape
    coded = ~outliers_of(extents, n)
    extremes: list[Float64Array] = []  # of blocks, in any order

    def code(block: slice) -> None:
        z = extents.transform.rows(centred(rows[block], centre, normalized))
        left = z if origins is None else z - origins.of(block, dim)
        scaled = np.where(coded[block, None], left * inv_scale[block, None], 0.0)
        first = width.step * _first_bits(scaled, width, shape) - 128.0
        if width.low_bits:  # they lie in whole nibbles, with the middle of what is dropped
            whole = first + width.step // 2
        else:
            whole = np.clip(np.rint(scaled), np.maximum(first, -127.0), first + (width.step - 1.0))
        codes = np.full((len(z), -(-dim // 4) * 4), 128, np.uint8)
        codes[:, :dim] = whole + 128.0
        squares = (z**2).sum(axis=1)
        lower = ((np.mod(whole + 128.0, 16.0) - INT4.middle) ** 2).sum(axis=1)
        nothing = np.zeros(len(z))
        extremes.append(np.stack([
            ((scaled - whole) ** 2).sum(axis=1), (scaled**2).sum(axis=1), lower,
            np.where(coded[block], squares, 0.0), nothing, nothing]).max(axis=1))
        lay(CodedBlock(block, codes, squares,
                       (np.sqrt(lower) * (1.0 + 2.0**-23)).astype(np.float32)))

    each(code, blocks_of(n), threads, "coding rows", progress)
    largest: Float64Array = np.array(extremes).reshape(-1, 6).max(axis=0, initial=0.0)
    return largest


def _first_bits(scaled: Float64Array, width: CodeWidth,
                shape: Float64Array | None) -> Float64Array:
    """The first bits of each coordinate's code + 128, as a number from 0 on.

    With a shape, coordinate after coordinate from the last, each makes good what the errors of
    those before it do to likely queries, as far as rounding lets it.
    """
    if shape is None:
        return _nearest(scaled, width)
    first, errors = np.empty_like(scaled), np.zeros_like(scaled)
    for i in range(scaled.shape[1] - 1, -1, -1):
        wanted = scaled[:, i] - errors[:, i + 1 :] @ (shape[i + 1 :, i] / shape[i, i])
        first[:, i] = _nearest(wanted, width)
        errors[:, i] = width.step * first[:, i] + (width.middle - 128.0) - scaled[:, i]
    return first


def _nearest(scaled: Float64Array, width: CodeWidth) -> Float64Array:
    first: Float64Array = np.clip(np.floor((scaled + 128.5) / width.step), 0.0,
                                  256 // width.step - 1.0)
    return first
