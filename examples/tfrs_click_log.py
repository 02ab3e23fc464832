# /// script
# requires-python = ">=3.11"
# dependencies = ["farann[tfrs]", "numpy", "tensorflow", "tensorflow-recommenders"]
# ///
"""Learn from clicks and passes of a daily mail: rich features, a time split, a layer that serves.

Generates a log of mails: who got them when and where, which items they showed, and which were
clicked. Trains models of clicks, of passes and of both with TensorFlow Recommenders, calibrates
them on later mails, judges them on still later ones, saves and serves. Needs
`pip install '.[tfrs]'` in a checkout:

    python examples/tfrs_click_log.py
    python examples/tfrs_click_log.py --rows 1000000
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from typing import Any

os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")  # TFRS needs Keras 2
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import click_log
import numpy as np
import tensorflow as tf
import tensorflow_recommenders as tfrs
from towers import MixedNegatives, TwoTowers

from farann import metrics
from farann.adapters.posneg import FusionRanker, SignedModel
from farann.adapters.tfrs import BruteForceFusion

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--rows", type=int, default=60_000,
                    help="rows to train on, half of them clicks")
parser.add_argument("--epochs", type=int, default=5)
parser.add_argument("--batch", type=int, default=1024)
parser.add_argument("--dim", type=int, default=16)
parser.add_argument("--explicit", type=float, default=1.0,
                    help="weight of rows of the other label, which a model is not to recommend")
parser.add_argument("--apart", action="store_true", help="train each model by itself")
options = parser.parse_args()
tf.keras.utils.set_random_seed(0)

log = click_log.make(options.rows)
items, mails = log.items, log.mails
part = np.digitize(log.day, [42, 51])  # of 60 days: training, calibration, test
train = log.balanced & (part == 0)
print(f"{len(log.clicked):,} items in {len(mails['user_id']):,} mails of 60 days, "
      f"{log.clicked.mean():.0%} clicked; {len(items['item_id']):,} items")
print(f"trained on {train.sum():,} rows of the first 42 days, "
      f"{log.clicked[train].mean():.0%} clicked")

# ---- towers: features to vectors ----

KINDS = {"user_id": 16, "age": 4, "region": 4, "weekday": 2, "device": 2,
         "item_id": 16, "category": 4, "publisher": 4}


def tower(features: dict[str, np.ndarray], shared: dict[str, Any]) -> tf.keras.Model:
    """Embeddings of categories and numbers, then two layers; `shared` keeps the embeddings."""
    inputs = {name: tf.keras.Input((), dtype=tf.string if each.dtype.kind == "U" else tf.float32)
              for name, each in features.items()}
    parts = []
    for name, each in features.items():
        if name not in KINDS:
            parts.append(inputs[name][:, tf.newaxis])
            continue
        if name not in shared:
            lookup = tf.keras.layers.StringLookup(vocabulary=list(np.unique(each)), mask_token=None)
            shared[name] = lookup, tf.keras.layers.Embedding(lookup.vocabulary_size(), KINDS[name])
        lookup, embedding = shared[name]
        parts.append(embedding(lookup(inputs[name])))
    hidden = tf.keras.layers.Dense(64, "relu")(tf.keras.layers.Concatenate()(parts))
    return tf.keras.Model(inputs, tf.keras.layers.Dense(options.dim)(hidden))


rows = {name: each[log.item] for name, each in items.items()}
asked = {name: each[log.mail] for name, each in mails.items()}
negatives = MixedNegatives(items, items["item_id"][log.item[train]], "item_id",
                           options.batch // 4)
shared: dict[str, Any] = {}
models = []
for sign in (1, -1, "both"):
    if options.apart:
        shared = {}
    models.append(TwoTowers(tower(mails, shared), tower(items, shared), sign, negatives,
                            explicit=options.explicit))


class Together(tf.keras.Model):
    """Trains models that share embeddings, by the sum of their losses."""

    def train_step(self, batch: Any) -> dict[str, tf.Tensor]:
        """One step for all of them."""
        with tf.GradientTape() as tape:
            loss = tf.add_n([each.compute_loss(batch, training=True) for each in models])
        weights = list({id(one): one for each in models for one in each.trainable_variables}
                       .values())
        self.optimizer.minimize(loss, weights, tape=tape)
        return {"loss": loss}


def some(features: dict[str, np.ndarray], which: np.ndarray) -> dict[str, np.ndarray]:
    """Features of some rows."""
    return {name: each[which] for name, each in features.items()}


feed = tf.data.Dataset.from_tensor_slices((some(asked, train), some(rows, train),
                                           log.clicked[train]))
feed = feed.shuffle(int(train.sum()), seed=0).batch(options.batch).prefetch(1)
start = time.perf_counter()
for each in models if options.apart else [Together()]:
    each.compile(optimizer=tf.keras.optimizers.legacy.Adam(0.005))
    each.fit(feed, epochs=options.epochs, verbose=0)
print(f"three models, {'each by itself' if options.apart else 'together'}, "
      f"{options.epochs} epochs: {time.perf_counter() - start:.0f} s")

# ---- calibrate on the mails that came next ----


def ranker_of(*which: int) -> FusionRanker:
    """A ranker of some of the models, whose users are mails."""
    signed = [SignedModel(models[m].item_model(items).numpy(), vectors[m], models[m].sign,
                          ids=items["item_id"]) for m in which]
    return FusionRanker(signed).fit(log.mail[then], shown[then], log.clicked[then])


vectors = [each.user_model(mails).numpy() for each in models]
then, later = log.balanced & (part == 1), part == 2
shown = items["item_id"][log.item]
two, three = ranker_of(0, 1), ranker_of(0, 1, 2)

# ---- judge by all that the last mails showed ----

print(f"\n{'order of what a mail showed':32}{'AUC':>8}")
by_two, by_three = (each.evaluate(log.mail[later], shown[later], log.clicked[later], k=3)
                    for each in (two, three))
for name, table, row in (
    ("model of clicks alone", by_two, "positive"),
    ("model of passes alone", by_two, "negative"),
    ("fusion of both", by_two, "this ranker"),
    ("model of both labels alone", by_three, "signed"),
    ("fusion of all three", by_three, "this ranker"),
):
    found = next(each for each in table.rows if each.name == row)
    print(f"{name:32}{found.auc.mean:8.3f}")
best_auc = metrics.mean_interval(metrics.auc_by_user(
    log.mail[later], log.clicked[later], log.chance[later])).mean
print(f"{'the chances that made the log':32}{best_auc:8.3f}")

# ---- the best of all items, for the last mails ----

someone = np.unique(log.mail[later])[:500]
number = np.searchsorted(three.ids.astype(str), shown)
by_mail = [[number[later & (log.mail == mail) & which] for mail in someone]
           for which in (log.clicked, ~log.clicked)]
query_models = [each.user_model for each in models]
layer = BruteForceFusion(query_models, k=5).index_ranker(three)
among_shown = BruteForceFusion(query_models, k=5).index_ranker(three, among="shown")
print(f"\n{'the best 50 of all items':32}{'clicks':>8}{'passes':>10}")
positive = tfrs.layers.factorized_top_k.BruteForce(query_models[0]).index(
    models[0].item_model(items), tf.constant(items["item_id"]))
for name, ranking in (("model of clicks alone", positive),
                      ("all three, among what is shown", among_shown),
                      ("as the ranker lists all items", layer)):
    best = np.searchsorted(three.ids.astype(str),
                           ranking(some(mails, someone), k=50)[1].numpy().astype(str))
    share = [np.nanmean(measure(best, wanted, 50)) for measure, wanted in
             zip((metrics.recall_at_k, metrics.disliked_at_k), by_mail, strict=True)]
    print(f"{name:32}{share[0]:8.3f}{share[1]:10.3f}")

# ---- save, load, serve ----

with tempfile.TemporaryDirectory() as folder:
    one = {name: tf.constant(each[-3:]) for name, each in mails.items()}
    scores, best = among_shown(one)
    among_shown.query_with_exclusions(one, best[:, :1])
    tf.saved_model.save(among_shown, f"{folder}/served")
    served = tf.saved_model.load(f"{folder}/served")
    same = bool(tf.reduce_all(served(one)[1] == best))
    among_shown.save(f"{folder}/layer.keras")
    loaded = tf.keras.models.load_model(f"{folder}/layer.keras")
    same_loaded = bool(tf.reduce_all(loaded(one)[1] == best))
chances = among_shown.probability(scores)[0].numpy()
print("for the last mail: " + ", ".join(f"{item.decode()} ({chance:.2f})" for item, chance
                                        in zip(best[-1].numpy(), chances, strict=True)))
print(f"the same after saving and loading: {same_loaded}, and served without farann: {same}")
assert same and same_loaded
