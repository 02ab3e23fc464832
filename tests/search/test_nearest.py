"""The nearest rows: exact, and with recall=, budget= and epsilon=."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import inside
import numpy as np
import pytest
import reference
from approximate_cases import recall_of
from cases import assert_same, assert_same_bits, index_of, queries_for, rows_for
from numpy.testing import assert_array_equal
from numpy.typing import NDArray

import farann

N, DIM, K = 4000, 24, 10


def grouped(rng: np.random.Generator, n: int) -> NDArray[np.float32]:
    """Rows or queries in groups, as embeddings are."""
    middles = np.random.default_rng(1).standard_normal((40, DIM))
    drawn = middles[rng.integers(0, 40, n)] + 0.6 * rng.standard_normal((n, DIM))
    return drawn.astype(np.float32)


@pytest.mark.parametrize(("options", "metric"), [
    ({}, "l2"), ({"cells": 40}, "l2"), ({"cells": 40}, "dot"), ({"cells": 40}, "cosine"),
    ({"cells": 40, "keep_vectors": False}, "dot"), ({"cells": 40, "keep_vectors": False}, "l2"),
    ({"codes": "float32"}, "cosine")])
def test_the_recall_that_is_asked_is_reached(options: dict[str, Any], metric: str,
                                             rng: np.random.Generator) -> None:
    rows, queries = grouped(rng, N), grouped(rng, 200)
    index = index_of(rows, metric, **options)
    wanted = reference.nearest(queries, rows, K, metric)
    for laid_out in (False, True):
        index.build(nearest=laid_out)
        vectors = options.get("keep_vectors", True)
        if not vectors and not laid_out:
            index = index_of(rows, metric, **options).build()
        inside.search.finish_measuring(index, K, nearest=True)
        for recall in (0.8, 0.95):
            found = index.search_nearest(queries, K, recall=recall)
            # Of codes alone it is the share of what all of them find.
            assert recall_of(found.ids, wanted.ids) >= recall - (0.02 if vectors else 0.06)
            one = index.search_nearest(queries[7], K, recall=recall)
            again = index.search_nearest(queries[7], K, recall=recall)
            assert_same(again, one)
            if vectors:
                known = dict(zip(wanted.ids[7].tolist(), wanted.scores[7], strict=True))
                for id, score in zip(one.ids.tolist(), one.scores, strict=True):
                    assert known.get(id, score) == score
        exact = index.search_nearest(queries, K, recall=1.0)
        if vectors:
            assert_same(exact, wanted)
            assert_same(index.search_nearest(queries, K), wanted)
            assert_same(index.search_furthest(queries, K),
                        reference.furthest(queries, rows, K, metric))
        if not vectors:
            index = index_of(rows, metric, **options)


def test_plans_are_those_of_the_nearest_rows(rng: np.random.Generator) -> None:
    rows = grouped(rng, N)
    index = index_of(rows, "cosine", cells=40).build(tune=[K], nearest=True)
    of_nearest = index.tune(k=K, nearest=True)
    of_furthest = index.tune(k=K)
    assert of_nearest.recalls != of_furthest.recalls
    # They are kept beside each other, also where rows come, and measured anew by a build.
    index.add(rows[:5])
    index.build(rows[:200] + np.float32(0.01), nearest=True)
    store = inside.store.of(index)
    assert store.nearest_tunings.by_k.keys() == store.tunings.by_k.keys() == {K}
    assert len(index.search_nearest(rows[:3], K, recall=0.9).ids) == 3


@pytest.mark.parametrize("metric", ("l2", "cosine"))
def test_a_sample_of_rows_does_not_count_the_rows_themselves(metric: str,
                                                             rng: np.random.Generator) -> None:
    """Each row is the nearest to itself, and found at once: that says nothing of other queries."""
    rows = rng.standard_normal((N, DIM), dtype=np.float32)
    index = index_of(rows, metric, cells=40).build(nearest=True)
    tuned = index.tune(k=1, nearest=True)
    assert tuned.recalls[0] < 0.9


@pytest.mark.parametrize("metric", reference.METRICS)
def test_budget_epsilon_and_filters(metric: str, rng: np.random.Generator) -> None:
    rows, queries = grouped(rng, N), grouped(rng, 120)
    index = index_of(rows, metric, cells=40).build(nearest=True)
    assert_same(index.search_nearest(queries, K, epsilon=0.0),
                reference.nearest(queries, rows, K, metric))
    scores = reference.score(queries, rows, metric)
    for epsilon in (0.01, 0.3):
        found = index.search_nearest(queries, K, epsilon=epsilon)
        if metric == "l2":
            left_out = scores.copy()
            np.put_along_axis(left_out, found.ids, np.inf, axis=1)
            assert (left_out.min(axis=1) >= found.scores[:, -1] / (1 + epsilon) - 1e-5).all()
            continue
        left_out = scores.copy()
        np.put_along_axis(left_out, found.ids, -np.inf, axis=1)
        assert (left_out.max(axis=1) <= found.scores[:, -1] + epsilon + 1e-5).all()
    index.search_nearest(queries, K, budget=400)
    assert index.stats()["last_search"]["rows_scanned"] <= 120 * (400 + 16 + 200)
    exclude = reference.nearest(queries, rows, 3, metric).ids
    wanted = reference.nearest(queries, rows, K, metric, exclude=exclude)
    found = index.search_nearest(queries, K, recall=0.9, exclude=exclude)
    assert recall_of(found.ids, wanted.ids) >= 0.85
    assert not (found.ids[:, :, None] == exclude[:, None, :]).any()
    mask = rng.random(N) < 0.5
    found = index.search_nearest(queries, K, recall=0.9, allowed=mask)
    assert mask[found.ids].all()
    assert recall_of(found.ids, reference.nearest(
        queries, rows, K, metric, allowed=np.flatnonzero(mask)).ids) >= 0.8


@pytest.mark.parametrize("metric", ("l2", "cosine"))
def test_rows_that_come_and_go(metric: str, rng: np.random.Generator) -> None:
    rows, queries = grouped(rng, N + 900), grouped(rng, 60)
    index = index_of(rows[:N], metric, cells=40).build(nearest=True)
    index.tune(k=K, nearest=True)
    index.search_nearest(queries, K, recall=0.9)
    index.add(rows[N:])
    index.remove(np.arange(0, N, 9))
    inside.search.finish_measuring(index, K, nearest=True)
    kept = np.delete(np.arange(N + 900), np.s_[0:N:9])
    wanted = reference.nearest(queries, rows[kept], K, metric, ids=kept)
    assert recall_of(index.search_nearest(queries, K, recall=0.9).ids, wanted.ids) >= 0.87
    assert_same(index.search_nearest(queries, K), wanted)


@pytest.mark.parametrize("metric", ("l2", "dot"))
def test_rows_are_named_as_users_name_them(metric: str, rng: np.random.Generator,
                                           tmp_path: Path) -> None:
    """Strings for ids, and rows of bytes, in what searches for the nearest rows find."""
    rows = rng.integers(-99, 100, (900, DIM)).astype(np.int8)
    names = [f"row {i}" for i in range(900)]
    queries = rng.standard_normal((9, DIM), dtype=np.float32)
    index = farann.Index(metric=metric, dtype="int8")
    index.add(rows, names)
    index.remove(names[:100])
    told: list[str] = []
    index.build(nearest=True, tune=[K], progress=lambda step, done, total: told.append(step))
    assert told
    wanted = reference.nearest(queries, rows[100:].astype(np.float32), K, metric,
                               ids=np.arange(100, 900))
    index.save(tmp_path / "index")
    for each in (index, farann.Index.load(tmp_path / "index")):
        found = each.search_nearest(queries, K, recall=1.0)
        assert found.ids.tolist() == [[names[i] for i in line] for line in wanted.ids.tolist()]
        assert_same_bits(found.scores, wanted.scores)
        for _ in range(2):  # the second takes what is kept of the first
            one = each.search_nearest(queries[3], K, recall=0.9)
            assert set(one.ids.tolist()) <= set(names[100:])
    index.close()
    with pytest.raises(ValueError, match="closed"):
        index.search_nearest(queries[3], K, recall=0.9)


def test_wrong_arguments_and_few_rows(rng: np.random.Generator) -> None:
    rows = grouped(rng, 30)
    index = index_of(rows, "dot")
    with pytest.raises(ValueError, match="at most one limit of a search"):
        index.search_nearest(rows, recall=0.9, budget=3)
    with pytest.raises(TypeError, match="nearest: expected True or False"):
        index.build(nearest="yes")  # type: ignore[arg-type]
    each: tuple[dict[str, Any], ...] = ({}, {"epsilon": 0.1})
    for metric, limits in itertools.product(("l2", "dot"), each):
        without = index_of(rows, metric, keep_vectors=False).build()
        with pytest.raises(ValueError, match="needs the vectors.*recall="):
            without.search_nearest(rows, **limits)
    found = index.search_nearest(rows[0], 40, recall=0.9)
    assert (found.ids[30:] == -1).all() and np.isnan(found.scores[30:]).all()
    assert farann.Index(metric="dot").search_nearest([[1.0]], 2, recall=0.9).ids.tolist() == [
        [-1, -1]]
    zeros = index.search_nearest(np.zeros(DIM), 3, recall=1.0)
    assert_same_bits(zeros.scores, np.zeros(3, np.float32))
    assert not np.signbit(zeros.scores).any()


@pytest.mark.parametrize("metric", ["dot", "cosine"])
@pytest.mark.parametrize("kind", ["1e-30", "denormals", "mixed magnitudes", "grid"])
def test_limits_keep_the_sign_of_zeros(kind: str, metric: str, rng: np.random.Generator) -> None:
    """Products too small for float32 are zeros with a sign; sums of zeros are 0."""
    rows = rows_for(kind, rng, 60, 3, metric)
    queries = queries_for(rng, rows, metric)
    index = index_of(rows, metric).build(tune=(40,), nearest=True)
    exact = index.search_nearest(queries, 40, return_keys=True)
    for limit in ({"epsilon": 0.0}, {"seconds": 100.0}, {"budget": 60}, {"recall": 1.0}):
        found = index.search_nearest(queries, 40, return_keys=True, **limit)
        assert_same(found, exact)
        assert found.keys is not None and exact.keys is not None
        assert_array_equal(found.keys.view(np.int64), exact.keys.view(np.int64))
        for query, scores in zip(queries, exact.scores, strict=True):
            for _ in range(2):  # the second time it is answered as the first one was
                assert_same_bits(index.search_nearest(query, 40, **limit).scores, scores)


@pytest.mark.parametrize("vectors", [True, False], ids=["vectors", "codes alone"])
def test_the_core_writes_zeros(vectors: bool, rng: np.random.Generator,
                               monkeypatch: pytest.MonkeyPatch) -> None:
    """They are those of the queries that were given, without a second look at their keys."""
    index = index_of(grouped(rng, 300), "dot", keep_vectors=vectors).build(nearest=True)
    monkeypatch.setattr("farann.runtime.batches.keys_of_found", None)
    for n in (1, 3, 40):
        found = index.search_nearest(np.zeros((n, DIM), np.float32), 5, budget=300)
        assert_same_bits(found.scores, np.zeros((n, 5), np.float32))
