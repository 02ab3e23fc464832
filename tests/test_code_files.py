"""Codes in files: they come back, and a file that lies about them does no harm."""

from __future__ import annotations

import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import farann
import numpy as np
import pytest
from cases import Float32, assert_same
from codes_in_numpy import lay_out, leading
from farann import _core
from farann._format import read_file, write_file

N, DIM, M = 100, 24, 6
Sections = dict[str, Any]


def make_index(rng: np.random.Generator, metric: str = "l2") -> farann.Index:
    """An index whose codes have an order and a first look along 6 directions."""
    rows = rng.standard_normal((N, 3)) @ rng.standard_normal((3, DIM))
    rows = (rows + 0.01 * rng.standard_normal((N, DIM))).astype(np.float32)
    index = farann.Index(metric=metric)
    index.add(rows)
    index.build()
    store = index._store
    assert store is not None
    store.codes = lay_out(rows, metric, leading(rows, metric, M, store.centre),
                          order=rng.permutation(N), centre=store.centre)
    return index


def queries_of(index: farann.Index) -> Float32:
    return index.reconstruct(index.ids[:9]) + np.float32(0.5)


@pytest.fixture
def saved(tmp_path: Path, rng: np.random.Generator) -> Path:
    make_index(rng).save(tmp_path / "index.farann")
    return tmp_path / "index.farann"


@pytest.mark.parametrize("mmap", [False, True])
@pytest.mark.parametrize("metric", _core.METRICS)
def test_codes_come_back(metric: str, mmap: bool, tmp_path: Path,
                         rng: np.random.Generator) -> None:
    index = make_index(rng, metric)
    index.save(tmp_path / "index.farann")
    loaded = farann.Index.load(tmp_path / "index.farann", mmap=mmap)
    assert index.stats()["directions"] == loaded.stats()["directions"] == M
    assert index.stats()["bytes"]["codes"] == loaded.stats()["bytes"]["codes"] > 0
    for some in (queries_of(index), queries_of(index)[0]):
        hits, stats = index.search_furthest(some, return_stats=True)
        again, same = loaded.search_furthest(some, return_stats=True)
        assert_same(again, hits)
        assert stats == same and stats.rows_refined > 0
    loaded.save(tmp_path / "again.farann")
    assert (tmp_path / "again.farann").read_bytes() == (tmp_path / "index.farann").read_bytes()


def test_large_codes_are_mapped(tmp_path: Path, rng: np.random.Generator) -> None:
    """Sections of more than a MiB stay in the file."""
    rows = (rng.standard_normal((25_000, 4)) @ rng.standard_normal((4, 64))
            + 0.01 * rng.standard_normal((25_000, 64))).astype(np.float32)
    index = farann.Index()
    index.add(rows)
    index.build().save(tmp_path / "index.farann")
    mapped = farann.Index.load(tmp_path / "index.farann", mmap=True)
    codes = mapped._store.codes if mapped._store is not None else None
    assert codes is not None and codes.rows is not None
    assert not codes.rows.flags.owndata and not codes.rows.flags.writeable
    queries = rows[:9] + np.float32(1)
    for some in (queries, queries[0]):
        assert_same(mapped.search_furthest(some), index.search_furthest(some))


def test_pickle(rng: np.random.Generator) -> None:
    index = make_index(rng)
    twin = pickle.loads(pickle.dumps(index))
    assert twin.stats()["directions"] == M
    queries = queries_of(index)
    assert_same(twin.search_furthest(queries), index.search_furthest(queries))


def test_stale_codes_are_not_saved(saved: Path, tmp_path: Path) -> None:
    for change in (lambda index: index.add(np.ones((3, DIM))), lambda index: index.remove([5])):
        index = farann.Index.load(saved)
        change(index)
        index.save(tmp_path / "changed.farann")
        metadata, arrays = read_file(tmp_path / "changed.farann")
        assert not {"code_bounds", "basis_bounds"} & set(metadata)
        assert not [name for name in arrays if name.startswith("codes.")]
        changed = farann.Index.load(tmp_path / "changed.farann")
        queries = queries_of(index)
        assert_same(changed.search_furthest(queries), index.search_furthest(queries))


# ---- files that lie ----


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


BROKEN: dict[str, Callable[[Sections], object]] = {
    **{f"no {name}": without(name) for name in (
        "panels", "sums", "squares", "signs", "outliers", "basis", "rows")},
    **{f"{name} cut short": change(name, lambda array: array[:-1])
       for name in ("panels", "sums", "squares", "signs", "slots", "rows")},
    **{f"{name} too narrow": change(name, lambda array: array[:, :-4])
       for name in ("panels", "signs", "basis", "rows")},
    **{f"{name} of another type": change(name, lambda array: array.astype(np.float32))
       for name in ("panels", "sums", "squares", "signs", "slots", "outliers", "basis", "rows")},
    **{f"{name} in other dimensions": change(name, lambda array: array[None])
       for name in ("panels", "sums", "squares", "signs", "slots", "outliers", "basis", "rows")},
    "slot too large": put("slots", 3, N),
    "slot too small": put("slots", 3, -2),
    "codes where there is no slot": put("slots", 3, -1),
    "codes behind the last row": put("sums", N, 0),
    "outlier out of range": change("outliers", lambda _: np.array([N])),
    "outlier twice": change("outliers", lambda _: np.array([7, 7])),
    "outliers not ascending": change("outliers", lambda _: np.array([8, 7])),
    "too many outliers": change("outliers", lambda _: np.arange(65)),
    "basis not orthogonal": put("basis", 1, np.eye(DIM)[0]),
    "basis not of length 1": change("basis", lambda basis: basis * (1 + 1e-11)),
    "NaN in the basis": put("basis", (0, 0), np.nan),
    "infinity in the basis": put("basis", (0, 0), np.inf),
    "huge basis": change("basis", lambda basis: basis * 1e300),
    "another number of directions": change("basis", lambda basis: basis[:-3]),
    "no directions": change("basis", lambda basis: basis[:0]),
    "more directions than dimensions": change("basis", lambda _: np.eye(DIM + 1, DIM)),
}


@pytest.mark.parametrize("mmap", [False, True])
@pytest.mark.parametrize("what", BROKEN)
def test_broken_sections(saved: Path, what: str, mmap: bool) -> None:
    metadata, arrays = read_file(saved)
    sections = dict(arrays)
    BROKEN[what](sections)
    write_file(saved, metadata, sections)
    with pytest.raises(farann.FormatError, match="codes"):
        farann.Index.load(saved, mmap=mmap)


BAD_BOUNDS: dict[str, Callable[[list[float]], Any]] = {
    "a word": lambda bounds: "wide",
    "too few": lambda bounds: bounds[:3],
    "no numbers": lambda bounds: [bounds[0], None, *bounds[2:]],
    "truth": lambda bounds: [True, *bounds[1:]],
    "negative": lambda bounds: [-bounds[0], *bounds[1:]],
    "scale 0": lambda bounds: [0.0, *bounds[1:]],
    "unit 0": lambda bounds: [*bounds[:3], 0.0],
    "negative unit": lambda bounds: [*bounds[:3], -1.0],
}


@pytest.mark.parametrize("name", ["code_bounds", "basis_bounds"])
@pytest.mark.parametrize("what", BAD_BOUNDS)
def test_broken_bounds(saved: Path, what: str, name: str) -> None:
    metadata, arrays = read_file(saved)
    metadata[name] = BAD_BOUNDS[what](metadata[name])
    write_file(saved, metadata, dict(arrays))
    with pytest.raises(farann.FormatError, match="codes|bounds"):
        farann.Index.load(saved)


def test_no_bounds_of_the_basis(saved: Path) -> None:
    metadata, arrays = read_file(saved)
    del metadata["basis_bounds"]
    write_file(saved, metadata, dict(arrays))
    with pytest.raises(farann.FormatError, match="codes"):
        farann.Index.load(saved)


def search_all_ways(path: Path) -> None:
    """Searches of a file that lies: answers may be wrong, ids are those of rows."""
    index = farann.Index.load(path)
    queries = np.vstack([queries_of(index), 1e30 * np.eye(2, DIM), 1e-30 * np.eye(2, DIM)])
    for some in (queries, queries[0], queries[-1]):
        for search in (index.search_furthest, index.search_nearest):
            for k in (5, N):
                ids = search(some, k).ids
                assert ((ids >= -1) & (ids < N)).all()
        beyond = index.search_beyond(some, 1.0)
        assert ((beyond.ids >= 0) & (beyond.ids < N)).all()


@pytest.mark.parametrize("names", [
    ("panels",), ("sums",), ("squares",), ("signs",), ("rows",),
    ("panels", "sums", "squares", "signs", "rows"),
])
def test_absurd_codes_do_no_harm(saved: Path, names: tuple[str, ...],
                                 rng: np.random.Generator) -> None:
    metadata, arrays = read_file(saved)
    sections = dict(arrays)
    for name in names:
        array = arrays[f"codes.{name}"]
        noise = rng.integers(0, 256, array.nbytes, dtype=np.uint8)
        absurd = noise.view(array.dtype).reshape(array.shape).copy()
        if name == "sums":
            absurd[N:] = _core.NOT_CODED
        sections[f"codes.{name}"] = absurd
    write_file(saved, metadata, sections)
    search_all_ways(saved)


def test_every_row_in_one_slot(saved: Path) -> None:
    metadata, arrays = read_file(saved)
    sections = dict(arrays)
    put("slots", slice(0, N), 7)(sections)
    write_file(saved, metadata, sections)
    search_all_ways(saved)


@pytest.mark.parametrize("code_bounds", [
    [1e300, 0.0, 1.0, 1e-300], [1e-300, 0.0, 1.0, 1e300], [1e300, 1e300, 1e300, 1e300],
    [1e-300, 1e-300, 1e-300, 1e-300], [1e300, 0.0, 0.0, 1e-305], [1.0, 0.0, 1e-3, 5e-324],
])
def test_absurd_bounds_do_no_harm(saved: Path, code_bounds: list[float]) -> None:
    metadata, arrays = read_file(saved)
    for basis_bounds in (metadata["basis_bounds"], [*code_bounds[:3], 1e-300],
                         [*code_bounds[:3], 1e300]):
        changed = metadata | {"code_bounds": code_bounds, "basis_bounds": basis_bounds}
        write_file(saved, changed, dict(arrays))
        search_all_ways(saved)


def test_metadata_holds_all_bits(saved: Path) -> None:
    """Bounds are read back exactly; a rounded one would no longer be a bound."""
    metadata, arrays = read_file(saved)
    store = farann.Index.load(saved)._store
    assert store is not None and store.codes is not None and store.codes.basis_bounds is not None
    for name, bounds in (("code_bounds", store.codes.bounds),
                         ("basis_bounds", store.codes.basis_bounds)):
        assert struct.pack("<4d", *bounds) == struct.pack("<4d", *metadata[name])
    assert arrays["codes.basis"].dtype == np.float64
