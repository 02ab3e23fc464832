"""Test the core on ARM, emulated: `python packaging/test_arm.py`.

In build/arm it gathers what an ARM machine would have: Python and the C library as packages of the
Debian or Ubuntu that this runs on, numpy, scikit-learn and pytest as wheels, and farann,
cross-compiled to a wheel as it is published. qemu-aarch64 runs the core's tests there: those of
kernels as CPUs that have each level, the others as the one that has all.
Emulation says nothing of time. Where something can't be had, this says so and does nothing.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ARM = ROOT / "build" / "arm"
COMPILER = "aarch64-linux-gnu-gcc"
TOOLS = ("apt-get", "dpkg-deb", COMPILER, "qemu-aarch64")
PACKAGES = ("python3", "libpython3-dev", "libgomp1", "libstdc++6")
WHEELS = ("numpy", "scikit-learn", "threadpoolctl", "tqdm", "pytest", "pytest-xdist",
          "hypothesis")
PLATFORMS = [f"manylinux_2_{minor}_aarch64" for minor in range(17, 35)] + ["manylinux2014_aarch64"]
# CPUs of 2012, of 2019, and all that is emulated, with their levels. Emulated SVE is left out: with
# it numpy's own products of float64 matrices are NaN.
CPUS = {
    "cortex-a53": ["scalar", "neon"],
    "neoverse-n1": ["scalar", "neon", "dotprod"],
    "max,sve=off": ["scalar", "neon", "dotprod", "i8mm"],
}
OF_LEVELS = ("kernels", "few_rows")
# Those that start further processes are left out: the system can't run programs for ARM by itself.
STARTING = "io/test_index_files.py::TestCrashes"
OTHERS = ("ties", "index_files", "approximate", "exact")


def run(*command: str | Path, **variables: str) -> None:
    subprocess.run(command, check=True, cwd=ROOT, env={**os.environ, **variables})


def unpack_python() -> None:
    """Python and all that it needs: apt decides for a machine that has nothing yet."""
    for folder in ("state/lists/partial", "cache/archives/partial"):
        (ARM / "apt" / folder).mkdir(parents=True, exist_ok=True)
    (ARM / "apt" / "status").touch()
    options = [f"-o{name}={value}" for name, value in {
        "APT::Architecture": "arm64", "APT::Architectures": "arm64",
        "Dir::State": ARM / "apt" / "state", "Dir::State::status": ARM / "apt" / "status",
        "Dir::Cache": ARM / "apt" / "cache", "Debug::NoLocking": "1",
        "APT::Sandbox::User": "root"}.items()]
    run("apt-get", *options, "-qq", "update")
    run("apt-get", *options, "-qq", "-y", "--download-only", "--no-install-recommends",
        "install", *PACKAGES)
    for package in (ARM / "apt" / "cache" / "archives").glob("*.deb"):
        run("dpkg-deb", "-x", package, ARM / "root")
    lib = ARM / "root" / "lib"
    if not lib.exists():
        lib.symlink_to("usr/lib")


def unpack(wheels: Path, site: Path) -> None:
    for wheel in wheels.glob("*.whl"):
        with zipfile.ZipFile(wheel) as files:
            files.extractall(site)


def python() -> Path:
    """The Python that was unpacked: bin/python3.13, say."""
    return next(path for path in (ARM / "root/usr/bin").glob("python3.*")
                if path.name[len("python3."):].isdigit())


def gather() -> None:
    """All but farann, once."""
    if (ARM / "gathered").exists():
        return
    for folder in ("root", "site"):  # what was left by a try that failed
        shutil.rmtree(ARM / folder, ignore_errors=True)
    unpack_python()
    platforms = [f"--platform={name}" for name in PLATFORMS]
    run(sys.executable, "-m", "pip", "download", "--quiet", "--only-binary=:all:",
        f"--python-version={python().name[len('python'):]}", *platforms,
        f"--dest={ARM / 'wheels'}", *WHEELS)
    unpack(ARM / "wheels", ARM / "site")
    (ARM / "gathered").touch()


def compile_wheel() -> Path:
    """Cross-compile the wheel; its headers are those of the Python for ARM."""
    include = ARM / "root/usr/include"
    shutil.rmtree(ARM / "dist", ignore_errors=True)
    # After all others: the C library has headers of the same names as those of farann.
    run(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", f"--wheel-dir={ARM / 'dist'}",
        ".", CC=os.environ.get("ARM_CC", COMPILER), LDSHARED=f"{COMPILER} -shared",
        CFLAGS=f"-I{include / python().name} -idirafter {include}",
        _PYTHON_HOST_PLATFORM="linux-aarch64")
    return next((ARM / "dist").glob("*.whl"))


def emulated(cpu: str, *arguments: str) -> list[str | Path]:
    return ["qemu-aarch64", "-cpu", cpu, "-L", ARM / "root", python(), "-B", *arguments]


def test(cpu: str, levels: list[str], names: Sequence[str]) -> int:
    """Whether something is wrong with a CPU: its levels, or the tests of some names."""
    where = ARM / "tests"
    shutil.rmtree(where, ignore_errors=True)
    shutil.copytree(ROOT / "tests", where / "tests")
    shutil.copy(ROOT / "pyproject.toml", where)
    env = {**os.environ, "PYTHONPATH": str(ARM / "site"), "OPENBLAS_NUM_THREADS": "1"}
    found = subprocess.run(emulated(cpu, "-c", "import farann; print(*farann.isa_levels())"),
                           check=True, cwd=where, env=env, stdout=subprocess.PIPE, text=True).stdout
    print(f"{cpu}: {found}", end="", flush=True)
    if found.split() != levels:
        print(f"the levels should be {levels}")
        return 1
    return subprocess.run(emulated(cpu, "-m", "pytest", "-q", "-p", "no:cacheprovider",
                                   "--one-level", f"--deselect=tests/{STARTING}",
                                   *(str(next(where.rglob(f"test_{name}.py"))) for name in names)),
                          cwd=where, env=env).returncode


def main() -> int:
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing:
        print("tests of Python on ARM are skipped: there is no", ", ".join(missing))
        return 0
    try:
        gather()
    except (subprocess.CalledProcessError, StopIteration) as error:
        print(f"tests of Python on ARM are skipped: packages for ARM can't be had here ({error})")
        return 0
    wheel = compile_wheel()
    print(f"{wheel.name}: {wheel.stat().st_size:,} bytes", flush=True)
    shutil.rmtree(ARM / "site" / "farann", ignore_errors=True)
    unpack(ARM / "dist", ARM / "site")
    names = dict.fromkeys(CPUS, OF_LEVELS)
    names[list(CPUS)[-1]] += OTHERS
    return max(test(cpu, levels, names[cpu]) for cpu, levels in CPUS.items())


if __name__ == "__main__":
    sys.exit(main())
