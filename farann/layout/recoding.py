"""Adding and removing codes of an index whose vectors were dropped.

Rows that are added are coded with the same center and rotation, in panels of their own; rows that
are removed give their places to others of the same scale.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from farann import _core
from farann._types import Float32Array, Float64Array, Int32Array, Int64Array, RowArray
from farann.contract.index_spec import IndexSpec
from farann.layout.build import WEIGHT_STEPS
from farann.layout.coding import Builder, whole_panels
from farann.quantize.records import CodeArrays, Layout, empty_halves
from farann.quantize.scalar import Extents, blocks_of, shape_of
from farann.runtime.process import ieee_arithmetic

# Added rows with a coordinate over this, as a multiple of the largest coded one, stay float32.
_LARGEST_EXTENDED = 1024.0
_SHAPING_ROWS = 1024  # most added rows that shape the rounding of 4-bit codes


def _as_order(codes: CodeArrays, n_rows: int) -> Int32Array:
    """The slot at each position, -1 for none."""
    if codes.slots is not None:
        return codes.slots
    order = np.arange(len(codes.panels), dtype=np.int32)
    return np.where(order < n_rows, order, np.int32(-1))


def without(layout: Layout, outlier_rows: RowArray,
            live: npt.NDArray[np.bool_]) -> tuple[Layout, Float32Array]:
    """Drop the rows that aren't live (by slot), and number the others anew."""
    codes = layout.codes
    numbers = np.append(np.where(live, np.cumsum(live) - 1, -1), -1)  # the last is that of -1
    slots = numbers[_as_order(codes, len(live))]
    outliers = numbers[codes.outliers]
    codes = replace(codes, slots=slots.astype(np.int32), outliers=outliers[outliers >= 0])
    return _closed_up(layout._replace(codes=codes)), outlier_rows[outliers >= 0]


def _closed_up(layout: Layout) -> Layout:
    """Let rows of one partition and scale fill each other's gaps, if that frees panels."""
    codes, partitions = layout
    assert codes.slots is not None
    there = np.flatnonzero(codes.slots >= 0)
    if len(there) == 0:  # outliers alone: one panel without rows
        return Layout(_taken(codes, np.full(16, -1), codes.inv_scale[:1]),
                      None if partitions is None else replace(
                          partitions, starts=np.minimum(partitions.starts, 0)))
    starts = np.zeros(1, np.int64) if partitions is None else partitions.starts
    partition = np.searchsorted(starts, there, side="right")
    inv_scale = codes.inv_scale[there // 16]
    order = np.lexsort((there, -inv_scale, partition))
    there, partition, inv_scale = there[order], partition[order], inv_scale[order]
    begins = np.flatnonzero(np.append(True, (np.diff(partition) != 0) | (np.diff(inv_scale) != 0)))
    counts = np.diff(np.append(begins, len(there)))
    panels = -(-counts // 16)
    if panels.sum() >= len(codes.inv_scale):
        return layout
    ends = np.cumsum(panels) * 16
    positions = np.full(int(ends[-1]), -1)
    positions[np.repeat(ends - 16 * panels - begins, counts) + np.arange(len(there))] = there
    if partitions is not None:
        of_panels = np.repeat(partition[begins], panels)
        partitions = replace(partitions, starts=16 * np.searchsorted(
            of_panels, np.arange(1, len(starts) + 1)).astype(np.int64))
    return Layout(_taken(codes, positions, np.repeat(inv_scale[begins], panels)), partitions)


def _taken(codes: CodeArrays, positions: Int64Array, inv_scale: Float32Array) -> CodeArrays:
    """The codes at some positions, whole panels of rows of the `inv_scale`; -1 for none."""
    assert codes.slots is not None and codes.low_nibble_norm is not None
    there = positions >= 0
    taken = codes.bytes_at(np.maximum(positions, 0))
    panels, low_nibbles = empty_halves(len(positions), taken.shape[1])
    _core.pack_codes(taken, np.where(there, np.arange(len(positions)), -1), True, panels,
                     low_nibbles)
    low_nibble_norm = np.where(there, codes.low_nibble_norm[np.maximum(positions, 0) // 16],
                               np.float32(0))
    squares = codes.squares
    if squares is not None:
        squares = np.where(there, squares[positions], np.float32(0))
    return replace(
        codes, panels=panels, low_nibbles=None if codes.low_nibbles is None else low_nibbles,
        inv_scale=inv_scale, low_nibble_norm=low_nibble_norm.reshape(-1, 16).max(axis=1),
        squares=squares, slots=np.where(there, codes.slots[positions], np.int32(-1)))


@ieee_arithmetic()
def extended(layout: Layout, n_rows: int, rows: RowArray, center: Float64Array,
             spec: IndexSpec, isa: str) -> tuple[Layout, npt.NDArray[np.bool_]]:
    """Code more rows like the n coded ones; return the layout and which rows are too large for it.

    With partitions the new rows belong to none, and are always searched.
    """
    codes, partitions = layout
    limit = codes.largest
    largest = np.empty(len(rows))
    if len(rows):
        _core.code_extents(rows, center, spec.metric.normalized, *codes.transform, isa, largest)
    # Files that are mapped aren't checked for NaN.
    far = largest > _LARGEST_EXTENDED * limit
    for block in blocks_of(len(rows)):
        far[block] |= ~np.isfinite(_core.widened(rows[block])).all(axis=1)
    rows, largest = rows[~far], largest[~far]
    if len(rows) == 0:
        return layout, far
    # Rows that are larger than any before get scales of their own.
    most = max(float(largest.max()), limit)
    extents = Extents(codes.transform, largest, most, np.empty(0, np.int64),
                      _core.CODE_SPAN * most / limit, WEIGHT_STEPS)
    shape = None
    if spec.width.is_coarse:
        sample = _core.widened(rows[:: -(-len(rows) // _SHAPING_ROWS)])
        shape = shape_of(codes.transform.rows(spec.metric.query_vectors(sample, center)))
    builder = Builder(rows, center, spec.metric, isa, extents, False)
    new = builder.lay_out(whole_panels(builder.by_size(np.arange(len(rows)))), width=spec.width,
                          shape=shape)
    of_new = _as_order(new, len(rows))
    both = [replace(codes, slots=_as_order(codes, n_rows)),
            replace(new, slots=np.where(of_new >= 0, of_new + np.int32(n_rows), np.int32(-1)))]
    if partitions is not None:
        both.reverse()
        partitions = replace(partitions, starts=partitions.starts + len(new.panels))
    merged: dict[str, Any] = {name: None if getattr(new, name) is None else np.concatenate(
        [getattr(part, name) for part in both])
        for name in ("panels", "low_nibbles", "inv_scale", "low_nibble_norm", "squares", "slots")}
    codes = replace(codes, bounds=codes.bounds.or_larger(new.bounds), **merged)
    return Layout(codes, partitions), far
