"""What the tests of the TensorFlow adapter share; they are skipped where TensorFlow is missing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
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


# Imports TensorFlow, and runs each script whose name it reads in a fork of its own, which says what
# went wrong.
WORKER = """
import json, os, sys, traceback
import tensorflow, tf_keras
for line in sys.stdin:
    path, failure = json.loads(line), ""
    if os.fork():
        os.wait()
        print("\\0", flush=True)
        continue
    try:
        exec(compile(open(path).read(), path, "exec"), {"__name__": "elsewhere"})
    except BaseException:
        failure = traceback.format_exc()
    print(failure, flush=True)
    os._exit(0)
"""


class Elsewhere:
    """Other processes: to import TensorFlow takes longer than what a test does there."""

    def __init__(self) -> None:
        if not hasattr(os, "fork"):
            pytest.skip("needs processes that fork")
        self.worker = subprocess.Popen(
            [sys.executable, "-c", WORKER], text=True, stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))})

    def run(self, folder: Path, queries: NDArray[Any], code: str, **given: str) -> NDArray[np.str_]:
        """Run code that knows `queries` and `given` in another process; bring back its `ids`."""
        np.save(folder / "queries.npy", queries)
        (folder / "ids.npy").unlink(missing_ok=True)
        (folder / "script.py").write_text(
            f"import numpy as np\nqueries = np.load({str(folder / 'queries.npy')!r})\n"
            f"given = {given!r}\n{code}\n"
            f"np.save({str(folder / 'ids.npy')!r}, np.asarray(ids).astype(bytes))\n")
        worker = self.worker
        assert worker.stdin is not None and worker.stdout is not None
        limit = threading.Timer(300, worker.kill)
        limit.start()
        print(json.dumps(str(folder / "script.py")), file=worker.stdin, flush=True)
        told = []
        for line in worker.stdout:
            told.append(line)
            if line.startswith("\0"):
                break
        limit.cancel()
        assert told and told[-1].startswith("\0"), "the other process ended: " + "".join(told)
        assert (folder / "ids.npy").exists(), "".join(told)
        return np.char.decode(np.load(folder / "ids.npy"))

    def end(self) -> None:
        self.worker.communicate("", timeout=60)
        assert self.worker.returncode == 0
