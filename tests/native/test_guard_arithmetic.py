"""The guard's tests by float64, at every level; guards in files."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import inside
import numpy as np
import pytest
from cases import Float32, assert_same, index_of
from guard_cases import N, around, guarded, guards_of, middles_of, unlike
from inside import core

import farann


@pytest.fixture(scope="module")
def plain() -> farann.Index:
    return index_of(around(middles_of(24), N, 1), "dot", threads=1).build(tune=[10])


class TestCore:
    """Both tests by float64, at every level."""

    @staticmethod
    def made(dim: int, unit: bool) -> tuple[inside.tuning.GuardArrays, Float32]:
        random = np.random.default_rng(dim)
        queries = random.standard_normal((3000, dim), dtype=np.float32)
        queries[:, 0] += 3.0
        arrays = inside.tuning.make_guard(queries[600:], unit, 0, inside.levels()[0]).arrays
        return arrays, queries[:600].copy()

    @staticmethod
    def margins(arrays: inside.tuning.GuardArrays, queries: Float32, unit: bool,
                times: float) -> tuple[Any, Any]:
        """How far inside both limits queries are, negative outside."""
        dim, width = queries.shape[1], len(arrays.center)
        x = np.zeros((len(queries), width))
        for j, sign in enumerate(inside.tuning.signs_of(dim)):
            x[:, j % width] += sign * queries[:, j].astype(np.float64)
        if unit:
            x /= np.linalg.norm(queries.astype(np.float64), axis=1, keepdims=True)
        x = (x - arrays.center) * arrays.scale
        squares = ((x[:, None] - arrays.points.astype(np.float64)) ** 2).sum(axis=2)
        near = (times * arrays.reaches - squares).max(axis=1)
        return near, times - ((x @ arrays.axes.T.astype(np.float64)) ** 2).sum(axis=1)

    @pytest.mark.parametrize(("dim", "unit"), [
        (1, False), (1, True), (7, False), (16, True), (50, False), (64, True), (65, False),
        (130, True), (200, False)])
    def test_both_tests(self, dim: int, unit: bool) -> None:
        arrays, queries = self.made(dim, unit)
        queries[500:] *= np.linspace(0.2, 2.0, 100, dtype=np.float32)[:, None]
        queries[500:, 0] = -30.0
        near, inside_axes = self.margins(arrays, queries, unit, 1.0)
        wanted = (near < 0) | (inside_axes < 0)
        clear = (np.abs(near) > 1e-4) & (np.abs(inside_axes) > 1e-4)
        assert dim == 1 or 20 < wanted.sum() < 500
        far = [bool((margin < 0).any()) for margin in self.margins(arrays, queries, unit, 1.25)]
        for isa in inside.levels():
            guard = core.Guard(isa, unit, inside.tuning.signs_of(dim), *vars(arrays).values())
            for start, stop in ((0, 600), (3, 4), (10, 15), (590, 600), (7, 7), (100, 117)):
                marks = np.full(600, 2, np.uint8)
                found = guard.find(queries, start, stop, marks)
                some = slice(start, stop)
                assert found == marks[some].sum()
                assert (marks[:start] == 2).all() and (marks[stop:] == 2).all()
                assert np.array_equal(marks[some][clear[some]], wanted[some][clear[some]])
            like = np.array([guard.is_like(queries, i) for i in range(600)])
            assert np.array_equal(like[clear], ~wanted[clear])
            assert any(far) == any(not guard.is_like(queries, i, 1.25) for i in range(600))

    def test_wrong_arguments(self) -> None:
        arrays, queries = self.made(20, False)
        signs = inside.tuning.signs_of(20)
        guard = core.Guard("scalar", False, signs, *vars(arrays).values())
        marks = np.zeros(600, np.uint8)
        for wrong in ((queries[:, :7].copy(), 0, 5, marks), (queries, -1, 5, marks),
                      (queries, 5, 4, marks), (queries, 0, 601, marks),
                      (queries, 0, 9, marks[:8])):
            with pytest.raises(ValueError, match="queries"):
                guard.find(*wrong)
        for i in (-1, 600):
            with pytest.raises(ValueError, match="queries"):
                guard.is_like(queries, i)
        with pytest.raises(ValueError, match="this CPU has"):
            core.Guard("z80", False, signs, *vars(arrays).values())

    def test_gives_up(self) -> None:
        arrays, queries = self.made(20, False)
        guard = core.Guard("scalar", False, inside.tuning.signs_of(20), *vars(arrays).values())
        flag = core.CancelFlag()
        flag.cancel()
        with pytest.raises(core.Cancelled):
            guard.find(queries, 0, 600, np.zeros(600, np.uint8), flag)


class TestFiles:
    @pytest.mark.parametrize(("metric", "dim", "cells"), [
        ("l2", 24, 60), ("dot", 100, None), ("cosine", 100, 60)])
    def test_kept(self, metric: str, dim: int, cells: int | None, tmp_path: Path) -> None:
        index = index_of(around(middles_of(dim), 8000, 1), metric, cells=cells).build(tune=[10])
        mixed = np.vstack([around(middles_of(dim), 40, 4),
                           unlike(dim, 40, metric)["swapped"]])
        index.save(tmp_path / "index")
        expected, number = guarded(index, mixed)
        assert number >= 40
        for loaded in (farann.Index.load(tmp_path / "index"),
                       farann.Index.load(tmp_path / "index", mmap=True),
                       pickle.loads(pickle.dumps(index))):
            assert guards_of(loaded).keys() == {10}
            hits, again = guarded(loaded, mixed)
            assert again == number
            assert_same(hits, expected)

    def test_guards_of_several_k(self, plain: farann.Index, tmp_path: Path) -> None:
        index = pickle.loads(pickle.dumps(plain))
        index.tune(k=3)
        index.tune(around(middles_of(24, 1), 30, 3), k=4)
        index.tune(k=7)
        assert guards_of(index)[3] is guards_of(index)[7]
        index.save(tmp_path / "index")
        metadata, arrays = inside.files.read_file(tmp_path / "index", mmap=False)
        assert [table["guard"] for table in metadata["tunings"]] == [0, 1, 2, 1]
        assert "guards.2.scale" in arrays and "guards.3.scale" not in arrays
        loaded = guards_of(farann.Index.load(tmp_path / "index"))
        assert loaded[3] is loaded[7]
        queries = np.vstack([around(middles_of(24, 1), 200, 4), around(middles_of(24), 200, 4)])
        for k in (3, 4, 7, 10):
            found, again = (guards[k].unlike(queries, 1) for guards in (guards_of(index), loaded))
            if found is None or again is None:
                assert found is again
            else:
                assert np.array_equal(found, again)

    def test_tables_without_guards(self, plain: farann.Index, tmp_path: Path) -> None:
        """They are used as they are: what they were measured with isn't known."""
        plain.save(tmp_path / "index")
        metadata, arrays = inside.files.read_file(tmp_path / "index", mmap=False)
        for table in metadata["tunings"]:
            del table["guard"]
        inside.files.write_file(tmp_path / "without", metadata, arrays)
        index = farann.Index.load(tmp_path / "without")
        distant = unlike(24, 30, "dot")["distant"]
        assert guarded(index, distant)[1] == 0
        index.tune(k=9)
        assert guarded(index, distant, k=9)[1] == 30
        index.tune()
        assert guarded(index, distant)[1] == 30

    def test_damaged(self, plain: farann.Index, tmp_path: Path) -> None:
        plain.save(tmp_path / "index")
        metadata, arrays = inside.files.read_file(tmp_path / "index", mmap=False)
        guards = {name: array for name, array in arrays.items() if name.startswith("guards.")}
        assert len(guards) == 5
        for name, array in guards.items():
            for change in (None, array[:0], np.concatenate([array, array]), array.astype(np.int64),
                           array.ravel() if array.ndim > 1 else array[:, None],
                           np.full_like(array, np.nan), np.zeros_like(array)):
                if name.endswith(("center", "points", "reaches", "axes")) and (
                        change is not None and change.shape == array.shape and not change.any()):
                    continue  # senseless, but numbers
                sections = dict(arrays)
                if change is None:
                    del sections[name]
                else:
                    sections[name] = change
                inside.files.write_file(tmp_path / "damaged", metadata, sections)
                with pytest.raises(farann.FormatError, match="guards"):
                    farann.Index.load(tmp_path / "damaged")

    def test_the_same_by_the_same_seed(self) -> None:
        rows = around(middles_of(100), 6000, 1)
        first, second, other = (
            guards_of(index_of(rows, seed=seed).build(tune=[10]))[10].arrays for seed in (3, 3, 4))
        for a, b in zip(vars(first).values(), vars(second).values(), strict=True):
            assert np.asarray(a).tobytes() == np.asarray(b).tobytes()
        assert first.points.tobytes() != other.points.tobytes()
