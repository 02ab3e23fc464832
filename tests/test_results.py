"""What searches return: padding is told apart, and tables have none."""

from __future__ import annotations

import copy
import pickle
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
    assert len(hits) == 5 and hits.ids[hits.found].tolist() == [40, 70, 70, 10, 40]
    one = index.search_furthest([0.0], k=5)
    assert one.found.tolist() == [True] * 3 + [False] * 2 and len(one) == 3
    assert len(farann.Index(1).search_furthest([[0.0]] * 4, k=2)) == 0


def test_taken_apart_as_before(index: farann.Index) -> None:
    hits = index.search_furthest([[0.0]], k=4)
    scores, ids = hits
    assert scores is hits.scores is hits[0] and ids is hits.ids is hits[-1]
    assert isinstance(hits, tuple) and list(hits._asdict()) == ["scores", "ids"]
    for other in (copy.copy(hits), pickle.loads(pickle.dumps(hits)), hits._replace(ids=ids)):
        assert type(other) is farann.Hits and other.ids.tolist() == ids.tolist()
    beyond = index.search_beyond([[0.0]], 2.0)
    assert type(beyond._replace(ids=ids)) is farann.BeyondHits and len(beyond) == 2


TABLE = {"query": [0, 0, 1, 1, 1], "rank": [0, 1, 0, 1, 2], "id": [40, 70, 70, 10, 40],
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
        "query": [0, 0, 0, 1, 2], "rank": [0, 1, 2, 0, 0], "id": [70, 40, 10, 10, 70],
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
                 named.search_beyond([0.0], 9.0)):
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
    found = made.search_beyond(queries, radii)
    assert np.diff(found.offsets).min() == 0 and len(found) > 20_000
    for i in (0, 1, 39, 700, 1023, 1024, 1499):
        one = made.search_beyond(queries[i], float(radii[i]))
        mine = slice(found.offsets[i], found.offsets[i + 1])
        assert (found.ids[mine] == one.ids).all() and (found.scores[mine] == one.scores).all()
    same = made.search_beyond(queries[:9], [radii[0]] * 9)
    assert (same.ids == made.search_beyond(queries[:9], float(radii[0])).ids).all()
    assert len(made.search_beyond(queries[:0], np.empty(0))) == 0
    assert len(farann.Index().search_beyond(queries[:2], [1, 2])) == 0
    for bad, words in (([1.0], r"shape \(2,\)"), ([1.0, np.nan], "got NaN at 1"),
                       (["1", "2"], "expected a number"), ([[1.0, 2.0]], r"shape \(2,\)")):
        with pytest.raises((ValueError, TypeError), match=f"radius: .*{words}"):
            made.search_beyond(queries[:2], bad)
