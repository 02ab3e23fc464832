"""Batches from which the best rows of many queries are excluded: what comes first has no threshold
by these."""

from __future__ import annotations

from typing import Any

import inside
import numpy as np
import pytest
import reference
from cases import Float32, assert_same, index_of
from reference import METRICS

import farann

LEVELS = inside.levels()
K = 10


def gaussian(rng: np.random.Generator, n: int, dim: int = 24) -> Float32:
    return rng.standard_normal((n, dim), dtype=np.float32)


@pytest.mark.parametrize("metric", METRICS)
def test_answers(metric: str, rng: np.random.Generator) -> None:
    """At every level, of one index: it is built at the fastest in any case."""
    rows, queries = gaussian(rng, 6000), gaussian(rng, 40)
    index = index_of(rows, metric).build()
    best = reference.furthest(queries, rows, 3000, metric).ids
    excluded = [best[i, : (0, 1, K, 2 * K, 300, 3000)[i % 6]] for i in range(len(queries))]
    expected = reference.furthest(queries, rows, 32, metric, exclude=excluded)
    for isa in LEVELS:
        inside.store.use_level(index, isa)
        for k in (1, K, 32):
            assert_same(index.search_furthest(queries, k, exclude=excluded), expected, k)


@pytest.mark.parametrize("codes", ["float32", "int8"])
@pytest.mark.parametrize("metric", METRICS)
def test_the_best_are_of_another_group(metric: str, codes: str, rng: np.random.Generator) -> None:
    """Where rows are removed, too, or a mask leaves some out."""
    rows, queries = gaussian(rng, 4000), gaussian(rng, 40)
    best = np.unique(reference.furthest(queries, rows, 3 * K, metric).ids)
    groups = np.isin(np.arange(4000), best).astype(int)
    index = farann.Index(metric=metric, codes=codes)
    index.add(rows, groups=groups)
    index.build()
    others = np.flatnonzero(groups == 0)
    removed = others[::50]
    mask = rng.random(4000) < 0.9
    cases: tuple[tuple[Any, dict[str, Any]], ...] = (
        (others[mask[others]], {"allowed": mask}), (others, {}))
    for left, options in cases:
        expected = reference.furthest(queries, rows, 32, metric, allowed=left)
        for k in (1, K, 32):
            assert_same(index.search_furthest(queries, k, outside_groups=1, **options), expected, k)
            assert_same(index.search_furthest(queries, k, groups=0, **options), expected, k)
    index.remove(removed)
    expected = reference.furthest(queries, rows, 32, metric, allowed=np.setdiff1d(others, removed))
    for k in (1, K, 32):
        assert_same(index.search_furthest(queries, k, outside_groups=1), expected, k)


def test_few_more_rows_pass(rng: np.random.Generator) -> None:
    """Where a few random ids are excluded, as many rows pass as without, and few more."""
    rows, queries = gaussian(rng, 20_000), gaussian(rng, 64)
    index = index_of(rows, "cosine").build()
    excluded = rng.integers(0, len(rows), (len(queries), 100))
    without = index.search_furthest(queries, K, return_stats=True).stats
    stats = index.search_furthest(queries, K, exclude=excluded, return_stats=True).stats
    assert stats.rows_passed < 1.25 * without.rows_passed
    assert stats.rows_rescored < 1.25 * without.rows_rescored
