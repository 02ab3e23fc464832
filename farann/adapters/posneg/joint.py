"""Several models as one index, whose dot product orders items as a fused score does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

import numpy as np

from farann._types import Float32Array, Float64Array, Int64Array
from farann.adapters.posneg.sides import Side
from farann.index import Index

# Candidates beyond k that the first search brings.
SPARE = 16


class Answers(Protocol):
    """Items and their fused scores, (n_queries, m) each, that can be written row by row."""

    @property
    def items(self) -> Int64Array: ...

    @property
    def fused(self) -> Float64Array: ...


Best = TypeVar("Best", bound=Answers)


class Rows(Protocol):
    """Filters of queries, as `scoring.Filters`."""

    def take(self, which: Int64Array | slice) -> Rows: ...

    def search(self) -> dict[str, object]: ...


class JointIndex:
    """Items as rows that hold their embeddings in several models side by side.

    What rounding a query to float32 can change is bounded, and what lies within that bound of
    the k-th best is scored again in float64.

    Parameters
    ----------
    sides : sequence of Side
        Under "dot" or "cosine".
    extra : float64 (size, m)
        Further columns; those of zeros are left out.
    threads : int, optional
    """

    def __init__(self, sides: Sequence[Side], extra: Float64Array, threads: int | None) -> None:
        size = len(extra)
        columns = []
        for side in sides:
            rows = np.zeros((size, side.dim), np.float32)
            rows[side.items] = side.unit_rows()
            columns.append(rows)
        self._used = extra.any(axis=0)
        columns.append(extra[:, self._used].astype(np.float32))
        rows = np.hstack(columns)
        if not rows.shape[1]:  # nothing is known of any item
            rows = np.zeros((size, 1), np.float32)
        self._dim = rows.shape[1]
        self._largest = float(np.sqrt(np.einsum("id,id->i", rows, rows, dtype=np.float64)).max())
        self._index = Index(rows.shape[1], "dot", threads=threads)
        self._index.add(rows)
        self._index.build()

    def vectors(self, columns: list[Float64Array], extra: Float64Array) -> Float64Array:
        """Query vectors from the parts of each model, and from those of the further columns."""
        found = np.hstack([*columns, extra[:, self._used]])
        return found if found.shape[1] else np.zeros((len(extra), self._dim))

    def search(self, found: Best, vectors: Float64Array, constant: Float64Array, k: int,
               filters: Rows, best_of: Callable[[Int64Array, Int64Array], Best],
               put: Callable[[Best, Int64Array, Best], None]) -> Best:
        """The k best items of each query.

        Parameters
        ----------
        found : answers without items, which are filled
        vectors : float64 (n_queries, dim)
        constant : float64 (n_queries, c)
            What is the same for all items, as summands.
        filters : Filters
        best_of : callable
            From numbers of queries and (n, m) items to the k best of these by float64.
        put : callable
            Writes answers into rows of `found`.
        """
        length = np.sqrt(np.einsum("id,id->i", vectors, vectors))
        unit: Float32Array = (vectors / np.where(length > 0, length, 1.0)[:, np.newaxis]).astype(
            np.float32)
        slack = 2.0**-22 * length * self._largest + 2.0**-40 * np.abs(constant).sum(axis=1)
        size = len(self._index)
        active, depth = np.arange(len(vectors)), min(size, k + SPARE)
        while len(active):
            hits = self._index.search_nearest(unit[active], depth,
                                              **filters.take(active).search())  # type: ignore[arg-type]
            best = best_of(active, hits.ids)
            put(found, active, best)
            rest = hits.scores[:, -1].astype(np.float64) * length[active]
            rest += constant[active].sum(axis=1) + slack[active]
            done = (best.fused[:, -1] > rest) | (hits.ids[:, -1] < 0)
            if depth == size:
                break
            active, depth = active[~done], min(size, 4 * depth)
        return found
