"""Rows and queries without negative numbers, whose best keys are near 0; and rows with the best key
that there can be."""

from __future__ import annotations

from collections.abc import Callable

import inside
import numpy as np
import pytest
import reference
from cases import core_top, pairs
from inside import core
from numpy.testing import assert_array_equal
from numpy.typing import NDArray

import farann

Float32 = NDArray[np.float32]
N, QUERIES, DIM = 1500, 8, 24


def _histograms(rng: np.random.Generator) -> NDArray[np.float64]:
    """What rows share with a query is nothing, or next to nothing, or much."""
    both = np.exp(4 * rng.standard_normal((N + QUERIES, DIM)))
    both *= rng.random(both.shape) < 0.3
    both[~both.any(axis=1), 0] = 1
    return both


def _underflowing(rng: np.random.Generator) -> NDArray[np.float64]:
    """Products that float32 takes for 0, and float64 doesn't."""
    return _histograms(rng) * 1e-25


def _denormal(rng: np.random.Generator) -> NDArray[np.float64]:
    both = _histograms(rng)
    return np.where(both > 0, both * 1e-40 + 1e-44, both)


def _of_all_sizes(rng: np.random.Generator) -> NDArray[np.float64]:
    both = _histograms(rng)
    return both * 10.0 ** rng.uniform(-30, 3, (1, DIM)) * 10.0 ** rng.uniform(0, 9, (len(both), 1))


def _huge(rng: np.random.Generator) -> NDArray[np.float64]:
    return np.minimum(_histograms(rng) * 1e15, 1e18)


def _tied(rng: np.random.Generator) -> NDArray[np.float64]:
    """Small whole numbers, and a last column that makes none of them exact in float32."""
    both = np.round(rng.exponential(0.4, (N + QUERIES, DIM)))
    both[:, -1] = 0.1
    both[N:, -1] = 0
    both[N:, 0] += 0.1
    return both


def _minus_zeros(rng: np.random.Generator) -> NDArray[np.float64]:
    both = _histograms(rng)
    return np.where(both == 0, -0.0, both)


def _one_below(rng: np.random.Generator) -> NDArray[np.float64]:
    """A single number is negative, and makes its row an answer to every query with that word."""
    both = _histograms(rng)
    both[N - 1, 3] = -1e-30
    return both


KINDS: dict[str, Callable[[np.random.Generator], NDArray[np.float64]]] = {
    "histograms": _histograms, "underflowing": _underflowing, "denormal": _denormal,
    "of all sizes": _of_all_sizes, "huge": _huge, "tied": _tied, "minus zeros": _minus_zeros,
    "one below": _one_below,
}


@pytest.mark.parametrize(("metric", "kind", "k"), pairs(["dot", "cosine"], KINDS, [10, 150]))
def test_answers_at_all_levels(metric: str, kind: str, k: int, rng: np.random.Generator) -> None:
    """The furthest rows, and the nearest to negated queries, for batches and single queries."""
    both = KINDS[kind](rng).astype(np.float32)
    rows, queries = both[:N], both[N:]
    for nearest, oracle in ((False, reference.furthest), (True, reference.nearest)):
        asked = -queries if nearest else queries
        expected = oracle(asked, rows, k, metric)
        for isa in inside.levels():
            for n in (1, QUERIES):
                scores, ids, _ = core_top(rows, asked[:n], k, metric, isa, nearest=nearest)
                assert_array_equal(ids, expected.ids[:n])
                assert_array_equal(scores.view(np.int32), expected.scores[:n].view(np.int32))


@pytest.mark.parametrize(("metric", "codes", "rows_as"), pairs(
    ["dot", "cosine"], ["int8", "float32"], [np.float32, np.float16]))
def test_answers_as_rows_come_and_go(
    metric: str, codes: str, rows_as: type[np.generic], rng: np.random.Generator
) -> None:
    """Ids in any order, removed rows, filters, and a negative number that is added and removed."""
    both = KINDS["tied"](rng).astype(rows_as)
    queries = both[N:].astype(np.float32)
    ids = rng.permutation(2 * N)[: N + 1].astype(np.int64)
    rows = np.concatenate([both[:N], -both[:1]])
    slow = rows.astype(np.float32)
    index = farann.Index(metric=metric, codes=codes, threads=1)
    index.add(rows[:1200], ids=ids[:1200])
    index.build()
    index.add(rows[1200:N], ids=ids[1200:N])

    def check(allowed: NDArray[np.int64], exclude: NDArray[np.int64] | None = None) -> None:
        expected = reference.furthest(queries, slow, 10, metric, ids=ids, allowed=allowed,
                                      exclude=exclude)
        within = None if len(allowed) in (len(index), 0) else allowed
        for _ in range(3):
            hits = index.search_furthest(queries, 10, allowed=within, exclude=exclude)
            assert_array_equal(hits.ids, expected.ids)
            assert_array_equal(hits.scores, expected.scores)
        for i in range(3):
            left_out = None if exclude is None else exclude[i]
            hits = index.search_furthest(queries[i], 10, allowed=within, exclude=left_out)
            assert_array_equal(hits.ids, expected.ids[i])

    check(ids[:N])
    check(ids[:N:2])
    check(ids[:N], rng.choice(ids[:N], (QUERIES, 5)))
    index.remove(ids[:N:3])
    left = np.setdiff1d(ids[:N], ids[:N:3])
    check(left)
    index.add(rows[N:], ids=ids[N:])
    check(np.append(left, ids[N]))
    index.remove(ids[N:])
    check(left)


def _categories(rng: np.random.Generator) -> Float32:
    """Three categories of a row: as many ones."""
    both = np.zeros((N + QUERIES, DIM), np.float32)
    for first in (0, 8, 16):
        both[np.arange(len(both)), first + rng.integers(8, size=len(both))] = 1
    return both


def _longer(rng: np.random.Generator) -> Float32:
    """The same, and a few rows that are longer, or lie on the other side."""
    both = _categories(rng)
    both[1200], both[1300, 3], both[1400] = 2 * both[1200], -1, 1
    return both


def _axes(rng: np.random.Generator) -> Float32:
    """Queries and some rows with one number, of both signs, and rows that are nearly so."""
    both = rng.standard_normal((N + QUERIES, DIM)).astype(np.float32)
    few = np.arange(len(both)) % 3 > 0
    both[few] *= np.eye(DIM, dtype=np.float32)[rng.integers(3, size=few.sum())]
    both[few & (rng.random(len(both)) < 0.2), 5] = 1e-12
    both[N:] = np.eye(DIM)[rng.integers(3, size=QUERIES)] * rng.standard_normal((QUERIES, 1))
    return both


def _copies(rng: np.random.Generator) -> Float32:
    few = rng.standard_normal((6, DIM)).astype(np.float32)
    return few[rng.integers(6, size=N + QUERIES)]


CEILINGS: dict[str, Callable[[np.random.Generator], Float32]] = {
    "categories": _categories, "longer": _longer, "axes": _axes, "copies": _copies,
}


@pytest.mark.parametrize("kind", CEILINGS)
@pytest.mark.parametrize("metric", core.METRICS)
def test_best_keys_there_can_be(metric: str, kind: str, rng: np.random.Generator) -> None:
    """Of rows that tie there those with the smallest ids are found, wherever they lie."""
    both = CEILINGS[kind](rng)
    rows, queries = both[:N], both[N:]
    for ids in (np.arange(N, dtype=np.int64), rng.permutation(N).astype(np.int64)):
        index = farann.Index(metric=metric, codes="float32", threads=1)
        index.add(rows[:1000], ids=ids[:1000])
        index.build()
        index.add(rows[1000:], ids=ids[1000:])
        for search, slow in ((index.search_furthest, reference.furthest),
                             (index.search_nearest, reference.nearest)):
            expected = slow(queries, rows, 10, metric, ids=ids)
            hits = search(queries, 10)
            assert_array_equal(hits.ids, expected.ids)
            assert_array_equal(hits.scores, expected.scores)
            for i, query in enumerate(queries):
                assert_array_equal(search(query, 10).ids, expected.ids[i])


@pytest.mark.parametrize(("metric", "kind", "nearest"), [
    ("l2", "categories", False), ("dot", "categories", False), ("cosine", "categories", False),
    ("cosine", "axes", False), ("l2", "copies", True),
])
@pytest.mark.parametrize("n", [1, QUERIES])
def test_ends_where_no_key_is_better(
    n: int, metric: str, kind: str, nearest: bool, rng: np.random.Generator
) -> None:
    both = CEILINGS[kind](rng)
    rows = np.tile(both[:N], (4, 1))
    for isa in inside.levels():
        snapshot = inside.native.snapshot_of_rows(rows, metric, isa)
        task = inside.native.task_of(snapshot, both[N:], 10, nearest=nearest, stop=n)
        task.run()
        assert inside.native.work_of(task).rows_scanned < 0.5 * n * len(rows)
