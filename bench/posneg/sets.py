"""Many sets of ratings: the fusion of several models against each single one, trained on as much.

All are trained on training and calibration data together; what is calibrated is so by `cross_fit`.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import ShuffleSplit
from tqdm import tqdm

from farann.adapters.posneg import FusionRanker, SignedModel, cross_fit
from farann.adapters.posneg.factorization import least_squares, logistic

from ..datasets import CACHE
from . import others
from .feedback import TEST, Ints, Ratings
from .methods import ORACLE, POSITIVE, Trained
from .models import MODELS, Embeddings, biases, item_regression, missing
from .run import OUT, Chances, Judged, Log, by_user, calibration_error, judge, loaded, summary

Wide = NDArray[np.float64]
Bools = NDArray[np.bool_]
Record = dict[str, Any]
FOLDS = 4
MF, TOWERS = "MF", "two towers"
# By time, the last of each user's ratings are left out so far before the next split.
_LATER = 0.1
BIASES, NAIVE = "items' record alone", "average of raw scores"
FUSIONS = {"two models": ("positive", "negative"),
           "four models": ("positive", "negative", "signed", "logistic"),
           "six models": ("positive", "negative", "signed", "logistic", "small", "regression")}
# Of both kinds of labels, alone and with the items' record, as the fusions have it.
SIGNED = {"signed least squares": "signed", "signed logistic": "logistic",
          "signed item regression": "regression"}
RECORD = ", items' record"
_SIGNS: dict[str, int | str] = {"positive": 1, "negative": -1, "signed": "both",
                                "logistic": "both", "small": "both", "regression": "both"}


class Scores(NamedTuple):
    """Of all users and items; chances are None where there are none."""

    fused: Wide
    everywhere: Wide | None = None
    chance: Wide | None = None


class _Models:
    """Trains all models of some feedback once, however often they are asked for."""

    def __init__(self, ratings: Ratings, family: str, seed: int) -> None:
        self._ratings, self.family, self._seed = ratings, family, seed
        self._known: dict[bytes, dict[str, Embeddings]] = {}

    def of(self, users: Ints, items: Ints, liked: Bools
           ) -> dict[str, Embeddings]:
        """Embeddings of users and items by the name of the model."""
        key = users.tobytes() + items.tobytes()
        if key not in self._known:
            shape, seed = self._ratings.shape, self._seed
            signs = np.where(liked, 1, -1)
            self._known[key] = {
                "positive": self._of_one(users[liked], items[liked], 1),
                "negative": self._of_one(users[~liked], items[~liked], -1),
                "signed": least_squares(users, items, signs.astype(float), shape, seed),
                "logistic": logistic(users, items, liked, shape, seed),
                "small": logistic(users, items, liked, shape, seed, dim=4, penalty=2.0),
                "regression": item_regression(users, items, liked, shape)}
        return self._known[key]

    def _of_one(self, users: Ints, items: Ints, label: int) -> Embeddings:
        """A model of one kind of label."""
        if self.family == MF:
            return least_squares(users, items, np.ones(len(users)), self._ratings.shape,
                                 self._seed)
        some = Ratings("", users, items, np.full(len(users), label), size=self._ratings.shape)
        return MODELS[self.family](some, np.ones(len(users), np.bool_), self._seed)

    def trainer(self, names: tuple[str, ...]) -> Callable[..., Any]:
        """For `cross_fit`: some of the models."""

        def train(users: Ints, items: Ints, liked: Bools) -> Any:
            found = self.of(users, items, liked)
            return [(SignedModel(found[name][1], _SIGNS[name], name=name), found[name][0])
                    for name in names]

        return train


def _fitted(models: _Models, names: tuple[str, ...], ratings: Ratings, given: Bools, seed: int
            ) -> tuple[Scores, FusionRanker]:
    cv: Any = FOLDS
    if models.family != MF:  # towers take minutes
        cv = ShuffleSplit(1, test_size=0.3, random_state=seed)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="models left out|.*higher scores")
        fitted = cross_fit(models.trainer(names), ratings.users[given], ratings.items[given],
                           ratings.labels[given] > 0, cv=cv, seed=seed, threads=1)
    every = np.arange(ratings.shape[1])
    found = fitted.ranker.score(fitted.queries, every)
    everywhere = fitted.ranker.score(fitted.queries, every, among="all").scores
    chance = fitted.ranker.probability(found.log_odds, np.arange(ratings.shape[0]))
    return Scores(found.scores, everywhere, chance), fitted.ranker


def _others(ratings: Ratings, given: Bools, seed: int) -> dict[str, Scores]:
    found = {}
    for title, fit in {**others.SIGNED, **others.OF_LIKES}.items():
        try:
            found[title] = Scores(fit(ratings.users[given], ratings.items[given],
                                      ratings.labels[given] > 0, ratings.shape, seed))
        except ImportError as error:
            print(f"left out: {title}: {error}", file=sys.stderr)
    return found


def _ways(ratings: Ratings, part: Ints, family: str, seed: int
          ) -> tuple[dict[str, Scores], dict[str, Any]]:
    """All ways of ranking on one split, and what fits left out."""
    given = (part != TEST) & (ratings.labels != 0)
    models = _Models(ratings, family, seed)
    raw = models.of(ratings.users[given], ratings.items[given], ratings.labels[given] > 0)
    scores = {name: users.astype(np.float64) @ items.T for name, (users, items) in raw.items()}
    found = {POSITIVE: Scores(scores["positive"]),
             NAIVE: Scores((scores["positive"] - scores["negative"]) / 2),
             BIASES: Scores(np.tile(biases(ratings, given), (ratings.shape[0], 1)))}
    for title, name in SIGNED.items():
        found[title] = Scores(scores[name])
        found[title + RECORD] = _fitted(models, (name,), ratings, given, seed)[0]
    found |= _others(ratings, given, seed)
    dropped = {}
    for title, names in FUSIONS.items():
        found[title], ranker = _fitted(models, names, ratings, given, seed)
        dropped[title] = [one.name for one in ranker.report if one.dropped]
    labels, test = np.zeros(ratings.shape), part == TEST
    labels[ratings.users[test], ratings.items[test]] = ratings.labels[test]
    found[ORACLE] = Scores(labels)
    return found, dropped


def compare(ratings: Ratings, seeds: range, family: str = MF) -> list[Record]:
    """Judge all ways over some splits; a record each."""
    judged: dict[str, list[Judged]] = {}
    chances: dict[str, list[Chances]] = {}
    left_out: dict[str, list[str]] = {}
    whole = ratings
    for seed in seeds:
        if whole.times is not None:
            ratings = whole.until(1.0 - _LATER * (seed - seeds.start))
        part = ratings.split(seed)
        test = (part == TEST) & (ratings.labels != 0)
        users, items = ratings.users[test], ratings.items[test]
        ways, dropped = _ways(ratings, part, family, seed)
        for title, names in dropped.items():
            left_out.setdefault(title, []).extend(names)
        for title, scores in ways.items():
            judged.setdefault(title, []).append(
                judge(Trained(ratings, part, {}), scores.fused, scores.everywhere))
            if scores.chance is not None:
                chances.setdefault(title, []).append(Chances(
                    users, scores.chance[users, items], ratings.labels[test] > 0))
    best = _best_signed(judged)
    return [{"kind": "set", "method": title, "model": family, "best": best,
             "splits": len(judged[title]), "dropped": left_out.get(title, []),
             **summary(judged, title, {"positive": POSITIVE, "best": best}),
             **{f"{key}_by_split": _by_split(judged, title, best, key)
                for key in ("auc", "shown_disliked")},
             **calibration_error(chances.get(title))} for title in judged]


def _by_split(judged: dict[str, list[Judged]], title: str, best: str, key: str) -> list[float]:
    """Differences to the best signed model, a mean over users for each split."""
    return [float(np.nanmean(getattr(one, key) - getattr(other, key)))
            for one, other in zip(judged[title], judged[best], strict=True)]


def _best_signed(judged: dict[str, list[Judged]]) -> str:
    """Of the single models of both kinds that with the largest AUC, in the test itself."""
    singles = [title for title in judged
               if title not in (*FUSIONS, *others.OF_LIKES, POSITIVE, NAIVE, BIASES, ORACLE)]
    return max(singles, key=lambda title: float(np.nanmean(by_user(judged[title], "auc"))))


def run(names: list[str], seeds: range, cache: Path = CACHE, out: Path = OUT,
        command: list[str] | None = None, families: Sequence[str] = (MF, TOWERS)) -> Path:
    """Measure all sets, and append what was found to a file of JSON lines.

    Towers are trained for the first split alone.
    """
    log = Log(out, command or [], seeds)
    for name, ratings in loaded(tqdm(names, desc="posneg", unit="set"), cache, log):
        counts = {key: int((ratings.labels == value).sum())
                  for key, value in (("likes", 1), ("dislikes", -1), ("neutral", 0))}
        for family in families:
            if reason := missing(family):
                print(f"left out: {family}: {reason}", file=sys.stderr)
                continue
            if family == TOWERS and ":" in name:
                continue
            for line in compare(ratings, seeds if family == MF else seeds[:1], family):
                log.write({"dataset": name, "title": ratings.title, **counts, **line})
    return out
