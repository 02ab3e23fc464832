"""Making the codes of an index: which rotation, which scale, which rows they can't hold."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from farann import _core
from farann._types import Float32Array, Float64Array, Int64Array, Progress, RowArray, UInt8Array
from farann.quantize.records import CodeBounds
from farann.quantize.transform import Transform
from farann.runtime.process import each, ieee_arithmetic

# Rows that may be left out when the largest coordinate sets the scale of the codes.
_MOST_OUTLIERS = 16
# Outliers' largest coordinates are over 1.5 times the next row's; else leaving them out is no use.
_OUTLIER_RATIO = 1.5
# ROWS_AT_ONCE: rows of one block.
# _FEW_BLOCKS: blocks up to which all get the same number of rows, so that threads end together.
# _ROWS_IN_CACHE: rows that stay in caches in float64.
ROWS_AT_ONCE, _FEW_BLOCKS, _ROWS_IN_CACHE = 4096, 8, 256
# Rows sampled for the center: any center gives the right answers, a mean gives fast ones.
_CENTRE_SAMPLE = 16_384
# Sampled rows that are converted to float64 at a time.
_SAMPLE_AT_ONCE = 1024
# _SAMPLED: most rows in the sample that a layout is made for.
# FEW_ROWS: least rows in it; an index with fewer rows gets no choice of layout.
_SAMPLED, FEW_ROWS = 8192, 4096
# Between these limits the sample is half of the rows.
_ROWS_A_SAMPLE = 2
# Beyond this dimension float32 sums of squares are not bounded well enough; see metric.c.
LARGEST_DIM = 16_000
# Factor that covers the rounding of sums in float64.
_UP = 1.0 + 1e-9


def centred(rows: RowArray, centre: Float64Array, normalized: bool) -> Float64Array:
    """Subtract the center from rows, which are scaled to length 1 before if `normalized`."""
    vectors = _core.widened(rows).astype(np.float64)
    if normalized:
        vectors /= np.sqrt(np.einsum("ij,ij->i", vectors, vectors))[:, None]
    vectors -= centre
    return vectors


def sample_of(rows: RowArray, centre: Float64Array, normalized: bool) -> Float64Array:
    """Take evenly spaced rows, centered, as rows may be in an order."""
    number = min(max(len(rows) // _ROWS_A_SAMPLE, FEW_ROWS), _SAMPLED)
    return centred(rows[:: max(-(-len(rows) // number), 1)], centre, normalized)


@ieee_arithmetic()
def centre_of(rows: RowArray, normalized: bool) -> Float64Array:
    """The mean of a sample of the rows, or `normalized` of their directions, as float32 has it."""
    if len(rows) == 0:
        return np.zeros(rows.shape[1])
    sample = rows[:: -(-len(rows) // _CENTRE_SAMPLE)]
    total = np.zeros(rows.shape[1])
    for start in range(0, len(sample), _SAMPLE_AT_ONCE):
        part = _core.widened(sample[start : start + _SAMPLE_AT_ONCE])
        if not normalized:
            total += _core.sum_of_rows(part)
            continue
        directions = part.astype(np.float64)
        directions /= np.linalg.norm(directions, axis=1, keepdims=True)
        total += directions.sum(axis=0)
    mean: Float64Array = (total / len(sample)).astype(np.float32).astype(np.float64)
    return mean


def blocks_of(n: int) -> list[slice]:
    """Split n rows into blocks; a few blocks are of equal size, so that threads end together."""
    number = -(-n // ROWS_AT_ONCE)
    size = -(-n // number) if 0 < number <= _FEW_BLOCKS else ROWS_AT_ONCE
    return [slice(i, min(i + size, n)) for i in range(0, n, size)]


def parts_of(block: slice, size: int = _ROWS_IN_CACHE) -> list[slice]:
    """Split a block into parts, by default of rows that stay in caches in float64."""
    return [slice(i, min(i + size, block.stop)) for i in range(block.start, block.stop, size)]


class Extents(NamedTuple):
    """The extents that scales must cover, measured before rows are coded."""

    transform: Transform
    largest: Float64Array  # of each row, its largest |coordinate| once transformed, or |z'|
    limit: float  # the largest of all but the outliers
    outliers: Int64Array
    span: float = float(_core.CODE_SPAN)  # of inverse scales: the largest by the smallest
    steps: int = 0  # steps per octave that inverse scales are rounded to; 0: not rounded

    def inv_scale(self, largest: Float64Array) -> Float32Array:
        """One over the scales that take these largest coordinates to 127, not too far apart."""
        room = np.clip(largest, self.limit / self.span, self.limit)
        if self.steps:
            # Few different scales: rows of equal ones can share a panel when others have gone.
            room = self.limit * 2.0 ** (np.ceil(np.log2(room / self.limit) * self.steps)
                                        / self.steps)
        return (127.0 / room).astype(np.float32, copy=False)


def measure_rows(rows: RowArray, centre: Float64Array, normalized: bool, transform: Transform,
                 isa: str, progress: Progress, steps: int = 0, threads: int = 1) -> Extents | None:
    """Measure the extents of rows; None where codes could not help, as rows have no spread."""
    largest = np.empty(len(rows))

    def measure(block: slice) -> None:
        _core.code_extents(rows[block], centre, normalized, *transform, isa, largest[block])

    each(measure, blocks_of(len(rows)), threads, "measuring rows", progress)
    limit = _largest_coded(largest)
    if not 1e-28 < limit < 1e18:
        return None
    return Extents(transform, largest, limit, np.flatnonzero(largest > limit).astype(np.int64),
                   steps=steps)


class CodedBlock(NamedTuple):
    """8-bit codes of all coordinates of some rows."""

    rows: slice
    codes: UInt8Array  # c + 128, (n, dim rounded up to whole groups)
    squares: Float64Array
    low_nibble_norm: Float32Array  # |low nibbles - 7.5|


Laying = Callable[[CodedBlock], object]


def code_rows(rows: RowArray, centre: Float64Array, normalized: bool, extents: Extents,
              inv_scale: Float32Array, isa: str, lay: Laying, progress: Progress = False,
              threads: int = 1) -> Float64Array:
    """Code rows, each by its inverse scale, and lay them down block by block; codes of outliers
    are worth nothing.

    Gives the squares of the bounds (6,), see `bounds_from`. Blocks may be laid down at a time.
    """
    outlying = outliers_of(extents, len(rows))
    extremes: list[tuple[float, ...]] = []  # of blocks, in any order

    def code(block: slice) -> None:
        n = block.stop - block.start
        coded = CodedBlock(block, np.empty((n, extents.transform.width), np.uint8), np.empty(n),
                           np.empty(n, np.float32))
        extremes.append(_core.encode_rows(
            rows[block], centre, normalized, extents.transform.signs, extents.transform.pca_axes,
            np.where(outlying[block], np.float32(0.0), inv_scale[block]), isa, *coded[1:]))
        lay(coded)

    each(code, blocks_of(len(rows)), threads, "coding rows", progress)
    largest: Float64Array = np.array(extremes).reshape(-1, 6).max(axis=0, initial=0.0)
    return largest


def outliers_of(extents: Extents, n: int) -> npt.NDArray[np.bool_]:
    """Mask of the outliers among n rows."""
    outlying = np.zeros(n, np.bool_)
    outlying[extents.outliers] = True
    return outlying


def bounds_from(extremes: Float64Array, outside_usual: float = 0.0) -> CodeBounds:
    """Bounds from their squares, rounded up."""
    residual, length, unknown, norm, outside, outside_length = (np.sqrt(extremes) * _UP).tolist()
    return CodeBounds(residual, length, unknown, norm, 0.0, outside, outside_length, outside_usual)


def places_of(order: Int64Array, n: int) -> Int64Array:
    """The position of each of n rows in an order of slots with -1 for gaps; -1: nowhere."""
    places = np.full(n, -1, np.int64)
    there = np.flatnonzero(order >= 0)
    places[order[there]] = there
    return places


def largest_of_panels(values: npt.NDArray[Any], order: Int64Array) -> npt.NDArray[Any]:
    """The largest of each panel's values of rows in an order of slots; none is negative."""
    there = np.where(order >= 0, values[np.maximum(order, 0)], values.dtype.type(0))
    largest: npt.NDArray[Any] = there.reshape(-1, _core.code_rows(1)).max(axis=1)
    return largest


def _largest_coded(extents: Float64Array) -> float:
    """The largest coordinate that the codes must hold: the first below a gap, if there is one."""
    if len(extents) <= 4 * _MOST_OUTLIERS:
        return float(extents.max())
    top = np.sort(np.partition(extents, -_MOST_OUTLIERS - 1)[-_MOST_OUTLIERS - 1 :])[::-1]
    gaps = np.flatnonzero((top[:-1] > _OUTLIER_RATIO * top[1:]) & (top[1:] > 0.0))
    return float(top[gaps[-1] + 1 if len(gaps) else 0])
