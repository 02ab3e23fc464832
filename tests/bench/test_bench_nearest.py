"""The benchmark of nearest rows, on tiny data."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from bench.nearest import groups, run, worker


@pytest.mark.parametrize("metric", ["l2", "cosine"])
def test_what_a_worker_tells(metric: str, tmp_path: Path, rng: np.random.Generator,
                             capsys: pytest.CaptureFixture[str]) -> None:
    for name, n in (("rows", 400), ("queries", 20)):
        np.save(tmp_path / f"{name}.npy", rng.standard_normal((n, 8)).astype(np.float32))
    worker.main(["farann", str(tmp_path / "rows.npy"), str(tmp_path / "queries.npy"), metric, "5"])
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert lines[0]["rows"] == 400 and lines[1]["setting"] == "exact"
    assert lines[1]["recall"] == 1.0 and len(lines) == 6
    row = run.row_of(lines).split(" | ")
    assert row[0] == "| farann" and row[-1].startswith("1.0000, ")
    assert len(row) == len(run.head().split("\n")[0].split(" | "))


def test_groups_are_timed(capsys: pytest.CaptureFixture[str]) -> None:
    groups.run(rows=1200, dim=4, groups=6, repeats=1)
    assert capsys.readouterr().out.count(" ms\n") == 15
