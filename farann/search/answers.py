"""Answers to a question: by a plan, a budget or exactly."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from farann._types import Float32Array, Float64Array, Int64Array
from farann.contract.stop_rule import EXACT, Limits
from farann.results import BeyondHits, Hits, SearchStats
from farann.runtime import batches
from farann.search import singles
from farann.search.filters import RowFilters

if TYPE_CHECKING:
    from farann.store.store import Store


class Question(NamedTuple):
    """What is asked of a store, checked."""

    store: Store
    isa: str
    queries: Float32Array
    k: int
    row_filters: RowFilters
    threads: int
    nearest: bool
    every_row: bool  # but for those that are excluded
    unfiltered: bool
    radii: Float64Array | None = None  # all rows beyond these, or the nearest ones; exactly

    @property
    def keeps(self) -> bool:
        """Whether it is a single query, of a kind that something is kept for."""
        # What is kept of a store has one direction.
        return (len(self.queries) == 1 and self.nearest == self.store.by_nearest
                and self.radii is None and self.store.built)

    def of(self, which: Int64Array, part: RowFilters, threads: int) -> Question:
        """The same for some of the queries."""
        return self._replace(queries=self.queries[which], row_filters=part, threads=threads,
                             radii=None if self.radii is None else self.radii[which])


def top(question: Question, limits: Limits | None) -> tuple[Hits, SearchStats]:
    """The k best rows of each query."""
    if question.row_filters.within is None:
        return _top(question, limits)
    from farann.search import grouped

    return grouped.top(
        question.store, question.row_filters, len(question.queries), question.k, question.threads,
        lambda which, part, threads: _top(question.of(which, part, threads), limits))


def _top(question: Question, limits: Limits | None) -> tuple[Hits, SearchStats]:
    """The same where queries differ in what they may not find at most."""
    store, k, queries = question.store, question.k, question.queries
    view = store.view(question.isa)
    rule, plan, guard = EXACT, store.tunings.by_k.get(k), None
    # Of few rows an approximate search may find too little, and an exact one has little to do.
    if limits is not None and (
            limits.rule() is not None or not question.row_filters.are_few(store)):
        from farann.search import plans

        rule, guard = plans.rule_for(limits, store, k, question.isa, question.threads,
                                     every_row=question.every_row, single=len(queries) == 1)
    if guard is not None and limits is not None and len(queries):
        from farann.search import guarded

        search = guarded.Search(store, view, question.row_filters, queries, k, question.threads,
                                question.unfiltered)
        hits, stats = guarded.top(guard, search, rule)
    else:
        chosen = question.row_filters.filter(store, view, len(queries), exact=not rule.approximate)
        found = None
        if rule is EXACT and question.keeps and question.row_filters.mark_anew:
            found = singles.exact(store, question.isa, queries, k, chosen)
        hits, stats = found or batches.top(
            view.snapshot_for(rule), chosen, queries, k, question.nearest, question.threads, rule,
            radii=question.radii)
    if question.keeps and (
            limits is None or (limits.recall is not None and question.unfiltered)):
        singles.keep(store, question.isa, k, None if limits is None else limits.recall, plan,
                     guard, rule, question.row_filters)
    return hits, stats


def beyond(question: Question) -> BeyondHits:
    """All rows beyond the radius of each query."""
    if question.row_filters.within is None:
        return _beyond(question)
    from farann.search import grouped

    return grouped.beyond(
        question.store, question.row_filters, len(question.queries), question.threads,
        lambda which, part, threads: _beyond(question.of(which, part, threads)))


def _beyond(question: Question) -> BeyondHits:
    store, view = question.store, question.store.view(question.isa)
    assert question.radii is not None
    chosen = question.row_filters.filter(store, view, len(question.queries), exact=True)
    return batches.beyond(view.exact, chosen, question.queries, question.radii, question.threads)


def keys_of(store: Store, isa: str, queries: Float32Array, found: Hits | BeyondHits,
            nearest: bool, threads: int) -> Float64Array:
    """The keys of the rows that queries found, as their ids lie; -infinity where these are -1."""
    if isinstance(found, Hits):
        offsets = np.arange(len(queries) + 1) * found.ids.shape[1]
    else:
        offsets = found.offsets
    keys = batches.keys_of_found(store.view(isa).exact, queries, offsets,
                                 store.slots_of(found.ids.ravel()), nearest, threads)
    return keys.reshape(found.ids.shape)
