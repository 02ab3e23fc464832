"""One list from two retrieval models: near to what a user likes, far from what they dislike.

Trains a model of likes and one of dislikes on MovieLens 100K with TensorFlow Recommenders,
calibrates both on ratings that neither has seen, ranks by them with one layer, evaluates, saves
and serves. Needs `pip install '.[tfrs]'` in a checkout:

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
from farann.adapters.tfrs import PosNeg

K = 10
options = towers.arguments(__doc__.splitlines()[0], logq=True).parse_args()
tf.keras.utils.set_random_seed(0)

data = movielens.load(options.ratings)
users, user = np.unique(data.users, return_inverse=True)
items, item = np.unique(data.items, return_inverse=True)
liked, disliked = data.stars >= 4, data.stars <= 2
# Three parts: for training, for calibration, and for the test.
part = np.random.default_rng(0).choice(3, len(data.stars), p=[0.6, 0.2, 0.2])
print(f"{len(data.stars):,} ratings by {len(users):,} users of {len(items):,} films: "
      f"{liked.sum():,} likes, {disliked.sum():,} dislikes")

start = time.perf_counter()
likes, dislikes = (towers.train(data, chosen & (part == 0), options)
                   for chosen in (liked, disliked))
print(f"trained a model of each for {options.epochs} epochs in {time.perf_counter() - start:.0f} s")

# ---- one layer of both models ----

films = tf.data.Dataset.from_tensor_slices(items).batch(256)
films = films.map(lambda ids: (ids, likes.item_model(ids), dislikes.item_model(ids)))
feedback = (part == 1) & (liked | disliked)


def posneg() -> PosNeg:
    """A layer that takes names of users, with the films of both models."""
    return PosNeg(likes.user_model, dislikes.user_model, k=5).index_from_dataset(films)


layer = posneg().calibrate(data.users[feedback], data.items[feedback], liked[feedback])
mild = posneg().calibrate(data.users[feedback], data.items[feedback], liked[feedback],
                          weight=0.9, item_prior=None)

ranker = layer.to_ranker()  # the same, and says why
line = ranker.linear_logit
print(f"P(like)    = logistic({line.positive_slope:.2f} * positive score "
      f"{line.positive_intercept:+.2f} + the film's own log-odds)")
print(f"P(dislike) = logistic({line.negative_slope:.2f} * negative score "
      f"{line.negative_intercept:+.2f} - the film's own log-odds)")
print(f"weight of the positive model: {line.weight:.2f}")

someone = tf.constant(users[:1])
known = data.items[data.users == users[0]]
scores, found = layer.query_with_exclusions(someone, known[np.newaxis])
numbers = np.searchsorted(items, found[0].numpy().astype(str))
why = ranker.score(likes.user_model(someone), dislikes.user_model(someone), numbers)
print(f"\nfor user {users[0]}, of the films they haven't rated:")
for number, chance, like, dislike in zip(numbers, layer.probability(scores)[0].numpy(),
                                         why.positive[0], why.negative[0], strict=True):
    print(f"  {data.titles[str(items[number])]}: P(like) {chance:.2f}; {like:.2f} by the positive "
          f"model, and P(dislike) {dislike:.2f} by the negative")

# ---- evaluate on the ratings held out ----

test = part == 2
shown = np.zeros((len(users), len(items)), bool)
shown[user[test], item[test]] = True
unseen = np.ones_like(shown)
unseen[user[~test], item[~test]] = False
enough = shown.sum(axis=1) > K


def lists_of(kind: np.ndarray) -> list[np.ndarray]:
    """Each user's films of a kind in the test part, by number."""
    return [item[test & kind & (user == number)] for number in range(len(users))]


liked_films, disliked_films = lists_of(liked), lists_of(disliked)


def judge(name: str, ranking: tf.keras.Model) -> None:
    """Print how well a layer orders the films of the test part, and all that weren't rated."""
    found_scores, ids = ranking(tf.constant(users), k=len(items))
    score = np.empty(shown.shape)
    np.put_along_axis(score, np.searchsorted(items, ids.numpy().astype(str)),
                      found_scores.numpy(), axis=1)
    numbers = []
    for among, counted in ((shown, enough), (unseen, np.ones_like(enough))):
        best = np.argsort(np.where(among, -score, np.inf), axis=1, kind="stable")[:, :K]
        best = np.where(np.take_along_axis(among, best, axis=1), best, -1)
        for measure, wanted in ((metrics.ndcg_at_k, liked_films),
                                (metrics.disliked_at_k, disliked_films)):
            numbers.append(measure(best, wanted, K)[counted])
    rated = test & (liked | disliked)
    numbers.insert(2, metrics.auc_by_user(user[rated], liked[rated],
                                          score[user[rated], item[rated]]))
    print(f"{name:22}" + "".join(f"{metrics.mean_interval(each).mean:11.3f}" for each in numbers))


positive_only = tfrs.layers.factorized_top_k.BruteForce(likes.user_model)
positive_only.index_from_dataset(films.map(lambda ids, positive, negative: (ids, positive)))
print(f"\n{'':22}{'the films shown in the test':^33}{'all that was not rated':^22}")
print(f"{'':22}{'nDCG@10':>11}{'disliked@10':>12}{'AUC':>10}{'nDCG@10':>11}{'disliked@10':>12}")
judge("positive model alone", positive_only)
judge("average of raw scores", posneg())  # what the layer gives if it isn't calibrated
judge("PosNeg", layer)
judge("PosNeg, mild", mild)

# ---- save, load, serve ----

with tempfile.TemporaryDirectory() as folder:
    layer.save(Path(folder) / "posneg.keras")
    loaded = tf.keras.models.load_model(Path(folder) / "posneg.keras")
    everybody = tf.constant(users)
    same = bool(tf.reduce_all(loaded(everybody)[1] == layer(everybody)[1]))
    exact = layer.to_exact()
    exact(someone)
    tf.saved_model.save(exact, str(Path(folder) / "served"))
    served = tf.saved_model.load(str(Path(folder) / "served"))
    same_served = bool(tf.reduce_all(served(everybody)[1] == exact(everybody)[1]))
print(f"\nthe same after saving and loading: {same}, and served without farann: {same_served}")
assert same and same_served
