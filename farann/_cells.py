"""Partitions: rows grouped by k-means, and what is kept of each group."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from farann import _core
from farann._codes import blocks_of, centred, empty_panels, largest_of_panels, rotation_signs
from farann._types import Float32Array, Float64Array, Int32Array, Int64Array, UInt8Array

# "auto": fewer rows are scanned whole; more get so many cells for the root of their number.
_FEW_ROWS, _CELLS_PER_ROOT = 50_000, 4
# So many cells are found at once; more in two levels, which takes far less time.
_MOST_AT_ONCE = 256
# k-means: rows a cell to learn from, and rounds.
_ROWS_A_CELL, _ROUNDS = 64, 8
# Directions of queries that deviations of cells are told apart along.
_MOST_AXES = 96
# Of cells in two levels: so many parts are looked at for the cell of a row.
_NEAR_PARTS = 8
# Coordinates beyond are cut: where rows are so large, searches score all of them in float64.
_LARGEST = 1e16


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


def number_of_cells(wanted: int | str | None, n: int) -> int:
    """How many cells n rows get; 0 for none."""
    if wanted is None or n == 0:
        return 0
    if wanted == "auto":
        return 0 if n < _FEW_ROWS else int(_CELLS_PER_ROOT * n**0.5)
    return min(int(wanted), n)


def partition(rows: Float32Array, centre: Float64Array, unit: bool, n_cells: int,
              seed: int) -> Int32Array:
    """The cell of each row, by k-means (Lloyd; scikit-learn's mini-batch variant).

    Many cells are found in two levels: the rows are split, and each part is split again into as
    many cells as are its share. A row's cell is the nearest of several parts.
    """
    if n_cells <= _MOST_AT_ONCE:
        sample = _sample(rows, n_cells * _ROWS_A_CELL)
        centres = k_means(_moderate(rows[sample], centre, unit), n_cells, seed)
        return _nearest(rows, centre, unit, centres)
    return _nearest_of_parts(rows, centre, unit, _parts_of(rows, centre, unit, n_cells, seed))


def _parts_of(rows: Float32Array, centre: Float64Array, unit: bool, n_cells: int,
              seed: int) -> list[Float32Array]:
    """Split the rows, and each part of them into as many cells as are its share: their centres."""
    n_parts = round(n_cells**0.5)
    part = partition(rows, centre, unit, n_parts, seed)
    order = np.argsort(part, kind="stable")
    bounds = np.searchsorted(part[order], np.arange(n_parts + 1))
    centres = []
    for p in range(n_parts):
        members = np.sort(order[bounds[p] : bounds[p + 1]])
        if len(members) == 0:
            continue
        number = max(1, round(n_cells * len(members) / len(rows)))
        sample = members[_sample(members, number * _ROWS_A_CELL)]
        centres.append(k_means(_moderate(rows[sample], centre, unit), number, seed))
    return centres


def _nearest_of_parts(rows: Float32Array, centre: Float64Array, unit: bool,
                      parts: list[Float32Array]) -> Int32Array:
    """The nearest cell of each row, of those in the parts next to it."""
    labels = np.zeros(len(rows), np.int32)
    middles = np.stack([cells.mean(axis=0) for cells in parts])
    firsts = np.cumsum([0, *map(len, parts[:-1])])
    for block in blocks_of(len(rows)):
        vectors = _moderate(rows[block], centre, unit)
        far = -_closeness(vectors, middles)
        near = np.argpartition(far, min(_NEAR_PARTS, len(parts)) - 1, axis=1)[:, :_NEAR_PARTS]
        asked = np.zeros(far.shape[::-1], np.bool_)
        asked[near.T, np.arange(len(vectors))] = True
        best = np.full(len(vectors), -np.inf, np.float32)
        for cells, first, of_part in zip(parts, firsts, asked, strict=True):
            close = np.flatnonzero(of_part)
            scores = _closeness(vectors[close], cells)
            nearest = np.argmax(scores, axis=1)
            score = scores[np.arange(len(close)), nearest]
            better = score > best[close]
            best[close[better]] = score[better]
            labels[block][close[better]] = nearest[better] + first
    return labels


def _closeness(vectors: Float32Array, centres: Float32Array) -> Float32Array:
    """What is largest for the nearest centre: half of what the square of its distance lacks."""
    closeness: Float32Array = vectors @ centres.T - 0.5 * (centres**2).sum(axis=1)
    return closeness


def _sample(rows: npt.NDArray[np.generic], most: int) -> Int64Array:
    return np.arange(0, len(rows), max(1, len(rows) // most))


def _moderate(rows: Float32Array, centre: Float64Array, unit: bool) -> Float32Array:
    """Centred rows, of which float32 can hold the squares; larger ones are cut to that."""
    return np.clip(centred(rows, centre, unit), -_LARGEST, _LARGEST).astype(np.float32)


def k_means(sample: Float32Array, n_cells: int, seed: int) -> Float32Array:
    """Means of so many groups of a sample, by scikit-learn's mini-batch k-means."""
    from sklearn.cluster import MiniBatchKMeans

    n_cells = min(n_cells, len(sample))
    model = MiniBatchKMeans(n_cells, init="random", n_init=1, max_iter=_ROUNDS,
                            batch_size=max(1024, len(sample) // 4), max_no_improvement=None,
                            reassignment_ratio=0.0, random_state=seed)
    model.fit(sample)
    return model.cluster_centers_.astype(np.float32)  # type: ignore[no-any-return]


def _nearest(rows: Float32Array, centre: Float64Array, unit: bool,
             centres: Float32Array) -> Int32Array:
    labels = np.empty(len(rows), np.int32)
    for block in blocks_of(len(rows)):
        labels[block] = np.argmax(_closeness(_moderate(rows[block], centre, unit), centres), axis=1)
    return labels


def describe(rows: Float32Array, centre: Float64Array, metric: int, labels: Int32Array,
             starts: Int64Array, asked: Float64Array, seed: int, isa: str) -> CellArrays:
    """Code what is expected of each cell: mean, deviation, and mean of squares.

    `labels` number the cells without gaps; -1 is a row of none. Deviations are those along the
    weights of sample queries, `asked`.
    """
    unit, squared = _core.METRICS[metric] == "cosine", _core.METRICS[metric] == "l2"
    n_cells, dim = len(starts) - 1, rows.shape[1]
    sums, squares, spread = np.zeros((n_cells, dim)), np.zeros(n_cells), np.zeros(n_cells)
    factor, rest = _root_of_moment(asked)
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
    return _coded(means, deviations, squares if squared else None, starts, seed, isa)


def _root_of_moment(weights: Float64Array) -> tuple[Float64Array, float]:
    """F and m with F F' + m I the second moment of the weights' directions.

    Few weights say little, so all directions count a little; of many only the main ones are told
    apart.
    """
    n, dim = weights.shape
    directions = weights / np.maximum(np.linalg.norm(weights, axis=1, keepdims=True), 1e-300)
    moments, axes = np.linalg.eigh((directions.T @ directions + np.eye(dim)) / (n + dim))
    others = moments[:-_MOST_AXES]
    rest = float(others.mean()) if len(others) else 0.0
    main = slice(len(others), None)
    return axes[:, main] * np.sqrt(np.maximum(moments[main] - rest, 0.0)), rest


def code_means(means: Float64Array, seed: int, isa: str) -> tuple[UInt8Array, Float32Array,
                                                                  Float64Array]:
    """Codes of means as of centred rows, the weight of each panel, and the scale of all."""
    n, dim = means.shape
    largest = float(np.finfo(np.float32).max)
    means32 = np.clip(means, -largest, largest).astype(np.float32)
    signs, nowhere, extents = rotation_signs(dim, seed), np.zeros(dim), np.empty(n)
    _core.code_extents(means32, nowhere, False, signs, isa, extents)
    order = np.full(_core.code_rows(n), -1)
    order[:n] = np.arange(n)
    limit = max(float(extents.max()), 1e-28)
    room = np.maximum(largest_of_panels(extents, order), limit / _core.CODE_SPAN)
    weights = (127.0 / room).astype(np.float32)
    of_mean = np.repeat(weights, _core.code_rows(1))[:n]
    codes = np.empty((n, 4 * -(-dim // 4)), np.uint8)
    _core.encode_rows(means32, nowhere, False, signs, of_mean, isa, codes, np.empty(n),
                      np.empty(n, np.float32))
    return codes, weights, of_mean.astype(np.float64)


def _coded(means: Float64Array, deviations: Float64Array, squares: Float64Array | None,
           starts: Int64Array, seed: int, isa: str) -> CellArrays:
    n = len(means)
    codes, weights, of_mean = code_means(means, seed, isa)
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
