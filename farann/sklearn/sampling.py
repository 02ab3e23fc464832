"""Farthest-point sampling, as an estimator."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils.validation import check_consistent_length, check_is_fitted, validate_data

from farann._types import Float64Array
from farann.contract import checks
from farann.index import Index
from farann.sklearn.distances import directed_rows, distances_of


class FarthestPointSampler(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """Choose rows that cover all others: farthest-point sampling, or greedy k-center.

    Each row that is chosen is the furthest from all that were chosen before; see
    `farann.Index.select_diverse`. As a transformer it gives distances to the chosen rows, as
    `sklearn.cluster.KMeans` does to its centers.

    Parameters
    ----------
    n_samples : int
        How many rows to choose; fewer where there are fewer.
    metric : {"l2", "dot", "cosine"}
        As of `FurthestNeighbors`.
    start : int, optional
        The number of the first row; by default the one furthest from the mean of all.

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

    def __init__(self, *, n_samples: int = 10, metric: str = "l2",
                 start: int | None = None) -> None:
        self.n_samples = n_samples
        self.metric = metric
        self.start = start

    def fit(self, X: npt.ArrayLike, y: object = None) -> Self:
        """Choose rows.

        Parameters
        ----------
        X : array_like (n_samples, n_features)
        y : ignored

        Returns
        -------
        FarthestPointSampler
        """
        k = checks.to_int("n_samples", self.n_samples, 1)
        rows = validate_data(self, X, dtype=[np.float64, np.float32])
        index = Index(rows.shape[1], self.metric, codes="float32")
        directed = directed_rows(index, rows)
        start = None if self.start is None else checks.to_int("start", self.start, 0, len(rows) - 1)
        if start is not None and not directed[start]:
            raise ValueError("start: cosine needs vectors with a direction, got the number of a "
                             "row of zeros")
        index.add(rows[directed], np.flatnonzero(directed))
        chosen = index.select_diverse(k, start=start)
        # The distance of rows of zeros to all others is 1, and of each other 1 as well.
        rest = np.flatnonzero(~directed)[: k - len(chosen.ids)]
        self.sample_indices_ = np.concatenate([chosen.ids, rest])
        self.radii_ = np.concatenate([distances_of(index.metric, chosen.scores),
                                      np.ones(len(rest))])
        if len(self.radii_):
            self.radii_[0] = np.inf
        self.samples_ = rows[self.sample_indices_]
        self._metric, self._n_features_out = index.metric, len(self.samples_)
        return self

    def transform(self, X: npt.ArrayLike) -> Float64Array:
        """Distances to the chosen rows.

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
        asked, there = directed_rows(index, rows), directed_rows(index, self.samples_)
        far = np.ones((len(rows), len(self.samples_)))
        if asked.any() and there.any():
            index.add(self.samples_[there])
            scores = index.score(rows[asked], np.arange(np.count_nonzero(there)))
            far[np.ix_(asked, there)] = distances_of(self._metric, scores)
        return far

    def fit_resample(self, X: npt.ArrayLike, y: npt.ArrayLike) -> tuple[Any, Any]:
        """Choose rows, and give them with their labels, as imbalanced-learn's samplers do.

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
