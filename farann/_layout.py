"""How codes are laid out for searching: in which order, along which directions first."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from farann import _builder, _core, _search
from farann._asked import moment_of
from farann._builder import Builder, whole_panels
from farann._cells import Origins, describe, number_of_cells
from farann._codes import (
    FEW_ROWS,
    LARGEST_DIM,
    Extents,
    measure_rows,
    places_of,
    sample_of,
)
from farann._kind import Kind
from farann._kmeans import Space, partition
from farann._process import ieee_arithmetic, one_thread
from farann._records import CellArrays, CodeArrays, Layout, Native, SeedArrays
from farann._results import share_found
from farann._seeds import make_seeds
from farann._turning import turn_for
from farann._types import Float32Array, Float64Array, Int32Array, Int64Array
from farann._typical import Typical, first_look, typical_of
from farann._upper import shape_of
from farann.tuning import costs_by_recall, exact_cost

# Sample queries: as many as cost about so many multiply-adds, one for so many rows; and what their
# answers hold.
_SAMPLE_WORK, _MOST_QUERIES, _LEAST_QUERIES, _ROWS_A_QUERY, _SAMPLE_K = 1e11, 2048, 64, 16, 10
# So many queries or fewer are answered by float32 rows: to code these only for that takes longer.
_MANY_QUERIES = 512
# Recalls by which cells are judged; none may take so many times as long as without.
_JUDGED_RECALLS, _SLOWER = (0.9, 0.95, 0.99), 1.05
# Rows that answer many queries are told by longer answers.
_ORDER_K = 32
# Of a partitioned index: rows that answer many queries and are always searched.
_MOST_FIRST = 2048
# Of rows that answer many queries so many are in one order by size.
_PART = 128
# Without vectors: steps of weights from one to twice as much; rows that answer most queries, one in
# so many, keep their vectors beside 4-bit codes, which would tell them apart worst; and where 8-bit
# codes of fewer dimensions lie as their rows do, as 4 bytes a row for an order weigh too much.
WEIGHT_STEPS = 32
_ROWS_A_VECTOR = 256
_FEW_DIMENSIONS = 128


class Made(NamedTuple):
    """What a build laid out; nothing where codes could not help."""

    layout: Layout | None = None
    exact: Layout | None = None  # for exact searches, where cells make these slower
    recall: float | None = None  # of codes alone, on sample queries; None if that wasn't measured


class _Task(NamedTuple):
    """What a layout is made of, and for whom."""

    builder: Builder
    coded: Int64Array  # rows that are not outliers
    kind: Kind
    asked: Float32Array
    weights: Float64Array  # of these
    long_answers: Int64Array  # to these
    basis: Float64Array | None = None
    shape: Float64Array | None = None
    typical: Typical | None = None

    @property
    def answers(self) -> Int64Array:
        return np.ascontiguousarray(self.long_answers[:, :_SAMPLE_K])

    @property
    def first(self) -> Int64Array:
        """Rows that answer many queries."""
        answering = _answering(self.long_answers, len(self.builder.rows))
        return np.setdiff1d(answering, self.builder.extents.outliers, assume_unique=True)


@ieee_arithmetic()
def make_codes(rows: Float32Array, centre: Float64Array, kind: Kind, isa: str,
               queries: Float32Array | None, progress: bool, threads: int = 1,
               held_out: Float32Array | None = None) -> Made:
    """Code rows and lay the codes out.

    Parameters
    ----------
    rows : (n, dim)
    centre : (dim,)
    kind : Kind
    isa : str
    queries : (q, dim), optional
        What is going to be asked; by default rows serve as a sample.
    progress : bool
    threads : int
        What is made doesn't depend on them.
    held_out : (q, dim), optional
        Queries that are none of these, nor of the sample, to choose between layouts with.
    """
    n, dim = rows.shape
    if n == 0 or dim > LARGEST_DIM:
        return Made()
    n_cells = number_of_cells(kind.cells, n, isa)
    few = n < FEW_ROWS and n_cells == 0 and kind.bits == 8 and kind.vectors
    # Of few rows there is nothing to be learned, and no product to be guarded.
    with nullcontext() if few else one_thread():
        asked = _sample_queries(rows, kind.seed, queries)
        weights = kind.metric.query_vectors(asked, centre)
        # Typical rows in float64: made once, where both ask for them.
        sample = None if n < FEW_ROWS or kind.bits != 8 or not kind.vectors else sample_of(
            rows, centre, kind.unit)
        turn = turn_for(rows, centre, kind, weights, sample)
        extents = measure_rows(rows, centre, kind.unit, turn, isa, progress,
                               0 if kind.vectors else WEIGHT_STEPS, threads)
        if extents is None:
            return Made()
        builder = Builder(rows, centre, kind.metric, isa, extents, progress, threads=threads)
        if n > _builder.MOST_ORDERED:
            # Without slots every row has a position, outlying ones, too.
            extents = extents._replace(limit=float(extents.largest.max()),
                                       outliers=np.empty(0, np.int64))
            builder = builder._replace(extents=extents)
            return Made(Layout(builder.lay_out(whole_panels(np.arange(n)), bits=kind.bits)))
        coded = np.delete(np.arange(n), extents.outliers)
        if few:
            return Made(Layout(builder.lay_out(whole_panels(builder.by_size(coded)))))
        layout = None
        if len(asked) > _MANY_QUERIES:
            layout = Layout(builder.lay_out(whole_panels(builder.by_size(coded))))
        answers = _answers(builder, layout, asked, k=_ORDER_K)
        del layout  # codes are laid out anew, and the old ones must not take memory meanwhile
        task = _looking_first(_Task(builder, coded, kind, asked, weights, answers), sample)
        del sample
        if n_cells == 0:
            return _in_order(task)
        made = _in_cells(task, n_cells)
        if kind.cells != "auto" or not kind.vectors or held_out is None or len(held_out) == 0:
            return made
        return _better(task, made, _in_order(task), held_out)


def _better(task: _Task, cells: Made, plain: Made, queries: Float32Array) -> Made:
    """The layout with cells if they make approximate searches faster, by counted work, and none of
    them slower; beside it the one without, if exact searches are slower with them."""
    ours, theirs = (_snapshot(task.builder, made.layout) for made in (cells, plain))
    exact, exact_plain = (exact_cost(snapshot, queries, _SAMPLE_K) for snapshot in (ours, theirs))
    both = exact > _SLOWER * exact_plain
    with_cells = costs_by_recall(ours, queries, _SAMPLE_K, _JUDGED_RECALLS,
                                 exact_plain if both else exact, with_cells=True,
                                 exact=theirs if both else ours)
    without = costs_by_recall(theirs, queries, _SAMPLE_K, _JUDGED_RECALLS, exact_plain,
                              with_cells=False)
    if _SLOWER * sum(with_cells) > sum(without) or any(
            one > _SLOWER * other for one, other in zip(with_cells, without, strict=True)):
        return plain
    return cells._replace(exact=plain.layout) if both else cells


def _looking_first(task: _Task, sample: Float64Array | None) -> _Task:
    """With what may be looked at first, or how 4-bit codes are to be rounded.

    `sample` is one of rows, if there is one already.
    """
    builder, kind = task.builder, task.kind
    n, extents = len(builder.rows), builder.extents
    if kind.bits == 4:
        task = task._replace(shape=shape_of(extents.turn.weights(task.weights)))
    elif kind.vectors:
        if sample is None:
            sample = sample_of(builder.rows, builder.centre, kind.unit)
        typical = typical_of(builder.rows, builder.centre, kind.metric, task.asked,
                             task.answers[:, -1], sample)
        basis = first_look(typical, n, extents.turn.width, kind.seed)
        task = task._replace(typical=typical, basis=basis)
    if kind.vectors or kind.bits == 8:
        return task
    room = max(n // _ROWS_A_VECTOR - len(extents.outliers), 0)
    kept = _answering(task.answers, n, 1)[:room]
    extents = extents._replace(outliers=np.union1d(extents.outliers, kept))
    return task._replace(builder=builder._replace(extents=extents),
                         coded=np.delete(np.arange(n), extents.outliers))


def _in_order(task: _Task) -> Made:
    """Without cells: rows that answer many queries, and then by what they may reach."""
    builder, kind, first = task.builder, task.kind, task.first
    n, dim = builder.rows.shape
    reach_tells, lead = False, None
    if task.typical is not None:
        reach_tells, lead = task.typical.reach(task.weights)
    rest = np.ones(n, np.bool_)
    rest[first] = rest[builder.extents.outliers] = False
    others = np.flatnonzero(rest)
    reach = along = lengths = None
    if lead is not None:
        along, lengths = builder.along_and_across(lead.direction)
        reach = lead.promise(along, lengths)
    elif task.typical is not None and (reach_tells or not kind.unit):
        # Long rows are answers sooner than short ones; unit vectors are all as long.
        reach = lengths = builder.lengths()
    order = np.concatenate([
        builder.by_size_in_parts(first, _PART),
        builder.by_size(others) if reach is None else builder.by_reach(others, reach)])
    as_rows_lie = False
    if not kind.vectors:
        as_rows_lie = kind.bits == 8 and len(task.coded) == n and dim < _FEW_DIMENSIONS
        order = task.coded if as_rows_lie else builder.by_size(task.coded)
    order = whole_panels(order)
    arrays = builder.lay_out(order, task.basis, kind.bits, task.shape)
    if reach_tells and lengths is not None:
        arrays = builder.with_reach(arrays, order, lengths, lead, along)
    if as_rows_lie:
        arrays = replace(arrays, slots=None)
    return _made(task, arrays, None)


def _in_cells(task: _Task, n_cells: int) -> Made:
    """With cells, after rows that answer many queries."""
    builder, kind = task.builder, task.kind
    n, extents, threads = len(builder.rows), builder.extents, builder.threads
    relative = kind.bits == 4 and not kind.vectors
    # Rows before all cells have no mean to be relative to; the best keep their vectors.
    first = builder.by_size_in_parts(
        task.first[: 0 if relative else min(_MOST_FIRST, n // 16)], _PART)
    moment = moment_of(task.weights)
    # Where codes are relative to means, what is left of rows should be short in any direction.
    space = Space(builder.centre, kind.unit, None if relative else moment)
    labels = partition(builder.rows, space, n_cells, kind.seed, threads)
    labels[first] = labels[extents.outliers] = -1
    order, starts, labels = _by_cell(labels, first, builder.by_size(task.coded))
    cells = describe(builder.rows, builder.centre, kind.metric, labels, starts, moment,
                     extents.turn, builder.isa, threads)
    if relative:
        cells = replace(cells, relative=True)
        builder = builder.relative_to(Origins(cells, labels))
        order, _, _ = _by_cell(labels, first, builder.by_size(task.coded))
    arrays = builder.lay_out(order, task.basis, kind.bits, task.shape)
    return _made(task._replace(builder=builder), arrays, cells)


def code_more(rows: Float32Array, centre: Float64Array, kind: Kind, isa: str, extents: Extents,
              shape: Float64Array | None) -> CodeArrays:
    """Code rows by extents that others gave, laid out by size."""
    builder = Builder(rows, centre, kind.metric, isa, extents, False)
    order = builder.by_size(np.arange(len(rows)))
    return builder.lay_out(whole_panels(order), bits=kind.bits, shape=shape)


def _made(task: _Task, arrays: CodeArrays, cells: CellArrays | None) -> Made:
    """What was made, with the recall of codes where they are all that will be left."""
    if task.kind.vectors:
        return Made(Layout(arrays, cells, _seeds(task, arrays)))
    layout = Layout(arrays, cells)
    found = _answers(task.builder, layout, task.asked, vectors=False)
    return Made(layout, recall=share_found(found, task.answers))


def _seeds(task: _Task, arrays: CodeArrays) -> SeedArrays | None:
    """Lists of rows that answer sample queries."""
    # With a first look, whole codes of the first rows are scanned, which do as well.
    if arrays.basis is not None or task.kind.bits != 8 or arrays.slots is None:
        return None
    builder = task.builder
    places = places_of(arrays.slots.astype(np.int64), len(builder.rows))
    return make_seeds(arrays, places, task.weights, task.answers, builder.centre,
                      builder.metric,
                      lambda queries, k: _answers(builder, Layout(arrays), queries, k=k),
                      task.kind.seed, builder.isa)


def _answers(builder: Builder, layout: Layout | None, queries: Float32Array,
             vectors: bool = True, k: int = _SAMPLE_K) -> Int64Array:
    """Slots of the rows furthest from each query, (len(queries), k)."""
    snapshot = _snapshot(builder, layout, vectors)
    hits, _ = _search.top(snapshot, _core.Filter(snapshot), queries, k, False, builder.threads,
                          effort=None if vectors else np.inf)
    return hits.ids


def _snapshot(builder: Builder, layout: Layout | None, vectors: bool = True) -> _core.Snapshot:
    """The rows as they would be searched."""
    base, native = builder.rows, Native()
    if layout is not None:
        native = layout.native(*base.shape)
        base = base if vectors else base[layout.codes.outliers]
    return _core.Snapshot(base, builder.rows[:0], None, None, builder.centre,
                          builder.metric.number, builder.isa, codes=native.codes,
                          cells=native.cells, vectors=vectors, seeds=native.seeds)


def _by_cell(labels: Int32Array, first: Int64Array,
             by_size: Int64Array) -> tuple[Int64Array, Int64Array, Int32Array]:
    """The order of rows, with `first`, of no cell, before all others, and each cell `by_size`;
    where each cell starts, and the cells of rows, numbered without gaps."""
    counts = np.bincount(labels[labels >= 0])
    filled = np.flatnonzero(counts)
    numbers = np.full(len(counts) + 1, -1, np.int32)  # the last is that of no cell
    numbers[filled] = np.arange(len(filled))
    labels = numbers[labels]
    sizes = _core.code_rows(1) * -(-counts[filled] // _core.code_rows(1))
    starts = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64) + _core.code_rows(len(first))
    order = np.full(int(starts[-1]), -1, np.int64)
    order[: len(first)] = first
    rows = by_size[labels[by_size] >= 0]
    rows = rows[np.argsort(labels[rows], kind="stable")]
    before = np.cumsum(counts[filled]) - counts[filled]
    order[starts[labels[rows]] + np.arange(len(rows)) - before[labels[rows]]] = rows
    return order, starts, labels


def _sample_queries(rows: Float32Array, seed: int, queries: Float32Array | None) -> Float32Array:
    n, dim = rows.shape
    source = rows if queries is None or len(queries) == 0 else queries
    return source[sampled(len(source), n, dim, seed)]


def sampled(n_queries: int, n: int, dim: int, seed: int) -> Int64Array:
    """Which of `n_queries` a layout of n rows is made with."""
    most = min(max(n // _ROWS_A_QUERY, _MANY_QUERIES), _MOST_QUERIES)
    number = min(n_queries, int(np.clip(_SAMPLE_WORK / (n * dim), _LEAST_QUERIES, most)))
    return np.sort(np.random.default_rng(seed).choice(n_queries, number, replace=False))


def _answering(answers: Int64Array, n: int, least: int = 2) -> Int64Array:
    """Rows that answer several queries, `least` or more, those that answer many first: they soon
    give a good threshold. Rows that answer one are no better than others."""
    found = answers >= 0  # few rows may give fewer answers
    slots, ranks = answers[found], np.nonzero(found)[1]
    weights = np.bincount(slots, (1.0 + ranks) ** -0.5, minlength=n)
    answering = np.flatnonzero(np.bincount(slots, minlength=n) >= least)
    return answering[np.argsort(-weights[answering], kind="stable")]
