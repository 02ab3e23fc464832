"""Does the ranker pay? Its five models on many sets of ratings, beside the best single one."""

from __future__ import annotations

import datetime
import json
import shlex
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from farann import metrics
from farann.adapters.posneg import Factorization, FusionRanker

from .. import machine
from ..datasets import CACHE
from ..fetch import Unavailable
from ..run import RESULTS, commit
from .feedback import TEST, Ints, Ratings, load

OUT = RESULTS.with_name("posneg.jsonl")
K = 10
# The first split of the tables; those below were looked at while the ranker was designed.
FIRST_SEED = 3000
# By time, the last of each user's ratings are left out so far before the next split.
_LATER = 0.1
RANKER, POSITIVE, RECORD, NAIVE = "ranker", "positive", "items' record", "average of raw scores"

Wide = NDArray[np.float64]
Bools = NDArray[np.bool_]


class Judged(NamedTuple):
    """One number a user, NaN where it isn't defined.

    "shown" ranks what the user rated in the test split, where every label is known; only users
    with more than 10 such items count, as for others any order has the same first 10. "all"
    ranks all items but those rated in the other splits; what nobody rated counts as neither
    liked nor disliked.
    """

    auc: Wide
    shown_disliked: Wide
    all_ndcg: Wide
    all_disliked: Wide


class Way(NamedTuple):
    """Scores of all users and items, among items shown and among all."""

    shown: Wide
    everywhere: Wide


def judge(ratings: Ratings, part: Ints, way: Way) -> Judged:
    """Hold scores against the test split."""
    test = part == TEST
    labels, unseen = np.zeros(ratings.shape, np.int64), np.ones(ratings.shape, np.bool_)
    labels[ratings.users[test], ratings.items[test]] = ratings.labels[test]
    unseen[ratings.users[~test], ratings.items[~test]] = False
    liked, disliked = ([np.flatnonzero(row == label) for row in labels] for label in (1, -1))
    known = test & (ratings.labels != 0)
    users, items = ratings.users[known], ratings.items[known]
    auc = np.full(len(labels), np.nan)
    auc[np.unique(users)] = metrics.auc_by_user(users, labels[users, items] > 0,
                                                way.shown[users, items])
    shown, everywhere = _top(way.shown, labels != 0), _top(way.everywhere, unseen)
    many = (labels != 0).sum(axis=1) > K
    return Judged(auc, np.where(many, metrics.disliked_at_k(shown, disliked, K), np.nan),
                  metrics.ndcg_at_k(everywhere, liked, K),
                  metrics.disliked_at_k(everywhere, disliked, K))


def _top(scores: Wide, among: Bools) -> Ints:
    values = np.where(among, scores, -np.inf)
    top = np.argsort(-values, axis=1, kind="stable")[:, :K]
    return np.where(np.isneginf(np.take_along_axis(values, top, axis=1)), -1, top)


def ways(ratings: Ratings, part: Ints, seed: int) -> tuple[dict[str, Way], dict[str, float]]:
    """The ranker, each of its models, the items' record and the plain average; and numbers."""
    given = (part != TEST) & (ratings.labels != 0)
    users, items = ratings.users[given], ratings.items[given]
    liked = ratings.labels[given] > 0
    start = time.process_time()
    ranker = FusionRanker(Factorization(seed=seed), threads=1).fit(users, items, liked, seed=seed)
    numbers = {"fit_seconds": time.process_time() - start}
    hits = ranker.score(ranker.user_ids, among="shown")

    def of_all(scores: Wide) -> Wide:
        wide = np.zeros(ratings.shape)
        wide[np.ix_(ranker.user_ids, ranker.ids)] = scores
        return wide

    everywhere = of_all(ranker.score(ranker.user_ids).scores)
    found = {RANKER: Way(of_all(hits.scores), everywhere)}
    total, form = np.zeros(ratings.shape), ranker.linear()
    has = form.rows[:, np.cumsum([dim + 1 for dim in form.dims]) - 1] > 0
    for m, report in enumerate(ranker.report):
        score = of_all(hits.parts[report.name] / (report.weight or 1.0))
        score = -score if report.sign == -1 else score
        total += score
        # Among all items those that the model lacks come last.
        lacks = np.ones(ratings.shape[1], np.bool_)
        lacks[ranker.ids[has[:, m]]] = False
        found[report.name] = Way(score, np.where(lacks, score.min() - 1.0, score))
    found[NAIVE] = Way(total, total)
    record = _record(items, liked, ratings.shape[1])
    found[RECORD] = Way(*[np.tile(record, (ratings.shape[0], 1))] * 2)
    test = (part == TEST) & np.isin(ratings.users, users) & np.isin(ratings.items, items)
    test &= ratings.labels != 0
    numbers["calibration_error"] = ranker.evaluate(
        ratings.users[test], ratings.items[test], ratings.labels[test]).calibration_error
    return found, numbers


def _record(items: Ints, liked: Bools, n: int) -> Wide:
    """Each item's log-odds of a like, shrunk by 4 ratings of the average kind."""
    mean = liked.mean()
    odds: Wide = np.log((np.bincount(items, liked, n) + 4 * mean)
                        / (np.bincount(items, ~liked, n) + 4 * (1 - mean)))
    return odds


def compare(ratings: Ratings, seeds: range) -> dict[str, Any]:
    """Judge all ways over some splits, on the same users."""
    judged: dict[str, list[Judged]] = {}
    numbers: list[dict[str, float]] = []
    whole = ratings
    for seed in seeds:
        if whole.times is not None:
            ratings = whole.until(1.0 - _LATER * (seed - seeds.start))
        part = ratings.split(seed)
        found, more = ways(ratings, part, seed)
        numbers.append(more)
        for name, way in found.items():
            judged.setdefault(name, []).append(judge(ratings, part, way))
    auc = {name: list(metrics.mean_interval(by_user(each, "auc"))) for name, each in judged.items()}
    single = max((name for name in auc if name not in (RANKER, NAIVE)), key=lambda n: auc[n][0])
    line: dict[str, Any] = {"kind": "set", "splits": len(seeds), "single": single, "auc": auc}
    for key in numbers[0]:
        line[key] = float(np.mean([each[key] for each in numbers]))
    for key in Judged._fields:
        rival = single if key in ("auc", "shown_disliked") else POSITIVE
        mine, other = by_user(judged[RANKER], key), by_user(judged[rival], key)
        line[key + "_of"] = [float(np.nanmean(mine)), float(np.nanmean(other))]
        line[key + "_gain"] = list(metrics.mean_interval(mine - other))
        line[key + "_by_split"] = [
            float(np.nanmean(getattr(one, key) - getattr(two, key)))
            for one, two in zip(judged[RANKER], judged[rival], strict=True)]
    return line


def by_user(judged: list[Judged], key: str) -> Wide:
    """Each user's mean over the splits in which the number is defined."""
    values = np.array([getattr(one, key) for one in judged])
    known = ~np.isnan(values)
    mean = np.full(values.shape[1], np.nan)
    np.divide(np.where(known, values, 0.0).sum(axis=0), known.sum(axis=0), out=mean,
              where=known.any(axis=0))
    return mean


def run(names: list[str], seeds: range, cache: Path = CACHE, out: Path = OUT,
        command: list[str] | None = None) -> Path:
    """Measure sets that can be had, and append what was found to a file of JSON lines."""
    log = Log(out, command or [], seeds)
    for name in tqdm(names, desc="posneg", unit="set"):
        try:
            ratings = load(name, cache)
        except Unavailable as error:
            tqdm.write(f"left out: {name}: {error}", file=sys.stderr)
            log.write({"kind": "skipped", "dataset": name, "reason": str(error)})
            continue
        log.write({"dataset": name, "title": ratings.title,
                   "likes": int((ratings.labels == 1).sum()),
                   "dislikes": int((ratings.labels == -1).sum()), **compare(ratings, seeds)})
    return out


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
