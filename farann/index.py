"""The index: what changes it. What it holds is told in `store.contents`, what it can be asked in
`search.questions` and `diverse.questions`, what is kept in files in `index_files`."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Self

import numpy.typing as npt

from farann._types import Float32Array, Ids, Progress, Rng
from farann.contract import checks
from farann.contract.code_widths import CODE_WIDTHS, INT8
from farann.contract.index_spec import IndexSpec, check_codes
from farann.contract.metric_traits import traits_of
from farann.contract.row_types import to_row_type, to_rows
from farann.contract.stop_rule import to_limits
from farann.diverse.questions import DiverseQuestions
from farann.index_files import Saved
from farann.results import SearchStats
from farann.runtime import pool
from farann.runtime.dispatch import default_isa
from farann.runtime.progress import build_steps, shown
from farann.store import asked_ids
from farann.store.ids import distinct

if TYPE_CHECKING:
    from farann.store.store import Store
    from farann.tuning.table import Tuning

# What a file says that an index was asked to be, beside the metric and the type of its rows.
_KEPT = ("codes", "cells", "keep_vectors", "seed")


class Index(Saved, DiverseQuestions):
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

    __slots__ = ("_cells", "_lock", "_seed")

    def __init__(self, dim: int | None = None, metric: str = "l2", *, dtype: Any = "float32",
                 codes: str = "int8", cells: int | str | None = None, keep_vectors: bool = True,
                 seed: int = 0, rng: Rng = None, threads: int | None = None) -> None:
        dim = None if dim is None else checks.to_dim(dim)
        self._metric = checks.to_metric(metric)
        self._dtype = to_row_type(dtype)
        self._cells = check_codes(codes, cells, keep_vectors)
        self._codes, self._keep_vectors = codes, bool(keep_vectors)
        self._seed = checks.to_seed(seed, rng)
        self._threads = checks.to_threads(threads)
        self._isa = default_isa()
        # All that changes is in the store. A change makes another one while it holds the lock, and
        # puts it here in one assignment.
        self._lock: threading.Lock = pool.fresh_lock(self)
        self._store: Store | None = None
        if dim is not None:
            from farann.store.store import Store

            self._store = Store(dim, self._spec)
        self._last_search: tuple[int, ...] = SearchStats(0, 0, 0, 0, 0)

    # ---- changing it ----

    def add(self, rows: npt.ArrayLike, ids: npt.ArrayLike | None = None, *,
            groups: npt.ArrayLike | None = None, copy: bool = True) -> npt.NDArray[Any]:
        """Append rows; the index keeps copies of its own unless told otherwise.

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
            Ids, none in use: integers of 0 or more, or strings of at most 65,535 bytes of UTF-8,
            not both in one index. By default counting goes on after the largest integer that was
            ever used, beginning with 0.
        groups : array_like of int or str (n,), optional
            For each row the label of its group, such as its class: what `within` and `outside` of
            searches name. Integers, negative ones too, or strings, not both in one index; and all
            rows have one, or none has.
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
            repeated or in use, groups of some rows alone, or where ``copy=False`` can't be. The
            index is unchanged then.

        Examples
        --------
        >>> index = farann.Index(dim=2)
        >>> index.add([[1, 2], [3, 4]], ids=[70, 30])
        array([70, 30])

        Rows of a file that need not fit in memory:

        >>> index.add(np.load("items.npy", mmap_mode="r"), copy=False)  # doctest: +SKIP
        """
        from farann.store.groups import of_new_rows, to_labels
        from farann.store.store import Store

        vectors = to_rows("rows", rows, self.dim, self._dtype, normalized=self._normalized,
                          as_is=not copy, checked=not copy)
        checked = asked_ids.new(ids, len(vectors))
        group_labels = None if groups is None else to_labels("groups", groups)
        with self._lock:
            store = self._store
            if store is None:
                store = Store(vectors.shape[1], self._spec)
            if store.dim != vectors.shape[1]:  # another thread was first
                raise ValueError(
                    f"rows: expected vectors of dimension {store.dim}, got {vectors.shape[1]}")
            new_ids, labels = asked_ids.given(store, checked, len(vectors))
            new_groups = of_new_rows(store.groups, store.n_slots, group_labels, len(vectors))
            if labels is not store.labels:
                store = store.changed(labels=labels)
            if copy:
                store = store.with_rows(vectors, new_ids, new_groups)
                if store.built and store.outgrown:
                    store = self._rebuilt(store)
            elif store.n_slots:
                raise ValueError("copy: only the first rows of an index can be kept without a "
                                 f"copy, and it has {store.n_slots}")
            else:
                store = store.adopting(vectors, new_ids, new_groups)
            self._store = store
        return new_ids if labels is None else labels.texts(new_ids)

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
        with self._lock:
            store = self._store
            slots = asked_ids.known_slots(store, ids)
            if len(slots) and store is not None:
                self._store = store.without(distinct(slots))

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
            A sample of real queries, some thousands if there are so many; of use to indexes with
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
        checks.check_flag("nearest", nearest)
        tuned_for = {checks.to_int("tune", k, 1) for k in tune}
        progress = checks.to_progress(progress)
        sample = None
        if queries is not None:
            sample = self._asked(queries, nearest)
        with self._lock, shown(progress, build_steps(tuned_for)) as progress:
            if self._store is not None:
                self._store = self._rebuilt(self._store, sample, tuned_for, progress, nearest)
        return self

    def tune(self, queries: npt.ArrayLike | None = None, k: int = 10,
             recall: float = 0.95, *, nearest: bool = False,
             progress: Progress = False) -> Tuning:
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
        from farann.search import plans

        k = checks.to_int("k", k, 1)
        checks.check_flag("nearest", nearest)
        to_limits(recall, None, None)
        told = checks.to_progress(progress)
        sample = None
        if queries is not None:
            sample = self._asked(queries, nearest)
            if len(sample) == 0:
                raise ValueError("queries: expected at least one")
        store = self._laid_out()
        if nearest and store is not None:
            store = store.mirrored(self._isa)
        if store is None or len(store) == 0:
            raise ValueError("tune: the index has no rows")
        measured = plans.measured(store, k, self._isa, sample, recall, progress=told)
        store.tunings.keep(k, measured, sample)
        from logging import getLogger

        getLogger("farann").info("tuned for k=%d", k)
        return measured.tuning

    # ---- shared by the above ----

    @classmethod
    def _with_settings(cls, settings: dict[str, Any]) -> Self:
        return cls(settings["dim"], settings["metric"], dtype=settings.get("dtype", "float32"),
                   **{name: settings[name] for name in _KEPT})

    def _settings(self, store: Store | None) -> dict[str, Any]:
        settings = {"metric": self._metric, "dim": None if store is None else store.dim,
                    **{name: getattr(self, f"_{name}") for name in _KEPT}}
        if self._dtype != "float32":  # such files are what they were before there were others
            settings["dtype"] = self._dtype
        return settings

    @property
    def _spec(self) -> IndexSpec:
        width = CODE_WIDTHS[self._codes]
        return IndexSpec(traits_of(self._metric), width is not None, self._seed, self._cells,
                         width or INT8, self._keep_vectors, self._dtype)

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
                 tuned_for: Iterable[int] = (), progress: Progress = False,
                 nearest: bool | None = None) -> Store:
        """A store with a new layout, which is tuned for all that the old one was tuned for."""
        from farann.search import plans

        began = time.perf_counter()
        new = store.rebuilt(queries, progress, self.threads, nearest)
        new = plans.retuned(store, new, self._isa, queries is not None, tuned_for, bool(nearest),
                            progress)
        from logging import getLogger  # which is there, once an index is

        getLogger("farann").info("built an index of %d rows in %.3f s", len(new),
                                 time.perf_counter() - began)
        return new
