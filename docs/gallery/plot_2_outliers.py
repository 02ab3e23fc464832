"""
Outliers
========

Which rows lie where few others do? Score each row by the distance to its tenth nearest neighbor. The distance from the
mean, or to the furthest row, is another question: it finds rows at the border of the data, and misses those between.
No way wins on all real sets: the page on outcomes has seven, beside scikit-learn's detectors.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.metrics import average_precision_score, precision_recall_curve
from sklearn.neighbors import LocalOutlierFactor

import farann

# %%
# 10,000 rows in ten clusters of different widths. Fifty rows are twice as far from the middle of their cluster as others.

rng = np.random.default_rng(0)
cluster = rng.integers(0, 10, 10_000)
centers, widths = rng.standard_normal((10, 32)), rng.uniform(0.7, 1.0, 10)
planted = rng.choice(10_000, 50, replace=False)
scale = widths[cluster]
scale[planted] *= 2.0
rows = (centers[cluster] + scale[:, None] * rng.standard_normal((10_000, 32))).astype(np.float32)
is_planted = np.isin(np.arange(10_000), planted)

# %%
# Four scores, and how well each puts the fifty first. Each row is its own nearest neighbor, so the tenth other one is
# the eleventh. The local outlier factor divides that distance by those of a row's neighbors: it is better still where
# clusters differ in width, and takes more than twice as long here.

index = farann.Index(metric="l2")
index.add(rows)
scores = {
    "tenth nearest neighbor": index.search_nearest(rows, k=11).scores[:, 10],
    "local outlier factor": -LocalOutlierFactor(10).fit(rows).negative_outlier_factor_,
    "distance from the mean": np.linalg.norm(rows - rows.mean(axis=0), axis=1),
    "distance to the furthest row": index.eccentricities(),
}
figure, axis = plt.subplots(figsize=(5, 3.2))
for name, score in scores.items():
    print(f"{name:30} average precision {average_precision_score(is_planted, score):.2f}")
    precision, recall, _ = precision_recall_curve(is_planted, score)
    axis.plot(recall, precision, label=name)
axis.set_xlabel("share of the planted rows found")
axis.set_ylabel("share of rows that are planted")
axis.legend()
figure.tight_layout()

# %%
# The same among pictures of each digit: those furthest from their fifth nearest neighbor of the same digit. Many are hard
# to read, or have a wrong label.

pictures, labels = load_digits(return_X_y=True)
index = farann.Index(metric="l2", dtype="uint8")  # pixels are kept as bytes
index.add(pictures.astype(np.uint8))
figure, axes = plt.subplots(10, 8, figsize=(5, 6.3))
for digit in range(10):
    members = np.flatnonzero(labels == digit)
    distances = index.search_nearest(pictures[members], k=6, allowed=members).scores[:, 5]
    for axis, row in zip(axes[digit], members[np.argsort(-distances)], strict=False):
        axis.imshow(pictures[row].reshape(8, 8), cmap="gray_r")
        axis.axis("off")
figure.tight_layout(pad=0.3)
