"""Vectors in text: a row a line, with commas or tabs, perhaps below a line of names."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import IO, Any

import numpy as np

from farann.io.files import open_regular
from farann.io.vector_content import Array, Content, Fault, check_size, choose

SEPARATORS = {".csv": ",", ".tsv": "\t"}
_LONGEST_LINE = 1 << 24  # characters of a line
# What tables write in the place of a value that is missing.
_MISSING = {"", "-", "?", ".", "na", "n/a", "nan", "nil", "none", "null"}


def look_at_text(path: Path, name: str | None, default: str, limit: int,
                 without: str | None) -> Content:
    """Find all columns but one of ids, or the one called `name`; ids are integers."""
    separator = SEPARATORS[path.suffix.lower()]
    with opened(path) as stream:
        first = next(filled_lines(stream), "")
        fields = next(csv.reader([first], delimiter=separator), [])
        rows = sum(1 for _ in filled_lines(stream))
    numbers = list(map(_is_number, fields))
    has_names = not all(numbers)
    columns = _columns(path, fields if has_names else [], name, default, without)
    if columns is None and has_names and any(numbers):
        # Taken for names, a row with a missing value would be lost.
        word, value = fields[numbers.index(False)], fields[numbers.index(True)]
        raise Fault(f"line 1: expected numbers, or names of columns, got both: {word[:40]!r} and "
                    f"{value[:40]!r}")
    rows += bool(fields) and not has_names
    dim = len(fields) if columns is None else len(columns)
    dtype = np.dtype(np.int64 if default == "ids" else np.float64)
    check_size(rows * dim * dtype.itemsize, limit)

    def read(step: int) -> Iterator[Array]:
        with opened(path) as stream:
            lines = filled_lines(stream)
            next(islice(lines, int(has_names), int(has_names)), None)
            done = int(has_names)
            while block := list(islice(lines, max(1, step))):
                yield _numbers(block, separator, dtype, fields if has_names else [""] * len(fields),
                               columns, done)
                done += len(block)

    return Content((rows, dim), dtype, read)


def columns_of_words(path: Path) -> list[str]:
    """Names of the columns whose first value is a word, and no number or missing one."""
    records = _records(path)
    names, values = next(records, []), next(records, [])
    if any(map(_is_number, names)):
        return []
    return [name for name, value in zip(names, values, strict=False)
            if value.strip().lower() not in _MISSING and not _is_number(value)]


def text_column(path: Path, name: str) -> list[str] | None:
    """The column of a name, or the only one, where its first value is no integer."""
    rows = list(_records(path))
    if not rows or (name not in rows[0] and len(rows[0]) > 1):
        return None
    at = 0
    if name in rows[0]:
        at = rows.pop(0).index(name)
    for number, row in enumerate(rows, 1):
        if len(row) <= at:
            raise Fault(f"row {number}: expected a value of {name!r}, got none")
    return None if not rows or _is_integer(rows[0][at]) else [row[at] for row in rows]


def names_of(path: Path) -> list[str]:
    """The first line's fields, which may be names of columns."""
    return next(_records(path), [])


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Name the file in what is wrong with its text."""
    try:
        yield
    except Fault as fault:
        raise ValueError(f"{path}: {fault}") from None
    except UnicodeDecodeError:
        raise ValueError(f"{path}: expected text in UTF-8") from None
    except csv.Error as error:
        raise ValueError(f"{path}: {error}") from None


def write_text(stream: IO[bytes], array: Array, name: str | None, separator: str) -> None:
    """Write rows, a line each; the shortest digits that give the numbers back."""
    if name is not None:
        raise ValueError(f"name: text is written without names, got {name!r}")
    for row in array:
        stream.write((separator.join(map(str, row)) + "\n").encode())


def _columns(path: Path, names: list[str], name: str | None, default: str,
             without: str | None) -> list[int] | None:
    """Numbers of columns, None for all of them."""
    left_out = name is None and without is not None
    wanted = without if left_out else name
    if wanted is None and not (default == "ids" and "ids" in names):
        return None
    if not names:
        raise Fault(f"the first line has no names of columns, got {wanted!r}")
    chosen = names.index(choose(path, "column", names, wanted, default))
    return [at for at in range(len(names)) if (at == chosen) != left_out]


def opened(path: Path, newline: str = "\n") -> io.TextIOWrapper:
    return io.TextIOWrapper(open_regular(path), "utf-8-sig", newline=newline)


def _records(path: Path) -> Iterator[list[str]]:
    """Fields of each line that has any; fields in quotes may hold line ends."""
    with opened(path, newline="") as stream:
        yield from filter(None, csv.reader(stream, delimiter=SEPARATORS[path.suffix.lower()]))


def filled_lines(stream: io.TextIOWrapper) -> Iterator[str]:
    """Lines that have something in them."""
    while line := stream.readline(_LONGEST_LINE):
        if len(line) == _LONGEST_LINE:
            raise Fault(f"expected lines of at most {_LONGEST_LINE} characters")
        if line := line.strip("\r\n"):
            yield line


def _numbers(lines: list[str], separator: str, dtype: np.dtype[Any], names: list[str],
             columns: list[int] | None, done: int) -> Array:
    """Lines as an array; what is no number is named with its place."""
    width = len(names)
    try:
        found: Array = np.loadtxt(lines, dtype, delimiter=separator, comments=None, quotechar='"',
                                  usecols=columns, ndmin=2)
        wrong = None if columns is not None or found.shape[1] == width else "fields"
    except (ValueError, OverflowError) as error:
        wrong = str(error)
    if wrong is None:
        return found
    for number, fields in enumerate(csv.reader(lines, delimiter=separator), done + 1):
        if len(fields) != width:
            raise Fault(f"line {number}: expected {width} fields, got {len(fields)}")
        for at in range(width) if columns is None else columns:
            if not (_is_integer if dtype.kind == "i" else _is_number)(fields[at]):
                what = "an integer" if dtype.kind == "i" else "a number"
                where = f" in column {names[at]!r}" if names[at] else ""
                raise Fault(f"line {number}: expected {what}{where}, got {fields[at][:40]!r}")
    raise Fault(wrong)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return "_" not in text


def _is_integer(text: str) -> bool:
    return text.strip().removeprefix("-").isdecimal()
