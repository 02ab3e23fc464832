"""One library, one data set: ``python -m bench.nearest.worker LIBRARY ROWS QUERIES METRIC K``."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import numpy as np

from .libraries import LIBRARIES, Rows


def resident() -> int:
    """Bytes of this process in memory; 0 where the system doesn't say."""
    statm = Path("/proc/self/statm")
    return int(statm.read_text().split()[1]) * 4096 if statm.exists() else 0


def _truth(rows: Rows, queries: Rows, metric: str, k: int) -> np.ndarray:
    """Scores of the k-th nearest in float64, from which on a row is an answer."""
    kth = np.empty(len(queries))
    wide = rows.astype(np.float64)
    norms = (wide * wide).sum(axis=1)
    if metric == "cosine":
        wide /= np.sqrt(norms)[:, None]
    for i, query in enumerate(queries.astype(np.float64)):
        scores = wide @ query
        if metric == "l2":
            scores = 2.0 * scores - norms
        kth[i] = np.partition(scores, -k)[-k]
    return kth


def _recall(ids: np.ndarray, rows: Rows, queries: Rows, metric: str, kth: np.ndarray) -> float:
    """The share of answers that score as the k-th or better, within 1e-6 of its size."""
    found = 0
    for own, query, least in zip(ids, queries.astype(np.float64), kth, strict=True):
        near = rows[np.unique(own[own >= 0])].astype(np.float64)
        scores = near @ query
        if metric == "cosine":
            scores /= np.linalg.norm(near, axis=1)
        elif metric == "l2":
            scores = 2.0 * scores - (near * near).sum(axis=1)
        found += int((scores >= least - 1e-6 * abs(least)).sum())
    return found / ids.size


def main(arguments: list[str]) -> None:
    """Build the library's index, try its settings, and print a line of JSON for each."""
    name, rows_file, queries_file, metric, asked = arguments
    k = int(asked)
    rows, queries = np.load(rows_file), np.load(queries_file)[:1000]
    kth = _truth(rows, queries, metric, k)
    library = LIBRARIES[name]
    before, began = resident(), time.process_time()
    index = library.build(rows, metric, k)
    built = {"library": name, "title": library.title, "metric": metric, "rows": len(rows),
             "dim": rows.shape[1], "k": k, "build_s": time.process_time() - began,
             "grown": resident() - before}
    print(json.dumps(built), flush=True)
    for setting, search in library.sweep(index, k):
        ids, best = np.asarray(search(queries)), float("inf")
        for _ in range(3):
            began = time.process_time()
            search(queries)
            best = min(best, time.process_time() - began)
        print(json.dumps({"library": name, "setting": setting,
                          "recall": _recall(ids, rows, queries, metric, kth),
                          "us": best / len(queries) * 1e6}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
