"""MODULES.md: the map of modules and C files, made from their docstrings and comments.

`python docs/module_map.py` writes it, `--check` says whether it is current. Folders and modules are
in the order of the layers in `pyproject.toml`: each imports from those below it. Modules of the
native core are in the order in which they are loaded, the lowest last.
"""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "MODULES.md"
HEAD = """# Map of modules

`make format` writes this page from the first sentences of docstrings, and of comments in C. Folders
and modules in Python import from those below them.

"""
WIDTH = 24  # columns of a name and its indent


def first_sentence(path: Path) -> str:
    """What a module's docstring begins with, without the period."""
    text = path.read_text("utf-8")
    if path.suffix == ".py":
        docstring = ast.get_docstring(ast.parse(text)) or ""
    else:
        found = re.match(r'(?:#.*\n|\s)*"""(.+?)"""', text, re.S)
        docstring = found[1] if found else ""
    paragraph = " ".join(docstring.partition("\n\n")[0].split())
    return re.split(r"\.(?: |$)", paragraph, maxsplit=1)[0]


def layers() -> dict[str, list[str]]:
    """Names of modules and folders in each package, the highest first."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    found = {}
    for contract in settings["tool"]["importlinter"]["contracts"]:
        for container in contract.get("containers", []):
            found[container] = [name.strip() for layer in contract["layers"]
                                for name in layer.split("|")]
    native = ast.parse((ROOT / "farann" / "native" / "__init__.py").read_text("utf-8"))
    found["farann.native"] = next(
        list(reversed(ast.literal_eval(node.value))) for node in native.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "MODULES")
    return found


def entries(folder: Path, depth: int, order: dict[str, list[str]]) -> Iterator[str]:
    """Lines of a folder, and of all that is in it."""
    yield entry(f"{folder.name}/", depth, folder / "__init__.py")
    known = order.get(".".join(folder.relative_to(ROOT).parts), [])
    places = {name: place for place, name in enumerate(known)}
    inside = [path for path in folder.iterdir()
              if (path / "__init__.py").exists()
              or (path.suffix in (".py", ".pyx") and path.stem != "__init__")]
    for path in sorted(inside, key=lambda path: (places.get(path.stem, len(places)), path.stem)):
        if path.is_dir():
            yield from entries(path, depth + 1, order)
        else:
            yield entry(path.name, depth + 1, path)


def entry(name: str, depth: int, path: Path) -> str:
    return entry_of(name, depth, first_sentence(path))


def entry_of(name: str, depth: int, sentence: str) -> str:
    indented = "  " * depth + name
    return f"    {indented:<{WIDTH}}  {sentence}\n"


def of_c(folder: Path, depth: int) -> Iterator[str]:
    """Lines of a folder of C sources that begin with a comment."""
    if any(path.suffix == ".h" for path in folder.iterdir()):
        yield f"    {'  ' * depth}{folder.name}/\n"
    for path in sorted(folder.iterdir(), key=lambda path: (path.is_dir(), path.name)):
        if path.is_dir():
            yield from of_c(path, depth + 1)
        elif path.suffix == ".h" or not path.with_suffix(".h").exists():
            found = re.match(r"/\*(.+?)\*/", path.read_text("utf-8"), re.S)
            if found:
                comment = " ".join(found[1].replace("\n *", " ").split())
                yield entry_of(path.name, depth + 1, re.split(r"\.(?: |$)", comment)[0])


def current_page() -> str:
    """The page as it should be."""
    lines = [*entries(ROOT / "farann", 0, layers()), "\n", *of_c(ROOT / "src_c", 0)]
    return HEAD + "".join(lines)


def main() -> int:
    page = current_page()
    if "--check" in sys.argv[1:]:
        if not PAGE.exists() or page != PAGE.read_text("utf-8"):
            print(f"{PAGE.name}: the map of modules is old; `make format` writes it anew")
            return 1
    else:
        PAGE.write_text(page, "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
