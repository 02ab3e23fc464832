"""The bench's tricks: where they are right, and where they aren't."""

from __future__ import annotations

import numpy as np
import pytest
from bench_cases import sample

from bench import tricks


def test_an_added_coordinate_is_right_where_float32_is_exact() -> None:
    rows = np.unique(np.random.default_rng(0).integers(0, 9, (300, 4)).astype(np.float32), axis=0)
    assert tricks.one_more_coordinate(rows, rows[:20]) == (0.0, 0.0)


def test_an_added_coordinate_is_wrong_far_from_the_origin() -> None:
    wrong, disordered = tricks.one_more_coordinate(sample(0, 2000, 8, 1e4), sample(1, 30, 8, 1e4))
    assert 0.5 < wrong <= disordered <= 1


def test_a_graph_finds_fewer_furthest_rows_than_nearest() -> None:
    """Where no row is near a negated query, as all coordinates are positive."""
    pytest.importorskip("hnswlib")
    found = tricks.negated(np.abs(sample(0, 3000, 24)), np.abs(sample(1, 50, 24)))
    assert [effort for effort, _, _ in found] == [32, 128, 512]
    assert all(0.5 < furthest <= 1 and 0.9 < nearest <= 1 for _, nearest, furthest in found)
    assert found[0][2] + 0.1 < found[0][1]
