"""The plug-in for ann-benchmarks, loaded from module and config as that project does."""

from __future__ import annotations

import importlib
import itertools
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from bench_cases import sample

from bench import measures

FOLDER = Path(measures.__file__).parent / "ann_benchmarks"



@pytest.fixture
def ann_benchmarks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A place laid out as ann-benchmarks is, with the base class that it gives."""
    base = tmp_path / "ann_benchmarks" / "algorithms" / "base"
    base.mkdir(parents=True)
    (base / "module.py").write_text(
        "class BaseANN:\n    def get_batch_results(self):\n        return self.res\n"
    )
    shutil.copytree(FOLDER, base.parent / "farann")
    monkeypatch.syspath_prepend(tmp_path)
    yield base.parent
    for name in [name for name in sys.modules if name.partition(".")[0] == "ann_benchmarks"]:
        del sys.modules[name]


def definitions(folder: Path, metric: str) -> dict[str, Any]:
    """Constructed algorithms by name, as ann-benchmarks makes them from config.yml."""
    config = yaml.safe_load((folder / "farann" / "config.yml").read_text())["float"]
    made = {}
    for entry in config["any"] + config.get(metric, []):
        module = importlib.import_module(f"{entry['module']}.module")
        for group in entry["run_groups"].values():
            for chosen in itertools.product(*group["args"]):
                given = [metric if a == "@metric" else a for a in entry["base_args"]]
                made[entry["name"]] = getattr(module, entry["constructor"])(*given, *chosen)
    return made


@pytest.mark.parametrize(
    ("metric", "own", "names"),
    [
        ("angular", "cosine", ["farann", "farann-furthest", "farann-approximate"]),
        ("euclidean", "l2", ["farann"]),
        ("ip", "dot", ["farann"]),
    ],
)
def test_plug_in_for_ann_benchmarks(
    metric: str, own: str, names: list[str], ann_benchmarks: Path
) -> None:
    rows, queries = sample(19, 300, 6), sample(20, 7, 6)
    nearest = measures.furthest(rows, queries, len(rows), own)[0][:, ::-1][:, :4]
    made = definitions(ann_benchmarks, metric)
    assert list(made) == names
    for name, algorithm in made.items():
        algorithm.fit(rows)
        algorithm.set_query_arguments()
        algorithm.batch_query(queries, 4)
        np.testing.assert_array_equal(algorithm.get_batch_results(), nearest)
        np.testing.assert_array_equal(algorithm.query(queries[0], 4), nearest[0])
        side = "furthest" if "furthest" in name else "nearest"
        assert str(algorithm) == f"farann({side})"
        algorithm.set_query_arguments("recall", 0.9)
        assert str(algorithm) == f"farann({side}, recall=0.9)"
        assert np.isin(algorithm.query(queries[0], 4), nearest[0]).mean() >= 0.5


def test_plug_in_for_ann_benchmarks_checks_arguments(ann_benchmarks: Path) -> None:
    plug_in = importlib.import_module("ann_benchmarks.algorithms.farann.module")
    assert ann_benchmarks in Path(plug_in.__file__ or "").parents
    for arguments, words in [
        (["hamming"], "metric must be one of .*, got 'hamming'"),
        (["ip", "left"], "side must be 'nearest' or 'furthest', got 'left'"),
        (["euclidean", "furthest"], "side must be 'nearest' under 'euclidean', got 'furthest'"),
    ]:
        with pytest.raises(ValueError, match=words):
            plug_in.Farann(*arguments)
