"""Rank by what people like and by what they dislike: two models, one list.

A small shop with a log of likes and dislikes. One model is trained on likes and one on dislikes;
their scores are not comparable, so a ranker calibrates them on a part of the log that neither has
seen. Then it finds the best of all items exactly, and says why.
"""

import tempfile
from pathlib import Path

import numpy as np
from sklearn.decomposition import TruncatedSVD

from farann import metrics
from farann.adapters.posneg import PosNegRanker

N_USERS, N_ITEMS, N_LOG = 400, 300, 40_000
rng = np.random.default_rng(7)

# The log: users have tastes and distastes, and some items please more than others.
taste, distaste = rng.standard_normal((2, N_USERS, 4))
likeable, annoying = rng.standard_normal((2, N_ITEMS, 4))
charm = rng.normal(0, 0.7, N_ITEMS)
users, items = rng.integers(0, N_USERS, N_LOG), rng.integers(0, N_ITEMS, N_LOG)
truth = (taste[users] * likeable[items]).sum(1) - (distaste[users] * annoying[items]).sum(1)
liked = rng.random(N_LOG) < 1 / (1 + np.exp(-truth - charm[items]))

# Three parts: to train the models, to calibrate them, and to test.
train, calibration, test = np.split(rng.permutation(N_LOG), [24_000, 32_000])


def retrieval_model(chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """User and item embeddings of one kind of feedback: a matrix factorization."""
    counts = np.zeros((N_USERS, N_ITEMS))
    np.add.at(counts, (users[chosen], items[chosen]), 1.0)
    svd = TruncatedSVD(8, random_state=0)
    return svd.fit_transform(counts), svd.components_.T


positive_users, positive_items = retrieval_model(train[liked[train]])
negative_users, negative_items = retrieval_model(train[~liked[train]])

ranker = PosNegRanker(positive_items, negative_items)
ranker.fit(positive_users, negative_users, items[calibration], liked[calibration],
           users=users[calibration])
line = ranker.linear_logit
print(f"P(like)    = logistic({line.positive_slope:.2f} * positive score "
      f"{line.positive_intercept:+.2f} + the item's own log-odds)")
print(f"P(dislike) = logistic({line.negative_slope:.2f} * negative score "
      f"{line.negative_intercept:+.2f} - the item's own log-odds)")
print(f"weight of the positive model: {ranker.weight:.2f}")

# The best of all items for two users, without what they know already.
seen = [np.unique(items[users == user]) for user in range(2)]
hits = ranker.rank(positive_users[:2], negative_users[:2], k=3, exclude=seen)
for user in range(2):
    print(f"\nfor user {user}:")
    for score, item, like, dislike in zip(*(part[user] for part in hits), strict=True):
        print(f"  item {item:3}: log-odds {score:+.2f}, P(like) {like:.2f} by the positive model, "
              f"P(dislike) {dislike:.2f} by the negative")


def quality(chosen: PosNegRanker) -> float:
    """Mean over users of how well their own test feedback is ordered (AUC)."""
    scores = chosen.score(positive_users, negative_users, np.arange(N_ITEMS)).scores
    auc = metrics.auc_by_user(users[test], liked[test], scores[users[test], items[test]])
    return metrics.mean_interval(auc).mean


print("\nArea under the ROC curve of each user's own test feedback:")
others = {
    "positive model alone": {"weight": 1.0, "item_prior": None},
    "average of raw scores": {"calibration": "none"},
}
for name, options in others.items():
    other = PosNegRanker(positive_items, negative_items, **options)
    other.fit(positive_users, negative_users, items[calibration], liked[calibration],
              users=users[calibration])
    print(f"  {name:22} {quality(other):.3f}")
print(f"  {'PosNegRanker':22} {quality(ranker):.3f}")

# Probabilities of the fused scores mean what they say.
scores = ranker.score(positive_users, negative_users, np.arange(N_ITEMS)).scores
chance = ranker.probability(scores)[users[test], items[test]]
error = metrics.expected_calibration_error(chance, liked[test])
print(f"\nexpected calibration error {error:.3f}")

with tempfile.TemporaryDirectory() as folder:
    path = Path(folder) / "ranker.farann"
    ranker.save(path)
    again = PosNegRanker.load(path).rank(positive_users[:2], negative_users[:2], k=3, exclude=seen)
assert (again.ids == hits.ids).all()
