"""Where codes rule out too little, an exact search goes on in float32, and finds the same."""

from __future__ import annotations

import itertools
from typing import Any

import inside
import numpy as np
import pytest
import reference
from approximate_cases import assert_within
from cases import DATA, Float32, assert_same, in_turn, index_of, pairs, queries_for, rows_for
from inside import core
from reference import METRICS

import farann

LEVELS = inside.levels()
# A single row that passes costs too much, and all queries leave the order of codes together.
FOR_CERTAIN = (1e9, 1e9, 1e9, 0.0, 0.0, 100.0)


@pytest.fixture
def given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inside.settings, "row_costs", lambda *_: FOR_CERTAIN)


def histograms(rng: np.random.Generator, n: int, prototypes: np.ndarray) -> Float32:
    """Sums of 1, around prototypes: cosines that codes can't tell apart."""
    rows = prototypes[rng.integers(0, len(prototypes), n)]
    rows = np.clip(rows + np.where(rows > 0.01, 0.02 * rng.standard_normal(rows.shape), 0), 0, None)
    return np.asarray((rows / rows.sum(axis=1, keepdims=True)).astype(np.float32))


@pytest.mark.usefixtures("given_up")
@pytest.mark.parametrize(("kind", "metric"), in_turn(DATA, 1))
def test_the_same_answers(kind: str, metric: str, rng: np.random.Generator) -> None:
    """At every level, of one index: it is built at the fastest in any case."""
    rows = rows_for(kind, rng, 1200, 13, metric)
    queries = queries_for(rng, rows, metric)
    index = index_of(rows, metric).build()
    expected = reference.furthest(queries, rows, 30, metric)
    nearest = reference.nearest(queries, rows, 30, metric)
    single = reference.Found(expected.scores[0], expected.ids[0])
    for isa in LEVELS:
        inside.store.use_level(index, isa)
        for k in (1, 30):
            assert_same(index.search_furthest(queries, k), expected, k)
            assert_same(index.search_furthest(queries[0], k), single, k)
            assert_same(index.search_nearest(queries, k), nearest, k)


@pytest.mark.usefixtures("given_up")
@pytest.mark.parametrize("codes", ["int8", "int4"])
@pytest.mark.parametrize("n_queries", [1, 3, 40])
def test_with_all_that_an_index_can_do(
    codes: str, n_queries: int, rng: np.random.Generator
) -> None:
    rows = rng.standard_normal((6000, 20), dtype=np.float32)
    rows[::700] *= np.float32(1e6)  # outliers, which have no codes
    queries = rng.standard_normal((n_queries, 20), dtype=np.float32)
    index = index_of(rows[:5500], codes=codes).build(queries=rng.standard_normal((900, 20)))
    index.add(rows[5500:])
    gone = rng.choice(6000, 300, replace=False)
    index.remove(gone)
    alive = np.setdiff1d(np.arange(6000), gone)
    excluded = index.search_furthest(queries, 30).ids
    hits = index.search_furthest(queries, 9, exclude=excluded, return_stats=True)
    stats = hits.stats
    for i in range(n_queries):
        left = np.setdiff1d(alive, excluded[i])
        expected = reference.furthest(queries[i : i + 1], rows[left], 9, "l2", ids=left)
        assert_same(farann.Hits(hits.ids[i : i + 1], hits.scores[i : i + 1]), expected)
    # More than the tail alone; blocks with an outlier, of which float32 tells little, get keys.
    assert stats.float_products + 20 * stats.rows_rescored > 2 * 500 * 20 * n_queries


def test_only_where_it_pays(rng: np.random.Generator) -> None:
    """Few rows get keys in float64 on either, and codes are kept where they do their work."""
    prototypes = rng.dirichlet(np.full(64, 0.1), 50)
    rows, queries = histograms(rng, 20_000, prototypes), histograms(rng, 100, prototypes)
    hits = index_of(rows, "cosine").build().search_furthest(queries, return_stats=True)
    stats = hits.stats
    assert_same(hits, reference.furthest(queries, rows, 10, "cosine"))
    assert stats.rows_rescored < 100 * 1500
    if inside.runtime.row_costs(100, 64, LEVELS[-1]) != (0.0,) * 6:
        assert stats.float_products > 0
    rows, queries = (rng.standard_normal((n, 64), dtype=np.float32) for n in (20_000, 100))
    for metric in METRICS:
        index = index_of(rows, metric).build()
        for asked in (queries, queries[0]):
            for k in (1, 10, 100, 500):
                stats = index.search_furthest(asked, k, return_stats=True).stats
                assert stats.float_products == 0


def test_few_queries_keep_codes(rng: np.random.Generator) -> None:
    """Without codes, each task of a few queries packs all rows in float32, which costs more."""
    scale = 1 / np.sqrt(1 + np.arange(50))
    rows, queries = (((rng.standard_normal((n, 50)) + 0.3) * scale).astype(np.float32)
                     for n in (30_000, 32))
    index, expected = index_of(rows, "cosine").build(), reference.furthest(
        queries, rows, 10, "cosine")
    for n, threads in ((6, 1), (6, 2), (10, 8), (16, 2), (32, 1), (32, 8)):
        inside.store.forget_code_trials(index)
        hits = index.search_furthest(queries[:n], threads=threads, return_stats=True)
        assert_same(hits, reference.Found(expected.scores[:n], expected.ids[:n]))
        assert hits.stats.float_products < 0.05 * n * rows.size, (n, threads)


@pytest.mark.parametrize("factor", [0.5, 4])
def test_costs_need_not_be_exact(factor: float, monkeypatch: pytest.MonkeyPatch,
                                 rng: np.random.Generator) -> None:
    """More of the first rows pass than of all: what these lose is little beside what codes save."""
    def scaled(n_queries: int, dim: int, isa: str) -> tuple[float, ...]:
        costs = inside.runtime.row_costs(n_queries, dim, isa)
        return (*(factor * cost for cost in costs[:3]), *costs[3:])

    monkeypatch.setattr(inside.settings, "row_costs", scaled)
    scale = rng.lognormal(0, 0.4, (40_200, 1)) / np.sqrt(1 + np.arange(50))
    rows = (rng.standard_normal((40_200, 50)) * scale).astype(np.float32)
    hits = index_of(rows[200:], "cosine").build().search_furthest(rows[:200], return_stats=True)
    assert hits.stats.float_products < 0.05 * 200 * rows.size


@pytest.mark.parametrize("metric", ["dot", "cosine"])
def test_a_tied_query_takes_no_others(metric: str, rng: np.random.Generator) -> None:
    """Nine of ten queries go on by codes where one of them can't tell most of the rows apart."""
    rows = rng.standard_normal((20_000, 48))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    rows[:18_000, 0] = 0.9 + 1e-4 * rng.standard_normal(18_000)
    queries = rng.standard_normal((10, 48)).astype(np.float32)
    queries[:, 0], queries[0] = 0, 0
    queries[0, 0] = -1
    index = index_of(rng.permutation(rows).astype(np.float32), metric).build()
    stats = index.search_furthest(queries, threads=1, return_stats=True).stats
    assert stats.code_products >= 0.9 * 10 * rows.size
    assert stats.float_products < 0.15 * 10 * rows.size
    assert stats.rows_rescored < 600 * 10


@pytest.mark.skipif("avx2" not in LEVELS, reason="at one level the counts are the same everywhere")
def test_who_reads_alone_keeps_codes_longer() -> None:
    """Of blocks of which codes let a fifth of the rows pass one query reads less than all rows."""
    rng = np.random.default_rng(1)
    rows, center = rng.standard_normal((40_000, 16)), 3 * rng.standard_normal(16)
    near = rng.random(40_000) < 0.1
    rows[near] = center + rng.random((near.sum(), 1)) ** 4 * rng.standard_normal((near.sum(), 16))
    queries = rng.standard_normal((10, 16)).astype(np.float32)
    queries[4] = center
    index = index_of(rows.astype(np.float32), "cosine").build()
    inside.store.use_level(index, "avx2")
    stats = index.search_nearest(queries, threads=1, return_stats=True).stats
    assert stats.float_products < 0.15 * rows.size
    assert stats.rows_passed < 0.01 * 10 * len(rows)


@pytest.mark.skipif("avx2" not in LEVELS, reason="at one level the counts are the same everywhere")
@pytest.mark.parametrize("metric", ["dot", "cosine"])
def test_codes_keep_a_block_of_which_some_rows_pass(metric: str) -> None:
    """Of the first blocks of wide rows one row in ten passes, more than in float32."""
    rng = np.random.default_rng(0)
    rows, queries = (rng.standard_normal((n, 512), dtype=np.float32) for n in (4000, 300))
    index = index_of(rows, metric).build()
    inside.store.use_level(index, "avx2")
    hits = index.search_furthest(queries, threads=1, return_stats=True)
    assert_same(hits, reference.furthest(queries, rows, 10, metric))
    assert hits.stats.float_products == 0


@pytest.mark.skipif("avx2" not in LEVELS, reason="at one level the counts are the same everywhere")
@pytest.mark.parametrize("spread", [0.05, 0.1])
def test_a_block_of_rows_that_are_alike_tells_little_of_others(spread: float) -> None:
    """In partitions these lie together: all pass for a query that they are furthest from."""
    rng = np.random.default_rng(0)
    centers = np.repeat(rng.standard_normal((60, 16)), 1000, axis=0)
    rows = (centers + spread * rng.standard_normal(centers.shape)).astype(np.float32)
    queries = rng.standard_normal((60, 16)).astype(np.float32)
    index = index_of(rows, "cosine", cells=60).build()
    inside.store.use_level(index, "avx2")
    expected, floats = reference.furthest(queries, rows, 10, "cosine"), 0
    for at in range(0, 60, 10):
        hits = index.search_furthest(queries[at:at + 10], threads=1, return_stats=True)
        assert_same(hits, reference.Found(expected.scores[at:at + 10], expected.ids[at:at + 10]))
        floats += hits.stats.float_products
    assert floats < 0.03 * 60 * rows.size


def strong_axes(n: int) -> tuple[Float32, Float32]:
    """Rows whose largest axes say least of their products: codes and norms serve no query."""
    rng, scale = np.random.default_rng(0), np.geomspace(2, 0.05, 64)
    return ((rng.standard_normal((n, 64)) * scale).astype(np.float32),
            (rng.standard_normal((60, 64)) * scale[::-1]).astype(np.float32))


def test_single_queries_leave_the_order_of_norms() -> None:
    """Where it ended none of the last scans, the next ones read rows in the order of memory."""
    rows, queries = strong_axes(20_000)
    expected, blocks = reference.furthest(queries, rows, 10, "dot"), list[list[int]]()
    for codes in ("int8", "float32"):
        index = index_of(rows, "dot", codes=codes, threads=1).build()
        done = [index.search_furthest(query, return_stats=True) for query in queries]
        assert_same(farann.Hits(np.stack([hits.ids for hits in done]),
                                np.stack([hits.scores for hits in done])), expected)
        blocks.append([hits.stats.blocks_scanned for hits in done])
    if inside.runtime.row_costs(1, 64, index.isa) != (0.0,) * 6:
        assert blocks[0].count(blocks[1][0]) > 30


def test_threads_share_what_is_read_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few queries then read four times the bytes of codes."""
    rows, queries = strong_axes(20_000)
    expected = reference.furthest(queries, rows, 10, "dot")
    few = reference.Found(expected.scores[:3], expected.ids[:3])
    again: Any = inside.search.singles.again
    monkeypatch.setattr(inside.settings, "small_work_of_few", 4_000_000)
    monkeypatch.setattr(inside.search.singles, "KEPT_WORK", 0)
    for threads in (1, 2):
        index, alone = index_of(rows, "dot", threads=threads).build(), list[bool]()

        def noted(*args: Any, alone: list[bool] = alone) -> Any:
            answer = again(*args)
            alone.append(answer is not None)
            return answer

        monkeypatch.setattr(inside.search.singles, "again", noted)
        for i in range(60):
            assert_same(index.search_furthest(queries[:3]), few)
            assert np.array_equal(index.search_furthest(queries[i]).ids, expected.ids[i])
        share, given_up = np.mean(alone[60:]), inside.runtime.row_costs(1, 64, index.isa)[0] > 0.0
        assert share < 0.2 if threads == 2 and given_up else share > 0.9


def test_long_rows_pass_at_first() -> None:
    """Codes have another try when the rows scanned have doubled: then few rows pass."""
    rng = np.random.default_rng(1)  # of other seeds fewer queries are hard to serve at first
    scale = np.geomspace(2, 0.05, 64)
    turned, _ = np.linalg.qr(rng.standard_normal((64, 64)))
    rows = ((rng.standard_normal((40_000, 64)) * scale) @ turned).astype(np.float32)
    queries = ((rng.standard_normal((10, 64)) * scale[::-1]) @ turned).astype(np.float32)
    hits = index_of(rows, "l2").build().search_furthest(queries, threads=1, return_stats=True)
    assert_same(hits, reference.furthest(queries, rows, 10, "l2"))
    assert hits.stats.float_products < 0.1 * 10 * rows.size


@pytest.mark.parametrize(("k", "metric"), [(10, "dot"), (100, "cosine"), (500, "dot")])
def test_a_few_long_directions(k: int, metric: str, rng: np.random.Generator) -> None:
    """Under dot rows lie by reach, of which the first pass even where codes serve."""
    scale = np.geomspace(2.0, 0.05, 64).astype(np.float32)
    rows = rng.standard_normal((40_000, 64), dtype=np.float32) * scale
    queries = rng.standard_normal((60, 64), dtype=np.float32) * scale[::-1]
    index = index_of(rows, metric).build()
    hits = index.search_furthest(queries, k, return_stats=True)
    stats = hits.stats
    assert_same(hits, reference.furthest(queries, rows, k, metric))
    if inside.runtime.row_costs(60, 64, index.isa) != (0.0,) * 6:
        assert stats.rows_rescored < 60 * max(3000, 48 * k)


def test_long_rows_first(rng: np.random.Generator) -> None:
    """All rows pass at first, some of which get keys at once, and then none does."""
    rows = rng.standard_normal((40_000, 64), dtype=np.float32)
    rows *= rng.lognormal(0.0, 1.5, (40_000, 1)).astype(np.float32)
    index = index_of(rows, "dot").build()
    for n, k in itertools.product((1, 60), (10, 100, 1000)):
        inside.store.forget_code_trials(index)
        stats = index.search_furthest(
            rng.standard_normal((n, 64), dtype=np.float32), k, return_stats=True).stats
        assert stats.float_products <= 0.05 * n * rows.size, (n, k)


def clusters_far_off(rng: np.random.Generator, n: int, dim: int = 100) -> tuple[Float32, Float32]:
    """Rows whose long directions and mean hide what queries look for, and queries."""
    rows = rng.standard_normal((60, dim))[rng.integers(60, size=n)]
    rows = (rows + 0.05 * rng.standard_normal((n, dim))) * np.geomspace(1, 0.01, dim) + 5
    return rows.astype(np.float32), rng.standard_normal((64, dim), dtype=np.float32)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("k", [10, 128, 129])
def test_first_rows_that_are_alike(k: int, metric: str, rng: np.random.Generator) -> None:
    """Codes can't tell them apart, so that they are scored in float32."""
    rows, queries = clusters_far_off(rng, 3000)
    rows[::7] = rows[0]
    index = index_of(rows, metric).build()
    expected = reference.furthest(queries, rows, k, metric)
    without_first = reference.furthest(queries, rows[1:], k, metric, ids=np.arange(1, 3000))
    for isa in LEVELS:
        inside.store.use_level(index, isa)
        for _ in range(3):
            assert_same(index.search_furthest(queries, k), expected)
        exclude = np.zeros((len(queries), 1), np.int64)
        assert_same(index.search_furthest(queries, k, exclude=exclude), without_first)


@pytest.mark.usefixtures("given_up")
def test_batches_that_follow(rng: np.random.Generator) -> None:
    """Two batches in a row that give codes up are followed by one without, then by 3, 7, .. 31."""
    rows, queries = clusters_far_off(rng, 5000)
    index, by_codes = index_of(rows, "dot").build(), []
    expected = reference.furthest(queries, rows, 10, "dot")
    for _ in range(12):
        hits = index.search_furthest(queries, threads=1, return_stats=True)
        stats = hits.stats
        assert_same(hits, expected)
        by_codes.append(stats.code_products > 0)
        # Keys of all first rows would be 512, beside those of what passes until codes are given up.
        assert stats.rows_rescored < 400 * len(queries)
    assert by_codes == [True] * 2 + [False] + [True] + [False] * 3 + [True] + [False] * 4


@pytest.mark.parametrize(("kind", "metric", "certain"), pairs(
    ["bits", "one-hot"], METRICS, [False, True]))
def test_epsilon_finds_k_rows(
    kind: str, metric: str, certain: bool, monkeypatch: pytest.MonkeyPatch,
    rng: np.random.Generator
) -> None:
    """Rows that set a threshold lie below it plus epsilon, and are found if codes are given up."""
    n, ids = 6000, np.arange(6000)
    if certain:
        monkeypatch.setattr(inside.settings, "row_costs", lambda *_: FOR_CERTAIN)
    if kind == "bits":
        rows, queries = (rng.integers(0, 2, (m, 16)).astype(np.float32) for m in (n, 40))
        rows[:, 0] = queries[:, 0] = 1
    else:
        rows, queries = (np.eye(8, dtype=np.float32)[rng.integers(8, size=m)] for m in (n, 40))
        ids = np.sort(rng.permutation(n)[: n // 10])
    index = index_of(rows, metric, codes="int4").build()
    index.remove(np.setdiff1d(np.arange(n), ids))
    for k, epsilon in ((1, 0.1), (10, 0.1), (30, 0.001)):
        for _ in range(9):
            hits = index.search_furthest(queries, k, epsilon=epsilon)
            assert hits.found.all()
            assert index.search_nearest(queries, k, epsilon=epsilon).found.all()
        assert_within(hits, queries, rows[ids], ids, metric, epsilon)


def test_without_memory_for_it(rng: np.random.Generator) -> None:
    prototypes = rng.dirichlet(np.full(64, 0.1), 50)
    rows, queries = histograms(rng, 5000, prototypes), histograms(rng, 40, prototypes)
    index = index_of(rows, "cosine").build()
    expected = index.search_furthest(queries)
    snapshot = inside.store.snapshot_of(index)
    core.fail_allocation(0)
    inside.runtime.top(snapshot, core.Filter(snapshot), queries, 10, False, 1)
    made = core.fail_allocation(-1)
    for number in range(1, made + 1):
        inside.store.forget_code_trials(index)
        try:
            core.fail_allocation(number)
            with pytest.raises(MemoryError):
                inside.runtime.top(snapshot, core.Filter(snapshot), queries, 10, False, 1)
        finally:
            core.fail_allocation(-1)
        assert_same(index.search_furthest(queries), expected)


def test_in_an_order_that_may_end_float32_costs_more() -> None:
    """Rows far out first, for queries in other directions: few rows are read by codes, and float32
    would read whole blocks; codes that cost up to twice what they save of that are not left."""
    rng, sizes = np.random.default_rng(1), np.geomspace(2, 0.05, 32)
    rows = (rng.standard_normal((40_000, 32)) * sizes).astype(np.float32)
    queries = (rng.standard_normal((40, 32)) * sizes[::-1]).astype(np.float32)
    snapshot = inside.store.snapshot_of(index_of(rows).build())
    expected = reference.furthest(queries, rows, 10, "l2")
    for passed, in_order, lost in (
            (28.0, 0.0, False), (60.0, 0.0, True), (100.0, 160.0, False)):
        task = inside.native.task_of(snapshot, queries, 10,
                                     costs=(passed, 0.0, 0.0, 0.0, 0.0, in_order))
        assert_same(inside.native.run(task, 40, 10), expected)
        assert task.lost == lost and not task.gave_up


def test_keys_that_come_last_count() -> None:
    """Of long answers most keys are computed once all rows are scanned. Codes leave more of them to
    compute than float32, which are worth leaving codes for if keys are dear."""
    rng = np.random.default_rng(2)
    rows, queries = (rng.standard_normal((n, 256), dtype=np.float32) for n in (2000, 8))
    snapshot = inside.store.snapshot_of(index_of(rows).build())
    expected = reference.furthest(queries, rows, 200, "l2")
    for reranked, lost in ((1.0, False), (60.0, True)):
        task = inside.native.task_of(snapshot, queries, 200,
                                     costs=(0.0, 0.0, reranked, 0.0, 0.0, 0.0))
        assert_same(inside.native.run(task, 8, 200), expected)
        assert task.lost == lost and not task.gave_up
