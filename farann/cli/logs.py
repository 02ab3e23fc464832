"""Logs of feedback: who was shown what, and whether it was liked."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from farann._types import BoolArray, Float64Array, Int64Array
from farann.cli.names import parquet_columns, parquet_schema
from farann.io.files import open_regular
from farann.io.text import SEPARATORS, naming

LABELS = ("label", "rating")
Column = list[Any]


class Log(NamedTuple):
    """Feedback, (n,) each.

    Attributes
    ----------
    users, items : str
    liked : bool
    times : float64 or None
    neutral : int
        Lines that were left out, as they are neither likes nor dislikes.
    """

    users: npt.NDArray[np.str_]
    items: npt.NDArray[np.str_]
    liked: BoolArray
    times: Float64Array | None
    neutral: int

    def take(self, rows: Int64Array) -> Log:
        """Some of it."""
        times = None if self.times is None else self.times[rows]
        return Log(self.users[rows], self.items[rows], self.liked[rows], times, self.neutral)


def read_log(file: str, columns: str | None, liked: float | None, disliked: float | None) -> Log:
    """Read a log; what can't be one is an error that names the line."""
    path = Path(file)
    if path.suffix not in (*SEPARATORS, ".parquet"):
        raise ValueError(f"{path}: unknown extension {path.suffix!r}; logs are .csv, .tsv or "
                         ".parquet")
    names = None if columns is None else columns.split(",")
    if names is not None and len(names) not in (3, 4):
        raise ValueError(f"--columns: expected the names of user, item, label and perhaps time, "
                         f"got {columns!r}")
    if path.suffix == ".parquet":
        found = parquet_columns(path, _chosen(path, names, parquet_schema(path).names))
    else:
        found = _text(path, SEPARATORS[path.suffix], names)
    if not found[0]:
        raise ValueError(f"{path}: expected feedback, got none")
    labels = _numbers(path, "label", found[2])
    good, bad = _kinds(path, labels, liked, disliked)
    kept = good | bad
    times = None if len(found) < 4 else _times(path, found[3])[kept]
    users, items = (np.array([_id(path, i, value) for i, value in enumerate(column)])[kept]
                    for column in found[:2])
    return Log(users, items, good[kept], times, int((~kept).sum()))


def _kinds(path: Path, labels: Float64Array, liked: float | None,
           disliked: float | None) -> tuple[BoolArray, BoolArray]:
    if liked is not None or disliked is not None:
        if liked is None or disliked is None or liked <= disliked:
            raise ValueError("--liked and --disliked: expected both, and that of likes above that "
                             f"of dislikes, got {liked} and {disliked}")
        return labels >= liked, labels <= disliked
    if np.isin(labels, (0.0, 1.0)).all() or np.isin(labels, (-1.0, 1.0)).all():
        return labels == 1.0, labels != 1.0
    raise ValueError(f"{path}: expected labels of 0 and 1, or -1 and 1, got {labels.min():g} to "
                     f"{labels.max():g}; for ratings give --liked and --disliked, say --liked 4 "
                     "--disliked 2")


def _chosen(path: Path, names: list[str] | None, there: list[str]) -> list[str]:
    """Names of the columns to read."""
    if names is None:
        label = next((name for name in LABELS if name in there), LABELS[0])
        names = ["user", "item", label, *(["time"] if "time" in there else [])]
    lacking = [name for name in names if name not in there]
    if lacking:
        raise ValueError(f"{path}: expected a column {lacking[0]!r}, got {', '.join(there)}; "
                         "--columns says what they are called")
    return names


def _text(path: Path, separator: str, names: list[str] | None) -> list[Column]:
    with io.TextIOWrapper(open_regular(path), "utf-8-sig", newline="") as stream, naming(path):
        rows = csv.reader(stream, delimiter=separator)
        header = next(rows, [])
        at = [header.index(name) for name in _chosen(path, names, header)]
        columns: list[Column] = [[] for _ in at]
        for number, row in enumerate(rows, 2):
            if not row:
                continue
            if len(row) != len(header):
                raise ValueError(f"{path}: line {number}: expected {len(header)} fields, as the "
                                 f"header has, got {len(row)}")
            for column, place in zip(columns, at, strict=True):
                column.append(row[place])
    return columns


def _id(path: Path, row: int, value: Any) -> str:
    if value is None or value == "" or value != value:
        raise ValueError(f"{path}: row {row}: expected a user and an item, got none")
    if isinstance(value, float) and value.is_integer():
        return str(int(value))  # of a column that pandas made float
    return str(value)


def _numbers(path: Path, what: str, values: Column) -> Float64Array:
    found = np.empty(len(values))
    for row, value in enumerate(values):
        try:
            found[row] = float(value)
        except (TypeError, ValueError):
            found[row] = np.nan
        if not np.isfinite(found[row]):
            raise ValueError(f"{path}: row {row}: expected a number as {what}, got {value!r}")
    return found


def _times(path: Path, values: Column) -> Float64Array:
    """Numbers, or dates as seconds."""
    try:
        return _numbers(path, "time", values)
    except ValueError as error:
        try:
            found: npt.NDArray[Any] = np.array(values, "datetime64[us]")
        except (TypeError, ValueError):
            raise error from None
        if np.isnat(found).any():
            raise ValueError(f"{path}: row {int(np.isnat(found).argmax())}: expected a time, got "
                             "none") from None
        return found.astype(np.float64)
