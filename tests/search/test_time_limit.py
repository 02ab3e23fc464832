"""`seconds=`: what has been found in time is the answer, and all of it where there is enough."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import inside
import numpy as np
import pytest
import reference
from cases import assert_same, assert_same_bits, index_of, pairs
from inside import core
from numpy.typing import NDArray
from reference import METRICS

import farann

N, DIM, SOON, LONG = 12_000, 16, 1e-12, 1e6


@pytest.fixture(scope="module")
def built() -> Callable[..., tuple[farann.Index, NDArray[np.float32], NDArray[np.float32]]]:
    """Made once each."""
    made: dict[Any, Any] = {}

    def make(metric: str, **options: Any) -> Any:
        key = metric, *options.items()
        if key not in made:
            rng = np.random.default_rng(0)
            rows = rng.standard_normal((N, DIM), dtype=np.float32)
            index = index_of(rows[:-900], metric, threads=1, **options).build()
            index.add(rows[-900:])
            made[key] = index, rows, rng.standard_normal((400, DIM), dtype=np.float32)
        return made[key]

    return make


@pytest.mark.parametrize("codes", ["int8", "int4", "float32"])
@pytest.mark.parametrize("metric", METRICS)
class TestSearches:
    def test_enough_time_is_exact(self, built: Any, metric: str, codes: str) -> None:
        index, rows, queries = built(metric, codes=codes)
        for few in (queries[:1], queries[:20]):
            assert_same(index.search_furthest(few, 7, seconds=LONG),
                        reference.furthest(few, rows, 7, metric))
            assert_same(index.search_nearest(few, 7, seconds=LONG),
                        reference.nearest(few, rows, 7, metric))

    @pytest.mark.parametrize("n", [1, 40, 400])
    def test_no_time(self, built: Any, metric: str, codes: str, n: int) -> None:
        """Each query has met some rows, and scores are true."""
        index, _, queries = built(metric, codes=codes)
        for search in (index.search_furthest, index.search_nearest):
            hits = search(queries[:n], 7, seconds=SOON)
            assert hits.found.all()
            for i in range(0, n, max(1, n // 40)):
                assert len(set(hits.ids[i])) == 7
                assert_same_bits(hits.scores[i], index.score(queries[i], hits.ids[i]))
        if n == 400:
            did = index.search_furthest(queries, 7, seconds=SOON, return_stats=True).stats
            assert n * 1024 <= did.rows_scanned < n * (N // 2)


def test_many_are_asked_for(built: Any) -> None:
    """So many rows more are met that there are enough."""
    index, _, queries = built("dot", codes="int8")
    hits = index.search_furthest(queries, 2000, seconds=SOON)
    assert hits.found.all()


@pytest.mark.parametrize(("kind", "metric", "codes"), pairs(
    ["bits", "gaussian"], METRICS, ["float32", "int8", "int4"]))
def test_each_query_finds_k_rows(kind: str, metric: str, codes: str) -> None:
    """The time may end while tiles of queries wait, or after codes were given up for others."""
    rng = np.random.default_rng(0)
    if kind == "bits":
        both = rng.integers(0, 2, (N + 400, DIM)).astype(np.float32)
        both[:, 0] = 1
    else:
        both = rng.standard_normal((N + 400, DIM), dtype=np.float32)
    index = index_of(both[:N], metric, codes=codes, threads=1).build()
    index.remove(np.arange(0, N, 2))
    for search in (index.search_furthest, index.search_nearest):
        for k, n in ((1, 400), (30, 40), (30, 400)):
            for _ in range(3):
                assert search(both[N : N + n], k, seconds=SOON).found.all()


def test_all_rows_are_searched_where_few_may_be_found() -> None:
    """Fewer than k: no time limit leaves any of them out."""
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((N, DIM), dtype=np.float32)
    index = index_of(rows, "l2", threads=1).build()
    few = rng.random(N) < 0.3
    few[few.cumsum() > 8] = False
    few[N - 1] = True
    hits = index.search_furthest(rows[:400], 10, allowed=few, seconds=SOON)
    assert_same(hits, reference.furthest(rows[:400], rows, 10, "l2", allowed=np.flatnonzero(few)))


def test_filters_and_groups(built: Any) -> None:
    index, rows, queries = built("l2", codes="int8")
    some = np.random.default_rng(1).random(N) < 0.6
    hits = index.search_furthest(queries, 5, allowed=some, seconds=SOON)
    assert some[hits.ids[hits.found]].all()
    assert_same(index.search_furthest(queries, 5, allowed=some, seconds=LONG),
                index.search_furthest(queries, 5, allowed=some))
    labelled = farann.Index(threads=1)
    labelled.add(rows, groups=np.arange(N) % 2)
    hits = labelled.build().search_furthest(queries, 5, groups=np.arange(400) % 2, seconds=LONG)
    assert_same(hits, labelled.search_furthest(queries, 5, groups=np.arange(400) % 2))


def test_few_rows_are_all_searched() -> None:
    rows = np.random.default_rng(0).standard_normal((900, DIM), dtype=np.float32)
    index = index_of(rows).build()
    assert_same(index.search_furthest(rows, 9, seconds=SOON),
                reference.furthest(rows, rows, 9, "l2"))


def test_a_query_of_few_rows_takes_the_short_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is answered before the search looks at the clock, by what is kept of the last query."""
    rows = np.random.default_rng(0).standard_normal((2000, DIM), dtype=np.float32)
    index = index_of(rows, "l2", threads=1).build()
    wanted = [index.search_furthest(row) for row in rows[:3]]

    def never(*of: Any, **options: Any) -> None:
        raise AssertionError

    monkeypatch.setattr(inside.settings, "top", never)
    for row, exact in zip(rows, wanted, strict=False):
        found = index.search_furthest(row, seconds=SOON)
        assert_same_bits(found.scores, exact.scores)
        assert found.ids.tolist() == exact.ids.tolist()
    with pytest.raises(AssertionError):
        index.search_furthest(rows[:2], seconds=SOON)
    for bad in (-1.0, 0.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="seconds"):
            index.search_furthest(rows[0], seconds=bad)
    with pytest.raises(ValueError, match="recall"):
        index.search_furthest(rows[0], seconds=SOON, recall=0.9)


def test_threads_share_a_batch(built: Any) -> None:
    index, _, queries = built("cosine", codes="int8")
    assert_same(index.search_furthest(queries, 5, seconds=LONG, threads=2),
                index.search_furthest(queries, 5))
    assert index.search_furthest(queries, 5, seconds=SOON, threads=2).found.all()


@pytest.mark.parametrize("cells", [None, 16])
def test_without_vectors(built: Any, cells: int | None) -> None:
    index, _, queries = built("l2", codes="int8", cells=cells, keep_vectors=False)
    enough = index.search_furthest(queries, 5, seconds=LONG)
    assert np.array_equal(enough.ids, index.search_furthest(queries, 5, recall=1.0).ids)
    assert index.search_furthest(queries, 5, seconds=SOON).found.all()


def test_others_are_as_before(built: Any) -> None:
    """Nothing is kept of a search that ended early: not for single queries, nor of codes."""
    index, rows, queries = built("l2", codes="int8")
    fresh = index_of(rows[:-900], threads=1).build()
    fresh.add(rows[-900:])
    for _ in range(3):
        fresh.search_furthest(queries, 5, seconds=SOON)
        fresh.search_furthest(queries[0], 5, seconds=SOON)
    for asked in (queries[0], queries[1], queries):
        hits, expected = (one.search_furthest(asked, 5, return_stats=True)
                          for one in (fresh, index))
        assert_same(hits, expected)
        assert hits.stats.rows_scanned == expected.stats.rows_scanned


def test_a_search_that_is_given_up_says_so(built: Any) -> None:
    """Giving up isn't taken for a limit."""
    index, _, queries = built("dot", codes="int8")
    snapshot, flag = inside.store.snapshot_of(index), core.CancelFlag()
    task = inside.native.task_of(snapshot, queries, 5, flag=flag,
                                 rule=inside.contract.StopRule(seconds=SOON))
    flag.cancel()
    with pytest.raises(core.Cancelled):
        task.run()


def test_beyond_a_radius_all_are_searched(built: Any) -> None:
    index, _, queries = built("dot", codes="int8")
    with pytest.raises(ValueError, match="seconds: rows beyond a radius"):
        index.search_nearest(queries, 5, beyond=1.0, seconds=SOON)


def test_a_single_query() -> None:
    """The clock is first looked at after four million multiply-adds."""
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((30_000, 256), dtype=np.float32)
    index = index_of(rows, "cosine", codes="float32", threads=1)
    for _ in range(3):  # the later ones would go the short way of single queries
        exact = index.search_furthest(rows[0], 3)
    hits = index.search_furthest(rows[0], 3, seconds=SOON, return_stats=True)
    did = hits.stats
    assert hits.found.all() and did.rows_scanned < len(rows)
    assert_same(index.search_furthest(rows[0], 3, seconds=LONG), exact)


@pytest.mark.parametrize("codes", ["float32", "int8", "int4"])
@pytest.mark.parametrize("metric", METRICS)
def test_sets(built: Any, metric: str, codes: str) -> None:
    """With time the answer is exact; without, each set has k rows, with true scores."""
    index, rows, queries = built(metric, codes=codes)
    sets, k = queries.reshape(80, 5, DIM), 7
    exact = index.search_furthest_from(sets, k)
    assert_same_bits(index.search_furthest_from(sets, k, seconds=LONG).scores, exact.scores)
    whole = index.stats()["last_search"]["rows_scanned"]
    for some, wanted in ((sets, k), (sets[:1], k), (sets[:3], 2000)):
        hits = index.search_furthest_from(some, wanted, seconds=SOON)
        assert hits.found.all()
        for i, members in enumerate(some):
            assert len(set(hits.ids[i])) == wanted
            of_members = index.score(members, hits.ids[i])
            nearest = of_members.min(axis=0) if metric == "l2" else of_members.max(axis=0)
            assert np.allclose(hits.scores[i], nearest, rtol=1e-6, atol=1e-6)
        if some is sets:
            assert index.stats()["last_search"]["rows_scanned"] < whole // 2
    few = np.arange(N) % 2000 == 0
    assert_same_bits(index.search_furthest_from(sets, k, allowed=few, seconds=SOON).scores,
                     index.search_furthest_from(sets, k, allowed=few).scores)
    with pytest.raises(ValueError, match="at most one limit"):
        index.search_furthest_from(sets, k, seconds=SOON, epsilon=0.1)
