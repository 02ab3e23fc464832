"""``python -m bench turns`` and the audit of exact libraries, on tiny data."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from bench import audit, datasets, turns
from bench import run as main_run
from bench.__main__ import main
from bench.algorithms.base import Rows


@pytest.mark.parametrize("options", [[], ["--nearest"], ["--nearest", "--exact"]], ids=" ".join)
def test_all_cells_of_a_set(options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str],
                            monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator) -> None:
    datasets.store(tmp_path / "glove", *(rng.standard_normal((n, 8)).astype(np.float32)
                                         for n in (400, 20)))
    monkeypatch.setattr(main_run, "measured_rates", dict)
    monkeypatch.setattr(turns, "BATCHES", (1, 7, 20))
    out = tmp_path / "turns.jsonl"
    monkeypatch.setattr(sys, "argv", ["bench", "turns", *options, "--data", "glove-l2", "--only",
                                      "farann,numpy,blind,mlpack", "--seconds", "0", "--cache",
                                      str(tmp_path), "--out", str(out), "--k", "5"])
    assert main() == 0
    _, *found = [json.loads(line) for line in out.read_text().splitlines()]
    exact = [line for line in found if line["target"] == 1]
    cells = {(line["title"], line["batch"], line["threads"]) for line in exact}
    assert cells == {(title, batch, threads) for title in ("farann", "numpy GEMM + argpartition")
                     for batch in (1, 7, 20) for threads in (1, 2)} and len(exact) == len(cells)
    assert all(line["recall"] == 1.0 and line["us_all"] for line in exact)
    assert all(line["recall"] >= line["target"] - 1e-9 for line in found)
    targets = {1.0} if "--exact" in options else {1.0, 0.99, 0.95}
    assert {line["target"] for line in found} == targets
    text = capsys.readouterr().out
    assert "| farann | 1.0000 | " in text and "µs a query (rounds)" in text


def test_hopeless_ways_get_no_more_rounds() -> None:
    def spin(seconds: float) -> None:
        end = time.process_time() + seconds
        while time.process_time() < end:
            pass

    took = turns.timed({"a": lambda number: spin(0.002), "b": lambda number: spin(0.012),
                        "c": lambda number: spin(0.04)}, 0.0, hopeless=4.0)
    assert {key: len(rounds) for key, rounds in took.items()} == {"a": 3, "b": 2, "c": 1}
    assert turns.asked_in(1000, 300) == 300 and turns.asked_in(10, 300) == 60


def test_before_two_threads_others_fall_asleep(monkeypatch: pytest.MonkeyPatch) -> None:
    asleep, calls = list[float](), list[tuple[str, int]]()
    monkeypatch.setattr("bench.turns.time.sleep", asleep.append)
    took = turns.timed({"a": lambda number: calls.append(("a", number)),
                        "b": lambda number: calls.append(("b", number))}, 0.0, rest=turns.REST)
    assert {key: len(rounds) for key, rounds in took.items()} == {"a": 10, "b": 10}
    assert asleep == [turns.REST] * 20
    for key in "ab":
        assert [n for name, n in calls if name == key and n >= 0] == list(range(10))
    untimed = [n for _, n in calls if n < 0]
    assert untimed == list(range(-1, -len(untimed) - 1, -1)) and len(untimed) >= 20


def test_rounds_have_other_queries() -> None:
    queries = np.arange(1000, dtype=np.float32)[:, None]
    for batch in (1, 10, 256, 1000):
        rounds = [np.concatenate(turns.of_round(queries, batch, number)) for number in range(-3, 9)]
        assert {len(some) for some in rounds} == {turns.asked_in(batch, 1000)}
        assert len({some.tobytes() for some in rounds}) == (12 if batch < 1000 else 1)
    assert [len(some) for some in turns.of_round(queries, 300, 2)] == [300]


def test_audit(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(rows: Rows, metric: str) -> audit.Search:
        raise ImportError("no such library")

    monkeypatch.setitem(audit.LIBRARIES, "none", ("none", missing))
    for metric in ("l2", "cosine"):
        lines = audit.audit(["farann", "none", "numpy"], audit.sets(2000, 20), metric).splitlines()
        assert lines[2] == f"| farann{3 * ' | 0 / 0 / 0 / 0'} |" and len(lines) == 4
        single, batch, *_ = lines[3].split(" | ")[2].split(" / ")  # offset of 1,000
        assert int(single) > 20 and int(batch) > 20
