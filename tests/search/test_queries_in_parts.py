"""Few queries, several threads: rows are searched in parts, and the answer is that of the whole."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import inside
import numpy as np
import pytest
from approximate_cases import clustered
from cases import DATA, Float32, assert_same, in_turn, index_of, pairs, queries_for, rows_for
from inside.runtime import COSTS, QUERY_BYTES, TASK_BYTES, forget_executors
from numpy.typing import NDArray
from reference import METRICS, furthest, nearest

import farann

LEVELS = inside.levels()
Arrays = dict[str, NDArray[np.generic]]


@pytest.fixture(autouse=True)
def tasks(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[int, int]]]:
    """Have searches split that are not long; gives the parts that were searched."""
    monkeypatch.setattr(inside.settings, "is_long", lambda *_: True)
    monkeypatch.setattr(inside.settings, "leading_share", 16)
    monkeypatch.setattr(inside.settings, "small_work", 1e-9)
    monkeypatch.setattr(inside.settings, "small_work_of_few", 1)
    monkeypatch.setattr(inside.settings, "least_work_of_parts", 0.0)
    monkeypatch.setattr(inside.settings, "part_work", 1)
    monkeypatch.setattr(inside.settings, "part_keys", 0)
    monkeypatch.setattr(inside.settings, "found_cost", 0.0)
    monkeypatch.setattr(inside.settings, "rows_a_part", 64)
    parts: list[tuple[int, int]] = []

    def noted(task: Any, search: Any, first: int, end: int, leader: Any = None) -> None:
        parts.append((first, end))
        search(first, end, leader)

    with inside.native.watched(search_only=noted):
        yield parts


def assert_alike(index: farann.Index, queries: Float32, k: int = 10, **filters: Any) -> None:
    """Hold answers of one thread and of several against each other."""
    for search in (index.search_furthest, index.search_nearest):
        expected = search(queries, k, threads=1, **filters)
        for threads in (len(queries) + 1, len(queries) + 3):
            assert_same(search(queries, k, threads=threads, **filters), expected)


@pytest.mark.parametrize(("kind", "metric"), in_turn(DATA))
def test_answers_are_exact(
    kind: str, metric: str, rng: np.random.Generator, tasks: list[tuple[int, int]]
) -> None:
    rows = rows_for(kind, rng, 1500, 17, metric)
    queries = queries_for(rng, rows, metric)
    for codes in ("int8", "float32"):
        index = index_of(rows, metric, codes=codes).build()
        for search, oracle in ((index.search_furthest, furthest), (index.search_nearest, nearest)):
            expected = oracle(queries, rows, 10, metric)
            for first, n in ((0, 1), (1, 3), (4, len(queries) - 4)):
                tasks.clear()
                hits = search(queries[first : first + n], 10, threads=n + 2)
                assert_same(hits, farann.Hits(expected.ids[first : first + n],
                                              expected.scores[first : first + n]))
                assert len(tasks) > n + 2


@pytest.mark.parametrize(("options", "metric", "isa"), pairs(
    [{}, {"codes": "int4"}, {"codes": "float32"}, {"cells": 30}], METRICS, LEVELS))
def test_layouts_and_changes(
    options: dict[str, Any], metric: str, isa: str, rng: np.random.Generator,
    tasks: list[tuple[int, int]],
) -> None:
    rows = clustered(rng, 6000, 24)
    index = index_of(rows, metric, **options).build(queries=clustered(rng, 1200, 24))
    inside.store.use_level(index, isa)
    queries = clustered(rng, 3, 24)
    for k in (1, 10, 40, 700):
        assert_alike(index, queries, k)
    index.add(rows[::9])  # each of these twice: ids decide
    index.remove(np.arange(0, 6500, 7))
    assert_alike(index, queries)
    assert_alike(index, queries, 7000)
    assert_alike(index, queries[:1], exclude=index.search_furthest(queries[:1], 30).ids)
    assert_alike(index, queries, allowed=rng.random(len(index)) < 0.5)
    assert_alike(index, queries, allowed=np.sort(rng.choice(index.ids, 900, replace=False)))
    huge = np.vstack([queries[:2], np.full((1, 24), 3e38, np.float32)])  # one without codes
    assert_alike(index, huge)
    assert tasks


def test_counts_add_up(rng: np.random.Generator, tasks: list[tuple[int, int]]) -> None:
    """Every row once, in parts that cover all, whatever their number."""
    rows = rng.standard_normal((5000, 32), dtype=np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)  # all are in reach
    for codes in ("int8", "float32"):
        index = index_of(rows, codes=codes).build()
        index.add(rows[:200])  # so few have no codes yet
        for n, threads in itertools.product((1, 2), (3, 8)):
            tasks.clear()
            stats = index.search_furthest(rows[:n], threads=threads, return_stats=True).stats
            assert stats.queries == n and stats.rows_scanned == n * 5200
            assert stats.rows_rescored >= 10 * n and index.stats()["last_search"] == stats._asdict()
            assert len(tasks) > threads and tasks[0][0] == 0
            ends = [0, *(end for _, end in sorted(tasks))]
            assert [first for first, _ in sorted(tasks)] == ends[:-1] and ends[-1] >= 5200


def test_parts_begin_with_a_threshold(rng: np.random.Generator) -> None:
    """That of the leader: without it each would find k rows of its own first."""
    rows = rng.standard_normal((20_000, 32), dtype=np.float32)
    index = index_of(rows, codes="float32").build()
    alone = index.search_furthest(rows[0], threads=1, return_stats=True).stats
    in_parts = index.search_furthest(rows[0], threads=8, return_stats=True).stats
    assert in_parts.rows_passed < alone.rows_passed + 32 * 10 // 2
    assert in_parts.rows_rescored < alone.rows_rescored + 32 * 10 // 2


def test_not_where_parts_would_take_too_much_memory(
    rng: np.random.Generator, tasks: list[tuple[int, int]]
) -> None:
    index = index_of(rng.standard_normal((200_000, 2), dtype=np.float32), codes="float32").build()
    index.search_furthest(np.ones(2), 20_000, threads=3)
    assert len(tasks) == 4
    index.search_furthest(np.ones(2), 90_000, threads=30)
    assert len(tasks) == 4 + 1 + TASK_BYTES // (QUERY_BYTES + 72 * 90_000) // 30 * 30
    tasks.clear()
    index.search_furthest(np.ones(2), 190_000 * 10, threads=30)
    assert 1 < len(tasks) < 21
    index.search_furthest(np.ones((29, 2)), 190_000, threads=30)
    assert len(tasks) < 21


def test_threads_are_respected(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch, tasks: list[tuple[int, int]]
) -> None:
    used: list[int] = []
    run_all = inside.runtime.run_all

    def noted(functions: Any, threads: int, *, long: bool = False, **options: Any) -> None:
        used.append(threads)
        run_all(functions, threads, long=long, **options)

    monkeypatch.setattr(inside.settings, "run_all", noted)
    rows = clustered(rng, 3000, 12)
    index = index_of(rows, cells=20, threads=4).build()
    index.tune()
    used.clear()
    for query in (rows[:1], rows[0]):
        index.search_furthest(query, threads=1)
        index.search_furthest(rows[:300])
        index.search_furthest(query, recall=0.8)
        index.search_furthest(query, epsilon=0.1)
    assert tasks == []  # one thread, many queries a thread, and approximate searches
    used.clear()
    index.search_furthest(rows[0])
    assert used == [1, 4] and tasks
    index.search_furthest(rows[:2], threads=3)
    index.search_furthest(rows[:8])
    assert used == [1, 4, 1, 3, 1, 4]


@pytest.mark.parametrize("n", [1, 9])
def test_codes_that_are_given_up(
    n: int, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch,
    tasks: list[tuple[int, int]],
) -> None:
    """Each part gives them up for itself, in the order of codes, and scans no row twice."""
    monkeypatch.setattr(inside.settings, "row_costs", lambda *_: (50.0,) * 3 + (0.0,) * 3)
    queries = clustered(rng, 80, 64)
    rows = (2 * queries[rng.integers(0, 50, 8000)]  # so alike that codes can't tell them apart
            + 0.02 * rng.standard_normal((8000, 64))).astype(np.float32)
    index = index_of(rows).build()
    given_up = 0
    for i in range(len(queries) - n):
        tasks.clear()
        hits = index.search_furthest(queries[i : i + n], threads=3, return_stats=True)
        assert_same(hits, furthest(queries[i : i + n], rows, 10, "l2"))
        given_up += hits.stats.float_products > 0
        assert hits.stats.rows_scanned == n * 8000 and len(tasks) > 3
    assert given_up > 5


@pytest.mark.parametrize("n", [1, 3])
def test_float32_is_shared_by_the_bytes_that_it_reads(
    n: int, rng: np.random.Generator, tasks: list[tuple[int, int]],
    monkeypatch: pytest.MonkeyPatch
) -> None:
    """A product reads four bytes in float32, and one by codes."""
    rows = rng.standard_normal((4000, 16), dtype=np.float32)
    monkeypatch.setattr(inside.settings, "is_long", lambda *_: False)
    monkeypatch.setattr(inside.settings, "kept_work", 0)
    monkeypatch.setattr(inside.settings, "small_work_of_few", 2 * n * rows.size)
    for codes, is_cut in (("float32", True), ("int8", False)):
        index = index_of(rows, codes=codes, threads=2).build()
        for _ in range(3):
            tasks.clear()
            hits = index.search_furthest(rows[:n], return_stats=True)
            assert_same(hits, furthest(rows[:n], rows, 10, "l2"))
            assert hits.stats.queries == n
            assert hits.stats.rows_scanned <= n * len(rows)
            assert bool(tasks) == is_cut


def test_an_error_in_a_part(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = rng.standard_normal((4000, 16), dtype=np.float32)
    index = index_of(rows).build()
    expected = index.search_furthest(rows[0], threads=1)

    def fail(task: Any, run: Callable[[], None]) -> None:
        if task.did()[0] == 0 and next(numbers) == at:
            raise MemoryError("no more of it")
        run()

    for at in (0, 1, 3):
        numbers = itertools.count()
        with (inside.native.watched(run=fail),
              pytest.raises(MemoryError, match="no more of it")):
            index.search_furthest(rows[0], threads=3)
        assert_same(index.search_furthest(rows[0], threads=3), expected)


def test_where_no_thread_can_be_started(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = rng.standard_normal((4000, 16), dtype=np.float32)
    index = index_of(rows).build()
    expected = index.search_furthest(rows[0], threads=1)

    def refuse(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    forget_executors()
    monkeypatch.setattr(ThreadPoolExecutor, "submit", refuse)
    assert_same(index.search_furthest(rows[0], threads=3), expected)


def noted_cuts(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Into how many tasks searches are cut from now on."""
    used = list[int]()
    run_all = inside.runtime.run_all

    def noted(functions: Any, threads: int, *, long: bool = False, **options: Any) -> None:
        used.append(len(functions))
        run_all(functions, threads, long=long, **options)

    monkeypatch.setattr(inside.settings, "run_all", noted)
    return used


def test_batches_are_cut_by_what_the_last_one_did(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch, tasks: list[tuple[int, int]]
) -> None:
    """Where norms end a search early, or little is left to do, parts of the rows take longer."""
    monkeypatch.undo()
    level = COSTS[inside.levels()[-1]]
    monkeypatch.setattr(inside.settings, "small_work", 2**25 * level.code_product)
    used = noted_cuts(monkeypatch)
    rows = rng.standard_normal((120_000, 64), dtype=np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    queries = rng.standard_normal((40, 64), dtype=np.float32)
    ends_early = rows * (1 + 9 * (np.arange(120_000, dtype=np.float32) < 600)[:, np.newaxis])
    for some, cuts in ((rows, {10: [1, 2], 5: [1, 2]}), (ends_early, {10: [], 40: []}),
                       (rows[:4000], {10: []})):
        index = index_of(some, threads=2).build()
        first = index.search_furthest(queries)
        for n, cut in cuts.items():
            used.clear()
            tasks.clear()
            hits = index.search_furthest(queries[:n])
            assert_same(hits, farann.Hits(first.ids[:n], first.scores[:n]))
            assert used == cut and len(tasks) == sum(cut), n
        index.search_nearest(queries)  # tells nothing of the furthest rows, nor do filters
        index.search_furthest(queries, allowed=index.ids[:200])
        index.search_furthest(queries, budget=64)
        used.clear()
        index.search_furthest(queries[:3], budget=64)  # of which few rows are scanned
        assert used == []
        index.add(rows[:1] / 2)  # what was done is known of the rows that are left
        used.clear()
        index.search_furthest(queries[:10])
        assert used == cuts[10]


@pytest.mark.parametrize(("n", "k", "keys", "cut"), [
    (10, 10, 0, [1, 2]), (10, 10, 100, [1, 2]), (10, 10, 100_000, []), (10, 3000, 0, []),
    (15, 10, 0, [1, 2]), (16, 10, 0, [2]), (17, 10, 0, [2])])
def test_what_is_cut(n: int, k: int, keys: int, cut: list[int], rng: np.random.Generator,
                     monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows for a few queries a thread, if parts save the time of keys and don't find too many rows;
    the queries where each thread gets enough of them."""
    monkeypatch.setattr(inside.settings, "is_long", lambda *_: False)
    monkeypatch.setattr(inside.settings, "part_keys", keys)
    monkeypatch.setattr(inside.settings, "found_cost", 100.0)
    monkeypatch.setattr(inside.settings, "rows_a_part", 1024)
    used = noted_cuts(monkeypatch)
    rows = rng.standard_normal((60_000, 16), dtype=np.float32)
    index = index_of(rows, threads=2).build()
    used.clear()
    hits = index.search_furthest(rows[:n], k)
    assert used == cut
    assert_same(hits, furthest(rows[:n], rows, k, "l2"))


def test_threads_share_long_answers(rng: np.random.Generator,
                                    monkeypatch: pytest.MonkeyPatch) -> None:
    """Of few rows, too, which no thread would be woken for: to find so many takes longer. Nor does
    a thread keep such a batch for itself once it comes again."""
    monkeypatch.setattr(inside.settings, "is_long", lambda *_: False)
    monkeypatch.setattr(inside.settings, "small_work", 3e5)
    monkeypatch.setattr(inside.settings, "found_cost", 100.0)
    rows = rng.standard_normal((1100, 4), dtype=np.float32)
    used = noted_cuts(monkeypatch)
    index = index_of(rows, threads=2).build()
    for k, cut in ((10, []), (100, [2]), (1000, [2])):
        for _ in range(4):
            used.clear()
            index.search_furthest(rows[:32], k)
            assert used == cut


def test_a_pause_of_codes_is_counted_once_a_batch(rng: np.random.Generator,
                                                  monkeypatch: pytest.MonkeyPatch) -> None:
    """Where rows aren't cut, too."""
    monkeypatch.setattr(inside.settings, "is_long", lambda *_: False)
    monkeypatch.setattr(inside.settings, "most_together", 0)
    monkeypatch.setattr(inside.settings, "part_keys", 10**9)
    rows = rng.standard_normal((8000, 24), dtype=np.float32)
    index = index_of(rows, threads=2).build()
    turns = list[int]()
    for threads in (1, 2):
        trials = inside.core.CodeTrials()
        for _ in range(4):
            trials.note(True)
        inside.store.snapshot_of(index).code_trials.clear()
        inside.store.snapshot_of(index).code_trials.update(
            dict.fromkeys([(4, 4, False), (4, 4, True)], trials))
        turns.append(0)
        while trials.pauses:
            index.search_furthest(rows[:10], threads=threads)
            turns[-1] += 1
    assert turns[0] == turns[1] > 1


def test_what_can_be_no_part(rng: np.random.Generator) -> None:
    rows = rng.standard_normal((500, 8), dtype=np.float32)
    snapshot = inside.store.snapshot_of(index_of(rows).build())

    def task(n: int) -> Any:
        return inside.native.task_of(snapshot, rows, 3, stop=n)

    leader = task(2)
    for first, end, number, after in ((-16, 32, 2, None), (0, 40, 2, None), (32, 16, 2, leader),
                                      (16, 32, 2, None), (0, 32, 2, leader), (16, 32, 1, leader)):
        with pytest.raises(ValueError, match=r"whole panels|same queries"):
            task(number).search_only(first, end, after)


def test_ctrl_c(run_python: Callable[..., Arrays]) -> None:
    told = run_python(
        """
import os, signal, time
import inside
import farann

begun, running = [0], [0]
def noisy(task, run):
    begun[0] += 1
    running[0] += 1
    if begun[0] == 3:
        os.kill(os.getpid(), signal.SIGINT)
    elif begun[0] > 3:
        time.sleep(0.01)  # all parts together take seconds, in which the signal is heard
    try:
        run()
    finally:
        running[0] -= 1

rows = np.tile(np.random.default_rng(0).standard_normal((1000, 64), dtype=np.float32), (1000, 1))
index = farann.Index(64, codes="float32", threads=2)
index.add(rows)
index.build()
expected = index.search_furthest(rows[0])
inside.settings.parts_a_thread, inside.settings.least_work_of_parts = 200, 0.0
interrupted = False
try:
    with inside.native.watched(run=noisy):
        index.search_furthest(rows[0])
except KeyboardInterrupt:
    interrupted = running[0] == 0
again = index.search_furthest(rows[0])
give(interrupted=interrupted, begun=begun[0], same=(again.ids == expected.ids).all())
"""
    )
    assert told["interrupted"] and told["same"] and 3 <= int(told["begun"]) < 400
