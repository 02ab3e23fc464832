"""Samples to measure with: queries like those to come, and the rows of the last build."""

from __future__ import annotations

import numpy as np

from farann._types import Float32Array, Int64Array
from farann.layout.sampling import sampled
from farann.store.ids import IdMap
from farann.store.store import Store


def sample_queries(store: Store, most: int) -> tuple[Float32Array, Int64Array | None]:
    """Queries to measure with: real ones where `build` was given some, else rows; and of rows
    their slots if they are asked for the nearest, of which they are one themselves."""
    source = store.unused_queries
    if source is not None and len(source):
        other = store.asks_nearest != store.for_nearest
        return store.spec.metric.mirrored(source[:most]) if other else source[:most], None
    slots = store.live_slots()
    if len(store.base) and store.n_coded is None:
        # The order was made so that these find their answers early.
        used = sampled(len(store.base), len(store.base), store.dim, store.spec.seed)
        fresh = np.setdiff1d(slots, used, assume_unique=True)
        slots = fresh if len(fresh) else slots
    draw = np.random.default_rng([store.spec.seed, 1])
    slots = np.sort(draw.choice(slots, min(most, len(slots)), replace=False))
    rows = store.take(slots)
    return (store.spec.metric.mirrored(rows), slots) if store.asks_nearest else (rows, None)


def base_alone(store: Store) -> Store:
    """The rows of the base, with their slots for ids, where others have runs, and so a depth of
    their own: what is tuned is the base. Where it has no rows left it is the whole store."""
    if store.added is None or not store.added.runs:
        return store
    store.native()  # made here it is kept
    alive, n_base, n_removed = store.alive, store.n_base, 0
    if alive is not None:
        alive = alive[:n_base]
        n_removed = n_base - int(np.count_nonzero(alive))
    base = store.changed(_tail=store.tail[:0], _n_tail=0, added=None, alive=alive,
                        n_removed=n_removed, ids=IdMap.restored(None, n_base, 0))
    return base if len(base) else store
