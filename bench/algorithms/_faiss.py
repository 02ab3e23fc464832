"""What the faiss peers share."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from .base import Algorithm, Rows


class Faiss(Algorithm):
    """An index of faiss's factory over the reduced rows."""

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

        reduced = self.reduce(rows, self.parameters.get("multiple", self.multiple))
        # Queries times dimension from which Flat multiplies matrices: that pays from some queries
        # on. The default is many times as much, which leaves batches several times slower.
        faiss.cvar.distance_compute_blas_threshold = 2 * reduced.dim
        self.by_l2 = reduced.by_l2
        self.turn(reduced.rows)
        kind = faiss.METRIC_L2 if self.by_l2 else faiss.METRIC_INNER_PRODUCT
        self._index: Any = faiss.index_factory(reduced.dim, self.factory(reduced.dim), kind)
        self.prepare(len(rows))
        self._index.train(reduced.rows)
        self._index.add(reduced.rows)
        del reduced.rows  # faiss keeps its own copy

    def turn(self, reduced: Rows) -> None:
        """Change the reduced rows in place, in a way that keeps inner products."""

    def prepare(self, rows: int) -> None:
        """Set what must be set before training on that many rows."""

    def set_threads(self, threads: int) -> None:
        import faiss

        super().set_threads(threads)
        faiss.omp_set_num_threads(threads)

    def find(self, asked: Rows) -> NDArray[np.integer]:
        return np.asarray(self._index.search(asked, self.k)[1])

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
