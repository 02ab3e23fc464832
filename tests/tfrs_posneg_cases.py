"""What the tests of the layers for two models share: towers, candidates, a fitted ranker."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from tfrs_cases import tf

import farann
from farann.adapters.posneg import PosNegHits, PosNegRanker
from farann.adapters.tfrs import BruteForcePosNeg, PosNeg

LAYERS = [BruteForcePosNeg, PosNeg]
RNG = np.random.default_rng(3)
N, N_USERS, DIMS = 80, 30, (6, 4)
POSITIVE, NEGATIVE = (RNG.standard_normal((N, dim), dtype=np.float32) for dim in DIMS)
USERS = tuple(RNG.standard_normal((N_USERS, dim), dtype=np.float32) for dim in DIMS)
NAMES = np.array([f"item {i}" for i in range(N)])
USER_NAMES = np.array([f"user {i}" for i in range(N_USERS)])
ASKED = np.array([4, 0, 17, 29, 9, 9, 12])
QUERIES = USER_NAMES[ASKED]

# Feedback whose likes come from both models, on scales of their own, and from the items.
WHO, WHAT = RNG.integers(0, N_USERS, 2500), RNG.integers(0, N, 2500)
CHARM = RNG.normal(0, 0.8, N)
LIKED = RNG.random(2500) < 1 / (1 + np.exp(
    0.7 * (USERS[1][WHO] * NEGATIVE[WHAT]).sum(axis=1)
    - 1.5 * (USERS[0][WHO] * POSITIVE[WHAT]).sum(axis=1) - CHARM[WHAT]))


def tower(weights: NDArray[Any]) -> Any:
    """A query model that takes names of users."""
    inputs = tf.keras.Input((), dtype=tf.string)
    lookup = tf.keras.layers.StringLookup(vocabulary=list(USER_NAMES), mask_token=None)
    embedding = tf.keras.layers.Embedding(N_USERS + 1, weights.shape[1])
    model = tf.keras.Model(inputs, embedding(lookup(inputs)))
    model.set_weights([np.vstack([np.zeros_like(weights[:1]), weights])])
    return model


def empty(layer_class: Any, **options: Any) -> Any:
    """A layer with both query models and no candidates."""
    return layer_class(tower(USERS[0]), tower(USERS[1]), **{"k": 5, **options})


def calibrated(layer: Any, names: bool = True, **options: Any) -> Any:
    return layer.calibrate(USER_NAMES[WHO], NAMES[WHAT] if names else WHAT, LIKED, **options)


def filled(layer_class: Any, **options: Any) -> Any:
    """A layer with candidates that have names, calibrated."""
    return calibrated(empty(layer_class, **options).index((POSITIVE, NEGATIVE), NAMES))


def fitted(metric: str = "dot", kept: tuple[Any, Any] = (slice(None), slice(None)),
           **options: Any) -> PosNegRanker:
    """The ranker of the same items and feedback, made without any layer."""
    sides = []
    for rows, some in zip((POSITIVE, NEGATIVE), kept, strict=True):
        index = farann.Index(metric=metric)
        index.add(rows[some], np.arange(N)[some])
        sides.append(index)
    ranker = PosNegRanker(*sides, **options)
    shown = np.isin(WHAT, ranker.ids)
    positive, negative = USERS
    return ranker.fit(positive, negative, WHAT[shown], LIKED[shown], users=WHO[shown])


def ranked(ranker: PosNegRanker, k: int = 5, **options: Any) -> PosNegHits:
    """What the ranker finds for `QUERIES`."""
    return ranker.rank(USERS[0][ASKED], USERS[1][ASKED], k, **options)


def text(ids: Any) -> NDArray[Any]:
    return np.char.decode(np.asarray(ids).astype(bytes))


def agree(answer: Any, hits: PosNegHits) -> None:
    """Hold what a layer with names found against what a ranker found."""
    scores, ids = (np.asarray(part) for part in answer)
    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores, hits.scores, rtol=2e-5, atol=2e-6)
    assert (text(ids) == np.where(hits.ids >= 0, NAMES[hits.ids], "")).all()
