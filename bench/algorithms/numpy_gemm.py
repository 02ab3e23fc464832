"""A matrix product a block of queries, then argpartition: numpy's and numkong's."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

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
        made = self.reduce(rows)
        self._rows = self.packed(made.rows)
        self._bytes, self._step = made.rows.nbytes, max(1, _BLOCK_BYTES // (4 * len(rows)))
        self._squares = np.einsum("ij,ij->i", rows, rows) / 2 if made.by_l2 else None
        self._ids: Ids = np.arange(len(rows), dtype=np.int64)

    def find(self, asked: Rows) -> NDArray[np.integer]:
        found = []
        for at in range(0, len(asked), self._step):
            products = self.products(asked[at : at + self._step])
            if self._squares is not None:
                products -= self._squares
            found.append(furthest_first(self._ids, products, self.k))
        return np.vstack(found)

    def index_bytes(self) -> int:
        return self._bytes

    def packed(self, rows: Rows) -> Any:
        """Rows as `products` takes them."""
        return rows

    def products(self, asked: Rows) -> NDArray[np.floating]:
        """Of some queries with all rows."""
        return np.asarray(asked @ self._rows.T)


class NumkongGemm(NumpyGemm):
    """Products in float64 of packed float32; two threads take rows of queries each."""

    name = "numkong"
    title = "numkong dots + argpartition"
    library = "numkong"
    package = "numkong"
    modules = ("numkong",)

    def packed(self, rows: Rows) -> Any:
        import numkong

        return numkong.dots_pack(rows, dtype="f32")

    def products(self, asked: Rows) -> NDArray[np.floating]:
        import numkong

        parts = [part for part in np.array_split(asked, self.threads) if len(part)]
        if len(parts) == 1:
            return np.asarray(numkong.dots_packed(asked, self._rows))
        with ThreadPoolExecutor(len(parts)) as pool:
            found = list(pool.map(lambda part: numkong.dots_packed(part, self._rows), parts))
        return np.vstack([np.asarray(one) for one in found])

    def kernels(self) -> list[str]:
        import numkong

        return [f"numkong {name}" for name, there in numkong.get_capabilities().items() if there]
