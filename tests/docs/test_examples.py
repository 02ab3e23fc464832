"""The scripts in examples/ run, as a reader would run them, without a warning."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "examples"
# Three are no scripts; test_tfrs_example.py and test_keras_rs.py run the others with data of their
# own, test_ray.py where Ray can listen, and test_service.py the service.
ELSEWHERE = {"movielens.py", "towers.py", "click_log.py", "tfrs_two_towers.py", "tfrs_posneg.py",
             "tfrs_click_log.py", "keras_posneg.py", "ray_serve.py", "service.py"}
MODULES = {"movielens", "towers", "click_log", "service"}
SCRIPTS = sorted(path for path in FOLDER.glob("*.py") if path.stem not in MODULES)
EXAMPLES = sorted(path for path in FOLDER.glob("*.py") if path.name not in ELSEWHERE)


@pytest.mark.parametrize("script", EXAMPLES, ids=lambda script: script.name)
def test_examples(script: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run(
        [sys.executable, "-W", "error", str(script)],
        cwd=tmp_path,
        env=environment,
        timeout=300,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    assert len(done.stdout.splitlines()) >= 5
    assert list(tmp_path.iterdir()) == []  # an example leaves nothing behind


def test_there_are_examples() -> None:
    assert {"quickstart.py", "filters.py", "files.py"} <= {script.name for script in EXAMPLES}


def imported(path: Path) -> set[str]:
    """Packages that a script imports, and the modules beside it, as pip names them with extras."""
    project = tomllib.loads((FOLDER.parent / "pyproject.toml").read_text("utf-8"))["project"]
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        names = ([node.module or ""] if isinstance(node, ast.ImportFrom)
                 else [alias.name for alias in node.names] if isinstance(node, ast.Import) else [])
        for name in names:
            top, *rest = name.split(".")
            if top in MODULES:
                found |= imported(FOLDER / f"{top}.py")
            elif top not in sys.stdlib_module_names:
                extra = rest[1].replace("_", "-") if rest[:1] == ["adapters"] else ""
                extra = f"[{extra}]" if extra in project["optional-dependencies"] else ""
                found.add({"sklearn": "scikit-learn"}.get(top, top.replace("_", "-")) + extra)
    return found - {"farann"} if any(name.startswith("farann[") for name in found) else found


# Backends, which Keras imports by itself; what Ray Serve takes is another extra than shards.
MORE, OTHER = {"keras_posneg.py": {"jax"}}, {"farann[ray]": "farann[ray-serve]"}


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_headers_name_what_scripts_need(script: Path) -> None:
    """PEP 723: tools like uv and pipx read which Python and packages a script takes."""
    block = re.match(r"# /// script\n((?:# .*\n)+)# ///\n", script.read_text("utf-8"))
    assert block is not None
    header = tomllib.loads(block[1].replace("# ", ""))
    project = tomllib.loads((FOLDER.parent / "pyproject.toml").read_text("utf-8"))["project"]
    needed = {OTHER.get(name, name) for name in imported(script) | MORE.get(script.name, set())}
    assert header == {"requires-python": project["requires-python"],
                      "dependencies": sorted(needed)}
