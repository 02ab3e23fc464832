"""Does the ranker pay? On many sets of ratings, beside its models, their average, the record."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from farann import metrics
from farann.adapters.posneg import Factorization, FusionRanker

from ..datasets import CACHE
from ..fetch import Unavailable
from ..results import markdown, read
from ..run import RESULTS, Log, Options
from .feedback import TEST, Ints, Ratings, load

OUT = RESULTS.with_name("posneg.jsonl")
K = 20
# The first split of the tables; those below were looked at while the ranker was designed.
FIRST_SEED = 9000
# By time, the last of each user's ratings are left out so far before the next split.
_LATER = 0.1
RANKER, RECORD, AVERAGE = "ranker", "items' record", "plain average"

Wide = NDArray[np.float64]
Bools = NDArray[np.bool_]


class Judged(NamedTuple):
    """One number a user, NaN where it isn't defined.

    `auc` is of what the user liked or disliked in the test split, `ndcg` of lists of all items but
    those rated in the other splits, as `rank` returns them.
    """

    auc: Wide
    ndcg: Wide


class Way(NamedTuple):
    """Scores of all users and items, among items shown and among all."""

    shown: Wide
    everywhere: Wide


def judge(ratings: Ratings, part: Ints, way: Way) -> Judged:
    """Hold scores against the test split."""
    test, before = part == TEST, part < TEST
    labels, unseen = np.zeros(ratings.shape, np.int64), np.ones(ratings.shape, np.bool_)
    labels[ratings.users[test], ratings.items[test]] = ratings.labels[test]
    unseen[ratings.users[before], ratings.items[before]] = False
    known = test & (ratings.labels != 0)
    users, items = ratings.users[known], ratings.items[known]
    auc = np.full(len(labels), np.nan)
    auc[np.unique(users)] = metrics.auc_by_user(users, labels[users, items] > 0,
                                                way.shown[users, items])
    values = np.where(unseen, way.everywhere, -np.inf)
    top = np.argsort(-values, axis=1, kind="stable")[:, :K]
    top = np.where(np.isneginf(np.take_along_axis(values, top, axis=1)), -1, top)
    return Judged(auc, metrics.ndcg_at_k(top, [np.flatnonzero(row > 0) for row in labels], K))


def ways(ratings: Ratings, part: Ints, seed: int) -> tuple[dict[str, Way], dict[str, Any]]:
    """The ranker, each of its models, the items' record and the plain average; and numbers."""
    given = (part < TEST) & (ratings.labels != 0)
    users, items = ratings.users[given], ratings.items[given]
    train = Factorization(seed=seed)
    start = time.process_time()
    ranker = FusionRanker(train, threads=1).fit(
        users, items, ratings.labels[given], seed=seed,
        times=None if ratings.times is None else ratings.times[given])
    numbers: dict[str, Any] = {"fit_seconds": time.process_time() - start}
    models = train(users, items, ratings.labels[given] > 0)
    people = [model.users for model in models]

    def of(ranker: FusionRanker) -> Way:
        both = []
        for among in ("shown", "all"):
            form = ranker.linear(among)
            scores = form.vectors(people) @ form.rows.T
            # What isn't in the log comes last, in the order of ids.
            wide = np.full(ratings.shape, scores.min() - 1.0)
            wide[np.ix_(ranker.user_ids, ranker.ids)] = scores
            both.append(wide)
        return Way(*both)

    found = {RANKER: of(ranker)} | {name: of(ranker.by(name))
                                    for name in (*ranker.names, RECORD)}
    found[AVERAGE] = of(FusionRanker(models))  # not fitted
    # Half of the users ask which way to take; the others tell whether that was right.
    test = (part == TEST) & (ratings.labels != 0)
    asking = np.random.default_rng(seed).random(ratings.shape[0]) < 0.5
    test &= asking[ratings.users]
    advice = ranker.evaluate(ratings.users[test], ratings.items[test], ratings.labels[test], k=K)
    numbers["advice"] = [advice.best, np.flatnonzero(~asking).tolist(), advice.advice]
    return found, numbers


def compare(ratings: Ratings, seeds: range) -> dict[str, Any]:
    """Judge all ways over some splits, on the same users."""
    judged: dict[str, list[Judged]] = {}
    numbers: list[dict[str, Any]] = []
    whole = ratings
    for seed in seeds:
        if whole.times is not None:
            ratings = whole.until(1.0 - _LATER * (seed - seeds.start))
        part = ratings.split(seed)
        found, more = ways(ratings, part, seed)
        for name, way in found.items():
            judged.setdefault(name, []).append(judge(ratings, part, way))
        more["advice"] = _held(more["advice"], {name: each[-1] for name, each in judged.items()})
        numbers.append(more)
    line: dict[str, Any] = {
        "splits": len(seeds), "advice": [one["advice"] for one in numbers],
        "fit_seconds": float(np.mean([one["fit_seconds"] for one in numbers]))}
    for key in Judged._fields:
        of = {name: by_user(each, key) for name, each in judged.items()}
        if np.isnan(of[RANKER]).all():
            continue
        mean = {name: float(np.nanmean(each)) for name, each in of.items()}
        single = max((name for name in of if name not in (RANKER, AVERAGE)), key=mean.__getitem__)
        line[key] = {"single": single, "mean": mean, "gain": {
            rival: list(metrics.mean_interval(of[RANKER] - of[name])) for rival, name in
            (("single", single), (AVERAGE, AVERAGE), (RECORD, RECORD))}}
    return line


def _held(advice: tuple[tuple[str, str], list[int], str], judged: dict[str, Judged]
          ) -> dict[str, Any]:
    """What was advised for lists of all items and for shown ones, and how far below the best way it
    is for users who weren't asked: right if the interval of that has 0."""
    best, users, text = advice
    held: dict[str, Any] = {"text": text}
    for key, name in zip(("ndcg", "auc"), best, strict=True):
        values = {way: getattr(each, key)[users] for way, each in judged.items()}
        top = max(values, key=lambda way: np.nanmean(values[way]))
        advised = RANKER if name == "this ranker" else name
        short = list(metrics.mean_interval(values[advised] - values[top]))
        held[key] = {"advised": advised, "best": top, "short": short, "right": short[2] >= 0}
    return held


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
    log = Log(out, Options(k=K), command or [])
    for name in tqdm(names, desc="posneg", unit="set"):
        try:
            ratings = load(name, cache)
        except Unavailable as error:
            tqdm.write(f"left out: {name}: {error}", file=sys.stderr)
            log.write("skipped", dataset=name, reason=str(error))
            continue
        log.write("set", dataset=name, title=ratings.title, seeds=[seeds.start, seeds.stop - 1],
                  likes=int((ratings.labels == 1).sum()),
                  dislikes=int((ratings.labels == -1).sum()), **compare(ratings, seeds))
    return out


def tables(path: Path = OUT) -> str:
    """The latest of each set: AUC of shown items, lists of all items; and the advice."""
    lines = list({line["dataset"]: line for line in read(path) if line["kind"] == "set"}.values())
    text = []
    for key, what in (("auc", "AUC of shown items"), ("ndcg", f"nDCG@{K} of all items")):
        rows = []
        for line in (line for line in lines if key in line):
            mean, single = line[key]["mean"], line[key]["single"]
            rows.append([f"{line['title']} ({line['splits']})", f"{mean[single]:.3f} ({single})",
                         f"{mean[RANKER]:.3f}", *map(_gain, line[key]["gain"].values())])
        text.append(markdown([f"{what} (splits)", "best single way", "ranker", "gain over it",
                              "over the plain average", "over the items' record"], rows, 2))
    rows = []
    for line in lines:
        right = [f"{sum(one[key]['right'] for one in line['advice'])} of {len(line['advice'])}"
                 for key in ("ndcg", "auc")]
        rows.append([line["title"], *right, f"{line['fit_seconds']:.1f}"])
    text.append(markdown(["ratings", "advice was right: all items", "shown items", "fit, s"],
                         rows))
    return "\n\n".join(text)


def _gain(interval: list[float]) -> str:
    mean, low, high = (f"{value:+.3f}".replace("-", "\N{MINUS SIGN}") for value in interval)
    return f"{mean} [{low}, {high}]"
