"""Files of ids and labels, which may be strings."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from farann.io.files import open_regular
from farann.io.json_lines import field_of_strings, id_field
from farann.io.text import SEPARATORS, columns_of_words, names_of, naming, text_column
from farann.io.vector_content import Fault, choose, optional_package
from farann.vectors import read_ids, split_name

Array = npt.NDArray[Any]
_JSON_SUFFIXES = (".jsonl", ".ndjson")


def id_column(path: Path) -> str | None:
    """The only column of words in a table of numbers, or `id` or `ids` beside lists of numbers."""
    kind = path.suffix.lower()
    if kind in SEPARATORS:
        with naming(path):
            words = columns_of_words(path)
    elif kind == ".parquet":
        kinds = {field.name: str(field.type) for field in parquet_schema(path)}
        if any("list" in one for one in kinds.values()):
            return next((name for name in ("id", "ids")
                         if "string" in kinds.get(name, "") or "int" in kinds.get(name, "")), None)
        words = [name for name, one in kinds.items() if "string" in one]
    elif kind in _JSON_SUFFIXES:
        with naming(path):
            return id_field(path)
    else:
        return None
    if len(words) > 1:
        raise ValueError(f"{path}: columns {', '.join(map(repr, words))} have words: say which one "
                         "has the ids of rows (--ids NAME), and leave the others out of the file")
    return words[0] if words else None


def joined_ids(paths: list[Path], column: str, max_bytes: int | None) -> Array | list[str]:
    """A column of ids or labels of several files, one after the other."""
    found = [read_any_ids(f"{path}:{column}", max_bytes) for path in paths]
    if all(isinstance(part, list) for part in found):
        return [one for part in found for one in part]
    if any(isinstance(part, list) for part in found):
        raise ValueError(f"{paths[0]}: expected integers or strings in {column!r} of all files, "
                         "got both")
    return np.concatenate(found)


def read_any_ids(file: str | os.PathLike[str], max_bytes: int | None,
                 default: str = "ids") -> Array | list[str]:
    """Ids of rows, or labels: strings where the first of a text is no integer, or a column of
    Parquet has strings.

    In a .txt, a line is an id. `default` is the column or array of a file whose name has none.
    """
    path, name = split_name(file)
    kind = path.suffix.lower()
    if kind == ".txt":
        first = next(_lines(path), "")
        return read_ids(file) if _are_integers(first) else list(_lines(path))
    if kind in _JSON_SUFFIXES:
        with naming(path):
            words = field_of_strings(path, default if name is None else name)
        return read_ids(file, max_bytes=max_bytes) if words is None else words
    if kind != ".parquet" and kind not in SEPARATORS:
        return read_ids(file, max_bytes=max_bytes)
    with naming(path):
        name = _column_of(path, name, default)
        column = (_string_column(path, str(name)) if kind == ".parquet"
                  else text_column(path, default if name is None else name))
    if column is not None:
        return column
    return read_ids(file if name is None else f"{path}:{name}", max_bytes=max_bytes)


def _column_of(path: Path, name: str | None, default: str) -> str | None:
    """Which column to read; None for the only one of a text, whose first line may be an id."""
    if path.suffix.lower() == ".parquet":
        return choose(path, "column", parquet_schema(path).names, name, default)
    names = names_of(path)
    if name is None and (_are_integers(" ".join(names)) or len(names) == 1 != (default in names)):
        return None
    return choose(path, "column", names, name, default)


def read_allowed(file: str | os.PathLike[str], max_bytes: int | None) -> Array | list[str]:
    """Strings, one a line of a text or a column of a Parquet file, or a mask in any other."""
    path, _ = split_name(file)
    return list(_lines(path)) if path.suffix.lower() == ".txt" else read_any_ids(file, max_bytes)


def read_name_lists(file: str | os.PathLike[str], n: int | None) -> list[list[str]]:
    """For each of n queries a line of strings with tabs between them; None: as many as there are.
    """
    path = Path(file)
    if path.suffix != ".txt":
        raise ValueError(f"{path}: expected .txt with a line a query and tabs between ids, as the "
                         "index has string ids")
    lists = [[word for word in line.split("\t") if word] for line in _lines(path)]
    if n is not None and len(lists) != n:
        raise ValueError(f"{path}: expected a list for each query ({n}), got {len(lists)}")
    return lists


def _lines(path: Path) -> Iterator[str]:
    with io.TextIOWrapper(open_regular(path), "utf-8-sig", newline="\n") as stream, naming(path):
        for line in stream:
            yield line.removesuffix("\n").removesuffix("\r")


def _are_integers(line: str) -> bool:
    try:
        return all(int(word) is not None for word in line.replace(",", " ").split())
    except ValueError:
        return False


def _string_column(path: Path, name: str) -> list[str] | None:
    """A column of strings; None where there is none of that name."""
    schema = parquet_schema(path)
    if name not in schema.names or "string" not in str(schema.field(name).type):
        return None
    column = parquet_columns(path, [name])[0]
    for row, one in enumerate(column):
        if not isinstance(one, str):
            raise Fault(f"row {row}: expected a string in {name!r}, got {one}")
    return column


def parquet_schema(path: Path) -> Any:
    """pyarrow's schema of a Parquet file."""
    return _of_parquet(path, lambda file: file.schema_arrow)


def parquet_columns(path: Path, names: list[str]) -> list[list[Any]]:
    """Some columns of a Parquet file."""
    table = _of_parquet(path, lambda file: file.read(names))
    return [table[name].to_pylist() for name in names]


def _of_parquet(path: Path, take: Callable[[Any], Any]) -> Any:
    parquet = optional_package("pyarrow.parquet", path)
    with open_regular(path) as stream:
        try:
            return take(parquet.ParquetFile(stream))
        except (OSError, ValueError) as error:
            raise ValueError(f"{path}: not a Parquet file that can be read: {error}") from None
