"""The growth run: points, limits of memory and time, curves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from bench_cases import RATES, Record, a_record

from bench import growth, machine, results, run
from bench.algorithms import by_name
from bench.algorithms.base import Setting


@pytest.fixture(autouse=True)
def fixed_rates(monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine isn't measured."""
    monkeypatch.setattr(run, "measured_rates", lambda: RATES)


def climb(folder: Path, sizes: list[int], names: list[str], **more: Any) -> Path:
    """A growth run over tiny rows."""
    given: dict[str, Any] = {"wanted_recall": 0.9, "limit": 600.0, **more}
    return growth.run(
        sizes, 4, "l2", only=names, cache=folder, out=folder / "g", command=[], **given
    )


def lines_of(path: Path, kind: str) -> list[Record]:
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    return [line for line in lines if line["kind"] == kind]


def test_growth_run(tmp_path: Path) -> None:
    found = results.load(climb(tmp_path, [200, 400], ["farann", "numpy"]))
    curves = {(c["algorithm"], c["target"]): c for c in growth.curves(found.growth)}
    assert set(curves) == {("farann", "exact"), ("farann", "recall 0.9"), ("numpy", "exact")}
    for (_, target), curve in curves.items():
        for cost in growth.COSTS:
            # One by one so few rows are searched exactly, which is faster.
            if (target, cost) == ("recall 0.9", "single"):
                continue
            assert [rows for rows, _ in curve["points"][cost]] == [200, 400]
    # farann tells its bytes; those of numpy are a process's growth, which is noise at this size.
    assert curves["farann", "exact"]["exponents"]["memory"] == pytest.approx(1.0, abs=0.1)
    assert not list(tmp_path.glob("growth-*"))


def test_growth_goes_as_far_as_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The first size is judged by its rows alone, the next by what the first took.
    free = iter([1 << 40, 1 << 20])
    monkeypatch.setattr(machine, "free_bytes", lambda: next(free))
    out = climb(tmp_path, [200, 400], ["numpy"])
    assert {line["rows"] for line in lines_of(out, "growth")} == {200}
    (left,) = lines_of(out, "skipped")
    assert (left["algorithm"], left["rows"]) == ("numpy", 400)
    peak = max(line["peak_bytes"] for line in lines_of(out, "growth"))
    assert left["reason"] == f"400 rows would take about {2 * peak >> 20:,} MB, 1 are free"
    assert results.load(out).skipped == [left]


def test_memory_is_foretold_from_the_last_size(monkeypatch: pytest.MonkeyPatch) -> None:
    library = growth.Library(by_name("numpy"))
    needed = 5 * 1000 * 4 * 64 + growth.BESIDE
    for rows in (1000, 3000):
        monkeypatch.setattr(machine, "free_bytes", lambda free=needed: free)
        assert library.obstacle(rows, 64) == ""
        monkeypatch.setattr(machine, "free_bytes", lambda free=needed: free - 1)
        assert library.obstacle(rows, 64).startswith(f"{rows:,} rows would take about")
        library.saw(1000, [a_record("numpy", 1.0, 1.0, peak_bytes=1 << 26)], 1.0, 60.0)
        needed = 3 << 26


def test_growth_goes_as_far_as_time(tmp_path: Path) -> None:
    out = climb(tmp_path, [200, 400], ["numpy"], limit=0.01)
    assert lines_of(out, "growth") == []
    assert [line["reason"] for line in lines_of(out, "failure")] == ["stopped after 0 s"]
    reasons = [line["reason"] for line in lines_of(out, "skipped")]
    assert reasons == ["200 rows took longer than 0.01 s"]


def test_growth_leaves_out_what_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(growth, "measure", lambda *given: [])
    out = climb(tmp_path, [200, 400], ["numpy"])
    assert [line["reason"] for line in lines_of(out, "skipped")] == ["it failed on 200 rows"]


def test_growth_goes_on_where_it_stopped(tmp_path: Path) -> None:
    climb(tmp_path, [200], ["numpy"])
    out = climb(tmp_path, [200, 400], ["numpy"], resume=True)
    points = [(line["rows"], line["mode"]) for line in lines_of(out, "growth")]
    assert points == [(200, "batch"), (200, "single"), (400, "batch"), (400, "single")]
    curves = growth.curves(results.load(out).growth)
    assert [rows for rows, _ in curves[0]["points"]["batch"]] == [200, 400]


def test_every_label_has_curves_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = [
        Setting(searches=[{"listed": 200}]),
        Setting(searches=[{"listed": 150}, {"listed": 180}], label="most"),
        Setting(searches=[{"listed": 10}], label="few"),
        Setting(searches=[{"listed": 200}], label="apart", aside=True),
    ]
    monkeypatch.setattr(by_name("blind"), "sweep", lambda profile: settings)
    found = results.load(climb(tmp_path, [200], ["blind"], wanted_recall=0.8))
    titles = [curve["title"] for curve in growth.curves(found.growth)]
    assert titles == ["blind list, recall 0.8", "blind list (most), recall 0.8"]
