"""The oracle of vector search: which answers of another library are right."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from farann._types import BoolArray, Exclude, Float64Array, Ids, Int64Array, Metric
from farann.contract import checks
from farann.contract.names import hinted
from farann.index import Index
from farann.one_off import index_over
from farann.results import Hits, Result, share_found
from farann.search import ask
from farann.search.filters import Filtering, RowFilters

_SHOWN_QUERIES = 5  # most numbers of queries with missing rows that a repr names


class Verification(Result):
    """Which answers of another library are right; made by `verify`.

    Attributes
    ----------
    recall : float
        The share of the best rows that were found. Any of several rows with equal keys will do,
        but no more of them than are among the k best. NaN without queries or rows.
    recall_at : float64 (k,)
        The same of the first 1, 2, ... k answers among as many best rows.
    recall_of_ids : float
        The share of the ids that farann finds, which takes the smaller id of equal rows: what a
        comparison of ids computes. At most `recall`.
    right : bool (n_queries, k)
    duplicates, padding, out_of_range, not_allowed : bool (n_queries, k)
        Answers that are none: a row a second time; -1; an id that no row has; a row that `exclude`
        or `allowed` leaves out. An answer that is none of these and not right is a worse row.
    missing : list of int64 arrays
        For each query the ids of best rows that were not found, best first.
    best : Hits
        The exact answers, with keys.
    """

    __slots__ = ("recall", "recall_at", "recall_of_ids", "right", "duplicates", "padding",
                 "out_of_range", "not_allowed", "missing", "best")
    recall: float
    recall_at: Float64Array
    recall_of_ids: float
    right: BoolArray
    duplicates: BoolArray
    padding: BoolArray
    out_of_range: BoolArray
    not_allowed: BoolArray
    missing: list[Int64Array]
    best: Hits

    def __init__(self, **fields: Any) -> None:
        for name in self.__slots__:
            setattr(self, name, fields[name])

    def __repr__(self) -> str:
        n, k = self.right.shape
        short = [query for query, ids in enumerate(self.missing) if len(ids)]
        kinds = {name: int(getattr(self, name).sum())
                 for name in ("duplicates", "padding", "out_of_range", "not_allowed")}
        worse = n * k - int(self.right.sum()) - sum(kinds.values())
        counts = ", ".join(f"{name.replace('_', ' ')} {count:,}"
                           for name, count in {"worse rows": worse, **kinds}.items())
        named = ": " * bool(short) + ", ".join(map(str, short[:_SHOWN_QUERIES]))
        return (f"Verification of {n:,} x {k:,} answers\n"
                f"  recall {self.recall:.6g}, at 1 {self.recall_at[0]:.6g}, "
                f"of ids {self.recall_of_ids:.6g}\n"
                f"  {counts}\n"
                f"  missing rows {sum(map(len, self.missing)):,}, in answers to {len(short):,} of "
                f"{n:,} queries{named}{', ...' * (len(short) > _SHOWN_QUERIES)}")


@hinted
def verify(rows: npt.ArrayLike, queries: npt.ArrayLike, ids: npt.ArrayLike, metric: Metric = "l2",
           *, nearest: bool = True, k: int | None = None, exclude: Exclude | None = None,
           allowed: Ids | None = None, threads: int | None = None) -> Verification:
    """Tell which answers of another library are right.

    Answers are compared with those of an exact search by float64 keys, of rows and queries rounded
    to float32. Memory is a few times that of `ids`; rows may be mapped.

    Parameters
    ----------
    rows : array_like (n, dim)
        Not copied if they are a C-contiguous array of float32, float16, uint8 or int8.
    queries : array_like (n_queries, dim) or (dim,)
    ids : array_like of int (n_queries, m), or (m,) for a single query
        The answers, best first: row numbers, -1 as padding.
    metric : {"l2", "dot", "cosine"}
    nearest : bool
        Whether they are the nearest rows; False: the furthest.
    k : int, optional
        How many answers to judge, at most m, which is the default.
    exclude, allowed, threads : optional
        As in `Index.search_furthest`: what the other library left out, too.

    Returns
    -------
    Verification

    Examples
    --------
    >>> rows = [[0.0], [5.0], [3.0], [3.0]]
    >>> farann.verify(rows, [[1.0], [4.0]], [[0, 3], [3, 3]])
    Verification of 2 x 2 answers
      recall 0.75, at 1 1, of ids 0.25
      worse rows 0, duplicates 1, padding 0, out of range 0, not allowed 0
      missing rows 1, in answers to 1 of 2 queries: 1
    """
    checks.check_flag("nearest", nearest)
    index = index_over(rows, metric, threads)
    vectors, _ = ask.checked(index._live, queries)
    answers = _to_answers(ids, len(vectors), k)
    search = index.search_nearest if nearest else index.search_furthest
    best = search(vectors, answers.shape[1], exclude=exclude, allowed=allowed, return_keys=True)
    question = ask.question_of(index._live, vectors, answers.shape[1],
                               Filtering(exclude, allowed), None, nearest=nearest, keyed=True)
    assert question is not None  # there is a store
    padding = answers == -1
    out_of_range = ((answers < 0) | (answers >= len(index))) & ~padding
    there = ~padding & ~out_of_range
    not_allowed = there & ~_allowed(index, question.row_filters, answers)
    there &= ~not_allowed
    duplicates = there & _repeated(np.where(there, answers, -1))
    there &= ~duplicates
    known = np.where(there, answers, -1)
    keys = ask.keys_of(question, Hits(known, best.scores))
    places = np.where(there, _places(best.keys, keys), answers.shape[1])
    found = best.found.sum(axis=1)
    right = places < found[:, np.newaxis]
    ranks = np.arange(answers.shape[1])
    # The first 1, 2, ... answers have a row among as many best ones from both ranks on.
    counts = np.bincount(np.maximum(ranks, places)[right], minlength=len(ranks)).cumsum()
    wanted = np.minimum(found[:, np.newaxis], ranks + 1).sum(axis=0)
    recall_at = np.where(wanted > 0, counts / np.maximum(wanted, 1), np.nan)
    missing = [some[~np.isin(some, mine)][: n - n_right] for some, mine, n, n_right in zip(
        map(np.ndarray.__getitem__, best.ids, best.found), known, found, right.sum(axis=1),
        strict=True)]
    return Verification(
        recall=float(recall_at[-1]), recall_at=recall_at, right=right, duplicates=duplicates,
        recall_of_ids=share_found(known, best.ids) if wanted[-1] else np.nan,
        padding=padding, out_of_range=out_of_range, not_allowed=not_allowed, missing=missing,
        best=best)


def _to_answers(ids: Any, n_queries: int, k: int | None) -> Int64Array:
    """Check the answers, and give the first k of each query, (n_queries, k)."""
    array = checks.to_array("ids", ids)
    if array.ndim == 1 and n_queries == 1:
        array = array[np.newaxis]
    if array.ndim != 2 or len(array) != n_queries or array.shape[1] < 1:
        raise ValueError(f"ids: expected answers to each query, shape ({n_queries}, k), "
                         f"got {array.shape}")
    if k is not None:
        array = array[:, : checks.to_int("k", k, 1, array.shape[1])]
    return checks.to_ids("ids", array.reshape(-1), copy=False).reshape(array.shape)


def _allowed(index: Index, row_filters: RowFilters, answers: Int64Array) -> BoolArray:
    """Whether filters let the answers pass; anything for ids that no row has."""
    n, passing = len(index), np.ones(answers.shape, np.bool_)
    known = np.clip(answers, 0, max(n - 1, 0))
    if row_filters.rows is not None and n:
        passing &= row_filters.rows.mask().view(np.bool_)[known]
    if row_filters.excluded is not None:
        ids, offsets = row_filters.excluded
        queries = np.repeat(np.arange(len(answers)), np.diff(offsets))
        of_rows = (ids >= 0) & (ids < n)
        left_out = queries[of_rows] * n + ids[of_rows]
        passing &= ~np.isin(np.arange(len(answers))[:, np.newaxis] * n + known, left_out)
    return passing


def _repeated(ids: Int64Array) -> BoolArray:
    """Whether an id stands further to the left in its row, too."""
    order = np.argsort(ids, axis=1, kind="stable")
    ordered = np.take_along_axis(ids, order, axis=1)
    again = np.zeros(ids.shape, np.bool_)
    np.put_along_axis(again, order[:, 1:], ordered[:, 1:] == ordered[:, :-1], axis=1)
    return again


def _places(best: Float64Array, keys: Float64Array) -> Int64Array:
    """The place of each key among the best of its row, k for none: the second of equal keys has
    the second place of these."""
    n, k = keys.shape
    order = np.argsort(-keys, axis=1, kind="stable")
    ordered = np.take_along_axis(keys, order, axis=1)
    starts = np.tile(np.arange(k), (n, 1))
    starts[:, 1:][ordered[:, 1:] == ordered[:, :-1]] = 0
    spots = np.arange(k) - np.maximum.accumulate(starts, axis=1)
    for i in range(n):
        spots[i] += (-best[i]).searchsorted(-ordered[i])
    places = np.empty((n, k), np.int64)
    # A row's key is among the best ones, or below them all.
    np.put_along_axis(places, order, np.minimum(spots, k), axis=1)
    return places
