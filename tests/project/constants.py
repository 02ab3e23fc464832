"""Constants of equal name and different value: `python tests/project/constants.py` lists them.

A name in capitals has one meaning over the whole package, in Python and in Cython, with an
underscore or without. `make lint` fails where it has two.
"""

from __future__ import annotations

import ast
import re
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[2] / "farann"
NAME = r"_?[A-Z][A-Z0-9_]*"
# Members of enums, and variables of a module with a type or without.
MEMBER = re.compile(rf"(?:\s+|\s*cdef enum: *)({NAME}) *= *([^#]+)")
VARIABLE = re.compile(rf"(?:cdef [\w ]*?)?({NAME})(?:: [\w.\[\], ]+)? *= *([^#]+)")


def in_python(text: str) -> Iterator[tuple[str, str, int]]:
    """Names, values and lines of what a module assigns at its top."""
    for node in ast.parse(text).body:
        if isinstance(node, ast.Assign):
            targets = node.targets
        elif isinstance(node, ast.AnnAssign) and node.value is not None:
            targets = [node.target]
        else:
            continue
        assert node.value is not None
        for target in targets:
            pairs = [(target, node.value)]
            if isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple):
                pairs = list(zip(target.elts, node.value.elts, strict=True))
            for name, value in pairs:
                if isinstance(name, ast.Name) and re.fullmatch(NAME, name.id):
                    yield name.id, ast.unparse(value), node.lineno


def in_cython(text: str) -> Iterator[tuple[str, str, int]]:
    """The same of a file in Cython, by line; members of enums, too."""
    enum = False
    for number, line in enumerate(text.splitlines(), 1):
        if re.match(r"\s*cdef enum", line):
            enum = True
        elif re.match(r"\S", line):
            enum = False
        found = MEMBER.match(line) if enum else VARIABLE.match(line)
        if found:
            yield found[1], found[2].strip(), number


def valued(text: str) -> object:
    """What an expression of numbers comes to; others are as they are written."""
    try:
        tree = ast.parse(text, mode="eval")
    except SyntaxError:
        return text
    if any(isinstance(node, ast.Name | ast.Call | ast.Attribute) for node in ast.walk(tree)):
        return text
    return repr(eval(compile(tree, text, "eval"), {"__builtins__": {}}))


def differing(folder: Path) -> dict[str, list[str]]:
    """Where the constants are whose name has several values, by name."""
    found: dict[str, dict[object, list[str]]] = defaultdict(lambda: defaultdict(list))
    for path in sorted(folder.rglob("*.p*")):
        if path.suffix not in (".py", ".pyx", ".pxd", ".pxi"):
            continue
        text = path.read_text("utf-8")
        for name, value, line in in_python(text) if path.suffix == ".py" else in_cython(text):
            place = f"{path.relative_to(folder.parent)}:{line}: {value[:40]}"
            found[name.lstrip("_")][valued(value)].append(place)
    return {name: [place for some in places.values() for place in some]
            for name, places in found.items() if len(places) > 1}


def main() -> int:
    found = differing(PACKAGE)
    for name, places in found.items():
        print(f"{name} has several values:", *places, sep="\n    ")
    return len(found) > 0


if __name__ == "__main__":
    sys.exit(main())
