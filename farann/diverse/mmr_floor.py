"""Guess a floor for the values of the next picks of maximal marginal relevance.

The picks that would be made among some known rows and a sample of all rows have values that the
real ones are likely to reach. So a search need not find rows below them. A guess that is too high
costs another search, and no more.
"""

from __future__ import annotations

from math import inf
from typing import NamedTuple
from weakref import WeakKeyDictionary

import numpy as np

from farann._types import Float32Array, Float64Array, Int64Array
from farann.store.store import Store

# Sampled rows: 1/64 of all, at most 4,096.
_SAMPLED_SHARE, _MOST_FLOOR_ROWS = 64, 4096
# _MOST_KNOWN: most known rows that a guess is made from, those with the largest values.
# _MOST_FOUND: most rows, by estimate, whose bounds may reach the guessed floor.
_MOST_KNOWN, _MOST_FOUND = 256, 2048


class Sample(NamedTuple):
    """Some rows of a store, of length 1 under cosine, and how many rows each stands for."""

    slots: Int64Array
    rows: Float32Array
    stand_for: float


_samples: WeakKeyDictionary[Store, Sample] = WeakKeyDictionary()


def sample_of(store: Store) -> Sample:
    """Draw a random sample of rows, once for each store."""
    sample = _samples.get(store)
    if sample is None:
        live = store.live_slots()
        n = min(_MOST_FLOOR_ROWS, len(live) // _SAMPLED_SHARE)
        slots = np.sort(np.random.default_rng(0).choice(live, n, replace=False))
        sample = Sample(slots, unit_rows(store, slots), len(live) / max(n, 1))
        _samples[store] = sample
    return sample


def unit_rows(store: Store, slots: Int64Array) -> Float32Array:
    """Some rows, of length 1 under cosine."""
    rows = store.take(slots)
    if store.spec.metric.normalized:
        wide = rows.astype(np.float64)
        rows = (wide / np.linalg.norm(wide, axis=1, keepdims=True)).astype(np.float32)
    return rows


class Known(NamedTuple):
    """Rows that were found, and their values so far; -infinity of those that were picked."""

    slots: Int64Array
    values: Float64Array


@np.errstate(over="ignore", invalid="ignore")
def likely(store: Store, sample: Sample | None, known: Known, picked: list[int],
           members: Float32Array, query: Float32Array, diversity: float, n: int) -> float:
    """Guess a value that the next picks, n at most, reach; -infinity where nothing is known.

    Not many other rows have a bound above it. `members` are the vectors whose largest product with
    a row, times -1, is its bound; `query` is the query's part of these. Where products are too
    large for float32, nothing is known.
    """
    if len(known.slots) > _MOST_KNOWN:
        kept = np.argpartition(-known.values, _MOST_KNOWN)[:_MOST_KNOWN]
        known = Known(known.slots[kept], known.values[kept])
    rows, bounds = unit_rows(store, known.slots), known.values.astype(np.float32)
    stand_for = np.ones(len(rows))
    if sample is not None and len(sample.slots):
        # One by one: a product of matrices would go to threads of BLAS.
        of_sample = np.full(len(sample.slots), np.float32(inf))
        for member in members:
            np.minimum(of_sample, -(sample.rows @ member), out=of_sample)
        of_sample[np.isin(sample.slots, picked)] = -inf
        rows, bounds = np.concatenate([rows, sample.rows]), np.concatenate([bounds, of_sample])
        stand_for = np.concatenate([stand_for, np.full(len(of_sample), sample.stand_for)])
    floor, values = -inf, bounds.copy()
    for i in range(n if len(values) else 0):
        best = int(values.argmax())
        if not np.isfinite(values[best]) or (
                i and stand_for[bounds >= values[best]].sum() > _MOST_FOUND):
            break
        floor = float(values[best])
        np.minimum(values, -(rows @ (diversity * rows[best] - query)), out=values)
        values[best] = -inf
    return floor
