"""Times of groups beside lists of ids: a thousand queries of classes with 500 rows each."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

import farann


def run(rows: int = 60_000, dim: int = 128, groups: int = 120, repeats: int = 5) -> None:
    """Print milliseconds of CPU time of this process for 1,000 queries on one thread."""
    random = np.random.default_rng(0)
    labels = random.permutation(rows) % groups
    vectors = random.standard_normal((groups, dim))[labels] + random.standard_normal((rows, dim))
    index = farann.Index(threads=1)
    index.add(vectors, groups=labels)
    index.build()
    asked = random.choice(rows, 1000, replace=False)
    queries, own = vectors[asked].astype(np.float32), labels[asked]
    small = farann.Index(threads=1)
    small.add(vectors, groups=np.arange(rows) // 5)
    small.build()
    members = [np.flatnonzero(labels == group) for group in range(groups)]
    lists = [members[group] for group in own]
    furthest, nearest = index.search_furthest, index.search_nearest
    positive = furthest(queries, 1, groups=own).scores[:, 0]
    questions: dict[str, Callable[[], object]] = {
        "furthest": lambda: furthest(queries),
        "furthest, exclude= the group": lambda: furthest(queries, exclude=lists),
        "furthest, outside_groups=": lambda: furthest(queries, outside_groups=own),
        "nearest": lambda: nearest(queries),
        "nearest, exclude= the group": lambda: nearest(queries, exclude=lists),
        "nearest, outside_groups=": lambda: nearest(queries, outside_groups=own),
        "nearest, outside_groups=, beyond= the positive": lambda: nearest(
            queries, outside_groups=own, beyond=positive),
        "furthest, allowed= a group at a time": lambda: [
            furthest(queries[own == group], allowed=members[group]) for group in np.unique(own)],
        "furthest, groups=": lambda: furthest(queries, groups=own),
        "furthest of 4, groups= groups of 5": lambda: small.search_furthest(
            queries, 4, groups=asked // 5),
    }
    best = dict.fromkeys(questions, float("inf"))
    for _ in range(repeats):
        for name, ask in questions.items():
            began = time.process_time()
            ask()
            best[name] = min(best[name], time.process_time() - began)
    print(f"{rows:,} rows of dimension {dim}, groups of {rows // groups}, 1,000 queries, k = 10")
    for name, seconds in best.items():
        print(f"{name:<42}{seconds * 1e3:8.1f} ms")
