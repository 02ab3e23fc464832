"""What the tests of approximate search share: rows, queries, recall."""

from __future__ import annotations

from typing import Any

import farann
import numpy as np
from cases import Float32, float32
from numpy.typing import NDArray


def clustered(rng: np.random.Generator, n: int, dim: int) -> Float32:
    centres = rng.standard_normal((50, dim))
    spread = rng.uniform(0.2, 0.5, (50, 1))
    which = rng.integers(0, 50, n)
    return float32(centres[which] + spread[which] * rng.standard_normal((n, dim)))


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
