"""One of the two models: its item embeddings, and similarities that always have the same bits."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from farann._types import BoolArray, Float32Array, Float64Array, Int64Array
from farann.adapters.posneg import naming
from farann.contract import checks
from farann.index import Index
from farann.runtime import pool

# Float64 numbers made at a time.
_BLOCK = 1 << 21
# Lengths of vectors that were made unit in float32 differ by less than this.
_ALIKE = 1e-5


class Side:
    """Item embeddings of one model over the items of both, which are numbered 0..size-1.

    Similarity is what `Index` calls the score, except that it is the distance with a minus
    under l2: larger is always more alike. It is computed in float64 from the float32 vectors,
    summed over the coordinates in one order, so that equal rows are exactly equal.

    Parameters
    ----------
    rows : float32 (n, dim)
    items : int64 (n,)
        Numbers of their items, ascending.
    size : int
        Items of both models.
    metric : {"l2", "dot", "cosine"}
    threads : int, optional
        Of the index.

    Attributes
    ----------
    known : bool (size,)
        Which items the model has.
    """

    def __init__(self, rows: Float32Array, items: Int64Array, size: int, metric: str,
                 threads: int | None = None) -> None:
        self.rows, self.items, self.metric = rows, items, metric
        self.row_of = np.full(size, -1, np.int64)
        self.row_of[items] = np.arange(len(items))
        self.known: BoolArray = self.row_of >= 0
        self.largest_norm = max((float(_norms(block).max()) for _, block in _blocks(rows)),
                                default=0.0)
        self._lock = pool.fresh_lock(self)
        self._index: Index | None = None
        self._moments: tuple[Float64Array, Float64Array] | None = None
        self._threads = threads

    @property
    def dim(self) -> int:
        """Dimension of rows and queries."""
        return int(self.rows.shape[1])

    @property
    def index(self) -> Index:
        """The rows as an index whose ids are item numbers; made when it is first asked for."""
        with self._lock:
            if self._index is None:
                index = Index(self.dim, self.metric, threads=self._threads)
                index.add(self.rows, self.items)
                self._index = index.build()
            return self._index

    def similarity(self, queries: Float32Array, items: Int64Array) -> Float64Array:
        """Similarities of some items, (n_queries, m), for each query its own; NaN if unknown."""
        found = np.empty(items.shape)
        step = max(1, _BLOCK // max(1, items.shape[1] * self.dim))
        for start in range(0, len(items), step):
            at = self.row_of[items[start : start + step]]
            rows = self.rows[at].astype(np.float64)
            few = queries[start : start + step, np.newaxis].astype(np.float64)
            found[start : start + step] = np.where(at >= 0, self._compare(few, rows), np.nan)
        return found

    def similarity_to_all(self, queries: Float32Array) -> Float64Array:
        """Similarities of all items, (n_queries, size); NaN if unknown."""
        found = np.full((len(queries), len(self.row_of)), np.nan)
        wide = queries.astype(np.float64)
        for start, rows in _blocks(self.rows):
            at = self.items[start : start + len(rows)]
            for i in range(len(queries)):
                found[i, at] = self._compare(wide[i], rows)
        return found

    def moments(self, queries: Float32Array) -> tuple[Float64Array, Float64Array]:
        """Mean and standard deviation of each query's similarities over all rows."""
        if self.metric == "l2":
            parts = [self.similarity_to_all(queries[i : i + 64])
                     for i in range(0, len(queries), 64)]
            every = [(np.nanmean(part, axis=1), np.nanstd(part, axis=1)) for part in parts]
            return (np.concatenate([mean for mean, _ in every]),
                    np.concatenate([deviation for _, deviation in every]))
        mean, covariance = self._spread()
        wide = self._directions(queries.astype(np.float64))
        variance = np.einsum("id,id->i", wide @ covariance, wide)
        return wide @ mean, np.sqrt(np.maximum(variance, 0.0))

    def _spread(self) -> tuple[Float64Array, Float64Array]:
        """Mean and covariance of the rows, found once."""
        with self._lock:
            if self._moments is None:
                mean, covariance = np.zeros(self.dim), np.zeros((self.dim, self.dim))
                for _, rows in _blocks(self.rows):
                    mean += self._directions(rows).sum(axis=0) / len(self.rows)
                for _, rows in _blocks(self.rows):
                    centred = self._directions(rows) - mean
                    covariance += centred.T @ centred / len(self.rows)
                self._moments = (mean, covariance)
            return self._moments

    def log_lengths(self) -> Float64Array:
        """Logarithms of the lengths of the items' vectors, (size,); 0 if unknown, or all alike.

        Models give long vectors to items about which they learned much. Lengths are relative to
        their root mean square, and a tenth of it is added: zeros have no logarithm, and below
        that lengths are chance.
        """
        lengths = np.concatenate([_norms(self._directions(rows)) for _, rows in _blocks(self.rows)])
        typical = float(np.sqrt(np.mean(lengths**2)))
        found = np.zeros(len(self.row_of))
        if np.ptp(lengths) > _ALIKE * typical:
            found[self.items] = np.log(lengths / typical + 0.1)
        return found

    def unit_rows(self) -> Float32Array:
        """Rows whose dot products are the similarities, up to rounding; not under l2."""
        if self.metric == "dot":
            return self.rows
        unit = np.empty_like(self.rows)
        for start, rows in _blocks(self.rows):
            unit[start : start + len(rows)] = self._directions(rows)
        return unit

    def unit_queries(self, queries: Float32Array) -> Float64Array:
        """The same for queries, in float64; zeros stay zeros."""
        return self._directions(queries.astype(np.float64))

    def lacks(self, queries: Float32Array) -> BoolArray:
        """Which users the model doesn't know, (n_queries,): zeros have no cosine."""
        if self.metric != "cosine":
            return np.zeros(len(queries), np.bool_)
        return np.logical_not(queries.any(axis=1))

    def findable(self, queries: Float32Array) -> Float32Array:
        """Queries that an index takes: any direction for users whom the model doesn't know."""
        lacks = self.lacks(queries)
        if lacks.any():
            queries = queries.copy()
            queries[lacks, 0] = 1.0
        return queries

    def _directions(self, vectors: Float64Array) -> Float64Array:
        if self.metric == "dot":
            return vectors
        norms = _norms(vectors)[:, np.newaxis]
        return vectors / np.where(norms > 0, norms, 1.0)

    def _compare(self, queries: Float64Array, rows: Float64Array) -> Float64Array:
        if self.metric == "l2":
            difference = queries - rows
            return -np.sqrt(_products(difference, difference))
        products = _products(queries, rows)
        if self.metric == "dot":
            return products
        norms = _norms(queries) * _norms(rows)
        cosines = np.full(np.broadcast_shapes(products.shape, norms.shape), np.nan)
        np.divide(products, norms, out=cosines, where=norms > 0)
        clipped: Float64Array = np.clip(cosines, -1.0, 1.0)
        return clipped


def _products(left: Float64Array, right: Float64Array) -> Float64Array:
    # Not a matrix product: BLAS sums in an order that depends on where a row stands.
    products: Float64Array = np.asarray(np.einsum("...d,...d->...", left, right))
    return products


def _norms(vectors: Float64Array) -> Float64Array:
    return np.sqrt(_products(vectors, vectors))


def _blocks(rows: Float32Array) -> Iterator[tuple[int, Float64Array]]:
    step = max(1, _BLOCK // max(1, rows.shape[1]))
    for start in range(0, len(rows), step):
        yield start, rows[start : start + step].astype(np.float64)


class Normaliser:
    """Per-query normalisation of similarities, over all items of the model.

    Parameters
    ----------
    side : Side
    queries : float32 (n_queries, dim)
    kind : {None, "minmax", "zmuv", "softmax", "rank"}
    """

    def __init__(self, side: Side, queries: Float32Array, kind: str | None) -> None:
        n = len(queries)
        self.shift, self.scale = np.zeros(n), np.ones(n)
        self._ordered: list[Float64Array] | None = None
        if kind == "minmax":
            index = side.index
            ends = [side.similarity(queries, find(side.findable(queries), 1).ids)[:, 0]
                    for find in (index.search_nearest, index.search_furthest)]
            low, high = np.minimum(*ends), np.maximum(*ends)  # distances count downwards
            self.shift, self.scale = low, high - low
        elif kind == "zmuv":
            self.shift, self.scale = side.moments(queries)
        elif kind == "softmax":
            for i in range(n):
                values = side.similarity_to_all(queries[i : i + 1])[0, side.known]
                top = values.max()
                self.shift[i] = top + np.log(np.exp(values - top).sum())
        elif kind == "rank":
            self._ordered = [np.sort(side.similarity_to_all(queries[i : i + 1])[0, side.known])
                             for i in range(n)]
        self.scale = np.where(self.scale > 0, self.scale, 1.0)

    def take(self, queries: Int64Array | slice) -> Normaliser:
        """The same for some of the queries, or for each feedback's query."""
        taken = object.__new__(Normaliser)
        taken.shift, taken.scale = self.shift[queries], self.scale[queries]
        taken._ordered = None
        if self._ordered is not None:
            taken._ordered = [self._ordered[i] for i in np.arange(len(self._ordered))[queries]]
        return taken

    def __call__(self, similarity: Float64Array) -> Float64Array:
        """Normalised similarities, (n_queries, m); NaN stays NaN."""
        if self._ordered is None:
            normalised: Float64Array = similarity - self.shift[:, np.newaxis]
            return normalised / self.scale[:, np.newaxis]
        ranks = np.empty_like(similarity)
        for found, values, ordered in zip(ranks, similarity, self._ordered, strict=True):
            found[:] = np.searchsorted(ordered, values, "right") / len(ordered)
        return np.where(np.isnan(similarity), np.nan, ranks)


def rows_of(name: str, given: Any, ids: npt.ArrayLike | None,
            metric: str) -> tuple[Float32Array, naming.Ids, str]:
    """Rows of one model in ascending order of ids, the ids and the metric."""
    if isinstance(given, Index):
        metric, numbers = given.metric, given.ids
        rows = given.reconstruct(numbers)
    else:
        rows = checks.to_vectors(name, given, None, normalized=metric == "cosine", single=False)
        numbers = (np.arange(len(rows)) if ids is None
                   else naming.new("ids", ids, len(rows)))
    if len(rows) == 0:
        raise ValueError(f"{name}: expected at least one item, got none")
    order = np.argsort(numbers, kind="stable")
    return rows[order], numbers[order], metric


def rows_of_both(positive: Any, negative: Any, ids: npt.ArrayLike | None, metric: str
                 ) -> list[tuple[Float32Array, naming.Ids, str]]:
    """Rows of both models, whose items can be told apart."""
    sides = [rows_of(name, given, ids, metric)
             for name, given in (("positive", positive), ("negative", negative))]
    lengths = [len(rows) for rows, _, _ in sides]
    arrays = not isinstance(positive, Index) and not isinstance(negative, Index)
    if ids is None and arrays and lengths[0] != lengths[1]:
        raise ValueError(
            f"negative: expected as many rows as positive, {lengths[0]:,}, got {lengths[1]:,}: "
            "which row is which item can't be known; an Index brings ids of its own")
    return sides
