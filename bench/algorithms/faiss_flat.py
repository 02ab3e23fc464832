"""faiss IndexFlatIP: exact."""

from __future__ import annotations

from ._faiss import Faiss


class FaissFlat(Faiss):
    name = "faiss-flat"
    title = "faiss Flat"
    exact = True

    def factory(self, dim: int) -> str:
        return "Flat"
