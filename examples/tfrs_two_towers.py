# /// script
# requires-python = ">=3.11"
# dependencies = ["farann[tfrs]", "numpy", "scikit-learn", "tensorflow", "tensorflow-recommenders"]
# ///
"""Two retrieval models, one of likes and one of dislikes: what a user won't dislike.

Trains both on MovieLens 100K with TensorFlow Recommenders, retrieves the nearest films of the one
and the furthest of the other, evaluates, saves and loads. Needs `pip install '.[tfrs]'` in a
checkout:

    python examples/tfrs_two_towers.py
    python examples/tfrs_two_towers.py --uniform-negatives 512 --logq
"""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path

os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")  # TFRS needs Keras 2
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import movielens
import numpy as np
import tensorflow as tf
import tensorflow_recommenders as tfrs
import towers
from sklearn.metrics import roc_auc_score

from farann.adapters.tfrs import BruteForceFurthest, FactorizedBottomK, Furthest

options = towers.arguments(__doc__.splitlines()[0], logq=False).parse_args()
tf.keras.utils.set_random_seed(0)

data = movielens.load(options.ratings)
users, items = np.unique(data.users), np.unique(data.items)
held_out = np.random.default_rng(0).random(len(data.stars)) < 0.2
liked, disliked = data.stars >= 4, data.stars <= 2
print(f"{len(data.stars):,} ratings by {len(users):,} users of {len(items):,} films: "
      f"{liked.sum():,} likes, {disliked.sum():,} dislikes; a fifth is held out")

start = time.perf_counter()
likes, dislikes = (towers.train(data, chosen & ~held_out, options)
                   for chosen in (liked, disliked))
print(f"trained both for {options.epochs} epochs in {time.perf_counter() - start:.0f} s")

# ---- retrieve: nearest of the one, furthest of the other ----

films = tf.data.Dataset.from_tensor_slices(items).batch(256)
nearest = tfrs.layers.factorized_top_k.BruteForce(likes.user_model, k=5)
nearest.index_from_dataset(films.map(lambda ids: (ids, likes.item_model(ids))))
furthest = Furthest(dislikes.user_model, k=5)
furthest.index_from_dataset(films.map(lambda ids: (ids, dislikes.item_model(ids))))

user = tf.constant(users[:1])
for title, (_, ids) in (
    ("likely to be liked by", nearest(user)),
    ("unlikely to be disliked by", furthest(user)),
    ("the same, but none of their ratings, by",
     furthest.query_with_exclusions(user, data.items[data.users == users[0]][None])),
):
    found = [data.titles[id.decode()] for id in ids[0].numpy()]
    print(f"{title} user {users[0]}: {'; '.join(found)}")

# ---- evaluate on the ratings held out ----

K = min(100, len(items) // 4)


def share(metric: tf.keras.layers.Layer, model: towers.TwoTowers, chosen: np.ndarray) -> float:
    """How often the metric finds the true film of the chosen ratings."""
    metric.reset_states()
    for at in np.array_split(np.flatnonzero(chosen), 20):
        metric.update_state(model.user_model(data.users[at]), model.item_model(data.items[at]),
                            data.items[at])
    return float(metric.result()[0])


def candidates(model: towers.TwoTowers) -> tf.data.Dataset:
    """The films under a model, with their ids."""
    return films.map(lambda ids: (ids, model.item_model(ids)))


top = tfrs.metrics.FactorizedTopK(
    tfrs.layers.factorized_top_k.BruteForce().index_from_dataset(candidates(likes)), ks=[K])
bottom = FactorizedBottomK(Furthest().index_from_dataset(candidates(dislikes)), ks=[K])
print(f"of {len(items):,} films, chance would put {K / len(items):.3f} of any into {K}")
for name, chosen in (("likes", liked & held_out), ("dislikes", disliked & held_out)):
    print(f"held-out {name}: {share(top, likes, chosen):.3f} in the top {K} of the model of likes, "
          f"{share(bottom, dislikes, chosen):.3f} in the bottom {K} of the model of dislikes")


def score(model: towers.TwoTowers, at: np.ndarray) -> np.ndarray:
    """What a model says of pairs of users and films."""
    return np.asarray(tf.reduce_sum(
        model.user_model(data.users[at]) * model.item_model(data.items[at]), axis=1))


at = np.flatnonzero(held_out & (liked | disliked))
auc_of_likes = roc_auc_score(liked[at], score(likes, at))
auc_of_dislikes = roc_auc_score(liked[at], -score(dislikes, at))
print(f"telling held-out likes from dislikes, AUC: {auc_of_likes:.3f} by the model of likes, "
      f"{auc_of_dislikes:.3f} by that of dislikes, negated")

# ---- save and load ----

with tempfile.TemporaryDirectory() as folder:
    furthest.save(Path(folder) / "furthest.keras")
    loaded = tf.keras.models.load_model(Path(folder) / "furthest.keras")
    same = bool(tf.reduce_all(loaded(user)[1] == furthest(user)[1]))
    exact: BruteForceFurthest = furthest.to_exact()
    exact(user)
    tf.saved_model.save(exact, str(Path(folder) / "served"))
    served = tf.saved_model.load(str(Path(folder) / "served"))
    same_served = bool(tf.reduce_all(served(user)[1] == furthest(user)[1]))
print(f"the same after saving and loading: {same}, and served without farann: {same_served}")
assert same and same_served
