"""What importing the adapters needs, and what it says when that is missing."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

import farann

ROOT = Path(__file__).parents[2]


def run(code: str, *arguments: str, **environment: str) -> str:
    """What a new process writes that must not fail."""
    paths = os.pathsep.join(filter(None, sys.path))
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True,
                          timeout=300, env={**os.environ, "PYTHONPATH": paths, **environment})
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def failing(module: str, *missing: str) -> str:
    """Code that prints the error of an import where some packages are missing."""
    return (f"import sys\nsys.modules.update(dict.fromkeys({missing!r}))\n"
            f"try:\n    import {module}\n"
            f"except ImportError as error:\n    print(type(error).__name__, error.name, error)\n")


def test_farann_imports_neither_library() -> None:
    code = ("import sys, farann, farann.adapters\n"
            "libraries = ('tensorflow', 'keras', 'tf_keras', 'ray', 'langchain_core',\n"
            "             'llama_index', 'haystack')\n"
            "print([name for name in libraries if name in sys.modules])")
    assert run(code) == "[]\n"


@pytest.mark.parametrize("missing", ["tensorflow", "tf_keras", "tensorflow_recommenders"])
def test_missing_tensorflow(missing: str) -> None:
    for name in ("tensorflow", "tf_keras", "tensorflow_recommenders"):
        if name == missing:
            break
        if not find_spec(name):
            pytest.skip(f"needs {name}")
    out = run(failing("farann.adapters.tfrs", missing))
    assert out.startswith(f"ModuleNotFoundError {missing} ")
    assert "pip install tensorflow tf-keras tensorflow-recommenders" in out


@pytest.mark.parametrize("missing", ["keras", "keras_rs"])
def test_missing_keras_rs(missing: str) -> None:
    if missing == "keras_rs" and not find_spec("keras"):
        pytest.skip("needs keras")
    out = run(failing("farann.adapters.keras_rs", missing))
    assert out.startswith(f"ModuleNotFoundError {missing} ")
    assert "pip install keras-rs" in out


@pytest.mark.parametrize("adapter, missing, extra", [
    ("langchain", "langchain_core", "langchain"), ("llama_index", "llama_index", "llama-index"),
    ("haystack", "haystack", "haystack"), ("imblearn", "imblearn", "imbalanced-learn"),
    ("skactiveml", "skactiveml", "skactiveml")])
def test_what_else_is_missing(adapter: str, missing: str, extra: str) -> None:
    out = run(failing(f"farann.adapters.{adapter}", missing))
    assert out.startswith(f"ModuleNotFoundError {missing}")
    assert f"pip install 'farann[{extra}]'" in out


WITHOUT_GROUPS = """
import sys
import numpy as np
import farann
import farann.adapters.posneg

rng = np.random.default_rng(0)
rows = np.concatenate([rng.standard_normal((6000, 8)), np.ones((600, 8))]).astype(np.float32)
index = farann.Index(8)
index.add(rows)
index.build(rows[:90])
hits = index.search_furthest(rows[:9], 5, budget=500)
assert (index.search_furthest(rows[:9], 5, epsilon=0.0).ids == index.search_furthest(rows[:9],
                                                                                    5).ids).all()
index.select_diverse(9)
tuned = farann.Index.load(sys.argv[1])
assert tuned.search_furthest(rows[:9], 5, recall=0.9).found.all()
index.tune()
assert "sklearn" not in sys.modules and "scipy" not in sys.modules
index = farann.Index(8, cells=20)
index.add(rows)
index.build()
assert "sklearn" in sys.modules
"""


def test_scikit_learn_is_imported_when_groups_are_made(tmp_path: Path) -> None:
    """It takes about a second: searches, tuning and files do without."""
    index = farann.Index(8, cells=20)
    index.add(np.random.default_rng(1).standard_normal((6000, 8), dtype=np.float32))
    index.tune(k=5)
    index.save(tmp_path / "tuned.farann")
    run(WITHOUT_GROUPS, str(tmp_path / "tuned.farann"))


def test_what_comes_along() -> None:
    """scikit-learn does, and each floor is the same wherever it is written."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    floors = dict(one.split(">=") for one in project["dependencies"])
    assert floors.keys() == {"numpy", "scikit-learn", "threadpoolctl", "tqdm"}
    extras = project["optional-dependencies"]
    asked = {re.split(r"\W", one.replace("-", "_"))[0] for each in extras.values() for one in each}
    assert not asked & {name.replace("-", "_") for name in floors}
    oldest = (ROOT / "packaging" / "oldest.txt").read_text("utf-8")
    pinned = dict(re.findall(r"^(\S+)==(\S+)$", oldest, re.M))
    recipe = (ROOT / "packaging" / "conda" / "recipe.yaml").read_text("utf-8")
    for name, floor in floors.items():
        assert (pinned[name] + ".").startswith(f"{floor}.")
        assert f"    - {name} >={floor}\n" in recipe
    # Where an extra is named, it is there.
    texts = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "farann").rglob("*.py"),
             *(ROOT / "examples").glob("*.py"), ROOT / "Makefile"]
    named = {extra for path in texts for extras in re.findall(
        r"(?:farann|install (?:-\S+ )*[\"']?\.)\[([a-z,-]+)\]", path.read_text("utf-8"))
        for extra in extras.split(",")}
    assert named and named <= extras.keys()


@pytest.mark.parametrize("name", ["Cluster", "build"])
def test_missing_ray(name: str) -> None:
    out = run("import sys\nsys.modules.update(ray=None)\nimport farann.adapters.ray as sharded\n"
              "assert sharded.Manifest and sharded.ShardError\n"
              f"try:\n    sharded.{name}\n"
              "except ImportError as error:\n    print(type(error).__name__, error.name, error)\n")
    assert out.startswith("ModuleNotFoundError ray ") and "pip install 'farann[ray]'" in out
