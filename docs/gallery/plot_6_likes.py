"""
Likes and dislikes
==================

One model is trained on what people liked, one on what they disliked. A ranker weighs them by feedback that neither
has seen, and makes one list.
"""

import matplotlib.pyplot as plt
import numpy as np

from farann.adapters.posneg import FusionRanker, SignedModel

rng = np.random.default_rng(1)
users, items = 300, 400
tastes = rng.standard_normal((users, 6)).astype(np.float32)
likeable, annoying = rng.standard_normal((2, items, 6)).astype(np.float32)
who, what = rng.integers(0, users, 12_000), rng.integers(0, items, 12_000)
truth = (tastes[who] * (likeable[what] - 0.7 * annoying[what])).sum(axis=1)
liked = rng.random(len(who)) < 1 / (1 + np.exp(-truth))

# %%
# The vectors stand for two trained models. Half of the feedback weighs them, half judges.

models = [SignedModel(likeable, tastes, 1), SignedModel(annoying, tastes, -1)]
ranker = FusionRanker(models)
ranker.fit(who[:6000], what[:6000], liked[:6000])
for report in ranker.report:
    print(f"{report.name}: weight {report.weight:.2f}, AUC alone {report.auc:.3f}")

# %%
# How well each orders what a user was shown (area under the ROC curve, mean of users):

judged = ranker.evaluate(who[6000:], what[6000:], liked[6000:])
for row in judged.rows:
    print(f"{row.name}: {row.auc.mean:.3f}")
print(judged.advice)

# %%
# The ten best items of one user, among all:

best = ranker.rank(0, k=10, among="shown").ids
figure, axis = plt.subplots(figsize=(4.5, 3.4))
axis.scatter(annoying @ tastes[0], likeable @ tastes[0], s=9, color="0.7")
axis.scatter(annoying[best] @ tastes[0], likeable[best] @ tastes[0], s=30, color="tab:green")
axis.set(xlabel="score of the model of dislikes", ylabel="score of the model of likes")
figure.tight_layout()
