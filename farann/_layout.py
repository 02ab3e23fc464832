"""How codes are laid out for searching: in which order, along which directions first."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits

from farann import _basis, _core
from farann._cells import CellArrays, describe, number_of_cells, partition
from farann._codes import RowCodes, blocks_of, centred, code_rows
from farann._kind import Kind
from farann._rearrange import pack, permute, unpack
from farann._types import Float32Array, Float64Array, Int32Array, Int64Array

# Squares are held as whole numbers up to this, which leaves room in 32 bits for the products.
_LARGEST_SQUARE = 2.0**28
# Sample queries: as many as cost about so many multiply-adds; and what their answers hold.
_SAMPLE_WORK, _MOST_QUERIES, _LEAST_QUERIES, _SAMPLE_K = 2e10, 2048, 64, 10
# Rows that directions and costs are estimated from; fewer need no order and no first look.
_SAMPLE_ROWS, _FEW_ROWS = 8192, 4096
_COST_QUERIES = 128
# Of a partitioned index: rows that answer many queries and are always searched.
_MOST_FIRST = 1024
# Slots are kept in 32 bits; more rows stay in their own order.
_MOST_ORDERED = 2**31


class CodeArrays(NamedTuple):
    """What `_core.Codes` is made of, and what a file keeps of it."""

    panels: npt.NDArray[np.int8]
    sums: Int32Array
    squares: Int32Array | None
    signs: npt.NDArray[np.int8]
    slots: Int32Array | None
    outliers: Int64Array
    bounds: tuple[float, float, float, float]
    basis: Float64Array | None = None
    rows: npt.NDArray[np.int8] | None = None
    basis_bounds: tuple[float, float, float, float] | None = None


class Plan(NamedTuple):
    """How to lay codes out."""

    order: Int64Array | None = None  # slots by position, -1 for none; None: as they are
    basis: Float64Array | None = None


def make_codes(rows: Float32Array, centre: Float64Array, kind: Kind, isa: str,
               queries: Float32Array | None,
               progress: bool) -> tuple[CodeArrays | None, CellArrays | None]:
    """Code rows and lay the codes out; None where codes could not help, or without cells.

    Parameters
    ----------
    rows : (n, dim)
    centre : (dim,)
    kind : Kind
    isa : str
    queries : (q, dim), optional
        What is going to be asked; by default rows serve as a sample.
    progress : bool
    """
    n = len(rows)
    n_cells = number_of_cells(kind.cells, n) if n <= _MOST_ORDERED else 0
    # Cells begin with a panel; there may be a few more of them than were asked for.
    room = _core.code_rows(1) * (2 * n_cells + 2)
    coded = code_rows(rows, centre, kind.unit, kind.seed, isa, progress, room)
    if coded is None:
        return None, None
    arrays = _lay_out(coded, rows, centre, kind.metric, Plan())
    if n < _FEW_ROWS and n_cells == 0:
        return arrays, None
    if n_cells:
        import sklearn.cluster  # noqa: F401  # so that the limit sees its threads, too

    # Threads that wait for each other by spinning take minutes on a busy machine.
    with threadpool_limits(1):
        asked = _sample_queries(rows, kind.seed, queries)
        answers = _answers(arrays, rows, centre, kind.metric, isa, asked)
        # The next layout takes the memory of this one.
        unpack(arrays.panels)
        del arrays
        basis = _first_look(rows, centre, kind.metric, kind.seed, asked[:_COST_QUERIES],
                            answers[:_COST_QUERIES, -1])
        first = _answering(answers, n)
        if n_cells == 0:
            rest = np.ones(n, np.bool_)
            rest[first] = False
            nothing = np.full(_core.code_rows(n) - n, -1)
            order = np.concatenate([first, np.flatnonzero(rest), nothing])
            plan = Plan(order if n <= _MOST_ORDERED else None, basis)
            return _lay_out(coded, rows, centre, kind.metric, plan), None
        first = first[: min(_MOST_FIRST, n // 16)]
        labels = partition(rows, centre, kind.unit, n_cells, kind.seed)
        labels[first] = -1
        order, starts, labels = _by_cell(labels, first)
        cells = describe(rows, centre, kind.metric, labels, starts, kind.seed, isa)
        return _lay_out(coded, rows, centre, kind.metric, Plan(order, basis)), cells


def _by_cell(labels: Int32Array, first: Int64Array) -> tuple[Int64Array, Int64Array, Int32Array]:
    """The order of rows with those of no cell before all others, where each cell starts, and the
    cells of rows, numbered without gaps."""
    counts = np.bincount(labels[labels >= 0])
    filled = np.flatnonzero(counts)
    numbers = np.full(len(counts) + 1, -1, np.int32)  # the last is that of no cell
    numbers[filled] = np.arange(len(filled))
    labels = numbers[labels]
    sizes = _core.code_rows(1) * -(-counts[filled] // _core.code_rows(1))
    starts = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64) + _core.code_rows(len(first))
    order = np.full(int(starts[-1]), -1, np.int64)
    order[: len(first)] = first
    rows = np.argsort(labels, kind="stable")[len(first):]
    before = np.cumsum(counts[filled]) - counts[filled]
    begin = starts[:-1] - before  # what to add to the number of a row in this order
    for block in blocks_of(len(rows)):
        order[begin[labels[rows[block]]] + np.arange(block.start, block.stop)] = rows[block]
    return order, starts, labels


def _sample_queries(rows: Float32Array, seed: int, queries: Float32Array | None) -> Float32Array:
    n, dim = rows.shape
    source = rows if queries is None or len(queries) == 0 else queries
    return source[sampled(len(source), n, dim, seed)]


def sampled(n_queries: int, n: int, dim: int, seed: int) -> Int64Array:
    """Which of `n_queries` a layout of n rows is made with."""
    number = min(n_queries, int(np.clip(_SAMPLE_WORK / (n * dim), _LEAST_QUERIES, _MOST_QUERIES)))
    return np.sort(np.random.default_rng(seed).choice(n_queries, number, replace=False))


def _answers(arrays: CodeArrays, rows: Float32Array, centre: Float64Array, metric: int, isa: str,
             queries: Float32Array) -> Int64Array:
    """Slots of the rows furthest from each query, (len(queries), _SAMPLE_K)."""
    snapshot = _core.Snapshot(rows, rows[:0], None, None, centre, metric, isa,
                              _core.Codes(len(rows), rows.shape[1], *arrays))
    chosen = _core.Filter(snapshot)
    scores = np.empty((len(queries), _SAMPLE_K), np.float32)
    slots = np.empty((len(queries), _SAMPLE_K), np.int64)
    for start in range(0, len(queries), 512):
        task = _core.Task(snapshot, chosen, queries, start, min(start + 512, len(queries)),
                          _SAMPLE_K, False)
        task.run()
        task.write_top(scores, slots, start)
    return slots


def _answering(answers: Int64Array, n: int) -> Int64Array:
    """Rows that answer queries, those that answer many first: they soon give a good threshold."""
    weights = np.zeros(n)
    np.add.at(weights, answers.ravel(), np.tile(1.0 / np.arange(1, _SAMPLE_K + 1), len(answers)))
    answering = np.flatnonzero(weights)
    return answering[np.argsort(-weights[answering], kind="stable")]


def _first_look(rows: Float32Array, centre: Float64Array, metric: int, seed: int,
                queries: Float32Array, last: Int64Array) -> Float64Array | None:
    """The basis to look along first, if that pays; `last` ends each query's answer."""
    unit, squared = _core.METRICS[metric] == "cosine", _core.METRICS[metric] == "l2"
    sample = centred(rows[:: -(-len(rows) // _SAMPLE_ROWS)], centre, unit)
    weights = queries.astype(np.float64)
    if unit:
        weights /= np.linalg.norm(weights, axis=1, keepdims=True)
    weights = -2.0 * (weights - centre) if squared else -weights
    ends = centred(rows[last], centre, unit)
    thresholds = np.einsum("ij,ij->i", weights, ends)
    if squared:
        thresholds += (ends**2).sum(axis=1)
    return _basis.choose(_basis.directions(sample, seed), sample, len(rows), weights, thresholds,
                         squared, seed)


def _lay_out(coded: RowCodes, rows: Float32Array, centre: Float64Array, metric: int,
             plan: Plan) -> CodeArrays:
    """Lay codes out in the memory that they have."""
    order = np.arange(len(rows)) if plan.order is None else plan.order
    if len(order) % _core.code_rows(1):
        order = np.append(order, np.full(_core.code_rows(len(order)) - len(order), -1))
    not_coded = coded.sums == _core.NOT_CODED
    squares, unit = None, 0.0
    if _core.METRICS[metric] == "l2":
        unit = coded.norm**2 / _LARGEST_SQUARE
        squares = _by_position(coded.squares, order, 0, unit)
    slots = None if plan.order is None else order.astype(np.int32)
    outliers = np.flatnonzero(not_coded).astype(np.int64)
    bounds = (coded.scale, coded.residual, coded.norm, unit)
    codes = _in_order(coded.codes, len(rows), order)
    if plan.basis is None:
        pack(codes)
        return CodeArrays(codes, _by_position(coded.sums, order, _core.NOT_CODED),
                          squares, coded.signs, slots, outliers, bounds)
    along = _basis.code_along(plan.basis, rows, centre, _core.METRICS[metric] == "cosine",
                              not_coded, len(order) - len(rows))
    panels = _in_order(along.codes, len(rows), order)
    pack(panels)
    return CodeArrays(panels, _by_position(along.sums, order, _core.NOT_CODED), squares,
                      coded.signs, slots, outliers, bounds, plan.basis, codes, along.bounds)


def _in_order(codes: npt.NDArray[np.int8], n: int, order: Int64Array) -> npt.NDArray[np.int8]:
    """The codes of n rows by position, in the same memory if there is room; zeros for no row."""
    if len(codes) < len(order):
        larger = np.empty((len(order), codes.shape[1]), np.int8)
        larger[:n] = codes[:n]
        codes = larger
    codes = codes[: len(order)]
    codes[n:] = 0
    empty = order < 0
    if empty[:n].any() or not np.array_equal(order[:n], np.arange(n)):
        whole = order.astype(np.int32) if len(order) < 2**31 else order.copy()
        whole[empty] = np.arange(n, len(order))
        permute(codes, whole)
    return codes


def _by_position(values: Int32Array | Float64Array, order: Int64Array, nothing: int,
                 unit: float = 1.0) -> Int32Array:
    """Values of rows, in units, by position; `nothing` where there is no row."""
    found = np.empty(len(order), np.int32)
    for block in blocks_of(len(order)):
        wanted = order[block]
        found[block] = np.where(wanted >= 0, np.rint(values[wanted] / unit), nothing)
    return found
