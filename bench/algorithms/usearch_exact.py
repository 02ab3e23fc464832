"""usearch: exact search without an index, in float32."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

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
        from usearch.index import MetricKind

        made = self.reduce(rows, 16)
        self._rows, self._kind = made.rows, MetricKind.L2sq if made.by_l2 else MetricKind.IP

    def find(self, asked: Rows) -> NDArray[np.integer]:
        from usearch.index import search

        matches = search(self._rows, asked, self.k, self._kind, exact=True, threads=self.threads)
        return np.atleast_2d(np.asarray(matches.keys)).astype(np.int64)

    def kernels(self) -> list[str]:
        from usearch.index import Index

        index = Index(ndim=self._rows.shape[1], metric=self._kind, dtype="f32")
        return [f"usearch {index.hardware_acceleration}"]

    def index_bytes(self) -> int:
        return self._rows.nbytes
