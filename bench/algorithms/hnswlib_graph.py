"""hnswlib: a navigable graph."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .base import QUICK_GRAPH_ROWS, Algorithm, Profile, Rows, Setting


class Hnswlib(Algorithm):
    """Links and build effort as in the examples of its documentation."""

    name = "hnswlib"
    title = "hnswlib HNSW"
    library = "hnswlib"
    package = "hnswlib"
    modules = ("hnswlib",)

    @classmethod
    def sweep(cls, profile: Profile) -> list[Setting]:
        if not profile.full and profile.rows > QUICK_GRAPH_ROWS:
            return []
        efs = profile.pick([32, 128, 512], [32, 64, 128, 256, 512, 1024])
        searches = [{"ef": max(ef, profile.k)} for ef in efs]
        links = profile.pick([16], [16, 32] if profile.rows <= QUICK_GRAPH_ROWS else [16])
        return [Setting({"m": m, "ef_construction": 200}, searches) for m in links]

    def build(self, rows: Rows) -> None:
        import hnswlib

        made = self.reduce(rows, 16)
        reduced = made.rows
        self._index: Any = hnswlib.Index(space="l2" if made.by_l2 else "ip", dim=made.dim)
        self._index.init_index(max_elements=len(reduced), M=self.parameters["m"],
                               ef_construction=self.parameters["ef_construction"], random_seed=0)
        self._index.add_items(reduced, num_threads=self.threads)
        del made.rows  # it keeps its own copy

    def configure(self, search: Mapping[str, Any]) -> None:
        self._index.set_ef(search["ef"])

    def set_threads(self, threads: int) -> None:
        self.threads = threads

    def find(self, asked: Rows) -> NDArray[np.integer]:
        ids, _ = self._index.knn_query(asked, k=self.k, num_threads=self.threads)
        return np.asarray(ids).astype(np.int64)

    def kernels(self) -> list[str]:
        return []  # chosen when its wheel is compiled; it has no BLAS

    def index_bytes(self) -> int:
        return int(self._index.index_file_size())
