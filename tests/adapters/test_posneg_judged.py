"""evaluate and diagnose."""

from __future__ import annotations

import json
from typing import Any

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
    return Log().fit()


def by_name(found: Evaluation) -> dict[str, Any]:
    return {row.name: row for row in found.rows}


def test_a_table_of_simpler_ways(fitted: FusionRanker) -> None:
    log = Log(1, 1200)
    found = fitted.evaluate(*log.feedback, k=5)
    rows = by_name(found)
    assert list(rows) == ["positive model alone", "negative model alone", "average of raw scores",
                          "items' record alone", "this ranker", "oracle"]
    this, oracle = rows["this ranker"], rows["oracle"]
    assert oracle.auc.mean == oracle.ndcg.mean == 1.0
    assert rows["positive model alone"].auc.mean < this.auc.mean < 1.0
    assert found.advice.startswith("Use this ranker: +")
    text = str(found)
    assert text.endswith(found.advice) and "| this ranker | " in text
    # By hand: the first five of each user's own feedback.
    hits = fitted.score(np.arange(USERS), np.arange(N), among="shown")
    score, chance = (each[log.users, log.what] for each in (hits.scores, hits.probability))
    auc = metrics.auc_by_user(log.users, log.labels, score)
    assert this.auc.mean == pytest.approx(np.nanmean(auc))
    assert found.calibration_error == pytest.approx(
        metrics.expected_calibration_error(chance, log.labels), abs=1e-5)
    dislikes = []
    for user in np.unique(log.users):
        mine = np.flatnonzero(log.users == user)
        if len(mine) > 5 and not log.labels[mine].all():
            dislikes.append((~log.labels[mine[np.argsort(-score[mine])[:5]]]).mean())
    assert this.disliked.mean == pytest.approx(np.nanmean(dislikes))
    plain = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert [row["name"] for row in plain["rows"]] == list(rows)
    assert plain["rows"][4]["auc"]["mean"] == this.auc.mean
    assert len(plain["reliability"]["predicted"]) == len(found.reliability.observed)


def test_the_advice_may_be_against_the_ranker(fitted: FusionRanker) -> None:
    log = Log(2)
    users, what, _ = log.feedback
    noise = np.random.default_rng(3).random(len(users)) < 0.5
    assert "better than chance" in fitted.evaluate(users, what, noise).advice
    likes = (log.people[0][users] * log.items[0][what]).sum(axis=1) > 0
    found = fitted.evaluate(users, what, likes)
    assert found.advice.startswith("Use 'positive model alone' rather than this ranker: -")
    few = users < 5
    assert fitted.evaluate(users[few], what[few], log.labels[few]).advice.startswith(
        "Only 5 users have both likes and dislikes here, of 10")
    assert fitted.evaluate(users, what, users % 2 == 0).advice.startswith("No user has both")
    alone = FusionRanker(log.models()[:1]).fit(*log.feedback)
    assert alone.evaluate(*Log(3).feedback).advice.startswith("'positive model alone' will do: ")


def test_what_is_wrong_is_named() -> None:
    log = Log()

    def kinds(ranker: FusionRanker, *feedback: Array) -> dict[str, str]:
        return {each.kind: each.message for each in ranker.diagnose(*(feedback or log.feedback))}

    raw = FusionRanker(log.models())
    assert kinds(raw) == {}
    wrong = SignedModel(log.items[1], log.people[1], 1, name="negative")
    assert "negative: AUC" in kinds(FusionRanker([log.models()[0], wrong]))["swapped"]
    assert set(kinds(raw, log.users, log.what, ~log.labels)) == {"swapped"}
    assert "all 2,400 are likes" in kinds(raw, log.users, log.what, np.ones(2400))["one kind"]
    assert "few labels" in kinds(raw, *(each[:60] for each in log.feedback))
    shuffled = [SignedModel(log.items[0][np.random.default_rng(0).permutation(N)], log.people[0])]
    assert "which may be chance" in kinds(FusionRanker(shuffled)).get("no signal", "") or \
        "swapped" in kinds(FusionRanker(shuffled))
    exact = (log.people[0][log.users] * log.items[0][log.what]).sum(axis=1) > 0
    assert "trained on these" in kinds(raw, log.users, log.what, exact)["too good"]
    lacking = [SignedModel(log.items[0][:40], log.people[0]),
               SignedModel(log.items[1], log.people[1], -1)]
    assert "positive: lacks the item or the user of 3" in kinds(FusionRanker(lacking))["unseen"]


def test_a_share_of_likes_that_was_not_expected_is_told(fitted: FusionRanker) -> None:
    log = Log(4)
    kept = log.labels | (np.arange(len(log.labels)) % 4 == 0)
    found = fitted.diagnose(*(each[kept] for each in log.feedback))
    assert [each.kind for each in found] == ["share of likes"]
    assert "sample_weight=" in found[0].message
    dislikes = 1.0 - log.labels[kept]
    again = FusionRanker(log.models()).fit(*(each[kept] for each in log.feedback),
                                           sample_weight=1.0 + 3.0 * dislikes)
    assert not again.diagnose(*Log(5).feedback)


def test_feedback_is_checked_as_in_fit(fitted: FusionRanker) -> None:
    for ask in (fitted.evaluate, fitted.diagnose):
        with pytest.raises(ValueError, match="users: expected as many as items and labels"):
            ask([1, 2], [1, 2], [1])
        with pytest.raises(KeyError, match="items: 60 is in no model"):
            ask([1], [60], [1])
    with pytest.raises(ValueError, match="k: expected 1 or more"):
        fitted.evaluate([1], [1], [1], k=0)
