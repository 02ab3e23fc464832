"""How codes are laid out for searching: in which order, along which directions first."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from farann import _basis, _core, _search
from farann._asked import moment_of, weights_of
from farann._cells import (
    CellArrays,
    Origins,
    Space,
    describe,
    number_of_cells,
    partition,
)
from farann._codes import (
    FEW_ROWS,
    LARGEST_DIM,
    CodeBounds,
    CodedBlock,
    Extents,
    blocks_of,
    bounds_from,
    centred,
    code_rows,
    empty_panels,
    largest_of_panels,
    measure_rows,
    places_of,
    sample_of,
)
from farann._kind import Kind
from farann._process import ieee_arithmetic, one_thread
from farann._results import share_found
from farann._rotation import Turn
from farann._seeds import SeedArrays, make_seeds
from farann._turning import turn_for
from farann._types import Float32Array, Float64Array, Int32Array, Int64Array, UInt8Array
from farann._typical import (
    Lead,
    along_and_across,
    first_look,
    typical_of,
)
from farann._upper import code_upper, shape_of

# Sample queries: as many as cost about so many multiply-adds; and what their answers hold.
_SAMPLE_WORK, _MOST_QUERIES, _LEAST_QUERIES, _SAMPLE_K = 1e11, 2048, 64, 10
# Rows that answer many queries are told by longer answers.
_ORDER_K = 32
# Of a partitioned index: rows that answer many queries and are always searched.
_MOST_FIRST = 2048
# Of rows that answer many queries, and of those by length, so many are in one order by size.
_PART, _PART_BY_LENGTH = 128, 512
# Slots are kept in 32 bits; more rows stay in their own order.
_MOST_ORDERED = 2**31
# Without vectors: steps of weights from one to twice as much; rows that answer most queries, one in
# so many, keep their vectors beside 4-bit codes, which would tell them apart worst; and where 8-bit
# codes of fewer dimensions lie as their rows do, as 4 bytes a row for an order weigh too much.
WEIGHT_STEPS = 32
_ROWS_A_VECTOR = 256
_FEW_DIMENSIONS = 128
# Pays for the rounding of lengths to float32.
_LENGTH_UP = 2.0**-20


class CodeArrays(NamedTuple):
    """What `_core.Codes` is made of, and what a file keeps of it."""

    panels: UInt8Array
    lower: UInt8Array | None
    weights: Float32Array
    unknown: Float32Array | None
    squares: Float32Array | None
    signs: npt.NDArray[np.int8]
    slots: Int32Array | None
    outliers: Int64Array
    bounds: CodeBounds
    basis: Float64Array | None = None
    whole: UInt8Array | None = None
    whole_weights: Float32Array | None = None
    whole_squares: Float32Array | None = None
    whole_bounds: CodeBounds | None = None
    longest: Float32Array | None = None  # |z| of each panel at most, or what isn't along the lead
    lead: Float64Array | None = None  # a direction that weights of queries have in common
    along: Float32Array | None = None  # of each panel, the most along the lead
    stretch: Float64Array | None = None  # of rows, before they are coded
    axes: Float64Array | None = None  # what rows are coded along, if not in all their coordinates

    @property
    def turn(self) -> Turn:
        return Turn(self.signs, self.stretch, self.axes)


class _Builder(NamedTuple):
    """Rows, and what it takes to code them in this order or that."""

    rows: Float32Array
    centre: Float64Array
    metric: int
    isa: str
    extents: Extents
    progress: bool
    origins: Origins | None = None

    @property
    def unit(self) -> bool:
        return _core.METRICS[self.metric] == "cosine"

    def by_size(self, slots: Int64Array) -> Int64Array:
        """Slots by the size of their rows, so that rows of a panel need about the same scale."""
        return slots[np.argsort(-self.extents.largest[slots], kind="stable")]

    def by_size_in_parts(self, slots: Int64Array, part: int) -> Int64Array:
        """The same part by part, for slots whose order means something."""
        parts = [self.by_size(slots[i : i + part]) for i in range(0, len(slots), part)]
        return np.concatenate([slots[:0], *parts])

    def by_reach(self, slots: Int64Array, reach: Float64Array) -> Int64Array:
        """Slots by what their rows may reach, the most first; by size in parts."""
        order = slots[np.argsort(-reach[slots], kind="stable")]
        return self.by_size_in_parts(order, _PART_BY_LENGTH)

    def lengths(self) -> Float64Array:
        """How far each row is from the centre."""
        found = np.empty(len(self.rows))
        for block in blocks_of(len(self.rows)):
            found[block] = np.linalg.norm(centred(self.rows[block], self.centre, self.unit), axis=1)
        return found

    def along_and_across(self, direction: Float64Array) -> tuple[Float64Array, Float64Array]:
        """What each row is along a direction, and how long what is left of it."""
        along, across = np.empty(len(self.rows)), np.empty(len(self.rows))
        for block in blocks_of(len(self.rows)):
            along[block], across[block] = along_and_across(
                centred(self.rows[block], self.centre, self.unit), direction)
        return along, across

    def with_reach(self, arrays: CodeArrays, order: Int64Array, lengths: Float64Array,
                   lead: Lead | None = None, along: Float64Array | None = None) -> CodeArrays:
        """Codes with what each panel's rows may reach, rounded up: by their lengths, or with a lead
        by what they are along it and the lengths of the rest."""
        arrays = arrays._replace(longest=self._most(lengths, order))
        if lead is None or along is None:
            return arrays
        there = np.where(order >= 0, along[np.maximum(order, 0)], -np.inf)
        most = there.reshape(-1, _core.code_rows(1)).max(axis=1)
        # Panels of nobody come last, and reach no more than others.
        most = np.where(np.isfinite(most), most, along.min())
        return arrays._replace(
            lead=lead.direction, along=np.nextafter(most.astype(np.float32), np.float32(np.inf)))

    def _most(self, lengths: Float64Array, order: Int64Array) -> Float32Array:
        most = largest_of_panels(lengths, order) * (1.0 + _LENGTH_UP)
        return most.astype(np.float32)

    def relative_to(self, origins: Origins) -> _Builder:
        """The same, with scales for what is left of rows."""
        extents, largest = self.extents, np.empty(len(self.rows))
        for block in blocks_of(len(self.rows)):
            z = extents.turn.rows(centred(self.rows[block], self.centre, self.unit))
            largest[block] = np.abs(z - origins.of(block, z.shape[1])).max(axis=1)
        # Equal rows leave next to nothing.
        limit = max(extents.limit / extents.span,
                    float(np.delete(largest, extents.outliers).max()))
        return self._replace(origins=origins,
                             extents=extents._replace(largest=largest, limit=limit))

    def lay_out(self, order: Int64Array, basis: Float64Array | None = None, bits: int = 8,
                shape: Float64Array | None = None) -> CodeArrays:
        """Code rows in an order of slots, -1 for none, in whole panels."""
        if basis is not None:
            return self._lay_out_along(order, basis)
        n, panel = len(self.rows), _core.code_rows(1)
        places = places_of(order, n)
        weights = self.extents.weights(largest_of_panels(self.extents.largest, order))
        panels, lower = empty_panels(len(order), self.extents.turn.width, True)
        lower = None if bits == 4 else lower
        squares, unknown, extremes = self._room(len(order)), np.zeros(len(order), np.float32), (
            np.zeros(6))
        of_rows = weights[np.maximum(places, 0) // panel]
        blocks = self._coded(of_rows, extremes) if bits == 8 else code_upper(
            self.rows, self.centre, self.unit, self.extents, of_rows, shape, self.origins,
            extremes, self.progress)
        for coded in blocks:
            at, there = places[coded.rows], places[coded.rows] >= 0
            _core.pack_codes(coded.codes, at, True, panels, lower)
            unknown[at[there]] = coded.unknown[there]
            if squares is not None:
                squares[at[there]] = (coded.squares * of_rows[coded.rows])[there]
        return CodeArrays(panels, lower, weights, unknown.reshape(-1, panel).max(axis=1), squares,
                          self.extents.turn.signs, self._slots(order), self.extents.outliers,
                          self._bounds(extremes), stretch=self.extents.turn.stretch,
                          axes=self.extents.turn.axes)

    def _lay_out_along(self, order: Int64Array, basis: Float64Array) -> CodeArrays:
        places = places_of(order, len(self.rows))
        along = _basis.code_along(basis, self.rows, self.centre, self.unit, self.extents.outliers,
                                  order, places)
        panel = _core.code_rows(1)
        # One weight a panel, so that the first rows can be scanned as panels, too.
        by_panel = self.extents.weights(largest_of_panels(self.extents.largest, order))
        own = by_panel[np.maximum(places, 0) // panel]
        whole = np.zeros((len(order), self.extents.turn.width), np.uint8)
        whole_weights = np.repeat(by_panel, panel)
        squares, whole_squares = self._room(len(order)), self._room(len(order))
        extremes = np.zeros(6)
        for coded in self._coded(own, extremes):
            there = places[coded.rows] >= 0
            at, weights = places[coded.rows][there], own[coded.rows][there]
            whole[at] = coded.codes[there]
            if squares is not None and whole_squares is not None:
                lengths = coded.squares[there]
                squares[at] = lengths * along.weights[at // panel]
                whole_squares[at] = lengths * weights
        return CodeArrays(along.panels, None, along.weights, None, squares,
                          self.extents.turn.signs, self._slots(order), self.extents.outliers,
                          along.bounds, basis, whole, whole_weights, whole_squares,
                          self._bounds(extremes), stretch=self.extents.turn.stretch,
                          axes=self.extents.turn.axes)

    def _bounds(self, extremes: Float64Array) -> CodeBounds:
        if self.extents.turn.axes is None:
            return bounds_from(extremes)
        return bounds_from(extremes, self.extents.turn.outside(
            sample_of(self.rows, self.centre, self.unit)))

    def _coded(self, weights: Float32Array, extremes: Float64Array) -> Iterator[CodedBlock]:
        return code_rows(self.rows, self.centre, self.unit, self.extents, weights, self.isa,
                         extremes, self.progress)

    def _room(self, n_positions: int) -> Float32Array | None:
        """For |z|^2 times the weight, by position."""
        if _core.METRICS[self.metric] != "l2":
            return None
        return np.zeros(n_positions, np.float32)

    def _slots(self, order: Int64Array) -> Int32Array | None:
        return None if len(self.rows) > _MOST_ORDERED else order.astype(np.int32)

    def made(self, arrays: CodeArrays, cells: CellArrays | None, kind: Kind, asked: Float32Array,
             answers: Int64Array) -> Made:
        """What was made, with the recall of codes where they are all that will be left."""
        if kind.vectors:
            return Made(arrays, cells, None, self.seeds(arrays, kind, asked, answers))
        found = self.answers(arrays, asked, vectors=False, cells=cells)
        return Made(arrays, cells, share_found(found, answers))

    def seeds(self, arrays: CodeArrays, kind: Kind, asked: Float32Array,
              answers: Int64Array) -> SeedArrays | None:
        """Lists of rows that answer sample queries."""
        # With a first look, whole codes of the first rows are scanned, which do as well.
        if arrays.basis is not None or kind.bits != 8 or arrays.slots is None:
            return None
        places = places_of(arrays.slots.astype(np.int64), len(self.rows))
        return make_seeds(arrays, places, weights_of(asked, self.centre, self.metric), answers,
                          self.centre, _core.METRICS[self.metric],
                          lambda queries, k: self.answers(arrays, queries, True, k), kind.seed,
                          self.isa)

    def answers(self, arrays: CodeArrays, queries: Float32Array, vectors: bool = True,
                k: int = _SAMPLE_K, cells: CellArrays | None = None) -> Int64Array:
        """Slots of the rows furthest from each query, (len(queries), k)."""
        n, dim = self.rows.shape
        of_cells = None if cells is None else _core.Cells(
            arrays.turn.n_coded, len(arrays.panels), *cells)
        base = self.rows if vectors else self.rows[arrays.outliers]
        snapshot = _core.Snapshot(base, self.rows[:0], None, None, self.centre, self.metric,
                                  self.isa, _core.Codes(n, dim, *arrays), of_cells, vectors)
        chosen = _core.Filter(snapshot)
        hits, _ = _search.top(snapshot, chosen, queries, k, False, 1,
                              effort=None if vectors else np.inf)
        return hits.ids


def _whole_panels(order: Int64Array) -> Int64Array:
    """An order with nothing behind it, up to whole panels."""
    padded = np.full(_core.code_rows(len(order)), -1, np.int64)
    padded[: len(order)] = order
    return padded


class Made(NamedTuple):
    """Codes, None where they could not help; cells, if there are any; how good the codes are."""

    codes: CodeArrays | None
    cells: CellArrays | None = None
    recall: float | None = None  # of codes alone, on sample queries; None if that wasn't measured
    seeds: SeedArrays | None = None


@ieee_arithmetic()
def make_codes(rows: Float32Array, centre: Float64Array, kind: Kind, isa: str,
               queries: Float32Array | None, progress: bool) -> Made:
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
    """
    n, dim = rows.shape
    if n == 0 or dim > LARGEST_DIM:
        return Made(None)
    asked = _sample_queries(rows, kind.seed, queries)
    weights = weights_of(asked, centre, kind.metric)
    extents = measure_rows(rows, centre, kind.unit, turn_for(rows, centre, kind, weights), isa,
                           progress, 0 if kind.vectors else WEIGHT_STEPS)
    if extents is None:
        return Made(None)
    if n > _MOST_ORDERED:
        # Without slots every row has a position, outlying ones, too.
        extents = extents._replace(limit=float(extents.largest.max()),
                                   outliers=np.empty(0, np.int64))
        builder = _Builder(rows, centre, kind.metric, isa, extents, progress)
        return Made(builder.lay_out(_whole_panels(np.arange(n)), bits=kind.bits))
    builder = _Builder(rows, centre, kind.metric, isa, extents, progress)
    coded = np.delete(np.arange(n), extents.outliers)
    arrays = builder.lay_out(_whole_panels(builder.by_size(coded)))
    n_cells = number_of_cells(kind.cells, n, isa)
    if n < FEW_ROWS and n_cells == 0 and kind.bits == 8 and kind.vectors:
        return Made(arrays)
    if n_cells:
        import sklearn.cluster  # noqa: F401  # so that the limit sees its threads, too

    # Threads that wait for each other by spinning take minutes on a busy machine.
    with one_thread():
        long_answers = builder.answers(arrays, asked, k=_ORDER_K)
        answers = np.ascontiguousarray(long_answers[:, :_SAMPLE_K])
        del arrays  # codes are laid out anew, and the old ones must not take memory meanwhile
        basis = shape = lead = None
        by_length = reach_tells = False
        if kind.bits == 4:
            shape = shape_of(extents.turn.weights(weights))
        elif kind.vectors:
            typical = typical_of(rows, centre, kind.metric, asked, answers[:, -1])
            basis = first_look(typical, n, extents.turn.width, kind.seed)
            if n_cells == 0:
                reach_tells, lead = typical.reach(weights)
            # Long rows are answers sooner than short ones; unit vectors are all as long.
            by_length = reach_tells or not kind.unit
        if not kind.vectors and kind.bits == 4:
            room = max(n // _ROWS_A_VECTOR - len(extents.outliers), 0)
            kept = _answering(answers, n, 1)[:room]
            extents = extents._replace(outliers=np.union1d(extents.outliers, kept))
            builder = builder._replace(extents=extents)
            coded = np.delete(np.arange(n), extents.outliers)
        first = np.setdiff1d(_answering(long_answers, n), extents.outliers, assume_unique=True)
        if n_cells == 0:
            rest = np.ones(n, np.bool_)
            rest[first] = rest[extents.outliers] = False
            others = np.flatnonzero(rest)
            reach = along = None
            if lead is not None:
                along, lengths = builder.along_and_across(lead.direction)
                reach = lead.promise(along, lengths)
            elif by_length:
                reach = lengths = builder.lengths()
            order = np.concatenate([
                builder.by_size_in_parts(first, _PART),
                builder.by_size(others) if reach is None else builder.by_reach(others, reach)])
            as_rows_lie = False
            if not kind.vectors:
                as_rows_lie = (kind.bits == 8 and len(coded) == n
                               and rows.shape[1] < _FEW_DIMENSIONS)
                order = coded if as_rows_lie else builder.by_size(coded)
            order = _whole_panels(order)
            arrays = builder.lay_out(order, basis, kind.bits, shape)
            if reach_tells:
                arrays = builder.with_reach(arrays, order, lengths, lead, along)
            if as_rows_lie:
                arrays = arrays._replace(slots=None)
            return builder.made(arrays, None, kind, asked, answers)
        relative = kind.bits == 4 and not kind.vectors
        # Rows before all cells have no mean to be relative to; the best keep their vectors.
        first = builder.by_size_in_parts(
            first[: 0 if relative else min(_MOST_FIRST, n // 16)], _PART)
        moment = moment_of(weights)
        # Where codes are relative to means, what is left of rows should be short in any direction.
        space = Space(centre, kind.unit, None if relative else moment)
        labels = partition(rows, space, n_cells, kind.seed)
        labels[first] = labels[extents.outliers] = -1
        order, starts, labels = _by_cell(labels, first, builder.by_size(coded))
        cells = describe(rows, centre, kind.metric, labels, starts, moment, extents.turn, isa)
        if relative:
            cells = cells._replace(relative=True)
            builder = builder.relative_to(Origins(cells, labels))
            order, _, _ = _by_cell(labels, first, builder.by_size(coded))
        return builder.made(builder.lay_out(order, basis, kind.bits, shape), cells, kind, asked,
                            answers)


def code_more(rows: Float32Array, centre: Float64Array, kind: Kind, isa: str, extents: Extents,
              shape: Float64Array | None) -> CodeArrays:
    """Code rows by extents that others gave, laid out by size."""
    builder = _Builder(rows, centre, kind.metric, isa, extents, False)
    order = builder.by_size(np.arange(len(rows)))
    return builder.lay_out(_whole_panels(order), bits=kind.bits, shape=shape)


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
    number = min(n_queries, int(np.clip(_SAMPLE_WORK / (n * dim), _LEAST_QUERIES, _MOST_QUERIES)))
    return np.sort(np.random.default_rng(seed).choice(n_queries, number, replace=False))


def _answering(answers: Int64Array, n: int, least: int = 2) -> Int64Array:
    """Rows that answer several queries, `least` or more, those that answer many first: they soon
    give a good threshold. Rows that answer one are no better than others."""
    found = answers >= 0  # few rows may give fewer answers
    slots, ranks = answers[found], np.nonzero(found)[1]
    weights = np.bincount(slots, (1.0 + ranks) ** -0.5, minlength=n)
    answering = np.flatnonzero(np.bincount(slots, minlength=n) >= least)
    return answering[np.argsort(-weights[answering], kind="stable")]
