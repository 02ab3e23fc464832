"""Selections by a pass over all rows a pick, beside those that are lazy, on hostile rows."""

from __future__ import annotations

from typing import Any

import diverse_oracle as oracle
import inside
import numpy as np
import pytest
import reference
from cases import DATA, assert_same_bits, index_of, rows_for
from numpy.testing import assert_array_equal

import farann

METRICS = reference.METRICS
KINDS = sorted(DATA)


def _by_passes(rows: oracle.Float32, metric: str, first: Any, most: int,
               isa: str | None = None, **options: Any) -> Any:
    """What passes choose, or None where float32 can't hold the scores."""
    task = inside.core.GreedyPasses(rows, METRICS.index(metric), isa or inside.levels()[-1],
                                    np.array(first, np.int64), most, **options)
    if not task.possible:
        return None
    n = 0
    while n < most and not task.finished:
        n = task.run(7)
    ids, scores = np.empty(n, np.int64), np.empty(n, np.float32)
    task.write(ids, scores)
    return ids, scores


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("kind", KINDS)
def test_passes_choose_what_lazy_selections_do(kind: str, metric: str,
                                               monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(KINDS.index(kind))
    for n, dim in ((1, 3), (70, 2), (150, 17), (90, 144)):
        rows = rows_for(kind, rng, n, dim, metric)
        with monkeypatch.context() as patch:
            patch.setattr(inside.settings, "passes_pay", lambda *counts: False)
            lazily = index_of(rows, metric).select_diverse(n, start=n // 2)
            one_off = farann.select_diverse(rows, n, metric, start=n // 2)
        quickly = farann.select_diverse(rows, n, metric, start=n // 2)
        assert_array_equal(quickly.ids, lazily.ids)
        assert_same_bits(quickly.scores, lazily.scores)
        assert_array_equal(one_off.ids, lazily.ids)
        found = _by_passes(rows, metric, [n // 2], n - 1)
        if found is not None:
            assert_array_equal(found[0], lazily.ids[1:])
            assert_same_bits(found[1], lazily.scores[1:])


@pytest.mark.parametrize("isa", inside.levels())
@pytest.mark.parametrize("metric", METRICS)
def test_passes_at_each_level(isa: str, metric: str) -> None:
    """Rows that lie across cache lines in every way, packed and not, with ids, a mask, a set."""
    rng = np.random.default_rng(4)
    for n, dim, lead in ((300, 5, 0), (200, 160, 1), (130, 129, 0), (200, 128, 3)):
        memory = np.empty(n * dim + lead, np.float32)
        rows = memory[lead:].reshape(n, dim)
        rows[:] = np.round(rng.standard_normal((n, dim)) * 2) + 0.25
        rows[n // 2 :] = rows[: n - n // 2]
        ids = rng.permutation(5 * n)[:n].astype(np.int64)
        allowed = rng.random(n) < 0.8
        first = [3, 9, 4]
        may = allowed.copy()
        scores, expected = oracle.selection(rows, 60, metric, ids, first, may)
        found = _by_passes(rows, metric, first, 60, isa, ids=ids, allowed=allowed.astype(np.uint8))
        assert_array_equal(found[0], expected)
        assert_same_bits(found[1], scores)


@pytest.mark.parametrize("metric", METRICS)
def test_a_radius_ends_passes(metric: str) -> None:
    rows = np.random.default_rng(1).standard_normal((200, 6)).astype(np.float32)
    whole = _by_passes(rows, metric, [0], 100)
    some = _by_passes(rows, metric, [0], 100, radius=float(whole[1][40:42].mean()))
    assert_array_equal(some[0], whole[0][:41])


@pytest.mark.parametrize("metric", METRICS)
def test_where_passes_begin_without_a_start(metric: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(2)
    rows = np.repeat(rng.standard_normal((300, 4)), 2, axis=0).astype(np.float32)
    quickly, index = farann.select_diverse(rows, 9, metric), index_of(rows[::-1].copy(), metric)
    monkeypatch.setattr(inside.settings, "few_numbers", 0)
    monkeypatch.setattr(inside.settings, "passes_pay", lambda *counts: False)
    lazily = farann.select_diverse(rows, 9, metric)
    assert_array_equal(quickly.ids, lazily.ids)
    assert_same_bits(quickly.scores, lazily.scores)
    opposite = np.array([rows[0], -rows[0]])
    if metric == "cosine":  # without a mean
        assert_array_equal(farann.select_diverse(opposite, 2, metric).ids, [0, 1])
    assert len(index.select_diverse(9).ids) == 9


def test_rows_are_still_checked() -> None:
    rows = np.ones((50, 3), np.float32)
    for metric, bad, said in (("l2", np.nan, "NaN"), ("dot", np.inf, "infinity"),
                              ("cosine", 0.0, "zero vector")):
        for at in (0, 49):
            given = rows.copy()
            given[at] = bad
            for start in (None, 0, 7):
                with pytest.raises(ValueError, match=said):
                    farann.select_diverse(given, 3, metric, start=start)
    with pytest.raises(KeyError, match="50 is not in the index"):
        farann.select_diverse(rows, 3, start=50)
    with pytest.raises(ValueError, match="metric: expected"):
        farann.select_diverse(rows, 3, "euclid", start=0)
    with pytest.raises(ValueError, match="radius: expected a distance of 0 or more, got -1"):
        farann.select_diverse(rows, radius=-1)
    assert len(farann.select_diverse(rows, 2, "cosine", radius=-1).ids) == 1
    with pytest.raises(ValueError, match="first must be slots"):
        _by_passes(rows, "l2", [50], 3)
    with pytest.raises(ValueError, match="of the rows' dimension"):
        inside.core.furthest_row(rows, 0, inside.levels()[0], np.ones(4, np.float32))


def test_few_picks_or_rows_are_by_passes() -> None:
    pay = inside.search.passes_pay
    assert pay(500, 768, 500, False) and pay(50_000, 32, 20, False) and pay(2_000, 128, 50, True)
    assert not pay(400_000, 50, 1_000, False) and not pay(50_000, 768, 200, True)
