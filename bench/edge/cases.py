"""The rows of the edge suite: which data, how farann is asked, and beside whom."""

from __future__ import annotations

from dataclasses import dataclass, field
from fnmatch import fnmatch
from typing import Any

from .data import GENERATORS, Made

EXACT = ("faiss-flat", "scann-brute", "numpy")
ALL = (*EXACT, "faiss-ivf-flat", "scann-tree", "lorann")
BATCH, SINGLE, BOTH = ("batch",), ("single",), ("batch", "single")
BUILD = "build"
_FEWEST_ROWS = 1000  # small sets stay as they are at any scale up to 1


@dataclass(frozen=True)
class Way:
    """One way to ask farann.

    Attributes
    ----------
    label : str
        Empty for the usual way, with which the others are compared ("itself").
    index, search : dict
        Keywords of `farann.Index` and of its searches; both get ``threads=1`` if none are named.
    only : tuple of str and float
        A filter: ``("mask", share)`` or ``("ids", share)`` of rows that are allowed,
        ``("prepared", share)`` by ``Index.filter``, ``("exclude", count)`` ids a query.
    streamed : (float, int), optional
        The share of the rows that is added after the build, the last ones, and how many at a time.
    modes : tuple of str
        Those of the case when empty. ``"callers 2"`` are two threads that search one by one.
    against : str
        The label of the way it is compared with.
    """

    label: str = ""
    index: dict[str, Any] = field(default_factory=dict)
    search: dict[str, Any] = field(default_factory=dict)
    only: tuple[str, float] | None = None
    streamed: tuple[float, int] | None = None
    modes: tuple[str, ...] = ()
    against: str = ""


@dataclass(frozen=True)
class Case:
    """One row of the suite: `rows` is the number at scale 1, `queries` at any scale."""

    name: str
    title: str
    data: str
    rows: int
    metric: str
    ways: tuple[Way, ...]
    peers: tuple[str, ...] = EXACT
    modes: tuple[str, ...] = BOTH
    k: int = 10
    queries: int = 256

    def make(self, scale: float) -> Made:
        """Rows and queries at a scale."""
        count = max(min(self.rows, _FEWEST_ROWS), int(self.rows * scale))
        return GENERATORS[self.data](count, self.queries, 0)


def _recalls(*targets: float, **index: Any) -> tuple[Way, ...]:
    prefix = "cells " if index else ""
    return tuple(Way(f"{prefix}{target:g}", index, {"recall": target}) for target in targets)


def _unlike(kind: str, metric: str = "l2") -> Case:
    return Case(f"recall-{kind}-{metric}", f"recall, queries {kind}, {metric}", f"centers-{kind}",
                200_000, metric,
                (Way(), *_recalls(0.8, 0.95, 0.99), *_recalls(0.95, cells="auto")), ALL, BATCH)


def _cells(data: str, rows: int, metric: str) -> Case:
    cells = {"cells": "auto"}
    return Case(
        f"cells-{data}-{metric}", f'cells="auto", {data}, {metric}', data, rows, metric,
        (Way(), Way("cells", cells), *_recalls(0.95),
         Way("cells 0.95", cells, {"recall": 0.95}, against="0.95"),
         Way("build", modes=(BUILD,)),
         Way("cells build", cells, modes=(BUILD,), against="build")), ("faiss-flat", "numpy"))


def _small(rows: int, dim: int, **more: Any) -> Case:
    return Case(f"tiny-{rows}", f"{rows:,} x {dim} one by one", f"gaussian-{dim}", rows, "l2",
                (Way(),), EXACT, SINGLE, **more)


def _build(rows: int, dim: int, peers: tuple[str, ...]) -> Case:
    return Case(
        f"build-{rows}", f"build of {rows:,} x {dim}", f"gaussian-{dim}", rows, "dot",
        (Way(), Way("all cores", {"threads": None}),
         Way("all cores, cells", {"threads": None, "cells": "auto"}, against="all cores")),
        peers, (BUILD,), queries=16)


_FILTERS = tuple(Way(f"{kind} {share:.0%}", only=(kind, share))
                 for kind in ("mask", "ids", "prepared") for share in (0.1, 0.24, 0.5, 0.9))

_STREAMED = (0.9, 0.95, 0.99)

CASES: tuple[Case, ...] = (
    _unlike("alike"), _unlike("distant"), _unlike("scaled"), _unlike("rotated"),
    _unlike("swapped"), _unlike("distant", "dot"),
    *(Case(name, f"{name} rows, reverse queries, cosine", name, 400_000, "cosine",
           (Way(), Way("float32", {"codes": "float32"})))
      for name in ("anisotropic", "anisotropic-steep")),
    Case("histograms", "clustered histograms, cosine", "histograms", 150_000, "cosine",
         (Way(), Way("float32", {"codes": "float32"}))),
    Case("glove", "GloVe, cosine", "glove", 398_000, "cosine",
         (Way(), *_recalls(0.95), *_recalls(0.95, 0.99, cells="auto")), ALL),
    Case("glove-50000", "GloVe, first 50,000, cosine", "glove", 50_000, "cosine",
         (Way(), *_recalls(0.95), *_recalls(0.95, 0.99, cells="auto")), ALL),
    Case("filters", "filters, clusters, cosine", "clusters-64", 400_000, "cosine",
         (Way(), *_FILTERS), ("faiss-flat",)),
    Case("exclude", "1,000 ids excluded a query", "clusters-64", 400_000, "cosine",
         (Way(), Way("exclude", only=("exclude", 1000)), *_recalls(0.95),
          Way("0.95 exclude", {}, {"recall": 0.95}, ("exclude", 1000), against="0.95")),
         EXACT, BATCH),
    Case("k-10000", "k = 10,000", "clusters-64", 400_000, "l2", (Way(),), EXACT, k=10_000,
         queries=32),
    Case("wide", "1,000 x 1,024, dot", "gaussian-1024", 1000, "dot", (Way(),), modes=BATCH),
    *(_cells(data, 150_000, metric)
      for data in ("histograms", "heavy-tails", "gaussian-2") for metric in ("l2", "dot")),
    _cells("binary", 150_000, "l2"),
    Case("small-recall", "10,000 x 16, recall one by one", "gaussian-16", 10_000, "l2",
         (Way(), *_recalls(0.95)), ALL, SINGLE),
    Case("stream", "half of the rows added 100 at a time", "gaussian-64", 200_000, "l2",
         (Way(), Way("streamed", streamed=(0.5, 100)), *_recalls(0.95),
          Way("streamed 0.95", {}, {"recall": 0.95}, streamed=(0.5, 100), against="0.95"))),
    Case("stream-descriptors", "a fifth of image descriptors added 500 at a time", "descriptors",
         150_000, "l2",
         (Way(), Way("streamed", streamed=(0.2, 500)), *_recalls(*_STREAMED),
          *(Way(f"streamed {recall:g}", {}, {"recall": recall}, streamed=(0.2, 500),
                against=f"{recall:g}") for recall in _STREAMED)), ("faiss-flat",)),
    _build(6000, 784, ("faiss-flat", "faiss-ivf-flat", "scann-tree", "lorann")),
    _build(10_000, 64, ("faiss-flat", "faiss-ivf-flat", "scann-tree", "lorann")),
    _build(1_000_000, 768, ()),
    _small(100, 64), _small(1000, 64),
    Case("callers", "threads of callers, recall 0.95", "clusters-64", 400_000, "cosine",
         (Way("", {}, {"recall": 0.95}),
          Way("callers", {}, {"recall": 0.95}, modes=("callers 2", "callers 4"))), (), SINGLE),
    Case("second-core", "one query, two threads", "gaussian-128", 2_000_000, "dot",
         (Way(), Way("two threads", {}, {"threads": 2})), ("faiss-flat",), SINGLE, queries=32),
    *(Case(f"second-core-{few}", f"a batch of {few}, two threads", "gaussian-128", 2_000_000, "dot",
           (Way(), Way("two threads", {}, {"threads": 2})), ("faiss-flat",), BATCH, queries=few)
      for few in (2, 4, 8)),
)


def named(name: str) -> Case:
    """The case of that name."""
    return matching([name])[0]


def matching(patterns: list[str] | None) -> list[Case]:
    """Cases whose names match one of the shell patterns, in the suite's order."""
    for pattern in patterns or []:
        if not any(fnmatch(case.name, pattern) for case in CASES):
            names = ", ".join(case.name for case in CASES)
            raise ValueError(f"--only must be of {names}, got {pattern!r}")
    return [case for case in CASES
            if patterns is None or any(fnmatch(case.name, pattern) for pattern in patterns)]
