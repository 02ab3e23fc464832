"""The two-tower model of the examples with TensorFlow Recommenders: users and films they rated."""

from __future__ import annotations

import argparse

import numpy as np
import tensorflow as tf
import tensorflow_recommenders as tfrs
from movielens import Ratings


def arguments(description: str, *, logq: bool) -> argparse.ArgumentParser:
    """Options of an example; `logq` is whether the correction is on by default."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--ratings",
                        help="tab-separated user, item, rating; default MovieLens 100K")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--dim", type=int, default=32)
    parser.add_argument("--batch", type=int, default=1024)
    parser.add_argument("--uniform-negatives", type=int, default=0, metavar="N",
                        help="mixed negative sampling: N more negatives a batch, drawn uniformly")
    parser.add_argument("--logq", action=argparse.BooleanOptionalAction, default=logq,
                        help="correct for how often each item is drawn as a negative")
    return parser


def tower(vocabulary: np.ndarray, dim: int) -> tf.keras.Model:
    """From ids to embeddings."""
    lookup = tf.keras.layers.StringLookup(vocabulary=list(vocabulary), mask_token=None)
    inputs = tf.keras.Input((), dtype=tf.string)
    embedding = tf.keras.layers.Embedding(
        len(vocabulary) + 1, dim,
        embeddings_initializer=tf.keras.initializers.RandomNormal(stddev=0.1))
    return tf.keras.Model(inputs, embedding(lookup(inputs)))


class TwoTowers(tfrs.Model):
    """Learns which films a user is seen with, by telling them from the other films of a batch."""

    def __init__(self, users: np.ndarray, items: np.ndarray, share: dict[str, float],
                 options: argparse.Namespace) -> None:
        super().__init__()
        self.user_model = tower(users, options.dim)
        self.item_model = tower(items, options.dim)
        self.items, self.options = items, options
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
        if self.options.uniform_negatives:
            drawn = tf.random.uniform([self.options.uniform_negatives], maxval=len(self.items),
                                      dtype=tf.int32)
            candidates = tf.concat([item_ids, tf.gather(tf.constant(self.items), drawn)], axis=0)
        logits = tf.matmul(self.user_model(user_ids), self.item_model(candidates), transpose_b=True)
        if self.options.logq:
            # Popular items are negatives more often, which would push them down.
            logits -= tf.math.log(tf.maximum(self.chances.lookup(candidates), 1e-9))
        # The same film further on in the batch is no negative.
        size = tf.shape(item_ids)[0]
        itself = tf.eye(size, tf.shape(candidates)[0], dtype=tf.bool)
        repeated = (item_ids[:, None] == candidates[None, :]) & ~itself
        logits = tf.where(repeated, -1e9, logits)
        return tf.reduce_mean(
            tf.nn.sparse_softmax_cross_entropy_with_logits(tf.range(size), logits))


def train(data: Ratings, chosen: np.ndarray, options: argparse.Namespace) -> TwoTowers:
    """A model of the chosen ratings."""
    seen, counts = np.unique(data.items[chosen], return_counts=True)
    model = TwoTowers(np.unique(data.users), np.unique(data.items),
                      dict(zip(seen, counts / counts.sum(), strict=True)), options)
    model.compile(optimizer=tf.keras.optimizers.legacy.Adam(0.01))
    pairs = tf.data.Dataset.from_tensor_slices((data.users[chosen], data.items[chosen]))
    model.fit(pairs.shuffle(100_000, seed=0).batch(options.batch), epochs=options.epochs, verbose=0)
    return model
