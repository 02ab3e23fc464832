"""The nearest rows beyond a radius, against the oracle."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import reference
from cases import DATA, Float32, assert_same, in_turn, queries_for, rows_for

import farann

N, DIM = 700, 11
KINDS = [kind for kind in DATA if kind not in ("1e-30", "offset 1e4", "unit norm", "1e30",
                                               "constant columns", "ascending norm")]


def right(queries: Float32, rows: Float32, radii: Any, k: int, metric: str,
          exclude: Any = None) -> reference.Found:
    """All rows in order, less those within the radius; and the k first."""
    everything = reference.nearest(queries, rows, len(rows), metric, exclude=exclude)
    found = reference.Found(np.full((len(queries), k), np.nan, np.float32),
                            np.full((len(queries), k), -1, np.int64))
    for i, query in enumerate(queries):
        ids = everything.ids[i][everything.ids[i] >= 0]
        key = reference.keys(query, rows[ids], metric)
        scores = reference.scores_from_keys(query, key, metric)
        past = scores > radii[i] if metric == "l2" else scores < radii[i]
        found.ids[i, : past.sum()] = ids[past][:k]
        found.scores[i, : past.sum()] = everything.scores[i, : len(ids)][past][:k]
    return found


def radii_for(queries: Float32, rows: Float32, metric: str) -> Any:
    """Scores of rows, to the bit, in order of how many are nearer; and no scores of any."""
    radii = []
    for i, query in enumerate(queries):
        key = np.sort(reference.keys(query, rows, metric))
        score = reference.scores_from_keys(query, key[[0, 2, 9, N // 4, N // 2, N - 3, N - 1]],
                                           metric)
        radii.append(score[i % 7])
    radii[0], radii[-1] = (np.inf, -1.0) if metric == "l2" else (-np.inf, 2.0)
    return np.array(radii)


@pytest.mark.parametrize(("kind", "metric"), in_turn(KINDS))
def test_nearest_beyond(kind: str, metric: str, rng: np.random.Generator) -> None:
    rows = rows_for(kind, rng, N, DIM, metric)
    queries = queries_for(rng, rows, metric)
    index = farann.Index(metric=metric)
    index.add(rows[:600])
    index.build()
    index.add(rows[600:])
    with np.errstate(all="ignore"):
        radii = radii_for(queries, rows, metric)
        for k in (3, 80):
            expected = right(queries, rows, radii, k, metric)
            assert_same(index.search_nearest(queries, k, beyond=radii), expected)
            single = reference.Found(expected.scores[2], expected.ids[2])
            assert_same(index.search_nearest(queries[2], k, beyond=float(radii[2])), single)
        out = [list(range(i, N, 2)) for i in range(len(queries))]
        assert_same(index.search_nearest(queries, 3, beyond=radii, exclude=out, recall=0.9),
                    right(queries, rows, radii, 3, metric, out))


@pytest.mark.parametrize("options", [{"codes": "int4"}, {"codes": "float32"},
                                     {"codes": "int8", "cells": 9}])
@pytest.mark.parametrize("metric", reference.METRICS)
def test_many_rows_and_groups(metric: str, options: Any, rng: np.random.Generator) -> None:
    rows = rng.standard_normal((5000, 24), dtype=np.float32)
    labels = np.arange(5000) % 50
    index = farann.Index(metric=metric, **options)
    index.add(rows, groups=labels)
    queries = rows[:40] + np.float32(0.1)
    own = index.search_furthest(queries, 1, groups=labels[:40])
    hits = index.search_nearest(queries, 5, outside_groups=labels[:40],
                                beyond=own.scores[:, 0] * 0.7)
    out = [np.flatnonzero(labels == label).tolist() for label in labels[:40]]
    assert_same(hits, right(queries, rows, (own.scores[:, 0] * 0.7).astype(float), 5, metric, out))
    inside = index.search_nearest(queries, 5, groups=labels[:40], beyond=own.scores[:, 0] * 0.7)
    assert inside.found.any() and (labels[inside.ids] == labels[:40, None])[inside.found].all()


def test_what_is_refused() -> None:
    index = farann.Index(metric="dot")
    index.add([[1.0], [2.0]])
    with pytest.raises(ValueError, match="budget: rows beyond a radius"):
        index.search_nearest([1.0], 1, beyond=1.0, budget=3)
    with pytest.raises(ValueError, match="beyond: expected a number, or one for each query, shape"):
        index.search_nearest([1.0], 1, beyond=[1.0, 2.0])
    coded = farann.Index(metric="dot", keep_vectors=False)
    coded.add([[1.0], [2.0]])
    with pytest.raises(ValueError, match="beyond needs the vectors"):
        coded.search_nearest([1.0], 1, beyond=1.0, recall=0.9)
