"""The rows of an index: where they live, which are removed, and immutable views for searches.

Rows have slots, counted through two segments: the base, laid down by the last build (or
mapped from a file), and the tail, added since.

A store never changes. What changes an index (`with_rows`, `without`, `rebuilt`, ...) makes another
store beside it, which shares the arrays that stay the same: adding writes behind what older stores
see, removing and building make new arrays. So a change that fails leaves nothing behind, and a
search needs no lock: it holds the store that it began with.
"""

from __future__ import annotations

from copy import copy
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from farann import _core
from farann._types import Float32Array, Float64Array, Int64Array, Progress, RowArray, UInt8Array
from farann.contract.checks import check_rows
from farann.contract.index_spec import IndexSpec
from farann.contract.row_types import empty_rows
from farann.contract.stop_rule import StopRule
from farann.results import Hits
from farann.runtime import paging
from farann.runtime.pool import default_isa
from farann.runtime.progress import told
from farann.store.groups import Groups
from farann.store.ids import IdMap, appended
from farann.tuning.table import Tunings

if TYPE_CHECKING:
    from farann.layout.added_rows import Added, Run
    from farann.quantize.records import CodeArrays, Layout, PartitionArrays
    from farann.quantize.scalar import CodedRows
    from farann.store.labels import Labels
    from farann.tuning.table import Measured

# Of a search for batches that is kept: level, k, its room for queries, and recall.
BatchKey: TypeAlias = "tuple[str, int, int, float | None]"
# A tuning table, and the stop rule of the queries it holds for; None: they are exact.
RuleByTable: TypeAlias = "tuple[Measured, StopRule | None]"
# Spare room of a longer tail, as a share of it. Pages that nobody wrote to take no memory.
TAIL_ROOM = 3.0
_OF_A_BUILD = frozenset({"base", "center", "exact", "layout", "n_coded"})
_MERGED_AT_ONCE = 65_536  # rows copied at a time where segments are merged


class Answers(NamedTuple):
    """The rows furthest from sample queries, among the first `n_slots` of a store."""

    guard: object  # that of the tuned queries, which the sample is like
    runs: tuple[Run, ...]  # the runs of that store
    n_slots: int
    queries: Float32Array
    hits: Hits  # slots for ids; rows that are removed later stay in it


def reading_of(layout: Layout | None) -> str:
    """How searches read rows in a mapped file: those that codes leave, or all of them."""
    return paging.NORMAL if layout is None or layout.codes.float32_below > 0.0 else paging.RANDOM


class View(NamedTuple):
    """A store's snapshots for searches, and the filter that allows every row."""

    snapshot: _core.Snapshot
    everything: _core.Filter
    exact: _core.Snapshot  # the same, or another layout for exact searches
    coded_dim: int  # coordinates that a scan of codes goes along; 0: there are no codes


class Store:
    """Rows by slot, in two segments, with their ids; the base has codes where that helps."""
    dim: int
    spec: IndexSpec
    tunings: Tunings
    nearest_tunings: Tunings
    asks_nearest: bool
    for_nearest: bool
    mirror: Store | None

    def __init__(self, dim: int, spec: IndexSpec) -> None:
        self.dim, self.spec = dim, spec
        self.build: object = object()  # stays while rows are added and removed alone
        self.edits = 0  # changes of rows by users, since it was made or loaded
        self.layout: Layout | None = None
        self.exact: Layout | None = None  # the layout of exact searches, if they have their own
        self.codes_recall: float | None = None
        # Number of rows kept as codes alone; the base then holds the rows without codes.
        self.n_coded: int | None = None
        self.tunings, self.nearest_tunings = Tunings(), Tunings()
        # Whether searches are for the nearest rows, see `mirrored`; whether the layout is for them.
        self.asks_nearest, self.for_nearest, self.mirror = False, False, None
        self.negates = False  # whether the core is asked for the furthest of queries times -1
        self.unused_queries: Float32Array | None = None
        # Up to 512 of the queries given to `build`; None: rows are sampled when they are needed.
        self.order_queries: Float32Array | None = None
        self.ids: IdMap = IdMap()
        self.labels: Labels | None = None  # where ids are strings; ids are their numbers then
        self.groups: Groups | None = None  # of all rows, or of none
        self.base: RowArray = np.empty((0, dim), spec.stored)
        self.center: Float64Array = np.zeros(dim)
        self.built: bool = False
        self.n_removed: int = 0
        self.mask: UInt8Array | None = None
        self._tail: RowArray = self.base  # with spare room at the end
        self._n_tail = 0
        self.added: Added | None = None  # codes of the tail, where the base has codes and vectors
        # Made when it is first asked for; two threads may make the same, and either will do.
        self._view: tuple[str, View] | None = None
        # Searches for single queries, see `filters.Singles`.
        self.singles: dict[tuple[Any, ...], _core.SingleSearch] = {}
        # Prepared searches for small batches, one of each kind, and what was last asked.
        self.batches: dict[BatchKey, _core.SingleSearch] = {}
        self.last_batches: dict[tuple[int, bool], BatchKey] = {}
        # By k, where depths of runs were needed; a store with other rows takes them over.
        self.run_answers: dict[int, Answers] = {}
        # By k, recall, whether it is a single query, and whether it may find every row.
        self.rules: dict[tuple[int, float | None, bool, bool], RuleByTable] = {}
        # What searches did, see `batches.top`; stores of the same layout share it.
        self.work_shares: dict[tuple[int, ...], float] = {}

    def changed(self, **parts: Any) -> Store:
        """This store with other parts; views and caches of the old ones are dropped."""
        new = copy(self)
        new.__dict__.update(parts, _view=None, singles={}, batches={}, rules={}, mirror=None,
                            run_answers=dict(self.run_answers))
        if not _OF_A_BUILD.isdisjoint(parts):
            new.build = object()
        if "layout" in parts:
            new.tunings, new.nearest_tunings, new.run_answers = Tunings(), Tunings(), {}
            new.work_shares = {}
        return new

    def rows_left(self, slots: Int64Array | None) -> dict[str, Any]:
        """Ids, labels and groups of the rows in some slots, in this order, as parts of a store
        that has no others; None: all rows."""
        ids, groups, labels = self.ids, self.groups, self.labels
        if slots is not None:
            ids, groups = ids.subset(slots), None if groups is None else groups.subset(slots)
        if labels is not None and len(labels) != len(ids):
            numbers = ids.ids_of(np.arange(len(ids), dtype=np.int64))
            left = np.sort(numbers)  # strings that no row has are dropped
            ids = IdMap.restored(left.searchsorted(numbers), len(ids), 0)
            labels = labels.subset(left)
        return {"ids": ids, "labels": labels, "groups": groups, "mask": None, "n_removed": 0}

    @property
    def tail(self) -> RowArray:
        """Rows added since the last build."""
        return self._tail[: self._n_tail]

    @property
    def n_slots(self) -> int:
        """Rows, with those that are removed."""
        return self.n_base + self._n_tail

    @property
    def n_base(self) -> int:
        """Rows of the last build, with those that are removed."""
        return len(self.base) if self.n_coded is None else self.n_coded

    @property
    def n_left_of_base(self) -> int:
        """The same without those."""
        if self.mask is None:
            return self.n_base
        return int(np.count_nonzero(self.mask[: self.n_base].view(np.bool_)))

    def __len__(self) -> int:
        return self.n_slots - self.n_removed

    def view(self, isa: str) -> View:
        """The view for searches at an instruction-set level."""
        made = self._view
        if made is None or made[0] != isa:
            added = runs = uncoded = None
            if self.added is not None and self.added.codes is not None:
                added = self.added.codes.made(partial(_core.Codes, in_runs=True),
                                              self.n_slots, self.dim)
                runs = np.array([[run.start, run.stop] for run in self.added.runs], np.int64)
                uncoded = self.added.uncoded

            def snapshot_of(layout: Layout | None) -> _core.Snapshot:
                codes, partitions = (None, None) if layout is None else layout.native(
                    self.n_base, self.dim)
                return _core.Snapshot(
                    self.base, self.tail, self.ids.by_slot(), self.mask, self.center,
                    self.spec.metric.number, isa, codes=codes, partitions=partitions,
                    vectors=self.n_coded is None, added=added, runs=runs, uncoded=uncoded)

            snapshot = snapshot_of(self.layout)
            exact = snapshot if self.exact is None else snapshot_of(self.exact)
            codes = self.codes
            coded_dim = 0 if codes is None else codes.n_directions or codes.transform.n_coded
            made = self._view = isa, View(snapshot, _core.Filter(snapshot), exact, coded_dim)
        return made[1]

    def mirrored(self, isa: str) -> Store:
        """This store for the nearest rows, with tunings of its own: under dot and cosine it is
        asked for the furthest of queries times -1, see `MetricTraits.mirrored`."""
        made = self.mirror
        if made is None:
            self.view(isa)  # made here both have it
            made = copy(self)
            made.tunings, made.asks_nearest = self.nearest_tunings, True
            made.negates = not made.by_nearest
            made.singles, made.batches, made.run_answers, made.rules = {}, {}, {}, {}
            self.mirror = made
        return made

    @property
    def by_nearest(self) -> bool:
        """Whether the core is to find the nearest rows, as under l2 no queries stand for them."""
        return self.asks_nearest and self.spec.metric.adds_squared_norm

    def float32_below(self, nearest: bool = False) -> float:
        """The cost below which single exact queries begin in float32, see `CodeArrays`."""
        layout = self.exact or self.layout
        if layout is None or (nearest or self.asks_nearest) != self.for_nearest:
            return 0.0  # it was measured for the other direction
        return layout.codes.float32_below

    @property
    def reading(self) -> str:
        """How searches read the rows of the base, as `paging.advise` takes it."""
        return reading_of(self.exact or self.layout)

    @property
    def codes(self) -> CodeArrays | None:
        """Codes of the base."""
        return None if self.layout is None else self.layout.codes

    @property
    def partitions(self) -> PartitionArrays | None:
        """Partitions of these codes."""
        return None if self.layout is None else self.layout.partitions

    def slots_of(self, ids: Int64Array) -> Int64Array:
        """Slots of some ids; -1 for those that no row has."""
        return self.ids.slots_of(ids, self.mask)

    def live_slots(self) -> Int64Array:
        """Slots of the rows that are not removed."""
        if self.mask is None:
            return np.arange(self.n_slots, dtype=np.int64)
        return np.flatnonzero(self.mask).astype(np.int64, copy=False)

    def live_ids(self) -> Int64Array:
        """Their ids, in the order of slots."""
        return self.ids.ids_of(self.live_slots())

    def named(self, ids: Int64Array) -> npt.NDArray[Any]:
        """Ids as users know them: strings, with None for -1, where these are numbers of strings."""
        return ids if self.labels is None else self.labels.texts(ids)

    def take(self, slots: Int64Array) -> Float32Array:
        """Copies of some rows; rows that are kept as codes alone are decoded."""
        if self.n_coded is None:
            return _core.widened(self.stored(slots))
        rows = np.empty((len(slots), self.dim), np.float32)
        in_tail = slots >= self.n_base
        rows[in_tail] = _core.widened(self.stored(slots[in_tail]))
        rows[~in_tail] = self.coded.take(slots[~in_tail])
        return rows

    def stored(self, slots: Int64Array) -> RowArray:
        """Copies of some rows as they are kept; not of those that are there as codes alone."""
        rows = np.empty((len(slots), self.dim), self.base.dtype)
        in_tail = slots >= self.n_base
        rows[in_tail] = self.tail[slots[in_tail] - self.n_base]
        rows[~in_tail] = self.base[slots[~in_tail]]
        return rows

    def with_rows(self, rows: RowArray, ids: Int64Array, groups: Groups | None) -> Store:
        """This store with more rows, whose ids are new; `groups` are those of all rows."""
        before, n_tail, live, added = self._n_tail, self._n_tail + len(rows), self.mask, None
        if live is not None:
            live = np.concatenate([live, np.ones(len(rows), np.uint8)])
        tail = appended(self._tail, before, rows, TAIL_ROOM, least=0)
        # Checked after the copy, as another thread may change the caller's array.
        check_rows("rows", tail[before:n_tail], self.spec.metric.normalized)
        if self.codes is not None and self.n_coded is None:
            from farann.layout.added_rows import Added

            added = (self.added or Added()).grown(
                self.codes, tail[:n_tail], len(rows), self.n_base, self.center, self.spec,
                default_isa(), self._order_queries)
        return self.changed(_tail=tail, _n_tail=n_tail, mask=live, ids=self.ids.grown(ids),
                            groups=groups, added=added, edits=self.edits + 1)

    def _order_queries(self) -> Float32Array:
        """Queries that runs are ordered by: some of those that the base was laid out with."""
        made = self.order_queries
        if made is None:
            from farann.layout.sampling import few_of, sample_queries

            made = self.order_queries = few_of(sample_queries(self.base, self.spec.seed, None))
        return made

    def without(self, slots: Int64Array) -> Store:
        """This store with some rows marked as removed; `rebuilt` gives their space back."""
        live = np.ones(self.n_slots, np.uint8) if self.mask is None else self.mask.copy()
        live[slots] = 0
        return self.changed(mask=live, n_removed=self.n_removed + len(slots), edits=self.edits + 1)

    def rebuilt(self, queries: Float32Array | None = None, progress: Progress = False,
                threads: int = 1, nearest: bool | None = None) -> Store:
        """Build one segment without removed rows, with a new center and codes; `nearest`:
        for nearest searches, like the given queries; None: as before."""
        if self.n_coded is not None:
            live = self.live_slots()
            if len(live) and live[0] < self.n_coded:
                return self._extended()
            return self._uncoded(live).rebuilt(queries, progress, threads, nearest)
        from farann.layout.build import Made, make_codes
        from farann.layout.sampling import few_of, samples_for
        from farann.quantize.scalar import center_of

        base, room, left = self._merged(progress)
        paging.advise(base, paging.RANDOM)
        nearest = self.for_nearest if nearest is None else nearest
        unused = self.unused_queries
        if unused is not None and nearest != self.for_nearest:
            unused = self.spec.metric.mirrored(unused)
        if queries is not None and len(queries) > 1:
            # Every fourth is kept for `tune`, whose queries must not be those of the order of rows.
            unused, queries = queries[::4].copy(), np.delete(queries, np.s_[::4], axis=0)
        order_queries = None
        if queries is not None and len(queries):
            order_queries = few_of(self.spec.metric.mirrored(queries) if nearest else queries)
        center, made = center_of(base, self.spec.metric.normalized), Made()
        if self.spec.codes != "float32" and len(base):
            queries, held = samples_for(base, queries, unused, self.spec, nearest)
            made = make_codes(base, center, self.spec, default_isa(), queries, progress,
                              threads, held, nearest and self.spec.metric.adds_squared_norm)
        n_coded = None
        paging.advise(base, reading_of(made.exact or made.layout))
        if made.layout is not None and not self.spec.vectors:
            base, n_coded = base[made.layout.codes.outliers], len(base)
            room = base[:0]
        return self.changed(
            **left, base=base, n_coded=n_coded, center=center, _tail=room, _n_tail=0, added=None,
            layout=made.layout, exact=made.exact, codes_recall=made.recall, unused_queries=unused,
            order_queries=order_queries, for_nearest=nearest, built=True)

    def _merged(self, progress: Progress) -> tuple[RowArray, RowArray, dict[str, Any]]:
        """All rows that are left as one segment, where they lie if they are in one piece, room for
        more rows, and the `rows_left`."""
        if self.mask is None and (base := self._in_place()) is not None:
            return base, self._tail[self._n_tail :], self.rows_left(None)
        live = self.live_slots()
        base = empty_rows((len(live), self.dim), self.base.dtype)
        starts = range(0, len(live), _MERGED_AT_ONCE)
        with told("merging rows", len(starts), progress) as advance, paging.in_order(self.base):
            for block in (slice(start, start + _MERGED_AT_ONCE) for start in starts):
                base[block] = self.stored(live[block])
                advance(1)
        return base, base[:0], self.rows_left(live)

    def _in_place(self) -> RowArray | None:
        """The rows of both segments where they lie; None unless the tail follows the base."""
        base, tail = self.base, self.tail
        if not len(base) or not len(tail):
            return base if len(base) else tail
        whole = base.base
        if whole is None or whole is not tail.base or (
                tail.ctypes.data != base.ctypes.data + base.nbytes):
            return None
        return np.ndarray((len(base) + len(tail), self.dim), base.dtype, whole,
                          base.ctypes.data - whole.ctypes.data)

    def with_room(self, n: int) -> Store:
        """This store with room for n more rows than it has."""
        if len(self._tail) >= self._n_tail + n:
            return self
        room = empty_rows((self._n_tail + n, self.dim), self.base.dtype)
        room[: self._n_tail] = self.tail
        return self.changed(_tail=room)

    def _uncoded(self, live: Int64Array) -> Store:
        """The remaining rows if no coded row is left: a tail to start over with."""
        rows = self.stored(live)
        return self.changed(**self.rows_left(live), base=rows[:0], n_coded=None, _tail=rows,
                            _n_tail=len(rows), layout=None)

    def _extended(self) -> Store:
        """Code the tail as the base, whose vectors were dropped; leave out removed rows."""
        from farann.layout import recoding

        assert self.codes is not None and self.n_coded is not None
        live, isa = self.live_slots(), default_isa()
        layout, outlier_rows = self.layout_left()
        n_coded = int(np.searchsorted(live, self.n_coded))
        tail = self.stored(live[n_coded:])
        layout, far = recoding.extended(layout, n_coded, tail, self.center, self.spec, isa)
        order = np.concatenate([np.flatnonzero(~far), np.flatnonzero(far)])
        left = np.concatenate([live[:n_coded], live[n_coded:][order]])
        return self.changed(
            **self.rows_left(left), layout=layout, base=outlier_rows, _tail=tail[far],
            n_coded=n_coded + int((~far).sum()), _n_tail=int(far.sum()))

    @property
    def coded(self) -> CodedRows:
        """A base without vectors."""
        from farann.quantize.scalar import CodedRows

        assert self.layout is not None and self.n_coded is not None
        return CodedRows(self.layout, self.base, self.center, self.spec.metric)

    def layout_left(self) -> tuple[Layout, RowArray]:
        """The layout of a base without vectors and its outliers, without removed rows."""
        layout, rows = self.coded[:2]
        if self.mask is None:
            return layout, rows
        from farann.layout import recoding

        return recoding.without(layout, rows, self.mask[: self.n_base].astype(np.bool_))

    @property
    def outgrown(self) -> bool:
        """Whether more rows were added than built, and over 1,024: building again pays."""
        return self._n_tail > max(self.n_base, 1024)

    def nbytes(self) -> dict[str, int]:
        """Bytes by part."""
        coded = (self.codes, self.added and self.added.room, self.exact and self.exact.codes)
        return {
            "rows": self.base.nbytes + self.tail.nbytes,  # spare room is no memory until it is used
            "ids": self.ids.nbytes + (0 if self.labels is None else self.labels.nbytes),
            "groups": 0 if self.groups is None else self.groups.nbytes,
            "removed": 0 if self.mask is None else self.mask.nbytes,
            "center": self.center.nbytes,
            "codes": sum(record.nbytes for record in coded if record is not None),
            "cells": 0 if self.partitions is None else self.partitions.nbytes}

    def sample_queries(self, most: int) -> tuple[Float32Array, Int64Array | None]:
        """Queries to measure with: real ones where `build` was given some, else rows; and of rows
        their slots if they are asked for the nearest, of which they are one themselves."""
        source, mirrored = self.unused_queries, self.spec.metric.mirrored
        if source is not None and len(source):
            other = self.asks_nearest != self.for_nearest
            return mirrored(source[:most]) if other else source[:most], None
        free = np.ones(self.n_slots, np.uint8) if self.mask is None else self.mask.copy()
        if len(self.base) and self.n_coded is None:
            from farann.layout.sampling import sampled

            # The order was made so that these find their answers early.
            free[sampled(len(self.base), len(self.base), self.dim, self.spec.seed)] = 0
        slots = np.flatnonzero(free) if free.any() else self.live_slots()
        draw = np.random.default_rng([self.spec.seed, 1])
        slots = slots[np.sort(draw.choice(len(slots), min(most, len(slots)), replace=False))]
        rows = self.take(slots)
        return (mirrored(rows), slots) if self.asks_nearest else (rows, None)

    def base_alone(self) -> Store:
        """The store that is tuned: the base alone, with slots for ids, if added rows are in runs,
        which have depths of their own; else, or if the base has no rows left, the whole store."""
        if self.added is None or not self.added.runs:
            return self
        live, n_removed = None, 0
        if self.mask is not None:
            live = self.mask[: self.n_base]
            n_removed = self.n_base - self.n_left_of_base
        base = self.changed(_tail=self.tail[:0], _n_tail=0, added=None, mask=live,
                            n_removed=n_removed, ids=IdMap.restored(None, self.n_base, 0))
        return base if len(base) else self
