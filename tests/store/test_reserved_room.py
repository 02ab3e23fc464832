"""`reserve`, and rows that builds leave where they lie."""

from __future__ import annotations

import threading
import tracemalloc
from typing import Any

import inside
import numpy as np
import pytest
import reference
from cases import Float32, assert_same

import farann

DIM = 64


def allocated(call: Any) -> int:
    """The most bytes that a call held at a time."""
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def added(index: farann.Index, rows: Float32, step: int = 500) -> None:
    for at in range(0, len(rows), step):
        index.add(rows[at : at + step])


@pytest.mark.parametrize("search_between", [False, True])
def test_no_row_is_copied_again(search_between: bool, rng: np.random.Generator) -> None:
    rows = rng.standard_normal((20_000, DIM), dtype=np.float32)
    queries = rng.standard_normal((5, DIM), dtype=np.float32)
    index = farann.Index(DIM, codes="float32")
    index.reserve(len(rows))
    index.add(rows[:500])
    if search_between:
        index.search_furthest(queries)
        # Adds build the index again each time that it has doubled.
        places = {inside.store.address_of_rows(index)}

    def change() -> None:
        added(index, rows[500:])
        index.build()

    assert allocated(change) < rows.nbytes // 8
    if search_between:
        assert places == {inside.store.address_of_rows(index)}
    assert_same(index.search_furthest(queries, 10), reference.furthest(queries, rows, 10, "l2"))
    assert index.stats()["bytes"]["rows"] == rows.nbytes


def test_a_build_leaves_streamed_rows_where_they_are(rng: np.random.Generator) -> None:
    rows = rng.standard_normal((20_100, DIM), dtype=np.float32)
    index = farann.Index(DIM, codes="float32")
    added(index, rows[:20_000])
    assert allocated(index.build) < rows.nbytes // 8
    index.add(rows[20_000:])
    assert allocated(index.build) < rows.nbytes // 8
    index.remove([5])
    assert allocated(index.build) > rows.nbytes // 2  # the space of what was removed comes back
    left = np.delete(rows, 5, axis=0)
    assert_same(index.search_furthest(rows[:3], 9),
                reference.furthest(rows[:3], left, 9, "l2", ids=np.delete(np.arange(20_100), 5)))


@pytest.mark.parametrize("options", [{}, {"dtype": "uint8"}, {"metric": "cosine", "cells": 5},
                                     {"codes": "int4", "keep_vectors": False}])
def test_at_any_time(options: dict[str, Any], rng: np.random.Generator) -> None:
    """Rows, answers and older states are what they would be without it."""
    rows = rng.integers(1, 200, (3000, 9)).astype(np.float32)
    ids = rng.permutation(9000)[:3000]
    indexes = [farann.Index(9, **options) for _ in range(2)]
    at = 0
    for step in range(30):
        n = int(rng.integers(0, 100))
        change = int(rng.integers(0, 4))
        if change == 0:
            indexes[0].reserve(int(rng.choice([0, 1, 50, 1000])))
        older = inside.store.of(indexes[0])
        before = older.take(older.live_slots())
        for index in indexes:
            index.add(rows[at : at + n], ids[at : at + n], replace=step % 3 == 0)
            if change == 1 and len(index):
                index.build()
            elif change == 2 and step % 4 == 0:
                index.remove(index.ids[::13])
        at += n
        one, other = indexes
        assert np.array_equal(one.ids, other.ids)
        assert np.array_equal(one.reconstruct(one.ids), other.reconstruct(one.ids))
        limits: dict[str, Any] = {} if options.get("keep_vectors", True) else {"budget": 10**6}
        assert_same(one.search_furthest(rows[:9], 20, **limits),
                    other.search_furthest(rows[:9], 20, **limits))
        assert np.array_equal(older.take(older.live_slots()), before)


def test_rows_of_others_are_left_alone(rng: np.random.Generator) -> None:
    """Room behind rows that the index doesn't own is not its own."""
    whole = rng.standard_normal((300, 8), dtype=np.float32)
    kept = whole.copy()
    index = farann.Index(8)
    index.add(whole[:100], copy=False)
    index.build()
    index.add(2 * kept[:50])
    index.build()
    index.reserve(10)
    index.add(3 * kept[:50])
    assert np.array_equal(whole, kept)
    now = np.vstack([kept[:100], 2 * kept[:50], 3 * kept[:50]])
    assert np.array_equal(index.reconstruct(index.ids), now)
    assert np.array_equal(index.build().reconstruct(index.ids), now)


def test_what_is_refused() -> None:
    index = farann.Index()
    with pytest.raises(ValueError, match="^reserve: expected an index whose dimension is known"):
        index.reserve(5)
    index.add([[1.0]])
    refused: list[tuple[Any, type[Exception]]] = [
        (-1, ValueError), (1.5, TypeError), ("5", TypeError), (True, TypeError),
        (2**63, ValueError)]
    for bad, error in refused:
        with pytest.raises(error, match="^n: expected"):
            index.reserve(bad)
    with pytest.raises(MemoryError):
        index.reserve(2**59)
    index.reserve(3)
    assert index.ids.tolist() == [0] and index.add([[2.0]]).tolist() == [1]


def test_beside_other_changes(rng: np.random.Generator) -> None:
    index = farann.Index(DIM)
    rows = rng.standard_normal((4000, DIM), dtype=np.float32)
    adding = threading.Thread(target=added, args=(index, rows, 50))
    adding.start()
    while adding.is_alive():
        index.reserve(200)
        adding.join(1e-4)
    assert np.array_equal(index.reconstruct(index.ids), rows)
