"""Greedy k-center: where a selection begins, and running it in steps that Ctrl+C ends."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import Any

import numpy as np

from farann import _core
from farann._types import Float32Array, Float64Array, Int64Array, Progress
from farann.contract import checks
from farann.diverse.selection import Selection
from farann.quantize.scalar import centre_of
from farann.runtime import batches, pool
from farann.runtime.process import ieee_arithmetic
from farann.runtime.progress import told
from farann.store.asked_ids import known_slots
from farann.store.store import Store

# Rows that are added up at a time, and picks of one step.
_ROWS_AT_ONCE = 8_192
_PICKS_AT_ONCE = 256
# Products that take no longer than handing them to another thread and a key press do.
_FEW_PRODUCTS = 50_000_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Choice:
    """What a selection is asked for, checked: slots, and which rows may be chosen."""

    k: int
    start: int | None  # None: the row furthest from the mean
    first: Int64Array  # chosen before
    radius: float | None
    progress: Progress


def snapshot_of(store: Store, isa: str) -> _core.Snapshot:
    """What to choose from; a store that nobody built needs no codes for this."""
    if store.built:
        return store.view(isa).snapshot
    centre = centre_of(store.tail if len(store.tail) else store.base,
                       store.spec.metric.normalized)
    return _core.Snapshot(store.base, store.tail, store.ids.by_slot(), store.alive, centre,
                          store.spec.metric.number, isa)


def select(store: Store, snapshot: _core.Snapshot, chosen: _core.Filter, mask: Int64Array | None,
           choice: Choice) -> Selection:
    """Choose rows; `mask` has the slots that may be chosen, None: all."""
    slots = store.live_slots() if mask is None else mask
    n_left = len(slots)
    if len(choice.first):
        n_left -= int(np.isin(choice.first, slots).sum())
    k = min(choice.k, n_left)
    if k == 0:
        return Selection(np.empty(0, np.int64), np.empty(0, np.float32))
    first, n_before = choice.first, 0
    if len(first) == 0:
        start = choice.start
        if start is None:
            start = furthest_from_mean(store, snapshot, chosen, slots)
        first, n_before = np.array([start], np.int64), 1
    ids, scores = np.empty(k, np.int64), np.empty(k, np.float32)
    if n_before:
        ids[:1] = store.ids.ids_of(first)
        scores[0] = inf if store.spec.metric.larger_is_further else -inf
    task = _core.Greedy(snapshot, chosen, first, k - n_before, radius=choice.radius)
    is_long = len(slots) * k * store.dim > _FEW_PRODUCTS
    n = _run(task, k - n_before, choice.progress, is_long)
    task.write(ids[n_before:], scores[n_before:])
    return Selection(ids[: n_before + n].copy(), scores[: n_before + n].copy())


def slot_of(store: Store | None, start: Any) -> int | None:
    """The slot of the row to begin with, an id; None for the centroid."""
    if start is None or (isinstance(start, str) and start == "centroid"):
        return None
    if store is None or store.labels is None:
        if isinstance(start, str):
            raise ValueError(f"start: expected 'centroid' or an id, got {start!r}")
        start = checks.to_int("start", start, 0)
    return int(known_slots(store, [start], "start")[0])


def _run(task: _core.Greedy, k: int, progress: Progress, is_long: bool) -> int:
    """Choose k rows, step by step; gives how many there are."""
    found = [0]

    def step(flag: _core.CancelFlag) -> None:
        found[0] = task.run(_PICKS_AT_ONCE, flag)

    with told("rows chosen", k, progress) as advance:
        while found[0] < k and not task.finished:
            before = found[0]
            pool.run_all([step], 1, long=is_long)
            advance(found[0] - before)
    return found[0]


def furthest_from_mean(store: Store, snapshot: _core.Snapshot, chosen: _core.Filter,
                       slots: Int64Array) -> int:
    """The slot of the row furthest from the mean of some rows, of their directions under cosine."""
    normalized = store.spec.metric.normalized
    with ieee_arithmetic():
        mean = _mean(store, slots, normalized).astype(np.float32)
    if normalized and not mean.any():
        ids = store.ids.ids_of(slots)
        return int(slots[ids.argmin()])
    hits, _ = batches.top(snapshot, chosen, mean[np.newaxis], 1, False, 1)
    return int(store.slots_of(hits.ids[0])[0])


def _mean(store: Store, slots: Int64Array, normalized: bool) -> Float64Array:
    total = np.zeros(store.dim)
    for start in range(0, len(slots), _ROWS_AT_ONCE):
        rows = _rows(store, slots[start : start + _ROWS_AT_ONCE])
        if not normalized:
            total += _core.sum_of_rows(rows)
            continue
        wide = rows.astype(np.float64)
        total += (wide / np.linalg.norm(wide, axis=1, keepdims=True)).sum(axis=0)
    return total / len(slots)


def _rows(store: Store, slots: Int64Array) -> Float32Array:
    """Rows of some slots in ascending order, where they lie if they lie together."""
    first, end = int(slots[0]), int(slots[-1]) + 1
    if end - first != len(slots) or first < store.n_base < end:
        return store.take(slots)
    if end <= store.n_base:
        return _core.widened(store.base[first:end])
    return _core.widened(store.tail[first - store.n_base : end - store.n_base])
