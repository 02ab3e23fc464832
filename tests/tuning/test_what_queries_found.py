"""Queries unlike the sample are told by what they found, where place and lateness tell little."""

from __future__ import annotations

import pickle
from typing import Any

import inside
import numpy as np
import pytest
from approximate_cases import recall_of
from cases import Float32, float32, index_of
from inside import core

import farann

N, DIM, N_CENTERS, ASKED = 20_000, 64, 400, 300


def centers_of(seed: int) -> Float32:
    return float32(np.random.default_rng(seed).standard_normal((N_CENTERS, DIM)))


def around(n: int, seed: int, centers: int = 0) -> Float32:
    random = np.random.default_rng(seed)
    which = random.integers(N_CENTERS, size=n)
    return float32(centers_of(centers)[which] + 0.5 * random.standard_normal((n, DIM)))


@pytest.fixture(scope="module")
def plain() -> bytes:
    return pickle.dumps(index_of(around(N, 1), "l2", threads=1).build(tune=[10]))


@pytest.fixture(scope="module")
def nearest() -> bytes:
    return pickle.dumps(index_of(around(N, 1), "cosine", threads=1, cells=150).build(
        tune=[10], nearest=True))


def searched(saved: bytes, queries: Float32, recall: float, batch: int,
             nearest: bool = False) -> tuple[float, float]:
    """What is found of what exact searches find, and the share answered exactly, by an index that
    was not asked before."""
    index: farann.Index = pickle.loads(saved)
    search = index.search_nearest if nearest else index.search_furthest
    truth, found, guarded = search(queries).ids, [], 0
    for start in range(0, len(queries), batch):
        some = queries[start] if batch == 1 else queries[start : start + batch]
        hits = search(some, recall=recall, return_stats=True)
        found.append(np.atleast_2d(hits.ids))
        guarded += hits.stats.queries_guarded
    return recall_of(np.vstack(found), truth), guarded / len(queries)


@pytest.mark.filterwarnings("ignore::farann.RecallWarning")
class TestRecall:
    @pytest.mark.parametrize("batch", [1, 40, ASKED])
    @pytest.mark.parametrize("share", [0.2, 1.0])
    def test_mirrored_around_many_centers(self, plain: bytes, share: float, batch: int) -> None:
        few = round(share * ASKED)
        queries = np.vstack([around(ASKED - few, 2), -around(few, 3)])
        queries = queries[np.random.default_rng(0).permutation(ASKED)]
        assert searched(plain, queries, 0.95, batch)[0] >= 0.92

    @pytest.mark.parametrize("batch", [1, ASKED])
    def test_other_centers_in_partitions(self, nearest: bytes, batch: int) -> None:
        assert searched(nearest, around(ASKED, 4, centers=9), 0.95, batch, nearest=True)[0] >= 0.92

    @pytest.mark.parametrize("batch", [1, 50, 500])
    def test_others_like_those_that_the_guard_found(self, batch: int) -> None:
        """Two in three are guarded; the rest found .3, by lateness and last keys as usual."""
        random = np.random.default_rng(1)
        centers = random.standard_normal((300, 48))

        def some(n: int) -> Float32:
            which = random.integers(0, 300, n)
            return float32(centers[which] + 0.35 * random.standard_normal((n, 48)))

        saved = pickle.dumps(index_of(some(N), "l2", threads=1).build(tune=[10]))
        # In the first 30 or so nobody can know.
        assert searched(saved, -some(500), 0.9, batch)[0] >= (0.9 if batch > 1 else 0.87)

    @pytest.mark.parametrize("batch", [1, 40, 1000])
    def test_like_the_rows(self, plain: bytes, nearest: bytes, batch: int) -> None:
        """Hardly any is answered exactly, but where queries found too little by chance."""
        for saved, is_nearest in ((plain, False), (nearest, True)):
            each = [searched(saved, around(1000, seed), 0.95, batch, is_nearest)
                    for seed in (5, 6, 7)]
            assert min(found for found, _ in each) >= 0.93
            assert np.mean([guarded for _, guarded in each]) <= 0.08

    def test_the_same_calls_give_the_same_answers(self, plain: bytes) -> None:
        queries = np.vstack([around(100, 2), -around(100, 3)])
        found = []
        for _ in range(2):
            index = pickle.loads(plain)
            found.append([index.search_furthest(part, recall=0.9).ids.tobytes()
                          for part in (queries, queries[:50], *queries[80:140])])
        assert found[0] == found[1]

    @pytest.mark.parametrize(("metric", "added"), [
        ("l2", "alike"), ("l2", "by no query found"), ("dot", "far out"), ("dot", "alike"),
        ("cosine", "by no query found")])
    def test_added_and_removed_rows(self, metric: str, added: str) -> None:
        """What queries found is compared in the rows of the build that are left."""
        index = index_of(around(N, 1), metric, threads=1).build(tune=[10])
        more = around(N // 3, 7) * float32({"alike": 1.0, "far out": 3.0}.get(added, 0.01))
        for some in np.array_split(more, 7):
            index.add(some)
        index.remove(np.arange(0, N, 3))
        queries, mirrored = around(600, 8), -around(ASKED, 3)
        for batch in (1, 600):
            alike = [index.search_furthest(queries[at : at + batch], recall=0.95,
                                           return_stats=True).stats.queries_guarded
                     for at in range(0, 600, batch)]
            assert sum(alike) <= 0.12 * 600
        truth = index.search_furthest(mirrored).ids
        assert recall_of(index.search_furthest(mirrored, recall=0.95).ids, truth) >= 0.92

    def test_what_found_enough_is_left(self, plain: bytes,
                                       monkeypatch: pytest.MonkeyPatch) -> None:
        """Some are checked, not one after another until all are exact."""
        index = pickle.loads(plain)
        queries = around(600, 5)
        checked = []

        def all_found(before: Any, exact: Any) -> Any:
            checked.append(len(before))
            return np.ones(len(before))

        monkeypatch.setattr(inside.settings, "shares_found", all_found)
        stats = index.search_furthest(-queries, recall=0.8, return_stats=True).stats
        assert checked == [60] and stats.queries_guarded < 200

    def test_only_where_all_rows_may_be_found(self, plain: bytes) -> None:
        """Under a filter predictions of k-th keys don't hold."""
        queries = around(ASKED, 6)
        for filters in ({"exclude": np.arange(9)}, {"allowed": np.arange(N) % 2 == 0}):
            index = pickle.loads(plain)
            stats = index.search_furthest(queries, recall=0.9, return_stats=True, **filters).stats
            assert stats.queries_guarded <= 0.1 * ASKED


class TestKeyModel:
    @staticmethod
    def told(index: farann.Index, queries: Float32, nearest: bool = False) -> Any:
        """What exact searches tell of answers; mean and deviation of all keys, keys of the k-th."""
        store = inside.store.of(index)
        store = store.mirrored(index.isa) if nearest else store
        measured = store.tunings.by_k[10]
        assert measured.guard is not None and measured.guard.model is not None
        asked = store.spec.metric.mirrored(queries) if nearest else queries
        told = np.zeros((len(queries), 2), np.float32)
        snapshot = store.view(index.isa).snapshot
        task = inside.native.task_of(
            snapshot, asked, 10, nearest=store.by_nearest, tells_late=True,
            model=measured.guard.model, rule=inside.contract.StopRule(rows=2**62))
        task.run()
        task.witness_to(told, 0)
        return told

    @pytest.mark.parametrize("metric", core.METRICS)
    @pytest.mark.parametrize("nearest", [False, True])
    def test_by_all_keys(self, metric: str, nearest: bool) -> None:
        """Means and deviations of all keys in numpy."""
        random = np.random.default_rng(3)
        rows = float32(random.standard_normal((6000, 20)) * np.linspace(3, 0.3, 20) + 1.0)
        queries = float32(random.standard_normal((200, 20)) * np.linspace(3, 0.3, 20) + 1.0)
        index = index_of(rows, metric, threads=1).build(tune=[10], nearest=nearest)
        told = self.told(index, queries, nearest)
        points = rows / np.linalg.norm(rows, axis=1)[:, None] if metric == "cosine" else rows
        keys = queries @ points.T if nearest else -queries @ points.T
        if metric == "l2":
            keys = ((queries[:, None] - rows) ** 2).sum(axis=2) * (-1.0 if nearest else 1.0)
        kth = np.sort(keys, axis=1)[:, -10]
        wanted = -(kth - keys.mean(axis=1)) / keys.std(axis=1)
        assert np.abs(told[:, 1] / wanted - 1.0).mean() < 0.05

    def test_unknown(self) -> None:
        """Fewer than k rows, rows without spread: nothing is told, and searches go on."""
        for rows in (np.ones((3000, 5), np.float32), np.zeros((3000, 5), np.float32)):
            index = index_of(rows, "l2", threads=1).build(tune=[10])
            queries = float32(np.random.default_rng(0).standard_normal((50, 5)))
            assert (index.search_furthest(queries, recall=0.9).ids >= 0).all()

    def test_wrong_arguments(self) -> None:
        axes, terms = np.ones((16, 4), np.float32), np.ones((16, 2))
        core.KeyModel("scalar", axes, terms)
        for wrong in ((axes[:15], terms), (axes, np.ones((16, 3))), (axes[:, :0], terms)):
            with pytest.raises(ValueError, match="those of the dimension"):
                core.KeyModel("scalar", *wrong)
        with pytest.raises(ValueError, match="finite"):
            core.KeyModel("scalar", axes, terms * np.inf)
