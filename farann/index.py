"""The index: the whole face of the library. Each method says what it does, and calls what does it.

What users ask and change is checked in `search.ask`, `search.changes` and `diverse.ask`; files are
written and read in `io.index_file`.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self, overload

import numpy as np
import numpy.typing as npt

from farann._types import Float32Array, Ids, Metric, Progress, Rng, UnknownKeyword
from farann.contract import FormatError, checks
from farann.contract.index_spec import IndexSpec, check_codes, traits_of
from farann.contract.names import Elsewhere, hint_at_methods, unexpected
from farann.contract.row_types import to_row_type
from farann.diverse import ask as diverse
from farann.results import Diameter, Hits, Pairs, RangeHits, Selection, Spaced, html_table
from farann.runtime.pool import default_isa
from farann.runtime.progress import log
from farann.search import ask, changes
from farann.search.filters import Filter, Filtering
from farann.store.live import Live

if TYPE_CHECKING:
    from scipy.sparse import csr_array

    from farann.tuning.table import Tuning


class Index:
    """A collection of vectors that answers exact and approximate furthest-neighbor queries.

    Parameters
    ----------
    dim : int, optional
        Dimension of the rows, at most 2^24; by default that of the first rows added.
    metric : {"l2", "dot", "cosine"}
        Furthest means the largest Euclidean distance, the smallest dot product, or the smallest
        cosine similarity. "euclidean", "ip", "inner_product" and "cos" are other names of these.
    dtype : {"float32", "float16", "bfloat16", "uint8", "int8"}, or such a numpy dtype
        What rows are kept as. Answers are exact over these values, scored in float64. `add` takes
        rows of another type only if that changes no number.
    codes : {"int8", "int4", "float32"}
        How rows are scored roughly before the exact pass: by 8-bit codes (a quarter to a third
        more memory, several times the speed), by 4-bit codes (half of that, but they rule out
        few rows for certain), or by the rows themselves, in float32. Answers are the same.
    cells : int or "auto", optional
        Group the rows into this many partitions (IVF lists); approximate searches then probe the
        most promising ones. "auto" makes them where `build` finds, by counted work, that they make
        searches faster, and none where rows are few; where they make exact ones slower, these have
        codes of their own. 4-bit codes without vectors are better with partitions.
    keep_vectors : bool
        False: `build` drops the float32 rows and keeps the codes alone, in a quarter or an eighth
        of the memory. Scores are approximate then, without bias, and searches need ``recall=`` or
        ``budget=``. What was dropped can't come back.
    seed : int
        For what is drawn at random during `build`; below 2^128.
    rng : int or numpy.random.Generator, BitGenerator or SeedSequence, optional
        In the place of `seed` (SPEC 7): an integer is the seed, a generator draws one.
    threads : int, optional
        Threads of a search and of `build`, at most 4096; by default, or -1, one for each CPU. A
        batch is shared among them. Where it has fewer queries than threads, and an exact search of
        these takes long, each thread searches a part of the rows.

    Notes
    -----
    Answers are exact, as long as the vectors are kept: the ids and the order that brute force in
    float64 over the stored float32 rows gives, with ties going to the smaller id, on every
    instruction set and with any number of threads. Rows are first scored roughly, by codes or in
    float32, with a proven bound on the error, and all that could belong to the answer is scored
    again in float64.

    Any number of threads may search while others add, remove or build: a search sees the index
    as it was before or after such a change, never between, and waits for none. A change that fails
    or is interrupted didn't happen.

    Examples
    --------
    >>> import farann
    >>> index = farann.Index(metric="l2")
    >>> index.add([[0.0, 0.0], [3.0, 4.0], [1.0, 0.0]])
    array([0, 1, 2])
    >>> hits = index.search_furthest([0.0, 0.0], k=2)
    >>> hits.ids, hits.scores
    (array([1, 2]), array([5., 1.], dtype=float32))
    """

    __slots__ = ("__weakref__", "_live")

    def __init__(self, dim: int | None = None, metric: Metric = "l2", *, dtype: Any = "float32",
                 codes: str = "int8", cells: int | str | None = None, keep_vectors: bool = True,
                 seed: int = 0, rng: Rng = None, threads: int | None = None,
                 **unknown: UnknownKeyword) -> None:
        if unknown:
            raise unexpected(Index, unknown)
        dim = None if dim is None else checks.to_dim(dim)
        traits, row_type = traits_of(checks.to_metric(metric)), to_row_type(dtype)
        cells = check_codes(codes, cells, keep_vectors)
        spec = IndexSpec(traits, codes, checks.to_seed(seed, rng), cells, bool(keep_vectors),
                         row_type)
        self._live = Live(spec, dim, default_isa(), checks.to_threads(threads))

    # ---- what is in it ----

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._live.closed

    @property
    def dim(self) -> int | None:
        """Dimension of the rows; None before the first are added."""
        return self._live.dim

    @property
    def metric(self) -> str:
        """The metric: "l2", "dot" or "cosine"."""
        return self._live.spec.metric.name

    @property
    def dtype(self) -> str:
        """What rows are kept as: "float32", "float16", "bfloat16", "uint8" or "int8"."""
        return self._live.spec.row_type

    @property
    def threads(self) -> int:
        """Threads that a batch may use."""
        return self._live.n_threads

    @property
    def isa(self) -> str:
        """The instruction-set level in use; see `isa_levels`."""
        return self._live.isa

    @property
    def ids(self) -> npt.NDArray[Any]:
        """Ids of all rows, (len(index),), in the order that boolean masks refer to: int64, or
        objects where ids are strings."""
        store = self._live.store
        return np.empty(0, np.int64) if store is None else store.named(store.live_ids())

    def __len__(self) -> int:
        store = self._live.store
        return 0 if store is None else len(store)

    def __bool__(self) -> bool:
        """True, of an empty index as well, so that ``index or other`` doesn't lose it."""
        return True

    def __dir__(self) -> list[str]:
        return [name for name in object.__dir__(self)
                if not isinstance(vars(Index).get(name), Elsewhere)]

    def __contains__(self, id: object) -> bool:
        return self._live.holds(id)

    def __repr__(self) -> str:
        if self.closed:
            return "<farann.Index: closed>"
        return (f"<farann.Index: {len(self):,} rows, dim={self.dim}, metric={self.metric!r}, "
                f"isa={self.isa!r}>")

    def _repr_html_(self) -> str:
        stats = {} if self.closed else self.stats()
        return html_table((), ((name, value) for name, value in stats.items()
                               if not isinstance(value, dict)), repr(self))

    def stats(self) -> dict[str, Any]:
        """What the index holds and what the last search did.

        Returns
        -------
        dict
            `rows`, `removed`, `added` (since the last build), `dim`, `metric`, `dtype`, `codes`,
            `isa`, `threads`, `built`, `keep_vectors`; `codes_recall`, without vectors the recall@10
            of a scan of all codes, measured on sample queries when they were made (None: it
            wasn't); `bytes` by part; `directions`, how many leading directions the PCA filter goes
            along (0: none, all coordinates are scanned); `axes`, along how many axes rows are coded
            (0: in all coordinates); `last_search`, the fields of `SearchStats`.
        """
        return self._live.stats()

    # ---- changes ----

    def add(self, rows: npt.ArrayLike, ids: npt.ArrayLike | None = None, *,
            groups: npt.ArrayLike | None = None, replace: bool = False,
            copy: bool = True) -> npt.NDArray[Any]:
        """Append rows, or replace those that have their ids; the index keeps copies of its own
        unless told otherwise.

        An index that was built takes rows without building again, until they are more than those
        that were there: then it is laid out anew before `add` returns.

        Parameters
        ----------
        rows : array_like (n, dim)
            Real numbers of any type and any strides: arrays, tensors on the CPU, frames, or a
            column of arrays or lists of pandas, polars or pyarrow. To float32 they are rounded, to
            another `dtype` of the index converted only if that changes none. uint16: bits of
            bfloat16.
        ids : array_like of int or str (n,), optional
            Ids, each once: integers of 0 or more, or strings of at most 65,535 bytes of UTF-8, not
            both in one index. None may be in use, unless `replace` is true. By default counting
            goes on after the largest integer that was ever used, beginning with 0.
        groups : array_like of int or str (n,), optional
            For each row the label of its group, such as its class: what `groups` and
            `outside_groups` of searches name. Integers, negative ones too, or strings, not both in
            one index; and all rows have one, or none has. A replaced row's label is the new one.
        replace : bool
            True puts rows in the place of those with the same ids, and adds those whose ids are
            new, in one change: a search beside it finds the old or the new row of each id. Replaced
            rows come last in `ids`. Among equal scores their place stays the same: it follows
            from the id.
        copy : bool
            False lets the rows stay where they are, for example in a mapped file that is larger
            than memory, or in a column of lists of a fixed size. They must be of the index's
            `dtype` in C order, its first rows, and must not change as long as it lives. Copied
            rows may change at any time: the copy is what is checked.

        Returns
        -------
        int64 or object (n,)
            The rows' ids, objects where they are strings.

        Raises
        ------
        ValueError, TypeError
            For a wrong dimension, NaN or infinity, numbers too large for float32, a zero vector
            under cosine, a number that the index's `dtype` doesn't hold, ids that are negative,
            repeated or, without `replace`, in use, `replace` without ids, groups of some rows
            alone, or where ``copy=False`` can't be. The index is unchanged then.

        Examples
        --------
        >>> index = farann.Index(dim=2)
        >>> index.add([[1, 2], [3, 4]], ids=[70, 30])
        array([70, 30])
        >>> index.add([[5, 6], [7, 8]], ids=[30, 90], replace=True)
        array([30, 90])
        >>> index.reconstruct(30)
        array([5., 6.], dtype=float32)

        Rows of a file that need not fit in memory:

        >>> index.add(np.load("items.npy", mmap_mode="r"), copy=False)  # doctest: +SKIP
        """
        return changes.add(self._live, rows, ids, groups, replace, copy)

    def reserve(self, n: int) -> None:
        """Make room for n more rows, so that adding them copies no row that is there already.

        Parameters
        ----------
        n : int
            Rows to come. Room that is left over takes no memory on most systems.

        Raises
        ------
        ValueError
            If the dimension of the rows isn't known yet.
        MemoryError
            If there isn't room for so many. The index is unchanged then.

        Notes
        -----
        Rows that are streamed into an index take up to twice their memory for a moment without it.
        `build` leaves rows where they are, and the room behind them, as long as none was removed.

        Examples
        --------
        >>> index = farann.Index(dim=2)
        >>> index.reserve(1000)
        >>> index.add([[1, 2], [3, 4]])
        array([0, 1])
        """
        changes.reserve(self._live, n)

    def remove(self, ids: Ids) -> None:
        """Remove rows; their space comes back with the next `build`.

        Parameters
        ----------
        ids : int, str or array_like of these (n,)

        Raises
        ------
        KeyError
            If an id is not in the index; nothing is removed then.
        """
        changes.remove(self._live, ids)

    def build(self, queries: npt.ArrayLike | None = None, *, tune: Iterable[int] = (),
              nearest: bool = False, progress: Progress = False) -> Index:
        """Lay the rows out for searching; the first search does so if nobody did.

        Drops the space of removed rows, merges those added since the last build, and freezes
        the center that rows are measured from. Answers don't depend on it, only speed does.

        With ``keep_vectors=False`` the first build drops the float32 rows. Later ones code what
        was added with the center of the first, and leave older codes as they are.

        Parameters
        ----------
        queries : array_like (n, dim), optional
            A sample of real queries, some thousands if there are that many; of use to indexes with
            codes or partitions. By default rows serve as a sample, which is worse where queries are
            of another kind, such as users of a recommender.
        tune : iterable of int, optional
            For which k to measure what ``recall=`` takes, as `tune` does, so that no search has to.
            Each k that was tuned before is tuned for the new layout without being named.
        nearest : bool
            Lay out and tune for `search_nearest`. Both searches still work.
        progress : bool or callable
            Show one bar over all steps, and how long they may still take; or call a function with
            the name of a step, how much of it is done, from 0 on, and of how much. Threads of the
            build call it, one at a time. It may search the index, but a change of it would wait for
            the build for ever. If it raises an error, the build ends, and nothing has changed.

        Returns
        -------
        Index
            The index itself.

        Notes
        -----
        Searches go on meanwhile, on the old layout; both are in memory until the new one is done.
        Other changes wait. A build that is interrupted changes nothing.
        """
        changes.build(self._live, queries, tune, nearest, progress)
        return self

    def tune(self, queries: npt.ArrayLike | None = None, k: int = 10,
             recall: float = 0.95, *, nearest: bool = False,
             progress: Progress = False) -> Tuning:
        """Measure which effort reaches which recall, for ``search_furthest(..., recall=)``.

        Parameters
        ----------
        queries : array_like (n, dim), optional
            A sample of real queries, some thousands if there are that many. By default those given
            to `build` that it did not use itself, else a sample of the rows. Searches with
            ``recall=`` answer queries unlike these exactly.
        k : int
            How many rows searches will ask for; each k is tuned for itself.
        recall : float
            The recall whose effort the printed table names. All others can be asked for as well.
        nearest : bool
            Measure for ``search_nearest(..., recall=)``.
        progress : bool or callable
            Show a progress bar, or call a function, as in `build`.

        Returns
        -------
        Tuning
            Recall and estimated cost by effort; `str` makes a table of it, `plot` a plot.

        Raises
        ------
        ValueError
            If the index is empty, or for arguments that searches would refuse.

        Notes
        -----
        The next `build` measures anew, with the same queries. Tables are kept in files.

        Examples
        --------
        >>> rows = np.random.default_rng(0).standard_normal((5000, 8))
        >>> index = farann.Index()
        >>> ids = index.add(rows)
        >>> index.tune(k=5).recalls[-1]
        1.0
        """
        return changes.tune(self._live, queries, k, recall, nearest, progress)

    # ---- searches ----

    def search_furthest(self, queries: npt.ArrayLike | None = None, k: int = 10, *,
                        ids: Ids | None = None, recall: float | None = None,
                        epsilon: float | None = None, budget: int | None = None,
                        seconds: float | None = None, exclude: Any = None, allowed: Any = None,
                        groups: Any = None, outside_groups: Any = None,
                        threads: int | None = None, return_keys: bool = False,
                        return_stats: bool = False, **unknown: UnknownKeyword) -> Hits:
        """The k rows furthest from each query.

        Parameters
        ----------
        queries : array_like (n_queries, dim) or (dim,)
            Converted to float32, as rows are.
        k : int
            How many rows to find, at least 1. k beyond the number of rows pads; a call may pad to
            at most 2^24 results, queries times k.
        ids : int, str or array_like of these (n_queries,), optional
            In the place of `queries`: rows by their ids, each of which is left out of its own
            answer, beside those in `exclude`. Of an index without vectors the query is what the
            codes of the row say, as from `reconstruct`.
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
            Scan at most this many rows of the last build, the most promising, rounded up to a
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
        groups : optional
            Find rows of one group alone: a label, or for each query its own, (n_queries,), of the
            `groups` that `add` was given. No row is found in a group that there isn't.
        outside_groups : optional
            Find rows of all other groups: labels as for `groups`. At most one of both is given.
        threads : int, optional
            In the place of the index's own number; -1 for as many as there are CPUs.
        return_keys : bool
            Also give `Hits.keys`, the float64 numbers that rows are ordered by, for
            `farann.merge`. An index without vectors has none.
        return_stats : bool
            Also give `stats`, what the search did: rows scored at each level, and bytes read.

        Returns
        -------
        Hits
            `ids` int64 and `scores` float32, (n_queries, k), furthest first; (k,) for a single
            query. Distances under l2, dot products and cosines otherwise, infinite where float32
            can't hold them. Where there are fewer than k rows, the id is -1 and the score NaN.
            Where ids are strings, `ids` are objects, and None.

        Raises
        ------
        ValueError, TypeError
            For a wrong dimension, NaN or infinity, a zero query under cosine, k < 1 or far beyond
            the number of rows, a filter of the wrong shape, groups that the index hasn't, more than
            one of recall, epsilon, budget and seconds, or none of recall, budget and seconds for an
            index without vectors; and for both or neither of queries and ids.
        KeyError
            If one of `ids` is not in the index.

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
        Hits(ids=[[ 2,  0, -1]], scores=[[-1.,  1., nan]])

        Rows unlike row 1:

        >>> index.search_furthest(ids=1, k=2).ids
        array([0, 2])
        """
        if unknown:
            raise unexpected(Index.search_furthest, unknown)
        return ask.furthest(self._live, queries, k, ids, recall, epsilon, budget, seconds, exclude,
                            allowed, groups, outside_groups, threads, return_keys, return_stats)

    def search_nearest(self, queries: npt.ArrayLike | None = None, k: int = 10, *,
                       ids: Ids | None = None, beyond: npt.ArrayLike | None = None,
                       recall: float | None = None, epsilon: float | None = None,
                       budget: int | None = None, seconds: float | None = None,
                       exclude: Any = None, allowed: Any = None, groups: Any = None,
                       outside_groups: Any = None, threads: int | None = None,
                       return_keys: bool = False, return_stats: bool = False,
                       **unknown: UnknownKeyword) -> Hits:
        """The k rows nearest to each query; all else as in `search_furthest`.

        Parameters
        ----------
        queries, k, ids, exclude, allowed, groups, outside_groups, threads, return_stats
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
        Hits(ids=[0, 1], scores=[1., 0.])

        The nearest row of another class, and one that is further than the furthest of the own:

        >>> index = farann.Index()
        >>> index.add([[0.0], [3.0], [2.0], [5.0]], groups=["cat", "cat", "dog", "dog"])
        array([0, 1, 2, 3])
        >>> index.search_nearest([0.0], k=1, outside_groups="cat").ids
        array([2])
        >>> furthest_cat = index.search_furthest([0.0], k=1, groups="cat").scores
        >>> index.search_nearest([0.0], k=1, outside_groups="cat", beyond=furthest_cat).ids
        array([3])
        """
        if unknown:
            raise unexpected(Index.search_nearest, unknown)
        return ask.nearest(self._live, queries, k, ids, (recall, epsilon, budget, seconds),
                           Filtering(exclude, allowed, groups, outside_groups), beyond, threads,
                           return_keys, return_stats)

    def search_beyond(self, queries: npt.ArrayLike | None = None,
                      radius: npt.ArrayLike | None = None, *, ids: Ids | None = None,
                      exclude: Any = None, allowed: Any = None, groups: Any = None,
                      outside_groups: Any = None, threads: int | None = None,
                      return_keys: bool = False, return_stats: bool = False,
                      **unknown: UnknownKeyword) -> RangeHits:
        """Every row further from a query than a radius.

        Parameters
        ----------
        radius : float, or array_like of float (n_queries,)
            One for all queries, or one for each. Rows at a greater distance are found; under dot
            and cosine, rows whose dot product or cosine is less. Compared in float64.
        queries, ids, exclude, allowed, groups, outside_groups, threads, return_keys, return_stats
            As in `search_furthest`.

        Returns
        -------
        RangeHits
            `offsets` int64 (n_queries + 1,), `ids` int64 and `scores` float32: query i found
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
        if unknown:
            raise unexpected(Index.search_beyond, unknown)
        return ask.in_range(self._live, queries, radius, ids,
                            Filtering(exclude, allowed, groups, outside_groups), threads,
                            return_keys, return_stats)

    def search_within(self, queries: npt.ArrayLike | None = None,
                      radius: npt.ArrayLike | None = None, *, ids: Ids | None = None,
                      exclude: Any = None, allowed: Any = None, groups: Any = None,
                      outside_groups: Any = None, threads: int | None = None,
                      return_keys: bool = False, return_stats: bool = False,
                      **unknown: UnknownKeyword) -> RangeHits:
        """Every row no further from a query than a radius: all that `search_beyond` leaves.

        Parameters
        ----------
        radius : float, or array_like of float (n_queries,)
            One for all queries, or one for each. Rows at this distance or less are found, at 0
            copies of the query; under dot and cosine, rows whose dot product or cosine is at least
            this. Compared in float64.
        queries, ids, exclude, allowed, groups, outside_groups, threads, return_keys, return_stats
            As in `search_nearest`.

        Returns
        -------
        RangeHits
            As from `search_beyond`, but nearest first.

        Examples
        --------
        >>> index = farann.Index()
        >>> index.add([[1.0], [2.0], [3.0]])
        array([0, 1, 2])
        >>> hits = index.search_within([[0.0], [3.0]], radius=1.0)
        >>> hits.offsets, hits.ids
        (array([0, 1, 3]), array([0, 2, 1]))
        """
        if unknown:
            raise unexpected(Index.search_within, unknown)
        return ask.in_range(self._live, queries, radius, ids,
                            Filtering(exclude, allowed, groups, outside_groups), threads,
                            return_keys, return_stats, nearest=True)

    # ---- sets, selections and pairs ----

    def search_furthest_from(self, sets: Any = None, k: int = 10, *, ids: Any = None,
                             recall: float | None = None, epsilon: float | None = None,
                             budget: int | None = None, seconds: float | None = None,
                             exclude: Any = None, allowed: Any = None, groups: Any = None,
                             outside_groups: Any = None, threads: int | None = None,
                             return_keys: bool = False, return_stats: bool = False,
                             **unknown: UnknownKeyword) -> Hits:
        """The k rows furthest from the nearest member of each set: unlike all of it.

        Parameters
        ----------
        sets : sequence of array_like (m_i, dim), or array (n, m, dim)
            For each set its vectors, at least one.
        ids : sequence of array_like of int or str (m_i,), optional
            In the place of `sets`: for each set rows by their ids, which it leaves out of its
            answer, beside those in `exclude`.
        recall : float, optional
            Taken for an exact search, which finds all.
        epsilon : float, optional
            No row that was left out is more than (1 + epsilon) times as far from its nearest member
            as the k-th found (l2), or better than its dot product or cosine by more than epsilon.
        k, budget, seconds, exclude, allowed, groups, outside_groups, threads, return_stats
            As in `search_furthest`, with sets for queries.
        return_keys : bool
            Also give `Hits.keys`, as in `search_furthest`. A row's key is its smallest key over the
            members, where under cosine keys are divided by the member's norm; not those of a set of
            one vector, which are those of `search_furthest`.

        Returns
        -------
        Hits
            `ids` int64 and `scores` float32, (n, k), furthest first: the distance to the nearest
            member, the largest dot product or the largest cosine. -1 and NaN where there are fewer
            rows.

        Raises
        ------
        ValueError, TypeError, KeyError
            As from `search_furthest`; also for an empty set, or an index without vectors.

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
        Hits(ids=[[1, 2]], scores=[[4., 2.]])
        """
        if unknown:
            raise unexpected(Index.search_furthest_from, unknown)
        return diverse.furthest_from(self._live, sets, k, ids, recall, epsilon, budget, seconds,
                                     Filtering(exclude, allowed, groups, outside_groups), threads,
                                     return_keys, return_stats)

    def search_contrast(self, likes: Any = None, dislikes: Any = None, k: int = 10, *,
                        like_ids: Any = None, dislike_ids: Any = None, weight: float = 1.0,
                        likes_by: Literal["mean", "best"] = "mean", recall: float | None = None,
                        epsilon: float | None = None, budget: int | None = None,
                        seconds: float | None = None, exclude: Any = None, allowed: Any = None,
                        groups: Any = None, outside_groups: Any = None, threads: int | None = None,
                        return_keys: bool = False, return_stats: bool = False,
                        **unknown: UnknownKeyword) -> Hits:
        """The k rows like some vectors and unlike others.

        A row scores ``sim(like, row) - weight * max(sim(dislike, row))`` over the dislikes, where
        sim is the dot product or the cosine.

        Parameters
        ----------
        likes : array_like (dim,) or (m, dim), optional
            The likes of one question; for a batch an array (n, m, dim), or a sequence of n arrays
            (m_i, dim), some of which may be empty.
        dislikes : array_like, optional
            As `likes`. A single set beside a batch is for all its questions. Without dislikes the
            answer is the nearest rows, without likes the rows furthest from all dislikes.
        like_ids, dislike_ids : int, str or array_like of these (m,), optional
            In the place of `likes` or `dislikes`: rows by their ids, which are left out of the
            answer, beside those in `exclude`; for a batch a sequence of n arrays (m_i,).
        weight : float
            How much dislikes count, from 0, not at all.
        likes_by : {"mean", "best"}
            Of several likes, whether the mean of ``sim(like, row)`` counts, or the largest. "best"
            takes a search for each like.
        recall : float, optional
            Taken for an exact search, which finds all.
        epsilon : float, optional
            No row that was left out scores more than epsilon above the k-th found.
        k, budget, seconds, exclude, allowed, groups, outside_groups, threads, return_stats
            As in `search_furthest`; with "best" the budget is that of each like.
        return_keys : bool
            Also give `Hits.keys`: scores in float64, for `farann.merge`.

        Returns
        -------
        Hits
            `ids` int64 and `scores` float32, (k,), or (n, k) for a batch, largest scores first. -1
            and NaN where there are fewer rows.

        Raises
        ------
        ValueError, TypeError, KeyError
            Under l2, for a question without likes and dislikes, vectors beside ids, a negative
            weight, or arguments that `search_furthest_from` refuses.

        Notes
        -----
        Exact: rows are ordered by the smallest product of the row, under cosine divided by its
        norm, with ``mean(likes) - weight * dislike`` over the dislikes, which are of length 1 under
        cosine; all in float64 in one fixed order, with ties going to the smaller id. That is the
        score above but for the last digits of float64.

        Examples
        --------
        >>> index = farann.Index(metric="cosine")
        >>> index.add([[1.0, 0.0], [0.8, 0.6], [0.8, -0.6], [0.0, 1.0]])
        array([0, 1, 2, 3])
        >>> index.search_contrast([1.0, 0.0], [0.0, 1.0], k=2).ids
        array([2, 0])
        >>> index.search_contrast(like_ids=0, dislike_ids=[3], k=2).ids
        array([2, 1])
        """
        if unknown:
            raise unexpected(Index.search_contrast, unknown)
        return diverse.contrast(
            self._live, (likes, like_ids), (dislikes, dislike_ids), k, weight, likes_by,
            (recall, epsilon, budget, seconds),
            Filtering(exclude, allowed, groups, outside_groups), threads, return_keys,
            return_stats)

    def search_mmr(self, queries: npt.ArrayLike | None = None, k: int = 10, *,
                   ids: Ids | None = None, diversity: float = 0.5, candidates: int | None = None,
                   exclude: Any = None, allowed: Any = None, groups: Any = None,
                   outside_groups: Any = None, threads: int | None = None,
                   **unknown: UnknownKeyword) -> Hits:
        """Rows that are like the query and unlike each other: maximal marginal relevance.

        The first is the most similar row. Each next one has the largest
        ``(1 - diversity) * sim(query, row) - diversity * max(sim(pick, row))`` over the picks
        before, where sim is the dot product or the cosine (Carbonell and Goldstein 1998).

        Parameters
        ----------
        diversity : float
            From 0, the most similar rows, to 1, rows unlike those found before.
        candidates : int, optional
            Choose among this many most similar rows alone, as other libraries do. By default among
            all rows.
        queries, k, ids, exclude, allowed, groups, outside_groups, threads
            As in `search_furthest`.

        Returns
        -------
        Hits
            In the order in which rows were chosen. A score is the value above; for the first row,
            without its second part.

        Raises
        ------
        ValueError, TypeError
            Under l2, for a diversity outside 0 to 1, or what `search_furthest_from` refuses.

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
        if unknown:
            raise unexpected(Index.search_mmr, unknown)
        return diverse.mmr(self._live, queries, k, ids, diversity, candidates,
                           Filtering(exclude, allowed, groups, outside_groups), threads)

    def select_diverse(self, k: int | None = None, *, start: Any = None, first: Any = None,
                       radius: float | None = None, per_group: int | None = None,
                       exclude: Any = None, allowed: Any = None, groups: Any = None,
                       outside_groups: Any = None, progress: Progress = False,
                       **unknown: UnknownKeyword) -> Selection:
        """Choose rows that cover all others: farthest-point sampling, or greedy k-center.

        Each pick is the row furthest from all picks before (Gonzalez 1985). Under l2 every row is
        then at most twice as far from its nearest pick as with the best possible choice of k rows.

        Parameters
        ----------
        k : int, optional
            How many rows to choose; fewer where the rows run out. May be left out with a `radius`
            or `per_group`.
        start : int or "centroid", optional
            The id of the first pick; by default "centroid", the row furthest from the mean of the
            rows that may be chosen, of their directions under cosine.
        first : array_like of int (m,), optional
            Ids of rows that were chosen before, such as an existing core set. They are not
            returned, and the first pick is the row furthest from them.
        radius : float, optional
            Stop as soon as every row is within this distance of a pick, or has at least this dot
            product or cosine with one.
        per_group : int, optional
            How many rows of each group to choose at most, of the `groups` that `add` was given;
            those in `first` count.
        exclude, allowed, groups, outside_groups : optional
            Which rows may be chosen: as in `filter`; `allowed` may be what that prepared.
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
            Without k, radius and per_group, for both start and first, ids that are not in the index
            or may not be chosen, `per_group` without groups, or an index without vectors.

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
        Selection(ids=[0, 2, 3], scores=[inf,  9.,  4.])
        """
        if unknown:
            raise unexpected(Index.select_diverse, unknown)
        return diverse.select(self._live, k, start, first, radius, per_group,
                              Filtering(exclude, allowed, groups, outside_groups), progress)

    def select_spaced(self, scores: npt.ArrayLike, *, radius: float | None = None,
                      k: int | None = None, per_group: int | None = None, exclude: Any = None,
                      allowed: Any = None, groups: Any = None, outside_groups: Any = None,
                      threads: int | None = None, progress: Progress = False,
                      **unknown: UnknownKeyword) -> Spaced:
        """The best-scored rows of which no two are nearer than a radius.

        Rows are considered from the highest score down, equal ones by id. One is chosen unless it
        is nearer than the radius to a row chosen before, or its group has enough rows.

        Parameters
        ----------
        scores : array_like (len(index),)
            What each row is worth, in the order of `ids`: real numbers, larger is better.
        radius : float, optional
            Rows at this distance or further go together; under dot and cosine, rows whose dot
            product or cosine is at most this. Compared in float64. By default the radius that
            leaves `k` rows.
        k : int, optional
            How many rows to choose at most; by default as many as there are.
        per_group : int, optional
            How many rows of each group to choose at most, of the `groups` that `add` was given.
        exclude, allowed, groups, outside_groups : optional
            Which rows may be chosen, as in `filter`.
        threads : int, optional
            In the place of the index's own number.
        progress : bool or callable
            Show a progress bar, or call a function, as in `build`.

        Returns
        -------
        Spaced
            `ids` and `scores` float64, (n,), best first, and the `radius`, None without one.

        Raises
        ------
        ValueError, TypeError
            Without radius, k and per_group, for NaN or a wrong shape of the scores, or an index
            without vectors, or for `per_group` without groups.

        Notes
        -----
        Where k is given without a radius, the one that is found leaves at least k rows, of which
        the first k are the answer, and another, at most 1/2048 of itself further, leaves fewer. A
        still larger one may leave k again, as a row that goes can make room for two. It is a number
        of float32, found by bisection, and the same on every machine. Where there are not k rows it
        is 0, or infinity under dot and cosine. The score of two rows is that of `search_within`
        with the later one as the query.

        Examples
        --------
        >>> index = farann.Index()
        >>> index.add([[0.0], [0.5], [3.0], [4.0]])
        array([0, 1, 2, 3])
        >>> index.select_spaced([0.9, 0.8, 0.7, 0.6], radius=1.0).ids
        array([0, 2, 3])
        >>> index.select_spaced([0.9, 0.8, 0.7, 0.6], k=2).radius
        4.0
        """
        if unknown:
            raise unexpected(Index.select_spaced, unknown)
        return diverse.select_spaced(self._live, scores, radius, k, per_group,
                                     Filtering(exclude, allowed, groups, outside_groups), threads,
                                     progress)

    def pairs_within(self, radius: float, *, limit: int = 10_000_000, exclude: Any = None,
                     allowed: Any = None, groups: Any = None, outside_groups: Any = None,
                     threads: int | None = None, progress: Progress = False,
                     **unknown: UnknownKeyword) -> Pairs:
        """All pairs of rows that are no further apart than a radius: near duplicates, for example.

        Parameters
        ----------
        radius : float
            Pairs at this distance or less are found, at 0 copies; under dot and cosine, pairs whose
            dot product or cosine is at least this. Compared in float64.
        limit : int
            The most pairs to find; a pair takes 20 bytes.
        exclude, allowed, groups, outside_groups : optional
            Which rows may be in pairs, as in `filter`.
        threads : int, optional
            In the place of the index's own number.
        progress : bool or callable
            Show a progress bar, or call a function, as in `build`.

        Returns
        -------
        Pairs
            `ids` (n_pairs, 2), the smaller one first, and `scores` float32 (n_pairs,): each pair
            once, in the order of the first ids; the pairs of one from the nearest on.

        Raises
        ------
        ValueError
            If there are more pairs than `limit`; it says how many were found, and among how many
            rows. Also for an index without vectors.

        Examples
        --------
        >>> index = farann.Index()
        >>> index.add([[0.0], [5.0], [0.25], [5.0]])
        array([0, 1, 2, 3])
        >>> index.pairs_within(0.5).ids
        array([[0, 2],
               [1, 3]])
        """
        if unknown:
            raise unexpected(Index.pairs_within, unknown)
        return diverse.pairs_within(self._live, radius, limit,
                                    Filtering(exclude, allowed, groups, outside_groups), threads,
                                    progress)

    def diameter(self, *, threads: int | None = None, progress: Progress = False) -> Diameter:
        """The two rows that are furthest from each other.

        Parameters
        ----------
        threads, progress : optional
            As in `search_furthest` and `build`. Progress ends before all rows were asked about.

        Returns
        -------
        Diameter
            `ids` int64 (2,), the smaller one first, and `score`, their distance; under dot and
            cosine the smallest dot product or cosine of two rows. -1 and NaN where there are fewer
            than two rows. Of pairs with the same float64 key those with the smallest ids; under
            cosine each row has a key for the other, and that of the pair is the larger one.

        Examples
        --------
        >>> index = farann.Index()
        >>> index.add([[0.0], [3.0], [-4.0]])
        array([0, 1, 2])
        >>> index.diameter()
        Diameter(ids=[1, 2], score=7.0)
        """
        return diverse.diameter(self._live, threads, progress)

    def eccentricities(self, *, threads: int | None = None,
                       progress: Progress = False) -> Float32Array:
        """Each row's distance to the row furthest from it.

        Parameters
        ----------
        threads, progress : optional
            As in `search_furthest` and `build`.

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
        return diverse.furthest_of_each(
            self._live, "eccentricities", 1, threads, progress)[0].scores[:, 0]

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
        threads, progress : optional
            As in `search_furthest` and `build`.

        Returns
        -------
        Hits, or scipy.sparse.csr_array (len(index), len(index))
            `ids` and `scores` (len(index), k), in the order of `ids`, as from `search_furthest`
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
        return diverse.furthest_graph(self._live, k, as_sparse, threads, progress)

    # ---- rows by their ids, filters ----

    def filter(self, *, exclude: Any = None, allowed: Any = None, groups: Any = None,
               outside_groups: Any = None, **unknown: UnknownKeyword) -> Filter:
        """Prepare which rows searches may find, for use in many of them.

        Parameters
        ----------
        exclude, allowed, groups, outside_groups : optional
            As in `search_furthest`, for all queries alike; `groups` and `outside_groups` may be
            several labels, (m,). A mask stands for the ids that it marks now. Rows that are added
            later may be found, unless `allowed` is given.

        Returns
        -------
        Filter
            For the argument ``allowed`` of searches of this index.

        Raises
        ------
        ValueError, TypeError
            Without arguments, for a filter of the wrong shape or type, or for groups where the
            index has none.

        Notes
        -----
        A search takes the filter without looking ids up or reading a mask, until the index
        changes. Answers are those that the same ids give when they are passed to the search.

        Examples
        --------
        >>> index = farann.Index()
        >>> index.add([[1.0], [2.0], [3.0]])
        array([0, 1, 2])
        >>> unseen = index.filter(exclude=[2])
        >>> index.search_furthest([0.0], k=1, allowed=unseen).ids
        array([1])
        >>> index.add([[9.0]])
        array([3])
        >>> index.search_furthest([0.0], k=1, allowed=unseen).ids
        array([3])
        """
        if unknown:
            raise unexpected(Index.filter, unknown)
        return Filter(self._live, Filtering(exclude, allowed, groups, outside_groups))

    def score(self, queries: npt.ArrayLike, ids: Ids, *,
              threads: int | None = None) -> Float32Array:
        """Scores of given rows for given queries.

        Parameters
        ----------
        queries : array_like (n_queries, dim) or (dim,)
        ids : array_like of int or str (n_ids,)
        threads : int, optional

        Returns
        -------
        float32 (n_queries, n_ids), or (n_ids,) for a single query
            The same numbers as a search gives; of rows that are there as codes alone about the
            same, as searches code the query as well.

        Raises
        ------
        KeyError
            If an id is not in the index.
        """
        return ask.score(self._live, queries, ids, threads)

    def reconstruct(self, ids: Ids) -> Float32Array:
        """The stored rows of some ids; of rows that are there as codes alone, what these say.

        Parameters
        ----------
        ids : int, str or array_like of these (n,)

        Returns
        -------
        float32 (n, dim), or (dim,) for a single id
            Decoded rows are approximate, and of length 1 under cosine.

        Raises
        ------
        KeyError
            If an id is not in the index.
        """
        return ask.reconstruct(self._live, ids)

    def groups(self, ids: Any = None) -> npt.NDArray[Any]:
        """Labels of the groups that rows are in, as `add` was given them.

        Parameters
        ----------
        ids : int, str or array_like of these (n,), optional
            By default all rows, in the order of `ids`.

        Returns
        -------
        int64 or object (n,), objects where labels are strings

        Raises
        ------
        KeyError
            If an id is not in the index.
        ValueError
            If the index has no groups.

        Examples
        --------
        >>> index = farann.Index()
        >>> index.add([[1.0], [2.0], [9.0]], groups=["cat", "cat", "dog"])
        array([0, 1, 2])
        >>> index.groups([2, 0])
        array(['dog', 'cat'], dtype=object)
        >>> index.search_furthest([0.0], k=1, groups="cat").ids
        array([1])
        """
        return ask.groups(self._live, ids)

    # ---- files ----

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the index to a file, which is replaced whole or not at all.

        Parameters
        ----------
        path : str or path-like

        Notes
        -----
        The file holds the index as it was when `save` was called; searches and changes go on.
        """
        from farann.io import container, index_file

        container.write_file(path, *index_file.sections_of(self._live))
        log().debug("saved %r to %s", self, os.fsdecode(path))

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, mmap: bool = False) -> Self:
        """Read an index from a file.

        Parameters
        ----------
        path : str or path-like
        mmap : bool
            Map the rows instead of reading them: they are read when a search needs them, and
            may be larger than memory. They are not checked then, but that codes have each row once
            is; ``farann info --verify`` does. `close`, or a ``with`` block, lets go of the file.
            Nobody may write to it in place meanwhile. Where it was shortened, the next search that
            touches what is gone ends the process by SIGBUS, which Python can't catch; where it was
            overwritten, answers are wrong or the process crashes. To replace the file, as `save`
            does, is safe.

        Raises
        ------
        FormatError
            If the file is no index, is truncated or altered, or of a newer version.
        """
        from farann.io import container

        content = container.read_file(path, mmap=mmap)
        try:
            index = cls._restored(*content, checked=not mmap)
        except FormatError as error:
            raise FormatError(f"{os.fsdecode(path)}: {error}") from None
        log().debug("loaded %r from %s%s", index, os.fsdecode(path), ", mapped" if mmap else "")
        return index

    def close(self) -> None:
        """Let go of the rows, and so of the file that they are mapped from.

        The file is unmapped when the last search that began before has ended, and the last filter
        and array of ids of the index is gone. Whatever is asked of a closed index is a ValueError;
        to close it again does nothing. ``with farann.Index.load(path, mmap=True) as index:`` closes
        it at the end of the block.
        """
        self._live.close()

    def __enter__(self) -> Self:
        self._live.store  # noqa: B018 - raises where it is closed
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 traceback: TracebackType | None) -> None:
        self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        from farann.io import container, index_file

        content = container.write_bytes(*index_file.sections_of(self._live))
        return _unpickled, (type(self), content, self._live.threads)

    @classmethod
    def _restored(cls, metadata: dict[str, Any], arrays: dict[str, npt.NDArray[Any]], *,
                  checked: bool) -> Self:
        from farann.io import index_file

        index = cls(**index_file.settings_of(metadata))
        store = index_file.store_of(metadata, arrays, index._live.spec, checked=checked)
        if store is not None:
            index._live.store = store
        return index


hint_at_methods(Index)


def _unpickled(kind: type[Index], content: bytes, threads: int | None) -> Index:
    from farann.io import container

    index = kind._restored(*container.read_bytes(content), checked=True)
    index._live.threads = threads
    return index
