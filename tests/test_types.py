"""The package is typed throughout, and its stubs say what the native core has."""

from __future__ import annotations

import ast
import itertools
import subprocess
import sys
from pathlib import Path

import farann
from farann import _core

PACKAGE = Path(farann.__file__).parent


def test_mypy_strict() -> None:
    run = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "-p", "farann"],
        cwd=PACKAGE.parent, capture_output=True, text=True, timeout=300,
    )
    assert run.returncode == 0, run.stdout + run.stderr


def test_style() -> None:
    run = subprocess.run(
        [sys.executable, "-m", "ruff", "check", "farann", "bench", "tests", "examples", "setup.py"],
        cwd=PACKAGE.parent, capture_output=True, text=True, timeout=300,
    )
    assert run.returncode == 0, run.stdout + run.stderr


def test_stub_and_core_have_the_same_names() -> None:
    stub = ast.parse((PACKAGE / "_core.pyi").read_text())
    classes = {node.name: node for node in stub.body if isinstance(node, ast.ClassDef)}
    functions = {node.name for node in stub.body if isinstance(node, ast.FunctionDef)}
    constants = {node.target.id for node in stub.body if isinstance(node, ast.AnnAssign)
                 and isinstance(node.target, ast.Name)}
    # What a class is made of is no class to the outside.
    parts = {name: [part for part in getattr(_core, name).__mro__
                    if part not in Exception.__mro__] for name in classes}
    bases = {part.__name__ for name in classes for part in parts[name][1:]}
    public = {name for name in vars(_core) if not name.startswith("_")} - {"np"}
    assert public - (bases - set(classes)) == functions | set(classes) | constants
    for name, node in classes.items():
        inherited = [classes[base.id].body for base in node.bases
                     if isinstance(base, ast.Name) and base.id in classes]
        described = {
            part.name if isinstance(part, ast.FunctionDef) else part.target.id  # type: ignore
            for part in itertools.chain(node.body, *inherited) if not isinstance(part, ast.Expr)
        }
        real = {attribute for part in parts[name] for attribute in vars(part)
                if attribute[0] != "_"}
        assert real == described - {"__init__"}, name


def test_package_says_it_is_typed() -> None:
    assert (PACKAGE / "py.typed").exists()
