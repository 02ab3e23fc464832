"""Tables, colors and remarks on a terminal, plain without rich.

Errors of the library are told in the words of the command line: with options for arguments.
"""

from __future__ import annotations

import argparse
import contextlib
import re
import sys
import warnings
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any

from farann.cli.streams import printable
from farann.contract import RecallWarning

STREAM = "-"  # standard input or output, in the place of a file
# Arguments that are files to read: of rows, and of ids, labels and scores.
ROW_FILES = ("vectors", "queries", "rows", "log")
LIST_FILES = ("ids", "groups", "outside_groups", "exclude", "allowed", "first", "likes",
              "dislikes", "scores", "item_ids", "user_ids")
_MOST_IN_COLOR = 2000  # lines of a table; a longer one is printed line by line, without rich
# Python arguments and their command-line options, where the names differ.
_WORDS = {
    "keep_vectors=False": "--no-vectors", "keep_vectors": "--no-vectors",
    "search_nearest": "--nearest", "search_beyond": "--beyond",
    "search_within": "--within", "search_contrast": "--likes and --dislikes",
    "like_ids": "--likes", "dislike_ids": "--dislikes",
    "search_mmr": "--diversity", "metric='dot' or 'cosine'": "--metric dot or cosine",
    "select_diverse": "farann select",
    "select_spaced": "farann select --scores", "pairs_within": "farann pairs",
    "max_bytes= or --max-bytes": "--max-bytes",
    "give them to add, as groups=": "give them to farann build, as --groups",
    "tune(queries)": "farann tune --queries", "build(queries)": "farann build --queries"}


def counted(n: int, one: str, many: str | None = None) -> str:
    """A number and what it counts, as in 1 query, 2,000 queries."""
    return f"{n:,} {one if n == 1 else many or one + 's'}"


def is_shown(arguments: argparse.Namespace) -> bool:
    """Whether bars are to be seen."""
    return not arguments.quiet and sys.stderr.isatty()


def note(arguments: argparse.Namespace, text: str) -> None:
    """Print a message on standard error, apart from results; one that can't be is left."""
    if not arguments.quiet:
        sys.stdout.flush()  # keeps the order where both go to one place
        with contextlib.suppress(OSError):
            print(printable(text), file=sys.stderr)


@contextlib.contextmanager
def remarking(arguments: argparse.Namespace) -> Iterator[None]:
    """Print what the library warns of as remarks, in the words of the command line."""
    with warnings.catch_warnings():
        usual = warnings.showwarning

        def show(message: Warning | str, category: type[Warning], *place: Any, **more: Any) -> None:
            if issubclass(category, RecallWarning):
                note(arguments, blaming_options(str(message), arguments))
            else:
                usual(message, category, *place, **more)

        warnings.showwarning = show
        yield


def size(count: float) -> str:
    """Bytes as people read them."""
    if count < 1000:
        return counted(int(count), "byte")
    for unit in ("kB", "MB"):
        count /= 1000
        if count < 1000:
            return f"{count:.1f} {unit}"
    return f"{count / 1000:.1f} GB"


def _console(stream: Any) -> Any:
    """The console of rich; None for plain text, if there is no terminal or no rich."""
    if not stream.isatty():
        return None
    try:
        from rich.console import Console
    except ImportError:
        return None
    # Names are printed as they are: no markup, and no emoji for ":dog:".
    return Console(file=stream, highlight=False, markup=False, emoji=False, soft_wrap=True)


def say(text: str, style: str, stream: Any, end: str = "\n") -> None:
    """Print a line, on a terminal in a style."""
    out = _console(stream)
    if out is None:
        print(text, file=stream, end=end)
    else:
        out.print(text, style=style, end=end)


def print_table(heads: Sequence[str], widths: Sequence[int],
                lines: Iterable[Sequence[object]]) -> None:
    """Print a table with its columns to the right, `widths` wide where it is plain."""
    out, rest = _console(sys.stdout), iter(lines)
    # The first line comes before the heads, as it may be an error.
    first = [*islice(rest, 1 if out is None else _MOST_IN_COLOR + 1)]
    if out is None or len(first) > _MOST_IN_COLOR:
        for line in chain([heads], first, rest):
            print("".join(f"{printable(value):>{width}}"
                          for value, width in zip(line, widths, strict=True)))
        return
    from rich import box
    from rich.table import Table

    table = Table(*heads, box=box.SIMPLE_HEAD, header_style="bold")
    for column in table.columns:
        column.justify, column.overflow = "right", "fold"  # an id that is cut off is of no use
    for line in first:
        table.add_row(*map(printable, line))
    out.print(table, soft_wrap=False)


def print_facts(title: str, facts: dict[str, object]) -> None:
    """Print names and values."""
    say(printable(title), "bold", sys.stdout)
    for label, value in facts.items():
        say(f"  {label:<11}", "cyan", sys.stdout, end="")
        print(printable(value))


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


def files_of_arguments(arguments: argparse.Namespace) -> dict[str, str]:
    """The files to read, by the arguments that name one."""
    return {name: file for name, file in vars(arguments).items()
            if name in ("index", *ROW_FILES, *LIST_FILES) and isinstance(file, str)}


@contextlib.contextmanager
def blaming(arguments: argparse.Namespace, done: int = 0,
            **more: str | Path | None) -> Iterator[None]:
    """Name the file that an argument came from in its errors."""
    try:
        yield
    except (ValueError, TypeError) as error:
        argument, _, text = str(error).partition(": ")
        file = {**files_of_arguments(arguments), **more}.get(argument)
        if file is None:
            raise
        counted = f", counting from {done}" if done and " row " in text else ""
        raise ValueError(f"{file}: {text}{counted}") from error
