"""NearMiss-2 for imbalanced-learn: rows near to all of the minority, by no matrix of distances."""

from __future__ import annotations

from collections import Counter
from numbers import Integral
from typing import Any, ClassVar

import numpy as np
from sklearn.utils import _safe_indexing
from sklearn.utils._param_validation import Interval

from farann.adapters.documents import installed_with
from farann.index import Index

with installed_with("imbalanced-learn"):
    from imblearn.under_sampling.base import BaseUnderSampler


class NearMiss2(BaseUnderSampler):
    """Keep those rows of other classes whose furthest rows of the minority are nearest.

    As ``imblearn.under_sampling.NearMiss(version=2)``: of each class rows are kept whose mean
    distance to the `n_neighbors` furthest rows of the minority is smallest.

    Parameters
    ----------
    sampling_strategy : float, str, dict or callable
        As in all under-samplers of imbalanced-learn.
    n_neighbors : int
    n_jobs : int, optional
        Threads; None is one, -1 one for each CPU.

    Attributes
    ----------
    sampling_strategy_ : dict
        How many rows of each class to keep.
    sample_indices_ : int64 (n,)
        Numbers of the rows that are kept.

    Notes
    -----
    Distances are those of rows rounded to float32; of equal means the first rows are kept.

    Examples
    --------
    >>> X, y = [[0.0], [1.0], [9.0], [2.0], [5.0]], [1, 1, 0, 0, 0]
    >>> NearMiss2().fit_resample(X, y)
    ([[2.0], [5.0], [0.0], [1.0]], [0, 0, 1, 1])
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **BaseUnderSampler._parameter_constraints,
        "n_neighbors": [Interval(Integral, 1, None, closed="left")],
        "n_jobs": [Integral, None]}

    def __init__(self, *, sampling_strategy: Any = "auto", n_neighbors: int = 3,
                 n_jobs: int | None = None) -> None:
        super().__init__(sampling_strategy=sampling_strategy)
        self.n_neighbors, self.n_jobs = n_neighbors, n_jobs

    def _fit_resample(self, X: Any, y: Any) -> tuple[Any, Any]:
        counts = Counter(y.tolist())
        smallest = min(counts, key=counts.__getitem__)
        index = Index(threads=self.n_jobs or 1)
        index.add(_dense(X[y == smallest]))
        k, chosen = min(self.n_neighbors, counts[smallest]), []
        for label in np.unique(y):
            rows = np.flatnonzero(y == label)
            if label in self.sampling_strategy_:
                means = index.search_furthest(_dense(X[rows]), k).scores.mean(
                    axis=1, dtype=np.float64)
                rows = rows[np.argsort(means, kind="stable")[: self.sampling_strategy_[label]]]
            chosen.append(rows)
        self.sample_indices_ = np.concatenate(chosen)
        return (_safe_indexing(X, self.sample_indices_), _safe_indexing(y, self.sample_indices_))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.sampler_tags.sample_indices = True
        return tags


def _dense(rows: Any) -> Any:
    return rows.toarray() if hasattr(rows, "toarray") else rows
