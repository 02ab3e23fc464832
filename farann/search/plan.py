"""Run searches by their stop rule: exactly, by a budget, or by a table.

A table holds for queries like its sample. Queries that its guard finds unlike get exact answers; so
do all while some whose answers are checked miss too much. A batch in which queries have different
groups becomes a search for each group.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from farann import _core
from farann._types import Float64Array, Int64Array
from farann.contract.stop_rule import ALL_CODES, EXACT, Limits, StopRule, Witness
from farann.results import Hits, RangeHits, SearchStats, no_hits, shares_found, unchecked
from farann.runtime import batches, pool
from farann.runtime.cost import FEW_QUERIES
from farann.search import singles
from farann.search.filters import UNFILTERED, RowFilters

if TYPE_CHECKING:
    from farann.store.store import Store, View
    from farann.tuning.guard import Guard
    from farann.tuning.table import Measured

_FLOAT32_FIRST = 6  # queries below which exact searches may begin in float32, as `SingleSearch`
_MOST_RULES = 64  # rules cached of a store, by k and recall: making one outlasts a small batch
_SMALL_WORK = 1 << 22  # multiply-adds below which a group is searched on one thread, beside others
_LONG_GROUPS = 1 << 27  # multiply-adds of all small groups, from which Ctrl+C can end them


class Question(NamedTuple):
    """A question to a store, checked: the one record that travels from `ask` to the tasks."""

    store: Store
    view: View  # of the store
    queries: Any  # vectors (n, dim), or `MemberSets` of them
    k: int
    threads: int
    row_filters: RowFilters = UNFILTERED
    limits: Limits | None = None
    every_row: bool = False  # all rows may be found, but for those that are excluded
    nearest: bool = False  # as asked; from `ask._search` on as the core searches a mirrored store
    radii: Float64Array | None = None  # by query: find all rows beyond or within, or k beyond
    keyed: bool = False  # whether keys are returned
    # Makes the collector of a task: of k, and of the radii of its queries. None: the k best rows.
    collect: Callable[..., _core.Collector] | None = None
    per_group: int | None = None  # the largest number of rows of a group

    @property
    def is_plain(self) -> bool:
        """Whether it is the k best rows that are wanted."""
        return self.collect is None and self.per_group is None

    def of(self, which: Int64Array, row_filters: RowFilters | None = None) -> Question:
        """Select some of the queries."""
        return self._replace(queries=self.queries[which],
                             row_filters=row_filters or self.row_filters.of(which),
                             radii=None if self.radii is None else self.radii[which])

    def collectors(self) -> Callable[..., _core.Collector]:
        """What makes collectors, of the radii of their queries if there are any; holds no store."""
        if self.per_group is None:
            return partial(self.collect or _core.Collector, self.k)
        groups = self.store.groups
        assert groups is not None
        most = self.row_filters.most_of_groups(groups, self.k, self.per_group)
        return partial(_core.GroupedCollector, most, self.per_group, groups.by_slot())

    def collector(self, start: int, stop: int) -> _core.Collector:
        """Make the collector of a task for some of the queries."""
        return self.collectors()(*() if self.radii is None else (self.radii[start:stop],))


def top(question: Question) -> tuple[Hits, SearchStats]:
    """The k best rows of each query."""
    answer = top_of_groups(question, _top)
    if question.row_filters.groups is None and _lacks_table(question):
        from farann.search import tables

        rows = question.row_filters.rows
        tables.lend(question.store, question.k, question.view.exact.isa, len(question.queries),
                    1.0 if rows is None else rows.count / question.store.n_slots)
    return answer


def _lacks_table(question: Question) -> bool:
    """Whether a recall was requested whose table isn't measured, so that the answer is exact."""
    limits = question.limits
    if limits is None or limits.recall is None or _asked(question, limits) in question.store.rules:
        return False
    from farann.search import tables

    return tables.lacks_table(question.store, question.k, limits.recall)


def _top(question: Question) -> tuple[Hits, SearchStats]:
    """Search where all queries may find the same rows, but for excluded ones."""
    store, filters, limits, k = question.store, question.row_filters, question.limits, question.k
    rule, table, guard = EXACT, store.tunings.by_k.get(k), None
    # With few rows an approximate search may find too little, and an exact one is cheap.
    if limits is not None and (
            filters is UNFILTERED or (limits.recall is None and limits.budget is None)
            or not filters.are_few(store)):
        rule, guard = _rule_for(question, limits)
    if guard is not None and len(question.queries):
        hits, stats = _compared(guard, question, rule)
    else:
        hits, stats = _run(question, rule)
    if question.is_plain and store.built and (
            limits is None or (limits.recall is not None and filters is UNFILTERED)):
        _keep(question, stats, table, rule, guard)
    return hits, stats


def _keep(question: Question, did: SearchStats, table: Measured | None, rule: StopRule,
          guard: Guard | None) -> None:
    """Keep a search for the next queries of this kind: for single ones, or few that go one by one,
    and for batches of about this size."""
    store, limits, k, n = question.store, question.limits, question.k, len(question.queries)
    recall, isa = None if limits is None else limits.recall, question.view.exact.isa
    lacking, single = _lacks_table(question), (rule, guard)
    if n == 1 or (1 < n <= singles.MOST_ONE_BY_ONE and singles.go_one_by_one(
            store, isa, k, n, question.threads, recall)):
        if n > 1 and limits is not None:
            single = _rule_for(question.of(np.arange(1)), limits)
        singles.keep(store, isa, k, recall, singles.Lacking(table) if lacking else table,
                     single[1], single[0], question.row_filters)
    if (1 < n <= singles.MOST_TOGETHER and question.row_filters is UNFILTERED and not lacking
            and (n <= singles.MOST_LONG
                 or did.code_products + did.float_products < singles.KEPT_WORK)
            and singles.stays_alone(did, min(k, len(store)), isa)):
        if recall is not None and (singles.is_exact(store, k, recall, n)
                                   or singles.finds_too_little(store, k, recall, n)):
            recall, guard, rule = None, None, EXACT
        singles.keep_batch(store, isa, k, n, recall, table, guard, rule)


def _asked(question: Question, limits: Limits) -> tuple[int, float | None, bool, bool]:
    """The key of a store's cache of rules."""
    return question.k, limits.recall, len(question.queries) < FEW_QUERIES, question.every_row


def _rule_for(question: Question, limits: Limits) -> tuple[StopRule, Guard | None]:
    """The stop rule of a search with limits, and with a table its guard."""
    store = question.store
    # Without vectors all codes are scanned where others would search exactly.
    exact = EXACT if store.n_coded is None else ALL_CODES
    if limits.recall is None and limits.budget is None:
        if limits.epsilon or limits.seconds is not None:
            exact = exact._replace(epsilon=limits.epsilon or 0.0, seconds=limits.seconds)
        return exact, None
    key = _asked(question, limits)
    made = store.rules.get(key)
    if made is None or made[0] is not store.tunings.by_k.get(question.k):
        from farann.search import tables

        if limits.recall is None:
            assert limits.budget is not None
            return tables.rule_within(limits.budget, store), None
        made = tables.rule_by_table(question, limits.recall)
        if made is None:
            return exact, None
        if len(store.rules) >= _MOST_RULES:
            store.rules.clear()
        store.rules[key] = made
    table, rule = made
    return (exact, None) if rule is None else (rule, table.guard)


def _compared(guard: Guard, question: Question, rule: StopRule) -> tuple[Hits, SearchStats]:
    """The k best rows as by `_guarded`; while the watch finds too little and compares only some
    queries, these decide how the others are searched."""
    n, watch = len(question.queries), rule.watch
    some = None
    # Without vectors a scan of all codes takes little longer.
    if watch is not None and question.store.n_coded is None:
        some = watch.compared(n)
        watch.count_next(n)
    if watch is None or some is None:
        return _guarded(guard, question, rule)
    hits = Hits(np.empty((n, question.k), np.int64), np.empty((n, question.k), np.float32))
    did = list[SearchStats]()
    for which in (some, np.delete(np.arange(n), some)):
        if len(which):
            part = question.of(which)
            if which is some or watch.left >= 0:
                answer, work = _guarded(guard, part, rule)
            else:
                answer, work = _run(part, EXACT)
                guard.note(0, len(which))
                work = work._replace(queries_guarded=len(which))
            hits.ids[which], hits.scores[which] = answer.ids, answer.scores
            did.append(work)
    return hits, SearchStats(*map(sum, zip(*did, strict=True)))


def _guarded(guard: Guard, question: Question, rule: StopRule) -> tuple[Hits, SearchStats]:
    """The k best rows; queries unlike the sample, and all while the watch finds that too much is
    missed, are searched exactly, or without vectors by a scan of all codes."""
    n, k, watch = len(question.queries), question.k, rule.watch
    unlike = guard.unlike(question.queries, question.threads)
    if unlike is None and watch is None:
        return _run(question, rule)
    like, exact = np.arange(n), EXACT if question.store.n_coded is None else ALL_CODES
    if unlike is not None:
        like = np.delete(like, unlike)
    told, every = np.full((len(like), 2), np.nan, np.float32), 1
    witness, did = None, list[SearchStats]()
    if watch is not None and question.every_row:  # nothing is known of some of the rows
        every = watch.every(len(like), question.store.dim)
        witness = Witness(told, rule.model if question.row_filters is UNFILTERED else None, every)

    def search(which: Int64Array, rule: StopRule, witness: Witness | None = None) -> Hits:
        answer, work = _run(question if len(which) == n else question.of(which), rule, witness)
        did.append(work)
        return answer

    def replace(which: Int64Array, answer: Hits) -> None:
        hits.ids[which], hits.scores[which] = answer.ids, answer.scores

    if unlike is None:
        hits = search(like, rule, witness)
    else:
        hits = Hits(np.empty((n, k), np.int64), np.empty((n, k), np.float32))
        if len(like):
            replace(like, search(like, rule, witness))
        replace(unlike, search(unlike, exact))
    guarded = n - len(like)
    rest = like if watch is None else like[watch.take(told, every, guarded)]
    while watch is not None and watch.left and len(rest):
        chosen, left = np.arange(len(rest)), watch.left
        if 0 < left < len(rest):
            chosen = np.linspace(0, len(rest) - 1, left).astype(np.int64)
        which, rest = np.sort(rest[chosen]), np.delete(rest, chosen)
        answer = search(which, exact)
        shares = shares_found(hits.ids[which], answer.ids)
        if not watch.only_compares:
            replace(which, answer)
            guarded += len(which)
        if left < 0:
            guard.note(0, len(which))
        watch.note(shares)
    return hits, total_of(did, n)._replace(queries_guarded=guarded)


def _run(question: Question, rule: StopRule,
         witness: Witness | None = None) -> tuple[Hits, SearchStats]:
    """The k best rows of each query; `witness` as for `batches.top`."""
    store, view, filters = question.store, question.view, question.row_filters
    approximate, n = rule is not EXACT and rule.approximate, len(question.queries)
    chosen, answer = view.everything, None
    if filters is not UNFILTERED:
        chosen = filters.filter(store, view, n, exact=not approximate, k=question.k)
    if rule is EXACT and n == 1 and question.collect is None and store.built:
        single = partial(singles.exact, store, view.exact.isa, question.queries, question.k)
        if question.per_group is not None:
            answer = single(None, filters, question.per_group, question.collectors)
        elif filters.mark_anew or (filters is UNFILTERED and question.limits is not None):
            answer = single(chosen if filters.mark_anew else None)
    if answer is not None:
        return unchecked(*answer[:2]), SearchStats(*answer[2])
    return batches.top(view.snapshot if approximate else view.exact, chosen, question.queries,
                       question.k, question.nearest, question.threads, rule, witness,
                       None if question.is_plain else question.collector,
                       n < _FLOAT32_FIRST and store.float32_below(question.nearest) > 0.0,
                       merges=question.collect is None, work_shares=store.work_shares,
                       kind=(store.asks_nearest, question.is_plain), negates=store.negates)


# ---- queries with groups of their own ----


def _run_parts(question: Question, run: Callable[..., None]) -> None:
    """Call `run` for the queries of each group; small groups run in parallel."""
    small, work = list[Callable[[_core.CancelFlag], None]](), 0
    for which, row_filters in question.row_filters.by_group(question.store):
        assert row_filters.rows is not None
        own = len(which) * row_filters.rows.count * question.store.dim
        if own > _SMALL_WORK:
            run(which, question.of(which, row_filters))
        else:
            small.append(partial(run, which, question.of(which, row_filters)._replace(threads=1)))
            work += own
    pool.run_all(small, question.threads, long=work >= _LONG_GROUPS)


def top_of_groups(question: Question, search: Callable[[Question], tuple[Hits, SearchStats]],
                  ) -> tuple[Hits, SearchStats]:
    """The k best rows of each query; `search` is called once for each group of rows."""
    if question.row_filters.groups is None:
        return search(question)
    n = len(question.queries)
    hits, did = no_hits(n, question.k, keyed=question.keyed), list[SearchStats]()

    def run(which: Int64Array, part: Question, flag: _core.CancelFlag | None = None) -> None:
        answer, stats = search(part)
        hits.ids[which], hits.scores[which] = answer.ids, answer.scores
        if hits.keys is not None and answer.keys is not None:
            hits.keys[which] = answer.keys
        did.append(stats)

    _run_parts(question, run)
    return hits, total_of(did, n)


def in_range(question: Question, most: int = 0) -> tuple[RangeHits, SearchStats]:
    """All rows beyond the radius of each query, or with `nearest` within it, and what it took;
    `most` as for `batches.in_range`."""
    if question.row_filters.groups is None:
        return _in_range(question, most)
    n, none = len(question.queries), np.empty(0, np.int64)
    parts, did = [(none, none, np.empty(0, np.float32))], list[SearchStats]()

    def run(which: Int64Array, part: Question, flag: _core.CancelFlag | None = None) -> None:
        hits, stats = _in_range(part, most)
        parts.append((np.repeat(which, np.diff(hits.offsets)), hits.ids, hits.scores))
        did.append(stats)

    _run_parts(question, run)
    queries, ids, scores = map(np.concatenate, zip(*parts, strict=True))
    order = np.argsort(queries, kind="stable")
    offsets = np.searchsorted(queries[order], np.arange(n + 1))
    return RangeHits(offsets, ids[order], scores[order]), total_of(did, n)


def _in_range(question: Question, most: int) -> tuple[RangeHits, SearchStats]:
    view, queries = question.view, question.queries
    assert question.radii is not None
    chosen = question.row_filters.filter(question.store, view, len(queries), exact=True)
    return batches.in_range(view.exact, chosen, queries, question.radii, question.nearest,
                            question.threads, most)


def total_of(did: list[SearchStats], n: int) -> SearchStats:
    """The sum of the statistics of searches for parts of n queries."""
    total = SearchStats(*map(sum, zip(*did, strict=True))) if did else SearchStats(n)
    return total._replace(queries=n)
