"""``python -m bench layers`` on tiny data."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench import layers, run


@pytest.mark.parametrize("layer", ["index", "Furthest", "BruteForceFurthest"])
def test_measures(layer: str) -> None:
    if layer != "index":
        pytest.importorskip("tensorflow_recommenders", reason="needs tensorflow-recommenders")
    records = list(layers.measure(rows=300, dim=4, layer=layer, seconds=0.0))
    assert [record["batch"] for record in records] == list(layers.BATCHES)
    assert all(record["recall"] == 1.0 and record["us"] > 0 for record in records)


def test_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
             capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(run, "measured_rates", dict)
    out = layers.run([(200, 4)], ["index"], 0.0, 300.0, tmp_path / "layers.jsonl", ["layers"])
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert [line["kind"] for line in lines] == ["run", "layer", "layer", "layer"]
    table = capsys.readouterr().out.splitlines()
    assert table[0].startswith("| candidates | layer | batch 1, µs a call | batch 32,")
    assert table[2].startswith("| 200 x 4 | index (bare) |") and table[2].count("|") == 8


def test_a_layer_that_fails_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                        capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(run, "measured_rates", dict)
    out = layers.run([(200, 4)], ["index"], 0.0, 0.001, tmp_path / "layers.jsonl", ["layers"])
    skipped = json.loads(out.read_text().splitlines()[1])
    assert skipped["kind"] == "skipped" and skipped["reason"].startswith("stopped after")
    with pytest.raises(ValueError, match="--only must be of index, Furthest"):
        layers.run([(200, 4)], ["faiss"], 0.0, 1.0, tmp_path / "layers.jsonl", [])
