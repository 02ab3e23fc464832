"""What each mechanism of the search saves, on a small set."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bench import datasets
from bench.ablate import mechanisms, run
from bench.datasets import DataSet


@pytest.fixture
def data(tmp_path: Path) -> DataSet:
    """Rows near few directions, most queries of one kind."""
    rng = np.random.default_rng(5)
    shape = rng.standard_normal((12, 64), dtype=np.float32)
    rows, queries, sample = (rng.standard_normal((n, 12), dtype=np.float32) @ shape
                             for n in (9000, 120, 400))
    datasets.store(tmp_path, rows, queries, sample)
    return DataSet("small-dot", "Small, dot", "dot", tmp_path)


def test_a_mechanism_that_is_used_changes_what_is_counted(data: DataSet) -> None:
    found = list(run.ablate(data, mechanisms.chosen(["axes", "hubs"]), 0.0))
    assert [(saved.way, saved.mode) for saved in found[:4]] == [
        ("exact", "batch"), ("exact", "single"), ("0.95", "batch"), ("0.95", "single")]
    used = {saved.mechanism: saved.used for saved in found}
    assert used == {"axes": True, "hubs": False}
    assert all(saved.time > 0.0 and saved.lines > 3 for saved in found)


def test_all_is_as_it_was_afterwards() -> None:
    for mechanism in mechanisms.MECHANISMS:
        before = [getattr(where, what) for where, what, _ in mechanism.patches]
        with mechanism.off():
            assert all(getattr(where, what) is not was for (where, what, _), was
                       in zip(mechanism.patches, before, strict=True))
        assert before == [getattr(where, what) for where, what, _ in mechanism.patches]


@pytest.mark.parametrize("mechanism", mechanisms.MECHANISMS, ids=lambda known: known.name)
def test_answers_stay_exact_without_it(mechanism: mechanisms.Mechanism, data: DataSet) -> None:
    import farann

    if dict(mechanism.options).get("keep_vectors") is False:
        pytest.skip("its answers are not exact with it, either")
    answers = []
    for off in (False, True):
        index = run.side(data, mechanism, off).index
        assert isinstance(index, farann.Index)
        answers.append(index.search_furthest(data.queries(), 10).ids)
    assert np.array_equal(answers[0], answers[1])


def test_the_table_leaves_out_what_makes_no_difference() -> None:
    saved = run.Saved("hubs", "a-dot", "exact", "batch", 1.05, 1.0, 1.0, 1.0, 40, True)
    assert "| 1 of 1 | none |" in run.table([saved])
    with pytest.raises(ValueError, match="--only must be of pca-filter, .*, got 'magic'"):
        mechanisms.chosen(["magic"])
    # Words that no line has any more would make a mechanism look free.
    assert all(mechanism.lines > 0 for mechanism in mechanisms.MECHANISMS)
