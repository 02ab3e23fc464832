"""Test a wheel as users get it: installed by itself, without the checkout.

`python packaging/test_wheel.py dist` makes an environment in build/wheel-test, installs the newest
wheel of that folder with pip, and tests the core there. `--here` tests what the running Python has
installed, as cibuildwheel wants it.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TOOLS = ["pytest>=8.4", "pytest-xdist>=3.6", "hypothesis>=6.100"]
TESTS = ["exact", "kernels", "codes", "filters", "approximate", "single_queries", "inputs",
         "errors", "index_files", "concurrency", "sync", "sync_crashes"]
# Which file is tested, and what an import of the package takes along.
LOOK = """
import sys, sysconfig, farann
from farann import native
print("testing", native.kernels.__file__, farann.isa_levels())
heavy = {"sklearn", "scipy", "pandas"} & set(sys.modules)
assert not heavy, f"import farann imports {heavy}"
if sysconfig.get_config_var("Py_GIL_DISABLED"):
    assert not sys._is_gil_enabled(), "import farann turns the GIL on"
"""


def environment(folder: Path, wheels: Path) -> Path:
    """The Python of a new environment that has the wheel, and what tests need."""
    newest = max(wheels.glob("farann-*.whl"), key=lambda path: path.stat().st_mtime)
    venv.create(folder, clear=True, with_pip=True)
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    subprocess.run([python, "-m", "pip", "install", "--quiet", newest, *TOOLS], check=True)
    return python


def test(python: Path, names: list[str], tree: Path = ROOT) -> int:
    with tempfile.TemporaryDirectory() as empty:
        where = Path(empty)
        shutil.copytree(tree / "tests", where / "tests")
        shutil.copy(tree / "pyproject.toml", where)
        subprocess.run([python, "-c", LOOK], check=True, cwd=where)
        return subprocess.run(
            [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--one-level",
             *(next(where.rglob(f"test_{name}.py")) for name in names)], cwd=where).returncode


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("wheels", nargs="?", type=Path, default=ROOT / "dist")
    parser.add_argument("--here", action="store_true", help="test what this Python has installed")
    parser.add_argument("--tests", nargs="*", default=TESTS, help="test_<name>.py of these names")
    args = parser.parse_args()
    python = (Path(sys.executable) if args.here
              else environment(ROOT / "build" / "wheel-test", args.wheels))
    return test(python, args.tests)


if __name__ == "__main__":
    sys.exit(main())
