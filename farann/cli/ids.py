"""Files of ids and labels, which may be strings, and of scores by ids."""

from __future__ import annotations

import os
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from farann.io.files import open_regular
from farann.io.text import SEPARATORS, text_lines
from farann.io.vector_content import Wanted, naming
from farann.io.vector_formats import columns_of, index_of, kinds_of
from farann.vectors import integers_of, open_vectors, read_id_lists, read_ids, split_name

Array = npt.NDArray[Any]
# Names, in lower case, of a first column that has ids.
_ID_NAMES = ("id", "ids", "index")  # beside lists of numbers that of any column
_IDS = ("", *_ID_NAMES, "unnamed: 0")
_COLUMNS_NAMED, _NAME_SHOWN = 8, 40  # columns in a message, and characters of the name of one


class Columns(NamedTuple):
    """What the columns of a table are taken for; `kinds` is empty where they have no names."""

    path: Path
    kinds: dict[str, type]
    ids: str | None = None
    without: tuple[str, ...] = ()  # those that are no coordinates
    doubtful: str | None = None  # a coordinate that is called as if it had ids

    @property
    def has_lists(self) -> bool:
        """Whether vectors are lists of numbers in one column."""
        return list in self.kinds.values()

    def coordinates(self) -> list[str]:
        """The columns that are one coordinate each."""
        return [] if self.has_lists else [one for one in self.kinds if one not in self.without]

    def __str__(self) -> str:
        ids = "ids are row numbers" if self.ids is None else f"ids from {listed([self.ids])}"
        return f"{ids}; {self.of_vectors()}"

    def of_vectors(self) -> str:
        """Where coordinates come from, and what is left out."""
        left = [one for one in self.without if one != self.ids]
        columns = "" if self.has_lists else f"coordinates {listed(self.coordinates())}"
        parts = [columns, f"left out {listed(left)}" if left else "",
                 f"{self.doubtful!r} is no first column and so a coordinate: --ids {self.doubtful} "
                 "takes it for ids" if self.doubtful else ""]
        return "; ".join(filter(None, parts)) or "vectors from lists of numbers"


def listed(names: Sequence[str]) -> str:
    """Names of columns for a message."""
    some = [repr(one if len(one) <= _NAME_SHOWN else one[:_NAME_SHOWN] + "...") if one
            else "the column without a name" for one in names[:_COLUMNS_NAMED]]
    more = len(names) - len(some)
    return ", ".join(some) + f" and {more} more" * (more > 0) if names else "none"


def columns_of_table(file: tuple[Path, str | None], named: str | None = None,
                     labels: str | None = None, *, keep: bool = False,
                     choose: bool = True) -> Columns:
    """Say which column of a table holds ids, and which are no coordinates.

    Ids are in the index of a frame of pandas, in the first column if it has no name or is called
    id, ids or index, beside lists of numbers in any column of that name, or else in the only column
    of words. `named`: the column of ids by request, `labels`: that of groups. `keep`: the first
    column is a coordinate, and ids are row numbers. `choose`: ids are looked for.
    """
    path, name = file
    kinds = kinds_of(path)
    if name is not None and list not in kinds.values():  # the one column that is wanted
        return Columns(path, {}, named, tuple(one for one in (named, labels) if one is not None))
    words = [name for name, kind in kinds.items() if kind is str and name != labels]
    index = [] if keep else [one for one in _index_of(path, kinds) if one != labels]
    first = index[0] if index else None
    column = named if named is not None or not choose else first
    if column is None and not keep and choose:
        if list in kinds.values():
            column = next((name for one in _ID_NAMES for name, kind in kinds.items() if (
                kind in (int, str) and name != labels and name.strip().lower() == one)), None)
        if len(words) > 1 and column is None:
            raise ValueError(
                f"{path}: columns {listed(words)} have words: say which one has the ids of rows "
                "(--ids NAME) and which their groups (--groups NAME of farann build), or --ids "
                "none for row numbers")
        if column is None and words:
            column = words[0]
    without = dict.fromkeys(one for one in (*index, column, labels, *words) if one is not None)
    made = Columns(path, kinds, column, tuple(without))
    if not keep:
        made = made._replace(doubtful=next((one for one in made.coordinates() if (
            one.strip().lower() in _ID_NAMES)), None))
    if kinds and not made.has_lists and not made.coordinates() and len(kinds) == len(without):
        raise ValueError(f"{path}: expected coordinates beside {listed([*without])}, got none"
                         + "; --ids none takes no column for ids" * (first is not None)
                         + "; fields are separated by commas or tabs, not by semicolons" * (
                             ";" in made.without[0]))
    return made


def _index_of(path: Path, kinds: dict[str, type]) -> list[str]:
    """The columns of a table that hold ids unless others are named; the first one that does."""
    return [*dict.fromkeys([one for one in [*kinds][:1] if one.strip().lower() in _IDS]
                           + index_of(path))]


def joined_ids(paths: list[Path], column: str, max_bytes: int | None) -> Array | list[str]:
    """A column of ids or labels of several files, one after the other."""
    parts = [_column(path, column, kinds_of(path), max_bytes) for path in paths]
    strings = {isinstance(part, list) for part in parts}
    if len(strings) > 1:
        raise ValueError(f"{paths[0]}: expected integers or strings in {column!r} of all files, "
                         "got both")
    return [*chain(*parts)] if True in strings else np.concatenate(parts)


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
        return [first, *columns_of(path, [first], max_bytes)[0]]
    with naming(path):
        name = Wanted(path, name, default).choose("column", kinds)
    return _column(path, name, kinds, max_bytes)


def _column(path: Path, name: str, kinds: dict[str, type],
            max_bytes: int | None) -> Array | list[str]:
    """A column of integers or strings."""
    if name not in kinds:
        with naming(path):
            Wanted(path, name, name).choose("column", kinds)
    if kinds[name] is float:
        raise ValueError(f"{path}: expected integers or words as ids or labels in {name!r}, got "
                         "fractions; --ids none takes no column for ids")
    if kinds[name] is int:
        return integers_of(path, name, max_bytes).ravel()
    column = columns_of(path, [name], max_bytes)[0]
    for row, one in enumerate(column):
        if not isinstance(one, str) or (kinds[name] is type(None) and not one.strip()):
            raise ValueError(f"{path}: row {row}: expected a string in {name!r}, got "
                             f"{'nothing' if one == '' else one}")
    return column


def read_scores(file: str, ids: Array, max_bytes: int | None) -> Array:
    """A score for each of some ids: joined by a column of ids, if the file has one; otherwise in
    the order of the ids."""
    path, name = split_name(file)
    if path.suffix.lower() == ".txt":
        with open_regular(path) as stream, naming(path):
            return np.loadtxt(stream, ndmin=1, comments=None)
    kinds = kinds_of(path)
    words = columns = [one for one, kind in kinds.items() if kind is str]
    index = [one for one in kinds if kinds[one] is int and one != name and (
        one in {"id", "ids", *_index_of(path, kinds)})]
    if ids.dtype != object:
        columns = index[:1]
    scores = open_vectors(file, ids=words + index, max_bytes=max_bytes).read().ravel()
    if len(columns) != 1:
        return scores
    named = joined_ids([path], columns[0], max_bytes)
    by_id = dict(zip(named, scores, strict=False))
    missing = [one for one in ids.tolist() if one not in by_id]
    if missing or not len(by_id) == len(named) == len(scores):
        raise ValueError(f"{path}: expected a score for each id, and each id once, got "
                         f"{len(scores)} scores of {len(set(named))} ids"
                         + (f", none for {missing[0]!r}" if missing else ""))
    return np.array([by_id[one] for one in ids.tolist()])


def read_lists(file: str, n: int | None, max_bytes: int | None, strings: bool) -> Any:
    """A list of ids for each of n queries; None: as many as there are.

    Of strings a line is a list, with tabs between them.
    """
    path = Path(file)
    if path.suffix == ".txt" and n and next(text_lines(path), None) is None:
        return [[] for _ in range(n)]  # an empty file excludes nothing
    if not strings:
        return read_id_lists(file, n, max_bytes=max_bytes)
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
