"""The index: what changes it, and files; `store.contents` tells what is in it."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

import numpy.typing as npt

from farann import _core
from farann._types import Float32Array, Int64Array
from farann.contract import checks, errors
from farann.contract.index_spec import CODE_BITS, IndexSpec, check_codes
from farann.contract.metric_traits import traits_of
from farann.contract.stop_rule import to_limits
from farann.diverse.questions import DiverseQuestions
from farann.io import container, index_file
from farann.results import Hits, SearchStats
from farann.runtime import pool
from farann.runtime.dispatch import default_isa
from farann.search import plans
from farann.search.questions import known_slots
from farann.store.ids import distinct
from farann.store.store import Store
from farann.tuning.table import Tuning


class Index(DiverseQuestions):
    """A collection of vectors that answers exact and approximate furthest-neighbor queries.

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
        Group the rows into so many partitions (IVF lists); approximate searches then probe the
        most promising ones. "auto" makes them where `build` finds, by counted work, that they make
        searches faster, and none where rows are few; where they make exact ones slower, these have
        codes of their own. 4-bit codes without vectors are better with partitions.
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
        self._cells = check_codes(codes, cells, keep_vectors)
        self._metric, self._codes, self._keep_vectors = metric, codes, bool(keep_vectors)
        self._seed = checks.to_int("seed", seed, 0, checks.MOST_SEED)
        self._threads = checks.to_threads(threads)
        self._isa = default_isa()
        # All that changes is in the store. A change makes another one while it holds the lock, and
        # puts it here in one assignment.
        self._lock = pool.fresh_lock(self)
        self._store: Store | None = None
        if dim is not None:
            self._store = Store(checks.to_int("dim", dim, 1, checks.MOST_DIM), self._spec)
        self._last_search: tuple[int, ...] = SearchStats(0, 0, 0, 0, 0)

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
                                    single=False, as_is=not copy)
        new_ids = None if ids is None else checks.to_new_ids("ids", ids, len(vectors))
        with self._lock:
            store = self._store
            if store is None:
                store = Store(vectors.shape[1], self._spec)
            if store.dim != vectors.shape[1]:  # another thread was first
                raise ValueError(
                    f"rows: expected vectors of dimension {store.dim}, got {vectors.shape[1]}")
            new_ids = store.ids_for(new_ids, len(vectors))
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
            slots = known_slots(store, ids)
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
            codes or partitions. By default rows serve as a sample, which is worse where queries are
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
        to_limits(recall, None, None)
        sample = None
        if queries is not None:
            sample = self._vectors("queries", queries)
            if len(sample) == 0:
                raise ValueError("queries: expected at least one")
        store = self._laid_out()
        if store is None or len(store) == 0:
            raise ValueError("tune: the index has no rows")
        measured = plans.measured(store, k, self._isa, sample, recall)
        store.tunings.keep(k, measured, sample)
        return measured.tuning

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
    def _spec(self) -> IndexSpec:
        bits = CODE_BITS[self._codes]
        return IndexSpec(traits_of(self._metric), bits is not None, self._seed, self._cells,
                         bits or 8, self._keep_vectors)

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
            new.tunings.keep(k, plans.measured(new, k, self._isa, sample), sample)
        return new

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
