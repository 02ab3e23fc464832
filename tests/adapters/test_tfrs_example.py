"""The examples of two retrieval models, on made-up ratings in the place of MovieLens."""

from __future__ import annotations

import importlib
import runpy
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tfrs_cases  # noqa: F401  skips where TensorFlow is missing

# Keras and TensorFlow warn of what they do themselves.
pytestmark = pytest.mark.filterwarnings("ignore")
FOLDER = Path(__file__).parents[2] / "examples"


def write_ratings(path: Path, n_items: int, n: int) -> None:
    """Two groups of users; each likes one half of the items and dislikes the other."""
    rng = np.random.default_rng(0)
    users, items = np.divmod(rng.permutation(60 * n_items)[:n], n_items)
    stars = np.where((users + items) % 2 == 0, 5, 1)
    lines = ["user_id:token\titem_id:token\trating:float",
             *(f"u{u}\ti{i}\t{s}" for u, i, s in zip(users, items, stars, strict=True))]
    path.write_text("\n".join(lines) + "\n")


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str]) -> Callable[..., list[str]]:
    """Run an example in this process, which has TensorFlow; gives the lines that it prints."""

    def lines_of(script: str, ratings: Path, *options: str) -> list[str]:
        monkeypatch.syspath_prepend(str(FOLDER))
        monkeypatch.setattr(sys, "argv", [script, "--ratings", str(ratings), "--batch", "64",
                                          "--epochs", "10", *options])
        capsys.readouterr()
        runpy.run_path(str(FOLDER / script), run_name="__main__")
        return capsys.readouterr().out.splitlines()

    return lines_of


def numbers(line: str) -> list[float]:
    return [float(word) for word in line.split() if word[:2] in ("0.", "1.")]


@pytest.mark.parametrize("options", [[], ["--uniform-negatives", "16", "--logq"]])
def test_two_towers(tmp_path: Path, run: Callable[..., list[str]], options: list[str]) -> None:
    write_ratings(tmp_path / "ratings.inter", 40, 1600)
    lines = run("tfrs_two_towers.py", tmp_path / "ratings.inter", *options)
    assert lines[0].startswith("1,600 ratings by 60 users of 40 films")
    by_likes, by_dislikes = numbers(next(line for line in lines if "AUC" in line))
    assert by_likes > 0.9 and by_dislikes > 0.9
    assert lines[-1].endswith("loading: True, and served without farann: True")


def test_posneg(tmp_path: Path, run: Callable[..., list[str]]) -> None:
    write_ratings(tmp_path / "ratings.inter", 60, 3000)
    lines = run("tfrs_posneg.py", tmp_path / "ratings.inter", "--folds", "2", "--dim", "8",
                "--batch", "128")
    assert lines[0].startswith("3,000 ratings by 60 users of 60 films")
    assert lines[1].startswith("trained three models 3 times")
    assert [line.partition(":")[0] for line in lines[2:5]] == ["  positive", "  negative",
                                                               "  signed"]
    # User u0 likes the even items.
    best = next(line for line in lines if line.startswith("  likely to be liked if watched"))
    assert all(int(item.strip()[1:]) % 2 == 0 for item in best.partition(":")[2].split(";"))
    this = next(line for line in lines if line.startswith("| this ranker"))
    assert float(this.split("|")[-2].split()[0]) > 0.9  # its AUC
    for name in ("model of likes alone", "plain average of two", "all three, cross-fitted"):
        line = next(line for line in lines if line.startswith(name))
        recall, disliked = numbers(line[40:])
        assert recall > 0.3 and disliked < 0.1
    assert lines[-1].endswith("loading: True, and served without farann: True")


def test_made_up_ratings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(FOLDER))
    movielens = importlib.import_module("movielens")

    def nothing() -> None:
        raise ImportError("not here")

    monkeypatch.setattr(movielens.data, "load_films", nothing)
    made = movielens.load()
    assert len(made.users) == len(made.items) == len(made.stars) == 60_000
    assert made.titles[made.items[0]].endswith(f"No. {int(made.items[0]) + 1}")


def test_click_log(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["tfrs_click_log.py", "--rows", "3000", "--epochs", "8",
                                      "--batch", "256", "--dim", "8"])
    monkeypatch.syspath_prepend(str(FOLDER))
    runpy.run_path(str(FOLDER / "tfrs_click_log.py"), run_name="__main__")
    lines = capsys.readouterr().out.splitlines()
    at = next(i for i, line in enumerate(lines) if line.startswith("the best 50"))
    shown, every = ({line[:32].strip(): numbers(line[32:]) for line in part}
                    for part in (lines[:at], lines[at:]))
    assert 0.6 < shown["fusion of both"][0] < shown["the chances that made the log"][0]
    assert shown["model of clicks alone"][0] > 0.6
    assert len(every["model of clicks alone"]) == len(every["as the ranker lists all items"]) == 2
    assert lines[-1].endswith("loading: True, and served without farann: True")
