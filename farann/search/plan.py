"""Where a search stops: exactly, by a budget, or by a table, whose guard answers some exactly."""

from __future__ import annotations

from typing import TYPE_CHECKING

from farann.contract.stop_rule import ALL_CODES, EXACT, Limits, StopRule
from farann.results import Hits, SearchStats
from farann.runtime import batches
from farann.search import singles
from farann.search.filters import UNFILTERED
from farann.search.question import Question

if TYPE_CHECKING:
    from farann.tuning.guard import Guard

# Rules that are kept of a store, by k and recall.
_MOST_RULES = 64


def top(question: Question) -> tuple[Hits, SearchStats]:
    """The k best rows of each query."""
    if question.row_filters.within is None:
        return _top(question)
    from farann.search import grouped

    return grouped.top(question, _top)


def _top(question: Question) -> tuple[Hits, SearchStats]:
    """The same where queries differ in what they may not find at most."""
    store, view, queries, k, threads, filters, limits, _, nearest, radii = question
    rule, plan, guard = EXACT, store.tunings.by_k.get(k), None
    # Of few rows an approximate search may find too little, and an exact one has little to do.
    if limits is not None and (
            filters is UNFILTERED or (limits.recall is None and limits.budget is None)
            or not filters.are_few(store)):
        rule, guard = _rule_for(question, limits)
    # What is kept of a store has one direction.
    keeps = (len(queries) == 1 and nearest == store.by_nearest and radii is None and store.built)
    if guard is not None and len(queries):
        from farann.search import guarded

        hits, stats = guarded.top(guard, question, rule)
    else:
        chosen = view.everything
        if filters is not UNFILTERED:
            chosen = filters.filter(store, view, len(queries),
                                    exact=rule is EXACT or not rule.approximate)
        found = None
        if keeps and rule is EXACT and filters.mark_anew:
            found = singles.exact(store, view.exact.isa, queries, k, chosen)
        hits, stats = found or batches.top(
            view.exact if rule is EXACT else view.snapshot_for(rule), chosen, queries, k, nearest,
            threads, rule, radii=radii)
    if keeps and (limits is None or (limits.recall is not None and filters is UNFILTERED)):
        singles.keep(store, view.exact.isa, k, None if limits is None else limits.recall, plan,
                     guard, rule, filters)
    return hits, stats


def _rule_for(question: Question, limits: Limits) -> tuple[StopRule, Guard | None]:
    """Where a search with limits stops; and by a table, the guard that tells which queries it is
    for."""
    store, k, tunings = question.store, question.k, question.store.tunings
    # Without vectors all codes are scanned where others would search exactly.
    exact = EXACT if store.n_coded is None else ALL_CODES
    if limits.recall is None and limits.budget is None:
        return limits.rule(exact), None
    asked = k, limits.recall, len(question.queries) == 1, question.every_row
    made = store.rules.get(asked)
    if made is None or (
            made[0] is not tunings.by_k.get(k) or made[2] is not tunings.guards.get(k)):
        from farann.search import tables

        if limits.recall is None:
            assert limits.budget is not None
            return tables.rule_within(limits.budget, store), None
        made = tables.rule_by_table(question, limits.recall)
        if made is None:
            return exact, None
        if len(store.rules) >= _MOST_RULES:
            store.rules.clear()
        store.rules[asked] = made
    return made[1:]
