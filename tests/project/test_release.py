"""What verifies a release finds planted faults, and the lock fits pyproject.toml."""

from __future__ import annotations

import base64
import hashlib
import importlib
import io
import json
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

import farann

ROOT = Path(__file__).parents[2]
SDIST, WHEEL = "farann-0.1.0.tar.gz", "farann-0.1.0-cp311-abi3-win_amd64.whl"
INFO = "farann-0.1.0.dist-info"
METADATA = ("Metadata-Version: 2.4\nName: farann\nVersion: 0.1.0\nRequires-Python: >=3.11\n"
            "License-Expression: Apache-2.0\nLicense-File: LICENSE\n")
SBOM = {"metadata": {"component": {"name": "farann", "version": "0.1.0"}}}
GOOD = {"farann/_all.pyd": "binary", f"{INFO}/METADATA": METADATA, f"{INFO}/licenses/LICENSE": "",
        f"{INFO}/sboms/farann.cdx.json": json.dumps(SBOM)}


@cache
def committed() -> bytes:
    done = subprocess.run(["git", "archive", "--prefix=farann-0.1.0/", "HEAD", "LICENSE",
                           "setup.py"], cwd=ROOT, capture_output=True)
    if done.returncode:
        pytest.skip("needs a checkout")
    return done.stdout


def write_sdist(folder: Path, **more: str) -> None:
    with tarfile.open(folder / SDIST, "w:gz", compresslevel=1) as files:
        with tarfile.open(fileobj=io.BytesIO(committed())) as there:
            for member in there:
                if member.name not in more:
                    files.addfile(member, there.extractfile(member))
        for name, text in {"farann-0.1.0/PKG-INFO": METADATA, **more}.items():
            member = tarfile.TarInfo(name)
            member.size = len(text)
            files.addfile(member, io.BytesIO(text.encode()))


def write_wheel(folder: Path, files: dict[str, str], unrecorded: str = "") -> None:
    with zipfile.ZipFile(folder / WHEEL, "w") as wheel:
        record = f"{INFO}/RECORD,,\n"
        for name, text in files.items():
            digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).decode()
            record += f"{name},sha256={digest.rstrip('=')},{len(text)}\n"
            wheel.writestr(name, text + (unrecorded if name.endswith(".pyd") else ""))
        wheel.writestr(f"{INFO}/RECORD", record)


def write_sums(folder: Path) -> None:
    (folder / "SHA256SUMS").write_text("".join(
        f"{hashlib.sha256((folder / name).read_bytes()).hexdigest()}  {name}\n"
        for name in (SDIST, WHEEL)), "utf-8")


@pytest.fixture
def verify(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(ROOT / "packaging")
    module = importlib.import_module("verify_release")
    monkeypatch.setattr(module, "NOT_IN_SDIST", _outside(("LICENSE", "setup.py")))
    yield module
    for name in ("verify_release", "check_wheel", "test_wheel"):
        sys.modules.pop(name)


def _outside(kept: tuple[str, ...]) -> tuple[str, ...]:
    """Files that the planted sdist leaves out."""
    names = subprocess.run(["git", "ls-tree", "-r", "--name-only", "HEAD"], cwd=ROOT, check=True,
                           capture_output=True, text=True).stdout.splitlines()
    return tuple(name for name in names if not name.startswith(kept))


@pytest.fixture
def release(tmp_path: Path) -> Path:
    write_sdist(tmp_path)
    write_wheel(tmp_path, GOOD)
    write_sums(tmp_path)
    return tmp_path


def lines(verify: Any, folder: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, str]:
    failed = verify.main([str(folder), "--commit=HEAD", "--no-tests"])
    *told, last = capsys.readouterr().out.splitlines()
    wrong = {name: what for line in told if line.startswith("WRONG")
             for name, _, what in [line.removeprefix("WRONG").strip().partition(": ")]}
    assert failed == bool(wrong) and last.startswith(f"{len(wrong)} of 5")
    assert "not checked  a wheel for each platform: there are no wheels for manylinux" in "\n".join(
        told)
    return wrong


def test_a_good_release_passes(verify: Any, release: Path, capsys: Any) -> None:
    assert lines(verify, release, capsys) == {}


PLANTED: dict[str, tuple[Callable[[Path], object], str, str]] = {
    "changed": (lambda folder: write_wheel(folder, {**GOOD, "new.py": ""}), "checksums",
                f"of another hash: ['{WHEEL}']"),
    "lost": (lambda folder: (folder / WHEEL).unlink(), "checksums", f"missing: ['{WHEEL}']"),
    "added": (lambda folder: (folder / "more.whl.txt").touch(), "checksums",
              "not listed: ['more.whl.txt']"),
    "no sums": (lambda folder: (folder / "SHA256SUMS").unlink(), "checksums", "is missing"),
}


@pytest.mark.parametrize("what", PLANTED)
def test_a_wrong_checksum_is_told(verify: Any, release: Path, capsys: Any, what: str) -> None:
    plant, name, said = PLANTED[what]
    plant(release)
    wrong = lines(verify, release, capsys)
    assert list(wrong) == [name] and said in wrong[name]


@pytest.mark.parametrize("name", ["setup.py", "planted.py"])
def test_another_file_than_the_tag_has_is_told(verify: Any, release: Path, capsys: Any,
                                               name: str) -> None:
    write_sdist(release, **{f"farann-0.1.0/{name}": "planted = True\n"})
    write_sums(release)
    assert lines(verify, release, capsys) == {
        "the sdist is the tag": f"the sdist differs from HEAD in 1 files: ['{name}']"}


@pytest.mark.parametrize(("files", "said"), [
    ({f"{INFO}/sboms/farann.cdx.json": "{}"}, "no SBOM of farann 0.1.0"),
    ({f"{INFO}/METADATA": METADATA.replace("0.1.0", "0.2.0")}, "metadata are of farann 0.2.0"),
    ({f"{INFO}/METADATA": METADATA.replace("LICENSE", "NOTICE")}, "license is Apache-2.0, in"),
    ({"farann/kernels.pyx": ""}, "it has sources"),
])
def test_what_is_wrong_in_a_wheel_is_told(verify: Any, release: Path, capsys: Any,
                                          files: dict[str, str], said: str) -> None:
    write_wheel(release, {**GOOD, **files})
    write_sums(release)
    wrong = lines(verify, release, capsys)
    assert list(wrong) == ["what is in wheels"] and said in wrong["what is in wheels"]


def test_a_file_that_the_wheel_did_not_record_is_told(verify: Any, release: Path,
                                                      capsys: Any) -> None:
    write_wheel(release, GOOD, unrecorded="planted")
    write_sums(release)
    assert "RECORD differs from its files: ['farann/_all.pyd']" in lines(
        verify, release, capsys)["what is in wheels"]


def test_the_lock_fits() -> None:
    """It has all that tests and docs ask for, in versions that they take, and names no host."""
    known = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    project = known["project"]
    head, *lock = (ROOT / "packaging" / "lock.txt").read_text("utf-8").splitlines()
    assert head.startswith("# ")
    locked = dict(line.lower().replace("_", "-").split("==") for line in lock)
    for text in [*known["build-system"]["requires"], *project["dependencies"],
                 *project["optional-dependencies"]["test"],
                 *project["optional-dependencies"]["docs"]]:
        wanted = Requirement(text)
        version = locked[wanted.name.lower().replace("_", "-")]
        assert wanted.specifier.contains(version), text
    assert all(re.fullmatch(r"[\w.-]+==[\w.!]+", line) for line in lock)


def test_all_places_say_the_same_version() -> None:
    for name, pattern in {"CITATION.cff": r"^version: (.+)$", "CHANGELOG.md": r"^## \[(\d.+)\]",
                          "packaging/conda/recipe.yaml": r"^  version: (.+)$"}.items():
        found = re.search(pattern, (ROOT / name).read_text("utf-8"), re.M)
        assert found is not None and found[1] == farann.__version__, name


def test_the_sdist_has_nothing_that_was_made() -> None:
    """What git ignores in folders of the sdist, MANIFEST.in leaves out."""
    left_out = (ROOT / "MANIFEST.in").read_text("utf-8").split()
    ignored = (ROOT / ".gitignore").read_text("utf-8").split()
    made = [path.rstrip("/") for path in ignored if path.startswith(("bench/", "docs/", "tests/"))]
    assert len(made) >= 8 and set(made) <= set(left_out)
