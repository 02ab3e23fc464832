"""Verify a release from outside: `python packaging/verify_release.py FOLDER`.

FOLDER has the sdist, the wheels and SHA256SUMS. Run it in a checkout of the tag. It tells what was
checked and what could not be, and fails where something is wrong. `--python` names further Pythons
that wheels are tried with; `--no-tests` leaves out the build and the tests, which take minutes.
"""

from __future__ import annotations

import argparse
import email
import hashlib
import subprocess
import sys
import tarfile
import tempfile
import traceback
import venv
from collections.abc import Callable, Iterator
from pathlib import Path

import check_wheel
import test_wheel

ROOT = Path(__file__).resolve().parent.parent
LARGEST_WHEEL = 1_300_000
PLATFORMS = ("manylinux*x86_64", "manylinux*aarch64", "musllinux*x86_64", "musllinux*aarch64",
             "macosx*arm64", "macosx*x86_64", "win_amd64")
# Of the tree, files for the host of the code alone; of the sdist, those that setuptools adds.
NOT_IN_SDIST = (".github/", ".ci/", ".gitignore", ".readthedocs.yaml", ".proselintrc.json")
ADDED_TO_SDIST = ("PKG-INFO", "setup.cfg", "farann.egg-info/")
SMOKE = """
import farann, numpy as np, sys
rows = np.random.default_rng(0).integers(-9, 9, (3000, 24)).astype("f4")
hits = farann.search_furthest(rows, rows[:9], k=5, metric="l2")
keys = ((rows[:9, None].astype("f8") - rows) ** 2).sum(2)
want = [sorted(range(3000), key=lambda i: (-key[i], i))[:5] for key in keys]
assert hits.ids.tolist() == want, (hits.ids, want)
print(f"{sys.version.split()[0]}, {farann.isa_levels()[-1]}")
"""


class Skipped(Exception):
    """What can't be checked here, and why."""


class Wrong(Exception):
    """What is wrong with a release."""


def sdist_of(folder: Path) -> Path:
    found = list(folder.glob("farann-*.tar.gz"))
    if len(found) != 1:
        raise Wrong(f"expected one sdist, found {[path.name for path in found]}")
    return found[0]


def version_of(folder: Path) -> str:
    return sdist_of(folder).name.removeprefix("farann-").removesuffix(".tar.gz")


def check_sums(folder: Path) -> str:
    """SHA256SUMS lists each file, with its hash."""
    sums = folder / "SHA256SUMS"
    if not sums.exists():
        raise Wrong("SHA256SUMS is missing")
    listed = {name.lstrip("*"): digest for digest, name in (
        line.split() for line in sums.read_text("utf-8").splitlines())}
    there = {path.name: hashlib.sha256(path.read_bytes()).hexdigest()
             for path in folder.iterdir() if path != sums}
    if listed != there:
        other = sorted(name for name in listed.keys() & there if listed[name] != there[name])
        raise Wrong(f"missing: {sorted(listed.keys() - there)}; not listed: "
                    f"{sorted(there.keys() - listed)}; of another hash: {other}")
    return f"{len(there)} files"


def git(root: Path, *args: str) -> str:
    return subprocess.run(["git", *args], cwd=root, check=True, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout


def check_tree(folder: Path, root: Path = ROOT, commit: str | None = None) -> str:
    """The sdist has the files of the tag: their hashes are those of git."""
    version, commit = version_of(folder), commit or f"v{version_of(folder)}"
    try:
        tree = git(root, "ls-tree", "-r", "-z", "--full-tree", f"{commit}^{{commit}}")
    except (OSError, subprocess.CalledProcessError) as error:
        raise Skipped(f"there is no checkout with {commit}") from error
    blobs = {line.partition("\t")[2]: line.split()[2] for line in tree.split("\0") if line}
    found = {}
    with tarfile.open(sdist_of(folder)) as files:
        for member in files:
            data = files.extractfile(member)
            if data is not None:
                content = data.read()
                found[member.name.removeprefix(f"farann-{version}/")] = hashlib.sha1(
                    b"blob %d\0" % len(content) + content).hexdigest()
    wrong = sorted({name for name, _ in found.items() - blobs.items()
                    if not name.startswith(ADDED_TO_SDIST)}
                   | {name for name in blobs.keys() - found if not name.startswith(NOT_IN_SDIST)})
    if wrong:
        raise Wrong(f"the sdist differs from {commit} in {len(wrong)} files: {wrong[:9]}")
    return f"{len(found)} files are those of {commit}"


def check_version(folder: Path) -> str:
    """The sdist and all wheels are of one version, and ask for the same packages."""
    version = version_of(folder)
    with tarfile.open(sdist_of(folder)) as files:
        info = files.extractfile(f"farann-{version}/PKG-INFO")
        assert info is not None
        metadata = email.message_from_bytes(info.read())
    if metadata["Version"] != version:
        raise Wrong(f"PKG-INFO says {metadata['Version']}, the name of the sdist {version}")
    other = [path.name for path in folder.glob("*.whl") if path.name.split("-")[1] != version]
    if other:
        raise Wrong(f"the sdist is of {version}, these are not: {other}")
    return f"{version}, for Python {metadata['Requires-Python']}"


def check_wheels(folder: Path) -> str:
    """Contents, metadata, licenses, SBOMs and records of all wheels."""
    wheels = sorted(folder.glob("*.whl"))
    wrong = [f"{path.name}: {fault}" for path in wheels
             for fault in check_wheel.faults(path, LARGEST_WHEEL)]
    if wrong:
        raise Wrong("; ".join(wrong))
    return f"{len(wheels)} wheels"


def check_platforms(folder: Path) -> str:
    """Each platform has a wheel."""
    missing = [name for name in PLATFORMS if not any(folder.glob(f"*-{name}.whl"))]
    if missing:
        raise Skipped(f"there are no wheels for {', '.join(missing)}")
    return ", ".join(PLATFORMS)


def check_build(folder: Path) -> str:
    """The sdist is built and installed in a new environment, and its own tests pass there."""
    with tempfile.TemporaryDirectory() as empty:
        with tarfile.open(sdist_of(folder)) as files:
            files.extractall(empty, filter="data")
        tree = Path(empty) / f"farann-{version_of(folder)}"
        python = environment(Path(empty) / "env", sys.executable)
        install(python, sdist_of(folder), *test_wheel.TOOLS)
        if test_wheel.test(python, test_wheel.TESTS, tree):
            raise Wrong("tests failed")
        return f"{len(test_wheel.TESTS)} files of tests"


def check_install(wheel: Path, python: str) -> str:
    """A wheel is installed in a new environment, and answers as numpy does."""
    with tempfile.TemporaryDirectory() as empty:
        made = environment(Path(empty) / "env", python)
        fits = subprocess.run([made, "-m", "pip", "install", "--dry-run", "--no-deps", wheel],
                              capture_output=True, text=True)
        if "not a supported wheel" in fits.stderr:
            raise Skipped("this machine or Python can't run it")
        install(made, wheel)
        subprocess.run([made, "-m", "pip", "check"], check=True, stdout=subprocess.DEVNULL)
        return subprocess.run([made, "-c", SMOKE], check=True, cwd=empty, text=True,
                              stdout=subprocess.PIPE).stdout.strip()


def environment(folder: Path, python: str) -> Path:
    if python == sys.executable:
        venv.create(folder, with_pip=True)
    else:
        subprocess.run([python, "-m", "venv", folder], check=True)
    return next(path for path in (folder / "bin/python", folder / "Scripts/python.exe")
                if path.exists())


def install(python: Path, *what: str | Path) -> None:
    subprocess.run([python, "-m", "pip", "install", "--quiet", *what], check=True)


Check = tuple[str, Callable[[], str]]


def checks(folder: Path, commit: str | None, pythons: list[str], tests: bool) -> Iterator[Check]:
    yield "checksums", lambda: check_sums(folder)
    yield "the sdist is the tag", lambda: check_tree(folder, commit=commit)
    yield "one version", lambda: check_version(folder)
    yield "what is in wheels", lambda: check_wheels(folder)
    yield "a wheel for each platform", lambda: check_platforms(folder)
    if tests:
        yield "built from the sdist and tested", lambda: check_build(folder)
    for wheel in sorted(folder.glob("*.whl")) if tests else []:
        for python in pythons:
            yield (f"{wheel.name} with {python}",
                   lambda wheel=wheel, python=python: check_install(wheel, python))


def told(name: str, check: Callable[[], str]) -> bool:
    """Print what a check says; whether something is wrong."""
    try:
        print(f"ok           {name}: {check()}", flush=True)
    except Skipped as reason:
        print(f"not checked  {name}: {reason}", flush=True)
    except Wrong as fault:
        print(f"WRONG        {name}: {fault}", flush=True)
        return True
    except Exception:  # a damaged file, or a command that failed: the others are still checked
        print(f"WRONG        {name}: {traceback.format_exc(limit=1)}", flush=True)
        return True
    return False


def main(args: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--commit", help="of what the sdist has the files, v<version> by default")
    parser.add_argument("--python", action="append", default=[sys.executable], dest="pythons")
    parser.add_argument("--no-tests", action="store_false", dest="tests")
    given = parser.parse_args(args)
    wrong = [told(*check) for check in checks(
        given.folder.resolve(), given.commit, given.pythons, given.tests)]
    print(f"{sum(wrong)} of {len(wrong)} checks found something wrong")
    return int(any(wrong))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
