"""What is looked up without a search: scores, stored rows and groups of given ids."""

from __future__ import annotations

from collections.abc import Set
from typing import Any

import numpy as np
import numpy.typing as npt

from farann._types import Float32Array, Ids
from farann.search import ask
from farann.store.asked_ids import known_slots
from farann.store.live import Live


def score(live: Live, queries: npt.ArrayLike, ids: Ids, threads: int | None) -> Float32Array:
    """Scores of given rows for given queries."""
    vectors, single = ask.checked(live, queries)
    store = ask.laid_out(live)
    slots = known_slots(store, ids)
    scores = np.empty((len(vectors), len(slots)), np.float32)
    if store is not None:
        from farann.runtime import batches

        rough = np.zeros(len(slots), np.bool_)
        if store.n_coded is not None:
            rough = slots < store.n_coded
            scores[:, rough] = store.score(vectors, slots[rough])
        scores[:, ~rough] = batches.score(store.view(live.isa).snapshot, vectors, slots[~rough],
                                          ask.threads_for(live, threads))
    return scores[0] if single else scores


def reconstruct(live: Live, ids: Ids) -> Float32Array:
    """The stored rows of some ids; of rows that are there as codes alone, what these say."""
    store = live.store
    slots = known_slots(store, ids)
    if store is None:
        return np.empty((0, 0), np.float32)
    rows = store.take(slots)
    return rows[0] if not isinstance(ids, Set) and np.ndim(ids) == 0 else rows


def groups(live: Live, ids: Any) -> npt.NDArray[Any]:
    """Labels of the groups that rows are in."""
    store = live.store
    if store is None or store.groups is None:
        raise ValueError("groups: the index has none; give them to add, as groups=")
    slots = store.live_slots() if ids is None else known_slots(store, ids)
    return store.groups.labels_of(store.groups.by_slot()[slots].astype(np.int64))
