"""One peer on one data set, in a process of its own: build, answer, check, time.

``python -m bench.worker task.json out.jsonl`` reads a `Task` and appends one JSON line a
measurement, so that what was measured before a crash is kept.
"""

from __future__ import annotations

import importlib
import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import machine, measures
from .algorithms import by_name
from .algorithms.base import Algorithm, Rows
from .datasets import DataSet

MODES = ("batch", "single", "threads")
_PROBE = 16
_FEWEST = 40  # queries that even the slowest peer answers


@dataclass(frozen=True)
class Task:
    """What a worker is to do.

    `budget` is the number of seconds that one repetition of one measurement may take: a slow
    peer answers fewer queries, never fewer than forty.
    """

    algorithm: str
    dataset: dict[str, Any]
    build: dict[str, Any] = field(default_factory=dict)
    searches: list[dict[str, Any]] = field(default_factory=lambda: [{}])
    modes: list[str] = field(default_factory=lambda: list(MODES))
    k: int = 10
    threads: int = 2
    repeats: int = 3
    budget: float = 2.0


def describe(data: DataSet) -> dict[str, Any]:
    """A data set as a task carries it."""
    return {**asdict(data), "folder": str(data.folder)}


@dataclass(frozen=True)
class _Timing:
    ids: NDArray[np.int64]
    microseconds: list[float]


def _time_batch(algorithm: Algorithm, queries: Rows, task: Task) -> _Timing:
    probe = queries[:_PROBE]
    share = _least_seconds(lambda: algorithm.search(probe)) / len(probe)
    asked = queries[: max(_FEWEST, int(task.budget / max(share, 1e-9)))]
    seconds: list[float] = []
    ids: NDArray[np.integer] = np.empty(0, dtype=np.int64)
    for _ in range(task.repeats):
        start = time.perf_counter()
        ids = algorithm.search(asked)
        seconds.append(time.perf_counter() - start)
    return _Timing(np.asarray(ids, dtype=np.int64), [1e6 * s / len(asked) for s in seconds])


def _time_single(algorithm: Algorithm, queries: Rows, task: Task) -> _Timing:
    share = _least_seconds(lambda: algorithm.search_one(queries[0]))
    asked = list(queries[: max(_FEWEST, int(task.budget / max(share, 1e-9)))])
    seconds, ids = [], []
    for _ in range(task.repeats):
        start = time.perf_counter()
        ids = [algorithm.search_one(query) for query in asked]
        seconds.append(time.perf_counter() - start)
    return _Timing(np.asarray(ids, dtype=np.int64), [1e6 * s / len(asked) for s in seconds])


def _least_seconds(function: Callable[[], object]) -> float:
    """Of three calls; the first may set things up."""
    return min(_seconds(function) for _ in range(3))


def _seconds(function: Callable[[], object]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def measure(task: Task) -> Iterator[dict[str, Any]]:
    """Build, then time every search in every mode; yields one record each."""
    algorithm_class = by_name(task.algorithm)
    data = DataSet(**{**task.dataset, "folder": Path(task.dataset["folder"])})
    rows, queries = data.rows(), data.queries()
    true_ids, true_scores = data.truth()
    kth = true_scores[:, min(task.k, true_scores.shape[1]) - 1]
    for module in algorithm_class.modules:
        importlib.import_module(module)

    before = machine.resident_bytes()
    algorithm = algorithm_class(data.metric, task.k, task.build)
    algorithm.set_threads(1)
    build_seconds = _seconds(lambda: algorithm.build(rows))
    grown = max(0, machine.resident_bytes() - before)
    peak = 0

    for search in task.searches:
        algorithm.configure(search)
        size = algorithm.index_bytes()
        exact = algorithm.claims_exact(search)
        for mode in task.modes:
            algorithm.set_threads(task.threads if mode == "threads" else 1)
            timing = (_time_single if mode == "single" else _time_batch)(algorithm, queries, task)
            peak = peak or machine.peak_bytes()  # before the check below adds to it
            answered = len(timing.ids)
            record = {
                "build": task.build,
                "search": search,
                "mode": mode,
                "threads": algorithm.threads,
                "queries": answered,
                "us": min(timing.microseconds),
                "us_all": timing.microseconds,
                "recall": measures.recall(
                    rows, queries[:answered], timing.ids, kth[:answered], data.metric
                ),
                "same_order": measures.same_order(timing.ids, true_ids[:answered]),
                "rows_scanned": algorithm.rows_scanned(),
                "build_seconds": build_seconds,
                "index_bytes": grown if size is None else size,
                "index_bytes_are": "growth of the process" if size is None else "reported",
                "peak_bytes": peak,
                "kernels": algorithm.kernels(),
            }
            exact = exact and record["recall"] == 1.0
            record |= {"claims_exact": algorithm.claims_exact(search), "exact": exact}
            yield record


def main(task_path: str, out_path: str) -> None:
    """Do the task in a file, write records to another."""
    task = Task(**json.loads(Path(task_path).read_text()))
    with open(out_path, "a", encoding="utf-8") as out:
        for record in measure(task):
            out.write(json.dumps(record) + "\n")
            out.flush()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
