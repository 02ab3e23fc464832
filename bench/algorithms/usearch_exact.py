"""usearch: exact search without an index, in float32."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..reduction import Reduction
from .base import Algorithm, Rows


class UsearchExact(Algorithm):
    name = "usearch-exact"
    title = "usearch exact f32"
    library = "usearch"
    package = "usearch"
    modules = ("usearch",)
    exact = True

    def set_threads(self, threads: int) -> None:
        self.threads = threads

    def build(self, rows: Rows) -> None:
        self._reduction = Reduction(rows, self.metric, multiple=16)

    def search(self, queries: Rows) -> NDArray[np.integer]:
        from usearch.index import MetricKind, search

        matches = search(self._reduction.rows, self._reduction.queries(queries), self.k,
                         MetricKind.IP, exact=True, threads=self.threads)
        return np.atleast_2d(np.asarray(matches.keys)).astype(np.int64)

    def kernels(self) -> list[str]:
        from usearch.index import Index, MetricKind

        index = Index(ndim=self._reduction.dim, metric=MetricKind.IP, dtype="f32")
        return [f"usearch {index.hardware_acceleration}"]

    def index_bytes(self) -> int:
        return self._reduction.rows.nbytes
