"""What the tests of the TensorFlow adapter share; they are skipped where TensorFlow is missing."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

REASON = "needs tensorflow, tf-keras, tensorflow-recommenders: `make test` installs what it can"

tf = pytest.importorskip("tensorflow", reason=REASON)
pytest.importorskip("tf_keras", reason=REASON)
pytest.importorskip("tensorflow_recommenders", reason=REASON)

Run = Callable[..., NDArray[np.str_]]


def run_elsewhere(folder: Path, queries: NDArray[Any], code: str, **given: str) -> NDArray[np.str_]:
    """Run code that knows `queries` and `given` in a new process; bring back its `ids`."""
    np.save(folder / "queries.npy", queries)
    script = (f"import numpy as np\nqueries = np.load({str(folder / 'queries.npy')!r})\n"
              f"given = {given!r}\n{code}\n"
              f"np.save({str(folder / 'ids.npy')!r}, np.asarray(ids).astype(bytes))\n")
    done = subprocess.run(
        [sys.executable, "-c", script], timeout=300, capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))})
    assert done.returncode == 0, done.stdout + done.stderr
    return np.char.decode(np.load(folder / "ids.npy"))
