"""An index that was changed and saved without `build`: it comes back as it was, and as fast."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import inside
import numpy as np
import pytest
import reference
from cases import Float32, assert_same

import farann

N, DIM = 3000, 24
Sections = dict[str, Any]
LAYOUTS: dict[str, dict[str, Any]] = {
    "l2": {"metric": "l2"}, "dot": {"metric": "dot"}, "cosine": {"metric": "cosine"},
    "int4": {"metric": "dot", "codes": "int4"}, "float32": {"metric": "l2", "codes": "float32"},
    "cells": {"metric": "cosine", "cells": 8}, "halves": {"dtype": "float16"},
    "alone": {"metric": "cosine", "keep_vectors": False},
    "alone in cells": {"codes": "int4", "cells": 8, "keep_vectors": False},
}


def rows_of(n: int = N) -> Float32:
    """Rows along few directions, which a PCA filter finds, and some lengths."""
    rng = np.random.default_rng(n)
    rows = rng.standard_normal((n, 4)) @ rng.standard_normal((4, DIM))
    rows += 0.02 * rng.standard_normal((n, DIM))
    rows *= rng.uniform(0.5, 2.0, (n, 1))
    return rows.astype(np.float16).astype(np.float32)


def changed(layout: str, monkeypatch: pytest.MonkeyPatch) -> farann.Index:
    """Two thirds are built; then others come, eight runs and more, and some go or are replaced."""
    monkeypatch.setattr(inside.settings, "least_run", 32)
    rows, names = rows_of(), [f"row {i}" for i in range(N)]
    index = farann.Index(**LAYOUTS[layout], threads=1)
    index.add(rows[:2000], names[:2000], groups=np.arange(2000) % 5)
    index.build(tune=[10])
    for at in range(2000, 2900, 45):
        index.add(rows[at : at + 45], names[at : at + 45], groups=np.arange(45) % 7)
    index.remove(names[:2600:9])
    index.add(rows[:40], names[:40], groups=[3] * 40, replace=True)
    return index


def answers(index: farann.Index) -> list[tuple[farann.Hits, Any]]:
    """Of a batch, of single queries, and of those with a recall, with the work that they took."""
    queries = rows_of(N)[50:70] + np.float32(0.25)
    given: list[dict[str, Any]] = [{"recall": 0.9}, {"budget": 500}]
    if index.stats()["keep_vectors"]:
        given.append({})
    found = []
    for options in given:
        for some in (queries, *queries[:4]):
            hits = index.search_furthest(some, return_stats=True, **options)
            found.append((hits, hits.stats))
    return found


@pytest.mark.parametrize("layout", LAYOUTS)
def test_answers_and_work_are_those_before(layout: str, tmp_path: Path,
                                           monkeypatch: pytest.MonkeyPatch) -> None:
    index = changed(layout, monkeypatch)
    path = tmp_path / "changed.farann"
    index.save(path)
    right, stats = answers(index), index.stats()
    for again in (farann.Index.load(path), farann.Index.load(path, mmap=True),
                  pickle.loads(pickle.dumps(index))):
        inside.store.use_threads(again, 1)
        for (hits, work), (expected, its_work) in zip(answers(again), right, strict=True):
            assert_same(hits, expected)
            assert work == its_work
        for fact in ("rows", "removed", "added", "built", "directions", "axes", "codes_recall"):
            assert again.stats()[fact] == stats[fact]
        assert (again.stats()["bytes"]["codes"] > 0) == (layout != "float32")
        assert again.ids.tolist() == index.ids.tolist()
        assert again.groups().tolist() == index.groups().tolist()
        again.save(tmp_path / "twin")
        assert (tmp_path / "twin").read_bytes() == path.read_bytes()


@pytest.mark.parametrize(("layout", "mmap"), [
    ("l2", False), ("cosine", True), ("int4", True), ("cells", False), ("cells", True)])
def test_changes_go_on(layout: str, mmap: bool, tmp_path: Path,
                       monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs are merged with those of the file, rows replaced, all is built again."""
    rows = rows_of()
    changed(layout, monkeypatch).save(tmp_path / "index")
    index = farann.Index.load(tmp_path / "index", mmap=mmap)
    held = {name: rows[int(name[4:])] for name in index.ids}
    for at in range(0, 900, 45):
        names = [f"row {i}" for i in range(at, at + 45)]
        index.add(-rows[at : at + 45], names, groups=[1] * 45, replace=True)
        held |= dict(zip(names, -rows[at : at + 45], strict=True))
    index.remove(["row 3", "row 2899"])
    del held["row 3"], held["row 2899"]
    queries = rows[50:60] + np.float32(0.25)
    for _ in range(2):
        ids = np.array(index.ids)
        check = np.array([held[name] for name in ids])
        assert_exact_by_name(index, check, queries, ids)
        index.build()


def assert_exact_by_name(index: farann.Index, rows: Float32, queries: Float32,
                         ids: Any) -> None:
    right = reference.furthest(queries, rows, 10, index.metric)
    for hits, at in ((index.search_furthest(queries), np.s_[:]),
                     (index.search_furthest(queries[0]), 0)):
        np.testing.assert_array_equal(hits.scores, right.scores[at])
        assert hits.ids.tolist() == ids[right.ids[at]].tolist()


def test_all_rows_removed(tmp_path: Path) -> None:
    for keep_vectors in (True, False):
        index = farann.Index(keep_vectors=keep_vectors)
        index.add(rows_of(300))
        index.build()
        index.remove(index.ids)
        index.save(tmp_path / "empty")
        again = farann.Index.load(tmp_path / "empty")
        assert len(again) == 0 and again.add([[1.0] * DIM]).tolist() == [300]
        assert again.build().search_furthest([0.0] * DIM, budget=5).ids[0] == 300


# ---- files that lie ----


def put(name: str, at: Any, value: Any) -> Callable[[Sections], object]:
    def apply(arrays: Sections) -> None:
        arrays[name] = arrays[name].copy()
        arrays[name][at] = value
    return apply


def edit(name: str, change: Callable[[Any], Any]) -> Callable[[Sections], object]:
    def apply(arrays: Sections) -> None:
        arrays[name] = np.ascontiguousarray(change(arrays[name]))
    return apply


LIES: dict[str, Callable[[Sections], object]] = {
    "removed twice": put("removed", 1, 0), "removed below 0": put("removed", 0, -1),
    "removed beyond": put("removed", -1, 2**40), "none removed": edit("removed", lambda a: a[:0]),
    "removed of another type": edit("removed", lambda a: a.astype(np.int32)),
    "an id of two rows": edit("removed", lambda a: a[1:]),
    "a slot of the base": put("added.slots", 5, 3), "a slot beyond": put("added.slots", 5, 2**30),
    "no slot": put("added.slots", 5, -1),
    "a slot twice": edit("added.slots", lambda a: np.append(a[1], a[1:])),
    "no slots": lambda arrays: arrays.pop("added.slots"),
    "no ends": lambda arrays: arrays.pop("added.ends"),
    "ends fall": put("added.ends", 0, 2**20), "an end of no panel": put("added.ends", 0, 17),
    "ends cut": edit("added.ends", lambda a: a[:-1]), "an empty run": put("added.ends", 0, 0),
    "no runs": edit("added.ends", lambda a: a[:0]),
    "panels cut": edit("added.panels", lambda a: a[:-16]),
    "panels too narrow": edit("added.panels", lambda a: a[:, 4:]),
    "scale 0": put("added.inv_scale", 2, 0.0), "scale NaN": put("added.inv_scale", 2, np.nan),
    "bounds NaN": put("added.bounds", 0, np.nan),
    "bounds cut": edit("added.bounds", lambda a: a[1:]),
    "norms": put("added.max_norm", 0, np.nan),
    "no norms": lambda arrays: arrays.pop("added.max_norm"),
    "squares": lambda arrays: arrays.update({
        "added.squares": np.ones(len(arrays["added.slots"]), np.float32)}),
    "no codes of the base": lambda arrays: [arrays.pop(name) for name in list(arrays)
                                            if name.startswith("codes.")],
}


@pytest.fixture(scope="module")
def true(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file that doesn't lie."""
    path = tmp_path_factory.mktemp("true") / "index.farann"
    with pytest.MonkeyPatch.context() as patch:
        changed("dot", patch).save(path)
    for mmap in (False, True):
        farann.Index.load(path, mmap=mmap)
    return path


@pytest.mark.parametrize("lie", LIES)
def test_files_that_lie(lie: str, true: Path, tmp_path: Path) -> None:
    path = tmp_path / "lies.farann"
    metadata, arrays = inside.files.read_file(true)
    LIES[lie](arrays)
    inside.files.write_file(path, metadata, arrays)
    for mmap in (False, True):
        with pytest.raises(farann.FormatError):
            farann.Index.load(path, mmap=mmap)


@pytest.mark.parametrize("base", [-1, 2.0, 2000 * 2**20, None, "1"])
def test_metadata_that_lies(base: Any, true: Path, tmp_path: Path) -> None:
    metadata, arrays = inside.files.read_file(true)
    inside.files.write_file(tmp_path / "lies", {**metadata, "base": base}, arrays)
    with pytest.raises(farann.FormatError, match="'base'"):
        farann.Index.load(tmp_path / "lies")
