"""The index: the public methods, each of which delegates to a module below.

Arguments are checked in `search.ask`, `search.changes` and `diverse.ask`; files are written and
read in `io.index_file`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import wraps
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self, cast, overload

import numpy as np
import numpy.typing as npt
from numpy import ndarray

from farann._types import (
    CodesName,
    Exclude,
    Float32Array,
    Ids,
    LabelsLike,
    Metric,
    Progress,
    Rng,
    Scale,
    Scores,
)
from farann.contract import FormatError, checks
from farann.contract.checks import as_float32
from farann.contract.index_spec import IndexSpec, check_codes, traits_of
from farann.contract.names import Elsewhere, Function, Hinted, hint_at_methods, hinted
from farann.contract.row_types import to_row_type
from farann.diverse import ask as diverse
from farann.results import Diameter, Hits, Pairs, RangeHits, Selection, Spaced, html_table
from farann.runtime.pool import default_isa
from farann.runtime.progress import log
from farann.search import ask, changes
from farann.search.filters import Allowed, Filter, Filtering
from farann.search.singles import MOST_ONE_BY_ONE
from farann.store.live import Live

if TYPE_CHECKING:
    from scipy.sparse import csr_array

    from farann.tuning.table import Tuning


def _beyond_defaults(options: dict[str, Any]) -> dict[str, Any]:
    """The options of a search by the cache without defaults and numbers of threads: searches that
    more threads would share aren't cached."""
    return {name: value for name, value in options.items()
            if value is not None and not (value is False and name.startswith("return_"))
            and not (name == "threads" and type(value) is int
                     and (value == -1 or 0 < value <= checks.MOST_THREADS))}


def _cached_first(again: Callable[..., Hits | None], *keywords: str,
                  ) -> Callable[[Function], Function]:
    """Answer queries by the cache before other arguments are looked at, where no others than some
    keywords are given: with all of them a single query takes a tenth longer."""
    some = frozenset(keywords)

    def decorate(search: Function) -> Function:
        in_full = hinted(search)

        @wraps(search)
        def call(index: Any, queries: Any = None, k: Any = 10, **options: Any) -> Hits:
            said = options if options.keys() <= some else _beyond_defaults(options)
            if type(queries) is ndarray and (said is options or said.keys() <= some) and (
                    queries.ndim != 2 or len(queries) <= MOST_ONE_BY_ONE
                    or (said.keys() <= {"recall", "return_stats"}
                        and (store := index._live.store) is not None
                        and (store.batches or store.mirror is not None))):
                hits = again(index._live, queries, k, **said)
                if hits is None and queries.dtype.kind in "fiu" and (
                        vectors := as_float32(queries)) is not queries:
                    hits = again(index._live, vectors, k, **said)
                if hits is not None:
                    return hits
            answer: Hits = in_full(index, queries, k, **options)
            return answer

        return cast(Function, call)

    return decorate


class Index(metaclass=Hinted):
    """An index for exact and approximate furthest-neighbor search.

    Parameters
    ----------
    dim : int, optional
        Dimension of the rows, at most 2^24; by default that of the first rows added.
    metric : {"l2", "dot", "cosine"}
        Furthest means the largest Euclidean distance, the smallest dot product, or the smallest
        cosine similarity. "euclidean", "ip", "inner_product" and "cos" are other names of these.
    dtype : {"float32", "float16", "bfloat16", "uint8", "int8"}, or such a numpy dtype
        Type of the stored rows, over which answers are exact. `add` takes rows of another type only
        if that changes no number.
    codes : {"int8", "int4", "float32"}
        Rough scores before the exact pass: 8-bit codes (a quarter to a third more memory, several
        times the speed), 4-bit codes (half of that memory, weaker bounds), or float32 rows. Answers
        are the same.
    cells : int or "auto", optional
        Number of partitions (IVF lists), the best of which approximate searches probe. "auto" makes
        them if `build` finds, by counted work, that they save work.
    keep_vectors : bool
        False: `build` drops the float32 rows and keeps codes alone, in a quarter or an eighth of
        the memory. Scores are then approximate, and searches need ``recall=``, ``budget=`` or
        ``seconds=``.
    seed : int
        Random seed of `build`, below 2^128.
    rng : int or numpy.random.Generator, BitGenerator or SeedSequence, optional
        In place of `seed` (SPEC 7): an integer is the seed, a generator draws one.
    threads : int, optional
        Threads of searches and of `build`, at most 4096; by default, or -1, one for each CPU. They
        share the queries of a batch, or the rows where few queries read most of them.

    Notes
    -----
    While vectors are kept, answers are those of brute force in float64 over the stored rows, ids
    and order, on every instruction set and with any number of threads. Of equal scores the smaller
    id comes first. Any number of threads may search while others change the index: a search sees it
    before or after a change. A change that fails or is interrupted leaves the index as it was.

    Wrong arguments, such as vectors of another dimension or with NaN, are a ValueError or TypeError
    that says what was expected; unknown ids are a KeyError.

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

    @hinted
    def __init__(self, dim: int | None = None, metric: Metric = "l2", *, dtype: Any = "float32",
                 codes: CodesName = "int8", cells: int | str | None = None,
                 keep_vectors: bool = True, seed: int = 0, rng: Rng = None,
                 threads: int | None = None) -> None:
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
        """Type of the stored rows: "float32", "float16", "bfloat16", "uint8" or "int8"."""
        return self._live.spec.row_type

    @property
    def threads(self) -> int:
        """Number of threads of a batch."""
        return self._live.n_threads

    @property
    def isa(self) -> str:
        """The instruction-set level in use; see `isa_levels`."""
        return self._live.isa

    @property
    def ids(self) -> npt.NDArray[Any]:
        """Ids of all rows, (len(index),), in the order of boolean masks: int64, or objects if ids
        are strings."""
        store = self._live.store
        return np.empty(0, np.int64) if store is None else store.named(store.live_ids())

    def __len__(self) -> int:
        store = self._live.store
        return 0 if store is None else len(store)

    def __bool__(self) -> bool:
        """True, also for an empty index, so that ``index or other`` doesn't lose it."""
        return True

    def __dir__(self) -> list[str]:
        return [name for name in object.__dir__(self)
                if not isinstance(vars(Index).get(name), Elsewhere)]

    def __contains__(self, id: object) -> bool:
        return self._live.holds(id)

    def __iter__(self) -> Iterator[int | str]:
        """Iterate over the ids, in the order of `ids`."""
        return iter(self.ids.tolist())

    def __getitem__(self, ids: Ids) -> Float32Array:
        """The rows of some ids; see `reconstruct`."""
        return self.reconstruct(ids)

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
        """Contents of the index, and counts of the last search.

        Returns
        -------
        dict
            `rows`, `removed`, `added` (since the last build), `dim`, `metric`, `dtype`, `codes`,
            `isa`, `threads`, `built`, `keep_vectors`; `codes_recall`, without vectors the recall@10
            of a scan of all codes, measured by the first build, or None; `bytes` by part;
            `directions` of the PCA filter and `axes` along which rows are coded, 0 for none;
            `last_search`, a `SearchStats`.
        """
        return self._live.stats()

    # ---- changes ----

    @hinted
    def add(self, rows: npt.ArrayLike, ids: npt.ArrayLike | None = None, *,
            groups: npt.ArrayLike | None = None, replace: bool = False,
            copy: bool = True) -> npt.NDArray[Any]:
        """Add rows, or replace rows with the same ids.

        Once more rows were added since the last build than it had, `add` builds before it returns.

        Parameters
        ----------
        rows : array_like (n, dim)
            Real numbers of any type and any strides: arrays, tensors on the CPU, frames, or a
            column of lists of pandas, polars or pyarrow. They are rounded to float32; conversion to
            another `dtype` must change no number. uint16: bits of bfloat16.
        ids : array_like of int or str (n,), optional
            Ids, each once: integers of 0 or more, or strings of at most 65,535 bytes of UTF-8, not
            both in one index. By default integers continue after the largest ever used, from 0.
        groups : array_like of int or str (n,), optional
            The label of each row's group, such as its class: integers or strings, not both in one
            index. All rows have a label, or none has.
        replace : bool
            True replaces rows with the same ids and adds others, in one change. Replaced rows come
            last in `ids`; among equal scores an id keeps its place.
        copy : bool
            False keeps the rows where they are, such as in a mapped file. They must be the first
            rows of the index, of its `dtype`, in C order, and must not change.

        Returns
        -------
        int64 or object (n,)
            The rows' ids, objects where they are strings.

        Raises
        ------
        ValueError, TypeError
            For a wrong dimension, NaN, infinity or numbers too large for float32, a zero vector
            under cosine, a number that `dtype` doesn't hold, ids that are negative, repeated or,
            without `replace`, in use, groups for some rows only, or rows that need a copy with
            ``copy=False``.

        Examples
        --------
        >>> index = farann.Index(dim=2)
        >>> index.add([[1, 2], [3, 4]], ids=[70, 30])
        array([70, 30])
        >>> index.add([[5, 6], [7, 8]], ids=[30, 90], replace=True)
        array([30, 90])
        >>> index.reconstruct(30)
        array([5., 6.], dtype=float32)
        >>> index.add(np.load("items.npy", mmap_mode="r"), copy=False)  # doctest: +SKIP
        """
        return changes.add(self._live, rows, ids, groups, replace, copy)

    def reserve(self, n: int) -> None:
        """Allocate memory for n more rows, so that adding them copies no earlier row.

        Streamed rows otherwise take up to twice their memory for a moment. Unused room takes no
        memory on most systems; `build` keeps it if no row was removed. Unchanged index: ValueError
        if the dimension isn't known yet, MemoryError if there isn't enough memory.

        Parameters
        ----------
        n : int

        Examples
        --------
        >>> index = farann.Index(dim=2)
        >>> index.reserve(1000)
        """
        changes.reserve(self._live, n)

    def remove(self, ids: Ids) -> None:
        """Remove rows; their space comes back with the next `build`.

        Parameters
        ----------
        ids : int, str or array_like of these (n,)
            KeyError if one is not in the index; nothing is removed then.

        Examples
        --------
        >>> index = farann.Index()
        >>> ids = index.add([[1.0], [5.0]], ids=["a", "b"])
        >>> index.remove("a")
        >>> index.ids
        array(['b'], dtype=object)
        """
        changes.remove(self._live, ids)

    @hinted
    def build(self, queries: npt.ArrayLike | None = None, *, tune: Iterable[int] = (),
              nearest: bool = False, progress: Progress = False) -> Index:
        """Lay out the rows for searches; the first search does it if nobody did.

        Frees the memory of removed rows, merges those added since the last build, computes the
        center and makes codes. It changes the speed of exact searches, never their answers.
        Searches continue on the old layout; both are in memory until the new one is complete. With
        ``keep_vectors=False`` the first build drops the float32 rows; later ones keep its center
        and codes.

        Parameters
        ----------
        queries : array_like (n, dim), optional
            A sample of real queries, some thousands if you can. By default rows are the sample,
            which is worse if queries are distributed differently.
        tune : iterable of int, optional
            Values of k to tune for, as `tune` does. Every k that was tuned before is tuned again.
        nearest : bool
            Lay out and tune for `search_nearest`. Both searches still work.
        progress : bool or callable
            Show one bar with the time left; or call a function with the name of a step, the work
            done and the total. Threads of the build call it, one at a time. It may search the
            index, not change it. If it raises an error, nothing has changed.

        Returns
        -------
        Index
            The index itself.
        """
        changes.build(self._live, queries, tune, nearest, progress)
        return self

    @hinted
    def tune(self, queries: npt.ArrayLike | None = None, k: int = 10, recall: float = 0.95, *,
             nearest: bool = False, progress: Progress = False) -> Tuning:
        """Measure recall and cost by effort, for ``search_furthest(..., recall=)``.

        The next `build` measures again, with the same queries. Files keep tables.

        Parameters
        ----------
        queries : array_like (n, dim), optional
            A sample of real queries, some thousands if you can. By default those given to `build`
            that it did not use itself, else a sample of the rows. Queries unlike these get exact
            answers.
        k : int
            The k of the searches to come; each has a table of its own.
        recall : float
            The recall of the last line of the printed table. The table holds for all recalls.
        nearest : bool
            Measure for ``search_nearest(..., recall=)``.
        progress : bool or callable
            As in `build`.

        Returns
        -------
        Tuning
            Recall and estimated cost by effort; `str` makes a table, `plot` a plot.

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

    @_cached_first(ask.furthest_again, "recall", "allowed", "seconds", "return_stats", "per_group")
    def search_furthest(self, queries: npt.ArrayLike | None = None, k: int = 10, *,
                        ids: Ids | None = None, recall: float | None = None,
                        epsilon: float | None = None, budget: int | None = None,
                        seconds: float | None = None, exclude: Exclude | None = None,
                        allowed: Allowed | None = None, groups: LabelsLike | None = None,
                        outside_groups: LabelsLike | None = None, per_group: int | None = None,
                        threads: int | None = None, return_keys: bool = False,
                        return_stats: bool = False) -> Hits:
        """Find the k rows furthest from each query.

        Exact without recall, epsilon, budget and seconds. Without vectors scores are approximate.

        Parameters
        ----------
        queries : array_like (n_queries, dim) or (dim,)
            Converted to float32, as rows are.
        k : int
            Number of rows to find, at least 1. Answers are padded if there are fewer rows, up to
            2^24 results a call.
        ids : int, str or array_like of these (n_queries,), optional
            In place of `queries`: rows by their ids, each left out of its own answer. Without
            vectors the query is decoded from the row's codes.
        recall : float, optional
            Find this share of the true answer, on average over queries like the sample of `tune`;
            others get exact answers, and many of them a `RecallWarning`, once. If nothing was
            measured for this k, the search is exact and lends up to as much work to measuring.
            Without vectors it is the share of the answer of a scan of all codes.
        epsilon : float, optional
            A guarantee: no row left out is more than (1 + epsilon) times as far as the k-th found
            (l2), or better than its dot product or cosine by more than epsilon.
        budget : int, optional
            Scan at most this many rows of the last build, the most promising first, rounded up to a
            multiple of 16, and rows added since. All are scanned if filters leave fewer than k of
            these.
        seconds : float, optional
            Time limit of a query, n times as long for a batch of n: the best of the rows scanned by
            then, at least 1,000 or 4 k, and until k are found. The answer depends on the machine
            and its load.
        exclude : optional
            Ids to leave out: for all queries an int array (m,), a list or a set; or for each query
            an int array (n_queries, m) padded with -1, or a sequence of n_queries arrays, lists or
            sets. None is padding if ids are strings, and nothing for a query. Unknown ids are
            ignored.
        allowed : optional
            The only rows to find, for all queries: ids (m,), a boolean mask (len(index),) in the
            order of `ids`, or a `Filter` from `filter`.
        groups, outside_groups : optional
            Find rows of one group alone, or of all others: a label given to `add`, or one for each
            query, (n_queries,). An unknown group has no rows. At most one of both is given.
        per_group : int, optional
            Find at most this many rows of each group, best first; exact with any recall. The answer
            has `Hits.groups`.
        threads : int, optional
            In place of the index's own number; -1 for one thread a CPU.
        return_keys : bool
            Also return `Hits.keys`, the float64 numbers by which rows are ordered, for
            `farann.merge`.
        return_stats : bool
            Also return `Hits.stats`: rows scored at each level, bytes read, and other counts.

        Returns
        -------
        Hits
            `ids` int64 (objects if ids are strings) and `scores` float32, (n_queries, k), furthest
            first; (k,) for a single query. Distances under l2, dot products and cosines otherwise,
            infinite where float32 can't hold them. Padding is -1 (None) and NaN.

        Raises
        ------
        ValueError, TypeError
            For a wrong dimension, NaN or infinity, a zero query under cosine, k < 1, a filter of
            the wrong shape, groups that the index hasn't, more than one of recall, epsilon, budget
            and seconds, none of recall, budget and seconds without vectors; both or neither of
            queries and ids.
        KeyError
            If one of `ids` is not in the index.

        Examples
        --------
        >>> index = farann.Index(metric="dot")
        >>> ids = index.add([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]], groups=["cat", "dog", "dog"])
        >>> index.search_furthest([[1.0, 0.0]], k=3, exclude=[[1]])
        Hits(ids=[[ 2,  0, -1]], scores=[[-1.,  1., nan]])
        >>> index.search_furthest(ids=1, k=2).ids
        array([0, 2])
        >>> index.search_furthest([1.0, 0.0], k=2, per_group=1)
        Hits(ids=[2, 0], scores=[-1.,  1.], groups=['dog', 'cat'])
        """
        return ask.furthest(self._live, queries, k, ids, (recall, epsilon, budget, seconds),
                            Filtering(exclude, allowed, groups, outside_groups, per_group),
                            threads, return_keys, return_stats)

    @_cached_first(ask.nearest_again, "recall", "return_stats", "per_group")
    def search_nearest(self, queries: npt.ArrayLike | None = None, k: int = 10, *,
                       ids: Ids | None = None, beyond: npt.ArrayLike | None = None,
                       recall: float | None = None, epsilon: float | None = None,
                       budget: int | None = None, seconds: float | None = None,
                       exclude: Exclude | None = None, allowed: Allowed | None = None,
                       groups: LabelsLike | None = None, outside_groups: LabelsLike | None = None,
                       per_group: int | None = None, threads: int | None = None,
                       return_keys: bool = False, return_stats: bool = False) -> Hits:
        """Find the k rows nearest to each query.

        ``build(nearest=True)`` lays rows out for these searches.

        Parameters
        ----------
        queries, k, ids, exclude, allowed, groups, outside_groups, per_group, threads, return_stats
            As in `search_furthest`.
        recall, epsilon, budget, seconds : optional
            As in `search_furthest`; `recall` is measured by ``tune(nearest=True)`` or the first
            such search. `epsilon`: no row left out is nearer than the distance of the k-th found
            over (1 + epsilon) (l2), or better than its dot product or cosine by more than epsilon.
        beyond : float, or array_like of float (n_queries,), optional
            Find the nearest of the rows further than this radius. The search is then exact with
            `recall` and `epsilon`, and refuses `budget`, `seconds` and `per_group`.
        return_keys : bool
            Also return `Hits.keys`: those of `search_furthest` times -1, so that larger is better.

        Returns
        -------
        Hits
            Nearest first: the smallest distances, the largest dot products or cosines.

        Examples
        --------
        >>> index = farann.Index()
        >>> ids = index.add([[0.0], [3.0], [2.0], [5.0]], groups=["cat", "cat", "dog", "dog"])
        >>> index.search_nearest([0.0], k=2, recall=0.95)
        Hits(ids=[0, 2], scores=[0., 2.])

        The nearest row of another class that is further than the furthest of the own:

        >>> furthest_cat = index.search_furthest([0.0], k=1, groups="cat").scores
        >>> index.search_nearest([0.0], k=1, outside_groups="cat", beyond=furthest_cat).ids
        array([3])
        """
        return ask.nearest(self._live, queries, k, ids, (recall, epsilon, budget, seconds),
                           Filtering(exclude, allowed, groups, outside_groups, per_group), beyond,
                           threads, return_keys, return_stats)

    @hinted
    def search_beyond(self, queries: npt.ArrayLike | None = None, *, radius: npt.ArrayLike,
                      ids: Ids | None = None, exclude: Exclude | None = None,
                      allowed: Allowed | None = None, groups: LabelsLike | None = None,
                      outside_groups: LabelsLike | None = None, threads: int | None = None,
                      return_keys: bool = False, return_stats: bool = False) -> RangeHits:
        """Find all rows further from each query than a radius.

        Parameters
        ----------
        radius : float, or array_like of float (n_queries,)
            Rows at a greater distance are found; under dot and cosine, rows whose dot product or
            cosine is less. Compared in float64.
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
        >>> ids = index.add([[1.0], [2.0], [3.0]])
        >>> index.search_beyond([[0.0], [3.0]], radius=[2.5, 0.5]).ids
        array([2, 0, 1])
        """
        return ask.in_range(self._live, queries, radius, ids,
                            Filtering(exclude, allowed, groups, outside_groups), threads,
                            return_keys, return_stats)

    @hinted
    def search_within(self, queries: npt.ArrayLike | None = None, *, radius: npt.ArrayLike,
                      ids: Ids | None = None, exclude: Exclude | None = None,
                      allowed: Allowed | None = None, groups: LabelsLike | None = None,
                      outside_groups: LabelsLike | None = None, threads: int | None = None,
                      return_keys: bool = False, return_stats: bool = False) -> RangeHits:
        """Find all rows within a radius of each query: those that `search_beyond` leaves.

        Parameters
        ----------
        radius : float, or array_like of float (n_queries,)
            Rows at this distance or less are found; 0 finds copies. Under dot and cosine, rows
            whose dot product or cosine is at least this. Compared in float64.
        queries, ids, exclude, allowed, groups, outside_groups, threads, return_keys, return_stats
            As in `search_nearest`.

        Returns
        -------
        RangeHits
            As from `search_beyond`, but nearest first.

        Examples
        --------
        >>> index = farann.Index()
        >>> ids = index.add([[1.0], [2.0], [3.0]])
        >>> hits = index.search_within([[0.0], [3.0]], radius=1.0)
        >>> hits.offsets, hits.ids
        (array([0, 1, 3]), array([0, 2, 1]))
        """
        return ask.in_range(self._live, queries, radius, ids,
                            Filtering(exclude, allowed, groups, outside_groups), threads,
                            return_keys, return_stats, nearest=True)

    # ---- sets, selections and pairs ----

    @hinted
    def search_furthest_from(self, sets: Any = None, k: int = 10, *, ids: Any = None,
                             recall: float | None = None, epsilon: float | None = None,
                             budget: int | None = None, seconds: float | None = None,
                             exclude: Exclude | None = None, allowed: Allowed | None = None,
                             groups: LabelsLike | None = None,
                             outside_groups: LabelsLike | None = None, per_group: int | None = None,
                             threads: int | None = None, return_keys: bool = False,
                             return_stats: bool = False) -> Hits:
        """Find the k rows furthest from the nearest member of each set.

        Exact: rows are ordered by their smallest float64 key over the members, then by id. A set of
        one vector has the answer of `search_furthest`. Not for an index without vectors.

        Parameters
        ----------
        sets : sequence of array_like (m_i, dim), or array (n, m, dim)
            For each set its vectors, at least one.
        ids : sequence of array_like of int or str (m_i,), optional
            In place of `sets`: for each set rows by their ids, which are left out of its answer.
        recall : float, optional
            The search is exact with any recall.
        epsilon : float, optional
            As in `search_furthest`, for distances to the nearest member.
        k, budget, seconds, exclude, allowed, groups, outside_groups, per_group, threads
            As in `search_furthest`, with sets for queries, as is `return_stats`.
        return_keys : bool
            Also return `Hits.keys`: a row's smallest key over the members, under cosine divided by
            the member's norm; of a set of one vector as in `search_furthest`.

        Returns
        -------
        Hits
            `ids` int64 and `scores` float32, (n, k), furthest first: the distance to the nearest
            member, the largest dot product or the largest cosine. Padding is -1 and NaN.

        Examples
        --------
        >>> index = farann.Index()
        >>> ids = index.add([[0.0], [4.0], [7.0]])
        >>> index.search_furthest_from([[[0.0], [9.0]]], k=2)
        Hits(ids=[[1, 2]], scores=[[4., 2.]])
        """
        return diverse.furthest_from(self._live, sets, k, ids, (recall, epsilon, budget, seconds),
                                     Filtering(exclude, allowed, groups, outside_groups, per_group),
                                     threads, return_keys, return_stats)

    @hinted
    def search_contrast(self, likes: Any = None, dislikes: Any = None, k: int = 10, *,
                        like_ids: Any = None, dislike_ids: Any = None, weight: float = 0.2,
                        likes_by: Literal["mean", "best"] = "mean", recall: float | None = None,
                        epsilon: float | None = None, budget: int | None = None,
                        seconds: float | None = None, exclude: Exclude | None = None,
                        allowed: Allowed | None = None, groups: LabelsLike | None = None,
                        outside_groups: LabelsLike | None = None, per_group: int | None = None,
                        threads: int | None = None, return_keys: bool = False,
                        return_stats: bool = False) -> Hits:
        """Find the k rows like some vectors and unlike others.

        The score of a row is ``sim(like, row) - weight * max(sim(dislike, row))`` over the
        dislikes, where sim is the dot product or the cosine (not under l2). Exact: rows are ordered
        by the smallest product with ``mean(likes) - weight * dislike``, in float64 in one fixed
        order, then by id; that differs from the score in the last digits of float64 only.

        Parameters
        ----------
        likes : array_like (dim,) or (m, dim), optional
            For a batch an array (n, m, dim), or a sequence of n arrays (m_i, dim), some maybe
            empty.
        dislikes : array_like, optional
            As `likes`. A single set beside a batch of likes holds for all of them. Without dislikes
            the nearest rows are found, without likes the rows furthest from all dislikes.
        like_ids, dislike_ids : int, str or array_like of these (m,), optional
            In place of `likes` or `dislikes`: rows by their ids, which are left out of the answer;
            for a batch a sequence of n arrays (m_i,).
        weight : float
            Weight of dislikes, 0 or more. A large one loses right rows that are a little like a
            dislike.
        likes_by : {"mean", "best"}
            With several likes, use the mean of ``sim(like, row)``, or the largest, which takes a
            search (and a budget) for each like.
        recall : float, optional
            The search is exact with any recall.
        epsilon : float, optional
            No row that was left out scores more than epsilon above the k-th found.
        k, budget, seconds, exclude, allowed, groups, outside_groups, per_group, threads
            As in `search_furthest`, as is `return_stats`. With "best" the budget is that of each
            like, and hundreds of likes and dislikes are answered exactly in the time of comparing
            both with all rows, whatever `seconds` is.
        return_keys : bool
            Also return `Hits.keys`: scores in float64, for `farann.merge`.

        Returns
        -------
        Hits
            `ids` int64 and `scores` float32, (k,), or (n, k) for a batch, largest scores first.
            Padding is -1 and NaN.

        Examples
        --------
        >>> index = farann.Index(metric="cosine")
        >>> ids = index.add([[1.0, 0.0], [0.8, 0.6], [0.8, -0.6], [0.0, 1.0]])
        >>> index.search_contrast([1.0, 0.0], [0.0, 1.0], k=2).ids
        array([0, 2])
        >>> index.search_contrast(like_ids=0, dislike_ids=[3], k=2).ids
        array([2, 1])
        """
        filtering = Filtering(exclude, allowed, groups, outside_groups, per_group)
        return diverse.contrast(self._live, (likes, like_ids), (dislikes, dislike_ids), k, weight,
                                likes_by, (recall, epsilon, budget, seconds), filtering, threads,
                                return_keys, return_stats)

    @hinted
    def search_mmr(self, queries: npt.ArrayLike | None = None, k: int = 10, *,
                   ids: Ids | None = None, scores: Scores | None = None, scale: Scale = "unit",
                   diversity: float = 0.3, candidates: int | None = None,
                   exclude: Exclude | None = None, allowed: Allowed | None = None,
                   groups: LabelsLike | None = None, outside_groups: LabelsLike | None = None,
                   per_group: int | None = None, threads: int | None = None,
                   return_stats: bool = False) -> Hits:
        """Find rows like the query and unlike each other: maximal marginal relevance.

        The first is the most similar row. Each next one has the largest
        ``(1 - diversity) * sim(query, row) - diversity * max(sim(pick, row))`` over the picks
        before, where sim is the dot product or the cosine, not under l2 (Carbonell and Goldstein
        1998). Exact in float64; of equal values the smaller id comes first.

        Parameters
        ----------
        scores : dict from ids to numbers, or list of such dicts, optional
            In place of queries and of ``sim(query, row)``: a reranker's scores, larger is better,
            of the rows to choose among.
        scale : {"unit", "ranks", "as given"}
            How scores are brought to the scale of sim: the lowest of a query to 0 and the highest
            to 1; by their ranks, evenly from 0 to 1; or not at all.
        diversity : float
            From 0, the most similar rows, to 1, rows unlike those found before.
        candidates : int, optional
            Choose among this number of most similar rows; by default among all rows.
        queries, k, ids, exclude, allowed, groups, outside_groups, per_group, threads, return_stats
            As in `search_furthest`.

        Returns
        -------
        Hits
            In the order of choice. A score is the value above; the first lacks the second term.

        Examples
        --------
        >>> index = farann.Index(metric="cosine")
        >>> ids = index.add([[1.0, 0.1], [1.0, 0.0], [0.0, 1.0]])
        >>> index.search_mmr([1.0, 0.0], k=2, diversity=0.7).ids
        array([1, 2])
        >>> index.search_mmr(scores={0: 7.1, 1: 6.9, 2: 2.0}, k=2).ids
        array([0, 1])
        """
        return diverse.mmr(self._live, queries, k, ids, scores, scale, diversity, candidates,
                           Filtering(exclude, allowed, groups, outside_groups, per_group), threads,
                           return_stats)

    @hinted
    def select_diverse(self, k: int | None = None, *, start: Any = None, first: Any = None,
                       radius: float | None = None, per_group: int | None = None,
                       leave_out: float = 0.0, exclude: Exclude | None = None,
                       allowed: Allowed | None = None, groups: LabelsLike | None = None,
                       outside_groups: LabelsLike | None = None, threads: int | None = None,
                       progress: Progress = False) -> Selection:
        """Choose rows that cover all others: farthest-point sampling, or greedy k-center.

        Each pick is the row furthest from all picks before by float64 keys, then the smaller id
        (Gonzalez 1985). Under l2 every row is then at most twice as far from its nearest pick as
        with the best possible choice of k rows. The index need not be built, but must have vectors.
        Outliers come first, so rows to label chosen so often teach less than random ones: see
        `leave_out`.

        Parameters
        ----------
        k : int, optional
            Number of rows to choose; fewer if there are fewer. Optional with `radius` or
            `per_group`.
        start : int or "centroid", optional
            The id of the first pick; by default "centroid", the row furthest from the exact mean of
            the rows that may be chosen, of their directions under cosine (the smallest id if that
            is zero).
        first : array_like of int (m,), optional
            In place of `start`: ids of rows chosen before, which are not returned.
        radius : float, optional
            Stop when every row is within this distance of a pick, or has at least this dot product
            or cosine with one.
        per_group : int, optional
            Largest number of rows of each group of `add`; those in `first` count.
        leave_out : float, default 0.0
            The share, below 1, of the rows that may be chosen that are left out as the loneliest,
            such as 0.2 for rows to label. They are neither chosen nor covered.
        exclude, allowed, groups, outside_groups : optional
            Rows that may be chosen, as in `filter`; `allowed` may be a `Filter`.
        threads, progress : optional
            As in `search_furthest` and `build`. Threads share the passes over many rows.

        Returns
        -------
        Selection
            `ids` int64 and `scores` float32, (n,): the distance of each pick to the nearest pick
            before it, infinite for the first; under dot and cosine its largest dot product or
            cosine, minus infinity for the first.

        Notes
        -----
        The loneliest rows are those furthest from the nearest of 24 centers, which k-means finds in
        a sample of 1,024 rows (Chawla and Gionis 2013); of equal ones those of the smaller ids. The
        row `start`, given by its id, stays, and rows of `first` don't count. The twofold bound
        holds for the rows that stay (Charikar et al. 2001).

        Examples
        --------
        >>> index = farann.Index()
        >>> ids = index.add([[0.0], [1.0], [9.0], [5.0]])
        >>> index.select_diverse(3, start=0)
        Selection(ids=[0, 2, 3], scores=[inf,  9.,  4.])
        """
        filtering = Filtering(exclude, allowed, groups, outside_groups)
        return diverse.select(self._live, k, start, first, radius, per_group, leave_out, filtering,
                              threads, progress)

    @hinted
    def select_spaced(self, scores: npt.ArrayLike, k: int | None = None, *,
                      radius: float | None = None, weight: float | None = None,
                      per_group: int | None = None, exclude: Exclude | None = None,
                      allowed: Allowed | None = None, groups: LabelsLike | None = None,
                      outside_groups: LabelsLike | None = None, threads: int | None = None,
                      progress: Progress = False, return_dropped: bool = False) -> Spaced:
        """Choose the best-scored rows of which no two are nearer than a radius.

        Rows are considered from the highest score down, equal ones by id. A row is chosen unless it
        is nearer than the radius to a row chosen before, or its group has enough rows. The score of
        two rows is that of `search_within` with the later one as the query, compared in float64.

        Parameters
        ----------
        scores : array_like (len(index),)
            A score of each row, in the order of `ids`: float64 numbers, larger is better.
        k : int, optional
            Largest number of rows; by default there is no limit but `radius` or `per_group`.
        radius : float, optional
            Chosen rows are at this distance or further from each other; under dot and cosine their
            dot product or cosine is at most this. By default a float32 radius found by bisection,
            the same on every machine: it leaves at least k rows, and one larger by 1/2048 of it
            leaves fewer. It is 0 (dot, cosine: infinity) if there are fewer than k rows.
        weight : float, optional
            In place of a radius, under l2 and cosine: choose the radius by the sum of the scores,
            which are 0 or more, and this times the smallest distance of two rows (of unit vectors
            under cosine). That is at least 0.65 times the largest possible (GIST, Fahrbach et al.
            2025).
        per_group, exclude, allowed, groups, outside_groups, threads, progress : optional
            As in `select_diverse`.
        return_dropped : bool
            Tell which rows are too near to a better one, and to which: `dropped`, `keepers`.

        Returns
        -------
        Spaced
            `ids` and `scores` float64, (n,), best first, and the `radius`, None without one.

        Examples
        --------
        >>> index = farann.Index()
        >>> ids = index.add([[0.0], [0.5], [3.0], [4.0]])
        >>> spaced = index.select_spaced([0.9, 0.8, 0.7, 0.6], radius=1.0, return_dropped=True)
        >>> spaced.ids, spaced.dropped, spaced.keepers
        (array([0, 2, 3]), array([1]), array([0]))
        >>> index.select_spaced([0.9, 0.8, 0.7, 0.6], 3, weight=1.0).ids
        array([0, 3])
        """
        return diverse.select_spaced(self._live, scores, k, radius, weight, per_group,
                                     Filtering(exclude, allowed, groups, outside_groups), threads,
                                     progress, return_dropped)

    @hinted
    def pairs_within(self, radius: float, *, limit: int = 10_000_000,
                     exclude: Exclude | None = None, allowed: Allowed | None = None,
                     groups: LabelsLike | None = None, outside_groups: LabelsLike | None = None,
                     threads: int | None = None, progress: Progress = False) -> Pairs:
        """Find all pairs of rows within a radius of each other, such as near duplicates.

        Parameters
        ----------
        radius : float
            Pairs at this distance or less are found; 0 finds copies. Under dot and cosine, pairs
            whose dot product or cosine is at least this. Compared in float64.
        limit : int
            Largest number of pairs, of 20 bytes each; more are a ValueError that says how many were
            found.
        exclude, allowed, groups, outside_groups, threads, progress : optional
            As in `select_diverse`, for rows that may be in pairs.

        Returns
        -------
        Pairs
            `ids` (n_pairs, 2), the smaller one first, and `scores` float32 (n_pairs,): each pair
            once, in the order of the first ids, and those of one first id nearest first.

        Examples
        --------
        >>> index = farann.Index()
        >>> ids = index.add([[0.0], [5.0], [0.25], [5.0]])
        >>> index.pairs_within(0.5).ids
        array([[0, 2],
               [1, 3]])
        """
        filtering = Filtering(exclude, allowed, groups, outside_groups)
        return diverse.pairs_within(self._live, radius, limit, filtering, threads, progress)

    @hinted
    def diameter(self, *, exclude: Exclude | None = None, allowed: Allowed | None = None,
                 groups: LabelsLike | None = None, outside_groups: LabelsLike | None = None,
                 threads: int | None = None, progress: Progress = False) -> Diameter:
        """Find the two rows that are furthest from each other.

        Parameters
        ----------
        exclude, allowed, groups, outside_groups : optional
            Rows that may be in the pair, as in `filter`.
        threads, progress : optional
            As in `search_furthest` and `build`. Progress may end before all rows are searched for.

        Returns
        -------
        Diameter
            `ids` int64 (2,), the smaller one first, and `score`, their distance, or smallest dot
            product or cosine; -1 and NaN for fewer than two rows. Of pairs with equal float64 keys
            the one with the smallest ids; under cosine the larger of a pair's two keys counts.

        Examples
        --------
        >>> index = farann.Index()
        >>> ids = index.add([[0.0], [3.0], [-4.0]])
        >>> index.diameter()
        Diameter(ids=[1, 2], score=7.0)
        """
        return diverse.diameter(self._live, Filtering(exclude, allowed, groups, outside_groups),
                                threads, progress)

    @hinted
    def eccentricities(self, *, exclude: Exclude | None = None, allowed: Allowed | None = None,
                       groups: LabelsLike | None = None, outside_groups: LabelsLike | None = None,
                       threads: int | None = None, progress: Progress = False) -> Float32Array:
        """Compute each row's distance to the row furthest from it.

        Parameters
        ----------
        exclude, allowed, groups, outside_groups, threads, progress : optional
            As in `furthest_graph`, whose ``k=1`` names the other rows.

        Returns
        -------
        float32 (len(index),)
            In the order of `ids`: distances, or under dot and cosine the smallest dot product or
            cosine with another row. NaN where there is no other row.

        Examples
        --------
        >>> index = farann.Index()
        >>> ids = index.add([[0.0], [3.0], [-4.0]])
        >>> index.eccentricities()
        array([4., 7., 7.], dtype=float32)
        """
        return diverse.furthest_of_each(
            self._live, "eccentricities", 1, Filtering(exclude, allowed, groups, outside_groups),
            threads, progress)[0].scores[:, 0]

    @overload
    def furthest_graph(self, k: int = 10, *, as_sparse: Literal[False] = False,
                       exclude: Exclude | None = None, allowed: Allowed | None = None,
                       groups: LabelsLike | None = None, outside_groups: LabelsLike | None = None,
                       threads: int | None = None, progress: Progress = False) -> Hits: ...

    @overload
    def furthest_graph(self, k: int = 10, *, as_sparse: Literal[True],
                       exclude: Exclude | None = None, allowed: Allowed | None = None,
                       groups: LabelsLike | None = None, outside_groups: LabelsLike | None = None,
                       threads: int | None = None, progress: Progress = False) -> csr_array: ...

    @hinted
    def furthest_graph(self, k: int = 10, *, as_sparse: bool = False,
                       exclude: Exclude | None = None, allowed: Allowed | None = None,
                       groups: LabelsLike | None = None, outside_groups: LabelsLike | None = None,
                       threads: int | None = None, progress: Progress = False) -> Hits | csr_array:
        """Find each row's k furthest other rows.

        Under l2 a few outlying rows, hubs, are the furthest from nearly all others.

        Parameters
        ----------
        k : int
        as_sparse : bool
            Return a sparse matrix of scipy.
        exclude, allowed, groups, outside_groups : optional
            Rows that may be found, as in `search_furthest` with all rows as queries in the order of
            `ids`: ``groups=index.groups()`` finds rows of each row's own group.
        threads, progress : optional
            As in `search_furthest` and `build`.

        Returns
        -------
        Hits, or scipy.sparse.csr_array (len(index), len(index))
            `ids` and `scores` (len(index), k), in the order of `ids`. The matrix has scores as
            entries, also those of 0, rows and columns in the order of `ids`.

        Examples
        --------
        >>> index = farann.Index()
        >>> ids = index.add([[0.0], [3.0], [-4.0]])
        >>> index.furthest_graph(k=1).ids.ravel()
        array([2, 2, 1])
        """
        filtering = Filtering(exclude, allowed, groups, outside_groups)
        return diverse.furthest_graph(self._live, k, as_sparse, filtering, threads, progress)

    # ---- rows by their ids, filters ----

    @hinted
    def filter(self, *, exclude: Exclude | None = None, allowed: Allowed | None = None,
               groups: LabelsLike | None = None,
               outside_groups: LabelsLike | None = None) -> Filter:
        """Prepare a filter for many searches, which then look no ids up until the index changes.

        Parameters
        ----------
        exclude, allowed, groups, outside_groups : optional
            As in `search_furthest`, for all queries; `groups` and `outside_groups` may be several
            labels, (m,). A mask stands for the ids that it marks now. Rows added later may be
            found, unless `allowed` is given.

        Returns
        -------
        Filter
            For the argument ``allowed`` of searches of this index.

        Examples
        --------
        >>> index = farann.Index()
        >>> ids = index.add([[1.0], [2.0], [3.0]])
        >>> unseen = index.filter(exclude=[2])
        >>> index.search_furthest([0.0], k=1, allowed=unseen).ids
        array([1])
        """
        return Filter(self._live, Filtering(exclude, allowed, groups, outside_groups))

    @hinted
    def score(self, queries: npt.ArrayLike, ids: Ids, *,
              threads: int | None = None) -> Float32Array:
        """Compute the scores of given rows for given queries.

        Parameters
        ----------
        queries : array_like (n_queries, dim) or (dim,)
        ids : array_like of int or str (n_ids,)
            KeyError if one is not in the index.
        threads : int, optional

        Returns
        -------
        float32 (n_queries, n_ids), or (n_ids,) for a single query
            The scores that a search gives, in the order of `ids`. Without vectors they differ
            slightly, as searches code the query, too.

        Examples
        --------
        >>> index = farann.Index()
        >>> ids = index.add([[1.0], [5.0]], ids=["a", "b"])
        >>> index.score([2.0], ["b", "a"])
        array([3., 1.], dtype=float32)
        """
        return ask.score(self._live, queries, ids, threads)

    def reconstruct(self, ids: Ids) -> Float32Array:
        """Return the stored rows of some ids, decoded from codes if vectors were dropped.

        Parameters
        ----------
        ids : int, str or array_like of these (n,)
            KeyError if one is not in the index.

        Returns
        -------
        float32 (n, dim), or (dim,) for a single id
            Decoded rows are approximate, and of length 1 under cosine.

        Examples
        --------
        >>> index = farann.Index()
        >>> ids = index.add([[1.0], [5.0]], ids=["a", "b"])
        >>> index.reconstruct("b")
        array([5.], dtype=float32)
        """
        return ask.reconstruct(self._live, ids)

    def groups(self, ids: Any = None) -> npt.NDArray[Any]:
        """Return the labels of the groups of some rows.

        Parameters
        ----------
        ids : int, str or array_like of these (n,), optional
            By default all rows, in the order of `ids`. KeyError if one is not in the index.

        Returns
        -------
        int64 or object (n,), objects where labels are strings
            ValueError if the index has no groups.

        Examples
        --------
        >>> index = farann.Index()
        >>> ids = index.add([[1.0], [2.0], [9.0]], groups=["cat", "cat", "dog"])
        >>> index.groups([2, 0])
        array(['dog', 'cat'], dtype=object)
        """
        return ask.groups(self._live, ids)

    # ---- files ----

    def save(self, path: str | os.PathLike[str]) -> None:
        """Save the index, as of the call, to a file, which is replaced whole or not at all.

        Parameters
        ----------
        path : str or path-like
        """
        from farann.io import synced

        synced.save(self._live, path)
        log().debug("saved %r to %s", self, os.fsdecode(path))

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, mmap: bool = False) -> Self:
        """Load an index from a file.

        Parameters
        ----------
        path : str or path-like
        mmap : bool
            Map the rows instead of reading them: they may be larger than memory, and their
            checksums are not checked (``farann info --verify`` does that). `close`, or a ``with``
            block, releases the file. Nobody may write to it in place meanwhile: if it is shortened,
            SIGBUS may end the process; if overwritten, answers are wrong. Replacing it, as `save`
            does, is safe.

        Raises
        ------
        FormatError
            If the file is no index, is truncated or altered, or of another version.
        """
        return cls._loaded(path, mmap=mmap)[0]

    def sync(self, path: str | os.PathLike[str]) -> None:
        """Write to a file what changed since the index was loaded from it or synced to it.

        Changes are appended, at a cost of what changed. The first sync to another file, or after a
        `build`, replaces the file as `save` does, and so does one now and then, so that the file
        has at most twice the bytes that it needs. Once this returns all is on disk; after a crash
        or a power cut the file holds the index as it was after one of the syncs.

        Parameters
        ----------
        path : str or path-like

        Raises
        ------
        BlockingIOError
            If another index, in this process or another one, syncs to the file and wasn't closed.
        ValueError
            If the file was changed by others since the index was loaded or synced.

        Examples
        --------
        >>> import tempfile
        >>> path = tempfile.mkdtemp() + "/items.farann"
        >>> index = farann.Index()
        >>> ids = index.add([[0.0], [5.0]])
        >>> index.sync(path)
        >>> reader = farann.Index.load(path, mmap=True)
        >>> index.remove(1)
        >>> index.sync(path)
        >>> reader.reload()
        True
        >>> reader.ids
        array([0])
        """
        from farann.io import synced

        synced.sync(self._live, path, synced.NOTHING)

    def reload(self) -> bool:
        """Take over what others wrote to the file that the index was loaded from or synced to.

        Changes by `sync` are read at a cost of what changed; a file that was replaced is loaded
        anew, mapped if the old one was. Searches go on meanwhile.

        Returns
        -------
        bool
            Whether there was anything new.

        Raises
        ------
        ValueError
            If the index wasn't loaded from a file, or has changes of its own.
        FormatError
            If the file is damaged. The index stays as it was.
        """
        from farann.io import synced

        return synced.reload(self._live, type(self)._loaded)

    def close(self) -> None:
        """Release the rows, and the file that they are mapped from.

        The file is unmapped when the last running search has ended, and the last filter and array
        of ids is gone. Using a closed index is a ValueError; closing it again does nothing. A
        ``with`` block closes the index at its end.
        """
        self._live.close()

    def copy(self) -> Self:
        """Copy the index: neither sees later changes of the other, and they share memory that
        doesn't change.

        Examples
        --------
        >>> index = farann.Index()
        >>> ids = index.add([[1.0], [5.0]])
        >>> other = index.copy()
        >>> other.remove(0)
        >>> len(index), len(other)
        (2, 1)
        """
        from farann.io import index_file

        index = self._restored(*index_file.shared_sections_of(self._live), checked=False)
        index._live.threads = self._live.threads
        return index

    __copy__ = copy

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
    def _loaded(cls, path: str | os.PathLike[str], *, mmap: bool,
                read: Iterable[str] = ()) -> tuple[Self, list[Mapping[str, npt.NDArray[Any]]]]:
        """An index, and the sections of its file and of the frames behind; those of `read` are not
        mapped."""
        from farann.io import synced

        index, sections = synced.load(path, mmap, tuple(read), cls._restored)
        log().debug("loaded %r from %s%s", index, os.fsdecode(path), ", mapped" if mmap else "")
        return index, sections

    @classmethod
    def _restored(cls, metadata: dict[str, Any], arrays: dict[str, npt.NDArray[Any]], *,
                  checked: bool) -> Self:
        from farann.io import index_file

        settings = index_file.settings_of(metadata)
        try:
            index = cls(**settings)
        except (TypeError, ValueError) as error:
            raise FormatError(f"metadata: {error}") from None
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
