# /// script
# requires-python = ">=3.11"
# dependencies = ["farann", "numpy", "scikit-learn"]
# ///
"""Rank by what people like and by what they dislike: two models, one list.

A small shop with a log of likes and dislikes. One model is trained on likes and one on dislikes;
their scores are not comparable, so a ranker learns from held-out parts of the log how much each
counts. Then it finds the best of all items exactly, and says why.
"""

import tempfile
from pathlib import Path

import numpy as np
from sklearn.decomposition import TruncatedSVD

from farann.adapters.posneg import FusionRanker, SignedModel

N_USERS, N_ITEMS, N_LOG = 400, 300, 40_000
rng = np.random.default_rng(7)

# The log: users have tastes and distastes, and some items please more than others.
taste, distaste = rng.standard_normal((2, N_USERS, 4))
likeable, annoying = rng.standard_normal((2, N_ITEMS, 4))
charm = rng.normal(0, 0.7, N_ITEMS)
users, items = rng.integers(0, N_USERS, N_LOG), rng.integers(0, N_ITEMS, N_LOG)
truth = (taste[users] * likeable[items]).sum(1) - (distaste[users] * annoying[items]).sum(1)
liked = rng.random(N_LOG) < 1 / (1 + np.exp(-truth - charm[items]))
log, test = np.split(rng.permutation(N_LOG), [32_000])


def train(users: np.ndarray, items: np.ndarray, liked: np.ndarray) -> list[SignedModel]:
    """A model of each kind of feedback: a matrix factorization."""
    models = []
    for sign, chosen in ((1, liked), (-1, ~liked)):
        counts = np.zeros((N_USERS, N_ITEMS))
        np.add.at(counts, (users[chosen], items[chosen]), 1.0)
        svd = TruncatedSVD(8, random_state=0)
        people = svd.fit_transform(counts)
        models.append(SignedModel(svd.components_.T, people, sign))
    return models


# It is called on four fifths of the log five times, and once on all of it.
ranker = FusionRanker(train).fit(users[log], items[log], liked[log])
for report in ranker.report:
    print(f"{report.name}: weight {report.weight:+.2f}, share in the score {report.share:.2f}, "
          f"AUC alone {report.auc:.2f}")

# The best of all items for two users, without what they rated already.
hits = ranker.rank([0, 1], k=3)
for user in range(2):
    print(f"\nfor user {user}:")
    for place, item in enumerate(hits.ids[user]):
        parts = ", ".join(f"{name} {part[user, place]:+.2f}" for name, part in hits.parts.items())
        print(f"  item {item:3}: P(like) {hits.probability[user, place]:.2f}, by {parts}")

# Does it pay? On a part of the log that nothing has seen:
judged = ranker.evaluate(users[test], items[test], liked[test])
print(f"\n{judged}")

with tempfile.TemporaryDirectory() as folder:
    path = Path(folder) / "ranker.farann"
    ranker.save(path)
    again = FusionRanker.load(path).rank([0, 1], k=3)
assert (again.ids == hits.ids).all()
