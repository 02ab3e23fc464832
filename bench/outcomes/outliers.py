"""Outliers: few rows of another kind."""

from __future__ import annotations

from collections import defaultdict

import numpy as np

import farann

from .data import Labeled
from .record import Floats, Use, Values, Wide

NEIGHBOR = 10
_SHARE = 0.02  # of the rows that are outliers


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


def values(found: Labeled, repeats: int) -> Values:
    """Average precision: the rows of a label, another each time, and a few of all others."""
    from sklearn.metrics import average_precision_score

    result: dict[str, list[float]] = defaultdict(list)
    labels, random = np.unique(found.labels), np.random.default_rng(7)
    for repeat in range(repeats):
        same = found.labels == labels[repeat % len(labels)]
        usual, others = np.flatnonzero(same), np.flatnonzero(~same)
        some = random.permutation(others)[: max(5, int(_SHARE * len(usual)))]
        rows = found.rows[np.concatenate([usual, some])]
        for way, scores in ways(rows).items():
            result[way].append(average_precision_score(np.arange(len(rows)) >= len(usual), scores))
    return result


USE = Use("Outliers", "average precision", "tenth neighbor",
          ("from the mean", "LOF", "Isolation Forest"), values, 20,
          ("fashion", "foldoc", "nouns", "tokens", "digits", "cancer", "cells"),
          chose=("fashion", "foldoc"))
