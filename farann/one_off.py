"""Questions to rows that need no index."""

from __future__ import annotations

from typing import Any

import numpy.typing as npt

from farann.contract import checks
from farann.diverse.selection import Selection
from farann.index import Index


def select_diverse(rows: npt.ArrayLike, k: int | None = None, metric: str = "l2", *,
                   start: Any = None, first: Any = None, radius: float | None = None,
                   allowed: Any = None, progress: bool = False) -> Selection:
    """Choose rows that cover all others, without an index: farthest-point sampling.

    Parameters
    ----------
    rows : array_like (n, dim)
        Not copied if C-contiguous float32.
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
    index = Index(metric=metric, codes="float32")
    vectors = checks.to_vectors("rows", rows, None, normalized=metric == "cosine", single=False)
    if len(vectors):
        index.add(vectors, copy=False)
    return index.select_diverse(k, start=start, first=first, radius=radius, allowed=allowed,
                                progress=progress)
