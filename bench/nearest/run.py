"""Runs the libraries in processes of their own, and makes tables of what they tell."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from .. import datasets, machine
from ..results import Record, markdown
from ..run import Log, Options, child_environment, run_child
from ..worker import serve
from .libraries import LIBRARIES, Rows

TARGETS = (0.9, 0.95, 0.99)
HEADS = ["library", "build, s", "memory, MB", *(f"us at {target:g}" for target in TARGETS),
         "best recall, us"]
_TIMEOUT = 3600.0  # seconds a library and set


def run(cache: Path, names: list[str], only: list[str], k: int, out: Path,
        command: list[str]) -> str:
    """Measure, append to a file of JSON lines, and return a table for each data set."""
    log, tables = Log(out, Options(k=k), command), []
    for name in names:
        datasets.load(name, cache)
        rows = []
        for library in only:
            task = {"cache": str(cache), "data": name, "library": library, "k": k}
            lines, reason = run_child("nearest.run", task, child_environment(), _TIMEOUT)
            for line in lines:
                log.write("nearest", data=name, k=k, **line)
            if reason:
                log.write("failure", data=name, library=library, reason=reason)
                print(f"failed: {library} on {name}: {reason}", file=sys.stderr)
            rows += [row_of(lines)] if len(lines) > 1 else []
        tables.append(f"{name}, k = {k}, one thread\n\n{markdown(HEADS, rows)}\n")
    return "\n".join(tables)


def row_of(lines: list[Record]) -> list[str]:
    """The fastest setting at each recall, and the one of the highest."""
    built, *found = lines
    cells = [built["title"], f"{built['build_s']:.1f}", f"{built['grown'] / 1e6:.0f}"]
    for target in TARGETS:
        times = [line["us"] for line in found if line["recall"] >= target]
        cells.append(f"{min(times):.0f}" if times else "")
    best = max(found, key=lambda line: (line["recall"], -line["us"]))
    return [*cells, f"{best['recall']:.4f}, {best['us']:.0f}"]


def measure(task: dict[str, Any]) -> Iterator[Record]:
    """Build a library's index and try its settings: a record of each."""
    data, k = datasets.load(task["data"], Path(task["cache"])), task["k"]
    rows, queries = data.rows(), data.queries()
    scores = _scores(rows, queries, data.metric)
    kth = np.array([np.partition(one, -k)[-k] for one in scores])
    library = LIBRARIES[task["library"]]
    before, began = machine.resident_bytes(), time.process_time()
    index = library.build(rows, data.metric, k)
    yield {"library": task["library"], "title": library.title, "rows": len(rows),
           "dim": rows.shape[1], "build_s": time.process_time() - began,
           "grown": machine.resident_bytes() - before}
    for setting, search in library.sweep(index, k):
        ids, best = np.asarray(search(queries)), float("inf")
        for _ in range(3):
            began = time.process_time()
            search(queries)
            best = min(best, time.process_time() - began)
        # Answers count that score as the k-th or better, within 1e-6 of its size.
        found = sum(int((next(_scores(rows[np.unique(own[own >= 0])], query[None], data.metric))
                         >= least - 1e-6 * abs(least)).sum())
                    for own, query, least in zip(ids, queries, kth, strict=True))
        yield {"library": task["library"], "setting": setting, "recall": found / ids.size,
               "us": best / len(queries) * 1e6}


def _scores(rows: Rows, queries: Rows, metric: str) -> Iterator[np.ndarray]:
    """Of each query those of all rows, the nearest largest, in float64."""
    wide = rows.astype(np.float64)
    norms = (wide * wide).sum(axis=1)
    if metric == "cosine":
        wide /= np.sqrt(norms)[:, None]
    for query in queries.astype(np.float64):
        products = wide @ query
        yield 2.0 * products - norms if metric == "l2" else products


if __name__ == "__main__":
    serve(measure)
