"""Imports within the package go downwards, as the contracts in pyproject.toml say."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import farann

PACKAGE = Path(farann.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))

# What stands above the package's public names, as its users do.
ABOVE = {PACKAGE / "cli", PACKAGE / "demo"}


def names_of_the_root(text: str) -> list[str]:
    """What a module takes from the package itself that is none of its modules."""
    found = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom) and node.module == "farann":
            found += [alias.name for alias in node.names if not is_module(alias.name)]
        elif isinstance(node, ast.Import):
            found += [alias.name for alias in node.names if alias.name == "farann"]
    return found


def is_module(name: str) -> bool:
    return (PACKAGE / name).is_dir() or any(
        (PACKAGE / f"{name}{end}").exists() for end in (".py", ".pyi"))


def test_contracts() -> None:
    pytest.importorskip("importlinter")
    command = "import sys; from importlinter.cli import lint_imports_command as run; run()"
    run = subprocess.run([sys.executable, "-c", command, "--no-cache"], cwd=PACKAGE.parent,
                         capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stdout + run.stderr


@pytest.mark.parametrize(
    "path", [path for path in MODULES if path.parent not in ABOVE],
    ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_module_takes_public_names_from_above(path: Path) -> None:
    """The contracts can't tell these from imports of `_core`, which isn't Python."""
    assert names_of_the_root(path.read_text("utf-8")) == []


@pytest.mark.parametrize(("text", "found"), [
    ("from farann import _core, store, adapters", []),
    ("from farann import Index, _core", ["Index"]),
    ("def f():\n    import farann", ["farann"]),
])
def test_what_is_taken_from_the_root(text: str, found: list[str]) -> None:
    assert names_of_the_root(text) == found


def test_every_folder_is_packaged_and_says_what_it_is_for() -> None:
    settings = tomllib.loads((PACKAGE.parent / "pyproject.toml").read_text("utf-8"))
    folders = {path.parent for path in PACKAGE.rglob("__init__.py")}
    names = {".".join(path.relative_to(PACKAGE.parent).parts) for path in folders}
    assert set(settings["tool"]["setuptools"]["packages"]) == names
    for folder in folders:
        assert ast.get_docstring(ast.parse((folder / "__init__.py").read_text("utf-8"))), folder
