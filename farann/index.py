"""The index: checks arguments, documents, decides; the work is done in `store` and `_core`."""

from __future__ import annotations

import os
from collections.abc import Iterable
from math import nan
from typing import Any, Literal, overload

import numpy as np
import numpy.typing as npt

from farann import _core
from farann._types import Float32Array, Int64Array
from farann.io import container, index_file
from farann.results import BeyondHits, Hits, SearchStats
from farann.runtime import batches, pool
from farann.runtime.dispatch import default_isa
from farann.search import filters, stop_rules
from farann.search.filters import Filter
from farann.spec import checks, errors
from farann.spec.index_spec import IndexSpec
from farann.spec.metric_traits import traits_of
from farann.store import depths
from farann.store.ids import distinct
from farann.store.store import Store
from farann.tuning import measure, table
from farann.tuning.guard import Guard
from farann.tuning.plans import Measured
from farann.tuning.table import Tuning

# Kinds of single queries that are prepared for at a time.
_MOST_SINGLES = 16


class Index:
    """Rows that can be asked which of them are furthest from a query.

    Parameters
    ----------
    dim : int, optional
        Dimension of the rows, at most 2^24; by default that of the first rows added.
    metric : {"l2", "dot", "cosine"}
        Furthest means the largest Euclidean distance, the smallest dot product, or the smallest
        cosine similarity.
    codes : {"int8", "int4", "float32"}
        How rows are scored roughly before the exact pass: by 8-bit codes (a quarter to a third
        more memory, several times the speed), by 4-bit codes (half of that, but they rule out
        few rows for certain), or by the float32 rows themselves. Answers are the same.
    cells : int or "auto", optional
        Group the rows into so many cells; approximate searches then visit the cells that promise
        most. "auto" makes them where `build` finds, by counted work, that they make searches
        faster, and none where rows are few; where they make exact ones slower, these have codes of
        their own. 4-bit codes without vectors are better with cells.
    keep_vectors : bool
        False: `build` drops the float32 rows and keeps the codes alone, in a quarter or an eighth
        of the memory. Scores are approximate then, without bias, and searches need ``recall=`` or
        ``budget=``. What was dropped can't come back.
    seed : int
        For what is drawn at random during `build`; below 2^128.
    threads : int, optional
        Threads of a search and of `build`, at most 4096; by default as many as there are CPUs. A
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

    def __init__(self, dim: int | None = None, metric: str = "l2", *, codes: str = "int8",
                 cells: int | str | None = None, keep_vectors: bool = True, seed: int = 0,
                 threads: int | None = None) -> None:
        checks.to_choice("metric", metric, _core.METRICS)
        checks.to_choice("codes", codes, ("int8", "int4", "float32"))
        cells = checks.to_cells(cells)
        if cells is not None and codes == "float32":
            raise ValueError("cells: partitions need codes, and codes='float32' means none")
        if not isinstance(keep_vectors, (bool, np.bool_)):
            raise TypeError("keep_vectors: expected True or False, "
                            f"got {checks.shown(keep_vectors)}")
        if not keep_vectors and codes == "float32":
            raise ValueError("keep_vectors: without vectors there must be codes, and "
                             "codes='float32' means none")
        self._keep_vectors = bool(keep_vectors)
        self._metric, self._codes, self._cells = metric, codes, cells
        self._seed = checks.to_int("seed", seed, 0, checks.MOST_SEED)
        self._threads = checks.to_threads(threads)
        self._isa = default_isa()
        # All that changes is in the store. A change makes another one while it holds the lock, and
        # puts it here in one assignment; whoever reads takes it once, and needs no lock.
        self._lock = pool.fresh_lock(self)
        self._store: Store | None = None
        if dim is not None:
            self._store = Store(checks.to_int("dim", dim, 1, checks.MOST_DIM), self._spec)
        self._last_search: tuple[int, ...] = SearchStats(0, 0, 0, 0, 0)

    # ---- what is in it ----

    @property
    def dim(self) -> int | None:
        """Dimension of the rows; None before the first are added."""
        store = self._store
        return None if store is None else store.dim

    @property
    def metric(self) -> str:
        """The metric: "l2", "dot" or "cosine"."""
        return self._metric

    @property
    def threads(self) -> int:
        """Threads that a batch may use."""
        return self._threads or pool.cpu_count()

    @property
    def isa(self) -> str:
        """The instruction-set level in use; see `isa_levels`."""
        return self._isa

    @property
    def ids(self) -> Int64Array:
        """Ids of all rows, (len(index),) int64, in the order that boolean masks refer to."""
        store = self._store
        return np.empty(0, np.int64) if store is None else store.live_ids()

    def __len__(self) -> int:
        store = self._store
        return 0 if store is None else len(store)

    def __contains__(self, id: object) -> bool:
        try:
            ids = checks.to_ids("id", [id])
        except (TypeError, ValueError):
            return False
        store = self._store
        return store is not None and bool(store.slots_of(ids)[0] >= 0)

    def __repr__(self) -> str:
        return (f"<farann.Index: {len(self):,} rows, dim={self.dim}, metric={self._metric!r}, "
                f"isa={self._isa!r}>")

    def stats(self) -> dict[str, Any]:
        """What the index holds and what the last search did.

        Returns
        -------
        dict
            `rows`, `removed`, `added` (since the last build), `dim`, `metric`, `codes`, `isa`,
            `threads`, `built`, `keep_vectors`; `codes_recall`, without vectors the recall@10 of
            a scan of all codes, measured on sample queries when they were made (None: it wasn't);
            `bytes` by part; `directions`, how many leading directions the
            first look goes along (0: none, all coordinates are scanned); `axes`, along how many
            axes rows are coded (0: in all coordinates); `last_search`, the fields of
            `SearchStats`.
        """
        store = self._store
        return {
            "rows": 0 if store is None else len(store),
            "removed": 0 if store is None else store.n_removed,
            "added": 0 if store is None else len(store.tail),
            "dim": None if store is None else store.dim,
            "metric": self._metric, "codes": self._codes, "isa": self._isa,
            "threads": self.threads, "built": store is not None and store.built,
            "keep_vectors": self._keep_vectors,
            "codes_recall": None if store is None else store.codes_recall,
            "bytes": {} if store is None else store.nbytes(),
            "directions": 0 if store is None else store.n_directions,
            "axes": 0 if store is None else store.n_axes,
            "last_search": SearchStats(*self._last_search)._asdict(),
        }

    # ---- changing it ----

    def add(self, rows: npt.ArrayLike, ids: npt.ArrayLike | None = None, *,
            copy: bool = True) -> Int64Array:
        """Append rows; the index keeps copies of its own unless told otherwise.

        An index that was built takes rows without building again, until they are more than those
        that were there: then it is laid out anew before `add` returns.

        Parameters
        ----------
        rows : array_like (n, dim)
            Real numbers of any type and any strides, kept as float32.
        ids : array_like of int (n,), optional
            Ids of 0 or more, none in use. By default counting goes on after the largest id that
            was ever used, beginning with 0.
        copy : bool
            False lets the rows stay where they are, for example in a mapped file that is larger
            than memory. They must be float32 in C order and the first of the index, and must not
            change as long as the index lives.

        Returns
        -------
        int64 (n,)
            The rows' ids.

        Raises
        ------
        ValueError, TypeError
            For a wrong dimension, NaN or infinity, numbers too large for float32, a zero vector
            under cosine, ids that are negative, repeated or in use, or where ``copy=False`` can't
            be. The index is unchanged then.

        Examples
        --------
        >>> index = farann.Index(dim=2)
        >>> index.add([[1, 2], [3, 4]], ids=[70, 30])
        array([70, 30])

        Rows of a file that need not fit in memory:

        >>> index.add(np.load("items.npy", mmap_mode="r"), copy=False)  # doctest: +SKIP
        """
        vectors = checks.to_vectors("rows", rows, self.dim, normalized=self._normalized,
                                    single=False,
                                     as_is=not copy)
        new_ids = None if ids is None else checks.to_new_ids("ids", ids, len(vectors))
        with self._lock:
            store = self._store
            if store is None:
                store = Store(vectors.shape[1], self._spec)
            if store.dim != vectors.shape[1]:  # another thread was first
                raise ValueError(
                    f"rows: expected vectors of dimension {store.dim}, got {vectors.shape[1]}")
            if new_ids is None:
                new_ids = store.ids.default_ids(len(vectors))
            else:
                taken = new_ids[store.slots_of(new_ids) >= 0]
                if len(taken):
                    raise ValueError(f"ids: expected ids that are not in use, got {taken[0]}")
            if copy:
                store = store.with_rows(vectors, new_ids)
                if store.built and store.outgrown:
                    store = self._rebuilt(store)
            elif store.n_slots:
                raise ValueError("copy: only the first rows of an index can be kept without a "
                                 f"copy, and it has {store.n_slots}")
            else:
                store = store.adopting(vectors, new_ids)
            self._store = store
        return new_ids

    def remove(self, ids: npt.ArrayLike) -> None:
        """Remove rows; their space comes back with the next `build`.

        Parameters
        ----------
        ids : int or array_like of int (n,)

        Raises
        ------
        KeyError
            If an id is not in the index; nothing is removed then.
        """
        with self._lock:
            store = self._store
            slots = _known_slots(store, ids)
            if len(slots) and store is not None:
                self._store = store.without(distinct(slots))

    def build(self, queries: npt.ArrayLike | None = None, *, tune: Iterable[int] = (),
              progress: bool = False) -> Index:
        """Lay the rows out for searching; the first search does so if nobody did.

        Drops the space of removed rows, merges those added since the last build, and freezes
        the centre that rows are measured from. Answers don't depend on it, only speed does.

        With ``keep_vectors=False`` the first build drops the float32 rows. Later ones code what
        was added with the centre of the first, and leave older codes as they are.

        Parameters
        ----------
        queries : array_like (n, dim), optional
            A sample of real queries, some thousands if there are so many; of use to indexes with
            codes or cells. By default rows serve as a sample, which is worse where queries are
            of another kind, such as users of a recommender.
        tune : iterable of int, optional
            For which k to measure what ``recall=`` takes, as `tune` does, so that no search has to.
            Each k that was tuned before is tuned for the new layout without being named.
        progress : bool
            Show a progress bar for work that takes long.

        Returns
        -------
        Index
            The index itself.

        Notes
        -----
        Searches go on meanwhile, on the old layout; both are in memory until the new one is done.
        Other changes wait. A build that is interrupted changes nothing.
        """
        tuned_for = {checks.to_int("tune", k, 1) for k in tune}
        sample = None
        if queries is not None:
            sample = self._vectors("queries", queries)
        with self._lock:
            if self._store is not None:
                self._store = self._rebuilt(self._store, sample, tuned_for, progress)
        return self

    def tune(self, queries: npt.ArrayLike | None = None, k: int = 10,
             recall: float = 0.95) -> Tuning:
        """Measure which effort reaches which recall, for ``search_furthest(..., recall=)``.

        Parameters
        ----------
        queries : array_like (n, dim), optional
            A sample of real queries, some thousands if there are so many. By default those given
            to `build` that it did not use itself, else a sample of the rows. Searches with
            ``recall=`` answer queries unlike these exactly.
        k : int
            How many rows searches will ask for; each k is tuned for itself.
        recall : float
            The recall whose effort the printed table names. All others can be asked for as well.

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
        k = checks.to_int("k", k, 1)
        checks.to_limits(recall, None, None)
        sample = None
        if queries is not None:
            sample = self._vectors("queries", queries)
            if len(sample) == 0:
                raise ValueError("queries: expected at least one")
        store = self._laid_out()
        if store is None or len(store) == 0:
            raise ValueError("tune: the index has no rows")
        measured = self._measured(store, k, sample, recall)
        store.tunings.keep(k, measured, sample)
        return measured.tuning

    # ---- asking it ----

    def filter(self, *, allowed: Any = None, exclude: Any = None) -> Filter:
        """Prepare which rows searches may find, for use in many of them.

        Parameters
        ----------
        allowed : optional
            The only rows that may be found: ids (m,), or a boolean mask (len(index),) in the order
            of `ids`, which stands for the ids that it marks now. By default all rows, those
            that are added later, too.
        exclude : array_like of int (m,), optional
            Ids to leave out, for all queries.

        Returns
        -------
        Filter
            For the argument ``allowed`` of searches of this index.

        Raises
        ------
        ValueError, TypeError
            Without arguments, or for a filter of the wrong shape or type.

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
        return filters.prepared(self, self._store, allowed, exclude)

    @overload
    def search_furthest(self, queries: npt.ArrayLike, k: int = 10, *,
                        recall: float | None = None, epsilon: float | None = None,
                        budget: int | None = None, exclude: Any = None, allowed: Any = None,
                        threads: int | None = None,
                        return_stats: Literal[False] = False) -> Hits: ...

    @overload
    def search_furthest(self, queries: npt.ArrayLike, k: int = 10, *,
                        recall: float | None = None, epsilon: float | None = None,
                        budget: int | None = None, exclude: Any = None, allowed: Any = None,
                        threads: int | None = None,
                        return_stats: Literal[True]) -> tuple[Hits, SearchStats]: ...

    def search_furthest(self, queries: npt.ArrayLike, k: int = 10, *,
                        recall: float | None = None, epsilon: float | None = None,
                        budget: int | None = None, exclude: Any = None, allowed: Any = None,
                        threads: int | None = None,
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
        exclude : optional
            Ids to leave out, per query: an int array (n_queries, m) padded with -1, or a
            sequence of n_queries one-dimensional arrays; for a single query (dim,), an array
            (m,). Ids that are not in the index are ignored.
        allowed : optional
            The only rows that may be found, for all queries: ids (m,), a boolean mask
            (len(index),) in the order of `ids`, or what `filter` prepared of either.
        threads : int, optional
            In the place of the index's own number.
        return_stats : bool
            Also return what the search did: rows scored at each level, and bytes read.

        Returns
        -------
        Hits, or Hits and SearchStats
            `scores` float32 and `ids` int64, (n_queries, k), furthest first; (k,) for a single
            query. Distances under l2, dot products and cosines otherwise, infinite where float32
            can't hold them. Where there are fewer than k rows, the score is NaN and the id -1.

        Raises
        ------
        ValueError, TypeError
            For a wrong dimension, NaN or infinity, a zero query under cosine, k < 1 or far beyond
            the number of rows, a filter of the wrong shape, more than one of recall, epsilon and
            budget, or neither recall nor budget for an index without vectors.

        Notes
        -----
        Without recall, epsilon and budget the answer is exact. Of an index without vectors scores
        are approximate, and so is the order.

        Examples
        --------
        >>> index = farann.Index(metric="dot")
        >>> index.add([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
        array([0, 1, 2])
        >>> index.search_furthest([[1.0, 0.0]], k=3, exclude=[[1]])
        Hits(scores=array([[-1.,  1., nan]], dtype=float32), ids=array([[ 2,  0, -1]]))
        """
        if (exclude is None and allowed is None and epsilon is None and budget is None
                and (threads is None or (type(threads) is int and threads == 1))):
            again = self._search_again(queries, k, recall)
            if again is not None:
                hits, counts = again
                return (hits, SearchStats(*counts)) if return_stats else hits
        limits = checks.to_limits(recall, epsilon, budget)
        stop_rules.check_limits(limits, self._keep_vectors)
        hits, stats = self._search_top(queries, k, False, exclude, allowed, threads, limits)
        return (hits, stats) if return_stats else hits

    def search_nearest(self, queries: npt.ArrayLike, k: int = 10, *, exclude: Any = None,
                       allowed: Any = None, threads: int | None = None) -> Hits:
        """The k rows nearest to each query; all else as in `search_furthest`.

        Returns
        -------
        Hits
            Nearest first: the smallest distances, the largest dot products or cosines.
        """
        stop_rules.check_exact("search_nearest", self._keep_vectors,
                               "only the furthest rows can be searched for")
        return self._search_top(queries, k, True, exclude, allowed, threads)[0]

    def search_beyond(self, queries: npt.ArrayLike, radius: float, *, exclude: Any = None,
                      allowed: Any = None, threads: int | None = None) -> BeyondHits:
        """Every row further from a query than `radius`.

        Parameters
        ----------
        queries : array_like (n_queries, dim) or (dim,)
        radius : float
            Rows at a distance greater than it are found; under dot and cosine, rows whose dot
            product or cosine is less. Compared in float64.
        exclude, allowed, threads : optional
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
        """
        limit = checks.to_float("radius", radius)
        stop_rules.check_exact("search_beyond", self._keep_vectors,
                               "use search_furthest with recall=, or budget=")
        vectors, single = self._asked(queries)
        filters.check_owner(self, allowed)
        store = self._laid_out()
        if store is None:
            return BeyondHits(np.zeros(len(vectors) + 1, np.int64), np.empty(0, np.float32),
                              np.empty(0, np.int64))
        view = store.view(self._isa)
        row_filters = filters.row_filters(store, exclude, allowed, len(vectors), single)
        chosen = row_filters.filter(store, view, len(vectors), exact=True)
        return batches.beyond(view.exact, chosen, vectors, limit,
                              self._threads_for(threads, len(vectors)))

    def score(self, queries: npt.ArrayLike, ids: npt.ArrayLike, *,
              threads: int | None = None) -> Float32Array:
        """Scores of given rows for given queries.

        Parameters
        ----------
        queries : array_like (n_queries, dim) or (dim,)
        ids : array_like of int (n_ids,)
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
        vectors, single = self._asked(queries)
        store = self._laid_out()
        slots = _known_slots(store, ids)
        scores = np.empty((len(vectors), len(slots)), np.float32)
        if store is not None:
            rough = np.zeros(len(slots), np.bool_)
            if store.n_coded is not None:
                rough = slots < store.n_coded
                scores[:, rough] = store.score(vectors, slots[rough])
            scores[:, ~rough] = batches.score(store.view(self._isa).snapshot, vectors,
                                              slots[~rough],
                                              self._threads_for(threads, len(vectors)))
        return scores[0] if single else scores

    def reconstruct(self, ids: npt.ArrayLike) -> Float32Array:
        """The stored rows of some ids; of rows that are there as codes alone, what these say.

        Parameters
        ----------
        ids : int or array_like of int (n,)

        Returns
        -------
        float32 (n, dim), or (dim,) for a single id
            Decoded rows are approximate, and of length 1 under cosine.

        Raises
        ------
        KeyError
            If an id is not in the index.
        """
        store = self._store
        slots = _known_slots(store, ids)
        if store is None:
            return np.empty((0, 0), np.float32)
        rows = store.take(slots)
        return rows[0] if np.ndim(ids) == 0 else rows

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
        container.write_file(path, *self._content())

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, mmap: bool = False) -> Index:
        """Read an index from a file.

        Parameters
        ----------
        path : str or path-like
        mmap : bool
            Map the rows instead of reading them: they are read when a search needs them, and
            may be larger than memory. They are not checked then, but that codes have each row once
            is; ``farann info --verify`` does.

        Raises
        ------
        FormatError
            If the file is no index, is truncated or altered, or of a newer version.
        """
        content = container.read_file(path, mmap=mmap)
        try:
            return cls._restored(*content, checked=not mmap)
        except errors.FormatError as error:
            raise errors.FormatError(f"{os.fsdecode(path)}: {error}") from None

    def __reduce__(self) -> tuple[Any, ...]:
        return _unpickled, (container.write_bytes(*self._content()), self._threads)

    @classmethod
    def _restored(cls, metadata: dict[str, Any], arrays: dict[str, npt.NDArray[Any]], *,
                  checked: bool) -> Index:
        index_file.check_metadata(metadata)
        index = cls(metadata["dim"], metadata["metric"], codes=metadata["codes"],
                    cells=metadata["cells"], keep_vectors=metadata["keep_vectors"],
                    seed=metadata["seed"])
        store = index_file.store_of(metadata, arrays, index._spec, checked=checked)
        if store is not None:
            index._store = store
        return index

    def _content(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Metadata and arrays of a file."""
        store = self._store
        settings = {"metric": self._metric, "dim": None if store is None else store.dim,
                    "codes": self._codes, "cells": self._cells,
                    "keep_vectors": self._keep_vectors, "seed": self._seed}
        return index_file.sections_of(settings, store)

    # ---- shared by the above ----

    @property
    def _normalized(self) -> bool:
        return traits_of(self._metric).normalized

    @property
    def _spec(self) -> IndexSpec:
        return IndexSpec(traits_of(self._metric), self._codes != "float32", self._seed,
                         self._cells, 4 if self._codes == "int4" else 8, self._keep_vectors)

    def _threads_for(self, threads: int | None, n_queries: int) -> int:
        threads = checks.to_threads(threads)
        return threads or self.threads

    def _options(self, limits: checks.Limits, store: Store, k: int, all_rows: bool,
                 single: bool, threads: int) -> dict[str, Any]:
        """How the core is told where to stop; nothing means exact."""
        if store.n_coded is not None:
            options = stop_rules.search_options(limits, len(store), store.partitions is not None)
            if options is not None:
                return options
        if limits.epsilon is not None:
            return {"epsilon": limits.epsilon}
        if limits.budget is not None:
            return {"effort": float("inf") if store.partitions is None else measure.MOST_DEVIATIONS,
                    "budget": limits.budget}
        if limits.recall is None or limits.recall == 1.0 or store.codes is None or not len(store):
            return {}
        tuned = store.tunings.measured_once(k, lambda: self._measured_again(store, k),
                                            lambda: store.plan_holds(k))
        effort = tuned.effort_for(limits.recall, single=single)
        # Without vectors all codes are scanned where others would search exactly.
        if effort == float("inf") and store.n_coded is None:
            return {}
        # Of some of the rows less is to be expected, and later, and who knows how deep in runs.
        if not all_rows:
            return {"effort": effort, "expected": nan}
        return {"effort": effort, "expected": tuned.expected_at(effort),
                "late": tuned.late_at(effort),
                "stops": depths.stops_for(store, k, table.missing_at(limits.recall), self._isa,
                                           threads)}

    def _vectors(self, name: str, vectors: npt.ArrayLike) -> Float32Array:
        return checks.to_vectors(name, vectors, self.dim, normalized=self._normalized, single=True)

    def _asked(self, queries: npt.ArrayLike) -> tuple[Float32Array, bool]:
        """Checked queries, and whether it was a single one."""
        vectors = self._vectors("queries", queries)
        return vectors, np.ndim(queries) == 1 and len(vectors) == 1

    def _laid_out(self) -> Store | None:
        """What to search; the first search builds it if nobody did.

        While somebody builds or changes the index, searches take it as it is, and don't wait.
        """
        store = self._store
        if store is None or store.built or self._lock.locked():
            return store
        with self._lock:
            if self._store is not None and not self._store.built:
                self._store = self._rebuilt(self._store)
            return self._store

    def _rebuilt(self, store: Store, queries: Float32Array | None = None,
                 tuned_for: set[int] | None = None, progress: bool = False) -> Store:
        """A store with a new layout, which is tuned for all that the old one was tuned for."""
        new = store.rebuilt(queries, progress, self.threads)
        # Searches may tune the old layout in the meantime.
        while len(new) and (k := min(((tuned_for or set()) | store.tunings.by_k.keys())
                                     - new.tunings.by_k.keys(), default=0)):
            sample = None if queries is not None else store.tunings.queries.get(k)
            new.tunings.keep(k, self._measured(new, k, sample), sample)
        return new

    def _measured(self, store: Store, k: int, queries: Float32Array | None = None,
                  recall: float = 0.95) -> Measured:
        """What reaches which recall, by queries that are given or a sample, and its guard."""
        query_sample = queries
        if query_sample is None:
            query_sample = store.sample_queries(measure.sample_size(len(store), store.dim, k))
        # Beyond the rows there are nothing is found, and no answer needs room for it.
        measured = depths.base_alone(store)
        view = measured.view(self._isa)
        tuned, ids = measure.measure(view.snapshot, query_sample, min(k, len(measured)),
                                    with_partitions=store.partitions is not None,
                                    with_vectors=store.n_coded is None, target=recall,
                                    exact=view.exact)
        answers = measured.slots_of(ids[ids >= 0])
        # What is always exact needs no guard.
        exact = len(tuned.efforts) == 1 or store.codes is None
        return Measured(tuned._replace(k=k), None if exact else store.guard(queries, self._isa),
                        answers)

    def _measured_again(self, store: Store, k: int) -> Measured:
        """The same for a search: by the queries of the table that there was, if there was one."""
        before, guard = store.tunings.by_k.get(k), store.tunings.guards.get(k)
        if before is None or guard is None:
            return self._measured(store, k)
        queries = store.tunings.queries.get(k)
        if queries is None and k not in store.tunings.answers:
            # From a file, which doesn't keep them.
            queries = depths.sample_like(store, k, guard)
            if len(queries) == 0:
                return Measured(before, guard, np.empty(0, np.int64))
        return self._measured(store, k, queries, before.target)._replace(guard=guard)

    def _search_top(self, queries: npt.ArrayLike, k: int, nearest: bool, exclude: Any,
                    allowed: Any, threads: int | None,
                    limits: checks.Limits | None = None) -> tuple[Hits, SearchStats]:
        k = checks.to_int("k", k, 1)
        vectors, single = self._asked(queries)
        filters.check_owner(self, allowed)
        store = self._laid_out()
        checks.check_padding(k, len(vectors), 0 if store is None else len(store))
        if store is None:
            hits = Hits(np.full((len(vectors), k), np.nan, np.float32),
                        np.full((len(vectors), k), -1, np.int64))
            if single:
                hits = Hits(hits.scores[0], hits.ids[0])
            return hits, SearchStats(len(vectors), 0, 0, 0, 0)
        view = store.view(self._isa)
        row_filters = filters.row_filters(store, exclude, allowed, len(vectors), single)
        threads = self._threads_for(threads, len(vectors))
        options, plan, guard, usual = {}, store.tunings.by_k.get(k), None, None
        # Of few rows an approximate search may find too little, and an exact one has little to do.
        if limits is not None and (limits.epsilon is not None or not row_filters.are_few(store)):
            options = self._options(limits, store, k, allowed is None, len(vectors) == 1, threads)
            if "expected" in options:  # by a plan
                guard = store.tunings.guards.get(k)
            usual = options.pop("late", None)
        if guard is not None and limits is not None and len(vectors):
            hits, stats = guard.top(store, view, row_filters, vectors, k, threads, options, usual,
                                    limits.recall)
        else:
            chosen = row_filters.filter(store, view, len(vectors), exact="effort" not in options)
            snapshot = view.snapshot if "effort" in options else view.exact
            hits, stats = batches.top(snapshot, chosen, vectors, k, nearest, threads, **options)
        self._last_search = stats
        if len(vectors) == 1 and not nearest and exclude is None and allowed is None and (
                store.built and (limits is None or limits.recall is not None)):
            self._keep_single(store, k, None if limits is None else limits.recall, plan, guard,
                              options | {"late": usual})
        if single:
            hits = Hits(hits.scores[0], hits.ids[0])
        return hits, stats

    def _keep_single(self, store: Store, k: int, recall: float | None, plan: Tuning | None,
                     guard: Guard | None, options: dict[str, Any]) -> None:
        """Keep what answers the next single queries that are asked in the same way.

        `plan` is the table that there was before the options were chosen: if that was another one
        than at the next search, they are chosen anew.
        """
        before = store.singles.get((self._isa, k, recall))
        if before is not None and before.plan is plan:
            return  # this query wasn't one for it
        view = store.view(self._isa)
        snapshot = view.snapshot if "effort" in options else view.exact
        kept = batches.single(snapshot, view.everything, k, plan,
                              guard=None if guard is None else guard.tests, **options)
        if kept is None:
            return
        if len(store.singles) >= _MOST_SINGLES:
            store.singles.clear()
        store.singles[self._isa, k, recall] = kept

    def _search_again(self, queries: npt.ArrayLike, k: int,
                      recall: float | None) -> tuple[Hits, tuple[int, ...]] | None:
        """Answer a single query as an earlier one was; None where that can't be."""
        store = self._store
        # True and 1.0 are found where 1 is.
        if store is None or type(k) is not int or not (recall is None or type(recall) is float):
            return None
        kept = store.singles.get((self._isa, k, recall))
        if kept is None or (recall is not None and kept.plan is not store.tunings.by_k.get(k)):
            return None
        found = kept.search(queries)
        if found is None:
            return None
        scores, ids, self._last_search = found
        return Hits(scores, ids), self._last_search


def _known_slots(store: Store | None, ids: npt.ArrayLike) -> Int64Array:
    wanted = checks.to_ids("ids", ids, single=True)
    slots = np.full(len(wanted), -1) if store is None else store.slots_of(wanted)
    unknown = wanted[slots < 0]
    if len(unknown):
        raise KeyError(f"ids: {unknown[0]} is not in the index")
    return slots


def _unpickled(content: bytes, threads: int | None) -> Index:
    index = Index._restored(*container.read_bytes(content), checked=True)
    index._threads = threads
    return index


def search_furthest(rows: npt.ArrayLike, queries: npt.ArrayLike, k: int = 10, metric: str = "l2",
                    *, threads: int | None = None) -> Hits:
    """The k rows furthest from each query, for one-off use without an index.

    Parameters
    ----------
    rows : array_like (n, dim)
        Not copied if C-contiguous float32.
    queries : array_like (n_queries, dim) or (dim,)
    k : int
    metric : {"l2", "dot", "cosine"}
    threads : int, optional

    Returns
    -------
    Hits
        As from `Index.search_furthest`; ids are row numbers.

    Examples
    --------
    >>> farann.search_furthest([[0.0], [5.0], [3.0]], [[1.0]], k=2).ids
    array([[1, 2]])
    """
    index = Index(metric=metric, codes="float32", threads=threads)
    vectors = checks.to_vectors("rows", rows, None, normalized=metric == "cosine", single=False)
    index._store = Store.over(vectors, index._spec)
    return index.search_furthest(queries, k)
