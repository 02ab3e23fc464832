"""How long single searches take while another thread builds, saves, tunes or adds.

``python -m bench waits`` prints a table: median, 99.9th percentile and largest of search times, and
how long the change itself takes.
"""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

import farann

_K = 10


def run(rows: int, dim: int, seconds: float, recall: float | None) -> str:
    """Measure all kinds of changes, and return a Markdown table.

    Parameters
    ----------
    rows, dim : int
        Shape of the Gaussian rows that are indexed.
    seconds : float
        To search for beside each kind of change.
    recall : float, optional
        For approximate searches; by default they are exact.
    """
    rng = np.random.default_rng(0)
    index = farann.Index(metric="cosine")
    index.add(rng.standard_normal((rows, dim), dtype=np.float32))
    index.build(tune=(_K,))
    queries = rng.standard_normal((1000, dim), dtype=np.float32)
    more = rng.standard_normal((100, dim), dtype=np.float32)
    lines = ["| beside | changes | ms each | searches | median, ms | 99.9 %, ms | largest, ms |",
             "|---|---:|---:|---:|---:|---:|---:|"]
    with tempfile.TemporaryDirectory() as folder:
        changes: dict[str, Callable[[], object]] = {
            "nothing": lambda: time.sleep(0.01),
            "build": index.build,
            "save": lambda: index.save(Path(folder) / "index"),
            "tune": lambda: index.tune(k=_K),
            "add and remove": lambda: index.remove(index.add(more)),
        }
        for name, change in changes.items():
            took, searches = _beside(index, change, queries, seconds, recall)
            quantiles = 1e3 * np.quantile(searches, (0.5, 0.999, 1.0))
            shown = " | ".join(f"{value:.3f}" for value in quantiles)
            lines.append(f"| {name} | {len(took)} | {1e3 * np.mean(took):.1f} | "
                         f"{len(searches):,} | {shown} |")
    return "\n".join(lines)


def _beside(index: farann.Index, change: Callable[[], object], queries: np.ndarray,
            seconds: float, recall: float | None) -> tuple[list[float], list[float]]:
    """Seconds of each change, and of each search beside them."""
    took: list[float] = []
    searches: list[float] = []
    over = threading.Event()

    def go_on_changing() -> None:
        while not over.is_set():
            began = time.perf_counter()
            change()
            took.append(time.perf_counter() - began)

    thread = threading.Thread(target=go_on_changing)
    thread.start()
    end = time.perf_counter() + seconds
    while (began := time.perf_counter()) < end:
        index.search_furthest(queries[len(searches) % len(queries)], _K, recall=recall)
        searches.append(time.perf_counter() - began)
    over.set()
    thread.join()
    return took, searches
