"""Audit of exact nearest search: wrong answers of libraries, and answers that depend on the batch.

Run as ``python -m bench.nearest.audit [LIBRARY ...]``; libraries that are not installed are left
out. The table has, for each set, wrong rows of single queries, in a batch of all and in one of
three times as many, and the number of queries whose ids depend on that.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

import numpy as np

import farann

from ..results import markdown
from .libraries import Ids, Rows

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


def _farann(rows: Rows) -> Search:
    index = farann.Index()
    index.add(rows)
    return lambda queries: index.search_nearest(queries, K).ids


def _faiss(rows: Rows) -> Search:
    import faiss

    index = faiss.IndexFlatL2(DIM)
    index.add(rows)
    return lambda queries: index.search(queries, K)[1]


def _numpy(rows: Rows) -> Search:
    squares = (rows * rows).sum(axis=1)
    return lambda queries: np.argsort(squares - 2 * queries @ rows.T, axis=1, kind="stable")[:, :K]


def _sklearn(rows: Rows) -> Search:
    from sklearn.neighbors import NearestNeighbors

    made = NearestNeighbors(n_neighbors=K, algorithm="brute").fit(rows)
    return lambda queries: made.kneighbors(queries, return_distance=False)


def _hnswlib(rows: Rows) -> Search:
    import hnswlib

    index = hnswlib.BFIndex(space="l2", dim=DIM)
    index.init_index(len(rows))
    index.add_items(rows)
    return lambda queries: index.knn_query(queries, k=K)[0].astype(np.int64)


def _usearch(rows: Rows) -> Search:
    from usearch.index import MetricKind, search

    return lambda queries: np.atleast_2d(np.asarray(search(
        rows, queries, K, MetricKind.L2sq, exact=True).keys)).astype(np.int64)


LIBRARIES: dict[str, tuple[str, Callable[[Rows], Search]]] = {
    "farann": ("farann", _farann), "faiss": ("faiss IndexFlatL2", _faiss),
    "numpy": ("numpy, float32 product", _numpy), "sklearn": ("scikit-learn brute", _sklearn),
    "hnswlib": ("hnswlib BFIndex", _hnswlib), "usearch": ("usearch exact", _usearch)}


def audit(names: list[str], data: dict[str, tuple[Rows, Rows]]) -> str:
    """The table."""
    lines = []
    for name in names:
        title, build = LIBRARIES[name]
        cells = [title]
        for rows, queries in data.values():
            try:
                search = build(rows)
            except ImportError as error:
                print(f"{title}: {error}", file=sys.stderr)
                break
            answers = [np.vstack([search(queries[i : i + 1]) for i in range(len(queries))]),
                       search(queries), search(np.tile(queries, (3, 1)))[: len(queries)]]
            wrong = [int((~farann.verify(rows, queries, ids).right).sum()) for ids in answers]
            differ = (np.stack(answers) != answers[0]).any(axis=(0, 2)).sum()
            cells.append(" / ".join(f"{count:,}" for count in [*wrong, int(differ)]))
        else:
            lines.append(cells)
    return markdown(["library", *data], lines)


if __name__ == "__main__":
    print(audit(sys.argv[1:] or [*LIBRARIES], sets()))
