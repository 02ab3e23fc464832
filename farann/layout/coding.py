"""Coding rows in an order: panels, their scales, and bounds of the keys of their rows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from farann import _core
from farann._types import Float32Array, Float64Array, Int64Array, Progress, RowArray
from farann.contract.index_spec import INT8, CodeWidth, IndexSpec, MetricTraits
from farann.contract.stop_rule import ALL_CODES, EXACT
from farann.layout.sampling import MeanQueryDirection, along_and_across
from farann.quantize import scalar
from farann.quantize.records import CodeArrays, CodeBounds, Layout, Origins, empty_halves
from farann.quantize.scalar import Coarse, CodedBlock, Extents, centered, each_block, parts_of
from farann.quantize.transform import Projection
from farann.runtime import batches, paging

_PART_BY_LENGTH = 512  # rows of a group: rows ordered by key bound are sorted by scale within it
_PARTS_OF_RUNS = 128  # least number of such groups in a run, if it has enough panels
MOST_ORDERED = 2**31  # rows; more stay in their own order, as slots have 32 bits
ORDER_K = 32  # k of the sample's answers by which rows that answer many queries are found
_ROWS_A_RUN_QUERY = 8  # rows for each query that orders a run
_LEAST_RUN_QUERIES = 128  # least queries that order a run; small runs are merged soon
_UP = 1.0 + 1e-9  # factor that covers the rounding of sums in float64
_UP32 = 2.0**-23  # relative rounding of a number to float32, twice over
_LENGTH_UP = 2.0**-20  # relative rounding of lengths to float32, with room to spare


class Sizes(NamedTuple):
    """Measures of rows that decide how, and in which order, rows are coded."""

    largest: Float64Array  # |coordinate|, transformed
    # Norms across the mean query direction, if there is one; None: not needed.
    lengths: Float64Array | None = None
    along: Float64Array | None = None  # the mean query direction

    def key_bound(self, mean_query: MeanQueryDirection | None) -> Float64Array | None:
        """The measure that rows are ordered by, the largest first; None: by size alone."""
        if mean_query is None or self.along is None or self.lengths is None:
            return self.lengths
        return mean_query.optimistic_score(self.along, self.lengths)

    def of(self, rows: npt.NDArray[np.integer[Any]]) -> Sizes:
        """Select the measures of some of the rows."""
        parts: Any = (None if part is None else part[rows] for part in self)
        return Sizes(*parts)

    @staticmethod
    def joined(several: Iterable[Sizes]) -> Sizes:
        """The measures of several sets of rows, one after the other."""
        joined: Any = (None if parts[0] is None else np.concatenate(parts)
                       for parts in zip(*several, strict=True))
        return Sizes(*joined)


class RowLengths:
    """Lengths that key bounds may be made of, measured in any pass over rows: from the center;
    across a direction, if there is one; `from_origin`, of rows without negative numbers."""

    def __init__(self, n: int, center: Float64Array, normalized: bool,
                 direction: Projection | None = None, from_origin: bool = False) -> None:
        self._center, self._normalized, self._direction = center, normalized, direction
        self._lengths, n_along = np.empty(n), 0 if direction is None else n
        self._along, self._across = np.empty(n_along), np.empty(n_along)
        self._from_origin = np.empty(n) if from_origin else None

    @property
    def nonnegative(self) -> bool:
        """Whether lengths from the origin were asked for, and no row has negative numbers."""
        return self._from_origin is not None

    def measure(self, rows: RowArray, block: slice) -> None:
        """Measure a block of the rows."""
        for some in parts_of(block):
            vectors = centered(rows[some], self._center, self._normalized)
            self._lengths[some] = np.sqrt(np.einsum("ij,ij->i", vectors, vectors))
            if self._direction is not None:
                self._along[some], self._across[some] = along_and_across(vectors, self._direction)
            if (of_origin := self._from_origin) is not None:
                vectors = _core.widened(rows[some]).astype(np.float64)
                of_origin[some] = np.sqrt(np.einsum("ij,ij->i", vectors, vectors))
                if vectors.min() < 0.0:
                    self._from_origin = None

    def sizes(self, largest: Float64Array, along: bool = False, by_square: bool = False) -> Sizes:
        """The sizes of all rows, `along` the direction or not, or `by_square` from the origin."""
        if along:
            return Sizes(largest, self._across, self._along)
        return Sizes(largest, self._from_origin if by_square else self._lengths)


class _Along(NamedTuple):
    """Measures of rows along the directions of a PCA filter, filled while whole codes are made."""

    basis: Projection
    largest: Float64Array  # |component| along the basis
    rest: Float64Array  # length outside the basis

    def measure(self, block: slice, vectors: Float64Array) -> None:
        """Measure a block of centered rows."""
        along = self.basis.along(vectors)
        self.largest[block] = np.abs(along).max(axis=1)
        self.rest[block] = self.basis.residual_norms(vectors, along)


class Builder(NamedTuple):
    """Rows and the settings to code them in a given order."""

    rows: RowArray
    center: Float64Array
    metric: MetricTraits
    isa: str
    extents: Extents
    progress: Progress
    origins: Origins | None = None
    threads: int = 1
    unlike: bool = False  # rows may be of another kind than those that the axes were made for

    def vectors(self, rows: slice) -> Float64Array:
        """Some rows, centered, in float64."""
        return centered(self.rows[rows], self.center, self.metric.normalized)

    def by_size(self, slots: Int64Array) -> Int64Array:
        """Slots by the size of their rows, so that rows of a panel need about the same scale."""
        return slots[np.argsort(-self.extents.largest[slots], kind="stable")]

    def by_size_in_parts(self, slots: Int64Array, part: int) -> Int64Array:
        """Sort slots by size within groups of `part`, and keep the order of the groups."""
        parts = [self.by_size(slots[i : i + part]) for i in range(0, len(slots), part)]
        return np.concatenate([slots[:0], *parts])

    def by_key_bound(self, slots: Int64Array, key_bound: Float64Array | None,
                     part: int = _PART_BY_LENGTH) -> Int64Array:
        """Slots by the bounds of their rows' keys, the largest first, by size in parts; by size
        alone where there are no bounds."""
        if key_bound is None:
            return self.by_size(slots)
        order = slots[np.argsort(-key_bound[slots], kind="stable")]
        return self.by_size_in_parts(order, part)

    @property
    def coded(self) -> Int64Array:
        """Slots of rows that are not outliers."""
        return np.delete(np.arange(len(self.rows)), self.extents.outliers)

    @property
    def ordered(self) -> Builder:
        """The same once rows have their order and scales: without the measures of all rows."""
        return self._replace(extents=self.extents._replace(largest=np.empty(0)))

    def relative_to(self, origins: Origins) -> Builder:
        """Return a builder that codes the differences of rows from their origins."""
        extents, largest = self.extents, np.empty(len(self.rows))

        def measure(block: slice) -> None:
            z = extents.transform.rows(self.vectors(block))
            largest[block] = np.abs(z - origins.of(block, z.shape[1])).max(axis=1)

        each_block(measure, self.rows, self.threads)
        # Equal rows leave next to nothing.
        limit = max(extents.limit / extents.span, float(np.delete(largest, extents.outliers).max()))
        return self._replace(origins=origins,
                             extents=extents._replace(largest=largest, limit=limit))

    def snapshot(self, layout: Layout | None = None, vectors: bool = True) -> _core.Snapshot:
        """A snapshot of the rows as they would be searched."""
        base, codes, partitions = self.rows, None, None
        if layout is not None:
            codes, partitions = layout.native(*base.shape)
            base = base if vectors else base[layout.codes.outliers]
        return _core.Snapshot(base, self.rows[:0], None, None, self.center, self.metric.number,
                              self.isa, codes=codes, partitions=partitions, vectors=vectors,
                              in_file=base if paging.is_mapped(base) else None)

    def answers(self, queries: Float32Array, k: int = ORDER_K, nearest: bool = False,
                layout: Layout | None = None, vectors: bool = True) -> Int64Array:
        """Slots of the k best rows for each query, (len(queries), k)."""
        snapshot = self.snapshot(layout, vectors)
        return batches.top(snapshot, _core.Filter(snapshot), queries, k, nearest, self.threads,
                           EXACT if vectors else ALL_CODES)[0].ids

    def lay_out(self, order: Int64Array, pca_filter: Projection | None = None,
                width: CodeWidth = INT8, shape: Float64Array | None = None,
                rest_step: float = 0.0) -> CodeArrays:
        """Code rows in an order of slots, -1 for none, in whole panels.

        With a PCA filter what is outside it has the `rest_step`, or one of its own.
        """
        return self.lay_out_each([Coding(self, order, pca_filter, width, shape, rest_step)])[0]

    def lay_out_each(self, codings: Sequence[Coding]) -> list[CodeArrays]:
        """Code rows in several orders at once, so that they are read no more often."""
        def code(block: slice) -> None:
            for one in codings:
                one.code(block)

        def code_along(block: slice) -> None:
            for one in filtered:
                one.code_along(block)

        each_block(code, self.rows, self.threads, "coding rows", self.progress)
        filtered = [one for one in codings if one.begin_along()]
        if filtered:
            each_block(code_along, self.rows, self.threads)
        return [one.arrays() for one in codings]

    def bounds(self, extremes: Float64Array) -> CodeBounds:
        """Bounds of codes, from the largest squares of `encode_rows`."""
        if self.extents.transform.pca_axes is None:
            return scalar.bounds_from(extremes)
        transform = self.extents.transform
        outside = transform.outside_at_most if self.unlike else transform.outside
        return scalar.bounds_from(extremes, outside(
            scalar.sample_of(self.rows, self.center, self.metric.normalized)))


def key_bounds(order: Int64Array, sizes: Sizes, direction: Projection | None = None,
               by_square: bool = False) -> dict[str, Any]:
    """Key bounds of panels, rounded up, as parts of `CodeArrays`: of lengths, or along and across a
    direction. `by_square`: lengths are not centered, and rows have no negative numbers."""
    assert sizes.lengths is not None
    if by_square:
        return {"max_square": scalar.largest_of_panels(sizes.lengths**2, order)}
    most = scalar.largest_of_panels(sizes.lengths, order) * (1.0 + _LENGTH_UP)
    bounds: dict[str, Any] = {"max_norm": most.astype(np.float32)}
    if direction is not None and sizes.along is not None:
        # Empty panels come last, and have no larger bounds than others.
        most = scalar.largest_of_panels(sizes.along, order, sizes.along.min())
        bounds.update(mean_query_direction=direction,
                      max_along=np.nextafter(most.astype(np.float32), np.float32(np.inf)))
    return bounds


class Coding:
    """Rows being coded in one order. See `Builder.lay_out`.

    The peak of a build's memory is here: beside codes it holds few bytes a row."""

    def __init__(self, builder: Builder, order: Int64Array, pca_filter: Projection | None = None,
                 width: CodeWidth = INT8, shape: Float64Array | None = None,
                 rest_step: float = 0.0) -> None:
        self._builder, self._rest_step, extents = builder.ordered, rest_step, builder.extents
        n, n_places = len(builder.rows), len(order)
        self._inv_scale = extents.inv_scale(scalar.largest_of_panels(extents.largest, order))
        self._order = order.astype(np.int32) if n <= MOST_ORDERED else order
        self._places = scalar.places_of(order, n).astype(np.int32 if n_places < 2**31 else np.int64)
        squared = builder.metric.adds_squared_norm
        # |z|^2 times the inverse scale, by position.
        self._squares = np.zeros(n_places, np.float32) if squared else None
        # With a PCA filter whole codes have one scale a panel, so that the first rows can be
        # scanned as panels, too.
        self._whole = self._low_nibbles = self._low_nibble_norm = None
        self._along: _Along | None = None
        if pca_filter is not None:
            self._whole = np.zeros((n_places, extents.transform.width), np.uint8)
            self._along = _Along(pca_filter, np.empty(n), np.empty(n))
            self._panels = np.zeros((n_places, -(-len(pca_filter) // 4) * 4 + 4), np.uint8)
            self._lengths = np.empty(n if squared else 0)
        else:
            self._panels, low_nibbles = empty_halves(n_places, extents.transform.width)
            self._low_nibbles = low_nibbles if width.low_bits else None
            self._low_nibble_norm = np.zeros(n_places, np.float32)
        self._coarse = Coarse(width, shape, builder.origins) if width.is_coarse else None
        self._extremes: list[Any] = []  # squares of the bounds of blocks, in any order
        self._extremes_along: list[list[float]] = []

    def _own(self, inv_scale: Float32Array, rows: slice) -> tuple[Int64Array, Float32Array]:
        """Positions of rows, and their scales by panel: codes of outliers, which have no place, are
        worth nothing."""
        at = self._places[rows].astype(np.int64)
        return at, np.where(at >= 0, inv_scale[np.maximum(at, 0) // _core.code_rows(1)],
                            np.float32(0.0))

    def code(self, block: slice) -> None:
        """Code a block of rows, in the first pass."""
        builder, transform = self._builder, self._builder.extents.transform
        at, own = self._own(self._inv_scale, block)
        coded = CodedBlock(block, np.empty((len(at), transform.width), np.uint8),
                           np.empty(len(at)), np.empty(len(at), np.float32))
        self._extremes.append(_core.encode_rows(
            builder.rows[block], builder.center, builder.metric.normalized, transform.signs,
            transform.pca_axes, own, builder.isa, *coded[1:])
            if self._coarse is None else self._coarse.encode(
                transform.rows(builder.vectors(block)), own, coded))
        there = at >= 0
        if self._along is not None and self._whole is not None:
            for some in parts_of(block):
                self._along.measure(some, builder.vectors(some))
            self._whole[at[there]] = coded.codes[there]
        else:
            _core.pack_codes(coded.codes, at, True, self._panels, self._low_nibbles)
        if self._low_nibble_norm is not None:
            self._low_nibble_norm[at[there]] = coded.low_nibble_norm[there]
        if self._squares is not None:
            self._squares[at[there]] = (coded.squares * own)[there]
            if self._along is not None:
                self._lengths[block] = coded.squares

    def begin_along(self) -> bool:
        """Choose scales along the basis of a PCA filter; false: there is none.

        The last group of its panels has the length of the rest outside the basis. With a
        `rest_step` scales are such that this length fits its 127 steps."""
        if self._along is None:
            return False
        _, largest, rest = self._along
        # The floor: of rows that hardly lie along the basis, scales must not grow beyond float32.
        room = scalar.largest_of_panels(largest, self._order) * (1.0 + _UP32)
        outside = scalar.largest_of_panels(rest, self._order)
        longest = max(float(room.max()), 1e-6 * float(outside.max()), 1e-28)
        room = np.maximum(room, longest / _core.CODE_SPAN)
        if self._rest_step:
            room = np.maximum(room, outside / (self._rest_step * (1.0 - _UP32)))
        self._scale_along = (127.0 / room).astype(np.float32)
        self._along = self._along._replace(largest=rest[:0])
        for some in parts_of(slice(0, len(rest))):
            rest[some] *= self._own(self._scale_along, some)[1]
        if not self._rest_step:
            self._rest_step = max(float(rest.max()) / 127.0, 1e-30) * _UP
        self._squares_along = None if self._squares is None else np.zeros_like(self._squares)
        return True

    def code_along(self, block: slice) -> None:
        """Code a block along the basis, in a second pass: keeping components takes much memory."""
        assert self._along is not None
        basis, m = self._along.basis, len(self._along.basis)
        for some in parts_of(block):
            at, own = self._own(self._scale_along, some)
            exact = basis.along(self._builder.vectors(some))
            exact[at < 0] = 0.0  # float32 might not hold outliers
            exact = exact.astype(np.float32).astype(np.float64)
            scaled = exact * own[:, None]
            whole = np.clip(np.rint(scaled), -127.0, 127.0)
            codes = np.full((len(exact), self._panels.shape[1]), 128, np.uint8)
            codes[:, :m] = whole + 128.0
            codes[:, -4:] = 128.0 + np.ceil(self._along.rest[some] / self._rest_step)[:, None]
            _core.pack_codes(codes, at, False, self._panels)
            if self._squares_along is not None:
                self._squares_along[at[at >= 0]] = (self._lengths[some] * own)[at >= 0]
            self._extremes_along.append([float(np.einsum("ij,ij->i", part, part).max())
                                         for part in (scaled - whole, scaled, exact)])

    def arrays(self) -> CodeArrays:
        """The codes, once all blocks are coded."""
        builder, panel, inv_scale = self._builder, _core.code_rows(1), self._inv_scale
        bounds = builder.bounds(np.array(self._extremes).reshape(-1, 6).max(axis=0, initial=0.0))
        shared: dict[str, Any] = {
            "slots": self._order if self._order.dtype == np.int32 else None,
            "outliers": builder.extents.outliers, "panels": self._panels,
            **builder.extents.transform._asdict()}
        if self._low_nibble_norm is not None:
            return CodeArrays(
                low_nibbles=self._low_nibbles, inv_scale=inv_scale, squares=self._squares,
                bounds=bounds, low_nibble_norm=self._low_nibble_norm.reshape(-1, panel).max(axis=1),
                **shared)
        assert self._along is not None
        residual, length, norm = np.sqrt(np.max(self._extremes_along, axis=0)).tolist()
        return CodeArrays(
            pca_filter=self._along.basis, inv_scale=self._scale_along,
            squares=self._squares_along, bounds=CodeBounds(
                (residual + _UP32 * length) * _UP, length * (_UP + _UP32), 0.0,
                norm * (_UP + _UP32), self._rest_step), whole=self._whole,
            whole_inv_scale=np.repeat(inv_scale, panel), whole_squares=self._squares,
            whole_bounds=bounds, **shared)


def answering(answers: Int64Array, n: int, least: int = 2) -> Int64Array:
    """Rows that answer `least` queries or more, those that answer most first.

    They soon give a good threshold. Rows that answer one query are no better than others."""
    there = answers >= 0  # few rows may give fewer answers
    slots, ranks = answers[there], np.nonzero(there)[1]
    shares = np.bincount(slots, (1.0 + ranks) ** -0.5, minlength=n)
    several = np.flatnonzero(np.bincount(slots, minlength=n) >= least)
    return several[np.argsort(-shares[several], kind="stable")]


def whole_panels(order: Int64Array) -> Int64Array:
    """Pad an order with -1 up to whole panels."""
    padded = np.full(_core.code_rows(len(order)), -1, np.int64)
    padded[: len(order)] = order
    return padded


def sizes_like(base: CodeArrays, rows: RowArray, center: Float64Array, spec: IndexSpec,
               isa: str) -> Sizes:
    """Measure rows that are to be coded as those of a base were."""
    largest = np.empty(len(rows))
    _core.code_extents(rows, center, spec.metric.normalized, *base.transform, isa, largest)
    if base.max_norm is None and spec.metric.normalized:
        # Unit vectors have about the same length, so bounds tell nothing.
        return Sizes(largest)
    lengths = RowLengths(len(rows), center, spec.metric.normalized, base.mean_query_direction)
    lengths.measure(rows, slice(0, len(rows)))
    return lengths.sizes(largest, base.mean_query_direction is not None)


def code_like(base: CodeArrays, rows: RowArray, sizes: Sizes, center: Float64Array,
              spec: IndexSpec, isa: str, queries: Float32Array) -> CodeArrays:
    """Code more rows as those of a base were, with 8 bits, as one run; slots count these rows.

    Rows that answer many queries come first, then those with the largest key bounds; a panel
    has the bound of all from it on.
    """
    most, direction = max(float(sizes.largest.max()), base.largest), base.mean_query_direction
    extents = Extents(base.transform, sizes.largest, most, np.empty(0, np.int64),
                      _core.CODE_SPAN * most / base.largest)
    builder = Builder(rows, center, spec.metric, isa, extents, False, unlike=True)
    # Approximate searches scan a few of these parts.
    part = _core.code_rows(int(np.clip(len(rows) // _PARTS_OF_RUNS, 1, _PART_BY_LENGTH)))
    some = queries[:: -(-len(queries) // max(len(rows) // _ROWS_A_RUN_QUERY, _LEAST_RUN_QUERIES))]
    hubs = answering(builder.answers(np.ascontiguousarray(some)), len(rows))
    first = builder.by_size_in_parts(hubs, part)
    key_bound = sizes.key_bound(
        None if direction is None else MeanQueryDirection(direction, 1.0, 1.0))
    rest = builder.by_key_bound(np.delete(np.arange(len(rows)), hubs), key_bound, part)
    order = whole_panels(np.concatenate([first, rest]))
    arrays = builder.lay_out(order, base.pca_filter, rest_step=base.bounds.rest_step)
    if key_bound is None:
        return arrays
    arrays = replace(arrays, **key_bounds(order, sizes, direction))
    return replace(arrays, max_norm=_from_each_on(arrays.max_norm),
                   max_along=_from_each_on(arrays.max_along))


def _from_each_on(values: Float32Array | None) -> Float32Array | None:
    return None if values is None else np.maximum.accumulate(values[::-1])[::-1].copy()
