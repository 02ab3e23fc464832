"""Questions to rows that need no index."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from farann import _core
from farann._types import Progress, RowArray
from farann.contract.index_spec import traits_of
from farann.contract.row_types import row_type_for, to_rows
from farann.index import Index
from farann.results import Hits, Selection
from farann.runtime.pool import default_isa
from farann.store.store import Store


def search_furthest(rows: npt.ArrayLike, queries: npt.ArrayLike, k: int = 10, metric: str = "l2",
                    *, threads: int | None = None) -> Hits:
    """The k rows furthest from each query, for one-off use without an index.

    Parameters
    ----------
    rows : array_like (n, dim)
        Not copied if they are a C-contiguous array of float32, float16, uint8 or int8.
    queries : array_like (n_queries, dim) or (dim,)
    k : int
    metric : {"l2", "dot", "cosine"}
    threads : int, optional

    Returns
    -------
    Hits
        As from `Index.search_furthest`; ids are row numbers.

    Examples
    --------
    >>> farann.search_furthest([[0.0], [5.0], [3.0]], [[1.0]], k=2).ids
    array([[1, 2]])
    """
    index, vectors = _index_for(rows, metric, threads)
    index._live.store = Store.over(vectors, index._live.spec)
    return index.search_furthest(queries, k)


def select_diverse(rows: npt.ArrayLike, k: int | None = None, metric: str = "l2", *,
                   start: Any = None, first: Any = None, radius: float | None = None,
                   allowed: Any = None, progress: Progress = False) -> Selection:
    """Choose rows that cover all others, without an index: farthest-point sampling.

    Parameters
    ----------
    rows : array_like (n, dim)
        Not copied if they are a C-contiguous array of float32, float16, uint8 or int8.
    k : int, optional
    metric : {"l2", "dot", "cosine"}
    start, first, radius, allowed, progress : optional
        As in `Index.select_diverse`.

    Returns
    -------
    Selection
        As from `Index.select_diverse`; ids are row numbers.

    Examples
    --------
    >>> farann.select_diverse([[0.0], [1.0], [9.0], [5.0]], k=3, start=0).ids
    array([0, 2, 3])
    """
    if first is None and radius is None and allowed is None and progress is False:
        few = _few_of(rows, k, metric, start)
        if few is not None:
            return few
    index, vectors = _index_for(rows, metric)
    if len(vectors):
        index.add(vectors, copy=False)
    return index.select_diverse(k, start=start, first=first, radius=radius, allowed=allowed,
                                progress=progress)


def _index_for(rows: npt.ArrayLike, metric: str,
               threads: int | None = None) -> tuple[Index, RowArray]:
    """An empty index for rows, and these as it keeps them."""
    row_type = row_type_for(rows.dtype) if isinstance(rows, np.ndarray) else "float32"
    index = Index(metric=metric, dtype=row_type, codes="float32", threads=threads)
    return index, to_rows("rows", rows, None, row_type, normalized=index.metric == "cosine")


def _few_of(rows: Any, k: Any, metric: Any, start: Any) -> Selection | None:
    """A selection that takes less time than to make an index; None where it isn't one, or where
    something is to be refused."""
    if not (type(rows) is np.ndarray and rows.dtype == np.float32 and rows.ndim == 2
            and rows.flags.c_contiguous and rows.flags.aligned and type(k) is int
            and (start is None or type(start) is int) and metric in _core.METRICS):
        return None
    from farann.diverse.greedy import select_few

    return select_few(rows, k, traits_of(metric), start, default_isa())
