"""The ways of ranking that are compared: each gives a score for every user and item."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from farann.adapters.posneg import FusionRanker, PosNegRanker, SignedModel

from .feedback import CALIBRATION, TEST, TRAIN, Ints, Ratings
from .models import MODELS, Embeddings, Floats, biases, logistic, signed

LISTED = 100
_TIMED_USERS = 200


@dataclass(frozen=True)
class Method:
    """One row of the table.

    Attributes
    ----------
    name : str
    options : dict
        Of the ranker.
    models : str
        "both", or "signed", "logistic" or "biases" in the place of the two models; or some of
        "positive", "negative" and "logistic" with "+" between, for a `FusionRanker`; or
        "oracle".
    refitted : bool
        Whether the models are trained again on training and calibration data, under what was
        learned.
    """

    name: str
    options: dict[str, Any] = field(default_factory=dict)
    models: str = "both"
    refitted: bool = False


def plain(weight: float) -> dict[str, Any]:
    """Options of the two models alone, without the items' own record."""
    return {"weight": weight, "item_prior": None}


DEFAULT = "default"
POSITIVE = "positive only"
NAIVE = "naive average of raw scores"
SIGNED = "single signed model"
LOGISTIC = "single logistic model"
ORACLE = "oracle"
# What all methods are compared with, user by user.
RIVALS = {"positive": POSITIVE, "naive": NAIVE, "signed": SIGNED,
          "logistic": f"{LOGISTIC}, items' record"}
METHODS = [
    Method(POSITIVE, plain(1.0)),
    Method("negative only", plain(0.0)),
    Method(NAIVE, {"calibration": "none"}),
    Method(DEFAULT),
    Method("weight 0.5", {"weight": 0.5}),
    Method("weight 0.9", {"weight": 0.9}),
    Method("weight 1", {"weight": 1.0}),
    Method("no item prior", {"item_prior": None}),
    Method("no item prior, weight 0.9", plain(0.9)),
    Method("no item prior, weight 0.5", plain(0.5)),
    Method("isotonic", {"calibration": "isotonic"}),
    Method("temperature", {"calibration": "temperature"}),
    Method("none, per-query min-max", {"calibration": "none", "normalize": "minmax"}),
    Method("none, per-query zmuv", {"calibration": "none", "normalize": "zmuv"}),
    Method("Platt, per-query zmuv", {"normalize": "zmuv"}),
    Method("convex", {"fusion": "convex"}),
    Method("product", {"fusion": "product"}),
    Method("CombSUM, min-max", {"calibration": "none", "normalize": "minmax",
                                "fusion": "combsum"}),
    Method("CombMNZ", {"fusion": "combmnz"}),
    Method("reciprocal rank", {"fusion": "rrf"}),
    Method("inverse square rank", {"fusion": "isr"}),
    Method("Borda", {"fusion": "borda"}),
    Method("veto at 0.5", {"fusion": "veto", "veto": 0.5}),
    Method("veto by lift 1", {"fusion": "veto"}),
    Method(SIGNED, plain(1.0), "signed"),
    Method(f"{SIGNED}, items' record", {"weight": 1.0}, "signed"),
    Method(LOGISTIC, plain(1.0), "logistic"),
    Method(f"{LOGISTIC}, items' record", {"weight": 1.0}, "logistic"),
    Method("fusion of two", models="positive+negative"),
    Method("fusion of three", models="positive+negative+logistic"),
    Method("fusion of three, refitted", models="positive+negative+logistic", refitted=True),
    Method("biases only", plain(1.0), "biases"),
    Method(ORACLE, models="oracle"),
]


class Trained(NamedTuple):
    """What one split gives: embeddings by model, and the parts of the ratings."""

    ratings: Ratings
    part: Ints
    embeddings: dict[str, tuple[Embeddings, Embeddings]]
    again: dict[str, tuple[Embeddings, Embeddings]] | None = None


class Scores(NamedTuple):
    """Of one method: fused scores, its parts and probabilities of all, (n_users, n_items).

    Without calibrated scores the probabilities are None. `everywhere` is what all items are
    ranked by, where that differs from what items shown are ranked by.
    """

    fused: NDArray[np.float64]
    positive: NDArray[np.float64]
    negative: NDArray[np.float64]
    probability: NDArray[np.float64] | None
    everywhere: NDArray[np.float64] | None = None


def train(ratings: Ratings, model: str, seed: int) -> Trained:
    """Train a positive and a negative model, and what they are compared with."""
    part = ratings.split(seed)
    return Trained(ratings, part, _embeddings(ratings, model, seed, part == TRAIN),
                   _embeddings(ratings, model, seed, part <= CALIBRATION))


def _embeddings(ratings: Ratings, model: str, seed: int, training: NDArray[np.bool_]
                ) -> dict[str, tuple[Embeddings, Embeddings]]:
    fit = MODELS[model]
    both = (fit(ratings, training & (ratings.labels > 0), seed),
            fit(ratings, training & (ratings.labels < 0), seed))
    known = training & (ratings.labels != 0)
    one, other = signed(ratings, known, seed), logistic(ratings, known, seed)
    everyone = np.ones((ratings.shape[0], 1), np.float32)
    own = (everyone, biases(ratings, known)[:, np.newaxis].astype(np.float32))
    return {"both": both, "signed": (one, one), "logistic": (other, other), "biases": (own, own)}


def ranker_of(trained: Trained, method: Method) -> tuple[PosNegRanker, Floats, Floats]:
    """A ranker fitted on the calibration split, and the users' queries to both models."""
    (positive_users, positive), (negative_users, negative) = trained.embeddings[method.models]
    ratings = trained.ratings
    some = (trained.part == CALIBRATION) & (ratings.labels != 0)
    ranker = PosNegRanker(positive, negative, threads=1, **method.options)
    with warnings.catch_warnings():
        # A baseline of one model has no other that could be calibrated.
        warnings.filterwarnings("ignore", message="(positive|negative): higher scores|veto:")
        ranker.fit(positive_users, negative_users, ratings.items[some], ratings.labels[some] > 0,
                   users=ratings.users[some])
    return ranker, positive_users, negative_users


def _parts(embeddings: dict[str, tuple[Embeddings, Embeddings]]) -> dict[str, Embeddings]:
    return {"positive": embeddings["both"][0], "negative": embeddings["both"][1],
            "logistic": embeddings["logistic"][0]}


_SIGNS: dict[str, int | str] = {"positive": 1, "negative": -1, "logistic": "both"}


def fusion_of(trained: Trained, method: Method) -> tuple[FusionRanker, list[Floats]]:
    """A ranker of several models, fitted on the calibration split, and queries to each."""
    names, ratings, first = method.models.split("+"), trained.ratings, _parts(trained.embeddings)
    some = (trained.part == CALIBRATION) & (ratings.labels != 0)
    before = trained.part == TRAIN
    order = np.argsort(ratings.users[before], kind="stable")
    seen = np.split(ratings.items[before][order],
                    np.cumsum(np.bincount(ratings.users[before], minlength=ratings.shape[0]))[:-1])
    ranker = FusionRanker([SignedModel(first[name][1], _SIGNS[name], name=name)
                           for name in names], threads=1)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="models left out|.*higher scores")
        ranker.fit([first[name][0] for name in names], ratings.items[some],
                   ratings.labels[some] > 0, users=ratings.users[some], exclude=seen)
    if not method.refitted:
        return ranker, [first[name][0] for name in names]
    assert trained.again is not None
    again = _parts(trained.again)
    models = [SignedModel(again[name][1], _SIGNS[name], name=name) for name in names]
    return ranker.replace(models), [again[name][0] for name in names]


def _fused(trained: Trained, method: Method) -> Scores:
    ranker, queries = fusion_of(trained, method)
    every = np.arange(trained.ratings.shape[1])
    found = ranker.score(queries, every)
    nothing = np.full(found.scores.shape, 0.5)
    chance = ranker.probability(found.log_odds, np.arange(len(found.scores)))
    return Scores(found.scores, found.chances.get("positive", nothing),
                  found.chances.get("negative", nothing), chance,
                  ranker.score(queries, every, among="all").scores)


def _oracle(trained: Trained) -> Scores:
    """The labels of the test themselves; what nobody rated is in the middle."""
    ratings, test = trained.ratings, trained.part == TEST
    labels = np.zeros(ratings.shape)
    labels[ratings.users[test], ratings.items[test]] = ratings.labels[test]
    return Scores(labels, labels, -labels, None)


def scores_of(trained: Trained, method: Method) -> Scores:
    """Everything that a method says of all users and items."""
    if method.models == ORACLE:
        return _oracle(trained)
    if "+" in method.models:
        return _fused(trained, method)
    ranker, positive, negative = ranker_of(trained, method)
    found = ranker.score(positive, negative, np.arange(trained.ratings.shape[1]))
    calibrated = method.options.get("calibration") != "none"
    return Scores(found.scores, found.positive, found.negative,
                  ranker.probability(found.scores) if calibrated else None)


def microseconds(trained: Trained, method: Method) -> float:
    """Time a query of the best of three batches, on one thread."""
    rank: Callable[[], object]
    if "+" in method.models:
        fusion, several = fusion_of(trained, method)
        queries = [each[:_TIMED_USERS] for each in several]
        rank = partial(fusion.rank, queries, 10)
    else:
        ranker, positive, negative = ranker_of(trained, method)
        queries = [positive[:_TIMED_USERS], negative[:_TIMED_USERS]]
        rank = partial(ranker.rank, queries[0], queries[1], 10)
    rank()  # builds what is built at the first search
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        rank()
        seconds.append(time.perf_counter() - start)
    return 1e6 * min(seconds) / len(queries[0])


def naive_lists(trained: Trained, unseen: NDArray[np.bool_]) -> NDArray[np.float64]:
    """What the question's author would write: both lists' first items, their scores averaged.

    An item that only one list has keeps half of its score there, as the other is not known.
    """
    (positive_users, positive), (negative_users, negative) = trained.embeddings["both"]
    liked = np.where(unseen, positive_users @ positive.T, -np.inf)
    harmless = np.where(unseen, -(negative_users @ negative.T), -np.inf)
    fused = np.full(liked.shape, -np.inf)
    for values in (liked, harmless):
        listed = min(LISTED, values.shape[1])
        top = np.argpartition(-values, listed - 1, axis=1)[:, :listed]
        here = np.take_along_axis(values, top, axis=1) / 2
        before = np.take_along_axis(fused, top, axis=1)
        np.put_along_axis(fused, top, np.where(np.isneginf(before), 0.0, before) + here, axis=1)
    return fused
