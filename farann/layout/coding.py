"""Coding rows in an order: panels, their scales, and bounds of the keys of their rows."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from farann import _core
from farann._types import Float32Array, Float64Array, Int32Array, Int64Array, Progress, RowArray
from farann.contract.index_spec import INT8, CodeWidth, IndexSpec, MetricTraits
from farann.layout.cost_model import MeanQueryDirection, along_and_across
from farann.quantize.coarse import code_coarse
from farann.quantize.nibbles import empty_panels
from farann.quantize.pca_filter import code_along
from farann.quantize.projection import Projection
from farann.quantize.records import CodeArrays, CodeBounds, Origins
from farann.quantize.scalar import (
    CodedBlock,
    Extents,
    Laying,
    blocks_of,
    bounds_from,
    centred,
    code_rows,
    largest_of_panels,
    parts_of,
    places_of,
    sample_of,
)
from farann.runtime import batches
from farann.runtime.process import each

# Rows ordered by key bound are sorted by scale within groups of at most 512.
_PART_BY_LENGTH = 512
# Least groups of a run, if it has enough panels.
_PARTS_OF_RUNS = 128
# Most rows of a layout with an order, as slots have 32 bits; more rows stay in their own order.
MOST_ORDERED = 2**31
# k of the answers by which rows that answer many queries are found.
ORDER_K = 32
# Queries that order a run: one for 8 rows, but at least 128; small runs are merged soon.
_ROWS_A_QUERY, _LEAST_QUERIES = 8, 128
# Relative rounding of lengths to float32, with room to spare.
_LENGTH_UP = 2.0**-20


class Builder(NamedTuple):
    """Rows and the settings to code them in a given order."""

    rows: RowArray
    centre: Float64Array
    metric: MetricTraits
    isa: str
    extents: Extents
    progress: Progress
    origins: Origins | None = None
    threads: int = 1
    unlike: bool = False  # rows may be of another kind than those that the axes were made for

    def by_size(self, slots: Int64Array) -> Int64Array:
        """Slots by the size of their rows, so that rows of a panel need about the same scale."""
        return slots[np.argsort(-self.extents.largest[slots], kind="stable")]

    def by_size_in_parts(self, slots: Int64Array, part: int) -> Int64Array:
        """Sort slots by size within groups of `part`, and keep the order of the groups."""
        parts = [self.by_size(slots[i : i + part]) for i in range(0, len(slots), part)]
        return np.concatenate([slots[:0], *parts])

    def by_key_bound(self, slots: Int64Array, key_bound: Float64Array,
                     part: int = _PART_BY_LENGTH) -> Int64Array:
        """Slots by the bounds of their rows' keys, the largest first; by size in parts."""
        order = slots[np.argsort(-key_bound[slots], kind="stable")]
        return self.by_size_in_parts(order, part)

    def lengths(self) -> Float64Array:
        """Distances of the rows from the center."""
        found = np.empty(len(self.rows))

        def measure(block: slice) -> None:
            for some in parts_of(block):
                vectors = centred(self.rows[some], self.centre, self.metric.normalized)
                found[some] = np.sqrt(np.einsum("ij,ij->i", vectors, vectors))

        each(measure, blocks_of(len(self.rows)), self.threads)
        return found

    def along_and_across(self, direction: Projection) -> tuple[Float64Array, Float64Array]:
        """The component of each row along a direction, and the length of the rest."""
        along, across = np.empty(len(self.rows)), np.empty(len(self.rows))

        def measure(block: slice) -> None:
            along[block], across[block] = along_and_across(
                centred(self.rows[block], self.centre, self.metric.normalized), direction)

        each(measure, blocks_of(len(self.rows)), self.threads)
        return along, across

    def with_key_bounds(self, arrays: CodeArrays, order: Int64Array, lengths: Float64Array,
                        mean_query: MeanQueryDirection | None = None,
                        along: Float64Array | None = None) -> CodeArrays:
        """Add key bounds of panels to codes, rounded up.

        They are the rows' lengths, or with a mean query direction their components along it and the
        lengths of the rest."""
        arrays = replace(arrays, max_norm=self._most(lengths, order))
        if mean_query is None or along is None:
            return arrays
        there = np.where(order >= 0, along[np.maximum(order, 0)], -np.inf)
        most = there.reshape(-1, _core.code_rows(1)).max(axis=1)
        # Empty panels come last, and have no larger bounds than others.
        most = np.where(np.isfinite(most), most, along.min())
        return replace(arrays, mean_query_direction=mean_query.direction,
                       max_along=np.nextafter(most.astype(np.float32), np.float32(np.inf)))

    def _most(self, lengths: Float64Array, order: Int64Array) -> Float32Array:
        most = largest_of_panels(lengths, order) * (1.0 + _LENGTH_UP)
        return most.astype(np.float32)

    def relative_to(self, origins: Origins) -> Builder:
        """Return a builder that codes the differences of rows from their origins."""
        extents, largest = self.extents, np.empty(len(self.rows))

        def measure(block: slice) -> None:
            z = extents.transform.rows(centred(self.rows[block], self.centre,
                                               self.metric.normalized))
            largest[block] = np.abs(z - origins.of(block, z.shape[1])).max(axis=1)

        each(measure, blocks_of(len(self.rows)), self.threads)
        # Equal rows leave next to nothing.
        limit = max(extents.limit / extents.span,
                    float(np.delete(largest, extents.outliers).max()))
        return self._replace(origins=origins,
                             extents=extents._replace(largest=largest, limit=limit))

    def answers(self, queries: Float32Array) -> Int64Array:
        """Slots of the 32 rows furthest from each query."""
        rows = _core.Snapshot(self.rows, self.rows[:0], None, None, self.centre,
                              self.metric.number, self.isa)
        k = min(ORDER_K, len(self.rows))
        return batches.top(rows, _core.Filter(rows), queries, k, False, self.threads)[0].ids

    def lay_out(self, order: Int64Array, pca_filter: Projection | None = None,
                width: CodeWidth = INT8, shape: Float64Array | None = None,
                rest_step: float = 0.0) -> CodeArrays:
        """Code rows in an order of slots, -1 for none, in whole panels.

        With a PCA filter what is outside it has the `rest_step`, or one of its own.
        """
        if pca_filter is not None:
            return self._lay_out_along(order, pca_filter, rest_step)
        n, panel = len(self.rows), _core.code_rows(1)
        places = places_of(order, n)
        inv_scale = self.extents.inv_scale(largest_of_panels(self.extents.largest, order))
        panels, low_nibbles = empty_panels(len(order), self.extents.transform.width, True)
        low_nibbles = low_nibbles if width.low_bits else None
        squares, low_nibble_norm = self._room(len(order)), np.zeros(len(order), np.float32)
        of_rows = inv_scale[np.maximum(places, 0) // panel]

        def lay(coded: CodedBlock) -> None:
            at, there = places[coded.rows], places[coded.rows] >= 0
            _core.pack_codes(coded.codes, at, True, panels, low_nibbles)
            low_nibble_norm[at[there]] = coded.low_nibble_norm[there]
            if squares is not None:
                squares[at[there]] = (coded.squares * of_rows[coded.rows])[there]

        extremes = self._code(of_rows, lay) if not width.is_coarse else code_coarse(
            self.rows, self.centre, self.metric.normalized, self.extents, of_rows, width, shape,
            self.origins, lay, self.progress, self.threads)
        return CodeArrays(
            panels=panels, low_nibbles=low_nibbles, inv_scale=inv_scale, squares=squares,
            low_nibble_norm=low_nibble_norm.reshape(-1, panel).max(axis=1),
            bounds=self._bounds(extremes), slots=self._slots(order), outliers=self.extents.outliers,
            **self.extents.transform._asdict())

    def _lay_out_along(self, order: Int64Array, pca_filter: Projection,
                       rest_step: float) -> CodeArrays:
        places = places_of(order, len(self.rows))
        along = code_along(
            pca_filter, self.rows, self.centre, self.metric.normalized, self.extents.outliers,
            order, places, rest_step, self.threads)
        panel = _core.code_rows(1)
        # One scale a panel, so that the first rows can be scanned as panels, too.
        by_panel = self.extents.inv_scale(largest_of_panels(self.extents.largest, order))
        own = by_panel[np.maximum(places, 0) // panel]
        whole = np.zeros((len(order), self.extents.transform.width), np.uint8)
        whole_inv_scale = np.repeat(by_panel, panel)
        squares, whole_squares = self._room(len(order)), self._room(len(order))

        def lay(coded: CodedBlock) -> None:
            there = places[coded.rows] >= 0
            at, inv_scale = places[coded.rows][there], own[coded.rows][there]
            whole[at] = coded.codes[there]
            if squares is not None and whole_squares is not None:
                lengths = coded.squares[there]
                squares[at] = lengths * along.inv_scale[at // panel]
                whole_squares[at] = lengths * inv_scale

        extremes = self._code(own, lay)
        return CodeArrays(
            pca_filter=pca_filter, panels=along.panels, inv_scale=along.inv_scale, squares=squares,
            bounds=along.bounds, whole=whole, whole_inv_scale=whole_inv_scale,
            whole_squares=whole_squares, whole_bounds=self._bounds(extremes),
            slots=self._slots(order), outliers=self.extents.outliers,
            **self.extents.transform._asdict())

    def _bounds(self, extremes: Float64Array) -> CodeBounds:
        if self.extents.transform.pca_axes is None:
            return bounds_from(extremes)
        transform = self.extents.transform
        outside = transform.outside_at_most if self.unlike else transform.outside
        return bounds_from(extremes, outside(
            sample_of(self.rows, self.centre, self.metric.normalized)))

    def _code(self, inv_scale: Float32Array, lay: Laying) -> Float64Array:
        return code_rows(self.rows, self.centre, self.metric.normalized, self.extents, inv_scale,
                         self.isa, lay, self.progress, self.threads)

    def _room(self, n_positions: int) -> Float32Array | None:
        """Memory for |z|^2 times the inverse scale, by position; None if the metric needs none."""
        if not self.metric.adds_squared_norm:
            return None
        return np.zeros(n_positions, np.float32)

    def _slots(self, order: Int64Array) -> Int32Array | None:
        return None if len(self.rows) > MOST_ORDERED else order.astype(np.int32)


def answering(answers: Int64Array, n: int, least: int = 2) -> Int64Array:
    """Rows that answer `least` queries or more, those that answer most first.

    They soon give a good threshold. Rows that answer one query are no better than others."""
    found = answers >= 0  # few rows may give fewer answers
    slots, ranks = answers[found], np.nonzero(found)[1]
    shares = np.bincount(slots, (1.0 + ranks) ** -0.5, minlength=n)
    several = np.flatnonzero(np.bincount(slots, minlength=n) >= least)
    return several[np.argsort(-shares[several], kind="stable")]


def whole_panels(order: Int64Array) -> Int64Array:
    """Pad an order with -1 up to whole panels."""
    padded = np.full(_core.code_rows(len(order)), -1, np.int64)
    padded[: len(order)] = order
    return padded


def largest_coded(codes: CodeArrays) -> float:
    """The largest |coordinate| that codes were made for."""
    inv_scale = codes.inv_scale if codes.whole_inv_scale is None else codes.whole_inv_scale
    return 127.0 / float(inv_scale.min())


class Sizes(NamedTuple):
    """Measures of rows that are taken before they are coded."""

    largest: Float64Array  # |coordinate|, transformed
    # Lengths of what isn't along the mean query direction, if there is one; None: not needed.
    lengths: Float64Array | None
    along: Float64Array | None  # the mean query direction

    def of(self, rows: npt.NDArray[np.integer[Any]]) -> Sizes:
        """Select the measures of some of the rows."""
        lengths, along = self.lengths, self.along
        return Sizes(self.largest[rows], None if lengths is None else lengths[rows],
                     None if along is None else along[rows])


def sizes_like(base: CodeArrays, rows: RowArray, centre: Float64Array, spec: IndexSpec,
               isa: str) -> Sizes:
    """Measure rows that are to be coded as those of a base were."""
    largest = np.empty(len(rows))
    _core.code_extents(rows, centre, spec.metric.normalized, *base.transform, isa, largest)
    if base.max_norm is None and spec.metric.normalized:
        # Unit vectors have about the same length, so bounds tell nothing.
        return Sizes(largest, None, None)
    vectors = centred(rows, centre, spec.metric.normalized)
    if base.mean_query_direction is None:
        return Sizes(largest, np.sqrt(np.einsum("ij,ij->i", vectors, vectors)), None)
    along, across = along_and_across(vectors, base.mean_query_direction)
    return Sizes(largest, across, along)


def code_like(base: CodeArrays, rows: RowArray, sizes: Sizes, centre: Float64Array,
              spec: IndexSpec, isa: str, queries: Float32Array) -> CodeArrays:
    """Code more rows as those of a base were, with 8 bits, as one run; slots count these rows.

    Rows that answer many queries come first, then those with the largest key bounds; a panel
    has the bound of all from it on.
    """
    limit = largest_coded(base)
    most = max(float(sizes.largest.max()), limit)
    extents = Extents(base.transform, sizes.largest, most, np.empty(0, np.int64),
                      _core.CODE_SPAN * most / limit)
    builder = Builder(rows, centre, spec.metric, isa, extents, False, unlike=True)
    mean_query, key_bound = None, sizes.lengths
    # Approximate searches scan a few of these parts.
    part = _core.code_rows(int(np.clip(len(rows) // _PARTS_OF_RUNS, 1, _PART_BY_LENGTH)))
    some = queries[:: -(-len(queries) // max(len(rows) // _ROWS_A_QUERY, _LEAST_QUERIES))]
    hubs = answering(builder.answers(np.ascontiguousarray(some)), len(rows))
    first = builder.by_size_in_parts(hubs, part)
    rest = np.delete(np.arange(len(rows)), hubs)
    if key_bound is None or sizes.lengths is None:
        order = whole_panels(np.concatenate([first, builder.by_size(rest)]))
        return builder.lay_out(order, base.pca_filter, rest_step=base.bounds.rest_step)
    if sizes.along is not None and base.mean_query_direction is not None:
        mean_query = MeanQueryDirection(base.mean_query_direction, 1.0, 1.0)
        key_bound = mean_query.optimistic_score(sizes.along, sizes.lengths)
    order = whole_panels(np.concatenate([first, builder.by_key_bound(rest, key_bound, part)]))
    arrays = builder.lay_out(order, base.pca_filter, rest_step=base.bounds.rest_step)
    arrays = builder.with_key_bounds(arrays, order, sizes.lengths, mean_query, sizes.along)
    return replace(arrays, max_norm=_from_each_on(arrays.max_norm),
                   max_along=_from_each_on(arrays.max_along))


def _from_each_on(values: Float32Array | None) -> Float32Array | None:
    if values is None:
        return None
    return np.ascontiguousarray(np.maximum.accumulate(values[::-1])[::-1])
