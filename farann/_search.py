"""Cut a batch of queries into tasks, run them on threads, gather the answers."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import nan

import numpy as np

from farann import _core, _tasks
from farann._results import BeyondHits, Hits, SearchStats
from farann._types import Float32Array, Int64Array

# Queries of one task: enough to make packing the rows cheap, few enough for the caches.
_QUERIES_A_TASK = 1024
# The more queries, the more of them visit the same cell together.
_QUERIES_OF_CELLS = 2048
# Scratch memory of a task, and the multiply-adds below which a second thread costs more.
_TASK_BYTES = 1 << 28
_SMALL_WORK = 1 << 22
# Roughly what a query needs beside its k entries: candidates, weights, its float64 copy.
_QUERY_BYTES = 16_384


def top(snapshot: _core.Snapshot, chosen: _core.Filter, queries: Float32Array, k: int,
        nearest: bool, threads: int, *, effort: float | None = None, budget: int = 0,
        epsilon: float = 0.0, expected: float = nan) -> tuple[Hits, SearchStats]:
    """The k best rows of each query, and what it took.

    Approximate, and for the furthest only, with an `effort` (see `_core.ApproximateTask`).
    """
    n = len(queries)
    scores = np.empty((n, k), np.float32)
    ids = np.empty((n, k), np.int64)
    did: list[tuple[int, ...]] = []

    def search(start: int, stop: int) -> None:
        task: _core.Task
        if effort is None:
            task = _core.Task(snapshot, chosen, queries, start, stop, k, nearest, None, epsilon)
        else:
            task = _core.ApproximateTask(snapshot, chosen, queries, start, stop, k, effort, budget,
                                         expected)
        task.run()
        task.write_top(scores, ids, start)
        did.append(task.did())

    if n == 1:
        search(0, 1)
        return Hits(scores, ids), SearchStats(1, *did[0])
    found = min(k, chosen.n_rows)
    most = _QUERIES_A_TASK if effort is None else _QUERIES_OF_CELLS
    _run(search, n, chosen.n_rows * snapshot.dim, _QUERY_BYTES + 48 * found, threads, most)
    return Hits(scores, ids), SearchStats(n, *map(sum, zip(*did, strict=True)))


def beyond(snapshot: _core.Snapshot, chosen: _core.Filter, queries: Float32Array, radius: float,
           threads: int) -> BeyondHits:
    """All rows beyond a radius."""
    n = len(queries)
    tasks: dict[int, _core.Task] = {}

    def search(start: int, stop: int) -> None:
        task = _core.Task(snapshot, chosen, queries, start, stop, 1, False, radius)
        task.run()
        tasks[start] = task

    _run(search, n, chosen.n_rows * snapshot.dim, _QUERY_BYTES, threads)
    counts = [count for start in sorted(tasks) for count in tasks[start].counts()]
    offsets = np.concatenate([[0], np.cumsum(counts, dtype=np.int64)]).astype(np.int64)
    scores = np.empty(offsets[-1], np.float32)
    ids = np.empty(offsets[-1], np.int64)
    for start, task in tasks.items():
        task.write_beyond(scores, ids, int(offsets[start]))
    return BeyondHits(offsets, scores, ids)


def score(snapshot: _core.Snapshot, queries: Float32Array, slots: Int64Array,
          threads: int) -> Float32Array:
    """Scores of given rows, (n_queries, n_slots)."""
    scores = np.empty((len(queries), len(slots)), np.float32)
    work = partial(_core.score_slots, snapshot, queries, slots, scores)
    _run(work, len(queries), len(slots) * snapshot.dim, _QUERY_BYTES, threads)
    return scores


def _run(search: Callable[[int, int], object], n: int, work: int, query_bytes: int,
         threads: int, most: int = _QUERIES_A_TASK) -> None:
    """Call search(start, stop) for ranges that cover n queries, each `work` multiply-adds."""
    if n * work < _SMALL_WORK:
        threads = 1
    largest = max(1, min(most, _TASK_BYTES // query_bytes))
    n_tasks = -(-n // largest)
    n_tasks = min(-(-n_tasks // threads) * threads, n)
    bounds = [n * i // n_tasks for i in range(n_tasks + 1)] if n else [0]
    _tasks.run_all([partial(search, start, stop)
                    for start, stop in zip(bounds[:-1], bounds[1:], strict=True)], threads)
