"""Vector files: what is written comes back, strangers' files are read, damaged ones refused."""

from __future__ import annotations

import struct
import sys
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import inside
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal
from numpy.typing import NDArray

from farann.vectors import (
    VectorFile,
    open_vectors,
    read_id_lists,
    read_ids,
    write_vectors,
)

EXTENSIONS = [".npy", ".npz", ".fvecs", ".ivecs", ".bvecs", ".parquet", ".hdf5", ".h5"]
PACKAGES = {".parquet": "pyarrow", ".hdf5": "h5py", ".h5": "h5py"}


def need(extension: str) -> None:
    """Skip where the package for these files is missing."""
    if extension in PACKAGES:
        pytest.importorskip(PACKAGES[extension])


def whole_numbers(n: int = 12, dim: int = 5) -> NDArray[np.float32]:
    """Rows that every format can hold."""
    return np.random.default_rng(n).integers(0, 256, (n, dim)).astype(np.float32)


def vecs_bytes(rows: NDArray[Any], letter: str) -> bytes:
    """What an .fvecs (f), .ivecs (i) or .bvecs (B) file consists of."""
    form = f"<i{rows.shape[1]}{letter}"
    return b"".join(struct.pack(form, rows.shape[1], *row) for row in rows.tolist())


def npy_bytes(shape: str, data: bytes = b"", descr: str = "'<f4'") -> bytes:
    """An .npy file with a header of one's own."""
    header = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode() + data


# What was written comes back


@pytest.mark.parametrize("extension", EXTENSIONS)
def test_round_trip(tmp_path: Path, extension: str) -> None:
    need(extension)
    rows = whole_numbers()
    path = tmp_path / f"rows{extension}"
    write_vectors(path, rows)
    found = open_vectors(path)
    assert (found.path, found.rows, found.dim) == (path, 12, 5)
    assert found.dtype == {".ivecs": np.int32, ".bvecs": np.uint8}.get(extension, np.float32)
    assert_array_equal(found.read(), rows)
    assert found.read().dtype == found.dtype
    assert [path] == list(tmp_path.iterdir())


@pytest.mark.parametrize("extension", EXTENSIONS)
def test_blocks_have_the_size_asked_for(tmp_path: Path, extension: str) -> None:
    need(extension)
    rows = whole_numbers(23, 4)
    path = tmp_path / f"rows{extension}"
    write_vectors(path, rows)
    found = open_vectors(path)
    for block_bytes, lengths in [(4 * 4 * 10, [10, 10, 3]), (1, [1] * 23), (1 << 20, [23])]:
        blocks = list(found.blocks(block_bytes))
        assert [len(block) for block in blocks] == lengths
        assert_array_equal(np.concatenate(blocks), rows)


@pytest.mark.parametrize("extension", [".npy", ".npz", ".parquet", ".hdf5"])
@pytest.mark.parametrize("dtype", ["float64", "float16", "int8", "uint64"])
def test_number_types_are_kept(tmp_path: Path, extension: str, dtype: str) -> None:
    need(extension)
    rows = np.arange(12).reshape(4, 3).astype(dtype)
    write_vectors(tmp_path / f"rows{extension}", rows)
    found = open_vectors(tmp_path / f"rows{extension}")
    assert found.dtype == found.read().dtype == dtype
    assert_array_equal(found.read(), rows)


@pytest.mark.parametrize("extension", [".npy", ".npz", ".parquet", ".hdf5"])
def test_no_rows(tmp_path: Path, extension: str) -> None:
    need(extension)
    write_vectors(tmp_path / f"rows{extension}", np.empty((0, 7), np.float32))
    found = open_vectors(tmp_path / f"rows{extension}")
    assert (found.rows, found.dim) == (0, 7)
    assert found.read().shape == (0, 7)


def test_an_open_file_shows_what_it_is(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", whole_numbers())
    text = repr(open_vectors(tmp_path / "a.npy"))
    assert "rows=12, dim=5" in text and "function" not in text


# What others wrote is read


def test_npy_in_column_order_and_big_endian(tmp_path: Path) -> None:
    rows = whole_numbers()
    np.save(tmp_path / "f.npy", np.asfortranarray(rows))
    np.save(tmp_path / "b.npy", rows.astype(">f8"))
    assert_array_equal(open_vectors(tmp_path / "f.npy").read(), rows)
    assert_array_equal(open_vectors(tmp_path / "b.npy").read(), rows)


@pytest.mark.parametrize("order", ["C", "F"])
def test_npz_compressed(tmp_path: Path, order: Any) -> None:
    rows = whole_numbers(50, 3)
    np.savez_compressed(tmp_path / "a.npz", rows=np.array(rows, order=order))
    found = open_vectors(tmp_path / "a.npz")
    assert_array_equal(np.concatenate(list(found.blocks(60))), rows)


def test_a_single_vector_is_one_row(tmp_path: Path) -> None:
    vector = whole_numbers()[3]
    np.save(tmp_path / "a.npy", vector)
    found = open_vectors(tmp_path / "a.npy")
    assert (found.rows, found.dim) == (1, 5)
    assert_array_equal(found.read(), vector[None, :])


@pytest.mark.parametrize(
    ("extension", "letter"), [(".fvecs", "f"), (".ivecs", "i"), (".bvecs", "B")]
)
def test_vecs_are_what_they_should_be(tmp_path: Path, extension: str, letter: str) -> None:
    rows = whole_numbers(9, 7)
    data = vecs_bytes(rows.astype(int) if letter != "f" else rows, letter)
    (tmp_path / f"theirs{extension}").write_bytes(data)
    assert_array_equal(open_vectors(tmp_path / f"theirs{extension}").read(), rows)
    write_vectors(tmp_path / f"ours{extension}", rows)
    assert (tmp_path / f"ours{extension}").read_bytes() == data


@pytest.mark.parametrize("kind", ["fixed", "list", "large list"])
def test_parquet_lists(tmp_path: Path, kind: str) -> None:
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    rows = whole_numbers(20, 3)
    value = arrow.float32()
    types = {"fixed": arrow.list_(value, 3), "list": arrow.list_(value),
             "large list": arrow.large_list(value)}
    table = arrow.table({
        "word": [f"w{i}" for i in range(20)],
        "vector": arrow.array(rows.tolist(), types[kind]),
        "id": np.arange(20) * 2,
    })
    parquet.write_table(table, tmp_path / "a.parquet", row_group_size=6)
    for name in ("a.parquet", "a.parquet:vector"):
        found = open_vectors(tmp_path / name)
        assert (found.rows, found.dim) == (20, 3)
        assert_array_equal(np.concatenate(list(found.blocks(48))), rows)
    assert_array_equal(read_ids(tmp_path / "a.parquet:id"), np.arange(20) * 2)


def test_parquet_columns_of_numbers(tmp_path: Path) -> None:
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    table = arrow.table({"x": np.array([1, 2, 3], "f4"), "y": np.array([4, 5, 6], "i2")})
    parquet.write_table(table, tmp_path / "a.parquet")
    found = open_vectors(tmp_path / "a.parquet")
    assert_array_equal(found.read(), [[1, 4], [2, 5], [3, 6]])
    assert found.dtype == found.read().dtype


def test_hdf5_of_ann_benchmarks(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    rows, queries = whole_numbers(30, 4), whole_numbers(5, 4)
    with h5py.File(tmp_path / "a.hdf5", "w") as file:
        file["train"], file["test"] = rows, queries
        file["neighbors"] = np.zeros((5, 10), np.int32)
        file["group/inner"] = rows[:3]
    assert_array_equal(open_vectors(tmp_path / "a.hdf5").read(), rows)
    assert_array_equal(open_vectors(tmp_path / "a.hdf5", default="test").read(), queries)
    assert_array_equal(open_vectors(tmp_path / "a.hdf5:train", default="test").read(), rows)
    assert_array_equal(open_vectors(tmp_path / "a.hdf5:group/inner").read(), rows[:3])


def test_names(tmp_path: Path) -> None:
    a, b = whole_numbers(3), whole_numbers(4)
    np.savez(tmp_path / "two.npz", a=a, b=b)
    assert_array_equal(open_vectors(tmp_path / "two.npz:a").read(), a)
    assert_array_equal(open_vectors(f"{tmp_path}/two.npz:b").read(), b)
    assert_array_equal(open_vectors(tmp_path / "two.npz", default="b").read(), b)
    np.save(tmp_path / "odd.npy:name.npy", a)  # a colon may be part of a name
    assert_array_equal(open_vectors(tmp_path / "odd.npy:name.npy").read(), a)
    np.save(tmp_path / "UPPER.NPY.npy", a)
    (tmp_path / "UPPER.NPY.npy").rename(tmp_path / "UPPER.NPY")
    assert_array_equal(open_vectors(tmp_path / "UPPER.NPY").read(), a)


def test_npz_and_npy_are_not_read_as_a_whole(tmp_path: Path) -> None:
    rows = np.zeros((64, 65_536), np.float32)  # 16 MB
    np.savez_compressed(tmp_path / "a.npz", rows)
    np.save(tmp_path / "a.npy", rows)
    del rows
    for name in ("a.npz", "a.npy"):
        found = open_vectors(tmp_path / name)
        tracemalloc.start()
        count = sum(len(block) for block in found.blocks(1 << 20))
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert count == 64 and peak < 6e6


# What is wrong is said


def message(path: Path, name: str | None = None) -> str:
    """What is said about a bad file; it begins with the file's path."""
    with pytest.raises(ValueError) as caught:
        open_vectors(path if name is None else f"{path}:{name}").read()
    text = str(caught.value)
    assert text.startswith(f"{path}: ")
    return text.removeprefix(f"{path}: ")


def test_unknown_extension(tmp_path: Path) -> None:
    (tmp_path / "a.xls").touch()
    text = message(tmp_path / "a.xls")
    assert "unknown extension '.xls'" in text
    assert all(extension in text for extension in EXTENSIONS)
    with pytest.raises(ValueError, match="unknown extension ''"):
        write_vectors(tmp_path / "a", whole_numbers())


def test_missing_file_and_folder(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        open_vectors(tmp_path / "none.npy")
    assert caught.value.filename == str(tmp_path / "none.npy")
    (tmp_path / "folder.npy").mkdir()
    assert "a folder of Parquet files, got none" in message(tmp_path / "folder.npy")


def test_wrong_names(tmp_path: Path) -> None:
    np.savez(tmp_path / "two.npz", a=whole_numbers(), b=whole_numbers())
    assert "holds several: a, b" in message(tmp_path / "two.npz")
    assert "say which as two.npz:NAME" in message(tmp_path / "two.npz")
    assert "no array is called 'c'; there are: a, b" in message(tmp_path / "two.npz", "c")
    np.save(tmp_path / "a.npy", whole_numbers())
    assert "has no named arrays, got 'x'" in message(tmp_path / "a.npy", "x")
    zipfile.ZipFile(tmp_path / "no.npz", "w").close()
    assert "holds no array" in message(tmp_path / "no.npz")


def test_hdf5_without_such_a_data_set(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "a.hdf5", "w") as file:
        file["one"], file["two"] = whole_numbers(), whole_numbers()
        file.create_group("group")
    assert "holds several: one, two" in message(tmp_path / "a.hdf5")
    for name in ("three", "group"):
        text = message(tmp_path / "a.hdf5", name)
        assert f"no data set is called '{name}'" in text and "one" in text


@pytest.mark.parametrize("extension", [".npy", ".npz", ".hdf5"])
@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (np.array([["a", "b"]], dtype="S1"), "expected numbers, got |S1"),
        (np.ones((2, 2), complex), "expected numbers, got complex128"),
        (np.ones((2, 2), bool), "expected numbers, got bool"),
        (np.ones((2, 2, 2)), "got (2, 2, 2)"),
        (np.float64(3), "got ()"),
        (np.ones((3, 0)), "got (3, 0)"),
    ],
)
def test_not_vectors(tmp_path: Path, extension: str, array: NDArray[Any], expected: str) -> None:
    need(extension)
    path = tmp_path / f"a{extension}"
    if extension == ".npy":
        np.save(path, array)
    elif extension == ".npz":
        np.savez(path, array)
    else:
        with pytest.importorskip("h5py").File(path, "w") as file:
            file["train"] = array
    assert expected in message(path)


def test_python_objects_are_never_loaded(tmp_path: Path) -> None:
    objects = np.array([[print, len]], dtype=object)
    np.save(tmp_path / "a.npy", objects, allow_pickle=True)
    np.savez(tmp_path / "a.npz", objects)
    for name in ("a.npy", "a.npz"):
        assert "Python objects" in message(tmp_path / name)


@pytest.mark.parametrize(
    "shape",
    ["(-1, 5)", "(3, 5)", "(2, -5)", f"({10**30}, 5)", f"({2**62}, {2**62})", "(3, 5", "(1.5, 2)",
     "None", "(" * 500],
)
@pytest.mark.parametrize("extension", [".npy", ".npz"])
def test_headers_that_lie(tmp_path: Path, shape: str, extension: str) -> None:
    path = tmp_path / f"a{extension}"
    data = npy_bytes(shape, bytes(40))
    if extension == ".npy":
        path.write_bytes(data)
    else:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("a.npy", data)
    assert message(path)


def test_vecs_with_rows_of_different_lengths(tmp_path: Path) -> None:
    data = vecs_bytes(whole_numbers(6, 3), "f")
    for dim, expected in [(0, "has length 0"), (-3, "has length -3"), (4, "not all rows")]:
        (tmp_path / "a.fvecs").write_bytes(struct.pack("<i", dim) + data[4:])
        assert expected in message(tmp_path / "a.fvecs")
    (tmp_path / "a.fvecs").write_bytes(data[: 16 * 4] + struct.pack("<i", 2) + data[16 * 4 + 4 :])
    assert "row 4: expected length 3, got 2" in message(tmp_path / "a.fvecs")


def test_parquet_with_faults(tmp_path: Path) -> None:
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    numbers = [[1.0, 2.0], [3.0, 4.0]]
    cases = {
        "got 2 numbers in row 0 and 3 in row 2": {"v": [*numbers, [5.0, 6.0, 7.0]]},
        "expected a list of numbers in each row, got none in row 2": {"v": [*numbers, None]},
        "expected numbers, got none in row 1": {"v": [numbers[0], [3.0, None]]},
        "a value is missing in rows 0 to 1": {"x": [1, None]},
        "holds no column of lists": {"word": ["a", "b"], "id": [1, 2]},
        "holds several: v, w": {"v": numbers, "w": numbers},
        "got (1, 0)": {"v": arrow.array([[]], arrow.list_(arrow.float32()))},
    }
    for expected, columns in cases.items():
        parquet.write_table(arrow.table(columns), tmp_path / "a.parquet")
        assert expected in message(tmp_path / "a.parquet")
    parquet.write_table(arrow.table({"v": numbers, "word": ["a", "b"]}), tmp_path / "a.parquet")
    for name in ("word", "other"):
        text = message(tmp_path / "a.parquet", name)
        assert f"no column of lists of numbers is called '{name}'; there are: v" in text


@pytest.mark.parametrize("extension", EXTENSIONS)
def test_every_truncation_is_noticed(tmp_path: Path, extension: str) -> None:
    need(extension)
    rows = whole_numbers(5, 3)
    path = tmp_path / f"a{extension}"
    write_vectors(path, rows)
    data = path.read_bytes()
    step = 1 if len(data) < 500 else 37
    for length in range(0, len(data), step):
        path.write_bytes(data[:length])
        if extension.endswith("vecs") and length and length % (len(data) // 5) == 0:
            # Nothing in the file says how many rows there should be.
            assert_array_equal(open_vectors(path).read(), rows[: length // (len(data) // 5)])
        else:
            message(path)


@pytest.mark.parametrize("extension", EXTENSIONS)
def test_other_bytes_are_refused(tmp_path: Path, extension: str) -> None:
    need(extension)
    path = tmp_path / f"a{extension}"
    for data in (b"", b"x", b"\x80\x04]", b"PK\x03\x04 and so on", b"<html></html>" * 99):
        path.write_bytes(data)
        message(path)


@pytest.mark.parametrize("extension", EXTENSIONS[:5])
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(data=st.data())
def test_altered_bytes_do_no_harm(tmp_path: Path, extension: str, data: st.DataObject) -> None:
    path = tmp_path / f"a{extension}"
    write_vectors(path, whole_numbers(6, 3))
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    try:
        found = open_vectors(path)
        array = found.read()
    except ValueError as error:
        assert str(error).startswith(f"{path}: ")
    else:
        assert array.shape == (found.rows, found.dim)


@pytest.mark.parametrize("extension", list(PACKAGES))
def test_a_missing_package_is_named(
    tmp_path: Path, extension: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / f"a{extension}"
    path.write_bytes(b"never looked at")
    package = PACKAGES[extension]
    for module in ("pyarrow", "pyarrow.parquet", "h5py"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=f"pip install {package}$"):
        open_vectors(path)
    with pytest.raises(ImportError, match=f"pip install {package}$"):
        write_vectors(path, whole_numbers())
    assert path.read_bytes() == b"never looked at"


# Writing


def test_names_are_written(tmp_path: Path) -> None:
    rows = whole_numbers()
    for extension in (".npz", ".parquet", ".hdf5"):
        need(extension)
        write_vectors(tmp_path / f"a{extension}", rows, "mine")
        assert_array_equal(open_vectors(tmp_path / f"a{extension}:mine").read(), rows)
    with pytest.raises(ValueError, match="name: a .npy file has no named arrays, got 'mine'"):
        write_vectors(tmp_path / "a.npy", rows, "mine")


@pytest.mark.parametrize(
    ("extension", "vectors", "expected"),
    [
        (".bvecs", [[256]], "uint8"),
        (".bvecs", [[-1]], "uint8"),
        (".ivecs", [[2**31]], "int32"),
        (".ivecs", [[0.5]], "whole numbers"),
        (".bvecs", [[float("nan")]], "uint8"),
        (".npy", [1, 2], r"got int64 of \(2,\)"),
        (".npy", [["a"]], "expected numbers"),
        (".npy", [[]], r"\(1, 0\)"),
    ],
)
def test_what_cannot_be_written(
    tmp_path: Path, extension: str, vectors: Any, expected: str
) -> None:
    path = tmp_path / f"a{extension}"
    path.write_bytes(b"old")
    with pytest.raises(ValueError, match=f"^vectors: .*{expected}"):
        write_vectors(path, vectors)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_numbers_beyond_float32_are_no_silent_infinities(tmp_path: Path) -> None:
    with pytest.warns(RuntimeWarning, match="overflow"):
        write_vectors(tmp_path / "a.fvecs", [[1e300]])


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    with pytest.raises(ZeroDivisionError), inside.files.replacing(path) as stream:
        stream.write(b"new")
        raise ZeroDivisionError
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(FileNotFoundError) as caught:
        write_vectors(tmp_path / "none" / "a.npy", whole_numbers())
    assert caught.value.filename == str(tmp_path / "none" / "a.npy")


# Ids


@pytest.mark.parametrize("name", ["a.npy", "a.npz", "a.txt", "a.ivecs", "a.parquet", "a.hdf5"])
def test_ids(tmp_path: Path, name: str) -> None:
    ids = np.array([5, 0, 2**30, 7])
    path = tmp_path / name
    need(path.suffix)
    if path.suffix == ".npy":
        np.save(path, ids)
    elif path.suffix == ".npz":
        np.savez(path, other=ids[:2], ids=ids)
    elif path.suffix == ".txt":
        path.write_text(f"5 0\n\n{2**30},\t7\n")
    else:
        write_vectors(path, ids[:, None])
    found = read_ids(path)
    assert found.dtype == np.int64
    assert_array_equal(found, ids)


def test_no_ids_and_masks(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("")
    assert read_ids(tmp_path / "a.txt").shape == (0,)
    np.save(tmp_path / "a.npy", np.empty(0, np.int32))
    assert read_ids(tmp_path / "a.npy").shape == (0,)
    np.save(tmp_path / "mask.npy", np.array([True, False]))
    assert_array_equal(read_ids(tmp_path / "mask.npy"), [True, False])
    assert read_ids(tmp_path / "mask.npy").dtype == bool


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (np.ones(3), "integer ids, got float64"),
        (np.ones((2, 2), int), r"got an array of shape \(2, 2\)"),
        (np.array([2**63], np.uint64), f"ids that int64 can hold, got {2**63}"),
    ],
)
def test_wrong_ids(tmp_path: Path, array: NDArray[Any], expected: str) -> None:
    np.save(tmp_path / "a.npy", array)
    with pytest.raises(ValueError, match=f"a.npy: expected .*{expected}"):
        read_ids(tmp_path / "a.npy")


@pytest.mark.parametrize("word", ["x", "1.5", str(2**63), "é"])
def test_wrong_text(tmp_path: Path, word: str) -> None:
    (tmp_path / "a.txt").write_text(f"1 2\n3 {word}\n", encoding="utf-8")
    with pytest.raises(ValueError, match="a.txt: line 2: expected int64 ids, got '3 "):
        read_ids(tmp_path / "a.txt")


def test_id_lists(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("4, 8\n\n-1 5 6\n")
    lists = read_id_lists(tmp_path / "a.txt", 3)
    assert [ids.tolist() for ids in lists] == [[4, 8], [], [-1, 5, 6]]
    table = np.array([[1, 2], [3, -1]])
    np.save(tmp_path / "a.npy", table.astype(np.int32))
    assert_array_equal(read_id_lists(tmp_path / "a.npy", 2), table)
    np.save(tmp_path / "one.npy", table[0])
    assert_array_equal(read_id_lists(tmp_path / "one.npy", 3), [[1, 2]] * 3)
    for name in ("a.npy", "a.txt"):
        with pytest.raises(ValueError, match=f"{name}: expected a list for each query \\(9\\)"):
            read_id_lists(tmp_path / name, 9)
    np.save(tmp_path / "deep.npy", np.ones((2, 2, 2), int))
    with pytest.raises(ValueError, match=r"got an array of shape \(2, 2, 2\)"):
        read_id_lists(tmp_path / "deep.npy", 2)


def test_a_file_that_changes_meanwhile_is_noticed(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", whole_numbers(8))
    found = open_vectors(tmp_path / "a.npz")
    np.savez(tmp_path / "a.npz", whole_numbers(4))
    with pytest.raises(ValueError, match="a.npz: "):
        found.read()
    assert isinstance(found, VectorFile)
