"""Partitions: rows grouped by k-means, and what is kept of each group."""

from __future__ import annotations

import warnings
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from farann import _core
from farann._asked import Moment
from farann._codes import blocks_of, centred, empty_panels, largest_of_panels
from farann._rotation import Turn
from farann._types import Float32Array, Float64Array, Int32Array, Int64Array, UInt8Array

# "auto": fewer rows are scanned whole; more get so many cells for the root of their number. Where
# scanning costs little beside all that comes with a visit, cells are larger.
_FEW_ROWS, _CELLS_PER_ROOT = 50_000, 4
_FEWER_PER_ROOT = {"amx": 2}
# So many cells are found at once; more in two levels, which takes far less time.
_MOST_AT_ONCE = 256
# k-means: rows a cell to learn from, and rounds.
_ROWS_A_CELL, _ROUNDS = 64, 8
# Coordinates beyond are cut: where rows are so large, searches score all of them in float64.
_LARGEST = 1e16
# Lengths of which float32 holds the squares, and whose inverses are good.
_SHORTEST, _LONGEST = 1e-15, 1e15


class CellArrays(NamedTuple):
    """What `_core.Cells` is made of, and what a file keeps of it."""

    starts: Int64Array
    panels: UInt8Array
    weights: Float32Array
    squares: Float32Array | None
    unit: float
    relative: bool = False  # whether codes are those of rows less the mean of their cell

    def at(self, positions: Int64Array) -> Int64Array:
        """The cells that positions of codes belong to; -1 for none."""
        numbers = np.searchsorted(self.starts, positions, side="right") - 1
        return np.where(numbers < len(self.starts) - 1, numbers, -1)

    def means(self, numbers: npt.NDArray[np.integer[Any]], dim: int) -> Float64Array:
        """What rows of some cells are coded relative to: means as coded, turned; 0 for -1."""
        panel, cell = numbers // 16, numbers % 16
        width = self.panels.shape[1]
        codes = self.panels.reshape(-1, width // 4, 16, 4)[panel, :, cell]
        units = np.where(numbers < 0, 0.0, 1.0 / self.weights.astype(np.float64)[panel])
        means: Float64Array = units[:, None] * (codes.reshape(len(numbers), width)[:, :dim] - 128.0)
        return means


class Origins(NamedTuple):
    """What each row is coded relative to: the mean of its cell."""

    cells: CellArrays
    labels: Int32Array  # the cell of each row; -1 for none

    def of(self, rows: slice, dim: int) -> Float64Array:
        """The means of some rows, turned."""
        return self.cells.means(self.labels[rows], dim)


def number_of_cells(wanted: int | str | None, n: int, isa: str) -> int:
    """How many cells n rows get; 0 for none. `isa` is the level that will search them."""
    if wanted is None or n == 0:
        return 0
    if wanted == "auto":
        return 0 if n < _FEW_ROWS else int(_FEWER_PER_ROOT.get(isa, _CELLS_PER_ROOT) * n**0.5)
    return min(int(wanted), n)


class Space(NamedTuple):
    """Where cells are made: rows that are near have about the same keys.

    With a moment of queries, directions that these look along count more.
    """

    centre: Float64Array
    unit: bool
    moment: Moment | None = None

    def of(self, rows: Float32Array) -> Float32Array:
        """Rows as points."""
        points = _moderate(rows, self.centre, self.unit)
        return points if self.moment is None else self.moment.weighed(points)


def partition(rows: Float32Array, space: Space, n_cells: int, seed: int) -> Int32Array:
    """The cell of each row, by k-means (Lloyd 1982).

    Many cells are found in two levels: the rows are split, and each part is split again into as
    many cells as are its share. A row's cell is the nearest of all.
    """
    return _nearest(rows, space, _means(rows, space, n_cells, seed))


def _means(rows: Float32Array, space: Space, n_cells: int, seed: int) -> Float32Array:
    """The means of cells."""
    if n_cells <= _MOST_AT_ONCE:
        sample = _sample(rows, n_cells * _ROWS_A_CELL)
        return k_means(space.of(rows[sample]), n_cells, seed)
    n_parts = round(n_cells**0.5)
    part = partition(rows, space, n_parts, seed)
    order = np.argsort(part, kind="stable")
    bounds = np.searchsorted(part[order], np.arange(n_parts + 1))
    means = []
    for p in range(n_parts):
        members = np.sort(order[bounds[p] : bounds[p + 1]])
        if len(members) == 0:
            continue
        number = max(1, round(n_cells * len(members) / len(rows)))
        sample = members[_sample(members, number * _ROWS_A_CELL)]
        means.append(k_means(space.of(rows[sample]), number, seed))
    return np.concatenate(means)


def _sample(rows: npt.NDArray[np.generic], most: int) -> Int64Array:
    return np.arange(0, len(rows), max(1, len(rows) // most))


def _moderate(rows: Float32Array, centre: Float64Array, unit: bool) -> Float32Array:
    """Centred rows, of which float32 can hold the squares; larger ones are cut to that."""
    vectors: Float32Array
    with np.errstate(over="ignore"):
        if not unit:
            vectors = rows - centre.astype(np.float32)
        else:
            lengths = np.sqrt(np.einsum("ij,ij->i", rows, rows))
            if not (_SHORTEST < lengths.min(initial=1.0) <= lengths.max(initial=1.0) < _LONGEST):
                return centred(rows, centre, unit).astype(np.float32)
            vectors = rows / lengths[:, None]
            vectors -= centre.astype(np.float32)
    return np.clip(vectors, -_LARGEST, _LARGEST, out=vectors)


def k_means(sample: Float32Array, n_cells: int, seed: int) -> Float32Array:
    """Means of so many groups of a sample, by scikit-learn's k-means (Lloyd 1982)."""
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning

    n_cells = min(n_cells, len(sample))
    model = KMeans(n_cells, init="random", n_init=1, max_iter=_ROUNDS, tol=0.0,
                   algorithm="lloyd", random_state=seed % 2**32)  # it takes no more
    with warnings.catch_warnings():
        # So few rounds don't converge, and groups of equal rows can't be told apart.
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(sample)
    return model.cluster_centers_.astype(np.float32)  # type: ignore[no-any-return]


def _nearest(rows: Float32Array, space: Space, means: Float32Array) -> Int32Array:
    """The number of the mean that is nearest to each row: a search as any other."""
    from farann.index import Index

    index = Index(metric="l2", threads=1)
    index.add(means)
    labels = np.empty(len(rows), np.int32)
    for block in blocks_of(len(rows)):
        labels[block] = index.search_nearest(space.of(rows[block]), 1).ids[:, 0]
    return labels


def describe(rows: Float32Array, centre: Float64Array, metric: int, labels: Int32Array,
             starts: Int64Array, asked: Moment, turn: Turn, isa: str) -> CellArrays:
    """Code what is expected of each cell: mean, deviation, and mean of squares.

    `labels` number the cells without gaps; -1 is a row of none. Deviations are those along what is
    `asked`.
    """
    unit, squared = _core.METRICS[metric] == "cosine", _core.METRICS[metric] == "l2"
    n_cells, dim = len(starts) - 1, rows.shape[1]
    sums, squares, spread = np.zeros((n_cells, dim)), np.zeros(n_cells), np.zeros(n_cells)
    factor, rest = asked.root(), asked.rest
    for block in blocks_of(len(rows)):
        vectors, cells = centred(rows[block], centre, unit), labels[block]
        held = cells >= 0
        order = np.argsort(cells[held], kind="stable")
        found, first = np.unique(cells[held][order], return_index=True)
        if len(found):
            sums[found] += np.add.reduceat(vectors[held][order], first, axis=0)
            squares[found] += np.add.reduceat(
                np.einsum("ij,ij->i", vectors, vectors)[held][order], first)
            seen = vectors @ factor
            spread[found] += np.add.reduceat(
                np.einsum("ij,ij->i", seen, seen)[held][order], first)
    counts = np.maximum(np.bincount(labels[labels >= 0], minlength=n_cells), 1)
    means, squares = sums / counts[:, None], squares / counts
    variances = spread / counts - ((means @ factor) ** 2).sum(axis=1)
    variances += rest * np.maximum(squares - (means**2).sum(axis=1), 0.0)
    deviations = np.sqrt(np.maximum(variances, 0.0))
    return _coded(means, deviations, squares if squared else None, starts, turn, isa)


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
    return CellArrays(starts, panels, weights, whole, unit)
