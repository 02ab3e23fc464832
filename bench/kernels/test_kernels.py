"""Micro-benchmarks of the kernels: `make bench SUITE=kernels`.

Each entry's extra information says GFLOP/s or GB/s, and what share that is of what the core
reaches in a loop of nothing but arithmetic, or in reading memory in order.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import farann
from bench import machine
from bench.kernels.peak import peak
from farann import _core
from farann.contract.index_spec import traits_of
from farann.layout import coding
from farann.quantize import transform
from farann.quantize.scalar import measure_rows
from farann.quantize.transform import Transform, rotation_signs

Array = NDArray[np.float32]
Benchmark = Callable[..., None]

DIMS = [32, 64, 128, 784]
BATCH = 512
BYTES = 1 << 28  # of rows: far more than the caches hold
CACHED = 1 << 19  # of rows that stay in a cache
DIRECTIONS = [8, 32]  # of first looks


@pytest.fixture(scope="module")
def read_rate() -> float:
    """Bytes a second that one thread reads from memory."""
    return machine.measure(repeats=10)["read_1"]


def codes_of(rows: Array, metric: str, directions: int = 0, *,
             upper_alone: bool = False) -> _core.Codes:
    """Codes of rows by their size; with a first look along some directions, or without.

    `upper_alone`: without the lower halves of codes, as in 4 bits.
    """
    center, isa = np.zeros(rows.shape[1]), farann.isa_levels()[-1]
    turn = Transform(rotation_signs(rows.shape[1], 0))
    extents = measure_rows(rows, center, metric == "cosine", turn, isa, False)
    assert extents is not None
    builder = coding.Builder(rows, center, traits_of(metric), isa, extents, False)
    order = builder.by_size(np.delete(np.arange(len(rows)), extents.outliers))
    basis = None
    if directions:
        basis = transform.Projection(
            transform.directions(rows[:8192].astype(np.float64), 0)[:directions])
    arrays = builder.lay_out(coding.whole_panels(order), basis)
    if upper_alone:
        arrays = replace(arrays, low_nibbles=None)
    return _core.Codes(len(rows), rows.shape[1], arrays)


def run_fresh(benchmark: Any, rows: Array, queries: Array, metric: str, isa: str,
              codes: _core.Codes | None = None, *, k: int = 10) -> float:
    """Time a task's search alone; gives its best seconds."""
    number, center = _core.METRICS.index(metric), np.zeros(rows.shape[1])
    snapshot = _core.Snapshot(rows, rows[:0], None, None, center, number, isa, codes=codes)
    chosen = _core.Filter(snapshot)

    def fresh() -> tuple[tuple[_core.Task], dict[str, Any]]:
        return (_core.Task(snapshot, chosen, queries, 0, len(queries), _core.Collector(k)),), {}

    benchmark.pedantic(_core.Task.run, setup=fresh, rounds=7, warmup_rounds=1)
    return float(benchmark.stats.stats.min)


def near_few_directions(rng: np.random.Generator, n: int, dim: int, rank: int) -> Array:
    """Rows that a first look along `rank` directions tells apart."""
    rows = rng.standard_normal((n, rank), dtype=np.float32) @ rng.standard_normal(
        (rank, dim), dtype=np.float32)
    return rows + np.float32(0.01) * rng.standard_normal((n, dim), dtype=np.float32)


def counts_of(rows: Array, queries: Array, metric: str, isa: str,
              codes: _core.Codes) -> farann.SearchStats:
    """What a task scanned, refined and read."""
    snapshot = _core.Snapshot(rows, rows[:0], None, None, np.zeros(rows.shape[1]),
                              _core.METRICS.index(metric), isa, codes=codes)
    task = _core.Task(snapshot, _core.Filter(snapshot), queries, 0, len(queries),
                      _core.Collector(10))
    task.run()
    return farann.SearchStats(len(queries), *task.did())


def note_share(benchmark: Any, unit: str, rate: float, limit_name: str,
               limit: float | None) -> None:
    """Write a rate, and its share of a limit, beside the times."""
    benchmark.extra_info[unit] = round(rate / 1e9, 1)
    if limit:
        benchmark.extra_info[f"% of {limit_name}"] = round(100 * rate / limit, 1)


def each(**values: Any) -> Callable[[Benchmark], Benchmark]:
    """Parametrize a benchmark, also by metrics and levels."""
    def decorate(function: Benchmark) -> Benchmark:
        values_of = {**values, "metric": _core.METRICS, "isa": farann.isa_levels()}
        for name, some in values_of.items():
            function = pytest.mark.parametrize(name, some)(function)
        return function

    return decorate


def gaussian(n: int, dim: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal((n, dim), dtype=np.float32)


def fewer(n: int, dim: int, isa: str) -> int:
    """Rows of `n` coordinates in all, at least 2,000, and fewer where kernels are slow."""
    return max(2000, n // dim // (8 if isa == "scalar" else 1))


@each(dim=DIMS, scan=["float32", "codes", "upper"])
def test_batch(benchmark: Any, isa: str, dim: int, metric: str, scan: str) -> None:
    """Batches: float32 scores, codes, or their upper halves and keys of what these leave."""
    both = gaussian(fewer(4_000_000 if scan == "float32" else 8_000_000, dim, isa) + BATCH, dim)
    rows, queries = both[BATCH:], both[:BATCH]
    codes = None if scan == "float32" else codes_of(rows, metric, upper_alone=scan == "upper")
    seconds = run_fresh(benchmark, rows, queries, metric, isa, codes)
    if codes is not None:
        rescored = counts_of(rows, queries, metric, isa, codes).rows_rescored
        benchmark.extra_info["rescored a query"] = round(rescored / BATCH)
    limit = "float32" if codes is None else "int8"
    note_share(benchmark, "GOP/s", 2.0 * rows.size * BATCH / seconds, f"{limit} peak",
               peak(isa).get(limit))


@each(dim=DIMS, bits=[False, True])
def test_keys_of_blocks(benchmark: Any, isa: str, dim: int, metric: str, bits: bool) -> None:
    """Batches where most rows share the k-th key: float64 keys, a share of its multiply-adds.

    A squared difference takes three instructions of one operation, where multiply-adds have two.
    """
    rng = np.random.default_rng(0)
    n = fewer(2_000_000, dim, isa)
    if bits:  # most of which share none with a query
        both = (rng.random((n + BATCH, dim)) < 1.5 / dim).astype(np.float32)
        both[~both.any(axis=1), 0] = 1
    else:  # few rows, many times
        both = gaussian(n + BATCH, dim)
        both[:n] = both[rng.integers(5, size=n)]
    rows, queries = both[:n], both[n:]
    seconds = run_fresh(benchmark, rows, queries, metric, isa)
    rate = (3.0 if metric == "l2" else 2.0) * rows.size * BATCH / seconds
    note_share(benchmark, "GFLOP/s", rate, "float64 peak", peak(isa).get("float64"))


@each(directions=DIRECTIONS, batch=[1, BATCH])
def test_first_look(benchmark: Any, isa: str, directions: int, metric: str, batch: int,
                    read_rate: float) -> None:
    """Codes along a basis, then all coordinates of what is left, which lies anywhere."""
    dim = 128 if batch == 1 else 256
    n = BYTES // 4 // dim if batch == 1 else fewer(100_000 * dim, dim, isa)
    rows = near_few_directions(np.random.default_rng(0), n + batch, dim, directions)
    rows, queries = rows[:n], rows[n:]
    codes = codes_of(rows, metric, directions)
    seconds = run_fresh(benchmark, rows, queries, metric, isa, codes)
    work = counts_of(rows, queries, metric, isa, codes)
    benchmark.extra_info["refined a query"] = round(work.rows_refined / batch)
    if batch == 1:
        note_share(benchmark, "GB/s", work.bytes_read / seconds, "read bandwidth", read_rate)
    else:
        rate = 2.0 * (work.rows_scanned * (directions + 4) + work.rows_refined * dim) / seconds
        note_share(benchmark, "GOP/s", rate, "8-bit peak", peak(isa).get("int8"))


@each(dim=DIMS, coded=[False, True])
def test_preparing_queries(benchmark: Any, isa: str, dim: int, metric: str, coded: bool) -> None:
    """Batches on next to no rows: weights and constants of queries, and their codes."""
    rows, queries = gaussian(80, dim), gaussian(BATCH, dim, 1)
    codes = codes_of(rows, metric) if coded else None
    seconds = run_fresh(benchmark, rows, queries, metric, isa, codes)
    benchmark.extra_info["ns a query"] = round(1e9 * seconds / BATCH)


@pytest.mark.parametrize("spread", [True, False], ids=["evenly", "ties"])
@pytest.mark.parametrize("k", [100, 1000, 10_000])
def test_sorting(benchmark: Any, k: int, spread: bool) -> None:
    """All rows are wanted: keys, and sorting them; thousands by digits where they lie evenly."""
    rows = gaussian(k, 8) if spread else np.sign(gaussian(k, 8))
    queries = gaussian(32, 8, 1)
    seconds = run_fresh(benchmark, rows, queries, "l2", farann.isa_levels()[-1], k=k)
    benchmark.extra_info["ns an entry"] = round(1e9 * seconds / len(queries) / k, 1)


@each(dim=DIMS, scan=["float32", "in cache", "codes", "upper"])
def test_single_query(benchmark: Any, isa: str, dim: int, metric: str, scan: str,
                      read_rate: float) -> None:
    """One query: rows as they lie, far more than the caches hold or few, and codes of rows."""
    rows = gaussian((CACHED if scan == "in cache" else BYTES) // 4 // dim, dim)
    queries = gaussian(1, dim, 1)
    codes = codes_of(rows, metric, upper_alone=scan == "upper") if scan in ("codes", "upper") \
        else None
    seconds = run_fresh(benchmark, rows, queries, metric, isa, codes)
    if scan == "in cache":  # two multiply-adds a coordinate
        note_share(benchmark, "GFLOP/s", 4.0 * rows.size / seconds, "float32 peak",
                   peak(isa).get("float32"))
        return
    read = rows.nbytes
    if codes is not None:
        work = counts_of(rows, queries, metric, isa, codes)
        benchmark.extra_info["rescored"], read = work.rows_rescored, work.bytes_read
    note_share(benchmark, "GB/s", read / seconds, "read bandwidth", read_rate)
