"""Plant defects in lines of the core that changed, and see whether tests fail.

``python tests/mutants.py main`` takes the lines of `farann/native/` and `src_c/` that differ from
where the branch left `main`. In a copy of the checkout it plants one defect at a time, compiles,
and runs golden answers and the tests of that module. The exit code is 1 where all pass.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
COPY = ROOT / "build" / "mutants"
COPIED = ("farann", "src_c", "tests", "docs", "setup.py", "pyproject.toml", "README.md", "LICENSE")
MOST_SECONDS = 1800  # of one run of tests: a defect may never end
GOLDEN = ["tests/golden_answers.py", "--seeds", "0", "8"]
# Folders by module; others are tested by tests/native.
TESTS = {
    "kernels": "tests/native tests/runtime", "platform": "tests/native tests/runtime",
    "watch": "tests/tuning",
    "sets": "tests/diverse", "greedy": "tests/diverse", "picks": "tests/diverse",
    "single": "tests/search", "snapshot": "tests/search", "sources": "tests/search",
    "probing": "tests/tuning", "guard": "tests/tuning", "measuring": "tests/tuning",
    "merging": "tests/test_merging.py", "codes": "tests/quantize", "quantize": "tests/quantize",
}
CHANGES = (
    (" < ", " <= "), (" <= ", " < "), (" > ", " >= "), (" >= ", " > "), (" == ", " != "),
    (" != ", " == "), (" + ", " - "), (" - ", " + "), (" and ", " or "), (" or ", " and "),
    (" && ", " || "), (" || ", " && "), ("min(", "max("), ("max(", "min("), ("not ", ""),
    ("True", "False"), ("False", "True"), (" += ", " -= "), ("-INFINITY", "INFINITY"),
    ("0.0", "1.0"), ("continue", "pass"), ("continue;", ";"), ("return ", "return 1 + "),
)
_SIGNATURE = re.compile(r"\s*(?:@|(?:cdef|cpdef|def|class|from|import|cimport)\b(?!.* = ))")


class Mutant(NamedTuple):
    """One line of a file, and what takes its place."""

    path: str
    number: int  # of the line, from 1
    line: str


def changed(diff: str) -> Iterator[tuple[str, int]]:
    """Files and numbers of lines that a diff without context adds."""
    path = ""
    for line in diff.splitlines():
        if line.startswith("+++ "):
            path = line[6:]
        found = re.match(r"@@ \S+ \+(\d+)(?:,(\d+))? @@", line)
        if found:
            yield from ((path, int(found[1]) + i) for i in range(int(found[2] or 1)))


def mutants_of(path: str, text: str, numbers: set[int]) -> Iterator[Mutant]:
    """What may go wrong in some lines of code: a change of one operator, constant or call."""
    quoted = False
    for number, line in enumerate(text.splitlines(), 1):
        marks = line.count('"""')
        inside, quoted = quoted or marks > 0, quoted != (marks % 2 == 1)
        code = re.split(r"#(?!include|define)|//|/\*" if path.startswith("src_c") else "#", line)[0]
        if number not in numbers or inside or _SIGNATURE.match(code) or (
                line.lstrip().startswith("*")):
            continue
        for old, new in CHANGES:
            for found in re.finditer((r"\b" if old[0].isalpha() else "") + re.escape(old), code):
                yield Mutant(path, number, line[: found.start()] + new + line[found.end() :])


def run(*command: str, seconds: float = MOST_SECONDS) -> bool:
    """Run Python in the copy; whether it ended well, and in time."""
    try:
        return subprocess.run([sys.executable, *command], cwd=COPY, timeout=seconds,
                              capture_output=True,
                              env={**os.environ, "PYTHONPATH": str(COPY)}).returncode == 0
    except subprocess.TimeoutExpired:
        return False


def compiles() -> bool:
    return run("setup.py", "--quiet", "build_ext", "--inplace")


def tests_of(path: str) -> str:
    """The folders with the tests of a module."""
    return TESTS.get(Path(path).stem, "tests/native")


def passes(tests: str) -> bool:
    """Whether golden answers and the tests in some folders pass."""
    return run(*GOLDEN) and run("-m", "pytest", "-q", "-x", "-n", "2", "-p", "no:cacheprovider",
                                *tests.split())


def survives(mutant: Mutant) -> bool | None:
    """Whether tests pass with a defect; None: it doesn't compile."""
    place = COPY / mutant.path
    before = place.read_text("utf-8")
    lines = before.splitlines(keepends=True)
    lines[mutant.number - 1] = mutant.line + "\n"
    place.write_text("".join(lines), "utf-8")
    try:
        return passes(tests_of(mutant.path)) if compiles() else None
    finally:
        place.write_text(before, "utf-8")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("base", nargs="?", default="main")
    parser.add_argument("--most", type=int, default=10, help="defects, 10 by default")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    diff = subprocess.run(
        ["git", "diff", "--merge-base", "-U0", args.base, "--", "farann/native", "src_c"], cwd=ROOT,
        check=True, capture_output=True, text=True).stdout
    lines: dict[str, set[int]] = {}
    for path, number in changed(diff):
        if path.endswith((".pyx", ".pxd", ".c", ".h")):
            lines.setdefault(path, set()).add(number)
    possible = [mutant for path, numbers in lines.items()
                for mutant in mutants_of(path, (ROOT / path).read_text("utf-8"), numbers)]
    random.Random(args.seed).shuffle(possible)
    shutil.rmtree(COPY, ignore_errors=True)
    for name in (*COPIED, *(f"build/{path.name}" for path in (ROOT / "build").glob("objects-*"))):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy2
        (COPY / name).parent.mkdir(parents=True, exist_ok=True)
        copy(ROOT / name, COPY / name)
    if not (compiles() and all(map(passes, {tests_of(path) for path in lines}))):
        print("tests fail without any defect")
        return 1
    planted = survived = 0
    for mutant in possible:
        if planted == args.most:
            break
        passed = survives(mutant)
        planted, survived = planted + (passed is not None), survived + (passed is True)
        print(f"{ {True: 'SURVIVED', False: 'caught', None: 'no code'}[passed]:9}"
              f"{mutant.path}:{mutant.number}: {mutant.line.strip()}", flush=True)
    print(f"{planted} defects planted, of {len(possible)}; {survived} survived")
    return int(survived > 0)


if __name__ == "__main__":
    sys.exit(main())
