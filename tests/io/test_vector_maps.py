"""All rows of a vector file at once, in memory that is the file's or that of a nameless copy."""

from __future__ import annotations

import errno
import mmap
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from test_vectors import EXTENSIONS, need, whole_numbers

from farann.vectors import VectorFile, open_vectors, write_vectors


def is_mapped(array: Any) -> bool:
    """Whether an array lies in a file, not in memory."""
    while isinstance(array, np.ndarray):
        array = array.base
    return isinstance(array, mmap.mmap)


def test_what_lies_right_is_mapped_where_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = whole_numbers()
    np.save(tmp_path / "a.npy", rows)
    monkeypatch.setattr(VectorFile, "blocks", None)
    found = open_vectors(tmp_path / "a.npy").map(tmp_path / "not needed")
    assert is_mapped(found) and not found.flags.writeable
    assert_array_equal(found, rows)
    with open(tmp_path / "a.npy", "r+b") as stream:
        stream.seek(-4, 2)
        stream.write(np.float32(99).tobytes())
    assert found[-1, -1] == 99


@pytest.mark.parametrize("extension", [*EXTENSIONS[1:], "f8.npy", "f2.npy", ">f4.npy", "F.npy"])
def test_all_else_is_mapped_from_a_copy(
    tmp_path: Path, extension: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    need(extension)
    rows = whole_numbers(50)
    path = tmp_path / f"a{extension}"
    if extension == "F.npy":
        np.save(path, np.asfortranarray(rows))
    elif extension.endswith(".npy"):
        np.save(path, rows.astype(extension[:-4]))
    else:
        write_vectors(path, rows)
    monkeypatch.setattr("farann.vectors.COPY_BYTES", 8 * 4 * 5)
    found = open_vectors(path).map()
    assert is_mapped(found) and not found.flags.writeable
    assert found.dtype == np.float32 and found.flags.c_contiguous
    assert_array_equal(found, rows)
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(FileNotFoundError):
        open_vectors(path).map(tmp_path / "nowhere")


def test_one_vector_and_none_are_mapped(tmp_path: Path) -> None:
    np.save(tmp_path / "one.npy", np.array([1, 2, 3], np.float32))
    np.save(tmp_path / "none.npy", np.empty((0, 3)))
    assert open_vectors(tmp_path / "one.npy").map().tolist() == [[1, 2, 3]]
    assert open_vectors(tmp_path / "none.npy").map().shape == (0, 3)


@pytest.mark.parametrize(
    ("number", "expected"),
    [(np.nan, "got NaN"), (-np.inf, "got infinity"), (1e39, "that float32 can hold"),
     (0.0, "got a zero vector")],
)
def test_rows_of_a_copy_are_checked(
    tmp_path: Path, number: float, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = np.ones((30, 4))
    rows[21] = rows[27] = number
    path = tmp_path / "a.npy"
    np.save(path, rows)
    monkeypatch.setattr("farann.vectors.COPY_BYTES", 8 * 4 * 8)
    if number == 0.0:
        assert_array_equal(open_vectors(path).map(), rows)
    with pytest.raises(ValueError, match=f"a.npy: .*{expected}.* in row 21$"):
        open_vectors(path).map(unit=True)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(sys.platform == "win32", reason="limits files as POSIX does")
def test_a_copy_that_does_not_fit(tmp_path: Path, run_python: Callable[..., Any]) -> None:
    np.save(tmp_path / "a.npy", np.ones((1000, 100)))
    code = """
import resource
from farann.vectors import open_vectors
found = open_vectors(str(given["path"]))
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    found.map()
except OSError as error:
    told = error.errno, error.filename
give(number=told[0], name=told[1])
"""
    told = run_python(code, path=str(tmp_path / "a.npy"))
    assert told["number"] == errno.EFBIG and told["name"] == str(tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["a.npy"]
