"""RaBitQ's own library: lists of coded rows, and the graph SymphonyQG."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .base import QUICK_GRAPH_ROWS, Algorithm, Profile, Rows, Setting
from .faiss_ivf import lists

_MULTIPLE = 64  # of dimensions; lists refuse others


class _Rabitq(Algorithm):
    library = "RaBitQ"
    package = "rabitqlib"
    modules = ("rabitqlib",)
    _index: Any

    def kernels(self) -> list[str]:
        return []  # chosen by itself, without telling; it has no BLAS

    def set_threads(self, threads: int) -> None:
        self.threads = threads


class RabitqIvf(_Rabitq):
    """Codes of 4 or 8 bits a coordinate, or the rows themselves beside 1-bit codes (32 bits)."""

    name = "rabitq-ivf"
    title = "RaBitQ IVF"

    @classmethod
    def sweep(cls, profile: Profile) -> list[Setting]:
        count = lists(profile.rows)
        probes = profile.pick([16, 64, 256], [8, 16, 32, 64, 128, 256, 512, 1024])
        searches = [{"nprobe": probe} for probe in sorted({min(p, count) for p in probes})]
        bits = profile.pick([7], [4, 7, 9, 32])
        return [Setting({"nlist": count, "bits": b}, searches) for b in bits]

    def build(self, rows: Rows) -> None:
        import rabitqlib

        made = self.reduce(rows, _MULTIPLE)
        reduced = made.rows
        count, dim = reduced.shape
        clusters = self.parameters["nlist"]
        means = rabitqlib.RaBitQKMeans(dim, clusters, num_threads=self.threads)
        means.train(reduced)
        self._index = rabitqlib.IvfIndex(dim, count, clusters, self.parameters["bits"],
                                         "l2" if made.by_l2 else "ip")
        self._index.build(reduced, means.centroids, means.assignments, num_threads=self.threads)
        del made.rows  # it keeps its own copy

    def configure(self, search: Mapping[str, Any]) -> None:
        self._probes = search["nprobe"]

    def find(self, asked: Rows) -> NDArray[np.integer]:
        ids, _ = self._index.search(asked, self.k, self._probes, num_threads=self.threads)
        return np.asarray(ids).astype(np.int64)


class RabitqGraph(_Rabitq):
    name = "rabitq-symqg"
    title = "RaBitQ SymphonyQG"

    @classmethod
    def sweep(cls, profile: Profile) -> list[Setting]:
        if not profile.full and profile.rows > QUICK_GRAPH_ROWS:
            return []
        efs = profile.pick([32, 128, 512], [16, 32, 64, 128, 256, 512, 1024])
        searches = [{"ef": max(ef, profile.k)} for ef in efs]
        # Degrees are multiples of 32, whose codes are compared at once.
        return [Setting({"degree": degree, "ef_construction": 200}, searches)
                for degree in profile.pick([32], [32, 64])]

    def build(self, rows: Rows) -> None:
        import rabitqlib

        made = self.reduce(rows, _MULTIPLE)
        reduced = made.rows
        self._index = rabitqlib.SymqgIndex(made.dim, self.parameters["degree"],
                                           "l2" if made.by_l2 else "ip")
        self._index.build(reduced, self.parameters["ef_construction"], num_threads=self.threads)
        del made.rows  # it keeps its own copy

    def configure(self, search: Mapping[str, Any]) -> None:
        self._ef = search["ef"]

    def find(self, asked: Rows) -> NDArray[np.integer]:
        ids, _ = self._index.search_batch(asked, self.k, self._ef, num_threads=self.threads)
        return np.asarray(ids).astype(np.int64)
