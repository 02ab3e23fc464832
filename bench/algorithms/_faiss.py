"""What the faiss peers share."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ..reduction import Reduction
from .base import Algorithm, Rows


class Faiss(Algorithm):
    """An index of faiss's factory over the reduced rows, under inner product."""

    library = "faiss"
    package = "faiss-cpu"
    modules = ("faiss",)
    stale_blas = True
    multiple: ClassVar[int] = 16

    @abstractmethod
    def factory(self, dim: int) -> str:
        """The factory string for reduced rows of that dimension."""

    def build(self, rows: Rows) -> None:
        import faiss

        # The default leaves Flat several times slower on one thread.
        faiss.cvar.distance_compute_blas_threshold = 800
        self._reduction = Reduction(rows, self.metric, multiple=self.multiple)
        self.turn(self._reduction.rows)
        dim = self._reduction.dim
        self._index: Any = faiss.index_factory(dim, self.factory(dim), faiss.METRIC_INNER_PRODUCT)
        self.prepare()
        self._index.train(self._reduction.rows)
        self._index.add(self._reduction.rows)
        del self._reduction.rows  # faiss keeps its own copy

    def turn(self, reduced: Rows) -> None:
        """Change the reduced rows in place, in a way that keeps inner products."""

    def asked(self, queries: Rows) -> Rows:
        """Reduced queries, changed as the rows were."""
        return self._reduction.queries(queries)

    def prepare(self) -> None:
        """Set what must be set before training."""

    def set_threads(self, threads: int) -> None:
        import faiss

        super().set_threads(threads)
        faiss.omp_set_num_threads(threads)

    def search(self, queries: Rows) -> NDArray[np.integer]:
        _, ids = self._index.search(self.asked(queries), self.k)
        return np.asarray(ids)

    def kernels(self) -> list[str]:
        import faiss

        return [*super().kernels(), f"faiss {faiss.get_compile_options().strip()}"]

    def index_bytes(self) -> int:
        import faiss

        written = 0

        def count(data: bytes) -> None:
            nonlocal written
            written += len(data)

        faiss.write_index(self._index, faiss.PyCallbackIOWriter(count))
        return written
