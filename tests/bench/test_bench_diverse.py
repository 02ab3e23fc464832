"""The benchmark of selections, on tiny data."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

import farann
from bench.diverse import methods, run, spaced


def test_all_libraries_choose_the_same_rows() -> None:
    rows = np.random.default_rng(0).standard_normal((200, 3)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)  # as some go by cosines
    expected = methods.METHODS["numpy GEMV"][1](rows, 8, 5)
    for name, select in methods.available(3).items():
        if name in methods.OTHER_PICKS:
            assert len(np.unique(select(rows, 8, 5))) == 8, name
            continue
        assert select(rows, 8, 5).tolist() == expected.tolist(), name


def test_selections_are_timed_or_estimated() -> None:
    rows = np.random.default_rng(1).standard_normal((80, 4)).astype(np.float32)
    found = list(run.selections("tiny", rows, [12, 30], 60.0, ["farann", "numpy GEMV"]))
    assert [(one.method, one.k) for one in found] == [
        ("farann", 12), ("farann", 30), ("numpy GEMV", 12), ("numpy GEMV", 30)]
    assert found[0].radius == pytest.approx(found[2].radius)
    assert not any(one.estimated for one in found)
    late = list(run.selections("tiny", rows, [12], -1.0, ["numpy GEMV"]))
    assert late[0].estimated
    assert "| farann | " in run.table(found) and "~" in run.table(late)


def test_what_is_computed_and_the_diameter() -> None:
    rows = np.random.default_rng(3).standard_normal((50, 4)).astype(np.float32)
    assert 0 < run.evaluated(rows, 10) <= 1.5
    wide = rows.astype(np.float64)
    widest = np.linalg.norm(wide[:, None] - wide, axis=2).max()
    assert run.diameter(rows)[0] == pytest.approx(widest)


def test_spaced_rows_beside_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                   capsys: pytest.CaptureFixture[str]) -> None:
    rows = np.random.default_rng(3).standard_normal((2500, 3)).astype(np.float32)
    scores = np.random.default_rng(4).random(2500)
    index = farann.Index()
    index.add(rows)
    found = index.select_spaced(scores, radius=0.5)
    assert spaced.struck(rows, scores, 0.5) == (1.0, len(found.ids))
    assert spaced.separation(rows, found.ids) >= 0.5
    np.save(tmp_path / "rows.npy", rows)
    monkeypatch.setattr("sys.argv", ["spaced", "--rows", str(tmp_path / "rows.npy")])
    monkeypatch.setitem(sys.modules, "max_div", None)
    spaced.main()
    said = capsys.readouterr().out
    assert "by scores and distance: farann" in said
    assert "2,500 rows of 3 dimensions" in said and "max-div isn't installed" in said
