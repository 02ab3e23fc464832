"""``farann posneg evaluate``, on logs that are made here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from farann.cli import main

USERS, N = 30, 40
RNG = np.random.default_rng(1)
TASTE = [RNG.standard_normal((USERS, 3), dtype=np.float32) for _ in range(2)]
CHARM = [RNG.standard_normal((N, 3), dtype=np.float32) for _ in range(2)]
PAIRS = RNG.permutation(USERS * N)[:900]
WHO, WHAT = PAIRS // N, PAIRS % N
LIKE = ((TASTE[0][WHO] * CHARM[0][WHAT]).sum(axis=1)
        - (TASTE[1][WHO] * CHARM[1][WHAT]).sum(axis=1))
STARS = np.clip(np.round(3 + LIKE + RNG.standard_normal(900)), 1, 5).astype(int)


def write(path: Path, lines: list[str]) -> str:
    path.write_text("\n".join(lines) + "\n", "utf-8")
    return str(path)


@pytest.fixture
def log(tmp_path: Path) -> str:
    lines = ["when,user,movie,stars"]
    lines += [f"2024-01-{1 + i // 40:02},u{WHO[i]},m{WHAT[i]},{STARS[i]}" for i in range(900)]
    return write(tmp_path / "log.csv", lines)


def answer(capsys: Any, *arguments: str) -> dict[str, Any]:
    assert main(["posneg", "evaluate", *arguments, "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_models_are_trained_on_the_log(log: str, capsys: pytest.CaptureFixture[str]) -> None:
    ratings = ["--liked", "4", "--disliked", "2", "--dim", "3", "-k", "3"]
    assert main(["posneg", "evaluate", log, "--columns", "user,movie,stars,when", *ratings]) == 0
    said = capsys.readouterr()
    for name in ("positive", "graph", "items' record", "this ranker"):
        assert f"| {name} |" in said.out
    assert "against '" in said.out
    neutral = int(((STARS > 2) & (STARS < 4)).sum())
    assert f"{neutral} ratings are neither likes nor dislikes" in said.err
    timeless = answer(capsys, log, "--columns", "user,movie,stars", *ratings, "-q")
    assert timeless["labels"] == pytest.approx(0.3 * (900 - neutral), rel=0.1)
    assert timeless["rows"][-1]["name"] == "this ranker" and len(timeless["best"]) == 2
    assert timeless["k"] == 3 and [each["name"] for each in timeless["models"]] == [
        "positive", "fine", "negative", "logistic", "graph"]
    assert {"calibration_error", "findings", "warnings"} <= timeless.keys()


def test_models_of_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = ["user\titem\tlabel"] + [f"u{WHO[i]}\t{WHAT[i]}\t{1 if LIKE[i] > 0 else -1}"
                                     for i in range(900)] + ["stranger\t1\t1"]
    log = write(tmp_path / "log.tsv", lines)
    order = RNG.permutation(USERS)
    files = []
    for i, sign in enumerate(("likes", "dislikes")):
        np.save(tmp_path / f"items{i}.npy", CHARM[i] * 9**i)  # on a scale of its own
        np.save(tmp_path / f"users{i}.npy", TASTE[i][order])
        files += ["--model", sign, str(tmp_path / f"items{i}.npy"), str(tmp_path / f"users{i}.npy")]
    ids = write(tmp_path / "users.txt", [f"u{i}" for i in order])
    found = answer(capsys, log, *files, "--user-ids", ids, "--test", "0.4")
    rows = {row["name"]: row for row in found["rows"]}
    assert (rows["this ranker"]["auc"]["mean"] > 0.97
            > rows["likes 1"]["auc"]["mean"])
    assert "Among shown items: use this ranker" in found["advice"]
    parquet = pytest.importorskip("pyarrow.parquet")
    table = __import__("pyarrow").table({
        "user": [f"u{i}" for i in WHO], "item": WHAT.astype(float), "label": LIKE > 0})
    parquet.write_table(table, tmp_path / "log.parquet")
    again = answer(capsys, str(tmp_path / "log.parquet"), *files, "--user-ids", ids, "--test",
                   "0.4")
    assert again["rows"][0]["auc"] == rows["likes 1"]["auc"]


@pytest.mark.parametrize(("lines", "options", "error"), [
    (["user,item"], [], "expected a column 'label', got user, item"),
    (["user,item,label"], [], "expected feedback, got none"),
    (["user,item,label", "1,2"], [], "line 2: expected 3 fields"),
    (["user,item,label", "1,2,good"], [], "row 0: expected a number as label, got 'good'"),
    (["user,item,label", "1,2,nan"], [], "row 0: expected a number as label"),
    (["user,item,label", ",2,1"], [], "row 0: expected a user and an item"),
    (["user,item,rating", "1,2,5"], [], "got 5 to 5; for ratings give --liked"),
    (["user,item,rating", "1,2,5"], ["--liked", "4"], "expected both"),
    (["user,item,label,time", "1,2,1,soon"], [], "expected a number as time, got 'soon'"),
    (["user,item,label", "1,2,1"], ["--columns", "a,b"], "--columns: expected the names"),
    (["user,item,label", "1,2,1"], ["--test", "1"], "--test: expected a share"),
    (["user,item,label", "1,2,1"], ["--model", "hates", "a", "b"], "--model: expected likes"),
    (["user,item,label", "1,2,1"], ["--item-ids", "a"], "are for the rows of --model"),
])
def test_errors_say_what_to_do(lines: list[str], options: list[str], error: str, tmp_path: Path,
                               capsys: pytest.CaptureFixture[str]) -> None:
    log = write(tmp_path / "log.csv", lines)
    assert main(["posneg", "evaluate", log, *options]) == 2
    assert error in capsys.readouterr().err


def test_other_files_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["posneg", "evaluate", "log.txt"]) == 2
    assert "logs are .csv, .tsv or .parquet" in capsys.readouterr().err
    (tmp_path / "log.csv").write_bytes(b"user,item,label\n\xff,1,1\n")
    assert main(["posneg", "evaluate", str(tmp_path / "log.csv")]) == 2
    assert "expected text in UTF-8" in capsys.readouterr().err
