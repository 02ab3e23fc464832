"""What importing the adapters needs, and what it says when that is missing."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec

import pytest


def run(code: str, **environment: str) -> str:
    """What a new process writes that must not fail."""
    paths = os.pathsep.join(filter(None, sys.path))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300,
                          env={**os.environ, "PYTHONPATH": paths, **environment})
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
from farann.adapters.posneg import Factorization, cross_fit

rng = np.random.default_rng(0)
rows = np.concatenate([rng.standard_normal((6000, 8)), np.ones((600, 8))]).astype(np.float32)
queries = rng.standard_normal((200, 8)).astype(np.float32)
plain = farann.search_furthest(rows, queries, 5)
ids = []
for _ in range(2):
    index = farann.Index(8, cells=300, codes="int8")
    index.add(rows)
    index.build()
    assert (index.search_furthest(queries, 5).ids == plain.ids).all()
    ids.append(index.search_furthest(queries, 5, recall=0.9).ids)
assert (ids[0] == ids[1]).all()
found = [len(np.intersect1d(*pair)) for pair in zip(ids[0], plain.ids)]
assert np.mean(found) >= 0.85 * 5, np.mean(found)
for attempt in (lambda: farann.sklearn,
                lambda: cross_fit(Factorization(9, dim=2), np.repeat(np.arange(9), 9),
                                  np.tile(np.arange(9), 9), rng.random(81) < 0.5)):
    try:
        attempt()
    except ImportError as error:
        print(error)
"""


def test_without_scikit_learn() -> None:
    """The core groups rows and queries itself; what else takes it says so."""
    estimators, calibration = run(WITHOUT_SCIKIT_LEARN).splitlines()
    assert "pip install -U 'farann[sklearn]'" in estimators
    assert "pip install 'farann[posneg]'" in calibration


@pytest.mark.parametrize("name", ["Cluster", "build"])
def test_missing_ray(name: str) -> None:
    out = run("import sys\nsys.modules.update(ray=None)\nimport farann.adapters.ray as sharded\n"
              "assert sharded.Manifest and sharded.ShardError\n"
              f"try:\n    sharded.{name}\n"
              "except ImportError as error:\n    print(type(error).__name__, error.name, error)\n")
    assert out.startswith("ModuleNotFoundError ray ") and "pip install 'farann[ray]'" in out
