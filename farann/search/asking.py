"""What the questions to an index share: arguments checked, the k best rows of whoever asks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from farann._types import Float32Array
from farann.contract import checks
from farann.contract.metric_traits import traits_of
from farann.contract.stop_rule import Limits, check_exact
from farann.results import Hits, SearchStats, no_hits, with_keys
from farann.runtime import pool
from farann.search import filters, singles
from farann.search.filters import Filter, Filtering
from farann.store.contents import Contents

if TYPE_CHECKING:
    from farann.store.store import Store

# Searches look at the clock after 2^22 multiply-adds: a row takes as many as it has coordinates,
# and padding, in codes, in float32 and for its exact key.
_BEFORE_A_LOOK, _PADDING = 2**20, 16


class Asking(Contents):
    """The part of `farann.Index` that its questions rest on."""

    __slots__ = ()

    def _laid_out(self) -> Store | None:
        """What to search."""
        raise NotImplementedError

    @property
    def _normalized(self) -> bool:
        return traits_of(self._metric).normalized

    def _threads_for(self, threads: int | None) -> int:
        number = self._threads if threads is None else checks.to_threads(threads)
        return pool.cpu_count() if number is None or number == -1 else number

    def _vectors(self, name: str, vectors: npt.ArrayLike) -> Float32Array:
        return checks.to_vectors(name, vectors, self.dim, normalized=self._normalized, single=True)

    def _asked(self, queries: npt.ArrayLike, nearest: bool) -> Float32Array:
        """A sample of queries as searches ask them, in memory of its own: builds keep it."""
        vectors = self._vectors("queries", checks.to_array("queries", queries).copy())
        return traits_of(self._metric).mirrored(vectors) if nearest else vectors

    def _checked(self, queries: npt.ArrayLike) -> tuple[Float32Array, bool]:
        """Checked queries, and whether it was a single one."""
        array = checks.to_array("queries", queries)  # a column of lists has two dimensions
        vectors = self._vectors("queries", array)
        return vectors, array.ndim == 1 and len(vectors) == 1

    def _search_top(self, queries: npt.ArrayLike, k: int, nearest: bool, given: Filtering,
                    threads: int | None, limits: Limits | None = None, *,
                    return_keys: bool = False,
                    beyond: npt.ArrayLike | None = None) -> tuple[Hits, SearchStats]:
        from farann.search import answers

        k = checks.to_int("k", k, 1)
        vectors, single = self._checked(queries)
        radii = None if beyond is None else checks.to_radii("beyond", beyond, len(vectors))
        filters.check_owner(self, given.allowed)
        store = self._laid_out()
        checks.check_padding(k, len(vectors), 0 if store is None else len(store))
        if return_keys:
            check_exact("return_keys", self._keep_vectors, "keys are those of the vectors")
        if store is None:
            hits = no_hits(len(vectors), k, keyed=return_keys)
            stats = SearchStats(len(vectors), 0, 0, 0, 0)
        else:
            row_filters = filters.row_filters(store, given, len(vectors), single)
            every_row = limits is not None and given.allowed is None and given.within is None and (
                row_filters.leaves_most(store))
            negated = False
            if nearest and radii is None and (
                    limits is not None or store.spec.metric.adds_squared_norm):
                store = store.mirrored(self._isa)
                nearest, negated = store.by_nearest, not store.by_nearest
                vectors = store.spec.metric.mirrored(vectors)
            hits, stats = answers.top(answers.Question(
                store=store, isa=self._isa, queries=vectors, k=k, row_filters=row_filters,
                threads=self._threads_for(threads), nearest=nearest, every_row=every_row,
                unfiltered=given.is_open, radii=radii), limits)
            self._last_search = stats
            keys = None
            if return_keys:
                keys = answers.keys_of(store, self._isa, vectors, hits, nearest,
                                       self._threads_for(threads))
            if negated:
                hits = hits._replace(scores=_mirrored(store, self._isa, vectors, hits))
                keys = None if keys is None else keys + 0.0  # 0 and not -0
            hits = hits._replace(ids=store.named(hits.ids))
            hits = hits if keys is None else with_keys(hits, keys)
        return _of_one(hits) if single else hits, stats

    def _search_again(self, queries: npt.ArrayLike, k: int, recall: float | None,
                      allowed: Filter | npt.NDArray[np.bool_] | None,
                      ) -> tuple[Hits, tuple[int, ...]] | None:
        """Answer a single query as an earlier one was; None where that can't be."""
        store = self._store
        found = None if store is None else singles.again(store, self._isa, queries, k, recall,
                                                          allowed)
        if found is None or store is None:
            return None
        scores, ids, self._last_search = found
        return Hits(scores, store.named(ids)), self._last_search

    def _is_in_time(self, queries: npt.ArrayLike, seconds: float) -> bool:
        """Whether a single query is answered before its search would look at the clock."""
        store = self._store
        return (store is not None and type(seconds) is float and 0.0 < seconds < float("inf")
                and isinstance(queries, np.ndarray) and queries.ndim == 1 and self._keep_vectors
                and store.n_slots * (store.dim + _PADDING) <= _BEFORE_A_LOOK)

    def _search_nearest_again(self, queries: npt.ArrayLike, k: int,
                              recall: float | None) -> Hits | None:
        """The same of the nearest rows."""
        store = self._store
        mirror = None if store is None else store.mirror
        if mirror is None or (recall is None and not mirror.by_nearest):
            return None
        if not isinstance(queries, np.ndarray) or (
                queries.dtype != np.float32 or queries.ndim != 1):
            return None
        vector = mirror.spec.metric.mirrored(queries)
        found = singles.again(mirror, self._isa, vector, k, recall)
        if found is None:
            return None
        scores, ids, self._last_search = found
        if not mirror.by_nearest:
            scores = _mirrored(mirror, self._isa, vector, Hits(scores, ids))
        return Hits(scores, mirror.named(ids))


def _of_one(hits: Hits) -> Hits:
    """The answer to a single query, without the dimension of queries."""
    one = Hits(hits.scores[0], hits.ids[0])
    return one if hits.keys is None else with_keys(one, hits.keys[0])


def _mirrored(store: Store, isa: str, vectors: Float32Array, hits: Hits) -> Float32Array:
    """Scores of the queries, of what these times -1 found.

    A score of 0 may be a product that float32 has no number for. It has the sign of that, as the
    scores of exact searches do.
    """
    scores = np.float32(0.0) - hits.scores
    if not scores.all() and store.n_coded is None:
        from farann.search import answers

        queries, table = np.atleast_2d(vectors), np.atleast_2d(scores)
        some = np.flatnonzero((table == 0.0).any(axis=1))
        found = Hits(table[some], np.atleast_2d(hits.ids)[some])
        keys = answers.keys_of(store, isa, queries[some], found, False, 1)
        table[some] = np.where(found.scores == 0.0, keys + 0.0, found.scores)
    return scores
