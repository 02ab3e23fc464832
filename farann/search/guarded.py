"""Searches with `recall=`: queries that are unlike those of a plan get exact answers.

So do queries whose answers come late, where many do.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from farann._types import Float32Array, Int64Array
from farann.contract.stop_rule import ALL_CODES, EXACT, StopRule
from farann.results import Hits, SearchStats
from farann.runtime import batches
from farann.search import singles
from farann.search.filters import RowFilters
from farann.store.store import Store, View
from farann.tuning.guard import Guard

# Deviations of a batch's mean lateness beyond which its late answers are taken for bad ones.
_LATE = 4.0


class Search(NamedTuple):
    """What is searched, and for which queries."""

    store: Store
    view: View
    row_filters: RowFilters
    queries: Float32Array
    k: int
    threads: int
    unfiltered: bool

    def run(self, rule: StopRule, late: Float32Array | None = None) -> tuple[Hits, SearchStats]:
        """The k best rows of each query; `late` as for `batches.top`."""
        if rule is EXACT and len(self.queries) == 1 and self.unfiltered and self.store.built:
            found = singles.exact(self.store, self.view.exact.isa, self.queries, self.k)
            if found is not None:
                return found
        chosen = self.row_filters.filter(self.store, self.view, len(self.queries),
                                         exact=not rule.approximate)
        return batches.top(self.view.snapshot_for(rule), chosen, self.queries, self.k,
                           self.store.by_nearest, self.threads, rule, late)

    def of(self, which: Int64Array) -> Search:
        """The same for some of the queries."""
        return self._replace(queries=self.queries[which], row_filters=self.row_filters.of(which))


def top(guard: Guard, search: Search, rule: StopRule) -> tuple[Hits, SearchStats]:
    """The k best rows of each query: exact for those that are unlike the sample, and for late ones
    where answers come later than is usual.

    The rule is for the others. Without vectors all codes are scanned in the place of an exact
    search.
    """
    n, k, usual = len(search.queries), search.k, rule.usual_lateness
    unlike = guard.unlike(search.queries, search.threads)
    if unlike is None and usual is None:
        return search.run(rule)
    guarded = np.empty(0, np.int64) if unlike is None else unlike
    like = np.delete(np.arange(n), guarded)
    exact = EXACT if search.store.n_coded is None else ALL_CODES
    late = None if usual is None else np.zeros(len(like), np.float32)
    did = []

    def search_some(which: Int64Array, rule: StopRule, late: Float32Array | None = None) -> None:
        if len(which):
            found, work = search.of(which).run(rule, late)
            hits.scores[which], hits.ids[which] = found
            did.append(work)

    if unlike is None:
        hits, work = search.run(rule, late)
        did.append(work)
    else:
        hits = Hits(np.empty((n, k), np.float32), np.empty((n, k), np.int64))
        search_some(like, rule, late)
        search_some(guarded, exact)
    if usual is not None and late is not None and guard.tests.how_late(
            len(like), float(late.sum(dtype=np.float64)), *usual) > _LATE:
        again = like[late > usual[0]]
        search_some(again, exact)
        guard.note(0, len(again), 6)
        guarded = np.union1d(guarded, again)
    total = SearchStats(*map(sum, zip(*did, strict=True)))
    return hits, total._replace(queries=n, queries_guarded=len(guarded))
