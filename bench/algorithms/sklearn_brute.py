"""scikit-learn: pairwise distances in chunks."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .base import Algorithm, Ids, Rows, furthest_first


class SklearnBrute(Algorithm):
    """Its neighbor classes find the nearest only, so the pairwise functions it is."""

    name = "sklearn"
    title = "scikit-learn pairwise"
    library = "scikit-learn"
    package = "scikit-learn"
    modules = ("sklearn",)
    exact = True

    def build(self, rows: Rows) -> None:
        self._rows = rows
        self._ids: Ids = np.arange(len(rows), dtype=np.int64)

    def search(self, queries: Rows) -> NDArray[np.integer]:
        from sklearn.metrics import pairwise_distances_chunked
        from sklearn.metrics.pairwise import linear_kernel

        if self.metric == "dot":
            return np.vstack(
                [
                    furthest_first(self._ids, -linear_kernel(block, self._rows), self.k)
                    for block in np.array_split(queries, max(1, len(queries) // 64))
                ]
            )
        metric = "euclidean" if self.metric == "l2" else "cosine"
        chunks = pairwise_distances_chunked(queries, self._rows, reduce_func=lambda chunk,
                                            start: furthest_first(self._ids, chunk, self.k),
                                            metric=metric, n_jobs=1, working_memory=128)
        return np.vstack(list(chunks))

    def index_bytes(self) -> int:
        return self._rows.nbytes
