"""The cache of prepared single queries: the next query of the same kind reuses them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from farann._types import Float32Array, Int64Array
from farann.contract.stop_rule import EXACT, StopRule
from farann.results import SearchStats, shares_found
from farann.runtime.cost import COSTS, FEW_QUERIES, FOUND, LEAST_SHARED, least_shared_by_few
from farann.search.filters import UNFILTERED, Filter, RowFilters, rows_of_mask

if TYPE_CHECKING:
    from farann import _core
    from farann.store.live import Live
    from farann.store.store import BatchKey, Store
    from farann.tuning.guard import Guard
    from farann.tuning.table import Measured

Answer: TypeAlias = tuple[Int64Array, Float32Array, tuple[int, ...]]  # ids, scores, counts
Incomplete: TypeAlias = tuple[Int64Array, Float32Array, tuple[int, ...], list[tuple[int, bool]]]

MOST_ONE_BY_ONE = 16  # queries that may go one by one
_MOST_EXACT = 5  # the same where they are exact
_FEWEST_TOGETHER = 4  # queries that fill tiles of codes well enough
KEPT_WORK = 2**23  # multiply-adds below which a few queries stay on one thread
MOST_LONG = 32  # queries of a batch that does more whose search may be kept
MOST_TOGETHER = 256  # the same of one that does less
_MOST_PREPARED = 16  # prepared kinds of queries (level, k, recall) in one cache; then it is emptied
_LEAST_LONG = 2**19  # multiply-adds below which a batch stays on one thread at any level
_CODES, _FLOATS = map(SearchStats._fields.index, ("code_products", "float_products"))


class Lacking(NamedTuple):
    """The plan of queries that are answered exactly, as there is no table that holds."""

    table: Measured | None  # one that no longer holds


def go_one_by_one(store: Store, isa: str, k: int, n: int, threads: int,
                  recall: float | None = None) -> bool:
    """Whether a few queries take less time one by one than as a batch."""
    from farann.runtime import batches

    if n > MOST_ONE_BY_ONE:
        return False
    work, usual = store.n_slots * store.dim, None
    if recall is not None and not finds_too_little(store, k, recall, 1):
        usual = store.work_shares.get(_kind(store, k, recall))
    if usual is not None:
        most, together, work = MOST_ONE_BY_ONE, 0, int(work * usual)
    else:  # they are exact, or not yet known
        most, together = _MOST_EXACT, KEPT_WORK
        work = batches.expected(work, store.work_shares.get(_kind(store, k)))
    alone = threads == 1 or n * work < _least_for_threads(store, isa, k)
    return n <= most and (
        n * work < KEPT_WORK or (alone and (n < _FEWEST_TOGETHER or work < together)))


def _least_for_threads(store: Store, isa: str, k: int) -> float:
    """Multiply-adds of few exact queries below which they stay on one thread."""
    single = store.singles.get((isa, k, None))
    return least_shared_by_few(store.codes is not None and not (
        single is not None and single.gives_codes_up))


def _kind(store: Store, k: int, recall: float | None = None) -> tuple[int, ...]:
    """The key of a store's shares of work."""
    from farann.runtime import batches

    return batches.sized((store.asks_nearest, True), k, exact=recall is None)


def note_work(store: Store, k: int, did: SearchStats, recall: float | None = None) -> None:
    """Note what share of the multiply-adds of all rows some queries did."""
    from farann.runtime import batches

    store.work_shares[_kind(store, k, recall)] = batches.share_of(
        did, store.n_slots * store.dim, store.dim)


def keep(store: Store, isa: str, k: int, recall: float | None, table: Measured | Lacking | None,
         guard: Guard | None, rule: StopRule, row_filters: RowFilters = UNFILTERED,
         per_group: int | None = None,
         collect: Callable[[], _core.Collector] | None = None,
         within: _core.Filter | None = None) -> None:
    """Cache a prepared search for single queries of the same kind, if there can be one; `within`:
    rows of the next query alone."""
    singles, key = row_filters.singles(store), _key(isa, k, recall, per_group)
    before = None if singles is None else singles.get(key)
    if singles is None or (before is not None and before.plan is table):
        return  # the search is cached; it refused the query
    from farann.runtime import batches

    view = store.view(isa)
    chosen = row_filters.filter(store, view, 1, exact=not rule.approximate, k=k)
    snapshot = view.snapshot if rule.approximate else view.exact
    single = batches.single(snapshot, chosen, k, table, rule,
                            None if guard is None else guard.tests, nearest=store.by_nearest,
                            float32_below=store.float32_below(), collect=collect, within=within,
                            work_shares=store.work_shares,
                            kind=(store.asks_nearest, per_group is None), negates=store.negates)
    if single is None:
        return
    if len(singles) >= _MOST_PREPARED:
        singles.clear()
    singles[key] = single


def stays_alone(did: SearchStats, k: int, isa: str) -> bool:
    """Whether a batch for the k best rows that did so much is to keep its search: no other thread
    would share it."""
    code, product = COSTS[isa].code_product, COSTS[isa].float_product
    if did.queries < FEW_QUERIES:
        return (did.code_products / least_shared_by_few(True)
                + did.float_products / least_shared_by_few(False)) < 1
    return (code * did.code_products + product * did.float_products
            + FOUND * did.queries * k) < LEAST_SHARED


def keep_batch(store: Store, isa: str, k: int, n: int, recall: float | None = None,
               table: Measured | None = None, guard: Guard | None = None,
               rule: StopRule = EXACT) -> None:
    """Cache a prepared search for batches of about n queries, the second time that these are asked;
    there is one of each size, exactly and not, as it may hold many answers."""
    key = isa, k, _room_for(n), recall
    kind, before = _kind_of_batch(key), store.batches.get(key)
    plan = None if recall is None else table
    if before is not None and before.plan is plan:
        return  # the search is cached; it refused these queries
    if store.last_batches.get(kind) != key:
        store.last_batches[kind] = key
        return
    from farann.runtime import batches

    view = store.view(isa)
    kept = batches.single(view.exact if rule is EXACT else view.snapshot, view.everything, k, plan,
                          rule, None if guard is None else guard.tests, nearest=store.by_nearest,
                          most=_room_for(n), work_shares=store.work_shares,
                          kind=(store.asks_nearest, True), negates=store.negates)
    others = {one: search for one, search in store.batches.items() if _kind_of_batch(one) != kind}
    store.batches = others if kept is None else {**others, key: kept}


def _kind_of_batch(key: BatchKey) -> tuple[int, bool]:
    """Room of a batch, and whether it is exact; one of each kind is kept."""
    return key[2], key[3] is None


def _room_for(n: int) -> int:
    """How many queries the search has room for that is kept for n: few that are no tile, or a power
    of two."""
    return _MOST_EXACT if n <= _MOST_EXACT else 1 << max((n - 1).bit_length(), 3)


def _key(isa: str, k: int, recall: float | None, per_group: int | None) -> tuple[Any, ...]:
    return (isa, k, recall) if per_group is None else (isa, k, recall, per_group)


def again(live: Live, store: Store, queries: npt.ArrayLike, k: int, recall: float | None,
          allowed: Filter | npt.NDArray[np.bool_] | None = None,
          per_group: int | None = None) -> Answer | None:
    """Answer a single query from the cache, or a few: by a batch that is kept, or one by one where
    that takes less time than to begin a batch. None if nothing is prepared for them, as for
    approximate answers under a filter."""
    # As a key of the cache True or 1.0 would equal 1.
    if type(k) is not int or not (recall is None or type(recall) is float):
        return None
    plain = allowed is None and per_group is None
    if per_group is not None and not (
            type(per_group) is int and recall is None and allowed is None):
        return None
    if not isinstance(queries, np.ndarray) or queries.ndim != 2 or len(queries) == 1:
        return _one_by_one(live, store, queries, k, recall, allowed, per_group)
    if plain and recall is not None and is_exact(store, k, recall, len(queries)):
        recall = None
    answer = _batch(live, store, queries, k, recall) if plain and len(queries) else None
    if answer is None and plain and recall is not None and len(queries):
        answer = _passed_over(live, store, queries, k, recall)
    if answer is not None or not len(queries) or not go_one_by_one(
            store, live.isa, k, len(queries), live.n_threads, recall):
        return answer
    answer = _one_by_one(live, store, queries, k, recall, allowed, per_group)
    if plain and answer is not None:
        did = SearchStats(*answer[2])
        note_work(store, k, did, recall)
        if recall is None and (
                stays_alone(did, answer[0].shape[1], live.isa) or live.n_threads == 1):
            keep_batch(store, live.isa, k, len(queries))
    return answer


def is_exact(store: Store, k: int, recall: float, n: int) -> bool:
    """Whether n queries are known to be answered exactly, as no effort finds as much for less."""
    made = store.rules.get((k, recall, n < FEW_QUERIES, True))
    return made is not None and made[1] is None and made[0] is store.tunings.by_k.get(k)


def finds_too_little(store: Store, k: int, recall: float, n: int) -> bool:
    """Whether the watch has n queries answered exactly, as those before found too little."""
    rule = store.rules.get((k, recall, n < FEW_QUERIES, True), (None, None))[1]
    return rule is not None and rule.watch is not None and rule.watch.left < 0


def _one_by_one(live: Live, store: Store, queries: npt.ArrayLike, k: int, recall: float | None,
                allowed: Filter | npt.NDArray[np.bool_] | None,
                per_group: int | None) -> Answer | None:
    """Answer some queries one by one, if there is a search for single ones."""
    if isinstance(allowed, np.ndarray):
        return None if recall is not None else _masked(store, live.isa, queries, k, allowed)
    singles = store.singles if allowed is None else allowed.singles(store)
    single, lacking = None if singles is None else singles.get(
        _key(live.isa, k, recall, per_group)), False
    if single is None:
        return None
    if recall is not None and single.plan is not (table := store.tunings.by_k.get(k)):
        lacking = isinstance(single.plan, Lacking) and single.plan.table is table
        if not lacking:
            return None
    if (single.gives_codes_up and live.n_threads > 1
            and store.n_slots * store.dim >= least_shared_by_few(False)):
        return None  # threads share it
    found = single.search(queries)
    if not found:
        return None
    if len(found) == 4:
        return _completed(store, live.isa, queries, k, single.watch, found)
    if lacking:
        from farann.search import tables

        for _ in range(found[2][0]):
            tables.lend(store, k, live.isa)
    return found


def _batch(live: Live, store: Store, queries: Float32Array, k: int,
           recall: float | None) -> Answer | None:
    """The answer to a batch, if a search for it is kept, and if none of its queries is unlike the
    sample, or is to be compared."""
    kept = store.batches.get((live.isa, k, _room_for(len(queries)), recall))
    if kept is None or (recall is not None and kept.plan is not store.tunings.by_k.get(k)):
        return None
    found = kept.search(queries)
    if not found or len(found) == 4:
        return None
    if found[2][_CODES] + found[2][_FLOATS] >= _LEAST_LONG and not (
            stays_alone(did := SearchStats(*found[2]), found[0].shape[1], live.isa)
            or live.n_threads == 1):
        # Next time others may share it.
        store.batches = {one: search for one, search in store.batches.items() if search is not kept}
        note_work(store, k, did, recall)
    return found


def _passed_over(live: Live, store: Store, queries: Float32Array, k: int,
                 recall: float) -> Answer | None:
    """The exact answer to a batch that the watch doesn't compare while too little is found."""
    n, table = len(queries), store.tunings.by_k.get(k)
    made, rule = store.rules.get((k, recall, n < FEW_QUERIES, True), (None, None))
    if (table is None or table.guard is None or made is not table or rule is None
            or rule.watch is None or store.n_coded is not None):
        return None
    some = rule.watch.compared(n)
    answer = _batch(live, store, queries, k, None) if some is not None and not len(some) else None
    if answer is None:
        return None
    rule.watch.count_next(n)
    table.guard.note(0, n)
    return *answer[:2], (*answer[2], n)


def _masked(store: Store, isa: str, queries: npt.ArrayLike, k: int,
            mask: npt.NDArray[np.bool_]) -> Answer | None:
    """The exact answer under a mask; None if the mask must be checked, or if a list costs less."""
    single = store.singles.get((isa, k, None))
    if single is None or store.mask is not None or (
            mask.dtype != np.bool_ or mask.shape != (store.n_slots,)):
        return None
    rows = rows_of_mask(store, mask)
    answer = single.search(queries, rows.filter(store, store.view(isa), 1, exact=True, k=k))
    return None if not answer or len(answer) == 4 else answer


def _completed(store: Store, isa: str, queries: npt.ArrayLike, k: int, watch: _core.Watch | None,
               found: Incomplete) -> Answer | None:
    """Answers in full: exact ones for queries that the guard finds unlike the sample, and for those
    that the watch compares, or what was found for these where it does no more than that."""
    table = store.tunings.by_k.get(k)
    guard = None if table is None else table.guard
    if guard is None or store.n_coded is not None:
        return None
    ids, scores, counts, left = found
    did, guarded, vectors = [counts], 0, np.atleast_2d(queries)
    for i, compared in left:
        answer = exact(store, isa, vectors[i], k)
        if answer is None:
            return None
        did.append(answer[2])
        replaces = not compared or watch is None or not watch.only_compares
        if not compared or (watch is not None and watch.left < 0):
            guard.note((not compared) + guard.tests.count_alone(), 1)
        if compared and watch is not None:
            watch.note(shares_found(np.atleast_2d(ids)[[i]], answer[0][None]))
        if replaces:
            guarded += 1
            np.atleast_2d(ids)[i], np.atleast_2d(scores)[i] = answer[:2]
    return ids, scores, (counts[0], *map(sum, zip(*(one[1:] for one in did), strict=True)), guarded)


def exact(store: Store, isa: str, queries: npt.ArrayLike, k: int,
          within: _core.Filter | None = None, row_filters: RowFilters = UNFILTERED,
          per_group: int | None = None,
          collectors: Callable[[], Callable[[], _core.Collector]] | None = None) -> Answer | None:
    """The exact answer to one query; None if it can't be prepared, or rows are a list and not a
    mask. `collectors` prepares what makes the collectors, if they aren't the plain ones."""
    singles, key = row_filters.singles(store), _key(isa, k, None, per_group)
    if singles is not None and key not in singles:
        keep(store, isa, k, None, None, None, EXACT, row_filters, per_group,
             None if collectors is None else collectors(), within)
    single = None if singles is None else singles.get(key)
    answer = None if single is None else single.search(queries, within)
    return None if not answer or len(answer) == 4 else answer
