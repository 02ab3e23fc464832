"""Changes of an index: rows added and removed, layouts, tables for `recall=`."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy.typing as npt

from farann._types import Float32Array, Ids, Progress
from farann.contract import checks
from farann.contract.row_types import to_rows
from farann.contract.stop_rule import to_limits
from farann.runtime import paging
from farann.runtime.progress import build_steps, log, shown
from farann.store import asked_ids
from farann.store.ids import distinct
from farann.store.live import Live

if TYPE_CHECKING:
    from farann.store.store import Store
    from farann.tuning.table import Tuning

_MOST_NUMBERS = 2**60  # coordinates that `reserve` makes room for: bytes of more overflow int64


def add(live: Live, rows: npt.ArrayLike, ids: npt.ArrayLike | None, groups: npt.ArrayLike | None,
        replace: bool, copy: bool) -> npt.NDArray[Any]:
    """Append rows, or replace those that have their ids; return their ids."""
    from farann.store.groups import of_new_rows, to_labels
    from farann.store.store import Store

    checks.check_flag("replace", replace)
    if replace and ids is None:
        raise ValueError("replace: expected the ids of the rows as well, got none; pass ids=")
    spec = live.spec
    with paging.in_order(rows, then=paging.NORMAL):
        vectors = to_rows("rows", rows, live.dim, spec.row_type, normalized=spec.metric.normalized,
                          as_is=not copy, checked=not copy)
    checked = asked_ids.new(ids, len(vectors))
    group_labels = None if groups is None else to_labels("groups", groups)
    with live._lock:
        store = live.store
        if store is None:
            store = Store(vectors.shape[1], spec)
        if store.dim != vectors.shape[1]:  # another thread added the first rows meanwhile
            raise ValueError(
                f"rows: expected vectors of dimension {store.dim}, got {vectors.shape[1]}")
        new_ids, labels = asked_ids.of_new_rows(store, checked, len(vectors), replace)
        new_groups = of_new_rows(store.groups, store.n_slots, group_labels, len(vectors))
        if labels is not store.labels:
            store = store.changed(labels=labels)
        replaced = store.slots_of(new_ids) if replace else new_ids[:0]
        replaced = replaced[replaced >= 0]
        if len(replaced):
            store = store.without(replaced)
        if copy:
            store = store.with_rows(vectors, new_ids, new_groups)
            if store.built and store.outgrown:
                store = _rebuilt(live, store)
        elif store.n_slots:
            raise ValueError("copy: only the first rows of an index can be kept without a "
                             f"copy, and it has {store.n_slots}")
        else:
            store = store.changed(base=vectors, ids=store.ids.grown(new_ids), groups=new_groups,
                                  built=False, edits=store.edits + 1)
        live.store = store
    return new_ids if labels is None else labels.texts(new_ids)


def reserve(live: Live, n: int) -> None:
    """Make room for n more rows."""
    with live._lock:
        store = live.store
        if store is None:
            raise ValueError("reserve: expected an index whose dimension is known; pass dim= to "
                             "Index, or add rows before")
        live.store = store.with_room(checks.to_int("n", n, 0, _MOST_NUMBERS // store.dim))


def remove(live: Live, ids: Ids) -> None:
    """Remove rows."""
    with live._lock:
        store = live.store
        slots = asked_ids.known_slots(store, ids)
        if len(slots) and store is not None:
            live.store = store.without(distinct(slots))


def build(live: Live, queries: npt.ArrayLike | None, tune: Iterable[int], nearest: bool,
          progress: Progress) -> None:
    """Build a layout of all rows, and measure tables of `recall=` for some k."""
    checks.check_flag("nearest", nearest)
    if not isinstance(tune, Iterable):
        raise TypeError(f"tune: expected several k, such as (10,), got {checks.shown(tune)}")
    tuned_for = {checks.to_int("tune", k, 1) for k in tune}
    progress = checks.to_progress(progress)
    sample = None if queries is None else _sample_of(live, queries, nearest)
    with live._lock, shown(progress, build_steps(tuned_for)) as progress:
        if live.store is not None:
            live.store = _rebuilt(live, live.store, sample, tuned_for, progress, nearest)


def tune(live: Live, queries: npt.ArrayLike | None, k: int, recall: float, nearest: bool,
         progress: Progress) -> Tuning:
    """Measure which effort reaches which recall."""
    from farann.search import tables

    k = checks.to_int("k", k, 1)
    checks.check_flag("nearest", nearest)
    to_limits(recall, None, None)
    told = checks.to_progress(progress)
    sample = None
    if queries is not None:
        sample = _sample_of(live, queries, nearest)
        if len(sample) == 0:
            raise ValueError("queries: expected at least one")
    store = laid_out(live)
    if nearest and store is not None:
        store = store.mirrored(live.isa)
    if store is None or len(store) == 0:
        raise ValueError("tune: the index has no rows")
    measured = tables.measured(store, k, live.isa, sample, recall, told)
    log().info("tuned for k=%d", k)
    return measured.tuning


def laid_out(live: Live) -> Store | None:
    """The store to search: the first search builds it, unless a change is under way."""
    store = live.store
    if store is None or store.built or live._lock.locked():
        return store
    with live._lock:
        if live.store is not None and not live.store.built:
            live.store = _rebuilt(live, live.store)
        return live.store


def _rebuilt(live: Live, store: Store, queries: Float32Array | None = None,
             tuned_for: Iterable[int] = (), progress: Progress = False,
             nearest: bool | None = None) -> Store:
    """Build a store with a new layout, and tables for each k that the old one had a table for."""
    from farann.search import tables

    began = time.perf_counter()
    new = store.rebuilt(queries, progress, live.n_threads, nearest)
    new = tables.retuned(store, new, live.isa, queries is not None, tuned_for, bool(nearest),
                         progress)
    log().info("built an index of %d rows in %.3f s", len(new), time.perf_counter() - began)
    return new


def _sample_of(live: Live, queries: npt.ArrayLike, nearest: bool) -> Float32Array:
    """Check and copy a sample of queries, as builds keep it; mirrored for nearest searches."""
    metric = live.spec.metric
    vectors, _ = checks.to_queries(checks.to_array("queries", queries).copy(), live.dim,
                                   normalized=metric.normalized)
    return metric.mirrored(vectors) if nearest else vectors
