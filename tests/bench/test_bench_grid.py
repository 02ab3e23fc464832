"""``python -m bench grid`` on tiny data: the cells, their goals and the table."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import farann
from bench import grid, run
from bench.__main__ import main


def test_ways_take_turns() -> None:
    calls: list[str] = []

    def ask(name: str) -> grid.Ask:
        return lambda queries: calls.append(f"{name}{len(queries)}")

    took = grid.timed({"a": ask("a"), "b": ask("b")}, np.zeros((70, 3), np.float32), 32, 1, 0.0)
    assert calls == [f"{name}32" for name in "bbaaaabbbbaa"]
    assert all(0 <= us < 1e6 for pair in took.values() for us in pair)


def test_the_worst_cells_are_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                   capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(grid, "BATCHES", (1, 7, 9))
    monkeypatch.setattr(run, "measured_rates", dict)
    asked = set[int]()
    search = farann.Index.search_furthest

    def search_furthest(index: farann.Index, queries: Any, k: int, **options: Any) -> Any:
        asked.add(k)
        return search(index, queries, k, **options)

    monkeypatch.setattr(farann.Index, "search_furthest", search_furthest)
    out = tmp_path / "grid.jsonl"
    monkeypatch.setattr(sys, "argv", ["bench", "grid", "--quick", "--only", "100x8", "--metrics",
                                      "l2", "--k", "20", "--seconds", "0", "--out", str(out)])
    assert main() == 0
    lines = capsys.readouterr().out.splitlines()
    assert "of 4 cells miss a goal" in lines[0] and len(lines) == 4 + 4
    records = [json.loads(line) for line in out.read_text().splitlines()]
    assert len(records) == 1 + 4 and records[0]["options"]["k"] == 20 and asked == {20}
    monkeypatch.setattr(sys, "argv", ["bench", "grid", "--only", "none"])
    assert main() == 2 and "--only must match some of glove" in capsys.readouterr().err
