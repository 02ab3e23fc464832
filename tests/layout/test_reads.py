"""Builds of rows in a mapped file: how often they read these, and that nothing else changes."""

from __future__ import annotations

import mmap
from pathlib import Path
from typing import Any

import inside
import numpy as np
import pytest
from cases import Float32, float32, low_rank
from numpy.testing import assert_array_equal

import farann

# More than sample queries of few rows, so that they are answered by codes in memory, too.
N, DIM = 30_000, 32


ROWS_A_PAGE = 4096 // (4 * DIM)


class Counted(np.ndarray[Any, Any]):
    """Rows that count those which are read from them, by blocks or lists of numbers; of lists of
    many, whole pages. Every n-th row, a sample, is as these rows are."""

    n_read = 0
    at_hand = range(0)  # the last block: what is read of it once more lies in caches

    def __getitem__(self, which: Any) -> Any:
        some = super().__getitem__(which)
        if isinstance(some, np.ndarray) and some.ndim == 2:
            if isinstance(which, slice) and which.step is not None:
                return some
            if isinstance(which, slice):
                block = range(*which.indices(len(self)))
                if not set(block) <= set(Counted.at_hand):
                    Counted.n_read, Counted.at_hand = Counted.n_read + len(some), block
            else:
                Counted.n_read += len(some) if len(some) < N // 10 else (
                    ROWS_A_PAGE * len(np.unique(which // ROWS_A_PAGE)))
            return np.asarray(some)
        return some


@pytest.fixture(params=["plain", "filtered", "nonnegative"])
def rows(request: pytest.FixtureRequest, rng: np.random.Generator) -> Float32:
    """Rows of all kinds of layouts: with a PCA filter, with bounds by lengths from the origin."""
    if request.param == "filtered":
        return low_rank(rng, N, DIM, 0.01)
    made = rng.standard_normal((N, DIM))
    return float32(made if request.param == "plain" else np.abs(made) ** 4)


def mapped(rows: Float32, folder: Path) -> Float32:
    np.save(folder / "rows.npy", rows)
    array: Float32 = np.load(folder / "rows.npy", mmap_mode="r")
    return array


@pytest.mark.parametrize("options", [{}, {"cells": 60}, {"metric": "cosine"}, {"cells": 300},
                                     {"cells": "auto"}])
def test_rows_are_read_a_few_times(options: dict[str, Any], rows: Float32, tmp_path: Path,
                                   monkeypatch: pytest.MonkeyPatch) -> None:
    """Whole passes of a build; `add` and `save` take one more each, and eight are allowed."""
    scanned, top = [0], inside.settings.top

    def counted(*given: Any, **more: Any) -> Any:
        found = top(*given, **more)
        scanned[0] += found[1].rows_scanned if found[1].float_products else 0
        return found

    index = farann.Index(threads=1, **options)
    index.add(mapped(rows, tmp_path), copy=False)
    store = inside.store.of(index)
    store.base = store.base.view(Counted)
    monkeypatch.setattr(inside.settings, "top", counted)
    Counted.n_read = 0
    index.build()
    codes_fail = options.get("metric") == "cosine" and rows.min() >= 0.0
    # Where codes rule out too little, queries are compared with all rows, 1,024 at a time.
    assert scanned[0] == 0 or (codes_fail and scanned[0] <= 2 * N * 1024)
    assert 2 < Counted.n_read / N <= 6


@pytest.mark.parametrize("options", [{}, {"cells": 60}, {"cells": 300}, {"codes": "float32"},
                                     {"codes": "int4", "keep_vectors": False}])
def test_files_change_no_layout(options: dict[str, Any], rows: Float32, tmp_path: Path) -> None:
    queries = rows[:40] + np.float32(0.5)
    indexes = [farann.Index(threads=2, **options) for _ in range(2)]
    indexes[0].add(rows)
    indexes[1].add(mapped(rows, tmp_path), copy=False)
    one, other = (index.build() for index in indexes)
    recall = None if options.get("keep_vectors", True) else 1.0
    found, again = (index.search_furthest(queries, 10, recall=recall) for index in (one, other))
    assert_array_equal(found.ids, again.ids)
    codes, others = (inside.store.of(index).codes for index in (one, other))
    if codes is None or others is None:
        assert codes is others
        return
    for name in ("panels", "slots", "inv_scale", "low_nibbles", "whole"):
        assert_array_equal(getattr(codes, name), getattr(others, name))


@pytest.mark.parametrize(("in_file", "memory"), [(True, 0.5), (True, 2.0), (False, 0.5)])
def test_rows_beyond_memory_get_one_set_of_codes(
        in_file: bool, memory: float, tmp_path: Path, rng: np.random.Generator,
        monkeypatch: pytest.MonkeyPatch) -> None:
    """Two would take up to half as much as float32 rows, and the build some more."""
    rows = float32(rng.standard_normal((N, DIM)) * np.exp(rng.standard_normal((N, 1))))
    monkeypatch.setattr(inside.settings, "memory", lambda: memory * rows.nbytes)
    index = farann.Index(cells=60)
    index.add(mapped(rows, tmp_path) if in_file else rows, copy=False)
    index.build()
    assert (inside.store.of(index).exact is None) == (in_file and memory < 1.0)


def test_memory_is_that_of_the_least_group(tmp_path: Path) -> None:
    machine = inside.runtime.memory(tmp_path)
    assert machine > 1e6
    for groups, file, limits in (
            ("4:cpu,memory:/a/b\n3:cpu:/c\n", "sys/fs/cgroup/memory{}/memory.limit_in_bytes",
             {"": "9223372036854771712", "/a": "5000", "/a/b": "7000", "/c": "1"}),
            ("0::/a/b\n", "sys/fs/cgroup{}/memory.max", {"/a": "max", "/a/b": "6000"})):
        root = tmp_path / groups[:1]
        texts = {"proc/self/cgroup": groups,
                 **{file.format(group): limit for group, limit in limits.items()}}
        for name, text in texts.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(text)
        assert inside.runtime.memory(root) == (5000 if groups[0] == "4" else 6000)


@pytest.mark.skipif(not hasattr(mmap, "MADV_RANDOM"), reason="nothing can be told to this system")
@pytest.mark.parametrize("codes", ["int8", "float32"])
def test_searches_say_how_they_read(codes: str, rng: np.random.Generator, tmp_path: Path,
                                    monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows that codes leave lie anywhere; a scan of all rows goes in order."""
    told: list[tuple[int, str]] = []
    advise = inside.settings.advise_mapping

    def noted(mapping: Any, start: int, nbytes: int, advice: str) -> None:
        told.append((nbytes, advice))
        advise(mapping, start, nbytes, advice)

    monkeypatch.setattr(inside.settings, "advise_mapping", noted)
    made = float32(rng.standard_normal((N, DIM)))
    index = farann.Index(codes=codes)
    index.add(mapped(made, tmp_path), copy=False)
    index.build()
    expected = "MADV_NORMAL" if codes == "float32" else "MADV_RANDOM"
    assert told[-1] == (made.nbytes, expected)
    index.save(tmp_path / "made.farann")
    assert told[-2:] == [(made.nbytes, "MADV_SEQUENTIAL"), (made.nbytes, expected)]
    told.clear()
    loaded = farann.Index.load(tmp_path / "made.farann", mmap=True)
    assert (made.nbytes, "MADV_RANDOM") in told or codes == "float32"
    queries = float32(rng.standard_normal((7, DIM)))
    assert_array_equal(loaded.search_furthest(queries).ids, index.search_furthest(queries).ids)


def test_arrays_in_memory_are_left_alone(monkeypatch: pytest.MonkeyPatch,
                                         rng: np.random.Generator) -> None:
    monkeypatch.setattr(inside.settings, "advise_mapping", None)  # a call would fail
    index = farann.Index(cells=20)
    index.add(float32(rng.standard_normal((N, DIM))))
    index.build().search_furthest(float32(rng.standard_normal((7, DIM))))


def test_taken_rows_are_those(tmp_path: Path, rng: np.random.Generator) -> None:
    made = mapped(float32(rng.standard_normal((5000, 7))), tmp_path)
    which = rng.integers(0, 5000, 300)
    assert_array_equal(inside.runtime.taken(made, which), made[which])
    assert_array_equal(inside.runtime.taken(made, np.s_[3:4000:17]), made[3:4000:17])
    half = made[100:200]
    assert_array_equal(inside.runtime.taken(half, np.arange(100)), made[100:200])
