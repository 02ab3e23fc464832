"""Many sets of ratings: the fusion of several models against each single one, trained on as much.

All are trained on training and calibration data together; what is calibrated is so by `cross_fit`.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from farann.adapters.posneg import FusionRanker, SignedModel, cross_fit
from farann.adapters.posneg.factorization import least_squares, logistic

from ..datasets import CACHE
from .feedback import TEST, Ints, Ratings
from .methods import ORACLE, POSITIVE, Trained
from .models import biases
from .run import OUT, Chances, Judged, Log, by_user, calibration_error, judge, loaded, summary

Wide = NDArray[np.float64]
Bools = NDArray[np.bool_]
Record = dict[str, Any]
FOLDS = 5
BIASES, NAIVE = "items' record alone", "average of raw scores"
FUSIONS = {"two models": ("positive", "negative"),
           "three models": ("positive", "negative", "logistic"),
           "four models": ("positive", "negative", "signed", "logistic")}
# Of both kinds of labels, alone and with the items' record, as the fusions have it.
SIGNED = {"signed least squares": "signed", "signed logistic": "logistic"}
RECORD = ", items' record"
_SIGNS: dict[str, int | str] = {"positive": 1, "negative": -1, "signed": "both",
                                "logistic": "both"}


class Scores(NamedTuple):
    """Of all users and items; chances are None where there are none."""

    fused: Wide
    everywhere: Wide | None = None
    chance: Wide | None = None


class _Models:
    """Trains all models of some feedback once, however often they are asked for."""

    def __init__(self, ratings: Ratings, seed: int) -> None:
        self._shape, self._seed = ratings.shape, seed
        self._known: dict[bytes, dict[str, tuple[NDArray[Any], NDArray[Any]]]] = {}

    def of(self, users: Ints, items: Ints, liked: Bools
           ) -> dict[str, tuple[NDArray[Any], NDArray[Any]]]:
        """Embeddings of users and items by the name of the model."""
        key = users.tobytes() + items.tobytes()
        if key not in self._known:
            ones, shape, seed = np.ones(len(users)), self._shape, self._seed
            self._known[key] = {
                "positive": least_squares(users[liked], items[liked], ones[liked], shape, seed),
                "negative": least_squares(users[~liked], items[~liked], ones[~liked], shape, seed),
                "signed": least_squares(users, items, np.where(liked, 1.0, -1.0), shape, seed),
                "logistic": logistic(users, items, liked, shape, seed)}
        return self._known[key]

    def trainer(self, names: tuple[str, ...]) -> Callable[..., Any]:
        """For `cross_fit`: some of the models."""

        def train(users: Ints, items: Ints, liked: Bools) -> Any:
            found = self.of(users, items, liked)
            return [(SignedModel(found[name][1], _SIGNS[name], name=name), found[name][0])
                    for name in names]

        return train


def _fitted(models: _Models, names: tuple[str, ...], ratings: Ratings, given: Bools, seed: int
            ) -> tuple[Scores, FusionRanker]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="models left out|.*higher scores")
        fitted = cross_fit(models.trainer(names), ratings.users[given], ratings.items[given],
                           ratings.labels[given] > 0, cv=FOLDS, seed=seed, threads=1)
    every = np.arange(ratings.shape[1])
    found = fitted.ranker.score(fitted.queries, every)
    everywhere = fitted.ranker.score(fitted.queries, every, among="all").scores
    chance = fitted.ranker.probability(found.log_odds, np.arange(ratings.shape[0]))
    return Scores(found.scores, everywhere, chance), fitted.ranker


def _others(ratings: Ratings, given: Bools, seed: int) -> dict[str, Callable[[], Wide]]:
    """Single models of other libraries, those that can be imported: scores of all pairs."""
    users, items, liked = (values[given] for values in (ratings.users, ratings.items,
                                                        ratings.labels > 0))

    def implicit_als() -> Wide:
        from scipy.sparse import csr_matrix

        # Of negative confidence is what isn't preferred.
        weights = csr_matrix((np.where(liked, 20.0, -20.0), (users, items)), ratings.shape)
        model = import_module("implicit.als").AlternatingLeastSquares(
            factors=16, regularization=10.0, random_state=seed, num_threads=1, use_gpu=False)
        model.fit(weights, show_progress=False)
        scores: Wide = (model.user_factors @ model.item_factors.T).astype(np.float64)
        return scores

    def cornac_mf() -> Wide:
        cornac = import_module("cornac")
        data = cornac.data.Dataset.from_uir(
            [(str(u), str(i), 1.0 + good) for u, i, good in
             zip(users, items, liked.astype(float), strict=True)], seed=seed)
        model = cornac.models.MF(k=16, lambda_reg=0.1, use_bias=True, seed=seed, num_threads=1)
        model.fit(data)
        scores = np.zeros(ratings.shape)
        rows = np.array([int(user) for user in data.user_ids])
        columns = np.array([int(item) for item in data.item_ids])
        scores[np.ix_(rows, columns)] = model.i_biases + model.u_factors @ model.i_factors.T
        return scores

    return {"implicit's least squares": implicit_als, "cornac's factorization": cornac_mf}


def _ways(ratings: Ratings, part: Ints, seed: int) -> tuple[dict[str, Scores], dict[str, Any]]:
    """All ways of ranking on one split, and what fits left out."""
    given = (part != TEST) & (ratings.labels != 0)
    models = _Models(ratings, seed)
    raw = models.of(ratings.users[given], ratings.items[given], ratings.labels[given] > 0)
    scores = {name: users.astype(np.float64) @ items.T for name, (users, items) in raw.items()}
    found = {POSITIVE: Scores(scores["positive"]),
             NAIVE: Scores((scores["positive"] - scores["negative"]) / 2),
             BIASES: Scores(np.tile(biases(ratings, given), (ratings.shape[0], 1)))}
    for title, name in SIGNED.items():
        found[title] = Scores(scores[name])
        found[title + RECORD] = _fitted(models, (name,), ratings, given, seed)[0]
    for title, fit in _others(ratings, given, seed).items():
        try:
            found[title] = Scores(fit())
        except ImportError as error:
            print(f"left out: {title}: {error}", file=sys.stderr)
    dropped = {}
    for title, names in FUSIONS.items():
        found[title], ranker = _fitted(models, names, ratings, given, seed)
        dropped[title] = [one.name for one in ranker.report if one.dropped]
    labels, test = np.zeros(ratings.shape), part == TEST
    labels[ratings.users[test], ratings.items[test]] = ratings.labels[test]
    found[ORACLE] = Scores(labels)
    return found, dropped


def compare(ratings: Ratings, seeds: range) -> list[Record]:
    """Judge all ways over some splits; a record each."""
    judged: dict[str, list[Judged]] = {}
    chances: dict[str, list[Chances]] = {}
    left_out: dict[str, list[str]] = {}
    for seed in seeds:
        part = ratings.split(seed)
        test = (part == TEST) & (ratings.labels != 0)
        users, items = ratings.users[test], ratings.items[test]
        ways, dropped = _ways(ratings, part, seed)
        for title, names in dropped.items():
            left_out.setdefault(title, []).extend(names)
        for title, scores in ways.items():
            judged.setdefault(title, []).append(
                judge(Trained(ratings, part, {}), scores.fused, scores.everywhere))
            if scores.chance is not None:
                chances.setdefault(title, []).append(Chances(
                    users, scores.chance[users, items], ratings.labels[test] > 0))
    best = _best_signed(judged)
    return [{"kind": "set", "method": title, "best": best, "splits": len(judged[title]),
             "dropped": left_out.get(title, []),
             **summary(judged, title, {"positive": POSITIVE, "best": best}),
             **calibration_error(chances.get(title))} for title in judged]


def _best_signed(judged: dict[str, list[Judged]]) -> str:
    """Of the single models of both kinds that with the largest AUC, in the test itself."""
    singles = [title for title in judged
               if title not in (*FUSIONS, POSITIVE, NAIVE, BIASES, ORACLE)]
    return max(singles, key=lambda title: float(np.nanmean(by_user(judged[title], "auc"))))


def run(names: list[str], seeds: range, cache: Path = CACHE, out: Path = OUT,
        command: list[str] | None = None) -> Path:
    """Measure all sets, and append what was found to a file of JSON lines."""
    log = Log(out, command or [], seeds)
    for name, ratings in loaded(tqdm(names, desc="posneg", unit="set"), cache, log):
        counts = {key: int((ratings.labels == value).sum())
                  for key, value in (("likes", 1), ("dislikes", -1), ("neutral", 0))}
        # By time all splits are alike, but for ties.
        some = seeds if ratings.times is None else seeds[:1]
        for line in compare(ratings, some):
            log.write({"dataset": name, "title": ratings.title, **counts, **line})
    return out
