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
from .results import LEVELS, Record, fastest, pareto

MODES = ("batch", "single", "threads")
_PROBE = 16
_FEWEST = 40  # queries that even the slowest peer answers
_HOPELESS = 0.5  # a recall that nobody would choose


@dataclass(frozen=True)
class Task:
    """What a worker is to do.

    `budget` is the number of seconds that one repetition of one measurement may take: a slow
    peer answers fewer queries, never fewer than forty. When even those take so long that the
    repetitions need twice the time planned for all, no more are made.
    """

    algorithm: str
    dataset: dict[str, Any]
    build: dict[str, Any] = field(default_factory=dict)
    searches: list[dict[str, Any]] = field(default_factory=lambda: [{}])
    modes: list[str] = field(default_factory=lambda: list(MODES))  # the first is batch
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


def _time(search: Callable[[Any], Any], probe: Callable[[], object], share: int, queries: Any,
          task: Task) -> _Timing:
    """Time `search` on as many queries as the budget allows.

    `probe` answers `share` queries and tells how many that are.
    """
    each = min(_seconds(probe) for _ in range(3)) / share  # the first may set things up
    asked = queries[: max(_FEWEST, int(task.budget / max(each, 1e-9)))]
    seconds: list[float] = []
    ids: Any = ()
    while len(seconds) < task.repeats and sum(seconds) < 2 * task.repeats * task.budget:
        start = time.perf_counter()
        ids = search(asked)
        seconds.append(time.perf_counter() - start)
    return _Timing(np.asarray(ids, dtype=np.int64), [1e6 * s / len(asked) for s in seconds])


def _time_batch(algorithm: Algorithm, queries: Rows, task: Task) -> _Timing:
    asked = algorithm.asked(queries)
    few = asked[:_PROBE]
    return _time(algorithm.find, lambda: algorithm.find(few), len(few), asked, task)


def _time_single(algorithm: Algorithm, queries: Rows, task: Task) -> _Timing:
    def search(some: list[Rows]) -> list[NDArray[np.integer]]:
        return [algorithm.find_one(query) for query in some]

    asked = list(algorithm.asked(queries))
    return _time(search, lambda: algorithm.find_one(asked[0]), 1, asked, task)


def _seconds(function: Callable[[], object]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def worth_timing(mode: str, batch: list[Record]) -> list[Record]:
    """Of an index's results in a batch, those whose settings are worth timing in another mode.

    The rule is the same for all libraries, and leaves out only what a reader wouldn't choose:

    - Exact settings, and the one of the highest recall, are timed in every mode.
    - One by one, so are those of recall 1/2 or more that no other setting of the index beats.
    - On several threads, where no front is drawn, so are the fastest at each of `LEVELS`.
    """
    if mode == "single":
        chosen = [record for record in pareto(batch) if record["recall"] >= _HOPELESS]
    else:
        chosen = [found for level in LEVELS if (found := fastest(batch, level)) is not None]
    chosen.append(max(batch, key=lambda record: (record["recall"], -record["us"])))
    kept = {id(record) for record in chosen}
    return [record for record in batch if record["exact"] or id(record) in kept]


def measure(task: Task) -> Iterator[Record]:
    """Build, then time the searches in every mode in which they are worth it."""
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
    algorithm.sample = data.sample()
    build_seconds = _seconds(lambda: algorithm.build(rows))
    grown = max(0, machine.resident_bytes() - before)
    peak = 0

    def described(search: dict[str, Any]) -> Record:
        """What doesn't depend on the mode."""
        algorithm.configure(search)
        size = algorithm.index_bytes()
        return {"build": task.build, "search": search, "build_seconds": build_seconds,
                "index_bytes": grown if size is None else size,
                "index_bytes_are": "growth of the process" if size is None else "reported",
                "claims_exact": algorithm.claims_exact(search)}

    def timed(about: Record, mode: str) -> Record:
        nonlocal peak
        algorithm.configure(about["search"])
        algorithm.set_threads(task.threads if mode == "threads" else 1)
        timing = (_time_single if mode == "single" else _time_batch)(algorithm, queries, task)
        peak = peak or machine.peak_bytes()  # before the check below adds to it
        asked = queries[: len(timing.ids)]
        if timing.ids.shape != (len(asked), min(task.k, len(rows))):
            raise ValueError(f"ids must be {task.k} a query, got shape {timing.ids.shape}")
        recall = measures.recall(rows, asked, timing.ids, kth[: len(asked)], data.metric)
        return {**about, "mode": mode, "threads": algorithm.threads, "queries": len(asked),
                "us": min(timing.microseconds), "us_all": timing.microseconds, "recall": recall,
                "same_order": measures.same_order(timing.ids, true_ids[: len(asked)]),
                "rows_scanned": algorithm.rows_scanned(), "peak_bytes": peak,
                "kernels": algorithm.kernels(), "exact": about["claims_exact"] and recall == 1.0}

    batch: list[Record] = []
    for search in task.searches:
        batch.append(timed(described(search), "batch"))
        yield batch[-1]
    for mode in task.modes[1:]:
        for record in worth_timing(mode, batch):
            yield timed(record, mode)


def serve(measure: Callable[[dict[str, Any]], Iterator[Record]]) -> None:
    """Do the task in the file of the first argument, append records to that of the second."""
    task = json.loads(Path(sys.argv[1]).read_text())
    with open(sys.argv[2], "a", encoding="utf-8") as out:
        for record in measure(task):
            out.write(json.dumps(record) + "\n")
            out.flush()


if __name__ == "__main__":
    serve(lambda task: measure(Task(**task)))
