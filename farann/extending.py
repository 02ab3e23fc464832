"""What adapters build on beside `Index` and `contract/`: rows by ids, answers to merge, files."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from farann._types import BoolArray, Float32Array, IdArray, Int64Array
from farann.contract.strings import packed
from farann.diverse.ask import ONE_A_ROW, next_by_mmr, scores_of
from farann.diverse.contrast import depth
from farann.diverse.greedy import RowSum
from farann.diverse.lonely import centers_of, n_left_out, sample_of
from farann.diverse.member_sets import to_sets
from farann.diverse.pairs import is_cut, joined
from farann.diverse.spaced import Ranked, inside
from farann.index import Index
from farann.io import synced
from farann.io.container import read_bytes, read_file, write_bytes, write_file
from farann.io.files import StrPath, private_folder, replacing
from farann.results import RangeHits
from farann.runtime.progress import told
from farann.search.ask import check_one, in_range
from farann.search.filters import Filter, Filtering, slots_and_mask
from farann.store import asked_ids
from farann.store.asked_ids import new as check_new_ids
from farann.store.groups import to_labels
from farann.tuning.table import missing_at

__all__ = [
    "ONE_A_ROW", "Filter", "Ranked", "RowSum", "centers_of", "check_new_ids", "check_one", "depth",
    "inside", "joined", "loaded_beside", "missing_at", "n_left_out", "next_mmr", "numbers_of",
    "options_of", "private_folder", "read_bytes", "read_file", "replacing", "rows_of", "rows_that",
    "rows_there", "rows_within", "sample_of", "saved_beside", "scores_of", "to_labels", "to_sets",
    "told", "write_bytes", "write_file"]


def options_of(index: Index) -> dict[str, Any]:
    """What an index was made with, as arguments of `Index`, but for its metric and dimension."""
    spec = index._live.spec
    return {"dtype": spec.row_type, "codes": spec.codes, "cells": spec.cells,
            "keep_vectors": spec.vectors, "seed": spec.seed, "threads": index._live.threads}


# ---- rows by their ids, and parts of the rows ----


def numbers_of(index: Index, ids: IdArray) -> Int64Array:
    """Integer ids, or the numbers that the index has for string ids; -1 for a string without."""
    texts = packed("ids", ids.tolist()) if ids.dtype == object else ids
    return asked_ids.numbers(index._live.store, texts)


def rows_there(index: Index, ids: IdArray) -> BoolArray:
    """Mask of the ids that the index, which has rows, holds."""
    store = index._live.store
    assert store is not None
    there: BoolArray = store.slots_of(numbers_of(index, ids)) >= 0
    return there


def rows_of(index: Index, ids: Any) -> tuple[BoolArray, Float32Array]:
    """Mask of the ids that the index holds, and the rows of these, as of one moment."""
    store = index._live.store
    if store is None:
        return np.zeros(len(ids), np.bool_), np.empty((0, 0), np.float32)
    slots = store.slots_of(asked_ids.numbers(store, asked_ids.checked(store, "ids", ids)))
    return slots >= 0, store.take(slots[slots >= 0])


def rows_that(index: Index, only: dict[str, Any]) -> IdArray:
    """Ids of the rows that pass filters, those of `Index.filter`, in the order of `index.ids`."""
    live = index._live
    if not only or live.store is None:
        return index.ids
    slots, _ = slots_and_mask(live, live.store, Filtering(**only))
    return live.store.named(live.store.ids.ids_of(slots))


# ---- answers that are merged ----


def rows_within(index: Index, rows: Float32Array, radius: float, most: int, only: dict[str, Any],
                threads: int | None) -> tuple[RangeHits, bool]:
    """Rows within a radius of some others, with keys: all, or about `most` for each row; and
    whether there may be more."""
    filtering = Filtering(allowed=index.filter(**only) if only else None)
    hits = in_range(index._live, rows, radius, None, filtering, threads, True, False, nearest=True,
                    most=most)
    return hits, is_cut(hits, most)


def next_mmr(index: Index, *args: Any, **options: Any) -> tuple[Any, ...]:
    """`farann.diverse.ask.next_by_mmr` of an index."""
    return next_by_mmr(index._live, *args, **options)


# ---- files ----


def saved_beside(index: Index, path: StrPath, whole: Callable[[], Mapping[str, Any]],
                 changes: Callable[[], Mapping[str, Any]]) -> None:
    """Sync an index to a file that has sections beside it: all there are, or what changed."""
    synced.sync(index._live, path, synced.Beside(whole, changes), over=True)


def loaded_beside(path: StrPath, sections: list[str], *,
                  mmap: bool) -> tuple[Index, list[Mapping[str, Any]]]:
    """An index, and the sections of its file and of the frames behind, of which some are read."""
    return Index._loaded(path, mmap=mmap, read=sections)
