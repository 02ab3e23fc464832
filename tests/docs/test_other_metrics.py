"""The changes of rows that ``docs/other-metrics.md`` shows give the distances of scipy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy.spatial.distance import cdist
from test_docs import blocks

import farann

PAGE = Path(__file__).parents[2] / "docs" / "other-metrics.md"
SHOWN: dict[str, Any] = {}
for _, code in blocks(PAGE.read_text("utf-8")):
    exec(code, SHOWN)

Rows = npt.NDArray[Any]


def furthest(metric: str, rows: Rows, queries: Rows, dtype: str = "float32") -> farann.Hits:
    index = farann.Index(metric=metric, dtype=dtype)
    index.add(rows)
    return index.search_furthest(queries, k=20)


def check(hits: farann.Hits, distances: Rows, right: Rows, within: float) -> None:
    """Distances are right, and no row that was left out is further than the last found."""
    found = np.take_along_axis(right, hits.ids, axis=1)
    np.testing.assert_allclose(distances, found, rtol=within, atol=within)
    best = -np.sort(-right, axis=1)[:, : hits.ids.shape[1]]
    np.testing.assert_allclose(found, best, rtol=within, atol=within)


@pytest.mark.parametrize("spread", [1.0, 1e3])
def test_mahalanobis(spread: float) -> None:
    rng = np.random.default_rng(1)
    rows = rng.standard_normal((500, 6)) * np.geomspace(1.0, spread, 6) + 10.0
    rows[7] = rows[3]
    covariance = np.cov(rows, rowvar=False)
    changed = SHOWN["whitened"](rows, covariance)
    hits = furthest("l2", changed, changed[:9])
    check(hits, hits.scores,
          cdist(rows[:9], rows, "mahalanobis", VI=np.linalg.inv(covariance)), 1e-4)


def test_weighted() -> None:
    rng = np.random.default_rng(2)
    rows, weights = rng.standard_normal((500, 6)), rng.uniform(0.0, 5.0, 6)
    changed = rows * np.sqrt(weights)
    hits = furthest("l2", changed, changed[:9])
    check(hits, hits.scores, cdist(rows[:9], rows, "minkowski", p=2, w=weights), 1e-5)


def test_hellinger() -> None:
    rng = np.random.default_rng(3)
    rows = rng.dirichlet(np.full(12, 0.1), 500)
    rows[:3] = np.eye(12)[:3]  # 1 from each other
    hits = furthest("l2", np.sqrt(rows), np.sqrt(rows[:9]))
    affinity = np.sqrt(rows[:9]) @ np.sqrt(rows).T
    check(hits, hits.scores / np.sqrt(2.0), np.sqrt(np.maximum(1.0 - affinity, 0.0)), 1e-5)


def test_haversine() -> None:
    """Poles, both sides of the date line, the other side of the sphere, and the same place."""
    metrics = pytest.importorskip("sklearn.metrics.pairwise")
    rng = np.random.default_rng(4)
    places = np.column_stack([rng.uniform(-90, 90, 500), rng.uniform(-180, 180, 500)])
    places[:6] = [[90, 0], [-90, 50], [0, 180], [0, -180], [0, 0], [0, 0]]
    points = SHOWN["on_sphere"](places)
    hits = furthest("cosine", points, points[:9])
    right = 6371.0088 * metrics.haversine_distances(np.radians(places[:9]), np.radians(places))
    # Of rows half a meter apart any may come first; their distance is that of float64.
    check(hits, SHOWN["kilometers"](points[:9, None], points[hits.ids]), right, 1e-3)


def test_hamming() -> None:
    rng = np.random.default_rng(5)
    bits = rng.integers(0, 2, (500, 96), dtype=np.uint8)
    bits[0], bits[1], bits[2] = 0, 1, bits[3]
    hits = furthest("l2", bits, bits[:9], "uint8")
    right = cdist(bits[:9], bits, "hamming") * 96
    assert (np.rint(hits.scores.astype(np.float64) ** 2)
            == np.rint(np.take_along_axis(right, hits.ids, axis=1))).all()
    order = np.lexsort((np.broadcast_to(np.arange(500), right.shape), -np.rint(right)))
    assert (hits.ids == order[:, :20]).all()


def test_angular_and_correlation() -> None:
    rows = np.random.default_rng(6).standard_normal((500, 7)) + 3.0
    hits = furthest("cosine", rows, rows[:9])
    check(hits, np.arccos(hits.scores), np.arccos(1.0 - cdist(rows[:9], rows, "cosine")), 1e-4)
    centered = rows - rows.mean(axis=1, keepdims=True)
    hits = furthest("cosine", centered, centered[:9])
    check(hits, 1.0 - hits.scores, cdist(rows[:9], rows, "correlation"), 1e-5)


@pytest.mark.parametrize("metric", ["l2", "dot", "cosine"])
def test_boosts(metric: str) -> None:
    """Similarity, or half the squared distance times -1, and a weight times worth; with ties."""
    rng = np.random.default_rng(8)
    rows, worth = rng.standard_normal((500, 7)), np.exp(rng.normal(0.0, 2.0, 500))
    if metric == "cosine":
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    rows[9], worth[9] = rows[3], worth[3]
    index_metric = "l2" if metric == "l2" else "dot"
    changed, size = SHOWN["boosted"](rows, worth, index_metric)
    index = farann.Index(metric=index_metric)
    index.add(changed)
    similar = -cdist(rows[:9], rows, "sqeuclidean") / 2 if metric == "l2" else rows[:9] @ rows.T
    for weight in (0.0, 0.01, 3.0, -0.5):
        asked = SHOWN["question"](rows[:9], weight, size, index_metric)
        value = similar + weight * worth
        for hits, sign in ((index.search_nearest(asked, 20), -1), (
                index.search_furthest(asked, 20), 1)):
            found = np.take_along_axis(value, hits.ids, axis=1)
            best = sign * np.sort(sign * value, axis=1)[:, :20]
            np.testing.assert_allclose(found, best, rtol=1e-5, atol=1e-5)


def test_tanimoto() -> None:
    """Rows of equally many ones are in the same order; `tanimoto` is that of scipy."""
    rng = np.random.default_rng(7)
    bits = np.zeros((300, 40), np.uint8)
    np.put_along_axis(bits, np.argsort(rng.random(bits.shape), axis=1)[:, :9], 1, axis=1)
    right = 1.0 - cdist(bits[:9].astype(bool), bits.astype(bool), "jaccard")
    for row in range(9):
        np.testing.assert_allclose(SHOWN["tanimoto"](bits, bits[row]), right[row])
    for metric in ("l2", "dot", "cosine"):
        found = np.take_along_axis(right, furthest(metric, bits, bits[:9], "uint8").ids, axis=1)
        np.testing.assert_allclose(found, np.sort(right, axis=1)[:, :20])
