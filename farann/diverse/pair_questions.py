"""Questions about pairs of rows, documented and checked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np

from farann._types import Float32Array, Progress
from farann.contract import checks
from farann.contract.stop_rule import check_exact
from farann.results import Hits, no_hits
from farann.search.questions import Questions

if TYPE_CHECKING:
    from scipy.sparse import csr_array

    from farann.store.store import Store

INSTEAD = "use search_furthest or search_nearest with recall=, or budget="


class PairQuestions(Questions):
    """The part of `farann.Index` that compares rows with each other."""

    __slots__ = ()

    def diameter(self, *, threads: int | None = None,
                 progress: Progress = False) -> tuple[float, Any, Any]:
        """The two rows that are furthest from each other.

        Parameters
        ----------
        threads : int, optional
            In the place of the index's own number.
        progress : bool or callable
            Show a progress bar of the rows that were asked about, which ends before they all were,
            or call a function, as in `build`.

        Returns
        -------
        score : float
            Their distance; under dot and cosine the smallest dot product or cosine of two rows.
            NaN where there are fewer than two rows.
        id_a, id_b : int
            Their ids, the smaller one first; -1 where there are fewer than two rows. Of pairs with
            the same float64 key those with the smallest ids; under cosine each row has a key for
            the other, and that of the pair is the larger one.

        Examples
        --------
        >>> index = farann.Index()
        >>> index.add([[0.0], [3.0], [-4.0]])
        array([0, 1, 2])
        >>> index.diameter()
        (7.0, 1, 2)
        """
        from farann.diverse import pairs

        check_exact("diameter", self._keep_vectors, INSTEAD)
        store = self._laid_out()
        if store is None or len(store) < 2:
            none = None if store is not None and store.labels is not None else -1
            return float("nan"), none, none
        pair = pairs.furthest_pair(store, store.view(self._isa), self._threads_for(threads),
                                   progress)
        ids = store.named(np.array([pair.a, pair.b], np.int64)).tolist()
        return pairs.score_of(store, pair), ids[0], ids[1]

    def eccentricities(self, *, threads: int | None = None,
                       progress: Progress = False) -> Float32Array:
        """Each row's distance to the row furthest from it.

        Parameters
        ----------
        threads : int, optional
            In the place of the index's own number.
        progress : bool or callable
            Show a progress bar, or call a function, as in `build`.

        Returns
        -------
        float32 (len(index),)
            In the order of `ids`: distances, or under dot and cosine the smallest dot product or
            cosine with another row. NaN where there is no other row.

        Examples
        --------
        >>> index = farann.Index()
        >>> index.add([[0.0], [3.0], [-4.0]])
        array([0, 1, 2])
        >>> index.eccentricities()
        array([4., 7., 7.], dtype=float32)
        """
        return self._furthest_of_each("eccentricities", 1, threads, progress)[0].scores[:, 0]

    @overload
    def furthest_graph(self, k: int = 10, *, as_sparse: Literal[False] = False,
                       threads: int | None = None, progress: Progress = False) -> Hits: ...

    @overload
    def furthest_graph(self, k: int = 10, *, as_sparse: Literal[True],
                       threads: int | None = None, progress: Progress = False) -> csr_array: ...

    def furthest_graph(self, k: int = 10, *, as_sparse: bool = False, threads: int | None = None,
                       progress: Progress = False) -> Hits | csr_array:
        """Each row's k furthest other rows.

        Parameters
        ----------
        k : int
        as_sparse : bool
            Give a sparse matrix of scipy.
        threads : int, optional
            In the place of the index's own number.
        progress : bool or callable
            Show a progress bar, or call a function, as in `build`.

        Returns
        -------
        Hits, or scipy.sparse.csr_array (len(index), len(index))
            `scores` and `ids` (len(index), k), in the order of `ids`, as from `search_furthest`
            with each row as a query that may not find itself. The matrix has the scores where
            there are edges, rows and columns in the order of `ids`; a score of 0 is an entry, too.

        Notes
        -----
        Under l2 a few outlying rows, hubs, are the furthest of nearly all others.

        Examples
        --------
        >>> index = farann.Index()
        >>> index.add([[0.0], [3.0], [-4.0]])
        array([0, 1, 2])
        >>> index.furthest_graph(k=1).ids
        array([[2],
               [2],
               [1]])
        """
        k = checks.to_int("k", k, 1)
        hits, store = self._furthest_of_each("furthest_graph", k, threads, progress)
        if as_sparse:
            from farann.diverse import pairs

            return pairs.as_graph(np.empty(0, np.int64) if store is None else store.live_ids(),
                                  hits)
        return hits if store is None else hits._replace(ids=store.named(hits.ids))

    def _furthest_of_each(self, what: str, k: int, threads: int | None, progress: Progress,
                          ) -> tuple[Hits, Store | None]:
        from farann.diverse import pairs

        check_exact(what, self._keep_vectors, INSTEAD)
        progress = checks.to_progress(progress)
        store = self._laid_out()
        if store is None or len(store) == 0:
            return no_hits(0, k), store
        checks.check_padding(k, len(store), len(store))
        return pairs.furthest_of_all(store, store.view(self._isa), k, self._threads_for(threads),
                                     progress), store
