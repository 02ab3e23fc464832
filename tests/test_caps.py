"""Cells as caps of the sphere: queries inside cells visit few of them, and lose nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import inside
import numpy as np
import pytest
import reference
from approximate_cases import clustered, recall_of
from cases import Float32, assert_same, index_of
from inside import core
from numpy.typing import NDArray

import farann

LEVELS = inside.levels()
INF = float("inf")
N, DIM, N_CELLS, K = 12_000, 6, 200, 10


def uneven(rng: np.random.Generator, n: int, dim: int = DIM) -> Float32:
    """Directions that are dense all over a few dimensions, more so along the first."""
    return (rng.standard_normal((n, dim)) * np.arange(1, dim + 1) ** -0.7).astype(np.float32)


def made(rows: Float32, **options: Any) -> farann.Index:
    return index_of(rows, "cosine", cells=N_CELLS, **options).build()


def cells_of(index: farann.Index) -> Any:
    return inside.store_of(index).partitions


def searched(index: farann.Index, queries: Float32, deviations: float,
             **options: Any) -> tuple[NDArray[np.int64], farann.SearchStats]:
    snapshot = inside.snapshot_of(index)
    hits, work = inside.batches.top(snapshot, core.Filter(snapshot), queries, K, False, 1,
                                   inside.StopRule(deviations=deviations, **options))
    return hits.ids, work


@pytest.fixture(scope="module")
def rows() -> Float32:
    return uneven(np.random.default_rng(3), N)


@pytest.fixture(scope="module")
def queries() -> Float32:
    return uneven(np.random.default_rng(4), 150)


def test_only_where_queries_are_inside(rng: np.random.Generator, rows: Float32) -> None:
    """Under cosine, where answers have nearly the direction that queries look in."""
    assert cells_of(made(rows)).inv_norms is not None
    assert cells_of(index_of(rows, "l2", cells=N_CELLS).build()).inv_norms is None
    assert cells_of(index_of(rows, "dot", cells=N_CELLS).build()).inv_norms is None
    wide = rng.standard_normal((N, 48), dtype=np.float32)
    assert cells_of(made(wide)).inv_norms is None


def test_lengths_of_means(rows: Float32) -> None:
    index = made(rows)
    store = inside.store_of(index)
    cells, codes = store.partitions, store.codes
    assert cells is not None and cells.inv_norms is not None
    assert codes is not None and codes.slots is not None
    units = rows / np.linalg.norm(rows.astype("f8"), axis=1, keepdims=True)
    for number in range(0, len(cells.starts) - 1, 7):
        slots = codes.slots[cells.starts[number] : cells.starts[number + 1]]
        mean = units[slots[slots >= 0]].mean(axis=0)
        assert np.isclose(cells.inv_norms[number], 1.0 / np.linalg.norm(mean), rtol=1e-5)


@pytest.mark.parametrize("isa", LEVELS)
def test_fewer_rows_for_the_same_recall(isa: str, rows: Float32, queries: Float32) -> None:
    """Than with one deviation for all queries."""
    truth = reference.furthest(queries, rows, K, "cosine").ids
    index = made(rows)
    inside.use_level(index, isa)
    scanned = []
    for cells in (cells_of(index), replace(cells_of(index), inv_norms=None)):
        inside.put(index, partitions=cells)
        for effort in np.arange(0.0, 9.0, 0.25):
            ids, work = searched(index, queries, float(effort))
            if recall_of(ids, truth) >= 0.95:
                break
        scanned.append(work.rows_scanned / len(queries))
    assert scanned[0] < 0.6 * scanned[1] < 0.6 * N


@pytest.mark.parametrize("isa", LEVELS)
def test_more_effort_finds_more(isa: str, rows: Float32, queries: Float32) -> None:
    """One by one as in batches; with all the effort there is each query finds all of its answer."""
    truth = reference.furthest(queries, rows, K, "cosine").ids
    index = made(rows)
    inside.use_level(index, isa)
    recalls, counts = [], []
    for effort in (0.0, 1.0, 2.0, 4.0, 20.0):
        ids, work = searched(index, queries, effort)
        alone = np.vstack([searched(index, queries[i : i + 1], effort)[0] for i in range(40)])
        assert abs(recall_of(alone, truth[:40]) - recall_of(ids[:40], truth[:40])) <= 0.03
        recalls.append(recall_of(ids, truth))
        counts.append(work.rows_scanned)
    assert recalls == sorted(recalls) and counts == sorted(counts)
    assert recalls[0] > 0.2  # of the nearest cells alone
    assert recalls[-1] >= 0.9999


def test_no_row_twice(rows: Float32, queries: Float32) -> None:
    """Cells that are visited first aren't visited again."""
    index = made(rows)
    _, work = searched(index, queries, 1000.0)
    positions = int(cells_of(index).starts[-1])
    assert work.rows_scanned <= len(queries) * positions
    ids, _ = searched(index, queries, 1.0)
    assert all(len(set(row)) == K for row in ids.tolist())


def test_where_filters_leave_few(rows: Float32, queries: Float32) -> None:
    """Too few rows in the nearest cells, and in all that are visited: all rows are searched."""
    index = made(rows)
    allowed = np.arange(0, N, 1500)
    for asked in (queries, queries[0]):
        hits = index.search_furthest(asked, K, recall=0.8, allowed=allowed)
        assert (np.sort(np.atleast_2d(hits.ids)[:, : len(allowed)], axis=1) == allowed).all()
    everything = index.search_furthest(queries[:3], N, recall=0.9)
    assert all(len(set(row)) == N for row in everything.ids.tolist())


def test_rows_added_and_removed(rng: np.random.Generator, rows: Float32, queries: Float32) -> None:
    index = made(rows)
    index.remove(np.arange(0, N, 3))
    more = uneven(rng, 2000)
    ids = index.add(more)
    left = np.vstack([np.delete(rows, np.arange(0, N, 3), axis=0), more])
    names = np.concatenate([np.delete(np.arange(N), np.arange(0, N, 3)), ids])
    truth = names[reference.furthest(queries, left, K, "cosine").ids]
    assert recall_of(index.search_furthest(queries, K, recall=0.95).ids, truth) >= 0.94
    assert (index.search_furthest(queries, K).ids == truth).mean() > 0.999  # ties


@pytest.mark.parametrize("hostile", [False, True])
def test_budget(hostile: bool, rows: Float32, queries: Float32) -> None:
    index = made(rows)
    asked = np.vstack([queries, clustered(np.random.default_rng(1), 50, DIM)]) if hostile else (
        queries)
    *_, work = index.search_furthest(asked, K, budget=1500, return_stats=True)
    assert work.rows_scanned <= 1500 * len(asked)


def test_rows_on_all_sides(rng: np.random.Generator) -> None:
    """Cells whose mean has no direction, as rows come with their opposites."""
    half = uneven(rng, 3000, 3)
    rows = np.vstack([half, -half])
    index = index_of(rows, "cosine", cells=2).build()
    truth = reference.furthest(half[:50], rows, K, "cosine").ids
    assert recall_of(searched(index, half[:50], 30.0)[0], truth) >= 0.999
    cells = inside.partitions.describe(
        rows, np.zeros(3), inside.traits_of("cosine"), np.zeros(len(rows), np.int32),
        np.array([0, len(rows)]), inside.query_sample.moment_of(half.astype("f8")),
        inside.Transform(inside.rotation_signs(3, 0)), LEVELS[-1], caps=True)
    np.testing.assert_array_equal(cells.inv_norms, 1.0)


@pytest.mark.parametrize("mmap", [False, True])
def test_files(mmap: bool, tmp_path: Path, rows: Float32, queries: Float32) -> None:
    index = made(rows)
    index.tune(k=K)
    index.save(tmp_path / "index.farann")
    again = farann.Index.load(tmp_path / "index.farann", mmap=mmap)
    np.testing.assert_array_equal(cells_of(again).inv_norms, cells_of(index).inv_norms)
    for limit in ({}, {"recall": 0.9}, {"budget": 900}):
        assert_same(again.search_furthest(queries, K, **limit),
                    index.search_furthest(queries, K, **limit))


def test_files_of_strangers(tmp_path: Path, rows: Float32) -> None:
    index = made(rows)
    index.save(tmp_path / "index.farann")
    metadata, arrays = inside.read_file(tmp_path / "index.farann")
    good = arrays["cells.inv_norms"]

    def loads(array: NDArray[Any], **more: Any) -> None:
        inside.write_file(tmp_path / "other.farann", {**metadata, **more},
                          {**arrays, "cells.inv_norms": array})
        farann.Index.load(tmp_path / "other.farann")

    loads(good)
    for wrong in (good[:-1], good[:0], np.append(good, good[:16]), good.astype("f8"), good[None]):
        with pytest.raises(farann.FormatError):
            loads(wrong)
    for value in (np.nan, np.inf, -1.0, 0.0, 1e5, 3e38):
        other = good.copy()
        other[3] = value
        with pytest.raises(farann.FormatError, match="inv_norms"):
            loads(other)
    with pytest.raises(farann.FormatError):
        loads(good, metric="dot")
