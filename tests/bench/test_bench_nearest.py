"""The benchmark of nearest rows, on tiny data."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from bench import datasets
from bench import run as main_run
from bench.nearest import audit, run


@pytest.mark.parametrize("metric", ["l2", "cosine"])
def test_what_a_library_takes(metric: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                              rng: np.random.Generator) -> None:
    datasets.store(tmp_path / "glove", *(rng.standard_normal((n, 8)).astype(np.float32)
                                         for n in (400, 20)))
    monkeypatch.setattr(main_run, "measured_rates", dict)
    out = tmp_path / "nearest.jsonl"
    table = run.run(tmp_path, [f"glove-{metric}"], ["farann"], 5, out, []).splitlines()
    _, built, *found = [json.loads(line) for line in out.read_text().splitlines()]
    assert built["rows"] == 400 and found[0]["setting"] == "exact" and len(found) == 5
    assert found[0]["recall"] == 1.0
    assert table[4].startswith("| farann | ") and " | 1.0000, " in table[4]


def test_audit(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(rows: audit.Rows) -> audit.Search:
        raise ImportError("no such library")

    monkeypatch.setitem(audit.LIBRARIES, "none", ("none", missing))
    lines = audit.audit(["farann", "none", "numpy"], audit.sets(2000, 20)).splitlines()
    assert lines[2] == f"| farann{3 * ' | 0 / 0 / 0 / 0'} |" and len(lines) == 4
    single, batch, *_ = lines[3].split(" | ")[2].split(" / ")  # offset of 1,000
    assert int(single) > 20 and int(batch) > 20
