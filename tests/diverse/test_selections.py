"""Selections from an array and from an index, on hostile rows: the same picks, at every level."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import diverse_oracle as oracle
import inside
import numpy as np
import pytest
import reference
from cases import DATA, assert_same_bits, in_turn, index_of, rows_for
from inside import core
from numpy.testing import assert_array_equal

import farann

METRICS = reference.METRICS
KINDS = sorted(DATA)


@pytest.mark.parametrize(("kind", "metric"), in_turn(KINDS, 1))
def test_an_array_gives_the_picks_of_an_index(kind: str, metric: str) -> None:
    rng = np.random.default_rng(KINDS.index(kind))
    for n, dim in ((1, 3), (70, 2), (150, 17), (90, 144), (700, 5)):
        rows = rows_for(kind, rng, n, dim, metric)
        by_index = index_of(rows, metric).select_diverse(n, start=n // 2)
        one_off = farann.select_diverse(rows, n, metric, start=n // 2)
        assert_array_equal(one_off.ids, by_index.ids)
        assert_same_bits(one_off.scores, by_index.scores)


@pytest.mark.parametrize("isa", inside.levels())
@pytest.mark.parametrize("metric", METRICS)
def test_selections_at_each_level(isa: str, metric: str) -> None:
    """Rows that lie across cache lines in every way, with ids, a mask, a set."""
    rng = np.random.default_rng(4)
    for n, dim, lead in ((300, 5, 0), (200, 160, 1), (900, 129, 0), (700, 128, 3)):
        memory = np.empty(n * dim + lead, np.float32)
        rows = memory[lead:].reshape(n, dim)
        rows[:] = np.round(rng.standard_normal((n, dim)) * 2) + 0.25
        rows[n // 2 :] = rows[: n - n // 2]
        ids = rng.permutation(5 * n)[:n].astype(np.int64)
        allowed, first = rng.random(n) < 0.8, [3, 9, 4]
        index = farann.Index(metric=metric)
        index.add(rows, ids, copy=False)
        inside.store.use_level(index, isa)
        for many in (first, first[:1]):
            scores, expected = oracle.selection(rows, 60, metric, ids, many, allowed.copy())
            found = index.select_diverse(60, first=ids[many], allowed=ids[allowed])
            assert_array_equal(found.ids, expected)
            assert_same_bits(found.scores, scores)


@pytest.mark.parametrize("metric", METRICS)
def test_a_radius_ends_selections(metric: str) -> None:
    rows = np.random.default_rng(1).standard_normal((200, 6)).astype(np.float32)
    index = index_of(rows, metric)
    whole = index.select_diverse(100, start=0)
    some = index.select_diverse(100, start=0, radius=float(whole.scores[41:43].mean()))
    assert_array_equal(some.ids, whole.ids[:42])


@pytest.mark.parametrize("metric", METRICS)
def test_where_selections_begin_without_a_start(metric: str) -> None:
    rng = np.random.default_rng(2)
    rows = np.repeat(rng.standard_normal((300, 4)), 2, axis=0).astype(np.float32)
    one_off, index = farann.select_diverse(rows, 9, metric), index_of(rows[::-1].copy(), metric)
    by_search = index_of(rows, metric).select_diverse(9)
    assert_array_equal(one_off.ids, by_search.ids)
    assert_same_bits(one_off.scores, by_search.scores)
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


@pytest.mark.parametrize("kind", ["gaussian", "duplicates", "crowded edge", "ulps apart", "3e38"])
@pytest.mark.parametrize("metric", METRICS)
def test_at_most_so_many_of_each_group(metric: str, kind: str) -> None:
    """Groups that are full leave the front, and what waits behind it; `first` counts."""
    rng = np.random.default_rng(7)
    rows, labels = rows_for(kind, rng, 2500, 7, metric), rng.integers(0, 9, 2500)
    labels[labels == 8] = 0  # the largest
    index = farann.Index(metric=metric)
    index.add(rows, groups=labels + 100)
    for per_group, first in ((1, [3]), (4, [5]), (30, [3, 9, 4, 17])):
        scores, expected = oracle.selection(rows, 200, metric, np.arange(2500), first, None,
                                            labels, per_group)
        found = index.select_diverse(200, first=first, per_group=per_group)
        assert len(expected) <= 8 * per_group
        assert_array_equal(found.ids, expected)
        assert_same_bits(found.scores, scores)
    found = index.select_diverse(start=3, per_group=2)
    assert_array_equal(np.bincount(labels[found.ids]), np.full(8, 2))
    assert len(index.select_diverse(per_group=1, groups=[101, 103]).ids) == 2
    with pytest.raises(ValueError, match="per_group: the index has no groups; give them to add"):
        index_of(rows, metric).select_diverse(3, per_group=1)
    with pytest.raises(ValueError, match="per_group: expected"):
        index.select_diverse(3, per_group=0)


@pytest.mark.parametrize(("metric", "kind"), list(zip(itertools.cycle(METRICS), [
    "gaussian", "duplicates", "crowded edge", "ulps apart", "3e38", "gaussian"])))
def test_threads_choose_the_same_rows(metric: str, kind: str,
                                      monkeypatch: pytest.MonkeyPatch) -> None:
    """Where rows are added up, meet the first pick, and meet later ones, in several parts."""
    run_all, parts = inside.settings.run_all, list[int]()

    def counted(functions: Sequence[object], threads: int, **options: object) -> None:
        parts.append(len(functions))
        run_all(functions, threads, **options)

    monkeypatch.setattr(inside.settings, "run_all", counted)
    rng = np.random.default_rng(8)
    n, k = 9000, 40
    rows = rows_for(kind, rng, n, 480, metric)
    index = farann.Index(metric=metric, codes="float32")
    index.add(rows[: n // 2])
    index.build()
    index.add(rows[n // 2 :])
    _, expected = oracle.selection(rows, 12, metric, np.arange(n), [7])
    parts.clear()
    for given in ({}, {"start": 7}, {"first": [7, 3], "exclude": np.arange(100, 300)}):
        one = index.select_diverse(k, **given, threads=1)
        assert set(parts) <= {1}
        for threads in (2, 5):
            found = index.select_diverse(k, **given, threads=threads)
            assert_array_equal(found.ids, one.ids)
            assert_same_bits(found.scores, one.scores)
            assert parts.count(threads) >= 1 + (kind == "gaussian")
        if given == {"start": 7}:
            assert_array_equal(one.ids[:13], [7, *expected])
            found = farann.select_diverse(rows, k, metric, start=7, threads=2)
            assert_array_equal(found.ids, one.ids)
        parts.clear()


def test_what_ends_threads_ends_the_selection() -> None:
    rows = np.random.default_rng(1).standard_normal((9000, 600)).astype(np.float32)
    snapshot = inside.store.snapshot_of(index_of(rows, codes="float32").build())

    def give_up(functions: Sequence[object], threads: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        core.Greedy(snapshot, core.Filter(snapshot), np.array([0]), 9, threads=2, run_all=give_up)
    calls, before = list[int](), core.begin_arithmetic()

    def give_up_later(functions: Sequence[Callable[[object], None]], threads: int) -> None:
        calls.append(len(functions))
        if len(calls) == 2:
            raise KeyboardInterrupt
        for function in functions:
            function(core.CancelFlag())

    core.end_arithmetic(before)
    task = core.Greedy(snapshot, core.Filter(snapshot), np.array([0]), 900, threads=2,
                       run_all=give_up_later)
    with pytest.raises(KeyboardInterrupt):
        task.run(900)
    assert calls == [2, 2]
    assert core.begin_arithmetic() == before
    core.end_arithmetic(before)
