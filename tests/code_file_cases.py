"""What the tests of codes in files share: indexes of all layouts, and edits of their sections."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import inside
import numpy as np
import pytest
from cases import Float32, assert_same
from codes_in_numpy import four_bits, lay_out, leading

import farann

N, DIM, M = 100, 24, 6
LAYOUTS = ["first look", "halves", "four bits"]
Sections = dict[str, Any]


def make_index(rng: np.random.Generator, metric: str = "l2",
               layout: str = "first look") -> farann.Index:
    """An index whose codes have an order, and a first look along 6 directions or none."""
    plane = rng.standard_normal((N, 3)) @ rng.standard_normal((3, DIM))
    rows = (plane + 0.01 * rng.standard_normal((N, DIM))).astype(np.float32)
    index = farann.Index(metric=metric, codes="int4" if layout == "four bits" else "int8")
    index.add(rows)
    index.build()
    store = inside.store.of(index)
    basis = leading(rows, metric, M, store.center) if layout == "first look" else None
    codes = lay_out(rows, metric, basis, order=rng.permutation(N), center=store.center)
    inside.store.put(index, codes=four_bits(codes) if layout == "four bits" else codes)
    return index


def queries_of(index: farann.Index) -> Float32:
    return index.reconstruct(index.ids[:9]) + np.float32(0.5)


@pytest.fixture(params=LAYOUTS)
def saved(request: pytest.FixtureRequest, tmp_path: Path, rng: np.random.Generator) -> Path:
    """The file of an index of each layout."""
    make_index(rng, layout=request.param).save(tmp_path / "index.farann")
    return tmp_path / "index.farann"


@pytest.fixture
def halves(tmp_path: Path, rng: np.random.Generator) -> Path:
    make_index(rng, layout="halves").save(tmp_path / "halves.farann")
    return tmp_path / "halves.farann"


@pytest.fixture
def first_look(tmp_path: Path, rng: np.random.Generator) -> Path:
    make_index(rng).save(tmp_path / "look.farann")
    return tmp_path / "look.farann"


def without(name: str) -> Callable[[Sections], object]:
    return lambda arrays: arrays.pop(f"codes.{name}")


def change(name: str, edit: Callable[[Any], Any]) -> Callable[[Sections], object]:
    """Put an edited copy of a section in its place."""
    def apply(arrays: Sections) -> None:
        arrays[f"codes.{name}"] = np.ascontiguousarray(edit(arrays[f"codes.{name}"].copy()))
    return apply


def put(name: str, at: Any, value: Any) -> Callable[[Sections], object]:
    """Overwrite a part of a section."""
    def edit(array: Any) -> Any:
        array[at] = value
        return array
    return change(name, edit)


def refuse(path: Path, edit: Callable[[Sections], object], mmap: bool) -> None:
    """Edit a file's sections, and see that the result is turned down."""
    metadata, arrays = inside.files.read_file(path)
    sections = dict(arrays)
    edit(sections)
    inside.files.write_file(path, metadata, sections)
    with pytest.raises(farann.FormatError, match="codes"):
        farann.Index.load(path, mmap=mmap)


def assert_kept(index: farann.Index, path: Path, section: str, queries: Float32) -> None:
    """A section of codes comes back, mapped, read or pickled, and with it the same answers from
    the same work; and what came back is written as it was."""
    def section_of(some: farann.Index) -> Any:
        codes = inside.store.of(some).codes
        return None if codes is None else codes.sections("codes").get(f"codes.{section}")

    index.save(path)
    assert section_of(index) is not None
    hits = index.search_furthest(queries, 10, return_stats=True)
    stats = hits.stats
    for again in (farann.Index.load(path), farann.Index.load(path, mmap=True),
                  pickle.loads(pickle.dumps(index))):
        np.testing.assert_array_equal(section_of(again), section_of(index))
        found = again.search_furthest(queries, 10, return_stats=True)
        its_stats = found.stats
        assert_same(found, hits)
        assert its_stats == stats
        assert file_of(again, path.with_suffix(".twin")) == path.read_bytes()


def file_of(index: farann.Index, path: Path) -> bytes:
    """What it writes there."""
    index.save(path)
    return path.read_bytes()
