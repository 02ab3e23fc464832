"""What searches return, and what several indexes found merged, as if one had all their rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, Self, TypeVar

import numpy as np
import numpy.typing as npt

from farann import _core
from farann._types import BoolArray, Float32Array, Float64Array, Int64Array
from farann.contract import checks


class _Table:
    """A named tuple of what was found, perhaps with keys, that is a table as well: a line for each
    row that was found."""

    scores: Float32Array
    ids: npt.NDArray[Any]
    keys: Float64Array | None = None
    _lines: Callable[[], tuple[Int64Array, Int64Array, BoolArray | slice]]

    @classmethod
    def _make(cls, iterable: Iterable[Any]) -> Self:
        return cls(*iterable)  # the inherited one goes by len

    def _replace(self, **changes: Any) -> Self:
        made: Self = super()._replace(**changes)  # type: ignore[misc]
        made.keys = self.keys
        return made

    def __repr__(self) -> str:
        text = super().__repr__()
        return text if self.keys is None else f"{text[:-1]}, keys={self.keys!r})"

    def to_dict(self) -> dict[str, npt.NDArray[Any]]:
        """Columns of a table with a line for each row that was found, without padding.

        Returns
        -------
        dict of arrays (len(self),)
            `query`, the number of the query, int64; `rank`, 0 for the best, int64; `id`; `score`,
            float32; with ``return_keys=True`` `key`, float64. ``polars.DataFrame(hits.to_dict())``
            makes a frame of it.
        """
        queries, ranks, found = self._lines()  # numbers, and where those are among the arrays
        columns = {"query": queries, "rank": ranks, "id": self.ids[found],
                   "score": self.scores[found]}
        return columns if self.keys is None else {**columns, "key": self.keys[found]}

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


class _HitArrays(NamedTuple):
    scores: Float32Array
    ids: npt.NDArray[Any]


class Hits(_Table, _HitArrays):  # type: ignore[misc]
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

    @property
    def found(self) -> BoolArray:
        """Whether there is a row at each place, of the shape of `ids`; False where it is padding,
        so that ``hits.ids[hits.found]`` are ids alone."""
        there: BoolArray = self.ids >= 0 if self.ids.dtype != object else self.ids != np.array(None)
        return there

    def __len__(self) -> int:
        return int(np.count_nonzero(self.found))

    def _lines(self) -> tuple[Int64Array, Int64Array, BoolArray]:
        queries, ranks = np.nonzero(np.atleast_2d(self.found))
        return (queries.astype(np.int64, copy=False), ranks.astype(np.int64, copy=False),
                self.found)


class Selection(NamedTuple):
    """Rows that were chosen one after the other, each as far as can be from those before.

    Attributes
    ----------
    ids : int64 (n,)
        The rows' ids, in the order in which they were chosen.
    scores : float32 (n,)
        For each its distance to the nearest row that was chosen before, which never rises; under
        dot and cosine the largest dot product or cosine, which never falls. The first of all has
        infinity, or minus infinity.
    """

    ids: npt.NDArray[Any]
    scores: Float32Array


def no_hits(n: int, k: int, *, keyed: bool = False) -> Hits:
    """Answers that are padding alone."""
    hits = Hits(np.full((n, k), np.nan, np.float32), np.full((n, k), -1, np.int64))
    return with_keys(hits, np.full((n, k), -np.inf)) if keyed else hits


def with_keys(found: Found, keys: Float64Array) -> Found:
    """Add keys to what was found, and return it."""
    found.keys = keys
    return found


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


class BeyondHits(_Table, _BeyondArrays):  # type: ignore[misc]
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

    def __len__(self) -> int:
        return len(self.ids)

    def _lines(self) -> tuple[Int64Array, Int64Array, slice]:
        counts = np.diff(self.offsets)
        queries = np.repeat(np.arange(len(counts), dtype=np.int64), counts)
        return (queries, np.arange(len(self.ids), dtype=np.int64) - self.offsets[queries],
                slice(None))


Found = TypeVar("Found", Hits, BeyondHits)


# ---- merging ----


def merge(parts: Sequence[Hits], k: int | None = None) -> Hits:
    """The k best rows of what several indexes found for the same queries.

    The answer has the bits of a search of one index that holds the rows of all parts, as long as
    the parts are answers of one kind (furthest, nearest, or furthest from sets), exact, and with
    the same filters.

    Parameters
    ----------
    parts : sequence of Hits
        For the same queries in the same order, from searches with ``return_keys=True``; each row is
        in one part only. A merged answer can be a part again.
    k : int, optional
        How many rows to keep for each query; by default as many as the narrowest part has. Each
        part must have its k best rows, or for each query all it has, padded.

    Returns
    -------
    Hits
        `scores`, `ids` and `keys`, (n_queries, k), or (k,) where parts are of a single query.

    Raises
    ------
    ValueError, TypeError
        For no parts, or parts without keys, of different queries, with fewer rows than are asked
        for, with integers as ids beside strings, or that have a row in common.

    Notes
    -----
    Rows are ordered by key, largest first, and of equal keys the smaller id comes first. Where ids
    are strings, an index orders such rows as they were added: here rows of earlier parts come
    first, as in an index to which the parts were added in this order. Scores won't do for merging:
    rows that tie in float32 may differ in float64.

    Examples
    --------
    >>> rows = np.random.default_rng(0).standard_normal((100, 8), dtype=np.float32)
    >>> whole, parts = farann.Index(), [farann.Index(), farann.Index()]
    >>> ids = whole.add(rows), parts[0].add(rows[:60]), parts[1].add(rows[60:], ids=range(60, 100))
    >>> hits = farann.merge([part.search_furthest(rows[:5], k=3, return_keys=True)
    ...                      for part in parts])
    >>> np.array_equal(hits.ids, whole.search_furthest(rows[:5], k=3).ids)
    True
    """
    parts = _checked(parts, Hits)
    single = parts[0].ids.ndim == 1
    shapes = [np.atleast_2d(part.ids).shape for part in parts]
    n, k = shapes[0][0], _to_k(parts, shapes, k)
    for number, (part, shape) in enumerate(zip(parts, shapes, strict=True)):
        if part.ids.ndim != parts[0].ids.ndim or shape[0] != n:
            raise ValueError(f"parts[{number}]: expected answers to the {n} queries of parts[0], "
                             f"got shape {part.ids.shape}")
    widths = np.array([shape[1] for shape in shapes], np.int64)
    firsts = np.concatenate([[0], np.cumsum(widths * n)[:-1]]).astype(np.int64)
    starts = firsts + np.arange(n, dtype=np.int64)[:, None] * widths
    counts = np.stack([np.atleast_2d(part.found).sum(axis=1) for part in parts], axis=1)
    all_ids, all_keys = _joined([part.ids for part in parts]), _keys(parts)
    places = _places(all_ids, all_keys, starts, starts + counts,
                     np.arange(n + 1, dtype=np.int64) * k)
    there = places >= 0
    taken = places[there]
    _check_disjoint(all_ids[taken], all_keys[taken], np.flatnonzero(there) // k)
    ids = np.full(n * k, None if all_ids.dtype == object else -1, all_ids.dtype)
    scores, keys = np.full(n * k, np.nan, np.float32), np.full(n * k, -np.inf)
    ids[there], keys[there] = all_ids[taken], all_keys[taken]
    scores[there] = _joined([part.scores for part in parts])[taken]
    shape = (k,) if single else (n, k)
    return with_keys(Hits(scores.reshape(shape), ids.reshape(shape)), keys.reshape(shape))


def merge_beyond(parts: Sequence[BeyondHits]) -> BeyondHits:
    """All rows that several indexes found beyond a radius, as one index would have found them.

    Parameters
    ----------
    parts : sequence of BeyondHits
        As for `merge`: for the same queries, with keys, each row in one part only.

    Returns
    -------
    BeyondHits
        With keys.

    Raises
    ------
    ValueError, TypeError
        As from `merge`.

    Examples
    --------
    >>> parts = [farann.Index(), farann.Index()]
    >>> ids = parts[0].add([[1.0], [5.0]]), parts[1].add([[3.0]], ids=[7])
    >>> farann.merge_beyond([part.search_beyond([[0.0]], radius=2.0, return_keys=True)
    ...                      for part in parts]).ids
    array([1, 7])
    """
    parts = _checked(parts, BeyondHits)
    n = len(parts[0].offsets)
    for number, part in enumerate(parts):
        if len(part.offsets) != n:
            raise ValueError(f"parts[{number}]: expected answers to the {n - 1} queries of "
                             f"parts[0], got {len(part.offsets) - 1}")
    firsts = np.cumsum([0] + [len(part.ids) for part in parts[:-1]])
    bounds = np.stack([part.offsets for part in parts], axis=1) + firsts
    offsets = np.stack([part.offsets for part in parts]).sum(axis=0)
    ids, keys = _joined([part.ids for part in parts]), _keys(parts)
    places = _places(ids, keys, np.ascontiguousarray(bounds[:-1]), np.ascontiguousarray(bounds[1:]),
                     offsets)
    ids, keys = ids[places], keys[places]
    _check_disjoint(ids, keys, np.repeat(np.arange(n - 1), np.diff(offsets)))
    scores = _joined([part.scores for part in parts])[places]
    return with_keys(BeyondHits(offsets, scores, ids), keys)


def _checked(given: Sequence[Any], kind: type[Any]) -> list[Any]:
    parts = list(given)
    if not parts:
        raise ValueError("parts: expected at least one, got none")
    for number, part in enumerate(parts):
        if not isinstance(part, kind):
            raise TypeError(f"parts[{number}]: expected {kind.__name__}, got {checks.shown(part)}")
        if part.keys is None:
            raise ValueError(f"parts[{number}]: expected an answer with keys, got one without; "
                             "search with return_keys=True")
    return parts


def _to_k(parts: list[Hits], shapes: list[tuple[int, ...]], k: int | None) -> int:
    """The number of rows to keep; refused where a part may hold more of them than it returned."""
    k = min(shape[1] for shape in shapes) if k is None else checks.to_int("k", k, 1)
    for number, (part, shape) in enumerate(zip(parts, shapes, strict=True)):
        if shape[1] < k and np.atleast_2d(part.found).all(axis=1).any():
            raise ValueError(f"k: expected at most {shape[1]}, as parts[{number}] has no more than "
                             f"its {shape[1]} best rows, got {k}")
    return k


def _places(ids: npt.NDArray[Any], keys: Float64Array, starts: Int64Array, stops: Int64Array,
            offsets: Int64Array) -> Int64Array:
    """Positions of the best rows in the concatenated parts; -1 where there are fewer."""
    if ids.dtype == object:
        ids = np.arange(len(ids), dtype=np.int64)  # earlier parts first
    places = np.empty(int(offsets[-1]), np.int64)
    _core.merge_sorted(keys, ids, starts, stops, offsets, places)
    return places


def _joined(arrays: list[npt.NDArray[Any]]) -> npt.NDArray[Any]:
    """Arrays of all parts, flat, one behind the other."""
    kinds = {array.dtype == object for array in arrays}
    if len(kinds) > 1:  # an index without rows doesn't know yet what its ids are
        if any(array.dtype != object and (array >= 0).any() for array in arrays):
            raise ValueError("parts: expected ids of one kind, got integers and strings")
        arrays = [array if array.dtype == object else np.full(array.shape, None)
                  for array in arrays]
    return np.concatenate([array.ravel() for array in arrays])


def _keys(parts: list[Any]) -> Float64Array:
    return np.concatenate([part.keys.ravel() for part in parts])


def _check_disjoint(ids: npt.NDArray[Any], keys: Float64Array, queries: Int64Array) -> None:
    """Refuse a row that two parts have: its key is the same, so that it lies among its equals."""
    tied = (keys[1:] == keys[:-1]) & (queries[1:] == queries[:-1])
    repeated = bool((tied & (ids[1:] == ids[:-1])).any())
    if ids.dtype == object:  # equal keys are in the order of parts, not of ids
        run = np.cumsum(np.append(True, ~tied))
        some = np.flatnonzero(np.append(tied, False) | np.append(False, tied))
        named = list(zip(run[some].tolist(), ids[some].tolist(), strict=True))
        repeated = len(set(named)) < len(named)
    if repeated:
        raise ValueError("parts: expected each row in one part, got an id twice for a query; "
                         "leave copies of a part out")
