"""cross_fit: trained on folds, calibrated on what was held out, trained again on everything."""

from __future__ import annotations

from typing import Any

import inside
import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.model_selection import ShuffleSplit, TimeSeriesSplit

from farann import metrics
from farann.adapters.posneg import CrossFitted, FusionRanker, SignedModel, cross_fit

Array = NDArray[Any]
USERS, ITEMS = 60, 50


class Shop:
    """Feedback of tastes and distastes, and models of it that remember what they were given."""

    def __init__(self, n: int = 5000) -> None:
        rng = np.random.default_rng(1)
        taste, distaste = rng.standard_normal((2, USERS, 3))
        charm, annoyance = rng.standard_normal((2, ITEMS, 3))
        self.users, self.items = rng.integers(0, USERS, n), rng.integers(0, ITEMS, n)
        said = (taste[self.users] * charm[self.items]).sum(axis=1)
        said -= (distaste[self.users] * annoyance[self.items]).sum(axis=1)
        self.labels = rng.random(n) < 1 / (1 + np.exp(-said))
        self.times = rng.permutation(n)
        self.calls: list[set[int]] = []

    def train(self, users: Array, items: Array, liked: Array) -> list[tuple[SignedModel, Array]]:
        assert users.dtype == items.dtype == np.int64 and liked.dtype == np.bool_
        self.calls.append(set((users * ITEMS + items).tolist()))
        models = []
        signs: list[Any] = [1, -1, "both"]
        for sign in signs:
            chosen = np.ones(len(liked), bool) if sign == "both" else liked == (sign == 1)
            rated = np.zeros((USERS, ITEMS))
            values = np.where(liked, 1.0, -1.0)[chosen] if sign == "both" else 1.0
            np.add.at(rated, (users[chosen], items[chosen]), values)
            u, s, v = np.linalg.svd(rated)
            models.append((SignedModel(v[:6].T, sign), u[:, :6] * s[:6]))
        return models

    def fit(self, **options: Any) -> CrossFitted:
        return cross_fit(self.train, self.users, self.items, self.labels, **options)


@pytest.mark.filterwarnings("ignore:models left out")
def test_folds_are_held_out_and_everything_is_used() -> None:
    shop = Shop()
    fitted = shop.fit(cv=4)
    assert len(shop.calls) == 5 and fitted.held_out == 5000
    assert shop.calls[0] == set().union(*shop.calls[1:])
    final = shop.train(shop.users, shop.items, shop.labels)
    for (model, users), asked, side in zip(final, fitted.queries,
                                           inside.members_of(fitted.ranker).sides, strict=True):
        np.testing.assert_array_equal(asked, users.astype(np.float32))
        np.testing.assert_array_equal(side.rows, model.rows)


@pytest.mark.filterwarnings("ignore:models left out")
def test_it_is_not_surer_than_it_should_be() -> None:
    """Calibrated by what the models were trained on, chances are too far from the middle."""
    shop, fresh = Shop(3000), Shop(9000)
    fitted = shop.fit()
    naive = FusionRanker([model for model, _ in shop.train(shop.users, shop.items, shop.labels)])
    naive.fit(fitted.queries, shop.items, shop.labels, users=shop.users)

    def error(ranker: FusionRanker) -> float:
        chance = ranker.probability(ranker.score(fitted.queries, np.arange(ITEMS)).log_odds)
        return metrics.expected_calibration_error(chance[fresh.users, fresh.items], fresh.labels)

    assert error(fitted.ranker) < 0.04 < error(naive)


@pytest.mark.filterwarnings("ignore:models left out")
def test_splitters_by_time_and_at_random() -> None:
    shop = Shop()
    fitted = shop.fit(cv=TimeSeriesSplit(3), times=shop.times)
    assert fitted.held_out == 3 * (5000 // 4)
    past = np.argsort(shop.times)
    first = past[: 5000 - fitted.held_out]
    assert shop.calls[1] == set((shop.users * ITEMS + shop.items)[first].tolist())
    dates = np.datetime64("2020-01-01") + shop.times
    again = shop.fit(cv=TimeSeriesSplit(3), times=dates)
    assert again.ranker.report == fitted.ranker.report
    assert shop.fit(cv=ShuffleSplit(2, test_size=0.1, random_state=0)).held_out == 1000


@pytest.mark.filterwarnings("ignore:models left out")
@pytest.mark.parametrize("folds", [2, 5])
def test_models_of_folds_need_not_have_one_scale(folds: int) -> None:
    """A softmax leaves the size and the zero of scores open: users' folds are made comparable."""
    shop = Shop(6000)
    scales = iter([1.0, 5.0, 0.2, 1.0, 8.0, 0.05])

    def train(users: Array, items: Array, liked: Array) -> list[tuple[SignedModel, Array]]:
        scale, ones = next(scales), np.ones((USERS, 1))
        return [(SignedModel(np.hstack([model.rows * scale, np.full((ITEMS, 1), 3 - scale)]),
                             model.sign), np.hstack([asked, ones]))
                for model, asked in shop.train(users, items, liked)]

    plain = shop.fit(cv=folds).ranker
    moved = cross_fit(train, shop.users, shop.items, shop.labels, cv=folds).ranker
    for one, other in zip(plain.report, moved.report, strict=True):
        assert abs(one.auc - other.auc) < 1e-3
    assert plain.report[2].weight == pytest.approx(moved.report[2].weight, abs=0.1)


@pytest.mark.filterwarnings("ignore:models left out")
def test_weights_and_signs_of_labels() -> None:
    shop = Shop(2000)
    weight = np.ones(2000)
    weight[::4] = 0.0
    fitted = shop.fit(sample_weight=weight, unseen=0)
    assert fitted.held_out == 1500
    signed = cross_fit(shop.train, shop.users, shop.items, np.where(shop.labels, 1, -1),
                       sample_weight=weight, unseen=0)
    assert signed.ranker.report == fitted.ranker.report


def test_bad_arguments() -> None:
    shop = Shop(400)
    refused: list[tuple[dict[str, Any], type[Exception], str]] = [
        ({"cv": 1}, ValueError, "cv: expected 2 or more"),
        ({"cv": "random"}, TypeError, "cv: expected a number of folds or a scikit-learn"),
        ({"times": [1]}, ValueError, r"times: expected shape \(400,\)"),
        ({"times": np.full(400, np.nan)}, ValueError, "times: expected numbers or dates, got one"),
        ({"times": ["a"] * 400}, TypeError, "times: expected numbers or dates"),
        ({"sample_weight": [1.0]}, ValueError, "sample_weight: expected shape"),
        ({"exposure": -1}, ValueError, "exposure: expected"),
    ]
    for options, kind, message in refused:
        with pytest.raises(kind, match=message):
            shop.fit(**options)
    with pytest.raises(ValueError, match="items: expected 400 ids"):
        cross_fit(shop.train, shop.users, shop.items[:3], shop.labels)
    with pytest.raises(ValueError, match="labels: expected 0 and 1, or -1 and 1, got all three"):
        cross_fit(shop.train, shop.users, shop.items, np.arange(400) % 3 - 1)

    class Both:
        def split(self, rows: Array) -> list[tuple[Array, Array]]:
            return [(np.arange(400), np.arange(10))]

    with pytest.raises(ValueError, match="cv: expected rows held out that the fold doesn't"):
        shop.fit(cv=Both())
    with pytest.raises(KeyError, match="item_ids: 77"):
        cross_fit(lambda *rows: [(SignedModel(np.eye(3), "both"), np.eye(USERS, 3))],
                  shop.users, np.full(400, 77), shop.labels)
