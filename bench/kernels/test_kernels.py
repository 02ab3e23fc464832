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
from farann._codes import make_codes
from numpy.typing import NDArray

from bench import machine
from bench.kernels.peak import peak

Array = NDArray[np.float32]

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


def run_fresh(benchmark: Any, rows: Array, queries: Array, metric: str, isa: str, *,
              coded: bool = False) -> float:
    """Time a task's scan alone; gives its best seconds."""
    number, centre = _core.METRICS.index(metric), np.zeros(rows.shape[1])
    arrays = make_codes(rows, centre, number, 0, False) if coded else None
    codes = _core.Codes(len(rows), *arrays) if arrays else None
    snapshot = _core.Snapshot(rows, rows[:0], None, None, centre, number, isa, codes)
    chosen = _core.Filter(snapshot)

    def fresh() -> tuple[tuple[_core.Task], dict[str, Any]]:
        return (_core.Task(snapshot, chosen, queries, 0, len(queries), 10, False),), {}

    benchmark.pedantic(_core.Task.run, setup=fresh, rounds=7, warmup_rounds=1)
    return float(benchmark.stats.stats.min)


def note_share(benchmark: Any, unit: str, rate: float, limit_name: str, limit: float | None) -> None:
    """Write a rate, and its share of a limit, beside the times."""
    benchmark.extra_info[unit] = round(rate / 1e9, 1)
    if limit:
        benchmark.extra_info[f"% of {limit_name}"] = round(100 * rate / limit, 1)


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
    rate = 2.0 * rows.size * BATCH / seconds
    note_share(benchmark, "GFLOP/s", rate, "float32 peak", peak(isa).get("float32"))


@pytest.mark.parametrize("metric", _core.METRICS)
@pytest.mark.parametrize("dim", DIMS)
@pytest.mark.parametrize("isa", farann.isa_levels())
def test_coded_scan(benchmark: Any, isa: str, dim: int, metric: str) -> None:
    """Batches: scores by 8-bit codes, a share of the core's 8-bit dot products."""
    rng = np.random.default_rng(0)
    n = max(2000, 8_000_000 // dim // (16 if isa == "scalar" else 1))
    rows = rng.standard_normal((n, dim), dtype=np.float32)
    queries = rng.standard_normal((BATCH, dim), dtype=np.float32)
    seconds = run_fresh(benchmark, rows, queries, metric, isa, coded=True)
    rate = 2.0 * rows.size * BATCH / seconds
    note_share(benchmark, "GOP/s", rate, "8-bit peak", peak(isa).get("int8"))


@pytest.mark.parametrize("metric", _core.METRICS)
@pytest.mark.parametrize("dim", DIMS)
@pytest.mark.parametrize("isa", farann.isa_levels())
def test_single_query(benchmark: Any, isa: str, dim: int, metric: str, read_rate: float) -> None:
    """One query: rows as they lie, a share of what reading them takes."""
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((BYTES // 4 // dim, dim), dtype=np.float32)
    queries = rng.standard_normal((1, dim), dtype=np.float32)
    seconds = run_fresh(benchmark, rows, queries, metric, isa)
    note_share(benchmark, "GB/s", rows.nbytes / seconds, "read bandwidth", read_rate)


@pytest.mark.parametrize("metric", _core.METRICS)
@pytest.mark.parametrize("dim", DIMS)
@pytest.mark.parametrize("isa", farann.isa_levels())
def test_single_query_coded(benchmark: Any, isa: str, dim: int, metric: str,
                            read_rate: float) -> None:
    """One query by codes: a quarter of the bytes."""
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((BYTES // 4 // dim, dim), dtype=np.float32)
    queries = rng.standard_normal((1, dim), dtype=np.float32)
    seconds = run_fresh(benchmark, rows, queries, metric, isa, coded=True)
    note_share(benchmark, "GB/s", rows.size / seconds, "read bandwidth", read_rate)
