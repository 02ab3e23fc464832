"""What an index holds, told without a search."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from farann.results import SearchStats
from farann.runtime import pool
from farann.store import asked_ids

if TYPE_CHECKING:
    from farann.quantize.records import Record
    from farann.store.store import Store


class Contents:
    """The part of `farann.Index` that says what is in it."""

    __slots__ = ("__weakref__", "_codes", "_dtype", "_isa", "_keep_vectors", "_last_search",
                 "_metric", "_store", "_threads")

    # Set by `Index`. All that changes is in the store: whoever reads takes it once, and needs no
    # lock.
    _store: Store | None
    _metric: str
    _dtype: str
    _codes: str
    _keep_vectors: bool
    _isa: str
    _threads: int | None
    _last_search: tuple[int, ...]

    if not TYPE_CHECKING:  # which would take any attribute for one that there is
        def __getattr__(self, name: str) -> Any:
            if name == "_store":  # `close` took it
                raise ValueError("the index is closed")
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}",
                                 name=name, obj=self)

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        try:
            self._store  # noqa: B018
        except ValueError:
            return True
        return False

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
    def dtype(self) -> str:
        """What rows are kept as: "float32", "float16", "bfloat16", "uint8" or "int8"."""
        return self._dtype

    @property
    def threads(self) -> int:
        """Threads that a batch may use."""
        number = self._threads
        return pool.cpu_count() if number is None or number == -1 else number

    @property
    def isa(self) -> str:
        """The instruction-set level in use; see `isa_levels`."""
        return self._isa

    @property
    def ids(self) -> npt.NDArray[Any]:
        """Ids of all rows, (len(index),), in the order that boolean masks refer to: int64, or
        objects where ids are strings."""
        store = self._store
        return np.empty(0, np.int64) if store is None else store.named(store.live_ids())

    def __len__(self) -> int:
        store = self._store
        return 0 if store is None else len(store)

    def __bool__(self) -> bool:
        """True, of an empty index as well, so that ``index or other`` doesn't lose it."""
        return True

    def __contains__(self, id: object) -> bool:
        store = self._store
        if store is None:
            return False
        try:
            ids = asked_ids.numbers(store, asked_ids.checked(store, "id", [id]))
        except (TypeError, ValueError):
            return False
        return bool(store.slots_of(ids)[0] >= 0)

    def __repr__(self) -> str:
        if self.closed:
            return "<farann.Index: closed>"
        return (f"<farann.Index: {len(self):,} rows, dim={self.dim}, metric={self._metric!r}, "
                f"isa={self._isa!r}>")

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
        store = self._store
        return {
            "rows": 0 if store is None else len(store),
            "removed": 0 if store is None else store.n_removed,
            "added": 0 if store is None else len(store.tail),
            "dim": None if store is None else store.dim,
            "metric": self._metric, "dtype": self._dtype, "codes": self._codes, "isa": self._isa,
            "threads": self.threads, "built": store is not None and store.built,
            "keep_vectors": self._keep_vectors,
            "codes_recall": None if store is None else store.codes_recall,
            "bytes": {} if store is None else nbytes_of(store),
            "directions": 0 if store is None else store.n_directions,
            "axes": 0 if store is None else store.n_axes,
            "last_search": SearchStats(*self._last_search)._asdict(),
        }


def nbytes_of(store: Store) -> dict[str, int]:
    """Bytes by part."""
    exact = store.exact
    return {
        "rows": store.base.nbytes + store._tail.nbytes,
        "ids": store.ids.nbytes + (0 if store.labels is None else store.labels.nbytes),
        "groups": 0 if store.groups is None else store.groups.nbytes,
        "removed": 0 if store.alive is None else store.alive.nbytes, "center": store.centre.nbytes,
        "codes": _nbytes(store.codes, store.added and store.added.room, exact and exact.codes),
        "cells": _nbytes(store.partitions),
    }


def _nbytes(*records: Record | None) -> int:
    return sum(record.nbytes for record in records if record is not None)
