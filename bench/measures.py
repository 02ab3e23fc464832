"""Ground truth in float64, and recall against it."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.int64]
Scores = NDArray[np.float64]
TOLERANCE = 1e-6
_PAIRS = 1 << 24  # float64 values held at once


def pair_scores(rows: NDArray[np.floating], queries: NDArray[np.floating], ids: Ids,
                metric: str) -> Scores:
    """True float64 scores of each query's own ids.

    Parameters
    ----------
    rows : ndarray of shape (n, dim)
    queries : ndarray of shape (nq, dim)
    ids : ndarray of shape (nq, k)
        Row numbers, all valid.
    metric : {"l2", "dot", "cosine"}

    Returns
    -------
    ndarray of shape (nq, k), float64
        Distances, dot products or cosine similarities.
    """
    scores = np.empty(ids.shape, dtype=np.float64)
    step = max(1, _PAIRS // max(1, ids.shape[1] * rows.shape[1]))
    for at in range(0, len(queries), step):
        chosen = rows[ids[at : at + step]].astype(np.float64)
        asked = queries[at : at + step, None, :].astype(np.float64)
        if metric == "l2":
            chosen -= asked
            scores[at : at + step] = np.sqrt(np.einsum("qkd,qkd->qk", chosen, chosen))
        else:
            dots = np.einsum("qkd,qkd->qk", chosen, np.broadcast_to(asked, chosen.shape))
            if metric == "cosine":
                dots /= np.linalg.norm(chosen, axis=2) * np.linalg.norm(asked, axis=2)
            scores[at : at + step] = dots
    return scores


def furthest(rows: NDArray[np.floating], queries: NDArray[np.floating], k: int,
             metric: str, nearest: bool = False) -> tuple[Ids, Scores]:
    """The k furthest (or nearest) rows of each query by float64 brute force, ties by smaller id.

    Returns
    -------
    ids : ndarray of shape (nq, min(k, n)), int64
    scores : ndarray of shape (nq, min(k, n)), float64
        Furthest first, or nearest.
    """
    count, dim = rows.shape
    k = min(k, count)
    wanted = min(count, k + 32)  # a margin for the rounding of the rough keys below
    mean = rows.mean(axis=0, dtype=np.float64)
    step = max(1, min(256, _PAIRS // dim))
    best_keys = np.full((len(queries), 0), -np.inf)
    best_ids = np.zeros((len(queries), 0), dtype=np.int64)
    asked = _rough_queries(queries, mean, metric)
    block_rows = max(wanted, _PAIRS // max(dim, step))
    for start in range(0, count, block_rows):
        block = rows[start : start + block_rows].astype(np.float64)
        bias = np.zeros(len(block))
        if metric == "l2":
            block -= mean
            bias = np.einsum("ij,ij->i", block, block)
        elif metric == "cosine":
            block /= np.linalg.norm(block, axis=1, keepdims=True)
        numbers = np.arange(start, start + len(block), dtype=np.int64)
        keys = np.empty((len(queries), min(wanted, len(block))))
        ids = np.empty(keys.shape, dtype=np.int64)
        for at in range(0, len(queries), step):
            rough = asked[at : at + step] @ block.T + bias
            if nearest:
                np.negative(rough, out=rough)
            order = np.argpartition(-rough, keys.shape[1] - 1, axis=1)[:, : keys.shape[1]]
            keys[at : at + step] = np.take_along_axis(rough, order, axis=1)
            ids[at : at + step] = numbers[order]
        best_keys, best_ids = np.hstack([best_keys, keys]), np.hstack([best_ids, ids])
        if best_keys.shape[1] > wanted:
            order = np.argpartition(-best_keys, wanted - 1, axis=1)[:, :wanted]
            best_keys = np.take_along_axis(best_keys, order, axis=1)
            best_ids = np.take_along_axis(best_ids, order, axis=1)
    scores = pair_scores(rows, queries, best_ids, metric)
    order = np.lexsort((best_ids, -scores if (metric == "l2") != nearest else scores))[:, :k]
    return np.take_along_axis(best_ids, order, axis=1), np.take_along_axis(scores, order, axis=1)


def _rough_queries(queries: NDArray[np.floating], mean: Scores, metric: str) -> Scores:
    wide = queries.astype(np.float64)
    return -2.0 * (wide - mean) if metric == "l2" else -wide


def tolerances(rows: NDArray[np.floating], queries: NDArray[np.floating], kth: Scores,
               metric: str) -> Scores:
    """How far from the k-th best score a row still counts, one value a query.

    It is 1e-6 of the natural size of a score (the distance; |q| times the typical |x|; 1),
    so that the unit of the data plays no part.
    """
    if metric == "l2":
        return TOLERANCE * kth
    if metric == "cosine":
        return np.full(len(kth), TOLERANCE)
    squares = float(np.einsum("ij,ij->", rows, rows, dtype=np.float64))
    typical = math.sqrt(squares / max(1, len(rows)))
    lengths: Scores = np.linalg.norm(queries.astype(np.float64), axis=1)
    return TOLERANCE * typical * lengths


def recall(rows: NDArray[np.floating], queries: NDArray[np.floating], ids: Ids, kth: Scores,
           metric: str, nearest: bool = False) -> float:
    """Recall by value with distinct ids.

    An id counts when its true float64 score reaches the k-th best score within
    `tolerances`. An id given twice counts once; an id that is no row number counts never.

    Parameters
    ----------
    rows, queries : ndarray
    ids : ndarray of shape (nq, k)
        What the algorithm answered.
    kth : ndarray of shape (nq,), float64
        The true k-th best score of each query.
    metric : {"l2", "dot", "cosine"}
    nearest : bool
        Whether the nearest rows are wanted.

    Returns
    -------
    float
        Mean over the queries, between 0 and 1.
    """
    if ids.ndim != 2 or len(ids) != len(queries):
        raise ValueError(f"ids must have shape ({len(queries)}, k), got {ids.shape}")
    if ids.size == 0:
        raise ValueError("ids must not be empty")
    valid = (ids >= 0) & (ids < len(rows))
    scores = pair_scores(rows, queries, np.where(valid, ids, 0), metric)
    slack = tolerances(rows, queries, kth, metric)[:, None]
    larger = (metric == "l2") != nearest
    reached = scores >= kth[:, None] - slack if larger else scores <= kth[:, None] + slack
    order = np.argsort(ids, axis=1, kind="stable")
    ordered = np.take_along_axis(ids, order, axis=1)
    first = np.ones(ids.shape, dtype=bool)
    np.put_along_axis(first, order[:, 1:], ordered[:, 1:] != ordered[:, :-1], axis=1)
    possible = min(ids.shape[1], len(rows))
    return float(np.mean(np.sum(reached & valid & first, axis=1) / possible))


def same_order(ids: Ids, true_ids: Ids) -> float:
    """Share of queries whose ids equal the true ids in the true order."""
    return float(np.mean(np.all(ids == true_ids[:, : ids.shape[1]], axis=1)))
