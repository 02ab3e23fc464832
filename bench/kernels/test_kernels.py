"""Micro-benchmarks of the kernels: `make bench SUITE=kernels`.

Each entry's extra information says GFLOP/s or GB/s, and what share that is of what the core
reaches in a loop of nothing but arithmetic, or in reading memory in order. The rates go to
``bench/results/kernels.json``, where the report finds them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
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

DIMS = [32, 64, 128, 784]
BATCH = 512
BYTES = 1 << 28  # of rows: far more than the caches hold
CACHED = 1 << 19  # of rows that stay in a cache
DIRECTIONS = [8, 32]  # of first looks


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


def note_what_was_read(benchmark: Any, work: farann.SearchStats, seconds: float,
                       limit: float) -> None:
    """Beside the times of a single query: its rates and what became of rows."""
    benchmark.extra_info["bytes a row"] = round(work.bytes_read / work.rows_scanned, 1)
    benchmark.extra_info["refined"] = work.rows_refined
    benchmark.extra_info["rescored"] = work.rows_rescored
    note_share(benchmark, "GB/s", work.bytes_read / seconds, "read bandwidth", limit)


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


@pytest.mark.parametrize("bits", [False, True], ids=["copies", "bits"])
@pytest.mark.parametrize("metric", _core.METRICS)
@pytest.mark.parametrize("dim", DIMS)
@pytest.mark.parametrize("isa", farann.isa_levels())
def test_keys_of_blocks(benchmark: Any, isa: str, dim: int, metric: str, bits: bool) -> None:
    """Batches where most rows share the k-th key: float64 keys, a share of its multiply-adds.

    A squared difference takes three instructions of one operation, where multiply-adds have two.
    """
    rng = np.random.default_rng(0)
    n = max(2000, 2_000_000 // dim // (8 if isa == "scalar" else 1))
    if bits:  # most of which share none with a query
        both = (rng.random((n + BATCH, dim)) < 1.5 / dim).astype(np.float32)
        both[~both.any(axis=1), 0] = 1
    else:  # few rows, many times
        both = rng.standard_normal((n + BATCH, dim), dtype=np.float32)
        both[:n] = both[rng.integers(5, size=n)]
    rows, queries = both[:n], both[n:]
    seconds = run_fresh(benchmark, rows, queries, metric, isa)
    rate = (3.0 if metric == "l2" else 2.0) * rows.size * BATCH / seconds
    note_share(benchmark, "GFLOP/s", rate, "float64 peak", peak(isa).get("float64"))


@pytest.mark.parametrize("metric", _core.METRICS)
@pytest.mark.parametrize("dim", DIMS)
@pytest.mark.parametrize("isa", farann.isa_levels())
def test_coded_scan(benchmark: Any, isa: str, dim: int, metric: str) -> None:
    """Batches: scores by 8-bit codes, a share of the core's 8-bit dot products."""
    rng = np.random.default_rng(0)
    n = max(2000, 8_000_000 // dim // (16 if isa == "scalar" else 1))
    rows = rng.standard_normal((n, dim), dtype=np.float32)
    queries = rng.standard_normal((BATCH, dim), dtype=np.float32)
    seconds = run_fresh(benchmark, rows, queries, metric, isa, codes_of(rows, metric))
    rate = 2.0 * rows.size * BATCH / seconds
    note_share(benchmark, "GOP/s", rate, "8-bit peak", peak(isa).get("int8"))


@pytest.mark.parametrize("metric", _core.METRICS)
@pytest.mark.parametrize("dim", DIMS)
@pytest.mark.parametrize("isa", farann.isa_levels())
def test_upper_scan(benchmark: Any, isa: str, dim: int, metric: str) -> None:
    """Batches: scores by the upper halves of codes alone, and keys of what they leave."""
    rng = np.random.default_rng(0)
    n = max(2000, 8_000_000 // dim // (16 if isa == "scalar" else 1))
    rows = rng.standard_normal((n, dim), dtype=np.float32)
    queries = rng.standard_normal((BATCH, dim), dtype=np.float32)
    codes = codes_of(rows, metric, upper_alone=True)
    seconds = run_fresh(benchmark, rows, queries, metric, isa, codes)
    work = counts_of(rows, queries, metric, isa, codes)
    benchmark.extra_info["rescored a query"] = round(work.rows_rescored / BATCH)
    rate = 2.0 * rows.size * BATCH / seconds
    note_share(benchmark, "GOP/s", rate, "8-bit peak", peak(isa).get("int8"))


@pytest.mark.parametrize("metric", _core.METRICS)
@pytest.mark.parametrize("directions", DIRECTIONS)
@pytest.mark.parametrize("isa", farann.isa_levels())
def test_first_look(benchmark: Any, isa: str, directions: int, metric: str) -> None:
    """Batches: codes along a basis, then all coordinates of what is left."""
    rng = np.random.default_rng(0)
    dim, n = 256, 100_000 // (8 if isa == "scalar" else 1)
    rows = near_few_directions(rng, n + BATCH, dim, directions)
    rows, queries = rows[:n], rows[n:]
    codes = codes_of(rows, metric, directions)
    seconds = run_fresh(benchmark, rows, queries, metric, isa, codes)
    work = counts_of(rows, queries, metric, isa, codes)
    benchmark.extra_info["refined a query"] = round(work.rows_refined / BATCH)
    rate = 2.0 * (work.rows_scanned * (directions + 4) + work.rows_refined * dim) / seconds
    note_share(benchmark, "GOP/s", rate, "8-bit peak", peak(isa).get("int8"))


@pytest.mark.parametrize("coded", [False, True], ids=["float32", "codes"])
@pytest.mark.parametrize("metric", _core.METRICS)
@pytest.mark.parametrize("dim", DIMS)
@pytest.mark.parametrize("isa", farann.isa_levels())
def test_preparing_queries(benchmark: Any, isa: str, dim: int, metric: str, coded: bool) -> None:
    """Batches on next to no rows: weights and constants of queries, and their codes."""
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((80, dim), dtype=np.float32)
    queries = rng.standard_normal((BATCH, dim), dtype=np.float32)
    codes = codes_of(rows, metric) if coded else None
    seconds = run_fresh(benchmark, rows, queries, metric, isa, codes)
    benchmark.extra_info["ns a query"] = round(1e9 * seconds / BATCH)


@pytest.mark.parametrize("spread", [True, False], ids=["evenly", "ties"])
@pytest.mark.parametrize("k", [100, 1000, 10_000])
def test_sorting(benchmark: Any, k: int, spread: bool) -> None:
    """All rows are wanted: keys, and sorting them; thousands by buckets where they lie evenly."""
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((k, 8), dtype=np.float32)
    if not spread:
        rows = np.sign(rows)
    queries = rng.standard_normal((32, 8), dtype=np.float32)
    seconds = run_fresh(benchmark, rows, queries, "l2", farann.isa_levels()[-1], k=k)
    benchmark.extra_info["ns an entry"] = round(1e9 * seconds / len(queries) / k, 1)


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
def test_single_query_in_cache(benchmark: Any, isa: str, dim: int, metric: str) -> None:
    """One query on few rows, a share of the core's multiply-adds: two a coordinate."""
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((CACHED // 4 // dim, dim), dtype=np.float32)
    queries = rng.standard_normal((1, dim), dtype=np.float32)
    seconds = run_fresh(benchmark, rows, queries, metric, isa)
    note_share(benchmark, "GFLOP/s", 4.0 * rows.size / seconds, "float32 peak",
               peak(isa).get("float32"))


@pytest.mark.parametrize("metric", _core.METRICS)
@pytest.mark.parametrize("dim", DIMS)
@pytest.mark.parametrize("isa", farann.isa_levels())
def test_single_query_coded(benchmark: Any, isa: str, dim: int, metric: str,
                            read_rate: float) -> None:
    """One query by codes: an eighth of the bytes, then what the upper halves of codes leave."""
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((BYTES // 4 // dim, dim), dtype=np.float32)
    queries = rng.standard_normal((1, dim), dtype=np.float32)
    codes = codes_of(rows, metric)
    seconds = run_fresh(benchmark, rows, queries, metric, isa, codes)
    note_what_was_read(benchmark, counts_of(rows, queries, metric, isa, codes), seconds, read_rate)


@pytest.mark.parametrize("metric", _core.METRICS)
@pytest.mark.parametrize("dim", DIMS)
@pytest.mark.parametrize("isa", farann.isa_levels())
def test_single_query_upper(benchmark: Any, isa: str, dim: int, metric: str,
                            read_rate: float) -> None:
    """One query by upper halves alone: what they leave needs its vectors."""
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((BYTES // 4 // dim, dim), dtype=np.float32)
    queries = rng.standard_normal((1, dim), dtype=np.float32)
    codes = codes_of(rows, metric, upper_alone=True)
    seconds = run_fresh(benchmark, rows, queries, metric, isa, codes)
    note_what_was_read(benchmark, counts_of(rows, queries, metric, isa, codes), seconds, read_rate)


@pytest.mark.parametrize("metric", _core.METRICS)
@pytest.mark.parametrize("directions", DIRECTIONS)
@pytest.mark.parametrize("isa", farann.isa_levels())
def test_single_query_first_look(benchmark: Any, isa: str, directions: int, metric: str,
                                 read_rate: float) -> None:
    """One query by codes along a basis: fewer bytes still, but what is left lies anywhere."""
    rng = np.random.default_rng(0)
    dim, n = 128, BYTES // 4 // 128
    rows = near_few_directions(rng, n + 1, dim, directions)
    rows, queries = rows[:n], rows[n:]
    codes = codes_of(rows, metric, directions)
    seconds = run_fresh(benchmark, rows, queries, metric, isa, codes)
    note_what_was_read(benchmark, counts_of(rows, queries, metric, isa, codes), seconds, read_rate)
