"""The contents of an index, without a search."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from farann.results import SearchStats
from farann.store import asked_ids
from farann.store.live import Live

if TYPE_CHECKING:
    from farann.quantize.records import Record
    from farann.store.store import Store


def holds(store: Store | None, id: object) -> bool:
    """Whether a row has an id."""
    if store is None:
        return False
    try:
        ids = asked_ids.numbers(store, asked_ids.checked(store, "id", [id]))
    except (TypeError, ValueError):
        return False
    return bool(store.slots_of(ids)[0] >= 0)


def stats(live: Live) -> dict[str, Any]:
    """The contents of an index, and the work of its last search."""
    store, spec = live.store, live.spec
    return {
        "rows": 0 if store is None else len(store),
        "removed": 0 if store is None else store.n_removed,
        "added": 0 if store is None else len(store.tail),
        "dim": None if store is None else store.dim,
        "metric": spec.metric.name, "dtype": spec.row_type, "codes": spec.codes, "isa": live.isa,
        "threads": live.n_threads, "built": store is not None and store.built,
        "keep_vectors": spec.vectors,
        "codes_recall": None if store is None else store.codes_recall,
        "bytes": {} if store is None else nbytes_of(store),
        "directions": 0 if store is None else store.n_directions,
        "axes": 0 if store is None else store.n_axes,
        "last_search": SearchStats(*live.last_search)._asdict(),
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
