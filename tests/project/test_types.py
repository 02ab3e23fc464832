"""The package is typed throughout, and its stubs say what the native core has."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

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


def test_package_says_it_is_typed() -> None:
    assert (PACKAGE / "py.typed").exists()
