"""torch: one matrix product a block of queries, then topk. Runs when torch is installed."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..reduction import Reduction
from .base import Algorithm, Rows

_BLOCK_BYTES = 64 << 20


class TorchGemm(Algorithm):
    """On the CPU; torch brings its own BLAS."""

    name = "torch"
    title = "torch GEMM + topk"
    library = "torch"
    package = "torch"
    modules = ("torch",)
    exact = True

    def set_threads(self, threads: int) -> None:
        import torch

        super().set_threads(threads)
        torch.set_num_threads(threads)

    def build(self, rows: Rows) -> None:
        import torch

        self._reduction = Reduction(rows, self.metric)
        self._rows: Any = torch.from_numpy(self._reduction.rows)

    def search(self, queries: Rows) -> NDArray[np.integer]:
        import torch

        reduced = torch.from_numpy(self._reduction.queries(queries))
        step = max(1, _BLOCK_BYTES // (4 * len(self._rows)))
        with torch.inference_mode():
            parts = [
                torch.topk(reduced[at : at + step] @ self._rows.T, self.k, dim=1).indices
                for at in range(0, len(reduced), step)
            ]
            return np.asarray(torch.cat(parts).numpy())

    def kernels(self) -> list[str]:
        import torch

        return [f"torch {torch.backends.cpu.get_cpu_capability()}"]

    def index_bytes(self) -> int:
        return self._reduction.rows.nbytes
