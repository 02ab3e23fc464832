"""The float64 oracle: furthest search in the most obvious numpy.

The library promises these answers bit for bit at every instruction set, thread count and history.
Nothing here is fast, clever or shared with the library.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

METRICS = ("l2", "dot", "cosine")


class Found(NamedTuple):
    """The k best rows of each query, both (n_queries, k), padded with NaN and -1."""

    scores: Float32
    ids: Int64


class Beyond(NamedTuple):
    """All rows past a radius: those of query i are at offsets[i]:offsets[i + 1]."""

    offsets: Int64
    scores: Float32
    ids: Int64


def total(terms: Float64) -> Float64:
    """Sum terms (dim, n) over the coordinates in the canonical order: eight lanes, one tree."""
    dim, n = terms.shape
    lanes = np.zeros((8, n))
    for start in range(0, dim, 8):
        part = terms[start : start + 8]
        lanes[: len(part)] += part
    l0, l1, l2, l3, l4, l5, l6, l7 = lanes
    return ((l0 + l4) + (l2 + l6)) + ((l1 + l5) + (l3 + l7))


def keys(query: Float32, rows: Float32, metric: str) -> Float64:
    """Float64 keys (n,) of the rows for one query (dim,): larger is further."""
    return Columns(rows, metric).keys(query)


class Columns:
    """Rows, those of one coordinate side by side, and what is the same for all queries."""

    def __init__(self, rows: Float32, metric: str) -> None:
        self.x, self.metric = np.ascontiguousarray(rows.T, np.float64), metric
        cosine = metric == "cosine"
        self.lengths = np.sqrt(total(self.x * self.x)) if cosine else np.ones(len(rows))

    def keys(self, query: Float32) -> Float64:
        """The keys of all rows for one query."""
        q = query.astype(np.float64)[:, None]
        if self.metric == "l2":
            difference = q - self.x
            return total(difference * difference)
        if self.metric == "dot":
            return -total(q * self.x)
        if self.metric == "cosine":
            return -(total(q * self.x) / self.lengths)
        raise ValueError(f"metric is {self.metric!r}")


def scores_from_keys(query: Float32, key: Float64, metric: str) -> Float64:
    """Float64 scores (n,) that belong to the furthest-first keys of one query."""
    if metric == "l2":
        return np.sqrt(key)
    if metric == "dot":
        return -key
    q = query.astype(np.float64)[:, None]
    return np.clip(-key / np.sqrt(total(q * q)), -1.0, 1.0)


def as_float32(scores: Float64) -> Float32:
    """Round scores as they are reported; what float32 cannot hold becomes infinite."""
    with np.errstate(over="ignore"):
        return scores.astype(np.float32)


def _allowed(ids: Int64, allowed: Iterable[int] | None) -> NDArray[np.bool_]:
    """Whether rows may answer."""
    if allowed is None:
        return np.ones(len(ids), bool)
    return np.isin(ids, np.fromiter(allowed, np.int64))


def _candidates(ids: Int64, keep: NDArray[np.bool_],
                left_out: Iterable[int] | None) -> NDArray[np.intp]:
    """Positions of the rows that may answer one query."""
    if left_out is not None:
        keep = keep & ~np.isin(ids, np.fromiter(left_out, np.int64))
    return np.flatnonzero(keep)


def _first(k: int, cost: Float64, ids: Int64) -> NDArray[np.intp]:
    """Where the k smallest costs are, in order, equal ones by smaller id; NaN is the largest.

    Only those that reach the k-th are sorted, as to sort all took longer than their keys.
    """
    some = np.arange(len(cost))
    if 0 < k < len(cost):
        some = np.flatnonzero(~(cost > np.partition(cost, k - 1)[k - 1]))
    return some[np.lexsort((ids[some], cost[some]))[:k]]


def _search(
    signs: Sequence[float],
    queries: Float32,
    rows: Float32,
    ids: Int64 | None,
    k: int,
    metric: str,
    exclude: Sequence[Iterable[int]] | Int64 | None = None,
    allowed: Iterable[int] | None = None,
) -> list[Found]:
    ids = np.arange(len(rows)) if ids is None else ids
    shape = len(queries), k
    found = [Found(np.full(shape, np.nan, np.float32), np.full(shape, -1, np.int64)) for _ in signs]
    columns = Columns(rows, metric)  # once: the oracle takes most of the time of many tests
    keep = _allowed(ids, allowed)
    for i, query in enumerate(queries):
        at = _candidates(ids, keep, None if exclude is None else exclude[i])
        key = columns.keys(query)[at]
        for sign, (scores, best_ids) in zip(signs, found, strict=True):
            best = _first(k, -sign * key, ids[at])
            best_ids[i, : len(best)] = ids[at][best]
            scores[i, : len(best)] = as_float32(scores_from_keys(query, key[best], metric))
    return found


def furthest(
    queries: Float32,
    rows: Float32,
    k: int,
    metric: str,
    *,
    ids: Int64 | None = None,
    exclude: Sequence[Iterable[int]] | Int64 | None = None,
    allowed: Iterable[int] | None = None,
) -> Found:
    """The k rows with the largest keys, equal keys by smaller id."""
    return _search([1.0], queries, rows, ids, k, metric, exclude, allowed)[0]


def nearest(
    queries: Float32,
    rows: Float32,
    k: int,
    metric: str,
    *,
    ids: Int64 | None = None,
    exclude: Sequence[Iterable[int]] | Int64 | None = None,
    allowed: Iterable[int] | None = None,
) -> Found:
    """The k rows with the smallest keys, equal keys by smaller id."""
    return _search([-1.0], queries, rows, ids, k, metric, exclude, allowed)[0]


def furthest_and_nearest(queries: Float32, rows: Float32, k: int, metric: str,
                         ids: Int64 | None = None) -> list[Found]:
    """Both, of the same keys."""
    return _search([1.0, -1.0], queries, rows, ids, k, metric)


def beyond(
    queries: Float32,
    rows: Float32,
    radius: float,
    metric: str,
    *,
    ids: Int64 | None = None,
    exclude: Sequence[Iterable[int]] | Int64 | None = None,
    allowed: Iterable[int] | None = None,
) -> Beyond:
    """Every row with a float64 score strictly past the radius, furthest first."""
    return _range(1.0, queries, rows, radius, metric, ids, exclude, allowed)


def within(
    queries: Float32,
    rows: Float32,
    radius: float,
    metric: str,
    *,
    ids: Int64 | None = None,
    exclude: Sequence[Iterable[int]] | Int64 | None = None,
    allowed: Iterable[int] | None = None,
) -> Beyond:
    """Every row with a float64 score up to the radius, itself too, nearest first."""
    return _range(-1.0, queries, rows, radius, metric, ids, exclude, allowed)


def _range(
    sign: float,
    queries: Float32,
    rows: Float32,
    radius: float,
    metric: str,
    ids: Int64 | None,
    exclude: Sequence[Iterable[int]] | Int64 | None,
    allowed: Iterable[int] | None,
) -> Beyond:
    ids = np.arange(len(rows)) if ids is None else ids
    columns, keep = Columns(rows, metric), _allowed(ids, allowed)
    scores, kept, offsets = [np.empty(0, np.float32)], [np.empty(0, np.int64)], [0]
    for i, query in enumerate(queries):
        key = columns.keys(query)
        exact = scores_from_keys(query, key, metric)
        at = _candidates(ids, keep, None if exclude is None else exclude[i])
        past = exact[at] > radius if metric == "l2" else exact[at] < radius
        at = at[past if sign > 0 else ~past]
        best = at[np.lexsort((ids[at], -sign * key[at]))]
        scores.append(as_float32(exact[best]))
        kept.append(ids[best])
        offsets.append(offsets[-1] + len(best))
    return Beyond(np.array(offsets, np.int64), np.concatenate(scores), np.concatenate(kept))


def score(queries: Float32, rows: Float32, metric: str) -> Float32:
    """Scores (n_queries, n) of all given rows."""
    out, columns = np.empty((len(queries), len(rows)), np.float32), Columns(rows, metric)
    for i, query in enumerate(queries):
        out[i] = as_float32(scores_from_keys(query, columns.keys(query), metric))
    return out
