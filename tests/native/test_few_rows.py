"""Batches on few rows: in float32, where to code queries would take longer, and in small tasks."""

from __future__ import annotations

import platform
import subprocess
import sys
from typing import Any

import inside
import numpy as np
import pytest
import reference
from cases import DATA, assert_same, in_turn, index_of, pairs, queries_for, rows_for
from reference import METRICS

import farann

pytestmark = pytest.mark.few_rows_as_floats
LEVELS = inside.levels()
PAYS = [level for level in LEVELS
        if inside.runtime.COSTS[level].code_product < inside.runtime.COSTS[level].float_product]


@pytest.mark.parametrize(("isa", "metric", "dim"), pairs(PAYS, METRICS, [16, 64, 256]))
def test_what_is_scanned(isa: str, metric: str, dim: int, rng: np.random.Generator) -> None:
    """100 rows in float32, 2,000 by codes, as the rule has it; few queries by codes in any case."""
    for n in (100, 2000):
        by_codes = inside.runtime.codes_pay(600, n, dim, isa)
        assert by_codes == (n == 2000) or not isa.startswith("avx")
        index = index_of(rng.standard_normal((n, dim), dtype=np.float32), metric).build()
        inside.store.use_level(index, isa)
        queries = rng.standard_normal((600, dim), dtype=np.float32)
        # First, as batches that give codes up are remembered.
        stats = index.search_furthest(queries[:5], return_stats=True).stats
        assert stats.code_products > 0 and stats.float_products == 0
        stats = index.search_furthest(queries, return_stats=True).stats
        assert (stats.code_products > 0) == by_codes
        assert by_codes or stats.float_products > 0


def test_the_rule() -> None:
    """More rows and more coordinates are better coded, more queries are better packed."""
    for isa in PAYS:
        for dim in (16, 64, 256, 1024):
            ends = []
            for n_queries in (6, 32, 1000):
                pays = [inside.runtime.codes_pay(n_queries, n, dim, isa)
                        for n in range(0, 5000, 10)]
                assert pays == sorted(pays) and not pays[0]
                ends.append(pays.index(True))
            assert ends == sorted(ends) and 0 < ends[-1] <= 200
    assert inside.runtime.codes_pay(1000, 1, 16, "scalar")


@pytest.mark.parametrize("n", [10, 150, 3000])
def test_no_queries(n: int, rng: np.random.Generator) -> None:
    index = index_of(rng.standard_normal((n, 8), dtype=np.float32)).build()
    assert index.search_furthest(np.empty((0, 8), np.float32)).ids.shape == (0, 10)


@pytest.mark.parametrize(("kind", "metric"), in_turn(DATA, 2))
def test_the_same_answers(kind: str, metric: str, rng: np.random.Generator) -> None:
    """At every level, of one index: it is built at the fastest in any case."""
    rows = rows_for(kind, rng, 150, 13, metric)
    queries = queries_for(rng, rows, metric)
    index = index_of(rows, metric).build()
    expected = reference.furthest(queries, rows, 149, metric)
    nearest = reference.nearest(queries, rows, 149, metric)
    for isa in LEVELS:
        inside.store.use_level(index, isa)
        for k in (1, 10, 149):
            assert_same(index.search_furthest(queries, k), expected, k)
            assert_same(index.search_nearest(queries, k), nearest, k)


def test_with_all_that_an_index_can_do(rng: np.random.Generator) -> None:
    rows = rng.standard_normal((160, 20), dtype=np.float32)
    queries = rng.standard_normal((40, 20), dtype=np.float32)
    index = index_of(rows[:120]).build()
    index.add(rows[120:])
    index.remove(np.arange(0, 160, 7))
    alive = np.setdiff1d(np.arange(160), np.arange(0, 160, 7))
    excluded = index.search_furthest(queries, 30).ids
    hits = index.search_furthest(queries, 9, exclude=excluded, return_stats=True)
    stats = hits.stats
    assert stats.float_products > 0
    assert (stats.code_products > 0) == inside.runtime.codes_pay(40, 160, 20, index.isa)
    for i in range(40):
        left = np.setdiff1d(alive, excluded[i])
        expected = reference.furthest(queries[i : i + 1], rows[left], 9, "l2", ids=left)
        assert_same(farann.Hits(hits.ids[i : i + 1], hits.scores[i : i + 1]), expected)


@pytest.mark.parametrize("n, dim, tasks", [(1000, 32, 4), (40_000, 32, 1), (100, 4096, 4)])
def test_tasks(n: int, dim: int, tasks: int, monkeypatch: pytest.MonkeyPatch,
               rng: np.random.Generator) -> None:
    """Queries on few rows, and wide ones in float32, are cut into tasks that stay in the cache."""
    index = index_of(rng.standard_normal((n, dim), dtype=np.float32)).build()
    cut: list[int] = []

    def run_all(work: list[Any], threads: int, **options: Any) -> None:
        cut.append(len(work))
        for one in work:
            one(None)

    monkeypatch.setattr(inside.settings, "run_all", run_all)
    index.search_furthest(rng.standard_normal((1000, dim), dtype=np.float32), threads=1)
    assert (cut or [1]) == [tasks]  # one task needs no pool


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="it is about this library's malloc")
@pytest.mark.parametrize(("n", "dim"), [(100, 512), (100, 1536), (1000, 4096)])
def test_batches_get_the_same_memory_again(n: int, dim: int) -> None:
    """In a process that has freed nothing large, for which the C library would keep more."""
    code = f"""
import resource, numpy, farann
rng = numpy.random.default_rng(0)
index = farann.Index(metric="dot", codes="float32")
index.add(rng.standard_normal(({n}, {dim}), numpy.float32))
index.build()
queries = rng.standard_normal((1000, {dim}), numpy.float32)
for _ in range(3):
    index.search_furthest(queries, threads=1)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
index.search_furthest(queries, threads=1)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
    told = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert int(told.stdout) < 100, told.stdout
