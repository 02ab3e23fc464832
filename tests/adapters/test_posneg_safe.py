"""Safe defaults: sparse logs, logs in any form, refits, users that no model knows."""

from __future__ import annotations

import datetime
from typing import Any

import inside
import numpy as np
import pytest
from numpy.typing import NDArray

from farann import metrics
from farann.adapters.posneg import Factorization, FusionRanker, SignedModel

Array = NDArray[Any]


def sparse_log(seed: int = 0, users: int = 200, items: int = 400, each: int = 15
               ) -> tuple[Array, Array, Array]:
    """Few labels of each user; items differ more than people's tastes do."""
    rng = np.random.default_rng(seed)
    who = np.repeat(np.arange(users), each)
    what = np.concatenate([rng.choice(items, each, replace=False) for _ in range(users)])
    taste, kind = 0.6 * rng.standard_normal((users, 4)), rng.standard_normal((items, 4))
    odds = (taste[who] * kind[what]).sum(axis=1) + rng.normal(0, 1.5, items)[what]
    return who, what, rng.random(len(who)) < 1 / (1 + np.exp(-odds))


@pytest.fixture(scope="module")
def split() -> tuple[tuple[Array, ...], tuple[Array, ...], FusionRanker]:
    log = sparse_log()
    late = np.arange(len(log[0])) % 3 == 0
    train, test = (tuple(each[which] for each in log) for which in (~late, late))
    return train, test, FusionRanker().fit(*train)


def test_sparse_logs_are_ranked_as_well_as_by_the_best_single_model(split: Any) -> None:
    """AUC was 0.29 where the record of items alone has 0.67: weights of -5,295 and +243,645."""
    _, (users, items, liked), ranker = split
    auc = {}
    for name in (*ranker.names, "items' record", "this ranker"):
        scores = ranker.by(name).score(np.arange(200), among="shown").scores
        columns = np.searchsorted(ranker.ids, items)
        known = np.isin(items, ranker.ids)
        auc[name] = metrics.auc_by_user(users[known], liked[known],
                                        scores[users[known], columns[known]])
    best = max(auc, key=lambda name: np.nanmean(auc[name]))
    assert metrics.mean_interval(auc["this ranker"] - auc[best]).high >= 0, best
    assert np.nanmean(auc["this ranker"]) > 0.58
    for report, direction in zip(ranker.report, (1, 1, -1, 1, 1), strict=True):
        assert 0 <= direction * report.weight < 10


def test_scores_have_one_spread_in_folds_and_at_the_end() -> None:
    """Models whose scale depends on how much they saw weigh the same as others."""
    users, items, liked = sparse_log(1, 100, 60, 30)
    taste, kind = np.random.default_rng(0).standard_normal((2, 100, 4))

    def train(loud: float) -> Any:
        def of(who: Array, what: Array, likes: Array) -> list[SignedModel]:
            models = Factorization(4)(who, what, likes)
            scale = loud if len(who) == len(users) else 1.0
            return [SignedModel(scale * model.items, model.users, model.sign, name=model.name,
                                ids=model.ids, user_ids=model.user_ids) for model in models]
        return of

    one, other = (inside.adapters.fused(FusionRanker(train(loud)).fit(users, items, liked))
                  for loud in (1.0, 50.0))
    np.testing.assert_allclose(one.score([3, 4]).scores, other.score([3, 4]).scores, rtol=1e-3,
                               atol=1e-4)


def test_one_model_ranks_all_items_where_it_lists_more_likes() -> None:
    """Of exposure and likes, where all that people see and like is in one model."""
    rng = np.random.default_rng(2)
    people, films = rng.standard_normal((80, 3)), rng.standard_normal((150, 3))
    near = people @ films.T
    users, items = np.nonzero(near > np.quantile(near, 0.9, axis=1)[:, np.newaxis])
    liked = rng.random(len(users)) < 0.5
    other = SignedModel(rng.standard_normal((150, 3)), rng.standard_normal((80, 3)), "both")
    ranker = FusionRanker([SignedModel(films, people), other]).fit(users, items, liked)
    assert "all items by 'positive'" in repr(ranker)
    best = np.argsort(-near[5], kind="stable")
    rated = set(items[users == 5].tolist())
    expected = [item for item in best.tolist() if item not in rated][:6]
    assert ranker.rank(5, 6).ids.tolist() == expected


@pytest.mark.parametrize("form", ["dict", "pandas", "sparse"])
def test_logs_of_any_form_are_the_same_log(form: str) -> None:
    users, items, liked = sparse_log(3, 24, 30, 14)
    signs = np.where(liked, 1, -1)
    log: Any = {"user": users, "item": items, "rating": signs}
    if form == "pandas":
        log = pytest.importorskip("pandas").DataFrame(log)
    elif form == "sparse":
        from scipy.sparse import coo_matrix

        log = coo_matrix((signs, (users, items)), (24, 30)).tocsr()
        order = np.lexsort((items, users))
        users, items, liked = users[order], items[order], liked[order]
    train = Factorization(2)
    one, same = (FusionRanker(train).fit(*each) for each in ((log,), (users, items, liked)))
    np.testing.assert_array_equal(one.rank([1, 2]).scores, same.rank([1, 2]).scores)
    assert one.evaluate(log).rows == same.evaluate(users, items, liked).rows


def test_what_is_no_log_is_told() -> None:
    from scipy.sparse import csr_matrix

    zero = csr_matrix(([1, -1, 0], ([0, 1, 1], [0, 1, 0])), (2, 2))
    for given, kind, message in (
            ((zero,), ValueError, r"a stored 0 of a sparse matrix is no label.*eliminate_zeros"),
            (({"who": [1], "item": [1], "label": [1]},), ValueError,
             "expected columns user, item and label .or rating., got who, item, label"),
            (([1, 2],), TypeError, "expected three columns, users, items and labels, or one data"),
            (([1, 2], [1, 2]), TypeError, "labels: expected one for each user, or")):
        with pytest.raises(kind, match=message):
            FusionRanker().fit(*given)
    with pytest.raises(ValueError, match="times: expected 2 finite numbers or dates"):
        FusionRanker().fit([1, 2], [1, 2], [1, 0], times=[1.0, np.nan])


def test_folds_are_by_time_where_there_are_times() -> None:
    users, items, liked = sparse_log(4, 30, 40, 20)
    times = np.random.default_rng(0).permutation(len(users))
    calls: list[Array] = []

    def train(who: Array, what: Array, likes: Array) -> list[SignedModel]:
        calls.append(who * 40 + what)
        return Factorization(2)(who, what, likes)

    dates = np.datetime64("2026-01-01") + times.astype("timedelta64[h]")
    FusionRanker(train).fit(users, items, liked, times=dates)
    assert [len(call) for call in calls] == [600, 300, 360, 420, 480, 540]
    for user in range(30):
        mine = np.flatnonzero(users == user)
        first = mine[np.argsort(times[mine])][:10]
        assert set(users[first] * 40 + items[first]) == set(calls[1][calls[1] // 40 == user])


@pytest.mark.parametrize("zone", [None, datetime.UTC])
def test_times_may_be_dates_of_any_kind(zone: datetime.tzinfo | None) -> None:
    users, items, liked = sparse_log(4, 30, 40, 20)
    hours = np.random.default_rng(0).permutation(len(users))
    first = datetime.datetime(2026, 2, 1, tzinfo=zone)
    dates = [first + datetime.timedelta(hours=hour) for hour in hours.tolist()]
    one, same = (FusionRanker(Factorization(2)).fit(users, items, liked, times=times).report
                 for times in (hours, dates))
    assert one == same


def test_folds_need_both_kinds_of_labels() -> None:
    users, items, _ = sparse_log(4, 30, 40, 20)
    with pytest.raises(ValueError, match="labels: expected likes and dislikes .* only likes to "
                       "train on in fold [1-5] of 5; it takes more labels of both kinds"):
        FusionRanker().fit(users, items, np.arange(600) != 7)


def test_a_loaded_ranker_trains_again_or_refuses(split: Any, tmp_path: Any) -> None:
    """It calibrated the stored models on the log that they were trained on."""
    train, test, ranker = split
    ranker.save(tmp_path / "ranker")
    again = FusionRanker.load(tmp_path / "ranker").fit(*train)
    np.testing.assert_array_equal(again.rank([1, 2]).scores, ranker.rank([1, 2]).scores)
    own = FusionRanker(lambda *log: Factorization(2)(*log)).fit(*train)
    own.save(tmp_path / "own")
    loaded = FusionRanker.load(tmp_path / "own")
    with pytest.raises(RuntimeError, match="the file held the models, but not the function"):
        loaded.fit(*test)
    loaded.save(tmp_path / "twice")
    with pytest.raises(RuntimeError, match="FusionRanker.train. anew"):
        FusionRanker.load(tmp_path / "twice").by("positive").fit(*test)


def test_what_a_user_has_rated_is_left_out(split: Any) -> None:
    train, _, ranker = split
    for users, options in ((np.arange(200), {}), (np.arange(200), {"among": "shown"})):
        ids = ranker.rank(users, 10, **options).ids
        assert not any(np.isin(row, train[1][train[0] == user]).any()
                       for user, row in zip(users, ids, strict=True))
    assert np.isin(ranker.rank(3, 390, seen=True).ids, train[1][train[0] == 3]).sum() == 10
    nothing: Any
    for nothing in (None, [], [[], []], [[-1], [-1, -1]]):
        assert (ranker.rank([3, 4], exclude=nothing).ids == ranker.rank([3, 4]).ids).all()
    with pytest.raises(TypeError, match="exclude: expected ids, or ids for each user, got range"):
        ranker.rank([3], exclude=range(2**62))


def test_pairs_that_models_were_trained_on_are_no_unseen_ones(split: Any) -> None:
    train, test, _ = split
    models = Factorization(4)(*train)
    some = np.isin(test[1], np.intersect1d(models[3].ids, test[1]))
    held = tuple(each[some] for each in test)
    ranker = FusionRanker(models).fit(*held, shown=train[:2])
    ids = ranker.rank(np.arange(200), 10).ids
    assert not any(np.isin(row, train[1][train[0] == user]).any()
                   for user, row in enumerate(ids))
    with pytest.raises(ValueError, match="shown: expected users and items, as many of both, got 1"):
        ranker.fit(*held, shown=([1], [1, 2]))


def test_strangers_get_the_items_record(split: Any) -> None:
    _, _, ranker = split
    with pytest.warns(UserWarning, match="users: 1 of 2 are in no model, such as 999, and get"):
        hits = ranker.rank([3, 999], 400, among="shown")
    record = inside.adapters.learned_by(ranker).liking[-2] * inside.adapters.items_of(ranker)[0]
    np.testing.assert_allclose(hits.scores[1, : len(record)], -np.sort(-record), atol=1e-5)
    assert (hits.ids[0, :10] == ranker.rank(3, 10, among="shown").ids).all()
    with pytest.warns(UserWarning, match="1 of 1"):
        assert (ranker.by("graph").rank(999, 5).ids == ranker.rank(999, 5).ids).all()


def test_names_of_other_libraries_are_hinted_at() -> None:
    for name, ours in (("recommend", "rank"), ("predict", "score"), ("fit_partial", "fit"),
                       ("full_sort_predict", "score"), ("diagnose", "evaluate")):
        with pytest.raises(AttributeError, match=f"'{name}': use {ours}"):
            getattr(FusionRanker(), name)
    assert "recommend" not in dir(FusionRanker)


@pytest.mark.parametrize("seed", range(4))
def test_few_dislikes_are_dealt_over_the_folds(seed: int) -> None:
    """All three of 60 were in one fold of five with one seed in 25, of two with one in four."""
    users, items, _ = sparse_log(5, 10, 20, 6)
    liked = ~np.isin(np.arange(60), [7, 21, 40])
    held: list[int] = []

    def train(who: Array, what: Array, likes: Array) -> list[SignedModel]:
        held.append(int(3 - (~likes).sum()))
        return Factorization(2)(who, what, likes)

    hits = FusionRanker(train).fit(users, items, liked, cv=2, seed=seed).rank([0, 1], 3)
    assert sorted(held) == [0, 1, 2] and np.isfinite(hits.scores).all()


def test_time_folds_without_a_kind_to_train_on_are_left_out() -> None:
    users, items, _ = sparse_log(5, 10, 20, 10)
    times = np.tile(np.arange(10), 10)
    liked = ~np.isin(times, [6, 8])
    ranker = FusionRanker(Factorization(2)).fit(users, items, liked, times=times)
    assert np.isfinite(ranker.rank([0], 3).scores).all()
    with pytest.raises(ValueError, match="only likes in 50 rows that are held out and have weight"):
        FusionRanker().fit(users, items, times > 3, times=times)
    with pytest.raises(ValueError, match="before the last of them, got none; leave times out"):
        FusionRanker().fit(users, items, times < 9, times=times)


def test_labels_that_count_are_of_both_kinds() -> None:
    """All scores were 0 where only likes have weight."""
    users, items, liked = sparse_log(5, 10, 20, 6)
    with pytest.raises(ValueError, match="got only likes in .* that are held out and have weight"):
        FusionRanker().fit(users, items, liked, sample_weight=liked)


def test_a_lazy_frame_is_no_log() -> None:
    polars = pytest.importorskip("polars")
    frame = polars.LazyFrame({"user": [1, 2], "item": [1, 2], "label": [1, 0]})
    with pytest.raises(TypeError, match="users: expected three columns.*one data frame"):
        FusionRanker().fit(frame)


def test_unknown_users_are_named_whatever_holds_them() -> None:
    """A set and a Series were indexed by position, a KeyError or TypeError of others."""
    pandas = pytest.importorskip("pandas")
    ranker = FusionRanker(Factorization(2)).fit(*sparse_log(5, 10, 20, 6))
    users: Any
    for users in ({1, 99}, pandas.Series([1, 99], index=[5, 5])):
        with pytest.warns(UserWarning, match="1 of 2 are in no model, such as 99"):
            assert ranker.rank(users, 2).ids.shape == (2, 2)


def test_models_of_other_ids_replace_none() -> None:
    users, items, liked = sparse_log(5, 10, 20, 6)
    ranker, train = FusionRanker(Factorization(2)).fit(users, items, liked), Factorization(2)
    with pytest.raises(TypeError, match="models: ids: expected integers, as the models' ids are"):
        ranker.replace(train(users, items.astype(str), liked))
    with pytest.raises(TypeError, match="models: user_ids: expected integers"):
        ranker.replace(train(users.astype(str), items, liked))


def test_scores_that_float32_cannot_weigh() -> None:
    """Weights of such models were infinite, a foreign error, or 0, and all scores equal."""
    users, items, liked = sparse_log(5, 30, 30, 6)
    rows = np.random.default_rng(0).standard_normal((2, 30, 3))
    with pytest.raises(ValueError, match="'positive' has scores whose spread is .*e.36, expected"):
        FusionRanker([SignedModel(*1e18 * rows)])
    ranker = FusionRanker([SignedModel(*1e-20 * rows)]).fit(users, items, liked)
    assert ranker.report[0].weight == 0 and np.isfinite(ranker.rank([3], 2).scores).all()
