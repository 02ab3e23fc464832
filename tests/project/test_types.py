"""The package is typed throughout, and its stubs say what the native core has."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import farann

PACKAGE = Path(farann.__file__).parent


def test_mypy_strict() -> None:
    run = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "-p", "farann"],
        cwd=PACKAGE.parent, capture_output=True, text=True, timeout=1800,
    )
    assert run.returncode == 0, run.stdout + run.stderr


def test_style() -> None:
    run = subprocess.run(
        [sys.executable, "-m", "ruff", "check", "farann", "bench", "tests", "examples", "setup.py"],
        cwd=PACKAGE.parent, capture_output=True, text=True, timeout=1800,
    )
    assert run.returncode == 0, run.stdout + run.stderr


def test_stubs_say_what_the_core_has() -> None:
    """Names, parameters and their defaults."""
    run = subprocess.run(
        [sys.executable, "-m", "mypy.stubtest", "farann._core", "--ignore-disjoint-bases",
         "--mypy-config-file", "pyproject.toml"],
        cwd=PACKAGE.parent, capture_output=True, text=True, timeout=1800,
    )
    assert run.returncode == 0, run.stdout + run.stderr


def test_types_of_all_names_are_known() -> None:
    """Of all but adapters and estimators, whose base classes have no types in their packages."""
    pytest.importorskip("pyright")
    run = subprocess.run(
        [sys.executable, "-m", "pyright", "--pythonpath", sys.executable, "--verifytypes",
         "farann", "--ignoreexternal", "--outputjson"], cwd=PACKAGE.parent, capture_output=True,
        text=True, timeout=1800, env={
            **os.environ, "PYTHONPATH": str(PACKAGE.parent),
            "PYRIGHT_PYTHON_IGNORE_WARNINGS": "1"})  # else it asks PyPI for its latest version
    symbols = json.loads(run.stdout)["typeCompleteness"]["symbols"]
    ours = [symbol for symbol in symbols if symbol["isExported"] and not symbol["name"].startswith(
        ("farann.adapters.", "farann.sklearn."))]
    assert len(ours) > 1000
    assert [symbol["name"] for symbol in ours
            if symbol["isTypeAmbiguous"] or not symbol["isTypeKnown"]] == []


def test_package_says_it_is_typed() -> None:
    assert (PACKAGE / "py.typed").exists()
