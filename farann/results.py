"""What searches return."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt

from farann._types import BoolArray, Float32Array, Float64Array, Int64Array


class _Table:
    """What was found as a table: a line for each row that was found."""

    __slots__ = ()

    def to_dict(self) -> dict[str, npt.NDArray[Any]]:
        """Columns of a table with a line for each row that was found, without padding.

        Returns
        -------
        dict of arrays (len(self),)
            `query`, the number of the query, int64; `rank`, 0 for the best, int64; `id`; `score`,
            float32; with ``return_keys=True`` `key`, float64. ``polars.DataFrame(hits.to_dict())``
            makes a frame of it.
        """
        raise NotImplementedError

    def to_arrow(self) -> Any:
        """The same as a table of pyarrow, which has to be installed.

        Returns
        -------
        pyarrow.Table
        """
        import pyarrow

        columns: dict[str, Any] = self.to_dict()
        if columns["id"].dtype == object:  # whose type pyarrow can't tell where there are none
            columns["id"] = pyarrow.array(columns["id"], pyarrow.string())
        return pyarrow.table(columns)

    def to_pandas(self) -> Any:
        """The same as a frame of pandas, which has to be installed.

        Returns
        -------
        pandas.DataFrame
        """
        import pandas

        return pandas.DataFrame(self.to_dict())


def _told_keys(keys: Float64Array | None) -> dict[str, npt.NDArray[Any]]:
    """The column of keys of a table, where there are keys."""
    return {} if keys is None else {"key": keys}


class _HitArrays(NamedTuple):
    scores: Float32Array
    ids: npt.NDArray[Any]


class Hits(_HitArrays, _Table):
    """The k best rows of each query; scores first, as in faiss, scikit-learn and TFRS.

    Attributes
    ----------
    scores : float32 (n_queries, k), or (k,) for a single query
        Distances (l2), dot products or cosines, best first. NaN where there are fewer rows.
    ids : int64, the same shape
        The rows' ids; -1 where there are fewer rows. Where ids are strings, objects, and None.
    keys : float64, the same shape, or None
        What rows were ordered by, for `merge`; there after a search with ``return_keys=True``.
        Larger is better, and of equal keys the smaller id comes first. A key is a function of the
        query and the row alone, and has the same bits on every machine: the squared distance (l2),
        minus the dot product, or minus the dot product with the row divided by its norm (cosine),
        in float64; for the nearest rows, and for `search_furthest_from`, see there. -infinity
        where there are fewer rows.

    Notes
    -----
    As of a frame, `len` counts lines, and a loop goes over columns: ``len(hits)`` is how many rows
    were found for all queries, without padding, and ``scores, ids = hits`` takes the arrays apart.

    Examples
    --------
    >>> index = farann.Index()
    >>> index.add([[1.0], [5.0]])
    array([0, 1])
    >>> hits = index.search_furthest([[0.0]], k=3)
    >>> hits.ids, hits.found
    (array([[ 1,  0, -1]]), array([[ True,  True, False]]))
    >>> len(hits), hits.ids[hits.found]
    (2, array([1, 0]))
    >>> for name, column in hits.to_dict().items():
    ...     print(name, column)
    query [0 0]
    rank [0 1]
    id [1 0]
    score [5. 1.]
    """

    __slots__ = ()

    keys: Float64Array | None = None

    @classmethod
    def _make(cls, iterable: Iterable[Any]) -> Self:  # type: ignore[override]
        return cls(*iterable)  # the inherited one goes by len

    @property
    def found(self) -> BoolArray:
        """Whether there is a row at each place, of the shape of `ids`; False where it is padding,
        so that ``hits.ids[hits.found]`` are ids alone."""
        there: BoolArray = self.ids >= 0 if self.ids.dtype != object else self.ids != np.array(None)
        return there

    def __len__(self) -> int:
        return int(np.count_nonzero(self.found))

    def to_dict(self) -> dict[str, npt.NDArray[Any]]:
        found = np.atleast_2d(self.found)
        queries, ranks = np.nonzero(found)
        return {"query": queries.astype(np.int64, copy=False),
                "rank": ranks.astype(np.int64, copy=False),
                "id": np.atleast_2d(self.ids)[found], "score": np.atleast_2d(self.scores)[found],
                **_told_keys(None if self.keys is None else np.atleast_2d(self.keys)[found])}

    to_dict.__doc__ = _Table.to_dict.__doc__


class _KeyedHits(Hits):
    """Hits with keys."""

    def __new__(cls, scores: Float32Array, ids: npt.NDArray[Any],
                keys: Float64Array | None = None) -> _KeyedHits:
        self = super().__new__(cls, scores, ids)
        self.keys = keys
        return self

    def __repr__(self) -> str:
        return f"Hits(scores={self.scores!r}, ids={self.ids!r}, keys={self.keys!r})"

    def _replace(self, **changes: Any) -> _KeyedHits:
        return _KeyedHits(*Hits(*self)._replace(**changes), keys=self.keys)


def no_hits(n: int, k: int, *, keyed: bool = False) -> Hits:
    """Answers that are padding alone."""
    hits = Hits(np.full((n, k), np.nan, np.float32), np.full((n, k), -1, np.int64))
    return with_keys(hits, np.full((n, k), -np.inf)) if keyed else hits


def with_keys(hits: Hits, keys: Float64Array) -> Hits:
    """Add keys to hits."""
    return _KeyedHits(hits.scores, hits.ids, keys)


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


def share_found(found: npt.NDArray[Any], wanted: npt.NDArray[Any]) -> float:
    """The share of the ids in `wanted` that are in the same row of `found`.

    Neither has an id twice in a row; -1 fills up rows of both and counts in neither, and among
    strings None.
    """
    if wanted.dtype == object:
        numbers: dict[Any, int] = {None: -1}
        found, wanted = (np.array([numbers.setdefault(id, len(numbers)) for id in ids.flat],
                                  np.int64).reshape(ids.shape) for ids in (found, wanted))
    # Sorted together: memory for twice the ids, where comparing all pairs takes their product.
    ids = np.sort(np.concatenate([found, wanted], axis=1), axis=1)
    same = (ids[:, 1:] == ids[:, :-1]) & (ids[:, 1:] >= 0)
    return float(same.sum() / max(int((wanted >= 0).sum()), 1))


class _BeyondArrays(NamedTuple):
    offsets: Int64Array
    scores: Float32Array
    ids: npt.NDArray[Any]


class BeyondHits(_BeyondArrays, _Table):
    """All rows beyond a radius, query after query; `len` counts them.

    Attributes
    ----------
    offsets : int64 (n_queries + 1,)
        Query i found ``ids[offsets[i]:offsets[i + 1]]``, furthest first.
    scores : float32 (offsets[-1],)
    ids : int64 (offsets[-1],), or objects where ids are strings
    keys : float64 (offsets[-1],), or None
        As in `Hits`, for `merge_beyond`.

    Examples
    --------
    >>> index = farann.Index()
    >>> index.add([[1.0], [2.0], [5.0]])
    array([0, 1, 2])
    >>> beyond = index.search_beyond([[0.0], [4.0]], radius=1.5)
    >>> len(beyond), beyond.to_dict()["query"]
    (4, array([0, 0, 1, 1]))
    """

    __slots__ = ()

    keys: Float64Array | None = None

    @classmethod
    def _make(cls, iterable: Iterable[Any]) -> Self:  # type: ignore[override]
        return cls(*iterable)  # the inherited one goes by len

    def __len__(self) -> int:
        return len(self.ids)

    def to_dict(self) -> dict[str, npt.NDArray[Any]]:
        counts = np.diff(self.offsets)
        queries = np.repeat(np.arange(len(counts), dtype=np.int64), counts)
        ranks = np.arange(len(self.ids), dtype=np.int64) - self.offsets[queries]
        return {"query": queries, "rank": ranks, "id": self.ids, "score": self.scores,
                **_told_keys(self.keys)}

    to_dict.__doc__ = _Table.to_dict.__doc__


class _KeyedBeyondHits(BeyondHits):
    """Rows beyond a radius, with keys."""

    def __new__(cls, offsets: Int64Array, scores: Float32Array, ids: npt.NDArray[Any],
                keys: Float64Array | None = None) -> _KeyedBeyondHits:
        self = super().__new__(cls, offsets, scores, ids)
        self.keys = keys
        return self

    def __repr__(self) -> str:
        return (f"BeyondHits(offsets={self.offsets!r}, scores={self.scores!r}, "
                f"ids={self.ids!r}, keys={self.keys!r})")

    def _replace(self, **changes: Any) -> _KeyedBeyondHits:
        return _KeyedBeyondHits(*BeyondHits(*self)._replace(**changes), keys=self.keys)


def beyond_with_keys(found: BeyondHits, keys: Float64Array) -> BeyondHits:
    """Add keys to rows beyond a radius."""
    return _KeyedBeyondHits(*found, keys=keys)
