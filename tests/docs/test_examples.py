"""The scripts in examples/ run, as a reader would run them, without a warning."""

from __future__ import annotations

import ast
import os
import re
import runpy
import subprocess
import sys
import tomllib
from pathlib import Path
from types import SimpleNamespace

import numpy as np
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


@pytest.mark.parametrize("name", ["cosine", "dot", "euclidean"])
def test_backend_of_mteb(name: str, rng: np.random.Generator) -> None:
    made = runpy.run_path(str(FOLDER / "mteb_backend.py"))
    backend = made["FarannSearchIndex"](
        SimpleNamespace(mteb_model_meta=SimpleNamespace(similarity_fn_name=name)))
    documents, queries = rng.standard_normal((50, 4)), rng.standard_normal((3, 4))
    for start in (0, 30):  # in two parts, as mteb encodes a corpus
        part = documents[start : start + 30]
        backend.add_documents(part, [f"d{start + i}" for i in range(len(part))])
    scores = queries @ documents.T
    if name == "cosine":
        scores /= np.linalg.norm(queries, axis=1)[:, None] * np.linalg.norm(documents, axis=1)
    if name == "euclidean":
        scores = -np.linalg.norm(queries[:, None] - documents, axis=2)
    order = np.argsort(-scores, axis=1)
    for most, k in ((5, 5), (90, 50)):
        values, places = backend.search(queries, most)
        np.testing.assert_array_equal(places, order[:, :k])
        np.testing.assert_allclose(values, np.take_along_axis(scores, order[:, :k], 1), rtol=1e-5)
    listed = [40, 2, 17]
    values, places = backend.search(queries[:2], 2, None, {"b": [f"d{i}" for i in listed]},
                                    {0: "a", 1: "b"})
    assert (values[0], places[0]) == ([], [])  # no candidates of query "a"
    assert places[1] == np.argsort(-scores[1, listed])[:2].tolist()
    backend.clear()
    backend.add_documents(documents[:2], ["a", "b"])
    assert sorted(backend.search(queries[:1], 9)[1][0]) == [0, 1]


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
