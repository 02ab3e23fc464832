"""turbovec: a scan of 4-bit codes, reranked by the rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .base import Algorithm, Profile, Rows, Setting

_AT_ONCE = 1 << 24  # coordinates of candidates reranked together


class Turbovec(Algorithm):
    """It gives inner products alone; its threads are as many as there are cores."""

    name = "turbovec"
    title = "turbovec 4 bits + rerank"
    library = "turbovec"
    package = "turbovec"
    modules = ("turbovec",)
    nearest_metrics = ("dot", "cosine")

    @classmethod
    def sweep(cls, profile: Profile) -> list[Setting]:
        counts = profile.pick([20, 60, 200], [10, 20, 30, 60, 100, 200, 400])
        return [Setting({}, [{"reranked": max(count, profile.k)} for count in counts])]

    def build(self, rows: Rows) -> None:
        from turbovec import TurboQuantIndex

        made = self.reduce(rows, 8)
        self._rows = made.rows
        self._index: Any = TurboQuantIndex(dim=made.dim, bit_width=4)
        self._index.add(made.rows)

    def configure(self, search: Mapping[str, Any]) -> None:
        self._reranked = search["reranked"]

    def find(self, asked: Rows) -> NDArray[np.integer]:
        found = self._index.search(asked, k=min(self._reranked, len(self._rows)))[1]
        step, best = max(1, _AT_ONCE // (found.shape[1] * asked.shape[1])), []
        for at in range(0, len(asked), step):
            some = found[at : at + step]
            keys = np.einsum("qkd,qd->qk", self._rows[some], asked[at : at + step])
            best.append(np.take_along_axis(some, np.argsort(-keys, axis=1)[:, : self.k], axis=1))
        return np.vstack(best)

    def set_threads(self, threads: int) -> None:
        self.threads = threads

    def kernels(self) -> list[str]:
        return []  # it chooses by itself, without telling
