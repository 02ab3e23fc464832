"""PosNegRanker.fit: calibration, weights, the items' own record, and bad feedback."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import inside
import numpy as np
import pytest
from inside import fit_weights_within_users, item_log_odds
from numpy.typing import NDArray
from sklearn.ensemble import GradientBoostingClassifier
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression

import farann
from farann import metrics
from farann.adapters.posneg import PosNegRanker

Array = NDArray[Any]
N, USERS, DIM = 80, 50, 6


class Log:
    """Feedback made by known log-odds: 2 * p - 1 by the positive model, 1 - 3 * n by the other."""

    def __init__(self, n: int = 6000, seed: int = 0, item_effect: float = 0.0) -> None:
        rng = np.random.default_rng(seed)

        def directions(count: int) -> Array:
            rows = rng.standard_normal((count, DIM))
            unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
            return np.asarray(unit, np.float32)

        self.positive, self.negative = directions(N), directions(N)
        self.queries = (directions(USERS), directions(USERS))
        self.users, self.items = rng.integers(0, USERS, n), rng.integers(0, N, n)
        self.p = (self.queries[0][self.users] * self.positive[self.items]).sum(axis=1)
        self.n = (self.queries[1][self.users] * self.negative[self.items]).sum(axis=1)
        self.effect = item_effect * rng.standard_normal(N)
        self.rng = rng

    def labels(self, positive: float, negative: float, constant: float) -> Array:
        log_odds = positive * self.p - negative * self.n + constant + self.effect[self.items]
        return np.asarray(self.rng.random(len(self.p)) < 1 / (1 + np.exp(-log_odds)))

    def ranker(self, labels: Array, *, sample_weight: Array | None = None,
               prior: float | None = None, users: bool = True, **options: Any) -> PosNegRanker:
        ranker = PosNegRanker(self.positive, self.negative, **options)
        if users:
            return ranker.fit(*self.queries, self.items, labels, users=self.users,
                              sample_weight=sample_weight, prior=prior)
        positive, negative = (queries[self.users] for queries in self.queries)
        return ranker.fit(positive, negative, self.items, labels, sample_weight=sample_weight,
                          prior=prior)


def reference(feature: Array, target: Array, weight: Array | None = None) -> tuple[float, float]:
    model = LogisticRegression(C=1e9, tol=1e-10, max_iter=10_000)
    model.fit(feature[:, np.newaxis], target, sample_weight=weight)
    return float(model.coef_[0, 0]), float(model.intercept_[0])


def test_platt_is_logistic_regression() -> None:
    log = Log()
    labels = log.labels(2.0, 0.5, -1.0)
    line = log.ranker(labels, item_prior=None).linear_logit
    assert line is not None
    expected = reference(log.p, labels)
    assert (line.positive_slope, line.positive_intercept) == pytest.approx(expected, rel=0.01)
    assert line.positive_slope == pytest.approx(2.0, abs=0.25)
    assert (line.positive_item, line.negative_item) == (0.0, 0.0)
    disliked = log.labels(0.5, 3.0, 1.0)
    line = log.ranker(disliked, item_prior=None).linear_logit
    assert line is not None
    expected = reference(log.n, ~disliked)
    assert (line.negative_slope, line.negative_intercept) == pytest.approx(expected, rel=0.01)


def test_platt_stays_finite_where_classes_separate() -> None:
    log = Log(n=40)
    log.n = -log.p
    log.negative, log.queries = -log.positive, (log.queries[0], log.queries[0])
    labels = log.p > np.median(log.p)
    ranker = log.ranker(labels)
    hits = ranker.rank(*log.queries, 5)
    assert np.isfinite(hits.scores).all()
    assert ((hits.positive > 0) & (hits.positive < 1)).all()


def test_isotonic_is_scikit_learns() -> None:
    log = Log()
    labels = log.labels(2.0, 1.0, 0.0)
    ranker = log.ranker(labels, calibration="isotonic", item_prior=None)
    margin = 1 / (len(labels) + 2)
    expected = IsotonicRegression(y_min=margin, y_max=1 - margin, out_of_bounds="clip")
    expected.fit(log.p, labels.astype(float))
    scored = ranker.score(*log.queries, np.arange(N))
    np.testing.assert_allclose(scored.positive[log.users, log.items], expected.predict(log.p),
                               atol=1e-6)


def test_temperature_has_no_intercept() -> None:
    log = Log()
    line = log.ranker(log.labels(2.0, 0.5, 0.0), calibration="temperature",
                      item_prior=None).linear_logit
    assert line is not None
    assert line.positive_intercept == 0.0 and line.positive_slope == pytest.approx(2.0, abs=0.25)


@pytest.mark.parametrize("estimator", [
    GradientBoostingClassifier(n_estimators=5), LogisticRegression(),
    IsotonicRegression(out_of_bounds="clip"),
], ids=lambda estimator: type(estimator).__name__)
def test_any_estimator_is_cloned_and_used(estimator: Any) -> None:
    log = Log(n=1500)
    labels = log.labels(3.0, 1.0, 0.0)
    ranker = log.ranker(labels, calibration=estimator, item_prior=None)
    assert not hasattr(estimator, "classes_") and not hasattr(estimator, "X_thresholds_")
    fitted = type(estimator)(**estimator.get_params())
    fitted.fit(log.p[:, np.newaxis], labels.astype(int))
    values = log.p[:50, np.newaxis]
    expected = (fitted.predict_proba(values)[:, 1] if hasattr(fitted, "predict_proba")
                else fitted.predict(values))
    scored = ranker.score(*log.queries, np.arange(N))
    found = scored.positive[log.users[:50], log.items[:50]]
    margin = 1 / (len(labels) + 2)
    if isinstance(estimator, GradientBoostingClassifier):
        expected = np.clip(expected, margin, 1 - margin)
    np.testing.assert_allclose(found, np.clip(expected, margin, 1 - margin), atol=1e-3)
    # Searched as exactly as the others: the best of all scores.
    hits = ranker.rank(*log.queries, 7)
    np.testing.assert_allclose(hits.scores, -np.sort(-scored.scores, axis=1)[:, :7])


def test_only_what_a_file_can_hold_is_saved(tmp_path: Any) -> None:
    log = Log(n=300)
    labels = log.labels(2.0, 1.0, 0.0)
    with pytest.raises(TypeError, match="calibration: expected one by name"):
        log.ranker(labels, calibration=GradientBoostingClassifier(n_estimators=2)).save(
            tmp_path / "x")
    assert not list(tmp_path.iterdir())
    ranker = log.ranker(labels, calibration=LogisticRegression(), weight="fit")
    ranker.save(tmp_path / "x")
    again = PosNegRanker.load(tmp_path / "x")
    assert again.weight == ranker.weight and again.linear_logit == ranker.linear_logit
    np.testing.assert_array_equal(again.probability([0.3]), ranker.probability([0.3]))


def test_the_weight_finds_the_better_model() -> None:
    log = Log()
    both = log.ranker(log.labels(2.0, 2.0, 0.0), weight="fit", item_prior=None)
    assert both.weight == pytest.approx(0.5, abs=0.05)
    # Where nothing is calibrated, the weight has to tell the scales apart: 2 / (2 + 6).
    raw = log.ranker(log.labels(2.0, 6.0, 0.0), weight="fit", calibration="none")
    assert raw.weight == pytest.approx(0.25, abs=0.05)
    small = Log(n=1500)
    labels = small.labels(4.0, 0.4, 0.0)
    for fusion in ("convex", "combsum", "product", "rrf", "borda"):
        fitted = small.ranker(labels, weight="fit", fusion=fusion, calibration="none",
                              normalize="minmax")
        assert fitted.weight >= 0.55, fusion
    with pytest.warns(UserWarning, match="negative: higher scores"):
        wrong = log.ranker(log.labels(2.0, -2.0, 0.0), weight="fit", item_prior=None)
    assert wrong.weight == 1.0


def test_probabilities_are_calibrated() -> None:
    log = Log(n=20_000, item_effect=0.5)
    labels = log.labels(2.0, 2.0, 0.5)
    train, test = slice(0, 10_000), slice(10_000, None)
    for fusion in ("logit", "convex", "product", "rrf"):
        ranker = PosNegRanker(log.positive, log.negative, fusion=fusion).fit(
            *log.queries, log.items[train], labels[train], users=log.users[train])
        scored = ranker.score(*log.queries, np.arange(N))
        chance = ranker.probability(scored.scores)[log.users[test], log.items[test]]
        error = metrics.expected_calibration_error(chance, labels[test])
        assert error < 0.05, (fusion, error)
        for part, target in ((scored.positive, labels), (scored.negative, ~labels)):
            chance = part[log.users[test], log.items[test]]
            assert metrics.expected_calibration_error(chance, target[test]) < 0.03
    assert ranker.probability([-np.inf]) == [0.0]
    assert np.isnan(ranker.probability([np.nan])).all()


def test_the_prior_undoes_sampling() -> None:
    log = Log(n=40_000)
    labels = log.labels(2.0, 1.0, -3.0)  # few likes
    kept = labels | (log.rng.random(len(labels)) < labels.mean() / (1 - labels.mean()))
    balanced = PosNegRanker(log.positive, log.negative).fit(
        *log.queries, log.items[kept], labels[kept], users=log.users[kept])
    corrected = PosNegRanker(log.positive, log.negative).fit(
        *log.queries, log.items[kept], labels[kept], users=log.users[kept],
        prior=float(labels.mean()))

    def error(ranker: PosNegRanker) -> float:
        scored = ranker.score(*log.queries, np.arange(N))
        return metrics.expected_calibration_error(scored.positive[log.users, log.items], labels)

    assert error(balanced) > 0.2
    assert error(corrected) < 0.02


def test_items_have_a_record_of_their_own() -> None:
    log = Log(item_effect=1.5)
    labels = log.labels(1.0, 1.0, 0.0)
    with_record, without = log.ranker(labels), log.ranker(labels, item_prior=None)
    assert np.corrcoef(with_record.item_log_odds, log.effect)[0, 1] > 0.95
    assert not without.item_log_odds.any()
    fresh = Log(seed=0, item_effect=1.5)
    fresh.rng = np.random.default_rng(77)
    again = fresh.labels(1.0, 1.0, 0.0)
    quality = [
        np.nanmean(metrics.auc_by_user(
            fresh.users, again,
            ranker.score(*log.queries, np.arange(N)).scores[fresh.users, fresh.items]))
        for ranker in (with_record, without)
    ]
    assert quality[0] > quality[1] + 0.1
    # By hand, with the strength of 4: (likes + 4 m) / (dislikes + 4 (1 - m)) against m / (1 - m).
    mean, item = labels.mean(), 3
    mine = labels[log.items == item]
    odds = (mine.sum() + 4 * mean) / ((~mine).sum() + 4 * (1 - mean))
    record, _ = item_log_odds(log.items, N, labels, np.ones(len(labels)), 4.0)
    assert record[item] == pytest.approx(np.log(odds / (mean / (1 - mean))))
    # All vectors are of one length, so nothing else is known of items.
    times = with_record.item_log_odds / record
    assert 0.2 < times[0] < 1 and np.ptp(times) < 1e-9
    line = with_record.linear_logit
    assert line is not None and line.positive_item > 0 > line.negative_item


def test_records_of_single_items_teach_nothing() -> None:
    """With one feedback an item, its record without that feedback is the mean."""
    rng = np.random.default_rng(0)
    rows, queries = rng.standard_normal((2, 400, 4), dtype=np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    labels = rng.random(400) < 1 / (1 + np.exp(-(rows * queries).sum(axis=1)))
    ranker = PosNegRanker(rows, -rows).fit(queries, queries, np.arange(400), labels)
    assert not ranker.item_log_odds.any()


def test_lengths_tell_of_items_without_a_record() -> None:
    log = Log(n=3000)
    times = np.exp(log.rng.standard_normal(N)).astype(np.float32)
    log.negative *= times[:, np.newaxis]
    log.n = log.n * times[log.items]
    log.effect = -1.5 * np.log(times)  # what the negative model knows well is disliked
    labels = log.labels(1.0, 1.0, 0.0)
    seen = log.items < N // 2
    log.users, log.items = log.users[seen], log.items[seen]
    own = log.ranker(labels[seen]).item_log_odds
    assert np.corrcoef(own[N // 2 :], log.effect[N // 2 :])[0, 1] > 0.95
    assert not log.ranker(labels[seen], item_prior=None).item_log_odds.any()
    # Cosines don't depend on lengths.
    cosine = log.ranker(labels[seen], metric="cosine").item_log_odds
    assert not cosine[N // 2 :].any() and cosine[: N // 2].any()


def test_what_one_model_lacks_has_no_length_there() -> None:
    log = Log()
    log.negative *= log.rng.random((N, 1), dtype=np.float32)
    half = farann.Index(metric="dot")
    half.add(log.negative[: N // 2], np.arange(N // 2))
    side = inside.pair_of(PosNegRanker(log.positive, half)).negative
    lengths = np.linalg.norm(log.negative[: N // 2].astype(float), axis=1)
    typical = np.sqrt(np.mean(lengths**2))
    np.testing.assert_allclose(side.log_lengths()[: N // 2], np.log(lengths / typical + 0.1))
    assert not side.log_lengths()[N // 2 :].any()


def test_weights_are_those_within_users() -> None:
    """Against scikit-learn, with a column a user; large features are hardly penalized there."""
    rng = np.random.default_rng(0)
    n, m = 4000, 40
    users, features = rng.integers(0, m, n), rng.standard_normal((n, 3))
    leaning = rng.standard_normal(m)
    features[:, 1] += leaning[users]  # who scores high likes little, all the same
    log_odds = features @ [1.0, 1.0, -0.5] - 1.5 * leaning[users]
    labels = rng.random(n) < 1 / (1 + np.exp(-log_odds))
    weight = rng.random(n)
    found = fit_weights_within_users(features, labels, weight, users, free=1)
    each = weight * n / weight.sum()
    likes = each[labels].sum()
    soft = np.where(labels, (likes + 1) / (likes + 2), 1 / (n - likes + 2))
    columns = np.hstack([1e4 * features, np.eye(m)[users]])
    model = LogisticRegression(C=1.0, tol=1e-12, max_iter=100_000, solver="newton-cg")
    model.fit(np.vstack([columns] * 2), np.repeat([1, 0], n),
              sample_weight=np.concatenate([each * soft, each * (1 - soft)]))
    np.testing.assert_allclose(found, 1e4 * model.coef_[0, :3], rtol=1e-3)
    assert found[1] > 0.6
    assert reference(features[:, 1], labels)[0] < 0.4  # whoever asks
    alone = fit_weights_within_users(features[:, [0, 2]], labels, weight, users)
    assert alone[1] == 0.0 < alone[0]


def test_two_models_that_say_the_same_share_the_weight() -> None:
    log = Log()
    labels = log.labels(2.0, 0.0, 0.0)
    ranker = PosNegRanker(log.positive, -log.positive).fit(
        log.queries[0], log.queries[0], log.items, labels, users=log.users)
    assert ranker.weight == pytest.approx(0.5, abs=0.01)


def test_the_weight_is_fitted_by_default_where_one_index_answers() -> None:
    log = Log()
    labels = log.labels(2.0, 0.5, 0.0)
    assert log.ranker(labels).weight == log.ranker(labels, weight="fit").weight != 0.5
    fixed: list[dict[str, Any]] = [{"fusion": "convex"}, {"calibration": "none"}]
    for options in fixed:
        assert log.ranker(labels, **options).weight == 0.5


@pytest.mark.parametrize("calibration", ["platt", "isotonic", "temperature"])
def test_weights_count_like_repeated_feedback(calibration: str) -> None:
    log = Log(n=1000)
    labels = log.labels(2.0, 2.0, 0.0)
    times = log.rng.integers(0, 4, 1000)
    repeated = np.repeat(np.arange(1000), times)
    # Without records: they leave out one row at a time, not its copies.
    options: dict[str, Any] = {"calibration": calibration, "item_prior": None, "weight": "fit"}
    weighted = log.ranker(labels, sample_weight=times / 7, **options)
    log.users, log.items = log.users[repeated], log.items[repeated]
    plain = log.ranker(labels[repeated], **options)
    # Platt's targets and the isotonic margin count rows, so not bit for bit.
    one, other = (ranker.score(*log.queries, np.arange(N)) for ranker in (weighted, plain))
    np.testing.assert_allclose(one.positive, other.positive, atol=0.005)
    assert weighted.weight == pytest.approx(plain.weight, abs=0.005)


def test_users_say_whose_feedback_it_is() -> None:
    log = Log(n=500)
    labels = log.labels(2.0, 2.0, 0.0)
    rankers: list[dict[str, Any]] = [
        {}, {"normalize": "minmax"}, {"normalize": "rank"}, {"fusion": "borda"},
        {"normalize": "softmax", "metric": "cosine"}, {"normalize": "zmuv", "metric": "l2"}]
    for options in rankers:
        one, other = log.ranker(labels, **options), log.ranker(labels, users=False, **options)
        for part, same in zip(one.rank(*log.queries, 5), other.rank(*log.queries, 5),
                              strict=True):
            np.testing.assert_allclose(part, same, rtol=1e-9)


def test_a_veto_goes_by_the_feedback() -> None:
    """At a click rate of 5 % P(dislike) is above .5 for every item."""
    log = Log()
    labels = log.labels(2.0, 2.0, -3.2)
    ranker = log.ranker(labels, fusion="veto")
    share = (ranker.rank(*log.queries, N).ids >= 0).mean()
    assert labels.mean() < 0.08 and 0.2 < share < 0.8
    model = inside.model_of(ranker)
    assert model is not None and model.veto == pytest.approx(1 - labels.mean())
    few = log.ranker(labels, veto=("quantile", 0.1))
    assert 0.05 < (few.rank(*log.queries, N).ids >= 0).mean() < 0.2
    with pytest.warns(UserWarning, match="veto: P.dislike. is above 0.5 for 100 % of what"):
        nothing = log.ranker(labels, veto=0.5)
    assert (nothing.rank(*log.queries, 5).ids == -1).all()


def test_a_veto_by_feedback_is_saved(tmp_path: Any) -> None:
    log = Log(n=500)
    ranker = log.ranker(log.labels(2.0, 2.0, 0.0), veto=("lift", 1.5))
    ranker.save(tmp_path / "x")
    again = PosNegRanker.load(tmp_path / "x")
    np.testing.assert_array_equal(again.rank(*log.queries, N).ids, ranker.rank(*log.queries, N).ids)
    found = ranker.rank(*log.queries, 3).scores
    np.testing.assert_array_equal(again.probability(found, np.arange(USERS)),
                                  ranker.probability(found, np.arange(USERS)))


def test_labels_of_minus_one_and_one() -> None:
    log = Log(n=500)
    labels = log.labels(2.0, 2.0, 0.0)
    assert log.ranker(np.where(labels, 1, -1)).linear_logit == log.ranker(labels).linear_logit
    with pytest.raises(ValueError, match="labels: expected 0 and 1, or -1 and 1, got all three"):
        log.ranker(np.arange(500) % 3 - 1)


def test_a_user_whom_a_model_lacks_is_average_there() -> None:
    log = Log()
    labels = log.labels(2.0, 2.0, 0.0)
    asked = log.queries[1].copy()
    asked[:7] = 0.0
    options: list[dict[str, Any]] = [
        {}, {"fusion": "convex"}, {"fusion": "combmnz"}, {"fusion": "borda"},
        {"normalize": "minmax"}, {"normalize": "rank"}, {"normalize": "zmuv"},
        {"calibration": "isotonic"}, {"veto": ("lift", 1.2)}, {"normalize": "softmax"}]
    for each in options:
        ranker = log.ranker(labels, metric="cosine", **each)
        hits = ranker.rank(log.queries[0], asked, 5)
        scored = ranker.score(log.queries[0], asked, np.arange(N))
        np.testing.assert_allclose(hits.scores, -np.sort(-scored.scores, axis=1)[:, :5])
        assert np.isfinite(scored.negative).all()
        whole = ranker.rank(*log.queries, 5)
        np.testing.assert_array_equal(hits.ids[7:], whole.ids[7:])
        if not each:  # the item's own part is all that differs
            model = inside.model_of(ranker)
            assert model is not None
            known = model.negative.unknown + model.negative.item_weight * model.items
            np.testing.assert_allclose(scored.negative[0], 1 / (1 + np.exp(-known)))
        ranker.fit(log.queries[0], asked, log.items, labels, users=log.users)
    with pytest.raises(ValueError, match="negative_queries: cosine needs"):
        log.ranker(labels, metric="cosine", missing="drop").rank(log.queries[0], asked, 5)


def test_models_are_replaced_under_what_was_learned() -> None:
    log = Log(item_effect=1.0)
    ranker = log.ranker(log.labels(2.0, 2.0, 0.0))
    before = ranker.rank(*log.queries, 5)
    same = ranker.replace(log.positive, log.negative)
    np.testing.assert_array_equal(same.rank(*log.queries, 5).scores, before.scores)
    grown = ranker.replace(*(np.vstack([rows[:1], rows]) for rows in (log.positive, log.negative)),
                           ids=[N, *range(N)])
    assert len(grown.ids) == N + 1 and grown.weight == ranker.weight
    np.testing.assert_array_equal(grown.item_log_odds, [*ranker.item_log_odds, 0.0])
    with pytest.raises(RuntimeError, match="fit must be called first"):
        PosNegRanker(log.positive, log.negative).replace(log.positive, log.negative)


def test_moments_are_found_once(monkeypatch: pytest.MonkeyPatch) -> None:
    log = Log(n=500)
    ranker = log.ranker(log.labels(2.0, 2.0, 0.0), normalize="zmuv")
    side = inside.pair_of(ranker).positive
    monkeypatch.setattr(side, "rows", None)
    mean, deviation = side.moments(log.queries[0])
    every = log.queries[0].astype(float) @ log.positive.astype(float).T
    np.testing.assert_allclose(mean, every.mean(axis=1))
    np.testing.assert_allclose(deviation, every.std(axis=1))


def test_users_who_like_more_have_better_chances() -> None:
    log = Log(n=20_000)
    leaning = log.rng.standard_normal(USERS)
    labels = log.rng.random(20_000) < 1 / (1 + np.exp(-2 * log.p + 2 * log.n
                                                     - 1.5 * leaning[log.users]))
    ranker = log.ranker(labels)
    scored = ranker.score(*log.queries, np.arange(N)).scores
    chances = [ranker.probability(scored), ranker.probability(scored, np.arange(USERS))]
    fresh = log.rng.random(20_000) < 1 / (1 + np.exp(-2 * log.p + 2 * log.n
                                                    - 1.5 * leaning[log.users]))
    plain, mine = (-np.log(np.where(fresh, chance, 1 - chance)).mean()
                   for chance in (each[log.users, log.items] for each in chances))
    assert mine < plain - 0.1
    for chance in chances:
        assert metrics.expected_calibration_error(chance[log.users, log.items], fresh) < 0.03
    with pytest.raises(ValueError, match="users: expected a ranker whose fit had users="):
        log.ranker(labels, users=False).probability(scored, np.arange(USERS))


def test_missing_items_count_as_average() -> None:
    log = Log()
    labels = log.labels(2.0, 2.0, 1.0)
    half = farann.Index(metric="dot")
    half.add(log.negative[: N // 2], np.arange(N // 2))
    ranker = PosNegRanker(log.positive, half, item_prior=None).fit(
        *log.queries, log.items, labels, users=log.users)
    scored = ranker.score(*log.queries, np.arange(N))
    seen = log.items < N // 2  # what the negative model learned from
    np.testing.assert_allclose(scored.negative[:, N // 2 :], 1 - labels[seen].mean(), rtol=1e-9)
    np.testing.assert_array_equal(ranker.rank(*log.queries, 3).ids,
                                  np.argsort(-scored.scores, axis=1)[:, :3])
    dropped = PosNegRanker(log.positive, half, missing="drop")
    assert dropped.ids.tolist() == list(range(N // 2))
    with pytest.raises(KeyError, match="is in no model"):
        dropped.fit(*log.queries, log.items, labels, users=log.users)


def test_swapped_models_are_noticed() -> None:
    log = Log()
    labels = log.labels(2.0, 2.0, 0.0)
    ranker = PosNegRanker(log.negative, log.positive, item_prior=None)
    with pytest.warns(UserWarning, match="(positive|negative): higher scores don't go with"):
        ranker.fit(*log.queries[::-1], log.items, labels, users=log.users)
    # Left out of account: everything scores the same, and comes by the positive similarity.
    line = ranker.linear_logit
    assert line is not None and line.positive_slope == 0.0 == line.negative_slope
    hits = ranker.rank(*log.queries[::-1], 3)
    assert np.ptp(hits.scores) == 0.0
    near = inside.pair_of(ranker).positive.index.search_nearest(log.queries[1], 3)
    np.testing.assert_array_equal(hits.ids, near.ids)


def test_one_kind_of_feedback_is_an_error_and_loses_nothing() -> None:
    log = Log(n=400)
    labels = log.labels(2.0, 2.0, 0.0)
    ranker = log.ranker(labels)
    before = ranker.rank(*log.queries, 5)
    for given in (np.ones(400), np.zeros(400)):
        with pytest.raises(ValueError, match="labels: expected likes and dislikes"):
            ranker.fit(*log.queries, log.items, given, users=log.users)
    with pytest.raises(ValueError, match="labels: expected likes and dislikes"):
        ranker.fit(*log.queries, log.items, labels, users=log.users, sample_weight=labels)
    for one, other in zip(before, ranker.rank(*log.queries, 5), strict=True):
        np.testing.assert_array_equal(one, other)


FIT_ERRORS: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"labels": [0, 2]}, ValueError, "labels: expected 0 and 1, got 2"),
    ({"labels": [0, 1, 1]}, ValueError, r"labels: expected shape \(2,\)"),
    ({"labels": ["a", "b"]}, TypeError, "labels: expected 0 and 1, got strings"),
    ({"labels": [0, np.nan]}, ValueError, "labels: expected 0 and 1, got nan"),
    ({"item_ids": [0, 99]}, KeyError, "item_ids: 99 is in no model"),
    ({"item_ids": []}, ValueError, "item_ids: expected feedback, got none"),
    ({"item_ids": [0.5, 1]}, TypeError, "item_ids: expected integer ids"),
    ({"users": [0, 2]}, ValueError, "users: expected numbers of the 2 queries, got 2"),
    ({"users": [0]}, ValueError, r"users: expected shape \(2,\)"),
    ({"item_ids": [0], "labels": [1]}, ValueError, "expected 2 ids, one a query, got 1; users="),
    ({"sample_weight": [1, -1]}, ValueError, "sample_weight: expected finite numbers of 0"),
    ({"sample_weight": [0, 0]}, ValueError, "sample_weight: .* not all 0"),
    ({"sample_weight": ["a", "b"]}, TypeError, "sample_weight: expected numbers"),
    ({"prior": 1.0}, ValueError, "prior: expected a share between 0 and 1, got 1"),
    ({"positive_queries": np.ones((2, 5))}, ValueError, "positive_queries: expected vectors of"),
    ({"negative_queries": np.ones((3, 2))}, ValueError, "negative_queries: expected as many"),
    ({"negative_queries": [[np.nan, 0], [0, 0]]}, ValueError, "negative_queries: .* got NaN"),
]


@pytest.mark.parametrize("change, kind, message", FIT_ERRORS)
def test_errors_of_fit(change: dict[str, Any], kind: type[Exception], message: str) -> None:
    arguments: dict[str, Any] = {"positive_queries": np.eye(2), "negative_queries": np.eye(2),
                                 "item_ids": [0, 1], "labels": [0, 1]}
    ranker = PosNegRanker(np.eye(2), np.eye(2))
    with pytest.raises(kind, match=message):
        ranker.fit(**arguments | change)
    with pytest.raises(RuntimeError, match="fit must be called first"):
        ranker.rank(np.eye(2), np.eye(2))


@pytest.mark.parametrize("change, kind, message", [
    ({"fusion": "sum"}, ValueError, "fusion: expected one of"),
    ({"calibration": "magic"}, ValueError, "calibration: expected one of"),
    ({"calibration": 3}, TypeError, "calibration: expected one of"),
    ({"calibration": LogisticRegression}, TypeError, "calibration: expected one of"),
    ({"normalize": "max"}, ValueError, "normalize: expected one of"),
    ({"missing": "zero"}, ValueError, "missing: expected one of"),
    ({"metric": "l1"}, ValueError, "metric: expected one of"),
    ({"weight": 1.5}, ValueError, "weight: expected a number from 0 to 1, got 1.5"),
    ({"weight": "learn"}, TypeError, "weight: expected a number"),
    ({"item_prior": 0}, ValueError, "item_prior: expected a number of 1e-06 or more"),
    ({"item_prior": np.inf}, ValueError, "item_prior: expected a number of 1e-06 or more"),
    ({"veto": np.inf}, ValueError, "veto: expected a finite number, got inf"),
    ({"rank_constant": -1}, ValueError, "rank_constant: expected 0 or more"),
    ({"threads": 0}, ValueError, "threads: expected 1 or more"),
    ({"ids": [1, 1]}, ValueError, "ids: expected each id once"),
    ({"ids": [1]}, ValueError, "ids: expected 2 ids"),
    ({"positive": np.empty((0, 2))}, ValueError, "positive: expected at least one item"),
    ({"positive": [[0.0, 0.0]], "metric": "cosine"}, ValueError, "positive: cosine needs"),
    ({"calibration": "none", "fusion": "product"}, ValueError, "fusion: 'product' needs"),
    ({"positive": np.eye(3, 2)}, ValueError, "negative: expected as many rows as positive, 3, got"),
    ({"veto": ("share", 1)}, ValueError, "veto: expected a number, .'quantile', q. or"),
    ({"veto": ("quantile", 2)}, ValueError, "veto: expected a number from 0 to 1, got 2"),
    ({"veto": ("lift", 0)}, ValueError, "veto: expected a lift above 0, got 0"),
    ({"veto": ("lift", 2), "calibration": "none"}, ValueError, "veto: without calibration"),
])
def test_errors_of_the_ranker(change: dict[str, Any], kind: type[Exception],
                              message: str) -> None:
    with pytest.raises(kind, match=message):
        PosNegRanker(**{"positive": np.eye(2), "negative": np.eye(2)} | change)


def test_without_calibration_nothing_stands_for_what_a_model_lacks() -> None:
    more = farann.Index(metric="dot")
    more.add(np.eye(3, 2), np.arange(3))
    with pytest.raises(ValueError, match="missing: without calibration"):
        PosNegRanker(more, np.eye(2), calibration="none")


def test_errors_of_rank() -> None:
    ranker = PosNegRanker(np.eye(2), np.eye(2), calibration="none")
    refused: list[tuple[Callable[[], object], str]] = [
        (lambda: ranker.rank(np.eye(2), np.eye(2), 0), "k: expected 1 or more"),
        (lambda: ranker.rank(np.eye(2), np.eye(2), 3, candidates=2), "candidates: expected 3"),
        (lambda: ranker.rank([1.0, 0.0], np.eye(2)), "negative_queries: expected as many"),
        (lambda: ranker.rank(np.eye(2), np.eye(2), exclude=[[1]]), "exclude: expected ids"),
        (lambda: ranker.rank(np.eye(2), np.eye(2), allowed=np.ones(3, bool)), "allowed: expected"),
    ]
    for call, message in refused:
        with pytest.raises(ValueError, match=message):
            call()
    with pytest.raises(RuntimeError, match="probability: fit must be called first"):
        ranker.probability([0.0])
    with pytest.raises(KeyError, match="item_ids: 7"):
        ranker.score(np.eye(2), np.eye(2), [7])


def test_scikit_learn_is_imported_only_to_fit(run_python: Any) -> None:
    run_python("""
import sys
import warnings
import farann, farann.metrics, farann.adapters
from farann.adapters.posneg import PosNegRanker
sys.modules["sklearn"] = None
ranker = PosNegRanker(np.eye(2), np.eye(2), calibration="none")
assert ranker.rank(np.eye(2), np.eye(2), 1).ids.shape == (2, 1)
try:
    PosNegRanker(np.eye(2), np.eye(2)).fit(np.eye(2), np.eye(2), [0, 1], [0, 1])
except ImportError:
    pass
else:
    raise AssertionError("fitted without scikit-learn")
""")
    run_python("import sys, farann, farann.adapters.posneg; assert 'sklearn' not in sys.modules")
    assert "sklearn" in sys.modules
