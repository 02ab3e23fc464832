"""The float64 oracle: furthest search in the most obvious numpy.

The library promises these answers bit for bit at every instruction set, thread count and history.
Nothing here is fast, clever or shared with the library.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

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
    return keys_of_columns(query, columns(rows), metric)


def columns(rows: Float32) -> Float64:
    """Float64 coordinates (dim, n) of rows, those of one coordinate side by side."""
    return np.ascontiguousarray(rows.T, np.float64)


def keys_of_columns(query: Float32, x: Float64, metric: str) -> Float64:
    """The keys of rows that are given as columns."""
    q = query.astype(np.float64)[:, None]
    if metric == "l2":
        difference = q - x
        return total(difference * difference)
    if metric == "dot":
        return -total(q * x)
    if metric == "cosine":
        return -(total(q * x) / np.sqrt(total(x * x)))
    raise ValueError(f"metric is {metric!r}")


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


def _candidates(
    ids: Int64, allowed: Iterable[int] | None, left_out: Iterable[int] | None
) -> NDArray[np.intp]:
    """Positions of the rows that may answer."""
    keep = np.ones(len(ids), bool)
    if allowed is not None:
        keep = np.isin(ids, np.fromiter(allowed, np.int64))
    if left_out is not None:
        keep &= ~np.isin(ids, np.fromiter(left_out, np.int64))
    return np.flatnonzero(keep)


def _search(
    sign: float,
    queries: Float32,
    rows: Float32,
    ids: Int64 | None,
    k: int,
    metric: str,
    exclude: Sequence[Iterable[int]] | Int64 | None,
    allowed: Iterable[int] | None,
) -> Found:
    ids = np.arange(len(rows)) if ids is None else ids
    found = Found(
        np.full((len(queries), k), np.nan, np.float32), np.full((len(queries), k), -1, np.int64)
    )
    x = columns(rows)  # once for all queries: the oracle takes most of the time of many tests
    for i, query in enumerate(queries):
        at = _candidates(ids, allowed, None if exclude is None else exclude[i])
        key = keys_of_columns(query, x, metric)[at]
        best = np.lexsort((ids[at], -sign * key))[:k]
        found.ids[i, : len(best)] = ids[at][best]
        found.scores[i, : len(best)] = as_float32(scores_from_keys(query, key, metric)[best])
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
    return _search(1.0, queries, rows, ids, k, metric, exclude, allowed)


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
    return _search(-1.0, queries, rows, ids, k, metric, exclude, allowed)


def beyond(
    queries: Float32,
    rows: Float32,
    radius: float,
    metric: str,
    **filters: Any,
) -> Beyond:
    """Every row with a float64 score strictly past the radius, furthest first."""
    ids: Int64 = np.arange(len(rows)) if filters.get("ids") is None else filters["ids"]
    found = furthest(queries, rows, len(rows), metric, **filters)
    position = {i: p for p, i in enumerate(ids.tolist())}
    scores, kept, offsets = [], [], [0]
    for query, query_ids, query_scores in zip(queries, found.ids, found.scores, strict=True):
        real = query_ids >= 0
        at = np.array([position[i] for i in query_ids[real].tolist()], dtype=np.intp)
        exact = scores_from_keys(query, keys(query, rows[at], metric), metric)
        past = exact > radius if metric == "l2" else exact < radius
        scores.append(query_scores[real][past])
        kept.append(query_ids[real][past])
        offsets.append(offsets[-1] + int(past.sum()))
    return Beyond(
        np.array(offsets, dtype=np.int64),
        np.concatenate([np.empty(0, np.float32), *scores]),
        np.concatenate([np.empty(0, np.int64), *kept]),
    )


def score(queries: Float32, rows: Float32, metric: str) -> Float32:
    """Scores (n_queries, n) of all given rows."""
    out = np.empty((len(queries), len(rows)), np.float32)
    for i, query in enumerate(queries):
        out[i] = as_float32(scores_from_keys(query, keys(query, rows, metric), metric))
    return out
