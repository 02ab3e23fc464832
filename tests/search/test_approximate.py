"""epsilon= and budget=, filters under all of them, exact answers of partitioned indexes, errors."""

from __future__ import annotations

import itertools
import pickle
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import inside
import numpy as np
import pytest
import reference
from approximate_cases import assert_within, clustered, gaussian, recall_of
from cases import (
    DATA,
    Float32,
    assert_exact,
    assert_same,
    assert_same_beyond,
    assert_same_bits,
    in_turn,
    index_of,
    queries_for,
    rows_for,
)
from codes_in_numpy import lay_out
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from reference import METRICS

import farann

LIMITS: tuple[dict[str, Any], ...] = ({}, {"recall": 0.9}, {"epsilon": 0.2}, {"budget": 40})


class TestEpsilon:
    @given(st.sampled_from(METRICS), st.sampled_from(sorted(DATA)), st.integers(0, 2**32 - 1),
           st.sampled_from([0.0, 1e-9, 0.001, 0.05, 0.5, 3.0, 1e6]), st.integers(1, 40),
           st.sampled_from([("int8", None), ("float32", None), ("int8", 5), ("int4", None)]),
           st.booleans())
    def test_guarantee(self, metric: str, kind: str, seed: int, epsilon: float, k: int,
                       made: tuple[str, int | None], changed: bool) -> None:
        rng = np.random.default_rng(seed)
        rows = rows_for(kind, rng, int(rng.integers(1, 300)), int(rng.integers(1, 30)), metric)
        queries = queries_for(rng, rows, metric)
        codes, cells = made
        index = index_of(rows[: len(rows) * 2 // 3 + 1], metric, codes=codes, cells=cells).build()
        index.add(rows[len(rows) * 2 // 3 + 1 :])
        ids = np.arange(len(rows))
        if changed:
            index.remove(ids[::5])
            ids = np.delete(ids, np.s_[::5])
        allowed = ids[rng.random(len(ids)) < 0.7] if changed else ids
        with np.errstate(over="ignore", invalid="ignore"):
            hits = index.search_furthest(queries, k, epsilon=epsilon,
                                         allowed=allowed if changed else None)
            if epsilon == 0.0:
                truth = reference.furthest(queries, rows[allowed], k, metric, ids=allowed)
                assert_same(hits, truth)
            assert_within(hits, queries, rows[allowed], allowed, metric, epsilon)
            one = index.search_furthest(queries[0], k, epsilon=epsilon,
                                        allowed=allowed if changed else None)
            assert_within(farann.Hits(one.ids[None], one.scores[None]), queries[:1], rows[allowed],
                          allowed, metric, epsilon)

    @pytest.mark.parametrize("metric", METRICS)
    def test_at_work(self, metric: str, rng: np.random.Generator) -> None:
        """It holds where answers really differ from the exact ones, and saves work."""
        rows = gaussian(rng, 20_000, 32)
        queries = gaussian(rng, 40, 32)
        index = index_of(rows, metric, cells=50).build()
        exact = index.search_furthest(queries, return_stats=True)
        before = exact.stats
        epsilon = {"l2": 0.1, "dot": 5.0, "cosine": 0.1}[metric]
        hits = index.search_furthest(queries, epsilon=epsilon, return_stats=True)
        stats = hits.stats
        assert not np.array_equal(hits.ids, exact.ids)
        assert stats.rows_rescored < before.rows_rescored
        assert_within(hits, queries, rows, np.arange(20_000), metric, epsilon)

    @pytest.mark.parametrize("codes", ["float32", "int8"])
    def test_rows_that_come_late(self, codes: str, rng: np.random.Generator) -> None:
        """Rows at 1, then some at 1.15 or 1.4: within and beyond what may be left out."""
        rows = gaussian(rng, 4000, 16)
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        queries = np.float32(1e-4) * gaussian(rng, 20, 16)
        for norm, found in ((1.15, 1.0), (1.4, 1.4)):
            late = np.vstack([rows[:3500], np.float32(norm) * rows[3500:]])
            index = index_of(late, codes=codes).build()
            if codes == "int8":  # of its own accord `build` puts large rows first
                center = inside.store.of(index).center
                inside.store.put(index, codes=lay_out(late, "l2", center=center))
            hits = index.search_furthest(queries, epsilon=0.2)
            assert_within(hits, queries, late, np.arange(4000), "l2", 0.2)
            assert hits.scores[:, -1] == pytest.approx(found, abs=0.01)

    def test_where_the_offset_cancels(self, rng: np.random.Generator) -> None:
        """All rows are asked for but one, from afar but beside a row: its distance is tiny."""
        rows = gaussian(rng, 500, 8)
        rows[0] = 1e4
        for step in (1e-3, 1.0):
            queries = (rows[:1] + np.float32(step) * gaussian(rng, 20, 8)).astype(np.float32)
            rows_near = np.vstack([rows, rows[:1] + np.float32(step) * gaussian(rng, 20, 8)])
            index = index_of(rows_near).build()
            for k in range(501, 520):
                hits = index.search_furthest(queries, k, epsilon=1e-4)
                assert_within(hits, queries, rows_near, np.arange(520), "l2", 1e-4)


class TestBudget:
    @pytest.fixture(scope="class")
    @staticmethod
    def rows() -> Float32:
        return clustered(np.random.default_rng(0), 12_000, 16)

    @pytest.fixture(scope="class")
    @staticmethod
    def queries() -> Float32:
        return clustered(np.random.default_rng(1), 100, 16)

    @pytest.mark.parametrize("metric", METRICS)
    @pytest.mark.parametrize("cells", [None, 40])
    def test_never_above_and_better_with_more(self, metric: str, cells: int | None,
                                              rows: Float32, queries: Float32) -> None:
        index = index_of(rows, metric, cells=cells).build()
        truth = index.search_furthest(queries).ids
        recalls = []
        for budget in (1, 16, 17, 100, 750, 1500, 4000, 9000):
            limit = -(-budget // 16) * 16
            for query in queries[:30]:
                one = index.search_furthest(query, budget=budget, return_stats=True).stats
                assert 0 < one.rows_scanned <= limit
            hits = index.search_furthest(queries, budget=budget, return_stats=True)
            stats = hits.stats
            assert stats.rows_scanned <= limit * len(queries) and (hits.ids >= 0).all()
            recalls.append(recall_of(hits.ids, truth))
        assert all(a <= b + 0.01 for a, b in itertools.pairwise(recalls))
        assert recalls[0] < 0.6 < recalls[-1]

    def test_all_of_it(self, rows: Float32, queries: Float32) -> None:
        """Without cells every row is scanned, but for those that norms rule out.

        Only the noise of codes could hide one.
        """
        index = index_of(rows).build()
        truth = index.search_furthest(queries).ids
        for budget in (12_000, 2**40):
            hits = index.search_furthest(queries, budget=budget, return_stats=True)
            stats = hits.stats
            assert 9000 * len(queries) // 4 < stats.rows_scanned <= 12_000 * len(queries)
            assert recall_of(hits.ids, truth) >= 0.999

    def test_rows_that_lie_dense_and_sparse(self, rng: np.random.Generator) -> None:
        """Good partitions come before wide ones."""
        both = rng.standard_normal((20_400, 8))
        both[:, 1:] *= np.exp(rng.uniform(-5.0, 0.0, (len(both), 1)))
        rows, queries = np.split(both.astype(np.float32), [20_000])
        index = index_of(rows, "cosine", cells=300).build()
        exact = index.search_furthest(queries, 10).ids
        for budget, least in ((1000, 0.45), (2000, 0.6), (4000, 0.7)):
            found = index.search_furthest(queries, 10, budget=budget).ids
            assert recall_of(found, exact) > least, budget

    def test_added_rows_and_those_without_codes_come_on_top(
        self, rows: Float32, queries: Float32
    ) -> None:
        far = rows[:3] * np.float32(1e4)  # outliers: without codes, and always scored
        index = index_of(np.vstack([rows, far]), cells=40).build()
        index.add(rows[:500] * np.float32(100))
        hits = index.search_furthest(queries, 10, budget=160, return_stats=True)
        stats = hits.stats
        assert stats.rows_scanned <= (160 + 500) * len(queries)
        assert_same(hits, index.search_furthest(queries, 10))

    def test_without_codes_all_rows_are_scanned(self, rows: Float32, queries: Float32) -> None:
        index = index_of(rows, codes="float32").build()
        hits = index.search_furthest(queries, budget=16, return_stats=True)
        stats = hits.stats
        assert stats.rows_scanned == 12_000 * len(queries)
        assert_same(hits, index.search_furthest(queries))


class TestFilters:
    @pytest.mark.parametrize("cells", [None, 30])
    @pytest.mark.parametrize("limit", LIMITS[1:], ids=str)
    def test_allowed_and_excluded(self, limit: dict[str, Any], cells: int | None,
                                  rng: np.random.Generator) -> None:
        rows = clustered(rng, 8000, 12)
        index = index_of(rows, cells=cells, seed=1).build()
        index.add(rows[:50])
        queries = clustered(rng, 20, 12)
        best = index.search_furthest(queries, 600).ids
        mask = np.ones(8050, np.bool_)
        mask[rng.permutation(8050)[:4000]] = False
        mask[best[0]] = False  # nothing that the first query would have visited
        hits = index.search_furthest(queries, 30, allowed=mask, exclude=best, **limit)
        assert (hits.ids >= 0).all() and mask[hits.ids].all()
        for found, excluded in zip(hits.ids, best, strict=True):
            assert not np.isin(found, excluded).any() and len(set(found.tolist())) == 30

    @pytest.mark.parametrize("cells", [None, 30])
    @pytest.mark.parametrize("n_allowed", [0, 1, 5, 40])
    def test_as_many_as_there_are(self, n_allowed: int, cells: int | None,
                                  rng: np.random.Generator) -> None:
        """What may be found lies in cells that promise least, or behind all that is scanned."""
        rows = clustered(rng, 8000, 12)
        index = index_of(rows, cells=cells).build()
        query = rows[17]
        near = index.search_nearest(query, n_allowed + 1).ids[:n_allowed]
        excluded = np.setdiff1d(index.ids, near)
        for limit in LIMITS:
            for queries, exclude in ((query, excluded), (rows[[17] * 7], [excluded] * 7)):
                hits = index.search_furthest(queries, 10, exclude=exclude, **limit)
                found = np.atleast_2d(hits.ids)
                assert ((found >= 0).sum(axis=1) == min(10, n_allowed)).all()
                assert np.isin(found[found >= 0], near).all()


class TestExactWithCells:
    """Without recall, epsilon and budget cells change no bit."""

    @pytest.mark.parametrize(("kind", "metric"), in_turn(DATA, 1))
    def test_hostile_rows(self, metric: str, kind: str, rng: np.random.Generator) -> None:
        for n, dim, cells in ((180, 9, 7), (70, 1, 3)):
            rows = rows_for(kind, rng, n, dim, metric)
            index = index_of(rows, metric, cells=cells)
            queries = queries_for(rng, rows, metric)
            assert_exact(index, rows, queries, [1, 10, n + 1])
            for limit in LIMITS[1:]:
                hits = index.search_furthest(queries, 10, **limit)
                assert (hits.ids >= 0).all()
                assert all(len(set(found)) == 10 for found in hits.ids.tolist())

    def test_at_every_level(self, rng: np.random.Generator,
                            monkeypatch: pytest.MonkeyPatch) -> None:
        """As in processes that FARANN_ISA names a level for."""
        rows, queries = clustered(rng, 2000, 20), clustered(rng, 30, 20)
        answers: list[dict[str, Any]] = []
        for level in inside.levels():
            monkeypatch.setattr(inside.settings, "forced_level", level)
            answers.append({})
            for metric in METRICS:
                index = index_of(rows, metric, cells=25).build()
                assert index.isa == level
                hits = index.search_furthest(queries)
                limited = index.search_furthest(queries, budget=600)
                assert (limited.ids >= 0).all()
                beyond = index.search_beyond(queries, radius=float(np.median(hits.scores)))
                near = index.search_nearest(queries)
                results = [hits.ids, hits.scores, near.ids, near.scores, beyond.offsets, beyond.ids,
                           beyond.scores, index.score(queries, [5, 0])]
                answers[-1] |= {f"{metric} {i}": array for i, array in enumerate(results)}
        for metric in METRICS:
            expected = reference.furthest(queries, rows, 10, metric)
            for answer in answers:
                assert_same(farann.Hits(answer[f"{metric} 0"], answer[f"{metric} 1"]), expected)
                for name, array in answer.items():
                    assert array.tobytes() == answers[0][name].tobytes(), name

    def test_threads_at_once(self, rng: np.random.Generator) -> None:
        rows, queries = clustered(rng, 6000, 20), clustered(rng, 200, 20)
        index = index_of(rows, cells=25).build()
        index.tune()
        for limit in LIMITS:
            alone = index.search_furthest(queries, threads=1, **limit)
            with ThreadPoolExecutor(4) as pool:
                search = partial(index.search_furthest, queries, **limit)
                for hits in pool.map(lambda n, search=search: search(threads=n), [1, 2, 3] * 4):
                    if limit:
                        assert recall_of(hits.ids, alone.ids) >= 0.9
                    else:
                        assert_same(hits, alone)

    @pytest.mark.parametrize("metric", METRICS)
    def test_few_rows(self, metric: str) -> None:
        rng = np.random.default_rng(3)
        for n, dim, cells in itertools.product((1, 2, 6, 65, 130), (1, 3), (1, 7, 300)):
            for rows in (gaussian(rng, n, dim), np.ones((n, dim), np.float32)):
                index = index_of(rows, metric, cells=cells)
                assert_exact(index, rows, queries_for(rng, rows, metric), [1, n, n + 2])
                for limit in LIMITS[1:]:
                    found = index.search_furthest(rows[:3], n + 1, **limit).ids
                    assert all(sorted(ids) == [-1, *range(n)] for ids in found.tolist())


def lives(rows: Float32, metric: str, path: Path,
          options: dict[str, Any]) -> Iterator[tuple[str, farann.Index, NDArray[np.int64]]]:
    """An index at the stages of its life, and the ids of the rows it holds then."""
    n = len(rows) * 3 // 4
    index = index_of(rows[:n], metric, **options)
    yield "fresh", index, np.arange(n)
    index.add(rows[n:])
    yield "added", index, np.arange(len(rows))
    index.remove(np.arange(0, len(rows), 4))
    left = np.delete(np.arange(len(rows)), np.s_[::4])
    yield "removed", index, left
    index.build(queries=rows[:64] + np.float32(0.25))
    yield "rebuilt", index, left
    index.save(path)
    yield "loaded", farann.Index.load(path), left
    yield "mapped", farann.Index.load(path, mmap=True), left
    yield "pickled", pickle.loads(pickle.dumps(index)), left


class TestGrid:
    """Everything with everything, on few rows."""

    KINDS: tuple[dict[str, Any], ...] = (
        {"codes": "float32"},
        {"codes": "int8"},
        {"codes": "int8", "cells": 7},
        {"codes": "int8", "cells": "auto"},
        {"codes": "int4"},
        {"codes": "int4", "cells": 7},
    )

    @pytest.mark.parametrize(("kind", "metric"), in_turn(KINDS), ids=str)
    def test_grid(self, kind: dict[str, Any], metric: str, tmp_path: Path,
                  monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(inside.settings, "fewest_partitioned_rows", 100)
        rng = np.random.default_rng(1)
        rows, queries = clustered(rng, 400, 6), clustered(rng, 9, 6)
        rows[7:9] = rows[5]
        true = reference.score(queries, rows, metric)
        for stage, index, ids in lives(rows, metric, tmp_path / "index", kind):
            some = ids[rng.random(len(ids)) < 0.6]
            excluded = [rng.choice(ids, 20, replace=False) for _ in queries]
            few = some[:30]  # fewer than a quarter, which are searched as a list
            truths = {}
            kinds: dict[str, dict[str, Any]] = {
                "none": {}, "allowed": {"allowed": some}, "few": {"allowed": few},
                "both": {"allowed": some, "exclude": excluded},
            }
            for name, filters in kinds.items():
                truths[name] = reference.furthest(queries, rows[ids], 8, metric, ids=ids, **filters)
                permitted = np.zeros((len(queries), len(rows)), np.bool_)
                permitted[:, filters.get("allowed", ids)] = True
                for i, left_out in enumerate(filters.get("exclude", [])):
                    permitted[i, left_out] = False
                for limit, threads in itertools.product(LIMITS, (1, 2)):
                    where = f"{stage}, {name}, {limit}, {threads} threads"
                    hits = index.search_furthest(queries, 8, threads=threads, **filters, **limit)
                    assert (hits.ids >= 0).all(), where
                    assert np.take_along_axis(permitted, hits.ids, 1).all(), where
                    assert all(len(set(found)) == 8 for found in hits.ids.tolist()), where
                    assert_same_bits(hits.scores, np.take_along_axis(true, hits.ids, 1))
                    if not limit:
                        assert_same(hits, truths[name])
                    elif limit == {"recall": 0.9}:
                        # Nine queries: their mean strays.
                        assert recall_of(hits.ids, truths[name].ids) >= 0.65, where
            radius = float(np.median(truths["none"].scores))
            assert_same_beyond(index.search_beyond(queries, radius=radius),
                               reference.beyond(queries, rows[ids], radius, metric, ids=ids))
            assert_same(index.search_nearest(queries, 8),
                        reference.nearest(queries, rows[ids], 8, metric, ids=ids))
            assert_same_bits(index.score(queries, ids[:9]),
                             reference.score(queries, rows[ids[:9]], metric))


class TestErrors:
    @pytest.mark.parametrize(
        ("limits", "message"),
        [
            ({"recall": 0.9, "budget": 5}, "recall: expected at most one limit of a search, got "
                                           "recall and budget"),
            ({"epsilon": 0.1, "budget": 5}, "epsilon: expected at most one .* got epsilon and"),
            ({"budget": 5, "seconds": 1}, "budget: expected at most one .* budget and seconds"),
            ({"recall": 1, "epsilon": 0, "budget": 5}, "got recall and epsilon and budget"),
            ({"recall": 0}, "recall: expected a number above 0, at most 1, got 0.0"),
            ({"recall": 1.01}, "recall: .* got 1.01"),
            ({"recall": float("nan")}, "recall: expected a number, got NaN"),
            ({"epsilon": -0.1}, "epsilon: expected a number of 0 or more, got -0.1"),
            ({"epsilon": float("inf")}, "epsilon: expected a finite number, got inf"),
            ({"budget": 0}, "budget: expected 1 or more, got 0"),
            ({"seconds": 0}, "seconds: expected a number above 0, got 0"),
            ({"seconds": float("inf")}, "seconds: .* got inf"),
        ],
    )
    def test_values(self, limits: dict[str, Any], message: str) -> None:
        for index in (index_of(np.ones((3, 2), np.float32)), farann.Index()):
            with pytest.raises(ValueError, match=message):
                index.search_furthest([[1.0, 2.0]], **limits)

    @pytest.mark.parametrize("limits", [{"recall": "much"}, {"epsilon": [0.1]}, {"budget": 2.5},
                                        {"budget": True}, {"recall": True}, {"seconds": "1"}])
    def test_types(self, limits: dict[str, Any]) -> None:
        with pytest.raises(TypeError, match=next(iter(limits))):
            index_of(np.ones((3, 2), np.float32)).search_furthest([[1.0, 2.0]], **limits)

    @pytest.mark.parametrize("cells", [0, -3, 2.5, "many", True])
    def test_cells(self, cells: Any) -> None:
        with pytest.raises((ValueError, TypeError), match="cells: expected None, 'auto'"):
            farann.Index(cells=cells)

    def test_cells_without_codes(self) -> None:
        for cells in (5, "auto"):
            with pytest.raises(ValueError, match="cells: partitions need codes"):
                farann.Index(codes="float32", cells=cells)

    def test_empty(self, rng: np.random.Generator) -> None:
        """Nothing to find, with every limit, in indexes that are empty for any reason."""
        emptied = index_of(gaussian(rng, 300, 4), cells=3).build()
        emptied.remove(emptied.ids)
        for index in (farann.Index(4), farann.Index(4, cells=3).build(), emptied):
            for limit in LIMITS:
                hits = index.search_furthest(np.ones((2, 4)), 3, **limit)
                assert (hits.ids == -1).all() and np.isnan(hits.scores).all()
                assert hits.ids.shape == (2, 3)
