"""The blind list: the same few rows for every query, chosen without looking at it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .base import Algorithm, Ids, Profile, Rows, Setting, furthest_first


class Blind(Algorithm):
    """The rows furthest from the center (l2) or lowest against the mean row.

    Where this alone has a high recall, a high recall of anything else means little.
    """

    name = "blind"
    title = "blind list"
    library = "blind"
    package = "numpy"
    modules = ("numpy",)
    baseline = True
    nearest_metrics = ()

    @classmethod
    def sweep(cls, profile: Profile) -> list[Setting]:
        sizes = profile.pick([100, 1000], [10, 100, 1000, 10000])
        sizes = [listed for listed in sizes if profile.k <= listed <= profile.rows]
        return [Setting(searches=[{"listed": m} for m in sizes])] if sizes else []

    def build(self, rows: Rows) -> None:
        reduction = self.reduce(rows)
        # One query tells the order: the center itself for l2, the mean row (or mean
        # direction) otherwise. Reduced, they all rank by the largest product.
        center = rows if self.metric != "cosine" else reduction.rows[:, : rows.shape[1]]
        middle = center.mean(axis=0, dtype=np.float64)
        products = reduction.rows @ reduction.queries(middle[None, :])[0]
        self._ranking: Ids = np.argsort(-products, kind="stable")
        self._rows = reduction.rows

    def configure(self, search: Mapping[str, Any]) -> None:
        self._ids = self._ranking[: search["listed"]]
        self._listed = np.ascontiguousarray(self._rows[self._ids])

    def find(self, asked: Rows) -> NDArray[np.integer]:
        products = asked @ self._listed.T
        return furthest_first(self._ids, products, self.k)

    def index_bytes(self) -> int:
        return self._listed.nbytes + self._ids.nbytes

    def rows_scanned(self) -> float:
        return float(len(self._ids))
