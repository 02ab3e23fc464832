"""The loneliest rows, which a selection may leave out: those furthest from a sample of the others.

How far a row is from the nearest of a few rows tells outliers much as its distance to the tenth
nearest of all rows does, at a small part of the cost (Sugiyama and Borgwardt 2013, "Rapid
distance-based outlier detection via sampling").
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from farann import _core
from farann._types import Int64Array
from farann.contract import checks
from farann.diverse.greedy import snapshot_of
from farann.runtime import pool
from farann.store.store import Store

_COMPARED_WITH = 32  # rows of the sample: they take less time than 100 picks
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


def samples_of(n: int) -> tuple[Int64Array, Int64Array]:
    """The places of two samples among n rows, 2 or more: one for the rows outside it, and one for
    the rows of the first. A sample of one row has it twice: keys for several members alone are
    divided by their lengths under cosine."""
    numbers = np.arange(1, 2 * min(_COMPARED_WITH, n // 2) + 1)
    places = np.unique((numbers * _GOLDEN % 1.0 * n).astype(np.int64))
    first, second = places[::2], places[1::2]
    return np.resize(first, max(len(first), 2)), np.resize(second, max(len(second), 2))


def staying(store: Store, isa: str, slots: Int64Array, share: float, kept: int | None,
            threads: int) -> Int64Array:
    """Those of some slots that aren't among a share of them that is loneliest; `kept` stays.

    Of rows that are as lonely those with the smaller ids are left out.
    """
    n_out = n_left_out(share, len(slots))
    if n_out < 1:
        return slots
    by_id = slots[np.argsort(store.ids.ids_of(slots), kind="stable")]
    first, second = (by_id[places] for places in samples_of(len(slots)))
    stay = np.zeros(store.n_slots, np.uint8)
    stay[slots] = 1
    rest, own = stay.copy(), np.zeros_like(stay)
    rest[first], own[first] = 0, 1
    if kept is not None:
        rest[kept] = own[kept] = 0
    is_long = len(slots) * len(first) * store.dim > _FEW_PRODUCTS
    threads = threads if is_long else 1
    snapshot, ids, keys = snapshot_of(store, isa), list[Int64Array](), list[Any]()

    def search(sample: Int64Array, some: Int64Array, flag: _core.CancelFlag) -> None:
        mask, members = np.zeros_like(stay), store.take(sample).astype(np.float64)
        mask[some] = 1
        most = min(n_out, len(some))
        task = _core.SetSearch(snapshot, _core.Filter(snapshot, mask), members,
                               np.array([0, len(members)]), 0, most, flag=flag)
        task.run()
        found = np.empty((1, most), np.int64)
        of_found = np.empty((1, most))
        task.write_top(np.empty((1, most), np.float32), found, 0)
        task.write_keys(of_found, 0)
        ids.append(found[0])
        keys.append(of_found[0])

    parts = [(first, some) for some in np.array_split(np.flatnonzero(rest), threads)]
    pool.run_all([partial(search, sample, some) for sample, some in (
        *parts, (second, np.flatnonzero(own))) if len(some)], threads, long=is_long)
    out, by = np.concatenate(ids), np.concatenate(keys)
    stay[store.slots_of(out[np.lexsort((out, -by))[:n_out]])] = 0
    return np.flatnonzero(stay)
