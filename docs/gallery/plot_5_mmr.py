"""
Relevant and diverse: MMR
=========================

The ten rows most like a query are often ten times the same. Maximal marginal relevance takes rows that are like the
query and unlike those before them. Few candidates and little diversity keep the list relevant: of things of WordNet ten
plain nearest rows had an α-nDCG of .43, MMR of 20 with diversity 0.3 .41, of all rows with 0.5 .27 (see the page on
outcomes).
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits

import farann

pictures, labels = load_digits(return_X_y=True)
vectors = pictures.astype(np.float32)
index = farann.Index(metric="cosine")
index.add(vectors)
query = vectors[3]

# %%
# ``diversity`` 0 is a plain search for the most similar rows, 1 looks at the rows before alone.

lists = {diversity: index.search_mmr(query, k=8, diversity=diversity).ids
         for diversity in (0.0, 0.3, 0.5, 0.7)}
for diversity, ids in lists.items():
    print(f"diversity {diversity}: digits {labels[ids]}")

# %%
# Choosing among the 20 most similar rows gives another list:

exact = index.search_mmr(query, k=8, diversity=0.5).ids
short = index.search_mmr(query, k=8, diversity=0.5, candidates=20).ids
print(f"of 20 candidates: {len(np.intersect1d(exact, short))} of the 8")

figure, axes = plt.subplots(len(lists), 8, figsize=(6, 3.6))
for line, (diversity, ids) in zip(axes, lists.items(), strict=True):
    for axis, row in zip(line, ids, strict=True):
        axis.imshow(pictures[row].reshape(8, 8), cmap="gray_r")
        axis.axis("off")
    line[0].set_title(f"diversity {diversity}", fontsize=8, loc="left")
figure.tight_layout(pad=0.3)
