"""The Keras-RS layers on each Keras backend, in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

BACKENDS = ["tensorflow", "jax", "torch"]


def environment_of(backend: str) -> dict[str, str]:
    return {
        **os.environ,
        "KERAS_BACKEND": backend,
        "TF_USE_LEGACY_KERAS": "0",  # Keras 3 is what test_layers_that_need_keras_2 asks for
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
    }


@pytest.mark.parametrize("backend", BACKENDS)
def test_backend(backend: str, tmp_path: Path) -> None:
    missing = [name for name in ("keras_rs", backend) if find_spec(name) is None]
    if missing:
        pytest.skip(f"needs {', '.join(missing)}")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider",
         str(Path(__file__).with_name("keras_rs_cases.py"))],
        cwd=Path(__file__).parents[2],
        env=environment_of(backend),
        timeout=300,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_example(tmp_path: Path) -> None:
    """Two groups of users; each likes one half of the films and dislikes the other."""
    backend = next((name for name in BACKENDS if find_spec(name)), None)
    if backend is None or not find_spec("keras_rs"):
        pytest.skip("needs keras_rs and a backend of Keras")
    users, films = np.divmod(np.random.default_rng(0).permutation(60 * 40)[:1200], 40)
    stars = np.where((users + films) % 2 == 0, 5, 1)
    (tmp_path / "ratings.inter").write_text("".join(
        f"u{u}\ti{i}\t{s}\n" for u, i, s in zip(users, films, stars, strict=True)))
    done = subprocess.run(
        [sys.executable, str(Path(__file__).parents[2] / "examples" / "keras_posneg.py"),
         "--ratings", str(tmp_path / "ratings.inter"), "--batch", "100", "--folds", "2",
         "--dim", "8", "--epochs", "6"],
        cwd=tmp_path, env=environment_of(backend), timeout=300, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].startswith("1,200 ratings by 60 users of 40 films")
    assert f"trained three models 3 times on {backend}" in lines[1]
    this = next(line for line in lines if line.startswith("| this ranker"))
    assert float(this.split("|")[-2].split()[0]) > 0.9  # its AUC
    best = lines[lines.index("likely to be liked by user u0 if watched:") + 1 :][:5]
    assert all(int(line.split()[0][1:]) % 2 == 0 for line in best)
    assert lines[-1] == "as the ranker ranks: 100.0%; the same after saving and loading: True"
