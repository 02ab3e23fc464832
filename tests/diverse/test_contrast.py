"""Rows like some vectors and unlike others: against float64 in numpy, and laws."""

from __future__ import annotations

import tracemalloc
from functools import partial
from typing import Any, Literal

import inside
import numpy as np
import pytest
import reference
from cases import DATA, Float32, assert_same, float32, in_turn, index_of, queries_for, rows_for
from diverse_oracle import contrast
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal
from shard_cases import PlainCluster, built

import farann

METRICS = ("dot", "cosine")
KINDS = sorted(DATA)
NEST: list[Any] = []  # which has itself in it
NEST.append(NEST)
WEIGHTS = (1.0, 0.0, 0.3, 1e-30, 17.0)


def changed_index(rows: Float32, ids: Any, metric: str, **options: Any) -> farann.Index:
    """An index of rows that were built, and rows behind these."""
    cut = len(rows) * 4 // 5
    index = index_of(rows[:cut], metric, ids[:cut], **options).build()
    index.add(rows[cut:], ids[cut:])
    return index


@pytest.mark.parametrize(("kind", "metric"), in_turn(KINDS, 1, METRICS))
def test_every_kind_of_rows(kind: str, metric: str) -> None:
    rng = np.random.default_rng(KINDS.index(kind))
    rows, ids = rows_for(kind, rng, 400, 19, metric), rng.permutation(1200)[:400]
    index, queries = changed_index(rows, ids, metric), queries_for(rng, rows, metric)
    some = [  # likes and dislikes; some are the same, some cancel each other
        (queries[:1], queries[1:5]), (queries[:3], queries[2:9]), (rows[:2], rows[:2]),
        (rows[5:6], rows[5:6]), (queries[:0], queries[:3]), (queries[:2], queries[:0]),
        (rows[9:10], np.concatenate([rows[9:10], -rows[9:10], queries[:2]])),
        (np.repeat(rows[:1], 2, axis=0) * float32([[1], [-1]]), queries[:2])]
    likes, dislikes = zip(*some, strict=True)
    with np.errstate(over="ignore"):
        for weight in WEIGHTS[:1] if kind in KINDS[::3] else WEIGHTS[1:]:
            for likes_by in ("mean", "best"):
                options: dict[str, Any] = {"weight": weight, "likes_by": likes_by}
                right = [contrast(*one, rows, 7, metric, ids=ids, **options) for one in some]
                for level in inside.levels():
                    inside.store.use_level(index, level)
                    found = index.search_contrast(likes, dislikes, 7, **options)
                    assert_same(found, reference.Found(
                        ids=np.stack([one.ids for one in right]),
                        scores=np.stack([one.scores for one in right])))
                alone = index.search_contrast(*some[1], 7, **options)
                assert_same(alone, right[1])


@pytest.mark.parametrize(("kind", "metric"), in_turn(KINDS, metrics=METRICS))
def test_many_likes_and_dislikes(kind: str, metric: str) -> None:
    """With the best of many likes both are compared apart; few rows get members, exactly."""
    rng = np.random.default_rng(KINDS.index(kind))
    rows, ids = rows_for(kind, rng, 200, 7, metric), rng.permutation(600)[:200]
    index, queries = changed_index(rows, ids, metric), queries_for(rng, rows, metric)
    likes, dislikes = (np.concatenate([some, rows])[rng.integers(0, len(some) + 60, 34)]
                       for some in (queries[::2], queries[1::2]))
    weight, out = WEIGHTS[KINDS.index(kind) % len(WEIGHTS)], ids[:9].tolist()
    with np.errstate(over="ignore"):
        for k in (6, 400):
            right = contrast(likes, dislikes, rows, k, metric, ids=ids, weight=weight,
                             likes_by="best", left_out=out)
            assert_same(index.search_contrast(likes, dislikes, k, weight=weight, exclude=out,
                                              likes_by="best"), right)


def test_many_likes_in_a_batch_and_by_groups() -> None:
    rng = np.random.default_rng(9)
    rows = rows_for("grid", rng, 500, 6, "dot")
    index = farann.Index(metric="dot")
    index.add(rows, groups=np.arange(500) % 7)
    likes = [rng.standard_normal((m, 6)).astype(np.float32) for m in (2, 50, 60)]
    dislikes = rng.standard_normal((40, 6)).astype(np.float32)
    batch = index.search_contrast(likes, dislikes, 9, likes_by="best", return_keys=True)
    assert batch.keys is not None
    for i, some in enumerate(likes):
        every = contrast(some, dislikes, rows, 500, "dot", likes_by="best")
        assert_array_equal(batch.ids[i], every.ids[:9])
        assert_array_equal(batch.keys[i].astype(np.float32), every.scores[:9])
        few = index.search_contrast(some, dislikes, 20, likes_by="best", per_group=2, threads=2)
        left, right = [2] * 7, []
        for row in every.ids.tolist():
            left[row % 7] -= 1
            right += [row] if left[row % 7] >= 0 else []
        assert few.ids.tolist() == right + [-1] * 6
        inside = index.search_contrast(some, dislikes, 9, likes_by="best", groups=3)
        assert_array_equal(inside.ids, every.ids[every.ids % 7 == 3][:9])


def test_likes_times_dislikes_form_no_members() -> None:
    """A thousand of each: a product of each with each row, not a million members."""
    rng = np.random.default_rng(8)
    rows, likes, dislikes = (rng.standard_normal((n, 12)).astype(np.float32)
                             for n in (2000, 1000, 1000))
    index = index_of(rows, "dot")
    tracemalloc.start()
    found = index.search_contrast(likes, dislikes, 5, likes_by="best", weight=1.0,
                                  return_stats=True)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 16 << 20  # members alone would be 96 MB
    assert found.stats is not None and found.stats.float_products < 2 * 2000 * 12 * 2000
    scores = (rows @ likes.T).max(axis=1) - (rows @ dislikes.T).max(axis=1)
    assert_array_equal(found.ids, np.argsort(-scores)[:5])


@pytest.mark.parametrize("options", [
    {"codes": "float32"}, {"codes": "int4"}, {"cells": 8}, {"dtype": "uint8"}, {"dtype": "int8"},
    {"dtype": "float16"}])
@pytest.mark.parametrize("metric", METRICS)
def test_every_layout(metric: str, options: dict[str, Any]) -> None:
    rng = np.random.default_rng(5)
    made = rng.standard_normal((3000, 4)) @ rng.standard_normal((4, 48))
    if "int8" in options.get("dtype", ""):  # whole numbers, with many ties
        made = np.clip(np.round(made), 0, 3)
        made[:, 0] = 1
    rows = made.astype(np.float16).astype(np.float32)
    ids = rng.permutation(3000)
    index = changed_index(rows, ids, metric, **options)
    likes, dislikes = (rng.standard_normal((9, m, 48)).astype(np.float32) for m in (2, 4))
    if "int8" in options.get("dtype", ""):
        likes, dislikes = np.round(likes) + 1e-7, np.round(dislikes)
    for threads in (1, 2):
        found = index.search_contrast(likes, dislikes, 5, weight=0.7, threads=threads)
        some = index.search_contrast(likes, dislikes, 5, allowed=ids[::3], likes_by="best",
                                     threads=threads)
        for i in range(9):
            assert_array_equal(found.ids[i], contrast(
                likes[i].astype(np.float32), dislikes[i].astype(np.float32), rows, 5, metric,
                ids=ids, weight=0.7).ids)
            assert_array_equal(some.ids[i], contrast(
                likes[i].astype(np.float32), dislikes[i].astype(np.float32), rows[::3], 5, metric,
                ids=ids[::3], likes_by="best").ids)


@pytest.mark.parametrize("metric", METRICS)
def test_rows_by_their_ids(metric: str, rng: np.random.Generator) -> None:
    rows = rows_for("duplicates", rng, 300, 9, metric)
    names = [f"d{i}" for i in range(300)]
    index = index_of(rows, metric)
    named = farann.Index(metric=metric)
    named.add(rows, names, groups=[i % 3 for i in range(300)])
    right = contrast(rows[[3, 4]], rows[[7]], rows, 6, metric, left_out=[3, 4, 7])
    assert_same(index.search_contrast(like_ids=[3, 4], dislike_ids=7, k=6), right)
    assert_same(index.search_contrast(rows[[3, 4]], dislike_ids=[7], k=6, exclude={3, 4}), right)
    hits = named.search_contrast(like_ids={"d3", "d4"}, dislike_ids="d7", k=6)
    assert hits.ids.tolist() == [f"d{i}" for i in right.ids]
    right = contrast(rows[[3]], rows[[7]], rows, 6, metric, left_out=[3, 7, 5])
    assert_same(index.search_contrast(like_ids=3, dislike_ids=7, k=6, exclude=[5]), right)
    batch = index.search_contrast(like_ids=[[3, 4], [], [9]], dislike_ids=[[7], [8, 1], []], k=6,
                                  likes_by="best", exclude=[[5], [6, 2], []])
    for i, (like, dislike, out) in enumerate([([3, 4], [7], [5]), ([], [8, 1], [6, 2]),
                                              ([9], [], [])]):
        right = contrast(rows[like], rows[dislike], rows, 6, metric, likes_by="best",
                         left_out=[*like, *dislike, *out])
        assert_array_equal(batch.ids[i], right.ids)
    # A set for all questions of a batch; groups of each.
    for groups in ([0, 1, 0], 2):
        found = named.search_contrast(like_ids=[["d3"], ["d4"], ["d5", "d6"]], dislike_ids="d7",
                                      k=4, groups=groups, likes_by="best")
        for i, like in enumerate(([3], [4], [5, 6])):
            group = groups if isinstance(groups, int) else groups[i]
            right = contrast(rows[like], rows[[7]], rows, 4, metric, likes_by="best",
                             left_out=[*like, 7, *(j for j in range(300) if j % 3 != group)])
            assert found.ids[i].tolist() == [f"d{j}" for j in right.ids]


@pytest.mark.parametrize("codes", ["int8", "int4", "float32"])
@pytest.mark.parametrize("dim", [1, 4, 16])
def test_rows_within_rounding_of_their_center(dim: int, codes: str) -> None:
    """Rows of one direction, whose keys differ by roundings alone: by ids, at all levels, and
    merged from shards."""
    for seed in range(4):
        rng = np.random.default_rng(seed)
        line = rng.standard_normal(dim) if seed else rng.integers(1, 30, dim)
        lengths = rng.uniform(0.5, 30, 1000) if seed else rng.integers(1, 9999, 1000)
        rows, dislikes = float32(np.outer(lengths, line)), float32(rng.standard_normal((2, dim)))
        index = index_of(rows, "cosine", codes=codes).build()
        ids = np.arange(1000)
        shards = [index_of(rows[i::2], "cosine", ids[i::2], codes=codes).build() for i in (0, 1)]
        for like, dislike, weight in ((line, line, 0.3), (line, dislikes, 0.7),
                                      (dislikes[0], line, 1.0)):
            asked = float32(like)[None], float32(dislike).reshape(-1, dim)
            right = contrast(*asked, rows, 9, "cosine", weight=weight)
            keys = []
            for level in inside.levels():
                for one in (index, *shards):
                    inside.store.use_level(one, level)
                found = index.search_contrast(*asked, 9, weight=weight, return_keys=True)
                assert_same(found, right)
                keys.append(found.keys)
                merged = farann.merge([
                    shard.search_contrast(*asked, 9, weight=weight, return_keys=True)
                    for shard in shards])
                assert_array_equal(merged.ids, right.ids)
                assert_array_equal(keys[-1], keys[0])
                assert_array_equal(merged.scores, right.scores)


@given(st.integers(0, 2**32 - 1), st.sampled_from(["grid", "gaussian", "duplicates", "ulps apart"]),
       st.sampled_from(METRICS), st.integers(1, 60), st.integers(1, 9))
def test_laws(seed: int, kind: str, metric: str, n: int, dim: int) -> None:
    rng = np.random.default_rng(seed)
    rows = rows_for(kind, rng, n, dim, metric)
    index, k = index_of(rows, metric), int(rng.integers(1, n + 3))
    queries = queries_for(rng, rows, metric)
    likes, dislikes = queries[rng.integers(0, len(queries), 2)], queries[:3]
    weight = float(rng.choice(WEIGHTS))
    by: Literal["mean", "best"] = "mean" if rng.integers(2) else "best"
    found = index.search_contrast(likes, dislikes, k, weight=weight, likes_by=by)
    # Neither the order of likes and dislikes counts, nor a dislike that is given twice.
    order = rng.permutation(3)
    assert_same(index.search_contrast(likes[::-1], dislikes[[*order, 0]], k, weight=weight,
                                      likes_by=by), found)
    # Without dislikes, and with weight 0, the nearest rows are found.
    nearest = index.search_nearest(likes[0], k)
    cases: list[dict[str, Any]] = [{}, {"dislikes": dislikes, "weight": 0.0}]
    for options in cases:
        alone = index.search_contrast(likes[0], k=k, **options)
        if metric == "dot":
            assert_same(alone, nearest)
        np.testing.assert_allclose(alone.scores, nearest.scores, rtol=1e-6, atol=1e-6)
    # Without likes, the rows furthest from all dislikes.
    furthest = index.search_furthest_from([dislikes], k)
    np.testing.assert_allclose(index.search_contrast(dislikes=dislikes, k=k, weight=1.0).scores,
                               -furthest.scores[0], rtol=1e-6, atol=1e-6)
    # A dislike more raises no score; one like is its own mean and best.
    more = index.search_contrast(likes, queries[:4], k, weight=weight, likes_by=by)
    assert not (more.scores > found.scores).any()
    assert_same(index.search_contrast(likes[:1], dislikes, k, likes_by="best"),
                index.search_contrast(likes[0], dislikes, k, likes_by="mean"))
    best = index.search_contrast(likes, dislikes, k, likes_by="best", return_keys=True)
    assert best.keys is not None and (np.diff(best.keys[best.found]) <= 0).all()
    assert len(set(best.ids[best.found].tolist())) == best.found.sum() == min(k, n)


def test_the_usual_weight() -> None:
    """A dislike that a right row is a little like doesn't rule it out."""
    rows = np.array([[0.9, 0.4], [0.2, -0.98]], np.float32)
    index = index_of(rows, "cosine")
    like, dislike = [1.0, 0.0], [0.6, 0.8]
    assert_same(index.search_contrast(like, dislike, 2),
                index.search_contrast(like, dislike, 2, weight=0.2))
    assert index.search_contrast(like, dislike, 1).ids.tolist() == [0]
    assert index.search_contrast(like, dislike, 1, weight=1.0).ids.tolist() == [1]


def test_limits() -> None:
    rng = np.random.default_rng(6)
    rows = rng.standard_normal((3000, 24)).astype(np.float32)
    for metric in METRICS:
        index = index_of(rows, metric).build()
        likes, dislikes = (rng.standard_normal((4, m, 24)).astype(np.float32) for m in (2, 3))
        for by in ("mean", "best"):
            exact = index.search_contrast(likes, dislikes, 5, likes_by=by)
            near = index.search_contrast(likes, dislikes, 5, likes_by=by, epsilon=0.1)
            assert (near.scores[:, -1] + 0.1 >= exact.scores[:, -1]).all()
            assert_same(index.search_contrast(likes, dislikes, 5, likes_by=by, recall=0.9), exact)
            assert_same(index.search_contrast(likes, dislikes, 5, likes_by=by, seconds=9.0), exact)
            assert_same(index.search_contrast(likes, dislikes, 5, likes_by=by, budget=3000), exact)
            few = index.search_contrast(likes, dislikes, 5, likes_by=by, budget=160)
            assert (few.ids >= 0).all() and (few.ids != exact.ids).any()
        stats = index.search_contrast(likes, dislikes, likes_by="best", return_stats=True).stats
        assert stats is not None and stats.queries == 4 and stats.rows_scanned >= 3000


def test_limits_of_many_likes_and_dislikes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Members of all pairs are formed only where a budget leaves less to do with them."""
    monkeypatch.setattr(inside.settings, "forced_level", "scalar")  # blocks of others are longer
    rng = np.random.default_rng(6)
    rows, likes, dislikes = (rng.standard_normal((n, 24)).astype(np.float32)
                             for n in (3000, 300, 300))
    index = index_of(rows, "dot").build()
    ask = partial(index.search_contrast, likes, dislikes, 5, likes_by="best", return_stats=True)
    exact = ask()
    for limits in ({"budget": 1}, {"budget": 10_000}, {"seconds": 1e-9}, {"epsilon": 0.1}):
        tracemalloc.start()
        hits = ask(**limits)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert_same(hits, exact)
        assert hits.stats == exact.stats
        assert peak < 300 * 300 * 24 * 8 / 2  # bytes of all members
    monkeypatch.setattr(inside.settings, "member_work", 0)
    assert_same(ask(budget=21), exact)
    few = ask(budget=19)
    assert few.stats.rows_scanned < 300 * 3000 / 8 and (few.ids >= 0).all()  # of all likes


def test_merged_parts_are_the_whole() -> None:
    rng = np.random.default_rng(7)
    rows = np.repeat(rng.standard_normal((100, 5)), 3, axis=0).astype(np.float32)
    for metric in METRICS:
        whole = index_of(rows, metric)
        parts = [index_of(rows[i::2], metric, np.arange(i, 300, 2)) for i in range(2)]
        for by in ("mean", "best"):
            asked = rows[:2] + 1, rows[30:33], 20
            assert_same(farann.merge([part.search_contrast(*asked, likes_by=by, return_keys=True)
                                      for part in parts]),
                        whole.search_contrast(*asked, likes_by=by))


def test_few_rows_and_none() -> None:
    index = farann.Index(3, "dot")
    for id in (0, 1):
        assert index.search_contrast([1, 0, 0], [[0, 1, 0]], 4).ids.tolist() == [-1] * 4
        hits = index.search_contrast([[[1, 0, 0]]] * 2, [[], [[0, 1, 0]]], 4, likes_by="best")
        assert hits.ids.shape == (2, 4) and not hits.found.any()
        index.add([[1, 2, 3]])
        index.remove([id])
    index.add([[1, 2, 3]], [8])
    assert index.search_contrast([1, 0, 0], [0, 1, 0], 4).ids.tolist() == [8, -1, -1, -1]
    nothing: Any
    for nothing in ([], set(), np.empty(0, np.int64)):
        hits = index.search_contrast([1, 0, 0], [0, 1, 0], 1, exclude=nothing)
        assert hits.ids.tolist() == [8]
    assert index.search_contrast(np.empty((0, 2, 3)), [0, 1, 0], 4).ids.shape == (0, 4)
    assert index.search_contrast(like_ids=np.empty((0, 2), int), k=4).ids.shape == (0, 4)


@pytest.mark.parametrize(("given", "error", "message"), [
    ({}, TypeError, "likes: expected likes or dislikes, as vectors or ids, got neither"),
    ({"likes": [], "dislikes": []}, ValueError, "expected a like or a dislike in each question"),
    ({"likes": [[1, 2]], "like_ids": 1}, TypeError, "likes: expected one of likes and like_ids, "),
    ({"dislike_ids": [1, 9]}, KeyError, "dislike_ids: 9 is not in the index"),
    ({"like_ids": [[1], [9]]}, KeyError, r"like_ids\[1\]: 9 is not in the index"),
    ({"like_ids": [[[1]]]}, ValueError, r"like_ids\[0\]"),
    ({"likes": [1, 2, 3]}, ValueError, "likes: expected vectors of dimension 2, got 3"),
    ({"likes": [1, np.nan]}, ValueError, "likes: expected finite numbers, got NaN"),
    ({"likes": [0, 0]}, ValueError, "likes: cosine needs vectors with a direction"),
    ({"likes": [[[1, 2]]], "dislikes": [[[1, 2]]] * 2}, ValueError,
     "dislikes: expected a set for each of 1 questions, as there are of likes, got 2"),
    ({"likes": [[[1, 2]], []], "dislike_ids": [[1], []]}, ValueError, "none in question 1"),
    ({"likes": [1, 2], "weight": -1}, ValueError, "weight: expected a number from 0 to"),
    ({"likes": [1, 2], "weight": 1e39}, ValueError, "weight: expected a number from 0 to"),
    ({"likes": [1, 2], "weight": "1"}, TypeError, "weight: expected a number"),
    ({"likes": [1, 2], "likes_by": "max"}, ValueError, "likes_by: expected one of 'mean', 'best'"),
    ({"likes": [1, 2], "recall": 0.5, "budget": 3}, ValueError, "at most one limit"),
    ({"likes": NEST}, (TypeError, ValueError), "likes"),
    ({"like_ids": NEST}, (TypeError, ValueError), "like_ids"),
    ({"likes": "d7"}, (TypeError, ValueError), "likes"),
    ({"positive": [1, 2]}, TypeError, "unexpected keyword 'positive': use likes")])
def test_what_is_refused(given: dict[str, Any], error: Any, message: str) -> None:
    index = farann.Index(metric="cosine")
    index.add(np.eye(2))
    with pytest.raises(error, match=message):
        index.search_contrast(**given)


def test_which_indexes_answer() -> None:
    index = farann.Index()
    index.add(np.eye(4))
    with pytest.raises(ValueError, match="search_contrast: expected an index with metric='dot'"):
        index.search_contrast([1, 0, 0, 0])
    coded = farann.Index(metric="dot", keep_vectors=False)
    coded.add(np.eye(4))
    with pytest.raises(ValueError, match="search_contrast needs the vectors"):
        coded.search_contrast([1, 0, 0, 0])


@pytest.mark.parametrize("metric", METRICS)
def test_shards_answer_as_one_index(metric: str, rng: np.random.Generator) -> None:
    rows = rows_for("duplicates", rng, 500, 7, metric)
    uri, one = f"memory://contrast-{metric}", index_of(rows, metric)
    built(uri, rows, metric, rows_per_shard=200)
    cluster = PlainCluster(uri)
    likes, dislikes = rng.standard_normal((2, 3, 2, 7)).astype(np.float32)
    cases: list[dict[str, Any]] = [
        {}, {"likes_by": "best"}, {"exclude": [3, 4, 5]}, {"weight": 0.5, "budget": 500},
        {"allowed": np.arange(0, 500, 3)}]
    for options in cases:
        assert_same(cluster.search_contrast(likes, dislikes, 6, **options),
                    one.search_contrast(likes, dislikes, 6, **options))
    stats = cluster.search_contrast(likes, dislikes, 6, return_stats=True).stats
    assert stats.queries == 3 and stats.rows_scanned >= 500
    cases = [{"likes": likes[0], "dislike_ids": 7}, {"like_ids": [1, 2], "dislike_ids": [400]},
             {"like_ids": [[1, 450], [], [3]], "dislikes": dislikes[0], "exclude": [9, 8]}]
    for asked in cases:
        assert_same(cluster.search_contrast(k=6, likes_by="best", **asked),
                    one.search_contrast(k=6, likes_by="best", **asked))
