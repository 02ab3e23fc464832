"""Results of searches, and exact merging of the results of several indexes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import Any, NamedTuple, NoReturn, TypeVar

import numpy as np
import numpy.typing as npt

from farann import _core
from farann._types import BoolArray, Float32Array, Float64Array, Int64Array
from farann.contract import checks

_SHOWN_LINES = 20  # most lines of a table in a notebook
_OPTIONAL = ("keys", "stats", "groups", "dropped", "keepers")  # there when they are asked for
_SHOWN_VALUES = 60  # most values of an array that a repr has without leaving some out


class Result:
    """Base of results whose fields are read by name: they don't unpack, and have no length.

    The fields are the slots of the derived class.
    """

    __slots__: tuple[str, ...] = ()

    def __iter__(self) -> NoReturn:
        *fields, last = (f"{self._name()}.{field}" for field in self.__slots__
                         if field not in _OPTIONAL)
        raise TypeError(
            f"{type(self).__name__} doesn't unpack: read {', '.join(fields)} and {last}")

    def __getitem__(self, item: object) -> NoReturn:
        iter(self)

    def __getattr__(self, name: str) -> NoReturn:
        from farann.contract.names import like

        hint = "" if name.startswith("_") else like(name, dir(self))
        raise AttributeError(f"{type(self).__name__} has no attribute {name!r}"
                             + f": {hint}" * bool(hint), name=name, obj=self)

    def __len__(self) -> int:
        counted = " or hits.found.sum()" if isinstance(self, Hits) else ""
        raise TypeError(f"{type(self).__name__} has no length: read {self._name()}.ids.shape"
                        f"{counted}")

    def __repr__(self) -> str:
        start, shown = type(self).__name__ + "(", []
        for field in self.__slots__:
            value = getattr(self, field)
            if isinstance(value, np.ndarray):
                value = np.array2string(value, threshold=_SHOWN_VALUES, separator=", ",
                                        prefix=f"{start}{field}=")
            if value is not None:
                shown.append(f"{field}={value}")
        long = len(shown) > 3 or "\n" in "".join(shown)
        return start + (",\n" + " " * len(start) if long else ", ").join(shown) + ")"

    def _name(self) -> str:
        """Return a variable name for it, for errors."""
        kind = type(self).__name__
        return "hits" if kind.endswith("Hits") else kind.lower()


def html_table(heads: Iterable[object], lines: Iterable[Iterable[object]], note: str) -> str:
    """Make a small table for notebooks, with a note below."""
    from html import escape

    rows = "".join("<tr>" + "".join(f"<td>{escape(str(cell))}</td>" for cell in line) + "</tr>"
                   for line in islice(lines, _SHOWN_LINES))
    head = "".join(f"<th>{escape(str(cell))}</th>" for cell in heads)
    return f"<table><tr>{head}</tr>{rows}</table><p>{escape(note)}</p>"


class _Table(Result):
    """Base of results that are tables with a line for each row."""

    __slots__ = ()
    ids: npt.NDArray[Any]
    scores: Float32Array
    _lines: Callable[[], tuple[Int64Array | None, Int64Array, BoolArray | slice]]

    def __init__(self, ids: npt.NDArray[Any], scores: Any) -> None:
        if ids.dtype.kind == "f" or scores.dtype.kind != "f":
            raise TypeError(f"{type(self).__name__}: expected ids, which are integers or strings, "
                            f"before scores, got {ids.dtype} and {scores.dtype}")
        self.ids, self.scores = ids, scores  # type: ignore[misc] # slots of the derived class

    def to_dict(self) -> dict[str, npt.NDArray[Any]]:
        """Make columns of a table with a line for each row found, without padding.

        Returns
        -------
        dict of arrays (n_found,)
            `query` (except for selections) and `rank`, from 1, int64; `id`; `score`, float32; with
            ``return_keys=True`` `key`, float64; with ``per_group=`` `group`.
        """
        queries, ranks, places = self._lines()  # and where these rows are among the arrays
        columns = {"query": queries, "rank": ranks, "id": self.ids[places],
                   "score": self.scores[places]}
        for name in ("key", "group"):
            values = getattr(self, f"{name}s", None)
            if values is not None:
                columns[name] = values[places]
        return {name: column for name, column in columns.items() if column is not None}

    def _repr_html_(self) -> str:
        columns = self.to_dict()
        n = len(columns["id"])
        return html_table(columns, zip(*columns.values(), strict=True),
                          f"{type(self).__name__}: " + (
                              f"the first {_SHOWN_LINES} of " * (n > _SHOWN_LINES)) + f"{n:,} rows")

    def to_arrow(self) -> Any:
        """Make a pyarrow.Table of `to_dict`; needs pyarrow."""
        import pyarrow

        columns: dict[str, Any] = self.to_dict()
        for name, column in columns.items():
            if column.dtype == object:  # ids, whose type pyarrow can't tell where there are none
                columns[name] = pyarrow.array(column, pyarrow.string())
        return pyarrow.table(columns)

    def to_polars(self) -> Any:
        """Make a polars.DataFrame of `to_dict`; needs polars."""
        import polars

        return polars.DataFrame(self.to_dict(), schema_overrides={
            name: polars.String for name, column in self.to_dict().items()
            if column.dtype == object})

    def to_pandas(self) -> Any:
        """Make a pandas.DataFrame of `to_dict`; needs pandas."""
        import pandas

        return pandas.DataFrame(self.to_dict())


class Hits(_Table):
    """The k best rows of each query. Fields are read by name: hits don't unpack, and have no `len`.

    Attributes
    ----------
    ids : int64 (n_queries, k), or (k,) for a single query
        The rows' ids, -1 as padding; objects if ids are strings, None as padding.
    scores : float32, the same shape
        Distances (l2), dot products or cosines, best first. NaN as padding.
    keys : float64, the same shape, or None
        With ``return_keys=True``, the numbers by which rows are ordered, largest first, of equal
        ones the smaller id, for `merge`: the squared distance (l2), minus the dot product, or minus
        the dot product with the row divided by its norm (cosine); see also `search_nearest` and
        `search_furthest_from`. They have the same bits on every machine. -infinity as padding.
    stats : SearchStats, or None
        Counts of the work, with ``return_stats=True``.
    groups : int64, or objects where labels are strings, the same shape, or None
        The labels of the rows' groups, with ``per_group=``; -1 or None as padding.

    Examples
    --------
    >>> index = farann.Index()
    >>> ids = index.add([[1.0], [5.0]])
    >>> hits = index.search_furthest([[0.0]], k=3)
    >>> hits.ids, hits.found
    (array([[ 1,  0, -1]]), array([[ True,  True, False]]))
    >>> for name, column in hits.to_dict().items():
    ...     print(name, column)
    query [0 0]
    rank [1 2]
    id [1 0]
    score [5. 1.]
    """

    __slots__ = ("ids", "scores", "keys", "stats", "groups")
    keys: Float64Array | Any
    stats: SearchStats | Any
    groups: npt.NDArray[Any] | Any

    def __init__(self, ids: npt.NDArray[Any], scores: Float32Array,
                 keys: Float64Array | Any = None, stats: SearchStats | Any = None,
                 groups: npt.NDArray[Any] | Any = None) -> None:
        super().__init__(ids, scores)
        self.keys, self.stats, self.groups = keys, stats, groups

    @property
    def found(self) -> BoolArray:
        """Mask of the shape of `ids`, False in padding: ``hits.ids[hits.found]`` has ids alone."""
        there: BoolArray = self.ids >= 0 if self.ids.dtype != object else self.ids != np.array(None)
        return there

    def _lines(self) -> tuple[Int64Array, Int64Array, BoolArray]:
        queries, places = (at.astype(np.int64) for at in np.nonzero(np.atleast_2d(self.found)))
        return queries, places + 1, self.found


class RangeHits(_Table):
    """All rows on one side of a radius, query after query.

    Attributes
    ----------
    offsets : int64 (n_queries + 1,)
        Query i found ``ids[offsets[i]:offsets[i + 1]]``, best first.
    ids : int64 (offsets[-1],), or objects where ids are strings
    scores : float32 (offsets[-1],)
    keys, stats : as in `Hits`, or None

    Examples
    --------
    >>> index = farann.Index()
    >>> ids = index.add([[1.0], [2.0], [5.0]])
    >>> index.search_beyond([[0.0], [4.0]], radius=1.5)
    RangeHits(offsets=[0, 2, 4], ids=[2, 1, 0, 1], scores=[5., 2., 3., 2.])
    """

    __slots__ = ("offsets", "ids", "scores", "keys", "stats")
    offsets: Int64Array
    keys: Float64Array | Any
    stats: SearchStats | Any

    def __init__(self, offsets: Int64Array, ids: npt.NDArray[Any], scores: Float32Array,
                 keys: Float64Array | Any = None, stats: SearchStats | Any = None) -> None:
        super().__init__(ids, scores)
        self.offsets, self.keys, self.stats = offsets, keys, stats

    def _lines(self) -> tuple[Int64Array, Int64Array, slice]:
        queries = np.repeat(np.arange(len(self.offsets) - 1), np.diff(self.offsets))
        return queries, np.arange(1, len(self.ids) + 1) - self.offsets[queries], slice(None)


class Selection(_Table):
    """Rows chosen one after the other, each the furthest from those before.

    Attributes
    ----------
    ids : int64 (n,), or objects if ids are strings
        In the order of choice.
    scores : float32 (n,)
        The distance of each to the nearest row chosen before, or its largest dot product or cosine;
        that of the first row is infinity, or minus infinity.
    """

    __slots__ = ("ids", "scores")

    def _lines(self) -> tuple[None, Int64Array, slice]:
        return None, np.arange(1, len(self.ids) + 1), slice(None)


class Spaced(Selection):
    """Rows chosen by score, no two nearer than a radius.

    Attributes
    ----------
    ids : int64 (n,), or objects if ids are strings
        Those with the best scores first.
    scores : float64 (n,)
        The given scores of these rows.
    radius : float or None
        The smallest distance of two chosen rows; None without a limit.
    dropped, keepers : as `ids`, (m,), or None
        With ``return_dropped=True``, the rows nearer than the radius to a better chosen row, best
        first; and for each the best such row.
    """

    __slots__ = ("ids", "scores", "radius", "dropped", "keepers")
    radius: float | None
    dropped: npt.NDArray[Any] | None
    keepers: npt.NDArray[Any] | None

    def __init__(self, ids: npt.NDArray[Any], scores: Any, radius: float | None,
                 dropped: npt.NDArray[Any] | None = None,
                 keepers: npt.NDArray[Any] | None = None) -> None:
        super().__init__(ids, scores)
        self.radius, self.dropped, self.keepers = radius, dropped, keepers


class Pairs(_Table):
    """Pairs of rows within a radius, each once.

    Attributes
    ----------
    ids : int64 (n_pairs, 2), or objects where ids are strings
        The smaller id of each pair first; in the order of first ids, then nearest first.
    scores : float32 (n_pairs,)
        Distances, or under dot and cosine dot products or cosines.
    """

    __slots__ = ("ids", "scores")

    def to_dict(self) -> dict[str, npt.NDArray[Any]]:
        """Columns of a table with a line for each pair: `id`, `other_id` and `score`."""
        return {"id": self.ids[:, 0], "other_id": self.ids[:, 1], "score": self.scores}

    def components(self) -> list[npt.NDArray[Any]]:
        """Group rows that pairs connect, such as clusters of near duplicates.

        Returns
        -------
        list of int64 arrays, or of objects where ids are strings
            The ids of each group, ascending; groups in the order of their first ids.

        Examples
        --------
        >>> index = farann.Index()
        >>> ids = index.add([[0.0], [5.0], [0.25], [5.5], [0.5]])
        >>> index.pairs_within(0.5).components()
        [array([0, 2, 4]), array([1, 3])]
        """
        from scipy.sparse import coo_array
        from scipy.sparse.csgraph import connected_components

        if not len(self.ids):
            return []
        ids, numbers = np.unique(self.ids, return_inverse=True)
        ends = numbers.reshape(-1, 2).T
        graph = coo_array((np.ones(ends.shape[1], np.bool_), tuple(ends)), (len(ids), len(ids)))
        _, labels = connected_components(graph, directed=False)
        groups = np.split(ids[np.argsort(labels, kind="stable")],
                          np.cumsum(np.bincount(labels))[:-1])
        return sorted(groups, key=lambda group: group[0])


class Diameter(Result):
    """The two rows that are furthest from each other.

    Attributes
    ----------
    ids : int64 (2,), or objects where ids are strings
        The smaller one first; -1, or None, if there are fewer than two rows.
    score : float
        Their distance, or smallest dot product or cosine of two rows; NaN for fewer than two rows.
    """

    __slots__ = ("ids", "score")
    ids: npt.NDArray[Any]
    score: float

    def __init__(self, ids: npt.NDArray[Any], score: float) -> None:
        self.ids, self.score = ids, score


Found = TypeVar("Found", Hits, RangeHits)
_new = object.__new__


def unchecked(ids: npt.NDArray[Any], scores: Float32Array, keys: Float64Array | None = None,
              stats: SearchStats | None = None, groups: npt.NDArray[Any] | None = None) -> Hits:
    """Make hits without the check of `Hits`, which takes longer than all else."""
    hits = _new(Hits)
    hits.ids, hits.scores, hits.keys, hits.stats, hits.groups = ids, scores, keys, stats, groups
    return hits


def no_hits(n: int, k: int, *, keyed: bool = False) -> Hits:
    """Make answers that are padding alone."""
    return Hits(np.full((n, k), -1, np.int64), np.full((n, k), np.nan, np.float32),
                np.full((n, k), -np.inf) if keyed else None)


class SearchStats(NamedTuple):
    """Counts of the work of a search, summed over its queries.

    Attributes
    ----------
    queries : int
    rows_scanned : int
        Rows scored first: by codes, in float32, or by exact keys if neither is accurate enough.
    rows_refined : int
        Of these, rows scored again by the codes of all coordinates.
    rows_rescored : int
        Rows scored by exact keys; where whole blocks were, those that could be answers.
    bytes_read : int
        Bytes of rows and codes that were scored, counted for each query of a batch.
    code_products : int
        Multiply-adds of codes, of centroids, too, with the empty places of tiles of queries.
    float_products : int
        Multiply-adds of float32 rows. One in float64, for several queries together, counts as two,
        or under l2 as six.
    blocks_scanned : int
        Blocks of rows scanned, counted for each query.
    rows_passed : int
        Rows whose rough scores reached the threshold at that time.
    rows_packed : int
        Rows copied into tiles by each task, for queries that share them.
    queries_guarded : int
        Queries with ``recall=`` unlike the sample of its table, which were answered exactly.
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
    rows_packed: int = 0
    queries_guarded: int = 0


def shares_found(answers: Int64Array, wanted: Int64Array) -> Float64Array:
    """`share_found` for each line of ids, none of which are strings."""
    shares: Float64Array = _same(answers, wanted) / np.maximum((wanted >= 0).sum(axis=1), 1)
    return shares


def _same(answers: Int64Array, wanted: Int64Array) -> Int64Array:
    """How many ids both have, by line."""
    # Sorted together: memory for twice the ids, where comparing all pairs takes their product.
    ids = np.sort(np.concatenate([answers, wanted], axis=1), axis=1)
    same: Int64Array = ((ids[:, 1:] == ids[:, :-1]) & (ids[:, 1:] >= 0)).sum(axis=1)
    return same


def share_found(answers: npt.NDArray[Any], wanted: npt.NDArray[Any]) -> float:
    """Compute the share of the ids in `wanted` that are in the same row of `answers`.

    Neither has an id twice in a row. Padding, -1 or None among strings, counts in neither.
    """
    if wanted.dtype == object:
        numbers: dict[Any, int] = {None: -1}
        answers, wanted = (np.array([numbers.setdefault(id, len(numbers)) for id in ids.flat],
                                    np.int64).reshape(ids.shape) for ids in (answers, wanted))
    return float(_same(answers, wanted).sum() / max(int((wanted >= 0).sum()), 1))


# ---- merging ----


def merge(parts: Sequence[Found], k: int | None = None, *, per_group: int | None = None) -> Found:
    """Merge the answers of several indexes to the same queries.

    The answer has the bits of a search of one index with the rows of all parts, if the parts are
    answers of one kind, exact, and with the same filters. Rows are ordered by key, largest first,
    then by id; of string ids those of earlier parts come first, as in an index to which the parts
    were added in this order.

    Parameters
    ----------
    parts : sequence of Hits, or of RangeHits
        For the same queries in the same order, from searches with ``return_keys=True``; each row is
        in one part only. A merged answer can be a part again.
    k : int, optional
        Number of rows of `Hits` to keep for each query; by default that of the narrowest part. Each
        part must have its k best rows, or for each query all its rows, padded.
    per_group : int, optional
        The limit of the searches, where these had one.

    Returns
    -------
    Hits or RangeHits
        Of the kind of the parts, with keys, and the sum of their `stats` if all have these:
        (n_queries, k), or (k,) for a single query.

    Raises
    ------
    ValueError, TypeError
        For no parts, or parts without keys, of different kinds or queries, with fewer rows than
        requested, with integer ids beside strings, or with a row in common; for `per_group` and
        parts without groups, or groups without it.

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
    answers: list[Any] = list(parts)
    kind = _checked(answers, per_group)
    firsts = np.cumsum([0, *(part.ids.size for part in answers[:-1])])
    if kind is RangeHits:
        if k is not None:
            raise ValueError(f"k: expected none, as RangeHits keep all rows, got {k}")
        bounds = np.stack([part.offsets for part in answers], axis=1)
        offsets = bounds.sum(axis=1)
        starts, stops = bounds[:-1] + firsts, bounds[1:] + firsts
    else:
        k = _to_k(answers, k)
        widths = np.array([part.ids.shape[-1] for part in answers])
        n_merged = k if per_group is None else int(widths.sum())
        offsets = np.arange(len(np.atleast_2d(answers[0].ids)) + 1) * n_merged
        starts = firsts + np.arange(len(offsets) - 1)[:, np.newaxis] * widths
        stops = starts + np.stack([np.atleast_2d(part.found).sum(axis=1) for part in answers],
                                  axis=1)
    # Padding comes last, where the place -1 is.
    all_ids = _joined("ids", answers, [part.ids for part in answers])
    all_scores = np.concatenate([*(part.scores.ravel() for part in answers), [np.float32(np.nan)]])
    all_keys = np.concatenate([*(part.keys.ravel() for part in answers), [-np.inf]])
    # Of equal keys the smaller id comes first; of strings those of earlier parts.
    order = np.arange(len(all_ids)) if all_ids.dtype == object else all_ids
    places = np.empty(int(offsets[-1]), np.int64)
    _core.merge_sorted(all_keys, order, np.ascontiguousarray(starts), np.ascontiguousarray(stops),
                       offsets, places)
    there = places >= 0
    queries = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    _check_disjoint(all_ids[places[there]], all_keys[places[there]], queries[there])
    groups = None
    if per_group is not None and k is not None:
        all_groups = _joined("labels of groups", answers, [part.groups for part in answers])
        places = limited(places.reshape(-1, n_merged), all_groups, k, per_group)
        groups = all_groups[places]
    ids, scores, keys = all_ids[places], all_scores[places], all_keys[places]
    stats: SearchStats | None = None
    if all(part.stats is not None for part in answers):
        stats = SearchStats(*map(sum, zip(*(part.stats for part in answers), strict=True)))
        stats = stats._replace(queries=answers[0].stats.queries)
    shape = (*answers[0].ids.shape[:-1], k)
    merged: Any = (RangeHits(offsets, ids, scores, keys, stats) if kind is RangeHits else
                   Hits(ids.reshape(shape), scores.reshape(shape), keys.reshape(shape), stats,
                        None if groups is None else groups.reshape(shape)))
    return merged  # type: ignore[no-any-return]


def limited(places: Int64Array, labels: npt.NDArray[Any], k: int, per_group: int) -> Int64Array:
    """The first k places of each line of which at most `per_group` share a label, flat; -1 fills
    places up.

    A part has all its rows of the whole answer: what rules a row out in its part, k better rows or
    `per_group` ones of its group, does so among all rows.
    """
    lines, at = np.nonzero(places >= 0)
    numbers = dict[Any, int]()
    own = np.fromiter((numbers.setdefault(label, len(numbers)) for label in labels[
        places[lines, at]].tolist()), np.int64, len(lines)) + lines * len(labels)
    order = np.argsort(own, kind="stable")
    ranks = np.arange(len(own)) - np.searchsorted(own[order], own[order])
    taken = np.zeros(places.shape, np.bool_)
    taken[lines[order], at[order]] = ranks < per_group
    ranks = np.cumsum(taken, axis=1)
    taken &= ranks <= k
    limited = np.full((len(places), k), -1)
    limited[np.nonzero(taken)[0], ranks[taken] - 1] = places[taken]
    return limited.ravel()


def _checked(parts: list[Any], per_group: Any) -> type[Hits | RangeHits]:
    """The kind of the parts, which are checked."""
    if not parts:
        raise ValueError("parts: expected at least one, got none")
    kind = RangeHits if isinstance(parts[0], RangeHits) else Hits
    if per_group is not None:
        checks.to_int("per_group", per_group, 1)
    for number, part in enumerate(parts):
        if not isinstance(part, kind):
            raise TypeError(f"parts[{number}]: expected {kind.__name__}, got {checks.shown(part)}")
        if part.keys is None:
            raise ValueError(f"parts[{number}]: expected an answer with keys, got one without; "
                             "search with return_keys=True")
        if (getattr(part, "groups", None) is None) != (per_group is None):
            wanted = "none" if per_group else "that of the searches"
            raise ValueError(f"per_group: expected {wanted}, as parts[{number}] has "
                             f"{'no ' if per_group else ''}groups")
        shape, first = ((len(one.offsets) - 1,) if isinstance(one, RangeHits)
                        else one.ids.shape[:-1] for one in (part, parts[0]))
        if shape != first:
            raise ValueError(f"parts[{number}]: expected answers to the queries of parts[0], "
                             f"of shape {first}, got {shape}")
    return kind


def _to_k(parts: list[Hits], k: int | None) -> int:
    """The number of rows to keep; refused where a part may hold more of them than it returned."""
    k = min(part.ids.shape[-1] for part in parts) if k is None else checks.to_int("k", k, 1)
    for number, part in enumerate(parts):
        most = part.ids.shape[-1]
        if most < k and part.found.all(axis=-1).any():
            raise ValueError(f"k: expected at most {most}, as parts[{number}] has no more than its "
                             f"{most} best rows, got {k}")
    return k


def _joined(what: str, parts: list[Any], arrays: list[npt.NDArray[Any]]) -> npt.NDArray[Any]:
    """The ids or labels of all parts, flat, one behind the other, and then padding."""
    strings = any(array.dtype == object for array in arrays)
    # An index without rows doesn't know yet of which kind its own are.
    if strings and any(
            array.dtype != object and (part.found.any() if isinstance(part, Hits) else array.size)
            for part, array in zip(parts, arrays, strict=True)):
        raise ValueError(f"parts: expected {what} of one kind, got integers and strings")
    return np.concatenate([*(
        np.full(array.size, None) if strings and array.dtype != object else array.ravel()
        for array in arrays), [None if strings else -1]])


def _check_disjoint(ids: npt.NDArray[Any], keys: Float64Array, queries: Int64Array) -> None:
    """Refuse a row that two parts have: its key is the same, so that it lies among its equals."""
    tied = (keys[1:] == keys[:-1]) & (queries[1:] == queries[:-1])
    repeated = bool((tied & (ids[1:] == ids[:-1])).any())
    if ids.dtype == object:  # equal keys are in the order of parts, not of ids
        run = np.cumsum(np.append(True, ~tied))
        some = np.flatnonzero(np.append(tied, False) | np.append(False, tied))
        repeated = len({*zip(run[some].tolist(), ids[some].tolist(), strict=True)}) < len(some)
    if repeated:
        raise ValueError("parts: expected each row in one part, got an id twice for a query; "
                         "leave copies of a part out")
