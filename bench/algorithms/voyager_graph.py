"""Voyager: Spotify's navigable graph, with rows in float32 and in 8-bit floating point."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..reduction import Reduction
from .base import QUICK_GRAPH_ROWS, Algorithm, Profile, Rows, Setting


class Voyager(Algorithm):
    """Links and build effort as hnswlib's; its inner products get one more dimension inside."""

    name = "voyager"
    title = "Voyager HNSW"
    library = "Voyager"
    package = "voyager"
    modules = ("voyager",)

    @classmethod
    def sweep(cls, profile: Profile) -> list[Setting]:
        if not profile.full and profile.rows > QUICK_GRAPH_ROWS:
            return []
        efs = profile.pick([32, 128, 512], [16, 32, 64, 128, 256, 512, 1024])
        searches = [{"ef": max(ef, profile.k)} for ef in efs]
        stored = profile.pick(["Float32"], ["Float32", "E4M3"])
        return [Setting({"m": 16, "ef_construction": 200, "stored": s}, searches) for s in stored]

    def build(self, rows: Rows) -> None:
        import voyager

        # 15, and the dimension that it adds is the 16th.
        self._reduction = Reduction(rows, self.metric, multiple=16)
        reduced = self._reduction.rows
        self._index: Any = voyager.Index(
            voyager.Space.InnerProduct,
            num_dimensions=reduced.shape[1],
            M=self.parameters["m"],
            ef_construction=self.parameters["ef_construction"],
            random_seed=1,
            max_elements=len(reduced),
            storage_data_type=getattr(voyager.StorageDataType, self.parameters["stored"]),
        )
        self._index.add_items(reduced, num_threads=self.threads)
        del self._reduction.rows  # it keeps its own copy

    def configure(self, search: Mapping[str, Any]) -> None:
        self._ef = search["ef"]

    def set_threads(self, threads: int) -> None:
        self.threads = threads

    def search(self, queries: Rows) -> NDArray[np.integer]:
        reduced = self._reduction.queries(queries)
        ids, _ = self._index.query(
            reduced, k=self.k, num_threads=self.threads, query_ef=self._ef)
        return np.asarray(ids).astype(np.int64)

    def search_one(self, query: Rows) -> NDArray[np.integer]:
        reduced = self._reduction.queries(query[None, :])[0]
        ids, _ = self._index.query(reduced, k=self.k, query_ef=self._ef)
        return np.asarray(ids).astype(np.int64)

    def kernels(self) -> list[str]:
        return []  # chosen when its wheel is compiled; it has no BLAS
