"""The loneliest rows, which a selection may leave out: those furthest from centers of the others.

A row's distance to the nearest center of k-means tells how much of an outlier it is (Chawla and
Gionis 2013, "k-means--"), and a few centers of a sample of the rows will do. Centers have the same
bits everywhere: rows go to their nearest center by exact searches, and sums are exact.
"""

from __future__ import annotations

from functools import partial
from math import inf, sqrt
from typing import Any

import numpy as np

from farann import _core
from farann._types import Float32Array, Float64Array, Int64Array
from farann.contract import checks
from farann.contract.index_spec import MetricTraits, traits_of
from farann.diverse.greedy import RowSum, snapshot_of
from farann.runtime import batches, pool
from farann.store.store import Store

_MOST_SAMPLED, _CENTERS, _STEPS = 1024, 24, 3  # rows of the sample; of k-means
_ROWS_A_CENTER = 4  # of the sample, at least
_MANY_SAMPLES = 8  # from 8 times the rows of the sample on a floor below the answers pays
_GOLDEN = (5.0**0.5 - 1.0) / 2.0  # its multiples fill the interval evenly, without a period
# Multiply-adds below which a second thread costs more than it saves, and Ctrl+C can wait.
_FEW_PRODUCTS = 50_000_000


def to_share(value: Any) -> float:
    """Check the share of the rows that is left out."""
    share = checks.to_float("leave_out", value)
    if not 0.0 <= share < 1.0:
        raise ValueError("leave_out: expected a share of the rows, from 0 to below 1 such as 0.2, "
                         f"got {share}")
    return share


def n_left_out(share: float, n: int) -> int:
    """How many of n rows are left out: never all."""
    return min(int(share * n), n - 1)


def sample_of(n: int) -> Int64Array:
    """The places of a sample of n rows."""
    numbers = np.arange(1, min(_MOST_SAMPLED, n) + 1)
    return np.unique((numbers * _GOLDEN % 1.0 * n).astype(np.int64))


def centers_of(rows: Float32Array, metric: MetricTraits, isa: str) -> Float32Array:
    """The centers that k-means finds in a sample of rows; under dot, too, by distances.

    Those of fewer than a quarter of the usual number of rows are left out: outliers themselves.
    """
    n = min(_CENTERS, max(len(rows) // _ROWS_A_CENTER, 1))
    centers = rows[np.arange(n) * len(rows) // n].copy()
    metric = metric if metric.normalized else traits_of("l2")
    for _ in range(_STEPS):
        snapshot = _core.Snapshot(centers[:0], centers, None, None, np.zeros(centers.shape[1]),
                                  metric.number, isa)
        own = batches.top(snapshot, _core.Filter(snapshot), rows, 1, True, 1)[0].ids[:, 0]
        centers = centers.copy()
        for center in np.unique(own).tolist():
            mean = RowSum.of([rows[own == center]], rows.shape[1], metric.normalized).mean()
            if not metric.normalized or mean.any():
                centers[center] = mean
    return centers[4 * n * np.bincount(own, minlength=n) >= len(rows)]


def staying(store: Store, isa: str, slots: Int64Array, share: float, kept: int | None,
            threads: int) -> Int64Array:
    """Those of some slots that aren't among a share of them that is loneliest; `kept` stays.

    Of rows that are as lonely those with the smaller ids are left out.
    """
    n_out = n_left_out(share, len(slots))
    if n_out < 1:
        return slots
    by_id = slots[np.argsort(store.ids.ids_of(slots), kind="stable")]
    sample = by_id[sample_of(len(slots))]
    centers = centers_of(store.take(sample), store.spec.metric, isa)
    members, offsets = centers.astype(np.float64), np.array([0, len(centers)])
    is_long = len(slots) * centers.size > _FEW_PRODUCTS
    threads = threads if is_long else 1
    snapshot = snapshot_of(store, isa)

    def furthest(some: Int64Array, k: int, floor: float = -inf,
                 flag: _core.CancelFlag | None = None) -> tuple[Int64Array, Float64Array]:
        """Ids and keys of the k of some slots that are furthest, if they are above a floor."""
        mask, most = np.zeros(store.n_slots, np.uint8), min(k, len(some))
        mask[some] = 1
        task = _core.SetSearch(snapshot, _core.Filter(snapshot, mask), members, offsets, 0, most,
                               floor=floor, flag=flag)
        task.run()
        ids, keys = np.empty((1, most), np.int64), np.empty((1, most))
        task.write_top(np.empty((1, most), np.float32), ids, 0)
        task.write_keys(keys, 0)
        there = keys[0] > -inf
        return ids[0, there], keys[0, there]

    others = slots if kept is None else slots[slots != kept]
    floor, out, by = -inf, np.empty(0, np.int64), np.empty(0)
    # In the sample four deviations more rows than are left out are above the floor.
    expected = share * len(sample)
    n_above = int(expected + 4.0 * sqrt(expected)) + 1
    if len(slots) > _MANY_SAMPLES * len(sample) and n_above < len(sample):
        floor = float(furthest(sample, n_above)[1][-1])
    while len(out) < n_out:
        found = list[tuple[Int64Array, Float64Array]]()

        def search(some: Int64Array, flag: _core.CancelFlag, floor: float = floor) -> None:
            found.append(furthest(some, n_out, floor, flag))  # noqa: B023

        pool.run_all([partial(search, some) for some in np.array_split(others, threads)], threads,
                     long=is_long)
        out, by = map(np.concatenate, zip(*found, strict=True))
        floor = -inf  # the sample was unlike the rows
    stay = np.zeros(store.n_slots, np.bool_)
    stay[slots] = True
    stay[store.slots_of(out[np.lexsort((out, -by))[:n_out]])] = False
    return np.flatnonzero(stay)
