"""Tables in text: CSV and TSV, perhaps below a line of names, and JSON lines."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator
from itertools import chain, islice, repeat
from pathlib import Path
from typing import IO, Any

import numpy as np

from farann.io.files import open_regular
from farann.io.vector_content import Array, Content, Fault, Wanted, check_size, naming

SEPARATORS = {".csv": ",", ".tsv": "\t"}
_LONGEST_LINE = 1 << 24  # characters of a line
# Columns from which names may be numbers alone, above fractions, and above integers.
_LEAST_NUMBERED, _MANY_NUMBERED = 3, 8
_INT64_DIGITS = 19  # of the largest number
# What tables write in the place of a value that is missing.
_MISSING = {"", "-", "?", ".", "na", "n/a", "nan", "nil", "none", "null"}


def _opened(path: Path, newline: str = "\n") -> io.TextIOWrapper:
    return io.TextIOWrapper(open_regular(path), "utf-8-sig", newline=newline)


def text_lines(path: Path) -> Iterator[str]:
    """The lines of a text, without their ends."""
    with _opened(path) as stream, naming(path):
        for line in stream:
            yield line.removesuffix("\n").removesuffix("\r")


def _filled_lines(stream: io.TextIOWrapper) -> Iterator[str]:
    """Lines that have something in them."""
    while line := stream.readline(_LONGEST_LINE):
        if len(line) == _LONGEST_LINE:
            raise Fault(f"expected lines of at most {_LONGEST_LINE} characters")
        if line := line.strip("\r\n"):
            yield line


# ---- commas or tabs ----


def look_at_text(wanted: Wanted) -> Content:
    """Find all columns but those of ids, or the one of a name; ids are integers."""
    path, separator = wanted.path, SEPARATORS[wanted.path.suffix.lower()]
    with _opened(path) as stream:
        lines = _filled_lines(stream)
        fields, values = (next(csv.reader(islice(lines, 1), delimiter=separator), [])
                          for _ in range(2))
        rows = bool(values) + sum(1 for _ in lines)
    numbers = list(map(_is_number, fields))
    if _is_numbered(fields, values):
        numbers = [False] * len(fields)
    has_names = not all(numbers)
    columns = _columns(wanted, fields if has_names else [])
    if columns is None and has_names and any(numbers):
        # Taken for names, a row with a missing value would be lost.
        word, value = fields[numbers.index(False)], fields[numbers.index(True)]
        raise Fault(f"line 1: expected numbers, or names of columns, got both: {word[:40]!r} and "
                    f"{value[:40]!r}")
    rows += bool(fields) and not has_names
    dim = len(fields) if columns is None else len(columns)
    dtype = np.dtype(np.int64 if wanted.default == "ids" else np.float64)

    def read(step: int) -> Iterator[Array]:
        with _opened(path) as stream:
            done = int(has_names)
            lines = islice(_filled_lines(stream), done, None)
            while block := list(islice(lines, max(1, step))):
                yield _numbers(block, separator, dtype, fields if has_names else [""] * len(fields),
                               columns, done)
                done += len(block)

    return Content((rows, dim), dtype, read)


def _columns(wanted: Wanted, names: list[str]) -> list[int] | None:
    """Numbers of columns, None for all of them."""
    left_out = wanted.name is None and bool(wanted.without)
    listed = wanted.without if left_out else (wanted.name,)
    if listed == (None,) and not (wanted.default == "ids" and "ids" in names):
        return None
    if not names:
        raise Fault(f"the first line has no names of columns, got {listed[0]!r}")
    chosen = {names.index(wanted._replace(name=one).choose("column", names)) for one in listed}
    return [at for at in range(len(names)) if (at in chosen) != left_out]


def _numbers(lines: list[str], separator: str, dtype: np.dtype[Any], names: list[str],
             columns: list[int] | None, done: int) -> Array:
    """Lines as an array; an error names a field that is no number, and its place."""
    width, wrong = len(names), "fields"
    try:
        numbers: Array = np.loadtxt(lines, dtype, delimiter=separator, comments=None, quotechar='"',
                                  usecols=columns, ndmin=2)
        if columns is not None or numbers.shape[1] == width:
            return numbers
    except (ValueError, OverflowError) as error:
        wrong = str(error)
    for number, fields in enumerate(csv.reader(lines, delimiter=separator), done + 1):
        if len(fields) != width:
            raise Fault(f"line {number}: expected {width} fields, got {len(fields)}")
        for at in range(width) if columns is None else columns:
            text = fields[at].strip()
            large = dtype.kind == "i" and len(text.lstrip("-0")) > _INT64_DIGITS
            if large or not (_is_integer if dtype.kind == "i" else _is_number)(text):
                what = ("an integer that int64 can hold" if large else "an integer"
                        if dtype.kind == "i" else "a number")
                where = f" in column {names[at]!r}" if names[at] else ""
                raise Fault(f"line {number}: expected {what}{where}, got {fields[at][:40]!r}")
    raise Fault(wrong)


def _records(path: Path) -> Iterator[list[str]]:
    """Fields of each line that has any; fields in quotes may hold line ends."""
    with _opened(path, newline="") as stream:
        yield from filter(None, csv.reader(stream, delimiter=SEPARATORS[path.suffix.lower()]))


def kinds_of_text(path: Path) -> dict[str, type]:
    """The first values of columns, by name; empty if the first line has numbers."""
    records = _records(path)
    names, values = next(records, []), next(records, [])
    if any(map(_is_number, names)) and not _is_numbered(names, values):
        return {}
    return dict(zip(names, map(_kind, chain(values, repeat(""))), strict=False))


def _is_numbered(names: list[str], values: list[str]) -> bool:
    """Whether a first line is that of a frame of pandas, 0, 1, 2, ..., perhaps behind no name.

    A row may begin so, too: names are above fractions, or are many and the next line doesn't go on.
    """
    if names[:1] == [""]:
        return len(names) > 1 and names[1:] == [*map(str, range(len(names) - 1))]
    n = len(names)
    if n < _LEAST_NUMBERED or len(values) != n or names != [*map(str, range(n))]:
        return False
    return not any(map(_is_integer, values)) or (
        n >= _MANY_NUMBERED and values != [*map(str, range(n, 2 * n))])


def begins_like_names(path: Path) -> bool:
    """Whether the first line is taken as a row, though a frame of pandas may have such names."""
    records = _records(path)
    names, values = next(records, []), next(records, [])
    return len(names) >= _LEAST_NUMBERED and names == [*map(str, range(len(names)))] and (
        not _is_numbered(names, values))


def _kind(text: str) -> type:
    if text.strip().lower() in _MISSING:
        return type(None)
    return int if _is_integer(text) else float if _is_number(text) else str


def columns_of_text(path: Path, names: list[str], limit: int) -> list[list[Any]]:
    """The values of some columns, as strings of at most `limit` bytes."""
    records, left = _records(path), limit
    head, columns = next(records, []), [list[str]() for _ in names]
    places = [head.index(name) for name in names]
    for number, row in enumerate(records, 2):
        if len(row) != len(head):
            raise Fault(f"line {number}: expected {len(head)} fields, as the first line has, got "
                        f"{len(row)}")
        for column, place in zip(columns, places, strict=True):
            column.append(row[place])
            left -= len(row[place])
        check_size(limit - left, limit, "text")
    return columns


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return "_" not in text


def _is_integer(text: str) -> bool:
    return text.strip().removeprefix("-").isdecimal()


def write_text(stream: IO[bytes], array: Array, name: str | None, separator: str) -> None:
    """Write rows, a line each; the shortest digits that give the numbers back."""
    if name is not None:
        raise ValueError(f"name: text is written without names, got {name!r}")
    for row in array:
        stream.write((separator.join(map(str, row)) + "\n").encode())


# ---- JSON lines ----


def look_at_json_lines(wanted: Wanted) -> Content:
    """Find the field of lists of numbers, or the one of a name, which may be of numbers."""
    with _opened(wanted.path) as stream:
        lines = _filled_lines(stream)
        first = list(_parsed(islice(lines, 1)))
        rows = sum(1 for _ in lines) + len(first)
    record, field = first[0] if first else [], None
    if isinstance(record, dict):
        known = [one for one, value in record.items()
                 if _is_row(value) or (one == wanted.name and _is_json_number(value))]
        field = wanted.choose("field of numbers", known)
        record = record[field]
    elif wanted.name is not None:
        raise Fault(f"lines are lists without names, got {wanted.name!r}")
    shape = (rows,) if _is_json_number(record) else (rows, len(record))
    whole = wanted.default == "ids" and _is_json_number(record)
    dtype = np.dtype(np.int64 if whole else np.float64)

    def read(step: int) -> Iterator[Array]:
        with _opened(wanted.path) as stream:
            lines, done = _filled_lines(stream), 0
            while block := list(islice(lines, max(1, step))):
                yield np.array([_row(record, field, shape[1:], whole, number) for number, record
                                in enumerate(_parsed(block, done), done + 1)],
                               dtype).reshape(-1, *shape[1:])
                done += len(block)

    return Content(shape, dtype, read)


def _parsed(lines: Iterable[str], done: int = 0) -> Iterator[Any]:
    """The fields of each line."""
    for number, line in enumerate(lines, done + 1):
        try:
            yield json.loads(line)
        except (ValueError, RecursionError) as error:
            raise Fault(f"line {number}: not valid JSON: {error}") from None


def _row(record: Any, field: str | None, shape: tuple[int, ...], whole: bool, number: int) -> Any:
    """The numbers of a line, of a shape."""
    value = record if field is None else _value(record, field)
    if not shape:
        if _is_json_number(value) and (not whole or isinstance(value, int)):
            return value
    elif _is_row(value) and len(value) == shape[0]:
        return value
    what = f"{shape[0]} numbers" if shape else "a whole number" if whole else "a number"
    raise Fault(f"line {number}: expected {what}, got {json.dumps(value):.40}")


def _value(record: Any, field: str) -> Any:
    return record.get(field) if isinstance(record, dict) else None


def _is_row(value: Any) -> bool:
    return isinstance(value, list) and all(map(_is_json_number, value))


def _is_json_number(value: Any) -> bool:
    return type(value) in (int, float)  # and not bool


def kinds_of_json_lines(path: Path) -> dict[str, type]:
    """The values of the first object's fields; lists are those of numbers."""
    with _opened(path) as stream:
        first = next(_parsed(_filled_lines(stream)), None)
    return {name: list if _is_row(value) else object if isinstance(value, list) else type(value)
            for name, value in first.items()} if isinstance(first, dict) else {}


def columns_of_json_lines(path: Path, names: list[str], limit: int) -> list[list[Any]]:
    """The values of some fields, at most `limit` bytes of strings; None where there is none."""
    columns, left = [list[Any]() for _ in names], limit
    with _opened(path) as stream:
        for record in _parsed(_filled_lines(stream)):
            for column, name in zip(columns, names, strict=True):
                column.append(value := _value(record, name))
                left -= len(value) if isinstance(value, str) else 0
            check_size(limit - left, limit, "text")
    return columns


def write_json_lines(stream: IO[bytes], array: Array, name: str | None) -> None:
    """Write rows, an object a line."""
    for row in array.tolist():
        stream.write((json.dumps({name or "vector": row}) + "\n").encode())
