"""Peak memory of calls: `python -m bench.scale.calls` prints what each takes beside its index.

Each call has a forked process of its own, on one thread, whose peak begins at what it shares.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

import farann
from bench import machine

N, DIM, BATCH = 200_000, 64, 1000


def peak_of(call: Callable[[], object]) -> float:
    """Megabytes of this machine's memory that a call takes at its peak."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            Path("/proc/self/clear_refs").write_text("5")  # the peak is what is there now
            before = machine.resident_bytes()
            call()
            os.write(writing, str(machine.peak_bytes() - before).encode())
            status = 0
        finally:
            os._exit(status)
    os.close(writing)
    with os.fdopen(reading) as stream:
        found = stream.read()
    if os.waitpid(child, 0)[1]:
        raise RuntimeError("a call failed; its error is above")
    return int(found) / 1e6


def main() -> None:
    """Print a table in Markdown."""
    rng = np.random.default_rng(0)
    scales = (1.0 / np.sqrt(np.arange(1, DIM + 1))).astype(np.float32)
    rows, queries, others = (scales * rng.standard_normal((n, DIM), dtype=np.float32)
                             for n in (N, BATCH, BATCH))
    index, fresh = (farann.Index(metric="cosine", threads=1) for _ in range(2))
    index.add(rows)
    index.build()
    fresh.add(rows)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "index.farann")
        index.save(file)
        calls: list[tuple[str, Callable[[], object]]] = [
            ("`build`", fresh.build),
            ("`search_furthest`, a single query", lambda: index.search_furthest(queries[0])),
            ("`search_furthest`, 1,000 queries", lambda: index.search_furthest(queries)),
            ("`tune`, and 1,000 queries with `recall=0.95`", lambda: (
                index.tune(), index.search_furthest(queries, recall=0.95))),
            ("`search_contrast`, 1 like and 8 dislikes",
             lambda: index.search_contrast(queries[0], others[:8])),
            ("`search_contrast`, the best of 1,000 likes, 1,000 dislikes",
             lambda: index.search_contrast(queries, others, likes_by="best")),
            ("`search_mmr`, one query", lambda: index.search_mmr(queries[0])),
            ("`select_diverse(1000)`", lambda: index.select_diverse(1000)),
            ("`pairs_within`, some 185,000 pairs",
             lambda: index.pairs_within(0.8, limit=1_000_000)),
            ("`save`", lambda: index.save(Path(folder, "again.farann"))),
            ("`load`", lambda: farann.Index.load(file)),
            ("`load(mmap=True)` and a single query", lambda: farann.Index.load(
                file, mmap=True).search_furthest(queries[0])),
        ]
        print("| call | MB |\n|---|---:|")
        for name, call in calls:
            print(f"| {name} | {peak_of(call):,.1f} |", flush=True)
        print(f"\nindex: {index.stats()['bytes']}, file: {file.stat().st_size:,}")


if __name__ == "__main__":
    main()
