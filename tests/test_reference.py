"""The oracle itself against exact rational arithmetic and plain Python loops."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import cases
import numpy as np
import pytest
import reference
from cases import DATA, float32, in_turn, pairs, queries_for
from numpy.testing import assert_array_equal
from numpy.typing import NDArray
from reference import METRICS


def loop_total(terms: list[float]) -> float:
    """The canonical sum of one row, one Python float at a time."""
    lanes = [0.0] * 8
    terms = terms + [0.0] * (-len(terms) % 8)
    for start in range(0, len(terms), 8):
        for lane in range(8):
            lanes[lane] += terms[start + lane]
    pairs = [lanes[i] + lanes[i + 4] for i in range(4)]
    return (pairs[0] + pairs[2]) + (pairs[1] + pairs[3])


def loop_key(query: NDArray[np.float32], row: NDArray[np.float32], metric: str) -> float:
    """The key of one row in plain Python."""
    q, x = query.tolist(), row.tolist()
    if metric == "l2":
        return loop_total([(a - b) * (a - b) for a, b in zip(q, x, strict=True)])
    dot = loop_total([a * b for a, b in zip(q, x, strict=True)])
    return -dot if metric == "dot" else -(dot / math.sqrt(loop_total([b * b for b in x])))


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("dim", [1, 7, 8, 9, 16, 33])
def test_keys_equal_plain_loops(dim: int, metric: str) -> None:
    rng = np.random.default_rng(dim)
    rows = rng.standard_normal((20, dim), dtype=np.float32)
    query = rng.standard_normal(dim, dtype=np.float32)
    expected = [loop_key(query, row, metric) for row in rows]
    assert_array_equal(reference.keys(query, rows, metric), expected)


@pytest.mark.parametrize("kind", DATA)
@pytest.mark.parametrize("dim", [1, 16, 97])
def test_total_is_within_rounding_of_the_exact_sum(dim: int, kind: str) -> None:
    rng = np.random.default_rng(dim)
    x = DATA[kind](rng, 30, dim).astype(np.float64)
    products = x[:1] * x
    for terms, got in zip(products, reference.total(products.T), strict=True):
        exact = sum(Fraction(t) for t in terms)
        room = Fraction(math.fsum(abs(t) for t in terms)) * Fraction(dim + 3, 2**53)
        assert abs(Fraction(float(got)) - exact) <= room


def test_pairs_of_all_values_come_together(monkeypatch: pytest.MonkeyPatch) -> None:
    axes = range(5), "abc", (True, False), range(10, 14)
    monkeypatch.setattr(cases, "DEEP", True)
    assert pairs(*axes) == list(itertools.product(*axes))
    monkeypatch.setattr(cases, "DEEP", False)
    found = pairs(*axes)
    assert len(found) < 30
    for a, b in itertools.combinations(range(4), 2):
        assert {(row[a], row[b]) for row in found} == set(itertools.product(axes[a], axes[b]))


def test_in_turn_all_kinds_come_and_by_three_tests_all_pairs(
        monkeypatch: pytest.MonkeyPatch) -> None:
    everything = set(itertools.product(DATA, METRICS))
    monkeypatch.setattr(cases, "DEEP", False)
    found = [in_turn(DATA, first) for first in range(3)]
    assert all([kind for kind, _ in each] == list(DATA) for each in found)
    assert set(itertools.chain(*found)) == everything
    monkeypatch.setattr(cases, "DEEP", True)
    assert set(in_turn(DATA)) == everything


def test_integers_are_exact() -> None:
    rng = np.random.default_rng(0)
    rows = rng.integers(-100, 100, (50, 37)).astype(np.float32)
    query = rows[7]
    exact = [sum((int(a) - int(b)) ** 2 for a, b in zip(query, row, strict=True)) for row in rows]
    assert_array_equal(reference.keys(query, rows, "l2"), np.array(exact, float))
    found = reference.furthest(query[None], rows, 50, "l2")
    order = sorted(range(50), key=lambda i: (-exact[i], i))
    assert_array_equal(found.ids[0], order)
    assert_array_equal(found.scores[0], float32([math.sqrt(exact[i]) for i in order]))


@pytest.mark.parametrize("metric", METRICS)
def test_order_equals_a_sort_by_key_then_id(metric: str) -> None:
    rng = np.random.default_rng(1)
    rows = rng.integers(-1, 2, (60, 3)).astype(np.float32) + np.float32(0.5)
    ids = rng.permutation(1000)[:60]
    queries = queries_for(rng, rows, metric)
    for sign, search in ((1, reference.furthest), (-1, reference.nearest)):
        got = search(queries, rows, 10, metric, ids=ids)
        for query, query_ids in zip(queries, got.ids, strict=True):
            pairs = [(-sign * loop_key(query, row, metric), int(i))
                     for row, i in zip(rows, ids, strict=True)]
            assert query_ids.tolist() == [i for _, i in sorted(pairs)[:10]]


def test_known_answers() -> None:
    rows = float32([[3, 4], [0, 0], [-3, -4], [3, 4]])
    query = np.zeros((1, 2), np.float32)
    found = reference.furthest(query, rows, 5, "l2")
    assert found.ids.tolist() == [[0, 2, 3, 1, -1]]
    assert_array_equal(found.scores, float32([[5, 5, 5, 0, np.nan]]))
    assert reference.nearest(query, rows, 2, "l2").ids.tolist() == [[1, 0]]
    one = float32([[1, 0]])
    assert reference.furthest(one, rows, 4, "dot").scores.tolist() == [[-3, 0, 3, 3]]
    cosine = reference.furthest(one, rows[[0, 2]], 2, "cosine")
    assert_array_equal(cosine.scores, float32([[-0.6, 0.6]]))
    assert reference.score(one, rows, "dot").tolist() == [[3, 0, -3, 3]]


def test_filters_and_radius() -> None:
    rows = float32([[0], [1], [2], [3]])
    ids = np.array([40, 10, 30, 20])
    queries = float32([[0], [3]])
    found = reference.furthest(
        queries, rows, 3, "l2", ids=ids, exclude=[[20, 99], []], allowed=[20, 30, 40]
    )
    assert found.ids.tolist() == [[30, 40, -1], [40, 30, 20]]
    past = reference.beyond(queries, rows, 1.0, "l2", ids=ids, exclude=[[], [40]])
    assert past.offsets.tolist() == [0, 2, 3]
    assert past.ids.tolist() == [20, 30, 10]
    assert past.scores.tolist() == [3, 2, 2]
    assert reference.beyond(queries, rows, 3.0, "dot", ids=ids).ids.tolist() == [10, 20, 30, 40, 40]
    assert reference.beyond(queries[:0], rows, 0.0, "l2").offsets.tolist() == [0]


def test_scores_past_float32_are_infinite() -> None:
    rows = float32([[3e38], [-3e38]])
    assert reference.score(rows[:1], rows, "l2").tolist() == [[0, math.inf]]
    assert reference.score(rows[:1], rows, "dot").tolist() == [[math.inf, -math.inf]]
    assert reference.score(rows[:1], rows, "cosine").tolist() == [[1, -1]]
