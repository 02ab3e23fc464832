"""Partitions: rows grouped by k-means, and what is kept of each group."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from farann import _core
from farann._types import Float32Array, Float64Array, Int32Array, Int64Array, UInt8Array
from farann.quantize.query_sample import Moment
from farann.quantize.records import CellArrays
from farann.quantize.scalar import blocks_of, centred, empty_panels, largest_of_panels
from farann.quantize.transform import Turn
from farann.runtime.parallel import each
from farann.spec.metric_traits import MetricTraits

# "auto": fewer rows are scanned whole; more get so many cells for the root of their number. Where
# scanning costs little beside all that comes with a visit, cells are larger.
_FEW_ROWS, _CELLS_PER_ROOT = 50_000, 4
_FEWER_PER_ROOT = {"amx": 2}
# Sums over cells are those of so many groups of blocks, which threads take on: as many threads have
# work, and each group takes memory.
_GROUPS = 8


def number_of_cells(wanted: int | str | None, n: int, isa: str) -> int:
    """How many cells n rows get; 0 for none. `isa` is the level that will search them."""
    if wanted is None or n == 0:
        return 0
    if wanted == "auto":
        return 0 if n < _FEW_ROWS else int(_FEWER_PER_ROOT.get(isa, _CELLS_PER_ROOT) * n**0.5)
    return min(int(wanted), n)


class _Sums(NamedTuple):
    """Over the rows of each cell."""

    vectors: Float64Array
    squares: Float64Array
    spread: Float64Array

    def add(self, vectors: Float64Array, cells: Int32Array, factor: Float64Array) -> None:
        """Add centred rows, some of which belong to no cell."""
        order = np.argsort(cells, kind="stable")
        order = order[np.searchsorted(cells[order], 0):]
        if len(order) == 0:
            return
        found, first = np.unique(cells[order], return_index=True)
        vectors = vectors[order]
        self.vectors[found] += np.add.reduceat(vectors, first, axis=0)
        self.squares[found] += np.add.reduceat(np.einsum("ij,ij->i", vectors, vectors), first)
        seen = vectors @ factor
        self.spread[found] += np.add.reduceat(np.einsum("ij,ij->i", seen, seen), first)


def _sums_of(rows: Float32Array, centre: Float64Array, unit: bool, labels: Int32Array, n_cells: int,
             factor: Float64Array, threads: int) -> _Sums:
    blocks = blocks_of(len(rows))
    groups = [_Sums(np.zeros((n_cells, rows.shape[1])), np.zeros(n_cells), np.zeros(n_cells))
              for _ in range(min(_GROUPS, len(blocks)))]

    def add(group: int) -> None:
        for block in blocks[group::_GROUPS]:
            groups[group].add(centred(rows[block], centre, unit), labels[block], factor)

    each(add, range(len(groups)), threads)
    for other in groups[1:]:
        for total, part in zip(groups[0], other, strict=True):
            np.add(total, part, out=total)
    return groups[0]


def describe(rows: Float32Array, centre: Float64Array, metric: MetricTraits, labels: Int32Array,
             starts: Int64Array, asked: Moment, turn: Turn, isa: str,
             threads: int = 1) -> CellArrays:
    """Code what is expected of each cell: mean, deviation, and mean of squares.

    `labels` number the cells without gaps; -1 is a row of none. Deviations are those along what is
    `asked`.
    """
    n_cells, factor = len(starts) - 1, asked.root()
    sums = _sums_of(rows, centre, metric.normalized, labels, n_cells, factor, threads)
    counts = np.maximum(np.bincount(labels[labels >= 0], minlength=n_cells), 1)
    means, squares = sums.vectors / counts[:, None], sums.squares / counts
    variances = sums.spread / counts - ((means @ factor) ** 2).sum(axis=1)
    variances += asked.rest * np.maximum(squares - (means**2).sum(axis=1), 0.0)
    deviations = np.sqrt(np.maximum(variances, 0.0))
    return _coded(means, deviations, squares if metric.adds_squared_norm else None, starts, turn,
                  isa)


def code_means(means: Float64Array, turn: Turn, isa: str) -> tuple[UInt8Array, Float32Array,
                                                                   Float64Array]:
    """Codes of means as of centred rows, the weight of each panel, and the scale of all."""
    n, dim = means.shape
    largest = float(np.finfo(np.float32).max)
    means32 = np.clip(means, -largest, largest).astype(np.float32)
    nowhere, extents = np.zeros(dim), np.empty(n)
    _core.code_extents(means32, nowhere, False, *turn, isa, extents)
    order = np.full(_core.code_rows(n), -1)
    order[:n] = np.arange(n)
    limit = max(float(extents.max()), 1e-28)
    room = np.maximum(largest_of_panels(extents, order), limit / _core.CODE_SPAN)
    weights = (127.0 / room).astype(np.float32)
    of_mean = np.repeat(weights, _core.code_rows(1))[:n]
    codes = np.empty((n, turn.width), np.uint8)
    _core.encode_rows(means32, nowhere, False, *turn, of_mean, isa, codes, np.empty(n),
                      np.empty(n, np.float32))
    return codes, weights, of_mean.astype(np.float64)


def _coded(means: Float64Array, deviations: Float64Array, squares: Float64Array | None,
           starts: Int64Array, turn: Turn, isa: str) -> CellArrays:
    n = len(means)
    codes, weights, of_mean = code_means(means, turn, isa)
    scaled = deviations * of_mean
    unit = max(float(scaled.max()) / 127.0, 1e-30)
    spread = (128.0 + np.rint(scaled / unit)).astype(np.uint8)
    codes = np.hstack([codes, np.repeat(spread[:, None], 4, axis=1)])
    panels, _ = empty_panels(_core.code_rows(n), codes.shape[1], False)
    _core.pack_codes(codes, np.arange(n), False, panels)
    whole = None
    if squares is not None:
        whole = np.zeros(len(panels), np.float32)
        whole[:n] = squares * of_mean
    return CellArrays(starts=starts, panels=panels, weights=weights, squares=whole, unit=unit)
