"""Plans are measured anew where many of the rows that answered the sample were removed."""

from __future__ import annotations

import pickle
from typing import Any

import inside
import numpy as np
import numpy.typing as npt
import pytest
from approximate_cases import recall_of
from cases import Float32, float32, index_of, pairs

import farann

N, DIM, K = 20_000, 24, 10


def rows_of(n: int, seed: int) -> Float32:
    """Some are long: these answer most."""
    random = np.random.default_rng(seed)
    size = np.where(random.random((n, 1)) < 0.1, 1.5, 0.6)
    return float32(random.standard_normal((n, DIM)) * size + 0.5)


@pytest.fixture(scope="module", params=[None, 60])
def tuned(request: pytest.FixtureRequest) -> tuple[farann.Index, npt.NDArray[np.int64]]:
    """An index, and its rows, those first that answer most queries."""
    index = index_of(rows_of(N, 0), "dot", cells=request.param, threads=1).build()
    answers = index.search_furthest(rows_of(4000, 7), K).ids
    return index, np.argsort(-np.bincount(answers.ravel(), minlength=N), kind="stable")


def fresh(tuned: tuple[farann.Index, Any]) -> farann.Index:
    """A copy that measured its table itself."""
    index: farann.Index = pickle.loads(pickle.dumps(tuned[0]))
    index.tune(k=K)
    return index


def table_of(index: farann.Index) -> farann.Tuning:
    return inside.tuning.tables_of(index)[K]


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """For which k tables are measured from now on."""
    found: list[int] = []
    measure = inside.tuning.measure_in_pieces

    def counted(*args: Any, **options: Any) -> Any:
        found.append(args[2])
        return measure(*args, **options)

    monkeypatch.setattr(inside.settings, "measure_in_pieces", counted)
    return found


@pytest.mark.parametrize(("loaded", "asked", "single"), pairs(
    [False, True], [0.8, 0.95], [False, True]))
def test_recall(tuned: tuple[farann.Index, npt.NDArray[np.int64]], measured: list[int],
                loaded: bool, asked: float, single: bool) -> None:
    index = fresh(tuned)
    if loaded:
        index = pickle.loads(pickle.dumps(index))
    queries = rows_of(400, 1)
    index.search_furthest(queries[0], K, recall=asked)
    before = table_of(index)
    index.remove(tuned[1][:400])
    measured.clear()
    truth = index.search_furthest(queries, K).ids
    # Until the table is there, answers are exact.
    assert np.array_equal(index.search_furthest(queries[:3], K, recall=asked).ids, truth[:3])
    inside.search.finish_measuring(index, K)
    if single:
        found = np.array([index.search_furthest(query, K, recall=asked).ids for query in queries])
    else:
        found = index.search_furthest(queries, K, recall=asked).ids
    assert recall_of(found, truth) >= asked - 0.01
    assert measured == [K] and table_of(index) is not before
    # Of what was removed before, nothing is to be made up for.
    index.search_furthest(queries, K, recall=asked)
    index.remove(tuned[1][-20:])
    index.search_furthest(queries, K, recall=asked)
    assert measured == [K]


def test_without_measuring_anew(tuned: tuple[farann.Index, npt.NDArray[np.int64]],
                                monkeypatch: pytest.MonkeyPatch) -> None:
    """What the other tests would find otherwise: the old plan misses many answers."""
    index = fresh(tuned)
    queries = rows_of(400, 1)
    index.remove(tuned[1][:1000])
    truth = index.search_furthest(queries, K).ids
    monkeypatch.setattr(inside.tuning.Measured, "holds", lambda *_: True)
    inside.tuning.replace(index, K, table_of(index)._replace(late=(), extends=False))
    found = index.search_furthest(queries, K, recall=0.95).ids
    assert recall_of(found, truth) < 0.94


def test_few_answers_lost(tuned: tuple[farann.Index, npt.NDArray[np.int64]],
                          measured: list[int]) -> None:
    """Rows that answer hardly a query may go in any number; others one by one, up to a share."""
    index = fresh(tuned)
    queries = rows_of(4000, 1)  # enough that one search begins to measure
    measured.clear()
    index.remove(tuned[1][-1000:])
    index.search_furthest(queries, K, recall=0.9)
    assert not measured
    answers = inside.store.of(index).tunings.by_k[K].answers
    assert answers is not None
    removed = 0
    for row in tuned[1][100:400]:
        index.remove(row)
        removed += int((answers == row).sum())
        index.search_furthest(queries, K, recall=0.9)
        assert bool(measured) == (100 * removed > len(answers))
        if measured:
            break
    assert measured == [K]


def test_given_queries_stay(tuned: tuple[farann.Index, npt.NDArray[np.int64]]) -> None:
    """The table is measured with the queries that `tune` was given, and guarded as before."""
    index = fresh(tuned)
    given = rows_of(600, 5) - 1.0
    index.tune(given, k=K)
    guard = inside.tuning.guards_of(index)[K]
    index.remove(index.search_furthest(given, K).ids.ravel()[:3000])
    before = table_of(index)
    truth = index.search_furthest(given, K).ids
    inside.search.finish_measuring(index, K)
    hits = index.search_furthest(given, K, recall=0.9, return_stats=True)
    stats = hits.stats
    assert table_of(index) is not before and table_of(index).sampled == 600
    assert inside.tuning.guards_of(index)[K] is guard
    assert recall_of(hits.ids, truth) >= 0.89 and stats.queries_guarded < 60


def test_queries_of_a_file_are_unknown(tuned: tuple[farann.Index, npt.NDArray[np.int64]],
                                       measured: list[int]) -> None:
    """Where nobody knows what a table was measured with, it stays, and its guard tells."""
    index = fresh(tuned)
    index.tune(float32(rows_of(600, 5) * 0.1 + 5.0), k=K)
    loaded = pickle.loads(pickle.dumps(index))
    before = table_of(loaded)
    loaded.remove(tuned[1][:400])
    measured.clear()
    loaded.search_furthest(rows_of(5, 1), K, recall=0.9)
    inside.search.finish_measuring(loaded, K)
    assert not measured and table_of(loaded) == before


def test_what_holds() -> None:
    alive = np.ones(1000, np.uint8)
    alive[:10] = 0
    table = farann.Tuning(3, (np.inf,), (1.0,), (1.0,))
    guard: Any = object()
    assert inside.tuning.Measured(table, None).holds(alive)  # searches are exact
    measured = inside.tuning.Measured(table, guard, np.arange(1000))
    assert measured.holds(None) and measured.holds(alive)
    alive[10] = 0
    assert not measured.holds(alive)
    alive[:] = 1
    from_file = inside.tuning.Measured(table, guard)  # which has no removed rows
    assert from_file.holds(None) and not from_file.holds(alive)
