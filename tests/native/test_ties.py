"""Many rows with one key, or keys that float32 cannot tell apart: answers, and what they cost."""

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
N, QUERIES = 3000, 9


def _sparse(rng: np.random.Generator, dim: int) -> Float32:
    """Bits, most of which share none with a query: a product of 0."""
    both = (rng.random((N + QUERIES, dim)) < 1.5 / dim).astype(np.float32)
    both[~both.any(axis=1), 0] = 1
    return both


def _scaled(rng: np.random.Generator, dim: int) -> Float32:
    """The same in rows of many lengths."""
    return _sparse(rng, dim) * np.exp(rng.standard_normal((N + QUERIES, 1))).astype(np.float32)


def _signed(rng: np.random.Generator, dim: int) -> Float32:
    """Few whole numbers of both signs."""
    both = rng.integers(-1, 2, (N + QUERIES, dim)).astype(np.float32)
    both[~both.any(axis=1), 0] = 1
    return both


def _large(rng: np.random.Generator, dim: int) -> Float32:
    """Whole numbers whose sums float32 holds in few dimensions alone, and one that is too large."""
    both = 300 * _signed(rng, dim)
    both[-1, 0] = 4097
    return both


def _copies(rng: np.random.Generator, dim: int) -> Float32:
    few = rng.standard_normal((5, dim)).astype(np.float32)
    both = few[rng.integers(5, size=N + QUERIES)]
    both[N:] = rng.standard_normal((QUERIES, dim))
    return both


def _two_far_groups(rng: np.random.Generator, dim: int) -> Float32:
    """Far apart, and so narrow that float32 can't tell the rows of one apart."""
    middles = 1e4 * rng.standard_normal((2, dim))
    both = middles[rng.integers(2, size=N + QUERIES)]
    return (both + 1e-3 * rng.standard_normal(both.shape)).astype(np.float32)


TIED: dict[str, Callable[[np.random.Generator, int], Float32]] = {
    "sparse": _sparse, "scaled": _scaled, "signed": _signed, "large": _large,
    "copies": _copies, "two far groups": _two_far_groups,
}


@pytest.mark.parametrize(("metric", "kind", "dim"), pairs(
    core.METRICS, TIED, [1, 3, 5, 8, 17, 200]))
def test_answers_at_all_levels(metric: str, kind: str, dim: int, rng: np.random.Generator) -> None:
    both = TIED[kind](rng, dim)
    rows, queries = both[:N], both[N:]
    for nearest, oracle in ((False, reference.furthest), (True, reference.nearest)):
        expected = oracle(queries, rows, 10, metric)
        for isa in inside.levels():
            for n in (1, QUERIES):
                scores, ids, _ = core_top(rows, queries[:n], 10, metric, isa, nearest=nearest)
                assert_array_equal(ids, expected.ids[:n])
                assert_array_equal(scores.view(np.int32), expected.scores[:n].view(np.int32))


@pytest.mark.parametrize(("metric", "dim", "kind", "order"), pairs(
    core.METRICS, [17, 300], TIED, ["ascending", "descending", "any"]))
def test_answers_by_codes(
    metric: str, dim: int, kind: str, order: str, rng: np.random.Generator
) -> None:
    """Smaller ids win ties, wherever their rows lie, also in the tail.

    A block of rows in 300 dimensions is smaller than one of codes.
    """
    both = TIED[kind](rng, dim)
    rows, queries = both[:N], both[N:]
    ids = np.arange(N, dtype=np.int64)
    ids = {"ascending": ids, "descending": ids[::-1].copy(), "any": rng.permutation(N)}[order]
    by_id = np.empty_like(rows)
    by_id[ids] = rows
    expected = reference.furthest(queries, by_id, 10, metric)
    index = farann.Index(metric=metric)
    index.add(rows[:2500], ids=ids[:2500])
    index.build()
    index.add(rows[2500:], ids=ids[2500:])
    for _ in range(2):
        hits = index.search_furthest(queries, 10)
        assert_array_equal(hits.ids, expected.ids)
        assert_array_equal(hits.scores, expected.scores)
        assert_array_equal(index.search_furthest(queries[0], 10).ids, expected.ids[0])
        index.build()


@pytest.mark.parametrize("metric", core.METRICS)
def test_first_rows_in_several_pieces(metric: str, rng: np.random.Generator) -> None:
    """The first rows by codes are more than a block in float32, which tells none of them apart."""
    few = rng.standard_normal((2, 140)).astype(np.float32)
    rows = few[(rng.random(6000) < 0.08).astype(int)]
    queries = (few[0] + 0.05 * rng.standard_normal((12, 140))).astype(np.float32)
    index = farann.Index(metric=metric)
    index.add(rows)
    index.build()
    for k, asked in ((30, queries), (100, -queries)):
        expected = reference.furthest(asked, rows, k, metric)
        for isa in inside.levels():
            inside.store.forget_code_trials(index)
            inside.store.use_level(index, isa)
            hits = index.search_furthest(asked, k, threads=1)
            assert_array_equal(hits.ids, expected.ids)
            assert_array_equal(hits.scores, expected.scores)


@pytest.mark.parametrize("codes", ["int8", "float32"])
@pytest.mark.parametrize("kind", ["sparse", "signed", "copies"])
def test_few_rows_get_keys_one_by_one(kind: str, codes: str, rng: np.random.Generator) -> None:
    both = TIED[kind](rng, 8)
    index = farann.Index(metric="dot", codes=codes)
    index.add(both[:N])
    index.build()
    stats = index.search_furthest(both[N:], 10, return_stats=True).stats
    assert stats.rows_rescored < QUERIES * N / 5
    # Nothing is above 0, and rows of 0 with the smallest ids are found soon: in the order of ids,
    # for which codes are left where float32 may cost less.
    if kind == "sparse" and (
            codes == "float32" or any(inside.runtime.row_costs(QUERIES, 8, index.isa))):
        assert stats.rows_scanned < QUERIES * N * 0.8


@pytest.mark.parametrize("rows_as", [np.float32, np.uint8, np.float16])
@pytest.mark.parametrize("metric", core.METRICS)
def test_whole_numbers_get_keys_in_float32(
    metric: str, rows_as: type[np.generic], rng: np.random.Generator
) -> None:
    """One query over one-hot rows, nearly all of which tie: float32 tells them apart.

    Five are longer, so that better keys than those of the others may follow.
    """
    rows = np.eye(24, dtype=np.float32)[rng.integers(24, size=N)]
    rows[:5] *= 2
    queries = np.eye(24, dtype=np.float32)[:4] * [[1], [1], [3], [0.3]]
    index = farann.Index(metric=metric)
    index.add(rows.astype(rows_as))
    index.build()
    expected = reference.furthest(queries.astype(np.float32), rows, 10, metric)
    for i, query in enumerate(queries.astype(np.float32)):
        for _ in range(2):
            hits = index.search_furthest(query, 10, return_stats=True)
            stats = hits.stats
            assert_array_equal(hits.ids, expected.ids[i])
            assert_array_equal(hits.scores, expected.scores[i])
        if metric == "l2" and rows_as is not np.float16 and i < 3:
            # Those that passed before it was seen that nearly all do.
            assert stats.rows_rescored < N / 5 and stats.float_products > 0.8 * N * 24


@pytest.mark.parametrize(("kind", "metric", "rows_as"), pairs(
    ["scaled", "copies"], core.METRICS, [np.float32, np.float16]))
def test_single_queries_one_after_another(
    kind: str, metric: str, rows_as: type[np.generic], rng: np.random.Generator
) -> None:
    """With ids in any order, some of whose rows were removed."""
    both = TIED[kind](rng, 24).astype(rows_as)
    rows, queries = both[:N], both[N:].astype(np.float32)
    ids = rng.permutation(3 * N)[:N].astype(np.int64)
    left = np.setdiff1d(ids, ids[:40])
    index = farann.Index(metric=metric, codes="float32", threads=1)
    index.add(rows, ids=ids)
    index.build()
    index.remove(ids[:40])
    for search, slow in ((index.search_furthest, reference.furthest),
                         (index.search_nearest, reference.nearest)):
        expected = slow(queries, rows.astype(np.float32), 10, metric, ids=ids, allowed=left)
        for _ in range(9):
            for i, query in enumerate(queries):
                hits = search(query, 10)
                assert_array_equal(hits.ids, expected.ids[i])
                assert_array_equal(hits.scores, expected.scores[i])
        assert_array_equal(search(queries, 10).ids, expected.ids)
