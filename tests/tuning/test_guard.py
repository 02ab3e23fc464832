"""Queries unlike those that a recall was measured with are told, answered exactly, and counted."""

from __future__ import annotations

import pickle
import warnings

import inside
import numpy as np
import pytest
import reference
from approximate_cases import recall_of
from cases import Float32, assert_same, float32, in_turn, index_of
from guard_cases import TARGET, N, around, guarded, guards_of, middles_of, unlike
from numpy.typing import NDArray
from reference import METRICS

import farann
from farann import RecallWarning

ASKED = 150


@pytest.fixture(scope="module", params=in_turn([(None, 24), (60, 24), (None, 100)]), ids=str)
def index(request: pytest.FixtureRequest) -> farann.Index:
    (cells, dim), metric = request.param
    rows = around(middles_of(dim), N, 1)
    return index_of(rows, metric, cells=cells, threads=1).build(tune=[10])


@pytest.fixture(scope="module")
def plain() -> farann.Index:
    return index_of(around(middles_of(24), N, 1), "dot", threads=1).build(tune=[10])


def bare(index: farann.Index, queries: Float32) -> NDArray[np.int64]:
    """What a search finds without a guard."""
    guard = guards_of(index)[10]
    inside.tuning.replace(index, 10, guard=None)
    try:
        return index.search_furthest(queries, recall=TARGET).ids
    finally:
        inside.tuning.replace(index, 10, guard=guard)


def worst_of(index: farann.Index) -> float:
    """The least recall of kinds of queries that are unlike the rows, by as many rows for all."""
    assert index.dim is not None
    table = inside.tuning.tables_of(index)[10]
    rule = inside.tuning.rule_of(table.effort_for(TARGET), deviations=False)
    snapshot = inside.store.snapshot_of(index)
    return min(recall_of(inside.native.run(inside.native.task_of(
        snapshot, queries, 10, rule=rule), len(queries), 10).ids,
        index.search_furthest(queries).ids)
        for queries in unlike(index.dim, ASKED, index.metric).values())


class TestRecall:
    def test_queries_like_the_rows(self, index: farann.Index) -> None:
        """Hardly any is guarded, and answers of a batch are the same as without a guard."""
        assert index.dim is not None
        queries = around(middles_of(index.dim), 1000, 2)
        hits, number = guarded(index, queries)
        assert number <= 3
        assert recall_of(hits.ids, index.search_furthest(queries).ids) >= TARGET - 0.015
        if number == 0:
            assert np.array_equal(hits.ids, bare(index, queries))
        one_by_one = sum(guarded(index, query)[1] for query in queries[:300])
        assert one_by_one <= 9

    def test_queries_unlike_the_rows(self, index: farann.Index) -> None:
        assert index.dim is not None
        for name, queries in unlike(index.dim, ASKED, index.metric).items():
            truth = index.search_furthest(queries)
            hits, number = guarded(index, queries)
            assert number >= 0.95 * ASKED, name
            assert recall_of(hits.ids, truth.ids) >= TARGET - 0.01, name
            for i in (0, 1, 2):
                one, alone = guarded(index, queries[i])
                if alone:
                    assert np.array_equal(one.ids, truth.ids[i])
                    assert one.scores.tobytes() == truth.scores[i].tobytes()
        # There is something to guard against.
        if inside.store.of(index).partitions is None:
            assert worst_of(index) < 0.5

    @pytest.mark.parametrize(("dim", "metric"), [(24, "l2"), (24, "cosine"), (100, "cosine")])
    def test_directions_that_the_sample_lacks(self, metric: str, dim: int) -> None:
        """No group tells these queries apart: they are hardly further from any of the rows."""
        random = np.random.default_rng(0)

        def along(n: int, noise: float) -> Float32:
            vectors = noise * random.standard_normal((n, dim))
            vectors[:, :8] = random.standard_normal((n, 8))
            return float32(vectors)

        guard = inside.tuning.make_guard(along(8000, 0.05), metric != "l2", 0, inside.levels()[-1])
        alike, others = guard.unlike(along(1000, 0.05), 1), guard.unlike(along(1000, 0.3), 1)
        assert alike is None or len(alike) < 15
        assert others is not None and len(others) > 900

    def test_longer_queries_are_others_under_l2_alone(self, index: farann.Index) -> None:
        assert index.dim is not None
        queries = around(middles_of(index.dim), ASKED, 3)
        for factor in (2.0**-40, 8.0, 2.0**40):
            number = guarded(index, np.float32(factor) * queries)[1]
            if index.metric != "l2":
                assert number == 0
            elif factor > 1.0:
                assert number == ASKED

    def test_single_guarded_queries_do_what_exact_ones_do(self, plain: farann.Index) -> None:
        """Not the approximate search first, from the second one on."""
        distant = unlike(24, 8, "dot")["distant"]
        for query in distant:
            one = plain.search_furthest(query, recall=TARGET, return_stats=True)
            work = one.stats
            exact = plain.search_furthest(query, return_stats=True)
            alone = exact.stats
            assert work == alone._replace(queries_guarded=1)
            assert np.array_equal(one.ids, exact.ids)
            assert one.scores.tobytes() == exact.scores.tobytes()

    def test_late_single_queries_do_little_more(self, plain: farann.Index) -> None:
        """Suspects, query after query: each is searched for twice, not more often."""
        alike = around(middles_of(24), 40, 6)
        plain.search_furthest(alike[0], recall=TARGET)
        for watch in inside.tuning.watches_of(plain):
            watch.take(np.full((200, 2), 1e9, np.float32), 1)
            assert watch.left > 0
        done = [plain.search_furthest(query, recall=TARGET, return_stats=True).stats
                for query in alike]
        for watch in inside.tuning.watches_of(plain):
            watch.forget()
        exact = [plain.search_furthest(query, return_stats=True).stats for query in alike]
        guarded_ones = [i for i, work in enumerate(done) if work.queries_guarded]
        assert guarded_ones
        assert all(done[i].rows_scanned <= 2 * exact[i].rows_scanned for i in guarded_ones)

    def test_what_a_search_does(self, plain: farann.Index) -> None:
        """A guarded query scans all rows, another one some."""
        alike = around(middles_of(24), 64, 4)
        distant = unlike(24, 64, "dot")["distant"]
        few = plain.search_furthest(alike, recall=TARGET, return_stats=True).stats
        all_rows = plain.search_furthest(distant, recall=TARGET, return_stats=True).stats
        exact = plain.search_furthest(distant, return_stats=True).stats
        assert few.queries_guarded == 0 and few.rows_scanned < 0.5 * N * 64
        assert all_rows == exact._replace(queries_guarded=64)
        assert plain.stats()["last_search"]["queries_guarded"] == 0


class TestBatches:
    @pytest.mark.parametrize("threads", [1, 3])
    def test_some_of_them(self, plain: farann.Index, threads: int) -> None:
        """Each answer is in its place: exact where guarded, the same as ever elsewhere. As many are
        guarded, 60 of the others are compared."""
        alike, distant = around(middles_of(24), 1500, 4), unlike(24, 300, "dot")["swapped"]
        queries = np.vstack([alike, distant])
        order = np.random.default_rng(1).permutation(len(queries))
        hits, number = guarded(plain, queries[order], threads=threads)
        assert 360 <= number <= 380
        truth = plain.search_furthest(queries)
        there = np.argsort(order)
        assert_same(farann.Hits(hits.ids[there[1500:]], hits.scores[there[1500:]]),
                    farann.Hits(truth.ids[1500:], truth.scores[1500:]))
        assert recall_of(hits.ids[there[:1500]], truth.ids[:1500]) >= TARGET - 0.015

    def test_filters(self, plain: farann.Index) -> None:
        queries = np.vstack([around(middles_of(24), 30, 4), unlike(24, 30, "dot")["swapped"]])
        queries = queries[np.random.default_rng(1).permutation(60)]
        allowed = np.random.default_rng(2).random(N) < 0.7
        best = plain.search_furthest(queries, 60).ids
        lists = [ids[: 3 + i] for i, ids in enumerate(best)]
        for exclude in (None, best, lists):
            truth = plain.search_furthest(queries, allowed=allowed, exclude=exclude)
            hits, number = guarded(plain, queries, allowed=allowed, exclude=exclude)
            assert 30 <= number <= 60
            same = (hits.ids == truth.ids).all(axis=1)
            assert same.sum() >= 30 and allowed[hits.ids].all()
            if exclude is not None:
                assert not any(np.isin(a, b).any() for a, b in zip(hits.ids, exclude, strict=True))

    def test_as_many_as_chance_has_stay(self, plain: farann.Index,
                                        monkeypatch: pytest.MonkeyPatch) -> None:
        guard, queries = guards_of(plain)[10], around(middles_of(24), 4000, 9)
        marks = np.zeros(4000, np.uint8)
        found = guard.tests.find(queries, 0, 4000, marks)
        assert found == marks.sum() and 4 <= found <= 60
        picked = guard.unlike(queries, 1)
        assert picked is None or len(picked) < found

        def unlike_of(some: Float32, k: int = 1) -> NDArray[np.int64]:
            picked = guard.unlike(some, k)
            assert picked is not None
            return picked

        # One alone, or more than chance has, are guarded.
        some = np.flatnonzero(marks)
        assert unlike_of(queries[some[:1]]).tolist() == [0]
        assert len(unlike_of(queries[some])) == found
        # As are few that are far off.
        queries[[5, 70]] = unlike(24, 2, "dot")["rotated"]
        assert np.isin([5, 70], unlike_of(queries)).all()
        monkeypatch.setattr(inside.settings, "guard_far", 1.0)
        monkeypatch.setattr(inside.settings, "guard_part", 100)
        assert len(unlike_of(queries, 2)) == len(set(some) | {5, 70})

    def test_nobody_asks(self, plain: farann.Index) -> None:
        hits, number = guarded(plain, np.empty((0, 24), np.float32))
        assert number == 0 and hits.ids.shape == (0, 10)


class TestWhatIsGuarded:
    def test_a_recall_alone(self, plain: farann.Index) -> None:
        queries = unlike(24, 20, "dot")["distant"]
        for limits in ({"budget": 2000}, {"epsilon": 0.1}, {"recall": 1.0}, {}):
            stats = plain.search_furthest(queries, return_stats=True, **limits).stats
            assert stats.queries_guarded == 0

    def test_tuned_for_other_queries(self, plain: farann.Index) -> None:
        """A guard is of the queries that the table was measured with, for each k."""
        index = pickle.loads(pickle.dumps(plain))
        users = around(middles_of(24, 1), 2500, 3)
        index.tune(users[:2000], k=5)
        alike = around(middles_of(24), ASKED, 4)
        assert guarded(index, users[2000:], k=5)[1] <= 6
        assert guarded(index, alike, k=5)[1] >= 0.98 * ASKED
        assert guarded(index, users[2000:], k=10)[1] >= 490
        # A build measures again with the same queries, and without them has others.
        for _ in range(2):
            index.build()
            assert guarded(index, users[2000:], k=5)[1] <= 6
        index.build(users[:2000])
        assert guarded(index, users[2000:], k=5)[1] <= 12

    def test_changed_rows(self, plain: farann.Index) -> None:
        index = pickle.loads(pickle.dumps(plain))
        distant = unlike(24, 30, "dot")["distant"]
        index.add(around(middles_of(24), 500, 8))
        index.remove(np.arange(0, N, 7))
        inside.search.finish_measuring(index, 10)
        assert guarded(index, distant)[1] == 30
        assert_same(guarded(index, distant)[0], index.search_furthest(distant))

    @pytest.mark.parametrize("codes", ["int8", "int4"])
    def test_codes_alone(self, codes: str) -> None:
        """All codes are scanned then, as with a budget of all rows."""
        index = index_of(around(middles_of(24), 8000, 1), "dot", codes=codes, cells=40,
                         keep_vectors=False).build(tune=[10])
        distant = unlike(24, 30, "dot")["distant"]
        hits, number = guarded(index, distant)
        assert number == 30
        assert_same(hits, index.search_furthest(distant, budget=8000))
        assert guarded(index, around(middles_of(24), ASKED, 2))[1] <= 3

    @pytest.mark.parametrize("metric", METRICS)
    def test_few_queries_to_learn_from(self, metric: str) -> None:
        """Few say little about others: these are guarded rather too often than too rarely."""
        index = index_of(around(middles_of(24), 6000, 1), metric).build()
        for n in (1, 2, 3):
            if np.isinf(index.tune(around(middles_of(24), n, 3)).effort_for(TARGET)):
                continue
            for queries in unlike(24, 10, metric).values():
                hits, number = guarded(index, queries)
                assert number >= 9
        for n, least in ((17, 0), (60, 0), (500, 90)):
            index.tune(around(middles_of(24), n, 3))
            assert guarded(index, unlike(24, 100, metric)["rotated"])[1] >= least
            assert guarded(index, around(middles_of(24), 100, 4))[1] <= 100 - least


class TestHostile:
    @pytest.mark.parametrize(("metric", "scale"), [
        ("l2", 1e-30), ("dot", 1e-30), ("cosine", 1e-15), ("dot", 1e15), ("l2", 1e30),
        ("cosine", 1e30)])
    def test_scales(self, metric: str, scale: float) -> None:
        """Rows of any size have a guard that knows queries like them from others."""
        rows = around(middles_of(100), 6000, 1) * np.float32(scale)
        alike, other = around(middles_of(100), 50, 2), unlike(100, 50, metric)["swapped"]
        with np.errstate(over="ignore"):
            index = index_of(rows, metric).build(tune=[10])
            for unscaled, least, most in ((alike, 0, 5), (other, 45, 50)):
                queries = unscaled * np.float32(scale)
                hits, number = guarded(index, queries)
                plan = inside.tuning.tables_of(index)[10]
                if scale == 1e30 and metric != "cosine":  # the least effort finds all, of any query
                    assert_same(hits, index.search_furthest(queries))
                elif (inside.store.of(index).codes is not None
                        and plan.effort_for(TARGET) < np.inf):  # else all are answered exactly
                    assert least <= number <= most
                if number == 50:
                    assert_same(hits, index.search_furthest(queries))

    @pytest.mark.parametrize("metric", METRICS)
    def test_rows_without_spread(self, metric: str) -> None:
        random = np.random.default_rng(0)
        few = random.standard_normal((3, 12), dtype=np.float32)
        rows = np.repeat(few, 2000, axis=0)
        queries = np.vstack([few, 100 * few, random.standard_normal((9, 12), dtype=np.float32)])
        for of in (rows, rows[:2000], rows[:1], rows[:70]):
            index = index_of(of, metric).build()
            for k in (1, 7, len(of) + 3):
                hits, _ = guarded(index, queries, k=k)
                truth = index.search_furthest(queries, k)
                assert (hits.ids >= 0).sum() == (truth.ids >= 0).sum()
                if k >= len(of):
                    assert np.array_equal(np.sort(hits.ids, axis=1), np.sort(truth.ids, axis=1))

    def test_vectors_that_float32_hardly_holds(self, plain: farann.Index) -> None:
        for value in (3e38, 1e25, 0.0, 1e-44):
            queries = np.full((9, 24), value, np.float32)
            queries[:, ::2] *= -1
            for asked in (queries, queries[0]):
                hits, number = guarded(plain, asked)
                if number:
                    truth = plain.search_furthest(asked)
                    assert np.array_equal(hits.ids, truth.ids)
        with pytest.raises(ValueError, match="queries"):
            plain.search_furthest(np.full((2, 24), np.nan), recall=TARGET)
        distance = index_of(around(middles_of(24), 6000, 1)).build(tune=[10])
        assert guarded(distance, np.full((3, 24), 3e38, np.float32))[1] == 3

    def test_offset(self) -> None:
        """Far from the origin float32 has few digits left, and the guard still works."""
        rows = around(middles_of(130) + 1e4, 6000, 1)
        index = index_of(rows).build(tune=[10])
        assert guarded(index, around(middles_of(130) + 1e4, 400, 2))[1] <= 4
        assert guarded(index, around(middles_of(130, 1) + 1e4, 40, 2))[1] >= 38


class TestWarning:
    def test_once(self, plain: farann.Index) -> None:
        index = pickle.loads(pickle.dumps(plain))
        distant = unlike(24, 40, "dot")["distant"]
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            for query in around(middles_of(24), 500, 4):
                index.search_furthest(query, recall=TARGET)
            for query in distant[:4]:  # four may be chance
                index.search_furthest(query, recall=TARGET)
        with pytest.warns(RecallWarning, match=r"tune\(queries\)") as caught:
            for query in distant[4:]:
                index.search_furthest(query, recall=TARGET)
            index.search_furthest(distant, recall=TARGET)
        assert len(caught) == 1 and caught[0].filename == __file__
        index.tune(around(middles_of(24), 500, 4))
        with pytest.warns(RecallWarning, match="40 of 40") as caught:
            index.search_furthest(distant, recall=TARGET)
        assert caught[0].filename == __file__

    def test_not_of_queries_like_the_sample(self, index: farann.Index) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert index.dim is not None
            for seed in range(10, 14):
                index.search_furthest(around(middles_of(index.dim), 700, seed), recall=TARGET)


def test_the_oracle_agrees(plain: farann.Index) -> None:
    """Guarded answers against float64 brute force, not another search of the index."""
    queries = unlike(24, 12, "dot")["rotated"]
    hits, number = guarded(plain, queries)
    rows = plain.reconstruct(plain.ids)
    assert number == 12
    assert_same(hits, reference.furthest(queries, rows, 10, "dot"))
