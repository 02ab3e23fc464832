"""Files of ids and labels, which may be strings, and of scores by ids."""

from __future__ import annotations

import os
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from farann.io.files import open_regular
from farann.io.text import SEPARATORS, text_lines
from farann.io.vector_content import Wanted, naming
from farann.io.vector_formats import columns_of, kinds_of
from farann.vectors import open_vectors, read_id_lists, read_ids, split_name

Array = npt.NDArray[Any]


def columns_of_words(path: Path) -> list[str]:
    """The names of the columns of a table that have words."""
    return [name for name, kind in kinds_of(path).items() if kind is str]


def id_column(path: Path, labels: str | None = None) -> str | None:
    """The only column of words but `labels` in a table of numbers; `id` or `ids` beside lists."""
    kinds = kinds_of(path)
    if list in kinds.values():
        return next((name for name in ("id", "ids") if kinds.get(name) in (int, str)), None)
    words = [name for name in columns_of_words(path) if name != labels]
    if len(words) > 1:
        raise ValueError(f"{path}: columns {', '.join(map(repr, words))} have words: say which one "
                         "has the ids of rows (farann build --ids NAME) and which their groups "
                         "(--groups NAME), and leave the others out of the file")
    return words[0] if words else None


def joined_ids(paths: list[Path], column: str, max_bytes: int | None) -> Array | list[str]:
    """A column of ids or labels of several files, one after the other."""
    found = [read_any_ids(f"{path}:{column}", max_bytes) for path in paths]
    strings = {isinstance(part, list) for part in found}
    if len(strings) > 1:
        raise ValueError(f"{paths[0]}: expected integers or strings in {column!r} of all files, "
                         "got both")
    return [*chain(*found)] if True in strings else np.concatenate(found)


def read_any_ids(file: str | os.PathLike[str], max_bytes: int | None, default: str = "ids",
                 strings: bool | None = None) -> Array | list[str]:
    """Ids of rows, or labels, or a mask; in a .txt, a line is an id.

    `default` is the column or array of a file whose name has none. `strings`: whether the ids are
    strings; None: if the first one in a text or a table is no integer.
    """
    path, name = split_name(file)
    if path.suffix.lower() == ".txt":
        if strings is None:
            strings = not _are_integers(next(text_lines(path), ""))
        return list(text_lines(path)) if strings else read_ids(file)
    kinds = kinds_of(path)
    if not kinds:
        return read_ids(file, max_bytes=max_bytes)
    if name is None and default not in kinds and len(kinds) == 1 and strings is not False and (
            path.suffix.lower() in SEPARATORS):
        (first,) = kinds  # it may be an id, too
        return [first, *columns_of(path, [first])[0]]
    with naming(path):
        name = Wanted(path, name, default).choose("column", kinds)
    if kinds[name] is int:
        return read_ids(f"{path}:{name}", max_bytes=max_bytes)
    column = columns_of(path, [name])[0]
    for row, one in enumerate(column):
        if not isinstance(one, str):
            raise ValueError(f"{path}: row {row}: expected a string in {name!r}, got {one}")
    return column


def read_scores(file: str, ids: Array, max_bytes: int | None) -> Array:
    """A score for each of some ids: joined by a column of ids, if the file has one; otherwise in
    the order of the ids."""
    path, name = split_name(file)
    if path.suffix.lower() == ".txt":
        with open_regular(path) as stream, naming(path):
            return np.loadtxt(stream, ndmin=1, comments=None)
    words = columns = columns_of_words(path)
    if ids.dtype != object:
        columns = [one for one in ("id", "ids") if kinds_of(path).get(one) is int and one != name]
    scores = open_vectors(file, ids=words + columns, max_bytes=max_bytes).read().ravel()
    if len(columns) != 1:
        return scores
    found = joined_ids([path], columns[0], max_bytes)
    by_id = dict(zip(found, scores, strict=False))
    missing = [one for one in ids.tolist() if one not in by_id]
    if missing or not len(by_id) == len(found) == len(scores):
        raise ValueError(f"{path}: expected a score for each id, and each id once, got "
                         f"{len(scores)} scores of {len(set(found))} ids"
                         + (f", none for {missing[0]!r}" if missing else ""))
    return np.array([by_id[one] for one in ids.tolist()])


def read_lists(file: str, n: int | None, max_bytes: int | None, strings: bool) -> Any:
    """A list of ids for each of n queries; None: as many as there are.

    Of strings a line is a list, with tabs between them.
    """
    if not strings:
        return read_id_lists(file, n, max_bytes=max_bytes)
    path = Path(file)
    if path.suffix != ".txt":
        raise ValueError(f"{path}: expected .txt with a line a query and tabs between ids, as the "
                         "index has string ids")
    lists = [[word for word in line.split("\t") if word] for line in text_lines(path)]
    if n is not None and len(lists) != n:
        raise ValueError(f"{path}: expected a list for each query ({n}), got {len(lists)}")
    return lists


def _are_integers(line: str) -> bool:
    try:
        return all(int(word) is not None for word in line.replace(",", " ").split())
    except ValueError:
        return False
