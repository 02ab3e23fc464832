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

from numbers import Integral, Real
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from joblib import effective_n_jobs
from scipy.sparse import csr_matrix
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils.validation import check_consistent_length, check_is_fitted, validate_data

from farann._types import BoolArray, Float32Array, Float64Array, Int64Array, Metric
from farann.contract import checks
from farann.index import Index

__all__ = ["FarthestPointSampler", "FurthestNeighbors", "FurthestNeighborsTransformer"]


class FurthestNeighbors(BaseEstimator):
    """Find the furthest rows, as `sklearn.neighbors.NearestNeighbors` finds the nearest.

    Parameters
    ----------
    n_neighbors : int
        Number of rows that `kneighbors` finds.
    radius : float
        `radius_neighbors` finds rows at a larger distance.
    metric : {"l2", "dot", "cosine"}
        As of `farann.Index`, also "euclidean" and "inner_product".
    codes : {"int8", "int4", "float32"}
        As of `farann.Index`. Answers don't depend on it.
    recall : float, optional
        Share of the true answers that `kneighbors` finds, on average; by default all.
    n_jobs : int, optional
        Threads: None is one, unless in a context of joblib; -1 is one for each CPU.

    Attributes
    ----------
    index_ : farann.Index
        The rows, but under cosine those of zeros.
    n_samples_fit_ : int
    n_features_in_ : int
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
        index = Index(rows.shape[1], self.metric, codes=self.codes)
        directed = _directed_rows(index, rows)
        index.add(rows[directed], np.flatnonzero(directed))
        index._live.threads = effective_n_jobs(self.n_jobs)
        tuned_for = () if self.recall is None or not len(index) else (
            min(self.n_neighbors, len(index)),)
        self.index_, self.n_samples_fit_ = index.build(tune=tuned_for), len(rows)
        self._directed, self._X = directed, rows
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
        distances : float64 (n_queries, n_neighbors)
            Only with `return_distance`.
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
        found = np.empty((len(queries), k)), np.empty((len(queries), k), np.int64)
        self._find(found, queries, own, k, None)
        return found if return_distance else found[1]

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
        distances, indices : arrays of arrays (n_queries,)
            Of float64 and int64, as in `kneighbors`.
        """
        queries, own = self._queries(X)
        limit = self.radius if radius is None else radius
        if not isinstance(limit, Real) or isinstance(limit, bool):
            raise TypeError(f"radius: expected a number, got {checks.shown(limit)}")
        found = np.empty(len(queries), object), np.empty(len(queries), object)
        self._find(found, queries, own, None, float(limit))
        return found if return_distance else found[1]

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
        """The graph of what each query found."""
        ends = np.cumsum([len(found) for found in indices])
        values = np.ones(ends[-1]) if mode == "connectivity" else np.concatenate(distances)
        return csr_matrix((values, np.concatenate(indices), np.concatenate([[0], ends])),
                          shape=(len(indices), self.n_samples_fit_))

    def _queries(self, X: npt.ArrayLike | None) -> tuple[npt.NDArray[Any], bool]:
        """Checked queries, and whether each is the row with its number."""
        check_is_fitted(self)
        if X is None:
            return self._X, True
        return validate_data(self, X, dtype=[np.float64, np.float32], reset=False), False

    def _find(self, found: tuple[npt.NDArray[Any], npt.NDArray[Any]], queries: npt.NDArray[Any],
              own: bool, k: int | None, radius: float | None) -> None:
        """Write distances and indices of the k best rows of each query, or all beyond a radius."""
        directed = _directed_rows(self.index_, queries)
        every, undirected = np.arange(self.n_samples_fit_), np.flatnonzero(~self._directed)
        if radius is not None and radius >= 1.0:  # rows of zeros are at distance 1 from every row
            every, undirected = every[:0], undirected[:0]
        asked = iter(self._asked(queries, directed, own, k, radius))
        for i, has_direction in enumerate(directed):
            if has_direction:
                scores, ids = _merged(*next(asked), undirected)
            else:
                ids = every[every != i] if own else every
                scores = np.zeros(len(ids), np.float32)
            found[0][i], found[1][i] = _distances_of(self.index_.metric, scores[:k]), ids[:k]

    def _asked(self, queries: npt.NDArray[Any], directed: BoolArray, own: bool, k: int | None,
               radius: float | None) -> list[tuple[Float32Array, Int64Array]]:
        """Scores and ids of what the index finds for queries that have a direction."""
        index, rows = self.index_, np.flatnonzero(directed)
        if len(index) == 0 or len(rows) == 0:
            return [(np.empty(0, np.float32), np.empty(0, np.int64))] * len(rows)
        exclude = rows[:, np.newaxis] if own else None
        if radius is None:
            assert k is not None
            hits = index.search_furthest(queries[directed], min(k, len(index)), exclude=exclude,
                                         recall=self.recall)
            return [(scores[there], ids[there])
                    for scores, ids, there in zip(hits.scores, hits.ids, hits.found, strict=True)]
        limit = {"l2": radius, "dot": -radius, "cosine": 1.0 - radius}[index.metric]
        beyond = index.search_beyond(queries[directed], limit, exclude=exclude)
        parts = beyond.offsets[1:-1]
        return list(zip(np.split(beyond.scores, parts), np.split(beyond.ids, parts), strict=True))


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


class FarthestPointSampler(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """Choose rows that cover all others: farthest-point sampling, or greedy k-center.

    Each chosen row is the furthest from all chosen before; see
    `farann.Index.select_diverse`. As a transformer it gives distances to the chosen rows, as
    `sklearn.cluster.KMeans` does to its centers.

    Parameters
    ----------
    n_samples : int
        Number of rows to choose; fewer if there are fewer.
    metric : {"l2", "dot", "cosine"}
        As of `FurthestNeighbors`.
    start : int, optional
        The number of the first row; by default the one furthest from the mean of all.
    n_jobs : int, optional
        Threads, as of `FurthestNeighbors`.

    Attributes
    ----------
    sample_indices_ : int64 (n,)
        Numbers of the chosen rows, in the order in which they were chosen. Under cosine a row of
        zeros is chosen only where no other is left.
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
    >>> sampler.transform([[3.0]])
    array([[3., 6.]])
    >>> sampler.fit_resample([[0.0], [4.0], [9.0]], ["a", "b", "c"])
    (array([[0.],
           [9.]]), array(['a', 'c'], dtype='<U1'))
    """

    def __init__(self, *, n_samples: int = 10, metric: Metric = "l2",
                 start: int | None = None, n_jobs: int | None = None) -> None:
        self.n_samples = n_samples
        self.metric = metric
        self.start = start
        self.n_jobs = n_jobs

    def fit(self, X: npt.ArrayLike, y: object = None) -> Self:
        """Choose rows of X, (n_samples, n_features), and return the sampler; `y` is ignored."""
        k = checks.to_int("n_samples", self.n_samples, 1)
        rows = validate_data(self, X, dtype=[np.float64, np.float32])
        index = Index(rows.shape[1], self.metric, codes="float32")
        directed = _directed_rows(index, rows)
        start = None if self.start is None else checks.to_int("start", self.start, 0, len(rows) - 1)
        if start is not None and not directed[start]:
            raise ValueError("start: cosine needs vectors with a direction, got the number of a "
                             "row of zeros")
        index.add(rows[directed], np.flatnonzero(directed))
        chosen = index.select_diverse(k, start=start, threads=effective_n_jobs(self.n_jobs))
        # The distance of rows of zeros to all others is 1, and of each other 1 as well.
        rest = np.flatnonzero(~directed)[: k - len(chosen.ids)]
        self.sample_indices_ = np.concatenate([chosen.ids, rest])
        self.radii_ = np.concatenate([_distances_of(index.metric, chosen.scores),
                                      np.ones(len(rest))])
        if len(self.radii_):
            self.radii_[0] = np.inf
        self.samples_ = rows[self.sample_indices_]
        self._metric, self._n_features_out = index.metric, len(self.samples_)
        return self

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
        rows = validate_data(self, X, dtype=[np.float64, np.float32], reset=False)
        index = Index(rows.shape[1], self._metric, codes="float32")
        asked, there = _directed_rows(index, rows), _directed_rows(index, self.samples_)
        far = np.ones((len(rows), len(self.samples_)))
        if asked.any() and there.any():
            index.add(self.samples_[there])
            scores = index.score(rows[asked], np.arange(np.count_nonzero(there)))
            far[np.ix_(asked, there)] = _distances_of(self._metric, scores)
        return far

    def fit_resample(self, X: npt.ArrayLike, y: npt.ArrayLike) -> tuple[Any, Any]:
        """Choose rows and return them with their labels, as samplers of imbalanced-learn do.

        Parameters
        ----------
        X : array_like (n_samples, n_features)
        y : array_like (n_samples,)

        Returns
        -------
        X, y : arrays of the chosen rows and labels
        """
        labels = np.asarray(y)
        self.fit(X)
        check_consistent_length(X, labels)
        return self.samples_, labels[self.sample_indices_]


def _check_n_neighbors(k: Any) -> None:
    if not isinstance(k, Integral) or isinstance(k, bool):
        raise TypeError(f"n_neighbors: expected an int, got {checks.shown(k)}")
    if k < 1:
        raise ValueError(f"Expected n_neighbors > 0. Got {k}")


def _merged(scores: Float32Array, ids: Int64Array,
            undirected: Int64Array) -> tuple[Float32Array, Int64Array]:
    """Merge in the rows of zeros, whose similarity is 0, in order."""
    if len(undirected) == 0:
        return scores, ids
    before, after = scores < 0.0, scores > 0.0
    equal = np.sort(np.concatenate([ids[~(before | after)], undirected]))
    return (np.concatenate([scores[before], np.zeros(len(equal), np.float32), scores[after]]),
            np.concatenate([ids[before], equal, ids[after]]))


def _distances_of(metric: str, scores: Float32Array) -> Float64Array:
    """Distances of which the largest is the furthest."""
    far: Float64Array = scores.astype(np.float64)
    return far if metric == "l2" else -far if metric == "dot" else 1.0 - far


def _directed_rows(index: Index, rows: npt.NDArray[Any]) -> BoolArray:
    """Mask of the rows that an index takes: under cosine those that are not zeros in float32."""
    if index.metric != "cosine":
        return np.ones(len(rows), np.bool_)
    with np.errstate(over="ignore", under="ignore"):
        return np.asarray((rows.astype(np.float32) != 0.0).any(axis=1))
