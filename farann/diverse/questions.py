"""Questions about sets and selections of rows, documented and checked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np
import numpy.typing as npt

from farann._types import Int64Array, Progress
from farann.contract import checks
from farann.contract.metric_traits import traits_of
from farann.contract.stop_rule import check_exact, to_limits
from farann.diverse.pair_questions import INSTEAD, PairQuestions
from farann.results import Hits, SearchStats, no_hits
from farann.search import filters
from farann.search.filters import Filtering, RowFilters
from farann.store.asked_ids import checked, known_slots, numbers

if TYPE_CHECKING:
    from farann.diverse.mmr import Next
    from farann.diverse.selection import Selection


class DiverseQuestions(PairQuestions):
    """The part of `farann.Index` that chooses rows unlike each other, or unlike all of a set."""

    __slots__ = ()

    @overload
    def search_furthest_from(self, sets: Any, k: int = 10, *, recall: float | None = None,
                             epsilon: float | None = None, budget: int | None = None,
                             exclude: Any = None, allowed: Any = None, within: Any = None,
                             outside: Any = None, threads: int | None = None,
                             return_keys: bool = False,
                             return_stats: Literal[False] = False) -> Hits: ...

    @overload
    def search_furthest_from(self, sets: Any, k: int = 10, *, recall: float | None = None,
                             epsilon: float | None = None, budget: int | None = None,
                             exclude: Any = None, allowed: Any = None, within: Any = None,
                             outside: Any = None, threads: int | None = None,
                             return_keys: bool = False,
                             return_stats: Literal[True]) -> tuple[Hits, SearchStats]: ...

    def search_furthest_from(self, sets: Any, k: int = 10, *, recall: float | None = None,
                             epsilon: float | None = None, budget: int | None = None,
                             exclude: Any = None, allowed: Any = None, within: Any = None,
                             outside: Any = None, threads: int | None = None,
                             return_keys: bool = False,
                             return_stats: bool = False) -> Hits | tuple[Hits, SearchStats]:
        """The k rows furthest from the nearest member of each set: unlike all of it.

        Parameters
        ----------
        sets : sequence of array_like (m_i, dim), or array (n, m, dim)
            For each set its vectors, at least one.
        k : int
            How many rows to find, at least 1, as in `search_furthest`.
        recall : float, optional
            Taken for an exact search, which finds all.
        epsilon : float, optional
            No row that was left out is more than (1 + epsilon) times as far from its nearest member
            as the k-th found (l2), or better than its dot product or cosine by more than epsilon.
        budget : int, optional
            Scan at most so many rows of the last build, as in `search_furthest`.
        exclude : optional
            Ids to leave out, per set: an int array (n, m) padded with -1, or a sequence of n
            one-dimensional arrays.
        allowed : optional
            The only rows that may be found, for all sets, as in `search_furthest`.
        within, outside : optional
            The group whose rows alone may be found, or may not be found, for all sets, or for each
            its own, as in `search_furthest`.
        threads : int, optional
            In the place of the index's own number.
        return_keys : bool
            Also give `Hits.keys`, as in `search_furthest`. A row's key is its smallest key over the
            members, where under cosine keys are divided by the member's norm; not those of a set of
            one vector, which are those of `search_furthest`.
        return_stats : bool
            Also return what the search did.

        Returns
        -------
        Hits, or Hits and SearchStats
            `scores` float32 and `ids` int64, (n, k), furthest first: the distance to the nearest
            member, the largest dot product or the largest cosine. NaN and -1 where there are fewer
            rows.

        Raises
        ------
        ValueError, TypeError
            For an empty set, a wrong dimension, NaN or infinity, a zero vector under cosine, more
            than one of recall, epsilon and budget, or an index without vectors.

        Notes
        -----
        Exact as `search_furthest` is: the order is that of float64 keys, the smallest over the
        members, with ties going to the smaller id. For sets of one vector the answer is that of
        `search_furthest`.

        Examples
        --------
        >>> index = farann.Index()
        >>> index.add([[0.0], [4.0], [7.0]])
        array([0, 1, 2])
        >>> index.search_furthest_from([[[0.0], [9.0]]], k=2)
        Hits(scores=array([[4., 2.]], dtype=float32), ids=array([[1, 2]]))
        """
        from farann.diverse import member_sets

        k = checks.to_int("k", k, 1)
        limits = to_limits(recall, epsilon, budget)
        check_exact("search_furthest_from", self._keep_vectors, INSTEAD)
        given = member_sets.to_sets("sets", sets, self.dim, normalized=self._normalized)
        filters.check_owner(self, allowed)
        store = self._laid_out()
        checks.check_padding(k, len(given), 0 if store is None else len(store))
        if store is None or len(given) == 0:
            hits, stats = no_hits(len(given), k, keyed=return_keys), SearchStats(len(given))
        else:
            view = store.view(self._isa)
            row_filters = filters.row_filters(
                store, Filtering(exclude, allowed, within, outside), len(given), False)
            options: dict[str, Any] = {} if limits is None else {
                "epsilon": limits.epsilon or 0.0, "budget": limits.budget or 0}

            def search(which: Int64Array | None, part: RowFilters,
                       threads: int) -> tuple[Hits, SearchStats]:
                sets = given if which is None else given.of(which)
                chosen = part.filter(store, view, len(sets.members), exact=budget is None)
                return member_sets.top(view.exact, chosen, sets, k, threads, keyed=return_keys,
                                       **options)

            most = self._threads_for(threads)
            if row_filters.within is None:
                hits, stats = search(None, row_filters, most)
            else:
                from farann.search import grouped

                hits, stats = grouped.top(store, row_filters, len(given), k, most, search,
                                          keyed=return_keys)
            self._last_search = stats
        if store is not None:
            hits = hits._replace(ids=store.named(hits.ids))
        return (hits, stats) if return_stats else hits

    def search_mmr(self, queries: npt.ArrayLike, k: int = 10, *, diversity: float = 0.5,
                   candidates: int | None = None, exclude: Any = None, allowed: Any = None,
                   within: Any = None, outside: Any = None, threads: int | None = None) -> Hits:
        """Rows that are like the query and unlike each other: maximal marginal relevance.

        The first is the most similar row. Each next one has the largest
        ``(1 - diversity) * sim(query, row) - diversity * max(sim(pick, row))`` over the picks
        before, where sim is the dot product or the cosine (Carbonell and Goldstein 1998).

        Parameters
        ----------
        queries : array_like (n_queries, dim) or (dim,)
        k : int
            How many rows to find, at least 1.
        diversity : float
            From 0, the most similar rows, to 1, rows unlike those found before.
        candidates : int, optional
            Choose among so many most similar rows alone, as other libraries do. By default among
            all rows.
        exclude, allowed, within, outside, threads : optional
            As in `search_furthest`.

        Returns
        -------
        Hits
            `scores` float32 and `ids` int64, (n_queries, k) or (k,), in the order in which rows
            were chosen. A score is the value above; for the first row, without its second part.
            NaN and -1 where there are fewer rows.

        Raises
        ------
        ValueError, TypeError
            Under l2, for a diversity outside 0 to 1, an index without vectors, or arguments that
            `search_furthest` refuses.

        Notes
        -----
        Exact: values are computed in float64, and ties go to the smaller id.

        Examples
        --------
        >>> index = farann.Index(metric="cosine")
        >>> index.add([[1.0, 0.1], [1.0, 0.0], [0.0, 1.0]])
        array([0, 1, 2])
        >>> index.search_mmr([1.0, 0.0], k=2, diversity=0.7).ids
        array([1, 2])
        """
        k = checks.to_int("k", k, 1)
        if traits_of(self._metric).adds_squared_norm:
            raise ValueError("search_mmr: expected an index with metric='dot' or 'cosine', "
                             f"got {self._metric!r}")
        diversity = checks.to_float("diversity", diversity)
        if not 0.0 <= diversity <= 1.0:
            raise ValueError(f"diversity: expected a number from 0 to 1, got {diversity}")
        if candidates is not None:
            candidates = checks.to_int("candidates", candidates, 1)
        check_exact("search_mmr", self._keep_vectors, INSTEAD)
        vectors, single = self._checked(queries)
        filters.check_owner(self, allowed)
        store = self._laid_out()
        n_rows = 0 if store is None else len(store)
        checks.check_padding(k, len(vectors), n_rows)
        hits = no_hits(len(vectors), k)
        if store is not None and n_rows and len(vectors):
            row_filters = filters.row_filters(
                store, Filtering(exclude, allowed, within, outside), len(vectors), single)
            from farann.diverse import mmr

            most = None if candidates is None else min(candidates, n_rows)
            source = mmr.Source(store, store.view(self._isa), row_filters, self._isa)
            hits = mmr.search(source, vectors, k, diversity, most, self._threads_for(threads))
        if store is not None:
            hits = hits._replace(ids=store.named(hits.ids))
        return Hits(hits.scores[0], hits.ids[0]) if single else hits

    def _next_by_mmr(self, queries: npt.NDArray[np.float32], picked: npt.NDArray[Any],
                     vectors: npt.NDArray[np.float32], *, diversity: float, exclude: Any = None,
                     allowed: Any = None,
                     threads: int | None = None) -> tuple[npt.NDArray[Any], Next]:
        """The next pick of `search_mmr` for each query, after some that may be of other indexes:
        ids, and what is known of them."""
        from farann.diverse import mmr

        store, n = self._laid_out(), len(queries)
        if store is None or len(store) == 0:
            none = np.full(n, -1, np.int64)
            return none, mmr.Next(none, np.full(n, -np.inf), np.full(n, np.nan))
        if store.labels is not None:
            names = checked(store, "picked", picked.ravel(), padding=True)
            picked = numbers(store, names).reshape(picked.shape)
        row_filters = filters.row_filters(store, Filtering(exclude, allowed), n, False)
        source = mmr.Source(store, store.view(self._isa), row_filters, self._isa)
        found = mmr.next_picks(source, queries, picked, vectors, diversity,
                               self._threads_for(threads))
        return store.named(found.ids), found

    def select_diverse(self, k: int | None = None, *, start: Any = None, first: Any = None,
                       radius: float | None = None, allowed: Any = None,
                       progress: Progress = False) -> Selection:
        """Choose rows that cover all others: farthest-point sampling, or greedy k-center.

        Each pick is the row furthest from all picks before (Gonzalez 1985). Under l2 every row is
        then at most twice as far from its nearest pick as with the best possible choice of k rows.

        Parameters
        ----------
        k : int, optional
            How many rows to choose; fewer where the rows run out. May be left out with a `radius`.
        start : int or "centroid", optional
            The id of the first pick; by default "centroid", the row furthest from the mean of the
            rows that may be chosen, of their directions under cosine.
        first : array_like of int (m,), optional
            Ids of rows that were chosen before, such as an existing core set. They are not
            returned, and the first pick is the row furthest from them.
        radius : float, optional
            Stop as soon as every row is within this distance of a pick, or has at least this dot
            product or cosine with one.
        allowed : optional
            The only rows that may be chosen: as in `search_furthest`.
        progress : bool or callable
            Show a progress bar, or call a function, as in `build`.

        Returns
        -------
        Selection
            `ids` int64 and `scores` float32, (n,): the distance of each pick to the nearest pick
            before it, infinite for the first; under dot and cosine its largest dot product or
            cosine, minus infinity for the first.

        Raises
        ------
        ValueError, TypeError, KeyError
            Without k and radius, for both start and first, ids that are not in the index or may not
            be chosen, or an index without vectors.

        Notes
        -----
        The order is that of greedy selection by float64 keys, with ties going to the smaller id.
        Rows are added up exactly for their mean. If it has no direction under cosine, the
        selection begins with the smallest id. An index that was not built need not be.

        Examples
        --------
        >>> index = farann.Index()
        >>> index.add([[0.0], [1.0], [9.0], [5.0]])
        array([0, 1, 2, 3])
        >>> index.select_diverse(3, start=0)
        Selection(ids=array([0, 2, 3]), scores=array([inf,  9.,  4.], dtype=float32))
        """
        if k is None and radius is None:
            raise ValueError("k: expected how many rows to choose, or a radius, got neither")
        from farann.diverse import greedy
        from farann.diverse.selection import Selection

        limit = checks.to_radius(radius, distance=traits_of(self._metric).adds_squared_norm)
        most = None if k is None else checks.to_int("k", k, 1)
        if start is not None and first is not None:
            raise ValueError("start: expected at most one of start and first, got both")
        check_exact("select_diverse", self._keep_vectors, INSTEAD)
        filters.check_owner(self, allowed)
        store = self._store
        begin = greedy.slot_of(store, start)
        before = known_slots(store, [] if first is None else first, "first")
        if store is None or len(store) == 0:
            none = np.empty(0, np.int64)
            return Selection(none if store is None else store.named(none), np.empty(0, np.float32))
        rows = filters.row_filters(store, Filtering(allowed=allowed), 1, False).rows
        slots, mask = store.live_slots(), store.alive
        if rows is not None:
            slots, mask = rows.slots(), np.zeros(store.n_slots, np.uint8)
            mask[slots] = 1
        if begin is not None and begin not in slots:
            raise ValueError(f"start: expected an id that may be chosen, got {start!r}")
        selection = greedy.select(store, self._isa, slots, mask, greedy.Choice(
            k=most or len(store), start=begin, first=np.unique(before), radius=limit,
            progress=checks.to_progress(progress)))
        return selection._replace(ids=store.named(selection.ids))
