"""Vectors in JSON lines: a row a line, a list of numbers or an object that has one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import IO, Any

import numpy as np

from farann.io.text import filled_lines, opened
from farann.io.vector_content import Array, Content, Fault, check_size, choose


def look_at_json_lines(path: Path, name: str | None, default: str, limit: int,
                       without: str | None) -> Content:
    """Find the field of lists of numbers, or the one called `name`, which may be of numbers."""
    with opened(path) as stream:
        lines = filled_lines(stream)
        first = next(((number, record) for number, record in _records(islice(lines, 1), 1)), None)
        rows = sum(1 for _ in lines) + (first is not None)
    record = [] if first is None else first[1]
    field = None
    if isinstance(record, dict):
        known = [one for one, value in record.items()
                 if _is_row(value) or (one == name and _is_number(value))]
        field = choose(path, "field of numbers", known, name, default)
        record = record[field]
    elif name is not None:
        raise Fault(f"lines are lists without names, got {name!r}")
    shape = (rows,) if _is_number(record) else (rows, len(record))
    whole = default == "ids" and _is_number(record)
    dtype = np.dtype(np.int64 if whole else np.float64)
    check_size(rows * dtype.itemsize * (shape[1] if len(shape) > 1 else 1), limit)

    def read(step: int) -> Iterator[Array]:
        with opened(path) as stream:
            lines, done = filled_lines(stream), 0
            while block := list(islice(lines, max(1, step))):
                yield np.array([_row(record, field, shape[1:], whole, number) for number, record
                                in _records(block, done + 1)], dtype).reshape(-1, *shape[1:])
                done += len(block)

    return Content(shape, dtype, read)


def id_field(path: Path) -> str | None:
    """The field `id` or `ids` of objects, where the first has an integer or a string there."""
    with opened(path) as stream:
        for _, record in _records(islice(filled_lines(stream), 1), 1):
            if isinstance(record, dict):
                return next((name for name in ("id", "ids")
                             if type(record.get(name)) in (int, str)), None)
    return None


def field_of_strings(path: Path, name: str) -> list[str] | None:
    """The field of a name, where its first value is a string."""
    with opened(path) as stream:
        found: list[str] = []
        for number, record in _records(filled_lines(stream), 1):
            value = record.get(name) if isinstance(record, dict) else None
            if number == 1 and not isinstance(value, str):
                return None
            if not isinstance(value, str):
                raise Fault(f"line {number}: expected a string in {name!r}, got {value!r:.40}")
            found.append(value)
    return found


def write_json_lines(stream: IO[bytes], array: Array, name: str | None) -> None:
    """Write rows, an object a line."""
    for row in array.tolist():
        stream.write((json.dumps({name or "vector": row}) + "\n").encode())


def _records(lines: Any, start: int) -> Iterator[tuple[int, Any]]:
    """Each line's number and what it holds."""
    for number, line in enumerate(lines, start):
        try:
            yield number, json.loads(line)
        except (ValueError, RecursionError) as error:
            raise Fault(f"line {number}: not valid JSON: {error}") from None


def _row(record: Any, field: str | None, shape: tuple[int, ...], whole: bool, number: int) -> Any:
    """The numbers of a line, of a shape."""
    value: Any = record
    if field is not None:
        value = record.get(field) if isinstance(record, dict) else None
    if not shape:
        if _is_number(value) and (not whole or isinstance(value, int)):
            return value
    elif _is_row(value) and len(value) == shape[0]:
        return value
    what = f"{shape[0]} numbers" if shape else "a whole number" if whole else "a number"
    raise Fault(f"line {number}: expected {what}, got {json.dumps(value):.40}")


def _is_row(value: Any) -> bool:
    return isinstance(value, list) and all(map(_is_number, value))


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
