"""Imports within the package go downwards, as the contracts in pyproject.toml say; adapters don't
reach into an index, nor does Cython look at the metric."""

from __future__ import annotations

import ast
import re
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


def privates_of_an_index(text: str) -> list[str]:
    """The private attributes of `Index` that a module takes from others than itself."""
    names = {name for name in vars(farann.Index) if re.match("_[a-z]", name)}
    return [node.attr for node in ast.walk(ast.parse(text))
            if isinstance(node, ast.Attribute) and node.attr in names
            and ast.unparse(node.value) not in ("self", "super()")]


@pytest.mark.parametrize("path", sorted((PACKAGE / "adapters").rglob("*.py")),
                         ids=lambda path: str(path.relative_to(PACKAGE)))
def test_adapters_leave_an_index_closed(path: Path) -> None:
    """`farann.extending` has what they need; a contract forbids imports of what is private."""
    assert privates_of_an_index(path.read_text("utf-8")) == []


@pytest.mark.parametrize(("text", "found"), [
    ("self._live = index.ids\nself._loaded(path)", []),
    ("index._live.store", ["_live"]),
    ("Index._loaded(path)", ["_loaded"]),
])
def test_what_is_private_of_an_index(text: str, found: list[str]) -> None:
    assert privates_of_an_index(text) == found


def looks_at_the_metric(text: str) -> list[str]:
    """Lines of Cython that name a metric or compare one, where `farann_traits` says what counts."""
    return [line.strip() for line in text.splitlines() if re.search(
        r"FARANN_(?:DOT|COSINE)|(?<!keys_f64\[<int>)FARANN_L2\b(?!  # for keys_f64)"
        r"|\bmetric\s*[=!]=|[=!]=\s*[\w.]*\bmetric\b|\bMETRICS\[", line)]


@pytest.mark.parametrize("path", sorted((PACKAGE / "native").glob("*.p[yx][xd]")),
                         ids=lambda path: path.name)
def test_cython_never_looks_at_the_metric(path: Path) -> None:
    assert looks_at_the_metric(path.read_text("utf-8")) == []


@pytest.mark.parametrize(("text", "looks"), [
    ("if self.batch.metric == FARANN_L2:", True),
    ("of = x != snapshot.metric", True),
    ("ctypedef enum farann_metric:\n    FARANN_COSINE", True),
    ("squares = METRICS[self.metric] == 'l2'", True),
    ("score = farann_score(self.batch.metric, key, norm)", False),
    ("self.kernels.keys_f64[<int>FARANN_L2](x, NULL, 1, n, &self.zeros[0], &key)", False),
    ("if self.traits.squared:", False),
])
def test_what_looks_at_the_metric(text: str, looks: bool) -> None:
    assert bool(looks_at_the_metric(text)) == looks


def test_every_folder_is_packaged_and_says_what_it_is_for() -> None:
    settings = tomllib.loads((PACKAGE.parent / "pyproject.toml").read_text("utf-8"))
    folders = {path.parent for path in PACKAGE.rglob("__init__.py")}
    names = {".".join(path.relative_to(PACKAGE.parent).parts) for path in folders}
    assert set(settings["tool"]["setuptools"]["packages"]) == names
    for folder in folders:
        assert ast.get_docstring(ast.parse((folder / "__init__.py").read_text("utf-8"))), folder
