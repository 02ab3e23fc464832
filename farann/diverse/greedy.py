"""Greedy k-center: where a selection begins, and running it in steps that Ctrl+C ends."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial, reduce
from math import inf
from typing import Any, NamedTuple

import numpy as np

from farann import _core
from farann._types import Float32Array, Int64Array, Progress, UInt8Array
from farann.contract import checks
from farann.contract.index_spec import MetricTraits
from farann.quantize.scalar import center_of
from farann.results import Selection
from farann.runtime import batches, pool
from farann.runtime.process import ieee_arithmetic
from farann.runtime.progress import told
from farann.store.asked_ids import known_slots
from farann.store.store import Store

_ROWS_AT_ONCE = 8_192  # rows that are added up at a time
_PICKS_AT_ONCE = 256  # picks of one step; Ctrl+C ends a selection between steps
# Rows, at most, whose mean is the center of float32 scores: it need only be near the rows.
_CENTER_SAMPLE = 128
# Multiply-adds up to which a selection runs on the calling thread: switching threads takes longer.
_FEW_PRODUCTS = 50_000_000
# Multiply-adds, at most, between two checks for Ctrl+C: some hundredths of a second.
_PRODUCTS_AT_ONCE = 200_000_000


class RowSum(NamedTuple):
    """The exact sum of some rows, or of their directions, and how many these are.

    A selection begins at the mean. It has the same bits in whatever order rows lie, and however
    they are divided among shards.
    """

    digits: Int64Array
    n: int

    @classmethod
    def of(cls, blocks: Iterable[Float32Array], dim: int, normalized: bool) -> RowSum:
        """The sum of blocks of C-contiguous rows."""
        digits, n = _core.empty_sum(dim), 0
        with ieee_arithmetic():
            for rows in blocks:
                n += len(rows)
                if normalized:
                    wide = rows.astype(np.float64)
                    wide /= np.linalg.norm(wide, axis=1, keepdims=True)
                    _core.add_directions_exactly(wide, digits)
                else:
                    _core.add_rows_exactly(rows.view(np.uint32), digits)
        return cls(digits, n)

    def plus(self, other: RowSum) -> RowSum:
        """The sum of both."""
        return RowSum(self.digits + other.digits, self.n + other.n)

    def mean(self) -> Float32Array:
        """The mean, rounded to float32."""
        with ieee_arithmetic():
            return _core.mean_of_sum(self.digits, self.n)


def snapshot_of(store: Store, isa: str) -> _core.Snapshot:
    """The snapshot to choose from; a store that wasn't built needs no codes for this."""
    if store.built:
        return store.view(isa).snapshot
    rows = store.tail if len(store.tail) else store.base
    center = center_of(rows[:: len(rows) // _CENTER_SAMPLE + 1], store.spec.metric.normalized)
    return _core.Snapshot(store.base, store.tail, store.ids.by_slot(), store.mask, center,
                          store.spec.metric.number, isa)


def select(store: Store, isa: str, slots: Int64Array, mask: UInt8Array | None, k: int,
           start: int | None, before: Int64Array, radius: float | None, per_group: int | None,
           threads: int, progress: Progress) -> Selection:
    """Choose k of the rows in `slots`, with their mask; None: all. The first is the row in slot
    `start`, by default the row furthest from the mean, or the row furthest from those `before`."""
    metric = store.spec.metric
    n_left = len(slots) - (int(np.isin(before, slots).sum()) if len(before) else 0)
    k = min(k, n_left)
    if k == 0:
        return Selection(np.empty(0, np.int64), np.empty(0, np.float32))
    snapshot = snapshot_of(store, isa)
    allowed = _core.Filter(snapshot, mask)
    first, n_before = before, 0
    if len(first) == 0:
        first, n_before = np.array([start or 0], np.int64), 1
        if start is None:
            begin = _furthest_from_mean(snapshot, allowed, len(slots), lambda at: _rows(
                store, slots[at : at + _ROWS_AT_ONCE]), metric, threads)
            first = (slots[store.ids.ids_of(slots).argmin()][np.newaxis] if begin is None
                     else store.slots_of(np.array([begin])))
    groups = None
    if per_group is not None and store.groups is not None:
        groups = store.groups.by_slot()
    is_long = len(slots) * k * store.dim > _FEW_PRODUCTS
    task = _core.Greedy(snapshot, allowed, first, k - n_before, radius=radius, groups=groups,
                        per_group=per_group or 0, threads=threads if is_long else 1,
                        run_all=pool.run_all)
    ids, scores = np.empty(k, np.int64), np.empty(k, np.float32)
    if n_before:
        ids[:1] = store.ids.ids_of(first)
        scores[0] = inf if metric.larger_is_further else -inf
    n = n_before + _run(task, k - n_before, progress, is_long)
    task.write(ids[n_before:], scores[n_before:])
    return Selection(ids[:n].copy(), scores[:n].copy())


def select_few(rows: Float32Array, k: int, metric: MetricTraits, start: int | None,
               isa: str) -> Selection | None:
    """Choose few float32 rows, whose numbers are ids, without an index; None: they are not few, or
    need checks or float64."""
    n, dim = rows.shape
    k = min(k, n)
    if (dim < 1 or n * dim * k > _PRODUCTS_AT_ONCE or k < 1
            or (start is not None and not 0 <= start < n)):
        return None
    if start is None and _core.first_bad_row(rows, metric.normalized) >= 0:
        return None
    center = rows[start or 0].astype(np.float64) if metric.adds_squared_norm else np.zeros(dim)
    snapshot = _core.Snapshot(rows[:0], rows, None, None, center, metric.number, isa)
    everything = _core.Filter(snapshot)
    if start is None:
        start = _furthest_from_mean(snapshot, everything, n, lambda at: rows[
            at : at + _ROWS_AT_ONCE], metric, 1) or 0
    ids, scores = np.empty(k, np.int64), np.empty(k, np.float32)
    ids[0], scores[0] = start, inf if metric.larger_is_further else -inf
    task = _core.Greedy(snapshot, everything, ids[:1], k - 1)
    if not task.by_float32:
        return None
    task.run(k - 1)
    task.write(ids[1:], scores[1:])
    return Selection(ids, scores)


def slot_of(store: Store | None, start: Any) -> int | None:
    """The slot of the row to begin with, an id; None for the centroid."""
    if start is None or (isinstance(start, str) and start == "centroid"):
        return None
    if store is None or store.labels is None:
        if isinstance(start, str):
            raise ValueError(f"start: expected 'centroid' or an id, got {checks.shown(start)}")
        start = checks.to_int("start", start, 0)
    return int(known_slots(store, [start], "start")[0])


def _run(task: _core.Greedy, k: int, progress: Progress, is_long: bool) -> int:
    """Choose k rows, step by step; gives how many there are."""
    n = 0
    with told("rows chosen", k, progress) as advance:
        while n < k and not task.finished:
            pool.run_all([partial(task.run, _PICKS_AT_ONCE)], 1, long=is_long)
            advance(task.run(0) - n)
            n = task.run(0)
    return n


def _furthest_from_mean(snapshot: _core.Snapshot, allowed: _core.Filter, n: int,
                        block_at: Callable[[int], Float32Array], metric: MetricTraits,
                        threads: int) -> int | None:
    """The id of the row furthest from the mean of n rows; None where their directions cancel."""
    sums, parts = list[RowSum](), min(threads, n // _ROWS_AT_ONCE + 1)

    def add(part: int, flag: _core.CancelFlag) -> None:
        starts = range(part * _ROWS_AT_ONCE, n, parts * _ROWS_AT_ONCE)
        sums.append(RowSum.of(map(block_at, starts), snapshot.dim, metric.normalized))

    pool.run_all([partial(add, part) for part in range(parts)], parts)
    mean = reduce(RowSum.plus, sums).mean()
    if metric.normalized and not mean.any():
        return None
    return int(batches.top(snapshot, allowed, mean[np.newaxis], 1, False, threads)[0].ids[0, 0])


def _rows(store: Store, slots: Int64Array) -> Float32Array:
    """Rows of some slots in ascending order, where they lie if they lie together."""
    first, end = int(slots[0]), int(slots[-1]) + 1
    if end - first != len(slots) or first < store.n_base < end:
        return store.take(slots)
    if end <= store.n_base:
        return _core.widened(store.base[first:end])
    return _core.widened(store.tail[first - store.n_base : end - store.n_base])
