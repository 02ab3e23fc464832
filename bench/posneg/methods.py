"""The ways of ranking that are compared: each gives a score for every user and item."""

from __future__ import annotations

import time
import warnings
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from farann.adapters.posneg import PosNegRanker

from .feedback import CALIBRATION, TRAIN, Ints, Ratings
from .models import MODELS, Embeddings, Floats, biases, signed

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
        "both", or "signed" or "biases" in the place of the two models.
    """

    name: str
    options: dict[str, Any] = field(default_factory=dict)
    models: str = "both"


def plain(weight: float) -> dict[str, Any]:
    """Options of the two models alone, without the items' own record."""
    return {"weight": weight, "item_prior": None}


DEFAULT = "default"
POSITIVE = "positive only"
NAIVE = "naive average of raw scores"
SIGNED = "single signed model"
# What all methods are compared with, user by user.
RIVALS = {"positive": POSITIVE, "naive": NAIVE, "signed": SIGNED}
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
    Method("veto at 0.5", {"fusion": "veto"}),
    Method(SIGNED, plain(1.0), "signed"),
    Method("biases only", plain(1.0), "biases"),
]


class Trained(NamedTuple):
    """What one split gives: embeddings by model, and the parts of the ratings."""

    ratings: Ratings
    part: Ints
    embeddings: dict[str, tuple[Embeddings, Embeddings]]


class Scores(NamedTuple):
    """Of one method: fused scores, its parts and probabilities of all, (n_users, n_items).

    Without calibrated scores the probabilities are None.
    """

    fused: NDArray[np.float64]
    positive: NDArray[np.float64]
    negative: NDArray[np.float64]
    probability: NDArray[np.float64] | None


def train(ratings: Ratings, model: str, seed: int) -> Trained:
    """Train a positive and a negative model, and what they are compared with."""
    part = ratings.split(seed)
    training = part == TRAIN
    fit = MODELS[model]
    both = (fit(ratings, training & (ratings.labels > 0), seed),
            fit(ratings, training & (ratings.labels < 0), seed))
    known = training & (ratings.labels != 0)
    one = signed(ratings, known, seed)
    everyone = np.ones((ratings.shape[0], 1), np.float32)
    own = (everyone, biases(ratings, known)[:, np.newaxis].astype(np.float32))
    return Trained(ratings, part, {"both": both, "signed": (one, one), "biases": (own, own)})


def ranker_of(trained: Trained, method: Method) -> tuple[PosNegRanker, Floats, Floats]:
    """A ranker fitted on the calibration split, and the users' queries to both models."""
    (positive_users, positive), (negative_users, negative) = trained.embeddings[method.models]
    ratings = trained.ratings
    some = (trained.part == CALIBRATION) & (ratings.labels != 0)
    ranker = PosNegRanker(positive, negative, threads=1, **method.options)
    with warnings.catch_warnings():
        # A baseline of one model has no other that could be calibrated.
        warnings.filterwarnings("ignore", message="(positive|negative): higher scores")
        ranker.fit(positive_users, negative_users, ratings.items[some], ratings.labels[some] > 0,
                   users=ratings.users[some])
    return ranker, positive_users, negative_users


def scores_of(trained: Trained, method: Method) -> Scores:
    """Everything that a method says of all users and items."""
    ranker, positive, negative = ranker_of(trained, method)
    found = ranker.score(positive, negative, np.arange(trained.ratings.shape[1]))
    calibrated = method.options.get("calibration") != "none"
    return Scores(found.scores, found.positive, found.negative,
                  ranker.probability(found.scores) if calibrated else None)


def microseconds(trained: Trained, method: Method) -> float:
    """Time a query of the best of three batches, on one thread."""
    ranker, positive, negative = ranker_of(trained, method)
    queries = positive[:_TIMED_USERS], negative[:_TIMED_USERS]
    ranker.rank(*queries, 10)  # builds what is built at the first search
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        ranker.rank(*queries, 10)
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
