"""Furthest neighbors as scikit-learn's estimators.

They take what scikit-learn's nearest neighbors take, and do the same for the other end: pipelines,
`clone`, `set_output`, grid searches and pickling work as ever. Distances are such that the furthest
is the largest:

===========  ============================================================================
``"l2"``     the Euclidean distance
``"cosine"`` 1 - similarity, as in scikit-learn. A row of zeros has no direction: its
             similarity is 0 and its distance 1, to every row
``"dot"``    the negated dot product
===========  ============================================================================

Rows and queries are converted to float32; their order is then exact, and of equal distances the
smaller index comes first.

>>> from farann.sklearn import FurthestNeighbors
>>> X = [[0.0], [1.0], [2.0], [9.0]]
>>> furthest = FurthestNeighbors(n_neighbors=2).fit(X)
>>> furthest.kneighbors([[3.0]])
(array([[6., 3.]]), array([[3, 0]]))
>>> furthest.kneighbors(return_distance=False).tolist()  # of each row, without itself
[[3, 2], [3, 0], [3, 0], [0, 1]]
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from itertools import pairwise
from numbers import Integral, Real
from types import SimpleNamespace
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from joblib import effective_n_jobs
from scipy.sparse import csr_matrix, issparse
from sklearn.base import (
    BaseEstimator,
    ClassNamePrefixFeaturesOutMixin,
    OneToOneFeatureMixin,
    TransformerMixin,
)
from sklearn.utils import InputTags, Tags, _safe_indexing
from sklearn.utils.multiclass import check_classification_targets, type_of_target
from sklearn.utils.validation import check_consistent_length, check_is_fitted, validate_data

from farann._types import BoolArray, Float32Array, Float64Array, Int64Array, Metric
from farann.contract import checks
from farann.index import Index

__all__ = ["FarthestPointSampler", "FarthestPointTransformer", "FurthestNeighbors",
           "FurthestNeighborsTransformer"]


class FurthestNeighbors(BaseEstimator):
    """Find the furthest rows, as `sklearn.neighbors.NearestNeighbors` finds the nearest.

    Parameters
    ----------
    n_neighbors : int
        Number of rows that `kneighbors` finds.
    radius : float
        `radius_neighbors` finds rows at a larger distance.
    metric : {"l2", "dot", "cosine"}
    codes : {"int8", "int4", "float32"}
        As of `farann.Index`.
    recall : float, optional
        Share of the true answers that `kneighbors` finds, on average; by default all.
    n_jobs : int, optional
        Threads: None is one, unless in a context of joblib; -1 is one for each CPU.

    Attributes
    ----------
    index_ : farann.Index
        The rows. Under cosine, if some are zeros, all have two coordinates more: the first of these
        is 1 for rows of zeros, the second for queries of zeros, else 0.
    n_samples_fit_, n_features_in_ : int
    feature_names_in_ : array of str
        Where `X` had names.
    """

    def __init__(self, *, n_neighbors: int = 5, radius: float = 1.0, metric: Metric = "l2",
                 codes: str = "int8", recall: float | None = None,
                 n_jobs: int | None = None) -> None:
        self.n_neighbors = n_neighbors
        self.radius = radius
        self.metric = metric
        self.codes = codes
        self.recall = recall
        self.n_jobs = n_jobs

    def fit(self, X: npt.ArrayLike, y: object = None) -> Self:
        """Index rows of X, (n_samples, n_features), and return the estimator; `y` is ignored."""
        _check_n_neighbors(self.n_neighbors)
        rows = validate_data(self, X, dtype=[np.float64, np.float32])
        index = Index(metric=self.metric, codes=self.codes)
        zeros = _zeros(index, rows)
        self._extended = bool(zeros.any())
        index.add(_with_coordinates(rows, zeros, 0) if self._extended else rows)
        index._live.threads = effective_n_jobs(self.n_jobs)
        tuned_for = () if self.recall is None else (min(self.n_neighbors, len(index)),)
        self.index_, self.n_samples_fit_ = index.build(tune=tuned_for), len(rows)
        self._X = rows
        return self

    def kneighbors(self, X: npt.ArrayLike | None = None, n_neighbors: int | None = None,
                   return_distance: bool = True) -> Any:
        """Find the furthest rows of each query, furthest first.

        Parameters
        ----------
        X : array_like (n_queries, n_features), optional
            By default the rows that were fitted, each without itself.
        n_neighbors : int, optional
            In place of the estimator's own.
        return_distance : bool

        Returns
        -------
        distances : float64 (n_queries, n_neighbors), with `return_distance`
        indices : int64 (n_queries, n_neighbors)
            Numbers of the fitted rows.
        """
        queries, own = self._queries(X)
        k = self.n_neighbors if n_neighbors is None else n_neighbors
        _check_n_neighbors(k)
        most = self.n_samples_fit_ - own
        if k > most:
            raise ValueError(f"Expected n_neighbors <= n_samples_fit{' - 1' if own else ''}, but "
                             f"n_neighbors = {k}, n_samples_fit = {self.n_samples_fit_}, "
                             f"n_samples = {len(queries)}")
        hits, zeros = self._find("search_furthest", queries, own, k, recall=self.recall)
        distances = _distances_of(self.index_.metric, hits.scores)
        distances[zeros], hits.ids[zeros] = 1.0, np.arange(k)
        return (distances, hits.ids) if return_distance else hits.ids

    def radius_neighbors(self, X: npt.ArrayLike | None = None, radius: float | None = None,
                         return_distance: bool = True) -> Any:
        """Find all rows of each query at a distance larger than a radius, furthest first.

        Parameters
        ----------
        X, return_distance
            As in `kneighbors`.
        radius : float, optional
            In place of the estimator's own.

        Returns
        -------
        distances, indices : arrays of arrays (n_queries,), float64 and int64
        """
        queries, own = self._queries(X)
        limit = self.radius if radius is None else radius
        if not isinstance(limit, Real) or isinstance(limit, bool):
            raise TypeError(f"radius: expected a number, got {checks.shown(limit)}")
        metric = self.index_.metric
        limit = {"l2": limit, "dot": -limit, "cosine": 1.0 - limit}[metric]
        hits, zeros = self._find("search_beyond", queries, own, radius=float(limit))
        distances, indices = np.empty(len(queries), object), np.empty(len(queries), object)
        for i, (start, end) in enumerate(pairwise(hits.offsets)):
            distances[i] = _distances_of(metric, hits.scores[start:end])
            indices[i] = hits.ids[start:end]
        for i in zeros:
            indices[i] = np.arange(self.n_samples_fit_ if limit > 0.0 else 0)
            distances[i] = np.ones(len(indices[i]))
        return (distances, indices) if return_distance else indices

    def kneighbors_graph(self, X: npt.ArrayLike | None = None, n_neighbors: int | None = None,
                         mode: str = "connectivity") -> csr_matrix:
        """Make the graph from queries to their furthest rows.

        Parameters
        ----------
        X, n_neighbors
            As in `kneighbors`.
        mode : {"connectivity", "distance"}
            The values of edges: 1, or the distance.

        Returns
        -------
        scipy.sparse.csr_matrix (n_queries, n_samples_fit) of float64
        """
        checks.to_choice("mode", mode, ("connectivity", "distance"))
        return self._graph(mode, *self.kneighbors(X, n_neighbors))

    def radius_neighbors_graph(self, X: npt.ArrayLike | None = None, radius: float | None = None,
                               mode: str = "connectivity") -> csr_matrix:
        """Make the graph from queries to all rows at a distance larger than a radius.

        Arguments are those of `kneighbors_graph` and `radius_neighbors`.
        """
        checks.to_choice("mode", mode, ("connectivity", "distance"))
        return self._graph(mode, *self.radius_neighbors(X, radius))

    # ---- shared by the above ----

    def _graph(self, mode: str, distances: npt.NDArray[Any],
               indices: npt.NDArray[Any]) -> csr_matrix:
        """The graph of the rows that each query found."""
        ends = np.cumsum([len(line) for line in indices])
        values = np.ones(ends[-1]) if mode == "connectivity" else np.concatenate(distances)
        return csr_matrix((values, np.concatenate(indices), np.concatenate([[0], ends])),
                          shape=(len(indices), self.n_samples_fit_))

    def _queries(self, X: npt.ArrayLike | None) -> tuple[npt.NDArray[Any], bool]:
        """Checked queries, and whether each is the row with its number."""
        check_is_fitted(self)
        if X is None:
            return self._X, True
        return validate_data(self, X, dtype=[np.float64, np.float32], reset=False), False

    def _find(self, search: str, queries: npt.NDArray[Any], own: bool, *arguments: Any,
              **options: Any) -> tuple[Any, Int64Array]:
        """Ask the index; also give numbers of queries of zeros if no row is zeros: their hits are
        none, as the distance to every row is 1."""
        zeros = _zeros(self.index_, queries)
        if self._extended:
            queries, zeros = _with_coordinates(queries, zeros, 1), np.zeros_like(zeros)
        elif zeros.any():
            queries = np.where(zeros[:, np.newaxis], 1.0, queries)
        exclude = np.arange(len(queries))[:, np.newaxis] if own else None
        return (getattr(self.index_, search)(queries, *arguments, exclude=exclude, **options),
                np.flatnonzero(zeros))


class FurthestNeighborsTransformer(ClassNamePrefixFeaturesOutMixin, TransformerMixin,
                                   FurthestNeighbors):
    """Turn rows into the graph to their furthest fitted rows.

    Parameters
    ----------
    mode : {"distance", "connectivity"}
        The values of edges: the distance, or 1.
    sparse_output : bool
        False makes arrays, which ``set_output(transform="pandas")`` takes.
    n_neighbors, metric, codes, recall, n_jobs : optional
        As of `FurthestNeighbors`.

    Examples
    --------
    >>> from farann.sklearn import FurthestNeighborsTransformer
    >>> graph = FurthestNeighborsTransformer(n_neighbors=1, sparse_output=False)
    >>> graph.fit_transform([[0.0], [1.0], [5.0]])
    array([[0., 0., 5.],
           [0., 0., 4.],
           [5., 0., 0.]])
    """

    def __init__(self, *, mode: str = "distance", sparse_output: bool = True,
                 n_neighbors: int = 5, metric: Metric = "l2", codes: str = "int8",
                 recall: float | None = None, n_jobs: int | None = None) -> None:
        super().__init__(n_neighbors=n_neighbors, metric=metric, codes=codes, recall=recall,
                         n_jobs=n_jobs)
        self.mode = mode
        self.sparse_output = sparse_output

    def fit(self, X: npt.ArrayLike, y: object = None) -> Self:
        """Index the rows; see `FurthestNeighbors.fit`."""
        checks.to_choice("mode", self.mode, ("connectivity", "distance"))
        super().fit(X)
        self._n_features_out = self.n_samples_fit_
        return self

    def transform(self, X: npt.ArrayLike) -> Any:
        """Make the graph from rows to their furthest fitted rows.

        Parameters
        ----------
        X : array_like (n_queries, n_features)

        Returns
        -------
        csr_matrix or array (n_queries, n_samples_fit) of float64
        """
        check_is_fitted(self)
        graph = self.kneighbors_graph(X, mode=self.mode)
        return graph if self.sparse_output else graph.toarray()


class _FarthestPoints(BaseEstimator):
    """Choose rows that cover all others."""

    def __init__(self, *, n_samples: int = 10, metric: Metric = "l2", start: int | None = None,
                 leave_out: float = 0.0, n_jobs: int | None = None) -> None:
        self.n_samples = n_samples
        self.metric = metric
        self.start = start
        self.leave_out = leave_out
        self.n_jobs = n_jobs

    def fit(self, X: npt.ArrayLike, y: object = None) -> Self:
        """Choose rows of X, (n_samples, n_features), and return the estimator; `y` is ignored."""
        k = checks.to_int("n_samples", self.n_samples, 1)
        rows = self._rows(X)
        index = Index(rows.shape[1], self.metric, codes="float32")
        zeros = _zeros(index, rows)
        start = None if self.start is None else checks.to_int("start", self.start, 0, len(rows) - 1)
        if start is not None and zeros[start]:
            raise ValueError("start: cosine needs vectors with a direction, got the number of a "
                             "row of zeros")
        index.add(rows[~zeros], np.flatnonzero(~zeros))
        chosen = index.select_diverse(k, start=start, leave_out=self.leave_out,
                                      threads=effective_n_jobs(self.n_jobs))
        # The distance of rows of zeros to all others is 1, and of each other 1 as well.
        left = 0 if self.leave_out and len(chosen.ids) else k - len(chosen.ids)
        rest = np.flatnonzero(zeros)[:left]
        self.sample_indices_ = np.concatenate([chosen.ids, rest])
        self.radii_ = np.concatenate([_distances_of(index.metric, chosen.scores),
                                      np.ones(len(rest))])
        self.radii_[0] = np.inf
        self.samples_ = rows[self.sample_indices_]
        self._metric, self._n_features_out = index.metric, len(self.samples_)
        return self

    def _rows(self, X: npt.ArrayLike, reset: bool = True) -> npt.NDArray[Any]:
        """Checked rows; sparse ones are made dense."""
        rows = validate_data(self, X, dtype=[np.float64, np.float32], accept_sparse="csr",
                             reset=reset)
        return np.asarray(rows.toarray() if issparse(rows) else rows)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags


class FarthestPointSampler(OneToOneFeatureMixin, _FarthestPoints):
    """Choose rows that cover all others: farthest-point sampling, or greedy k-center.

    Each chosen row is the furthest from all chosen before, as in `farann.Index.select_diverse`. It
    is a sampler for imbalanced-learn's pipelines, and needs that library for nothing else.

    Parameters
    ----------
    n_samples : int
        Number of rows to choose; fewer if there are fewer.
    metric : {"l2", "dot", "cosine"}
    start : int, optional
        The number of the first row; by default the one furthest from the mean of all.
    leave_out : float, default 0.0
        The share of the rows that is left out as the loneliest, and rows of zeros with them.
    n_jobs : int, optional
        Threads, as of `FurthestNeighbors`.

    Attributes
    ----------
    sample_indices_ : int64 (n,)
        Numbers of the chosen rows, in the order of choice; under cosine rows of zeros come last.
    radii_ : float64 (n,)
        How far each was from the nearest row that was chosen before; infinite for the first.
    samples_ : float (n, n_features)
        The chosen rows.
    n_features_in_ : int

    Examples
    --------
    >>> from farann.sklearn import FarthestPointSampler
    >>> sampler = FarthestPointSampler(n_samples=2, start=0).fit([[0.0], [1.0], [9.0], [5.0]])
    >>> sampler.sample_indices_, sampler.radii_
    (array([0, 2]), array([inf,  9.]))
    >>> sampler.fit_resample([[0.0], [1.0], [9.0], [5.0]], ["a", "b", "a", "b"])
    ([[0.0], [9.0]], ['a', 'a'])
    """

    def fit_resample(self, X: Any, y: Any) -> tuple[Any, Any]:
        """Choose rows and return them with their labels, as samplers of imbalanced-learn do.

        Parameters
        ----------
        X : array_like, frame or sparse matrix (n_samples, n_features)
        y : array_like, series or frame (n_samples,)
            Classes, two or more, perhaps one-hot. For other targets call `fit`, and take rows by
            `sample_indices_`.

        Returns
        -------
        X, y
            The chosen ones, of the types that came. `sampling_strategy_` counts rows by class.
        """
        classes = _classes(y)
        check_consistent_length(X, classes)
        self.fit(X)
        chosen = self.sample_indices_
        self.sampling_strategy_ = dict(zip(*(
            each.tolist() for each in np.unique(classes[chosen], return_counts=True)), strict=True))
        return _safe_indexing(X, chosen), _safe_indexing(y, chosen)

    def __sklearn_tags__(self) -> Any:
        """Those of scikit-learn, and the two that imbalanced-learn adds."""
        tags = super().__sklearn_tags__()
        tags.input_tags = _SamplerInputTags(**_fields(tags.input_tags))
        return _SamplerTags(**_fields(tags))


class FarthestPointTransformer(ClassNamePrefixFeaturesOutMixin, TransformerMixin, _FarthestPoints):
    """Turn rows into distances to rows that cover all, as `sklearn.cluster.KMeans` does to centers.

    Parameters and attributes are those of `FarthestPointSampler`, which chooses the same rows.

    Examples
    --------
    >>> from farann.sklearn import FarthestPointTransformer
    >>> made = FarthestPointTransformer(n_samples=2, start=0).fit([[0.0], [1.0], [9.0], [5.0]])
    >>> made.transform([[3.0]])
    array([[3., 6.]])
    """

    def transform(self, X: npt.ArrayLike) -> Float64Array:
        """Compute distances to the chosen rows.

        Parameters
        ----------
        X : array_like (n, n_features)

        Returns
        -------
        float64 (n, n_chosen)
        """
        check_is_fitted(self)
        rows = self._rows(X, reset=False)
        index = Index(metric=self._metric, codes="float32")
        index.add(_with_coordinates(self.samples_, _zeros(index, self.samples_), 0))
        queries = _with_coordinates(rows, _zeros(index, rows), 1)
        return _distances_of(self._metric, index.score(queries, index.ids))


@dataclass(slots=True)
class _SamplerInputTags(InputTags):
    dataframe: bool = True


@dataclass(slots=True)
class _SamplerTags(Tags):
    sampler_tags: Any = field(default_factory=lambda: SimpleNamespace(sample_indices=True))


def _fields(tags: Any) -> dict[str, Any]:
    return {one.name: getattr(tags, one.name) for one in fields(tags)}


def _classes(y: Any) -> npt.NDArray[Any]:
    """The class of each row; ValueError where labels aren't classes, or all are the same."""
    check_classification_targets(y)
    labels = np.asarray(y)
    if labels.ndim == 2 and labels.shape[1] > 1:
        if type_of_target(y) != "multilabel-indicator" or (labels.sum(axis=1) != 1).any():
            raise ValueError("Multilabel and multioutput targets are not supported. y: expected "
                             "one class a row")
        labels = labels.argmax(axis=1)
    labels = labels.ravel()
    if len(labels) and (labels == labels[0]).all():
        raise ValueError(f"y: expected two classes or more, got {labels[0]!r} alone; to choose "
                         "rows without labels, call fit and read sample_indices_")
    return labels


def _check_n_neighbors(k: Any) -> None:
    if not isinstance(k, Integral) or isinstance(k, bool):
        raise TypeError(f"n_neighbors: expected an int, got {checks.shown(k)}")
    if k < 1:
        raise ValueError(f"Expected n_neighbors > 0. Got {k}")


def _with_coordinates(rows: npt.NDArray[Any], zeros: BoolArray, at: int) -> npt.NDArray[Any]:
    """Rows with two coordinates more, of which the one at a place is 1 for rows of zeros."""
    more = np.zeros((len(rows), 2), rows.dtype)
    more[zeros, at] = 1.0
    return np.hstack([np.where(zeros[:, np.newaxis], 0.0, rows), more])


def _distances_of(metric: str, scores: Float32Array) -> Float64Array:
    """Distances of which the largest is the furthest."""
    far: Float64Array = scores.astype(np.float64)
    return far if metric == "l2" else -far if metric == "dot" else 1.0 - far


def _zeros(index: Index, rows: npt.NDArray[Any]) -> BoolArray:
    """Mask of the rows that an index refuses: under cosine those of zeros in float32."""
    if index.metric != "cosine":
        return np.zeros(len(rows), np.bool_)
    with np.errstate(over="ignore", under="ignore"):
        return np.asarray(~rows.astype(np.float32).any(axis=1))
