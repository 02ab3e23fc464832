"""What a ranker learns: regressions against an oracle, folds, signs; and the models of a log."""

from __future__ import annotations

from typing import Any

import inside
import numpy as np
import pytest
from numpy.typing import NDArray

from farann import metrics
from farann.adapters.posneg import Factorization, FusionRanker, SignedModel

Array = NDArray[Any]
N, USERS = 50, 60
RNG = np.random.default_rng(3)


def newton(columns: Array, target: Array, weight: Array, users: Array, n_users: int) -> Array:
    """The same regression, dense and by Newton's method: coefficients, constant, intercepts."""
    mean = np.average(columns, axis=0, weights=weight)
    spread = np.sqrt(np.average((columns - mean) ** 2, axis=0, weights=weight))
    m = columns.shape[1]
    design = np.column_stack([(columns - mean) / spread, np.eye(n_users)[users],
                              np.ones(len(users))])
    prior = np.diag(np.append(np.ones(m + n_users), 0.0))
    found = np.zeros(design.shape[1])
    for _ in range(30):
        chance = 1 / (1 + np.exp(-design @ found))
        slope = design.T @ (weight * (chance - target)) + prior @ found
        found -= np.linalg.solve((design.T * weight * chance * (1 - chance)) @ design + prior,
                                 slope)
    found[:m] /= spread
    found[-1] -= mean @ found[:m]
    return found


@pytest.mark.parametrize("seed", range(3))
def test_the_regression_is_that_of_newtons_method(seed: int) -> None:
    rng = np.random.default_rng(seed)
    columns = rng.standard_normal((300, 3)) * [1.0, 100.0, 1e-3] + [5.0, 0.0, 0.0]
    users, weight = rng.integers(0, 20, 300), rng.random(300) * 2
    target = rng.random(300) < 1 / (1 + np.exp(-columns[:, 1] / 100 - np.sin(users)))
    found = inside.adapters.regression(columns, target, weight, users, 21)
    expected = newton(columns, target, weight, users, 21)
    np.testing.assert_allclose(found.coefficients, expected[:3], rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(found.users, expected[3:-1], atol=1e-3)
    assert found.constant == pytest.approx(expected[-1], abs=1e-3) and found.users[20] == 0.0
    same = np.column_stack([columns[:, 1], np.full(300, 7.0)])
    assert inside.adapters.regression(same, target, weight, users, 21).coefficients[1] == 0


@pytest.mark.parametrize("likes", [0.5, 0.01])
def test_the_regression_is_that_of_scikit_learn(likes: float) -> None:
    from sklearn.linear_model import LogisticRegression

    rng = np.random.default_rng(0)
    columns, weight = rng.standard_normal((400, 3)), rng.random(400)
    users = rng.integers(0, 80, 400)
    noisy = columns[:, 0] + rng.standard_normal(400)
    target = noisy > np.quantile(noisy, 1.0 - likes)
    found = inside.adapters.regression(columns, target, weight, users, 80)
    mean = np.average(columns, axis=0, weights=weight)
    spread = np.sqrt(np.average((columns - mean) ** 2, axis=0, weights=weight))
    design = np.column_stack([(columns - mean) / spread, np.eye(80)[users]])
    model = LogisticRegression(tol=1e-9, max_iter=10_000).fit(design, target, weight)
    np.testing.assert_allclose(found.coefficients * spread, model.coef_[0, :3], atol=1e-4)
    np.testing.assert_allclose(found.users, model.coef_[0, 3:], atol=1e-4)
    assert found.constant + mean @ found.coefficients == pytest.approx(model.intercept_[0],
                                                                       abs=1e-4)


def test_the_regression_takes_few_steps_however_many_users(monkeypatch: pytest.MonkeyPatch
                                                           ) -> None:
    """Of 3000 users, each with a variable; and far from the start, too."""
    rng = np.random.default_rng(0)
    users, columns = np.repeat(np.arange(3000), 5), rng.standard_normal((15_000, 2))
    target = rng.random(15_000) < 1 / (1 + np.exp(4 - 3 * columns[:, 0] - np.sin(users)))
    regression = inside.adapters.regression
    monkeypatch.setattr(inside.settings, "most_regression_steps", 40)
    found = regression(columns, target, np.ones(15_000), users, 3000)
    slack = 1 / (1 + np.exp(-columns @ found.coefficients - found.constant
                            - found.users[users])) - target
    np.testing.assert_allclose(np.bincount(users, slack), -found.users, atol=1e-4)
    assert abs(slack.sum()) < 1e-2


class Shop:
    """Feedback of tastes and distastes, and models of it that remember what they were given."""

    def __init__(self, n: int = 4000, leaning: float = 0.0, charm: float = 0.0) -> None:
        rng = np.random.default_rng(1)
        self.taste = [rng.standard_normal((USERS, 3)) for _ in range(2)]
        self.charm = [rng.standard_normal((N, 3)) for _ in range(2)]
        self.leaning, self.own = leaning * rng.standard_normal(USERS), rng.standard_normal(N)
        self.users, self.items = rng.integers(0, USERS, n), rng.integers(0, N, n)
        like, dislike = ((q[self.users] * x[self.items]).sum(axis=1)
                         for q, x in zip(self.taste, self.charm, strict=True))
        self.log_odds = like - 0.6 * dislike + self.leaning[self.users] + charm * self.own[
            self.items]
        self.labels = rng.random(n) < 1 / (1 + np.exp(-self.log_odds))
        self.calls: list[set[tuple[int, int]]] = []

    def models(self, *signs: int) -> list[SignedModel]:
        return [SignedModel(x, q, sign) for x, q, sign in
                zip(self.charm, self.taste, signs or (1, -1), strict=True)]

    def fit(self, **options: Any) -> FusionRanker:
        return FusionRanker(self.models()).fit(self.users, self.items, self.labels, **options)

    def train(self, users: Array, items: Array, liked: Array) -> list[SignedModel]:
        assert users.dtype == items.dtype == np.int64 and liked.dtype == np.bool_
        self.calls.append(set(zip(users.tolist(), items.tolist(), strict=True)))
        rated = np.zeros((USERS, N))
        np.add.at(rated, (users, items), np.where(liked, 1.0, -1.0))
        u, s, v = np.linalg.svd(rated)
        return [SignedModel(v[:6].T, u[:, :6] * s[:6], "both")]


def test_weights_and_intercepts_are_those_of_the_truth() -> None:
    shop = Shop(20_000, leaning=1.0)
    ranker = shop.fit()
    learned = inside.adapters.learned_by(ranker)
    np.testing.assert_allclose(learned.liking[:2] / inside.adapters.scales_of(ranker)[1],
                               [1.0, -0.6], atol=0.06)
    assert np.corrcoef(learned.users, shop.leaning)[0, 1] > 0.97
    assert [(each.name, each.sign) for each in ranker.report] == [("positive", 1), ("negative", -1)]
    assert ranker.report[0].share > ranker.report[1].share > 0.2 and ranker.report[1].auc > 0.6
    chance = ranker.score(np.arange(USERS)).probability[shop.users, shop.items]
    assert np.abs(chance - 1 / (1 + np.exp(-shop.log_odds))).mean() < 0.03


@pytest.mark.parametrize("charm", [0.0, 1.5])
def test_the_record_of_items_counts_where_it_helps(charm: float) -> None:
    shop = Shop(charm=charm)
    ranker = shop.fit()
    trust, (record, _) = inside.adapters.learned_by(ranker).liking[-2], inside.adapters.items_of(
        ranker)
    if charm:
        assert trust > 0.5 and np.corrcoef(record, shop.own)[0, 1] > 0.7
    else:
        assert trust * np.abs(record).max() < 0.3


def test_what_is_shown_is_learned() -> None:
    shop = Shop(6000)
    rng = np.random.default_rng(2)
    shop.items = rng.choice(N, 6000, p=np.arange(1, N + 1) / (N * (N + 1) / 2))
    like = (shop.taste[0][shop.users] * shop.charm[0][shop.items]).sum(axis=1)
    shop.labels = rng.random(6000) < 1 / (1 + np.exp(-like))
    ranker = shop.fit()
    assert inside.adapters.learned_by(ranker).showing[-1] > 0.3
    assert np.corrcoef(inside.adapters.items_of(ranker)[1],
                       np.log(np.arange(1, N + 1)))[0, 1] > 0.9
    assert ranker.rank(np.arange(USERS), 5, exposure=0.0, seen=True).ids.mean() > 40


def test_where_everybody_saw_everything_nothing_is_learned_from_that() -> None:
    shop = Shop(USERS * N)
    shop.users, shop.items = np.divmod(np.arange(USERS * N), N)
    shop.labels = (shop.taste[0][shop.users] * shop.charm[0][shop.items]).sum(axis=1) > 0
    ranker = inside.adapters.fused(shop.fit())
    assert not inside.adapters.learned_by(ranker).showing.any()
    np.testing.assert_array_equal(ranker.rank([1], seen=True).ids,
                                  ranker.rank([1], among="shown", seen=True).ids)


def test_unseen_pairs_were_not_shown() -> None:
    rng = np.random.default_rng(0)
    users, shown = rng.integers(0, 5, 30), np.unique(rng.integers(0, 100, 60))
    who, what = inside.adapters.unseen_pairs(np.tile(users, 20), shown, 20, rng)
    assert 300 < len(who) < 1500 and not np.isin(who * 20 + what, shown).any()
    assert set(who * 20 + what) == {
        user * 20 + item for user in set(users.tolist()) for item in range(20)} - set(shown)


def test_weights_count_like_repeated_labels() -> None:
    shop = Shop(1500)
    times = np.random.default_rng(0).integers(0, 3, 1500)
    weighted = shop.fit(sample_weight=times * 1e300)
    again = np.repeat(np.arange(1500), times)
    repeated = FusionRanker(shop.models()).fit(shop.users[again], shop.items[again],
                                               shop.labels[again])
    # Folds and the mean weight differ, and with it the prior; nothing else does.
    np.testing.assert_allclose(inside.adapters.learned_by(weighted).liking,
                               inside.adapters.learned_by(repeated).liking, atol=0.1)
    np.testing.assert_allclose(inside.adapters.items_of(weighted)[0],
                               inside.adapters.items_of(repeated)[0], atol=0.4)


def test_swapped_signs_are_an_error() -> None:
    shop = Shop()
    ranker = shop.fit()
    before = ranker.rank([1]).scores
    for models, labels in ((shop.models(-1, 1), shop.labels), (shop.models(), ~shop.labels)):
        with pytest.raises(ValueError, match=r"'\w+' has sign -?1, but speaks against its sign by "
                           r"itself \(AUC 0\.\d+ .*: swap what is swapped"):
            FusionRanker(models).fit(shop.users, shop.items, labels)
    with pytest.raises(ValueError, match="speaks against"):
        ranker.fit(shop.users, shop.items, ~shop.labels)
    np.testing.assert_array_equal(ranker.rank([1]).scores, before)


def test_a_model_that_helps_only_beside_another_is_no_swapped_one() -> None:
    """Models of clicks and of passes both grow with how often items are shown."""
    rng = np.random.default_rng(5)
    shown, liked = rng.standard_normal((2, N))
    ones = np.ones((USERS, 1))
    models = [SignedModel((2 * shown + liked)[:, np.newaxis], ones),
              SignedModel((2 * shown - 0.2 * liked)[:, np.newaxis], ones, -1)]
    users, items = rng.integers(0, USERS, (2, 6000)) % [[USERS], [N]]
    chance = 1 / (1 + np.exp(-liked - 1.5 * shown))
    ranker = FusionRanker(models).fit(users, items, rng.random(6000) < chance[items])
    assert ranker.report[1].auc < 0.4 and ranker.report[1].weight < 0


# ---- folds ----


def test_folds_are_held_out_and_everything_is_used() -> None:
    shop = Shop()
    ranker = FusionRanker(shop.train)
    assert "not fitted" in repr(ranker)
    ranker.fit(shop.users, shop.items, shop.labels)
    everything, *folds = shop.calls
    assert len(folds) == 5 and everything == set().union(*folds)
    final = shop.train(shop.users, shop.items, shop.labels)[0]
    hits = ranker.score(np.arange(USERS), among="shown")
    learned = inside.adapters.learned_by(ranker)
    mean, spread = inside.adapters.scales_of(ranker)
    expected = learned.liking[0] * (final.users @ final.items.T - mean[0]) / spread[0]
    np.testing.assert_allclose(hits.parts["signed"], expected, atol=1e-4)


def test_cross_fitting_is_not_surer_than_it_should_be() -> None:
    shop, later = Shop(), Shop(8000)
    rng = np.random.default_rng(9)
    later.labels = rng.random(8000) < 1 / (1 + np.exp(-later.log_odds))
    ranker = FusionRanker(shop.train).fit(shop.users, shop.items, shop.labels)
    careless = FusionRanker(shop.train(shop.users, shop.items, shop.labels)).fit(
        shop.users, shop.items, shop.labels)
    errors = [each.evaluate(later.users, later.items, later.labels).calibration_error
              for each in (ranker, careless)]
    assert errors[0] < 0.05 < errors[1]
    assert "on the feedback of fit; was it trained on that?" in " ".join(careless.evaluate(
        later.users, later.items, later.labels).findings)


def test_lists_of_splits_say_what_is_held_out() -> None:
    shop = Shop(2000)
    halves = [(list(range(1000)), np.arange(1000, 1500)), (np.arange(1500), range(1500, 2000))]
    ranker = FusionRanker(shop.train).fit(shop.users, shop.items, shop.labels, cv=halves)
    pairs = list(zip(shop.users.tolist(), shop.items.tolist(), strict=True))
    assert shop.calls[1:] == [set(pairs[:1000]), set(pairs[:1500])]
    assert repr(ranker).startswith(f"<FusionRanker: {N} items, signed, fitted")
    numbered = FusionRanker(shop.train).fit(shop.users, shop.items, shop.labels, cv=2)
    assert len(shop.calls) == 6 and numbered.report != ranker.report


def test_trainers_may_lack_users_and_items_and_leave_models_out() -> None:
    shop = Shop(1500)

    def train(users: Array, items: Array, liked: Array) -> list[SignedModel]:
        few = np.unique(items)[3:]
        models = [SignedModel(shop.charm[0][few], shop.taste[0][np.unique(users)], ids=few,
                              user_ids=np.unique(users))]
        if len(users) < 1500:
            models.append(SignedModel(shop.charm[1], shop.taste[1], -1))
        return models

    ranker = FusionRanker(train).fit(shop.users, shop.items, shop.labels)
    assert ranker.names == ("positive",) and len(ranker.ids) == N
    assert (ranker.score([1], [0, 1, 2], among="shown").parts["positive"] == 0).all()

    def fickle(users: Array, items: Array, liked: Array) -> list[SignedModel]:
        return shop.models(1, -1)[: 2 if len(users) == 1500 else 1]

    with pytest.raises(ValueError, match="models: expected those of each fold"):
        FusionRanker(fickle).fit(shop.users, shop.items, shop.labels)


BAD: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"labels": [1, 0, 1]}, ValueError, "users: expected as many as items and labels"),
    ({"items": [1]}, ValueError, "users: expected as many as items and labels, one or more, got 9"),
    ({"users": [], "items": [], "labels": []}, ValueError, "one or more, got 0"),
    ({"labels": [1] * 9}, ValueError, "labels: expected likes and dislikes .* only likes in 9"),
    ({"labels": [0] * 9}, ValueError, "got only dislikes in 9"),
    ({"labels": [2] + [0] * 8}, ValueError, "0 and 1, or -1 and 1, got 0, 2; of ratings"),
    ({"labels": [1, 0, -1] * 3}, ValueError, "got -1, 0, 1; 0 beside 1 and -1 is no label: give"),
    ({"labels": ["yes"] * 9}, TypeError, "labels: expected 0 and 1, got "),
    ({"users": [USERS] * 9}, KeyError, f"users: {USERS} is in no model"),
    ({"items": [-1] * 9}, KeyError, "items: -1 is in no model"),
    ({"users": ["a"] * 9}, TypeError, "users: expected integers, as the models' ids are, got 'a'"),
    ({"sample_weight": [1.0]}, ValueError, "sample_weight: expected 9 finite numbers of 0 or more"),
    ({"sample_weight": [0.0] * 9}, ValueError, "not all 0"),
    ({"sample_weight": [-1.0] * 9}, ValueError, "sample_weight: "),
    ({"seed": -1}, ValueError, "seed: "), ({"seed": 1, "rng": 2}, ValueError, "rng: "),
    ({"cv": 3}, ValueError, "cv: expected None for models that are trained already, got 3"),
]
BAD_FOLDS: list[tuple[Any, type[Exception], str]] = [
    (1, ValueError, "cv: expected 2 or more"), (10, ValueError, "cv: expected at most 9"),
    ("five", TypeError, "cv: expected a number of folds, or a list"), ([], TypeError, "cv: "),
    ([([0], [0])], ValueError, r"cv\[0\]: expected numbers of rows from 0 to 8 to train on, and"),
    ([([0], [9])], ValueError, r"cv\[0\]: "), ([([], [1])], ValueError, r"cv\[0\]: "),
    ([([0], [1.5])], TypeError, r"cv\[0\]: expected numbers of rows"),
]


@pytest.mark.parametrize("change, kind, message",
                         BAD + [({"cv": cv}, kind, message) for cv, kind, message in BAD_FOLDS])
def test_bad_feedback(change: dict[str, Any], kind: type[Exception], message: str) -> None:
    shop = Shop(9)
    trained = "cv" in change and change["cv"] != 3
    ranker = FusionRanker(shop.train if trained else shop.models())
    usual: dict[str, Any] = {"users": shop.users, "items": shop.items,
                             "labels": [1, 0, 1, 1, 0, 1, 1, 0, 1]}
    with pytest.raises(kind, match=message):
        ranker.fit(**usual | change)
    assert "not fitted" in repr(ranker)


# ---- the models of a log ----


def made_up(n: int = 900) -> tuple[Array, Array, Array]:
    rng = np.random.default_rng(1)
    taste, charm = rng.standard_normal((30, 3)), rng.standard_normal((40, 3))
    users, items = np.divmod(rng.permutation(1200)[:n], 40)
    return users, items, (taste[users] * charm[items]).sum(axis=1) > 0


def test_the_models_order_what_they_have_not_seen() -> None:
    users, items, liked = made_up()
    models = Factorization(dim=4)(users[:700], items[:700], liked[:700])
    assert [(each.name, each.sign) for each in models] == [
        ("positive", 1), ("fine", 1), ("negative", -1), ("logistic", "both"), ("graph", "both")]
    for model in models:
        rows, columns = (np.searchsorted(ids, wanted) for ids, wanted in (
            (model.user_ids, users[700:]), (model.ids, items[700:])))
        said = (model.users[rows] * model.items[columns]).sum(axis=1)
        if model.sign == "both":
            assert np.nanmean(metrics.auc_by_user(users[700:], liked[700:], said)) > 0.6, model
    for model, which in zip(models, (liked[:700], liked[:700], ~liked[:700]), strict=False):
        scores = model.users @ model.items.T
        assert set(model.ids) == set(items[:700][which])
        told = scores[users[:700][which], np.searchsorted(model.ids, items[:700][which])]
        assert told.mean() > scores.mean() + 0.02
    same = Factorization(dim=4)([f"u{i}" for i in users[:700]], [f"i{i}" for i in items[:700]],
                                liked[:700])
    assert same[0].ids[0] == "i0" and {*same[4].user_ids} == {f"u{i}" for i in range(30)}


def test_least_squares_find_the_least_loss() -> None:
    users, items = np.nonzero(RNG.random((12, 9)) < 0.4)
    left, right = (part.astype(float) for part in inside.adapters.least_squares(
        users, items, (12, 9), dim=3, confidence=5.0, penalty=0.5, rounds=400))

    def loss(scale: float) -> float:
        weight, wanted = np.ones((12, 9)), np.zeros((12, 9))
        weight[users, items] += 5.0
        wanted[users, items] = 1.0
        norms = 0.5 * (scale**2 * (left**2).sum() + (right**2).sum())
        return float((weight * (scale * left @ right.T - wanted) ** 2).sum() + norms)

    assert loss(1.0) <= min(loss(0.99), loss(1.01)) + 1e-6
    assert loss(1.0) < 0.8 * 6.0 * len(users)


def test_graph_convolution_lowers_the_pairwise_loss() -> None:
    users, items, liked = made_up()

    def loss(steps: int) -> float:
        left, right = inside.adapters.graph_convolution(users, items, liked, (30, 40), dim=3,
                                                             steps=steps, penalty=0.01)
        said = (left[users] * right[items]).sum(axis=1)
        pairs = [said[liked & (users == user)][:, np.newaxis] - said[~liked & (users == user)]
                 for user in range(30)]
        return float(np.mean([np.logaddexp(0, -each).mean() for each in pairs if each.size]))

    losses = [loss(steps) for steps in (1, 10, 60)]
    assert losses[0] > losses[1] > losses[2] and losses[2] < 0.4
    # A user without dislikes, and one without likes.
    one = np.array([0, 0, 1]), np.array([0, 1, 0]), np.array([True, True, False])
    for part in inside.adapters.graph_convolution(*one, (2, 3), dim=2):
        assert np.isfinite(part).all()


def test_what_a_factorization_refuses() -> None:
    train = Factorization(2)
    with pytest.raises(ValueError, match="expected likes and dislikes"):
        train([0, 1], [0, 1], [True, True])
    with pytest.raises(ValueError, match="got 1 for 2 and 2"):
        train([0, 1], [0, 1], [True])
    for options, message in (({"dim": 0}, "dim: "), ({"seed": -1}, "seed: ")):
        with pytest.raises(ValueError, match=message):
            Factorization(**options)
