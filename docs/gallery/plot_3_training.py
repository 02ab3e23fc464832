"""
Hardest positives and hard negatives
====================================

Contrastive training learns most from rows that are hard to tell apart: for an anchor the *furthest* row of its own
class, and the *nearest* rows of other classes.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits

import farann

pictures, labels = load_digits(return_X_y=True)
vectors = pictures.astype(np.float32)
index = farann.Index(metric="cosine")
index.add(vectors, groups=labels)

# %%
# One call each: ``groups`` looks at the rows of a query's own class, ``outside_groups`` at all others. The furthest row
# of all would be an *easy* negative.

positives = index.search_furthest(vectors, k=1, groups=labels).ids[:, 0]
negatives = index.search_nearest(vectors, k=1, outside_groups=labels).ids[:, 0]
easy = index.search_furthest(vectors, k=1).ids[:, 0]

# %%
# How alike they are, on average: hard negatives are more like the anchor than hardest positives.

unit = vectors / np.linalg.norm(vectors, axis=1)[:, None]
for name, others in (("hardest positive", positives), ("hard negative", negatives),
                     ("furthest of all", easy)):
    print(f"{name:17} cosine {np.mean(np.sum(unit * unit[others], axis=1)):.2f}")

# %%
# Six anchors, their hardest positives and hard negatives:

figure, axes = plt.subplots(3, 6, figsize=(6, 3.2))
anchors = np.linspace(0, len(vectors) - 1, 6).astype(int)
for line, rows in zip(axes, (anchors, positives[anchors], negatives[anchors]), strict=True):
    for axis, row in zip(line, rows, strict=True):
        axis.imshow(pictures[row].reshape(8, 8), cmap="gray_r")
        axis.set_title(labels[row], fontsize=8)
        axis.axis("off")
figure.tight_layout(pad=0.4)
