"""usearch: exact search without an index, in float32 and in int8."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ..reduction import Reduction
from .base import Algorithm, Ids, Profile, Rows, Setting, furthest_first


class _Usearch(Algorithm):
    library = "usearch"
    package = "usearch"
    modules = ("usearch",)
    dtype: ClassVar[str] = "f32"
    _reduction: Reduction

    def set_threads(self, threads: int) -> None:
        self.threads = threads

    def kernels(self) -> list[str]:
        from usearch.index import Index, MetricKind

        index = Index(ndim=self._reduction.dim, metric=MetricKind.IP, dtype=self.dtype)
        return [f"usearch {self.dtype} {index.hardware_acceleration}"]

    def _scan(self, rows: NDArray[np.generic], queries: NDArray[np.generic], k: int) -> Ids:
        from usearch.index import MetricKind, search

        matches = search(rows, queries, k, MetricKind.IP, exact=True, threads=self.threads)
        return np.atleast_2d(np.asarray(matches.keys)).astype(np.int64)


class UsearchFloat(_Usearch):
    name = "usearch-exact"
    title = "usearch exact f32"
    exact = True

    def build(self, rows: Rows) -> None:
        self._reduction = Reduction(rows, self.metric, multiple=16)

    def search(self, queries: Rows) -> NDArray[np.integer]:
        return self._scan(self._reduction.rows, self._reduction.queries(queries), self.k)

    def index_bytes(self) -> int:
        return self._reduction.rows.nbytes


class UsearchInt8(_Usearch):
    """int8 under one global scale, which usearch leaves to the caller, then float32 again."""

    name = "usearch-int8"
    title = "usearch exact i8 + refine"
    dtype = "i8"

    @classmethod
    def sweep(cls, profile: Profile) -> list[Setting]:
        return [Setting(searches=[{"refine": r} for r in profile.pick([1, 10], [1, 4, 10, 40])])]

    def build(self, rows: Rows) -> None:
        self._reduction = Reduction(rows, self.metric, multiple=16)
        self._codes = _codes(self._reduction.rows)

    def configure(self, search: Mapping[str, Any]) -> None:
        self._refine = search["refine"]

    def search(self, queries: Rows) -> NDArray[np.integer]:
        reduced = self._reduction.queries(queries)
        wanted = min(self.k * self._refine, len(self._codes))
        ids = self._scan(self._codes, _codes(reduced, axis=1), wanted)
        if self._refine == 1:
            return ids
        rows = self._reduction.rows
        return np.vstack(
            [
                furthest_first(found, (rows[found] @ query)[None, :], self.k)
                for found, query in zip(ids, reduced, strict=True)
            ]
        )

    def index_bytes(self) -> int:
        kept = self._reduction.rows.nbytes if self._refine > 1 else 0
        return self._codes.nbytes + kept


def _codes(vectors: Rows, axis: int | None = None) -> NDArray[np.int8]:
    """Codes in -127..127 under one scale, or one a vector (axis=1) where order allows it."""
    largest = np.abs(vectors).max(axis=axis, keepdims=True)
    scale = np.float32(127.0) / np.where(largest > 0, largest, 1)
    return np.rint(vectors * scale).astype(np.int8)
