"""farann for ann-benchmarks; see README.md beside this file."""

from __future__ import annotations

from typing import Any

import farann
import numpy as np

from ..base.module import BaseANN

_METRICS = {"angular": "cosine", "euclidean": "l2", "ip": "dot"}


class Farann(BaseANN):  # type: ignore[misc, unused-ignore]
    """Nearest search, which is what ann-benchmarks asks for, or furthest search.

    Parameters
    ----------
    metric : {"angular", "euclidean", "ip"}
        As ann-benchmarks names them.
    side : {"nearest", "furthest"}
        Its own data sets hold nearest neighbours; ``furthest`` is for data sets whose ground
        truth is furthest. Under ``ip`` the largest product counts as nearest.
    """

    def __init__(self, metric: str, side: str = "nearest") -> None:
        if metric not in _METRICS:
            raise ValueError(f"metric must be one of {tuple(_METRICS)}, got {metric!r}")
        if side not in ("nearest", "furthest"):
            raise ValueError(f"side must be 'nearest' or 'furthest', got {side!r}")
        self._metric = _METRICS[metric]
        self._side = side
        self._search: dict[str, Any] = {}
        self.name = f"farann({side})"

    def fit(self, X: np.ndarray) -> None:
        """Index the rows."""
        self._index = farann.Index(X.shape[1], self._metric, threads=1)
        self._index.add(X)
        self._index.build()
        find = {"nearest": "search_nearest", "furthest": "search_furthest"}[self._side]
        self._find = getattr(self._index, find)

    def set_query_arguments(self, *arguments: Any) -> None:
        """Take search keywords as pairs of name and value, as in ``["recall", 0.95]``."""
        self._search = dict(zip(arguments[::2], arguments[1::2], strict=True))
        shown = ", ".join(f"{name}={value}" for name, value in self._search.items())
        self.name = f"farann({self._side}{', ' if shown else ''}{shown})"

    def query(self, q: np.ndarray, n: int) -> np.ndarray:
        """Ids of the n rows for one query."""
        return np.asarray(self._find(q, n, threads=1, **self._search).ids)

    def batch_query(self, X: np.ndarray, n: int) -> None:
        """Search for many queries at once, on all threads."""
        self.res = self._find(X, n, threads=None, **self._search).ids

    def get_additional(self) -> dict[str, Any]:
        """Rows scored in the last search, as the count of distance computations."""
        last = self._index.stats()["last_search"]
        return {"dist_comps": int(last["rows_scanned"])}

    def __str__(self) -> str:
        return self.name
