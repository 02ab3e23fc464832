"""What ``farann posneg evaluate`` does."""

from __future__ import annotations

import argparse
import json
import warnings

import numpy as np

from farann._types import BoolArray, Int64Array
from farann.adapters.posneg import Factorization, FusionRanker, SignedModel
from farann.cli.logs import Log, read_log
from farann.cli.names import read_any_ids
from farann.cli.terminal import counted, note
from farann.vectors import open_vectors

__all__ = ["posneg"]

SIGNS: dict[str, int | str] = {"likes": 1, "dislikes": -1, "both": "both"}
# Parts of the log in turn that models trained here don't see.
FOLDS = 5


def posneg(arguments: argparse.Namespace) -> int:
    """Compare ways of ranking on the end of a log."""
    _check(arguments)
    log = read_log(arguments.log, arguments.columns, arguments.liked, arguments.disliked)
    if log.neutral:
        note(arguments, f"{counted(log.neutral, 'rating is', 'ratings are')} neither likes nor "
             "dislikes and left out")
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
                                               cv=_folds(before), seed=arguments.seed)
            test = _known(arguments, test, ranker, "no model was trained on")
        found = ranker.evaluate(test.users, test.items, test.liked, k=arguments.k)
        wrong = ranker.diagnose(test.users, test.items, test.liked)
    remarks = [str(warning.message) for warning in said
               if issubclass(warning.category, UserWarning)]
    if arguments.json:
        print(json.dumps({**found.to_dict(), "labels": len(test.items), "warnings": remarks,
                          "models": [report._asdict() for report in ranker.report],
                          "findings": [finding._asdict() for finding in wrong]}, indent=2))
        return 0
    print(found)
    for finding in wrong:
        print(f"\n{finding.kind}: {finding.message}")
    for remark in dict.fromkeys(remarks):
        note(arguments, remark)
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


def _split(arguments: argparse.Namespace, log: Log) -> tuple[Log, Log]:
    """What is learned from, and what is judged by: the last of it, or some of each user's."""
    n = len(log.items)
    if log.times is not None:
        order = np.argsort(log.times, kind="stable")
        first = round((1.0 - arguments.test) * n)
        return log.take(order[:first]), log.take(order[first:])
    random = np.random.default_rng(arguments.seed)
    numbers = np.unique(log.users, return_inverse=True)[1]
    order = np.lexsort((random.random(n), numbers))
    users = numbers[order]
    rank = np.arange(n) - np.searchsorted(users, users)
    later = (rank + 0.5) / np.bincount(users)[users] > 1.0 - arguments.test
    return log.take(order[~later]), log.take(order[later])


def _folds(log: Log) -> int | list[tuple[Int64Array, Int64Array]]:
    """Folds at random, or for a log in the order of time each part after those before it."""
    if log.times is None:
        return FOLDS
    parts = np.array_split(np.arange(len(log.items)), FOLDS + 1)
    return [(np.concatenate(parts[:i]), parts[i]) for i in range(1, FOLDS + 1)]


def _known(arguments: argparse.Namespace, log: Log, ranker: FusionRanker, why: str) -> Log:
    known: BoolArray = (np.isin(log.users.astype(object), ranker.user_ids)
                        & np.isin(log.items.astype(object), ranker.ids))
    lost = int((~known).sum())
    if lost:
        note(arguments, f"{counted(lost, 'label is', 'labels are')} about items or users that "
             f"{why}, and left out")
    if lost == len(known):
        raise ValueError(f"{arguments.log}: expected labels to judge by, got none")
    return log.take(np.flatnonzero(known))


def _models_of_files(arguments: argparse.Namespace) -> list[SignedModel]:
    models: list[SignedModel] = []
    for sign, items, users in arguments.model:
        rows, people = (open_vectors(file, max_bytes=arguments.max_bytes).read()
                        for file in (items, users))
        sizes = len(rows), len(people)
        if models and sizes != (len(models[0].items), len(models[0].users)):
            raise ValueError(f"{items} and {users}: expected as many rows as in the first model, "
                             f"{len(models[0].items)} and {len(models[0].users)}, got {sizes[0]} "
                             f"and {sizes[1]}")
        models.append(SignedModel(
            rows, people, SIGNS[sign], metric=arguments.metric,
            name=f"{sign} {len(models) + 1}",
            ids=_names(arguments, arguments.item_ids, len(rows)),
            user_ids=_names(arguments, arguments.user_ids, len(people))))
    return models


def _names(arguments: argparse.Namespace, file: str | None, n: int) -> list[str]:
    """Ids of rows as a log has them."""
    names = list(map(str, range(n) if file is None else read_any_ids(file, arguments.max_bytes)))
    if len(names) != n:
        raise ValueError(f"{file}: expected an id for each row ({n}), got {len(names)}")
    if len(set(names)) < n:
        raise ValueError(f"{file}: expected each id once, got {n - len(set(names))} again")
    return names
