"""FusionRanker: exact lists by one index, what they consist of, ids, files."""

from __future__ import annotations

import copy
import pickle
import threading
from pathlib import Path
from typing import Any

import inside
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import farann
from farann.adapters.posneg import FusionHits, FusionRanker, PosNegRanker, SignedModel

Array = NDArray[Any]
N, USERS = 80, 60
SIGNS: tuple[int | str, ...] = (1, -1, "both")


class Log:
    """Three models of the same users and items, and feedback that they explain."""

    def __init__(self, n: int = 2500, seed: int = 0) -> None:
        rng = self.rng = np.random.default_rng(seed)
        self.items = [rng.standard_normal((N, dim), dtype=np.float32) for dim in (5, 4, 3)]
        self.people = [rng.standard_normal((USERS, dim), dtype=np.float32) for dim in (5, 4, 3)]
        self.users, self.what = rng.integers(0, USERS, n), rng.integers(0, N, n)
        said = sum(times * (q[self.users] * x[self.what]).sum(axis=1) for times, q, x in
                   zip((1.0, -0.7, 0.4), self.people, self.items, strict=True))
        self.labels = rng.random(n) < 1 / (1 + np.exp(-said))

    def models(self, **options: Any) -> list[SignedModel]:
        return [SignedModel(x, q, sign, **options) for x, q, sign in
                zip(self.items, self.people, SIGNS, strict=True)]

    def fit(self, **options: Any) -> FusionRanker:
        return FusionRanker(self.models()).fit(self.users, self.what, self.labels, **options)


@pytest.fixture(scope="module")
def log() -> Log:
    return Log()


@pytest.fixture(scope="module")
def fitted(log: Log) -> FusionRanker:
    return inside.adapters.fused(log.fit())


def everything(ranker: FusionRanker, models: list[SignedModel], among: str,
               exposure: float = 0.75) -> Array:
    """All scores in float64, (n_users, n_items), in the most obvious numpy."""
    learned = inside.adapters.learned_by(ranker)
    (means, spreads), own = inside.adapters.scales_of(ranker), inside.adapters.items_of(ranker)
    weights = exposure * learned.liking + learned.showing if among == "all" else learned.liking
    total = np.tile(weights[-2:] @ own, (len(ranker.user_ids), 1))
    for m, model in enumerate(models):
        users, items = model.users.astype(float), model.items.astype(float)
        similar = np.full(total.shape, means[m])
        rows, columns = (np.flatnonzero(each.any(axis=1)) for each in (users, items))
        similar[np.ix_(np.searchsorted(ranker.user_ids, model.user_ids[rows]), np.searchsorted(
            ranker.ids, model.ids[columns]))] = users[rows] @ items[columns].T
        total += weights[m] * (similar - means[m]) / spreads[m]
    return total


def close(found: Any, expected: Any, size: float) -> None:
    """Equal but for float32 queries."""
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5 * size)


@settings(max_examples=8)
@given(st.integers(0, 2**32 - 1), st.integers(1, 50), st.sampled_from(["dot", "cosine"]),
       st.lists(st.sampled_from([1, -1, "both"]), min_size=1, max_size=4),
       st.sampled_from(["all", "shown"]))
def test_all_items_are_searched_exactly(seed: int, k: int, metric: str, signs: list[Any],
                                        among: str) -> None:
    rng = np.random.default_rng(seed)
    models = []
    for m, sign in enumerate(signs):
        dim = int(rng.integers(1, 6))
        ids, who = (np.union1d(np.flatnonzero(rng.random(40) < 0.8), [3]) for _ in range(2))
        users = rng.standard_normal((len(who), dim))
        users[rng.random(len(who)) < 0.2] = 0.0
        models.append(SignedModel(10.0 ** rng.integers(-4, 5) * rng.standard_normal(
            (len(ids), dim)), users, sign, name=f"model {m}", ids=ids, user_ids=who,
            metric=metric))
    ranker = FusionRanker(models)
    users, items = rng.choice(ranker.user_ids, 300), rng.choice(ranker.ids, 300)
    try:
        ranker.fit(users, items, rng.random(300) < 0.5)
    except ValueError as error:  # chance may look like a swapped sign
        assert "speaks against its sign" in str(error)
        return
    expected = everything(ranker, models, among)
    size = np.abs(expected).max()
    ranker = inside.adapters.fused(ranker)
    hits = ranker.rank(ranker.user_ids, k, among=among, seen=True)
    kept = min(k, len(ranker.ids))
    close(hits.scores[:, :kept], -np.sort(-expected, axis=1)[:, :k], size)
    assert (np.diff(hits.scores[:, :kept]) <= 0).all()
    assert np.isnan(hits.scores[:, kept:]).all() and (hits.ids[:, kept:] == -1).all()
    at = np.searchsorted(ranker.ids, hits.ids[:, :kept])
    close(np.take_along_axis(expected, at, axis=1), hits.scores[:, :kept], size)
    assert all(len(set(row)) == kept for row in hits.ids[:, :kept].tolist())
    scored = ranker.score(ranker.user_ids, among=among)
    close(scored.scores, expected, size)
    close(sum(scored.parts.values()), scored.scores, size)
    np.testing.assert_allclose(np.take_along_axis(scored.scores, at, axis=1),
                               hits.scores[:, :kept], rtol=1e-12, atol=1e-12 * size)


@pytest.mark.parametrize("among", ["all", "shown"])
def test_answers_beyond_the_last_item_are_padded_in_silence(among: str, fitted: FusionRanker
                                                            ) -> None:
    hits = fitted.rank([0, 1], N + 5, among=among, seen=True)  # warnings are errors here
    assert hits.scores.shape == (2, N + 5) and (hits.ids[:, N:] == -1).all()
    for each in (hits.scores, hits.probability, *hits.parts.values()):
        assert np.isnan(each[:, N:]).all() and not np.isnan(each[:, :N]).any()


def test_chances_are_of_items_shown_to_this_user(log: Log, fitted: FusionRanker) -> None:
    learned = inside.adapters.learned_by(fitted)
    expected = 1 / (1 + np.exp(-everything(fitted, log.models(), "shown") - learned.intercept
                               - learned.users[:, np.newaxis]))
    for among in ("all", "shown"):
        hits = fitted.score(np.arange(USERS), among=among)
        np.testing.assert_allclose(hits.probability, expected, atol=1e-5)
    assert np.abs(learned.users).max() > 0.1
    stranger = fitted.score(queries=[each[0] for each in log.people]).probability
    assert stranger.shape == (N,) and not np.allclose(stranger, expected[0], atol=1e-3)


def test_parts_tell_why(log: Log, fitted: FusionRanker) -> None:
    hits = fitted.rank([4, 5], 3, among="shown")
    assert list(hits.parts) == ["positive", "negative", "signed", "items"]
    learned = inside.adapters.learned_by(fitted)
    dislikes = (log.people[1][[4, 5], np.newaxis] * log.items[1][hits.ids]).sum(axis=2)
    mean, spread = (each[1] for each in inside.adapters.scales_of(fitted))
    assert mean == pytest.approx((log.people[1] @ log.items[1].T).mean(), abs=1e-5)
    np.testing.assert_allclose(hits.parts["negative"],
                               learned.liking[1] * (dislikes - mean) / spread, atol=1e-5)


def test_exposure_counts_in_scores_as_in_lists(fitted: FusionRanker) -> None:
    one, other = (fitted.score([7], among=among).scores for among in ("all", "shown"))
    assert not np.allclose(one, other)
    for options in ({}, {"exposure": 3.0}, {"among": "shown"}):
        hits = fitted.rank(7, N, seen=True, **options)
        scores = fitted.score(7, hits.ids, **options).scores
        np.testing.assert_allclose(scores, hits.scores, rtol=1e-12)
    assert (fitted.rank(7, 5, exposure=1e9).ids == fitted.rank(7, 5, among="shown").ids).all()


def test_single_users_filters_and_empty_batches(fitted: FusionRanker) -> None:
    whole = fitted.rank(np.arange(USERS), 6)
    alone = fitted.rank(3, 6)
    assert alone.ids.shape == (6,) and (alone.ids == whole.ids[3]).all()
    assert alone.parts["items"].shape == alone.probability.shape == (6,)
    best = whole.ids[:, 0]
    without = fitted.rank(np.arange(USERS), 5, exclude=best[:, np.newaxis])
    assert (without.ids == whole.ids[:, 1:]).all()
    assert (fitted.rank(3, 5, exclude=[best[3]]).ids == whole.ids[3, 1:]).all()
    all_alike = fitted.rank([3, 4], N, exclude=[5, 6])
    assert not np.isin(all_alike.ids, [5, 6]).any()
    mask = np.isin(fitted.ids, [2, 40, 7])
    few = fitted.rank([3], 5, allowed=mask, seen=True)
    assert set(few.ids[0, :3]) == {2, 7, 40} and (few.ids[0, 3:] == -1).all()
    assert np.isnan(few.scores[0, 3:]).all() and np.isnan(few.probability[0, 3:]).all()
    assert np.isnan(few.parts["signed"][0, 3:]).all()
    assert (fitted.rank([3], 3, allowed=[40, 7, 2, 999], seen=True).ids[0]
            == few.ids[0, :3]).all()
    assert fitted.rank([], 5).ids.shape == (0, 5) and fitted.score([], [1]).scores.shape == (0, 1)


def test_equal_scores_go_by_id(log: Log, fitted: FusionRanker) -> None:
    alike = [SignedModel(np.repeat(x.items[:8], 10, axis=0), x.users, x.sign,
                         ids=1000 + np.arange(80)) for x in log.models()]
    hits = fitted.replace(alike).rank(np.arange(USERS), 80, seen=True)
    tied = np.diff(hits.scores) == 0
    assert tied.sum() == 72 * USERS and (np.diff(hits.ids)[tied] > 0).all()


def test_queries_are_like_users(log: Log, fitted: FusionRanker) -> None:
    users = fitted.rank([1, 2], 5, seen=True)
    by_list = fitted.rank(queries=[each[[1, 2]] for each in log.people], k=5)
    by_name = fitted.rank(queries=dict(zip(fitted.names, [each[[1, 2]] for each in log.people],
                                           strict=True)), k=5)
    assert (by_list.ids == users.ids).all() and (by_name.ids == users.ids).all()
    np.testing.assert_array_equal(by_list.scores, users.scores)
    lacking = fitted.score(queries={"negative": log.people[1][1]})
    zeros = [np.zeros(5), log.people[1][1], np.zeros(3)]
    np.testing.assert_array_equal(lacking.scores, fitted.score(queries=zeros).scores)
    assert not lacking.parts["positive"].any() and lacking.parts["negative"].any()


@pytest.mark.parametrize("metric", ["dot", "cosine"])
def test_the_linear_form_is_the_score(metric: str, log: Log) -> None:
    models = log.models(metric=metric)
    models[1] = SignedModel(log.items[1][:50], log.people[1], -1, metric=metric)
    ranker = inside.adapters.fused(FusionRanker(models).fit(log.users, log.what, log.labels))
    queries = [3.0 * each if metric == "cosine" else each for each in log.people]
    for options in ({"among": "shown"}, {"among": "all"}, {"exposure": 0.2}):
        form, hits = ranker.linear(**options), ranker.score(np.arange(USERS), **options)
        scores = form.vectors(queries) @ form.rows.T
        np.testing.assert_allclose(scores, hits.scores, atol=2e-5)
        if options.get("among") == "shown":
            leaning = inside.adapters.learned_by(ranker).users[:, np.newaxis]
            np.testing.assert_allclose(1 / (1 + np.exp(-scores - form.intercept - leaning)),
                                       hits.probability, atol=1e-5)
        else:
            assert np.isnan(form.intercept)
    index = farann.Index(metric="dot")
    index.add(form.rows, form.ids)
    best = index.search_nearest(form.vectors(queries), 5)
    assert (best.ids == ranker.rank(np.arange(USERS), 5, exposure=0.2, seen=True).ids).all()


def test_before_fit_the_form_is_the_plain_average(log: Log) -> None:
    ranker = FusionRanker(log.models()[:2])
    form = ranker.linear()
    expected = (log.people[0] @ log.items[0].T - log.people[1] @ log.items[1].T) / 2
    np.testing.assert_allclose(form.vectors(log.people[:2]) @ form.rows.T, expected, atol=1e-5)
    for ask in (lambda: ranker.rank([1]), lambda: ranker.score([1]), lambda: ranker.report,
                lambda: ranker.evaluate([1], [1], [1]), lambda: ranker.save("x")):
        with pytest.raises(RuntimeError, match="fit must be called first"):
            ask()
    with pytest.raises(RuntimeError, match="no models were trained yet"):
        FusionRanker().linear()


def test_two_models_have_a_constructor(log: Log) -> None:
    pair = PosNegRanker(log.items[0], log.people[0], log.items[1], log.people[1])
    pair.fit(log.users, log.what, log.labels)
    same = FusionRanker(log.models()[:2]).fit(log.users, log.what, log.labels)
    assert pair.names == ("positive", "negative") and repr(pair) == repr(same)
    np.testing.assert_array_equal(pair.rank([1, 2]).scores, same.rank([1, 2]).scores)


def test_strings_answer_as_numbers_do(log: Log, fitted: FusionRanker, tmp_path: Path) -> None:
    films, people = [f"film {i:02} ü" for i in range(N)], [f"person {i:02}" for i in range(USERS)]
    ranker = FusionRanker(log.models(ids=films, user_ids=people))
    ranker = inside.adapters.fused(ranker.fit(
        [people[i] for i in log.users], [films[i] for i in log.what], log.labels))
    ranker.save(tmp_path / "named")
    for each in (ranker, FusionRanker.load(tmp_path / "named")):
        hits = each.rank(people[:4], 5, exclude=[[films[1]], [], ["none such"], []])
        same = fitted.rank([0, 1, 2, 3], 5, exclude=[[1], [], [], []])
        assert (hits.ids == np.array(films, object)[same.ids]).all()
        np.testing.assert_array_equal(hits.scores, same.scores)
        assert each.rank("person 03", 2, allowed=films[:1], seen=True).ids.tolist() == [
            films[0], None]
    assert ranker.score("person 03", films[5:7]).scores.shape == (2,)
    with pytest.warns(UserWarning, match="1 of 1 are in no model, such as 'nobody'"):
        ranker.rank(["nobody"])
    with pytest.raises(TypeError, match="users: expected strings, as the models' ids are, got 3"):
        ranker.rank([3])


def test_an_index_brings_ids_and_its_metric(log: Log) -> None:
    index = farann.Index(metric="cosine")
    index.add(log.items[0][::-1], np.arange(N)[::-1])
    model = SignedModel(index, log.people[0])
    assert (model.ids == np.arange(N)[::-1]).all() and "'cosine'" in repr(model)
    same = SignedModel(log.items[0], log.people[0], metric="cosine")
    rankers = [FusionRanker([one]).fit(log.users, log.what, log.labels) for one in (model, same)]
    np.testing.assert_allclose(rankers[0].score([1]).scores, rankers[1].score([1]).scores,
                               atol=1e-5)


def test_models_are_replaced_under_what_was_learned(log: Log, fitted: FusionRanker) -> None:
    models = log.models()
    louder = fitted.replace([SignedModel(7 * x.items, x.users, x.sign, name=x.name)
                             for x in models])
    np.testing.assert_allclose(louder.score([3]).scores, fitted.score([3]).scores, rtol=1e-4,
                               atol=1e-4)
    more = [SignedModel(np.vstack([x.items[10:], np.ones((1, x.items.shape[1]))]),
                        x.users[:-1], x.sign, name=x.name, ids=np.arange(10, N + 1))
            for x in models]
    again = fitted.replace(more)
    assert (again.ids == np.arange(10, N + 1)).all() and len(again.user_ids) == USERS - 1
    kept = np.arange(10, N)
    old, new = (one.score([3], kept).scores[0] for one in (fitted, again))
    assert np.corrcoef(old, new)[0, 1] > 0.999
    assert again.score([3], [N], among="shown").parts["items"] == 0.0
    assert inside.adapters.items_of(again)[1][-1] == 0.0  # the least there is
    rated = log.what[log.users == 3]
    assert not np.isin(again.rank(3, 60).ids, rated).any()
    with pytest.raises(ValueError, match="to have the same names and signs"):
        fitted.replace(models[::-1])


# ---- files ----


@pytest.mark.parametrize("way", ["file", "pickle", "copy"])
def test_copies_answer_the_same(way: str, log: Log, fitted: FusionRanker, tmp_path: Path) -> None:
    ranker = fitted
    if way == "file":
        ranker.save(tmp_path / "ranker")
        again = FusionRanker.load(tmp_path / "ranker", threads=1)
        again.save(tmp_path / "twice")
        assert (tmp_path / "ranker").read_bytes() == (tmp_path / "twice").read_bytes()
    else:
        again = pickle.loads(pickle.dumps(ranker)) if way == "pickle" else copy.deepcopy(ranker)
    assert repr(again) == repr(ranker) and again.report == ranker.report
    hits, same = (one.rank(np.arange(USERS), 7) for one in (again, ranker))
    for field in ("ids", "scores", "probability"):
        np.testing.assert_array_equal(getattr(hits, field), getattr(same, field))
    assert (again.evaluate(log.users, log.what, log.labels).advice
            == ranker.evaluate(log.users, log.what, log.labels).advice)
    again.fit(log.users, log.what, log.labels)  # it holds models


def test_damaged_files_are_refused(fitted: FusionRanker, tmp_path: Path) -> None:
    file = tmp_path / "ranker"
    fitted.save(file)
    whole = file.read_bytes()
    rng = np.random.default_rng(0)
    for place in rng.integers(0, len(whole), 40).tolist():
        file.write_bytes(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :])
        with pytest.raises(farann.FormatError):
            FusionRanker.load(file)
    for length in (0, 7, len(whole) // 2, len(whole) - 1):
        file.write_bytes(whole[:length])
        with pytest.raises(farann.FormatError):
            FusionRanker.load(file)


OTHERS = [["b", -1, "dot", 4], ["c", "both", "dot", 3]]
HOSTILE: list[tuple[str, Any]] = [
    ("kind", "index"), ("models", []), ("models", [["a", 1]]), ("models", 3),
    ("models", [["a", 1, "dot", 5]] * 3), ("models", [["a", True, "dot", 5], *OTHERS]),
    ("models", [["a", 2, "dot", 5], *OTHERS]), ("models", [["a", [], "dot", 5], *OTHERS]),
    ("models", [["a", 1, "l2", 5], *OTHERS]), ("models", [["a", 1, "dot", 0], *OTHERS]),
    ("models", [["a", 1, "dot", 4], *OTHERS]), ("models", OTHERS),
    ("models", [["a", 1, "dot", 5], *OTHERS, ["d", 1, "dot", 2**60]]),
    ("intercept", "high"), ("intercept", None), ("order", ["positive"]),
    ("order", ["positive", "nobody"]), ("order", "ab"), ("trainer", None), ("trainer", {"dim": 0}),
    ("trainer", {"dim": 4, "seed": "a"}),
    ("@ids", b"[1, 2"), ("@ids", b"[[[["), ("@ids", b"[" * 100_000), ("@ids", b"{}"),
    ("@ids", b"[]"), ("@ids", b"[3, 1]"), ("@ids", b'["a", 1]'), ("@ids", b"[1.5]"),
    ("@ids", b'["\\ud800"]'), ("@ids", b"\xff"), ("@user_ids", b"7"), ("@user_ids", b"[1, 1]"),
    ("@rows", np.zeros((N, 0), np.float32)), ("@rows", np.full((N, 17), np.nan, np.float32)),
    ("@rows", np.zeros((N, 17))), ("@people", np.zeros((USERS, 16), np.float32)),
    ("@people", np.zeros((USERS + 1, 17), np.float32)), ("@liking", np.full(5, np.inf)),
    ("@means", np.zeros(2)), ("@means", np.full(3, np.nan)), ("@users", np.zeros((USERS, 1))),
    ("@showing", np.zeros(3)), ("@showing", np.full(5, np.nan)), ("@aucs", np.zeros(9)),
    ("@liking", None), ("@ids", None), ("@spreads", None),
    ("@spreads", np.zeros(3)), ("@seen", np.array([4, 3])), ("@seen", np.array([-1])),
    ("@seen", np.array([N * USERS])), ("@seen", np.zeros((1, 1), np.int64)),
]


@pytest.mark.parametrize("change", HOSTILE, ids=lambda change: f"{change[0]} {change[1]!r:.20}")
def test_files_that_no_ranker_wrote(change: tuple[str, Any], fitted: FusionRanker,
                                    tmp_path: Path) -> None:
    fitted.save(tmp_path / "ranker")
    metadata, arrays = inside.files.read_file(tmp_path / "ranker")
    (name, value), arrays = change, dict(arrays)
    if not name.startswith("@"):
        metadata[name] = value
    elif value is None:
        del arrays[name[1:]]
    else:
        arrays[name[1:]] = np.frombuffer(value, np.uint8) if isinstance(value, bytes) else value
    inside.files.write_file(tmp_path / "bad", metadata, arrays)
    with pytest.raises(farann.FormatError, match="bad"):
        FusionRanker.load(tmp_path / "bad")


# ---- errors ----


@pytest.mark.parametrize("change, kind, message", [
    ({"sign": 2}, ValueError, "sign: expected 1, -1 or 'both', got 2"),
    ({"sign": True}, ValueError, "sign: expected 1, -1 or 'both', got True"),
    ({"name": ""}, TypeError, "name: expected a string"),
    ({"metric": "l2"}, ValueError, "metric: expected one of 'dot', 'cosine', got 'l2'"),
    ({"items": np.zeros((0, 2))}, ValueError, "items: expected at least one item"),
    ({"items": np.zeros((3, 2)), "metric": "cosine"}, ValueError, "a zero vector"),
    ({"items": [[np.nan, 1.0]]}, ValueError, "items: .*NaN"),
    ({"users": np.ones((4, 3))}, ValueError, "users: expected vectors of dimension 2, got 3"),
    ({"ids": [1, 1, 2]}, ValueError, "ids: expected each id once, got 1 twice"),
    ({"ids": ["a", "a", "b"]}, ValueError, "ids: expected each id once, got 'a' twice"),
    ({"user_ids": [1]}, ValueError, "user_ids: expected 4 ids, one a row, got 1"),
])
def test_bad_models(change: dict[str, Any], kind: type[Exception], message: str) -> None:
    usual: dict[str, Any] = {"items": np.ones((3, 2)), "users": np.ones((4, 2))}
    with pytest.raises(kind, match=message):
        SignedModel(**usual | change)


def test_models_that_do_not_go_together(log: Log) -> None:
    one, other, _ = log.models()
    bad: list[tuple[Any, str]] = [
        ([], "models: expected a list of SignedModel"), (one, "models: expected a list"),
        ([log.items[0]], "models: expected SignedModel"),
        ([one, one], "expected each name once, got 'positive' twice; name="),
        ([one, SignedModel(np.ones((1, 2)), np.ones((USERS, 2)), -1, ids=["a"])],
         "models: ids: expected integer ids or strings everywhere, got both"),
    ]
    for models, message in bad:
        with pytest.raises((TypeError, ValueError), match=message):
            FusionRanker(models)
    index = farann.Index(2)
    index.add(np.ones((2, 2)))
    with pytest.raises(ValueError, match="metric: expected one of 'dot', 'cosine', got 'l2'"):
        SignedModel(index, np.ones((1, 2)))
    assert FusionRanker([one, other]).names == ("positive", "negative")


@pytest.mark.parametrize("asked, kind, message", [
    ({}, TypeError, "users: expected either users or queries="),
    ({"users": [1], "queries": [[1]]}, TypeError, "users: expected either users or queries="),
    ({"users": ["a"]}, TypeError, "users: expected integers, as the models' ids are, got 'a'"),
    ({"users": [1], "k": 0}, ValueError, "k: expected 1 or more, got 0"),
    ({"users": [1], "among": "some"}, ValueError, "among: expected one of 'all', 'shown'"),
    ({"users": [1], "exposure": -1.0}, ValueError, "exposure: expected a number from 0 to 1e"),
    ({"users": [1], "exposure": 1.0, "among": "shown"}, ValueError, "expected among='all'"),
    ({"users": [1], "allowed": np.ones(3, bool)}, ValueError, "allowed: "),
    ({"queries": [np.ones(5)]}, ValueError, "queries: expected an array a model, those of pos"),
    ({"queries": {"other": np.ones(5)}}, ValueError, "queries: expected an array a model"),
    ({"queries": {}}, ValueError, "of one model at least, got none"),
    ({"queries": [np.ones(5), np.ones((2, 4)), None]}, ValueError, "as many of each model"),
    ({"queries": [np.ones(4), None, None]}, ValueError, "queries of 'positive': expected vectors"),
])
def test_bad_questions(asked: dict[str, Any], kind: type[Exception], message: str,
                       fitted: FusionRanker) -> None:
    with pytest.raises(kind, match=message):
        fitted.rank(**asked)


def test_threads_see_one_fit_or_the_other() -> None:
    log = Log(600)
    weights = np.ones(600), 1.0 + np.arange(600) % 9
    ranker = log.fit()
    one, other = (log.fit(sample_weight=each).rank([1, 2], 5, among="shown").scores
                  for each in weights)
    assert not np.array_equal(one, other)
    seen: list[FusionHits] = []
    stop = threading.Event()

    def ask() -> None:
        while not stop.is_set():
            seen.append(ranker.rank([1, 2], 5, among="shown"))

    thread = threading.Thread(target=ask)
    thread.start()
    for number in (1, 0, 1):
        ranker.fit(log.users, log.what, log.labels, sample_weight=weights[number])
    stop.set()
    thread.join()
    assert seen and all(np.array_equal(hits.scores, one) or np.array_equal(hits.scores, other)
                        for hits in seen)
    assert np.array_equal(ranker.rank([1, 2], 5, among="shown").scores, other)
