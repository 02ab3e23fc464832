"""Searches whose queries have groups of their own: one search for the queries of each group."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from farann import _core
from farann._types import Int64Array
from farann.results import BeyondHits, Hits, SearchStats, no_hits
from farann.runtime import pool
from farann.search.question import Question

# Multiply-adds below which a search runs on one thread, beside others.
_SMALL_WORK = 1 << 22
# Multiply-adds from which Ctrl+C must be heard.
_LONG_WORK = 1 << 27


def _run_parts(question: Question, run: Callable[[Int64Array, Question], None]) -> None:
    """Call `run` for the queries of each group, beside each other where groups are small."""
    small: list[tuple[Int64Array, Question]] = []
    work = 0
    for which, row_filters in question.row_filters.by_group(question.store):
        assert row_filters.rows is not None
        own = len(which) * row_filters.rows.count * question.store.dim
        if own > _SMALL_WORK:
            run(which, question.of(which, row_filters))
        else:
            small.append((which, question.of(which, row_filters)._replace(threads=1)))
            work += own

    def run_some(some: list[tuple[Int64Array, Question]], flag: _core.CancelFlag) -> None:
        for which, part in some:
            if flag.is_cancelled():
                return
            run(which, part)

    n_tasks = max(1, min(question.threads, len(small)))
    pool.run_all([partial(run_some, small[i::n_tasks]) for i in range(n_tasks)], question.threads,
                 long=work >= _LONG_WORK)


def top(question: Question, search: Callable[[Question], tuple[Hits, SearchStats]],
        *, keyed: bool = False) -> tuple[Hits, SearchStats]:
    """The k best rows of each query, within its group."""
    n = len(question.queries)
    hits, did = no_hits(n, question.k, keyed=keyed), list[SearchStats]()

    def run(which: Int64Array, part: Question) -> None:
        found, stats = search(part)
        hits.scores[which], hits.ids[which] = found
        if hits.keys is not None and found.keys is not None:
            hits.keys[which] = found.keys
        did.append(stats)

    _run_parts(question, run)
    total = SearchStats(*map(sum, zip(*did, strict=True))) if did else SearchStats(n)
    return hits, total._replace(queries=n)


def beyond(question: Question, search: Callable[[Question], BeyondHits]) -> BeyondHits:
    """All rows beyond the radius of each query, within its group."""
    counts, found = np.zeros(len(question.queries), np.int64), list[tuple[Int64Array, BeyondHits]]()

    def run(which: Int64Array, part: Question) -> None:
        hits = search(part)
        counts[which] = np.diff(hits.offsets)
        found.append((which, hits))

    _run_parts(question, run)
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    scores, ids = np.empty(offsets[-1], np.float32), np.empty(offsets[-1], np.int64)
    for which, hits in found:
        own = np.repeat(offsets[which] - hits.offsets[:-1], counts[which])
        places = own + np.arange(len(hits.ids))
        scores[places], ids[places] = hits.scores, hits.ids
    return BeyondHits(offsets, scores, ids)
