"""Compare all methods on real feedback, over several splits, with intervals over users."""

from __future__ import annotations

import datetime
import json
import shlex
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from farann import metrics

from .. import machine
from ..datasets import CACHE
from ..fetch import Unavailable
from ..run import RESULTS, commit
from . import methods
from .feedback import TEST, Ratings, load
from .models import MODELS, missing

OUT = RESULTS.with_name("posneg.jsonl")
K = 10
# The first split of the tables: those below were looked at while the ranker and the models were
# designed.
FIRST_SEED = 2000
_WEIGHTS = np.linspace(0.0, 1.0, 11)
LISTS = "naive average, lists of 100"
_BINS = 10
# Splits that the curves by weight are averaged over.
_SWEPT = 2

Wide = NDArray[np.float64]
Bools = NDArray[np.bool_]


class Judged(NamedTuple):
    """One number a user, NaN where it isn't defined.

    "shown" ranks what the user rated in the test split, where every label is known; only users
    with more than 10 such items count, as for others any order has the same first 10. "all"
    ranks all items but those rated in the other splits; what nobody rated counts as neither
    liked nor disliked.
    """

    shown_ndcg: Wide
    shown_disliked: Wide
    auc: Wide
    all_ndcg: Wide
    all_disliked: Wide


def judge(trained: methods.Trained, fused: Wide, everywhere: Wide | None = None, *,
          shown: bool = True) -> Judged:
    """Hold scores of all users and items against the test split.

    All items are ranked by `everywhere`, if that is given.
    """
    ratings = trained.ratings
    n_users = ratings.shape[0]
    test = trained.part == TEST
    labels = np.zeros(ratings.shape, np.int64)
    labels[ratings.users[test], ratings.items[test]] = ratings.labels[test]
    rated = labels != 0
    unseen = unseen_items(trained)
    found = [_top(fused if everywhere is None else everywhere, unseen)]
    liked = [np.flatnonzero(row > 0) for row in labels]
    disliked = [np.flatnonzero(row < 0) for row in labels]
    nothing = np.full(n_users, np.nan)
    numbers = [nothing, nothing, nothing]
    if shown:
        top = _top(fused, rated)
        many = rated.sum(axis=1) > K
        known = test & (ratings.labels != 0)
        users, items = ratings.users[known], ratings.items[known]
        auc = nothing.copy()
        auc[np.unique(users)] = metrics.auc_by_user(users, labels[users, items] > 0,
                                                    fused[users, items])
        numbers = [np.where(many, metrics.ndcg_at_k(top, liked, K), np.nan),
                   np.where(many, metrics.disliked_at_k(top, disliked, K), np.nan), auc]
    ndcg, below, auc = numbers
    return Judged(ndcg, below, auc, metrics.ndcg_at_k(found[0], liked, K),
                  metrics.disliked_at_k(found[0], disliked, K))


def unseen_items(trained: methods.Trained) -> Bools:
    """Items that a user has not rated before the test, (n_users, n_items)."""
    ratings = trained.ratings
    unseen = np.ones(ratings.shape, np.bool_)
    before = trained.part != TEST
    unseen[ratings.users[before], ratings.items[before]] = False
    return unseen


def _top(fused: Wide, among: Bools) -> NDArray[np.int64]:
    values = np.where(among, fused, -np.inf)
    top = np.argsort(-values, axis=1, kind="stable")[:, :K]
    return np.where(np.isneginf(np.take_along_axis(values, top, axis=1)), -1, top)


def run(names: list[str], seeds: range, cache: Path = CACHE, out: Path = OUT,
        command: list[str] | None = None, *, quality: bool = True, times: bool = True) -> Path:
    """Measure everything and append it to a file of JSON lines.

    `quality` compares the methods over the splits of these seeds, `times` measures them on the
    first split in one thread.
    """
    log = Log(out, command or [], seeds)
    reasons = {model: missing(model) for model in MODELS}
    usable = [model for model, reason in reasons.items() if not reason]
    for model, reason in reasons.items():
        if reason:
            print(f"left out: {model}: {reason}", file=sys.stderr)
            log.write({"kind": "skipped", "model": model, "reason": reason})
    total = len(names) * len(usable) * (quality * len(seeds) + times)
    with tqdm(total=total, desc="posneg", unit="split") as progress:
        for name, ratings in loaded(names, cache, log):
            for model in usable:
                about = {"dataset": name, "title": ratings.title, "model": model}
                if quality:
                    for line in _compare(ratings, model, seeds, progress):
                        log.write({**about, **line})
                if times:
                    trained = methods.train(ratings, model, seeds[0])
                    for method in methods.METHODS:
                        if method.models == methods.ORACLE:
                            continue
                        log.write({**about, "kind": "time", "method": method.name,
                                   "us": methods.microseconds(trained, method)})
                    progress.update()
    return out


def loaded(names: Iterable[str], cache: Path, log: Log) -> Iterator[tuple[str, Ratings]]:
    """Those sets that can be had, one after the other."""
    for name in names:
        try:
            ratings = load(name, cache)
        except Unavailable as error:
            tqdm.write(f"left out: {name}: {error}", file=sys.stderr)
            log.write({"kind": "skipped", "dataset": name, "reason": str(error)})
        else:
            yield name, ratings


class Log:
    """JSON lines of one run, appended to a file; the first tells the machine and the commit."""

    def __init__(self, path: Path, command: list[str], seeds: range) -> None:
        now = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
        self._path, self._run = path, f"{now:%Y%m%dT%H%M%S}"
        path.parent.mkdir(parents=True, exist_ok=True)
        self.write({"kind": "run", "time": now.isoformat(), "commit": commit(),
                    "seeds": [seeds.start, seeds.stop - 1],
                    "command": f"python -m bench {shlex.join(command)}".strip(),
                    "machine": machine.describe()})

    def write(self, line: dict[str, Any]) -> None:
        """Append one line."""
        with open(self._path, "a", encoding="utf-8") as file:
            file.write(json.dumps({"run": self._run, **line}) + "\n")


def _compare(ratings: Ratings, model: str, seeds: range, progress: Any) -> list[dict[str, Any]]:
    judged: dict[str, list[Judged]] = {}
    chances: dict[str, list[Chances]] = {}
    parts: dict[str, list[Chances]] = {"fused": [], "positive": [], "negative": []}
    sweep: list[list[Judged]] = []
    for seed in seeds:
        trained = methods.train(ratings, model, seed)
        test = (trained.part == TEST) & (ratings.labels != 0)
        users, items = ratings.users[test], ratings.items[test]
        liked = ratings.labels[test] > 0
        for method in methods.METHODS:
            scores = methods.scores_of(trained, method)
            judged.setdefault(method.name, []).append(
                judge(trained, scores.fused, scores.everywhere))
            if scores.probability is None:
                continue
            found = Chances(users, scores.probability[users, items], liked)
            chances.setdefault(method.name, []).append(found)
            if method.name == methods.DEFAULT:
                parts["fused"].append(found)
                for part, values, target in (("positive", scores.positive, liked),
                                             ("negative", scores.negative, ~liked)):
                    parts[part].append(Chances(users, values[users, items], target))
        lists = methods.naive_lists(trained, unseen_items(trained))
        judged.setdefault(LISTS, []).append(judge(trained, lists, shown=False))
        if seed < seeds.start + _SWEPT:
            sweep.append([judge(trained, methods.scores_of(
                trained, methods.Method("", methods.plain(float(weight)))).fused)
                          for weight in _WEIGHTS])
        progress.update()
    lines = [{"kind": "method", "method": method, **summary(judged, method, methods.RIVALS),
              **calibration_error(chances.get(method))} for method in judged]
    for part, of_part in parts.items():
        curve = metrics.reliability(np.concatenate([one.chance for one in of_part]),
                                    np.concatenate([one.target for one in of_part]), _BINS)
        lines.append({"kind": "reliability", "part": part,
                      **{key: value.tolist() for key, value in curve._asdict().items()}})
    for i, weight in enumerate(_WEIGHTS):
        means = {key: float(np.mean([np.nanmean(getattr(one[i], key)) for one in sweep]))
                 for key in Judged._fields}
        lines.append({"kind": "weight", "weight": float(weight), **means})
    return lines


def summary(judged: dict[str, list[Judged]], method: str,
            rivals: Mapping[str, str]) -> dict[str, Any]:
    """Means with intervals, and those of the differences on the same users."""
    numbers: dict[str, Any] = {}
    for key in Judged._fields:
        mine = by_user(judged[method], key)
        numbers[key] = list(metrics.mean_interval(mine))
        for name, other in rivals.items():
            if other in judged:
                difference = mine - by_user(judged[other], key)
                numbers[f"{key}_vs_{name}"] = list(metrics.mean_interval(difference))
    return numbers


def by_user(judged: list[Judged], key: str) -> Wide:
    """Each user's mean over the splits in which the number is defined."""
    values = np.array([getattr(one, key) for one in judged])
    known = ~np.isnan(values)
    total = np.where(known, values, 0.0).sum(axis=0)
    mean = np.full(values.shape[1], np.nan)
    np.divide(total, known.sum(axis=0), out=mean, where=known.any(axis=0))
    return mean


class Chances(NamedTuple):
    """Predictions on the test feedback of one split."""

    users: NDArray[np.int64]
    chance: Wide
    target: Bools


def calibration_error(chances: list[Chances] | None) -> dict[str, Any]:
    """Expected calibration error, averaged over splits, with an interval over users."""
    if not chances:
        return {"ece": None}
    every = max(int(one.users.max()) for one in chances) + 1
    # By how much predictions exceed what came, summed for each user and bin: samples of users
    # only weigh these sums.
    excess, counts = np.zeros((len(chances), every, _BINS)), np.zeros((len(chances), every))
    for split, one in enumerate(chances):
        at = np.minimum((one.chance * _BINS).astype(np.int64), _BINS - 1)
        np.add.at(excess[split], (one.users, at), one.chance - one.target)
        counts[split] = np.bincount(one.users, minlength=every)

    def error(users: NDArray[np.int64]) -> float:
        times = np.bincount(users, minlength=every)
        return float(np.mean(np.abs(times @ excess).sum(axis=1) / (counts @ times)))

    return {"ece": list(metrics.bootstrap_interval(error, every))}


# Sets that all fusions are compared on.
ALL = ["movielens-100k", "filmtrust"]
