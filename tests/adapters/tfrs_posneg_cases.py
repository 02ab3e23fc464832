"""What the tests of the layers of several models share: towers, models, fitted rankers."""

from __future__ import annotations

from typing import Any

import inside
import numpy as np
from numpy.typing import NDArray
from tfrs_cases import tf

from farann.adapters.posneg import FusionHits, FusionRanker, SignedModel
from farann.adapters.tfrs import BruteForceFusion

RNG = np.random.default_rng(3)
N, N_USERS, DIMS = 80, 30, (6, 4, 5)
SIGNS: tuple[int | str, ...] = 1, -1, "both"
ITEMS = [RNG.standard_normal((N, dim), dtype=np.float32) for dim in DIMS]
USERS = [RNG.standard_normal((N_USERS, dim), dtype=np.float32) for dim in DIMS]
NAMES = np.array([f"item {i:02}" for i in range(N)])
USER_NAMES = np.array([f"user {i:02}" for i in range(N_USERS)])
ASKED = np.array([4, 0, 17, 29, 9, 9, 12])
QUERIES = USER_NAMES[ASKED]

# Feedback whose likes come from all models, on scales of their own, and from the items.
WHO, WHAT = RNG.integers(0, N_USERS, 2500), RNG.integers(0, N, 2500)
CHARM = RNG.normal(0, 0.8, N)
LIKED = RNG.random(2500) < 1 / (1 + np.exp(-CHARM[WHAT] - sum(
    weight * (USERS[m][WHO] * ITEMS[m][WHAT]).sum(axis=1)
    for m, weight in enumerate((1.5, -0.7, 0.4)))))
# What the second model has, where models don't have the same.
SOME = np.r_[79:20:-1]


def tower(weights: NDArray[Any]) -> Any:
    """A query model that takes names of users."""
    inputs = tf.keras.Input((), dtype=tf.string)
    lookup = tf.keras.layers.StringLookup(vocabulary=list(USER_NAMES), mask_token=None)
    embedding = tf.keras.layers.Embedding(N_USERS + 1, weights.shape[1])
    model = tf.keras.Model(inputs, embedding(lookup(inputs)))
    model.set_weights([np.vstack([np.zeros_like(weights[:1]), weights])])
    return model


def ranker_of(n_models: int = 3, metric: str = "dot", holes: bool = False, *, fit: bool = True
              ) -> FusionRanker:
    """A ranker of the first models; the second is always of cosine, and may lack items."""
    models = []
    for m in range(n_models):
        some = SOME if holes and m == 1 else slice(None)
        models.append(SignedModel(ITEMS[m][some], USERS[m], SIGNS[m], ids=NAMES[some],
                                  user_ids=USER_NAMES, metric="cosine" if m == 1 else metric))
    ranker = FusionRanker(models)
    return inside.adapters.fused(ranker.fit(USER_NAMES[WHO], NAMES[WHAT], LIKED)) if fit else ranker


def filled(ranker: FusionRanker, identifiers: Any = None, **options: Any) -> Any:
    """A layer with query models and what a ranker knows."""
    models = [tower(users) for users in USERS[:len(ranker.names)]]
    return BruteForceFusion(models, k=5).index_ranker(ranker, identifiers, **options)


def text(ids: Any) -> NDArray[Any]:
    return np.char.decode(np.asarray(ids).astype(bytes))


def agree(answer: Any, hits: FusionHits) -> None:
    """Hold what a layer with names found against what a ranker found."""
    scores, ids = (np.asarray(part) for part in answer)
    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores, hits.scores, rtol=2e-5, atol=5e-6)
    assert (text(ids) == np.where(np.isnan(hits.scores), "", hits.ids).astype(str)).all()
