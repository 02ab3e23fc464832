"""What the tests of approximate search share: rows, queries, recall."""

from __future__ import annotations

from typing import Any

import numpy as np
import reference
from cases import Float32, float32
from numpy.typing import NDArray

import farann


def clustered(rng: np.random.Generator, n: int, dim: int) -> Float32:
    centers = rng.standard_normal((50, dim))
    spread = rng.uniform(0.2, 0.5, (50, 1))
    which = rng.integers(0, 50, n)
    return float32(centers[which] + spread[which] * rng.standard_normal((n, dim)))


def low_rank(rng: np.random.Generator, n: int, dim: int) -> Float32:
    # The directions are the same for rows and queries, whatever the generator's state.
    directions = np.random.default_rng(9).standard_normal((4, dim))
    noise = 0.05 * rng.standard_normal((n, dim))
    return float32(rng.standard_normal((n, 4)) @ directions + noise)


def gaussian(rng: np.random.Generator, n: int, dim: int) -> Float32:
    return rng.standard_normal((n, dim), dtype=np.float32)


def heavy_tailed(rng: np.random.Generator, n: int, dim: int) -> Float32:
    norms = rng.standard_t(3, (n, 1))
    return float32(norms * rng.standard_normal((n, dim)))


DATA = {"clustered": clustered, "low rank": low_rank, "gaussian": gaussian,
        "heavy tails": heavy_tailed}


def recall_of(found: NDArray[np.int64], truth: NDArray[np.int64]) -> float:
    """The share of the true ids that were found, by sets."""
    pairs = zip(found.tolist(), truth.tolist(), strict=True)
    same = sum(len(set(one) & set(other)) for one, other in pairs)
    return same / truth.size


def recalls_of(index: farann.Index, asked: Float32, truth: NDArray[np.int64],
               **limits: Any) -> list[float]:
    """Of a search within limits for ten rows a query, one by one and all at once."""
    one_by_one = np.array([index.search_furthest(query, 10, **limits).ids for query in asked])
    return [recall_of(one_by_one, truth),
            recall_of(index.search_furthest(asked, 10, **limits).ids, truth)]


def assert_within(hits: farann.Hits, queries: Float32, rows: Float32, ids: NDArray[np.int64],
                  metric: str, epsilon: float, *, nearest: bool = False) -> None:
    """Hold what was left out against the k-th found, by float64 scores of the oracle.

    The tolerances pay for the rounding of the oracle's own scores: a few units of 2^-53, of
    distances relative to themselves, of products and cosines relative to |q| |x|.
    """
    position = {int(i): p for p, i in enumerate(ids)}
    for query, found in zip(queries, hits.ids, strict=True):
        key = reference.keys(query, rows, metric)
        scores = reference.scores_from_keys(query, key, metric)
        at = np.array([position[int(i)] for i in found if i >= 0], np.intp)
        assert len(at) == min(len(found), len(rows)) == len(set(at.tolist()))
        left_out = np.delete(scores, at)
        if len(left_out) == 0 or len(at) == 0:
            continue
        if metric == "l2":
            near, far = (left_out, scores[at])[:: 1 if nearest else -1]
            assert far.max() <= (1.0 + epsilon) * near.min() * (1.0 + 1e-12)
            continue
        size = 1.0 if metric == "cosine" else (
            np.linalg.norm(query.astype("f8")) * np.linalg.norm(rows.astype("f8"), axis=1).max())
        low, high = (scores[at], left_out)[:: 1 if nearest else -1]
        assert low.min() >= high.max() - epsilon - 1e-12 * (size + epsilon)
