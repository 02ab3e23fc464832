"""Numbers and texts of arguments, for all parsers."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any


def at_least(smallest: int) -> Callable[[str], int]:
    """A type of whole numbers."""

    def whole_number(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            number = smallest - 1
        if number < smallest:
            raise argparse.ArgumentTypeError(
                f"expected a whole number of {smallest} or more, got {text!r}"
            )
        return number

    return whole_number


def number(text: str) -> float:
    """A type of numbers."""
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if value != value:
        raise argparse.ArgumentTypeError(f"expected a number, got {text!r}")
    return value


def add_max_bytes(parser: argparse.ArgumentParser) -> None:
    """The limit of vector files, for all that read them."""
    parser.add_argument("--max-bytes", type=at_least(1), metavar="N",
                        help="refuse a vector file whose numbers take more than N bytes once "
                        "unpacked (default: 100 times the file's size, at least 64 MiB)")


def texts(description: str, epilog: str) -> dict[str, Any]:
    """A parser's texts before and after its arguments, laid out as they should appear."""
    return {"description": description, "epilog": epilog,
            "formatter_class": argparse.RawDescriptionHelpFormatter}
