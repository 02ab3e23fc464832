"""Scores in TensorFlow as one product with rows, for all metrics; the best of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from farann.contract import checks

Tensor = Any


def unit(vectors: Tensor) -> Tensor:
    """Vectors of length 1; zero vectors stay zero."""
    return tf.math.divide_no_nan(vectors, tf.norm(vectors, axis=1, keepdims=True))


def rows_of(metric: str, candidates: Tensor, center: Tensor) -> Tensor:
    """Candidates as rows that the product of `products` is with.

    Under l2 the large common part of rows that lie far from the origin would drown the differences
    in float32; a center takes it away. The last coordinate is the squared length then.
    """
    if metric != "l2":
        return unit(candidates) if metric == "cosine" else candidates
    moved = candidates - center
    return tf.concat([moved, tf.reduce_sum(moved * moved, axis=1, keepdims=True)], axis=1)


def products(metric: str, queries: Tensor, rows: Tensor, center: Tensor) -> Tensor:
    """Numbers that order the candidates of each query, furthest largest: (n_queries, n)."""
    if metric == "l2":
        moved = queries - center
        vectors = tf.concat([-2.0 * moved, tf.ones_like(moved[:, :1])], axis=1)
    else:
        vectors = -(unit(queries) if metric == "cosine" else queries)
    return tf.matmul(vectors, rows, transpose_b=True)


def scores_of(metric: str, keys: Tensor, queries: Tensor, center: Tensor) -> Tensor:
    """Scores from the products that were found: distances under l2."""
    if metric != "l2":
        return keys
    lengths = tf.reduce_sum(tf.square(queries - center), axis=1, keepdims=True)
    return tf.sqrt(tf.maximum(keys + lengths, 0.0))


def best_of(scores: Tensor, k: Any) -> tuple[Tensor, Tensor]:
    """The k largest numbers of each row and their columns, padded with NaN and -1."""
    n = tf.shape(scores)[1]
    if tf.executing_eagerly():
        checks.check_padding(int(k), int(tf.shape(scores)[0]), int(n))
    best, columns = tf.math.top_k(scores, tf.minimum(k, n))
    missing = [[0, 0], [0, tf.maximum(k - n, 0)]]
    best = tf.pad(best, missing, constant_values=np.nan)
    columns = tf.pad(columns, missing, constant_values=-1)
    if not tf.is_tensor(k):
        best.set_shape([None, k])
        columns.set_shape([None, k])
    return best, columns


def furthest(metric: str, queries: Tensor, rows: Tensor, center: Tensor,
             k: Any) -> tuple[Tensor, Tensor]:
    """Scores of the k furthest of all rows and their numbers, padded with NaN and -1."""
    best, columns = best_of(products(metric, queries, rows, center), k)
    return scores_of(metric, best, queries, center), columns
