"""A query strategy for scikit-activeml: label the rows that are furthest from all labeled ones."""

from __future__ import annotations

from typing import Any

import numpy as np

from farann.adapters.documents import installed_with
from farann.index import Index

with installed_with("skactiveml"):
    from skactiveml.base import SingleAnnotatorPoolQueryStrategy
    from skactiveml.utils import MISSING_LABEL, labeled_indices


class FarthestPointQuery(SingleAnnotatorPoolQueryStrategy):
    """Query the rows that cover all others, as scikit-activeml's ``CoreSet`` does.

    Parameters
    ----------
    metric : {"l2", "dot", "cosine"}
    leave_out : float, default 0.0
        The share of the candidates that is left out as the loneliest, as in
        `farann.Index.select_diverse`.
    missing_label, random_state : as in all query strategies

    Examples
    --------
    >>> X, y = [[0.0], [1.0], [9.0], [5.0]], [0, None, None, None]
    >>> FarthestPointQuery(missing_label=None).query(X, y, batch_size=2)
    array([2, 3])
    """

    def __init__(self, metric: str = "l2", missing_label: Any = MISSING_LABEL,
                 random_state: Any = None, leave_out: float = 0.0) -> None:
        super().__init__(missing_label=missing_label, random_state=random_state)
        self.metric = metric
        self.leave_out = leave_out

    def query(self, X: Any, y: Any, candidates: Any = None, batch_size: int = 1,
              return_utilities: bool = False) -> Any:
        """Choose the rows to label.

        Parameters
        ----------
        X : array_like (n, dim)
        y : array_like (n,)
        candidates : array_like of int (m,) or of rows (m, dim), optional
            Which may be chosen; by default all rows without a label.
        batch_size : int
        return_utilities : bool

        Returns
        -------
        int (batch_size,)
            Positions in `X`, or in `candidates` if these are rows.
        float (batch_size, n or m), with ``return_utilities=True``
            For each choice the distance, or the negated cosine or dot product, of each candidate
            to the row nearest to it that is labeled or was chosen before; 0 where there is none,
            and NaN for rows that are no candidates, or no longer.
        """
        X, y, candidates, batch_size, return_utilities = self._validate_data(
            X, y, candidates, batch_size, return_utilities, reset=True)
        rows, places = self._transform_candidates(candidates, X, y)
        centers, own = labeled_indices(y, self.missing_label_), np.arange(len(rows))
        index = Index(metric=self.metric)
        index.add(np.concatenate([rows, X[centers]]))
        first = np.arange(len(rows), len(index)) if len(centers) else None
        if places is None:
            X, places, centers = rows, own, centers[:0]
        picks = index.select_diverse(batch_size, first=first, allowed=own,
                                     leave_out=self.leave_out).ids
        if not return_utilities:
            return places[picks]
        sign, closer = (1, np.minimum) if self.metric == "l2" else (-1, np.maximum)
        nearest = np.full(len(rows), sign * np.inf)
        if first is not None:
            nearest = index.search_nearest(rows, 1, exclude=own).scores[:, 0]
        utilities = np.full((len(picks), len(X)), np.nan)
        for i, pick in enumerate(picks):
            utilities[i, places] = np.where(np.isfinite(nearest), sign * nearest, 0.0)
            utilities[i, [*centers, *places[picks[:i]]]] = np.nan
            nearest = closer(nearest, index.score(rows[pick], own))
        return places[picks], utilities
