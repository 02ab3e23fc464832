"""Rows in groups, queries like them and unlike them: what the tests of the guard share."""

from __future__ import annotations

from typing import Any

import inside
import numpy as np
from cases import Float32, float32
from numpy.typing import NDArray

import farann

GROUPS = 60
N, TARGET = 20_000, 0.95


def middles_of(dim: int, seed: int = 0) -> NDArray[np.float64]:
    return 2.0 * np.random.default_rng(seed).standard_normal((GROUPS, dim))


def around(middles: NDArray[np.float64], n: int, seed: int) -> Float32:
    """Vectors at random around some points."""
    random = np.random.default_rng(seed)
    which = random.integers(len(middles), size=n)
    return float32(middles[which] + 0.5 * random.standard_normal((n, middles.shape[1])))


def unlike(dim: int, n: int, metric: str) -> dict[str, Float32]:
    """Kinds of queries that are nothing like rows around `middles_of(dim)`."""
    random = np.random.default_rng(5)
    alike = around(middles_of(dim), n, 6)
    turned, _ = np.linalg.qr(random.standard_normal((dim, dim)))
    away = np.full(dim, 2.0)
    kinds = {
        "distant": around(np.full((1, dim), 5.0), n, 7),
        "shifted": alike + away,
        "rotated": alike @ turned,
        "swapped": around(middles_of(dim, 1), n, 8),
        "noisy": alike + random.standard_normal((n, dim)),
    }
    if metric == "l2":
        kinds |= {"scaled": 8.0 * alike, "longer": 1.5 * alike}
    return {name: float32(queries) for name, queries in kinds.items()}


guards_of = inside.tuning.guards_of


def guarded(index: farann.Index, queries: Float32, **options: Any) -> tuple[farann.Hits, int]:
    """What a search finds, and how many queries it answers exactly, whatever was asked before."""
    for watch in inside.tuning.watches_of(index):
        watch.forget()
    hits = index.search_furthest(queries, recall=TARGET, return_stats=True, **options)
    stats = hits.stats
    assert stats.queries == (len(queries) if queries.ndim == 2 else 1)
    return hits, stats.queries_guarded
