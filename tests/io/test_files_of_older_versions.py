"""Files that older versions wrote load, and answer as the oracle does: see golden/make.py."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import inside
import numpy as np
import pytest
import reference
from approximate_cases import recall_of
from cases import assert_exact
from golden import make

import farann

GOLDEN = Path(__file__).parents[1] / "golden"
NAMED = sorted(GOLDEN.glob("named/*.farann"))
SCALED = [GOLDEN / "48f4ad5" / f"{name}.farann" for name in sorted(make.SCALED)]
FILES = sorted(set(GOLDEN.glob("*/*.farann")) - set(NAMED) - set(SCALED))
WHOLE = [path for path in FILES if "-alone" not in path.name]
ALONE = [path for path in FILES if "-alone" in path.name]
OF_TABLES = {"tunings", "guards", "single_costs", "lateness", "extended"}


def name_of(path: Path) -> str:
    return f"{path.parent.name}/{path.stem}"


def test_no_file_is_missing() -> None:
    folders = [path for path in GOLDEN.iterdir() if path.is_dir() and path.name != "__pycache__"]
    assert "48f4ad5" in {path.name for path in folders}
    for folder in folders:
        files = {"named": set(make.NAMED), "unscaled": make.SCALED}.get(folder.name,
                                                                        set(make.FILES))
        assert files == {path.stem for path in folder.glob("*.farann")}
    assert all(path.stat().st_size < 30_000 for path in FILES)
    assert all(path.stat().st_size < 60_000 for path in NAMED)


@pytest.mark.parametrize("mmap", [False, True])
@pytest.mark.parametrize("path", SCALED, ids=name_of)
def test_scaled_codes_are_refused(path: Path, mmap: bool) -> None:
    with pytest.raises(farann.FormatError, match=r"'codes\.stretch' .* build the index again"):
        farann.Index.load(path, mmap=mmap)


@pytest.mark.parametrize("mmap", [False, True])
@pytest.mark.parametrize("path", WHOLE, ids=name_of)
def test_exact_answers(path: Path, mmap: bool) -> None:
    rows, queries = make.vectors()
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
    for word, keep in (("within", labels == groups[1]), ("outside", labels != groups[1])):
        right = reference.furthest(queries, rows[keep], 5, index.metric)
        asked: dict[str, Any] = {word: groups[1]}
        found = index.search_furthest(queries, 5, **asked)
        named = np.array(ids, object)[np.flatnonzero(keep)[right.ids]]
        assert found.ids.tolist() == named.tolist()
    assert index.search_nearest(queries, make.K, recall=0.9).found.all()
    assert list(store.nearest_tunings.by_k) == [make.K]


@pytest.mark.parametrize("path", FILES + NAMED, ids=name_of)
def test_all_that_a_file_holds_is_kept(path: Path, tmp_path: Path) -> None:
    """Sections that a later version stopped to read would be missing where it is saved again."""
    index = farann.Index.load(path)
    metadata, arrays = inside.files.read_file(path)
    index.save(tmp_path / "again")
    again, others = inside.files.read_file(tmp_path / "again")
    if "seeds.positions" in arrays:
        # Shortlists are ignored, and so are tables of searches that began with them.
        arrays = {name: array for name, array in arrays.items()
                  if not name.startswith(("seeds.", "exact_seeds.", "guards."))}
        metadata = {name: value for name, value in metadata.items() if name not in OF_TABLES}
    for name, array in arrays.items():
        assert np.array_equal(others[name], array), name
    assert {name: again[name] for name in metadata if name != "tunings"} == {
        name: value for name, value in metadata.items() if name != "tunings"}
    assert len(again.get("tunings", [])) == len(metadata.get("tunings", []))


@pytest.mark.parametrize("path", ALONE, ids=name_of)
def test_codes_alone_answer_as_they_did(path: Path) -> None:
    expected = np.load(path.with_suffix(".npz"))
    index = farann.Index.load(path)
    found = index.search_furthest(make.vectors()[1], make.K, budget=make.N)
    np.testing.assert_array_equal(found.ids, expected["ids"])
    np.testing.assert_allclose(found.scores, expected["scores"], rtol=1e-5)


@pytest.mark.parametrize("path", [path for path in FILES if "cells" in path.stem], ids=name_of)
def test_tables_of_recall_are_read(path: Path) -> None:
    index = farann.Index.load(path)
    hits = index.search_furthest(make.vectors()[1], make.K, recall=0.9)
    assert hits.ids.shape == (make.N_QUERIES, make.K)
    if not path.stem.endswith("-changed"):
        assert list(inside.store.of(index).tunings.by_k) == [make.K]


@pytest.mark.parametrize("mmap", [False, True])
def test_tables_beside_shortlists_are_measured_anew(mmap: bool) -> None:
    """Searches of that version found most of an answer in a shortlist, which is ignored."""
    path = GOLDEN / "48f4ad5" / "int8-cells-l2.farann"
    metadata, arrays = inside.files.read_file(path)
    assert "seeds.positions" in arrays and metadata["tunings"]
    index = farann.Index.load(path, mmap=mmap)
    assert not inside.store.of(index).tunings.by_k and not inside.store.of(index).tunings.guards
    queries = make.vectors()[1]
    truth = index.search_furthest(queries, make.K).ids
    found = index.search_furthest(queries, make.K, recall=0.9).ids
    assert recall_of(found, truth) >= 0.85
    assert list(inside.store.of(index).tunings.by_k) == [make.K]
