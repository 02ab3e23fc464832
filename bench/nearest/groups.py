"""Times of groups beside lists of ids: a thousand queries of classes with 500 rows each.

At most one row of a group is found by `per_group=`, and by two ways that do without it: a search
for each row of the answer, which leaves out the groups found so far, and one for ten times k rows.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

import farann

K = 10


def run(rows: int = 60_000, dim: int = 128, groups: int = 120, repeats: int = 2) -> None:
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
        "furthest, per_group=1": lambda: furthest(queries, per_group=1),
        "nearest, per_group=1": lambda: nearest(queries, per_group=1),
        "nearest, per_group=3": lambda: nearest(queries, per_group=3),
        "nearest, a search for each row": lambda: one_by_one(nearest, queries, labels, members),
        "nearest, the first of groups among 10 k": lambda: first_of_groups(
            nearest(queries, 10 * K).ids, labels),
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
    right = nearest(queries, per_group=1).ids
    some = first_of_groups(nearest(queries, 10 * K).ids, labels)
    share = np.mean([len({*one} & {*all.tolist()}) for one, all in zip(some, right, strict=True)])
    print(f"among 10 k rows there are {share / K:.3f} of the nearest rows of k groups")


def first_of_groups(ids: NDArray[np.int64], labels: NDArray[np.int64]) -> list[list[int]]:
    """The first k rows of each answer of which no two share a group."""
    found = []
    for line in ids.tolist():
        first = dict[int, int]()
        for row in line:
            first.setdefault(labels[row], row)
        found.append([*first.values()][:K])
    return found


def one_by_one(search: Callable[..., farann.Hits], queries: NDArray[np.float32],
               labels: NDArray[np.int64], members: list[NDArray[np.int64]]) -> list[list[int]]:
    """The same, exactly, by a search for each row that leaves out all groups found."""
    found: list[list[int]] = [[] for _ in queries]
    for _ in range(K):
        left_out = [np.concatenate([[-1], *(members[labels[row]] for row in rows)])
                    for rows in found]
        nearest = search(queries, 1, exclude=left_out).ids[:, 0].tolist()
        for rows, row in zip(found, nearest, strict=True):
            rows.append(row)
    return found
