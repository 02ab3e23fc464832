# /// script
# requires-python = ">=3.11"
# dependencies = ["farann", "numpy"]
# ///
"""The furthest rows of a query, under three metrics, and a check against numpy.

Run it from a checkout after `pip install .`:

    python examples/quickstart.py
"""

import numpy as np

import farann

rng = np.random.default_rng(0)

# Rows of different lengths, as embeddings often are.
lengths = rng.lognormal(0.0, 0.4, (50_000, 1))
items = (rng.standard_normal((50_000, 32)) * lengths).astype(np.float32)
query = rng.standard_normal(32, dtype=np.float32)

print(f"{len(items):,} rows of {items.shape[1]} coordinates; the 5 furthest from one query:\n")
for metric in ("l2", "dot", "cosine"):
    index = farann.Index(metric=metric)
    index.add(items)
    hits = index.search_furthest(query, k=5)
    print(f"  {metric:<7} ids {hits.ids}  scores {np.round(hits.scores, 3)}")

print("\nl2 and dot prefer long rows. Their lengths, beside the average of all rows:")
for metric in ("l2", "dot", "cosine"):
    ids = farann.search_furthest(items, query, k=5, metric=metric).ids
    mean = np.linalg.norm(items[ids], axis=1).mean()
    print(f"  {metric:<7} {mean:5.1f}   all {np.linalg.norm(items, axis=1).mean():.1f}")

# The same in numpy, in float64: every distance, then a sort.
distances = np.linalg.norm(items.astype(np.float64) - query, axis=1)
brute_force = np.argsort(-distances, kind="stable")[:5]
found = farann.search_furthest(items, query, k=5).ids
print("\nThe same ids as brute force in float64:", bool((found == brute_force).all()))
assert (found == brute_force).all()
