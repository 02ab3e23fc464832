"""Thousands of rows an answer: the right order whatever order they come in, and little waste."""

from __future__ import annotations

from typing import Any

import inside
import numpy as np
import pytest
from cases import assert_exact, index_of, pairs
from reference import METRICS, Float32

import farann

N, DIM = 20_000, 16


def rows_like(kind: str) -> Float32:
    rows = np.random.default_rng(0).standard_normal((N, DIM), dtype=np.float32)
    if kind == "near first":
        return rows[np.argsort(np.linalg.norm(rows, axis=1))]
    if kind == "far first":
        return rows[np.argsort(-np.linalg.norm(rows, axis=1))]
    if kind == "up and down":
        order = np.argsort(np.linalg.norm(rows, axis=1))
        return np.asarray(rows[np.concatenate([order[::2], order[::-2]])])
    if kind == "many ties":
        return rows[np.random.default_rng(1).integers(0, 40, N)]
    if kind == "all the same":
        return np.repeat(rows[:1], N, axis=0)
    return rows


@pytest.mark.parametrize(("codes", "kind", "metric"), pairs(
    ["int8", "float32"],
    ["any", "near first", "far first", "up and down", "many ties", "all the same"], METRICS))
def test_answers(codes: str, kind: str, metric: str) -> None:
    rows = rows_like(kind)
    queries = np.random.default_rng(2).standard_normal((4, DIM), dtype=np.float32)
    index = index_of(rows, metric, codes=codes).build()
    assert_exact(index, rows, queries, (65, 3000, N))


@pytest.mark.parametrize("options", [{}, {"codes": "float32"}, {"cells": 64}])
@pytest.mark.parametrize("k", [500, 5000])
def test_few_keys_in_float64(
    k: int, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What codes can't tell from the k-th row is a fraction of k more, not a multiple."""
    # At some levels codes are given up for so large a k, and float32 finds the rest.
    monkeypatch.setattr(inside.settings, "row_costs", lambda *_: (0.0,) * 6)
    rng = np.random.default_rng(3)
    index = farann.Index(32, metric="cosine", **options)
    index.add(rng.standard_normal((100_000, 32), dtype=np.float32))
    index.build()
    for n in (1, 40):
        stats = index.search_furthest(rng.standard_normal((n, 32), dtype=np.float32), k,
                                         return_stats=True, threads=1).stats
        assert k <= stats.rows_rescored / n < 2 * k


@pytest.mark.parametrize(("k", "by_keys"), [(100, True), (128, True), (129, False), (1000, False)])
def test_no_keys_of_blocks_for_long_answers(k: int, by_keys: bool) -> None:
    """Rows get better and better, so that most of a block pass: to a list, or for their keys."""
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((15_000, DIM), dtype=np.float32)
    queries = (1.0 + 0.1 * rng.standard_normal((16, DIM))).astype(np.float32)
    rows = rows[np.argsort(2 * rng.standard_normal(len(rows)) - rows.sum(axis=1))]
    index = index_of(rows, "dot", codes="float32").build()
    stats = index.search_furthest(queries, k, return_stats=True, threads=1).stats
    assert (stats.rows_rescored > 2 * k * len(queries)) == by_keys
    assert_exact(index, rows, queries, (k,))


def test_keys_of_blocks_for_long_answers_of_rows_that_tie() -> None:
    """Nearly all rows of a block pass, and would join the list and get a key as well."""
    rng = np.random.default_rng(0)
    rows = np.repeat(rng.standard_normal((1, DIM), dtype=np.float32), N, axis=0)
    rows[rng.choice(N, N // 20, replace=False)] = rng.standard_normal((N // 20, DIM))
    queries = rng.standard_normal((16, DIM), dtype=np.float32)
    index = index_of(rows, "dot", codes="float32").build()
    stats = index.search_furthest(queries, 1000, return_stats=True, threads=1).stats
    assert stats.rows_rescored < len(queries) * N // 2
    assert_exact(index, rows, queries, (1000,))
