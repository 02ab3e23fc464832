"""Bounds of the scores of rows by their products with likes and dislikes apart.

With m likes and n dislikes that is m + n products a row, where sets of members take m n. Only rows
whose bounds reach the k-th best need members, and of likes and dislikes only those whose products
are so close to the largest one that rounding may decide.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from farann._types import Float64Array, Int64Array
from farann.results import limited
from farann.runtime.process import each, ieee_arithmetic, one_thread
from farann.store.store import Store

_LARGEST_PRODUCT = 1e37  # lengths whose product is below this: no part of it overflows float32
_UNDERFLOW = 2.0**-125  # at most twice this is lost where a float32 product underflows
_BOUNDED_AT_ONCE = 1 << 20  # products of a block of rows, and its coordinates


class LikeBounds:
    """Likes and dislikes of one question, in float64; what is `normalized` has rows of length 1."""
    products: int

    def __init__(self, store: Store, likes: Float64Array, dislikes: Float64Array, weight: float,
                 *, normalized: bool) -> None:
        self._store, self._weight, self._normalized = store, weight, normalized
        self._vectors, self._n_likes = np.concatenate([likes, dislikes]), len(likes)
        lengths = np.linalg.norm(self._vectors, axis=1)
        self._longest = float(lengths.max())
        self._reach = float(lengths[: len(likes)].max() + weight * lengths[len(likes) :].max())
        self.products = 0  # multiply-adds

    def candidates(self, slots: Int64Array, kind: type[np.floating[Any]], k: int,
             per_group: int | None, threads: int) -> Int64Array:
        """The rows that may be among the k best, at most `per_group` of a group, by products in
        float32 or float64."""
        scores, offs = np.empty(len(slots)), np.empty(len(slots))
        vectors, n = self._vectors.astype(kind).T, self._n_likes

        def bound(part: tuple[int, int]) -> None:
            products, off, norms = self._products(slots[slice(*part)], vectors)
            score = products[:, :n].max(axis=1).astype(np.float64) - self._weight * products[
                :, n:].max(axis=1).astype(np.float64)
            if self._normalized:
                score, off = score / norms, off / norms
            scores[slice(*part)], offs[slice(*part)] = score, off

        step = max(1, _BOUNDED_AT_ONCE // max(vectors.shape))
        self.products += len(slots) * vectors.size
        with one_thread(), np.errstate(all="ignore"):
            each(bound, list(pairwise([*range(0, len(slots), step), len(slots)])), threads)
            sure = scores - offs
            sure[np.isnan(sure)] = -np.inf
        if per_group is not None and self._store.groups is not None:
            best = limited(np.argsort(-sure)[np.newaxis],
                           self._store.groups.by_slot()[slots], k, per_group)
            floor = sure[best].min() if (best >= 0).all() else -np.inf
        else:
            floor = np.partition(sure, -k)[-k] if k < len(sure) else -np.inf
        with np.errstate(all="ignore"):
            some: Int64Array = slots[~(scores + offs < floor)]
        return some

    def needed(self, slots: Int64Array) -> tuple[Int64Array, Int64Array]:
        """The likes and the dislikes that may give some rows their scores."""
        with ieee_arithmetic():
            products, offs, _ = self._products(slots, self._vectors.T)
        self.products += products.size * len(self._vectors[0])
        needed = []
        for some, weight in ((products[:, : self._n_likes], 1.0),
                             (products[:, self._n_likes :], self._weight)):
            first = some.argmax(axis=1)
            close = np.zeros(some.shape, np.bool_)
            if weight > 0.0:
                # A row of zeros has the same products with all.
                with np.errstate(over="ignore"):
                    off = np.where(offs > 0.0, 2.0 * offs / weight, -1.0)
                close = some >= (some.max(axis=1) - off)[:, np.newaxis]
            close[np.arange(len(slots)), first] = True
            needed.append(np.flatnonzero(close.any(axis=0)))
        return needed[0], needed[1]

    def _products(self, slots: Int64Array, vectors: npt.NDArray[Any],
                  ) -> tuple[npt.NDArray[Any], Float64Array, Float64Array]:
        """Products of rows with vectors, how far off scores by these may be, and norms of rows."""
        rows, dim = self._store.take(slots), len(vectors)
        wide = rows.astype(np.float64)
        norms = np.sqrt(np.einsum("ij,ij->i", wide, wide))
        products = (rows if vectors.dtype == np.float32 else wide) @ vectors
        # Twice what sums of `dim` products lose, and exact keys.
        off = (dim + 16) * (np.finfo(vectors.dtype).eps + np.finfo(np.float64).eps) * (
            self._reach * norms)
        if vectors.dtype == np.float32:
            off += dim * _UNDERFLOW * (1.0 + self._weight)
            off[norms * self._longest > _LARGEST_PRODUCT] = np.inf
        return products, off, norms
