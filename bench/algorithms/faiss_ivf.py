"""faiss: lists of the rows themselves; 4-bit codes with a refinement, in lists and without."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from ._faiss import Faiss
from .base import Profile, Setting

# Beyond this, lists are trained on the fewest rows that faiss thinks enough; its default, six times
# as many, would take longer than all else.
_MANY_ROWS = 1_000_000


def lists(rows: int) -> int:
    """Four times the root of the number of rows, as faiss's guidelines advise."""
    return max(1, min(rows // 39, int(4 * math.sqrt(rows))))


def _probes(profile: Profile, wanted: list[int]) -> list[int]:
    return sorted({min(probe, lists(profile.rows)) for probe in wanted})


class _FaissIvf(Faiss):
    def prepare(self, rows: int) -> None:
        import faiss

        if rows > _MANY_ROWS:
            training = faiss.extract_index_ivf(self._index).cp
            training.max_points_per_centroid = training.min_points_per_centroid


class FaissIvfFlat(_FaissIvf):
    name = "faiss-ivf-flat"
    title = "faiss IVF Flat"

    @classmethod
    def sweep(cls, profile: Profile) -> list[Setting]:
        probes = profile.pick([10, 16, 64, 256], [8, 10, 16, 32, 64, 128, 256, 512, 1024])
        searches = [{"nprobe": probe} for probe in _probes(profile, probes)]
        return [Setting({"nlist": lists(profile.rows)}, searches)]

    def factory(self, dim: int) -> str:
        return f"IVF{self.parameters['nlist']},Flat"

    def configure(self, search: Mapping[str, Any]) -> None:
        self._index.nprobe = search["nprobe"]


class FaissPq(Faiss):
    name = "faiss-pq"
    title = "faiss PQ fast-scan + refine"
    multiple = 32

    @classmethod
    def sweep(cls, profile: Profile) -> list[Setting]:
        factors = profile.pick([10, 40, 100], [4, 10, 20, 40, 100, 200])
        return [Setting({}, [{"refine": factor} for factor in factors])]

    def factory(self, dim: int) -> str:
        return f"PQ{dim // 2}x4fs,RFlat"

    def configure(self, search: Mapping[str, Any]) -> None:
        self._index.k_factor = search["refine"]


class FaissIvfPq(_FaissIvf):
    name = "faiss-ivf-pq"
    title = "faiss IVF PQ fast-scan + refine"
    multiple = 32

    @classmethod
    def sweep(cls, profile: Profile) -> list[Setting]:
        probes = profile.pick([64, 256], [32, 64, 128, 256, 512])
        refines = profile.pick([40], [40, 100])
        searches = [
            {"nprobe": probe, "refine": refine}
            for refine in refines
            for probe in _probes(profile, probes)
        ]
        return [Setting({"nlist": lists(profile.rows)}, searches)]

    def factory(self, dim: int) -> str:
        return f"IVF{self.parameters['nlist']},PQ{dim // 2}x4fs,RFlat"

    def configure(self, search: Mapping[str, Any]) -> None:
        import faiss

        self._index.k_factor = search["refine"]
        faiss.extract_index_ivf(self._index).nprobe = search["nprobe"]
