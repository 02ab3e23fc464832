"""Two retrieval models, one of likes and one of dislikes: what a user won't dislike.

Trains both on MovieLens 100K with TensorFlow Recommenders, retrieves the nearest films of the one
and the furthest of the other, evaluates, saves and loads. Needs `pip install 'farann[tfrs]'`:

    python examples/tfrs_two_towers.py
    python examples/tfrs_two_towers.py --uniform-negatives 512 --logq
"""

from __future__ import annotations

import argparse
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
from farann.adapters.tfrs import BruteForceFurthest, FactorizedBottomK, Furthest
from sklearn.metrics import roc_auc_score

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--ratings", help="tab-separated user, item, rating; default MovieLens 100K")
parser.add_argument("--epochs", type=int, default=10)
parser.add_argument("--dim", type=int, default=32)
parser.add_argument("--batch", type=int, default=1024)
parser.add_argument("--uniform-negatives", type=int, default=0, metavar="N",
                    help="mixed negative sampling: N more negatives a batch, drawn uniformly")
parser.add_argument("--logq", action="store_true",
                    help="correct for how often each item is drawn as a negative")
options = parser.parse_args()
tf.keras.utils.set_random_seed(0)

data = movielens.load(options.ratings)
users, items = np.unique(data.users), np.unique(data.items)
held_out = np.random.default_rng(0).random(len(data.stars)) < 0.2
liked, disliked = data.stars >= 4, data.stars <= 2
print(f"{len(data.stars):,} ratings by {len(users):,} users of {len(items):,} films: "
      f"{liked.sum():,} likes, {disliked.sum():,} dislikes; a fifth is held out")


def tower(vocabulary: np.ndarray) -> tf.keras.Model:
    """From ids to embeddings."""
    lookup = tf.keras.layers.StringLookup(vocabulary=list(vocabulary), mask_token=None)
    inputs = tf.keras.Input((), dtype=tf.string)
    embedding = tf.keras.layers.Embedding(
        len(vocabulary) + 1, options.dim,
        embeddings_initializer=tf.keras.initializers.RandomNormal(stddev=0.1))
    return tf.keras.Model(inputs, embedding(lookup(inputs)))


class TwoTowers(tfrs.Model):
    """Learns which films a user is seen with, by telling them from the other films of a batch."""

    def __init__(self, share: dict[str, float]) -> None:
        super().__init__()
        self.user_model, self.item_model = tower(users), tower(items)
        # How likely a candidate is to be a given item: batches follow the data, more negatives
        # come from all items alike.
        uniform = options.uniform_negatives / (options.uniform_negatives + options.batch)
        chances = [(1 - uniform) * share.get(item, 0.0) + uniform / len(items) for item in items]
        self.chances = tf.lookup.StaticHashTable(
            tf.lookup.KeyValueTensorInitializer(items, tf.constant(chances, tf.float32)), 1.0)

    def compute_loss(self, features: tuple[tf.Tensor, tf.Tensor],
                     training: bool = False) -> tf.Tensor:
        """Softmax over the films of the batch, and of some more if wanted."""
        user_ids, item_ids = features
        candidates = item_ids
        if options.uniform_negatives:
            drawn = tf.random.uniform([options.uniform_negatives], maxval=len(items),
                                      dtype=tf.int32)
            candidates = tf.concat([item_ids, tf.gather(tf.constant(items), drawn)], axis=0)
        logits = tf.matmul(self.user_model(user_ids), self.item_model(candidates), transpose_b=True)
        if options.logq:
            # Popular items are negatives more often, which would push them down.
            logits -= tf.math.log(tf.maximum(self.chances.lookup(candidates), 1e-9))
        # The same film further on in the batch is no negative.
        size = tf.shape(item_ids)[0]
        itself = tf.eye(size, tf.shape(candidates)[0], dtype=tf.bool)
        repeated = (item_ids[:, None] == candidates[None, :]) & ~itself
        logits = tf.where(repeated, -1e9, logits)
        return tf.reduce_mean(
            tf.nn.sparse_softmax_cross_entropy_with_logits(tf.range(size), logits))


def train(chosen: np.ndarray) -> TwoTowers:
    """A model of the chosen ratings."""
    seen, counts = np.unique(data.items[chosen], return_counts=True)
    model = TwoTowers(dict(zip(seen, counts / counts.sum(), strict=True)))
    model.compile(optimizer=tf.keras.optimizers.legacy.Adam(0.01))
    pairs = tf.data.Dataset.from_tensor_slices((data.users[chosen], data.items[chosen]))
    model.fit(pairs.shuffle(100_000, seed=0).batch(options.batch), epochs=options.epochs, verbose=0)
    return model


start = time.perf_counter()
likes, dislikes = train(liked & ~held_out), train(disliked & ~held_out)
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


def share(metric: tf.keras.layers.Layer, model: TwoTowers, chosen: np.ndarray) -> float:
    """How often the metric finds the true film of the chosen ratings."""
    metric.reset_states()
    for at in np.array_split(np.flatnonzero(chosen), 20):
        metric.update_state(model.user_model(data.users[at]), model.item_model(data.items[at]),
                            data.items[at])
    return float(metric.result()[0])


def candidates(model: TwoTowers) -> tf.data.Dataset:
    """The films under a model, with their ids."""
    return films.map(lambda ids: (ids, model.item_model(ids)))


top = tfrs.metrics.FactorizedTopK(
    tfrs.layers.factorized_top_k.BruteForce().index_from_dataset(candidates(likes)), ks=[K])
bottom = FactorizedBottomK(Furthest().index_from_dataset(candidates(dislikes)), ks=[K])
print(f"of {len(items):,} films, chance would put {K / len(items):.3f} of any into {K}")
for name, chosen in (("likes", liked & held_out), ("dislikes", disliked & held_out)):
    print(f"held-out {name}: {share(top, likes, chosen):.3f} in the top {K} of the model of likes, "
          f"{share(bottom, dislikes, chosen):.3f} in the bottom {K} of the model of dislikes")


def score(model: TwoTowers, at: np.ndarray) -> np.ndarray:
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
