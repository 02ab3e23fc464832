"""Libraries that find the nearest rows: how each is built, and what its search may be told."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.float32]
Ids = NDArray[np.integer[Any]]


class Library(NamedTuple):
    """`build` gives an index; `sweep` its settings, with a search for each."""

    title: str
    build: Callable[[Rows, str, int], Any]
    sweep: Callable[[Any, int], Iterator[tuple[str, Callable[[Rows], Ids]]]]


def _unit(rows: Rows, metric: str) -> Rows:
    """Rows of length 1 under cosine, where inner products are the cosines."""
    if metric != "cosine":
        return rows
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)


def _farann(cells: str | None) -> Library:
    def build(rows: Rows, metric: str, k: int) -> Any:
        import farann

        index = farann.Index(metric=metric, threads=1, cells=cells)
        index.add(rows)
        return index.build(nearest=True, tune=(k,))

    def sweep(index: Any, k: int) -> Iterator[tuple[str, Callable[[Rows], Ids]]]:
        def search(recall: float | None, queries: Rows) -> Ids:
            ids: Ids = index.search_nearest(queries, k, recall=recall).ids
            return ids

        yield "exact", partial(search, None)
        for recall in (0.8, 0.9, 0.95, 0.99):
            yield f"recall={recall}", partial(search, recall)

    return Library("farann" if cells is None else f"farann, cells={cells}", build, sweep)


def build_hnswlib(rows: Rows, metric: str, k: int) -> Any:
    """A graph as in the examples of its documentation, the same each time."""
    import hnswlib

    graph = hnswlib.Index(space={"l2": "l2", "cosine": "cosine", "dot": "ip"}[metric],
                          dim=rows.shape[1])
    graph.init_index(max_elements=len(rows), M=16, ef_construction=200, random_seed=0)
    graph.set_num_threads(1)
    graph.add_items(rows, num_threads=1)
    return graph


def _sweep_hnswlib(graph: Any, k: int) -> Iterator[tuple[str, Callable[[Rows], Ids]]]:
    for ef in (16, 24, 32, 48, 64, 96, 128, 256, 512):
        graph.set_ef(max(ef, k))
        yield f"ef={ef}", lambda queries: graph.knn_query(queries, k=k, num_threads=1)[0]


def _build_scann(rows: Rows, metric: str, k: int) -> Any:
    from scann.scann_ops.py import scann_ops_pybind

    leaves = int(2 * len(rows) ** 0.5)
    builder = scann_ops_pybind.builder(
        _unit(rows, metric), k, "squared_l2" if metric == "l2" else "dot_product")
    builder.set_n_training_threads(1)
    return metric, leaves, builder.tree(num_leaves=leaves, num_leaves_to_search=leaves // 10,
                                        training_sample_size=min(len(rows), 250_000)).score_ah(
            2, anisotropic_quantization_threshold=0.2).reorder(100).build()


def _sweep_scann(made: Any, k: int) -> Iterator[tuple[str, Callable[[Rows], Ids]]]:
    metric, leaves, searcher = made

    def search(options: dict[str, int], queries: Rows) -> Ids:
        ids: Ids = searcher.search_batched(_unit(queries, metric), k, **options)[0]
        return ids.astype(np.int64)

    for share in (200, 100, 50, 25, 12, 6, 3):
        for reorder in (50, 200):
            options = {"leaves_to_search": max(1, leaves // share),
                       "pre_reorder_num_neighbors": reorder}
            yield (f"leaves={options['leaves_to_search']}, reorder={reorder}",
                   partial(search, options))


def _build_faiss(rows: Rows, metric: str, k: int) -> Any:
    import faiss

    faiss.omp_set_num_threads(1)
    lists = int(4 * len(rows) ** 0.5)
    kind = faiss.METRIC_L2 if metric == "l2" else faiss.METRIC_INNER_PRODUCT
    index = faiss.index_factory(rows.shape[1], f"IVF{lists},Flat", kind)
    unit = _unit(rows, metric)
    index.train(unit)
    index.add(unit)
    return metric, index


def _sweep_faiss(made: Any, k: int) -> Iterator[tuple[str, Callable[[Rows], Ids]]]:
    metric, index = made
    for probes in (2, 4, 8, 16, 32, 64, 128, 256, 512):
        index.nprobe = probes
        yield f"nprobe={probes}", lambda queries: index.search(_unit(queries, metric), k)[1]


LIBRARIES: dict[str, Library] = {
    "farann": _farann(None),
    "farann-cells": _farann("auto"),
    "hnswlib": Library("hnswlib, M=16", build_hnswlib, _sweep_hnswlib),
    "scann": Library("ScaNN, tree + AH + reorder", _build_scann, _sweep_scann),
    "faiss": Library("faiss IVF, float32", _build_faiss, _sweep_faiss),
}
