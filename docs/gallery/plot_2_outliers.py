"""
Outliers
========

Which pictures of a digit look least like that digit? Those furthest from the mean of their class; many of them are
hard to read, or have a wrong label.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits

import farann

pictures, labels = load_digits(return_X_y=True)
index = farann.Index(metric="l2", dtype="uint8")  # pixels are kept as bytes
index.add(pictures.astype(np.uint8))

# %%
# One search a class, among its own rows.

found = {}
for digit in range(10):
    members = np.flatnonzero(labels == digit)
    found[digit] = index.search_furthest(pictures[members].mean(axis=0), k=8, allowed=members)
print("furthest from the mean 3:", found[3].ids, np.round(found[3].scores, 1))

# %%
# The furthest eight of each:

figure, axes = plt.subplots(10, 8, figsize=(5, 6.3))
for digit, hits in found.items():
    for axis, row in zip(axes[digit], hits.ids, strict=True):
        axis.imshow(pictures[row].reshape(8, 8), cmap="gray_r")
        axis.axis("off")
figure.tight_layout(pad=0.3)
