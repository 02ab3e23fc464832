"""Two-tower models of the examples with TensorFlow Recommenders: of likes, of dislikes, of both."""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_recommenders as tfrs
from movielens import Ratings

from farann.adapters.training import (
    logistic_losses,
    relative_log_q,
    retrieval_loss,
    tensorflow_operations,
)

OPS = tensorflow_operations()


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


class MixedNegatives(tf.Module):
    """Adds uniformly drawn items to the candidates of a batch, and says how often each is drawn.

    Negatives of a batch are items of the log, mostly popular ones: a model never learns where
    items belong that the log lacks.
    """

    def __init__(self, items: Any, occurrences: np.ndarray, id: str | None = None,
                 uniform: int = 0) -> None:
        """Take features of all items, ids in the log, the name of the id among the features."""
        super().__init__()
        self.items, self.id, self.uniform = tf.nest.map_structure(tf.constant, items), id, uniform
        ids = items if id is None else items[id]
        self.n_items = len(ids)
        seen, counts = np.unique(occurrences, return_counts=True)
        count = dict(zip(seen, counts, strict=True))
        # An item that never comes counts as one that comes once.
        average = max(counts.sum() / self.n_items, 1e-9)
        shares = np.array([count.get(item, 1) / average for item in ids], np.float32)
        self.frequency = tf.lookup.StaticHashTable(
            tf.lookup.KeyValueTensorInitializer(tf.constant(ids), shares), 1 / average)

    def __call__(self, candidates: Any) -> tuple[Any, tf.Tensor, tf.Tensor]:
        """Features of candidates and drawn ones, their ids, the logarithm of how often each is."""
        n = tf.shape(tf.nest.flatten(candidates)[0])[0]
        if self.uniform:
            drawn = tf.random.uniform([self.uniform], maxval=self.n_items, dtype=tf.int32)
            candidates = tf.nest.map_structure(
                lambda given, every: tf.concat(
                    [given, tf.cast(tf.gather(every, drawn), given.dtype)], axis=0),
                candidates, self.items)
        ids = candidates if self.id is None else candidates[self.id]
        return candidates, ids, relative_log_q(tf.math, self.frequency.lookup(ids),
                                               tf.cast(n, tf.float32), float(self.uniform))


class TwoTowers(tfrs.Model):
    """A model of likes (sign 1), of dislikes (-1) or of "both".

    Batches are (user features, item features, whether it was liked).
    """

    def __init__(self, user_model: tf.keras.Model, item_model: tf.keras.Model, sign: int | str,
                 negatives: MixedNegatives, *, explicit: float = 1.0, logq: bool = True) -> None:
        super().__init__()
        self.user_model, self.item_model, self.sign = user_model, item_model, sign
        self.negatives, self.explicit, self.logq = negatives, explicit, logq
        if sign == "both":
            self.intercept = tf.Variable(0.0)

    def compute_loss(self, inputs: Any, training: bool = False) -> tf.Tensor:
        """Mean of the losses of a batch; those of rows of the other label times `explicit`."""
        users, items, liked = inputs
        asked = self.user_model(users)
        if self.sign == "both":  # the score is the log-odds of a like, but for a constant
            scores = tf.reduce_sum(asked * self.item_model(items), axis=1) + self.intercept
            return tf.reduce_mean(logistic_losses(OPS, scores, liked))
        candidates, ids, log_q = self.negatives(items)
        loss = retrieval_loss(
            OPS, asked, self.item_model(candidates), labels=liked if self.sign == 1 else ~liked,
            candidate_ids=ids, log_q=log_q if self.logq else None, dislike_weight=self.explicit)
        return loss / tf.cast(tf.shape(asked)[0], tf.float32)


def train(data: Ratings, chosen: np.ndarray, options: argparse.Namespace,
          liked: np.ndarray | None = None) -> TwoTowers:
    """A model of the chosen ratings; of both kinds if it is said which are likes."""
    users, items = np.unique(data.users), np.unique(data.items)
    sign = 1 if liked is None else "both"
    negatives = MixedNegatives(items, data.items[chosen], uniform=options.uniform_negatives)
    model = TwoTowers(tower(users, options.dim), tower(items, options.dim), sign, negatives,
                      logq=options.logq)
    model.compile(optimizer=tf.keras.optimizers.legacy.Adam(0.01))
    labels = np.ones(int(chosen.sum()), bool) if liked is None else liked[chosen]
    rows = tf.data.Dataset.from_tensor_slices((data.users[chosen], data.items[chosen], labels))
    model.fit(rows.shuffle(100_000, seed=0).batch(options.batch), epochs=options.epochs, verbose=0)
    return model
