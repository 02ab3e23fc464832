"""Many of the best are selected of what has passed: the same answers, and few rows pass."""

from __future__ import annotations

import inside
import numpy as np
import pytest
import reference
from cases import DATA, assert_same, in_turn, index_of, queries_for, rows_for

LEVELS = inside.levels()


@pytest.mark.parametrize(("kind", "metric", "codes"), [
    (*pair, codes) for i, codes in enumerate(["int8", "float32"]) for pair in in_turn(DATA, i)])
def test_answers(kind: str, metric: str, codes: str, rng: np.random.Generator) -> None:
    """About where scores are kept sorted no more, and beyond."""
    rows = rows_for(kind, rng, 2500, 9, metric)
    queries = queries_for(rng, rows, metric)
    index = index_of(rows, metric, codes=codes).build()
    expected = reference.furthest(queries, rows, 200, metric)
    for isa in (LEVELS[0], LEVELS[-1]):
        inside.store.use_level(index, isa)
        for k in (24, 25, 100, 200):
            assert_same(index.search_furthest(queries, k), expected, k)
            one = reference.Found(expected.scores[:1], expected.ids[:1])
            assert_same(index.search_furthest(queries[:1], k), one, k)


@pytest.mark.parametrize("codes", ["int8", "float32"])
def test_answers_that_leave_rows_out(codes: str, rng: np.random.Generator) -> None:
    rows = rng.standard_normal((4000, 12), dtype=np.float32)
    queries = rng.standard_normal((40, 12), dtype=np.float32)
    index = index_of(rows, codes=codes).build()
    marked = rng.random(4000) < 0.3
    best = index.search_furthest(queries, 100)
    kept = np.flatnonzero(marked)
    assert_same(index.search_furthest(queries, 100, allowed=marked),
                reference.furthest(queries, rows[kept], 100, "l2", ids=kept))
    for i, answer in enumerate(index.search_furthest(queries, 60, exclude=best.ids).ids):
        left = np.setdiff1d(np.arange(4000), best.ids[i])
        expected = reference.furthest(queries[i : i + 1], rows[left], 60, "l2", ids=left)
        np.testing.assert_array_equal(answer, expected.ids[0])


@pytest.mark.parametrize(("codes", "n_queries", "most"), [
    ("float32", 1, 800), ("float32", 64, 800), ("int8", 64, 300)])
def test_few_rows_pass(codes: str, n_queries: int, most: int, rng: np.random.Generator) -> None:
    """Few more than have a better score than the k-th of the rows before: of codes the first block
    is scored before a threshold is chosen, of float32 rows about 6 k of the first 16 k pass."""
    index = index_of(rng.standard_normal((5000, 8), dtype=np.float32), "dot", codes=codes).build()
    queries = rng.standard_normal((n_queries, 8), dtype=np.float32)
    stats = index.search_furthest(queries, 100, threads=1, return_stats=True).stats
    assert 100 <= stats.rows_rescored / n_queries < 130
    assert stats.rows_passed / n_queries < most


def test_codes_are_given_up_soon(rng: np.random.Generator, request: pytest.FixtureRequest) -> None:
    """A few huge rows leave the others codes that hardly tell them apart."""
    rows = (rng.standard_normal((6000, 16)) * np.geomspace(1.0, 0.1, 16)).astype(np.float32)
    rows[::500] *= np.float32(1000)
    queries = rng.standard_normal((64, 16), dtype=np.float32)
    index = index_of(rows, "dot").build()
    hits = index.search_furthest(queries, 100, threads=1, return_stats=True)
    stats = hits.stats
    assert_same(hits, reference.furthest(queries, rows, 100, "dot"))
    assert stats.rows_rescored / 64 < 800
    if inside.runtime.row_costs(64, 16, index.isa)[0] > 0.0:
        request.addfinalizer(inside.native.leave_out)
        inside.native.leave_out("cost-judge", "key-scan")  # all rows by codes
        kept = index.search_furthest(queries, 100, threads=1, return_stats=True).stats
        assert stats.code_products < 0.9 * kept.code_products
