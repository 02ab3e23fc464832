"""Questions to an index: what searches and scores, documented and checked."""

from __future__ import annotations

from typing import Any, Literal, overload

import numpy as np
import numpy.typing as npt

from farann.contract import checks, stop_rule
from farann.contract.stop_rule import to_limits
from farann.results import BeyondHits, Hits, SearchStats, beyond_with_keys
from farann.search import filters
from farann.search.filters import Filter, Filtering
from farann.search.lookups import Lookups

# Kinds of `allowed` that a single query may be answered with as an earlier one was.
_AS_GIVEN = (Filter, np.ndarray)


class Questions(Lookups):
    """The part of `farann.Index` that answers queries."""

    __slots__ = ()

    @overload
    def search_furthest(self, queries: npt.ArrayLike, k: int = 10, *,
                        recall: float | None = None, epsilon: float | None = None,
                        budget: int | None = None, seconds: float | None = None,
                        exclude: Any = None, allowed: Any = None,
                        within: Any = None, outside: Any = None,
                        threads: int | None = None, return_keys: bool = False,
                        return_stats: Literal[False] = False) -> Hits: ...

    @overload
    def search_furthest(self, queries: npt.ArrayLike, k: int = 10, *,
                        recall: float | None = None, epsilon: float | None = None,
                        budget: int | None = None, seconds: float | None = None,
                        exclude: Any = None, allowed: Any = None,
                        within: Any = None, outside: Any = None,
                        threads: int | None = None, return_keys: bool = False,
                        return_stats: Literal[True]) -> tuple[Hits, SearchStats]: ...

    def search_furthest(self, queries: npt.ArrayLike, k: int = 10, *,
                        recall: float | None = None, epsilon: float | None = None,
                        budget: int | None = None, seconds: float | None = None,
                        exclude: Any = None, allowed: Any = None,
                        within: Any = None, outside: Any = None,
                        threads: int | None = None, return_keys: bool = False,
                        return_stats: bool = False) -> Hits | tuple[Hits, SearchStats]:
        """The k rows furthest from each query.

        Parameters
        ----------
        queries : array_like (n_queries, dim) or (dim,)
            Converted to float32, as rows are.
        k : int
            How many rows to find, at least 1. k beyond the number of rows pads; a call may pad to
            at most 2^24 results, queries times k.
        recall : float, optional
            Find this share of the true answer, on average over queries like those that `tune`
            measured; it is called if nobody did. Queries unlike those are answered exactly, and a
            `RecallWarning` says once if there are many. 1 is exact, and so is the search where
            nothing less reaches the recall, or is faster. Without vectors it is the share of what
            a scan of all codes finds.
        epsilon : float, optional
            A guarantee: no row that was left out is more than (1 + epsilon) times as far as the
            k-th found (l2), or better than its dot product or cosine by more than epsilon. It
            bounds distances, not recall.
        budget : int, optional
            Scan at most so many rows of the last build, the most promising, rounded up to a
            multiple of 16. Rows added since are scanned as well; and all rows are where filters
            leave fewer than k of these, or where there are no codes.
        seconds : float, optional
            A time limit for each query; n queries that are answered together have n times as long.
            What has been found by then is the answer, with true scores. The clock is looked at
            between some million multiply-adds, and not before each query has met about a thousand
            rows, or 4 k, and found k: where filters leave fewer, all rows are scanned. How much is
            found depends on the machine and on what else it does: where that may not be, use
            `budget`.
        exclude : optional
            Ids to leave out: for all queries alike, as an int array (m,), a list or a set; or for
            each query its own, as an int array (n_queries, m) padded with -1, or a sequence of
            n_queries arrays, lists or sets. Where ids are strings, None is padding. Ids that are
            not in the index are ignored.
        allowed : optional
            The only rows that may be found, for all queries: ids (m,), a boolean mask
            (len(index),) in the order of `ids`, or what `filter` prepared of either.
        within : optional
            Find rows of one group alone: a label, or for each query its own, (n_queries,), of the
            `groups` that `add` was given. No row is found in a group that there isn't.
        outside : optional
            Find rows of all other groups: labels as for `within`. At most one of both is given.
        threads : int, optional
            In the place of the index's own number; -1 for as many as there are CPUs.
        return_keys : bool
            Also give `Hits.keys`, the float64 numbers that rows are ordered by, for
            `farann.merge`. An index without vectors has none.
        return_stats : bool
            Also return what the search did: rows scored at each level, and bytes read.

        Returns
        -------
        Hits, or Hits and SearchStats
            `scores` float32 and `ids` int64, (n_queries, k), furthest first; (k,) for a single
            query. Distances under l2, dot products and cosines otherwise, infinite where float32
            can't hold them. Where there are fewer than k rows, the score is NaN and the id -1.
            Where ids are strings, `ids` are objects, and None.

        Raises
        ------
        ValueError, TypeError
            For a wrong dimension, NaN or infinity, a zero query under cosine, k < 1 or far beyond
            the number of rows, a filter of the wrong shape, groups that the index hasn't, more than
            one of recall, epsilon, budget and seconds, or none of recall, budget and seconds for an
            index without vectors.

        Notes
        -----
        Without recall, epsilon, budget and seconds the answer is exact, and so it is where the time
        sufficed. Of an index without vectors scores are approximate, and so is the order.

        Examples
        --------
        >>> index = farann.Index(metric="dot")
        >>> index.add([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
        array([0, 1, 2])
        >>> index.search_furthest([[1.0, 0.0]], k=3, exclude=[[1]])
        Hits(scores=array([[-1.,  1., nan]], dtype=float32), ids=array([[ 2,  0, -1]]))
        """
        if seconds is not None and recall is None and epsilon is None and budget is None and (
                self._is_in_time(queries, seconds)):
            seconds = None
        if (exclude is None and (allowed is None or type(allowed) in _AS_GIVEN) and within is None
            and outside is None and epsilon is None and budget is None and seconds is None
            and not return_keys and (threads is None or (type(threads) is int and threads == 1))):
            again = self._search_again(queries, k, recall, allowed)
            if again is not None:
                hits, counts = again
                return (hits, SearchStats(*counts)) if return_stats else hits
        limits = to_limits(recall, epsilon, budget, seconds)
        stop_rule.check_limits(limits, self._keep_vectors)
        given = Filtering(exclude, allowed, within, outside)
        hits, stats = self._search_top(queries, k, False, given, threads, limits,
                                       return_keys=return_keys)
        return (hits, stats) if return_stats else hits

    def search_nearest(self, queries: npt.ArrayLike, k: int = 10, *, recall: float | None = None,
                       epsilon: float | None = None, budget: int | None = None,
                       seconds: float | None = None, exclude: Any = None, allowed: Any = None,
                       within: Any = None, outside: Any = None, beyond: npt.ArrayLike | None = None,
                       threads: int | None = None, return_keys: bool = False) -> Hits:
        """The k rows nearest to each query; all else as in `search_furthest`.

        Parameters
        ----------
        queries, k, exclude, allowed, within, outside, threads
            As in `search_furthest`.
        recall, epsilon, budget, seconds : optional
            As in `search_furthest`; what `recall` takes is measured for the nearest rows, by
            ``tune(nearest=True)`` or the first such search. `epsilon`: no row that was left out is
            nearer than the distance of the k-th found over (1 + epsilon) (l2), or better than its
            dot product or cosine by more than epsilon.
        beyond : float, or array_like of float (n_queries,), optional
            Find the nearest of those rows alone that are further than a radius, one for all
            queries, or one for each: rows that `search_beyond` finds. `recall` and `epsilon` are
            answered exactly then, and `budget` and `seconds` are refused.
        return_keys : bool
            Also give `Hits.keys`: those of the furthest rows times -1, so that larger is better
            here, too.

        Returns
        -------
        Hits
            Nearest first: the smallest distances, the largest dot products or cosines.

        Notes
        -----
        ``build(nearest=True)`` lays rows out for these searches. An index without vectors has
        approximate answers, as in `search_furthest`.

        Examples
        --------
        >>> index = farann.Index(metric="dot")
        >>> index.add([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
        array([0, 1, 2])
        >>> index.search_nearest([1.0, 0.0], k=2, recall=0.95)
        Hits(scores=array([1., 0.], dtype=float32), ids=array([0, 1]))

        The nearest row of another class, and one that is further than the furthest of the own:

        >>> index = farann.Index()
        >>> index.add([[0.0], [3.0], [2.0], [5.0]], groups=["cat", "cat", "dog", "dog"])
        array([0, 1, 2, 3])
        >>> index.search_nearest([0.0], k=1, outside="cat").ids
        array([2])
        >>> furthest_cat = index.search_furthest([0.0], k=1, within="cat").scores
        >>> index.search_nearest([0.0], k=1, outside="cat", beyond=furthest_cat).ids
        array([3])
        """
        limits = to_limits(recall, epsilon, budget, seconds)
        given = Filtering(exclude, allowed, within, outside)
        if beyond is not None:
            stop_rule.check_beyond(limits, self._keep_vectors)
            limits = None
        else:
            stop_rule.check_limits(limits, self._keep_vectors)
            if given.is_open and threads is None and epsilon is None and budget is None and (
                    seconds is None and not return_keys):
                again = self._search_nearest_again(queries, k, recall)
                if again is not None:
                    return again
        return self._search_top(queries, k, True, given, threads, limits,
                                return_keys=return_keys, beyond=beyond)[0]

    def search_beyond(self, queries: npt.ArrayLike, radius: npt.ArrayLike, *, exclude: Any = None,
                      allowed: Any = None, within: Any = None, outside: Any = None,
                      threads: int | None = None, return_keys: bool = False) -> BeyondHits:
        """Every row further from a query than a radius.

        Parameters
        ----------
        queries : array_like (n_queries, dim) or (dim,)
        radius : float, or array_like of float (n_queries,)
            One for all queries, or one for each. Rows at a greater distance are found; under dot
            and cosine, rows whose dot product or cosine is less. Compared in float64.
        exclude, allowed, within, outside, threads, return_keys : optional
            As in `search_furthest`.

        Returns
        -------
        BeyondHits
            `offsets` int64 (n_queries + 1,), `scores` float32 and `ids` int64: query i found
            ``ids[offsets[i]:offsets[i + 1]]``, furthest first.

        Examples
        --------
        >>> index = farann.Index()
        >>> index.add([[1.0], [2.0], [3.0]])
        array([0, 1, 2])
        >>> index.search_beyond([[0.0], [3.0]], radius=1.5).ids
        array([2, 1, 0])
        >>> index.search_beyond([[0.0], [3.0]], radius=[2.5, 0.5]).ids
        array([2, 0, 1])
        """
        from farann.search import answers

        stop_rule.check_exact("search_beyond", self._keep_vectors,
                              "use search_furthest with recall=, or budget=")
        vectors, single = self._checked(queries)
        radii = checks.to_radii("radius", radius, len(vectors))
        filters.check_owner(self, allowed)
        store = self._laid_out()
        if store is None:
            found = BeyondHits(np.zeros(len(vectors) + 1, np.int64), np.empty(0, np.float32),
                               np.empty(0, np.int64))
            return beyond_with_keys(found, np.empty(0)) if return_keys else found
        row_filters = filters.row_filters(
            store, Filtering(exclude, allowed, within, outside), len(vectors), single)
        threads = self._threads_for(threads)
        found = answers.beyond(answers.Question(
            store=store, isa=self._isa, queries=vectors, k=1, row_filters=row_filters,
            threads=threads, nearest=False, every_row=False, unfiltered=False, radii=radii))
        if return_keys:
            found = beyond_with_keys(found, answers.keys_of(
                store, self._isa, vectors, found, False, threads))
        return found._replace(ids=store.named(found.ids))
