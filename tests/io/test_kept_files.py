"""Files of formats 2 and 3 load, and answer as the oracle does: see golden/make.py."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import inside
import numpy as np
import pytest
import reference
from cases import assert_exact
from golden import make

import farann

GOLDEN = Path(__file__).parents[1] / "golden"
FILES = sorted(GOLDEN.glob("format[23]/*.farann"))
NAMED = [path for path in FILES if "-named" in path.name]
ALONE = [path for path in FILES if "-alone" in path.name]
WHOLE = [path for path in FILES if path not in NAMED + ALONE]


def name_of(path: Path) -> str:
    return f"{path.parent.name}-{path.stem}"


def test_no_file_is_missing() -> None:
    for folder in ("format2", "format3"):
        assert {path.stem for path in FILES if path.parent.name == folder} == set(make.FILES)
    assert all(path.stat().st_size < 40_000 for path in FILES)


def test_all_sections_are_there() -> None:
    """But those of a layout for exact searches, which few rows don't have."""
    sections = {name for path in FILES if path.parent.name == "format3"
                for name in inside.files.read_file(path)[1]}
    assert {"removed", "added.ends", "added.panels", "added.low_nibbles", "added.slots"} <= sections
    guards = inside.tuning.GuardArrays
    for of, record in (("codes", inside.quantize.CodeArrays),
                       ("partitions", inside.quantize.PartitionArrays),
                       ("guards.0", guards), ("nearest_guards.0", guards)):
        names = {f"{of}.{field.name}" for field in dataclasses.fields(record)}
        assert names <= sections


@pytest.mark.parametrize("mmap", [False, True])
def test_format_1_is_refused(mmap: bool) -> None:
    (path,) = GOLDEN.glob("format1/*.farann")
    with pytest.raises(farann.FormatError, match=f"{path.name}: .* version 1, .*: build it again"):
        farann.Index.load(path, mmap=mmap)


@pytest.mark.parametrize("mmap", [False, True])
@pytest.mark.parametrize("path", WHOLE, ids=name_of)
def test_exact_answers(path: Path, mmap: bool) -> None:
    rows, queries = make.vectors(path.stem)
    ids = np.arange(len(rows))
    if path.stem.endswith("-changed"):
        ids, removed = make.changed_ids()
        left = ~np.isin(ids, removed)
        rows, ids = rows[left], ids[left]
    index = farann.Index.load(path, mmap=mmap)
    assert index.metric == make.FILES[path.stem][0] and sorted(index.ids) == sorted(ids)
    for level in inside.levels():
        inside.store.use_level(index, level)
        assert_exact(index, rows, queries, [1, 10, len(rows)], ids=ids)
    index.build()
    assert_exact(index, rows, queries, [10], ids=ids)


@pytest.mark.parametrize("mmap", [False, True])
@pytest.mark.parametrize("path", NAMED, ids=name_of)
def test_strings_groups_and_tables_of_nearest_rows(path: Path, mmap: bool) -> None:
    rows, queries = make.vectors()
    ids, groups = make.names(path.stem)
    labels = np.array(groups)
    index = farann.Index.load(path, mmap=mmap)
    assert index.ids.tolist() == list(ids) and index.groups().tolist() == list(groups)
    store = inside.store.of(index)
    assert list(store.nearest_tunings.by_k) == list(store.tunings.by_k) == [make.K]
    for word, keep in (("groups", labels == groups[1]), ("outside_groups", labels != groups[1])):
        right = reference.furthest(queries, rows[keep], 5, index.metric)
        asked: dict[str, Any] = {word: groups[1]}
        found = index.search_furthest(queries, 5, **asked)
        named = np.array(ids, object)[np.flatnonzero(keep)[right.ids]]
        assert found.ids.tolist() == named.tolist()
    assert index.search_nearest(queries, make.K, recall=0.9).found.all()
    assert list(store.nearest_tunings.by_k) == [make.K]


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_all_that_a_file_holds_is_kept(path: Path, tmp_path: Path) -> None:
    """Sections that a later version stopped to read would be missing where it is saved again."""
    index = farann.Index.load(path)
    index.save(tmp_path / "again")
    if path.parent.name == "format3":
        assert (tmp_path / "again").read_bytes() == path.read_bytes()
    (facts, before), (again, after) = map(inside.files.read_file, (path, tmp_path / "again"))
    assert again == {"base": facts["coded"] or facts["count"], **facts}
    assert before.keys() == after.keys()
    assert all(array.tobytes() == after[name].tobytes() for name, array in before.items())


@pytest.mark.parametrize("path", ALONE, ids=name_of)
def test_codes_alone_answer_as_they_did(path: Path) -> None:
    expected = np.load(path.with_suffix(".npz"))
    index = farann.Index.load(path)
    inside.store.use_level(index, "scalar")  # scores by codes differ from level to level
    found = index.search_furthest(make.vectors()[1], make.K, budget=make.N)
    np.testing.assert_array_equal(found.ids, expected["ids"])
    np.testing.assert_allclose(found.scores, expected["scores"], rtol=1e-5)


@pytest.mark.parametrize("path", [path for path in FILES if "cells" in path.stem], ids=name_of)
def test_tables_of_recall_are_read(path: Path) -> None:
    index = farann.Index.load(path)
    if not path.stem.endswith("-changed"):
        assert list(inside.tuning.tables_of(index)) == [make.K]
    hits = index.search_furthest(make.vectors()[1], make.K, recall=0.9)
    assert hits.ids.shape == (make.N_QUERIES, make.K)
