"""``python -m bench edge`` on tiny data: what is generated, counted, compared and shown."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import inside
import numpy as np
import pytest

import farann
from bench import __main__ as command
from bench import run as main_run
from bench.algorithms import by_name
from bench.edge import cases, data, run, worker
from bench.fetch import Unavailable

SCALE = 0.005
PEERS = sorted({peer for case in cases.CASES for peer in case.peers} - {"numpy"})


@pytest.fixture(autouse=True)
def timed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test asks for the best of three timings; those of whole runs, in processes, have it."""
    monkeypatch.setattr(worker, "_FEWEST", 1)
    monkeypatch.setattr(worker, "_BUILDS", 1)


# Data


@pytest.mark.parametrize("name", sorted(data.GENERATORS.keys() - data.REAL.keys()))
def test_every_generator_gives_rows_and_queries_by_its_seed(name: str) -> None:
    rows, queries = data.GENERATORS[name](120, 7, 3)
    assert len(rows) == 120 and len(queries) == 7 and rows.shape[1] == queries.shape[1]
    assert rows.dtype == queries.dtype == np.float32
    assert np.isfinite(rows).all() and rows.any(axis=1).all() and queries.any(axis=1).all()
    again, _ = data.GENERATORS[name](120, 7, 3)
    other, _ = data.GENERATORS[name](120, 7, 4)
    np.testing.assert_array_equal(rows, again)
    assert not np.array_equal(rows, other)


# Cases


def test_cases_have_distinct_names_and_make_sense() -> None:
    names = [case.name for case in cases.CASES]
    assert len(names) == len(set(names))
    for case in cases.CASES:
        assert case.data in data.GENERATORS and case.metric in ("l2", "dot", "cosine")
        labels = [way.label for way in case.ways]
        assert len(labels) == len(set(labels)), case.name
        assert all(way.against in labels or way.against == "" for way in case.ways), case.name
        for peer in case.peers:
            assert case.metric in by_name(peer).metrics


def test_matching() -> None:
    assert [case.name for case in cases.matching(["wide", "tiny-*"])] == [
        "wide", "tiny-100", "tiny-1000"]
    assert cases.matching(None) == list(cases.CASES)
    with pytest.raises(ValueError, match="--only must be of recall-alike-l2, .*, got 'nothing'"):
        cases.matching(["tiny-*", "nothing"])


# Measuring


def measured(name: str, who: str = "farann", scale: float = SCALE,
             **changes: Any) -> list[dict[str, Any]]:
    case = replace(cases.named(name), queries=8, **changes)
    problem = worker.Problem.of(case, *case.make(scale))
    return list(worker.measure(problem, who, 0.0))


def of(records: list[dict[str, Any]], label: str, mode: str) -> dict[str, Any]:
    found = [r for r in records if r["label"] == label and r["mode"] == mode]
    assert len(found) == 1, (label, mode)
    return found[0]


@pytest.mark.parametrize("name", [case.name for case in cases.CASES if case.data not in data.REAL])
def test_farann_in_every_case(name: str) -> None:
    case = cases.named(name)
    scale = SCALE if case.rows < 500_000 else 0.001
    records = measured(name, scale=scale)
    expected = {(way.label, mode) for way in case.ways for mode in way.modes or case.modes}
    assert {(r["label"], r["mode"]) for r in records} == expected and len(records) == len(expected)
    for record in records:
        assert record["us"] > 0 and record["counted"] > 0
        # The first rows twice, where codes are given up.
        assert 0 < record["scanned"] <= max(1000, int(case.rows * scale) + 256)
        if record["asked"] == 1:
            assert record["recall"] == 1.0, record


@pytest.mark.parametrize("name", [
    case.name for case in cases.CASES if "recall-" in case.name and case.metric == "l2"])
def test_recall_that_is_asked_of_unlike_queries(name: str) -> None:
    if name == "small-recall":
        pytest.skip("its queries are like the rows")
    records = measured(name, scale=0.05)
    alike = "alike" in name
    for record in records:
        assert record["recall"] >= record["asked"] - (0.1 if alike else 0.01), record
        assert record["guarded"] == 0 or not alike
    assert alike or of(records, "0.95", "batch")["guarded"] == 1
    assert ("100%" in run.table(
        [{"case": name, "title": name, "shape": "", **record} for record in records])) != alike


def test_filters_are_those_that_are_named() -> None:
    case = replace(cases.named("filters"), queries=3)
    problem = worker.Problem.of(case, *case.make(SCALE))
    n = len(problem.rows)
    for kind, share in (("mask", 0.24), ("ids", 0.5)):
        allowed = worker.Chosen.of((kind, share), problem).keywords()["allowed"]
        ids = np.flatnonzero(allowed) if kind == "mask" else allowed
        assert len(ids) == len(set(ids.tolist())) == int(share * n)
        assert (allowed.dtype == bool) == (kind == "mask")
    chosen = worker.Chosen.of(("exclude", 400), problem)
    exclude = chosen.keywords()["exclude"]
    assert exclude.shape == (3, 400) and all(len(set(row)) == 400 for row in exclude.tolist())
    np.testing.assert_array_equal(chosen.keywords(1)["exclude"], exclude[1])
    # Answers that a filter forbids are no answers: recall knows by the scores.
    wrong = worker.Chosen.of(("mask", 0.1), problem)
    index = farann.Index(metric=case.metric)
    index.add(problem.rows)
    right = index.search_furthest(problem.queries, problem.k, **wrong.keywords()).ids
    assert problem.recall(right, wrong) == 1.0
    assert problem.recall(right, worker.Chosen.of(None, problem)) < 0.5


def test_streamed_rows_are_all_found_and_scanned() -> None:
    records = measured("stream")
    assert of(records, "streamed", "batch")["scanned"] >= 400
    assert of(records, "streamed", "batch")["recall"] == 1.0


def test_peers_answer_the_same_question() -> None:
    for name in ("wide", "histograms", "k-10000"):
        for record in measured(name, "numpy"):
            assert record["recall"] == pytest.approx(1.0, abs=0.01) and record["us"] > 0
            assert "counted" not in record


@pytest.mark.parametrize("who", PEERS)
def test_every_peer_where_it_is_installed(who: str) -> None:
    if reason := by_name(who).missing():
        pytest.skip(reason)
    records = measured("filters" if who == "faiss-flat" else "glove-50000", who,
                       data="clusters-64", rows=400_000)
    assert all(record["recall"] > 0 for record in records)
    if who == "faiss-flat":
        assert len({str(record["only"]) for record in records}) == 13
        assert all(record["recall"] == 1.0 for record in records)


# Running


@pytest.fixture
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """No rates of the machine, and no peers but numpy."""
    monkeypatch.setattr(main_run, "measured_rates", dict)
    for peer in PEERS:
        monkeypatch.setattr(by_name(peer), "missing", classmethod(lambda cls: "not here"))


@pytest.mark.usefixtures("quiet")
def test_runs_without_peers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                            capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "edge.jsonl"
    monkeypatch.setattr(sys, "argv", ["bench", "edge", "--only", "wide", "--scale", "0.01",
                                      "--seconds", "0", "--out", str(out)])
    assert command.main() == 0
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert [(line["kind"], line.get("who")) for line in lines] == [
        ("run", None), ("skipped", None), ("skipped", None), ("edge", "farann"), ("edge", "numpy")]
    assert lines[1]["what"] == "faiss-flat" and lines[1]["reason"] == "not here"
    shown = capsys.readouterr()
    assert "left out: faiss-flat: not here" in shown.err
    rows = [line for line in shown.out.splitlines() if line.startswith("|")]
    assert len(rows) == 3 and len({row.count("|") for row in rows}) == 1
    assert rows[2].startswith("| 1,000 x 1,024, dot, 1,000 x 1024 | exact | batch | 1 | 1.000 |")


@pytest.mark.usefixtures("quiet")
def test_what_cannot_be_had_or_fails_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                                 capsys: pytest.CaptureFixture[str]) -> None:
    def unavailable(count: int, asked: int, seed: int) -> data.Made:
        raise Unavailable("GloVe: no network")

    monkeypatch.setitem(data.GENERATORS, "glove", unavailable)
    chosen = [cases.named("glove"), cases.named("tiny-100")]
    out = run.run(chosen, 1.0, 0.0, 0.001, tmp_path / "edge.jsonl", [])
    skipped = [line for line in map(json.loads, out.read_text().splitlines())
               if line["kind"] == "skipped"]
    reasons = {line["what"]: line["reason"] for line in skipped}
    assert reasons["glove"] == "GloVe: no network"
    assert reasons["farann on tiny-100"].startswith("stopped after")
    assert len(capsys.readouterr().out.splitlines()) == 2  # the head of the table
    with pytest.raises(ValueError, match="--scale must be above 0, got 0"):
        run.run(chosen, 0, 0.0, 1.0, tmp_path / "edge.jsonl", [])


def a_record(**values: Any) -> dict[str, Any]:
    return {"case": "a", "title": "A", "shape": "9 x 2", "library": "farann", "label": "",
            "against": "", "only": None, "mode": "single", "asked": 1.0, "recall": 1.0, "us": 10.0,
            "scanned": 9.0, "rescored": 1.0, "counted": 1.0, **values}


def test_ratios_are_with_the_fastest_of_the_same_recall() -> None:
    ours = a_record(recall=0.95, asked=0.95)
    rivals = [a_record(library="faiss", us=40.0, recall=1.0),
              a_record(library="faiss", us=20.0, recall=0.9495),
              a_record(library="faiss", us=5.0, recall=0.9),
              a_record(library="faiss", us=1.0, mode="batch"),
              a_record(library="faiss", us=1.0, only=["mask", 0.5]),
              a_record(library="faiss", us=1.0, case="b"),
              a_record(library="numpy", us=1.0, recall=0.5)]
    best = run.fastest(rivals, ours, "faiss")
    assert best is rivals[1]
    assert run.fastest(rivals, ours, "numpy") is None
    row = run.table([ours, *rivals]).splitlines()[2]
    assert row.split(" | ")[6:9] == ["0.50", "", ""]


def test_the_table_marks_what_is_slower_or_short() -> None:
    usual = a_record()
    callers = a_record(label="callers", mode="callers 2", us=30.0)
    short = a_record(label="0.95", asked=0.95, recall=0.9, us=9.0)
    masked = a_record(label="mask", only=["mask", 0.5], us=30.0, reading=20.0)
    row = run.table([usual, masked]).splitlines()[3]
    assert row.split(" | ")[10] == "1.00"  # of the usual way and a mask that is read
    rows = [row.split(" | ") for row in run.table([usual, callers, short]).splitlines()[2:]]
    assert [row[10] for row in rows] == ["", "**3.00**", "0.90"]
    assert [row[4] for row in rows] == ["1.000", "1.000", "**0.900**"]


# Counted work


def test_cost_over_a_plain_scan() -> None:
    plain = worker.plain_scan(5, 3000, 16, 10)
    assert (plain.queries, plain.rows_scanned, plain.rows_rescored) == (5, 15_000, 50)
    assert plain.float_products == 5 * 3000 * 16 and plain.blocks_scanned == 15
    for isa in inside.levels():
        assert worker.over_plain(plain, 3000, 16, 10, isa) == pytest.approx(1)
        more = plain._replace(rows_rescored=15_000)
        expected = inside.runtime.cost_of(more, 16, isa) / inside.runtime.cost_of(plain, 16, isa)
        assert expected > 1
        assert worker.over_plain(more, 3000, 16, 10, isa) == pytest.approx(expected)
