"""Builds: on any number of threads, with as little work as will do; the better of two layouts."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import inside
import numpy as np
import pytest
import reference
from cases import Float32, assert_same, assert_same_beyond, float32, low_rank
from numpy.typing import NDArray

import farann

N, DIM, K = 9000, 24, 10


def index_over(rows: Float32, metric: str = "l2", **options: Any) -> farann.Index:
    index = farann.Index(metric=metric, **options)
    index.add(rows)
    return index.build()


def parts_of(index: farann.Index) -> dict[str, bytes]:
    """All that a build made."""
    store = inside.store.of(index)
    made = {"codes": store.codes, "cells": store.partitions}
    if store.exact is not None:
        made |= {"exact": store.exact.codes}
    return {f"{of}.{name}": part.tobytes() if isinstance(part, np.ndarray) else repr(part).encode()
            for of, parts in made.items() if parts is not None
            for name, part in vars(parts).items() if name != "_made"}


@pytest.mark.parametrize("options", [
    {}, {"metric": "dot"}, {"metric": "cosine"}, {"cells": 40}, {"cells": 300},
    {"codes": "int4"}, {"codes": "int4", "cells": 30, "keep_vectors": False},
    {"keep_vectors": False}])
def test_threads_change_nothing(options: dict[str, Any], rng: np.random.Generator,
                                monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inside.settings, "kmeans_compared", 100)
    rows = rng.standard_normal((N, DIM)) * np.exp(rng.standard_normal((N, 1))) + 1.0
    made = [parts_of(index_over(float32(rows), threads=threads, **options))
            for threads in (1, 2, 3)]
    assert made[0] == made[1] == made[2] and len(made[0]) > 10


def test_threads_change_nothing_of_a_first_look(rng: np.random.Generator) -> None:
    rows = low_rank(rng, N, 300, 0.001)
    one, two = (index_over(rows, threads=threads) for threads in (1, 2))
    assert one.stats()["directions"] > 0
    assert parts_of(one) == parts_of(two)


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_each_part_once(threads: int) -> None:
    done = np.zeros(100, np.int64)

    def work(i: int) -> None:
        done[i] += 1

    inside.runtime.each(work, range(100), threads)
    inside.runtime.each(work, range(100), threads, "working", True)
    assert (done == 2).all()


@pytest.mark.parametrize("threads", [1, 2])
def test_an_error_ends_all(threads: int) -> None:
    done = []

    def work(i: int) -> None:
        if i == 3:
            raise ArithmeticError("of a part")
        done.append(i)

    with pytest.raises(ArithmeticError, match="of a part"):
        inside.runtime.each(work, range(10_000), threads)
    assert len(done) < 10_000


@pytest.mark.parametrize(("n", "layouts"), [(300, 1), (5000, 1), (16 * 512, 1), (20_000, 2)])
def test_codes_are_made_twice_only_for_many_sample_queries(
        n: int, layouts: int, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    made = 0
    plain = inside.layout.Builder.lay_out_each

    def counted(self: inside.layout.Builder, *given: Any, **others: Any) -> Any:
        nonlocal made
        made += 1
        return plain(self, *given, **others)

    monkeypatch.setattr(inside.layout.Builder, "lay_out_each", counted)
    index_over(rng.standard_normal((n, DIM), dtype=np.float32))
    assert made == layouts


def test_numbers_of_sample_queries() -> None:
    """Of few rows few are needed; of many the work is limited."""
    for n, number in ((600, 512), (10_000, 625), (40_000, 2048), (100_000, 2048)):
        assert len(inside.layout.sampled(n, n, 64, 0)) == min(number, n)
    assert len(inside.layout.sampled(10**7, 10**7, 1000, 0)) == 64
    for n, dim, number in ((6000, 256, 512), (6000, 784, 256), (8193, 784, 512)):
        assert len(inside.layout.sampled(n, n, dim, 0)) == number


def test_rows_are_in_nearly_the_nearest_of_many_cells(rng: np.random.Generator,
                                                      monkeypatch: pytest.MonkeyPatch) -> None:
    rows = rng.standard_normal((N, 8), dtype=np.float32)
    space = inside.quantize.Space(np.zeros(8), False)
    means = inside.quantize.means_of(rows, space, 500, 0)
    exact = inside.quantize.labels_of(rows, space, means, 1)
    monkeypatch.setattr(inside.settings, "kmeans_compared", 100)
    labels = inside.quantize.labels_of(rows, space, means, 1)
    assert (labels == exact).mean() > 0.97


# ---- cells="auto" ----


@pytest.fixture
def auto(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let as many rows have cells by themselves."""
    monkeypatch.setattr(inside.settings, "fewest_partitioned_rows", 1000)


def clusters(rng: np.random.Generator, n: int = 20_000) -> Float32:
    """Of directions, for which cells pay."""
    centers = 2.0 * np.random.default_rng(0).standard_normal((200, 64))
    return float32(centers[rng.integers(0, 200, n)] + 0.5 * rng.standard_normal((n, 64)))


def test_auto_keeps_cells_that_pay(auto: None, rng: np.random.Generator) -> None:
    rows = clusters(rng, 60_000)
    index, plain = (index_over(rows, "cosine", cells=cells) for cells in ("auto", None))
    store = inside.store.of(index)
    assert store.partitions is not None
    queries = clusters(rng, 300)
    # Exact searches do what they do without cells.
    ours, theirs = (some.search_furthest(queries, K, return_stats=True, threads=1)
                    for some in (index, plain))
    assert_same(ours, theirs)
    assert ours.stats.rows_passed <= 1.2 * theirs.stats.rows_passed
    hits = index.search_furthest(queries, K, recall=0.95)
    found = (hits.ids[:, :, None] == theirs.ids[:, None, :]).any(axis=1)
    assert found.mean() > 0.93


def test_auto_does_without_cells_that_do_not_pay(auto: None, rng: np.random.Generator) -> None:
    for metric, rows in (
            ("l2", rng.standard_normal((20_000, 32))),
            ("dot", rng.standard_normal((20_000, 32)) * np.exp(rng.standard_normal((20_000, 1)))),
            ("l2", rng.standard_normal((20_000, 2)))):
        index, plain = (index_over(float32(rows), metric, cells=cells) for cells in ("auto", None))
        assert inside.store.of(index).partitions is None
        assert parts_of(index) == parts_of(plain)


def test_auto_chooses_the_same_each_time(auto: None, rng: np.random.Generator) -> None:
    rows = clusters(rng)
    assert parts_of(index_over(rows, "cosine", cells="auto", threads=1)) == parts_of(
        index_over(rows, "cosine", cells="auto", threads=2))


@pytest.fixture
def both(auto: None, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> farann.Index:
    """An index with cells, and with codes beside for exact searches."""
    costs = iter([2.0, 1.0])
    monkeypatch.setattr(inside.tuning.Answered, "cost", lambda *given: next(costs))
    monkeypatch.setattr(inside.settings, "costs_by_recall",
                        lambda *given, with_partitions, **others: [1.0 if with_partitions else 2.0])
    index = index_over(clusters(rng), "cosine", cells="auto")
    store = inside.store.of(index)
    assert store.partitions is not None and store.exact is not None
    return index


def test_exact_searches_have_codes_of_their_own(both: farann.Index,
                                                rng: np.random.Generator) -> None:
    rows, queries = both.reconstruct(both.ids), clusters(rng, 60)
    plain = index_over(rows, "cosine")
    ours, theirs = (index.search_furthest(queries, K, return_stats=True, threads=1)
                    for index in (both, plain))
    assert_same(ours, theirs)
    assert ours.stats == theirs.stats
    before = both.stats()["bytes"]["codes"]
    assert before > 1.9 * plain.stats()["bytes"]["codes"]
    tuned = both.tune(k=K)
    assert tuned.costs[-1] == 1.0
    # And so they do after changes.
    more = clusters(rng, 900)
    both.add(more)
    both.remove(both.ids[::7])
    every = both.reconstruct(both.ids)
    expected = reference.furthest(queries, every, K, "cosine", ids=both.ids)
    assert_same(both.search_furthest(queries, K), expected)
    radius = float(expected.scores[:, -1].max())
    assert_same_beyond(both.search_beyond(queries, radius=radius),
                       reference.beyond(queries, every, radius, "cosine", ids=both.ids))


def test_files_have_both_layouts(both: farann.Index, rng: np.random.Generator,
                                 tmp_path: Path) -> None:
    path, queries = tmp_path / "index", clusters(rng, 60)
    both.save(path)
    for mmap in (False, True):
        loaded = farann.Index.load(path, mmap=mmap)
        assert parts_of(loaded) == parts_of(both)
        choices: tuple[dict[str, Any], ...] = ({}, {"recall": 0.9})
        for options in choices:
            ours, theirs = (index.search_furthest(queries, K, return_stats=True, threads=1,
                                                  **options) for index in (both, loaded))
            assert_same(ours, theirs)
            assert ours.stats == theirs.stats


def without(name: str) -> Callable[[dict[str, Any], dict[str, NDArray[Any]]], object]:
    return lambda metadata, arrays: arrays.pop(name)


@pytest.mark.parametrize(("damage", "message"), [
    (without("exact.panels"), "exact.panels"),
    (without("exact.low_nibbles"), "'exact.low_nibbles' doesn't fit|not those of these rows"),
    (without("exact.bounds"), "exact.bounds"),
    (lambda metadata, arrays: arrays.update({"exact.bounds": np.ones(1)}), "exact.bounds"),
    (lambda metadata, arrays: [arrays.pop(name) for name in list(arrays)
                               if name.startswith("partitions.")], "don't fit"),
    (lambda metadata, arrays: arrays.update(
        {"exact.slots": arrays["exact.slots"][::-1].copy()[:16]}),
     "not those of these rows"),
    (lambda metadata, arrays: arrays.update({"exact.slots": np.zeros_like(arrays["exact.slots"])}),
     "not one of each row")])
def test_damaged_layouts_are_refused(damage: Callable[[dict[str, Any], dict[str, Any]], object],
                                     message: str, both: farann.Index, tmp_path: Path) -> None:
    path = tmp_path / "index"
    both.save(path)
    metadata, arrays = inside.files.read_file(path)
    damage(metadata, arrays)
    inside.files.write_file(path, metadata, arrays)
    with pytest.raises(farann.FormatError, match=message):
        farann.Index.load(path)


def test_layouts_of_different_widths_are_refused(both: farann.Index, rng: np.random.Generator,
                                                 tmp_path: Path) -> None:
    """Added rows are coded alike for both."""
    path = tmp_path / "index"
    flat = low_rank(rng, len(both), both.dim or 0)
    index_over(flat, "cosine").save(path)
    of_foreign = inside.files.read_file(path)[1]
    both.save(path)
    metadata, arrays = inside.files.read_file(path)
    assert "codes.pca_axes" in of_foreign and "codes.pca_axes" not in arrays
    arrays = {name: part for name, part in arrays.items() if not name.startswith("exact")}
    arrays |= {f"exact.{name[6:]}": part for name, part in of_foreign.items()
               if name.startswith("codes.")}
    inside.files.write_file(path, metadata, arrays)
    with pytest.raises(farann.FormatError, match="don't fit"):
        farann.Index.load(path)


def test_auto_when_no_row_is_left(rng: np.random.Generator) -> None:
    index = index_over(rng.standard_normal((50, DIM), dtype=np.float32), cells="auto")
    index.remove(index.ids)
    index.build()
    assert len(index) == 0 and (index.search_furthest(np.ones(DIM), 3).ids == -1).all()


@pytest.mark.parametrize("metric", ["l2", "dot", "cosine"])
def test_one_sample_of_rows(metric: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Typical rows in float64 take as much memory as all: axes and first look share them."""
    made, sample_of = [], inside.quantize.sample_of

    def counted(*args: Any) -> Any:
        made.append(len(args[0]))
        return sample_of(*args)

    monkeypatch.setattr(inside.settings, "sample_of", counted)
    rows = np.random.default_rng(0).standard_normal((20_000, 128), dtype=np.float32)
    index_over(rows, metric, threads=1)
    index_over(rows[:5000], metric, threads=1)
    index_over(rows[:5000] * np.geomspace(1, 100, 128, dtype=np.float32), metric, threads=1)
    # Of few rows some are looked at first, and no others where these tell that there is nothing.
    assert made == [20_000, 625, 625, 5000]


@pytest.mark.parametrize("cells", [None, 20])
def test_codes_go_with_their_index(cells: int | None, rng: np.random.Generator) -> None:
    """They are in no cycle, which would keep them in memory until the garbage collector comes."""
    index = index_over(float32(rng.standard_normal((N, DIM))), cells=cells)
    index.search_furthest(float32(rng.standard_normal((3, DIM))), K)
    store = inside.store.of(index)
    parts = [weakref.ref(part) for part in (store.codes, store.partitions) if part is not None]
    assert len(parts) == (1 if cells is None else 2)
    gc.collect()
    gc.disable()
    try:
        del index, store
        assert [part() for part in parts] == [None] * len(parts)
    finally:
        gc.enable()


@pytest.mark.parametrize("metric", ["l2", "dot"])
@pytest.mark.parametrize("nearest", [False, True])
def test_partitions_dont_slow_exact_searches_down(metric: str, nearest: bool,
                                                  rng: np.random.Generator) -> None:
    """By counted work, where rows of many lengths end a scan early; and answers are the same."""
    rows = float32(rng.standard_normal((12_000, DIM)) * np.exp(rng.standard_normal((12_000, 1))))
    queries = rng.standard_normal((100, DIM), dtype=np.float32)
    found = {}
    for cells in (None, 60):
        index = farann.Index(metric=metric, cells=cells)
        index.add(rows)
        index.build(nearest=nearest)
        search = index.search_nearest if nearest else index.search_furthest
        hits = search(queries, K, return_stats=True)
        found[cells] = inside.runtime.cost_of(hits.stats, DIM, index.isa), hits
        assert (inside.store.of(index).partitions is not None) == (cells is not None)
    assert found[60][0] <= 1.1 * found[None][0]
    assert_same(found[60][1], found[None][1])
