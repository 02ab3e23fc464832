"""What importing the adapters needs, and what it says when that is missing."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

import farann


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
            "libraries = 'tensorflow', 'keras', 'tf_keras', 'ray'\n"
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


WITHOUT_SCIKIT_LEARN = """
import sys
sys.modules.update(sklearn=None, scipy=None)
import numpy as np
import farann
from farann.adapters.posneg import FusionRanker

rng = np.random.default_rng(0)
rows = np.concatenate([rng.standard_normal((6000, 8)), np.ones((600, 8))]).astype(np.float32)
index = farann.Index(8)
index.add(rows)
index.build(rows[:90])
hits = index.search_furthest(rows[:9], 5, budget=500)
assert (index.search_furthest(rows[:9], 5, epsilon=0.0).ids == index.search_furthest(rows[:9],
                                                                                    5).ids).all()
index.select_diverse(9)
in_cells = farann.Index(8, cells=300)
in_cells.add(rows)
for attempt in (in_cells.build, lambda: index.search_furthest(rows[:9], 5, recall=0.9),
                index.tune, lambda: farann.sklearn,
                lambda: FusionRanker().fit(np.repeat(np.arange(9), 9), np.tile(np.arange(9), 9),
                                           rng.random(81) < 0.5)):
    try:
        attempt()
    except ImportError as error:
        print(error)
assert len(in_cells) == len(index) == 6600
tuned = farann.Index.load(sys.argv[1])
assert tuned.search_furthest(rows[:9], 5, recall=0.9).found.all()
"""


def test_without_scikit_learn(tmp_path: Path) -> None:
    """What takes it says so, all else does without."""
    index = farann.Index(8, cells=20)
    index.add(np.random.default_rng(1).standard_normal((6000, 8), dtype=np.float32))
    index.tune(k=5)
    index.save(tmp_path / "tuned.farann")
    out = run(WITHOUT_SCIKIT_LEARN, str(tmp_path / "tuned.farann")).splitlines()
    assert [line.rpartition("pip install ")[2] for line in out] == [
        *["'farann[sklearn]'"] * 3, "-U 'farann[sklearn]'", "'farann[posneg]'"]


@pytest.mark.parametrize("name", ["Cluster", "build"])
def test_missing_ray(name: str) -> None:
    out = run("import sys\nsys.modules.update(ray=None)\nimport farann.adapters.ray as sharded\n"
              "assert sharded.Manifest and sharded.ShardError\n"
              f"try:\n    sharded.{name}\n"
              "except ImportError as error:\n    print(type(error).__name__, error.name, error)\n")
    assert out.startswith("ModuleNotFoundError ray ") and "pip install 'farann[ray]'" in out
