"""faiss 4-bit product codes over all rows, then a refinement on the rows themselves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ._faiss import Faiss
from .base import Profile, Setting


class FaissPq(Faiss):
    name = "faiss-pq"
    title = "faiss PQ fast-scan + refine"
    multiple = 32

    @classmethod
    def sweep(cls, profile: Profile) -> list[Setting]:
        refines = profile.pick([10, 40, 100], [4, 10, 20, 40, 100, 200])
        searches = [{"refine": refine} for refine in refines]
        # Coordinates that share one 4-bit code.
        return [Setting({"per_code": c}, searches) for c in profile.pick([2], [1, 2])]

    def factory(self, dim: int) -> str:
        return f"PQ{dim // self.parameters['per_code']}x4fs,RFlat"

    def configure(self, search: Mapping[str, Any]) -> None:
        self._index.k_factor = search["refine"]
