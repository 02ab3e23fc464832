"""Searches with `recall=`: queries that are unlike those of a plan get exact answers.

So do queries whose answers come unusually late; of a large batch some are answered exactly first,
to see what the others lack.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from farann._types import BoolArray, Float32Array, Int64Array
from farann.contract.stop_rule import ALL_CODES, EXACT, StopRule
from farann.results import Hits, SearchStats, share_found
from farann.runtime import batches
from farann.search import singles
from farann.search.filters import UNFILTERED
from farann.search.question import Question
from farann.tuning.guard import Guard

# Where answers come earlier or later than is usual by so many deviations, so many queries of a
# batch are answered exactly, to see what the others lack, if it is of so many at least. In smaller
# ones late answers are taken for bad ones, by more deviations.
_UNUSUAL, _AUDITED, _WORTH_AUDITING, _LATE = 2.5, 128, 512, 4.0


def top(guard: Guard, question: Question, rule: StopRule) -> tuple[Hits, SearchStats]:
    """The k best rows of each query: exact for those that are unlike the sample, or turn out to be,
    as their answers come later than is usual, and the recall isn't reached.

    The rule is for the others. Without vectors all codes are scanned in the place of an exact
    search.
    """
    n, k, usual = len(question.queries), question.k, rule.usual_lateness
    unlike = guard.unlike(question.queries, question.threads)
    if unlike is None and usual is None:
        return _run(question, rule)
    guarded = np.empty(0, np.int64) if unlike is None else unlike
    like = np.delete(np.arange(n), guarded)
    exact = EXACT if question.store.n_coded is None else ALL_CODES
    late = None if usual is None else np.zeros(len(like), np.float32)
    did = []

    def search_some(which: Int64Array, rule: StopRule, late: Float32Array | None = None) -> None:
        if len(which):
            found, work = _run(question.of(which), rule, late)
            hits.scores[which], hits.ids[which] = found
            did.append(work)

    if unlike is None:
        hits, work = _run(question, rule, late)
        did.append(work)
    else:
        hits = Hits(np.empty((n, k), np.float32), np.empty((n, k), np.int64))
        search_some(like, rule, late)
        search_some(guarded, exact)
    recall = None if question.limits is None else question.limits.recall
    if usual is not None and late is not None and recall is not None:
        how_late = guard.tests.how_late(len(like), float(late.sum(dtype=np.float64)), *usual)
        again = _repeat(like, late > usual[0], how_late, recall, hits,
                        lambda which: search_some(which, exact))
        if 0 < len(again) <= _AUDITED and len(like) >= _WORTH_AUDITING:
            guard.tests.late_surplus = 0.0  # what was found is enough
        if len(again):
            guard.note(0, len(again))
            guarded = np.union1d(guarded, again)
    total = SearchStats(*map(sum, zip(*did, strict=True)))
    return hits, total._replace(queries=n, queries_guarded=len(guarded))


def _run(question: Question, rule: StopRule,
         late: Float32Array | None = None) -> tuple[Hits, SearchStats]:
    """The k best rows of each query; `late` as for `batches.top`."""
    store, view, queries, k, threads, filters = question[:6]
    if rule is EXACT and len(queries) == 1 and filters is UNFILTERED and store.built:
        found = singles.exact(store, view.exact.isa, queries, k)
        if found is not None:
            return found
    # A rule is exact, or takes errors of codes for noise.
    snapshot = view.exact if rule is EXACT else view.snapshot
    chosen = view.everything
    if filters is not UNFILTERED:
        chosen = filters.filter(store, view, len(queries), exact=rule is EXACT)
    return batches.top(snapshot, chosen, queries, k, question.nearest, threads, rule, late)


def _repeat(like: Int64Array, late: BoolArray, how_late: float, recall: float, hits: Hits,
            search: Callable[[Int64Array], None]) -> Int64Array:
    """Search exactly for queries whose answers came unusually late or early; gives which.

    In a large batch some are answered exactly to see what the others lack. If that is too much, it
    is the late ones that are answered so, and if these don't make up for it all.
    """
    if len(like) < _WORTH_AUDITING:
        again = like[late] if how_late > _LATE else like[:0]
        search(again)
        return again
    if abs(how_late) <= _UNUSUAL:
        return like[:0]
    some = np.arange(0, len(like), -(-len(like) // _AUDITED))
    found, done = hits.ids[like[some]], np.zeros(len(like), np.bool_)
    search(like[some])
    done[some] = True
    shares = np.array([share_found(one[None], wanted[None])
                       for one, wanted in zip(found, hits.ids[like[some]], strict=True)])
    if shares.mean() < recall:
        enough = np.where(late[some], 1.0, shares).mean() >= recall
        others = late & ~done if enough else ~done
        search(like[others])
        done |= others
    return like[done]
