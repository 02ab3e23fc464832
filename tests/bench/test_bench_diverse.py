"""The benchmark of selections, on tiny data."""

from __future__ import annotations

import numpy as np

from bench.diverse import run


def test_all_libraries_choose_the_same_rows() -> None:
    rows = np.random.default_rng(0).standard_normal((200, 3)).astype(np.float32)
    expected = run.METHODS["numpy GEMV"][1](rows, 8, 5)
    for name, select in run.available(3).items():
        if name != "fpsample buckets":
            assert select(rows, 8, 5).tolist() == expected.tolist(), name


def test_selections_are_timed_or_estimated() -> None:
    rows = np.random.default_rng(1).standard_normal((80, 4)).astype(np.float32)
    found = list(run.selections("tiny", rows, [12, 30], 60.0, ["farann", "numpy GEMV"]))
    assert [(one.method, one.k, one.estimated) for one in found] == [
        ("farann", 12, False), ("farann", 30, False), ("numpy GEMV", 12, False),
        ("numpy GEMV", 30, False)]
    late = list(run.selections("tiny", rows, [12], -1.0, ["numpy GEMV"]))
    assert "| farann | " in run.table(found) and "~" in run.table(late)
