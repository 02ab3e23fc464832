"""Collectors of the core: each is for one task, and brings what its question needs."""

from __future__ import annotations

from collections.abc import Callable

import inside
import numpy as np
import pytest
from cases import index_of
from inside import core


@pytest.fixture
def snapshot(rng: np.random.Generator) -> core.Snapshot:
    index = index_of(rng.standard_normal((100, 6), dtype=np.float32), "l2").build()
    return inside.store.snapshot_of(index)


@pytest.mark.parametrize("collector", [
    lambda: core.RangeCollector(np.ones(2)), lambda: core.NearestBeyondCollector(3, np.ones(4))])
def test_there_is_a_radius_for_each_query(
        snapshot: core.Snapshot, collector: Callable[[], core.Collector]) -> None:
    with pytest.raises(ValueError, match="radius for each query"):
        inside.native.task_of(snapshot, np.ones((3, 6), np.float32), 3, collector=collector())


@pytest.mark.parametrize(("per_group", "n"), [(0, 100), (-1, 100), (1, 99)])
def test_each_row_has_a_group(snapshot: core.Snapshot, per_group: int, n: int) -> None:
    collector = core.GroupedCollector(3, per_group, np.zeros(n, np.int32))
    with pytest.raises(ValueError, match="each row must have a group"):
        inside.native.task_of(snapshot, np.ones((3, 6), np.float32), 3, collector=collector)
    with pytest.raises(ValueError, match="each row must have a group"):
        core.SetSearch(snapshot, core.Filter(snapshot), np.ones((2, 6)), np.array([0, 2]), 0, 3,
                       per_group=per_group or -1, by_slot=np.zeros(n, np.int32))


def test_a_collector_is_for_one_task(snapshot: core.Snapshot) -> None:
    """Another task would replace the memory that the first one writes to."""
    queries, collector = np.ones((3, 6), np.float32), core.Collector(4)
    task = inside.native.task_of(snapshot, queries, 4, collector=collector)
    with pytest.raises(ValueError, match="for one task"):
        inside.native.task_of(snapshot, queries, 4, collector=collector)
    found = inside.native.run(task, 3, 4)
    again = inside.native.run(inside.native.task_of(snapshot, queries, 4), 3, 4)
    assert np.array_equal(found.ids, again.ids)


def test_a_search_for_sets_has_no_methods_of_tasks() -> None:
    """They read fields that it never set."""
    assert not issubclass(core.SetSearch, core.Task)
    assert not hasattr(core.SetSearch, "n_in_line") and not hasattr(core.SetSearch, "rule_out")
