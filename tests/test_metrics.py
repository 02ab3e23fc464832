"""farann.metrics against scikit-learn and against plain loops."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, ndcg_score, roc_auc_score

from farann import metrics

SEEDS = st.integers(0, 2**32 - 1)


def rankings(seed: int, n_queries: int = 6, n_items: int = 25
             ) -> tuple[NDArray[np.int64], list[list[int]]]:
    """Whole rankings of all items, and which are relevant."""
    rng = np.random.default_rng(seed)
    ids = np.array([rng.permutation(n_items) for _ in range(n_queries)])
    chosen = [rng.choice(n_items, rng.integers(1, n_items), replace=False)
              for _ in range(n_queries)]
    return ids, [one.tolist() for one in chosen]


@given(SEEDS, st.integers(1, 30))
def test_rankings_agree_with_scikit_learn(seed: int, k: int) -> None:
    ids, relevant = rankings(seed)
    truth = np.array([[float(i in good) for i in range(25)] for good in relevant])
    scores = np.empty_like(truth)
    np.put_along_axis(scores, ids, -np.arange(25.0)[np.newaxis], axis=1)
    ndcg = metrics.ndcg_at_k(ids, relevant, k)
    assert ndcg.mean() == pytest.approx(ndcg_score(truth, scores, k=k))
    whole = [average_precision_score(one, score)
             for one, score in zip(truth, scores, strict=True)]
    assert metrics.average_precision(ids, relevant) == pytest.approx(whole)


@given(SEEDS, st.integers(1, 30))
def test_rankings_agree_with_plain_loops(seed: int, k: int) -> None:
    ids, relevant = rankings(seed)
    for i, good in enumerate(relevant):
        one, first = [ids[i].tolist()], ids[i, :k].tolist()
        hits = [item in good for item in first]
        assert metrics.recall_at_k(one, [good], k)[0] == sum(hits) / len(good)
        assert metrics.disliked_at_k(one, [good], k)[0] == sum(hits) / len(first)
        rank = next((r for r, hit in enumerate(hits, 1) if hit), None)
        assert metrics.reciprocal_rank(one, [good], k)[0] == (1 / rank if rank else 0)
        precision = sum(sum(hits[:r]) / r for r in range(1, len(hits) + 1) if hits[r - 1])
        expected = precision / min(k, len(good))
        assert metrics.average_precision(one, [good], k)[0] == pytest.approx(expected)


def test_short_lists_and_users_without_items() -> None:
    ids = [[3, -1, -1], [4, 5, 6], [-1, -1, -1]]
    relevant = np.array([[3, 8], [-1, -1], [1, -1]])
    np.testing.assert_array_equal(metrics.recall_at_k(ids, relevant, 3), [0.5, np.nan, 0.0])
    np.testing.assert_array_equal(metrics.reciprocal_rank(ids, relevant), [1.0, np.nan, 0.0])
    np.testing.assert_array_equal(metrics.disliked_at_k(ids, relevant, 3), [1.0, np.nan, np.nan])
    ndcg = metrics.ndcg_at_k(ids, relevant, 10)
    assert ndcg[0] == pytest.approx(1 / (1 + 1 / np.log2(3)))
    assert np.isnan(ndcg[1]) and ndcg[2] == 0
    empty = np.empty((0, 3), np.int64)
    for metric in (metrics.recall_at_k, metrics.ndcg_at_k, metrics.disliked_at_k):
        assert metric(empty, [], 3).shape == (0,)
    none = np.empty((2, 0), np.int64)
    np.testing.assert_array_equal(metrics.reciprocal_rank(none, [[1], []]), [0.0, np.nan])


@given(SEEDS, st.booleans())
def test_auc_agrees_with_scikit_learn(seed: int, ties: bool) -> None:
    rng = np.random.default_rng(seed)
    users = rng.choice([7, 2, 40, 11], 60)
    labels = rng.random(60) < 0.5
    scores = rng.integers(0, 4, 60).astype(float) if ties else rng.standard_normal(60)
    found = metrics.auc_by_user(users, labels, scores)
    assert len(found) == len(np.unique(users))
    for user, auc in zip(np.unique(users), found, strict=True):
        mine = users == user
        if labels[mine].all() or not labels[mine].any():
            assert np.isnan(auc)
        else:
            assert auc == pytest.approx(roc_auc_score(labels[mine], scores[mine]))


def test_auc_of_nothing() -> None:
    assert metrics.auc_by_user([], [], []).shape == (0,)


@given(SEEDS, st.sampled_from(["uniform", "quantile"]), st.integers(1, 12))
def test_reliability_by_plain_loops(seed: int, strategy: str, bins: int) -> None:
    rng = np.random.default_rng(seed)
    chances = rng.random(80)
    labels = rng.random(80) < chances**2
    steps = np.linspace(0, 1, bins + 1)
    if strategy == "quantile":
        steps = np.quantile(chances, steps)
    expected = 0.0
    for i in range(bins):
        inside = (chances >= steps[i]) if i else np.ones(80, bool)
        inside &= (chances < steps[i + 1]) if i < bins - 1 else True
        if inside.any():
            expected += inside.mean() * abs(chances[inside].mean() - labels[inside].mean())
    error = metrics.expected_calibration_error(chances, labels, bins, strategy)
    assert error == pytest.approx(expected)
    assert metrics.reliability(chances, labels, bins, strategy).weight.sum() == pytest.approx(1)


def test_calibration_error_of_the_perfect_and_of_the_worst() -> None:
    assert metrics.expected_calibration_error([0, 0, 1, 1], [0, 0, 1, 1]) == 0
    assert metrics.expected_calibration_error([1, 1, 0, 0], [0, 0, 1, 1]) == 1
    assert np.isnan(metrics.expected_calibration_error([], []))


def test_intervals_cover_the_mean_as_often_as_they_say() -> None:
    rng = np.random.default_rng(0)
    covered = 0
    for trial in range(200):
        low, high = metrics.mean_interval(rng.exponential(size=60), confidence=0.9, samples=300,
                                          seed=trial)[1:]
        covered += low <= 1.0 <= high
    assert 0.82 <= covered / 200 <= 0.95


def test_intervals_skip_nan_and_repeat() -> None:
    values = np.array([1.0, np.nan, 3.0, 2.0])
    one, other = metrics.mean_interval(values), metrics.mean_interval(values)
    assert one == other and one.mean == 2.0 and 1.0 <= one.low < 2.0 < one.high <= 3.0
    assert one == metrics.mean_interval([1.0, 3.0, 2.0])
    assert all(np.isnan(metrics.mean_interval([np.nan])))
    spread = metrics.bootstrap_interval(lambda users: float(np.ptp(users)), 50)
    assert spread.mean == 49 and spread.high <= 49


@pytest.mark.parametrize("call, message", [
    (lambda: metrics.recall_at_k([1, 2], [[1]], 2), r"ids: expected ints of shape"),
    (lambda: metrics.recall_at_k([[1.5]], [[1]], 2), r"ids: expected ints of shape"),
    (lambda: metrics.recall_at_k([[1]], [[1]], 0), r"k: expected 1 or more, got 0"),
    (lambda: metrics.recall_at_k([[1]], [[1], [2]], 1), r"relevant: .* 1 queries, got 2"),
    (lambda: metrics.ndcg_at_k([[1, 1]], [[1]], 2), r"ids: expected each id once"),
    (lambda: metrics.auc_by_user([1], [1, 0], [0.5]), r"labels: expected shape \(1,\)"),
    (lambda: metrics.auc_by_user([1], [1], [np.nan]), r"scores: expected numbers, got NaN"),
    (lambda: metrics.reliability([1.5], [1]), r"probabilities: .* between 0 and 1, got 1.5"),
    (lambda: metrics.reliability([0.5], [1], strategy="x"), r"strategy: expected"),
    (lambda: metrics.reliability([0.5], [1], bins=0), r"bins: expected 1 or more"),
    (lambda: metrics.mean_interval([[1.0]]), r"values: expected shape"),
    (lambda: metrics.mean_interval([1.0], confidence=1), r"confidence: expected"),
])
def test_errors(call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
