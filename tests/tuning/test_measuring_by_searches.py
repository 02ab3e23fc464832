"""Where nothing is tuned, searches with `recall=` are exact, and measure a table piece by piece."""

from __future__ import annotations

import gc
import logging
import pickle
import threading
import weakref
from typing import Any

import inside
import numpy as np
import pytest
import reference
from approximate_cases import clustered
from cases import Float32, assert_same, index_of, pairs
from inside import core

import farann

K, DIM = 10, 12


def tables(index: farann.Index, nearest: bool = False) -> dict[int, farann.Tuning]:
    return inside.tuning.tables_of(index, nearest)


def asked_until_tuned(index: farann.Index, queries: Float32, k: int = K, nearest: bool = False,
                      **options: Any) -> int:
    """How many calls it takes until there is a table; all are exact until then."""
    search = index.search_nearest if nearest else index.search_furthest
    if index.stats()["keep_vectors"]:
        exact = search(queries, k)
    else:
        exact = search(queries, k, budget=10**9)
    for calls in range(100_000):
        if k in tables(index, nearest):
            return calls
        assert_same(search(queries, k, recall=0.9, **options), exact)
    raise AssertionError("no table was measured")


@pytest.mark.parametrize(("metric", "options", "nearest"), pairs(
    reference.METRICS,
    [{}, {"cells": 30}, {"codes": "int4"}, {"cells": 30, "keep_vectors": False}], [False, True]))
def test_exact_until_it_is_measured(metric: str, options: dict[str, Any], nearest: bool,
                                    rng: np.random.Generator) -> None:
    rows, queries = clustered(rng, 5000, DIM), clustered(rng, 300, DIM)
    index = index_of(rows, metric, **options).build()
    assert asked_until_tuned(index, queries, nearest=nearest) > 1
    by_searches = tables(index, nearest)[K]
    tuned = index.tune(k=K, nearest=nearest)
    # The same recalls where the same queries were searched for, with the same effort.
    n = min(len(by_searches.efforts), len(tuned.efforts)) - 1
    if by_searches.sampled == tuned.sampled:
        assert by_searches.recalls[:n] == tuned.recalls[:n]
    assert np.abs(np.subtract(by_searches.recalls[:n], tuned.recalls[:n])).max(initial=0) < 0.05


def test_the_same_calls_give_the_same_table(rng: np.random.Generator) -> None:
    """Whatever the number of threads, of queries in a call, and of other searches between."""
    rows, queries = clustered(rng, 5000, DIM), clustered(rng, 600, DIM)
    found = []
    for threads in (1, 2, 3):
        index = index_of(rows, "cosine", cells=30).build()
        calls, each = 0, [1, 300, 7, 2, 600]
        while K not in tables(index):
            n = each[calls % len(each)]
            some = queries[0] if n == 1 else queries[:n]
            index.search_furthest(some, K, recall=0.8, threads=threads)
            if threads == 2:
                index.search_furthest(some, K, threads=2)
                index.search_furthest(some, K, recall=1.0)
            calls += 1
        found.append((calls, tables(index)[K]))
    assert found[0] == found[1] == found[2]


@pytest.mark.parametrize("n_queries", [1, 2, 10])
def test_searches_do_less_than_their_own_work_again(n_queries: int, rng: np.random.Generator,
                                                    monkeypatch: pytest.MonkeyPatch) -> None:
    """By counts: what pieces are counted as, and rows scanned for the sample beside those that a
    query scans, which is all. There are few pieces, as each takes some time of its own."""
    rows, queries = (rng.standard_normal((n, 24), dtype=np.float32) for n in (20_000, 50))
    index = index_of(rows, "dot").build()
    exact = [index.search_furthest(queries[at : at + n_queries], K, return_stats=True).stats
             for at in range(0, 50, n_queries)]
    assert sum(stats.rows_scanned for stats in exact) == 50 * len(rows)
    scanned, spent = list[int](), list[float]()
    top, advanced = inside.runtime.top, inside.runtime.Allowance.advanced

    def counted(*args: Any, **options: Any) -> Any:
        hits, stats = top(*args, **options)
        scanned.append(stats.rows_scanned)
        return hits, stats

    def noted(allowed: Any, pieces: Any) -> Any:
        before = allowed.left
        found = advanced(allowed, pieces)
        spent.append(before - allowed.left)
        return found

    some = queries[0] if n_queries == 1 else queries[:n_queries]
    index.search_furthest(some, K, recall=0.9)
    monkeypatch.setattr(inside.settings, "top", counted)
    monkeypatch.setattr(inside.runtime.Allowance, "advanced", noted)
    calls = 1000 // n_queries
    for _ in range(calls):
        index.search_furthest(some, K, recall=0.9)
    assert K not in tables(index)
    # Kept single queries, and two that go one by one, aren't counted, but for the sample's.
    own = 0 if n_queries <= 2 else calls * n_queries * len(rows)
    assert 0 <= sum(scanned) - own <= 1000 * len(rows)
    each = sum(inside.runtime.cost_of(stats, 24, index.isa, single=n_queries <= 2)
               for stats in exact) / 50
    assert 0.4 * 1000 * each < sum(spent) <= 1000 * each
    assert len(spent) <= calls and len(spent) <= sum(spent) / 5e5


def test_single_queries_get_there(rng: np.random.Generator) -> None:
    rows = clustered(rng, 30_000, 48)
    index = index_of(rows, "cosine").build()
    query = clustered(rng, 1, 48)[0]
    calls = asked_until_tuned(index, query)
    assert calls > 100  # each did little
    assert index.search_furthest(query, K, recall=0.9, return_stats=True).stats is not None
    expected = index.tune(k=K).effort_for(0.9)
    assert np.isfinite(expected)


def test_what_is_logged(rng: np.random.Generator, caplog: pytest.LogCaptureFixture) -> None:
    index = index_of(clustered(rng, 3000, DIM)).build()
    with caplog.at_level(logging.INFO, "farann"):
        asked_until_tuned(index, clustered(rng, 300, DIM))
    told = [record.getMessage() for record in caplog.records]
    assert told[1:] == ["measuring what recall= takes for k=10, as part of searches",
                        "tuned for k=10"]


def test_searches_beside_each_other(rng: np.random.Generator) -> None:
    """One at a time measures, the others don't wait, and none is wrong."""
    rows, queries = clustered(rng, 6000, DIM), clustered(rng, 200, DIM)
    index = index_of(rows, "dot", cells=30).build()
    exact = index.search_furthest(queries, K)
    wrong: list[object] = []
    gate = threading.Barrier(4)

    def ask() -> None:
        gate.wait(60)
        while K not in tables(index):
            hits = index.search_furthest(queries, K, recall=0.9)
            if K not in tables(index) and not np.array_equal(hits.ids, exact.ids):
                wrong.append(hits)

    threads = [threading.Thread(target=ask, daemon=True) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(300)
    assert not wrong and K in tables(index)


def test_changes_meanwhile(rng: np.random.Generator) -> None:
    """Rows that come and go leave the layout, and what is measured of it; a build begins anew."""
    rows, queries = clustered(rng, 5000, DIM), clustered(rng, 300, DIM)
    index = index_of(rows, "cosine", cells=30).build()
    for _ in range(3):
        index.search_furthest(queries, K, recall=0.9)
    index.add(3 * rows[:40])
    index.remove(np.arange(3))
    index.add(rows[5:7], ids=[5, 6], replace=True)
    asked_until_tuned(index, queries)
    other = index_of(rows, "cosine", cells=30).build()
    other.search_furthest(queries, K, recall=0.9)
    other.build()
    asked_until_tuned(other, queries)
    tuned = tables(other)[K]
    fresh = index_of(rows, "cosine", cells=30).build()
    asked_until_tuned(fresh, queries)
    assert tables(fresh)[K] == tuned


def test_tuned_meanwhile(rng: np.random.Generator) -> None:
    index = index_of(clustered(rng, 5000, DIM), "dot").build()
    queries = clustered(rng, 300, DIM)
    index.search_furthest(queries, K, recall=0.9)
    table = index.tune(queries, k=K)
    for _ in range(30):
        index.search_furthest(queries, K, recall=0.9)
    assert tables(index) == {K: table}


def test_of_a_loaded_index_with_another_k(rng: np.random.Generator) -> None:
    index = index_of(clustered(rng, 5000, DIM), "dot").build(tune=[3])
    loaded = pickle.loads(pickle.dumps(index))
    asked_until_tuned(loaded, clustered(rng, 300, DIM))
    assert sorted(tables(loaded)) == [3, K] and tables(loaded)[3] == tables(index)[3]


def test_filters_and_groups(rng: np.random.Generator) -> None:
    rows, queries = clustered(rng, 5000, DIM), clustered(rng, 300, DIM)
    index = farann.Index()
    index.add(rows, groups=np.arange(5000) % 3)
    index.build()
    labels = np.arange(300) % 4
    exact = index.search_furthest(queries, K, groups=labels)
    assert_same(index.search_furthest(queries, K, groups=labels, recall=0.9), exact)
    allowed = np.arange(0, 5000, 2)
    exact = index.search_furthest(queries, K, allowed=allowed)
    while K not in tables(index):
        assert_same(index.search_furthest(queries, K, allowed=allowed, recall=0.9), exact)
    ids = index.search_furthest(queries, K, groups=labels, recall=0.9).ids
    assert ((ids % 3 == labels[:, None]) | (ids < 0)).all()


class Stopped(BaseException):
    """As Ctrl+C is, no Exception."""


def test_a_piece_that_is_interrupted(rng: np.random.Generator,
                                     monkeypatch: pytest.MonkeyPatch) -> None:
    """What was measured is dropped, and begins anew."""
    rows, queries = clustered(rng, 5000, DIM), clustered(rng, 300, DIM)
    fresh = index_of(rows, "cosine").build()
    asked_until_tuned(fresh, queries)
    index = index_of(rows, "cosine").build()
    index.search_furthest(queries, K, recall=0.9)
    share_found = inside.tuning.share_found

    def stopped(*_: Any) -> float:
        raise Stopped

    with monkeypatch.context() as patched:
        patched.setattr(inside.settings, "share_found", stopped)
        with pytest.raises(Stopped):
            for _ in range(10_000):
                index.search_furthest(queries, K, recall=0.9)
    assert share_found is inside.tuning.share_found
    asked_until_tuned(index, queries)
    assert tables(index) == tables(fresh)


def test_no_memory(rng: np.random.Generator) -> None:
    rows, queries = clustered(rng, 3000, DIM), clustered(rng, 200, DIM)
    index = index_of(rows, "cosine", cells=20).build()
    exact = index.search_furthest(queries, K)
    failed = 0
    for number in range(1, 400, 7):
        try:
            core.fail_allocation(number)
            index.search_furthest(queries, K, recall=0.9)
        except MemoryError:
            failed += 1
        finally:
            core.fail_allocation(-1)
        if K in tables(index):
            break
        assert_same(index.search_furthest(queries, K), exact)
    assert failed
    asked_until_tuned(index, queries)


def test_rows_are_let_go(rng: np.random.Generator) -> None:
    """What is half measured keeps no rows of a layout that is gone, or of a closed index."""
    index = index_of(clustered(rng, 3000, DIM)).build()
    queries = clustered(rng, 5, DIM)
    index.search_furthest(queries, K, recall=0.9)
    gc.collect()
    gc.disable()
    try:
        for change in (index.build, index.close):
            index.search_furthest(queries, K, recall=0.9)
            rows = weakref.ref(inside.store.of(index).base)
            if change == index.build:
                index.remove([0])  # else the rows stay where they are
            change()
            assert rows() is None
    finally:
        gc.enable()
