"""Scores in TensorFlow, for all metrics: ``key = offset(row) + <a(query), y(row)>``."""

from __future__ import annotations

from typing import Any, NamedTuple

import tensorflow as tf

from farann import _core

Tensor = Any


class Prepared(NamedTuple):
    """Candidates laid out for scoring.

    Attributes
    ----------
    rows : float32 (n, dim)
        Unit vectors under cosine, measured from the centre under l2.
    offsets, centre : float32 (n,) and (dim,), or None
        Squared lengths of the rows and what they are measured from; l2 only.
    """

    rows: Tensor
    offsets: Tensor | None = None
    centre: Tensor | None = None


def check_metric(metric: str) -> str:
    """A metric that farann knows."""
    if metric not in _core.METRICS:
        raise ValueError(f"metric: expected one of {_core.METRICS}, got {metric!r}")
    return metric


def prepare(metric: str, candidates: Tensor, centre: Tensor | None = None) -> Prepared:
    """Lay candidates out for scoring.

    Under l2 the large common part of rows that lie far from the origin would drown the differences
    in float32; a centre, their mean by default, takes it away.
    """
    if metric == "dot":
        return Prepared(candidates)
    if metric == "cosine":
        return Prepared(unit(candidates))
    if centre is None:
        centre = tf.reduce_mean(candidates, axis=0)
    rows = candidates - centre
    return Prepared(rows, tf.reduce_sum(rows * rows, axis=1), centre)


def unit(vectors: Tensor) -> Tensor:
    """Vectors of length 1; zero vectors stay zero."""
    return tf.math.divide_no_nan(vectors, tf.norm(vectors, axis=1, keepdims=True))


def keys(metric: str, queries: Tensor, prepared: Prepared) -> Tensor:
    """Keys that order the candidates of each query, furthest largest: (n_queries, n)."""
    if metric == "l2":
        centred = queries - prepared.centre
        return prepared.offsets - 2.0 * tf.matmul(centred, prepared.rows, transpose_b=True)
    directions = unit(queries) if metric == "cosine" else queries
    return tf.matmul(-directions, prepared.rows, transpose_b=True)


def scores(metric: str, found: Tensor, queries: Tensor, prepared: Prepared) -> Tensor:
    """Scores from the keys that were found: distances under l2."""
    if metric != "l2":
        return found
    centred = queries - prepared.centre
    lengths = tf.reduce_sum(centred * centred, axis=1, keepdims=True)
    return tf.sqrt(tf.maximum(found + lengths, 0.0))


def of_pairs(metric: str, queries: Tensor, candidates: Tensor) -> Tensor:
    """Score of each query for the candidate of the same row: (n, 1)."""
    if metric == "l2":
        return tf.norm(queries - candidates, axis=1, keepdims=True)
    if metric == "cosine":
        queries, candidates = unit(queries), unit(candidates)
    return -tf.reduce_sum(queries * candidates, axis=1, keepdims=True)
