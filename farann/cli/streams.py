"""Standard input and output in the place of files: ``-``."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from farann.io.files import replacing

STREAM = "-"
# What may come on standard input: rows, and with ids lists in text.
_ROWS = ("vectors", "queries", "rows", "log")
_IDS = ("ids", "groups", "exclude", "allowed", "within", "outside", "item_ids", "user_ids")
_STARTS = {b"\x93NUMPY": ".npy", b"PK\x03\x04": ".npz", b"PAR1": ".parquet",
           b"\x89HDF\r\n\x1a\n": ".hdf5"}


@contextmanager
def standard_input(arguments: argparse.Namespace) -> Iterator[None]:
    """Put what comes on standard input into a file, which lives as long as the command.

    What it is, its first bytes say. Errors speak of standard input, not of the file.
    """
    asked = [name for name in (*_ROWS, *_IDS) if getattr(arguments, name, None) == STREAM]
    if not asked or arguments.command == "demo":
        yield
        return
    if len(asked) > 1:
        raise ValueError(f"{STREAM}: standard input can be one file, got it as {len(asked)}")
    with tempfile.TemporaryDirectory(prefix="farann-") as folder:
        start = sys.stdin.buffer.read(8)
        suffix = next((name for magic, name in _STARTS.items() if start.startswith(magic)),
                      ".csv" if asked[0] in _ROWS else ".txt")
        path = os.path.join(folder, f"stdin{suffix}")
        with open(path, "wb") as stream:
            stream.write(start)
            shutil.copyfileobj(sys.stdin.buffer, stream)
        setattr(arguments, asked[0], path)
        try:
            yield
        except (ValueError, ImportError) as error:
            raise type(error)(str(error).replace(path, "standard input")) from error


@contextmanager
def written(path: Path | None) -> Iterator[IO[bytes]]:
    """A file that is replaced, or standard output."""
    if path is None:
        sys.stdout.flush()
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
    else:
        with replacing(path) as stream:
            yield stream


def place_of(output: str | None) -> Path | None:
    """The file to write, None for standard output."""
    return None if output in (None, STREAM) else Path(str(output))


def kind_of(output: str | None, wanted: str | None, kinds: dict[str, Any], what: str,
            usual: str) -> str:
    """What is written: as --format says, or the name of the file."""
    if wanted is not None:
        return wanted
    path = place_of(output)
    if path is None:
        return usual
    if path.suffix[1:] not in kinds:
        listed = [f".{kind}" for kind in kinds]
        raise ValueError(f"{path}: unknown extension {path.suffix!r}; {what} are written as "
                         f"{', '.join(listed[:-1])} or {listed[-1]}")
    return path.suffix[1:]
