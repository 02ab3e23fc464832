"""Scalar codes of rows, with 8 bits a coordinate or fewer: their scales, bounds, and rows again.

Coarse codes are 8-bit ones without their last bits, rounded so that likely queries see least of it.
Without vectors, but with partitions, they code the difference of a row and the mean of its
partition.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from farann import _core
from farann._types import Float32Array, Float64Array, Int64Array, Progress, RowArray, UInt8Array
from farann.contract.index_spec import INT4, CodeWidth, MetricTraits
from farann.quantize.records import CodeBounds, Layout, Origins
from farann.quantize.transform import Transform
from farann.runtime import paging
from farann.runtime.process import each, ieee_arithmetic
from farann.runtime.progress import told

_MOST_LEFT_OUT = 16  # rows that may be left out when the largest coordinate sets the scale
# Rows are outliers if their largest coordinates are over 1.5 times the next row's.
_OUTLIER_RATIO = 1.5
BLOCK_ROWS = 4096  # rows of a block, the work of a thread
_FEW_BLOCKS = 8  # blocks up to which all get the same number of rows, so that threads end together
# Groups of blocks that sums over partitions are split into: at most 8 threads have work, and each
# group takes memory.
GROUPS = 8
_ROWS_IN_CACHE = 256  # rows of a part: up to 1,024 dimensions stay in caches of 2 MiB in float64
_CENTER_ROWS = 16_384  # rows sampled for the center: any is right, a mean makes searches fast
_SAMPLE_AT_ONCE = 1024  # sampled rows that are converted to float64 at a time
_SAMPLED = 8192  # most rows in the sample that a layout is made for
LEAST_SAMPLE = 4096  # least rows in that sample; an index with fewer gets no choice of layout
_ROWS_A_SAMPLE = 2  # between these limits the sample is half of the rows
# Beyond this dimension float32 sums of squares are not bounded well enough; see metric.c.
LARGEST_DIM = 16_000
_UP = 1.0 + 1e-9  # factor that covers the rounding of sums in float64
# Most dimensions for rounding that looks at all coordinates: it takes dim^2 steps a row.
_MOST_SHAPED = 256
# Least mean square along any direction, as a share of that of a query's coordinates: samples are
# small.
_FLOOR = 0.1


def centered(rows: RowArray, center: Float64Array, normalized: bool) -> Float64Array:
    """Subtract the center from rows, which are scaled to length 1 before if `normalized`."""
    vectors = _core.widened(rows).astype(np.float64)
    if normalized:
        vectors /= np.sqrt(np.einsum("ij,ij->i", vectors, vectors))[:, None]
    vectors -= center
    return vectors


def sample_of(rows: RowArray, center: Float64Array, normalized: bool) -> Float64Array:
    """Take evenly spaced rows, centered, as rows may be in an order."""
    number = min(max(len(rows) // _ROWS_A_SAMPLE, LEAST_SAMPLE), _SAMPLED)
    some = paging.taken(rows, np.s_[:: max(-(-len(rows) // number), 1)])
    return centered(some, center, normalized)


@ieee_arithmetic()
def center_of(rows: RowArray, normalized: bool) -> Float64Array:
    """The mean of a sample of the rows, or `normalized` of their directions, as float32 has it."""
    if len(rows) == 0:
        return np.zeros(rows.shape[1])
    sample = paging.taken(rows, np.s_[:: -(-len(rows) // _CENTER_ROWS)])
    total = np.zeros(rows.shape[1])
    for start in range(0, len(sample), _SAMPLE_AT_ONCE):
        part: npt.NDArray[Any] = _core.widened(sample[start : start + _SAMPLE_AT_ONCE])
        if normalized:
            part = part / np.linalg.norm(part.astype(np.float64), axis=1, keepdims=True)
        total += part.sum(axis=0, dtype=np.float64)
    mean: Float64Array = (total / len(sample)).astype(np.float32).astype(np.float64)
    return mean


def blocks_of(n: int) -> list[slice]:
    """Split n rows into blocks; a few blocks are of equal size, so that threads end together."""
    number = -(-n // BLOCK_ROWS)
    size = -(-n // number) if 0 < number <= _FEW_BLOCKS else BLOCK_ROWS
    return [slice(i, min(i + size, n)) for i in range(0, n, size)]


def parts_of(block: slice, size: int = _ROWS_IN_CACHE) -> list[slice]:
    """Split a block into parts, by default of rows that stay in caches in float64."""
    return [slice(i, min(i + size, block.stop)) for i in range(block.start, block.stop, size)]


def each_block(work: Callable[[slice], object], rows: RowArray, threads: int, what: str = "",
               progress: Progress = False) -> None:
    """Call `work` for every block of rows, which are read once and in order."""
    blocks = blocks_of(len(rows))
    if len(blocks) > _FEW_BLOCKS:
        _core.give_back_memory()  # what was freed before would add to the peak
    with paging.in_order(rows):
        each(work, blocks, threads, what, progress)


def each_in_groups(work: Callable[[int, slice], object], rows: RowArray, threads: int,
                   what: str = "", progress: Progress = False) -> None:
    """Call `work` for every block of rows, as `each_block`, and with the number of its group:
    blocks of one group come one after the other, so that sums by group don't depend on threads."""
    blocks = blocks_of(len(rows))
    with told(what, len(blocks), progress) as advance, paging.in_order(rows):
        def one(number: int) -> None:
            work(number % GROUPS, blocks[number])
            advance(1)

        for start in range(0, len(blocks), GROUPS):
            each(one, range(start, min(start + GROUPS, len(blocks))), threads)


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


def measure_rows(rows: RowArray, center: Float64Array, normalized: bool, transform: Transform,
                 isa: str, progress: Progress, steps: int = 0, threads: int = 1,
                 also: Callable[[RowArray, slice], object] | None = None) -> Extents | None:
    """Measure the extents of rows; None where codes could not help, as rows have no spread.

    `also` is called with the rows and each block, while its rows are at hand."""
    largest = np.empty(len(rows))

    def measure(block: slice) -> None:
        _core.code_extents(rows[block], center, normalized, *transform, isa, largest[block])
        if also is not None:
            also(rows, block)

    each_block(measure, rows, threads, "measuring rows", progress)
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


class Coarse(NamedTuple):
    """Codes of fewer bits than 8. Dropped low bits are taken as close to the row as the high ones
    allow, so that the proofs about 8-bit codes hold."""

    width: CodeWidth
    shape: Float64Array | None = None  # of rounding errors, see `shape_of`
    origins: Origins | None = None  # that codes are relative to

    def encode(self, z: Float64Array, inv_scale: Float32Array, coded: CodedBlock) -> Float64Array:
        """Code transformed rows, and give the largest squares as `encode_rows` does."""
        (n, dim), width, there = z.shape, self.width, inv_scale > 0.0
        left = z if self.origins is None else z - self.origins.of(coded.rows, dim)
        scaled = np.where(there[:, None], left * inv_scale[:, None], 0.0)
        first = width.step * self._first_bits(scaled) - 128.0
        if width.low_bits:  # they lie in whole nibbles, with the middle of the dropped bits
            whole = first + width.step // 2
        else:
            whole = np.clip(np.rint(scaled), np.maximum(first, -127.0), first + (width.step - 1.0))
        coded.codes[:, :dim], coded.codes[:, dim:] = whole + 128.0, 128
        coded.squares[:] = (z**2).sum(axis=1)
        lower = ((np.mod(whole + 128.0, 16.0) - INT4.middle) ** 2).sum(axis=1)
        coded.low_nibble_norm[:] = np.sqrt(lower) * (1.0 + 2.0**-23)
        largest: Float64Array = np.stack([
            ((scaled - whole) ** 2).sum(axis=1), (scaled**2).sum(axis=1), lower,
            np.where(there, coded.squares, 0.0), np.zeros(n), np.zeros(n)]).max(axis=1)
        return largest

    def _first_bits(self, scaled: Float64Array) -> Float64Array:
        """The first bits of each coordinate's code + 128. With a shape, from the last coordinate
        on, each corrects the errors of those before it, as likely queries see them."""
        width, shape = self.width, self.shape
        if shape is None:
            return self._nearest(scaled)
        first, errors = np.empty_like(scaled), np.zeros_like(scaled)
        for i in range(scaled.shape[1] - 1, -1, -1):
            wanted = scaled[:, i] - errors[:, i + 1 :] @ (shape[i + 1 :, i] / shape[i, i])
            first[:, i] = self._nearest(wanted)
            errors[:, i] = width.step * first[:, i] + (width.middle - 128.0) - scaled[:, i]
        return first

    def _nearest(self, scaled: Float64Array) -> Float64Array:
        step = self.width.step
        return np.clip(np.floor((scaled + 128.5) / step), 0.0, 256 // step - 1.0)


def shape_of(query_vectors: Float64Array) -> Float64Array | None:
    """The Cholesky factor L of the second moment of sample query vectors (q, dim): an error e of a
    row costs |L' e|^2 on average. None where plain rounding does as well."""
    dim = query_vectors.shape[1]
    if len(query_vectors) == 0 or dim > _MOST_SHAPED:
        return None
    moment = query_vectors.T @ (query_vectors / len(query_vectors))
    mean = float(np.trace(moment)) / dim
    if not 1e-30 < mean < 1e30:
        return None
    factor: Float64Array = np.linalg.cholesky(moment / mean + _FLOOR * np.eye(dim))
    return factor


def bounds_from(extremes: Float64Array, outside_usual: float = 0.0) -> CodeBounds:
    """Bounds from their squares, rounded up."""
    residual, length, unknown, norm, outside, outside_length = (np.sqrt(extremes) * _UP).tolist()
    return CodeBounds(residual, length, unknown, norm, 0.0, outside, outside_length, outside_usual)


def places_of(order: npt.NDArray[np.integer[Any]], n: int) -> Int64Array:
    """The position of each of n rows in an order of slots with -1 for gaps; -1: nowhere."""
    places = np.full(n, -1, np.int64)
    there = np.flatnonzero(order >= 0)
    places[order[there]] = there
    return places


def largest_of_panels(values: npt.NDArray[Any], order: npt.NDArray[np.integer[Any]],
                      least: float = 0.0) -> npt.NDArray[Any]:
    """The largest of each panel's values of rows in an order of slots; none is below `least`."""
    panel = _core.code_rows(1)
    largest = np.empty(len(order) // panel, values.dtype)
    for some in parts_of(slice(0, len(largest))):
        own = order[panel * some.start : panel * some.stop]
        there = np.where(own >= 0, values[np.maximum(own, 0)], values.dtype.type(least))
        largest[some] = there.reshape(-1, panel).max(axis=1)
    return largest


def _largest_coded(extents: Float64Array) -> float:
    """The largest coordinate that the codes must hold: the first below a gap, if there is one."""
    if len(extents) <= 4 * _MOST_LEFT_OUT:
        return float(extents.max())
    top = np.sort(np.partition(extents, -_MOST_LEFT_OUT - 1)[-_MOST_LEFT_OUT - 1 :])[::-1]
    gaps = np.flatnonzero((top[:-1] > _OUTLIER_RATIO * top[1:]) & (top[1:] > 0.0))
    return float(top[gaps[-1] + 1 if len(gaps) else 0])


class CodedRows(NamedTuple):
    """Rows that are there as codes, and outliers among them, whose vectors are kept."""

    layout: Layout
    outlier_rows: RowArray
    center: Float64Array
    metric: MetricTraits

    def _centered(self, slots: Int64Array) -> tuple[Float64Array, Float64Array]:
        """Rows less the center, and their squared lengths as codes have them (l2)."""
        (codes, partitions), dim = self.layout, len(self.center)
        positions = slots
        if codes.slots is not None:
            n = 1 + max(int(codes.slots.max(initial=-1)), int(slots.max(initial=-1)))
            positions = places_of(codes.slots, n)[slots]
        there = positions >= 0
        positions = positions[there]
        values = codes.bytes_at(positions).astype(np.float64)[:, :dim]
        values -= 128.0
        if codes.low_nibbles is None:
            values += INT4.middle
        inv_scale = codes.inv_scale.astype(np.float64)[positions // 16]
        values /= inv_scale[:, None]
        if partitions is not None and partitions.relative:
            values += partitions.means(partitions.at(positions), dim)
        vectors = np.empty((len(slots), dim))
        vectors[there] = codes.transform.rows_from(values)
        vectors[~there] = centered(self._outliers(slots[~there]), self.center,
                                   self.metric.normalized)
        squares = np.einsum("ij,ij->i", vectors, vectors)
        if codes.squares is not None:
            squares[there] = codes.squares[positions] / inv_scale
        return vectors, squares

    def _outliers(self, slots: Int64Array) -> RowArray:
        return self.outlier_rows[np.searchsorted(self.layout.codes.outliers, slots)]

    @ieee_arithmetic()
    def take(self, slots: Int64Array) -> Float32Array:
        """Rows as codes have them, of length 1 under cosine; those of outliers as they were."""
        rows = np.empty((len(slots), len(self.center)), np.float32)
        for block in blocks_of(len(slots)):
            vectors, _ = self._centered(slots[block])
            vectors += self.center
            if self.metric.normalized:
                vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-30)
            rows[block] = vectors
        outliers = np.flatnonzero(np.isin(slots, self.layout.codes.outliers))
        rows[outliers] = _core.widened(self._outliers(slots[outliers]))
        return rows

    @ieee_arithmetic()
    def scores(self, queries: Float32Array, slots: Int64Array) -> Float32Array:
        """Rough scores (n_queries, n_slots)."""
        result = np.empty((len(queries), len(slots)), np.float32)
        exact_queries = queries.astype(np.float64)
        if self.metric.normalized:
            exact_queries /= np.linalg.norm(exact_queries, axis=1, keepdims=True)
        for block in blocks_of(len(slots)):
            vectors, squares = self._centered(slots[block])
            with np.errstate(over="ignore"):  # infinite where float32 can't hold a score
                if self.metric.adds_squared_norm:
                    from_center = exact_queries - self.center
                    keys = -2.0 * (from_center @ vectors.T) + squares
                    keys += np.einsum("ij,ij->i", from_center, from_center)[:, None]
                    result[:, block] = np.sqrt(np.maximum(keys, 0.0))
                else:
                    result[:, block] = (exact_queries @ vectors.T
                                        + (exact_queries @ self.center)[:, None])
        return result
