"""What searches return."""

from __future__ import annotations

from typing import NamedTuple

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
        or where neither would do by their canonical keys at once.
    rows_refined : int
        Of these, rows scored again by the codes of all coordinates.
    rows_rescored : int
        Rows scored by their canonical keys, in float64, at the end or at once.
    bytes_read : int
        Bytes of all rows and codes that were scored, counted for each query, although queries of
        a batch read them together.
    """

    queries: int
    rows_scanned: int
    rows_refined: int
    rows_rescored: int
    bytes_read: int


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
