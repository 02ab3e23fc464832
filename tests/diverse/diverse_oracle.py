"""Sets, selections and pairs in the most obvious numpy, by the keys of `reference.py`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import reference
from numpy.typing import NDArray

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]


def member_keys(members: Float32, rows: Float32, metric: str) -> Float64:
    """Keys of rows for each member, (n_members, n_rows), that can be compared across members."""
    keys = np.array([reference.keys(member, rows, metric) for member in members])
    if metric == "cosine":
        wide = members.astype(np.float64).T
        keys /= np.sqrt(reference.total(wide * wide))[:, None]
    return keys


def scores_of(keys: Float64, metric: str) -> Float32:
    """What is reported for such keys."""
    scores = np.sqrt(keys) if metric == "l2" else -keys
    return reference.as_float32(np.clip(scores, -1, 1) if metric == "cosine" else scores)


def furthest_from(members: Float32, rows: Float32, k: int, metric: str, ids: Int64,
                  left_out: Sequence[int] = ()) -> tuple[Float32, Int64]:
    """The k rows whose smallest key over the members is largest, equal ones by smaller id."""
    if len(members) == 1:
        found = reference.furthest(members, rows, k, metric, ids=ids, exclude=[left_out])
        return found.scores[0], found.ids[0]
    keys = member_keys(members, rows, metric).min(axis=0)
    keys[np.isin(ids, np.array(left_out, np.int64))] = -np.inf
    best = np.lexsort((ids, -keys))[:k]
    best = best[keys[best] > -np.inf]
    scores, found_ids = np.full(k, np.nan, np.float32), np.full(k, -1, np.int64)
    scores[: len(best)], found_ids[: len(best)] = scores_of(keys[best], metric), ids[best]
    return scores, found_ids


def selection(rows: Float32, k: int, metric: str, ids: Int64, first: Any,
              may: NDArray[np.bool_] | None = None, groups: Int64 | None = None,
              per_group: int = 0) -> tuple[Float32, Int64]:
    """Greedy picks after the rows at some positions, with those at most so many of each group."""
    left = np.ones(len(rows), bool) if may is None else may.copy()
    left[list(first)] = False
    least = member_keys(rows[list(first)], rows, metric).min(axis=0)
    picked: list[int] = []
    keys: list[float] = []
    while len(picked) < k:
        if groups is not None:
            counts = np.bincount(groups[[*first, *picked]], minlength=int(groups.max()) + 1)
            left &= counts[groups] < per_group
        if not left.any():
            break
        at = np.flatnonzero(left)
        best = int(at[np.lexsort((ids[at], -least[at]))[0]])
        picked.append(best)
        keys.append(least[best])
        left[best] = False
        least = np.minimum(least, member_keys(rows[best : best + 1], rows, metric)[0])
    return scores_of(np.array(keys), metric), ids[np.array(picked, np.int64)]


def relevance(query: Float32, rows: Float32, k: int, metric: str, ids: Int64, diversity: float,
              among: Any = None) -> tuple[Float64, Int64]:
    """Maximal marginal relevance among the rows at some positions."""
    similar = -member_keys(query[None], rows, metric)[0]
    closest = np.full(len(rows), -np.inf)
    left = np.zeros(len(rows), bool)
    left[slice(None) if among is None else among] = True
    picked: list[int] = []
    values: list[float] = []
    while left.any() and len(picked) < k:
        value = (1.0 - diversity) * similar
        if picked:
            value = value - diversity * closest
        at = np.flatnonzero(left)
        order = value if picked else similar
        best = int(at[np.lexsort((ids[at], -order[at]))[0]])
        picked.append(best)
        values.append(value[best])
        left[best] = False
        closest = np.maximum(closest, -member_keys(rows[best : best + 1], rows, metric)[0])
    return np.array(values), ids[np.array(picked, np.int64)]
