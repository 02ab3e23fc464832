"""The command ``farann posneg evaluate``, and logs of feedback: user, item, liked or not."""

from __future__ import annotations

import argparse
import json
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from farann._types import BoolArray, Float64Array, Int64Array
from farann.adapters.posneg import Factorization, FusionRanker, SignedModel
from farann.cli.ids import columns_of_table, joined_ids, read_any_ids
from farann.cli.streams import printable
from farann.cli.terminal import blaming, counted, note
from farann.contract.checks import to_int
from farann.io.text import SEPARATORS
from farann.io.vector_formats import columns_of, kinds_of
from farann.vectors import files_of, open_vectors

SIGNS: dict[str, int | str] = {"likes": 1, "dislikes": -1, "both": "both"}
# Longer ids of users and items are refused if the log would take more characters than this.
_LONGEST_ID, _MOST_CHARACTERS = 256, 1 << 26
LABELS = ("label", "rating")  # columns that say whether an item was liked, if none is named
Column = list[Any]


class Log(NamedTuple):
    """Feedback, (n,) each."""

    users: npt.NDArray[np.str_]
    items: npt.NDArray[np.str_]
    liked: BoolArray
    times: Float64Array | None

    def take(self, rows: Int64Array | BoolArray) -> Log:
        """Some of it."""
        times = None if self.times is None else self.times[rows]
        return Log(self.users[rows], self.items[rows], self.liked[rows], times)


def posneg(arguments: argparse.Namespace) -> None:
    """Compare ways of ranking on the end of a log."""
    _check(arguments)
    log = _read_log(arguments)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always", UserWarning)
        if arguments.model:
            models = _models_of_files(arguments)
            ranker = FusionRanker(models)
            log = _known(arguments, log, ranker, "no row is for")
            before, test = _split(arguments, log)
            ranker.fit(before.users, before.items, before.liked, seed=arguments.seed)
        else:
            before, test = _split(arguments, log)
            trainer = Factorization(arguments.dim, seed=arguments.seed)
            ranker = FusionRanker(trainer).fit(before.users, before.items, before.liked,
                                               times=before.times, seed=arguments.seed)
            test = _known(arguments, test, ranker, "no model was trained on")
        judged = ranker.evaluate(test.users, test.items, test.liked, k=arguments.k)
    remarks = [str(warning.message) for warning in said
               if issubclass(warning.category, UserWarning)]
    if arguments.json:
        print(json.dumps({**judged.to_dict(), "labels": len(test.items), "warnings": remarks,
                          "models": [report._asdict() for report in ranker.report]}, indent=2))
        return
    print(printable(judged, keep="\n"))
    for remark in dict.fromkeys(remarks):
        note(arguments, remark)


def _check(arguments: argparse.Namespace) -> None:
    """Refuse arguments that would fail after minutes of work."""
    to_int("k", arguments.k, 1)
    if not 0 < arguments.test < 1:
        raise ValueError(f"--test: expected a share between 0 and 1, got {arguments.test:g}")
    for sign, _, _ in arguments.model or ():
        if sign not in SIGNS:
            raise ValueError(f"--model: expected {', '.join(SIGNS)}, got {sign!r}")
    if not arguments.model and (arguments.item_ids or arguments.user_ids):
        raise ValueError("--item-ids and --user-ids are for the rows of --model")


def _split(arguments: argparse.Namespace, log: Log) -> tuple[Log, Log]:
    """Split feedback for training and evaluation: by time, or some of each user's."""
    n = len(log.items)
    if log.times is not None:
        order = np.argsort(log.times, kind="stable")
        later = np.arange(n) >= round((1.0 - arguments.test) * n)
    else:
        random = np.random.default_rng(arguments.seed)
        numbers = np.unique(log.users, return_inverse=True)[1]
        order = np.lexsort((random.random(n), numbers))
        users = numbers[order]
        rank = np.arange(n) - np.searchsorted(users, users)
        later = (rank + 0.5) / np.bincount(users)[users] > 1.0 - arguments.test
    return log.take(order[~later]), log.take(order[later])


def _known(arguments: argparse.Namespace, log: Log, ranker: FusionRanker, why: str) -> Log:
    known: BoolArray = (np.isin(log.users.astype(object), ranker.user_ids)
                        & np.isin(log.items.astype(object), ranker.ids))
    lost = int((~known).sum())
    if lost:
        note(arguments, f"{counted(lost, 'label is', 'labels are')} about items or users that "
             f"{why}, and left out")
    if lost == len(known):
        raise ValueError(f"{arguments.log}: expected labels to judge by, got none")
    return log.take(known)


def _models_of_files(arguments: argparse.Namespace) -> list[SignedModel]:
    models: list[SignedModel] = []
    for sign, items, users in arguments.model:
        (rows, own), (people, own_users) = (
            _rows_and_ids(arguments, file, its_ids) for file, its_ids in (
                (items, arguments.item_ids), (users, arguments.user_ids)))
        sizes = len(rows), len(people)
        if models and sizes != (len(models[0].items), len(models[0].users)):
            raise ValueError(f"{items} and {users}: expected as many rows as in the first model, "
                             f"{len(models[0].items)} and {len(models[0].users)}, got {sizes[0]} "
                             f"and {sizes[1]}")
        # Ids are strings, as a log has them.
        ids, user_ids = ([*map(str, one)] for one in (own, own_users))
        with blaming(arguments, items=items, users=users, ids=arguments.item_ids):
            models.append(SignedModel(
                rows, people, SIGNS[sign], metric=arguments.metric, ids=ids, user_ids=user_ids,
                name=f"{sign} {len(models) + 1}"))
    return models


def _rows_and_ids(arguments: argparse.Namespace, file: str, ids: str | None) -> tuple[Any, Any]:
    """Vectors of a model, and their ids: of the file that has them, of a column, or numbers."""
    (path, name), *_ = files_of(file)
    table = columns_of_table((path, name), choose=ids is None)
    rows = open_vectors(file, ids=table.without, max_bytes=arguments.max_bytes).read()
    if ids is not None:
        return rows, read_any_ids(ids, arguments.max_bytes)
    if table.ids is not None:
        return rows, joined_ids([path], table.ids, arguments.max_bytes)
    return rows, range(len(rows))


# Logs


def _read_log(arguments: argparse.Namespace) -> Log:
    """Read a log; an error names the line that can't be one of a log."""
    path, columns = Path(arguments.log), arguments.columns
    if path.suffix not in (*SEPARATORS, ".parquet"):
        raise ValueError(f"{path}: unknown extension {path.suffix!r}; logs are .csv, .tsv or "
                         ".parquet")
    there = list(kinds_of(path))
    label = next((name for name in LABELS if name in there), LABELS[0])
    names = ["user", "item", label, *(["time"] if "time" in there else [])]
    if columns is not None and len(names := columns.split(",")) not in (3, 4):
        raise ValueError(f"--columns: expected the names of user, item, label and perhaps time, "
                         f"got {columns!r}")
    for name in names:
        if name not in there:
            raise ValueError(f"{path}: expected a column {name!r}, got {', '.join(there)}; "
                             "--columns says what they are called")
    values = columns_of(path, names, arguments.max_bytes)
    if not values[0]:
        raise ValueError(f"{path}: expected feedback, got none")
    labels = _numbers(path, "label", values[2])
    good, bad = _kinds(path, labels, arguments.liked, arguments.disliked)
    users, items = (_names(path, column) for column in values[:2])
    times = None if len(values) < 4 else _times(path, values[3])
    if neutral := int((~(good | bad)).sum()):
        note(arguments, f"{counted(neutral, 'rating is', 'ratings are')} neither likes nor "
             "dislikes and left out")
    return Log(users, items, good, times).take(good | bad)


def _kinds(path: Path, labels: Float64Array, liked: float | None,
           disliked: float | None) -> tuple[BoolArray, BoolArray]:
    """Which lines are likes, and which dislikes."""
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


def _names(path: Path, column: Column) -> npt.NDArray[np.str_]:
    """Ids of users or items as an array, in which each takes as much as the longest."""
    ids = [_id(path, row, value) for row, value in enumerate(column)]
    longest = max(map(len, ids))
    if longest > _LONGEST_ID and longest * len(ids) > _MOST_CHARACTERS:
        raise ValueError(f"{path}: row {max(range(len(ids)), key=lambda i: len(ids[i]))}: expected "
                         f"users and items of at most {_LONGEST_ID} characters, got {longest}")
    return np.array(ids)


def _id(path: Path, row: int, value: Any) -> str:
    if value is None or value == "" or value != value:
        raise ValueError(f"{path}: row {row}: expected a user and an item, got none")
    if isinstance(value, float) and value.is_integer():
        return str(int(value))  # of a column that pandas made float
    return str(value)


def _numbers(path: Path, what: str, values: Column) -> Float64Array:
    numbers = np.empty(len(values))
    for row, value in enumerate(values):
        try:
            numbers[row] = float(value)
        except (TypeError, ValueError):
            numbers[row] = np.nan
        if not np.isfinite(numbers[row]):
            raise ValueError(f"{path}: row {row}: expected a number as {what}, got {value!r}")
    return numbers


def _times(path: Path, values: Column) -> Float64Array:
    """Numbers, or dates as seconds."""
    try:
        return _numbers(path, "time", values)
    except ValueError as error:
        try:
            dates: npt.NDArray[Any] = np.array(values, "datetime64[us]")
        except (TypeError, ValueError):
            raise error from None
        seconds = np.where(np.isnat(dates), np.nan, dates.astype(np.float64))
        return _numbers(path, "time", seconds.tolist())
