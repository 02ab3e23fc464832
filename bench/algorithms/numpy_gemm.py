"""numpy: one matrix product a block of queries, then argpartition."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..reduction import Reduction
from .base import Algorithm, Ids, Rows, furthest_first

_BLOCK_BYTES = 64 << 20  # products held at once; larger blocks only miss the cache more


class NumpyGemm(Algorithm):
    """What most people write first, written well."""

    name = "numpy"
    title = "numpy GEMM + argpartition"
    library = "numpy"
    package = "numpy"
    modules = ("numpy",)
    exact = True

    def build(self, rows: Rows) -> None:
        self._reduction = Reduction(rows, self.metric)
        self._ids: Ids = np.arange(len(rows), dtype=np.int64)

    def search(self, queries: Rows) -> NDArray[np.integer]:
        reduced = self._reduction.queries(queries)
        rows = self._reduction.rows
        step = max(1, _BLOCK_BYTES // (4 * len(rows)))
        return np.vstack(
            [
                furthest_first(self._ids, reduced[at : at + step] @ rows.T, self.k)
                for at in range(0, len(queries), step)
            ]
        )

    def index_bytes(self) -> int:
        return self._reduction.rows.nbytes
