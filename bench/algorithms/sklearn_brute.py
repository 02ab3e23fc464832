"""scikit-learn: neighbors by brute force, in its compiled ArgKmin."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .base import Algorithm, Rows


class SklearnBrute(Algorithm):
    """It finds the nearest by L2.

    One more coordinate gives all rows one length, so that the largest inner products are nearest;
    queries get that length, too.
    """

    name = "sklearn"
    title = "scikit-learn ArgKmin"
    library = "scikit-learn"
    package = "scikit-learn"
    modules = ("sklearn",)
    exact = True

    def build(self, rows: Rows) -> None:
        from sklearn.neighbors import NearestNeighbors

        made = self.reduce(rows)
        self._rows, self._length = made.rows, 0.0
        if not made.by_l2:
            squares = np.einsum("ij,ij->i", made.rows, made.rows, dtype=np.float64)
            self._length = float(np.sqrt(squares.max()))
            rest = np.sqrt(squares.max() - squares).astype(np.float32)
            self._rows = np.column_stack([made.rows, rest])
        self._neighbors = NearestNeighbors(n_neighbors=self.k, algorithm="brute").fit(self._rows)

    def asked(self, queries: Rows) -> Rows:
        reduced = super().asked(queries)
        if not self._length:
            return reduced
        lengths = np.linalg.norm(reduced, axis=1, keepdims=True)
        reduced *= self._length / np.where(lengths > 0, lengths, 1)
        return np.column_stack([reduced, np.zeros(len(reduced), np.float32)])

    def find(self, asked: Rows) -> NDArray[np.integer]:
        return np.asarray(self._neighbors.kneighbors(asked, return_distance=False))

    def index_bytes(self) -> int:
        return self._rows.nbytes
