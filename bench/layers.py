"""Furthest retrieval layers of TensorFlow Recommenders beside each other, and their overhead.

``python -m bench layers`` times `Furthest`, `BruteForceFurthest` and TFRS's ScaNN layer, which
finds the nearest and so is asked with -q; each in a process of its own
(``python -m bench.layers``).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import datasets, measures
from .run import ROOT, Log, Options

SHAPES = ((400_000, 50), (1_000_000, 64))
BATCHES = (1, 32, 1024)
LAYERS = ("index", "Furthest", "BruteForceFurthest", "ScaNN")
K = 10
_LEAVES_SEARCHED = (10, 100)
_QUERIES = 1024


def run(shapes: list[tuple[int, int]], layers: list[str], seconds: float, timeout: float,
        out: Path, command: list[str]) -> Path:
    """Time every layer on clusters of every shape; append JSON lines, print a Markdown table.

    Parameters
    ----------
    shapes : list of (rows, dim)
    layers : list of str
        Of `LAYERS`; "index" is the bare `farann.Index`.
    seconds : float
        To spend on each batch size, at least.
    """
    unknown = set(layers) - set(LAYERS)
    if unknown:
        raise ValueError(f"--only must be of {', '.join(LAYERS)}, got {', '.join(sorted(unknown))}")
    log = Log(out, Options(k=K), command)
    records = []
    for rows, dim in shapes:
        for layer in layers:
            print(f"{layer}, {rows:,} x {dim}", file=sys.stderr)
            task = json.dumps({"rows": rows, "dim": dim, "layer": layer, "seconds": seconds})
            environment = {**os.environ, "TF_USE_LEGACY_KERAS": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}
            try:
                done = subprocess.run([sys.executable, "-m", "bench.layers", task], cwd=ROOT,
                                      env=environment, capture_output=True, text=True,
                                      timeout=timeout)
                lines = done.stderr.strip().splitlines() or ["no message"]
                reason = lines[-1] if done.returncode else ""
            except subprocess.TimeoutExpired:
                reason = f"stopped after {timeout:.0f} s"
            if reason:
                log.write("skipped", layer=layer, rows=rows, dim=dim, reason=reason)
                print(f"left out: {layer}: {reason}", file=sys.stderr)
                continue
            for line in done.stdout.splitlines():
                record = json.loads(line)
                records.append(record)
                log.write("layer", **record)
    print(table(records))
    return out


def table(records: list[dict[str, Any]]) -> str:
    """Records as a Markdown table, one row a layer and shape.

    Examples
    --------
    >>> record = {"rows": 1000, "dim": 8, "layer": "Furthest", "setting": "", "batch": 1,
    ...           "us": 55.04, "recall": 1.0, "build_seconds": 0.25}
    >>> print(table([record]))
    | candidates | layer | batch 1, µs a call | recall@10 | build, s |
    |---|---|---:|---:|---:|
    | 1,000 x 8 | Furthest | 55 | 1.000 | 0.2 |
    """
    batches = sorted({record["batch"] for record in records})
    heads = ["candidates", "layer", *(f"batch {b:,}, µs a call" for b in batches),
             f"recall@{K}", "build, s"]
    lines = [_line(heads), f"|---|---|{'---:|' * (len(heads) - 2)}"]
    found: dict[tuple[Any, ...], dict[int, dict[str, Any]]] = {}
    for record in records:
        key = record["rows"], record["dim"], record["layer"], record["setting"]
        found.setdefault(key, {})[record["batch"]] = record
    for (rows, dim, layer, setting), by_batch in found.items():
        last = by_batch[max(by_batch)]
        times = [f"{by_batch[b]['us']:,.0f}" if b in by_batch else "" for b in batches]
        lines.append(_line([f"{rows:,} x {dim}", f"{layer} {setting}".strip(), *times,
                            f"{last['recall']:.3f}", f"{last['build_seconds']:.1f}"]))
    return "\n".join(lines)


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def measure(rows: int, dim: int, layer: str, seconds: float) -> Iterator[dict[str, Any]]:
    """Build a layer on clusters and time each batch size; yields one record each."""
    vectors = datasets.clusters(rows + _QUERIES, dim, seed=6)
    candidates, queries = vectors[:rows], vectors[rows:]
    _, true_scores = measures.furthest(candidates, queries[:_QUERIES], K, "dot")
    for setting, build_seconds, ask in _made(layer, candidates):
        for batch in BATCHES:
            asked = queries[:batch]
            ids = ask(asked)()
            yield {
                "rows": rows, "dim": dim, "layer": layer, "setting": setting, "batch": batch,
                "us": _microseconds(ask, queries, batch, seconds),
                "recall": measures.recall(candidates, asked, ids, true_scores[:batch, K - 1],
                                          "dot"),
                "build_seconds": build_seconds,
            }


Ask = Callable[[NDArray[np.float32]], Callable[[], NDArray[np.int64]]]


def _made(layer: str, candidates: NDArray[np.float32]) -> Iterator[tuple[str, float, Ask]]:
    """Settings of a layer, seconds to build it, and how to prepare a call that gives ids."""
    if layer == "index":
        import farann

        start = time.perf_counter()
        index = farann.Index(metric="dot")
        index.add(candidates)
        index.build()
        yield ("(bare)", time.perf_counter() - start,
               lambda queries: lambda: index.search_furthest(queries, K).ids)
        return
    import tensorflow as tf

    def asking(model: Any, sign: float) -> Ask:
        def prepare(queries: NDArray[np.float32]) -> Callable[[], NDArray[np.int64]]:
            tensor = tf.constant(sign * queries)
            return lambda: np.asarray(model(tensor)[1], np.int64)

        return prepare

    if layer == "ScaNN":
        from tensorflow_recommenders.layers import factorized_top_k

        leaves = int(np.sqrt(len(candidates)))
        for searched in sorted({min(leaves, count) for count in _LEAVES_SEARCHED}):
            start = time.perf_counter()
            model = factorized_top_k.ScaNN(
                k=K, num_leaves=leaves, num_leaves_to_search=searched,
                num_reordering_candidates=100)
            model.index(candidates)
            yield (f"{searched} of {leaves} leaves", time.perf_counter() - start,
                   asking(model, -1.0))
        return
    from farann.adapters import tfrs

    start = time.perf_counter()
    model = getattr(tfrs, layer)(k=K).index(candidates)
    yield "", time.perf_counter() - start, asking(model, 1.0)


def _microseconds(ask: Ask, queries: NDArray[np.float32], batch: int, seconds: float) -> float:
    """Least time of a call, of at least three with different queries."""
    calls = [ask(queries[at : at + batch]) for at in range(0, min(_QUERIES, 16 * batch), batch)]
    best, spent, count = float("inf"), 0.0, 0
    while spent < seconds or count < 3:
        start = time.perf_counter()
        calls[count % len(calls)]()
        took = time.perf_counter() - start
        best, spent, count = min(best, took), spent + took, count + 1
    return 1e6 * best


if __name__ == "__main__":
    for record in measure(**json.loads(sys.argv[1])):
        print(json.dumps(record), flush=True)
