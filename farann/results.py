"""What searches return."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from farann._types import Float32Array, Int64Array


class Hits(NamedTuple):
    """The k best rows of each query; scores first, as in faiss, scikit-learn and TFRS.

    Attributes
    ----------
    scores : float32 (n_queries, k), or (k,) for a single query
        Distances (l2), dot products or cosines, best first. NaN where there are fewer rows.
    ids : int64, the same shape
        The rows' ids; -1 where there are fewer rows.
    """

    scores: Float32Array
    ids: Int64Array


class SearchStats(NamedTuple):
    """What a search did, over all its queries.

    Attributes
    ----------
    queries : int
    rows_scanned : int
        Rows scored in the first place: by codes, along leading directions or whole, in float32,
        or where neither would do by their exact keys at once.
    rows_refined : int
        Of these, rows scored again by the codes of all coordinates.
    rows_rescored : int
        Rows scored by their exact keys, in float64, at the end or at once; where all rows of
        a block were, for several queries together, those of them that could be answers.
    bytes_read : int
        Bytes of all rows and codes that were scored, counted for each query, although queries of
        a batch read them together.
    code_products : int
        Multiply-adds of codes in scans, of cells' means, too. Queries of a batch are scanned for in
        groups, and the empty places of a group are counted.
    float_products : int
        The same of float32 rows; one in float64, for several queries together, counts as two,
        or under l2 as six.
    blocks_scanned : int
        Blocks of rows that were scanned for a query.
    rows_passed : int
        Rows whose rough scores reached what was known of the answer at that time.
    queries_guarded : int
        Of the queries of a search with ``recall=``, those that are unlike the queries that this was
        measured with, and were answered exactly.
    """

    queries: int
    rows_scanned: int = 0
    rows_refined: int = 0
    rows_rescored: int = 0
    bytes_read: int = 0
    code_products: int = 0
    float_products: int = 0
    blocks_scanned: int = 0
    rows_passed: int = 0
    queries_guarded: int = 0


def share_found(found: Int64Array, wanted: Int64Array) -> float:
    """The share of the ids in `wanted` that are in the same row of `found`.

    Neither has an id twice in a row; -1 fills up rows of both and counts in neither.
    """
    # Sorted together: memory for twice the ids, where comparing all pairs takes their product.
    ids = np.sort(np.concatenate([found, wanted], axis=1), axis=1)
    same = (ids[:, 1:] == ids[:, :-1]) & (ids[:, 1:] >= 0)
    return float(same.sum() / max(int((wanted >= 0).sum()), 1))


class BeyondHits(NamedTuple):
    """All rows beyond a radius, query after query.

    Attributes
    ----------
    offsets : int64 (n_queries + 1,)
        Query i found ``ids[offsets[i]:offsets[i + 1]]``, furthest first.
    scores : float32 (offsets[-1],)
    ids : int64 (offsets[-1],)
    """

    offsets: Int64Array
    scores: Float32Array
    ids: Int64Array
