"""Searches of an array without an index."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from farann import _core
from farann._types import Exclude, LabelsLike, Metric, Progress, Scale, Scores
from farann.contract.index_spec import traits_of
from farann.contract.names import hinted
from farann.contract.row_types import row_type_for, to_rows
from farann.index import Index
from farann.quantize.scalar import center_of
from farann.results import Hits, Pairs, Selection, Spaced
from farann.runtime.pool import default_isa
from farann.search.filters import Allowed
from farann.store.groups import of_new_rows, to_labels
from farann.store.ids import IdMap
from farann.store.store import Store


@hinted
def search_furthest(rows: npt.ArrayLike, queries: npt.ArrayLike, k: int = 10, metric: Metric = "l2",
                    *, exclude: Exclude | None = None, allowed: Allowed | None = None,
                    row_groups: LabelsLike | None = None, per_group: int | None = None,
                    threads: int | None = None, return_keys: bool = False,
                    return_stats: bool = False) -> Hits:
    """Find the k rows furthest from each query, without an index.

    Parameters
    ----------
    rows : array_like (n, dim)
        Not copied if they are a C-contiguous array of float32, float16, uint8 or int8.
    queries : array_like (n_queries, dim) or (dim,)
    k : int
    metric : {"l2", "dot", "cosine"}
    row_groups : array_like of int or str (n,), optional
        The label of each row's group, for `per_group`.
    exclude, allowed, per_group, threads, return_keys, return_stats : optional
        As in `Index.search_furthest`.

    Returns
    -------
    Hits
        As from `Index.search_furthest`; ids are row numbers.

    Examples
    --------
    >>> farann.search_furthest([[0.0], [5.0], [3.0]], [[1.0]], k=2).ids
    array([[1, 2]])
    >>> farann.search_furthest([[0.0], [5.0], [3.0]], [[1.0]], k=2, row_groups=["a", "b", "b"],
    ...                        per_group=1).ids
    array([[1, 0]])
    """
    return index_over(rows, metric, threads, row_groups, per_group).search_furthest(
        queries, k, exclude=exclude, allowed=allowed, per_group=per_group, return_keys=return_keys,
        return_stats=return_stats)


@hinted
def search_nearest(rows: npt.ArrayLike, queries: npt.ArrayLike, k: int = 10, metric: Metric = "l2",
                   *, exclude: Exclude | None = None, allowed: Allowed | None = None,
                   row_groups: LabelsLike | None = None, per_group: int | None = None,
                   threads: int | None = None, return_keys: bool = False,
                   return_stats: bool = False) -> Hits:
    """Find the k rows nearest to each query, without an index.

    Arguments are those of `search_furthest`.

    Examples
    --------
    >>> farann.search_nearest([[0.0], [5.0], [3.0]], [[1.0]], k=2).ids
    array([[0, 2]])
    """
    return index_over(rows, metric, threads, row_groups, per_group).search_nearest(
        queries, k, exclude=exclude, allowed=allowed, per_group=per_group, return_keys=return_keys,
        return_stats=return_stats)


@hinted
def search_mmr(rows: npt.ArrayLike, queries: npt.ArrayLike | None = None, k: int = 10, *,
               metric: Metric, scores: Scores | None = None, scale: Scale = "unit",
               diversity: float = 0.3, candidates: int | None = None,
               exclude: Exclude | None = None, allowed: Allowed | None = None,
               row_groups: LabelsLike | None = None, per_group: int | None = None,
               threads: int | None = None, return_stats: bool = False) -> Hits:
    """Find rows like the query and unlike each other, without an index.

    `metric` must be given, as "dot" or "cosine": the default of other functions has no MMR. Other
    arguments are those of `Index.search_mmr` and `search_furthest`; ids in `scores` are row
    numbers.

    Examples
    --------
    >>> rows = [[1.0, 0.1], [1.0, 0.0], [0.0, 1.0]]
    >>> farann.search_mmr(rows, [1.0, 0.0], 2, metric="cosine", diversity=0.7).ids
    array([1, 2])
    """
    return index_over(rows, metric, threads, row_groups, per_group).search_mmr(
        queries, k, scores=scores, scale=scale, diversity=diversity, candidates=candidates,
        exclude=exclude, allowed=allowed, per_group=per_group, return_stats=return_stats)


@hinted
def select_diverse(rows: npt.ArrayLike, k: int | None = None, metric: Metric = "l2", *,
                   start: Any = None, first: Any = None, radius: float | None = None,
                   row_groups: LabelsLike | None = None, per_group: int | None = None,
                   leave_out: float = 0.0, exclude: Exclude | None = None,
                   allowed: Allowed | None = None, threads: int | None = None,
                   progress: Progress = False) -> Selection:
    """Choose rows that cover all others, without an index: farthest-point sampling.

    Arguments are those of `Index.select_diverse` and `search_furthest`.

    Examples
    --------
    >>> farann.select_diverse([[0.0], [1.0], [9.0], [5.0]], k=3, start=0).ids
    array([0, 2, 3])
    """
    if all(value is None for value in (first, radius, per_group, exclude, allowed)) and (
            threads in (None, 1) and progress is False and isinstance(leave_out, float)
            and leave_out == 0.0):
        few = _few_of(rows, k, metric, start)
        if few is not None:
            return few
    return index_over(rows, metric, threads, row_groups, per_group).select_diverse(
        k, start=start, first=first, radius=radius, per_group=per_group, leave_out=leave_out,
        exclude=exclude, allowed=allowed, progress=progress)


@hinted
def select_spaced(rows: npt.ArrayLike, scores: npt.ArrayLike, k: int | None = None,
                  metric: Metric = "l2", *, radius: float | None = None,
                  weight: float | None = None, exclude: Exclude | None = None,
                  allowed: Allowed | None = None, row_groups: LabelsLike | None = None,
                  per_group: int | None = None, threads: int | None = None,
                  progress: Progress = False, return_dropped: bool = False) -> Spaced:
    """Choose the best-scored rows of which no two are nearer than a radius, without an index.

    Arguments are those of `Index.select_spaced` and `search_furthest`.

    Examples
    --------
    >>> farann.select_spaced([[0.0], [0.5], [3.0]], [0.9, 0.8, 0.7], radius=1.0).ids
    array([0, 2])
    """
    return index_over(rows, metric, threads, row_groups, per_group).select_spaced(
        scores, k, radius=radius, weight=weight, per_group=per_group, exclude=exclude,
        allowed=allowed, progress=progress, return_dropped=return_dropped)


@hinted
def pairs_within(rows: npt.ArrayLike, radius: float, metric: Metric = "l2", *,
                 limit: int = 10_000_000, exclude: Exclude | None = None,
                 allowed: Allowed | None = None, threads: int | None = None,
                 progress: Progress = False) -> Pairs:
    """Find all pairs of rows within a radius of each other, without an index.

    Arguments are those of `Index.pairs_within` and `search_furthest`.

    Examples
    --------
    >>> farann.pairs_within([[0.0], [5.0], [0.25]], 0.5).ids
    array([[0, 2]])
    """
    return index_over(rows, metric, threads).pairs_within(
        radius, limit=limit, exclude=exclude, allowed=allowed, progress=progress)


def index_over(rows: npt.ArrayLike, metric: Metric, threads: int | None = None,
                row_groups: Any = None, per_group: Any = None) -> Index:
    """Make an index over rows, copied only if their type or order requires it."""
    if per_group is not None and row_groups is None:
        raise ValueError("per_group: expected row_groups, too, the label of each row's group")
    row_type = row_type_for(rows.dtype) if isinstance(rows, np.ndarray) else "float32"
    index = Index(metric=metric, dtype=row_type, codes="float32", threads=threads)
    vectors = to_rows("rows", rows, None, row_type, normalized=index.metric == "cosine")
    groups = None if row_groups is None else of_new_rows(
        None, 0, to_labels("row_groups", row_groups), len(vectors), "row_groups")
    index._live.store = Store(vectors.shape[1], index._live.spec).changed(
        base=vectors, groups=groups, ids=IdMap.restored(None, len(vectors), 0), built=True,
        center=center_of(vectors, index.metric == "cosine"))
    return index


def _few_of(rows: Any, k: Any, metric: Any, start: Any) -> Selection | None:
    """Select few rows without an index if that is faster.

    None for other selections, and for arguments that are wrong.
    """
    if not (type(rows) is np.ndarray and rows.dtype == np.float32 and rows.ndim == 2
            and rows.flags.c_contiguous and rows.flags.aligned and type(k) is int
            and (start is None or type(start) is int) and metric in _core.METRICS):
        return None
    from farann.diverse.greedy import select_few

    return select_few(rows, k, traits_of(metric), start, default_isa())
