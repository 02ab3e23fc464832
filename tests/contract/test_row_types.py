"""Rows of float16, bfloat16, uint8 and int8: exact over these values, in a part of the memory."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import inside
import numpy as np
import pytest
import reference
from cases import (
    assert_exact,
    assert_same,
    assert_same_beyond,
    assert_same_bits,
    pairs,
    queries_for,
)
from inside import core
from numpy.testing import assert_array_equal
from numpy.typing import NDArray
from reference import METRICS

import farann
from farann.cli import main
from farann.vectors import write_vectors

COMPACT = ("float16", "bfloat16", "uint8", "int8")
Rows = NDArray[Any]


def wide(rows: Rows) -> NDArray[np.float32]:
    """Kept rows as float32, in plain numpy."""
    if rows.dtype == np.uint16:
        return (rows.astype(np.uint32) << 16).view(np.float32)
    return rows.astype(np.float32)


def rows_of(dtype: str, rng: np.random.Generator, n: int, dim: int) -> Rows:
    """Rows with ties, and where the type has them with denormal and with its largest numbers."""
    if dtype in ("uint8", "int8"):
        limits = np.iinfo(dtype)
        rows = rng.integers(limits.min, limits.max + 1, (n, dim)).astype(dtype)
    else:
        drawn = rng.standard_normal((n, dim), dtype=np.float32)
        drawn[:: 7] *= np.float32(1e-6 if dtype == "float16" else 1e-39)
        drawn[3::50] *= np.float32(1e4 if dtype == "float16" else 3e37)
        drawn = np.clip(drawn, -6e4, 6e4) if dtype == "float16" else np.clip(drawn, -3e38, 3e38)
        rows = drawn.astype(np.float16) if dtype == "float16" else (
            drawn.view(np.uint32) >> 16).astype(np.uint16)
    rows[n // 2 :: 5] = rows[: len(rows[n // 2 :: 5])]
    rows[~wide(rows).any(axis=1), 0] = 1
    return rows


def index_of(rows: Rows, dtype: str, metric: str = "l2", **options: Any) -> farann.Index:
    index = farann.Index(rows.shape[1], metric, dtype=dtype, **options)
    index.add(rows)
    return index


@pytest.mark.parametrize("isa", inside.levels())
@pytest.mark.parametrize("dim", (1, 7, 16, 33, 256))
def test_every_number_of_each_type_is_widened_exactly(isa: str, dim: int) -> None:
    for dtype, numbers in ((np.float16, 1 << 16), (np.uint16, 1 << 16), (np.uint8, 256),
                           (np.int8, 256)):
        every = np.arange(numbers, dtype=np.uint16 if numbers > 256 else np.uint8).view(dtype)
        rows = np.resize(every, (-(-numbers // dim), dim))
        found = core.widened(rows, isa)
        assert_same_bits(found, wide(rows))
        assert_same_bits(core.widened(rows[::3], isa), wide(rows[::3]))
        # Denormal numbers are what they are, too, where arithmetic takes them for zero.
        before = core.flush_denormals(True)
        try:
            assert_array_equal(core.widened(rows, isa).view(np.uint32), found.view(np.uint32))
        finally:
            core.flush_denormals(before > 0)


@pytest.mark.parametrize(("dtype", "metric", "codes"), pairs(
    COMPACT, METRICS, ("int8", "int4", "float32")))
def test_answers_are_those_of_float64(dtype: str, metric: str, codes: str,
                                      rng: np.random.Generator) -> None:
    for n, dim in ((3, 5), (700, 33)):
        rows = rows_of(dtype, rng, n, dim)
        index = index_of(rows, dtype, metric, codes=codes)
        assert_exact(index, wide(rows), queries_for(rng, wide(rows), metric), (10, 1, n + 3))


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("dtype", COMPACT)
def test_every_level_has_the_same_answers(dtype: str, metric: str,
                                          rng: np.random.Generator) -> None:
    rows = rows_of(dtype, rng, 400, 17)
    assert_exact(index_of(rows, dtype, metric), wide(rows), queries_for(rng, wide(rows), metric),
                 (5,), levels=inside.levels())


@pytest.mark.parametrize("dtype", COMPACT)
def test_all_else_that_is_asked(dtype: str, rng: np.random.Generator) -> None:
    rows = rows_of(dtype, rng, 900, 12)
    index = index_of(rows[:600], dtype).build()
    index.add(rows[600:])  # some with codes, some without
    x, queries = wide(rows), rng.standard_normal((7, 12), dtype=np.float32)
    few = np.array([3, 601, 899, 17, 5])
    assert_same(index.search_furthest(queries, 4, allowed=few),
                reference.furthest(queries, x, 4, "l2", allowed=few.tolist()))
    excluded = rng.integers(0, 900, (7, 30))
    assert_same(index.search_furthest(queries, 9, exclude=excluded),
                reference.furthest(queries, x, 9, "l2", exclude=excluded))
    radius = float(np.median(reference.score(queries, x, "l2")))
    assert_same_beyond(index.search_beyond(queries, radius=radius),
                       reference.beyond(queries, x, radius, "l2"))
    assert_same_bits(index.score(queries, few), reference.score(queries, x[few], "l2"))
    assert_same_bits(index.reconstruct(few), x[few])
    index.remove(np.arange(0, 900, 3))
    kept = np.delete(np.arange(900), np.s_[::3])
    assert_exact(index, x[kept], queries, (6,), ids=kept)
    assert_exact(index.build(), x[kept], queries, (6,), ids=kept)
    assert index.stats()["bytes"]["rows"] == 600 * 12 * np.dtype(rows.dtype).itemsize


@pytest.mark.parametrize("dtype", COMPACT)
def test_many_rows_that_share_a_key(dtype: str, rng: np.random.Generator) -> None:
    rows = np.repeat(rows_of(dtype, rng, 1, 20), 3000, axis=0)
    rows[1500:] = rows_of(dtype, rng, 1500, 20)
    for codes in ("int8", "float32"):
        index = index_of(rows, dtype, "dot", codes=codes)
        assert_exact(index, wide(rows), queries_for(rng, wide(rows), "dot"), (20,))


@pytest.mark.parametrize(("dtype", "options"), [
    *((dtype, {"cells": 12}) for dtype in COMPACT),
    *((dtype, {"cells": 12, "codes": "int4"}) for dtype in COMPACT[::2]),
    *((dtype, {}) for dtype in COMPACT[1::2])])
def test_approximate_answers_are_those_of_float32_rows(dtype: str, options: dict[str, Any],
                                                       rng: np.random.Generator) -> None:
    rows = rows_of(dtype, rng, 4200, 24)  # of fewer no sample is taken
    queries = rng.standard_normal((40, 24), dtype=np.float32)
    for vectors in (True, False):
        pair = [index_of(given, kept, keep_vectors=vectors, **options).build()
                for given, kept in ((rows, dtype), (wide(rows), "float32"))]
        for limits in ({"recall": 0.9}, {"budget": 800}):
            ours, theirs = (index.search_furthest(queries, 10, **limits) for index in pair)
            assert_same(ours, theirs)
        assert_same_bits(*(index.reconstruct(np.arange(0, 4200, 17)) for index in pair))
        more = rows_of(dtype, rng, 300, 24)
        for index, given in zip(pair, (more, wide(more)), strict=True):
            index.add(given)
            index.build()
        ours, theirs = (index.search_furthest(queries, 10, recall=0.9) for index in pair)
        assert_same(ours, theirs)


@pytest.mark.parametrize(("dtype", "vectors", "mmap"), pairs(COMPACT, (True, False), (False, True)))
def test_files_keep_the_type(dtype: str, vectors: bool, mmap: bool, tmp_path: Path,
                             rng: np.random.Generator) -> None:
    rows = rows_of(dtype, rng, 500, 40)
    index = index_of(rows, dtype, keep_vectors=vectors).build()
    index.add(rows[:20])
    index.save(tmp_path / "a.farann")
    loaded = farann.Index.load(tmp_path / "a.farann", mmap=mmap)
    assert loaded.dtype == dtype == index.dtype == loaded.stats()["dtype"]
    queries = wide(rows[:5]) + np.float32(0.25)
    limits: dict[str, Any] = {} if vectors else {"recall": 1.0}
    for other in (loaded, pickle.loads(pickle.dumps(index))):
        assert_same(other.search_furthest(queries, 9, **limits),
                    index.search_furthest(queries, 9, **limits))
        assert_same_bits(other.reconstruct(other.ids), index.reconstruct(index.ids))
    loaded.save(tmp_path / "b.farann")
    assert (tmp_path / "b.farann").read_bytes() == (tmp_path / "a.farann").read_bytes()
    if vectors:
        floats = index_of(wide(rows), "float32").build()
        floats.add(wide(rows[:20]))
        floats.save(tmp_path / "c.farann")
        saved = (tmp_path / "c.farann").stat().st_size - (tmp_path / "a.farann").stat().st_size
        assert abs(saved - 520 * 40 * (4 - np.dtype(rows.dtype).itemsize)) < 256


def test_numbers_that_would_change_are_refused() -> None:
    def refused(dtype: str, rows: Any, match: str) -> None:
        index = farann.Index(dtype=dtype)
        with pytest.raises(ValueError, match=match):
            index.add(rows)
        assert len(index) == 0 and index.dim is None

    third = np.float32(1 / 3)
    refused("float16", [[0.5, third]], r"holds exactly.*got 0\.33.* row 0.*astype\('float")
    refused("float16", [[1.0], [65536.0]], r"65536.* in row 1")
    refused("float16", np.array([[2049]]), "2049")
    refused("float16", [[1.0 + 2.0**-40]], "float16 holds exactly")
    refused("bfloat16", np.array([[1.0 + 2**-8]], np.float32), "bfloat16 holds exactly")
    refused("bfloat16", np.array([[2**62 + 1]]), "bfloat16 holds exactly")
    refused("bfloat16", np.array([[2**64 - 1]], np.uint64), "bfloat16 holds exactly")
    refused("uint8", [[1.5]], r"got 1\.5 in row 0.*np\.rint")
    refused("uint8", [[-1]], "-1 in row 0")
    refused("uint8", [[256]], "256")
    refused("int8", np.array([[200]], np.uint8), "200")
    refused("int8", [[128.0]], "128")
    refused("uint8", [[np.nan]], "finite numbers, got NaN in row 0")
    refused("int8", [[0.0], [np.inf]], "infinity in row 1")
    refused("float16", [[np.nan]], "finite numbers, got NaN in row 0")
    refused("bfloat16", [[1.0], [np.nan]], "finite numbers, got NaN in row 1")
    refused("float16", [[np.inf]], "finite numbers, got infinity in row 0")
    refused("float16", np.array([[1], [np.inf]], np.float16), "infinity in row 1")
    refused("bfloat16", np.array([[0x7F80]], np.uint16), "infinity in row 0")
    with pytest.raises(ValueError, match="zero vector in row 1"):
        farann.Index(metric="cosine", dtype="int8").add(np.array([[1, 2], [0, 0]], np.int8))
    with pytest.raises(TypeError, match="real numbers"):
        farann.Index(dtype="int8").add([["a"]])


def test_numbers_that_stay_what_they_are_are_converted() -> None:
    for dtype, rows in (
        ("float16", np.array([[0.5, -65504.0], [2.0**-24, 0.0]])), ("float16", [[2048, -3]]),
        ("bfloat16", np.array([[1.5, 2.0**-133], [-(2.0**127), 3e38 * 0]])),
        ("bfloat16", np.array([[2**62]])), ("uint8", [[0.0, 255.0]]), ("int8", [[-128, 127]]),
        ("uint8", np.array([[True, False]]).astype(np.float16)),
        ("int8", np.array([[3, 4]], ">i4")), ("float16", np.array([[3.5, 4]], ">f2")),
        ("float16", np.array([[3.5, 4]], np.float16)[:, ::-1]),
    ):
        index = farann.Index(dtype=dtype)
        index.add(rows)
        assert_array_equal(index.reconstruct(index.ids), np.asarray(rows).astype(np.float32))


def test_bfloat16_of_ml_dtypes() -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes")
    rows = np.array([[1.5, -2.0], [3.0, 0.25]], ml_dtypes.bfloat16)
    for dtype in ("bfloat16", ml_dtypes.bfloat16, np.dtype(ml_dtypes.bfloat16)):
        index = farann.Index(dtype=dtype)
        index.add(rows, copy=False)
        assert index.dtype == "bfloat16"
        assert_array_equal(index.reconstruct([0, 1]), rows.astype(np.float32))
    floats = farann.Index()
    floats.add(rows)
    assert_same(floats.search_furthest(rows, 2), index.search_furthest(rows, 2))
    with pytest.raises(ValueError, match="expected float32 .*, got bfloat16 in C order"):
        farann.Index().add(rows, copy=False)
    halves = farann.Index(dtype="float16")
    halves.add(rows)
    assert_array_equal(halves.reconstruct([0, 1]), rows.astype(np.float32))
    for dtype in ("float32", "float16", "bfloat16"):
        index = farann.Index(dtype=dtype)
        index.add(rows.astype(ml_dtypes.float8_e4m3fn))
        assert_array_equal(index.reconstruct([0, 1]), rows.astype(np.float32))
    with pytest.raises(ValueError, match="that float16 holds exactly"):
        halves.add(np.array([[1e30, 0.0]], ml_dtypes.bfloat16))


def test_rows_are_not_copied_on_request() -> None:
    rows = np.arange(12, dtype=np.uint8).reshape(4, 3)
    index = farann.Index(dtype=np.uint8)
    index.add(rows, copy=False)
    rows[0] = 7  # which nobody may do, but it shows whose rows they are
    assert_array_equal(index.reconstruct(0), [7, 7, 7])
    for wrong in (rows.astype(np.float32), rows[:, ::-1]):
        with pytest.raises(ValueError, match="expected uint8 in C order, as copy=False says"):
            farann.Index(dtype="uint8").add(wrong, copy=False)


def test_unknown_types_are_refused() -> None:
    for dtype in ("float64", "f2", np.int32, np.dtype("f8"), float, None, 3, object()):
        with pytest.raises(ValueError, match="dtype: expected one of 'float32', 'float16'"):
            farann.Index(dtype=dtype)
    assert farann.Index(dtype=np.float16).dtype == "float16"
    assert farann.Index(dtype=np.dtype("int8")).dtype == "int8"
    assert farann.Index().dtype == "float32"


def test_the_core_refuses_rows_that_do_not_fit() -> None:
    rows = np.zeros((4, 3), np.uint8)
    center = np.zeros(3)
    for base, tail in ((rows, rows.astype(np.int8)), (rows.astype(np.int32), rows),
                       (rows[:, ::-1], rows), (rows, [[0, 0, 0]])):
        with pytest.raises(ValueError, match="type"):
            core.Snapshot(base, tail, None, None, center, 0, farann.Index().isa)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ("rows.npy", "rows.npz", "rows.bvecs", "column.npy"))
def test_the_command_line_keeps_the_type_of_its_input(name: str, tmp_path: Path,
                                                      monkeypatch: pytest.MonkeyPatch,
                                                      rng: np.random.Generator) -> None:
    monkeypatch.chdir(tmp_path)
    rows = rows_of("uint8", rng, 200, 16)
    if name == "column.npy":  # which is not mapped but copied
        np.save(name, np.asfortranarray(rows))
    else:
        write_vectors(name, rows)
    assert main(["build", name, "-o", "a.farann", "-q", "--metric", "cosine"]) == 0
    index_of(rows, "uint8", "cosine").build().save("b.farann")
    assert Path("a.farann").read_bytes() == Path("b.farann").read_bytes()
    assert main(["build", name, "-o", "a.farann", "-q", "--dtype", "float16"]) == 0
    assert farann.Index.load("a.farann").dtype == "float16"
    assert main(["build", name, "-o", "a.farann", "-q", "--dtype", "float32"]) == 0
    index_of(wide(rows), "float32").build().save("b.farann")
    assert Path("a.farann").read_bytes() == Path("b.farann").read_bytes()


def test_the_command_line_rounds_nothing_unasked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                                 capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    for rows, kept in ((np.ones((3, 2)), "float32"), (np.ones((3, 2), np.float16), "float16"),
                       (np.ones((3, 2), np.int32), "float32"), (np.ones((3, 2), np.int8), "int8"),
                       (np.ones((3, 2), ">f2"), "float16"),
                       (np.ones((3, 2), np.uint16), "float32")):
        np.save("rows.npy", rows)
        assert main(["build", "rows.npy", "-o", "a.farann", "-q"]) == 0
        index = farann.Index.load("a.farann", mmap=True)
        assert index.dtype == kept
        assert_array_equal(index.reconstruct(index.ids), np.ones((3, 2)))
        assert main(["info", "a.farann"]) == 0
        assert f"numbers    {kept}" in capsys.readouterr().out
    np.save("rows.npy", np.full((3, 2), 0.1))
    assert main(["build", "rows.npy", "-o", "a.farann", "-q", "--dtype", "float16"]) == 2
    assert "float16 holds exactly" in capsys.readouterr().err


def test_damaged_types_in_files_are_refused(rng: np.random.Generator, tmp_path: Path) -> None:
    index = index_of(rows_of("int8", rng, 90, 8), "int8").build()
    metadata, arrays = inside.files.sections_of(index)
    assert metadata["dtype"] == "int8"
    arrays["rows"] = np.concatenate(list(arrays["rows"].chunks))
    for dtype, match in (("float32", "'rows': expected float32"), ("bfloat16", "expected uint16"),
                         ("f4", "dtype: .* got 'f4'"), (None, "dtype: .* got None"),
                         ([], "dtype: ")):
        inside.files.write_file(tmp_path / "index", {**metadata, "dtype": dtype}, arrays)
        with pytest.raises(farann.FormatError, match=match):
            farann.Index.load(tmp_path / "index")


def test_a_search_without_an_index_takes_rows_as_they_are(rng: np.random.Generator) -> None:
    for dtype in ("float16", "uint8", "int8"):
        rows = rows_of(dtype, rng, 80, 6)
        assert_same(farann.search_furthest(rows, wide(rows)[:4], 5),
                    reference.furthest(wide(rows)[:4], wide(rows), 5, "l2"))


@pytest.mark.parametrize("dtype", ["float32", "uint8"])
def test_rows_begin_with_a_line_of_the_cache(dtype: str, tmp_path: Path) -> None:
    rows = np.random.default_rng(0).integers(0, 9, (70, 48)).astype(dtype)
    index = farann.Index(dtype=dtype)
    index.add(rows[:10])
    index.add(rows[10:])
    assert inside.store.of(index).tail.ctypes.data % 64 == 0
    index.remove([3])
    index.build()
    index.save(tmp_path / "rows.farann")
    for one in (index, farann.Index.load(tmp_path / "rows.farann")):
        assert inside.store.of(one).base.ctypes.data % 64 == 0
