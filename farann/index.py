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


def _cached_first(again: Callable[..., Hits | None], *keywords: str,
                  ) -> Callable[[Function], Function]:
    """Answer queries by the cache before other arguments are looked at, where no others than some
    keywords are given: with all of them a single query takes a tenth longer."""
    some = frozenset(keywords)

    def decorate(search: Function) -> Function:
        in_full = hinted(search)

        @wraps(search)
        def call(index: Any, queries: Any = None, k: Any = 10, **options: Any) -> Hits:
            hits = None
            if type(queries) is ndarray and (not options or options.keys() <= some):
                if queries.ndim == 1 or queries.shape[:1] == (1,):
                    hits = again(index._live, queries, k, **options)
                elif queries.ndim == 2 and 0 < len(queries) <= MOST_ONE_BY_ONE:
                    hits = ask.one_by_one(again, index._live, queries, k, **options)
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
        Type of the stored rows. Answers are exact over these values, scored in float64. `add` takes
        rows of another type only if that changes no number.
    codes : {"int8", "int4", "float32"}
        Rough scores before the exact pass: by 8-bit codes (a quarter to a third more memory,
        several times the speed), by 4-bit codes (half of that memory, but weaker bounds), or by the
        float32 rows themselves. Answers are the same.
    cells : int or "auto", optional
        Number of partitions (IVF lists); approximate searches probe the best of them. "auto" makes
        partitions if `build` finds, by counted work, that they save work, and none of few rows. If
        they slow exact searches down, these get codes of their own. They improve 4-bit codes
        without vectors.
    keep_vectors : bool
        False: `build` drops the float32 rows and keeps the codes alone, in a quarter or an eighth
        of the memory. Scores are then approximate, without bias, and searches need ``recall=``,
        ``budget=`` or ``seconds=``. Dropped rows can't be restored.
    seed : int
        Random seed of `build`, below 2^128.
    rng : int or numpy.random.Generator, BitGenerator or SeedSequence, optional
        In place of `seed` (SPEC 7): an integer is the seed, a generator draws one.
    threads : int, optional
        Threads of a search and of `build`, at most 4096; by default, or -1, one for each CPU. They
        share a batch. If it has fewer queries than threads, and an exact search of these takes
        long, each thread searches a part of the rows.

    Notes
    -----
    While the vectors are kept, answers are exact: the ids and the order of brute force in float64
    over the stored rows, on every instruction set and with any number of threads. Of equal scores
    the smaller id comes first. Rows are first scored roughly, by codes or in float32, with a proven
    bound on the error, and every row that could belong to the answer is scored again in float64.

    Any number of threads may search while others add, remove or build: a search sees the index
    before or after a change, never between, and doesn't wait for it. A change that fails or is
    interrupted leaves the index as it was.

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
            of a scan of all codes on sample queries, measured by the first build (None: not
            measured); `bytes` by part; `directions`, the number of directions of the PCA filter
            (0: none, all coordinates are scanned); `axes`, the number of axes along which rows are
            coded (0: in all coordinates); `last_search`, the fields of `SearchStats`.
        """
        return self._live.stats()

    # ---- changes ----

    @hinted
    def add(self, rows: npt.ArrayLike, ids: npt.ArrayLike | None = None, *,
            groups: npt.ArrayLike | None = None, replace: bool = False,
            copy: bool = True) -> npt.NDArray[Any]:
        """Add rows, or replace rows with the same ids.

        A built index isn't built again for added rows until these are more than the others; then
        `add` builds before it returns.

        Parameters
        ----------
        rows : array_like (n, dim)
            Real numbers of any type and any strides: arrays, tensors on the CPU, frames, or a
            column of arrays or lists of pandas, polars or pyarrow. They are rounded to float32;
            conversion to another `dtype` of the index must change no number. uint16: bits of
            bfloat16.
        ids : array_like of int or str (n,), optional
            Ids, each once: integers of 0 or more, or strings of at most 65,535 bytes of UTF-8, not
            both in one index. None may be in use, unless `replace` is true. By default integers
            continue after the largest ever used, beginning with 0.
        groups : array_like of int or str (n,), optional
            The label of each row's group, such as its class, for `groups` and `outside_groups` of
            searches. Integers, also negative ones, or strings, not both in one index. All rows have
            a label, or none has. A replaced row gets the new label.
        replace : bool
            True replaces rows with the same ids, and adds rows whose ids are new, in one change: a
            search beside it finds the old or the new row of each id. Replaced rows come last in
            `ids`. Among equal scores an id keeps its place.
        copy : bool
            False keeps the rows where they are, for example in a mapped file that is larger than
            memory, or in a column of lists of a fixed size. They must be the first rows of the
            index, of its `dtype`, in C order, and must not change while it exists. With a copy the
            caller may change its array at any time.

        Returns
        -------
        int64 or object (n,)
            The rows' ids, objects where they are strings.

        Raises
        ------
        ValueError, TypeError
            For a wrong dimension, NaN or infinity, numbers too large for float32, a zero vector
            under cosine, a number that the index's `dtype` doesn't hold, ids that are negative,
            repeated or, without `replace`, in use, `replace` without ids, groups for some rows
            only, or rows that need a copy with ``copy=False``. The index is unchanged then.

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
        """Allocate memory for n more rows, so that adding them copies no earlier row.

        Parameters
        ----------
        n : int
            Number of rows to come. Unused room takes no memory on most systems.

        Raises
        ------
        ValueError
            If the dimension of the rows isn't known yet.
        MemoryError
            If there isn't enough memory. The index is unchanged then.

        Notes
        -----
        Without it, rows that are streamed into an index take up to twice their memory for a moment.
        `build` keeps rows where they are, and the room behind them, if none was removed.

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

        Examples
        --------
        >>> index = farann.Index()
        >>> index.add([[1.0], [5.0]], ids=["a", "b"])
        array(['a', 'b'], dtype=object)
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

        With ``keep_vectors=False`` the first build drops the float32 rows. Later ones code added
        rows with the center of the first, and keep older codes.

        Parameters
        ----------
        queries : array_like (n, dim), optional
            A sample of real queries, some thousands if you can, for indexes with codes or
            partitions. By default rows are the sample, which is worse if queries are distributed
            differently, such as users of a recommender.
        tune : iterable of int, optional
            Values of k to tune for, as `tune` does, so that no search has to. Every k that was
            tuned before is tuned again for the new layout.
        nearest : bool
            Lay out and tune for `search_nearest`. Both searches still work.
        progress : bool or callable
            Show one bar over all steps with the time left; or call a function with the name of a
            step, the work done, from 0 on, and the total. Threads of the build call it, one at a
            time. It may search the index; a change of the index from it would wait for ever. If it
            raises an error, the build ends, and nothing has changed.

        Returns
        -------
        Index
            The index itself.

        Notes
        -----
        Searches continue on the old layout; both are in memory until the new one is complete. Other
        changes wait. A build that is interrupted changes nothing.
        """
        changes.build(self._live, queries, tune, nearest, progress)
        return self

    @hinted
    def tune(self, queries: npt.ArrayLike | None = None, k: int = 10,
             recall: float = 0.95, *, nearest: bool = False,
             progress: Progress = False) -> Tuning:
        """Measure recall and cost by effort, for ``search_furthest(..., recall=)``.

        Parameters
        ----------
        queries : array_like (n, dim), optional
            A sample of real queries, some thousands if you can. By default those given to `build`
            that it did not use itself, else a sample of the rows. Searches with ``recall=`` answer
            queries unlike these exactly.
        k : int
            The k of the searches to come; each has a table of its own.
        recall : float
            The recall of the last line of the printed table. The table holds for all recalls.
        nearest : bool
            Measure for ``search_nearest(..., recall=)``.
        progress : bool or callable
            Show a progress bar, or call a function, as in `build`.

        Returns
        -------
        Tuning
            Recall and estimated cost by effort; `str` makes a table, `plot` a plot.

        Raises
        ------
        ValueError
            If the index is empty, or for arguments that searches refuse.

        Notes
        -----
        The next `build` measures again, with the same queries. Files keep tables.

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

    @_cached_first(ask.furthest_again, "recall", "allowed", "seconds", "threads",
                   "return_stats", "per_group")
    def search_furthest(self, queries: npt.ArrayLike | None = None, k: int = 10, *,
                        ids: Ids | None = None, recall: float | None = None,
                        epsilon: float | None = None, budget: int | None = None,
                        seconds: float | None = None, exclude: Exclude | None = None,
                        allowed: Allowed | None = None, groups: LabelsLike | None = None,
                        outside_groups: LabelsLike | None = None, per_group: int | None = None,
                        threads: int | None = None, return_keys: bool = False,
                        return_stats: bool = False) -> Hits:
        """Find the k rows furthest from each query.

        Parameters
        ----------
        queries : array_like (n_queries, dim) or (dim,)
            Converted to float32, as rows are.
        k : int
            Number of rows to find, at least 1. Answers are padded if there are fewer rows; a call
            may pad to at most 2^24 results, queries times k.
        ids : int, str or array_like of these (n_queries,), optional
            In place of `queries`: rows by their ids. Each is left out of its own answer, as are
            those of `exclude`. In an index without vectors the query is decoded from the codes of
            the row, as by `reconstruct`.
        recall : float, optional
            Find this share of the true answer, on average over queries like the sample of `tune`.
            If nothing was measured for this k, the search is exact, and lends up to as much work to
            measuring, until that is done. Queries unlike the sample are answered exactly; if there
            are many, a `RecallWarning` says so once. 1 is exact, and so is the search if no
            approximate setting reaches the recall at a lower cost. Without vectors it is the share
            of the answer of a scan of all codes.
        epsilon : float, optional
            A guarantee: no row that was left out is more than (1 + epsilon) times as far as the
            k-th found (l2), or better than its dot product or cosine by more than epsilon. It
            bounds distances, not recall.
        budget : int, optional
            Scan at most this many rows of the last build, the most promising first, rounded up to a
            multiple of 16. Rows added since are scanned as well. All rows are scanned if filters
            leave fewer than k of these, or if there are no codes.
        seconds : float, optional
            Time limit of a query; a batch of n queries has n times as long. The answer is the best
            of the rows scanned by then, with true scores. The clock is read after some million
            multiply-adds, and not before each query has met about a thousand rows, or 4 k, and
            found k; all rows are scanned if filters leave fewer. The answer depends on the machine
            and its load; that of `budget` doesn't.
        exclude : optional
            Ids to leave out: for all queries an int array (m,), a list or a set; or for each query
            its own, an int array (n_queries, m) padded with -1, or a sequence of n_queries arrays,
            lists or sets. None is padding if ids are strings. Unknown ids are ignored; an empty
            container, or None for a query, leaves nothing out.
        allowed : optional
            The only rows to find, for all queries: ids (m,), a boolean mask (len(index),) in the
            order of `ids`, or a `Filter` from `filter`.
        groups : optional
            Find rows of one group alone: a label given to `add`, or one for each query,
            (n_queries,). An unknown group has no rows; an empty list finds none.
        outside_groups : optional
            Find rows of all other groups: labels as for `groups`; none leave nothing out. At most
            one of both is given.
        per_group : int, optional
            Find at most this many rows of each group of `add`: rows are taken best first, unless
            their group has enough. The answer has `Hits.groups`. Such a search is exact with any
            recall.
        threads : int, optional
            In place of the index's own number; -1 for one thread a CPU.
        return_keys : bool
            Also return `Hits.keys`, the float64 numbers by which rows are ordered, for
            `farann.merge`. An index without vectors has none.
        return_stats : bool
            Also return `Hits.stats`: rows scored at each level, bytes read, and other counts.

        Returns
        -------
        Hits
            `ids` int64 and `scores` float32, (n_queries, k), furthest first; (k,) for a single
            query. Distances under l2, dot products and cosines otherwise, infinite where float32
            can't hold them. Padding has the id -1 and the score NaN. If ids are strings, `ids` are
            objects, and None in padding.

        Raises
        ------
        ValueError, TypeError
            For a wrong dimension, NaN or infinity, a zero query under cosine, k < 1 or far beyond
            the number of rows, a filter of the wrong shape, groups that the index hasn't,
            `per_group` without groups, more than one of recall, epsilon, budget and seconds, or
            none of recall, budget and seconds for an index without vectors; and for both or neither
            of queries and ids.
        KeyError
            If one of `ids` is not in the index.

        Notes
        -----
        Without recall, epsilon, budget and seconds the answer is exact; with `seconds` it is exact
        if the time suffices. In an index without vectors scores and their order are approximate.

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

        The best row of each group:

        >>> index = farann.Index()
        >>> index.add([[1.0], [7.0], [9.0], [8.0]], groups=["cat", "dog", "dog", "fox"])
        array([0, 1, 2, 3])
        >>> index.search_furthest([0.0], k=3, per_group=1)
        Hits(ids=[2, 3, 0], scores=[9., 8., 1.], groups=['dog', 'fox', 'cat'])
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

        Parameters
        ----------
        queries, k, ids, exclude, allowed, groups, outside_groups, per_group, threads, return_stats
            As in `search_furthest`.
        recall, epsilon, budget, seconds : optional
            As in `search_furthest`; `recall` is measured for the nearest rows, by
            ``tune(nearest=True)`` or the first such search. `epsilon`: no row that was left out is
            nearer than the distance of the k-th found over (1 + epsilon) (l2), or better than its
            dot product or cosine by more than epsilon.
        beyond : float, or array_like of float (n_queries,), optional
            Find the nearest of the rows that are further than this radius, one for all queries, or
            one for each. The search is then exact with `recall` and `epsilon`, and refuses
            `budget`, `seconds` and `per_group`.
        return_keys : bool
            Also return `Hits.keys`: those of `search_furthest` times -1, so that larger is better
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
            One for all queries, or one for each. Rows at this distance or less are found; 0 finds
            copies of the query. Under dot and cosine, rows whose dot product or cosine is at least
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

        Parameters
        ----------
        sets : sequence of array_like (m_i, dim), or array (n, m, dim)
            For each set its vectors, at least one.
        ids : sequence of array_like of int or str (m_i,), optional
            In place of `sets`: for each set rows by their ids. They are left out of its answer, as
            are those of `exclude`.
        recall : float, optional
            The search is exact with any recall.
        epsilon : float, optional
            No row that was left out is more than (1 + epsilon) times as far from its nearest member
            as the k-th found (l2), or better than its dot product or cosine by more than epsilon.
        k, budget, seconds, exclude, allowed, groups, outside_groups, per_group, threads
            As in `search_furthest`, with sets for queries, as is `return_stats`.
        return_keys : bool
            Also return `Hits.keys`, as in `search_furthest`. A row's key is its smallest key over
            the members, under cosine divided by the member's norm. The keys of a set of one vector
            are those of `search_furthest`.

        Returns
        -------
        Hits
            `ids` int64 and `scores` float32, (n, k), furthest first: the distance to the nearest
            member, the largest dot product or the largest cosine. Padding is -1 and NaN.

        Raises
        ------
        ValueError, TypeError, KeyError
            As from `search_furthest`; also for an empty set, or an index without vectors.

        Notes
        -----
        Exact, as `search_furthest`: rows are ordered by their smallest float64 key over the
        members, and by id if these are equal. A set of one vector has the answer of
        `search_furthest`.

        Examples
        --------
        >>> index = farann.Index()
        >>> index.add([[0.0], [4.0], [7.0]])
        array([0, 1, 2])
        >>> index.search_furthest_from([[[0.0], [9.0]]], k=2)
        Hits(ids=[[1, 2]], scores=[[4., 2.]])
        """
        return diverse.furthest_from(self._live, sets, k, ids, recall, epsilon, budget, seconds,
                                     Filtering(exclude, allowed, groups, outside_groups, per_group),
                                     threads, return_keys, return_stats)

    @hinted
    def search_contrast(self, likes: Any = None, dislikes: Any = None, k: int = 10, *,
                        like_ids: Any = None, dislike_ids: Any = None, weight: float = 1.0,
                        likes_by: Literal["mean", "best"] = "mean", recall: float | None = None,
                        epsilon: float | None = None, budget: int | None = None,
                        seconds: float | None = None, exclude: Exclude | None = None,
                        allowed: Allowed | None = None, groups: LabelsLike | None = None,
                        outside_groups: LabelsLike | None = None, per_group: int | None = None,
                        threads: int | None = None, return_keys: bool = False,
                        return_stats: bool = False) -> Hits:
        """Find the k rows like some vectors and unlike others.

        The score of a row is ``sim(like, row) - weight * max(sim(dislike, row))`` over the
        dislikes, where sim is the dot product or the cosine.

        Parameters
        ----------
        likes : array_like (dim,) or (m, dim), optional
            The likes of one search; for a batch an array (n, m, dim), or a sequence of n arrays
            (m_i, dim), some of which may be empty.
        dislikes : array_like, optional
            As `likes`. A single set beside a batch of likes holds for all of them. Without dislikes
            the nearest rows are found, without likes the rows furthest from all dislikes.
        like_ids, dislike_ids : int, str or array_like of these (m,), optional
            In place of `likes` or `dislikes`: rows by their ids, which are left out of the answer,
            as are those of `exclude`; for a batch a sequence of n arrays (m_i,).
        weight : float
            Weight of dislikes, 0 or more.
        likes_by : {"mean", "best"}
            With several likes, use the mean of ``sim(like, row)``, or the largest. "best" takes a
            search for each like.
        recall : float, optional
            The search is exact with any recall.
        epsilon : float, optional
            No row that was left out scores more than epsilon above the k-th found.
        k, budget, seconds, exclude, allowed, groups, outside_groups, per_group, threads
            As in `search_furthest`, as is `return_stats`; with "best" the budget is that of each
            like.
        return_keys : bool
            Also return `Hits.keys`: scores in float64, for `farann.merge`.

        Returns
        -------
        Hits
            `ids` int64 and `scores` float32, (k,), or (n, k) for a batch, largest scores first.
            Padding is -1 and NaN.

        Raises
        ------
        ValueError, TypeError, KeyError
            Under l2, for a search without likes and dislikes, vectors beside ids, a negative
            weight, or arguments that `search_furthest_from` refuses.

        Notes
        -----
        Exact: rows are ordered by the smallest product of the row, under cosine divided by its
        norm, with ``mean(likes) - weight * dislike`` over the dislikes, which are of length 1 under
        cosine; all in float64 in one fixed order, and by id if these are equal. That differs from
        the score above in the last digits of float64 only.

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
        return diverse.contrast(
            self._live, (likes, like_ids), (dislikes, dislike_ids), k, weight, likes_by,
            (recall, epsilon, budget, seconds),
            Filtering(exclude, allowed, groups, outside_groups, per_group), threads, return_keys,
            return_stats)

    @hinted
    def search_mmr(self, queries: npt.ArrayLike | None = None, k: int = 10, *,
                   ids: Ids | None = None, scores: Scores | None = None, scale: Scale = "unit",
                   diversity: float = 0.5, candidates: int | None = None,
                   exclude: Exclude | None = None, allowed: Allowed | None = None,
                   groups: LabelsLike | None = None, outside_groups: LabelsLike | None = None,
                   per_group: int | None = None, threads: int | None = None,
                   return_stats: bool = False) -> Hits:
        """Find rows like the query and unlike each other: maximal marginal relevance.

        The first is the most similar row. Each next one has the largest
        ``(1 - diversity) * sim(query, row) - diversity * max(sim(pick, row))`` over the picks
        before, where sim is the dot product or the cosine (Carbonell and Goldstein 1998).

        Parameters
        ----------
        scores : dict from ids to numbers, or list of such dicts, optional
            In place of queries: a reranker's scores, larger is better, of the rows to choose among.
            They take the place of ``sim(query, row)``.
        scale : {"unit", "ranks", "as given"}
            How scores come on the scale of sim, which goes to 1 under cosine: the lowest of a query
            to 0 and the highest to 1; by their ranks, evenly from 0 to 1; or not at all.
        diversity : float
            From 0, the most similar rows, to 1, rows unlike those found before.
        candidates : int, optional
            Choose among this number of most similar rows, as other libraries do; by default among
            all rows.
        queries, k, ids, exclude, allowed, groups, outside_groups, per_group, threads, return_stats
            As in `search_furthest`.

        Returns
        -------
        Hits
            In the order in which rows were chosen. A score is the value above; that of the first
            row lacks the second term.

        Raises
        ------
        ValueError, TypeError
            Under l2, for a diversity outside 0 to 1, or what `search_furthest_from` refuses.

        Notes
        -----
        Exact: values are computed in float64; of equal ones the smaller id comes first.

        Examples
        --------
        >>> index = farann.Index(metric="cosine")
        >>> index.add([[1.0, 0.1], [1.0, 0.0], [0.0, 1.0]])
        array([0, 1, 2])
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
                       leave_out: float = 0.0,
                       exclude: Exclude | None = None, allowed: Allowed | None = None,
                       groups: LabelsLike | None = None, outside_groups: LabelsLike | None = None,
                       threads: int | None = None, progress: Progress = False) -> Selection:
        """Choose rows that cover all others: farthest-point sampling, or greedy k-center.

        Each pick is the row furthest from all picks before (Gonzalez 1985). Under l2 every row is
        then at most twice as far from its nearest pick as with the best possible choice of k rows.
        It is bad at choosing typical rows: outliers come first, and rows to label chosen so often
        teach less than random ones. `leave_out` is for that.

        Parameters
        ----------
        k : int, optional
            Number of rows to choose; fewer if there are fewer. Optional with `radius` or
            `per_group`.
        start : int or "centroid", optional
            The id of the first pick; by default "centroid", the row furthest from the mean of the
            rows that may be chosen, of their directions under cosine.
        first : array_like of int (m,), optional
            Ids of rows chosen before, such as an existing core set. They are not returned, and the
            first pick is the row furthest from them.
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
        threads : int, optional
            In place of the index's own number. Threads share the passes over many rows: the mean,
            and scores for the first pick and for picks that rows behind haven't met. The search for
            the next pick among the rows that may be it runs on one.
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
            or may not be chosen, `per_group` without groups, a share that is none, or an index
            without vectors.

        Notes
        -----
        The loneliest rows are those furthest from the nearest of 24 centers, which k-means finds in
        a sample of 1,024 rows (Chawla and Gionis 2013); of equal ones those of the smaller ids.
        The row `start`, given by its id, is not left out, and rows of `first` don't count. The
        twofold bound holds for the rows that stay (k-center with outliers: Charikar et al. 2001).

        The order is that of greedy selection by float64 keys; of equal ones the smaller id comes
        first. The mean of the rows is computed exactly. If it has no direction under cosine, the
        selection begins with the smallest id. The index need not be built.

        Examples
        --------
        >>> index = farann.Index()
        >>> index.add([[0.0], [1.0], [9.0], [5.0]])
        array([0, 1, 2, 3])
        >>> index.select_diverse(3, start=0)
        Selection(ids=[0, 2, 3], scores=[inf,  9.,  4.])
        """
        return diverse.select(self._live, k, start, first, radius, per_group, leave_out,
                              Filtering(exclude, allowed, groups, outside_groups), threads,
                              progress)

    @hinted
    def select_spaced(self, scores: npt.ArrayLike, k: int | None = None, *,
                      radius: float | None = None, weight: float | None = None,
                      per_group: int | None = None, exclude: Exclude | None = None,
                      allowed: Allowed | None = None, groups: LabelsLike | None = None,
                      outside_groups: LabelsLike | None = None, threads: int | None = None,
                      progress: Progress = False, return_dropped: bool = False) -> Spaced:
        """Choose the best-scored rows of which no two are nearer than a radius.

        Rows are considered from the highest score down, equal ones by id. A row is chosen unless it
        is nearer than the radius to a row chosen before, or its group has enough rows.

        Parameters
        ----------
        scores : array_like (len(index),)
            A score of each row, in the order of `ids`: float64 numbers, larger is better.
        k : int, optional
            Largest number of rows; by default there is no limit.
        radius : float, optional
            Chosen rows are at this distance or further from each other; under dot and cosine their
            dot product or cosine is at most this. Compared in float64. By default the radius that
            leaves `k` rows.
        weight : float, optional
            In place of a radius, under l2 and cosine: choose the radius by the sum of the scores,
            which are 0 or more, and this times the smallest distance of two rows, for unit vectors
            under cosine. That is at least 0.65 times the largest possible (GIST, Fahrbach et al.
            2025).
        per_group, exclude, allowed, groups, outside_groups, threads, progress : optional
            As in `select_diverse`.
        return_dropped : bool
            Tell which rows are too near to a better one, and to which: `dropped`, `keepers`.

        Returns
        -------
        Spaced
            `ids` and `scores` float64, (n,), best first, and the `radius`, None without one.

        Raises
        ------
        ValueError, TypeError
            Without radius, k and per_group, for NaN or a wrong shape of the scores, for an index
            without vectors, or for `per_group` without groups.

        Notes
        -----
        If k is given without a radius, bisection finds a float32 radius, the same on every machine.
        It leaves at least k rows, of which the first k are the answer; a radius larger by at most
        1/2048 of it leaves fewer. A still larger one may leave k again, as dropping a row can make
        room for two. If there are fewer than k rows it is 0, or infinity under dot and cosine. The
        score of two rows is that of `search_within` with the later one as the query.

        Examples
        --------
        >>> index = farann.Index()
        >>> index.add([[0.0], [0.5], [3.0], [4.0]])
        array([0, 1, 2, 3])
        >>> spaced = index.select_spaced([0.9, 0.8, 0.7, 0.6], radius=1.0, return_dropped=True)
        >>> spaced.ids, spaced.dropped, spaced.keepers
        (array([0, 2, 3]), array([1]), array([0]))
        >>> index.select_spaced([0.9, 0.8, 0.7, 0.6], 2).radius
        4.0
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
            Largest number of pairs; more are an error. A pair takes 20 bytes.
        exclude, allowed, groups, outside_groups, threads, progress : optional
            As in `select_diverse`, for rows that may be in pairs.

        Returns
        -------
        Pairs
            `ids` (n_pairs, 2), the smaller one first, and `scores` float32 (n_pairs,): each pair
            once, in the order of the first ids, and those of one first id nearest first.

        Raises
        ------
        ValueError
            For more pairs than `limit`, with the number found and the number of rows searched; or
            for an index without vectors.

        Examples
        --------
        >>> index = farann.Index()
        >>> index.add([[0.0], [5.0], [0.25], [5.0]])
        array([0, 1, 2, 3])
        >>> index.pairs_within(0.5).ids
        array([[0, 2],
               [1, 3]])
        """
        return diverse.pairs_within(self._live, radius, limit,
                                    Filtering(exclude, allowed, groups, outside_groups), threads,
                                    progress)

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
            `ids` int64 (2,), the smaller one first, and `score`, their distance; under dot and
            cosine the smallest dot product or cosine of two rows. -1 and NaN if there are fewer
            than two rows. Of pairs with equal float64 keys the one with the smallest ids; under
            cosine each row has a key for the other, and the larger one counts.

        Examples
        --------
        >>> index = farann.Index()
        >>> index.add([[0.0], [3.0], [-4.0]])
        array([0, 1, 2])
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
            As in `furthest_graph`.

        Returns
        -------
        float32 (len(index),)
            In the order of `ids`: distances, or under dot and cosine the smallest dot product or
            cosine with another row. NaN where there is no other row. An array and no result, as
            each row has one: ``furthest_graph(k=1)`` names the other rows.

        Examples
        --------
        >>> index = farann.Index()
        >>> index.add([[0.0], [3.0], [-4.0]])
        array([0, 1, 2])
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
            `ids` and `scores` (len(index), k), in the order of `ids`, as from `search_furthest`
            with each row as a query that may not find itself. The matrix has the scores as entries,
            rows and columns in the order of `ids`; a score of 0 is an entry, too.

        Notes
        -----
        Under l2 a few outlying rows, hubs, are the furthest from nearly all others.

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
        return diverse.furthest_graph(
            self._live, k, as_sparse, Filtering(exclude, allowed, groups, outside_groups), threads,
            progress)

    # ---- rows by their ids, filters ----

    @hinted
    def filter(self, *, exclude: Exclude | None = None, allowed: Allowed | None = None,
               groups: LabelsLike | None = None,
               outside_groups: LabelsLike | None = None) -> Filter:
        """Prepare a filter for many searches.

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

        Raises
        ------
        ValueError, TypeError
            Without arguments, for a filter of the wrong shape or type, or for groups if the index
            has none.

        Notes
        -----
        Until the index changes, a search with the filter neither looks ids up nor reads a mask.
        Answers are those of the same ids passed to the search.

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
        return Filter(self._live, Filtering(exclude, allowed, groups, outside_groups))

    @hinted
    def score(self, queries: npt.ArrayLike, ids: Ids, *,
              threads: int | None = None) -> Float32Array:
        """Compute the scores of given rows for given queries.

        Parameters
        ----------
        queries : array_like (n_queries, dim) or (dim,)
        ids : array_like of int or str (n_ids,)
        threads : int, optional

        Returns
        -------
        float32 (n_queries, n_ids), or (n_ids,) for a single query
            The scores that a search gives, in the order of `ids`: an array and no result, as
            nothing was found. Without vectors they differ slightly from these, as
            searches code the query, too.

        Raises
        ------
        KeyError
            If an id is not in the index.

        Examples
        --------
        >>> index = farann.Index()
        >>> index.add([[1.0], [5.0]], ids=["a", "b"])
        array(['a', 'b'], dtype=object)
        >>> index.score([2.0], ["b", "a"])
        array([3., 1.], dtype=float32)
        """
        return ask.score(self._live, queries, ids, threads)

    def reconstruct(self, ids: Ids) -> Float32Array:
        """Return the stored rows of some ids, decoded from codes if vectors were dropped.

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

        Examples
        --------
        >>> index = farann.Index()
        >>> index.add([[1.0], [5.0]], ids=["a", "b"])
        array(['a', 'b'], dtype=object)
        >>> index.reconstruct("b")
        array([5.], dtype=float32)
        """
        return ask.reconstruct(self._live, ids)

    def groups(self, ids: Any = None) -> npt.NDArray[Any]:
        """Return the labels of the groups of some rows.

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
        """Save the index to a file, which is replaced whole or not at all.

        Parameters
        ----------
        path : str or path-like

        Notes
        -----
        The file holds the index as of the call; searches and changes go on meanwhile.
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
            Map the rows instead of reading them: they are read when a search needs them, and may be
            larger than memory. Their checksums are not checked then; ``farann info --verify`` does
            that. `close`, or a ``with`` block, releases the file. Nobody may write to it in place
            meanwhile: if it is shortened, a later search may end the process by SIGBUS, which
            Python can't catch; if it is overwritten, answers are wrong or the process crashes.
            Replacing the file, as `save` does, is safe.

        Raises
        ------
        FormatError
            If the file is no index, is truncated or altered, or of another version.
        """
        return cls._loaded(path, mmap=mmap)[0]

    def sync(self, path: str | os.PathLike[str]) -> None:
        """Write to a file what changed since the index was loaded from it or synced to it.

        Added rows, removals and their like are appended, at a cost of what changed. The first sync
        to a file that the index wasn't loaded from, or one after a `build`, replaces the file as
        `save` does, and so does one now and then, so that the file has at most twice the bytes that
        it needs. Once this returns all is on disk; after a crash or a power cut the file holds the
        index as it was after one of the syncs.

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
        >>> index.add([[0.0], [5.0]])
        array([0, 1])
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
        of ids of the index is gone. Using a closed index is a ValueError; closing it again does
        nothing. ``with farann.Index.load(path, mmap=True) as index:`` closes it at the end of the
        block.
        """
        self._live.close()

    def copy(self) -> Self:
        """Copy the index: neither sees later changes of the other, and they share memory that
        doesn't change.

        Examples
        --------
        >>> index = farann.Index()
        >>> index.add([[1.0], [5.0]])
        array([0, 1])
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
