"""Cross-compile wheels: `python packaging/cross_wheels.py wheelhouse [TARGET ...]`.

The package ziglang brings clang and the C libraries of all these systems, so that one machine makes
wheels for glibc 2.17 and musl 1.2, on x86-64 and AArch64. What is published comes from `make -f
packaging/Makefile wheels`, which takes a container engine; this is what can be checked without
one. auditwheel says whether a wheel needs no more than its name tells, and abi3audit whether it
needs no more of Python.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import ziglang

ROOT = Path(__file__).resolve().parent.parent
# The platform of the wheel, and what zig calls it.
TARGETS = {
    "manylinux_2_17_x86_64": "x86_64-linux-gnu.2.17",
    "manylinux_2_17_aarch64": "aarch64-linux-gnu.2.17",
    "musllinux_1_2_x86_64": "x86_64-linux-musl",
    "musllinux_1_2_aarch64": "aarch64-linux-musl",
}


def run(*command: str | Path, **variables: str) -> None:
    subprocess.run(command, check=True, cwd=ROOT, env={**os.environ, **variables})


def build(target: str, folder: Path) -> Path:
    """The wheel for a target, in a folder; compiled in a copy, as builds of one tree would meet."""
    compiler = f"{Path(ziglang.__file__).parent / 'zig'} cc -target {TARGETS[target]}"
    machine = target.rpartition("_x86_64")[1] or "_aarch64"
    with tempfile.TemporaryDirectory() as empty:
        tree, made = Path(empty) / "tree", Path(empty) / "made"
        shutil.copytree(ROOT / "src_c", tree / "src_c")
        shutil.copytree(ROOT / "farann", tree / "farann",
                        ignore=shutil.ignore_patterns("*.so", "*.c", "__pycache__"))
        for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
            shutil.copy(ROOT / name, tree)
        run(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", f"--wheel-dir={made}",
            tree, CC=compiler, LDSHARED=f"{compiler} -shared",
            _PYTHON_HOST_PLATFORM=f"linux{machine.replace('_', '-', 1)}")
        run(sys.executable, "-m", "wheel", "tags", "--remove", "--platform-tag", target,
            next(made.glob("*.whl")))
        wheel = next(made.glob("*.whl"))
        return Path(shutil.copy(wheel, folder))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("targets", nargs="*", default=list(TARGETS))
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    for target in args.targets:
        wheel = build(target, args.folder)
        print(f"{wheel.name}: {wheel.stat().st_size:,} bytes", flush=True)
        if target.startswith("manylinux"):  # it looks for the C library of musl on this machine
            run(sys.executable, "-m", "auditwheel", "show", wheel)
        run(sys.executable, "-m", "abi3audit", "--strict", wheel)
    return 0


if __name__ == "__main__":
    sys.exit(main())
