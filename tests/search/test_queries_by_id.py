"""Rows by their ids in the place of vectors, left out of their own answers: against the oracle."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import reference
from cases import assert_same, assert_same_beyond, in_turn, rows_for
from numpy.testing import assert_array_equal

import farann

N, DIM = 400, 9
KINDS = ["gaussian", "duplicates", "all equal", "signed zeros", "mixed magnitudes", "3e38"]


def changed_index(rows: Any, ids: Any, metric: str, **options: Any) -> farann.Index:
    """An index of rows that were built, and rows behind these, without every seventh row."""
    index = farann.Index(metric=metric, **options)
    index.add(rows[:300], ids[:300])
    index.build()
    index.add(rows[300:], ids[300:])
    index.remove(ids[::7])
    return index


def excludes(own: Any, rng: np.random.Generator, ids: Any) -> list[tuple[Any, list[list[Any]]]]:
    """Values of `exclude`, and what is left out for each query then, itself too."""
    some, each = rng.choice(ids, 5).tolist(), rng.choice(ids, (len(own), 3))
    return [
        (None, [[one] for one in own]),
        (some, [[one, *some] for one in own]),
        (each, [[one, *more] for one, more in zip(own, each.tolist(), strict=True)]),
        ([each[0].tolist(), *[[]] * (len(own) - 1)],
         [[own[0], *each[0].tolist()], *([one] for one in own[1:])]),
    ]


@pytest.mark.parametrize(("kind", "metric"), in_turn(KINDS))
def test_rows_are_queries(kind: str, metric: str, rng: np.random.Generator) -> None:
    rows, ids = rows_for(kind, rng, N, DIM, metric), rng.permutation(3 * N)[:N]
    index = changed_index(rows, ids, metric)
    there = np.arange(N) % 7 > 0
    at = np.flatnonzero(there)[[0, 5, 5, 200, -1]]
    own: list[int] = ids[at].tolist()
    common: dict[str, Any] = {"ids": ids[there], "metric": metric}
    with np.errstate(all="ignore"):
        radius = float(np.nanmedian(index.score(rows[at[0]], ids[there])))
        for exclude, left_out in excludes(own, rng, ids):
            right = reference.furthest(rows[at], rows[there], 6, exclude=left_out, **common)
            assert_same(index.search_furthest(ids=own, k=6, exclude=exclude), right)
            right = reference.nearest(rows[at], rows[there], 6, exclude=left_out, **common)
            assert_same(index.search_nearest(ids=np.array(own), k=6, exclude=exclude), right)
            beyond = reference.beyond(rows[at], rows[there], radius, exclude=left_out, **common)
            assert_same_beyond(index.search_beyond(ids=own, radius=radius, exclude=exclude), beyond)
            within = index.search_within(rows[at], radius=radius, exclude=left_out)
            assert_same_beyond(index.search_within(ids=own, radius=radius, exclude=exclude), within)
        assert_same(index.search_furthest(ids=own[3], k=6),
                    index.search_furthest(rows[at[3]], 6, exclude=[own[3]]))
        assert index.search_furthest(ids=own[3]).ids.shape == (10,)
        assert_same(index.search_nearest(ids=own[3], k=2, allowed=ids[there][:9], return_keys=True),
                    index.search_nearest(rows[at[3]], 2, exclude=[own[3]], allowed=ids[there][:9]))


@pytest.mark.parametrize("metric", reference.METRICS)
def test_sets_and_relevance_of_rows(metric: str, rng: np.random.Generator) -> None:
    rows = rows_for("duplicates", rng, N, DIM, metric)
    index = changed_index(rows, np.arange(N), metric)
    sets = [[3, 4], [5], {8, 9, 10}]
    vectors = [rows[sorted(one)] for one in sets]
    for exclude in (None, [[1, 2], [], [300]]):
        left_out = [[*one, *([] if exclude is None else exclude[i])] for i, one in enumerate(sets)]
        assert_same(index.search_furthest_from(ids=sets, k=9, exclude=exclude),
                    index.search_furthest_from(vectors, 9, exclude=left_out))
    if metric != "l2":
        assert_same(index.search_mmr(ids=[3, 5], k=4),
                    index.search_mmr(rows[[3, 5]], 4, exclude=[[3], [5]]))
        assert_same(index.search_mmr(ids=3, k=4), index.search_mmr(rows[3], 4, exclude=[3]))


def test_strings_groups_and_files(rng: np.random.Generator) -> None:
    rows = rows_for("duplicates", rng, 60, DIM, "l2")
    names = [f"d{i}" for i in range(60)]
    index = farann.Index()
    index.add(rows, names, groups=[i % 3 for i in range(60)])
    right = index.search_furthest(rows[[7, 8]], 5, exclude=[["d7", "d1"], ["d8", "d1"]])
    assert_same(index.search_furthest(ids=["d7", "d8"], k=5, exclude=["d1"]), right)
    assert_same(index.search_furthest(ids=("d7", "d8"), k=5, exclude=[["d1", None]] * 2), right)
    hits = index.search_nearest(ids="d7", k=60)
    assert sorted(hits.ids[:-1]) == sorted({*names} - {"d7"}) and hits.ids[-1] is None
    assert_array_equal(index.search_furthest_from(ids=[["d7", "d8"]], k=60).ids[0, -2:], [None] * 2)
    assert index.search_furthest(ids=[], k=3).ids.shape == (0, 3)
    assert index.search_furthest_from(ids=[], k=3).ids.shape == (0, 3)
    assert farann.Index().search_nearest(ids=[], k=3).ids.shape == (0, 3)


def test_without_vectors_codes_say_what_a_row_is(rng: np.random.Generator) -> None:
    rows = rows_for("gaussian", rng, 500, DIM, "l2")
    index = farann.Index(keep_vectors=False)
    index.add(rows)
    index.build()
    assert_same(index.search_furthest(ids=[3, 9], k=5, budget=500), index.search_furthest(
        index.reconstruct([3, 9]), 5, budget=500, exclude=[[3], [9]]))
    with pytest.raises(ValueError, match="needs the vectors"):
        index.search_furthest(ids=[3])
    with pytest.raises(ValueError, match="needs the vectors"):
        index.search_furthest_from(ids=[[3]])


@pytest.mark.parametrize("search", ["search_furthest", "search_nearest", "search_beyond",
                                    "search_within", "search_mmr", "search_furthest_from"])
def test_what_is_refused(search: str) -> None:
    index = farann.Index(metric="dot")
    index.add(np.eye(4), ["a", "b", "c", "d"])
    options = {"radius": 0.0} if search in ("search_beyond", "search_within") else {}
    of_sets = search == "search_furthest_from"
    ask, given = getattr(index, search), "sets" if of_sets else "queries"
    with pytest.raises(TypeError, match=f"{given}: expected one of {given} and ids, got neither"):
        ask(**options)
    with pytest.raises(TypeError, match=f"{given}: expected one of {given} and ids, got both"):
        ask(np.eye(4), ids=["a"], **options)
    with pytest.raises(KeyError, match="'x' is not in the index"):
        ask(ids=[["a", "x"]] if of_sets else ["a", "x"], **options)
    with pytest.raises(TypeError, match="ids"):
        ask(ids=[[1]] if of_sets else 1, **options)


def test_sets_of_ids_that_are_refused() -> None:
    index = farann.Index()
    index.add(np.eye(4))
    for ids in ([1, 2], np.array([1, 2])):
        with pytest.raises(ValueError, match=r"ids: .* pass one set as \[ids\]"):
            index.search_furthest_from(ids=ids)
    with pytest.raises(ValueError, match=r"ids\[1\]: expected at least one id, got an empty set"):
        index.search_furthest_from(ids=[[1], []])
    for wrong in (3, "d7", {1, 2}):
        with pytest.raises(TypeError, match="ids: expected a sequence of sets of ids"):
            index.search_furthest_from(ids=wrong)


@pytest.mark.parametrize("question", [
    lambda index, k: index.search_furthest(ids="d1", k=k),
    lambda index, k: index.search_nearest(ids=["d1", "d5"], k=k),
    lambda index, k: index.search_mmr(ids="d1", k=k),
    lambda index, k: index.search_furthest_from(ids=[["d1", "d5"], ["d2"]], k=k),
    lambda index, k: index.search_contrast(like_ids=["d1"], dislike_ids=["d5"], k=k),
])
def test_vectors_and_answers_are_of_one_moment(question: Any, rng: np.random.Generator) -> None:
    """Rows are replaced and removed, and strings get other numbers, while a search begins."""
    index = farann.Index(metric="cosine")
    index.add(rng.standard_normal((20, 4)), [f"d{i}" for i in range(20)])

    class Meanwhile:
        def __index__(self) -> int:
            if "d0" in index:
                index.remove(["d0", "d3"])
                index.add(rng.standard_normal((2, 4)), ["d1", "d5"], replace=True)
                index.build()
            return 19

    before = question(index, 19)
    assert_same(question(index, Meanwhile()), before)
    assert len(index) == 18


@pytest.mark.parametrize("name", ["ids", "exclude", "allowed", "groups"])
def test_nests_without_end_are_refused(name: str) -> None:
    index = farann.Index()
    index.add([[1.0], [2.0]], groups=["a", "b"])
    nest: list[Any] = []
    nest.append(nest)
    asked: dict[str, Any] = {"queries": None if name == "ids" else [[1.0]], name: nest}
    with pytest.raises((TypeError, ValueError)):
        index.search_furthest(**asked)
    with pytest.raises((TypeError, ValueError)):
        farann.Index().add([[1.0]], nest)
