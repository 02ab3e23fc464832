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
    return keys_by(reference.Columns(rows, metric), members)


def keys_by(columns: reference.Columns, members: Float32) -> Float64:
    """The same of rows that are columns already: loops need them once."""
    keys = np.array([columns.keys(member) for member in members])
    if columns.metric == "cosine":
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
    columns = reference.Columns(rows, metric)
    least = keys_by(columns, rows[list(first)]).min(axis=0)
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
        least = np.minimum(least, keys_by(columns, rows[best : best + 1])[0])
    return scores_of(np.array(keys), metric), ids[np.array(picked, np.int64)]


def relevance(query: Float32, rows: Float32, k: int, metric: str, ids: Int64, diversity: float,
              among: Any = None, labels: Any = None, per_group: int = 1,
              similar: Any = None) -> tuple[Float64, Int64]:
    """Maximal marginal relevance among the rows at some positions; of rows that share a label at
    most `per_group` are picked."""
    columns = reference.Columns(rows, metric)
    if similar is None:
        similar = -keys_by(columns, query[None])[0]
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
        if labels is not None and (labels[picked] == labels[best]).sum() == per_group:
            left &= labels != labels[best]
        closest = np.maximum(closest, -keys_by(columns, rows[best : best + 1])[0])
    return np.array(values), ids[np.array(picked, np.int64)]


def wide(vectors: Float32, metric: str) -> Float64:
    """Vectors in float64, of length 1 under cosine."""
    found = vectors.astype(np.float64)
    if metric == "cosine" and len(found):
        found /= np.sqrt(np.cumsum(found * found, axis=1)[:, -1:])
    return found


def keys(columns: reference.Columns, member: Any) -> Float64:
    """Keys of rows for a member, the upper 29 bits of whose numbers come first, and then the rest.

    Products of so few bits and float32 are exact in float64.
    """
    _, exponents = np.frexp(member)
    upper = np.ldexp(np.round(np.ldexp(member, 29 - exponents)), exponents - 29)
    return columns.keys(upper) + columns.keys(member - upper)


def contrast(likes: Float32, dislikes: Float32, rows: Float32, k: int, metric: str, *,
             ids: Any = None, weight: float = 0.2, likes_by: str = "mean",
             left_out: Any = ()) -> reference.Found:
    """The k rows with the largest contrast, equal ones by smaller id."""
    ids = np.arange(len(rows)) if ids is None else ids
    columns, dim = reference.Columns(rows, metric), rows.shape[1]
    liked, disliked = wide(likes, metric), wide(dislikes, metric)
    if len(liked) == 0:
        liked = np.zeros((1, dim))
    elif likes_by == "mean":
        liked = liked.mean(axis=0, keepdims=True)
    if len(disliked) == 0:
        disliked = np.zeros((1, dim))
    scores = np.max([np.min([keys(columns, member) for member in weight * disliked - like], axis=0)
                     for like in liked], axis=0)
    at = np.flatnonzero(~np.isin(ids, left_out))
    best = at[np.lexsort((ids[at], -scores[at]))[:k]]
    found = reference.Found(ids=np.full(k, -1, np.int64), scores=np.full(k, np.nan, np.float32))
    found.ids[: len(best)] = ids[best]
    found.scores[: len(best)] = reference.as_float32(scores[best] + 0.0)
    return found


def spaced(rows: Float32, scores: Any, radius: float | None, metric: str, k: int | None = None,
           *, ids: Any = None, groups: Any = None, per_group: int | None = None) -> list[int]:
    """The rows of a greedy loop: each is the query, and the picks before are the rows."""
    ids = np.arange(len(rows)) if ids is None else np.asarray(ids)
    picks: list[int] = []
    for i in np.lexsort((ids, -np.asarray(scores, float))).tolist():
        if len(picks) == k:
            break
        if per_group is not None and sum(groups[j] == groups[i] for j in picks) >= per_group:
            continue
        if radius is not None and picks:
            near = reference.scores_from_keys(
                rows[i], reference.keys(rows[i], rows[picks], metric), metric)
            if (near < radius if metric == "l2" else near > radius).any():
                continue
        picks.append(i)
    return [int(ids[i]) for i in picks]


def keepers(rows: Float32, scores: Any, radius: float | None, metric: str, picks: list[int],
            ids: Any = None) -> dict[int, int]:
    """For each row that is nearer than a radius to a better pick, the best such pick."""
    ids = np.arange(len(rows)) if ids is None else np.asarray(ids)
    order = np.lexsort((ids, -np.asarray(scores, float))).tolist()
    found = {}
    for place, i in enumerate(order):
        before = [j for j in order[:place] if ids[j] in picks]
        if radius is None or ids[i] in picks or not before:
            continue
        near = reference.scores_from_keys(
            rows[i], reference.keys(rows[i], rows[before], metric), metric)
        which = np.flatnonzero(near < radius if metric == "l2" else near > radius)
        if len(which):
            found[int(ids[i])] = int(ids[before[which[0]]])
    return found


def spread(metric: str, radius: float) -> float:
    """The radius that is 2048 numbers of float32 further, or infinity."""
    sign = 1 if metric == "l2" else -1
    bits = int(np.float32(sign * radius).view(np.int32))
    place = min((bits if bits >= 0 else -(bits & 0x7FFFFFFF)) + 2048, 0x7F800000)
    return sign * float(np.copysign(np.int32(abs(place)).view(np.float32), place))


def pairs_within(rows: Float32, radius: float, metric: str, ids: Any = None) -> tuple[Any, Float32]:
    """Pairs by the definition: each row with the rows of larger ids, nearest first."""
    ids = np.arange(len(rows)) if ids is None else np.asarray(ids)
    pairs, scores = [np.empty((0, 2), np.int64)], [np.empty(0, np.float32)]
    for id in np.sort(ids):
        query = rows[ids == id]
        later = np.flatnonzero(ids > id)
        found = reference.within(query, rows[later], radius, metric, ids=ids[later])
        pairs.append(np.stack([np.full(len(found.ids), id), found.ids], axis=1))
        scores.append(found.scores)
    return np.concatenate(pairs), np.concatenate(scores)
