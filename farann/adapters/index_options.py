"""The index of a layer: how it is made and asked."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from farann._types import Float32Array, Int64Array
from farann.index import Index


class IndexOptions:
    """The options that a layer passes on to its index.

    Parameters
    ----------
    metric : {"dot", "cosine", "l2"}
    recall, epsilon : float, optional
        Of `farann.Index.search_furthest`, one at most.
    cells, codes
        Of `farann.Index`.
    """

    def __init__(self, metric: str, recall: float | None, epsilon: float | None, cells: Any,
                 codes: str) -> None:
        if recall is not None and epsilon is not None:
            raise ValueError("recall, epsilon: expected one of them at most, got both")
        self.metric = metric
        self.of_index = {"codes": codes} | ({} if cells is None else {"cells": cells})
        options: dict[str, Any] = {"recall": recall, "epsilon": epsilon}
        self.of_search = {name: value for name, value in options.items() if value is not None}
        Index(metric=metric, **self.of_index)  # refuses bad options

    @property
    def config(self) -> dict[str, Any]:
        """The options as a layer's configuration keeps them."""
        return {**self.of_index, **self.of_search}

    def made(self, rows: Float32Array) -> Index:
        """An index of rows, whose ids are their numbers."""
        index = Index(metric=self.metric, **self.of_index)
        index.add(rows)
        return index.build()

    def search(self, index: Index, queries: npt.NDArray[Any],
               k: int) -> tuple[Float32Array, Int64Array]:
        """Scores, the furthest largest, and rows, padded with NaN and -1."""
        hits = index.search_furthest(queries, k, **self.of_search)
        return np.asarray(hits.scores if self.metric == "l2" else -hits.scores), hits.ids
