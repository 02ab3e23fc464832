"""Single queries, small batches: what is kept for the next changes no answer, count or error."""

from __future__ import annotations

import gc
import itertools
import math
import pickle
import threading
import weakref
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import inside
import numpy as np
import pytest
import reference
from approximate_cases import clustered
from cases import DATA, Float32, assert_same, in_turn, index_of, queries_for, rows_for
from inside import core
from inside.contract import EXACT
from numpy.typing import NDArray
from reference import METRICS, furthest

import farann
from farann.tuning import Tuning

LEVELS = inside.levels()


def in_general(index: farann.Index, query: Any, k: Any = 10, **options: Any) -> Any:
    """The answer of the way that all queries go, without a look at the cache."""
    return inside.search.furthest_in_full(index, query, k, **options)


def assert_alike(index: farann.Index, queries: Float32, k: int = 10, **options: Any) -> None:
    """Hold answers and counts of both ways against each other, in turn, so that traces tell.

    Where codes are given up for many queries, some exact ones are searched without them.
    """
    def forget_late_answers() -> None:
        """The same queries again and again would seem to be of another kind."""
        for watch in inside.tuning.watches_of(index):
            watch.forget()

    expected = []
    for query in queries:
        forget_late_answers()
        expected.append(in_general(index, query, k, return_stats=True, **options))
    for order in (range(len(queries)), reversed(range(len(queries)))):
        for i in order:
            forget_late_answers()
            hits = index.search_furthest(queries[i], k, return_stats=True, **options)
            stats = hits.stats
            assert_same(hits, expected[i])
            usual = expected[i].stats
            if stats.code_products and usual.code_products:  # neither in a pause of codes
                assert stats == usual
            assert isinstance(stats, farann.SearchStats)
            assert index.stats()["last_search"] == stats._asdict()


@pytest.fixture
def searched(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[object]]:
    """What was asked of kept searches, for each query that was answered by one."""
    asked: list[object] = []

    class Noted(core.SingleSearch):
        def search(self, queries: object, within: Any = None) -> Any:
            found = super().search(queries, within)
            if found is not None:
                asked.append(queries)
            return found

    monkeypatch.setattr(inside.settings, "SingleSearch", Noted)
    yield asked


class TestAnswers:
    @pytest.mark.parametrize(("metric", "kind"), list(zip(itertools.cycle(METRICS), DATA)))
    def test_of_hostile_rows_and_queries(
        self, kind: str, metric: str, rng: np.random.Generator, searched: list[object]
    ) -> None:
        for n, dim in ((50, 3), (700, 17)):
            rows = rows_for(kind, rng, n, dim, metric)
            queries = queries_for(rng, rows, metric)
            for codes in ("int8", "float32"):
                index = index_of(rows, metric, codes=codes).build()
                before = len(searched)
                assert_alike(index, queries, 5)
                assert len(searched) == before + 2 * len(queries)
                singles = [index.search_furthest(query, 5) for query in queries]
                found = farann.Hits(np.array([hits.ids for hits in singles]),
                                    np.array([hits.scores for hits in singles]))
                assert_same(found, furthest(queries, rows, 5, metric))

    @pytest.mark.parametrize(("kind", "metric"), in_turn(DATA))
    def test_of_small_batches_of_one_size(
        self, kind: str, metric: str, rng: np.random.Generator, searched: list[object],
        monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """From the third of a size on they are kept, too: for other queries each time."""
        monkeypatch.setattr(inside.settings, "small_work", 2**40)  # at "scalar" threads share 23
        rows = rows_for(kind, rng, 700, 17, metric)
        queries = queries_for(rng, rows, metric)
        for codes, level in itertools.product(("int8", "float32"), LEVELS):
            index = index_of(rows, metric, codes=codes).build()
            inside.store.use_level(index, level)
            for n in (6, 23):
                before = len(searched)
                for _ in range(5):
                    asked = np.ascontiguousarray(queries[rng.integers(len(queries), size=n)])
                    hits = index.search_furthest(asked, 5, return_stats=True)
                    assert_same(hits, furthest(asked, rows, 5, metric))
                    assert hits.stats is not None and hits.stats.queries == n
                    assert index.stats()["last_search"] == hits.stats._asdict()
                assert len(searched) == before + 3
            asked[n - 1, 16] = np.nan
            with pytest.raises(ValueError, match="NaN"):
                index.search_furthest(asked, 5)
            index.remove(index.search_furthest(asked[:-1], 5).ids[:, 0])
            left = index.search_furthest(asked[:-1], 5)
            assert_same(left, in_general(index, asked[:-1], 5))

    def test_a_few_and_more_by_turns(self, rng: np.random.Generator,
                                     searched: list[object]) -> None:
        """Neither takes the place of the other."""
        rows, queries = rng.standard_normal((2, 700, 8), dtype=np.float32)
        index = index_of(rows, "dot").build()
        for n in (10, 10, 3, 3, 3) + (10, 3) * 4:
            found = index.search_furthest(queries[:n], 5)
            assert_same(found, furthest(queries[:n], rows, 5, "dot"))
        assert [np.asarray(one).shape for one in searched][-8:] == [(10, 8), (3, 8)] * 4

    def test_of_small_batches_that_do_little(
        self, rng: np.random.Generator, searched: list[object], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What the last queries did with the rows counts, not how many there are."""
        for name in ("kept_work", "small_work_of_few"):
            monkeypatch.setattr(inside.settings, name, 2**20)
        rows = rng.standard_normal((100_000, 16), dtype=np.float32)
        rows[:100, 0] += 1000
        index = index_of(rows, "dot").build()
        monkeypatch.setattr(inside.settings, "small_work",
                            inside.runtime.COSTS[index.isa].float_product * 2**20)
        asked = rng.standard_normal((10, 16), dtype=np.float32)
        asked[:, 0] = -1  # which the long rows answer alone
        for n in (10, 10, 10, 4, 4, 4):
            assert_same(index.search_furthest(asked[:n], 5), furthest(asked[:n], rows, 5, "dot"))
        assert {np.asarray(one).shape for one in searched} == {(10, 16), (4, 16)}
        asked[:, 0] = 1  # which they don't answer
        for n in (10, 4):
            index.search_furthest(asked[:n], 5)
        before = len(searched)
        for n in (10, 4):
            assert_same(index.search_furthest(asked[:n], 5), furthest(asked[:n], rows, 5, "dot"))
        assert len(searched) == before

    @pytest.mark.parametrize(("options", "metric"), in_turn([
        {}, {"cells": 40}, {"codes": "int4"}, {"cells": 40, "codes": "int4"},
        {"codes": "float32"},
    ]))
    def test_of_all_layouts(
        self, options: dict[str, Any], metric: str, rng: np.random.Generator
    ) -> None:
        vectors = clustered(rng, 5040, 24)
        rows, queries = vectors[:5000], vectors[5000:]
        index = index_of(rows, metric, **options).build(queries=rows[:400])
        huge = np.full((1, 24), 3e38, np.float32)  # has no codes
        asked = np.vstack([queries[:8], huge, queries[8:16]])
        for isa, k in zip(itertools.cycle(LEVELS), (10, 1, 70)):  # and 10 once more, below
            inside.store.use_level(index, isa)
            index.tune(k=k)
            assert_alike(index, asked, k)
            assert_alike(index, asked, k, recall=0.8)
        index.add(clustered(rng, 300, 24))
        index.remove(np.arange(0, 900, 7))
        for isa in LEVELS:
            inside.store.use_level(index, isa)
            inside.search.finish_measuring(index, 10)
            assert_alike(index, asked)
            assert_alike(index, asked, recall=0.8)

    @pytest.mark.parametrize("codes", ["int8", "int4"])
    @pytest.mark.parametrize("cells", [None, 40])
    def test_without_vectors(
        self, cells: int | None, codes: str, rng: np.random.Generator
    ) -> None:
        vectors = clustered(rng, 5020, 24)
        index = index_of(vectors[:5000], "dot", cells=cells, codes=codes, keep_vectors=False)
        index.build(tune=[10])
        assert_alike(index, vectors[5000:], recall=0.9)
        with pytest.raises(ValueError, match="recall"):
            index.search_furthest(vectors[0])

    def test_along_a_basis(self, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(inside.settings, "most_rotated_rows", 0)
        near = rng.standard_normal((6000, 4)) @ np.linalg.qr(rng.standard_normal((64, 4)))[0].T
        rows = (near + 0.01 * rng.standard_normal(near.shape)).astype(np.float32)
        index = index_of(rows).build(tune=[10])
        assert index.stats()["directions"] > 0
        assert_alike(index, rows[:20])
        assert_alike(index, rows[:20], recall=0.8)

    def test_where_codes_are_given_up(
        self, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Each such search takes more memory, and a task has so many pieces of it at most."""
        monkeypatch.setattr(inside.settings, "row_costs", lambda *_: (50.0,) * 3 + (0.0,) * 3)
        index = index_of(clustered(rng, 8000, 64)).build()
        queries = clustered(rng, 40, 64)
        assert_alike(index, queries)
        given_up = [query for query in queries
                    if index.search_furthest(query, return_stats=True).stats.float_products > 0]
        assert_alike(index, np.repeat(given_up[:1], 40, axis=0))

    @pytest.mark.parametrize("metric", ["dot", "cosine"])
    @pytest.mark.parametrize("isa", LEVELS)
    def test_codes_of_no_use_are_tried_again_now_and_then(
        self, isa: str, metric: str, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Two searches in a row that give codes up are followed by one without, then 3, 7."""
        rows, queries = clustered(rng, 2000, 64), clustered(rng, 120, 64)
        expected, ways = furthest(queries, rows, 1, metric), set[tuple[bool, bool]]()
        for cost in (1e9, 100.0, 0.0):
            monkeypatch.setattr(inside.settings, "row_costs",
                                lambda *_, cost=cost: (cost,) * 3 + (0.0,) * 3)
            index, left, following = index_of(rows, metric).build(), 0, 0
            inside.store.use_level(index, isa)
            index.search_furthest(queries[0], 1)  # makes the plan
            for i, query in enumerate(queries):
                hits = index.search_furthest(query, 1, return_stats=True)
                stats = hits.stats
                assert hits.ids == expected.ids[i]
                by_codes, gave_up = stats.code_products > 0, stats.float_products > 0
                assert by_codes == (left == 0)
                ways.add((by_codes, gave_up))
                if not by_codes:
                    left -= 1
                elif gave_up:
                    left, following = following, min(2 * following + 1, 7)
                else:
                    left = following = 0
        assert ways == {(True, True), (True, False), (False, True)}

    def test_more_than_there_are(self, rng: np.random.Generator) -> None:
        for n in (0, 1, 3):
            index = index_of(rng.standard_normal((n, 4), dtype=np.float32)).build()
            assert_alike(index, np.ones((3, 4), np.float32), 9)

    def test_shapes(self, rng: np.random.Generator, searched: list[object]) -> None:
        rows = rng.standard_normal((900, 8), dtype=np.float32)
        index = index_of(rows).build()
        for _ in range(2):
            one, batch = index.search_furthest(rows[4]), index.search_furthest(rows[4:5])
            assert one.ids.shape == (10,) and batch.ids.shape == (1, 10)
            assert type(one) is farann.Hits and type(batch) is farann.Hits
            assert_same(farann.Hits(batch.ids[0], batch.scores[0]), one)
        assert len(searched) == 3  # all but the first

    @pytest.mark.parametrize(("ends_early", "masked"), [(1, 0), (1, 1), (0, 0)])
    def test_what_reads_few_of_many_rows(
            self, ends_early: int, masked: int, rng: np.random.Generator, searched: list[object],
            monkeypatch: pytest.MonkeyPatch) -> None:
        """The main thread hands a search that takes long to another: one that did little isn't."""
        for limit in ("long_work", "slow_long_work"):
            monkeypatch.setattr(inside.settings, limit, 1 << 21)
        rows = rng.standard_normal((20_000, 16), dtype=np.float32)
        rows /= np.linalg.norm(rows, axis=1)[:, None]
        if ends_early:
            rows[:50] *= 100
        index = index_of(rows).build()
        options = {"allowed": np.arange(len(rows)) % 2 == 0} if masked else {}
        answers = [index.search_furthest(query, 1, **options) for query in rows[:4]]
        assert len(searched) == (3 if ends_early else 0)
        for query, found in zip(rows, answers, strict=False):
            assert_same(found, in_general(index, query, 1, **options))


@pytest.fixture(scope="module")
def often_searched() -> farann.Index:
    """One for many tests: searches, also those that are refused, leave it as it was."""
    with pytest.MonkeyPatch.context() as patch:  # as for tests, which come later
        patch.setattr(inside.settings, "coded_query_cost", -math.inf)
        rows = clustered(np.random.default_rng(0), 5000, 12)
        index = index_of(rows, "cosine", cells=30).build(tune=[10])
        index.search_furthest(np.ones(12, np.float32))
        for _ in range(2):
            index.search_furthest(np.ones(12, np.float32), recall=0.9)
    return index


class TestWhatIsAsked:
    @pytest.fixture
    def index(self, often_searched: farann.Index) -> farann.Index:
        return often_searched

    @pytest.mark.parametrize("make", [
        lambda q: q.astype(np.float64), lambda q: q.astype(">f4"), lambda q: q.tolist(),
        lambda q: np.repeat(q, 2)[::2], lambda q: q[::-1].copy()[::-1],
        lambda q: np.frombuffer(b"x" + q.tobytes(), np.uint8)[1:].view(np.float32),
        lambda q: np.ma.masked_array(q), lambda q: q[None], lambda q: q[:, None].T,
        lambda q: (9 * q).astype(np.int32), lambda q: q.astype(np.float16), memoryview,
        lambda q: np.repeat(q[None], 2, axis=0),
    ])
    def test_queries_of_all_kinds(
        self, index: farann.Index, make: Callable[[Float32], Any], rng: np.random.Generator
    ) -> None:
        for recall in (None, 0.9):
            query = make(rng.standard_normal(12, dtype=np.float32))
            expected = in_general(index, query, recall=recall)
            assert_same(index.search_furthest(query, recall=recall), expected)
            if isinstance(query, np.ndarray):
                query.setflags(write=False)
                assert_same(index.search_furthest(query, recall=recall), expected)

    @pytest.mark.parametrize("query", [
        np.full(12, np.nan, np.float32), np.full(12, np.inf, np.float32),
        np.r_[np.ones(11), -np.inf].astype(np.float32), np.zeros(12, np.float32),
        np.ones(11, np.float32), np.ones((1, 13), np.float32), np.ones((1, 1, 12), np.float32),
        np.float32(1), np.array(1, np.float32), np.array(["a"] * 12), np.ones(12, bool),
        np.ones(12, np.complex64), np.zeros(12, "M8[s]"), np.array([None] * 12), None, "text",
        np.full(12, 1e300), np.zeros(12, [("a", "f4")]), np.ones((0, 12), np.float32),
    ])
    def test_errors_are_the_same(self, index: farann.Index, query: Any) -> None:
        said = []
        for ask in (in_general, farann.Index.search_furthest):
            for recall in (None, 0.9):
                try:
                    said.append(str(ask(index, query, recall=recall)))
                except (ValueError, TypeError) as error:
                    said.append(f"{type(error)} {error}")
        assert said[0] == said[2] and said[1] == said[3]
        # Nothing of it is left.
        assert_alike(index, np.ones((1, 12), np.float32))

    @pytest.mark.parametrize("options", [
        {"k": True}, {"k": 10.0}, {"k": "10"}, {"k": 0}, {"k": 2**40}, {"k": [10]},
        {"recall": True}, {"recall": "0.9"}, {"recall": 1.5}, {"recall": [0.9]},
        {"recall": np.nan}, {"recall": 0.9, "epsilon": 0.1}, {"epsilon": -1.0}, {"budget": 0},
        {"threads": 0}, {"threads": True}, {"allowed": "x"}, {"exclude": 3},
    ])
    def test_errors_of_other_arguments(self, index: farann.Index, options: dict[str, Any]) -> None:
        with pytest.raises((ValueError, TypeError), match=min(options.keys())[:3]):
            index.search_furthest(np.ones(12, np.float32), **options)

    def test_numbers_of_other_types(self, index: farann.Index) -> None:
        query = np.ones(12, np.float32)
        expected = in_general(index, query, recall=0.9)
        k: Any
        recall: Any
        for k, recall in ((np.int64(10), 0.9), (10, np.float64(0.9)), (np.int8(10), 0.9)):
            assert_same(index.search_furthest(query, k, recall=recall), expected)
        exact = in_general(index, query)
        for recall in (1, 1.0, None):
            for _ in range(2):
                assert_same(index.search_furthest(query, recall=recall), exact)


class TestChanges:
    def test_are_seen_at_once(self, rng: np.random.Generator, searched: list[object]) -> None:
        rows = clustered(rng, 3000, 8)
        index = index_of(rows).build()
        query = -rows[0]
        for recall in (None, 1.0):
            last = 0
            for change in (lambda: index.add(10 * rows[:1]), lambda: index.remove(5),
                           lambda: index.build(), lambda: index.remove(3000)):
                change()
                for _ in range(2):
                    assert_same(index.search_furthest(query, recall=recall),
                                in_general(index, query, recall=recall))
                assert len(searched) > last
                last = len(searched)
            index.build()
            index.add(rows[:1], ids=[5])
            index.add(rows[:1], ids=[3000])
            index.remove(3000)
            index = index_of(rows).build()

    def test_a_mask_is_for_one_query(self, rng: np.random.Generator) -> None:
        """The next one finds every row again."""
        rows = rng.standard_normal((5000, 16), dtype=np.float32)
        index = index_of(rows).build()
        for query in rng.standard_normal((4, 16), dtype=np.float32):
            best = reference.furthest(query[None], rows, 8, "l2")
            mask = np.ones(len(rows), bool)
            mask[best.ids[0, :3]] = False
            for _ in range(3):
                assert_same(index.search_furthest(query[None], 5), best, 5)
                found = index.search_furthest(query[None], 5, allowed=mask)
                assert found.ids.tolist() == best.ids[:, 3:].tolist()

    def test_a_new_table_is_used(self, rng: np.random.Generator) -> None:
        rows = clustered(rng, 5000, 12)
        index = index_of(rows).build()

        def scanned() -> int:
            for _ in range(3):
                stats = index.search_furthest(rows[0], recall=0.8, return_stats=True).stats
            return int(stats.rows_scanned)

        scanned()
        for effort in (640.0, 64.0, 1280.0):
            inside.tuning.replace(index, 10, Tuning(10, (effort, np.inf), (0.9, 1.0), (0.1, 1.0)))
            assert scanned() == effort
        index.tune(rows[:200])
        assert scanned() == in_general(index, rows[0], recall=0.8, return_stats=True).stats[1]

    def test_an_old_layout_is_let_go(self, rng: np.random.Generator) -> None:
        index = index_of(rng.standard_normal((2000, 8), dtype=np.float32)).build()
        for _ in range(2):
            index.search_furthest(np.ones(8, np.float32))
        old = weakref.ref(inside.store.of(index))
        index.add(np.ones((1, 8)))
        gc.collect()
        assert old() is None

    def test_few_kinds_are_kept(self, rng: np.random.Generator) -> None:
        index = index_of(rng.standard_normal((500, 8), dtype=np.float32)).build()
        for k in range(1, 100):
            index.search_furthest(np.ones(8, np.float32), k)
        assert 0 < len(inside.store.of(index).singles) <= 16
        index.search_furthest(np.ones(8, np.float32), 2000)
        assert all(key[1] < 100 for key in inside.store.of(index).singles)


class TestWork:
    """Counted: what a kept search does beside its search."""

    @pytest.mark.parametrize("options", [{}, {"codes": "float32"}, {"cells": 30}])
    def test_takes_no_memory(self, options: dict[str, Any], rng: np.random.Generator) -> None:
        rows = clustered(rng, 5000, 12)
        index = index_of(rows, **options).build(tune=[10])
        for recall in (None, 0.8):
            for _ in range(4):
                index.search_furthest(rows[7], recall=recall)
            core.fail_allocation(0)
            index.search_furthest(rows[7], recall=recall)
            assert core.fail_allocation(-1) == 0

    def test_without_memory(self, rng: np.random.Generator) -> None:
        rows = clustered(rng, 5000, 12)
        query = rows[7].copy()
        index = index_of(rows, cells=30).build()
        expected = in_general(index, query)
        core.fail_allocation(0)
        index.search_furthest(query)
        made = core.fail_allocation(-1)
        assert made > 5
        for number in range(1, made + 1):
            inside.store.of(index).singles.clear()
            index.search_furthest(query)
            try:
                core.fail_allocation(number)
                with pytest.raises(MemoryError):
                    index.search_furthest(query)
            finally:
                core.fail_allocation(-1)
            assert_same(index.search_furthest(query), expected)

    def test_many_threads_at_once(self, rng: np.random.Generator) -> None:
        rows = clustered(rng, 8000, 24)
        index = index_of(rows, "dot", cells=60).build(tune=[10])
        expected = [[in_general(index, row, recall=recall) for row in rows[:40]]
                    for recall in (None, 0.9)]
        wrong: list[object] = []
        gate = threading.Barrier(6)

        def ask() -> None:
            gate.wait(60)
            for _ in range(10):
                for recall in (None, 0.9):
                    for row, *answers in zip(rows, *expected, strict=False):
                        hits = index.search_furthest(row, recall=recall)
                        # The watch may have an approximate search answered exactly.
                        if not any((hits.ids == answer.ids).all()
                                   and (hits.scores == answer.scores).all()
                                   for answer in answers[: 1 if recall is None else 2]):
                            wrong.append(hits)

        threads = [threading.Thread(target=ask) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert wrong == []

    def test_a_filter_for_each_query_is_refused(self, rng: np.random.Generator) -> None:
        index = index_of(rng.standard_normal((99, 3), dtype=np.float32)).build()
        snapshot = inside.store.snapshot_of(index)
        none: NDArray[np.int64] = np.zeros(0, np.int64)
        chosen = core.Filter(snapshot).excluding(none, np.zeros(2, np.int64))
        with pytest.raises(ValueError, match="for all alike"):
            core.SingleSearch(snapshot, chosen, 3, None, (0.0,) * 6, EXACT)


@pytest.mark.parametrize("n", [2, 3, 5])
def test_a_few_queries_are_asked_one_by_one(n: int, rng: np.random.Generator,
                                            monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a batch would take longer to begin: the same answers, and the sum of the work."""
    rows, queries = rng.standard_normal((2, 900, 8), dtype=np.float32)
    queries = queries[:n]
    index = farann.Index(metric="cosine")
    index.add(rows, ids=[f"{'row' * (i % 3)}{i}" for i in range(900)])
    for search in (index.search_furthest, index.search_nearest):
        first = search(queries, 7)  # a batch, which prepares what the next ones go by
        asked, again = list[Any](), inside.search.singles.again
        with monkeypatch.context() as patched:
            patched.setattr(inside.search.singles, "again",
                            lambda *args, asked=asked: asked.append(again(*args)) or asked[-1])
            second = search(queries, 7, return_stats=True)
        assert len(asked) == 1 and None not in asked
        one = [search(query, 7, return_stats=True) for query in queries]
        some = search(queries, 7, return_stats=True)
        assert_same(some, first)
        assert second.stats == some.stats
        assert some.stats == tuple(map(sum, zip(*(hits.stats for hits in one), strict=True)))
        assert index.stats()["last_search"] == some.stats._asdict()
        assert search(queries, 7).stats is None and search(queries[:0], 7).ids.shape == (0, 7)
        with pytest.raises(ValueError, match="NaN"):
            search(np.where(queries == queries[-1], np.nan, queries), 7)
        with pytest.raises(ValueError, match="expected shape"):
            search(queries[None], 7)


@pytest.mark.parametrize("n", [2, 5, 12])
def test_a_few_approximate_queries_are_asked_one_by_one(
        n: int, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    """As soon as it is known how little they do; with the answers of single queries."""
    rows = clustered(rng, 8000, 12)
    queries = clustered(rng, n, 12)
    index = index_of(rows).build()
    inside.tuning.replace(index, 7, Tuning(7, (640.0, np.inf), (0.9, 1.0), (0.5, 1.0)))
    first = index.search_furthest(queries, 7, recall=0.8)  # it isn't known yet
    again, asked = inside.search.singles.again, list[Any]()

    def noted(*args: Any) -> Any:
        asked.append(again(*args))
        return asked[-1]

    monkeypatch.setattr(inside.search.singles, "again", noted)
    some = index.search_furthest(queries, 7, recall=0.8, return_stats=True)
    assert some.stats.rows_scanned == 640 * n
    assert len(asked) == 1 and None not in asked
    one = [index.search_furthest(query, 7, recall=0.8, return_stats=True) for query in queries]
    assert np.array_equal(some.ids, [hits.ids for hits in one])
    assert some.stats == tuple(map(sum, zip(*(hits.stats for hits in one), strict=True)))
    assert some.stats == (index.search_furthest(queries, 7, recall=0.8, return_stats=True)).stats
    assert n > 5 or np.array_equal(some.ids, first.ids)
    with pytest.raises(ValueError, match="NaN"):
        index.search_furthest(np.where(queries == queries[-1], np.nan, queries), 7, recall=0.9)
    wrong: Any
    for wrong in (0, 2, "0.9", np.nan):
        with pytest.raises((TypeError, ValueError), match="recall"):
            index.search_furthest(queries, 7, recall=wrong)
    # Where they do much they are together, as they share it.
    monkeypatch.setattr(inside.search.singles, "KEPT_WORK", 0)
    asked.clear()
    index.search_furthest(queries, 7, recall=0.8)
    assert [one is None for one in asked] == [n >= 4]


@pytest.mark.parametrize("comparing", [0.02, 1e9])
@pytest.mark.parametrize("n", [3, 5, 12])
def test_few_queries_one_of_which_is_unlike_the_others(
        n: int, comparing: float, rng: np.random.Generator,
        monkeypatch: pytest.MonkeyPatch) -> None:
    """It is answered exactly; others may be compared: all as single queries are."""
    monkeypatch.setattr(inside.settings, "comparing", comparing)
    rows = clustered(rng, 9000, 16)
    index = index_of(rows).build(tune=[10])
    queries = rows[:n].copy()
    for _ in range(2):  # prepared, and known to do little
        index.search_furthest(queries, recall=0.8)
    queries[n // 2] *= 1e4
    other: farann.Index = pickle.loads(pickle.dumps(index))
    other.search_furthest(rows[0], recall=0.8)
    for one in (index, other):
        for watch in inside.tuning.watches_of(one):
            watch.forget()
    monkeypatch.setattr(inside.search.singles, "_MOST_EXACT", 0)
    hits = index.search_furthest(queries, recall=0.8, return_stats=True)
    singles = [other.search_furthest(query, recall=0.8, return_stats=True) for query in queries]
    assert np.array_equal(hits.ids, [one.ids for one in singles])
    assert np.array_equal(hits.scores, [one.scores for one in singles])
    assert hits.stats == tuple(map(sum, zip(*(one.stats for one in singles), strict=True)))
    assert hits.stats.queries_guarded == 1
    assert (hits.stats.rows_scanned > 4000 * n) == (comparing > 1)  # an exact one scans half
    exact = furthest(queries[n // 2 : n // 2 + 1], rows, 10, "l2")
    assert np.array_equal(hits.ids[n // 2], exact.ids[0])


@pytest.mark.parametrize("said", [
    {"threads": 2}, {"threads": -1}, {"threads": 4096, "return_stats": False},
    dict.fromkeys(("recall", "per_group", "ids", "beyond", "exclude", "epsilon", "budget"))
    | {"threads": None, "return_keys": False}])
def test_defaults_and_threads_are_answered_by_the_cache(
        said: dict[str, Any], rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    """As who wraps a search hands all of its arguments on."""
    rows = rng.standard_normal((300, 8), dtype=np.float32)
    index = index_of(rows).build()
    for search in (index.search_furthest, index.search_nearest):
        if search == index.search_furthest:
            said = {name: value for name, value in said.items() if name != "beyond"}
        single, some = search(rows[0], 5), search(rows[:3], 5)
        asked, again = list[Any](), inside.search.singles.again
        with monkeypatch.context() as patched:
            patched.setattr(inside.search.singles, "again",
                            lambda *args, asked=asked: asked.append(again(*args)) or asked[-1])
            assert_same(search(rows[0], 5, **said), single)
            assert_same(search(rows[:3], 5, **said), some)
        assert len(asked) == 2 and None not in asked
        wrong: Any
        for wrong in (0, True, 4097, 1.0, "2"):
            with pytest.raises((TypeError, ValueError), match="threads"):
                search(rows[0], 5, threads=wrong)


def test_few_queries_stay_together_where_there_is_one_thread(
        rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    """One by one they would each read all rows."""
    monkeypatch.setattr(inside.settings, "small_work_of_few", 1 << 19)
    rows = clustered(rng, 3000, 24)
    for threads in (1, 2):
        index = index_of(rows, codes="float32", threads=threads).build()
        for _ in range(5):
            index.search_furthest(rows[0])
            index.search_furthest(rows[:3])
        assert len(inside.store.of(index).batches) == (threads == 1)


def test_a_recall_that_exact_searches_reach_for_less(
        rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    """Few queries stay together then, too: they are known to be answered exactly."""
    monkeypatch.setattr(inside.search.singles, "KEPT_WORK", 0)
    rows = rng.standard_normal((300, 8), dtype=np.float32)
    index = index_of(rows, threads=1).build()
    index.tune(k=10)
    expected = furthest(rows[:3], rows, 10, "l2")
    for _ in range(5):
        assert_same(index.search_furthest(rows[:3], recall=0.99), expected)
    store = inside.store.of(index)
    assert [rule for _, rule in store.rules.values()] == [None]
    assert {key[-1] for key in store.batches} == {None}


@pytest.mark.parametrize("make", [
    lambda q: q.astype(np.float64), lambda q: q.astype(np.float16), lambda q: q.tolist(),
    lambda q: np.asfortranarray(q), lambda q: np.repeat(q, 2, axis=-1)[..., ::2],
    lambda q: q.astype(np.int32)])
@pytest.mark.parametrize("recall", [None, 0.8])
def test_queries_of_other_types_use_the_cache(
        make: Callable[[Float32], Any], recall: float | None, rng: np.random.Generator,
        monkeypatch: pytest.MonkeyPatch) -> None:
    """The float64 of numpy's default, lists, other strides: they are converted, no more."""
    rows = np.rint(9.0 * clustered(rng, 3000, 24)).astype(np.float16).astype(np.float32)
    index, _ = alike_pair(rows, monkeypatch)
    index.tune(k=10, nearest=True)
    for search in (index.search_furthest, index.search_nearest):
        ask = partial(search, k=10, recall=recall)
        for queries in (rows[5], rows[:3], rows[:20]):
            expected = [ask(queries) for _ in range(3)][-1]
            with monkeypatch.context() as patched:
                patched.setattr(inside.settings, "top_of_search", None)  # the long way
                assert_same(ask(make(queries)), expected)


SIZES = (2, 9, 16, 5, 12, 10, 16, 3, 33, 40, 64, 7, 6, 8, 2, 200, 256, 129, 9, 4)


def alike_pair(rows: Float32, monkeypatch: pytest.MonkeyPatch, metric: str = "dot",
               **options: Any) -> tuple[farann.Index, farann.Index]:
    """An index tuned for 10, and a copy; neither answers queries one by one."""
    monkeypatch.setattr(inside.search.singles, "go_one_by_one", lambda *_: False)
    for name in ("kept_work", "small_work", "small_work_of_few"):
        monkeypatch.setattr(inside.settings, name, 2**40)
    index = index_of(rows, metric, threads=1, **options).build(tune=[10])
    return index, pickle.loads(pickle.dumps(index))


@pytest.mark.parametrize("recall", [None, 0.8])
@pytest.mark.parametrize("level", LEVELS)
def test_batches_of_about_one_size_share_a_search(
        level: str, recall: float | None, rng: np.random.Generator, searched: list[object],
        monkeypatch: pytest.MonkeyPatch) -> None:
    """Also the larger ones behind the smaller, which found less room needed."""
    rows = clustered(rng, 6000, 24)
    for options in ({"codes": "float32"}, {"cells": 30}, {}):
        index, other = alike_pair(rows, monkeypatch, **options)
        for one in (index, other):
            inside.store.use_level(one, level)
        for first in (6, 9, 17):
            for n in (first, first, *range(first, 1 + (1 << (first - 1).bit_length()))):
                queries = clustered(rng, n, 24)
                before = len(searched)
                hits = index.search_furthest(queries, recall=recall)
                assert_same(hits, in_general(other, queries, recall=recall))
            assert len(searched) == before + 1 or recall
        assert len(searched) > 20
        searched.clear()


@pytest.mark.parametrize("options", [{}, {"cells": 40}, {"codes": "int4", "keep_vectors": False}])
def test_approximate_batches_that_are_kept(options: dict[str, Any], rng: np.random.Generator,
                                           searched: list[object],
                                           monkeypatch: pytest.MonkeyPatch) -> None:
    """They find, count and compare what others do: also where some are unlike the sample, where
    too little is found, and afterwards."""
    vectors = clustered(rng, 12_000, 16)
    index, other = alike_pair(vectors[:9000], monkeypatch, **options)
    monkeypatch.setattr(inside.settings, "comparing", 0.5)
    for turn in range(12):
        for n in SIZES:
            for _ in range(3):
                queries = vectors[9000:][rng.integers(3000, size=n)]
                if turn % 4 == 2 and n in (9, 16):
                    queries[1::3] *= -5
                elif turn % 4 == 3:
                    queries[:, :8] = 0
                hits = index.search_furthest(queries, recall=0.9, return_stats=True)
                expected = in_general(other, queries, recall=0.9, return_stats=True)
                assert_same(hits, expected)
                assert hits.stats == expected.stats
    asked = [np.asarray(one) for one in searched if np.asarray(one).ndim == 2]
    assert len(asked) > 100


def test_unlike_queries_in_a_batch_that_is_kept(rng: np.random.Generator, searched: list[object],
                                                monkeypatch: pytest.MonkeyPatch) -> None:
    rows = clustered(rng, 9000, 16)
    queries = rows[:10]
    index, other = alike_pair(rows, monkeypatch, "l2")
    for _ in range(3):
        assert index.search_furthest(queries, recall=0.8, return_stats=True).stats[-1] == 0
    assert len(searched) > 0
    unlike = queries.copy()
    unlike[7] *= 1e4
    hits = index.search_furthest(unlike, recall=0.8, return_stats=True)
    assert hits.stats.queries_guarded == 1
    assert np.array_equal(hits.ids[7], furthest(unlike[7:8], rows, 10, "l2").ids[0])
    expected = in_general(other, unlike, recall=0.8, return_stats=True)
    assert_same(hits, expected)
    assert hits.stats == expected.stats


def test_a_new_table_is_used_by_kept_batches(rng: np.random.Generator, searched: list[object],
                                             monkeypatch: pytest.MonkeyPatch) -> None:
    index, _ = alike_pair(rng.standard_normal((8000, 12), dtype=np.float32), monkeypatch)
    queries = rng.standard_normal((12, 12), dtype=np.float32)
    for effort in (640.0, 64.0, 1280.0):
        inside.tuning.replace(index, 10, Tuning(10, (effort, np.inf), (0.9, 1.0), (0.1, 1.0)))
        for _ in range(4):
            hits = index.search_furthest(queries, recall=0.8, return_stats=True)
            assert hits.stats.rows_scanned == 12 * effort
    assert len(searched) == 8  # not the first two; a new table is followed at once


def test_a_few_queries_see_one_state_of_the_index(rng: np.random.Generator) -> None:
    """Also while another thread changes it."""
    rows = rng.standard_normal((300, 8), dtype=np.float32)
    queries = rows[[0] * 5]
    index, done = farann.Index(), threading.Event()
    index.add(rows)

    def change() -> None:
        while not done.is_set():
            index.add(rows[:1] * -100, ids=[999])
            index.remove(999)

    changes = threading.Thread(target=change)
    changes.start()
    seen = set[int]()
    try:
        for number in range(1_000_000):
            found = np.unique(index.search_furthest(queries, 1).ids)
            assert len(found) == 1
            seen.add(int(found[0]))
            if len(seen) == 2 and number > 500:
                break
    finally:
        done.set()
        changes.join()
    assert len(seen) == 2
