"""What every peer looks like to the runner."""

from __future__ import annotations

import importlib.util
import platform
from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from importlib import metadata
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ..reduction import Reduction

Rows = NDArray[np.float32]
Ids = NDArray[np.int64]
Parameters = dict[str, Any]
QUICK_GRAPH_ROWS = 100_000  # a graph over more rows takes minutes to build


@dataclass(frozen=True)
class Profile:
    """What a sweep may depend on: the data set's shape and how much time there is."""

    rows: int
    dim: int
    metric: str
    k: int = 10
    full: bool = False
    nearest: bool = False

    def pick(self, quick: list[Any], full: list[Any]) -> list[Any]:
        """The short list in a quick run, the long one in a full run."""
        return full if self.full else quick


@dataclass(frozen=True)
class Setting:
    """One index to build, in a process of its own, and the searches to time on it.

    Settings with a `label` stand apart in charts and tables, as an algorithm of its own would.
    """

    build: Parameters = field(default_factory=dict)
    searches: list[Parameters] = field(default_factory=lambda: [{}])
    environment: dict[str, str] = field(default_factory=dict)
    label: str = ""


class Algorithm(ABC):
    """One way to find the furthest rows, or the nearest.

    A peer is one small file with one or a few subclasses. The runner calls, in a fresh
    process: ``build(rows)`` once, then for each search setting ``configure(search)`` and
    any number of ``find`` and ``find_one``, whose queries ``asked`` prepared before the clock ran.

    Attributes
    ----------
    name : str
        Short and unique, as in ``faiss-flat``.
    title : str
        As the report shows it.
    library : str
        Peers of one library share a color.
    package : str
        The distribution whose version is recorded.
    modules : tuple of str
        What must be importable for the peer to run.
    exact : bool
        Whether the answers should be exact. They are checked, and only then does
        the time count among the exact ones.
    metrics : tuple of str
    stale_blas : bool
        Whether the wheel brings an OpenBLAS that doesn't know newer CPUs and must be told.
    baseline : bool
        A baseline is shown but never counts as a peer.
    nearest_metrics : tuple of str
        Under which it can be told to find the nearest rows.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    library: ClassVar[str]
    package: ClassVar[str]
    modules: ClassVar[tuple[str, ...]]
    exact: ClassVar[bool] = False
    metrics: ClassVar[tuple[str, ...]] = ("l2", "dot", "cosine")
    stale_blas: ClassVar[bool] = False
    baseline: ClassVar[bool] = False
    nearest_metrics: ClassVar[tuple[str, ...]] = ("l2", "dot", "cosine")

    def __init__(self, metric: str, k: int, parameters: Mapping[str, Any],
                 nearest: bool = False) -> None:
        self.metric = metric
        self.nearest = nearest
        self.k = k
        self.parameters = dict(parameters)
        self.threads = 1
        self.sample: Rows | None = None  # queries to build with, where the data set has some
        self._limits = ExitStack()
        self._reduction: Reduction | None = None

    @classmethod
    def sweep(cls, profile: Profile) -> list[Setting]:
        """Settings worth timing on such data; empty when none is."""
        return [Setting()]

    @classmethod
    def missing(cls) -> str | None:
        """Why the peer can't run here, or None when it can."""
        for module in cls.modules:
            if importlib.util.find_spec(module) is None:
                return f"{module} is not installed"
        return None

    @classmethod
    def version(cls) -> str | None:
        """Version of the peer's distribution, None when unknown."""
        try:
            return metadata.version(cls.package)
        except metadata.PackageNotFoundError:
            return None

    @classmethod
    def environment(cls, flags: frozenset[str]) -> dict[str, str]:
        """Environment variables the peer needs on a CPU with these flags.

        OPENBLAS_CORETYPE and OPENBLAS_L2_SIZE are never inherited by a peer's process.
        """
        if not cls.stale_blas or platform.machine() not in ("x86_64", "AMD64"):
            return {}
        if {"avx512f", "avx512bw", "avx512dq", "avx512vl"} <= flags:
            return {"OPENBLAS_CORETYPE": "SkylakeX"}
        return {"OPENBLAS_CORETYPE": "Haswell"} if {"avx2", "fma"} <= flags else {}

    @abstractmethod
    def build(self, rows: Rows) -> None:
        """Index the rows: float32 of shape (n, dim), not to be modified."""

    @abstractmethod
    def find(self, asked: Rows) -> NDArray[np.integer]:
        """Ids of shape (nq, k) of the rows that prepared queries want."""

    def find_one(self, asked: Rows) -> NDArray[np.integer]:
        """Ids of shape (k,) for one prepared query of shape (dim,)."""
        return np.asarray(self.find(asked[None, :])[0])

    def asked(self, queries: Rows) -> Rows:
        """Queries as the library takes them: reduced if the rows were."""
        return queries if self._reduction is None else self._reduction.queries(queries)

    def search(self, queries: Rows) -> NDArray[np.integer]:
        """Ids of shape (nq, k) for float32 queries of shape (nq, dim)."""
        return self.find(self.asked(queries))

    def reduce(self, rows: Rows, multiple: int = 1) -> Reduction:
        """Rows of which the library can find the best; `asked` reduces queries likewise."""
        self._reduction = Reduction(rows, self.metric, multiple, self.nearest)
        return self._reduction

    def configure(self, search: Mapping[str, Any]) -> None:
        """Set the parameters of the searches that follow; all that the sweep names are there."""
        if search:
            raise TypeError(f"{self.name} has no search parameters, got {sorted(search)}")

    def set_threads(self, threads: int) -> None:
        """Use that many threads from now on."""
        from threadpoolctl import threadpool_limits

        self.threads = threads
        self._limits.close()
        self._limits.enter_context(threadpool_limits(threads))

    def claims_exact(self, search: Mapping[str, Any]) -> bool:
        """Whether answers under these search parameters should be exact."""
        return self.exact

    def kernels(self) -> list[str]:
        """The instruction set or BLAS kernels that the peer's libraries chose."""
        from threadpoolctl import threadpool_info

        return sorted(
            {
                f"{info['internal_api']} {info['version']} {info['architecture']}"
                for info in threadpool_info()
                if info["user_api"] == "blas" and info.get("architecture")
            }
        )

    def index_bytes(self) -> int | None:
        """Size of the index, None when only the growth of the process tells."""
        return None

    def rows_scanned(self) -> float | None:
        """Rows scored per query in the last search, None when the peer doesn't say."""
        return None


def furthest_first(ids: Ids, products: NDArray[np.floating], k: int) -> Ids:
    """The k ids with the largest of the given inner products, largest first."""
    k = min(k, products.shape[1])
    top = np.argpartition(-products, k - 1, axis=1)[:, :k]
    top = np.take_along_axis(top, np.argsort(-np.take_along_axis(products, top, 1), axis=1), 1)
    return np.asarray(ids[top], dtype=np.int64)
