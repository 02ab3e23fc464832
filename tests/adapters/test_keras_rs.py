"""The Keras-RS layers on each Keras backend, in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

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
        timeout=1800,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
