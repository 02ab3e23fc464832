"""The benchmark of selections, on tiny data."""

from __future__ import annotations

import numpy as np
import pytest

from bench.diverse import methods, run


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
