"""The scripts in examples/ run, as a reader would run them, without a warning."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "examples"
# Three are no scripts; test_tfrs_example.py and test_keras_rs.py run the others with data of their
# own, test_ray.py where Ray can listen, and test_service.py the service.
ELSEWHERE = {"movielens.py", "towers.py", "click_log.py", "tfrs_two_towers.py", "tfrs_posneg.py",
             "tfrs_click_log.py", "keras_posneg.py", "ray_serve.py", "service.py"}
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
