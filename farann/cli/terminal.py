"""What people are told: tables, colors and remarks; plain without rich, or without a terminal."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from typing import Any

# Longer tables are printed line by line.
_MOST_IN_COLOR = 2000


def counted(n: int, one: str, many: str | None = None) -> str:
    """A number and what it counts, as in 1 query, 2,000 queries."""
    return f"{n:,} {one if n == 1 else many or one + 's'}"


def is_shown(arguments: argparse.Namespace) -> bool:
    """Whether bars are to be seen."""
    return not arguments.quiet and sys.stderr.isatty()


def note(arguments: argparse.Namespace, text: str) -> None:
    """Say something beside the results."""
    if not arguments.quiet:
        sys.stdout.flush()  # keeps the order where both go to one place
        print(text, file=sys.stderr)


def size(count: float) -> str:
    """Bytes as people read them."""
    if count < 1000:
        return counted(int(count), "byte")
    for unit in ("kB", "MB"):
        count /= 1000
        if count < 1000:
            return f"{count:.1f} {unit}"
    return f"{count / 1000:.1f} GB"


def printable(value: object) -> str:
    """A text as a terminal may get it: an id from a stranger's file must not move its cursor."""
    text = str(value)
    return text if text.isprintable() else "".join(
        one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)


def console(stream: Any) -> Any:
    """Where rich prints to, None for plain text: not a terminal, or rich isn't installed."""
    if not stream.isatty():
        return None
    try:
        from rich.console import Console
    except ImportError:
        return None
    # Names are printed as they are: no markup, and no emoji for ":dog:".
    return Console(file=stream, highlight=False, markup=False, emoji=False)


def say(text: str, style: str, stream: Any) -> None:
    """Print a line, on a terminal in a style."""
    out = console(stream)
    if out is None:
        print(text, file=stream)
    else:
        out.print(text, style=style, soft_wrap=True)


def print_table(heads: Sequence[str], widths: Sequence[int],
                lines: Iterable[Sequence[object]]) -> None:
    """Print a table with its columns to the right, `widths` wide where it is plain."""
    out, rest = console(sys.stdout), iter(lines)
    if out is not None:
        first = [*islice(rest, _MOST_IN_COLOR + 1)]
        rest = chain(first, rest)
        if len(first) <= _MOST_IN_COLOR:
            out.print(_in_color(heads, first))
            return
    for line in _plain(heads, widths, rest):
        print(line)


def _plain(heads: Sequence[str], widths: Sequence[int],
           lines: Iterable[Sequence[object]]) -> Iterator[str]:
    for line in chain([heads], lines):
        yield "".join(f"{printable(value):>{width}}"
                      for value, width in zip(line, widths, strict=True))


def _in_color(heads: Sequence[str], lines: Iterable[Sequence[object]]) -> Any:
    from rich import box
    from rich.table import Table

    table = Table(*heads, box=box.SIMPLE_HEAD, header_style="bold")
    for column in table.columns:
        column.justify, column.overflow = "right", "fold"  # an id that is cut off is of no use
    for line in lines:
        table.add_row(*map(printable, line))
    return table


def print_facts(title: str, facts: dict[str, object]) -> None:
    """Print names and values."""
    say(title, "bold", sys.stdout)
    out = console(sys.stdout)
    for label, value in facts.items():
        if out is None:
            print(f"  {label:<11}{value}")
        else:
            from rich.text import Text

            out.print(Text.assemble(("  " + f"{label:<11}", "cyan"), str(value)), soft_wrap=True)
