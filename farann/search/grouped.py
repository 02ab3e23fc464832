"""Searches whose queries have groups of their own: one search for the queries of each group."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from farann import _core
from farann._types import Int64Array
from farann.results import BeyondHits, Hits, SearchStats, no_hits
from farann.runtime import pool
from farann.search.filters import RowFilters

if TYPE_CHECKING:
    from farann.store.store import Store

# Multiply-adds below which a search runs on one thread, beside others.
_SMALL_WORK = 1 << 22
# Those above which Ctrl+C must be heard.
_LONG_WORK = 1 << 27

# Some of the queries, what they may find, and how many threads there are.
Part: TypeAlias = Callable[[Int64Array, RowFilters, int], None]


def run_parts(store: Store, filters: RowFilters, threads: int, run: Part) -> None:
    """Call `run` for the queries of each group, beside each other where groups are small."""
    parts = filters.by_group(store)
    small: list[tuple[Int64Array, RowFilters]] = []
    work = 0
    for which, part in parts:
        assert part.rows is not None
        own = len(which) * part.rows.count * store.dim
        if own > _SMALL_WORK:
            run(which, part, threads)
        else:
            small.append((which, part))
            work += own

    def run_some(some: list[tuple[Int64Array, RowFilters]], flag: _core.CancelFlag) -> None:
        for which, part in some:
            if flag.is_cancelled():
                return
            run(which, part, 1)

    n_tasks = max(1, min(threads, len(small)))
    pool.run_all([partial(run_some, small[i::n_tasks]) for i in range(n_tasks)], threads,
                 long=work >= _LONG_WORK)


def top(store: Store, filters: RowFilters, n: int, k: int, threads: int,
        search: Callable[[Int64Array, RowFilters, int], tuple[Hits, SearchStats]],
        *, keyed: bool = False) -> tuple[Hits, SearchStats]:
    """The k best rows of each of n queries, within its group."""
    hits, did = no_hits(n, k, keyed=keyed), list[SearchStats]()

    def run(which: Int64Array, part: RowFilters, threads: int) -> None:
        found, stats = search(which, part, threads)
        hits.scores[which], hits.ids[which] = found
        if hits.keys is not None and found.keys is not None:
            hits.keys[which] = found.keys
        did.append(stats)

    run_parts(store, filters, threads, run)
    total = SearchStats(*map(sum, zip(*did, strict=True))) if did else SearchStats(n)
    return hits, total._replace(queries=n)


def beyond(store: Store, filters: RowFilters, n: int, threads: int,
           search: Callable[[Int64Array, RowFilters, int], BeyondHits]) -> BeyondHits:
    """All rows beyond the radius of each of n queries, within its group."""
    counts, found = np.zeros(n, np.int64), list[tuple[Int64Array, BeyondHits]]()

    def run(which: Int64Array, part: RowFilters, threads: int) -> None:
        hits = search(which, part, threads)
        counts[which] = np.diff(hits.offsets)
        found.append((which, hits))

    run_parts(store, filters, threads, run)
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    scores, ids = np.empty(offsets[-1], np.float32), np.empty(offsets[-1], np.int64)
    for which, hits in found:
        own = np.repeat(offsets[which] - hits.offsets[:-1], counts[which])
        places = own + np.arange(len(hits.ids))
        scores[places], ids[places] = hits.scores, hits.ids
    return BeyondHits(offsets, scores, ids)
