"""FusionRanker: any number of models by one index, weights within users, who is dropped."""

from __future__ import annotations

import pickle
import warnings
from pathlib import Path
from typing import Any

import inside
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import farann
from farann import metrics
from farann.adapters.posneg import FusionHits, FusionRanker, SignedModel

Array = NDArray[Any]
N, USERS = 80, 60
PREFERENCE = 0.75  # of exposure, by default
SIGNS: tuple[int | str, ...] = (1, -1, "both")


class Log:
    """Three models of the same users and items, and feedback that two of them explain."""

    def __init__(self, n: int = 5000, seed: int = 0) -> None:
        rng = self.rng = np.random.default_rng(seed)
        self.items = [rng.standard_normal((N, dim), dtype=np.float32) for dim in (5, 4, 3)]
        self.queries = [rng.standard_normal((USERS, dim), dtype=np.float32) for dim in (5, 4, 3)]
        self.users, self.what = rng.integers(0, USERS, n), rng.integers(0, N, n)
        self.said = [(q[self.users] * x[self.what]).sum(axis=1)
                     for q, x in zip(self.queries, self.items, strict=True)]
        self.leaning = rng.standard_normal(USERS)

    def labels(self, *times: float, leaning: float = 0.0) -> Array:
        log_odds = leaning * self.leaning[self.users]
        for each, said in zip(times, self.said, strict=True):
            log_odds = log_odds + each * said
        return np.asarray(self.rng.random(len(self.what)) < 1 / (1 + np.exp(-log_odds)))

    def ranker(self, **options: Any) -> FusionRanker:
        return FusionRanker([SignedModel(x, sign) for x, sign in
                             zip(self.items, SIGNS, strict=True)], **options)

    def fit(self, labels: Array, **options: Any) -> FusionRanker:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return self.ranker().fit(self.queries, self.what, labels, users=self.users, **options)


@pytest.fixture(scope="module")
def fitted() -> FusionRanker:
    log = Log()
    return log.fit(log.labels(1.0, -0.7, 0.4))


def everything(ranker: FusionRanker, queries: list[Array], preference: float | None) -> Array:
    """All fused scores in float64, (n_queries, n_items), in the most obvious numpy."""
    blend, members = inside.blend_of(ranker), inside.members_of(ranker)
    times = 1.0 if preference is None else preference
    total = np.tile(blend.items * times, (len(queries[0]), 1))
    weights = blend.weights * times
    if preference is not None:
        assert blend.exposure is not None
        weights = weights + blend.exposure.weights
        total += blend.exposure.items
    for m, (side, line) in enumerate(zip(members.sides, blend.lines, strict=True)):
        sign = -1.0 if members.signs[m] == -1 else 1.0
        rows, asked = side.rows.astype(float), queries[m].astype(float)
        if side.metric == "cosine":
            rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
            norms = np.linalg.norm(asked, axis=1, keepdims=True)
            asked = asked / np.where(norms > 0, norms, 1)
        assert line.linear is not None
        log_odds = np.full(total.shape, line.unknown)
        log_odds[:, side.items] = line.linear.slope * (asked @ rows.T) + line.linear.intercept
        if side.metric == "cosine":
            log_odds[~queries[m].any(axis=1)] = line.unknown
        total += sign * weights[m] * log_odds
    return total


def assert_best(hits: FusionHits, ids: Array, expected: Array) -> None:
    order = np.argsort(-expected, axis=1, kind="stable")[:, : hits.ids.shape[1]]
    best = np.take_along_axis(expected, order, axis=1)
    np.testing.assert_allclose(hits.scores, best, rtol=1e-9, atol=1e-9)
    at = np.searchsorted(ids, hits.ids)
    np.testing.assert_allclose(np.take_along_axis(expected, at, axis=1), best, rtol=1e-9, atol=1e-9)
    assert all(len(set(row)) == len(row) for row in hits.ids.tolist())


@settings(max_examples=30)
@given(st.integers(0, 2**32 - 1), st.integers(1, 30), st.sampled_from(["dot", "cosine"]),
       st.lists(st.sampled_from([1, -1, "both"]), min_size=1, max_size=4), st.booleans())
def test_all_items_are_searched_exactly(seed: int, k: int, metric: str, signs: list[Any],
                                        shown: bool) -> None:
    rng = np.random.default_rng(seed)
    models, queries = [], []
    for sign in signs:
        dim = int(rng.integers(1, 6))
        ids = np.flatnonzero(rng.random(40) < 0.8)
        ids = ids if len(ids) else np.array([3])
        scale = 10.0 ** rng.integers(-4, 5)
        models.append(SignedModel(scale * rng.standard_normal((len(ids), dim)), sign, ids=ids,
                                  metric=metric))
        queries.append(rng.standard_normal((6, dim)).astype(np.float32))
        if metric == "cosine":
            queries[-1][rng.random(6) < 0.2] = 0.0
    ranker = FusionRanker(models)
    users, items = rng.integers(0, 6, 300), rng.choice(ranker.ids, 300)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            ranker.fit(queries, items, rng.random(300) < 0.5, users=users, drop=bool(seed % 2))
        except ValueError as error:  # a model has hardly any items
            assert "item_ids: expected feedback" in str(error) or "one kind only" in str(error)
            return
    among = "shown" if shown else "all"
    hits = ranker.rank(queries, min(k, len(ranker.ids)), among=among)
    expected = everything(ranker, queries, None if shown or
                          inside.blend_of(ranker).exposure is None else PREFERENCE)
    assert_best(hits, ranker.ids, expected)
    scored = ranker.score(queries, ranker.ids, among=among)
    np.testing.assert_allclose(scored.scores, expected, rtol=1e-9, atol=1e-9)


def test_weights_are_those_of_the_truth(fitted: FusionRanker) -> None:
    assert [each.name for each in fitted.report] == ["positive", "negative", "signed"]
    assert all(each.gain > each.error > 0 and not each.dropped for each in fitted.report)
    lines, directions = inside.blend_of(fitted).lines, (1, -1, 1)
    times = [direction * each.weight * line.linear.slope for each, line, direction in
             zip(fitted.report, lines, directions, strict=True) if line.linear is not None]
    np.testing.assert_allclose(times, [1.0, -0.7, 0.4], atol=0.12)


def test_what_does_not_help_is_dropped() -> None:
    log = Log(n=3000)
    with pytest.warns(UserWarning, match="models left out: signed"):
        ranker = log.ranker().fit(log.queries, log.what, log.labels(1.0, -1.0, 0.0),
                                  users=log.users)
    assert ranker.report[2].weight == 0.0 and ranker.report[2].dropped
    assert "without signed" in repr(ranker)
    # It need not be asked any more, and is not in the index.
    whole = ranker.rank(log.queries, 5)
    assert set(whole.chances) == {"positive", "negative"}
    for fewer in ([*log.queries[:2], None], dict(zip(ranker.names[:2], log.queries, strict=False))):
        np.testing.assert_array_equal(ranker.rank(fewer, 5).ids, whole.ids)
    assert_best(whole, ranker.ids, everything(ranker, log.queries, PREFERENCE))


def test_a_model_that_stands_on_its_head_is_told_and_dropped() -> None:
    log = Log(n=3000)
    with pytest.warns(UserWarning, match="negative: higher scores don't go with more dislikes"):
        ranker = log.ranker().fit(log.queries, log.what, log.labels(1.0, 1.0, 0.5),
                                  users=log.users)
    assert "don't rise" in ranker.report[1].dropped and ranker.report[1].auc < 0.45


def test_two_models_that_say_the_same_are_one() -> None:
    log = Log(n=3000)
    labels = log.labels(1.0, 0.0, 0.0)
    ranker = FusionRanker([SignedModel(log.items[0]), SignedModel(log.items[0] * 3)])
    assert ranker.names == ("positive 1", "positive 2")
    with pytest.warns(UserWarning, match="models left out: positive"):
        ranker.fit([log.queries[0]] * 2, log.what, labels, users=log.users)
    assert sum(bool(each.dropped) for each in ranker.report) == 1
    kept = ranker.fit([log.queries[0]] * 2, log.what, labels, users=log.users, drop=False)
    assert not any(each.dropped for each in kept.report)


def test_users_have_intercepts_of_their_own() -> None:
    log = Log(n=20_000)
    labels = log.labels(1.0, -0.7, 0.4, leaning=1.5)
    half = np.arange(len(labels)) < 10_000
    ranker = log.ranker().fit(log.queries, log.what[half], labels[half], users=log.users[half])
    own = ranker.user_log_odds
    assert own is not None and np.corrcoef(own, log.leaning)[0, 1] > 0.95
    scored = ranker.score(log.queries, np.arange(N)).log_odds
    plain, mine = ranker.probability(scored), ranker.probability(scored, np.arange(USERS))
    test = (log.users[~half], log.what[~half])

    def loss(chance: Array) -> float:
        right = np.where(labels[~half], chance[test], 1 - chance[test])
        return float(-np.log(right).mean())

    assert loss(mine) < loss(plain) - 0.1
    for chance in (plain, mine):
        assert metrics.expected_calibration_error(chance[test], labels[~half]) < 0.03
    np.testing.assert_array_equal(ranker.probability(scored, np.full(USERS, -1)), plain)
    np.testing.assert_array_equal(ranker.probability(scored[3], 3), mine[3])
    assert ranker.probability(scored[3, 5], 3) == mine[3, 5]
    for bad, message in ((np.arange(3), "users: expected shape"),
                         (np.full(USERS, USERS), "users: expected -1 or numbers of the 60")):
        with pytest.raises(ValueError, match=message):
            ranker.probability(scored, bad)


def test_the_prior_puts_the_share_right() -> None:
    log = Log(n=20_000)
    log.said = [*log.said[:2], log.said[2] - 6.0]
    labels = log.labels(1.0, -0.7, 0.4)
    share = labels.mean()
    kept = labels | (log.rng.random(len(labels)) < share / (1 - share))
    ranker = log.ranker().fit(log.queries, log.what[kept], labels[kept], users=log.users[kept],
                              prior=float(share))
    chance = ranker.probability(ranker.score(log.queries, np.arange(N)).log_odds)
    error = metrics.expected_calibration_error(chance[log.users, log.what], labels)
    assert share < 0.3 and error < 0.03


def test_what_is_shown_is_learned() -> None:
    """Half of the items are never shown: on all items they stay away, among shown they don't."""
    log = Log(n=6000)
    log.what //= 2
    log.said = [(q[log.users] * x[log.what]).sum(axis=1)
                for q, x in zip(log.queries, log.items, strict=True)]
    ranker = log.fit(log.labels(1.0, -0.7, 0.4))
    never = ranker.rank(log.queries, 10).ids >= N // 2
    among = ranker.rank(log.queries, 10, among="shown").ids >= N // 2
    assert never.mean() < 0.1 < 0.3 < among.mean()
    more = ranker.rank(log.queries, 10, exposure=100.0).ids >= N // 2
    assert more.mean() > 0.3
    assert_best(ranker.rank(log.queries, 10, exposure=2.5), ranker.ids,
                everything(ranker, log.queries, 2.5))


def test_too_little_feedback_to_measure_drops_nothing() -> None:
    log = Log(n=12)
    labels = np.arange(12) == 3  # folds without a like can't tell
    ranker = FusionRanker([SignedModel(log.items[0]), SignedModel(log.items[2], "both")])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ranker.fit([log.queries[0], log.queries[2]], log.what, labels, users=log.users)
    assert np.isfinite(ranker.rank([log.queries[0], log.queries[2]], 3).scores).all()


def test_filters_and_single_queries(fitted: FusionRanker) -> None:
    log = Log()
    hits = fitted.rank(log.queries, 4, exclude=[[1, 2]] * USERS, allowed=np.arange(0, N, 2))
    assert (hits.ids % 2 == 0).all() and not (hits.ids == 2).any()
    one = fitted.rank([q[3] for q in log.queries], 4, exclude=[1, 2], allowed=np.arange(0, N, 2))
    np.testing.assert_array_equal(one.ids, hits.ids[3])
    assert one.chances["negative"].shape == (4,)
    few = fitted.rank(log.queries, 3, allowed=[7])
    assert (few.ids[:, 0] == 7).all() and (few.ids[:, 1:] == -1).all()
    assert np.isnan(few.scores[:, 1:]).all() and np.isnan(few.chances["signed"][:, 1:]).all()


def test_users_and_items_that_a_model_lacks_count_as_average() -> None:
    log = Log()
    half = farann.Index(metric="cosine")
    half.add(log.items[1][: N // 2], np.arange(N // 2))
    ranker = FusionRanker([SignedModel(log.items[0]), SignedModel(half, -1)])
    log.queries[1][:5] = 0.0
    ranker.fit(log.queries[:2], log.what, log.labels(1.0, -1.0, 0.0), users=log.users)
    chances = ranker.score(log.queries[:2], np.arange(N)).chances["negative"]
    assert len(np.unique(chances[:, N // 2 :])) == len(np.unique(chances[:5])) == 1
    assert_best(ranker.rank(log.queries[:2], 9), ranker.ids,
                everything(ranker, log.queries[:2], PREFERENCE))


def test_models_are_replaced_under_what_was_learned(fitted: FusionRanker) -> None:
    log = Log()
    before = fitted.rank(log.queries, 7)
    same = fitted.replace([SignedModel(x, sign) for x, sign in
                           zip(log.items, SIGNS, strict=True)])
    np.testing.assert_array_equal(same.rank(log.queries, 7).scores, before.scores)
    grown = [np.vstack([x, x[:1] * 2]) for x in log.items]
    other = fitted.replace([SignedModel(x, sign) for x, sign in
                            zip(grown, SIGNS, strict=True)])
    assert len(other.ids) == N + 1 and other.report == fitted.report
    assert_best(other.rank(log.queries, 7), other.ids, everything(other, log.queries, PREFERENCE))
    np.testing.assert_array_equal(fitted.rank(log.queries, 7).ids, before.ids)
    with pytest.raises(ValueError, match="models: expected signs 1, -1, both, got 1"):
        fitted.replace([SignedModel(log.items[0])])
    with pytest.raises(RuntimeError, match="fit must be called first"):
        log.ranker().replace([SignedModel(log.items[0])])


def test_files_and_pickles_hold_everything(fitted: FusionRanker, tmp_path: Path) -> None:
    log = Log()
    path = tmp_path / "ranker.farann"
    fitted.save(path)
    hits = fitted.rank(log.queries, 6)
    for again in (FusionRanker.load(path), pickle.loads(pickle.dumps(fitted))):
        assert again.report == fitted.report and again.names == fitted.names
        found = again.rank(log.queries, 6)
        np.testing.assert_array_equal(found.ids, hits.ids)
        np.testing.assert_array_equal(found.scores, hits.scores)
        np.testing.assert_array_equal(again.probability(found.log_odds, np.arange(USERS)),
                                      fitted.probability(hits.log_odds, np.arange(USERS)))
    log.ranker(item_prior=None).save(path)
    assert repr(FusionRanker.load(path)).endswith("not fitted>")
    content = path.read_bytes()
    for at in range(0, len(content), max(1, len(content) // 60)):
        path.write_bytes(content[:at] + bytes([content[at] ^ 0x55]) + content[at + 1 :])
        with pytest.raises(farann.FormatError):
            FusionRanker.load(path)
    farann.Index(3).save(path)
    with pytest.raises(farann.FormatError, match="holds no FusionRanker"):
        FusionRanker.load(path)


def test_metadata_is_not_trusted(fitted: FusionRanker, tmp_path: Path) -> None:
    changes: list[Any] = [
        lambda m, a: m["signs"].__setitem__(0, 2), lambda m, a: m["names"].pop(),
        lambda m, a: m["metrics"].__setitem__(0, "l2"), lambda m, a: m.pop("fitted"),
        lambda m, a: m["fitted"].pop("lines"), lambda m, a: m["fitted"]["lines"].pop(),
        lambda m, a: m["fitted"]["reports"][0].__setitem__(0, "x"),
        lambda m, a: m["fitted"]["reports"][0].__setitem__(4, "dropped"),
        lambda m, a: m["fitted"].__setitem__("chance", [1.0]),
        lambda m, a: a.pop("about.record"), lambda m, a: a.update({"weights": np.ones(2)}),
        lambda m, a: a.update({"exposure.record": np.ones(3)}),
        lambda m, a: a.update({"ids.0": np.zeros(N, np.int64)}),
        lambda m, a: a.update({"users": np.full(USERS, np.nan)}),
    ]
    path = tmp_path / "x"
    for change in changes:
        fitted.save(path)
        metadata, sections = inside.read_file(path)
        arrays = dict(sections)
        change(metadata, arrays)
        inside.write_file(path, metadata, arrays)
        with pytest.raises(farann.FormatError):
            FusionRanker.load(path)


def test_bad_models() -> None:
    three, four = np.eye(3), np.eye(4, 3)
    refused: list[tuple[Any, type[Exception], str]] = [
        (lambda: SignedModel(three, 2), ValueError, "sign: expected 1, -1 or 'both', got 2"),
        (lambda: SignedModel(three, True), ValueError, "sign: expected"),
        (lambda: SignedModel(three, name=""), TypeError, "name: expected a string"),
        (lambda: SignedModel(three, metric="l2"), ValueError, "metric: expected one of"),
        (lambda: SignedModel(farann.Index(3, "l2")), ValueError, "items: expected at least one"),
        (lambda: SignedModel([[0.0, 0.0]], metric="cosine"), ValueError, "items: cosine needs"),
        (lambda: FusionRanker([]), TypeError, "models: expected a list of SignedModel"),
        (lambda: FusionRanker([three]), TypeError, "models: expected SignedModel"),  # type: ignore[list-item]
        (lambda: FusionRanker([SignedModel(three, name="a"), SignedModel(three, name="a")]),
         ValueError, "models: expected each name once, got 'a' twice"),
        (lambda: FusionRanker([SignedModel(three), SignedModel(four, -1)]), ValueError,
         "models: expected ids= for arrays of different lengths, got rows 3, 4"),
        (lambda: FusionRanker([SignedModel(three)], item_prior=0), ValueError, "item_prior"),
    ]
    for call, kind, message in refused:
        with pytest.raises(kind, match=message):
            call()


def test_bad_questions(fitted: FusionRanker) -> None:
    log = Log()
    queries = log.queries
    refused: list[tuple[Any, str]] = [
        (lambda: fitted.rank(queries, 0), "k: expected 1 or more"),
        (lambda: fitted.rank(queries[:2]), "queries: expected one array a model, positive,"),
        (lambda: fitted.rank({"x": queries[0]}), "queries: expected names of positive"),
        (lambda: fitted.rank([queries[0], None, queries[2]]), "those of the model 'negative'"),
        (lambda: fitted.rank([queries[0], queries[1][:3], queries[2]]), "as many of each model"),
        (lambda: fitted.rank([queries[0], queries[1][0], queries[2]]), "as many of each model"),
        (lambda: fitted.rank([q * np.nan for q in queries]), "queries of 'positive': expected fin"),
        (lambda: fitted.rank(queries, among="some"), "among: expected one of"),
        (lambda: fitted.rank(queries, exposure=-1), "exposure: expected a number of 0 or more"),
        (lambda: fitted.rank(queries, among="shown", exposure=1), "exposure: expected among='all'"),
        (lambda: fitted.fit(queries, log.what, log.labels(1, 1, 1), users=log.users, unseen=-1),
         "unseen: expected 0 or more"),
        (lambda: fitted.fit(queries, log.what, np.ones(len(log.what)), users=log.users),
         "labels: expected likes and dislikes"),
    ]
    before = fitted.rank(queries, 5)
    for call, message in refused:
        with pytest.raises(ValueError, match=message):
            call()
    with pytest.raises(KeyError, match="item_ids: 999"):
        fitted.score(queries, [999])
    with pytest.raises(RuntimeError, match="fit must be called first"):
        log.ranker().rank(queries)
    np.testing.assert_array_equal(fitted.rank(queries, 5).scores, before.scores)


def test_without_users_each_row_is_somebody(fitted: FusionRanker) -> None:
    log = Log(n=2000)
    labels = log.labels(1.0, -0.7, 0.4)
    rows = [q[log.users] for q in log.queries]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ranker = log.ranker().fit(rows, log.what, labels)
        known = log.fit(labels)
    # Equal queries are the same user's, so the weights are the same.
    assert [each.weight for each in ranker.report] == pytest.approx(
        [each.weight for each in known.report], rel=0.3)
    assert ranker.user_log_odds is None
    with pytest.raises(ValueError, match="users: expected a ranker whose fit had users="):
        ranker.probability(np.zeros(3), [0, 1, 2])
