"""Without cells: where more answers come late in a search than usual, late ones are exact."""

from __future__ import annotations

import pickle
import warnings
from pathlib import Path
from typing import Any

import inside
import numpy as np
import pytest
from approximate_cases import recall_of
from cases import Float32, assert_same, float32, index_of
from inside import core

import farann
from farann import RecallWarning
from farann.tuning import Tuning

N, DIM, ASKED = 20_000, 24, 300


def skewed(n: int, seed: int) -> Float32:
    """Most are on one side, a few are long, or on the other: mirrored, they are among these."""
    random = np.random.default_rng(seed)
    size = np.where(random.random((n, 1)) < 0.1, 1.5, 0.6)
    side = np.where(random.random((n, 1)) < 0.85, 0.5, -0.5)
    return float32(random.standard_normal((n, DIM)) * size + side)


@pytest.fixture(scope="module")
def index() -> farann.Index:
    return index_of(skewed(N, 0), "dot", threads=1).build(tune=[10, 20])


def table_of(index: farann.Index, k: int) -> Tuning:
    return inside.store_of(index).tunings.by_k[k]


def otherwise(index: farann.Index, k: int, **changes: Any) -> farann.Index:
    """The same index with another table."""
    other: farann.Index = pickle.loads(pickle.dumps(index))
    by_k = inside.store_of(other).tunings.by_k
    by_k[k] = by_k[k]._replace(**changes)
    return other


class TestRecall:
    @pytest.mark.parametrize("k", [10, 20])
    def test_mirrored(self, index: farann.Index, k: int) -> None:
        """Nothing about these queries is unusual but what answers them."""
        queries = -skewed(ASKED, 1)
        truth = index.search_furthest(queries, k).ids
        bare = otherwise(index, k, late=()).search_furthest(queries, k, recall=0.95).ids
        assert recall_of(bare, truth) < 0.9
        hits, stats = index.search_furthest(queries, k, recall=0.95, return_stats=True)
        assert recall_of(hits.ids, truth) >= 0.94
        assert stats.queries == ASKED and stats.queries_guarded > 0.5 * ASKED

    @pytest.mark.parametrize("seed", [2, 3, 4])
    def test_like_the_rows(self, index: farann.Index, seed: int) -> None:
        """Some are late, as in the sample, and stay approximate."""
        queries = skewed(1000, seed)
        hits, stats = index.search_furthest(queries, recall=0.95, return_stats=True)
        assert stats.queries_guarded <= 15
        bare = otherwise(index, 10, late=()).search_furthest(queries, recall=0.95)
        assert (hits.ids == bare.ids).all(axis=1).sum() >= 985

    def test_some_of_a_batch(self, index: farann.Index) -> None:
        """A fifth of a batch is told, too, and each answer is in its place."""
        queries = np.vstack([skewed(1200, 2), -skewed(300, 3)])
        order = np.random.default_rng(0).permutation(1500)
        hits, stats = index.search_furthest(queries[order], recall=0.95, return_stats=True,
                                            threads=2)
        truth = index.search_furthest(queries[order])
        assert recall_of(hits.ids[order >= 1200], truth.ids[order >= 1200]) >= 0.94
        assert 150 < stats.queries_guarded < 1000
        assert (hits.ids == truth.ids).all(axis=1).sum() > stats.queries_guarded

    def test_one_by_one(self, index: farann.Index) -> None:
        """After some of them; and not before, nor when queries are like the sample again."""
        other = otherwise(index, 10)
        queries = -skewed(200, 3)
        truth = other.search_furthest(queries)
        found, guarded = [], []
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            for query in queries[:5]:
                other.search_furthest(query, recall=0.95)
        with pytest.warns(RecallWarning) as caught:
            for i, query in enumerate(queries):
                hits, stats = other.search_furthest(query, recall=0.95, return_stats=True)
                found.append(hits.ids)
                guarded.append(stats.queries_guarded)
                if stats.queries_guarded:
                    assert np.array_equal(hits.ids, truth.ids[i])
                    assert hits.scores.tobytes() == truth.scores[i].tobytes()
        assert len(caught) == 1 and caught[0].filename == __file__
        assert sum(guarded[:5]) == 0 and sum(guarded[100:]) > 40
        assert recall_of(np.array(found[100:]), truth.ids[100:]) >= 0.93
        alike = [other.search_furthest(query, recall=0.95, return_stats=True)[1].queries_guarded
                 for query in skewed(400, 6)]
        assert sum(alike[200:]) <= 6

    def test_filters(self, index: farann.Index) -> None:
        queries = -skewed(60, 4)
        best = index.search_furthest(queries, 30).ids
        truth = index.search_furthest(queries, exclude=best)
        hits, stats = index.search_furthest(queries, recall=0.95, exclude=best, return_stats=True)
        assert stats.queries_guarded > 30 and recall_of(hits.ids, truth.ids) >= 0.9
        assert not any(np.isin(a, b).any() for a, b in zip(hits.ids, best, strict=True))

    def test_neither_with_cells_nor_a_budget(self, index: farann.Index) -> None:
        queries = -skewed(60, 4)
        stats = index.search_furthest(queries, budget=2000, return_stats=True)[1]
        assert stats.queries_guarded == 0 and stats.rows_scanned <= 60 * 2000
        cells = index_of(skewed(N, 0), "dot", cells=60).build(tune=[10])
        assert not table_of(cells, 10).late


class TestWhatIsLate:
    """By the positions of what is found, in numpy."""

    @pytest.mark.parametrize("isa", inside.levels())
    @pytest.mark.parametrize("k", [1, 3, 10, 70])
    def test_by_positions(self, index: farann.Index, isa: str, k: int) -> None:
        store, queries = inside.store_of(index), -skewed(64, 5)
        assert store.codes is not None and store.codes.slots is not None
        slots = store.codes.slots[store.codes.slots >= 0]
        keys = -queries.astype(np.float64) @ store.base.astype(np.float64).T
        snapshot, late = store.view(isa).snapshot, 0
        for effort in (2048.0, 6000.0, 16_000.0):
            scanned = min(-(-int(effort) // 16) * 16, len(slots))
            noted = min(scanned // 4, len(store.codes.panels) // 16) // (1 if k > 3 else 2)
            noted = -(-noted // 16) * 16
            found = np.argsort(-keys[:, slots[:scanned]], axis=1)[:, :k]
            number = (found >= noted).sum(axis=1)
            task = core.ApproximateTask(snapshot, core.Filter(snapshot), queries, 0, 64, k,
                                         effort, tells_late=True)
            task.run()
            marks = np.full(70, 2, np.uint8)
            task.late_to(marks, 3)
            assert (marks[:3] == 2).all() and (marks[67:] == 2).all()
            # Rough scores may have two rows in the other order.
            wanted = (2 * number >= k) + (10 * number >= k).astype(np.int64)
            assert (marks[3:67] == wanted).mean() > 0.9
            late += int((marks[3:67] == 2).sum())
            for i in range(5):
                one = core.ApproximateTask(snapshot, core.Filter(snapshot), queries, i, i + 1,
                                            k, effort, tells_late=True)
                one.run()
                one.late_to(marks, 0)
                assert marks[0] == marks[3 + i]
        assert late > 0 or k > 10

    def test_not_asked_for(self, index: farann.Index) -> None:
        snapshot = inside.snapshot_of(index)
        task = core.ApproximateTask(snapshot, core.Filter(snapshot), -skewed(5, 5), 0, 5, 10,
                                     2048.0)
        task.run()
        marks = np.full(5, 2, np.uint8)
        task.late_to(marks, 0)
        assert (marks == 2).all()

    def test_more_than_usual(self, index: farann.Index) -> None:
        """What chance has is usual in a batch; alone, what adds up slowly isn't."""
        def guard() -> core.Guard:
            return inside.store_of(otherwise(index, 10)).tunings.guards[10].tests

        assert not guard().are_late(1000, 240, 0.2) and guard().are_late(1000, 400, 0.2)
        assert not guard().are_late(4, 4, 0.2) and guard().are_late(20, 20, 0.2)
        one = guard()
        assert [one.are_late(1, 1, 0.2) for _ in range(20)].index(True) == 14
        assert not any([one.are_late(1, 0, 0.2) for _ in range(80)][-10:])
        assert not any(one.are_late(1, int(i % 4 == 0), 0.2) for i in range(1000))


class TestTables:
    def test_shares(self, index: farann.Index) -> None:
        table = table_of(index, 10)
        assert len(table.late) == len(table.efforts)
        assert all(0.0 <= share <= 1.0 for share in table.late)
        assert table.late_at(table.efforts[2]) == table.late[2]
        assert np.isnan(table.late_at(np.inf)) and np.isnan(table._replace(late=()).late_at(2048.0))

    def test_kept_in_files(self, index: farann.Index, tmp_path: Path) -> None:
        index.save(tmp_path / "index")
        loaded = farann.Index.load(tmp_path / "index")
        assert table_of(loaded, 10).late == table_of(index, 10).late
        queries = -skewed(60, 4)
        assert_same(loaded.search_furthest(queries, recall=0.95),
                    index.search_furthest(queries, recall=0.95))

    def test_older_files(self, index: farann.Index, tmp_path: Path) -> None:
        """Their tables don't say what is usual, and searches are as they were."""
        index.save(tmp_path / "index")
        metadata, arrays = inside.format.read_file(tmp_path / "index", mmap=False)
        late = metadata.pop("late")
        assert [k for k, _ in late] == [10, 20]
        inside.format.write_file(tmp_path / "old", metadata, arrays)
        old = farann.Index.load(tmp_path / "old")
        assert table_of(old, 10) == table_of(index, 10)._replace(late=(), target=0.95)
        stats = old.search_furthest(-skewed(60, 4), recall=0.95, return_stats=True)[1]
        assert stats.queries_guarded < 30
        shares = late[0][1]
        for damaged in (3, [[11, shares]], [[10, shares[1:]]], [[10, ["a"] * len(shares)]],
                        [[10, [-0.1, *shares[1:]]]], [[10, [1.5, *shares[1:]]]], [10]):
            inside.format.write_file(tmp_path / "bad", metadata | {"late": damaged}, arrays)
            with pytest.raises(farann.FormatError, match="late"):
                farann.Index.load(tmp_path / "bad")
