"""
A diverse subset for labelling
==============================

Labels cost money. Rows that cover all others tell a classifier more about these digits than as many rows at random, as
long as there are few of them. On other data strange rows come first: leave out the loneliest fifth. Fifty rows near
k-means centers did better on all of six sets, here .93 beside .88, at random .83: see the page on outcomes.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.neighbors import KNeighborsClassifier

import farann

pictures, labels = load_digits(return_X_y=True)
vectors = pictures.astype(np.float32)
sizes = [10, 20, 40, 80, 160]


def accuracy(chosen):
    """Of all other rows, with the labels of those that were chosen."""
    rest = np.setdiff1d(np.arange(len(vectors)), chosen)
    model = KNeighborsClassifier(1).fit(vectors[chosen], labels[chosen])
    return model.score(vectors[rest], labels[rest])


# %%
# One selection has all sizes in it: the first ten picks are the selection of ten.

picks = farann.select_diverse(vectors, max(sizes))
diverse = [accuracy(picks.ids[:size]) for size in sizes]
rng = np.random.default_rng(0)
draws = [[accuracy(rng.choice(len(vectors), size, replace=False)) for _ in range(10)]
         for size in sizes]
for size, ours, theirs in zip(sizes, diverse, draws, strict=True):
    print(f"{size:4} labels: diverse {ours:.3f}, at random {np.mean(theirs):.3f}, "
          f"from {min(theirs):.3f} to {max(theirs):.3f}")

# %%
# The radius says how well the chosen rows cover the others, before any label is known.

figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3))
left.plot(sizes, diverse, "o-", label="diverse")
left.plot(sizes, np.mean(draws, axis=1), "o-", label="at random, mean of ten")
left.set(xlabel="labels", ylabel="accuracy", xscale="log")
left.legend()
right.plot(np.arange(1, max(sizes)), picks.scores[1:])
right.set(xlabel="rows chosen", ylabel="largest distance to one of them")
figure.tight_layout()
