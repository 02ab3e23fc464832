# /// script
# requires-python = ">=3.11"
# dependencies = ["farann[tfrs]", "numpy", "tensorflow", "tensorflow-recommenders"]
# ///
"""One list from several two-tower models: near to what a user likes, far from what they dislike.

Trains models of likes, of dislikes and of both on MovieLens 100K with TensorFlow Recommenders.
`FusionRanker` cross-fits them: it trains each on folds, learns from what was held out what their
scores mean, and trains them again on everything. Then one layer ranks by all of them; it is saved
and served without farann. Needs `pip install '.[tfrs]'` in a checkout:

    python examples/tfrs_posneg.py
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

from farann import metrics
from farann.adapters.posneg import FusionRanker, SignedModel
from farann.adapters.tfrs import BruteForceFusion, BruteForcePosNeg

K = 10
parser = towers.arguments(__doc__.splitlines()[0], logq=True)
parser.add_argument("--folds", type=int, default=3)
options = parser.parse_args()
tf.keras.utils.set_random_seed(0)

data = movielens.load(options.ratings)
rated = (data.stars >= 4) | (data.stars <= 2)
users, items, liked = data.users[rated], data.items[rated], data.stars[rated] >= 4
# A fifth for the test; what nobody else rated can't be judged.
test = np.random.default_rng(0).random(len(liked)) < 0.2
test &= np.isin(users, users[~test]) & np.isin(items, items[~test])
print(f"{len(data.stars):,} ratings by {len(np.unique(users)):,} users of "
      f"{len(np.unique(items)):,} films: {liked.sum():,} likes, {(~liked).sum():,} dislikes; "
      f"{test.sum():,} are held out")

# ---- train, cross-fitted ----

trained: dict[int, list[towers.TwoTowers]] = {}


def train(who: np.ndarray, what: np.ndarray, likes: np.ndarray) -> list[SignedModel]:
    """Train the models on a fold, or on everything."""
    who, what = who.astype(str), what.astype(str)
    some = movielens.Ratings(who, what, likes.astype(np.float32), {})
    models = [towers.train(some, likes, options), towers.train(some, ~likes, options),
              towers.train(some, np.ones_like(likes), options, likes)]
    trained[len(who)] = models
    names, films = np.unique(who), np.unique(what)
    return [SignedModel(model.item_model(films).numpy(), model.user_model(names).numpy(), sign,
                        ids=films, user_ids=names)
            for model, sign in zip(models, (1, -1, "both"), strict=True)]


start = time.perf_counter()
ranker = FusionRanker(train).fit(users[~test], items[~test], liked[~test], cv=options.folds)
likes, dislikes, both = trained[int((~test).sum())]
print(f"trained three models {options.folds + 1} times, {options.epochs} epochs each, in "
      f"{time.perf_counter() - start:.0f} s")
for report in ranker.report:
    print(f"  {report.name}: weight {report.weight:+.2f}, {report.share:.0%} of the score")
print(ranker.evaluate(users[test], items[test], liked[test], k=K))

# ---- one layer of all models ----

query_models = [model.user_model for model in (likes, dislikes, both)]
layer = BruteForceFusion(query_models, k=5).index_ranker(ranker)
among_shown = BruteForceFusion(query_models, k=5).index_ranker(ranker, among="shown")

someone = tf.constant(ranker.user_ids[:1].astype(str))
known = data.items[data.users == ranker.user_ids[0]]
print(f"\nfor user {ranker.user_ids[0]}, of the films they haven't rated:")
for name, which in (("likely to be watched and liked", layer),
                    ("likely to be liked if watched", among_shown)):
    scores, found = which.query_with_exclusions(someone, known[np.newaxis])
    titles = [data.titles[film.decode()] for film in found[0].numpy()]
    print(f"  {name}: {'; '.join(titles)}")
chances = among_shown.probability(scores)[0].numpy()
print("  the chances of these: " + ", ".join(f"{chance:.2f}" for chance in chances))

# ---- the best of all films that weren't rated in training, by the ratings held out ----

films = tf.data.Dataset.from_tensor_slices(ranker.ids.astype(str)).batch(256)
positive_only = tfrs.layers.factorized_top_k.BruteForce(likes.user_model)
positive_only.index_from_dataset(films.map(lambda ids: (ids, likes.item_model(ids))))
average = BruteForcePosNeg(likes.user_model, dislikes.user_model)
average.index_from_dataset(films.map(lambda ids: (ids, likes.item_model(ids),
                                                  dislikes.item_model(ids))))
everybody, names = ranker.user_ids.astype(str), ranker.ids.astype(str)
user, item = np.searchsorted(everybody, users), np.searchsorted(names, items)
seen = np.zeros((len(everybody), len(names)), bool)
seen[user[~test], item[~test]] = True
by_user = [[item[test & kind & (user == one)] for one in range(len(everybody))]
           for kind in (liked, ~liked)]
print(f"\n{'the best ' + str(K) + ' of all films':40}{'likes found':>12}{'disliked':>10}")
for name, ranking in (("model of likes alone", positive_only), ("plain average of two", average),
                      ("all three, cross-fitted", layer)):
    found = np.searchsorted(names, ranking(tf.constant(everybody),
                                           k=len(names))[1].numpy().astype(str))
    new = np.argsort(np.take_along_axis(seen, found, axis=1), axis=1, kind="stable")[:, :K]
    recall, disliked = (
        np.nanmean(measure(np.take_along_axis(found, new, axis=1), lists, K)) for measure, lists in
        zip((metrics.recall_at_k, metrics.disliked_at_k), by_user, strict=True))
    print(f"{name:40}{recall:12.3f}{disliked:10.4f}")

# ---- save, load, serve ----

asked = tf.constant(everybody)
with tempfile.TemporaryDirectory() as folder:
    layer.save(Path(folder) / "fusion.keras")
    loaded = tf.keras.models.load_model(Path(folder) / "fusion.keras")
    same = bool(tf.reduce_all(loaded(asked)[1] == layer(asked)[1]))
    tf.saved_model.save(layer, str(Path(folder) / "served"))
    served = tf.saved_model.load(str(Path(folder) / "served"))
    same_served = bool(tf.reduce_all(served(asked)[1] == layer(asked)[1]))
print(f"\nthe same after saving and loading: {same}, and served without farann: {same_served}")
assert same and same_served
