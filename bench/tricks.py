"""What goes wrong with the tricks by which nearest-neighbor libraries are asked for the furthest.

``python -m bench tricks`` prints two tables. The first negates queries, and asks a graph that was
built to find nearest rows. The second adds a coordinate, so that a distance becomes a product, in
float32.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import farann

from . import datasets
from .nearest.libraries import build_hnswlib

_K = 10
_QUERIES = 1_000
_EFFORTS = (32, 128, 512)  # candidates that a search in the graph keeps
_MOVED = (100, 1_000)  # added to all coordinates, as those of maps and times have

Floats = NDArray[np.float32]
Search = Callable[[Floats], Any]


def run(rows: int, cache: Path = datasets.CACHE) -> str:
    """Measure both tricks, and return Markdown.

    Parameters
    ----------
    rows : int
        The first so many of each set are indexed.
    cache : Path
        Of the data sets.
    """
    glove, fashion = (datasets.load(name, cache, rows)
                      for name in ("glove-cosine", "fashion-mnist-cosine"))
    sets = {"GloVe": (glove.rows(), glove.queries()[:_QUERIES]),
            "Fashion-MNIST": (fashion.rows(), fashion.queries()[:_QUERIES])}
    lines = [f"hnswlib (M = 16, ef_construction = 200) under cosine, {rows:,} rows:", "",
             "| rows | candidates | recall@10, nearest | recall@10, furthest by negated queries |",
             "|---|---:|---:|---:|"]
    lines += [f"| {name} | {effort} | {nearest:.3f} | {furthest:.3f} |"
              for name, (vectors, queries) in sets.items()
              for effort, nearest, furthest in negated(vectors, queries)]
    lines += ["", "One more coordinate, float32, the ten furthest under l2:", "",
              "| rows | queries with a wrong row | with rows in a wrong order |", "|---|---:|---:|"]
    for moved in _MOVED:
        vectors, queries = sets["GloVe"]
        sets[f"GloVe, moved by {moved:,}"] = (vectors + np.float32(moved),
                                              queries + np.float32(moved))
    for name, (vectors, queries) in sets.items():
        wrong, disordered = one_more_coordinate(vectors, queries)
        lines.append(f"| {name} | {wrong:.1%} | {disordered:.1%} |")
    return "\n".join(lines)


def negated(rows: Floats, queries: Floats) -> list[tuple[int, float, float]]:
    """For each effort, what a graph finds of the nearest rows, and of the furthest."""
    graph = build_hnswlib(rows, "cosine", _K)
    index = farann.Index(metric="cosine")
    index.add(rows)
    right = index.search_nearest(queries, _K).ids, index.search_furthest(queries, _K).ids
    found = []
    for effort in _EFFORTS:
        graph.set_ef(effort)
        nearest, furthest = (_recall(graph.knn_query(asked, _K)[0], ids)
                             for asked, ids in zip((queries, -queries), right, strict=True))
        found.append((effort, nearest, furthest))
    return found


def _recall(found: NDArray[Any], right: NDArray[np.int64]) -> float:
    pairs = zip(found, right, strict=True)
    return float(np.mean([len(np.intersect1d(a, b)) / len(b) for a, b in pairs]))


def one_more_coordinate(rows: Floats, queries: Floats) -> tuple[float, float]:
    """Shares of queries for which [x, |x|^2] . [-2q, 1] finds other rows, and another order."""
    lifted = np.hstack([rows, np.einsum("ij,ij->i", rows, rows)[:, None]])
    asked = np.hstack([-2 * queries, np.ones((len(queries), 1), np.float32)])
    index = farann.Index(metric="l2")
    index.add(rows)
    right = index.search_furthest(queries, _K).ids
    wrong = disordered = 0
    for query, ids in zip(asked, right, strict=True):
        products = lifted @ query
        best = np.argsort(-products, kind="stable")[:_K]  # of equal ones the smaller id
        wrong += set(best) != set(ids)
        disordered += bool(np.any(best != ids))
    return wrong / len(queries), disordered / len(queries)
