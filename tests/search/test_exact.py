"""Exactness: ids equal to the float64 oracle's and scores equal to the bit, on any data."""

from __future__ import annotations

import itertools
import math
import tracemalloc
from collections.abc import Callable
from typing import Any

import inside
import numpy as np
import pytest
import reference
from cases import (
    DATA,
    assert_exact,
    assert_same,
    assert_same_beyond,
    assert_same_bits,
    float32,
    in_turn,
    index_of,
    pairs,
    queries_for,
    rows_for,
)
from numpy.typing import NDArray
from reference import METRICS

import farann

DIMS = (1, 7, 15, 16, 17, 31, 33, 64, 65, 97, 784)
SIZES = (1, 2, 5, 31, 32, 33, 1000, 5000)


@pytest.mark.parametrize(("n", "dim", "metric"), pairs(SIZES, DIMS, METRICS))
def test_every_shape(n: int, dim: int, metric: str) -> None:
    rng = np.random.default_rng([n, dim])
    rows = rng.standard_normal((n, dim), dtype=np.float32)
    queries = rng.standard_normal((13 if n * dim < 10**6 else 6, dim), dtype=np.float32)
    assert_exact(index_of(rows, metric), rows, queries, (10, 1, 1000, n + 3))


@pytest.mark.few_rows_as_floats
@pytest.mark.parametrize(("n", "dim", "metric"), pairs((65, 100, 200), (1, 16, 33, 97), METRICS))
def test_few_rows_as_users_have_them(n: int, dim: int, metric: str) -> None:
    """Batches on these are scanned in float32; other tests have codes at any size."""
    rng = np.random.default_rng([n, dim])
    rows = rng.standard_normal((n, dim), dtype=np.float32)
    queries = rng.standard_normal((13, dim), dtype=np.float32)
    index = index_of(rows, metric).build()
    by_codes = inside.runtime.codes_pay(13, n, dim, index.isa)
    for search in (index.search_furthest, index.search_nearest):
        search(queries, 10)
        assert (index.stats()["last_search"]["code_products"] > 0) == by_codes
    # What ARM's kernels cost was counted, not timed: by that codes pay on fewer.
    assert not by_codes or index.isa in ("scalar", "dotprod", "i8mm") or n * dim > 3000
    assert_exact(index, rows, queries, (10, 1, n + 3))


@pytest.mark.parametrize(("kind_of", "dim"), in_turn(
    itertools.product(DATA, METRICS), metrics=[1, 7, 16, 33, 97]))
def test_hostile_data(kind_of: tuple[str, str], dim: int) -> None:
    kind, metric = kind_of
    for n in (2, 33, 1000):
        rng = np.random.default_rng([n, dim])
        rows = rows_for(kind, rng, n, dim, metric)
        assert_exact(index_of(rows, metric), rows, queries_for(rng, rows, metric), (10, 1, n + 3))


@pytest.mark.parametrize(("kind", "metric"), in_turn(DATA))
def test_hostile_data_in_many_dimensions(kind: str, metric: str) -> None:
    rng = np.random.default_rng(0)
    rows = rows_for(kind, rng, 600, 784, metric)
    assert_exact(index_of(rows, metric), rows, queries_for(rng, rows, metric)[:4], (10, 603))


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("kind", ["gaussian", "crowded edge", "ascending norm", "duplicates"])
def test_many_rows(kind: str, metric: str) -> None:
    rng = np.random.default_rng(0)
    rows = rows_for(kind, rng, 20_000, 24, metric)
    assert_exact(index_of(rows, metric), rows, queries_for(rng, rows, metric), (10, 1, 1000))


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 8, 11, 12, 13, 16, 17, 64, 65, 200, 1100])
def test_batches_of_every_size(count: int, metric: str) -> None:
    rng = np.random.default_rng(count)
    rows = rng.standard_normal((1100, 19), dtype=np.float32)
    queries = rng.standard_normal((count, 19), dtype=np.float32)
    assert_exact(index_of(rows, metric), rows, queries, (7,))


@pytest.mark.parametrize(("early", "late", "metric"), pairs(
    ["gaussian", "offset 1e6", "3e38", "all equal"],
    ["gaussian", "offset 1e6", "1e30", "1e-30", "grid"], METRICS))
def test_rows_added_after_the_build(early: str, late: str, metric: str) -> None:
    """What the build froze fits the early rows, not those that came later."""
    rng = np.random.default_rng(0)
    rows = np.vstack(
        [rows_for(early, rng, 500, 26, metric), rows_for(late, rng, 300, 26, metric)]
    )
    queries = queries_for(rng, rows, metric)
    index = index_of(rows[:500], metric).build()
    index.add(rows[500:])
    assert_exact(index, rows, queries, (10, 1, 400))
    index.remove(np.arange(490))
    live = np.arange(490, 800)
    assert_exact(index, rows[live], queries, (10, 312), live)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("direction", [1, -1])
def test_rows_one_ulp_apart_around_the_kth_place(direction: int, metric: str) -> None:
    """Float32 arithmetic can't tell these rows apart; float64 can, ids settle the rest."""
    rng = np.random.default_rng(3)
    dim, crowd = 48, 400
    query = rng.uniform(1.0, 1.9, dim).astype(np.float32)
    steps = rng.integers(-1, 2, (crowd, dim), dtype=np.int32)
    rows = -direction * (query.view(np.int32) + steps).view(np.float32)
    rows = np.vstack([rows, rng.standard_normal((500, dim), dtype=np.float32)])
    rows = rows[rng.permutation(len(rows))]
    crowded = np.sort(direction * reference.keys(query, rows, metric))[-crowd:]
    assert len(np.unique(crowded)) > 4
    assert np.ptp(crowded) < 1e-4 * np.ptp(reference.keys(query, rows, metric))
    assert_exact(index_of(rows, metric), rows, query[None], (10, 1, 50, 399))


@pytest.mark.parametrize("metric", METRICS)
def test_ties_go_to_the_smaller_id_not_the_earlier_row(
    metric: str, rng: np.random.Generator
) -> None:
    rows = np.repeat(rng.standard_normal((3, 5), dtype=np.float32), 40, axis=0)
    ids = rng.permutation(10**12 + np.arange(120))
    assert_exact(index_of(rows, metric, ids), rows, rows[::50], (10, 1, 45, 123), ids)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("kind", ["gaussian", "offset 1e6", "3e38", "grid", "mixed magnitudes"])
def test_score(kind: str, metric: str, rng: np.random.Generator) -> None:
    rows = rows_for(kind, rng, 70, 21, metric)
    queries = queries_for(rng, rows, metric)
    ids = rng.permutation(1000)[:70]
    index = index_of(rows, metric, ids)
    picked = rng.integers(0, 70, 33)
    expected = reference.score(queries, rows[picked], metric)
    assert_same_bits(index.score(queries, ids[picked]), expected)
    assert_same_bits(index.score(queries[0], ids[picked]), expected[0])
    assert_same_bits(index.score(queries[:0], ids[picked]), expected[:0])
    assert_same_bits(index.score(queries, ids[:0]), expected[:, :0])


@pytest.mark.parametrize(("kind", "metric"), in_turn(DATA, 1))
def test_beyond(kind: str, metric: str) -> None:
    """Radii on the very score of a row, so that strict and not strict differ."""
    rng = np.random.default_rng(5)
    rows = rows_for(kind, rng, 300, 20, metric)
    queries = queries_for(rng, rows, metric)
    index = index_of(rows, metric)
    exact = reference.scores_from_keys(
        queries[0], reference.keys(queries[0], rows, metric), metric
    )
    for radius in [*np.quantile(exact, [0, 0.1, 0.5, 1], method="nearest").tolist(), -1.0, 0.0]:
        expected = reference.beyond(queries, rows, radius, metric)
        assert_same_beyond(index.search_beyond(queries, radius=radius), expected)
        first = expected.offsets[1]
        single = reference.Beyond(
            expected.offsets[:2], expected.scores[:first], expected.ids[:first]
        )
        assert_same_beyond(index.search_beyond(queries[0], radius=radius), single)


@pytest.mark.parametrize("metric", METRICS)
def test_without_an_index(metric: str, rng: np.random.Generator) -> None:
    rows = rng.standard_normal((500, 12), dtype=np.float32)
    queries = rng.standard_normal((9, 12), dtype=np.float32)
    expected = reference.furthest(queries, rows, 10, metric)
    assert_same(farann.search_furthest(rows, queries, metric=metric), expected)
    assert_same(farann.search_furthest(rows, queries, 3, metric, threads=2), expected, 3)
    assert farann.search_furthest(rows, queries[0], 4, metric).ids.shape == (4,)


CONVERSIONS: dict[str, Callable[[NDArray[np.float64]], Any]] = {
    "float64": lambda x: x + 1e-9,
    "float32": lambda x: x.astype(np.float32),
    "float16": lambda x: x.astype(np.float16),
    "big-endian float32": lambda x: x.astype(">f4"),
    "int8": lambda x: x.astype(np.int8),
    "uint8": lambda x: np.abs(x).astype(np.uint8),
    "int16": lambda x: (300 * x).astype(np.int16),
    "int64": lambda x: (x * 1e15).astype(np.int64),
    "uint64": lambda x: np.uint64(2**63) + np.abs(x * 1e17).astype(np.uint64),
    "Fortran order": lambda x: np.asfortranarray(x, np.float32),
    "every other row": lambda x: np.repeat(x, 2, axis=0).astype(np.float32)[::2],
    "every other column": lambda x: np.repeat(x, 2, axis=1).astype(np.float32)[:, ::2],
    "backwards": lambda x: x.astype(np.float32)[::-1, ::-1],
    "row broadcast": lambda x: np.broadcast_to(x[0].astype(np.float32), x.shape),
    "column broadcast": lambda x: np.broadcast_to(x[:, :1].astype(np.float32), x.shape),
    "unaligned": lambda x: np.frombuffer(
        b"\0" + x.astype(np.float32).tobytes(), np.float32, x.size, offset=1
    ).reshape(x.shape),
    "lists": lambda x: x.tolist(),
    "tuples of arrays": lambda x: tuple(x.astype(np.float32)),
}


@pytest.mark.parametrize("conversion", CONVERSIONS)
def test_inputs_are_converted_to_float32(conversion: str, rng: np.random.Generator) -> None:
    rows = CONVERSIONS[conversion](rng.integers(-100, 100, (60, 10)) / 8 + 0.5)
    stored = np.asarray(rows).astype(np.float32)
    index = farann.Index(metric="dot")
    index.add(rows)
    assert index.dim == 10
    assert_same_bits(index.reconstruct(index.ids), stored)
    expected = reference.furthest(stored, stored, 5, "dot")
    assert_same(index.search_furthest(rows, 5), expected)
    assert_same(farann.search_furthest(rows, rows, 5, "dot"), expected)


@pytest.mark.parametrize("metric", METRICS)
def test_seed_and_build_do_not_change_answers(metric: str, rng: np.random.Generator) -> None:
    rows = rng.standard_normal((700, 30), dtype=np.float32)
    queries = rng.standard_normal((8, 30), dtype=np.float32)
    expected = reference.furthest(queries, rows, 10, metric)
    for seed in (0, 1, 12345):
        index = index_of(rows, metric, seed=seed)
        assert index.build(queries) is index
        assert_same(index.search_furthest(queries), expected)
        assert_same(index.build().search_furthest(queries), expected)


def test_metrics_are_what_people_expect() -> None:
    rows = [[3.0, 4.0], [0.0, 1.0], [-1.0, 0.0]]
    hits = {m: farann.search_furthest(rows, [0.0, 2.0], 3, m) for m in METRICS}
    assert hits["l2"].ids.tolist() == [0, 2, 1]
    assert_same_bits(hits["l2"].scores, float32([np.sqrt(13), np.sqrt(5), 1]))
    assert hits["dot"].ids.tolist() == [2, 1, 0]
    assert hits["dot"].scores.tolist() == [0, 2, 8]
    assert hits["cosine"].ids.tolist() == [2, 0, 1]
    assert_same_bits(hits["cosine"].scores, float32([0, 0.8, 1]))


def test_scores_take_the_memory_of_the_answer(rng: np.random.Generator) -> None:
    index = index_of(rng.standard_normal((20_000, 8), np.float32), "dot", threads=1)
    queries, ids = rng.standard_normal((64, 8), np.float32), np.arange(20_000)
    index.score(queries[:1], ids)
    tracemalloc.start()
    try:
        scores = index.score(queries, ids)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # The array of those that have vectors, and the answer.
    assert peak < 2.5 * scores.nbytes


def test_codes_that_cost_more_than_they_save_are_left_for_a_while(
        rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    """Though blocks are too few for a look to find it: after two such batches 1, 3, 7 without."""
    costs = (100.0, 100.0, 300.0, 50.0, 10.0, 0.0)
    monkeypatch.setattr(inside.settings, "row_costs", lambda *_: costs)
    monkeypatch.setattr(inside.settings, "most_together", 0)  # kept searches count for themselves
    noise = rng.standard_normal((1000, 512), dtype=np.float32)
    alike = (noise[:, :4] @ noise[:4]).astype(np.float32)
    for rows, tried in ((noise, "1101000100000001"), (alike, "1" * 16)):
        index = index_of(rows, "dot", threads=1).build()
        queries = rows[:64]
        expected = reference.furthest(queries, rows, 50, "dot")
        for by_codes in tried:
            hits = index.search_furthest(queries, 50, return_stats=True)
            assert_same(hits, expected)
            assert (hits.stats.code_products > 0) == bool(int(by_codes))


def test_codes_lose_by_what_passes(
        rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a row that passes costs a tenth less, codes stay, and a tenth more, they are left."""
    costs = [0.0] * 6
    monkeypatch.setattr(inside.settings, "row_costs", lambda *_: tuple(costs))
    rows = rng.standard_normal((1024, 512), dtype=np.float32)
    k, n = 50, 64
    for share, stay in ((0.9, True), (1.1, False)):
        index, costs[:] = index_of(rows, "dot", threads=1).build(), [0.0] * 6
        passed = index.search_furthest(rows[:n], k, return_stats=True).stats.rows_passed
        saved = n * len(rows) * (1 + 50 / n)
        costs[:] = [share * saved / (passed - n * k * (1 + math.log(len(rows) / k))),
                    0, 0, 50, 10, 0]
        for _ in range(2):
            index.search_furthest(rows[:n], k)
        last = index.search_furthest(rows[:n], k, return_stats=True).stats
        assert (last.code_products > 0) == stay
