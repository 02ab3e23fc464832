"""How deep runs of added rows are scanned under `recall=`.

The work of a built index, and the recall of rows of any kind.
"""

from __future__ import annotations

import functools
import pickle
from pathlib import Path
from typing import Any

import inside
import numpy as np
import pytest
import reference
from cases import Float32, assert_same, pairs
from inside import core
from inside.contract import StopRule
from inside.layout import Added, Run
from inside.quantize import Projection, Transform, rotation_signs
from inside.search import stops_for
from inside.store import Answers, of
from numpy.typing import NDArray

import farann

BASE, DIM, K = 12_000, 24, 10


def drawn(rng: np.random.Generator, n: int, dim: int = DIM) -> Float32:
    """Rows of which the longest answer most queries, and others some."""
    rows = rng.standard_normal((n, dim)) * np.exp(0.1 * rng.standard_normal((n, 1)))
    return rows.astype(np.float32)


def built(rows: Float32, metric: str, **options: Any) -> farann.Index:
    index = farann.Index(metric=metric, **options)
    index.add(rows)
    return index.build(tune=[K])


@functools.cache
def kept(metric: str, n: int, shift: float, cells: int | None) -> tuple[Float32, bytes]:
    rows = drawn(np.random.default_rng(n), n) + np.float32(shift)
    return rows, pickle.dumps(built(rows, metric, cells=cells))


def base(metric: str = "l2", n: int = BASE, shift: float = 0.0,
         cells: int | None = None) -> tuple[Float32, farann.Index]:
    """Rows, and an index that has them: built once, as that takes longest."""
    rows, index = kept(metric, n, shift, cells)
    return rows, pickle.loads(index)


def streamed(index: farann.Index, rows: Float32, step: int = 100) -> farann.Index:
    for start in range(0, len(rows), step):
        index.add(rows[start : start + step])
    return index


def recall_of(ids: NDArray[np.int64], exact: NDArray[np.int64]) -> float:
    return float((ids[:, :, None] == exact[:, None, :]).any(axis=1).mean())


def best(queries: Float32, rows: Float32, metric: str, k: int = K) -> NDArray[np.int64]:
    """The k furthest rows by float64, in any order."""
    x, y = queries.astype(np.float64), rows.astype(np.float64)
    if metric == "cosine":
        y /= np.linalg.norm(y, axis=1, keepdims=True)
    squares = (y**2).sum(axis=1) / 2 if metric == "l2" else 0.0
    # Some queries at a time: keys of all would take 100 MB.
    found: NDArray[np.int64] = np.concatenate([
        np.argpartition(x[start : start + 50] @ y.T - squares, k - 1, axis=1)[:, :k]
        for start in range(0, len(x), 50)])
    return found


def scanned(index: farann.Index, queries: Float32, **options: Any) -> int:
    """Rows that were scanned for a query, on average."""
    stats = index.search_furthest(queries, K, return_stats=True, **options).stats
    return stats.rows_scanned // len(queries)


@pytest.mark.parametrize("metric", reference.METRICS)
def test_rows_like_the_base_cost_what_they_do_in_it(metric: str, rng: np.random.Generator) -> None:
    rows, queries = drawn(rng, 2 * BASE), drawn(rng, 300)
    if metric == "cosine":  # unit vectors reach alike, but for a lead
        rows += np.float32(0.7)
        queries += np.float32(0.7)
    once = built(rows, metric)
    index = streamed(built(rows[:BASE], metric), rows[BASE:-30], 500)
    exact = best(queries, rows[:-30], metric)
    assert_same(index.search_furthest(queries[:20], K),
                reference.furthest(queries[:20], rows[:-30], K, metric))
    for recall in (0.8, 0.95):
        hits = index.search_furthest(queries, K, recall=recall)
        assert recall_of(hits.ids, exact) > recall - 0.01
        whole = scanned(once, queries, recall=recall)
        added = of(index).added
        assert added is not None and len(added.uncoded) < 256
        assert scanned(index, queries, recall=recall) < 1.4 * whole + 256
        alone = [index.search_furthest(query, K, recall=recall, return_stats=True)
                 for query in queries]
        assert sum(hits.stats.rows_scanned for hits in alone) < (1.4 * whole + 256) * len(alone)
        assert recall_of(np.stack([hits.ids for hits in alone]), exact) > recall - 0.01


def histograms(rng: np.random.Generator, n: int, dim: int = 64) -> Float32:
    """Rows as long as each other, as image descriptors are: nothing tells which answer most."""
    rows = rng.gamma(0.3, 1.0, (n, dim)) * np.geomspace(1.0, 0.02, dim) + 0.01
    found: Float32 = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    return found


def test_rows_without_bounds_cost_what_they_do_in_the_base(rng: np.random.Generator) -> None:
    """Those that answer many queries come first, and what is outside the axes counts as noise."""
    rows, queries = histograms(rng, 15_000), histograms(rng, 500)
    once = built(rows, "l2")
    assert 0 < once.stats()["axes"] < 64
    index = streamed(built(rows[:BASE], "l2"), rows[BASE:], 500)
    exact = best(queries, rows, "l2")
    for recall in (0.9, 0.95):
        expected, found = (each.search_furthest(queries, K, recall=recall, return_stats=True)
                           for each in (once, index))
        assert recall_of(found.ids, exact) > recall
        assert found.stats.rows_scanned < 1.5 * expected.stats.rows_scanned
        assert found.stats.rows_rescored < 1.5 * expected.stats.rows_rescored


@pytest.mark.parametrize("k", [K, 1])
def test_rows_that_answer_next_to_nothing(k: int, rng: np.random.Generator) -> None:
    """They need not be scanned to find all but a few of all answers."""
    rows, more, queries = (histograms(rng, n) for n in (BASE, 4096, 500))
    # Near the queries, but for a few: no bound tells that they answer nothing.
    middle = rows.mean(axis=0)
    more += 4.0 * middle / np.linalg.norm(middle)
    more /= np.linalg.norm(more, axis=1, keepdims=True)
    more[::1000] = histograms(rng, 5)
    index = built(rows, "l2")
    index.tune(k=k)
    base = index.search_furthest(queries, k, recall=0.95, return_stats=True).stats.rows_scanned
    streamed(index, more, 500)
    hits = index.search_furthest(queries, k, recall=0.95, return_stats=True)
    stats = hits.stats
    assert recall_of(hits.ids, best(queries, np.vstack([rows, more]), "l2", k)) > 0.94
    assert stats.rows_scanned < base + len(queries) * 512


def test_queries_of_a_build_say_which_rows_come_first(rng: np.random.Generator) -> None:
    """Runs are ordered by the furthest rows of queries like those."""
    rows = rng.standard_normal((BASE + 4096, DIM), dtype=np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    away = np.eye(1, DIM, dtype=np.float32)

    def first(queries: Float32 | None, nearest: bool = False) -> float:
        """How far the first rows of a run are along one axis, on average."""
        index = farann.Index(metric="dot")
        index.add(rows[:BASE])
        index.build(queries, nearest=nearest)
        index.add(rows[BASE:])
        codes = added_of(index).codes
        assert codes is not None and codes.slots is not None
        return float(rows[codes.slots[:128], 0].mean())

    queries = away + 0.1 * rng.standard_normal((600, DIM), dtype=np.float32)
    assert first(queries) < -0.4
    assert first(queries, nearest=True) < -0.4  # of which depths are measured, too
    assert abs(first(None)) < 0.1


@pytest.mark.parametrize("n", [1, 300, 5000])
def test_what_rows_have_in_common_outside_the_axes(n: int, rng: np.random.Generator) -> None:
    """It counts as if all directions had as much."""
    axes, beside = np.split(np.linalg.qr(rng.standard_normal((32, 32)))[0], [20])
    transform = Transform(rotation_signs(20, 0), Projection(axes))
    noise = rng.standard_normal((n, 12)) @ beside
    alike = 5.0 * beside[0] + 0.1 * noise
    nothing = np.zeros((n, 32))
    assert transform.outside(nothing) == transform.outside_at_most(nothing) == 0.0
    for left, times in ((noise, 1.0), (alike, 12.0**0.5), (noise[:1], 12.0**0.5)):
        rows = left + rng.standard_normal((len(left), 20)) @ axes
        ratio = transform.outside_at_most(rows) / transform.outside(rows)
        assert 0.99 * times < ratio <= 12.0**0.5 + 1e-9
        if len(rows) > 1000:
            assert ratio < 1.2 * times


def other_rows(kind: str, rng: np.random.Generator, n: int, base: Float32) -> Float32:
    """Rows that are unlike the base."""
    usual = float(np.linalg.norm(base, axis=1).mean())
    like = drawn(rng, n)
    direction = -base.mean(axis=0) / np.linalg.norm(base.mean(axis=0))
    beside = rng.standard_normal(DIM)
    few = rng.random((n, 1)) < 0.05
    if kind == "other direction":
        rows = 0.9 * usual * direction + 0.2 * like
    elif kind == "clusters":
        middles = usual * rng.standard_normal((8, DIM)) / DIM**0.5
        rows = 1.2 * middles[rng.integers(0, 8, n)] + 0.1 * like
    elif kind == "larger":
        rows = 1.5 * like
    elif kind == "smaller":
        rows = 0.5 * like
    elif kind == "near duplicates":
        rows = 1.3 * usual * beside / np.linalg.norm(beside) + 1e-3 * like
    elif kind == "mixed in":
        rows = np.where(few, 0.9 * usual * direction + 0.05 * like, like)
    elif kind == "short answers":
        # They lie where all queries look, behind all others by what they reach.
        rows = np.where(few, 0.8 * usual * direction + 0.02 * like, 1.2 * usual * np.abs(
            like) / np.linalg.norm(like, axis=1, keepdims=True))
    else:
        rows = np.where(few, 2.0 * like, 0.5 * like)
    found: Float32 = np.asarray(rows, np.float32)
    return found


KINDS = ["other direction", "clusters", "larger", "smaller", "near duplicates", "mixed in",
         "short answers", "few large"]


@pytest.mark.parametrize(("kind", "metric", "cells"), [
    *((kind, reference.METRICS[i % 3], None) for i, kind in enumerate(KINDS)),
    *((kind, "l2", 30) for kind in KINDS[::3])])
def test_recall_of_rows_unlike_the_base(kind: str, metric: str, cells: int | None,
                                        rng: np.random.Generator) -> None:
    rows, index = base(metric, 8000, 1.0, cells)
    queries = drawn(rng, 400) + np.float32(1.0)
    for n in (300, 2500, 3000):
        more = other_rows(kind, rng, n, rows)
        rows = np.vstack([rows, more])
        streamed(index, more, 500)
        assert of(index).added is not None
        exact = best(queries, rows, metric)
        assert recall_of(index.search_furthest(queries, K).ids, exact) == 1.0
        for recall in (0.9, 0.99):
            found = index.search_furthest(queries, K, recall=recall).ids
            assert recall_of(found, exact) > recall - 0.01, (n, recall)
            found = np.stack([index.search_furthest(query, K, recall=recall).ids
                              for query in queries[:30]])
            assert recall_of(found, exact[:30]) > recall - 0.03, (n, recall)


def test_runs_stop_for_themselves(rng: np.random.Generator) -> None:
    """What rows of one kind have says nothing of those of another, that were added before."""
    rows, index = base()
    more, queries = drawn(rng, 4096), drawn(rng, 600) + np.float32(1.0)
    index.tune(drawn(rng, 600) + np.float32(1.0), k=K)
    index.add(more)
    index.search_furthest(queries, K, recall=0.9)
    run = added_of(index).runs[0]
    assert stops_of(index, 0.9)[0] < run.start + 0.5 * run.n
    # Long rows where no query looks, and before them by that few shorter ones, for all queries.
    others = (np.abs(drawn(rng, 4096)) + np.float32(1.5)).astype(np.float32)
    others[::1000] = np.float32(-1.4) + 0.1 * drawn(rng, 5)
    index.add(others)
    exact = best(queries, np.vstack([rows, more, others]), "l2")
    assert (exact >= BASE + 4096).any(axis=1).mean() > 0.9
    assert recall_of(index.search_furthest(queries, K, recall=0.9).ids, exact) > 0.89
    assert [run.n for run in added_of(index).runs] == [4096, 4096]
    first, second = stops_of(index, 0.9)
    assert first < run.start + 0.5 * run.n and second > 2 * run.n - 100


def added_of(index: farann.Index) -> Added:
    added = of(index).added
    assert added is not None
    return added


def stops_of(index: farann.Index, recall: float, k: int = K) -> NDArray[np.int64]:
    missing = inside.tuning.missing_at(recall)
    stops = stops_for(of(index), k, missing, index.isa, 1)
    assert stops is not None
    return stops


def test_removed_rows_tuning_again_and_files(rng: np.random.Generator, tmp_path: Path) -> None:
    rows, index = base()
    rows, queries = np.vstack([rows, drawn(rng, BASE - 500)]), drawn(rng, 600)
    streamed(index, rows[BASE:], 300)
    left = np.arange(len(rows))

    def check(recall: float = 0.95) -> None:
        exact = left[best(queries, rows[left], "l2")]
        assert recall_of(index.search_furthest(queries, K).ids, exact) == 1.0
        inside.search.finish_measuring(index, K)
        found = index.search_furthest(queries, K, recall=recall).ids
        assert recall_of(found, exact) > recall - 0.01

    check()
    for part in (0.02, 0.3):
        gone = left[rng.random(len(left)) < part]
        index.remove(gone)
        left = np.setdiff1d(left, gone)
        check()
        slots = of(index).run_answers[K].hits.ids
        assert (slots >= 0).all() and np.isin(slots, left).mean() >= 0.99
    index.tune(k=K)
    check()
    index.tune(drawn(rng, 600), k=K)
    check(0.9)
    index.save(tmp_path / "index")
    index = farann.Index.load(tmp_path / "index")
    check()
    base()[1].save(tmp_path / "other")
    index, left = streamed(farann.Index.load(tmp_path / "other"), rows[BASE:], 300), np.arange(
        len(rows))
    check()
    assert (stops_of(index, 0.95) < [run.stop for run in added_of(index).runs]).any()


def test_filters(rng: np.random.Generator) -> None:
    rows, index = base()
    rows, queries = np.vstack([rows, drawn(rng, BASE - 500)]), drawn(rng, 200)
    streamed(index, rows[BASE:], 500)
    exact = index.search_furthest(queries, 3 * K).ids
    found = index.search_furthest(queries, K, recall=0.9, exclude=exact[:, :5]).ids
    assert recall_of(found, exact[:, 5 : 5 + K]) > 0.87
    assert not (found[:, :, None] == exact[:, None, :5]).any()
    # Nothing was measured of some of the rows: runs are scanned whole.
    some = rng.random(len(rows)) < 0.5
    wanted = np.flatnonzero(some)[best(queries, rows[some], "l2")]
    found = index.search_furthest(queries, K, recall=0.9, allowed=some).ids
    inside_runs = wanted >= BASE
    assert (found[:, :, None] == wanted[:, None, :]).any(axis=1)[inside_runs].mean() > 0.999


def test_k_rows_are_found_where_the_base_has_fewer(rng: np.random.Generator) -> None:
    rows, index = base()
    rows = np.vstack([rows, drawn(rng, BASE // 3)])
    streamed(index, rows[BASE:], 500)
    index.search_furthest(rows[:50], K, recall=0.8)
    index.remove(np.arange(3, BASE))
    left = np.r_[0:3, BASE : len(rows)]
    for queries in (rows[:50] + np.float32(0.1), rows[7]):
        found = index.search_furthest(queries, K, recall=0.8).ids
        exact = left[best(np.atleast_2d(queries), rows[left], "l2")]
        assert recall_of(np.atleast_2d(found), exact) > 0.999


@pytest.mark.parametrize(("cells", "options", "metric"), pairs(
    [None, 25], [{}, {"recall": 0.9}], reference.METRICS))
def test_single_queries_go_the_short_way(cells: int | None, options: dict[str, Any], metric: str,
                                         rng: np.random.Generator,
                                         monkeypatch: pytest.MonkeyPatch) -> None:
    """With the answers and counts of the long one, in any order; some are compared with exact
    ones, which is work."""
    index, queries = base(metric, 8000, 1.0, cells)[1], drawn(rng, 40) + np.float32(1.0)
    streamed(index, drawn(rng, 3000) + np.float32(1.0), 400)
    expected = [inside.search.furthest_in_full(index, query, K, return_stats=True, **options)
                for query in queries]
    like = [i for i, hits in enumerate(expected) if hits.stats.queries_guarded == 0]
    queries, expected = queries[like], [expected[i] for i in like]
    assert len(like) > 30
    index.search_furthest(queries[0], K, **options)
    assert of(index).singles
    monkeypatch.setattr(inside.settings, "top_of_search", None)  # the long way
    compared = 0
    for _ in range(2):
        for query, hits in zip(queries, expected, strict=True):
            found = index.search_furthest(query, K, return_stats=True, **options)
            assert_same(found, hits)
            if found.stats != hits.stats:
                compared += 1
                assert options and found.stats.rows_scanned > hits.stats.rows_scanned
    assert compared <= 4


def test_the_same_history_stops_at_the_same_places(rng: np.random.Generator) -> None:
    rows, queries = drawn(rng, 2 * BASE - 1), drawn(rng, 3)
    stops = []
    for threads in (1, 2):
        index = built(rows[:BASE], "dot", threads=threads)
        for start in range(BASE, len(rows), 900):
            index.add(rows[start : start + 900])
            index.search_furthest(queries, K, recall=0.9)
            stops.append(stops_of(index, 0.9).tolist())
    assert stops[: len(stops) // 2] == stops[len(stops) // 2 :]


def test_answers_are_kept_up_to_date(rng: np.random.Generator,
                                     monkeypatch: pytest.MonkeyPatch) -> None:
    """Each row is looked at a few times, and the answers are those of all rows."""
    queries = drawn(rng, 3)
    plain = inside.runtime.top
    for metric in ("l2", "dot"):
        rows, index = base(metric)
        rows, asked = np.vstack([rows, drawn(rng, BASE)]), 0

        def counted(snapshot: core.Snapshot, *others: Any, **options: Any) -> Any:
            nonlocal asked
            asked += snapshot.n_slots
            return plain(snapshot, *others, **options)

        index.tune(k=K)
        counting: Any = type("Counting", (), {"top": staticmethod(counted)})
        monkeypatch.setattr(inside.settings, "tables_batches", counting)
        for start in range(BASE, 2 * BASE, 300):
            index.add(rows[start : start + 300])
            index.search_furthest(queries, K, recall=0.9)
        assert asked < 3 * BASE
        store = of(index)
        answers = store.run_answers[K]
        assert len(answers.queries) > 100 and answers.n_slots > 2 * BASE - 500
        exact = best(answers.queries, rows[: answers.n_slots], metric)
        assert np.array_equal(np.sort(answers.hits.ids), np.sort(exact))


def answers_at(slots: NDArray[np.int64], n_slots: int, runs: tuple[Run, ...]) -> Answers:
    queries = np.zeros((len(slots), 4), np.float32)
    return Answers(None, runs, n_slots, queries,
                   farann.Hits(slots, np.zeros(slots.shape, np.float32)))


def test_stops_by_hand(rng: np.random.Generator) -> None:
    """Runs with many answers stop for themselves, others together; those with few may miss some of
    all answers, or don't stop."""
    n_base, n, least = 1000, 1600, 32
    none = np.empty(0, np.int64)
    runs = (Run(0, n), Run(n, 2 * n), Run(2 * n, 3 * n))
    order = np.concatenate([i * n + rng.permutation(n) for i in range(3)])
    codes: Any = type("Codes", (), {"slots": (n_base + order).astype(np.int32)})
    added = Added(codes, codes, runs)

    def stops(of_runs: list[NDArray[np.int64]], missing: float) -> list[int]:
        places = np.concatenate([i * n + part for i, part in enumerate(of_runs)])
        slots = np.concatenate([n_base + order[places], np.arange(100)])
        found = inside.search.stops_of(answers_at(slots.reshape(-1, 1), n_base + 3 * n, runs),
                                       added, None, missing)
        assert found is not None
        return [int(stop - run.start) for stop, run in zip(found, runs, strict=True)]

    many = rng.integers(0, 1000, 2000)
    # 100 of 2,000 may be missed, less the square root of that.
    first = int(np.sort(many)[-1 - 90]) // 16 * 16 + 16
    # Others may miss 5 of 2,103, less the root of what they miss; a 64th is scanned all the same.
    assert stops([many, many[:1], many[:2]], 0.05) == [first, least, least]
    assert stops([many, none, none], 0.05) == [first, least, least]
    # Of 10 answers all but 3, as 4 and the root of 4 are more than 2,110 / 20 / 18.
    few = np.arange(100, 1100, 100)
    assert stops([many, few, none], 0.05) == [first, 704, 704]
    assert stops([many, np.full(10, n - 1), none], 0.05) == [first, n, n]
    # Less than one of all may be missed: too little is known.
    assert stops([many, many[:1], none], 0.008)[1:] == [n, n]
    # Of 100 answers all but 4, as 4 and the root of 4 aren't more than 2,200 / 20 / 18.
    both = np.sort(np.concatenate([many[:50], many[50:100]]))
    depth = int(both[-1 - 4]) // 16 * 16 + 16
    assert stops([many, many[:50], many[50:100]], 0.05) == [first, depth, depth]
    # All of a query's answers may be missed at once.
    of_few = np.repeat(np.sort(many)[::10], 10)
    assert stops([of_few, none, none], 0.05)[0] == int(np.sort(of_few)[-1 - 90]) // 16 * 16 + 16
    late = np.full(2000, n - 1)
    assert stops([many, late, none], 0.05) == [first, n, least]
    assert stops([many, many, many], 0.0) == [n, n, n]


def test_the_core_refuses_stops_that_do_not_fit(rng: np.random.Generator) -> None:
    rows, index = base()
    streamed(index, drawn(rng, 512), 512)
    view = of(index).view(index.isa)

    def task(*stops: int) -> Any:
        rule = StopRule(rows=100, run_ends=np.array(stops, np.int64))
        return inside.native.task_of(view.snapshot, rows, K, rule=rule, stop=3)

    for good in (0, 16, 512):
        task(good).run()
    with pytest.raises(ValueError, match="an end for each run"):
        task()
    with pytest.raises(ValueError, match="an end for each run"):
        task(16, 16)
    for bad in (-16, 8, 528):
        with pytest.raises(ValueError, match="whole panels of their runs"):
            task(bad)


def test_rows_removed_one_by_one(rng: np.random.Generator) -> None:
    """Answers that take the places of removed ones are counted, however few go at a time."""
    k, shift = 20, np.float32(1.0)
    (rows, index), queries = base(), drawn(rng, 300) + shift
    index.tune(drawn(rng, 600) + shift, k=k)
    # Long rows where no query looks; of the first answers some lie before, the next behind them.
    more = (np.abs(drawn(rng, 4096)) + np.float32(1.5)).astype(np.float32)
    more[:20] = np.float32(-2.6) + 0.1 * drawn(rng, 20)
    more[20:60] = np.float32(-1.4) + 0.1 * drawn(rng, 40)
    index.add(more)
    every, left = np.vstack([rows, more]), np.arange(BASE + 4096)
    for slot in range(BASE, BASE + 20):
        index.search_furthest(queries[:2], k, recall=0.95)
        index.remove(slot)
        every = np.vstack([every, every[:1]])
        index.add(every[:1])  # too few for a run
    left = np.r_[0:BASE, BASE + 20 : len(every)]
    exact = left[best(queries, every[left], "l2", k)]
    found = index.search_furthest(queries, k, recall=0.95).ids
    assert recall_of(found, exact) > 0.94
    slots = of(index).run_answers[k].hits.ids
    assert (~np.isin(slots, left)).sum() <= slots.size // 100
