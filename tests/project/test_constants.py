"""A name in capitals has one value over the whole package."""

from __future__ import annotations

from pathlib import Path

import constants
import pytest


def test_each_constant_has_one_value() -> None:
    assert constants.differing(constants.PACKAGE) == {}


@pytest.mark.parametrize(("file", "text", "found"), [
    ("a.py", "_FEW = 3\nMOST, LEAST = 1 << 4, 2\nfew = 4\nNAMES: tuple[str, ...] = ('a',)",
     ["_FEW 3", "MOST 1 << 4", "LEAST 2", "NAMES ('a',)"]),
    ("a.py", "def f():\n    FEW = 3\nclass A:\n    FEW = 4", []),
    ("a.pxd", "cdef enum:\n    FEW = 3  # rows\n    MOST = 1 << 4\ncdef class A:\n    FEW = 4",
     ["FEW 3", "MOST 1 << 4"]),
    ("a.pyx", "cdef double _MARGIN = 1e-12\ncdef enum: FEW = 4\nMETRICS = (\"l2\", \"dot\")",
     ["_MARGIN 1e-12", "FEW 4", "METRICS (\"l2\", \"dot\")"]),
    ("a.pyx", "cdef int f(int A=3):\n    B = 4\n    if C == 3: pass", []),
])
def test_what_counts_as_a_constant(file: str, text: str, found: list[str]) -> None:
    of = constants.in_python if file.endswith(".py") else constants.in_cython
    assert [f"{name} {value}" for name, value, _ in of(text)] == found


def test_values_not_spellings_are_compared(tmp_path: Path) -> None:
    folder = tmp_path / "package"
    folder.mkdir()
    (folder / "a.py").write_text("FEW = 1 << 4\nMOST = 3\n")
    (folder / "b.pyx").write_text("cdef enum: FEW = 16\ncdef double _MOST = 4\n")
    assert constants.differing(folder) == {
        "MOST": ["package/a.py:2: 3", "package/b.pyx:2: 4"]}
