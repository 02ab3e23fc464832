"""The cache of prepared single queries: the next query of the same kind reuses them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from farann._types import Float32Array, Int64Array
from farann.contract.stop_rule import EXACT, StopRule
from farann.results import shares_found
from farann.search.filters import UNFILTERED, Filter, RowFilters, Singles, rows_of_mask

if TYPE_CHECKING:
    from farann import _core
    from farann.store.store import Store
    from farann.tuning.guard import Guard
    from farann.tuning.table import Measured

Answer: TypeAlias = tuple[Int64Array, Float32Array, tuple[int, ...]]  # ids, scores, counts
Suspect: TypeAlias = tuple[Int64Array, Float32Array, tuple[int, ...], bool]  # to be compared

_MOST_PREPARED = 16  # prepared kinds of queries (level, k, recall) in one cache; then it is emptied


class Lacking(NamedTuple):
    """The plan of queries that are answered exactly, as there is no table that holds."""

    table: Measured | None  # one that no longer holds


def keep(store: Store, isa: str, k: int, recall: float | None, table: Measured | Lacking | None,
         guard: Guard | None, rule: StopRule, row_filters: RowFilters = UNFILTERED) -> None:
    """Cache a prepared search for single queries of the same kind, unless the table has changed
    since `table` was read."""
    singles = row_filters.singles(store)
    before = None if singles is None else singles.get((isa, k, recall))
    if singles is None or (before is not None and before.plan is table):
        return  # the search is cached; it refused the query
    _keep(store, isa, singles, (isa, k, recall), k, table, guard, rule, row_filters, None)


def _keep(store: Store, isa: str, singles: Singles, key: tuple[Any, ...], k: int,
          table: Measured | Lacking | None, guard: Guard | None, rule: StopRule,
          row_filters: RowFilters, collect: Callable[[], _core.Collector] | None) -> None:
    """Cache a prepared search, if there can be one."""
    from farann.runtime import batches

    view = store.view(isa)
    chosen = row_filters.filter(store, view, 1, exact=not rule.approximate)
    snapshot = view.snapshot if rule.approximate else view.exact
    kept = batches.single(snapshot, chosen, k, table, rule,
                          None if guard is None else guard.tests, nearest=store.by_nearest,
                          float32_below=store.float32_below(), collect=collect)
    if kept is None:
        return
    if len(singles) >= _MOST_PREPARED:
        singles.clear()
    singles[key] = kept


def again(store: Store, isa: str, queries: npt.ArrayLike, k: int, recall: float | None,
          allowed: Filter | npt.NDArray[np.bool_] | None = None) -> Answer | None:
    """Answer a single query from the cache; None if nothing is prepared for it, as for approximate
    answers under a filter."""
    # As a key of the cache True or 1.0 would equal 1.
    if type(k) is not int or not (recall is None or type(recall) is float):
        return None
    if isinstance(allowed, np.ndarray):
        return None if recall is not None else _masked(store, isa, queries, k, allowed)
    singles = store.singles if allowed is None else allowed.singles(store)
    kept, lacking = None if singles is None else singles.get((isa, k, recall)), False
    if kept is None:
        return None
    if recall is not None and kept.plan is not (table := store.tunings.by_k.get(k)):
        lacking = isinstance(kept.plan, Lacking) and kept.plan.table is table
        if not lacking:
            return None
    found = kept.search(queries)
    if found is None or len(found) == 3:
        if lacking and found is not None:
            from farann.search import tables

            tables.lend(store, k, isa)
        return found
    return _guarded(store, isa, queries, k, kept.watch, found)


def _masked(store: Store, isa: str, queries: npt.ArrayLike, k: int,
            mask: npt.NDArray[np.bool_]) -> Answer | None:
    """The exact answer under a mask; None if the mask must be checked, or if a list costs less."""
    kept = store.singles.get((isa, k, None))
    if kept is None or store.alive is not None or (
            mask.dtype != np.bool_ or mask.shape != (store.n_slots,)):
        return None
    rows = rows_of_mask(store, mask)
    found = kept.search(queries, rows.filter(store, store.view(isa), 1, exact=True))
    return None if not found or len(found) == 4 else found


def _guarded(store: Store, isa: str, queries: npt.ArrayLike, k: int, watch: _core.Watch | None,
             suspect: Suspect | tuple[()]) -> Answer | None:
    """The exact answer to a query that the guard finds unlike the sample, or to one that the watch
    compares; what was found before where it does no more than that."""
    table = store.tunings.by_k.get(k)
    guard = None if table is None else table.guard
    found = None if guard is None or store.n_coded is not None else exact(store, isa, queries, k)
    if guard is None or found is None:
        return None
    ids, scores, counts = found
    if not suspect or watch is None:
        guard.note(1 + guard.tests.count_alone(), 1)
        return ids, scores, (*counts, 1)
    before, scores_before, work, _ = suspect
    total = *map(sum, zip(work[1:], counts[1:], strict=True)),
    compares = watch.only_compares
    if watch.left < 0:
        guard.note(guard.tests.count_alone(), 1)
    watch.note(shares_found(np.atleast_2d(before), np.atleast_2d(ids)))
    if compares:
        return before, scores_before, (1, *total, 0)
    return ids, scores, (1, *total, 1)


def exact(store: Store, isa: str, queries: npt.ArrayLike, k: int,
          within: _core.Filter | None = None) -> Answer | None:
    """The exact answer to one query; None if it can't be prepared, or rows are a list and not a
    mask."""
    if (isa, k, None) not in store.singles:
        keep(store, isa, k, None, None, None, EXACT)
    kept = store.singles.get((isa, k, None))
    found = None if kept is None else kept.search(queries, within)
    return None if not found or len(found) == 4 else found


def of_groups(store: Store, isa: str, queries: npt.ArrayLike, k: int, per_group: int,
              row_filters: RowFilters,
              grouped: Callable[[], Callable[[], _core.Collector]]) -> Answer | None:
    """The exact answer to one query with at most `per_group` rows of a group, by the collectors
    that `grouped` prepares; None if it can't be prepared."""
    singles, key = row_filters.singles(store), (isa, k, None, per_group)
    if singles is None:
        return None
    if key not in singles:
        _keep(store, isa, singles, key, k, None, None, EXACT, row_filters, grouped())
    kept = singles.get(key)
    found = None if kept is None else kept.search(queries)
    return None if not found or len(found) == 4 else found


def of_groups_again(store: Store, isa: str, queries: npt.ArrayLike, k: int,
                    per_group: int) -> Answer | None:
    """The same from the cache of unfiltered queries; None if nothing is prepared for it."""
    if type(k) is not int or type(per_group) is not int:
        return None
    kept = store.singles.get((isa, k, None, per_group))
    found = None if kept is None else kept.search(queries)
    return None if not found or len(found) == 4 else found
