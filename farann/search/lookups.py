"""What can be asked of an index without a search: filters, scores and rows of given ids."""

from __future__ import annotations

from collections.abc import Set
from typing import Any

import numpy as np
import numpy.typing as npt

from farann._types import Float32Array, Ids
from farann.search import filters
from farann.search.asking import Asking
from farann.search.filters import Filter
from farann.store.asked_ids import known_slots


class Lookups(Asking):
    """The part of `farann.Index` that looks rows up."""

    __slots__ = ()

    def filter(self, *, allowed: Any = None, exclude: Any = None, within: Any = None,
               outside: Any = None) -> Filter:
        """Prepare which rows searches may find, for use in many of them.

        Parameters
        ----------
        allowed : optional
            The only rows that may be found: ids (m,), or a boolean mask (len(index),) in the order
            of `ids`, which stands for the ids that it marks now. By default all rows, those
            that are added later, too.
        exclude : array_like of int or str (m,), optional
            Ids to leave out, for all queries.
        within : label, or array_like of labels (m,), optional
            The only groups whose rows may be found, those that are added later, too.
        outside : label, or array_like of labels (m,), optional
            Groups whose rows are left out. At most one of both is given.

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
        return filters.prepared(self, self._store,
                                filters.Filtering(exclude, allowed, within, outside))

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
        vectors, single = self._checked(queries)
        store = self._laid_out()
        slots = known_slots(store, ids)
        scores = np.empty((len(vectors), len(slots)), np.float32)
        if store is not None:
            from farann.runtime import batches

            rough = np.zeros(len(slots), np.bool_)
            if store.n_coded is not None:
                rough = slots < store.n_coded
                scores[:, rough] = store.score(vectors, slots[rough])
            scores[:, ~rough] = batches.score(store.view(self._isa).snapshot, vectors,
                                              slots[~rough],
                                              self._threads_for(threads))
        return scores[0] if single else scores

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
        store = self._store
        slots = known_slots(store, ids)
        if store is None:
            return np.empty((0, 0), np.float32)
        rows = store.take(slots)
        return rows[0] if not isinstance(ids, Set) and np.ndim(ids) == 0 else rows

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
        >>> index.search_furthest([0.0], k=1, within="cat").ids
        array([1])
        """
        store = self._store
        if store is None or store.groups is None:
            raise ValueError("groups: the index has none; give them to add, as groups=")
        slots = store.live_slots() if ids is None else known_slots(store, ids)
        return store.groups.labels_of(store.groups.by_slot()[slots].astype(np.int64))
