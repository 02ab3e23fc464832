"""Where neither codes nor norms rule out enough, rows are read in the order of memory."""

from __future__ import annotations

from typing import Any

import inside
import numpy as np
import pytest
import reference
from cases import Float32, assert_same, index_of
from inside import core

import farann

LEVELS = inside.levels()
N, DIM, K = 34_000, 32, 10  # fewer than 2^20 coordinates are in the caches in any order
# A row that passes costs too much; to read one out of order costs as much as codes save.
COSTS = (1e9, 1e9, 1e9, 0.0, 0.0, 1.0)
KINDS = ("crossed", "uneven")


@pytest.fixture(autouse=True)
def given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inside.settings, "row_costs", lambda *_: COSTS)


def made(kind: str, rng: np.random.Generator, metric: str = "dot") -> tuple[Float32, Float32]:
    """Long rows and short ones: "crossed" in directions that queries hardly have, so that the norm
    tells nothing. Some rows have copies, so that ids decide."""
    rows, queries = rng.standard_normal((N, DIM)), rng.standard_normal((40, DIM))
    if kind == "crossed":
        sizes = np.geomspace(2, 0.05, DIM)
        rows, queries = rows * sizes, queries * sizes[::-1]
    else:
        rows *= np.exp(rng.standard_normal((N, 1)))
        rows[7] *= 1e5 if metric == "l2" else 1  # it has no codes
    rows[rng.integers(N, size=2000)] = rows[rng.integers(N, size=2000)]
    return rows.astype(np.float32), queries.astype(np.float32)


@pytest.mark.parametrize("n", [1, 3, 40])
@pytest.mark.parametrize("by_codes", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_norms_that_end_no_scan_give_no_order(kind: str, by_codes: bool, n: int,
                                              rng: np.random.Generator) -> None:
    rows, queries = made(kind, rng)
    snapshot = inside.store.snapshot_of(index_of(rows, "dot").build())
    expected = reference.furthest(queries[:n], rows, K, "dot")
    for by_norm in (True, False):
        task = inside.native.task_of(snapshot, queries[:n], K, costs=COSTS, by_codes=by_codes,
                                     by_norm=by_norm)
        assert_same(inside.native.run(task, n, K), expected)
        scanned = inside.native.work_of(task).rows_scanned
        if kind == "crossed":
            assert task.leaves == (by_norm or by_codes)
            assert scanned >= N * n
            if by_norm:
                stays = inside.native.task_of(snapshot, queries[:n], K, by_codes=by_codes,
                                              costs=(*COSTS[:-1], 0.0))
                assert_same(inside.native.run(stays, n, K), expected)
                assert not stays.leaves
                did, other = inside.native.work_of(task), inside.native.work_of(stays)
                if by_codes:  # these have another try later
                    assert did.code_products < other.code_products
                else:  # in another order blocks are small again at first
                    assert did.blocks_scanned > other.blocks_scanned
        elif by_norm:
            assert not task.leaves
            assert scanned < 0.5 * N * n


def test_rows_in_the_caches_stay_in_order(rng: np.random.Generator) -> None:
    rows, queries = (vectors[:, :16] for vectors in made("crossed", rng))
    snapshot = inside.store.snapshot_of(index_of(rows, "dot").build())
    expected = reference.furthest(queries[:1], rows, K, "dot")
    for by_codes in (True, False):
        task = inside.native.task_of(snapshot, queries[:1], K, costs=COSTS, by_codes=by_codes)
        assert_same(inside.native.run(task, 1, K), expected)
        assert not task.leaves


@pytest.mark.parametrize("metric", ["l2", "dot", "cosine"])
@pytest.mark.parametrize("kind", KINDS)
def test_at_every_level(kind: str, metric: str, rng: np.random.Generator) -> None:
    rows, queries = made(kind, rng, metric)
    index = index_of(rows, metric).build()
    gone = rng.choice(N, 300, replace=False)
    index.remove(gone)
    alive = np.setdiff1d(np.arange(N), gone)
    expected = reference.furthest(queries, rows[alive], K, metric, ids=alive)
    nearest = reference.nearest(queries, rows[alive], K, metric, ids=alive)
    for isa in LEVELS:
        inside.store.use_level(index, isa)
        for n in (1, 3, 40):
            for _ in range(3):  # of which some begin in float32
                assert_same(index.search_furthest(queries[:n], K),
                            farann.Hits(expected.ids[:n], expected.scores[:n]))
                assert_same(index.search_nearest(queries[:n], K),
                            farann.Hits(nearest.ids[:n], nearest.scores[:n]))


@pytest.mark.parametrize("n", [1, 9])
def test_parts_begin_anew(n: int, rng: np.random.Generator,
                          monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads share the rows in the order of memory, once the first ones tell that it is better."""
    monkeypatch.setattr(inside.settings, "is_long", lambda *_: True)
    monkeypatch.setattr(inside.settings, "small_work", 1e-9)
    monkeypatch.setattr(inside.settings, "small_work_of_few", 1)
    monkeypatch.setattr(inside.settings, "part_work", 1)
    monkeypatch.setattr(inside.settings, "part_keys", 0)
    monkeypatch.setattr(inside.settings, "found_cost", 0.0)
    orders: list[bool] = []

    def begun(task: Any, begin: Any, *given: Any, by_norm: bool = True, **options: Any) -> None:
        orders.append(by_norm)
        begin(*given, by_norm=by_norm, **options)

    for kind, anew in (("crossed", [True] + [False] * 3), ("uneven", [True] * 3)):
        rows, queries = made(kind, rng)
        index = index_of(rows, "dot").build()
        orders.clear()
        with inside.native.watched(__init__=begun):
            hits = index.search_furthest(queries[:n], K, threads=2)
        assert_same(hits, reference.furthest(queries[:n], rows, K, "dot"))
        assert orders == anew


@pytest.mark.parametrize("n", [1, 3])
def test_few_queries_remember_that_codes_were_given_up(n: int, rng: np.random.Generator) -> None:
    rows, queries = made("crossed", rng)
    snapshot = inside.store.snapshot_of(index_of(rows, "dot").build())
    everything = core.Filter(snapshot)
    by_codes = [inside.runtime.top(snapshot, everything, queries[:n], K, False, 1)[1].code_products
                for _ in range(9)]
    # A pause of 1 after two failures, and one of 3 after the next.
    assert [did > 0 for did in by_codes] == [True, True, False, True, *[False] * 3, True, False]


def test_without_memory_for_it(rng: np.random.Generator) -> None:
    rows, queries = made("crossed", rng)
    snapshot = inside.store.snapshot_of(index_of(rows, "dot").build())

    def search() -> farann.Hits:
        task = inside.native.task_of(snapshot, queries[:3], K, costs=COSTS, by_codes=False)
        return inside.native.run(task, 3, K)

    core.fail_allocation(0)
    expected = search()
    made_of = core.fail_allocation(-1)
    for number in range(1, made_of + 1):
        try:
            core.fail_allocation(number)
            with pytest.raises(MemoryError):
                search()
        finally:
            core.fail_allocation(-1)
        assert_same(search(), expected)
