"""Models that a FusionRanker leaves out: without feedback, or but for what is shown."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest

from farann import metrics
from farann.adapters.posneg import FusionRanker, PosNegRanker, SignedModel

N, USERS = 60, 40
RNG = np.random.default_rng(5)
ITEMS = RNG.standard_normal((2, N, 4), dtype=np.float32)
QUERIES = list(RNG.standard_normal((2, USERS, 4), dtype=np.float32))


def feedback(popular: float, seed: int = 9) -> dict[str, Any]:
    """What users like by the second model; how popular items are is the first's."""
    rng = np.random.default_rng(seed)
    chance = np.exp(popular * QUERIES[1] @ ITEMS[0].T).ravel()
    pairs = rng.choice(USERS * N, 1200, replace=False, p=chance / chance.sum())
    who, what = np.divmod(pairs, N)
    taste = 2 * (QUERIES[1][who] * ITEMS[1][what]).sum(axis=1)
    return {"item_ids": what, "labels": rng.random(1200) < 1 / (1 + np.exp(-taste)), "users": who}


def fit(models: list[SignedModel], queries: list[Any], **given: Any) -> FusionRanker:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return FusionRanker(models).fit(queries, **given)


def test_a_model_that_tells_what_is_shown_still_does() -> None:
    given = feedback(0.7)
    # What it says of likes the other says better.
    models = [SignedModel(ITEMS[1] + ITEMS[0], 1), SignedModel(ITEMS[1], "both")]
    queries = [QUERIES[1]] * 2
    ranker = fit(models, queries, **given)
    assert ranker.report[0].dropped
    whole, shown = ranker.rank(queries, 5), ranker.rank(queries, 5, among="shown")
    said = QUERIES[1] @ ITEMS[0].T
    mean = [float(np.take_along_axis(said, hits.ids, axis=1).mean()) for hits in (whole, shown)]
    assert mean[0] > mean[1] + 0.5  # by it, what nobody would be shown stays away
    assert set(whole.chances) == {"signed"}
    every = ranker.score(queries, np.arange(N), among="all").scores
    np.testing.assert_allclose(whole.scores, -np.sort(-every, axis=1)[:, :5], rtol=1e-9)
    with pytest.raises(ValueError, match="those of the model 'positive'"):
        ranker.rank([None, QUERIES[1]], 5)
    alone = ranker.rank([None, QUERIES[1]], 5, among="shown")
    np.testing.assert_array_equal(alone.ids, shown.ids)


def test_models_without_feedback_are_left_out() -> None:
    given = feedback(0.0)
    other = SignedModel(ITEMS[0][:5], 1, ids=np.arange(N, N + 5))
    signed = SignedModel(ITEMS[1], "both", ids=np.arange(N))
    with pytest.warns(UserWarning, match=r"positive \(no likes or no dislikes are on items"):
        ranker = FusionRanker([other, signed]).fit(QUERIES, **given)
    assert ranker.report[0].weight == 0 and not ranker.report[1].dropped
    assert (ranker.rank([None, QUERIES[1]], 5, among="shown").ids < N).mean() > 0.8
    with pytest.raises(ValueError, match="expected likes and dislikes on items of one of"):
        FusionRanker([SignedModel(ITEMS[0], metric="cosine")]).fit(
            [np.zeros((USERS, 4))], **given)


@pytest.mark.filterwarnings("ignore:negative. higher scores don't go")
def test_a_pair_is_evaluated_by_its_own_pairs() -> None:
    given = feedback(0.0)
    ranker = PosNegRanker(ITEMS[1], ITEMS[0], fusion="convex")
    ranker.fit(QUERIES[1], QUERIES[0], **given)
    row = ranker.evaluate(QUERIES[1], QUERIES[0], **given).rows[4]
    scores = ranker.score(QUERIES[1], QUERIES[0], np.arange(N)).scores
    pairs = scores[given["users"], given["item_ids"]]
    liked = np.asarray(given["labels"])
    by_hand = [np.mean(pairs[mine & liked][:, np.newaxis] > pairs[mine & ~liked])
               for mine in (given["users"] == user for user in range(USERS))
               if liked[mine].any() and not liked[mine].all()]
    assert row.auc.mean == pytest.approx(np.mean(by_hand))


def test_few_users_say_nothing() -> None:
    given = feedback(0.0)
    ranker = fit([SignedModel(ITEMS[1], "both")], [QUERIES[1]], **given)
    few = given["users"] < 3
    found = ranker.evaluate([QUERIES[1]], **{name: part[few] for name, part in given.items()})
    assert found.advice.startswith("Only 3 users have both likes and dislikes here")


class Clicks:
    """Retrieval models of likes and dislikes, which both tell what is shown; taste is between."""

    def __init__(self, taste: float) -> None:
        rng = np.random.default_rng(2)
        tastes, shown = rng.standard_normal((2, 100, 3))
        charm, popular = rng.standard_normal((2, N, 3))
        self.who, self.what = rng.integers(0, 100, 4000), rng.integers(0, N, 4000)
        said = (tastes[self.who] * charm[self.what]).sum(axis=1)
        self.liked = rng.random(4000) < 1 / (1 + np.exp(-said))
        self.items = np.hstack([popular, charm]).astype(np.float32)
        self.queries = [np.hstack([2 * shown, times * tastes]) for times in (1.0, taste)]

    def auc(self, scores: Any) -> float:
        return float(np.nanmean(metrics.auc_by_user(self.who, self.liked,
                                                    scores[self.who, self.what])))

    def fit_both(self, **options: Any) -> tuple[PosNegRanker, FusionRanker]:
        pair = PosNegRanker(self.items, self.items, **options)
        fusion = FusionRanker([SignedModel(self.items, 1), SignedModel(self.items, -1)])
        likes, dislikes = self.queries
        return (pair.fit(likes, dislikes, self.what, self.liked, users=self.who),
                fusion.fit(self.queries, self.what, self.liked, users=self.who))


# Useless alone, or even the wrong way round; what a warning would say is an error here.
@pytest.mark.parametrize("taste, options", [(0.1, {}), (0.3, {"calibration": "temperature"}),
                                            (0.1, {"weight": 0.5})])
def test_a_model_that_helps_only_beside_the_other_stays(taste: float,
                                                        options: dict[str, Any]) -> None:
    log = Clicks(taste)
    likes, dislikes = (asked @ log.items.T for asked in log.queries)
    assert log.auc(-dislikes) < 0.5 and log.auc(likes) < 0.7 < 0.8 < log.auc(likes - dislikes)
    pair, fusion = log.fit_both(**options)
    found = pair.score(log.queries[0], log.queries[1], np.arange(N))
    assert log.auc(found.scores) > 0.8
    assert log.auc(-found.negative) < 0.5  # by itself it is what it was
    assert fusion.report[1].gain > 2 * fusion.report[1].error > 0 and not fusion.report[1].dropped
    assert log.auc(fusion.score(log.queries, np.arange(N)).scores) > 0.8


def test_noise_that_points_the_wrong_way_is_left_out() -> None:
    log, rng = Clicks(0.0), np.random.default_rng(1)
    log.queries[1] = rng.standard_normal(log.queries[1].shape)
    said = (log.queries[1] @ log.items.T)[log.who, log.what]
    if np.corrcoef(said, log.liked)[0, 1] < 0:
        log.queries[1] = -log.queries[1]
    with pytest.warns(UserWarning, match="negative: higher scores don't go with more dislikes"):
        pair, fusion = log.fit_both()
    line = pair.linear_logit
    assert line is not None and line.negative_slope == 0.0
    assert "don't rise" in fusion.report[1].dropped
