"""farann for ann-benchmarks; see README.md beside this file."""

from __future__ import annotations

from typing import Any

import numpy as np

import farann

from ..base.module import BaseANN

_METRICS = {"angular": "cosine", "euclidean": "l2", "ip": "dot"}
_COUNT = 10  # rows that are asked for, as ann-benchmarks does by default


class Farann(BaseANN):  # type: ignore[misc, unused-ignore]
    """The nearest rows, which is what ann-benchmarks asks for, by nearest or by furthest search.

    Parameters
    ----------
    metric : {"angular", "euclidean", "ip"}
        As ann-benchmarks names them. Under ``ip`` the largest product counts as nearest.
    side : {"nearest", "furthest"}
        ``furthest`` asks for the furthest rows of -q. Where a product decides, they are the nearest
        of q, so its recall is theirs and furthest search is what is timed. That isn't so
        under ``euclidean``.
    cells : int or "auto", optional
        Partitions, for approximate searches of many rows: see `farann.Index`.
    """

    def __init__(self, metric: str, side: str = "nearest", cells: int | str | None = None) -> None:
        if metric not in _METRICS:
            raise ValueError(f"metric must be one of {tuple(_METRICS)}, got {metric!r}")
        if side not in ("nearest", "furthest"):
            raise ValueError(f"side must be 'nearest' or 'furthest', got {side!r}")
        if side == "furthest" and metric == "euclidean":
            raise ValueError("side must be 'nearest' under 'euclidean', got 'furthest'")
        self._metric = _METRICS[metric]
        self._side, self._cells = side, cells
        self._search: dict[str, Any] = {}
        self.name = f"farann({side})"

    def fit(self, X: np.ndarray) -> None:
        """Index the rows."""
        self._index = farann.Index(X.shape[1], self._metric, cells=self._cells, threads=1)
        self._index.add(X)
        self._index.build(nearest=self._side == "nearest" and self._metric != "l2")

    def set_query_arguments(self, *arguments: Any) -> None:
        """Take search keywords as pairs of name and value, as in ``["recall", 0.9]``."""
        self._search = dict(zip(arguments[::2], arguments[1::2], strict=True))
        if "recall" in self._search:  # else searches measure it, whose time counts
            self._index.tune(k=_COUNT, nearest=self._side == "nearest")
        shown = ", ".join(f"{name}={value}" for name, value in self._search.items())
        self.name = f"farann({self._side}{', ' if shown else ''}{shown})"

    def _ids(self, queries: np.ndarray, n: int, threads: int | None) -> np.ndarray:
        if self._side == "nearest":
            hits = self._index.search_nearest(queries, n, threads=threads, **self._search)
        else:
            hits = self._index.search_furthest(-queries, n, threads=threads, **self._search)
        return np.asarray(hits.ids)

    def query(self, q: np.ndarray, n: int) -> np.ndarray:
        """Ids of the n rows nearest to one query."""
        return self._ids(q, n, 1)

    def batch_query(self, X: np.ndarray, n: int) -> None:
        """Search for many queries at once, on all threads."""
        self.res = self._ids(X, n, None)

    def __str__(self) -> str:
        return self.name
