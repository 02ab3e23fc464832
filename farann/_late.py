"""Approximate searches without cells: queries whose answers come late are answered exactly.

Such a search scans rows in an order that serves a sample of queries. Most queries find their answers
soon, some find them all along the way, and then as much of the answer is among the rows that aren't
scanned. The search itself tells which these are (`_core.ApproximateTask.late_to`), whatever they
look like.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from farann import _core, _search
from farann._results import Hits, SearchStats
from farann._types import Float32Array, Int64Array

# Answers are late of which such a share came after the first part of the scanned rows; and of
# searches of a high recall. What finds answers all along the way has three quarters there.
SHARE, HIGH_RECALL, SHARE_OF_HIGH = 0.4, 0.97, 0.3

# What is searched, and which of it.
Searched = tuple[_core.Snapshot, _core.Filter]


def share_at(recall: float) -> float:
    """The share of an answer that makes it late. Tables are measured with `SHARE`; less finds more."""
    return SHARE_OF_HIGH if recall > HIGH_RECALL else SHARE


def top(searched: Searched, exact: Callable[[Int64Array], Searched], queries: Float32Array, k: int,
        threads: int, options: dict[str, Any]) -> tuple[Hits, SearchStats]:
    """The k best rows of each query, as `_search.top` finds them; with ``options["late"]`` exact for
    those whose answers come late.

    `exact` gives what is searched for some of the queries then.
    """
    if not options.get("late"):
        return _search.top(*searched, queries, k, False, threads, **options)
    marks = np.zeros(len(queries), np.uint8)
    hits, work = _search.top(*searched, queries, k, False, threads, marks=marks, **options)
    which = np.flatnonzero(marks)
    if len(which) == 0:
        return hits, work
    found, more = _search.top(*exact(which), queries[which], k, False, threads)
    hits.scores[which], hits.ids[which] = found
    total = SearchStats(*map(sum, zip(work, more, strict=True)))
    return hits, total._replace(queries=len(queries), queries_late=len(which))
