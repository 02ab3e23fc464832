"""Outliers: few rows of another kind."""

from __future__ import annotations

from collections import defaultdict
from functools import partial

import numpy as np

import farann

from .data import Labeled
from .record import Floats, Use, Values, Wide

NEIGHBOR = 10
_USUAL = 40  # rows of a label, at least
_SHARE = (0.02, 0.1)  # outliers a usual row: of all other labels, of one


def ways(rows: Floats) -> dict[str, Wide]:
    """How much of an outlier each row is."""
    from sklearn.ensemble import IsolationForest
    from sklearn.neighbors import LocalOutlierFactor

    index = farann.Index()
    index.add(rows)
    return {"tenth neighbor": index.search_nearest(ids=index.ids, k=NEIGHBOR).scores[:, -1],
            "furthest row": index.eccentricities(),
            "from the mean": np.linalg.norm(rows - rows.mean(axis=0), axis=1),
            "LOF": -LocalOutlierFactor(20).fit(rows).negative_outlier_factor_,
            "Isolation Forest": -IsolationForest(random_state=0).fit(rows).score_samples(rows)}


def values(of_one: bool, found: Labeled, repeats: int) -> Values:
    """Average precision: the rows of a label, another each time, and a few of all others, or of
    one other label, which are then near each other."""
    from sklearn.metrics import average_precision_score

    result: dict[str, list[float]] = defaultdict(list)
    labels, sizes = np.unique(found.labels, return_counts=True)
    labels, random = labels[sizes >= _USUAL], np.random.default_rng(7)
    for repeat in range(repeats):
        label, other = np.roll(labels, repeat)[[0, 1 + repeat % (len(labels) - 1)]]
        usual = np.flatnonzero(found.labels == label)
        others = np.flatnonzero(found.labels == other if of_one else found.labels != label)
        some = random.permutation(others)[: max(5, int(_SHARE[of_one] * len(usual)))]
        rows = found.rows[np.concatenate([usual, some])]
        for way, scores in ways(rows).items():
            result[way].append(average_precision_score(np.arange(len(rows)) >= len(usual), scores))
    return result


_SETS = ("fashion", "foldoc", "nouns", "tokens", "digits", "cancer", "cells")
SCATTERED, GROUPED = (Use(title, "average precision", "tenth neighbor",
                          ("from the mean", "LOF", "Isolation Forest"), partial(values, of_one), 20,
                          _SETS, chose=("fashion", "foldoc"))
                      for title, of_one in (("Outliers of all kinds, 2 %", False),
                                            ("Outliers of one kind, 10 %", True)))
