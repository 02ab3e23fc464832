"""What ``farann posneg evaluate`` does."""

from __future__ import annotations

import argparse
import json
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from farann._types import BoolArray, Float64Array, Int64Array
from farann.adapters.posneg import Factorization, FusionRanker, SignedModel, cross_fit
from farann.adapters.posneg.calibration import sklearn_module
from farann.adapters.posneg.plotting import suffix_of
from farann.cli.commands import check_output
from farann.cli.logs import Log, read_log
from farann.cli.names import read_any_ids
from farann.cli.terminal import counted, note
from farann.io.vector_content import optional_package
from farann.vectors import open_vectors

__all__ = ["posneg"]

SIGNS: dict[str, int | str] = {"likes": 1, "dislikes": -1, "both": "both"}
# Parts of the log in turn that models trained here don't see.
FOLDS = 5


class Feedback(NamedTuple):
    """A log in numbers of users and items, (n,) each."""

    users: Int64Array
    items: Int64Array
    liked: BoolArray
    times: Float64Array | None

    def take(self, rows: npt.NDArray[Any]) -> Feedback:
        """Some of it."""
        times = None if self.times is None else self.times[rows]
        return Feedback(self.users[rows], self.items[rows], self.liked[rows], times)


def posneg(arguments: argparse.Namespace) -> int:
    """Compare ways of ranking on the end of a log."""
    _check(arguments)
    log = read_log(arguments.log, arguments.columns, arguments.liked, arguments.disliked)
    if log.neutral:
        note(arguments, f"{counted(log.neutral, 'rating is', 'ratings are')} neither likes nor "
             "dislikes and left out")
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always", UserWarning)
        compare = _of_files if arguments.model else _trained
        ranker, queries, test = compare(arguments, log)
        found = ranker.evaluate(queries, test.items, test.liked, users=test.users, k=arguments.k)
        wrong = ranker.diagnose(queries, test.items, test.liked, users=test.users)
    remarks = [str(warning.message) for warning in said
               if issubclass(warning.category, UserWarning)]
    if arguments.json:
        print(json.dumps({**found.to_dict(), "labels": len(test.items), "warnings": remarks,
                          "findings": [finding._asdict() for finding in wrong]}, indent=2))
    else:
        print(found)
        for finding in wrong:
            print(f"\n{finding.kind}: {finding.message}")
        for remark in remarks:
            note(arguments, remark)
    if arguments.plot is not None:
        found.plot(arguments.plot)
    return 0


def _check(arguments: argparse.Namespace) -> None:
    """Refuse now what would fail after minutes of work."""
    if not 0 < arguments.test < 1:
        raise ValueError(f"--test: expected a share between 0 and 1, got {arguments.test:g}")
    for sign, _, _ in arguments.model:
        if sign not in SIGNS:
            raise ValueError(f"--model: expected {', '.join(SIGNS)}, got {sign!r}")
    if not arguments.model and (arguments.item_ids or arguments.user_ids):
        raise ValueError("--item-ids and --user-ids are for the rows of --model")
    if arguments.plot is not None:
        suffix_of(arguments.plot)
        check_output(Path(arguments.plot), arguments.log)
        optional_package("matplotlib.figure", arguments.plot)


def _split(arguments: argparse.Namespace, feedback: Feedback) -> tuple[Feedback, Feedback]:
    """What is learned from, and what is judged by: the last of it, or some of each user's."""
    n = len(feedback.items)
    if feedback.times is not None:
        order = np.argsort(feedback.times, kind="stable")
        first = round((1.0 - arguments.test) * n)
        return feedback.take(order[:first]), feedback.take(order[first:])
    random = np.random.default_rng(arguments.seed)
    order = np.lexsort((random.random(n), feedback.users))
    users = feedback.users[order]
    rank = np.arange(n) - np.searchsorted(users, users)
    later = (rank + 0.5) / np.bincount(users)[users] > 1.0 - arguments.test
    return feedback.take(order[~later]), feedback.take(order[later])


def _trained(arguments: argparse.Namespace, log: Log) -> tuple[FusionRanker, Any, Feedback]:
    """Models of all but the end of the log."""
    names, users = np.unique(log.users, return_inverse=True)
    _, items = np.unique(log.items, return_inverse=True)
    before, test = _split(arguments, Feedback(users, items, log.liked, log.times))
    cv: Any = FOLDS
    if before.times is not None:
        cv = sklearn_module("model_selection").TimeSeriesSplit(FOLDS)
    fitted = cross_fit(Factorization(len(names), dim=arguments.dim, seed=arguments.seed),
                       before.users, before.items, before.liked, cv=cv, times=before.times,
                       seed=arguments.seed)
    known = np.isin(test.items, before.items)
    return fitted.ranker, fitted.queries, _known(arguments, test, known, "no model was trained on")


def _known(arguments: argparse.Namespace, feedback: Feedback, known: BoolArray,
           why: str) -> Feedback:
    lost = int((~known).sum())
    if lost:
        note(arguments, f"{counted(lost, 'label is', 'labels are')} about items or users that "
             f"{why}, and left out")
    if lost == len(known):
        raise ValueError(f"{arguments.log}: expected labels to judge by, got none")
    return feedback.take(known)


def _of_files(arguments: argparse.Namespace, log: Log) -> tuple[FusionRanker, Any, Feedback]:
    """Models of files, calibrated on all but the end of the log."""
    models: list[SignedModel] = []
    queries: list[npt.NDArray[Any]] = []
    for sign, items, users in arguments.model:
        rows, asked = (open_vectors(file, max_bytes=arguments.max_bytes).read()
                       for file in (items, users))
        if queries and len(asked) != len(queries[0]):
            raise ValueError(f"{users}: expected a row for each user ({len(queries[0])}), got "
                             f"{len(asked)}")
        if models and len(rows) != len(models[0].rows):
            raise ValueError(f"{items}: expected a row for each item ({len(models[0].rows)}), "
                             f"got {len(rows)}")
        models.append(SignedModel(rows, SIGNS[sign], metric=arguments.metric))
        queries.append(asked)
    users_at = _places(arguments, arguments.user_ids, len(queries[0]), log.users)
    items_at = _places(arguments, arguments.item_ids, len(models[0].rows), log.items)
    known = (users_at >= 0) & (items_at >= 0)
    given = _known(arguments, Feedback(users_at, items_at, log.liked, log.times), known,
                   "no row is for")
    before, test = _split(arguments, given)
    ranker = FusionRanker(models)
    ranker.fit(queries, before.items, before.liked, users=before.users, seed=arguments.seed)
    return ranker, queries, test


def _places(arguments: argparse.Namespace, file: str | None, n: int,
            wanted: npt.NDArray[np.str_]) -> Int64Array:
    """Rows of what a log speaks of; -1 where there is none."""
    ids = range(n) if file is None else read_any_ids(file, arguments.max_bytes)
    if len(ids) != n:
        raise ValueError(f"{file}: expected an id for each row ({n}), got {len(ids)}")
    at = {str(one): row for row, one in enumerate(ids)}
    if len(at) < n:
        raise ValueError(f"{file}: expected each id once, got {n - len(at)} again")
    names, where = np.unique(wanted, return_inverse=True)
    return np.array([at.get(str(name), -1) for name in names], np.int64)[where]
