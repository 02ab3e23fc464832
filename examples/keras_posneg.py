# /// script
# requires-python = ">=3.11"
# dependencies = ["farann[keras-rs]", "jax", "keras", "numpy"]
# ///
"""Keras 3: train towers of likes, of dislikes and of both, and serve one ranking by all of them.

`FusionRanker` cross-fits the towers on MovieLens 100K: it trains them on folds, learns from what
was held out what their scores mean, and trains them again on everything. Then a layer of Keras-RS
ranks by all of them, in one model that is saved and loaded. Needs `pip install '.[keras-rs]'` in a
checkout, and runs on every backend of Keras:

    KERAS_BACKEND=jax python examples/keras_posneg.py
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import movielens
import numpy as np

from farann.adapters.keras_rs import BruteForceFusionRetrieval
from farann.adapters.posneg import FusionRanker, SignedModel
from farann.adapters.training import logistic_losses, relative_log_q, retrieval_loss

K = 10
parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--ratings", help="tab-separated user, item, rating; default MovieLens 100K")
parser.add_argument("--epochs", type=int, default=10)
parser.add_argument("--dim", type=int, default=32)
parser.add_argument("--batch", type=int, default=1024)
parser.add_argument("--folds", type=int, default=3)
options = parser.parse_args()
keras.utils.set_random_seed(0)

data = movielens.load(options.ratings)
rated = (data.stars >= 4) | (data.stars <= 2)
users, items, liked = data.users[rated], data.items[rated], data.stars[rated] >= 4
test = np.random.default_rng(0).random(len(liked)) < 0.2
print(f"{len(liked):,} ratings by {len(np.unique(users)):,} users of {len(np.unique(items)):,} "
      f"films: {liked.sum():,} likes, {(~liked).sum():,} dislikes; {test.sum():,} are held out")

# ---- the towers ----


class TwoTowers(keras.Model):
    """A model of likes (sign 1), of dislikes (-1), or of "both"."""

    def __init__(self, n_users: int, items: np.ndarray, n_items: int, sign: int | str) -> None:
        super().__init__()
        start = keras.initializers.RandomNormal(stddev=0.1, seed=0)
        self.users, self.items = (keras.layers.Embedding(n, options.dim, start)
                                  for n in (n_users, n_items))
        self.sign, self.intercept = sign, self.add_weight((), "zeros", name="intercept")
        # How often each film is in a batch, over what it would be if all were drawn alike.
        shares = np.maximum(np.bincount(items, minlength=n_items), 1) * n_items / len(items)
        self.shares = keras.Variable(shares, trainable=False)

    def call(self, inputs: Any) -> Any:
        """Embeddings of users and of films."""
        return self.users(inputs["user"]), self.items(inputs["item"])

    def compute_loss(self, x: Any = None, y: Any = None, y_pred: Any = None,
                     sample_weight: Any = None, training: bool = True) -> Any:
        """The mean loss of a batch."""
        ops, (user, item) = keras.ops, y_pred
        if self.sign == "both":
            scores = ops.sum(user * item, axis=1) + self.intercept
            return ops.mean(logistic_losses(ops, scores, ops.cast(y, "bool")))
        log_q = relative_log_q(ops, ops.take(self.shares, x["item"]), options.batch, 0)
        losses = retrieval_loss(ops, user, item, candidate_ids=x["item"], log_q=log_q)
        return losses / options.batch


last: list[TwoTowers] = []


def train(who: np.ndarray, what: np.ndarray, likes: np.ndarray) -> list[SignedModel]:
    """Train the three models, on a fold or on everything."""
    (people, user), (films, item) = (np.unique(ids, return_inverse=True) for ids in (who, what))
    models, signed = [], []
    for sign, rows in ((1, likes), (-1, ~likes), ("both", np.ones_like(likes))):
        model = TwoTowers(len(people), item[rows], len(films), sign)
        model.compile(optimizer=keras.optimizers.Adam(0.01))
        model.fit({"user": user[rows], "item": item[rows]}, likes[rows], batch_size=options.batch,
                  epochs=options.epochs, verbose=0)
        models.append(model)
        vectors = [keras.ops.convert_to_numpy(part.embeddings)
                   for part in (model.items, model.users)]
        signed.append(SignedModel(*vectors, sign, ids=films, user_ids=people))
    if len(who) == (~test).sum():
        last[:] = models
    return signed


# ---- cross-fit, and judge on what was held out ----

start = time.process_time()
ranker = FusionRanker(train).fit(users[~test], items[~test], liked[~test], cv=options.folds)
print(f"trained three models {options.folds + 1} times on {keras.backend.backend()}: "
      f"{time.process_time() - start:.0f} s of CPU time")
for report in ranker.report:
    print(f"  {report.name}: weight {report.weight:+.2f}, {report.share:.0%} of the score")
judged = ranker.evaluate(users[test], items[test], liked[test], k=K)
print(judged)

# ---- one model from numbers of users to films ----

inputs = keras.Input((), dtype="int32")
layer = BruteForceFusionRetrieval(ranker, np.arange(len(ranker.ids)), k=K, among="shown")
model = keras.Model(inputs, layer([each.users(inputs) for each in last]))
asked = np.arange(len(ranker.user_ids), dtype="int32")
scores, found = model.predict(asked, verbose=0)
chances = keras.ops.convert_to_numpy(layer.probability(scores[0]))
print(f"\nlikely to be liked by user {ranker.user_ids[0]} if watched:")
for film, chance in zip(ranker.ids[found[0]][:5], chances, strict=False):
    print(f"  {data.titles[film]} ({chance:.2f})")
hits = ranker.rank(ranker.user_ids, K, among="shown", seen=True)
same = (hits.ids == ranker.ids[found]).mean()
with tempfile.TemporaryDirectory() as folder:
    model.save(Path(folder) / "model.keras")
    again = keras.saving.load_model(Path(folder) / "model.keras")
same_saved = bool((again.predict(asked, verbose=0)[1] == found).all())
print(f"as the ranker ranks: {same:.1%}; the same after saving and loading: {same_saved}")
assert same > 0.99 and same_saved
