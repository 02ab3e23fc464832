"""A search without an index."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from farann.contract.row_types import row_type_for, to_rows
from farann.index import Index
from farann.results import Hits
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
    row_type = row_type_for(rows.dtype) if isinstance(rows, np.ndarray) else "float32"
    index = Index(metric=metric, dtype=row_type, codes="float32", threads=threads)
    vectors = to_rows("rows", rows, None, row_type, normalized=index.metric == "cosine")
    index._store = Store.over(vectors, index._spec)
    return index.search_furthest(queries, k)
