"""Questions about sets of vectors and selections of rows as users ask them: checked, named."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial, reduce
from math import nan
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from farann._types import Float32Array, Float64Array, Int64Array, Progress, Scores, UInt8Array
from farann.contract import checks
from farann.contract.stop_rule import check_exact, to_limits
from farann.results import Diameter, Hits, Pairs, SearchStats, Selection, Spaced, no_hits
from farann.search import filters
from farann.search.ask import answered, check_one, question_of, threads_for, vectors_of
from farann.search.changes import laid_out
from farann.search.filters import Filtering
from farann.store import asked_ids
from farann.store.live import Live

if TYPE_CHECKING:
    from scipy.sparse import csr_array

    from farann.store.store import Store

ONE_A_ROW = "one for each row in the order of index.ids"  # the scores of rows to select
_MOST_VALUE = 1e200  # of a score or weight: sums and products with distances stay finite
_INSTEAD = "use search_furthest or search_nearest with recall=, or budget="


def furthest_from(live: Live, sets: Any, k: int, ids: Any, limited: tuple[Any, ...],
                  filtering: Filtering, threads: int | None, return_keys: bool,
                  return_stats: bool) -> Hits:
    """The k rows furthest from the nearest member of each set."""
    from farann.diverse import member_sets

    check_exact("search_furthest_from", live.spec.vectors, _INSTEAD)
    check_one("sets", sets, ids)
    if ids is None:
        members = member_sets.to_sets("sets", sets, live.dim,
                                      normalized=live.spec.metric.normalized)
    else:
        store = laid_out(live)
        members = member_sets.of_ids(store, "ids", ids)
        filtering = filtering._replace(own=members.own(), store=store)
    return _of_sets(live, members, k, limited, filtering, threads, return_keys, return_stats,
                    member_sets.search)


def contrast(live: Live, likes: tuple[Any, Any], dislikes: tuple[Any, Any], k: int, weight: Any,
             likes_by: Any, limited: tuple[Any, ...], filtering: Filtering, threads: int | None,
             return_keys: bool, return_stats: bool) -> Hits:
    """The k rows like some and unlike others; `likes` and `dislikes` are vectors, and ids."""
    from farann.diverse import contrast

    _check_products(live, "search_contrast")
    store = live.store if likes[1] is None and dislikes[1] is None else laid_out(live)
    contrasts, single = contrast.to_contrasts(store, likes, dislikes, weight, likes_by,
                                          normalized=live.spec.metric.normalized)
    own = [ids for sets in (contrasts.likes, contrasts.dislikes) if (ids := sets.own()) is not None]
    if own:
        filtering = filtering._replace(own=reduce(filters.both, own), store=store)
    return _of_sets(live, contrasts, k, limited, filtering, threads, return_keys, return_stats,
                    contrast.search, single=single)


def _of_sets(live: Live, sets: Any, k: int, limited: tuple[Any, ...], filtering: Filtering,
             threads: int | None, keyed: bool, return_stats: bool,
             search: Callable[..., tuple[Hits, SearchStats]], *, single: bool = False) -> Hits:
    """Find the k best rows of each set; `limited` are recall, epsilon, budget and seconds."""
    from farann.search import plan

    question = question_of(live, sets, k, filtering, threads, single=single,
                           limits=to_limits(*limited), keyed=keyed)
    return answered(live, question, len(sets), k, single, keyed, return_stats,
                    partial(plan.top_of_groups, search=search), filtering.per_group)


def mmr(live: Live, queries: Any, k: int, ids: Any, scores: Scores | None, scale: str,
        diversity: float, candidates: int | None, filtering: Filtering, threads: int | None,
        return_stats: bool) -> Hits:
    """Rows that are like the query, or that have large scores, and unlike each other."""
    from farann.diverse import mmr

    _check_products(live, "search_mmr")
    diversity = checks.to_finite("diversity", diversity, 0.0, 1.0)
    scale = checks.to_choice("scale", scale, tuple(_SCALES))
    scored = None
    if scores is not None:
        if any(one is not None for one in (
                queries, ids, candidates, *filtering._replace(per_group=None))):
            raise TypeError("scores: expected neither queries, ids, candidates nor filters beside "
                            "scores, which name the rows to choose among")
        single, filtering = isinstance(scores, Mapping), filtering._replace(store=laid_out(live))
        scored = [_scored(filtering.store, one, scale) for one in scores_of(scores)]
        vectors = np.ones((len(scored), live.dim or 1), np.float32)
    else:
        if candidates is not None:
            candidates = checks.to_int("candidates", candidates, 1)
        vectors, single, filtering = vectors_of(live, queries, ids, filtering)
    question = question_of(live, vectors, k, filtering, threads, single=single, keyed=True)
    search = partial(mmr.search, diversity=diversity, candidates=candidates, scored=scored)
    hits = answered(live, question, len(vectors), k, single, True, return_stats, search,
                    filtering.per_group)
    hits.keys = None
    return hits


# How scores of others are put beside similarities.
_SCALES: dict[str, Callable[[Float64Array], Float64Array]] = {
    "unit": lambda scores: (scores / 2.0 - scores.min() / 2.0) / (
        (scores.max() / 2.0 - scores.min() / 2.0) or 1.0),
    "ranks": lambda scores: (np.searchsorted(np.sort(scores), scores) / max(len(scores) - 1, 1)),
    "as given": lambda scores: scores}


def scores_of(scores: Scores) -> list[Mapping[Any, float]]:
    """Scores of others, query by query."""
    listed = [*scores] if isinstance(scores, Sequence) else [scores]
    for one in listed:
        if not isinstance(one, Mapping):
            raise TypeError("scores: expected a dict from ids to numbers, or a list of these, got "
                            f"{checks.shown(one)}")
    return listed


def _scored(store: Store | None, scores: Mapping[Any, float],
            scale: str) -> tuple[Int64Array, Float64Array]:
    """Slots of the ids that have scores, and these on a scale."""
    slots = asked_ids.known_slots(store, list(scores), "scores")
    values = checks.to_one_each("scores", [*scores.values()], len(slots), "a number for each id")
    if not np.isfinite(values).all():
        raise ValueError(f"scores: expected finite numbers, got {values[~np.isfinite(values)][0]}")
    return slots, _SCALES[scale](values) if len(values) else values


def _check_products(live: Live, what: str) -> None:
    """Refuse a question about sums of products under l2, or without vectors."""
    if live.spec.metric.adds_squared_norm:
        raise ValueError(f"{what}: expected an index with metric='dot' or 'cosine', "
                         f"got {live.spec.metric.name!r}")
    check_exact(what, live.spec.vectors, _INSTEAD)


def next_by_mmr(live: Live, queries: Float32Array, picked: npt.NDArray[Any],
                vectors: Float32Array, *, diversity: float, threads: int | None = None,
                full: Sequence[list[Any]] = (), **options: Any) -> tuple[npt.NDArray[Any], Hits]:
    """The next pick of `mmr` for each query, after some that may be of other indexes and outside
    groups that are `full`: ids, and hits (n_queries, 1) with keys by which indexes are compared,
    and numbers in place of strings."""
    from farann.diverse import mmr
    from farann.store.groups import to_labels

    question = question_of(live, queries, 1, Filtering(**options), threads, keyed=True)
    if question is None or len(question.store) == 0:
        hits = no_hits(len(queries), 1, keyed=True)
        return hits.ids[:, 0], hits
    store = question.store
    if store.labels is not None:
        names = asked_ids.checked(store, "picked", picked.ravel(), padding=True)
        picked = asked_ids.numbers(store, names).reshape(picked.shape)
    known = [] if store.groups is None else [
        store.groups.numbers_of("per_group", to_labels("per_group", labels) if labels else [])
        for labels in full]
    begun = mmr.Begun(queries, picked, vectors, known)
    hits, _ = mmr.search(question._replace(queries=begun), diversity)
    return store.named(hits.ids[:, 0]), hits


def select(live: Live, k: int | None, start: Any, first: Any, radius: float | None,
           per_group: int | None, leave_out: Any, filtering: Filtering, threads: int | None,
           progress: Progress) -> Selection:
    """Choose rows that cover all others, or all but the loneliest."""
    from farann.diverse import greedy, lonely

    most, limit, per_group = _to_wanted(live, k, radius, per_group)
    share = lonely.to_share(leave_out)
    if start is not None and first is not None:
        raise ValueError("start: expected at most one of start and first, got both")
    store, slots, mask = _passing(live, "select_diverse", live.store, filtering)
    begin = greedy.slot_of(store, start)
    before = asked_ids.known_slots(store, [] if first is None else first, "first")
    if not store:
        return Selection(_none_of(store), np.empty(0, np.float32))
    if begin is not None and begin not in slots:
        raise ValueError(f"start: expected an id that may be chosen, got {start!r}")
    before, threads = np.unique(before), threads_for(live, threads)
    if share > 0.0:
        slots = slots[~np.isin(slots, before)] if len(before) else slots
        slots = lonely.staying(store, live.isa, slots, share, begin, threads)
        mask = np.zeros(store.n_slots, np.uint8)
        mask[slots] = 1
    selection = greedy.select(
        store, live.isa, slots, mask, most or len(store), begin, before, limit, per_group, threads,
        checks.to_progress(progress))
    selection.ids = store.named(selection.ids)
    return selection


def _passing(live: Live, what: str, store: Store | None, filtering: Filtering,
             ) -> tuple[Store | None, Int64Array, UInt8Array | None]:
    """The rows that pass filters, as slots and as a mask, None for all; `what` takes vectors."""
    check_exact(what, live.spec.vectors, _INSTEAD)
    filters.check_owner(live, filtering.allowed)
    if not store:
        return store, np.empty(0, np.int64), None
    return store, *filters.slots_and_mask(live, store, filtering)


def _none_of(store: Store | None, n: int = 0) -> npt.NDArray[Any]:
    """The ids of no rows, n times."""
    none = np.full(n, -1)
    return none if store is None else store.named(none)


def _to_wanted(live: Live, k: Any, radius: Any,
               per_group: Any) -> tuple[int | None, float | None, int | None]:
    """Check the limits of a selection: at least one of k, a radius and rows of each group."""
    if k is None and radius is None and per_group is None:
        raise ValueError("k: expected how many rows to choose, or a radius, or per_group, got none "
                         "of them")
    limit, store = None if radius is None else checks.to_float("radius", radius), live.store
    if limit is not None and limit < 0.0 and live.spec.metric.adds_squared_norm:
        raise ValueError(f"radius: expected a distance of 0 or more, got {checks.shown(radius)}")
    if per_group is not None and store is not None and len(store) and store.groups is None:
        raise ValueError("per_group: the index has no groups; give them to add, as groups=")
    return (None if k is None else checks.to_int("k", k, 1), limit,
            None if per_group is None else checks.to_int("per_group", per_group, 1))


def select_spaced(live: Live, scores: npt.ArrayLike, k: int | None, radius: Any, weight: Any,
                  per_group: int | None, filtering: Filtering, threads: int | None,
                  progress: Progress, return_dropped: bool) -> Spaced:
    """The best-scored rows of which no two are nearer than a radius."""
    checks.check_flag("return_dropped", return_dropped)
    most, limit, per_group = _to_wanted(live, k, radius, per_group)
    if weight is not None:
        weight = checks.to_finite("weight", weight, 0.0, _MOST_VALUE)
        if most is None or limit is not None or per_group is not None:
            raise ValueError("weight: expected k beside it, and neither radius nor per_group")
        if live.spec.metric.name == "dot":
            raise ValueError("weight: expected an index with metric='l2' or 'cosine', as dot "
                             "products are no distances, got 'dot'")
    store, slots, _ = _passing(live, "select_spaced", laid_out(live), filtering)
    values = checks.to_one_each("scores", scores, 0 if store is None else len(store), ONE_A_ROW)
    if weight is not None and (wrong := (values < 0.0) | (values > _MOST_VALUE)).any():
        raise ValueError(f"scores: expected numbers from 0 to {_MOST_VALUE:g} beside weight, got "
                         f"{values[wrong][0]}")
    if not store:
        none = _none_of(store)
        return Spaced(none, values, limit, *(none, none) if return_dropped else ())
    from farann.diverse.spaced import ranked_slots

    by_slot = np.empty(store.n_slots)
    by_slot[store.live_slots()] = values
    order = slots[np.lexsort((store.ids.ids_of(slots), -by_slot[slots]))]
    rows = ranked_slots(store, store.view(live.isa), order, per_group, threads_for(live, threads))
    if weight is None or most is None:
        limit, picks = rows.select(limit, most, checks.to_progress(progress))
    else:
        from farann.diverse.valued import select_valued

        limit, picks = select_valued(store, store.view(live.isa), rows, by_slot, most, weight,
                                     threads_for(live, threads), checks.to_progress(progress))
    return Spaced(store.named(store.ids.ids_of(picks)), by_slot[picks], limit, *(
        store.named(store.ids.ids_of(some)) for some in (
            rows.dropped(limit, picks) if return_dropped else ())))


def pairs_within(live: Live, radius: float, limit: int, filtering: Filtering, threads: int | None,
                 progress: Progress) -> Pairs:
    """All pairs of rows that are no further apart than a radius."""
    from farann.diverse import pairs

    radius, limit = checks.to_float("radius", radius), checks.to_int("limit", limit, 1)
    store, slots, _ = _passing(live, "pairs_within", laid_out(live), filtering)
    progress = checks.to_progress(progress)
    if not store:
        return Pairs(np.empty((0, 2), np.int64), np.empty(0, np.float32))
    hits = pairs.within(store, store.view(live.isa), slots, radius, limit,
                         threads_for(live, threads), progress)
    return Pairs(store.named(hits.ids.ravel()).reshape(-1, 2), hits.scores)


def diameter(live: Live, filtering: Filtering, threads: int | None, progress: Progress) -> Diameter:
    """The two rows that are furthest from each other."""
    from farann.diverse import pairs

    store, slots, _ = _passing(live, "diameter", laid_out(live), filtering)
    progress = checks.to_progress(progress)
    if store is None or len(slots) < 2:
        return Diameter(_none_of(store, 2), nan)
    pair = pairs.furthest_pair(store, store.view(live.isa), slots, threads_for(live, threads),
                               progress)
    return Diameter(store.named(np.array([pair.a, pair.b])), pairs.score_of(store, pair))


def furthest_graph(live: Live, k: int, as_sparse: bool, filtering: Filtering, threads: int | None,
                   progress: Progress) -> Hits | csr_array:
    """Each row's k furthest other rows."""
    hits, store = furthest_of_each(live, "furthest_graph", checks.to_int("k", k, 1), filtering,
                                   threads, progress)
    if as_sparse:
        from farann.diverse import pairs

        return pairs.as_graph(np.empty(0, np.int64) if store is None else store.live_ids(), hits)
    if store is not None:
        hits.ids = store.named(hits.ids)
    return hits


def furthest_of_each(live: Live, what: str, k: int, filtering: Filtering, threads: int | None,
                     progress: Progress) -> tuple[Hits, Store | None]:
    """Find the furthest rows of each row, and return the store, too; `what` is for errors."""
    from farann.diverse import pairs

    check_exact(what, live.spec.vectors, _INSTEAD)
    progress, store = checks.to_progress(progress), laid_out(live)
    if not store:
        return no_hits(0, k), store
    slots, own = store.live_slots(), store.live_ids()
    question = question_of(live, slots, k, filtering._replace(
        own=(own, np.arange(len(own) + 1)), store=store), threads)
    assert question is not None
    return pairs.furthest_of_all(question, progress), store
