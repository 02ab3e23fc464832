"""Which rows to label: at once, or in batches that a model helps to choose."""

from __future__ import annotations

from collections import defaultdict
from functools import partial
from typing import Any

import numpy as np

import farann

from .data import Labeled
from .record import Floats, Ints, Use, Values

SHARES = (0.0, 0.1, 0.2, 0.4)  # of the rows, left out as the loneliest
FIRST, BATCH, ROUNDS = 20, 20, 5  # labels at random, in a batch, and batches


def picked(rows: Floats, k: int, seed: int) -> dict[str, Ints]:
    """Rows to label by each way."""
    from sklearn.cluster import KMeans

    index = farann.Index()
    index.add(rows)
    centers = KMeans(k, n_init=1, random_state=seed).fit(rows).cluster_centers_
    ways = {"random": np.random.default_rng(seed).permutation(len(rows))[:k],
            "k-means": np.unique(index.search_nearest(centers.astype(np.float32), 1).ids),
            **{f"leave out {share:g}": index.select_diverse(k, leave_out=share).ids
               for share in SHARES}}
    # The rows nearest to the means of what each pick stands for: one step of k-means.
    own = farann.Index()
    own.add(rows[ways["leave out 0.2"]])
    nearest = own.search_nearest(rows, 1).ids[:, 0]
    means = np.stack([rows[nearest == pick].mean(axis=0) for pick in own.ids])
    return {**ways, "leave out 0.2, to means": np.unique(index.search_nearest(means, 1).ids)}


def at_once(k: int, found: Labeled, repeats: int) -> Values:
    """Accuracy of the nearest labeled row, on another half of the rows each time."""
    result: dict[str, list[float]] = defaultdict(list)
    for repeat in range(repeats):
        pool, test = _halves(len(found.rows), repeat)
        for way, picks in picked(found.rows[pool], k, repeat).items():
            index = farann.Index()
            index.add(found.rows[pool[picks]])
            near = index.search_nearest(found.rows[test], 1).ids[:, 0]
            right = found.labels[pool[picks]][near] == found.labels[test]
            result[way].append(float(right.mean()))
    return result


def _halves(n: int, repeat: int) -> list[Ints]:
    return np.array_split(np.random.default_rng(repeat).permutation(n), 2)


def next_batch(index: farann.Index, labeled: Ints, doubt: Any, seed: int) -> dict[str, Ints]:
    """Rows to label next by each way; `doubt` is how near a model's best two labels are."""
    rest = np.setdiff1d(index.ids, labeled)
    doubtful = rest[np.argsort(-doubt[rest], kind="stable")]
    return {"random": np.random.default_rng(seed).permutation(rest)[:BATCH],
            "least certain": doubtful[:BATCH],
            "furthest": index.select_diverse(BATCH, first=labeled).ids,
            "furthest of doubtful": index.select_diverse(BATCH, allowed=doubtful[: 5 * BATCH]).ids,
            "doubtful and spaced": index.select_spaced(doubt, BATCH, allowed=rest).ids}


def in_batches(found: Labeled, repeats: int) -> Values:
    """Accuracy of a ridge classifier after five batches, on another half each time."""
    result: dict[str, list[float]] = defaultdict(list)
    for repeat in range(repeats):
        pool, test = _halves(len(found.rows), repeat)
        pool = pool[:1000]
        rows, labels = found.rows[pool], found.labels[pool]
        index = farann.Index()
        index.add(rows)
        start = np.arange(FIRST)
        ways = list(next_batch(index, start, np.zeros(len(rows)), repeat))
        for way in ways:
            labeled = start
            for round_ in range(ROUNDS):
                model = _model(rows[labeled], labels[labeled])
                best = np.sort(model.decision_function(rows), axis=1)[:, -2:]
                doubt = best[:, 0] - best[:, 1]
                batch = next_batch(index, labeled, doubt, 100 * repeat + round_)[way]
                labeled = np.append(labeled, batch)
            result[way].append(_model(rows[labeled], labels[labeled]).score(
                found.rows[test], found.labels[test]))
    return result


def _model(rows: Floats, labels: Ints) -> Any:
    from sklearn.linear_model import RidgeClassifier

    # Coordinates of vectors of length 1 are small.
    return RidgeClassifier(1.0 if np.linalg.norm(rows[0]) > 2 else 0.1).fit(rows, labels)


_SETS = ("fashion", "digits", "nouns", "foldoc", "leaves", "cells")
AT_ONCE = {k: Use(f"{k} labels at once", "accuracy of the nearest labeled row", "leave out 0.2",
                  ("random", "k-means"), partial(at_once, k), 10, _SETS, chose=("fashion",))
           for k in (50, 200)}
IN_BATCHES = Use("Labels in batches of 20", "accuracy of a ridge classifier",
                 "furthest of doubtful", ("random", "least certain"), in_batches, 10,
                 _SETS[:-1], chose=("fashion",))
