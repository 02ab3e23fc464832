"""The benchmark of nearest rows, on tiny data."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from bench import datasets
from bench import run as main_run
from bench.nearest import run


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
