"""Of `farann/store`: what an index holds, and other things in their place."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

import farann
import farann._core as core
from farann.quantize.records import Layout as _Layout
from farann.search.changes import laid_out as _laid_out
from farann.store.groups import Groups as _Groups
from farann.store.ids import IdMap
from farann.store.labels import Labels
from farann.store.store import Answers, Store


def of(index: farann.Index) -> Store:
    """What an index holds now."""
    store = index._live.store
    assert store is not None
    return store


def restore(index: farann.Index, store: Store) -> None:
    """Put an index back to what it held before."""
    index._live.store = store


def put(index: farann.Index, **parts: Any) -> None:
    """Let an index hold other parts of its layout: `codes`, `partitions`."""
    store = of(index)
    was = None if store.layout is None else store.layout._asdict()
    restore(index, store.changed(layout=_Layout(**{**(was or {}), **parts})))


def snapshot_of(index: farann.Index) -> core.Snapshot:
    """What searches of an index see; it is built first, as searches do."""
    store = _laid_out(index._live)
    assert store is not None
    return store.view(index.isa).snapshot


def use_level(index: farann.Index, level: str) -> None:
    """Let an index search at another level than it was made for."""
    index._live.isa = level


def use_threads(index: farann.Index, threads: int) -> None:
    """Let an index search with as many threads, as `Index(threads=...)` does."""
    index._live.threads = threads


def is_locked(index: farann.Index) -> bool:
    """Whether a change is being made."""
    return index._live._lock.locked()


def groups_of(index: farann.Index) -> _Groups:
    """The groups of an index that has some."""
    groups = of(index).groups
    assert groups is not None
    return groups


def sample_queries(index: farann.Index, most: int) -> npt.NDArray[np.float32]:
    """Queries that an index would be tuned with."""
    return of(index).sample_queries(most)[0]


def forget_code_trials(index: farann.Index) -> None:
    """Let the next batch begin with codes, whatever came of them before."""
    snapshot_of(index)
    store = of(index)
    for one in (store, store.mirror):
        if one is not None:
            view = one.view(index.isa)
            view.snapshot.code_trials.clear()
            view.exact.code_trials.clear()
            one.work_shares.clear()


def address_of_rows(index: farann.Index) -> int:
    """Where the rows of the base lie in memory."""
    return int(of(index).base.ctypes.data)
