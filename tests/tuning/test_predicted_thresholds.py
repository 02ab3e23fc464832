"""What the k-th key is expected to be: measured by `tune`, and never the loss of an answer."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any, NamedTuple

import inside
import numpy as np
import pytest
from approximate_cases import DATA, clustered, gaussian, recall_of
from cases import Float32, in_turn, index_of, pairs
from inside import core
from numpy.typing import NDArray

import farann
from farann.tuning import Tuning

METRICS = core.METRICS
LEVELS = inside.levels()
INF, NAN = float("inf"), float("nan")
N, DIM, N_CELLS, K = 6000, 12, 150, 10


def searched(index: farann.Index, queries: Float32, k: int = K, **options: Any) -> farann.Hits:
    vectors, snapshot = np.ascontiguousarray(queries, np.float32), inside.store.snapshot_of(index)
    return inside.runtime.top(snapshot, core.Filter(snapshot), vectors, k, False, 1,
                              inside.contract.StopRule(**options))[0]


def surprises(index: farann.Index, queries: Float32, k: int, effort: float) -> NDArray[np.float64]:
    snapshot = inside.store.snapshot_of(index)
    last = np.ascontiguousarray(index.search_furthest(queries, k).scores[:, -1])
    return core.surprises(snapshot, core.Filter(snapshot), queries, last, k,
                          inside.contract.StopRule(deviations=effort))


class Promises(NamedTuple):
    """Of each query: what cells promise, as they were coded, keys of rows, what good cells promise
    on average, and the mean deviation of those that promise as much."""

    cells: NDArray[np.float64]
    keys: NDArray[np.float64]
    good: NDArray[np.float64]
    unit: NDArray[np.float64]


def in_numpy(index: farann.Index, rows: Float32, queries: Float32, effort: float) -> Promises:
    store = inside.store.of(index)
    assert store is not None and store.partitions is not None and store.codes is not None
    cells, center = store.partitions, store.center
    n = len(cells.starts) - 1
    numbers = np.arange(n)
    scales = 1.0 / cells.inv_scale.astype(np.float64)[numbers // 16]
    width = cells.panels.shape[1] // 4
    spread = cells.panels.reshape(-1, width, 16, 4)[numbers // 16, -1, numbers % 16, 0] - 128.0
    deviations = cells.step * spread * scales
    weights = inside.contract.traits_of(index.metric).query_vectors(queries, center)
    a = store.codes.transform.rows(weights)
    lengths = np.linalg.norm(weights, axis=1)
    promises = a @ cells.means(numbers, a.shape[1]).T + effort * np.outer(lengths, deviations)
    points = rows.astype(np.float64)
    if index.metric == "cosine":
        points /= np.linalg.norm(points, axis=1, keepdims=True)
    keys = weights @ (points - center).T
    if cells.squares is not None:
        promises += cells.squares[:n] * scales
        keys += ((points - center) ** 2).sum(axis=1)
    groups = np.full((len(keys), 16 * -(-n // 16)), -np.inf)
    groups[:, :n] = promises
    good = groups.reshape(len(groups), -1, 16).max(axis=1).mean(axis=1)
    unit = np.array([deviations[theirs >= least].mean()
                     for theirs, least in zip(promises, good, strict=True)])
    return Promises(promises, keys, good, lengths * unit)


def surprises_in_numpy(told: Promises, k: int) -> NDArray[np.float64]:
    kth = np.sort(told.keys, axis=1)[:, -k]
    return np.asarray((kth - told.good) / told.unit)


def is_promised(index: farann.Index, told: Promises, ids: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which of the true answers (n_queries, k) lie in cells that clearly promise the last of them,
    or in none, which are searched in any case."""
    store = inside.store.of(index)
    assert store is not None and store.partitions is not None and store.codes is not None
    assert store.codes.slots is not None
    places = inside.quantize.places_of(store.codes.slots, len(store.base))[ids]
    cell = np.where(places >= 0, store.partitions.at(places), -1)
    last = np.take_along_axis(told.keys, ids[:, -1:], axis=1)
    promised = np.take_along_axis(told.cells, np.maximum(cell, 0), axis=1)
    # Codes of queries and means are off by that much.
    return np.asarray((cell < 0) | (promised > last + 0.15 * told.unit[:, None]))


@pytest.mark.parametrize(("n_queries", "metric", "isa"), pairs([1, 5, 40], METRICS, LEVELS))
def test_surprises(isa: str, metric: str, n_queries: int, rng: np.random.Generator) -> None:
    rows, queries = gaussian(rng, N, DIM), gaussian(rng, n_queries, DIM)
    index = index_of(rows, metric, cells=N_CELLS)
    inside.store.use_level(index, isa)
    index.build()
    for k, effort in ((1, 3.0), (10, 0.0), (100, 3.0)):
        np.testing.assert_allclose(surprises(index, queries, k, effort),
                                   surprises_in_numpy(
                                       in_numpy(index, rows, queries, effort), k), atol=0.15)


def test_surprises_that_can_not_be_told(rng: np.random.Generator) -> None:
    rows, queries = gaussian(rng, 500, 3), gaussian(rng, 4, 3)
    few_cells = index_of(rows, cells=15).build()  # a group of them is empty
    assert not np.isfinite(surprises(few_cells, queries, 5, 3.0)).any()
    few_rows = index_of(rows[:60], cells=20).build()  # all are scored
    assert not np.isfinite(surprises(few_rows, queries, 5, 3.0)).any()
    assert not np.isfinite(surprises(index_of(rows).build(), queries, 5, 3.0)).any()
    same = index_of(np.ones((500, 3), np.float32), cells=20).build()  # no deviation
    assert same.search_furthest(queries, 5, recall=0.9).ids.tolist() == [[0, 1, 2, 3, 4]] * 4
    with pytest.raises(ValueError, match="a score for each"):
        snapshot = inside.store.snapshot_of(few_cells)
        core.surprises(snapshot, core.Filter(snapshot), queries, np.ones(3, np.float32), 5,
                       inside.contract.StopRule(deviations=3.0))


@pytest.mark.parametrize(("kind", "metric"), in_turn(DATA))
def test_no_answer_is_lost(metric: str, kind: str, rng: np.random.Generator) -> None:
    """Answers in cells that promise enough are found, whatever was expected of them."""
    both = DATA[kind](rng, N + 40, DIM)
    rows, queries = both[:N], np.ascontiguousarray(both[N:])
    index = index_of(rows, metric, cells=N_CELLS).build()
    truth = index.search_furthest(queries, 100).ids
    # Nearly all rows stray less; with far more, cells that hardly do aren't told apart.
    effort = 20.0
    middle = float(np.median(surprises(index, queries, K, effort)))
    told = in_numpy(index, rows, queries, effort)
    assert is_promised(index, told, truth).mean() > 0.8
    for isa, n, k, beside in itertools.product(LEVELS, (1, 4, 40), (1, K, 100),
                                               (-9.0, -0.5, 0.0, 0.5, 9.0)):
        inside.store.use_level(index, isa)
        hits = searched(index, queries[:n], k, deviations=effort,
                        predicted_threshold=middle + beside)
        missing = np.array([np.isin(ids, found, invert=True) for ids, found
                            in zip(truth[:n, :k], hits.ids, strict=True)])
        lost = (missing & is_promised(index, told, truth[:, :k])[:n]).sum()
        # Errors of codes are noise to approximate searches: a row may be lost by that.
        assert lost <= max(1.5, 0.01 * n * k), (n, k, beside)


def test_little_effort_gives_few_rows_exact_keys(rng: np.random.Generator) -> None:
    """Code errors are allowed for as much as partitions are: many rows of few dimensions tie."""
    rows, queries = gaussian(rng, 30_000, 4), gaussian(rng, 200, 4)
    index = index_of(rows, "cosine", cells=600).build()
    truth = index.search_furthest(queries, K).ids
    snapshot = inside.store.snapshot_of(index)
    rescored = []
    for effort in (0.25, 3.0):
        found, work = inside.runtime.top(snapshot, core.Filter(snapshot), queries, K, False, 1,
                                         inside.contract.StopRule(deviations=effort))
        assert recall_of(found.ids, truth) > (0.9 if effort < 1.0 else 0.995)
        rescored.append(work.rows_rescored)
    assert rescored[0] < 0.6 * rescored[1]


@pytest.mark.parametrize("options", [
    {}, {"codes": "int4"}, {"keep_vectors": False}, {"codes": "int4", "keep_vectors": False}])
@pytest.mark.parametrize("metric", METRICS)
def test_expecting_too_much(metric: str, options: dict[str, Any], rng: np.random.Generator) -> None:
    """Every search begins again, and finds what it finds without."""
    both = clustered(rng, N + 300, DIM)
    rows, queries = both[:N], np.ascontiguousarray(both[N:])
    index = index_of(rows, metric, cells=N_CELLS, **options).build()
    for k, n in itertools.product((1, K, 100), (1, 4, 300)):
        plain = searched(index, queries[:n], k, deviations=3.0).ids
        for expected in (5.0, 1e3, 1e30, INF):
            again = searched(index, queries[:n], k, deviations=3.0,
                             predicted_threshold=expected).ids
            assert (again >= 0).all()
            assert recall_of(again, plain) >= 0.97, (k, n, expected)


@pytest.mark.parametrize("metric", METRICS)
def test_fewer_rows_than_expected(metric: str, rng: np.random.Generator) -> None:
    """A recall is reached among some of the rows, too."""
    both = gaussian(rng, N + 400, DIM)
    rows, queries = both[:N], np.ascontiguousarray(both[N:])
    index = index_of(rows, metric, cells=N_CELLS).build()
    predicts = bool(np.isfinite(index.tune().predicted_threshold_at(3.0)))
    assert predicts == (metric == "cosine") or metric == "dot"  # where it hardly matters
    best = index.search_furthest(queries, K // 2).ids  # the worst that can be left out
    some = rng.random(N) < 0.5
    for least, filters in ((0.88, {"exclude": best}), (0.88, {"allowed": some})):
        wanted = index.search_furthest(queries, K, **filters).ids
        found = index.search_furthest(queries, K, recall=0.95, **filters).ids
        assert recall_of(found, wanted) >= least
        if "allowed" in filters:
            assert some[found].all()
    index.remove(np.flatnonzero(~some))
    found = index.search_furthest(queries, K, recall=0.95).ids
    assert recall_of(found, index.search_furthest(queries, K).ids) >= 0.88


class TestTable:
    def test_between_efforts(self) -> None:
        table = Tuning(10, (1.0, 2.0, 4.0, INF), (0.5, 0.7, 0.9, 1.0), (1.0, 2.0, 4.0, 9.0),
                       predicted_thresholds=(0.5, -0.5, -1.5, NAN))
        assert [table.predicted_threshold_at(effort) for effort in (0.0, 1.0, 1.5, 3.0, 4.0)] == [
            0.5, 0.5, 0.0, -1.0, -1.5]
        assert np.isnan(table.predicted_threshold_at(INF))
        assert np.isnan(table._replace(predicted_thresholds=()).predicted_threshold_at(2.0))
        assert np.isnan(table._replace(predicted_thresholds=(0.5, NAN, NAN,
                                                             NAN)).predicted_threshold_at(3.0))

    def test_measured(self, rng: np.random.Generator) -> None:
        """Nearly all k-th keys are above what is expected, and not far."""
        both = gaussian(rng, N + 1000, DIM)
        rows, queries = both[:N], np.ascontiguousarray(both[N:])
        index = index_of(rows, "cosine", cells=N_CELLS).build()
        table = index.tune(queries[:600])
        assert len(table.predicted_thresholds) == len(table.efforts)
        assert np.isnan(table.predicted_thresholds[-1])
        beside = surprises(index, queries[600:], K, 3.0) - table.predicted_threshold_at(3.0)
        assert np.quantile(beside, 0.02) > 0.0 and np.median(beside) < 2.0

    def test_nothing_to_expect(self, rng: np.random.Generator) -> None:
        # Answers are rows far outside, which no cell promises.
        rows = clustered(rng, N, DIM)
        rows[:40] *= 1e3
        table = index_of(rows, "l2", cells=N_CELLS).build().tune(clustered(rng, 300, DIM))
        assert not table.predicted_thresholds and np.isnan(table.predicted_threshold_at(3.0))

    def test_in_a_file(self, tmp_path: Path, rng: np.random.Generator) -> None:
        index = index_of(gaussian(rng, N, DIM), "cosine", cells=N_CELLS).build()
        table = index.tune(k=5)
        index.save(tmp_path / "index.farann")
        loaded = farann.Index.load(tmp_path / "index.farann")
        other = inside.tuning.tables_of(loaded)[5]
        np.testing.assert_array_equal(other.predicted_thresholds, table.predicted_thresholds)
        assert other._replace(predicted_thresholds=()) == table._replace(predicted_thresholds=())


def test_fewer_rows_are_scanned(rng: np.random.Generator) -> None:
    """What an expectation is for."""
    both = gaussian(rng, 40_400, DIM)
    rows, queries = both[:40_000], np.ascontiguousarray(both[40_000:])
    index = index_of(rows, "cosine", cells=800).build()
    partitions = inside.store.of(index).partitions
    assert partitions is not None
    truth = index.search_furthest(queries, K).ids
    table = index.tune()
    effort = table.effort_for(0.95)
    vectors, snapshot = np.ascontiguousarray(queries, np.float32), inside.store.snapshot_of(index)
    chosen = core.Filter(snapshot)
    plain, plain_stats = inside.runtime.top(snapshot, chosen, vectors, K, False, 1,
                                            inside.contract.StopRule(deviations=effort))
    hits, stats = inside.runtime.top(
        snapshot, chosen, vectors, K, False, 1, inside.contract.StopRule(
            deviations=effort, predicted_threshold=table.predicted_threshold_at(effort)))
    assert recall_of(hits.ids, truth) >= 0.94
    assert stats.rows_scanned < 0.8 * plain_stats.rows_scanned
