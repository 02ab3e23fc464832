"""Searches and lookups as users ask for them: arguments checked, filters looked up, ids named."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from numpy import ndarray

from farann import _core
from farann._types import Float32Array, Float64Array, Ids, Int64Array
from farann.contract import checks
from farann.contract.stop_rule import Limits, check_exact, to_limits
from farann.results import Hits, RangeHits, SearchStats, no_hits, unchecked
from farann.runtime import pool
from farann.search import filters, singles
from farann.search.changes import laid_out
from farann.search.filters import UNFILTERED, Filter, Filtering
from farann.store import asked_ids
from farann.store.live import Live

if TYPE_CHECKING:
    from farann.search.plan import Question
    from farann.store.store import Store

# Coordinates of all rows up to which `seconds` is ignored for a single query: a search first reads
# the clock after 2^22 multiply-adds, and each coordinate, padding included, takes at most three:
# as a code, in float32 and for the exact key.
_BEFORE_A_LOOK = 2**20
_PADDING = 16  # coordinates of padding in a row, at most
# Types of `allowed` with which a single query may use the cache, see `singles`.
_AS_GIVEN = (Filter, ndarray)


def furthest(live: Live, queries: Any, k: int, ids: Any, limited: tuple[Any, ...],
             filtering: Filtering, threads: int | None, return_keys: bool,
             return_stats: bool) -> Hits:
    """The k rows furthest from each query; `limited` are recall, epsilon, budget and seconds."""
    recall, epsilon, budget, seconds = limited
    if seconds is not None and recall is None and epsilon is None and budget is None and (
            _is_in_time(live, queries, seconds)):
        seconds, limited = None, (None, None, None, None)
    allowed = filtering.allowed
    may_be_kept = (
        ids is None and epsilon is None and budget is None and seconds is None and not return_keys
        and _is_open(filtering._replace(allowed=None))
        and (allowed is None or type(allowed) in _AS_GIVEN))
    limits = _limits(live, *limited)
    vectors, single, filtering = vectors_of(live, queries, ids, filtering)
    if may_be_kept and type(queries) is not ndarray:
        checks.to_threads(threads)
        again = furthest_again(live, vectors[0] if single else vectors, k, recall, allowed, None,
                               return_stats)
        if again is not None:
            return again
    return _top(live, vectors, single, k, limits, filtering, threads, return_keys, return_stats)


def furthest_again(live: Live, queries: npt.NDArray[Any], k: int, recall: float | None = None,
                   allowed: Any = None, seconds: float | None = None, return_stats: bool = False,
                   per_group: int | None = None) -> Hits | None:
    """Answer a single query or a few from the cache, or return None."""
    store = live.store
    if store is None or (allowed is not None and type(allowed) not in _AS_GIVEN) or (
            seconds is not None and (
                recall is not None or not _is_in_time(live, queries, seconds))):
        return None
    if per_group is not None and seconds is not None:
        return None
    answer = singles.again(live, store, queries, k, recall, allowed, per_group)
    if answer is None:
        return None
    ids, scores, live.last_search = answer
    return unchecked(ids if store.labels is None else store.named(ids), scores, None,
                     SearchStats(*answer[2]) if return_stats else None,
                     None if per_group is None else groups_of(store, ids))


def nearest(live: Live, queries: Any, k: int, ids: Any, limited: tuple[Any, ...],
            filtering: Filtering, beyond: npt.ArrayLike | None, threads: int | None,
            return_keys: bool, return_stats: bool) -> Hits:
    """Find the k rows nearest to each query, or the nearest of those beyond a radius; `limited` are
    recall, epsilon, budget and seconds."""
    limits = radii = None
    if beyond is not None:
        check_exact("beyond", live.spec.vectors, "only the nearest rows of all can be searched for")
        exact = to_limits(*limited)
        if exact is not None and (exact.budget or exact.seconds):
            raise ValueError(f"{'budget' if exact.budget else 'seconds'}: rows beyond a radius are "
                             "always searched for exactly; leave it out")
        if filtering.per_group is not None:
            raise ValueError("per_group: expected none beside beyond, as all rows of a group may "
                             "lie within the radius; filter by groups instead")
    else:
        limits = _limits(live, *limited)
    vectors, single, filtering = vectors_of(live, queries, ids, filtering)
    if _is_open(limited[1:]) and ids is None and beyond is None and not (
            return_keys or type(queries) is ndarray) and _is_open(filtering):
        checks.to_threads(threads)
        again = nearest_again(live, vectors[0] if single else vectors, k, limited[0], return_stats)
        if again is not None:
            return again
    if beyond is not None:
        radii = checks.to_radii("beyond", beyond, len(vectors))
    return _top(live, vectors, single, k, limits, filtering, threads, return_keys, return_stats,
                True, radii, None if radii is None else _core.NearestBeyondCollector)


def in_range(live: Live, queries: Any, radius: Any, ids: Any, filtering: Filtering,
             threads: int | None, return_keys: bool, return_stats: bool, *,
             nearest: bool = False, most: int = 0) -> RangeHits:
    """Find every row beyond a radius around a query, or with `nearest` every row within it; `most`:
    stop after about this many rows a query, 0: never."""
    from farann.search import plan

    names = ("search_within", "search_nearest") if nearest else ("search_beyond", "search_furthest")
    check_exact(names[0], live.spec.vectors, f"use {names[1]} with recall=, or budget=")
    vectors, single, filtering = vectors_of(live, queries, ids, filtering)
    question = question_of(live, vectors, 1, filtering, threads, single=single, nearest=nearest,
                           radii=checks.to_radii("radius", radius, len(vectors)))
    if question is None:
        return RangeHits(np.zeros(len(vectors) + 1, np.int64), np.empty(0, np.int64),
                         np.empty(0, np.float32), np.empty(0) if return_keys else None,
                         SearchStats(len(vectors)) if return_stats else None)
    hits, stats = plan.in_range(question, most)
    live.last_search, hits.stats = stats, stats if return_stats else None
    hits.keys = keys_of(question, hits) if return_keys else None
    hits.ids = question.store.named(hits.ids)
    return hits


def score(live: Live, queries: npt.ArrayLike, ids: Ids, threads: int | None) -> Float32Array:
    """Scores of given rows for given queries."""
    vectors, single = checked(live, queries)
    store = laid_out(live)
    slots = asked_ids.known_slots(store, ids)
    scores = np.empty((len(vectors), len(slots)), np.float32)
    if store is not None:
        from farann.runtime import batches

        rough = np.zeros(len(slots), np.bool_)
        if store.n_coded is not None:
            rough = slots < store.n_coded
            scores[:, rough] = store.coded.scores(vectors, slots[rough])
        scores[:, ~rough] = batches.score(store.view(live.isa).snapshot, vectors, slots[~rough],
                                          threads_for(live, threads))
    return scores[0] if single else scores


def reconstruct(live: Live, ids: Ids) -> Float32Array:
    """Return the stored rows of some ids; rows that are kept as codes alone are decoded."""
    store = live.store
    slots = asked_ids.known_slots(store, ids)
    if store is None:
        return np.empty((0, 0), np.float32)
    rows = store.take(slots)
    return rows[0] if checks.is_single_id(ids) else rows


def groups(live: Live, ids: Any) -> npt.NDArray[Any]:
    """Return the label of each row's group."""
    store = live.store
    if store is None or store.groups is None:
        raise ValueError("groups: the index has none; give them to add, as groups=")
    slots = store.live_slots() if ids is None else asked_ids.known_slots(store, ids)
    return store.groups.labels_of(store.groups.by_slot()[slots].astype(np.int64))


def groups_of(store: Store | None, ids: Int64Array) -> npt.NDArray[Any]:
    """The labels of the groups of hits, in the shape of `ids`; in padding -1, or None where
    labels are strings."""
    if store is None or store.groups is None:
        return np.full(ids.shape, -1)
    there = ids >= 0
    numbers = store.groups.by_slot()[store.slots_of(ids[there])]
    labels = store.groups.labels_of(numbers.astype(np.int64))
    named = np.full(ids.shape, None if labels.dtype == object else -1, labels.dtype)
    named[there] = labels
    return named


def checked(live: Live, queries: npt.ArrayLike) -> tuple[Float32Array, bool]:
    """Check queries; return their vectors, and whether the input was a single one."""
    store, metric = live.store, live.spec.metric
    return checks.to_queries(queries, None if store is None else store.dim,
                             normalized=metric.normalized)


def vectors_of(live: Live, queries: Any, ids: Any,
               filtering: Filtering) -> tuple[Float32Array, bool, Filtering]:
    """Check queries, or look up rows as queries: their vectors, whether single, their filters."""
    check_one("queries", queries, ids)
    if ids is None:
        return *checked(live, queries), filtering
    store = laid_out(live)
    vectors, own = rows_of(store, ids)
    filtering = filtering._replace(own=(own, np.arange(len(own) + 1)), store=store)
    return vectors, checks.is_single_id(ids), filtering


def check_one(name: str, vectors: Any, ids: Any, of_ids: str = "ids") -> None:
    """Refuse vectors beside ids, and neither of both."""
    if (vectors is None) == (ids is None):
        raise TypeError(f"{name}: expected one of {name} and {of_ids}, got "
                        f"{'neither' if ids is None else 'both'}")


def rows_of(store: Store | None, ids: Any, name: str = "ids") -> tuple[Float32Array, Int64Array]:
    """The vectors of rows by their ids, and these ids as the store has them."""
    slots = asked_ids.known_slots(store, ids, name)
    if store is None:
        return np.empty((0, 1), np.float32), slots
    return store.take(slots), store.ids.ids_of(slots)


def threads_for(live: Live, threads: int | None) -> int:
    """The number of threads of a search: `threads`, or else that of the index."""
    number = live.threads if threads is None else checks.to_threads(threads)
    return pool.cpu_count() if number is None or number == -1 else number


def question_of(live: Live, queries: Any, k: int, filtering: Filtering, threads: int | None, *,
                single: bool = False, limits: Limits | None = None, nearest: bool = False,
                radii: Float64Array | None = None, keyed: bool = False,
                collect: Callable[..., _core.Collector] | None = None) -> Question | None:
    """Check k and filters, and make the record of a search; None if rows were never added."""
    if type(k) is not int or not 1 <= k <= checks.MOST_PADDED:
        k = checks.to_int("k", k, 1)
    if isinstance(filtering.allowed, Filter):
        filters.check_owner(live, filtering.allowed)
    store, n_rows = live.store, 0
    if filtering.store is not None:
        store = filtering.store
    elif store is not None and not store.built:
        store = laid_out(live)
    if store is not None:
        view = store.view(live.isa)
        n_rows = view.snapshot.n_slots - store.n_removed
    per_group = _to_per_group(store, filtering)
    if k > n_rows:
        checks.check_padding(k, len(queries), n_rows)
    if store is None:
        return None
    from farann.search.plan import Question

    row_filters = UNFILTERED
    if not _is_open(filtering._replace(per_group=None)):
        row_filters = filters.row_filters(store, n_rows, filtering, len(queries), single)
    every_row = limits is not None and filtering.allowed is None and filtering.groups is None and (
        row_filters is UNFILTERED or row_filters.leaves_most(store))
    if limits is not None and per_group is not None:
        limits = limits._replace(recall=None)  # tables are of answers without this limit
    return Question(store, view, queries, k, threads_for(live, threads), row_filters, limits,
                    every_row, nearest, radii, keyed, collect, per_group)


def _to_per_group(store: Store | None, filtering: Filtering) -> int | None:
    """Check the largest number of rows of a group."""
    if filtering.per_group is None:
        return None
    if store is not None and store.n_slots and store.groups is None:
        raise ValueError("per_group: the index has no groups; give them to add, as groups=")
    return checks.to_int("per_group", filtering.per_group, 1)


def keys_of(question: Question, hits: Hits | RangeHits) -> Float64Array:
    """Exact keys of hits, in the shape of `hits.ids`; -infinity where an id is -1."""
    from farann.runtime import batches

    if isinstance(hits, Hits):
        offsets = np.arange(len(question.queries) + 1) * hits.ids.shape[1]
    else:
        offsets = hits.offsets
    keys = batches.keys_of_found(question.view.exact, question.queries, offsets,
                                 question.store.slots_of(hits.ids.ravel()), question.nearest,
                                 question.threads)
    return keys.reshape(hits.ids.shape)


def answered(live: Live, question: Question | None, n: int, k: int, single: bool,
             keyed: bool, return_stats: bool,
             search: Callable[[Question], tuple[Hits, SearchStats]],
             per_group: Any = None) -> Hits:
    """Answer n queries by `search`; without rows the answer is padding alone. With `per_group`
    hits have the labels of groups."""
    if not n or question is None or question.view.snapshot.n_slots == question.store.n_removed:
        hits, stats = no_hits(n, k, keyed=keyed), SearchStats(n)
    else:
        hits, stats = search(question)
    if per_group is not None:
        hits.groups = groups_of(None if question is None else question.store, hits.ids)
    live.last_search = stats
    if question is not None and question.store.labels is not None:
        hits.ids = question.store.named(hits.ids)
    hits.stats = stats if return_stats else None
    if not single:
        return hits
    keys = hits.keys if hits.keys is None else hits.keys[0]
    groups = hits.groups if hits.groups is None else hits.groups[0]
    return unchecked(hits.ids[0], hits.scores[0], keys, hits.stats, groups)


def _top(live: Live, vectors: Float32Array, single: bool, k: int, limits: Limits | None,
         filtering: Filtering, threads: int | None, return_keys: bool, return_stats: bool,
         nearest: bool = False, radii: Float64Array | None = None,
         collect: Callable[..., _core.Collector] | None = None) -> Hits:
    """The k best rows of each query, or what `collect` finds, see `Question`."""
    question = question_of(live, vectors, k, filtering, threads, single=single, limits=limits,
                           nearest=nearest, radii=radii, keyed=return_keys, collect=collect)
    if return_keys:
        check_exact("return_keys", live.spec.vectors, "keys are those of the vectors")
    return answered(live, question, len(vectors), k, single, return_keys, return_stats, _search,
                    filtering.per_group)


def _search(question: Question) -> tuple[Hits, SearchStats]:
    """The k best rows of each query."""
    from farann.search import plan

    if question.nearest and question.radii is None:
        store = question.store.mirrored(question.view.exact.isa)
        question = question._replace(
            store=store, queries=store.spec.metric.mirrored(question.queries),
            nearest=store.by_nearest)
    hits, stats = plan.top(question)
    if question.keyed:
        hits.keys = keys_of(question, hits)
    return hits, stats


def _limits(live: Live, *limited: Any) -> Limits | None:
    """Check the limits of a search; without vectors it is neither exact nor within epsilon."""
    limits = None if _is_open(limited) else to_limits(*limited)
    if not live.spec.vectors and (limits is None or limits.epsilon is not None):
        check_exact("exact search" if limits is None else "epsilon: a guarantee", False,
                    "give recall=, or budget=")
    return limits


def _is_open(arguments: tuple[Any, ...]) -> bool:
    """Whether neither filters nor stop rules are given."""
    return all(said is None for said in arguments)


def _is_in_time(live: Live, queries: npt.ArrayLike, seconds: float) -> bool:
    """Whether a single query is answered before its search would look at the clock."""
    store = live.store
    return (store is not None and type(seconds) is float and 0.0 < seconds < float("inf")
            and isinstance(queries, np.ndarray) and queries.ndim == 1 and live.spec.vectors
            and store.n_slots * (store.dim + _PADDING) <= _BEFORE_A_LOOK)


def nearest_again(live: Live, queries: npt.NDArray[Any], k: int, recall: float | None = None,
                  return_stats: bool = False, per_group: int | None = None) -> Hits | None:
    """Answer a single nearest query or a few from the cache, or return None."""
    store = live.store
    mirror = None if store is None else store.mirror
    if mirror is None or queries.dtype != np.float32 or queries.ndim > 2:
        return None
    vector = mirror.spec.metric.mirrored(queries)
    answer = singles.again(live, mirror, vector, k, recall, None, per_group)
    if answer is None:
        return None
    ids, scores, live.last_search = answer
    return unchecked(mirror.named(ids), scores, None,
                     SearchStats(*answer[2]) if return_stats else None,
                     None if per_group is None else groups_of(mirror, ids))
