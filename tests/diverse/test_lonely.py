"""What `leave_out=` of a selection leaves out: the rows furthest from centers of the others."""

from __future__ import annotations

from math import fsum
from typing import Any

import diverse_oracle as oracle
import numpy as np
import pytest
import reference
from cases import DATA, assert_same_bits, in_turn, index_of, rows_for
from numpy.testing import assert_array_equal
from numpy.typing import NDArray

import farann

METRICS = reference.METRICS
KINDS = sorted(DATA)


def staying(rows: NDArray[np.float32], ids: NDArray[np.int64], share: float, metric: str,
            kept: int | None = None) -> NDArray[np.int64]:
    """The ids that stay, by plain loops: three steps of k-means on rows that are spread by the
    golden ratio over the ids, then distances to centers; of equal ones the smaller ids go."""
    order, n = np.argsort(ids), len(rows)
    golden, space = (np.sqrt(5.0) - 1.0) / 2.0, "cosine" if metric == "cosine" else "l2"
    sample = rows[order[sorted({int(i * golden % 1.0 * n) for i in range(1, min(n, 1024) + 1)})]]
    some = min(24, max(len(sample) // 4, 1))
    centers = np.array([sample[i * len(sample) // some] for i in range(some)])
    for _ in range(3):
        keys = np.array([reference.keys(row, centers, space) for row in sample])
        own = keys.argmin(axis=1)
        for center in np.unique(own):
            wide = sample[own == center].astype(np.float64)
            if space == "cosine":
                wide /= np.sqrt(reference.total((wide * wide).T))[:, None]
            mean = np.array([fsum(column) / len(wide) for column in wide.T]).astype(np.float32)
            if space == "l2" or mean.any():
                centers[center] = mean
    centers = centers[np.bincount(own, minlength=some) >= len(sample) / some / 4]
    if len(centers) == 1:
        keys = reference.keys(centers[0], rows, metric)
    else:
        keys = oracle.member_keys(centers, rows, metric).min(axis=0)
    if kept is not None:
        keys[ids == kept] = -np.inf
    return np.sort(ids[np.lexsort((ids, -keys))[min(int(share * n), n - 1) :]])


@pytest.mark.parametrize(("kind", "metric"), in_turn(KINDS, 2))
def test_what_is_left_out(kind: str, metric: str) -> None:
    rng = np.random.default_rng(KINDS.index(kind))
    for n, dim in ((2, 3), (3, 2), (9, 5), (90, 17)):
        rows = rows_for(kind, rng, n, dim, metric)
        ids = rng.permutation(3 * n)[:n].astype(np.int64)
        index = farann.Index(metric=metric)
        index.add(rows[: n // 2], ids[: n // 2])
        if n > 50:
            index.build()
        index.add(rows[n // 2 :], ids[n // 2 :])
        for share in (0.1, 0.5, 0.99):
            stay = staying(rows, ids, share, metric)
            picks = index.select_diverse(n, leave_out=share)
            assert_array_equal(np.sort(picks.ids), stay)
            same = index.select_diverse(n, allowed=stay)
            assert_array_equal(picks.ids, same.ids)
            assert_same_bits(picks.scores, same.scores)


@pytest.mark.parametrize("metric", METRICS)
def test_how_rows_lie_and_threads_change_nothing(metric: str) -> None:
    rng = np.random.default_rng(1)
    rows, turn = rng.standard_normal((9000, 200)).astype(np.float32), rng.permutation(9000)
    wanted = farann.select_diverse(rows, 20, metric, leave_out=0.3)
    index = farann.Index(metric=metric)
    index.add(rows[turn], turn)
    for threads in (1, 3):
        found = index.build().select_diverse(20, leave_out=0.3, threads=threads)
        assert_array_equal(found.ids, wanted.ids)
        assert_same_bits(found.scores, wanted.scores)
    index.remove(np.arange(0, 9000, 2))
    half = farann.select_diverse(rows[1::2], 20, metric, leave_out=0.3)
    assert_array_equal(index.select_diverse(20, leave_out=0.3).ids, 2 * half.ids + 1)


@pytest.mark.parametrize("sorted_first", [False, True])
def test_a_floor_by_the_sample_changes_nothing(sorted_first: bool) -> None:
    """Where rows are many; also where the rows of the sample are all lonely ones."""
    rng = np.random.default_rng(5)
    rows = (rng.standard_normal((9000, 3)) * rng.lognormal(0, 1, (9000, 1))).astype(np.float32)
    if sorted_first:
        golden = (np.sqrt(5.0) - 1.0) / 2.0
        rows *= 0.1
        rows[sorted({int(i * golden % 1.0 * 9000) for i in range(1, 1025)})] *= 30
    ids = np.arange(9000)
    for share in (0.05, 0.2, 0.9):
        found = farann.select_diverse(rows, 9000, leave_out=share)
        assert_array_equal(np.sort(found.ids), staying(rows, ids, share, "l2"))


def test_junk_is_left_out() -> None:
    rng = np.random.default_rng(2)
    rows = rng.standard_normal((3000, 8)).astype(np.float32)
    junk = rng.choice(3000, 60, replace=False)
    rows[junk] *= 10
    assert np.isin(farann.select_diverse(rows, 40).ids, junk).all()
    assert not np.isin(farann.select_diverse(rows, 40, leave_out=0.1).ids, junk).any()


def test_beside_other_arguments() -> None:
    rng = np.random.default_rng(3)
    rows, labels = rng.standard_normal((500, 4)).astype(np.float32), np.arange(500) % 5
    index = farann.Index()
    index.add(rows, groups=labels)
    ids = np.arange(500)
    stay = staying(rows, ids, 0.2, "l2")
    lonely = int(np.setdiff1d(ids, stay)[7])
    # The first pick is never left out if it is asked for.
    kept = index.select_diverse(500, start=lonely, leave_out=0.2).ids
    assert kept[0] == lonely
    assert_array_equal(np.sort(kept), staying(rows, ids, 0.2, "l2", kept=lonely))
    # Rows chosen before, and those that filters exclude, don't count.
    more = index.select_diverse(500, first=ids[:50], exclude=ids[50:100], leave_out=0.2).ids
    assert_array_equal(np.sort(more), staying(rows[100:], ids[100:], 0.2, "l2"))
    # All that stay are within the radius.
    cover = index.select_diverse(radius=1.5, leave_out=0.2)
    far = farann.search_nearest(rows[cover.ids], rows, k=1).scores[:, 0]
    assert far[stay].max() <= 1.5 < far.max()
    few = index.select_diverse(per_group=2, leave_out=0.2)
    assert_array_equal(few.ids, index.select_diverse(per_group=2, allowed=stay).ids)


@pytest.mark.parametrize("metric", METRICS)
def test_few_rows_and_equal_ones(metric: str) -> None:
    for n in range(1, 7):
        rows = np.ones((n, 3), np.float32)
        for share in (0.0, 0.2, 0.5, 0.999999999999999):
            found = farann.select_diverse(rows, n, metric, leave_out=share).ids
            left = min(int(share * n), n - 1)
            assert_array_equal(np.sort(found), np.arange(left, n))
    assert len(farann.Index(3, metric).select_diverse(3, leave_out=0.2).ids) == 0
    # Fewer than k rows stay.
    rows = np.random.default_rng(4).standard_normal((100, 3)).astype(np.float32)
    assert len(farann.select_diverse(rows, 60, metric, leave_out=0.5).ids) == 50


@pytest.mark.parametrize("share", [1, 1.0, -0.1, float("nan"), float("inf"), "many", None])
def test_shares_that_are_none(share: Any) -> None:
    rows = np.eye(3, dtype=np.float32)
    for select in (farann.Index(3).select_diverse, index_of(rows).select_diverse,
                   lambda k, leave_out: farann.select_diverse(rows, k, leave_out=leave_out)):
        with pytest.raises((ValueError, TypeError), match="leave_out: expected a (share|number)"):
            select(2, leave_out=share)
