"""The benchmark suite's arithmetic: ground truth, recall, reductions, fronts and limits."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from bench_cases import RATES, a_record, sample
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from bench import machine, measures, results, tables
from bench.reduction import METRICS, Reduction


def naive_scores(rows: NDArray[Any], query: NDArray[Any], metric: str) -> list[float]:
    """Float64 scores by plain Python."""
    scores = []
    for row in rows.astype(float).tolist():
        pairs = list(zip(row, query.astype(float).tolist(), strict=True))
        dot = sum(x * q for x, q in pairs)
        if metric == "l2":
            scores.append(sum((x - q) ** 2 for x, q in pairs) ** 0.5)
        elif metric == "dot":
            scores.append(dot)
        else:
            scores.append(
                dot / (sum(x * x for x, _ in pairs) * sum(q * q for _, q in pairs)) ** 0.5
            )
    return scores


# Measures


@pytest.mark.parametrize("metric", METRICS)
def test_truth_is_naive_brute_force(metric: str) -> None:
    rows, queries = sample(0, 90, 7), sample(1, 5, 7)
    rows[60] = rows[20]  # a tie
    ids, scores = measures.furthest(rows, queries, 90, metric)
    for query, found, values in zip(queries, ids, scores, strict=True):
        naive = naive_scores(rows, query, metric)
        sign = -1 if metric == "l2" else 1
        assert found.tolist() == sorted(range(90), key=lambda i: (round(sign * naive[i], 9), i))
        assert values == pytest.approx([naive[i] for i in found], abs=1e-12)


def test_truth_in_blocks_is_truth_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, queries = sample(2, 700, 5), sample(3, 9, 5)
    whole = measures.furthest(rows, queries, 8, "l2")
    monkeypatch.setattr(measures, "_PAIRS", 64)
    for once, blocked in zip(whole, measures.furthest(rows, queries, 8, "l2"), strict=True):
        np.testing.assert_array_equal(once, blocked)


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
@pytest.mark.parametrize("metric", METRICS)
def test_recall_counts_values_once(metric: str, scale: float) -> None:
    rows, queries = sample(4, 200, 6) * np.float32(scale), sample(5, 3, 6) * np.float32(scale)
    rows[150] = rows[measures.furthest(rows, queries[:1], 1, metric)[0][0, 0]]
    ids, scores = measures.furthest(rows, queries, 4, metric)
    kth = scores[:, -1]

    def recall(answer: NDArray[np.int64]) -> float:
        return measures.recall(rows, queries, answer, kth, metric)

    worst = measures.furthest(rows, queries, 200, metric)[0][:, -4:]
    assert recall(ids) == 1.0
    assert recall(ids[:, ::-1]) == 1.0
    assert recall(worst) == 0.0
    assert recall(np.repeat(ids[:, :1], 4, axis=1)) == pytest.approx(1 / 4)
    assert recall(np.where(np.arange(4) < 2, ids, -1)) == pytest.approx(1 / 2)
    assert recall(np.where(np.arange(4) < 3, ids, 200)) == pytest.approx(3 / 4)


def test_recall_takes_either_of_two_equal_rows() -> None:
    rows = np.array([[0.0], [5.0], [5.0], [1.0]], dtype=np.float32)
    query = np.zeros((1, 1), dtype=np.float32)
    kth = measures.furthest(rows, query, 1, "l2")[1][:, -1]
    for choice, expected in [(1, 1.0), (2, 1.0), (3, 0.0)]:
        assert measures.recall(rows, query, np.array([[choice]]), kth, "l2") == expected


@pytest.mark.parametrize("metric", METRICS)
def test_recall_forgives_rounding_only(metric: str) -> None:
    def row(short: float) -> list[float]:
        """A row whose score misses that of (-1, 0) against (1, 0) by a share of its size."""
        if metric == "l2":
            return [2 * short - 1, 0.0]
        angle = np.arccos(short - 1)
        return [short - 1, 0.0] if metric == "dot" else [np.cos(angle), np.sin(angle)]

    rows = np.array([row(0), row(1e-8), row(1e-4)])
    query = np.array([[1.0, 0.0]])
    kth = measures.pair_scores(rows, query, np.array([[0]]), metric)[:, 0]
    for answer, expected in enumerate([1.0, 1.0, 0.0]):
        assert measures.recall(rows, query, np.array([[answer]]), kth, metric) == expected


def test_recall_of_more_than_there_are_rows() -> None:
    rows, query = sample(6, 3, 2), sample(7, 1, 2)
    ids, scores = measures.furthest(rows, query, 10, "dot")
    padded = np.hstack([ids, np.full((1, 7), -1)])
    assert measures.recall(rows, query, padded, scores[:, -1], "dot") == 1.0


def test_recall_checks_shapes() -> None:
    rows, queries = sample(0, 5, 2), sample(1, 2, 2)
    with pytest.raises(ValueError, match=r"ids must have shape \(2, k\), got \(3, 1\)"):
        measures.recall(rows, queries, np.zeros((3, 1), dtype=np.int64), np.zeros(2), "l2")


# Reduction


# Only l2 is centered; the other reductions are the products as they are.
@pytest.mark.parametrize("multiple", [1, 16, 32])
@pytest.mark.parametrize("dim", [1, 7, 16, 33])
@pytest.mark.parametrize(("metric", "offset"),
                         [("l2", 0.0), ("l2", 1000.0), ("dot", 0.0), ("cosine", 0.0)])
def test_reduction_keeps_the_order(metric: str, dim: int, multiple: int, offset: float) -> None:
    rows, queries = sample(8, 150, dim, offset), sample(9, 12, dim, offset)
    before = rows.copy(), queries.copy()
    reduction = Reduction(rows, metric, multiple)
    asked = reduction.queries(queries)
    assert reduction.rows.dtype == asked.dtype == np.float32
    assert reduction.dim % multiple == 0
    assert asked.shape[1] == reduction.rows.shape[1] == reduction.dim
    k = min(10, 150)
    products = asked.astype(np.float64) @ reduction.rows.astype(np.float64).T
    ids = np.argsort(-products, axis=1)[:, :k]
    kth = measures.furthest(rows, queries, k, metric)[1][:, -1]
    assert measures.recall(rows, queries, ids, kth, metric) == 1.0
    np.testing.assert_array_equal(rows, before[0])
    np.testing.assert_array_equal(queries, before[1])


def test_reduction_of_rows_on_a_sphere_and_of_equal_rows() -> None:
    circle = np.array([[1, 0], [0, 1], [-1, 0], [0, -1]], dtype=np.float32)
    for rows in (circle, np.ones((4, 2), dtype=np.float32)):
        reduction = Reduction(rows, "l2")
        assert np.isfinite(reduction.rows).all()
        products = reduction.queries(circle[:1]) @ reduction.rows.T
        assert products[0, 2] == products.max()


def test_reduction_names_a_wrong_metric() -> None:
    with pytest.raises(ValueError, match="metric must be one of .*, got 'hamming'"):
        Reduction(sample(0, 3, 2), "hamming")


# Pareto fronts, ratios


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(1, 9)), min_size=1, max_size=12))
def test_pareto_front_holds_what_nothing_beats(pairs: list[tuple[int, int]]) -> None:
    records = [a_record("x", recall / 5, us) for recall, us in pairs]
    front = results.pareto(records)
    spots = [(r["recall"], r["us"]) for r in front]
    expected = {
        (r, us)
        for r, us in ((record["recall"], record["us"]) for record in records)
        if not any(
            (o["recall"] > r and o["us"] <= us) or (o["recall"] >= r and o["us"] < us)
            for o in records
        )
    }
    assert spots == sorted(expected)


def test_best_peer_is_at_the_same_or_higher_recall() -> None:
    mine = a_record("farann", 0.96, 10.0)
    others = [
        a_record("quick", 0.95, 1.0),  # less recall
        a_record("blind", 0.99, 2.0, baseline=True),  # no peer
        a_record("farann", 0.99, 3.0),  # ours
        a_record("else", 0.99, 4.0, dataset="other"),
        a_record("slow", 0.96, 40.0),
        a_record("fast", 1.0, 25.0),
    ]
    peer = results.best_peer(mine, [mine, *others])
    assert peer is not None
    assert peer["algorithm"] == "fast"
    assert results.ratio(mine, peer) == 2.5
    assert results.best_peer(mine, others[:4]) is None
    assert results.ratio(mine, None) is None


def test_ratio_in_digits() -> None:
    words = [tables.times(value) for value in (None, 0.512, 1.0, 3.44, 12.4, 1234.0)]
    assert words == ["", "0.51×", "1.0×", "3.4×", "12×", "1,234×"]


# The machine


def test_limits_are_those_of_the_rates() -> None:
    about = {"rates": RATES, "cache_bytes": 1 << 20}
    large = machine.limits(about, 1_000_000, 100)
    assert large["batch"] == pytest.approx(2 * 1e8 / 1e11 * 1e6)
    assert large["threads"] == pytest.approx(2 * 1e8 / 2e11 * 1e6)
    assert large["single"] == pytest.approx(4e8 / 3e10 * 1e6)
    assert machine.limits(about, 1000, 100)["single"] == pytest.approx(4e5 / 1e11 * 1e6)


def test_machine_can_be_measured() -> None:
    rates = machine.measure(buffer_bytes=1 << 20, size=64, repeats=1)
    assert set(rates) == {"read_1", "read_2", "read_cache", "flops_1", "flops_2"}
    assert all(value > 1e6 for value in rates.values())
    about = machine.describe()
    assert about["cpu"]
    assert about["cores"] >= 1
