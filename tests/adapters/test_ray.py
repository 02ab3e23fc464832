"""Sharded indexes on Ray: several nodes as processes, where only the loopback device is there.

Ray listens on the outward address, and looks for it outside. All cases are in `ray_cases.py`, which
is started once, in a network namespace of its own.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

import pytest

NAMESPACES = (["unshare", "-n"], ["unshare", "-r", "-n"])
UP = 'ip link set lo up && exec "$@"'


def without_network() -> list[str]:
    """What runs a command where nothing but the loopback device is there; skips if nothing can."""
    for name in ("unshare", "ip"):
        if shutil.which(name) is None:
            pytest.skip(f"needs {name}, so that Ray has a network namespace of its own")
    for namespace in NAMESPACES:
        command = [*namespace, "sh", "-c", UP, "sh"]
        done = subprocess.run([*command, "ip", "-o", "link"], capture_output=True, text=True,
                              timeout=60)
        if done.returncode == 0 and len(done.stdout.splitlines()) == 1:
            return command
    pytest.skip("network namespaces of one's own aren't allowed here: Ray would listen outside")


def test_cases_on_ray() -> None:
    missing = [name for name in ("ray", "fsspec", "pyarrow") if find_spec(name) is None]
    if missing:
        pytest.skip(f"needs {', '.join(missing)}")
    command = without_network()
    # Paths of Ray's sockets must be short. What Ray writes goes to this folder, which is empty: in
    # its own it would find what other runs left.
    with tempfile.TemporaryDirectory(prefix="ray", dir="/tmp") as folder:
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(
            [str(Path(__file__).parent), str(Path(__file__).parents[2] / "examples"),
             *filter(None, sys.path)]), "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_TMPDIR": folder, "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
            "HOME": folder}  # where Ray writes a token
        done = subprocess.run(
            [*command, sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-o",
             "addopts=--disable-plugin-autoload", "-W", "default", "--durations=8",
             str(Path(__file__).with_name("ray_cases.py"))],
            cwd=Path(__file__).parents[2], env=environment, timeout=900, capture_output=True,
            text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    # The example of Serve needs farann[ray-serve].
    assert (" skipped" in done.stdout) == (find_spec("starlette") is None)
    assert " passed" in done.stdout
