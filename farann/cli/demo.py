"""What ``farann demo`` does."""

from __future__ import annotations

import argparse
import io
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

from farann.cli.commands import check_output

__all__ = ["demo"]


def demo(arguments: argparse.Namespace) -> int:
    """Show words, pictures or films, and write a page of them."""
    if arguments.queries is not None and arguments.what != "words":
        raise ValueError(f"--queries are words, and {arguments.what} have none")
    output = Path(arguments.output or f"farann-{arguments.what}.html")
    if output.suffix != ".html":
        raise ValueError(f"{output}: unknown extension {output.suffix!r}; pages are written as "
                         ".html")
    check_output(output)
    if isinstance(sys.stdout, io.TextIOWrapper):  # words have letters that a terminal may lack
        sys.stdout.reconfigure(errors="replace")
    options: dict[str, Any] = {"write": lambda line: print(line, flush=True)}
    if arguments.queries:
        options["queries"] = [word.strip() for word in arguments.queries.split(",")
                              if word.strip()]
    right = import_module(f"farann.demo.{arguments.what}").run(output, **options)
    print(f"\nThe page: {output}")
    if arguments.open:
        import webbrowser

        webbrowser.open(output.resolve().as_uri())
    return 0 if right else 1
