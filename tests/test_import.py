"""What `import farann` imports: nothing that is only needed later."""

from __future__ import annotations

import subprocess
import sys

IMPORT = """
import sys
import numpy
before = set(sys.modules)
import farann
print(sorted(set(sys.modules) - before))
farann.Index().add([[1.0]])
print(sorted(set(sys.modules) - before))
"""
# Of the standard library and others: what files, bars, frames and commands take.
LATER = {"json", "mmap", "zlib", "asyncio", "tqdm", "sklearn", "scipy", "pandas", "pyarrow",
         "tensorflow", "argparse", "csv", "farann.io.index_file", "farann.metrics",
         "farann.vectors", "farann.cli", "farann.adapters"}


def test_import_takes_next_to_nothing() -> None:
    told = subprocess.run([sys.executable, "-c", IMPORT], capture_output=True, text=True,
                          check=True).stdout.splitlines()
    at_once, for_rows = (set(eval(line)) for line in told)
    assert at_once == {"farann"}
    assert "farann.index" in for_rows and not for_rows & LATER


def test_names_are_there_before_they_are_asked_for() -> None:
    code = ("import farann; assert set(farann.__all__) <= set(dir(farann)); "
            "assert all(getattr(farann, name) is getattr(farann, name) "
            "for name in [*farann.__all__, 'metrics', 'vectors']); "
            "assert not hasattr(farann, 'nothing'); from farann import *; Index")
    subprocess.run([sys.executable, "-c", code], check=True)
