"""Indexes without vectors: rows from their codes, codes that come and go, what can be asked.

Rows that were coded stay as they were coded: their vectors are gone. Rows that are added are coded
with the same centre and rotation, in panels of their own; rows that are removed give their places
to others of the same weight.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from farann import _core, _layout, tuning
from farann._checks import Limits
from farann._codes import Extents, blocks_of, centred, empty_panels
from farann._kind import Kind
from farann._metric import MetricTraits
from farann._process import ieee_arithmetic
from farann._records import CellArrays, CodeArrays, CodeBounds
from farann._types import Float32Array, Float64Array, Int64Array
from farann._upper import MIDDLE, shape_of

# Added rows whose coordinates are so many times as large as any before stay float32.
_FAR = 1024.0
# Added rows that shape the rounding of 4-bit codes.
_SAMPLE = 1024


class Coded(NamedTuple):
    """A base without vectors."""

    codes: CodeArrays
    cells: CellArrays | None
    rows: Float32Array  # of the outliers


def check_exact(what: str, vectors: bool, instead: str) -> None:
    """Refuse what needs the vectors, if they were dropped."""
    if not vectors:
        raise ValueError(f"{what} needs the vectors, and keep_vectors=False dropped them: "
                         f"{instead}")


def check_limits(limits: Limits | None, vectors: bool) -> None:
    """Refuse searches whose answers would be exact, or within epsilon."""
    if limits is None or limits.epsilon is not None:
        what = "exact search" if limits is None else "epsilon: a guarantee"
        check_exact(what, vectors, "give recall=, or budget=")


def search_options(limits: Limits, n_rows: int, with_cells: bool) -> dict[str, Any] | None:
    """How the core is told where to stop; None: the table of `tune` says it."""
    everything = {"effort": float("inf")}
    if not with_cells:
        return everything | {"budget": limits.budget or 0}
    if limits.budget is not None:
        return everything if limits.budget >= n_rows else {
            "effort": tuning.MOST_DEVIATIONS, "budget": limits.budget}
    return everything if limits.recall == 1.0 else None


# ---- rows from codes ----


def places(codes: CodeArrays, slots: Int64Array) -> Int64Array:
    """Positions of some slots; -1 for those that have none."""
    if codes.slots is None:
        return slots
    positions = np.flatnonzero(codes.slots >= 0)
    found = np.full(int(codes.slots.max(initial=-1)) + 1, -1, np.int64)
    found[codes.slots[positions]] = positions
    return np.where(slots < len(found), found[np.minimum(slots, len(found) - 1)], np.int64(-1))


def _centred_rows(coded: Coded, slots: Int64Array, centre: Float64Array,
                  unit: bool) -> tuple[Float64Array, Float64Array]:
    """Rows less the centre, and their squared lengths as codes have them (l2)."""
    codes, cells, base = coded
    positions = places(codes, slots)
    there = positions >= 0
    positions = positions[there]
    values = codes.bytes_at(positions).astype(np.float64)[:, : len(centre)]
    values -= 128.0
    if codes.lower is None:
        values += MIDDLE
    weights = codes.weights.astype(np.float64)[positions // 16]
    values /= weights[:, None]
    if cells is not None and cells.relative:
        values += cells.means(cells.at(positions), len(centre))
    vectors = np.empty((len(slots), len(centre)))
    vectors[there] = codes.turn.rows_from(values)
    vectors[~there] = centred(base[np.searchsorted(codes.outliers, slots[~there])], centre, unit)
    squares = np.einsum("ij,ij->i", vectors, vectors)
    if codes.squares is not None:
        squares[there] = codes.squares[positions] / weights
    return vectors, squares


@ieee_arithmetic()
def decoded(coded: Coded, slots: Int64Array, centre: Float64Array, unit: bool) -> Float32Array:
    """Rows as codes have them, of length 1 with `unit`; those of outliers as they were."""
    rows = np.empty((len(slots), len(centre)), np.float32)
    for block in blocks_of(len(slots)):
        vectors, _ = _centred_rows(coded, slots[block], centre, unit)
        vectors += centre
        if unit:
            vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-30)
        rows[block] = vectors
    outliers = coded.codes.outliers
    kept = np.flatnonzero(np.isin(slots, outliers))
    rows[kept] = coded.rows[np.searchsorted(outliers, slots[kept])]
    return rows


@ieee_arithmetic()
def scores(coded: Coded, queries: Float32Array, slots: Int64Array, centre: Float64Array,
           metric: MetricTraits) -> Float32Array:
    """Rough scores (n_queries, n_slots)."""
    result = np.empty((len(queries), len(slots)), np.float32)
    asked = queries.astype(np.float64)
    if metric.normalized:
        asked /= np.linalg.norm(asked, axis=1, keepdims=True)
    for block in blocks_of(len(slots)):
        vectors, squares = _centred_rows(coded, slots[block], centre, metric.normalized)
        with np.errstate(over="ignore"):  # infinite where float32 can't hold a score
            if metric.adds_squared_norm:
                from_centre = asked - centre
                keys = -2.0 * (from_centre @ vectors.T) + squares
                keys += np.einsum("ij,ij->i", from_centre, from_centre)[:, None]
                result[:, block] = np.sqrt(np.maximum(keys, 0.0))
            else:
                result[:, block] = asked @ vectors.T + (asked @ centre)[:, None]
    return result


# ---- codes that come and go ----


def _as_order(codes: CodeArrays, n_rows: int) -> Int64Array:
    """The slot at each position, -1 for none."""
    if codes.slots is not None:
        return codes.slots.astype(np.int64)
    order = np.arange(len(codes.panels))
    return np.where(order < n_rows, order, -1)


def without(coded: Coded, alive: npt.NDArray[np.bool_]) -> Coded:
    """Drop the rows that aren't `alive` (by slot), and number the others anew."""
    codes, cells, rows = coded
    numbers = np.where(alive, np.cumsum(alive) - 1, -1)
    order = _as_order(codes, len(alive))
    slots = np.where(order >= 0, numbers[np.maximum(order, 0)], -1)
    outliers = numbers[codes.outliers]
    codes = replace(codes, slots=slots.astype(np.int32), outliers=outliers[outliers >= 0])
    return _closed_up(Coded(codes, cells, rows[outliers >= 0]))


def _closed_up(coded: Coded) -> Coded:
    """Let rows of one cell and weight fill each other's gaps, if that frees panels."""
    codes, cells, rows = coded
    assert codes.slots is not None
    there = np.flatnonzero(codes.slots >= 0)
    if len(there) == 0:  # outliers alone: one panel of nobody
        return Coded(_taken(codes, np.full(16, -1), codes.weights[:1]),
                     None if cells is None else replace(
                         cells, starts=np.minimum(cells.starts, 0)), rows)
    starts = np.zeros(1, np.int64) if cells is None else cells.starts
    cell = np.searchsorted(starts, there, side="right")
    weights = codes.weights[there // 16]
    order = np.lexsort((there, -weights, cell))
    there, cell, weights = there[order], cell[order], weights[order]
    begins = np.flatnonzero(np.append(True, (np.diff(cell) != 0) | (np.diff(weights) != 0)))
    counts = np.diff(np.append(begins, len(there)))
    panels = -(-counts // 16)
    if panels.sum() >= len(codes.weights):
        return coded
    ends = np.cumsum(panels) * 16
    positions = np.full(int(ends[-1]), -1)
    positions[np.repeat(ends - 16 * panels - begins, counts) + np.arange(len(there))] = there
    if cells is not None:
        of_panels = np.repeat(cell[begins], panels)
        cells = replace(cells, starts=16 * np.searchsorted(
            of_panels, np.arange(1, len(starts) + 1)).astype(np.int64))
    return Coded(_taken(codes, positions, np.repeat(weights[begins], panels)), cells, rows)


def _taken(codes: CodeArrays, positions: Int64Array,
           weights: Float32Array) -> CodeArrays:
    """The codes at some positions, whole panels of rows of the `weights`; -1 for none."""
    assert codes.slots is not None and codes.unknown is not None
    there = positions >= 0
    taken = codes.bytes_at(np.maximum(positions, 0))
    panels, lower = empty_panels(len(positions), taken.shape[1], True)
    _core.pack_codes(taken, np.where(there, np.arange(len(positions)), -1), True, panels, lower)
    unknown = np.where(there, codes.unknown[np.maximum(positions, 0) // 16], np.float32(0))
    squares = codes.squares
    if squares is not None:
        squares = np.where(there, squares[positions], np.float32(0))
    return replace(
        codes, panels=panels, lower=None if codes.lower is None else lower, weights=weights,
        unknown=unknown.reshape(-1, 16).max(axis=1), squares=squares,
        slots=np.where(there, codes.slots[positions], np.int32(-1)))


@ieee_arithmetic()
def extended(coded: Coded, n_rows: int, rows: Float32Array, centre: Float64Array, kind: Kind,
             isa: str) -> tuple[Coded, npt.NDArray[np.bool_]]:
    """Code more rows as those n were; and which of them are too large for that.

    With cells they belong to none, and are always searched.
    """
    codes, cells, kept = coded
    limit = 127.0 / float(codes.weights.min())
    largest = np.empty(len(rows))
    if len(rows):
        _core.code_extents(rows, centre, kind.unit, *codes.turn, isa, largest)
    # Files that are mapped aren't checked for NaN.
    far = (largest > _FAR * limit) | ~np.isfinite(rows).all(axis=1)
    rows, largest = rows[~far], largest[~far]
    if len(rows) == 0:
        return coded, far
    # Rows that are larger than any before get weights of their own.
    most = max(float(largest.max()), limit)
    extents = Extents(codes.turn, largest, most, np.empty(0, np.int64),
                      _core.CODE_SPAN * most / limit, _layout.WEIGHT_STEPS)
    new = _layout.code_more(rows, centre, kind, isa, extents, _shape(rows, centre, kind, codes))
    of_new = _as_order(new, len(rows))
    orders = [_as_order(codes, n_rows), np.where(of_new >= 0, of_new + n_rows, -1)]
    first, second = codes, new
    if cells is not None:
        first, second = new, codes
        orders.reverse()
    merged = {name: _joined(getattr(first, name), getattr(second, name))
              for name in ("panels", "lower", "weights", "unknown", "squares")}
    if cells is not None:
        cells = replace(cells, starts=cells.starts + len(new.panels))
    bounds = CodeBounds(*np.maximum(codes.bounds, new.bounds).tolist())
    codes = replace(codes, slots=np.concatenate(orders).astype(np.int32), bounds=bounds, **merged)
    return Coded(codes, cells, kept), far


def _shape(rows: Float32Array, centre: Float64Array, kind: Kind,
           codes: CodeArrays) -> Float64Array | None:
    if kind.bits == 8:
        return None
    sample = rows[:: -(-len(rows) // _SAMPLE)]
    return shape_of(codes.turn.weights(kind.metric.query_vectors(sample, centre)))


def _joined(first: Any, second: Any) -> Any:
    return None if first is None else np.concatenate([first, second])
