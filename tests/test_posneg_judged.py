"""evaluate and diagnose of both rankers."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from farann import metrics
from farann.adapters.posneg import Evaluation, FusionRanker, PosNegRanker, SignedModel

Array = NDArray[Any]
N, USERS = 60, 40


class Log:
    def __init__(self, seed: int = 0, n: int = 4000) -> None:
        rng = np.random.default_rng(seed)
        truth = np.random.default_rng(7)
        self.items = [truth.standard_normal((N, 4), dtype=np.float32) for _ in range(2)]
        self.queries = [truth.standard_normal((USERS, 4), dtype=np.float32) for _ in range(2)]
        pairs = rng.permutation(USERS * N)[:n] if n <= USERS * N else rng.integers(0, USERS * N, n)
        self.users, self.what = np.divmod(pairs, N)
        p, n_ = ((q[self.users] * x[self.what]).sum(axis=1)
                 for q, x in zip(self.queries, self.items, strict=True))
        self.labels = rng.random(len(pairs)) < 1 / (1 + np.exp(0.8 * n_ - p))

    @property
    def feedback(self) -> dict[str, Any]:
        return {"item_ids": self.what, "labels": self.labels, "users": self.users}


def fusion(log: Log) -> FusionRanker:
    models = [SignedModel(x, sign) for x, sign in zip(log.items, (1, -1), strict=True)]
    return FusionRanker(models).fit(log.queries, **log.feedback)


def pair(log: Log) -> PosNegRanker:
    return PosNegRanker(*log.items).fit(*log.queries, **log.feedback)


def by_name(found: Evaluation) -> dict[str, Any]:
    return {row.name: row for row in found.rows}


@pytest.mark.parametrize("make", [fusion, pair])
def test_a_table_of_simpler_ways(make: Any) -> None:
    ranker, log = make(Log(0)), Log(1, n=1200)
    queries = [log.queries] if make is fusion else log.queries
    found = ranker.evaluate(*queries, **log.feedback, k=5)
    rows = by_name(found)
    assert list(rows) == ["positive model alone", "negative model alone", "average of raw scores",
                          "items' record alone", "this ranker", "oracle"]
    this, oracle = rows["this ranker"], rows["oracle"]
    assert oracle.auc.mean == oracle.ndcg.mean == 1.0 and oracle.ece.mean == 0.0
    assert rows["positive model alone"].auc.mean < this.auc.mean < 1.0
    assert this.ece.mean < 0.06 and this.ndcg_change.mean > 0 > this.disliked_change.mean
    assert found.advice.startswith("Use this ranker: +")
    text = str(found)
    assert text.count("\n") == 9 and "| this ranker |" in text
    # By hand: the first five of each user's own feedback.
    score = (ranker.score(*queries, np.arange(N)).scores)[log.users, log.what]
    auc = metrics.auc_by_user(log.users, log.labels, score)
    assert this.auc.mean == pytest.approx(np.nanmean(auc))
    values = []
    for user in np.unique(log.users):
        mine = np.flatnonzero(log.users == user)
        if len(mine) > 5:
            values.append((~log.labels[mine[np.argsort(-score[mine])[:5]]]).mean()
                          if (~log.labels[mine]).any() else np.nan)
    assert this.disliked.mean == pytest.approx(np.nanmean(values))


@pytest.mark.parametrize("make", [fusion, pair])
def test_plots_and_json(make: Any, tmp_path: Path) -> None:
    ranker, log = make(Log(0)), Log(1, n=1200)
    queries = [log.queries] if make is fusion else log.queries
    found = ranker.evaluate(*queries, **log.feedback, k=5)
    rows = by_name(found)
    trade = found.trade
    assert trade is not None and trade.weight[10] == 0.5
    assert trade.ndcg[10] == pytest.approx(rows["this ranker"].ndcg.mean)
    assert trade.disliked[10] == pytest.approx(rows["this ranker"].disliked.mean)
    assert trade.ndcg[20] == pytest.approx(rows["positive model alone"].ndcg.mean)
    plain = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert [row["name"] for row in plain["rows"]] == list(rows)
    assert plain["rows"][4]["auc"]["mean"] == rows["this ranker"].auc.mean
    assert set(plain["reliability"]) >= {"this ranker"} and plain["trade"]["weight"][20] == 1.0
    pytest.importorskip("matplotlib")
    for suffix, begin in ((".png", b"\x89PNG"), (".svg", b"<?xml"), (".html", b"<!doctype")):
        found.plot(tmp_path / f"plot{suffix}")
        content = (tmp_path / f"plot{suffix}").read_bytes()
        assert content.startswith(begin) and len(content) > 5000
    assert "| this ranker |" in (tmp_path / "plot.html").read_text("utf-8")
    with pytest.raises(ValueError, match="unknown extension '.gif'; plots are written as .html"):
        found.plot(tmp_path / "plot.gif")
    assert found._replace(trade=None).plot(tmp_path / "plot.svg") is None


def test_the_advice_may_be_against_the_ranker() -> None:
    log = Log(0)
    ranker = pair(log)
    log.labels = np.random.default_rng(3).random(len(log.labels)) < 0.5
    assert "better than chance" in ranker.evaluate(*log.queries, **log.feedback).advice
    small = {name: values[:150] for name, values in Log(1).feedback.items()}
    assert "' will do: this ranker" in ranker.evaluate(*log.queries, **small).advice
    said = (log.queries[0][log.users] * log.items[0][log.what]).sum(axis=1)
    log.labels = said > 0
    assert "Use 'positive model alone' rather than" in ranker.evaluate(
        *log.queries, **log.feedback).advice
    log.labels[:] = True
    assert "No user has both" in ranker.evaluate(*log.queries, **log.feedback).advice
    with pytest.raises(RuntimeError, match="evaluate: fit must be called first"):
        PosNegRanker(*log.items).evaluate(*log.queries, **log.feedback)


def kinds(ranker: Any, queries: Any, **feedback: Any) -> set[str]:
    return {finding.kind for finding in ranker.diagnose(*queries, **feedback)}


@pytest.mark.parametrize("make", [fusion, pair])
def test_what_is_wrong_is_named(make: Any) -> None:
    log, test = Log(0), Log(1, n=1200)
    ranker = make(log)
    queries = [log.queries] if make is fusion else log.queries
    assert kinds(ranker, queries, **test.feedback) == set()
    swapped = kinds(ranker, queries, **{**test.feedback, "labels": ~test.labels})
    assert "swapped" in swapped
    assert kinds(ranker, queries, **{**test.feedback, "labels": test.labels | True}) == {"one kind"}
    few = {name: values[:60] for name, values in test.feedback.items()}
    assert "few labels" in kinds(ranker, queries, **few)
    likers = {**test.feedback, "labels": test.users % 2 == 0}
    assert "no pairs" in kinds(ranker, queries, **likers)
    rare = test.labels & (np.arange(len(test.labels)) % 4 == 0)
    assert "share of likes" in kinds(ranker, queries, **{**test.feedback, "labels": rare})
    noise = np.random.default_rng(0).random(len(test.labels)) < 0.5
    assert "no signal" in kinds(ranker, queries, **{**test.feedback, "labels": noise})
    said = (log.queries[0][test.users] * log.items[0][test.what]).sum(axis=1) > 0
    assert "too good" in kinds(ranker, queries, **{**test.feedback, "labels": said})
    # Before fit, too.
    fresh = (FusionRanker([SignedModel(x, sign) for x, sign in zip(log.items, (1, -1),
                                                                   strict=True)])
             if make is fusion else PosNegRanker(*log.items))
    assert kinds(fresh, queries, **test.feedback) == set()


def test_models_that_were_trained_on_what_calibrated_them() -> None:
    rng = np.random.default_rng(0)
    log = Log(0)
    labels = rng.random(len(log.labels)) < 0.5
    rated = np.zeros((USERS, N))
    np.add.at(rated, (log.users, log.what), np.where(labels, 1.0, -1.0))
    u, s, v = np.linalg.svd(rated)
    ranker = FusionRanker([SignedModel(v[:10].T, "both")])
    queries = [u[:, :10] * s[:10]]
    ranker.fit(queries, log.what, labels, users=log.users)
    test = Log(1, n=1200)
    assert "surer before" in kinds(ranker, [queries], **{
        **test.feedback, "labels": rng.random(1200) < 0.5})


def test_what_models_lack_is_told() -> None:
    log = Log(0)
    half = SignedModel(log.items[1][: N // 2], -1, ids=np.arange(N // 2))
    ranker = FusionRanker([SignedModel(log.items[0]), half])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ranker.fit(log.queries, **log.feedback)
    found = ranker.diagnose(log.queries, **Log(1, n=1200).feedback)
    assert [finding.kind for finding in found] == ["unseen"]
    assert found[0].message.startswith("negative: lacks the item or the user of 5")
