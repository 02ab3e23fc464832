"""What `import farann` imports: nothing that is only needed later."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

IMPORT = """
import sys
import numpy
before = set(sys.modules)
def tell():
    print(sorted(set(sys.modules) - before))
import farann
tell()
index = farann.Index(codes="float32")
tell()
index.add([[1.0], [2.0]])
tell()
index.search_furthest([[1.0]], k=1)
tell()
"""
# Of the standard library and others: what files, bars, frames and commands take.
LATER = {"json", "mmap", "zlib", "asyncio", "tqdm", "sklearn", "scipy", "pandas", "pyarrow",
         "tensorflow", "argparse", "csv", "farann.io.index_file", "farann.metrics",
         "farann.vectors", "farann.cli", "farann.adapters"}
# What only rows, builds, recall=, groups and sets take: an index without rows has none of it.
FOR_ROWS = {"farann.store.store", "farann.store.labels", "farann.store.groups", "farann.layout",
            "farann.quantize", "farann.tuning", "farann.runtime.batches", "farann.search.plan",
            "farann.search.tables", "dataclasses"}
# What an exact search of rows without codes does without.
FOR_OTHERS = {"farann.diverse.greedy", "farann.diverse.mmr",
              "farann.diverse.member_sets", "farann.diverse.pairs",
              "farann.layout.recoding",
              "sklearn.cluster"}


def test_import_takes_next_to_nothing() -> None:
    told = subprocess.run([sys.executable, "-c", IMPORT], capture_output=True, text=True,
                          check=True).stdout.splitlines()
    at_once, for_index, for_rows, for_search = (set(eval(line)) for line in told)
    assert at_once == {"farann"}
    assert "farann.index" in for_index and not for_index & (LATER | FOR_ROWS | FOR_OTHERS)
    assert "farann.store.store" in for_rows and not for_rows & (LATER | FOR_OTHERS | {
        "farann.layout.build", "farann.search.plan"})
    assert "farann.search.plan" in for_search and not for_search & (LATER | FOR_OTHERS)


def test_type_checkers_follow_an_editable_install() -> None:
    """It is a path in a .pth file, as long as setuptools is told that packages lie in one."""
    with open(Path(__file__).parents[2] / "pyproject.toml", "rb") as file:
        assert tomllib.load(file)["tool"]["setuptools"]["package-dir"] == {"": "."}


def test_names_are_there_before_they_are_asked_for() -> None:
    code = ("import farann; assert {*dir(farann)} == {"
            "*farann.__all__, 'metrics', 'sklearn', 'vectors'}; "
            "assert all(getattr(farann, name) is getattr(farann, name) "
            "for name in [*farann.__all__, 'metrics', 'vectors']); "
            "assert not hasattr(farann, 'nothing'); from farann import *; Index")
    subprocess.run([sys.executable, "-c", code], check=True)
