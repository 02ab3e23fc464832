"""VSAG: a graph over 8-bit codes, and lists, both refined on the rows themselves."""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ..reduction import Reduction
from .base import QUICK_GRAPH_ROWS, Algorithm, Profile, Rows, Setting
from .faiss_ivf import lists


class _Vsag(Algorithm):
    """A search answers one query and holds the interpreter, so batches and threads gain nothing."""

    library = "VSAG"
    package = "pyvsag"
    modules = ("pyvsag",)
    kind: ClassVar[str]

    @abstractmethod
    def index_parameters(self) -> dict[str, Any]:
        """Of the index, beside those that all have."""

    def build(self, rows: Rows) -> None:
        import pyvsag

        pyvsag.set_logger_off()
        self._reduction = Reduction(rows, self.metric, multiple=16)
        count, dim = self._reduction.rows.shape
        about = {
            "dtype": "float32",
            "metric_type": "ip",
            "dim": dim,
            "index_param": {
                "use_reorder": True,
                "precise_quantization_type": "fp32",
                **self.index_parameters(),
            },
        }
        self._index: Any = pyvsag.Index(self.kind, json.dumps(about))
        self._index.build(self._reduction.rows.ravel(), np.arange(count), count, dim)
        self._wanted = min(self.k, count)
        del self._reduction.rows  # it keeps its own copy

    def configure(self, search: Mapping[str, Any]) -> None:
        self._options = json.dumps({self.kind: dict(search)})

    def set_threads(self, threads: int) -> None:
        self.threads = 1

    def search(self, queries: Rows) -> NDArray[np.integer]:
        return np.vstack([self._found(query) for query in self._reduction.queries(queries)])

    def search_one(self, query: Rows) -> NDArray[np.integer]:
        return self._found(self._reduction.queries(query[None, :])[0])

    def _found(self, reduced: Rows) -> NDArray[np.int64]:
        ids = np.asarray(self._index.knn_search(reduced, self.k, self._options)[0])
        if len(ids) == self._wanted:
            return ids.astype(np.int64)
        # Lists that are visited may hold fewer rows than wanted.
        return np.pad(ids.astype(np.int64), (0, self._wanted - len(ids)), constant_values=-1)

    def kernels(self) -> list[str]:
        return []  # chosen by itself, without telling


class VsagGraph(_Vsag):
    name = "vsag-hgraph"
    title = "VSAG HGraph + reorder"
    kind = "hgraph"

    @classmethod
    def sweep(cls, profile: Profile) -> list[Setting]:
        if not profile.full and profile.rows > QUICK_GRAPH_ROWS:
            return []
        efs = profile.pick([32, 128, 512], [16, 32, 64, 128, 256, 512, 1000])
        searches = [{"ef_search": max(ef, profile.k)} for ef in efs]
        codes = profile.pick(["sq8_uniform"], ["sq8_uniform", "fp32"])
        return [Setting({"base_quantization_type": code, "max_degree": 32,
                         "ef_construction": 200}, searches) for code in codes]

    def index_parameters(self) -> dict[str, Any]:
        exact = self.parameters["base_quantization_type"] == "fp32"
        return {**self.parameters, "build_thread_count": self.threads, "use_reorder": not exact}


class VsagLists(_Vsag):
    name = "vsag-ivf"
    title = "VSAG IVF + reorder"
    kind = "ivf"

    @classmethod
    def sweep(cls, profile: Profile) -> list[Setting]:
        count = lists(profile.rows)
        scanned = profile.pick([16, 64, 256], [8, 16, 32, 64, 128, 256, 512])
        factors = profile.pick([4.0], [2.0, 10.0])  # candidates to refine, as multiples of k
        searches = [{"scan_buckets_count": buckets, "factor": factor} for factor in factors
                    for buckets in sorted({min(s, count) for s in scanned})]
        return [Setting({"buckets_count": count, "base_quantization_type": "sq8",
                         "partition_strategy_type": "ivf", "ivf_train_type": "kmeans"}, searches)]

    def index_parameters(self) -> dict[str, Any]:
        return self.parameters
