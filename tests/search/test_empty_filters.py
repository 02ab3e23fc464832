"""Filters with nothing in them, of any type, in every question: nothing is excluded, or found."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from cases import assert_same, pairs

import farann

ROWS = np.random.default_rng(0).standard_normal((24, 3), dtype=np.float32)
NOTHING: dict[str, Any] = {
    "list": [], "tuple": (), "set": set(), "frozenset": frozenset(), "dict": {}, "range": range(0),
    "keys": {}.keys(), "float64": np.array([]), "int64": np.empty(0, np.int64),
    "objects": np.empty(0, object), "strings": np.empty(0, "U3"), "bool": np.empty(0, np.bool_),
    "no lists": np.empty((0, 4)), "lists of none": np.empty((3, 0), np.int32), "nested": [[]],
    "each": [[], (), set()], "None": [None], "Nones": [None, [], np.empty(0)],
    "object lists": np.array([None, []], object)}
WITH_NONE = ("None", "Nones", "object lists")  # is no list of rows that may be found
QUERIES = {"single": ROWS[0], "one": ROWS[:1], "batch": ROWS[:5]}
SEARCHES: dict[str, Callable[..., Any]] = {
    "furthest": lambda index, q, **only: index.search_furthest(q, 4, **only),
    "nearest": lambda index, q, **only: index.search_nearest(q, 4, **only),
    "recall": lambda index, q, **only: index.search_furthest(q, 4, recall=0.9, **only),
    "beyond": lambda index, q, **only: index.search_beyond(q, radius=0.0, **only),
    "within": lambda index, q, **only: index.search_within(q, radius=0.0, **only),
    "mmr": lambda index, q, **only: index.search_mmr(q, 4, **only),
    "from sets": lambda index, q, **only: index.search_furthest_from(
        [np.atleast_2d(one) for one in np.atleast_2d(q)], 4, **only),
    "contrast": lambda index, q, **only: index.search_contrast(
        [np.atleast_2d(one) for one in np.atleast_2d(q)], None, 4, **only)}
SETS: dict[str, Callable[..., Any]] = {
    "select": lambda index, **only: index.select_diverse(5, **only),
    "spaced": lambda index, **only: index.select_spaced(np.arange(24), k=5, **only),
    "pairs": lambda index, **only: index.pairs_within(0.0, **only),
    "diameter": lambda index, **only: index.diameter(**only),
    "graph": lambda index, **only: index.furthest_graph(3, **only),
    "filter": lambda index, **only: index.search_furthest(
        ROWS[:5], 4, allowed=index.filter(**only))}


@pytest.fixture(scope="module", params=["integers", "strings"])
def index(request: pytest.FixtureRequest) -> farann.Index:
    named, made = request.param == "strings", farann.Index(metric="cosine")
    made.add(ROWS, [f"id {i}" for i in range(24)] if named else None,
             groups=[f"g{i % 3}" for i in range(24)] if named else np.arange(24) % 3)
    return made


@pytest.mark.parametrize(("index", "search", "of"), pairs(
    ["integers", "strings"], SEARCHES, QUERIES), indirect=["index"])
def test_searches(search: str, of: str, index: farann.Index) -> None:
    ask = SEARCHES[search]
    everything = ask(index, QUERIES[of])
    for kind, nothing in NOTHING.items():
        assert_same(ask(index, QUERIES[of], exclude=nothing), everything)
        assert_same(ask(index, QUERIES[of], outside_groups=nothing), everything)
        assert_same(ask(index, QUERIES[of], exclude=nothing, outside_groups=nothing,
                        groups=None), everything)
        for name in ("allowed", "groups"):
            if kind in WITH_NONE:
                with pytest.raises((TypeError, ValueError), match=name):
                    ask(index, QUERIES[of], **{name: nothing})
            elif name == "groups" or kind != "bool":
                found = ask(index, QUERIES[of], **{name: nothing}).to_dict()
                assert not len(found["id"])


@pytest.mark.parametrize("search", SETS)
def test_questions_about_all_rows(search: str, index: farann.Index) -> None:
    everything = SETS[search](index, allowed=index.ids)
    for nothing in NOTHING.values():
        for name in ("exclude", "outside_groups"):
            found = SETS[search](index, **{name: nothing})
            assert found.ids.tolist() == everything.ids.tolist()


def test_lists_of_which_some_are_empty(index: farann.Index) -> None:
    best = index.search_furthest(ROWS[:5], 4).ids
    right = best[:, :3].copy()
    right[2] = best[2, 1:]
    lists: list[Any] = [[], None, [best[2, 0]], np.empty((0, 4)), [None]]
    for exclude in (lists, tuple(lists), np.array([*lists, 0], object)[:5]):
        found = index.search_furthest(ROWS[:5], 3, exclude=exclude)
        assert found.ids.tolist() == right.tolist()


def test_without_an_index() -> None:
    everything = farann.search_furthest(ROWS, ROWS[:5], 4)
    for nothing in NOTHING.values():
        assert_same(farann.search_furthest(ROWS, ROWS[:5], 4, exclude=nothing), everything)
        assert_same(farann.search_nearest(ROWS, ROWS[:5], 4, exclude=nothing),
                    farann.search_nearest(ROWS, ROWS[:5], 4))
        assert_same(farann.search_mmr(ROWS, ROWS[:5], 4, metric="cosine",
                                      exclude=nothing),
                    farann.search_mmr(ROWS, ROWS[:5], 4, metric="cosine"))
        assert_same(farann.select_diverse(ROWS, 4, exclude=nothing),
                    farann.select_diverse(ROWS, 4))


def test_what_is_wrong_stays_wrong(index: farann.Index) -> None:
    """Too few lists with an id in one of them, a label alone that is empty, masks."""
    id = index.ids[0]
    with pytest.raises(ValueError, match="exclude: expected ids for each of 5 queries, got 2"):
        index.search_furthest(ROWS[:5], 4, exclude=[[], [id]])
    with pytest.raises(TypeError, match="exclude: expected"):
        index.search_furthest(ROWS[0], 4, exclude="" if isinstance(id, str) else 1.5)
    with pytest.raises(ValueError, match="allowed: expected a mask"):
        index.search_furthest(ROWS[0], 4, allowed=np.empty(0, np.bool_))
    with pytest.raises(ValueError, match="got none of them"):
        index.filter()
    plain = farann.Index()
    plain.add(ROWS)
    assert_same(plain.search_furthest(ROWS, 4, outside_groups=[]), plain.search_furthest(ROWS, 4))
    with pytest.raises(ValueError, match="groups: the index has no groups"):
        plain.search_furthest(ROWS, 4, groups="a")


@pytest.mark.parametrize("queries", [[0.0], [[0.0], [1.0]]])
@pytest.mark.parametrize("some", [(), (1,)])
def test_generators_are_refused_by_name(queries: Any, some: Any) -> None:
    index = farann.Index()
    index.add([[1.0], [2.0]])
    with pytest.raises(TypeError, match=r"^exclude: expected an array, got a generator; write lis"):
        index.search_furthest(queries, k=1, exclude=(one for one in some))  # type: ignore[arg-type]
