"""Intel's Scalable Vector Search: flat, and the graph Vamana over rows, LVQ and LeanVec codes."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import machine
from ..reduction import Reduction
from .base import QUICK_GRAPH_ROWS, Algorithm, Profile, Rows, Setting

_ALPHA = 0.95  # of the pruning; its documentation advises less than 1 for inner products
_LEANVEC_DIM = 256  # from here on codes of fewer dimensions pay, by its documentation


class _Svs(Algorithm):
    library = "SVS"
    package = "scalable-vs"
    modules = ("svs",)
    _index: Any
    _reduction: Reduction

    def set_threads(self, threads: int) -> None:
        self.threads = threads
        if hasattr(self, "_index"):
            self._index.num_threads = threads

    def search(self, queries: Rows) -> NDArray[np.integer]:
        ids, _ = self._index.search(self._reduction.queries(queries), self.k)
        return np.asarray(ids).astype(np.int64)

    def kernels(self) -> list[str]:
        return []  # chosen by itself, without telling


class SvsFlat(_Svs):
    name = "svs-flat"
    title = "SVS Flat"
    exact = True

    def build(self, rows: Rows) -> None:
        import svs

        self._reduction = Reduction(rows, self.metric, multiple=16)
        self._index = svs.Flat(self._reduction.rows, svs.DistanceType.MIP, num_threads=1)

    def index_bytes(self) -> int:
        return self._reduction.rows.nbytes


class SvsVamana(_Svs):
    name = "svs-vamana"
    title = "SVS Vamana"

    @classmethod
    def sweep(cls, profile: Profile) -> list[Setting]:
        if not profile.full and profile.rows > QUICK_GRAPH_ROWS:
            return []
        windows = profile.pick([32, 128, 512], [10, 20, 40, 80, 160, 320, 640])
        searches = [{"window": max(window, profile.k)} for window in windows]
        codes = profile.pick(["lvq4x8"], ["float32", "lvq8", "lvq4x8"])
        if profile.full and profile.dim >= _LEANVEC_DIM:
            codes = [*codes, "leanvec"]
        if not machine.is_intel():
            codes = ["float32"]  # the wheel ends the process elsewhere, when it makes codes
        return [Setting({"codes": code, "degree": 32}, searches) for code in codes]

    def build(self, rows: Rows) -> None:
        import svs

        self._reduction = Reduction(rows, self.metric, multiple=16)
        reduced = self._reduction.rows
        parameters = svs.VamanaBuildParameters(
            alpha=_ALPHA, graph_max_degree=self.parameters["degree"], window_size=200)
        with tempfile.TemporaryDirectory() as folder:
            data = self._coded(reduced, Path(folder, "rows.fvecs"))
            self._index = svs.Vamana.build(
                parameters, data, svs.DistanceType.MIP, num_threads=self.threads)
        del self._reduction.rows  # it keeps its own copy

    def _coded(self, reduced: Rows, path: Path) -> Any:
        """What the graph is built of: the rows, or a loader of codes of them, made from a file."""
        import svs

        codes = self.parameters["codes"]
        if codes == "float32":
            return reduced
        svs.write_vecs(reduced, str(path))
        dim = reduced.shape[1]
        loader = svs.VectorDataLoader(str(path), svs.DataType.float32, dim)
        if codes == "leanvec":
            lvq8 = svs.LeanVecKind.lvq8
            return svs.LeanVecLoader(loader, dim // 3 // 16 * 16, lvq8, lvq8)
        primary, residual = {"lvq8": (8, 0), "lvq4x8": (4, 8)}[codes]
        return svs.LVQLoader(loader, primary, residual, 32, svs.LVQStrategy.Auto)

    def configure(self, search: Mapping[str, Any]) -> None:
        self._index.search_window_size = search["window"]
