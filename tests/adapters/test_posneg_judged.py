"""evaluate, what it advises, and what it finds."""

from __future__ import annotations

import json
from typing import Any

import inside
import numpy as np
import pytest
from numpy.typing import NDArray

from farann import metrics
from farann.adapters.posneg import Evaluation, FusionRanker, SignedModel

Array = NDArray[Any]
N, USERS = 60, 40


class Log:
    def __init__(self, seed: int = 0, n: int = 2400) -> None:
        rng, truth = np.random.default_rng(seed), np.random.default_rng(7)
        self.items = [truth.standard_normal((N, 4), dtype=np.float32) for _ in range(2)]
        self.people = [truth.standard_normal((USERS, 4), dtype=np.float32) for _ in range(2)]
        self.users, self.what = np.divmod(rng.permutation(USERS * N)[:n], N)
        like, dislike = ((q[self.users] * x[self.what]).sum(axis=1)
                         for q, x in zip(self.people, self.items, strict=True))
        self.labels = rng.random(n) < 1 / (1 + np.exp(0.4 * dislike - like))

    @property
    def feedback(self) -> tuple[Array, Array, Array]:
        return self.users, self.what, self.labels

    def models(self, *signs: int) -> list[SignedModel]:
        return [SignedModel(x, q, sign) for x, q, sign in
                zip(self.items, self.people, signs or (1, -1), strict=True)]

    def fit(self) -> FusionRanker:
        return FusionRanker(self.models()).fit(*self.feedback)


@pytest.fixture(scope="module")
def fitted() -> FusionRanker:
    return inside.adapters.fused(Log(n=1000).fit())


def by_name(found: Evaluation) -> dict[str, Any]:
    return {row.name: row for row in found.rows}


def test_a_table_of_simpler_ways(fitted: FusionRanker) -> None:
    log = Log(1, 1200)
    found = fitted.evaluate(*log.feedback, k=5)
    rows = by_name(found)
    assert list(rows) == ["positive", "negative", "items' record", "this ranker"]
    this = rows["this ranker"]
    assert rows["positive"].auc.mean < this.auc.mean < 1.0
    assert "Among shown items: use this ranker: +" in found.advice and found.best[1] == this.name
    text = str(found)
    assert found.advice in text and "| this ranker | " in text and found.left_out == 0
    hits = fitted.score(np.arange(USERS), np.arange(N), among="shown")
    score, chance = (each[log.users, log.what] for each in (hits.scores, hits.probability))
    auc = metrics.auc_by_user(log.users, log.labels, score)
    assert this.auc.mean == pytest.approx(np.nanmean(auc))
    assert found.calibration_error == pytest.approx(
        metrics.expected_calibration_error(chance, log.labels), abs=1e-5)
    plain = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert [row["name"] for row in plain["rows"]] == list(rows)
    assert plain["rows"][3]["auc"]["mean"] == this.auc.mean and plain["best"] == [*found.best]


def test_lists_are_those_of_rank(fitted: FusionRanker) -> None:
    """What `rank` returns is judged: of all items, without those that the user has rated."""
    log = Log(1, 1200)
    found = by_name(fitted.evaluate(*log.feedback, k=5))
    for name in ("this ranker", "positive", "negative", "items' record"):
        ids = fitted.by(name).rank(np.arange(USERS), 5).ids
        rated = Log(n=1000)
        for user in range(USERS):
            assert not np.isin(ids[user], rated.what[rated.users == user]).any()
        liked, disliked = ([log.what[(log.users == user) & (log.labels == label)]
                            for user in range(USERS)] for label in (True, False))
        assert found[name].ndcg.mean == pytest.approx(np.nanmean(metrics.ndcg_at_k(ids, liked, 5)))
        assert found[name].disliked.mean == pytest.approx(
            np.nanmean(metrics.disliked_at_k(ids, disliked, 5)))


def test_users_and_items_of_no_model_are_counted(fitted: FusionRanker) -> None:
    log = Log(1, 1200)
    users, items, labels = (np.append(each, np.array(more)) for each, more in zip(
        log.feedback, ([USERS, 3], [4, N], [True, False]), strict=True))
    found = fitted.evaluate(users, items, labels)
    assert found.left_out == 2 and "2 labels are about users or items that no" in str(found)
    assert str(found.rows) == str(fitted.evaluate(*log.feedback).rows)
    with pytest.raises(ValueError, match="that some model has, got none among 1 labels"):
        fitted.evaluate([USERS], [1], [1])


def test_the_advice_may_be_against_the_ranker(fitted: FusionRanker) -> None:
    log = Log(2)
    users, what, _ = log.feedback
    noise = np.random.default_rng(3).random(len(users)) < 0.5
    assert "shown items: nothing orders this feedback better than chance" in fitted.evaluate(
        users, what, noise).advice
    likes = (log.people[0][users] * log.items[0][what]).sum(axis=1) > 0
    found = fitted.evaluate(users, what, likes)
    assert "Among shown items: use 'positive' rather than this ranker: -" in found.advice
    assert found.best[1] == "positive"
    few = users < 5
    assert "Among shown items: only 5 users have the labels to judge by, of 10" in fitted.evaluate(
        users[few], what[few], log.labels[few]).advice
    one = fitted.evaluate(users, what, users % 2 == 0)
    assert "only 0 users" in one.advice and one.best[1] == "this ranker"


def test_advice_is_one_call_away(fitted: FusionRanker) -> None:
    log = Log(2)
    users, what, _ = log.feedback
    judged = fitted.evaluate(users, what, (log.people[0][users] * log.items[0][what]).sum(1) > 0)
    ranker = fitted.by(*judged.best)
    order = -(log.people[0] @ log.items[0].T)
    np.testing.assert_array_equal(ranker.rank(np.arange(USERS), 4, among="shown", seen=True).ids,
                                  np.argsort(order, axis=1, kind="stable")[:, :4])
    assert "shown items by 'positive'" in repr(ranker)
    again = by_name(ranker.evaluate(*log.feedback))
    assert again["this ranker"].auc == again["positive"].auc
    with pytest.raises(ValueError, match="by: expected one of 'positive', 'negative', "):
        fitted.by("nothing")


def test_what_is_wrong_is_named(fitted: FusionRanker) -> None:
    log = Log(6)

    def faults(ranker: FusionRanker, *feedback: Array) -> str:
        return " | ".join(ranker.evaluate(*(feedback or log.feedback)).findings)

    assert faults(fitted) == ""
    swapped = faults(fitted, log.users, log.what, ~log.labels)
    assert swapped.count("within users, so it orders the wrong way round") == 2
    assert swapped in str(fitted.evaluate(log.users, log.what, ~log.labels)).replace("\n\n", " | ")
    assert faults(fitted, log.users, log.what, np.ones(2400)) == (
        "few labels: 2,400 likes and 0 dislikes; what fewer than 50 of a kind say is chance")
    assert "few labels: " in faults(fitted, *(each[:60] for each in log.feedback))
    nine = log.users < 9  # no interval of these says anything
    assert "wrong way" not in faults(fitted, log.users[nine], log.what[nine], ~log.labels[nine])
    exact = (log.people[0][log.users] * log.items[0][log.what]).sum(axis=1) > 0
    assert "was it trained on these labels?" in faults(fitted, log.users, log.what, exact)
    assert "100% of the pairs of user and item were in the feedback of fit" in faults(
        fitted, *Log(n=1000).feedback)
    noise = np.random.default_rng(0).random(2400) < 0.5
    assert "on the feedback of fit; was it trained" in faults(fitted, log.users, log.what, noise)


def test_a_share_of_likes_that_was_not_expected_is_told(fitted: FusionRanker) -> None:
    log = Log(4)
    kept = log.labels | (np.arange(len(log.labels)) % 4 == 0)
    found = fitted.evaluate(*(each[kept] for each in log.feedback)).findings
    assert len(found) == 1 and "were expected" in found[0] and "sample_weight=" in found[0]
    dislikes = 1.0 - log.labels[kept]
    again = FusionRanker(log.models()).fit(*(each[kept] for each in log.feedback),
                                           sample_weight=1.0 + 3.0 * dislikes)
    assert not again.evaluate(*Log(5).feedback).findings


def test_feedback_is_checked_as_in_fit(fitted: FusionRanker) -> None:
    with pytest.raises(ValueError, match="users: expected as many as items and labels"):
        fitted.evaluate([1, 2], [1, 2], [1])
    with pytest.raises(ValueError, match="k: expected 1 or more"):
        fitted.evaluate([1], [1], [1], k=0)
