"""faiss HNSW: a navigable graph."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ._faiss import Faiss
from .base import QUICK_GRAPH_ROWS, Profile, Setting


class FaissHnsw(Faiss):
    name = "faiss-hnsw"
    title = "faiss HNSW"

    @classmethod
    def sweep(cls, profile: Profile) -> list[Setting]:
        if not profile.full and profile.rows > QUICK_GRAPH_ROWS:
            return []
        efs = profile.pick([32, 128, 512], [32, 64, 128, 256, 512, 1024])
        searches = [{"ef": max(ef, profile.k)} for ef in efs]
        return [Setting({"m": 32, "ef_construction": 40}, searches)]

    def factory(self, dim: int) -> str:
        return f"HNSW{self.parameters['m']},Flat"

    def prepare(self, rows: int) -> None:
        self._index.hnsw.efConstruction = self.parameters["ef_construction"]

    def configure(self, search: Mapping[str, Any]) -> None:
        self._index.hnsw.efSearch = search["ef"]
