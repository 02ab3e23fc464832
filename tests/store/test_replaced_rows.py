"""`add(replace=True)`: rows with known ids are replaced, others added, in one change."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import reference
from cases import DATA, assert_same, in_turn, index_of, queries_for, rows_for

import farann

DIM = 9


@pytest.mark.parametrize(("kind", "metric"), in_turn(DATA, 2))
def test_answers_are_those_of_the_rows_now(metric: str, kind: str, rng: np.random.Generator,
                                           tmp_path: Path) -> None:
    rows = rows_for(kind, rng, 500, DIM, metric)
    ids = rng.permutation(2000)[:500]
    index = index_of(rows, metric, ids)
    for step in range(4):
        if step == 2:
            index.build()
        some = rng.permutation(500)[:60]
        # Of ties the smaller id comes first, whichever row is the newer one.
        new = rows[rng.integers(0, 500, 60)] if step % 2 else rows_for(kind, rng, 60, DIM, metric)
        added = 3000 + 20 * step + np.arange(20)
        given = rng.permutation(80)
        assert np.array_equal(index.add(
            np.vstack([new, new[:20]])[given], np.concatenate([ids[some], added])[given],
            replace=True), np.concatenate([ids[some], added])[given])
        rows[some] = new
        now, now_ids = np.vstack([rows, new[:20]]), np.concatenate([ids, added])
        queries = queries_for(rng, now[-200:], metric)[:12]
        for k in (1, 7, len(now) + 2):
            assert_same(index.search_furthest(queries, k),
                        reference.furthest(queries, now, k, metric, ids=now_ids))
        allowed = now_ids[::3].tolist()
        assert_same(index.search_nearest(queries, 9, allowed=allowed),
                    reference.nearest(queries, now, 9, metric, ids=now_ids, allowed=allowed))
        # Masks are in the order of `ids`, where the new rows come last.
        assert np.array_equal(index.ids[-80:], np.concatenate([ids[some], added])[given])
        assert_same(index.search_furthest(queries, 9, allowed=np.isin(index.ids, allowed)),
                    reference.furthest(queries, now, 9, metric, ids=now_ids, allowed=allowed))
        assert np.array_equal(index.reconstruct(now_ids), now)
        index.remove(added)
    index.save(tmp_path / "index")
    loaded = farann.Index.load(tmp_path / "index", mmap=True)
    loaded.add(rows[:3][::-1], ids[:3], replace=True)
    assert np.array_equal(loaded.reconstruct(ids[:4]), rows[[2, 1, 0, 3]])
    assert np.array_equal(index.reconstruct(ids[:3]), rows[:3]) and len(loaded) == 500


def test_strings_keep_their_place_among_equal_scores() -> None:
    index = farann.Index()
    index.add(np.ones((4, 2)), ids=["d", "c", "b", "a"])
    index.add(np.ones((3, 2)), ids=["c", "new", "d"], replace=True)
    for each in (index, index.build()):
        assert each.search_furthest([0.0, 0.0], 9).ids.tolist()[:5] == ["d", "c", "b", "a", "new"]
    assert len(index) == 5 and set(index.ids) == {"a", "b", "c", "d", "new"}


def test_groups_of_replaced_rows_are_the_new_ones() -> None:
    index = farann.Index()
    index.add([[1.0], [2.0], [3.0]], groups=["cat", "cat", "dog"])
    index.add([[9.0], [4.0]], ids=[1, 3], groups=["dog", "cow"], replace=True)
    assert index.groups([0, 1, 2, 3]).tolist() == ["cat", "dog", "dog", "cow"]
    for each in (index, index.build()):
        assert each.search_furthest([0.0], 3, groups="dog").ids.tolist() == [1, 2, -1]
        assert each.search_furthest([0.0], 3, groups="cat").ids.tolist() == [0, -1, -1]
    with pytest.raises(ValueError, match="^groups: expected a label for each row"):
        index.add([[5.0]], ids=[1], replace=True)
    assert index.groups(1).tolist() == ["dog"]


def test_prepared_filters_find_the_new_row() -> None:
    index = index_of(np.arange(5, dtype=np.float32)[:, None])
    some = index.filter(allowed=[1, 2])
    assert index.search_furthest([0.0], 1, allowed=some).ids.tolist() == [2]
    index.add([[9.0]], ids=[1], replace=True)
    assert index.search_furthest([0.0], 2, allowed=some).ids.tolist() == [1, 2]


@pytest.mark.parametrize("options", [{"codes": "int4", "cells": 4, "keep_vectors": False},
                                     {"keep_vectors": False}, {"codes": "float32"}])
def test_all_rows_again_and_again(options: dict[str, Any], rng: np.random.Generator) -> None:
    index = farann.Index(**options)
    ids = np.arange(1100)
    for step in range(5):
        rows = rng.standard_normal((1100, 8), dtype=np.float32) + 100 * step
        index.add(rows, ids, replace=True)
        if step == 0:
            index.build()
        assert len(index) == 1100
        assert np.abs(index.reconstruct(ids) - rows).max() < 1.0
    stats = index.stats()
    # Replaced rows are dropped when the rows added since the last build are more than that had.
    assert stats["removed"] <= 1100 and stats["added"] <= 2200


BAD: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "no ids": ({"ids": None}, ValueError, "^replace: expected the ids of the rows as well"),
    "twice": ({"ids": [1, 1]}, ValueError, "^ids: expected each id once, got 1 twice"),
    "strings": ({"ids": ["a", "b"]}, ValueError, "^ids: expected integers"),
    "negative": ({"ids": [-1, 1]}, ValueError, "^ids: "),
    "no flag": ({"ids": [1, 2], "replace": "yes"}, TypeError, "^replace: expected True or False"),
    "no copy": ({"ids": [1, 2], "copy": False}, ValueError, "^copy: only the first rows"),
    "NaN": ({"ids": [1, 2], "rows": [[1.0], [np.nan]]}, ValueError, "^rows: expected finite"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_refused_changes_nothing(name: str) -> None:
    given, error, match = BAD[name]
    index = index_of(np.arange(3, dtype=np.float32)[:, None])
    asked = {"rows": np.ones((2, 1), np.float32), "replace": True, **given}
    with pytest.raises(error, match=match):
        index.add(**asked)
    assert index.ids.tolist() == [0, 1, 2] and index.stats()["removed"] == 0
    assert index.search_furthest([0.0], 3).scores.tolist() == [2.0, 1.0, 0.0]


def test_nothing_to_replace() -> None:
    index = farann.Index(dim=1)
    assert index.add(np.empty((0, 1)), ids=[], replace=True).tolist() == []
    assert index.add([[1.0], [2.0]], ids=[5, 3], replace=True, copy=True).tolist() == [5, 3]
    assert index.add(np.empty((0, 1)), ids=[], replace=True).tolist() == []
    assert index.search_furthest([0.0], 2).ids.tolist() == [3, 5]
    with pytest.raises(ValueError, match="not in use, got 5; pass replace=True"):
        index.add([[1.0]], ids=[5])
