"""An index as it is now: how it was made, and the store that changes put in each other's place."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from farann.contract.index_spec import IndexSpec
from farann.results import SearchStats
from farann.runtime import pool
from farann.store import asked_ids

if TYPE_CHECKING:
    from farann.store.store import Store


class Live:
    """The current store of an index, and the settings that stay when it is replaced."""

    __slots__ = ("__weakref__", "_lock", "isa", "last_search", "spec", "store", "synced", "threads")

    # All that changes is in the store. A change makes another one while it holds the lock, and
    # puts it here in one assignment. Whoever reads takes it once, and needs no lock.
    store: Store | None
    last_search: tuple[int, ...]  # the fields of `SearchStats`
    isa: str
    spec: IndexSpec
    threads: int | None

    def __init__(self, spec: IndexSpec, dim: int | None, isa: str, threads: int | None) -> None:
        self.spec, self.isa, self.threads = spec, isa, threads
        self._lock = pool.fresh_lock(self)
        self.store, self.last_search = None, (0,)
        self.synced: Any = None  # the file that it is synced to, a `farann.io.synced.Synced`
        if dim is not None:
            from farann.store.store import Store

            self.store = Store(dim, spec)

    if not TYPE_CHECKING:  # which would take any attribute for one that there is
        def __getattr__(self, name: str) -> None:
            if name == "store":  # `close` took it
                raise ValueError("the index is closed")
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}",
                                 name=name, obj=self)

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        try:
            self.store  # noqa: B018
        except ValueError:
            return True
        return False

    def close(self) -> None:
        """Release the store."""
        with self._lock:
            if not self.closed:
                del self.store
                if self.synced is not None:
                    self.synced.close()
                    self.synced = None

    @property
    def dim(self) -> int | None:
        """Dimension of the rows; None before the first are added."""
        store = self.store
        return None if store is None else store.dim

    @property
    def n_threads(self) -> int:
        """Threads that a batch may use."""
        number = self.threads
        return pool.cpu_count() if number is None or number == -1 else number

    def holds(self, id: object) -> bool:
        """Whether a row has an id."""
        store = self.store
        if store is None:
            return False
        try:
            ids = asked_ids.numbers(store, asked_ids.checked(store, "id", [id]))
        except (TypeError, ValueError):
            return False
        return bool(store.slots_of(ids)[0] >= 0)

    def stats(self) -> dict[str, Any]:
        """The contents of an index, and the work of its last search."""
        store, spec = self.store, self.spec
        codes = None if store is None else store.codes
        return {
            "rows": 0 if store is None else len(store),
            "removed": 0 if store is None else store.n_removed,
            "added": 0 if store is None else len(store.tail),
            "dim": None if store is None else store.dim,
            "metric": spec.metric.name, "dtype": spec.row_type, "codes": spec.codes,
            "isa": self.isa, "threads": self.n_threads,
            "built": store is not None and store.built, "keep_vectors": spec.vectors,
            "codes_recall": None if store is None else store.codes_recall,
            "bytes": {} if store is None else store.nbytes(),
            "directions": 0 if codes is None else codes.n_directions,
            "axes": 0 if codes is None or codes.pca_axes is None else len(codes.pca_axes),
            "last_search": SearchStats(*self.last_search)._asdict()}
