"""What searches return: fields by name alone, padding apart, tables without it."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import farann

ROWS = [[1.0], [5.0], [3.0]]


@pytest.fixture
def index() -> farann.Index:
    made = farann.Index()
    made.add(ROWS, ids=[70, 10, 40])
    return made


def test_found(index: farann.Index) -> None:
    hits = index.search_furthest([[0.0], [4.0]], k=5, exclude=[[10], []])
    assert hits.found.tolist() == [[True, True, False, False, False], [True] * 3 + [False] * 2]
    assert hits.ids[hits.found].tolist() == [40, 70, 70, 10, 40]
    one = index.search_furthest([0.0], k=5)
    assert one.found.tolist() == [True] * 3 + [False] * 2
    assert not farann.Index(1).search_furthest([[0.0]] * 4, k=2).found.any()


def test_nothing_unpacks_or_has_a_length(index: farann.Index) -> None:
    for result, unpacked, counted in (
            (index.search_furthest([[0.0], [1.0]]), "Hits doesn't unpack: read hits.ids and "
             "hits.scores", "Hits has no length: read hits.ids.shape or hits.found.sum()"),
            (index.search_beyond([0.0], radius=2.0), "RangeHits doesn't unpack: read hits.offsets, "
             "hits.ids and hits.scores", "RangeHits has no length: read hits.ids.shape"),
            (index.select_diverse(2), "Selection doesn't unpack: read selection.ids and "
             "selection.scores", "Selection has no length: read selection.ids.shape"),
            (index.diameter(), "Diameter doesn't unpack: read diameter.ids and diameter.score",
             "Diameter has no length: read diameter.ids.shape")):
        attempts: tuple[tuple[Callable[[Any], object], str], ...] = (
            (list, unpacked), (lambda result: print(*result), unpacked), (iter, unpacked),
            (len, counted), (bool, counted))
        for attempt, said in attempts:
            with pytest.raises(TypeError) as error:
                attempt(result)
            assert str(error.value) == said
        with pytest.raises(TypeError):
            result[0]


def test_scores_in_the_place_of_ids_are_refused() -> None:
    ids, scores = np.arange(3), np.ones(3, np.float32)
    names, two = np.array(["a", None, "c"], object), np.ones((3, 2), np.int64)
    ends = np.array([0, 3])
    for kind, before, after in (
            (farann.Hits, (), ()), (farann.RangeHits, (ends,), ()), (farann.Selection, (), ()),
            (farann.Spaced, (), (1.0,)), (farann.Pairs, (), ())):
        make: Any = kind
        for good in (ids, names, two):
            assert make(*before, good, scores, *after).ids is good
        for wrong in ((scores, ids), (scores, scores), (ids, ids), (scores, names)):
            with pytest.raises(TypeError, match=rf"^{kind.__name__}: expected ids, which .* got "
                                                rf"{wrong[0].dtype} and {wrong[1].dtype}"):
                make(*before, *wrong, *after)


def test_copies_have_all_fields(index: farann.Index) -> None:
    asked: dict[str, Any] = {"return_keys": True, "return_stats": True}
    for result in (index.search_furthest([[0.0]], k=4, **asked), index.search_furthest([0.0]),
                   index.search_beyond([[0.0]], radius=2.0, return_keys=True),
                   index.select_diverse(2), index.diameter()):
        for other in (copy.copy(result), copy.deepcopy(result),
                      pickle.loads(pickle.dumps(result))):
            assert type(other) is type(result)
            for name in type(result).__slots__:
                np.testing.assert_array_equal(getattr(other, name), getattr(result, name))
    with pytest.raises(AttributeError):
        result.rank = 1  # type: ignore[union-attr]


def test_stats_are_there_where_they_are_requested(index: farann.Index) -> None:
    for queries in ([[0.0], [1.0]], np.zeros(1, np.float32), np.zeros(1, np.float32)):
        for asked in (True, False):
            hits = index.search_furthest(queries, return_stats=asked)
            sets = index.search_furthest_from([np.atleast_2d(queries)], return_stats=asked)
            for stats in (hits.stats, sets.stats):
                assert isinstance(stats, farann.SearchStats) == asked == (stats is not None)
    empty = farann.Index(1).search_furthest([0.0], return_stats=True)
    assert empty.stats == farann.SearchStats(1) and empty.keys is None


def test_reprs_are_short(index: farann.Index) -> None:
    hits = index.search_furthest([0.0], k=2)
    assert repr(hits) == "Hits(ids=[10, 40], scores=[5., 3.])"
    assert repr(index.diameter()) == "Diameter(ids=[10, 70], score=4.0)"
    assert repr(index.search_beyond([[0.0]], radius=4.0)) == (
        "RangeHits(offsets=[0, 1], ids=[10], scores=[5.])")
    hits = index.search_furthest([0.0], k=2, return_keys=True, return_stats=True)
    lines = repr(hits).split("\n")
    assert lines[:3] == ["Hits(ids=[10, 40],", "     scores=[5., 3.],", "     keys=[25.,  9.],"]
    assert lines[3].startswith("     stats=SearchStats(queries=1, ")
    lines = repr(index.search_furthest([[0.0]] * 1000, k=3)).split("\n")
    assert len(lines) == 14 and lines[0] == "Hits(ids=[[10, 40, 70],"
    assert lines[1] == " " * 10 + "[10, 40, 70],"
    named = farann.Index()
    named.add(ROWS, ids=["a", "b", "c"])
    assert repr(named.search_furthest([0.0], k=4)) == (
        "Hits(ids=['b', 'c', 'a', None], scores=[ 5.,  3.,  1., nan])")


@pytest.mark.parametrize(("old", "new"), [("BeyondHits", "RangeHits"), ("merge_beyond", "merge")])
def test_old_names_tell_the_new_ones(old: str, new: str) -> None:
    with pytest.raises(AttributeError, match=f"no attribute .{old}.: use {new}"):
        getattr(farann, old)
    assert hasattr(farann, new) and old not in dir(farann)


TABLE = {"query": [0, 0, 1, 1, 1], "rank": [1, 2, 1, 2, 3], "id": [40, 70, 70, 10, 40],
         "score": [3.0, 1.0, 3.0, 1.0, 1.0]}


def test_tables(index: farann.Index) -> None:
    hits = index.search_furthest([[0.0], [4.0]], k=5, exclude=[[10], []])
    table = hits.to_dict()
    assert {name: column.tolist() for name, column in table.items()} == TABLE
    assert [column.dtype for column in table.values()] == [np.int64] * 3 + [np.float32]
    one = index.search_furthest([0.0], k=5).to_dict()
    assert one["query"].tolist() == [0, 0, 0] and one["id"].tolist() == [10, 40, 70]
    beyond = index.search_beyond([[9.0], [1.0], [6.0]], radius=3.0).to_dict()
    assert {name: column.tolist() for name, column in beyond.items()} == {
        "query": [0, 0, 0, 1, 2], "rank": [1, 2, 3, 1, 1], "id": [70, 40, 10, 10, 70],
        "score": [8.0, 6.0, 4.0, 4.0, 5.0]}


@pytest.mark.parametrize(("library", "method"), [("pandas", "to_pandas"), ("pyarrow", "to_arrow")])
def test_frames(library: str, method: str, index: farann.Index) -> None:
    pytest.importorskip(library, reason=f"needs {library}")
    hits = index.search_furthest([[0.0], [4.0]], k=5, exclude=[[10], []])
    frame: Any = getattr(hits, method)()
    as_lists = frame.to_dict("list") if library == "pandas" else frame.to_pydict()
    assert as_lists == TABLE and type(frame).__module__.startswith(library)


def test_arrow_has_strings_where_nothing_is_found() -> None:
    arrow = pytest.importorskip("pyarrow", reason="needs pyarrow")
    named = farann.Index()
    named.add([[0.0], [1.0]], ids=["a", "b"])
    some = named.search_furthest([0.0], 1).to_arrow()
    for none in (named.search_furthest([0.0], 1, allowed=named.filter(exclude=["a", "b"])),
                 named.search_beyond([0.0], radius=9.0)):
        table = none.to_arrow()
        assert table.num_rows == 0 and table.schema == some.schema
        assert table.schema.field("id").type == arrow.string()


@pytest.mark.parametrize("metric", ["l2", "dot", "cosine"])
@pytest.mark.parametrize("codes", ["int8", "float32"])
def test_a_radius_for_each_query(metric: str, codes: str) -> None:
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((3000, 12)).astype(np.float32)
    queries = rng.standard_normal((1500, 12)).astype(np.float32)  # of more than one task
    made = farann.Index(metric=metric, codes=codes, threads=2)
    made.add(rows)
    # Such that some find nothing, and some much.
    radii = made.search_furthest(queries, 40).scores[np.arange(1500), np.arange(1500) % 40]
    found = made.search_beyond(queries, radius=radii)
    assert np.diff(found.offsets).min() == 0 and len(found.ids) > 20_000
    for i in (0, 1, 39, 700, 1023, 1024, 1499):
        one = made.search_beyond(queries[i], radius=float(radii[i]))
        mine = slice(found.offsets[i], found.offsets[i + 1])
        assert (found.ids[mine] == one.ids).all() and (found.scores[mine] == one.scores).all()
    same = made.search_beyond(queries[:9], radius=[radii[0]] * 9)
    assert (same.ids == made.search_beyond(queries[:9], radius=float(radii[0])).ids).all()
    assert made.search_beyond(queries[:0], radius=np.empty(0)).offsets.tolist() == [0]
    assert farann.Index().search_beyond(queries[:2], radius=[1, 2]).offsets.tolist() == [0, 0, 0]
    for bad, words in (([1.0], r"shape \(2,\)"), ([1.0, np.nan], "got NaN at 1"),
                       (["1", "2"], "expected numbers"), ([True, False], "expected a number"),
                       ([[1.0, 2.0]], r"shape \(2,\)")):
        with pytest.raises((ValueError, TypeError), match=f"radius: .*{words}"):
            made.search_beyond(queries[:2], radius=bad)


def test_notebooks_show_small_tables(index: farann.Index) -> None:
    named = farann.Index()
    named.add(ROWS, ids=["<b>", "a&b", "c"])
    hits = named.search_furthest([[0.0], [4.0]], k=4)
    assert hits._repr_html_() == (
        "<table><tr><th>query</th><th>rank</th><th>id</th><th>score</th></tr>" + "".join(
            f"<tr><td>{query}</td><td>{rank}</td><td>{id}</td><td>{score}</td></tr>"
            for query, rank, id, score in (
                (0, 1, "a&amp;b", 5.0), (0, 2, "c", 3.0), (0, 3, "&lt;b&gt;", 1.0),
                (1, 1, "&lt;b&gt;", 3.0), (1, 2, "a&amp;b", 1.0), (1, 3, "c", 1.0)))
        + "</table><p>Hits: 6 rows</p>")
    many = index.search_beyond(np.zeros((1000, 1)), radius=0.5)._repr_html_()
    assert many.count("<tr>") == 21 and many.endswith(
        "<p>RangeHits: the first 20 of 3,000 rows</p>")
    assert farann.Index(1).search_furthest([0.0])._repr_html_().endswith("<p>Hits: 0 rows</p>")
    assert index.select_diverse(2)._repr_html_().count("<td>") == 6
    table = index._repr_html_()
    assert "<tr><td>metric</td><td>l2</td></tr>" in table and "&lt;farann.Index: 3 rows" in table
    tuned = farann.Tuning(10, (640.0, np.inf), (0.9, 1.0), (0.1, 1.0))
    assert tuned._repr_html_().count("<tr>") == 3 and tuned.fastest in tuned._repr_html_()
    index.close()
    assert "closed" in index._repr_html_()
