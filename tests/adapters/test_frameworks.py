"""Tests that import TensorFlow, LangChain and the like, in one process beside those of xdist."""

from __future__ import annotations

import subprocess
import sys

import pytest
from conftest import TESTS, framework_files

NO_TESTS = 5  # the exit code of pytest where all were skipped


def test_in_one_process(request: pytest.FixtureRequest) -> None:
    files = framework_files(request.config)
    if not files:
        pytest.skip("this process itself collects them")
    done = subprocess.run([sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider",
                           "--durations=10", *map(str, files)], cwd=TESTS.parent,
                          capture_output=True, text=True, timeout=1800)
    print(done.stdout)
    if done.returncode == NO_TESTS:
        pytest.skip("none of these libraries is there")
    assert done.returncode == 0, done.stdout + done.stderr
