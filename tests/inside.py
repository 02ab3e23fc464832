"""The one place where tests look into an index, or put something into it."""

from __future__ import annotations

from typing import Any

import farann
from farann import _core
from farann._store import Store


def store_of(index: farann.Index) -> Store:
    """What an index holds now."""
    assert index._store is not None
    return index._store


def put(index: farann.Index, **parts: Any) -> None:
    """Let an index hold other parts, such as `codes`."""
    index._store = store_of(index).changed(**parts)


def snapshot_of(index: farann.Index) -> _core.Snapshot:
    """What searches of an index see; it is built first, as searches do."""
    store = index._laid_out()
    assert store is not None
    return store.view(index.isa).snapshot


def restore(index: farann.Index, store: Store) -> None:
    """Put an index back to what it held before."""
    index._store = store
