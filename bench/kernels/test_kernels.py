"""Micro-benchmarks of the kernels: `make bench-kernels`.

Each entry's extra information says GFLOP/s or GB/s, and what share that is of what the core
reaches in a loop of nothing but arithmetic, or in reading memory in order. The rates go to
``bench/results/kernels.json``, where the report finds them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import farann
import numpy as np
import pytest
from farann import _core

from bench import machine
from bench.kernels.peak import peak

DIMS = [32, 64, 128, 784]
BATCH = 512
BYTES = 1 << 28  # of rows: far more than the caches hold


@pytest.fixture(scope="module", autouse=True)
def rates_for_the_report() -> Iterator[None]:
    """Leave the machine's limits to the report."""
    yield
    rates = peak(farann.isa_levels()[-1])
    if rates:
        machine.KERNELS.parent.mkdir(parents=True, exist_ok=True)
        known = {"flops_1": rates.get("float32"), "int8_1": rates.get("int8")}
        machine.KERNELS.write_text(json.dumps({k: v for k, v in known.items() if v}) + "\n")


@pytest.fixture(scope="module")
def read_rate() -> float:
    """Bytes a second that one thread reads from memory."""
    return machine.measure(repeats=10)["read_1"]


def task_over(rows: np.ndarray, queries: np.ndarray, metric: str, isa: str) -> _core.Task:
    empty = np.empty((0, rows.shape[1]), np.float32)
    snapshot = _core.Snapshot(rows, empty, None, None, np.zeros(rows.shape[1]),
                              _core.METRICS.index(metric), isa)
    return _core.Task(snapshot, _core.Filter(snapshot), queries, 0, len(queries), 10, False)


def run_fresh(benchmark: Any, rows: np.ndarray, queries: np.ndarray, metric: str, isa: str) -> float:
    """Time a task's scan alone; gives its best seconds."""
    benchmark.pedantic(
        lambda task: task.run(), setup=lambda: ((task_over(rows, queries, metric, isa),), {}),
        rounds=7, warmup_rounds=1)
    return float(benchmark.stats.stats.min)


@pytest.mark.parametrize("metric", _core.METRICS)
@pytest.mark.parametrize("dim", DIMS)
@pytest.mark.parametrize("isa", farann.isa_levels())
def test_packed_scan(benchmark: Any, isa: str, dim: int, metric: str) -> None:
    """Batches: float32 scores of packed rows, a share of the core's multiply-adds."""
    rng = np.random.default_rng(0)
    n = max(2000, 4_000_000 // dim // (8 if isa == "scalar" else 1))
    rows = rng.standard_normal((n, dim), dtype=np.float32)
    queries = rng.standard_normal((BATCH, dim), dtype=np.float32)
    seconds = run_fresh(benchmark, rows, queries, metric, isa)
    operations = 2.0 * rows.size * BATCH
    benchmark.extra_info["GFLOP/s"] = round(operations / seconds / 1e9, 1)
    limit = peak(isa).get("float32")
    if limit:
        benchmark.extra_info["% of peak"] = round(100 * operations / seconds / limit, 1)


@pytest.mark.parametrize("metric", _core.METRICS)
@pytest.mark.parametrize("dim", DIMS)
@pytest.mark.parametrize("isa", farann.isa_levels())
def test_single_query(benchmark: Any, isa: str, dim: int, metric: str, read_rate: float) -> None:
    """One query: rows as they lie, a share of what reading them takes."""
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((BYTES // 4 // dim, dim), dtype=np.float32)
    queries = rng.standard_normal((1, dim), dtype=np.float32)
    seconds = run_fresh(benchmark, rows, queries, metric, isa)
    benchmark.extra_info["GB/s"] = round(rows.nbytes / seconds / 1e9, 1)
    benchmark.extra_info["% of read bandwidth"] = round(100 * rows.nbytes / seconds / read_rate, 1)
