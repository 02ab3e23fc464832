"""Errors of the library in the words of the command line: options in the place of arguments."""

from __future__ import annotations

import argparse
import contextlib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

# Python arguments and their command-line options, where the names differ.
_WORDS = {
    "keep_vectors=False": "--no-vectors", "keep_vectors": "--no-vectors",
    "search_nearest": "--nearest", "search_beyond": "--beyond", "select_diverse": "farann select",
    "max_bytes= or --max-bytes": "--max-bytes",
    "give them to add, as groups=": "give them to farann build, as --groups",
}


def blaming_options(text: str, arguments: argparse.Namespace) -> str:
    """A message with ``--recall`` in the place of ``recall=``, and of ``recall:`` at its start."""
    names = {name: option_of(name) for name in vars(arguments)}
    head, colon, rest = text.partition(": ")
    if colon and head in names:
        text = f"{names[head]}: {rest}"
    for word, option in _WORDS.items():
        text = re.sub(rf"\b{re.escape(word)}(?!\w)", option, text)

    def replaced(match: re.Match[str]) -> str:
        name, value = match.groups()
        return match[0] if name not in names else " ".join(
            filter(None, [names[name], (value or "").strip("'")]))

    return re.sub(r"(?<![-\w])([a-z_]+)=('\w+'|[\w.]+)?", replaced, text)


def option_of(name: str) -> str:
    """The command-line name of a Python argument."""
    return "-k" if name == "k" else "--" + name.replace("_", "-")


@contextlib.contextmanager
def blaming(files: Mapping[str, Path | str | None], done: int) -> Iterator[None]:
    """Let errors about an argument speak of the file that it came from."""
    try:
        yield
    except ValueError as error:
        argument, _, text = str(error).partition(": ")
        if files.get(argument) is None:
            raise
        counted = f", counting from {done}" if done and " row " in text else ""
        raise ValueError(f"{files[argument]}: {text}{counted}") from error
