"""Answers to a question: by a plan, a budget or exactly; and what is kept for the next query."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy.typing as npt

from farann._types import Float32Array, Int64Array
from farann.contract.checks import Limits
from farann.results import Hits, SearchStats
from farann.runtime import batches
from farann.search import guarded, plans
from farann.search.filters import RowFilters
from farann.store.store import Store
from farann.tuning.guard import Guard
from farann.tuning.table import Tuning

# Kinds of single queries that are prepared for at a time.
_MOST_SINGLES = 16


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


def top(question: Question, limits: Limits | None) -> tuple[Hits, SearchStats]:
    """The k best rows of each query."""
    store, k, queries = question.store, question.k, question.queries
    view = store.view(question.isa)
    options: dict[str, Any] = {}
    plan, guard, usual = store.tunings.by_k.get(k), None, None
    # Of few rows an approximate search may find too little, and an exact one has little to do.
    if limits is not None and (
            limits.epsilon is not None or not question.row_filters.are_few(store)):
        options = plans.options_for(limits, store, k, question.isa, question.threads,
                                    every_row=question.every_row, single=len(queries) == 1)
        if "predicted_threshold" in options:  # by a plan
            guard = store.tunings.guards.get(k)
        usual = options.pop("late", None)
    if guard is not None and limits is not None and len(queries):
        search = guarded.Search(store, view, question.row_filters, queries, k, question.threads)
        hits, stats = guarded.top(guard, search, options, usual, limits.recall)
    else:
        chosen = question.row_filters.filter(store, view, len(queries),
                                             exact="effort" not in options)
        snapshot = view.snapshot if "effort" in options else view.exact
        hits, stats = batches.top(snapshot, chosen, queries, k, question.nearest,
                                  question.threads, **options)
    if len(queries) == 1 and not question.nearest and question.unfiltered and (
            store.built and (limits is None or limits.recall is not None)):
        _keep_single(question, None if limits is None else limits.recall, plan, guard,
                     options | {"late": usual})
    return hits, stats


def _keep_single(question: Question, recall: float | None, plan: Tuning | None,
                 guard: Guard | None, options: dict[str, Any]) -> None:
    """Keep what answers the next single queries that are asked in the same way.

    `plan` is the table that there was before the options were chosen: if that was another one
    than at the next search, they are chosen anew.
    """
    store, isa, k = question.store, question.isa, question.k
    before = store.singles.get((isa, k, recall))
    if before is not None and before.plan is plan:
        return  # this query wasn't one for it
    view = store.view(isa)
    snapshot = view.snapshot if "effort" in options else view.exact
    kept = batches.single(snapshot, view.everything, k, plan,
                          guard=None if guard is None else guard.tests, **options)
    if kept is None:
        return
    if len(store.singles) >= _MOST_SINGLES:
        store.singles.clear()
    store.singles[isa, k, recall] = kept


def again(store: Store, isa: str, queries: npt.ArrayLike, k: int, recall: float | None,
          ) -> tuple[Float32Array, Int64Array, tuple[int, ...]] | None:
    """Scores, ids and counts for a single query, as an earlier one was answered; None where that
    can't be."""
    # True and 1.0 are found where 1 is.
    if type(k) is not int or not (recall is None or type(recall) is float):
        return None
    kept = store.singles.get((isa, k, recall))
    if kept is None or (recall is not None and kept.plan is not store.tunings.by_k.get(k)):
        return None
    return kept.search(queries)
