"""Tests look at privates of the package through `inside/` alone."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import inside
import pytest

TESTS = Path(__file__).parents[1]
SEAM = TESTS / "inside"
# These two have imports of privates in strings, as cases.
THESE = {Path(__file__), TESTS / "project" / "test_layers.py"}
FILES = sorted(set(TESTS.rglob("*.py")) - THESE - set(SEAM.rglob("*.py")))

# What users import. Folders of the package that this doesn't name are private, too.
PUBLIC = {
    "farann", "farann.cli", "farann.demo", "farann.metrics", "farann.sklearn", "farann.tuning",
    "farann.vectors",
    "farann.adapters", "farann.adapters.keras_rs", "farann.adapters.posneg",
    "farann.adapters.ray", "farann.adapters.tfrs", "farann.adapters.training",
    "farann.adapters.anomalib", "farann.adapters.haystack", "farann.adapters.imblearn",
    "farann.adapters.langchain",
    "farann.adapters.llama_index", "farann.adapters.sentence_transformers",
    "farann.adapters.skactiveml",
}
# Python in strings, which tests run in a process of its own.
SNIPPET = re.compile(r"^\s*(?:from\s+(farann[\w.]*)\s+import\s+(.+)|import\s+(.*farann.*))$", re.M)


def reaches(text: str) -> list[str]:
    """What a test imports of the package that isn't public, and the privates of objects it uses."""
    tree = ast.parse(text)
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names if private(alias.name)]
        elif isinstance(node, ast.ImportFrom) and node.module:
            found += [f"{node.module}.{alias.name}" for alias in node.names
                      if private(node.module, alias.name)]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            found += in_snippet(node.value)
        elif isinstance(node, ast.Attribute) and node.attr in ("_live", "_core"):
            found.append(node.attr)
    return found


def in_snippet(text: str) -> list[str]:
    found = []
    for module, names, modules in SNIPPET.findall(text):
        if module:
            found += [f"{module}.{name.strip()}" for name in names.split(",")
                      if private(module, name.strip())]
        else:
            found += [name for name in re.split(r"[\s,;]+", modules) if private(name)]
    return found


def private(module: str, name: str = "") -> bool:
    inside_package = module == "farann" or module.startswith("farann.")
    return inside_package and (module not in PUBLIC or re.match(r"_[a-z]", name) is not None)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_privates_are_reached_through_the_seam(path: Path) -> None:
    assert reaches(path.read_text("utf-8")) == []


def test_the_seam_is_small() -> None:
    """What it exports, and what each part of it does beside functions of its own."""
    assert sorted(inside.__all__) == sorted(
        name for name in vars(inside) if not name.startswith("_") and name != "annotations")
    assert len(inside.__all__) <= 15


@pytest.mark.parametrize(("text", "found"), [
    ("import farann._core", ["farann._core"]),
    ("from farann import _core, Index", ["farann._core"]),
    ("from farann.store.store import Store", ["farann.store.store.Store"]),
    ("from farann.store.rows import Store", ["farann.store.rows.Store"]),
    ("from farann.cli import _parser, main", ["farann.cli._parser"]),
    ("def f():\n    index._live.store.codes", ["_live"]),
    ("run('''\nimport os\nfrom farann import _core\n''')", ["farann._core"]),
    ("run('''\nimport farann.cli, farann.search.depths\n''')", ["farann.search.depths"]),
    ("import farann, inside\nfrom farann import Index, __version__\nfarann.tuning.Tuning", []),
])
def test_what_counts_as_private(text: str, found: list[str]) -> None:
    assert reaches(text) == found
