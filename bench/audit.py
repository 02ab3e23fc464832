"""Audit of exact nearest search: wrong answers, and answers that depend on the batch.

Run as ``python -m bench.audit [LIBRARY ...]``; libraries that aren't installed or lack a metric are
left out. The tables have, for each set, wrong rows of single queries, in a batch of all and in one
of three times as many, and the number of queries whose ids depend on that.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

import numpy as np

import farann

from .algorithms.base import Ids, Rows
from .reduction import METRICS
from .results import markdown

N, DIM, QUERIES, K = 20_000, 64, 1_000, 10
Search = Callable[[Rows], Ids]


def sets(n: int = N, n_queries: int = QUERIES) -> dict[str, tuple[Rows, Rows]]:
    """Rows and queries by what is hard about them."""
    rng = np.random.default_rng(0)
    rows, queries = (rng.standard_normal((count, DIM), dtype=np.float32)
                     for count in (n, n_queries))
    large = [part.copy() for part in (rows, queries)]
    for part in large:
        part[:, 0] = rng.uniform(0, 100_000, len(part))
    return {"each row 7 times": (rows[np.arange(n) // 7], queries),
            "offset of 1,000": (rows + np.float32(1000), queries + np.float32(1000)),
            "a column of 0 to 100,000": (large[0], large[1])}


def _farann(rows: Rows, metric: str) -> Search:
    index = farann.Index(metric=metric)
    index.add(rows)
    return lambda queries: index.search_nearest(queries, K).ids


def _faiss(rows: Rows, metric: str) -> Search:
    import faiss

    def unit(rows: Rows) -> Rows:
        if metric == "cosine":
            rows = rows.copy()
            faiss.normalize_L2(rows)
        return rows

    index = faiss.IndexFlatL2(DIM) if metric == "l2" else faiss.IndexFlatIP(DIM)
    index.add(unit(rows))
    return lambda queries: index.search(unit(queries), K)[1]


def _numpy(rows: Rows, metric: str) -> Search:
    squares = (rows * rows).sum(axis=1)

    def search(queries: Rows) -> Ids:
        keys = -queries @ rows.T
        keys = squares + 2 * keys if metric == "l2" else keys
        keys = keys / np.sqrt(squares) if metric == "cosine" else keys
        return np.argsort(keys, axis=1, kind="stable")[:, :K]

    return search


def _sklearn(rows: Rows, metric: str) -> Search:
    from sklearn.neighbors import NearestNeighbors

    named = {"l2": "euclidean", "cosine": "cosine"}[metric]
    made = NearestNeighbors(n_neighbors=K, algorithm="brute", metric=named).fit(rows)
    return lambda queries: made.kneighbors(queries, return_distance=False)


def _hnswlib(rows: Rows, metric: str) -> Search:
    import hnswlib

    index = hnswlib.BFIndex(space={"dot": "ip"}.get(metric, metric), dim=DIM)
    index.init_index(len(rows))
    index.add_items(rows)
    return lambda queries: index.knn_query(queries, k=K)[0].astype(np.int64)


def _usearch(rows: Rows, metric: str) -> Search:
    from usearch.index import MetricKind, search

    kind = {"l2": MetricKind.L2sq, "dot": MetricKind.IP, "cosine": MetricKind.Cos}[metric]
    return lambda queries: np.atleast_2d(np.asarray(search(
        rows, queries, K, kind, exact=True).keys)).astype(np.int64)


LIBRARIES: dict[str, tuple[str, Callable[[Rows, str], Search]]] = {
    "farann": ("farann", _farann), "faiss": ("faiss Flat", _faiss),
    "numpy": ("numpy, float32 product", _numpy), "sklearn": ("scikit-learn brute", _sklearn),
    "hnswlib": ("hnswlib BFIndex", _hnswlib), "usearch": ("usearch exact", _usearch)}


def audit(names: list[str], data: dict[str, tuple[Rows, Rows]], metric: str) -> str:
    """The table of a metric."""
    lines = []
    for name in names:
        title, build = LIBRARIES[name]
        cells = [title]
        for rows, queries in data.values():
            try:
                search = build(rows, metric)
            except (ImportError, KeyError) as error:
                print(f"{title}, {metric}: {error}", file=sys.stderr)
                break
            answers = [np.vstack([search(queries[i : i + 1]) for i in range(len(queries))]),
                       search(queries), search(np.tile(queries, (3, 1)))[: len(queries)]]
            wrong = [int((~farann.verify(rows, queries, ids, metric=metric).right).sum())
                     for ids in answers]
            differ = (np.stack(answers) != answers[0]).any(axis=(0, 2)).sum()
            cells.append(" / ".join(f"{count:,}" for count in [*wrong, int(differ)]))
        else:
            lines.append(cells)
    return markdown([metric, *data], lines)


if __name__ == "__main__":
    for each in METRICS:
        print(audit(sys.argv[1:] or [*LIBRARIES], sets(), each))
