"""4-bit codes without vectors, relative to the means of cells: right, better, and kept in files."""

from __future__ import annotations

import itertools
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import codes_in_numpy as model
import inside
import numpy as np
import pytest
import reference
from approximate_cases import clustered, gaussian, recall_of
from cases import Float32, assert_same, index_of, near
from codes_in_numpy import Float64
from numpy.typing import NDArray
from reference import METRICS

import farann

N, DIM, N_CELLS = 3000, 21, 40
ALL: dict[str, Any] = {"budget": 2**40}
LIMITS: tuple[dict[str, Any], ...] = (ALL, {"recall": 0.9}, {"budget": 600})


def relative(rows: Float32, metric: str = "l2", cells: int | None = N_CELLS,
             **options: Any) -> farann.Index:
    return index_of(rows, metric, codes="int4", cells=cells, keep_vectors=False, **options).build()


def some(metric: str, n: int = N) -> tuple[farann.Index, Float32, Float32]:
    """An index of clustered rows, these, and queries."""
    rows, queries = np.split(clustered(np.random.default_rng(5), n + 40, DIM), [n])
    return relative(rows, metric), rows, queries


class Rough:
    """Coded rows as the file's sections say, and their scores for queries as these are coded."""

    def __init__(self, index: farann.Index) -> None:
        store = inside.store.of(index)
        assert store is not None and store.codes is not None and store.partitions is not None
        codes, cells, self.center = store.codes, store.partitions, store.center
        assert cells.relative and codes.low_nibbles is None and codes.slots is not None
        self.largest, self.signs = inside.native.largest_code(index.isa), codes.signs
        positions = model.filled(codes)
        self.slots, weights = codes.slots[positions], codes.inv_scale[positions // 16].astype(float)
        means = np.zeros((len(cells.starts) + 1, index.dim or 0))
        width = means.shape[1]
        bytes_of = model.by_position(cells.panels)[: len(cells.starts) - 1, :width]
        means[1:-1] = (bytes_of - 128.0) / np.repeat(cells.inv_scale, 16)[: len(bytes_of), None]
        cell = np.searchsorted(cells.starts, positions, side="right")
        upper = model.codes_of(codes).whole[positions, :width]
        self.rows = (upper - 120.5) / weights[:, None] + means[cell]
        self.squares = None if codes.squares is None else codes.squares[positions] / weights
        self.largest_square = 0.0 if codes.squares is None else float(codes.squares.max())

    def scores(self, query: Float32, metric: str, coded: bool) -> Float64:
        asked = model.question(query, self.center, metric, 1.0)
        a = model.turned(asked.weights[None], self.signs)[0]
        if coded:
            t = max(np.abs(a).max() / self.largest, self.largest_square / 2.0**28)
            a = t * np.rint(a * (1.0 / t))
        reduced = self.rows @ a + (0.0 if self.squares is None else self.squares)
        key = (reduced - asked.key_offset) / asked.key_scale
        if metric == "l2":
            return np.asarray(np.sqrt(np.maximum(key, 0.0)))
        norm = np.linalg.norm(query.astype(float)) if metric == "cosine" else 1.0
        return np.asarray(-key / norm)


def assert_rough(index: farann.Index, queries: Float32, metric: str) -> None:
    """Scores and answers are those that the model finds in the codes."""
    rough = Rough(index)
    ids, order = index.ids, np.argsort(rough.slots)
    held = rough.slots[order]
    scores = index.score(queries, ids[held])
    hits = index.search_furthest(queries, 10, **ALL)
    best_first = -1.0 if metric == "l2" else 1.0
    for i, query in enumerate(queries):
        expected = rough.scores(query, metric, coded=False)[order]
        assert near(scores[i], expected, rel=2e-6, abs=2e-5)
        expected = np.full(len(ids), np.nan)
        expected[held] = rough.scores(query, metric, coded=True)[order]
        others = np.flatnonzero(np.isnan(expected))  # exact
        expected[others] = index.score(query, ids[others])
        got = expected[np.searchsorted(ids, hits.ids[i])]
        assert near(hits.scores[i], got, rel=2e-6, abs=2e-5)
        assert near(got, best_first * np.sort(best_first * expected)[:10], abs=3e-5)


class TestRecall:
    @pytest.mark.parametrize(("metric", "gain"), [("l2", -0.01), ("dot", 0.03), ("cosine", 0.04)])
    def test_better_than_without(self, metric: str, gain: float) -> None:
        """Under l2 those that are furthest are mostly rows that stay exact."""
        index, rows, queries = some(metric, 12_000)
        truth = reference.furthest(queries, rows, 10, metric).ids
        plain = relative(rows, metric, None).search_furthest(queries, **ALL).ids
        assert recall_of(index.search_furthest(queries, **ALL).ids, truth) >= (
            recall_of(plain, truth) + gain)

    @pytest.mark.parametrize("metric", METRICS)
    def test_errors_are_smaller(self, metric: str) -> None:
        index, rows, queries = some(metric)
        truth = reference.score(queries, rows, metric)
        plain = relative(rows, metric, None)
        errors = [i.score(queries, np.arange(N)) - truth for i in (index, plain)]
        assert errors[0].std() < 0.75 * errors[1].std()
        assert abs(errors[0].mean()) < 0.05 * errors[0].std()

    def test_that_of_all_codes_is_measured(self) -> None:
        index, rows, _ = some("cosine", 6000)
        queries = rows[::10]
        truth = reference.furthest(queries, rows, 10, "cosine").ids
        found = index.search_furthest(queries, **ALL).ids
        assert index.stats()["codes_recall"] == pytest.approx(recall_of(found, truth), abs=0.02)

    def test_tight_clusters(self, rng: np.random.Generator) -> None:
        """Scales fit what is left of rows, far smaller than these."""
        centers = 3.0 * gaussian(rng, 30, 16)
        rows = np.repeat(centers, 50, axis=0) + np.float32(0.05) * gaussian(rng, 1500, 16)
        index, plain = relative(rows, "dot", 100), relative(rows, "dot", None)
        off = [np.median(np.abs(i.reconstruct(i.ids) - rows)) for i in (index, plain)]
        assert off[0] < 0.1 * off[1]

    def test_equal_rows(self) -> None:
        """Of which means leave nothing but what rounding took from these."""
        rows = np.repeat(gaussian(np.random.default_rng(1), 10, 6), 40, axis=0)
        index = relative(rows, "l2", 40)
        assert np.abs(index.reconstruct(index.ids) - rows).max() < 0.01


class TestScores:
    @pytest.mark.parametrize("metric", METRICS)
    def test_are_those_of_the_codes(self, metric: str) -> None:
        index, _, queries = some(metric)
        assert_rough(index, queries, metric)

    @pytest.mark.parametrize("dim", [1, 3, 4, 8, 9, 130])
    def test_in_other_dimensions(self, dim: int, rng: np.random.Generator) -> None:
        rows, queries = gaussian(rng, 700, dim), gaussian(rng, 9, dim)
        for metric in ("l2", "dot"):
            assert_rough(relative(rows, metric, 8), queries, metric)

    @pytest.mark.parametrize(("metric", "scale"), [("dot", 0.0), ("dot", 1e-38), ("dot", 3e36),
                                                   ("l2", 1e37)])
    def test_of_queries_without_codes(self, metric: str, scale: float) -> None:
        index, _, queries = some(metric)
        scaled = queries * np.float32(scale)
        for asked in (scaled, scaled[0]):
            hits = index.search_furthest(asked, 5, **ALL)
            for query, ids, scores in zip(np.atleast_2d(asked), np.atleast_2d(hits.ids),
                                          np.atleast_2d(hits.scores), strict=True):
                assert near(index.score(query, ids), scores, rel=1e-5, abs=2e-44)

    @pytest.mark.parametrize("metric", METRICS)
    def test_the_same_one_by_one_and_with_any_threads(self, metric: str) -> None:
        index, _, queries = some(metric)
        queries = np.vstack([queries] * 20)
        for limits in (ALL, {"recall": 0.9}):
            hits = index.search_furthest(queries, threads=1, **limits)
            assert np.array_equal(hits.ids[:40], hits.ids[-40:])
            if limits == ALL:
                assert_same(index.search_furthest(queries, threads=3, **limits), hits)
                single = [index.search_furthest(query, **limits) for query in queries[:40]]
                for one, ids, scores in zip(single, hits.ids, hits.scores, strict=False):
                    assert np.array_equal(one.ids, ids)
                    assert near(one.scores, scores, abs=1e-5)

    @pytest.mark.parametrize("metric", METRICS)
    def test_at_every_level(self, metric: str) -> None:
        index, _, queries = some(metric)
        expected = index.score(queries, index.ids)
        for level in inside.levels():
            inside.store.use_level(index, level)
            assert_rough(index, queries[:9], metric)
            assert_rough(index, queries[:3], metric)  # one by one
            assert np.array_equal(index.score(queries, index.ids), expected)

    @pytest.mark.parametrize("metric", METRICS)
    def test_of_cells_alone(self, metric: str) -> None:
        """Limits that visit few cells give the same scores, of fewer rows."""
        index, _, queries = some(metric)
        everything = index.search_furthest(queries, N, **ALL)
        for limits in LIMITS[1:]:
            hits = index.search_furthest(queries, 10, **limits)
            for i in range(len(queries)):
                where = {int(id): at for at, id in enumerate(everything.ids[i])}
                at = [where[int(id)] for id in hits.ids[i]]
                assert near(hits.scores[i], everything.scores[i][at], abs=1e-5)
            assert recall_of(hits.ids, everything.ids[:, :10].copy()) >= 0.5


class TestLife:
    @pytest.mark.parametrize("metric", METRICS)
    def test_removed_and_added(self, metric: str) -> None:
        index, rows, queries = some(metric)
        rng = np.random.default_rng(2)
        decoded, scores = index.reconstruct(index.ids), index.score(queries, index.ids)
        gone = np.sort(rng.permutation(N)[:1700])
        left = np.setdiff1d(np.arange(N), gone)
        new = clustered(np.random.default_rng(9), 300, DIM)
        for step in range(3):
            if step == 0:
                index.remove(gone)
            if step == 1:
                index.add(new)
            index.build()
            assert np.array_equal(index.reconstruct(left), decoded[left])
            assert np.array_equal(index.score(queries, left), scores[:, left])
            assert_rough(index, queries[:9], metric)
        both = np.vstack([rows[left], new])
        truth = reference.furthest(queries, both, 10, metric, ids=index.ids)
        assert recall_of(index.search_furthest(queries, **ALL).ids, truth.ids) >= 0.7
        index.remove(index.ids[:-1])
        assert index.build().search_furthest(queries[0], 2, **ALL).ids.tolist() == [N + 299, -1]

    @pytest.mark.parametrize("metric", METRICS)
    def test_filters(self, metric: str) -> None:
        index, _, queries = some(metric)
        rng = np.random.default_rng(3)
        everything = index.search_furthest(queries, N, **ALL)
        for size in (2000, 60, 8):
            allowed = rng.permutation(N)[:size]
            hits = index.search_furthest(queries, 8, allowed=allowed, **ALL)
            for i in range(len(queries)):
                expected = everything.ids[i][np.isin(everything.ids[i], allowed)][:8]
                assert np.array_equal(hits.ids[i], expected)
            for limits, asked in itertools.product(LIMITS, (queries, queries[0])):
                ids = index.search_furthest(asked, 8, allowed=allowed, **limits).ids
                assert np.isin(ids, allowed).all()
        best = everything.ids[:, :20].copy()
        hits = index.search_furthest(queries, 8, exclude=best, **ALL)
        assert np.array_equal(hits.ids, everything.ids[:, 20:28])

    def test_only_where_it_is_meant(self) -> None:
        rows = clustered(np.random.default_rng(0), 900, 6)
        for codes, cells, keep in itertools.product(("int8", "int4"), (None, 7), (True, False)):
            index = index_of(rows, codes=codes, cells=cells, keep_vectors=keep).build()
            store = inside.store.of(index)
            assert store is not None
            assert (store.partitions is not None and store.partitions.relative) == (
                codes == "int4" and cells == 7 and not keep)


class TestFiles:
    @pytest.mark.parametrize("metric", METRICS)
    def test_the_same_again(self, metric: str, tmp_path: Path) -> None:
        index, rows, queries = some(metric, 900)
        path, second = tmp_path / "index", tmp_path / "second"
        for step in range(3):
            if step == 1:
                index.add(rows[:50])
                index.remove(np.arange(0, 900, 3))
            if step == 2:
                index.build()
            hits = index.search_furthest(queries, 20, **ALL)
            index.save(path)
            assert inside.files.read_file(path)[1]["partitions.relative"] == 1
            for again in (farann.Index.load(path), farann.Index.load(path, mmap=True),
                          pickle.loads(pickle.dumps(index))):
                assert_same(again.search_furthest(queries, 20, **ALL), hits)
                assert np.array_equal(again.score(queries, index.ids),
                                      index.score(queries, index.ids))
                again.save(second)
                assert second.read_bytes() == path.read_bytes()

    @pytest.fixture
    @staticmethod
    def parts(tmp_path: Path) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        some("l2", 900)[0].save(tmp_path / "index")
        return inside.files.read_file(tmp_path / "index")

    def test_files_may_say_that_codes_are_not_relative(self, parts: Any, tmp_path: Path) -> None:
        """They are those of rows then."""
        metadata, arrays = parts
        arrays = {**arrays, "partitions.relative": np.zeros(1, np.uint8)}
        inside.files.write_file(tmp_path / "whole", metadata, arrays)
        index = farann.Index.load(tmp_path / "whole")
        store = inside.store.of(index)
        assert store is not None and store.partitions is not None and store.codes is not None
        query = gaussian(np.random.default_rng(0), 1, DIM)[0]
        hits = index.search_furthest(query, 10, **ALL)
        assert index.score(query, hits.ids) == pytest.approx(hits.scores, rel=0.05)
        codes = store.codes
        position = int(model.filled(codes)[0])
        slot = int(np.asarray(codes.slots)[position])
        upper = model.codes_of(codes).whole[position, :DIM] - 120.5
        length = np.linalg.norm(index.reconstruct(slot) - store.center)
        assert length == pytest.approx(np.linalg.norm(upper) / codes.inv_scale[position // 16],
                                       rel=1e-5)

    def test_refused(self, parts: Any, tmp_path: Path) -> None:
        metadata, arrays = parts
        relative = "partitions.relative"
        plain = index_of(clustered(np.random.default_rng(0), 900, 6), codes="int4", cells=7)
        plain.build().save(tmp_path / "plain")
        eight = index_of(clustered(np.random.default_rng(0), 900, 6), cells=7, keep_vectors=False)
        eight.build().save(tmp_path / "eight")
        made = [(metadata, {**arrays, relative: np.array(value)})
                for value in ([], [1.0], [[1]], [1])]
        made += [(metadata, {**arrays, relative: np.ones(n, np.uint8)}) for n in (0, 2)]
        made.append((metadata, {name: array for name, array in arrays.items() if name != relative}))
        for name in ("plain", "eight"):
            other, sections = inside.files.read_file(tmp_path / name)
            assert sections[relative] == 0
            made.append((other, {**sections, relative: np.ones(1, np.uint8)}))
        for content, sections in made:
            inside.files.write_file(tmp_path / "made", content, sections)
            for mmap in (False, True):
                with pytest.raises(farann.FormatError, match="relative"):
                    farann.Index.load(tmp_path / "made", mmap=mmap)

    @pytest.mark.parametrize("name", ["starts", "panels", "inv_scale", "squares"])
    def test_cells_of_anything(self, name: str, parts: Any, tmp_path: Path) -> None:
        """Answers may be wrong then, but are rows of the index."""
        metadata, arrays = parts
        rng, array, loaded = np.random.default_rng(0), arrays[f"partitions.{name}"], 0
        made = [np.frombuffer(rng.bytes(array.nbytes), array.dtype).reshape(array.shape)
                for _ in range(4)]
        if name == "starts":
            made += [array // 32 * 16, np.zeros_like(array), np.full_like(array, array[-1]),
                     array[:-1], np.append(array, array[-1])]
        elif name != "panels":
            made += [np.full_like(array, value) for value in (1e-45, 1e-30, 1e30, 3e38)]
        for other in made:
            sections = {**arrays, f"partitions.{name}": other}
            inside.files.write_file(tmp_path / "made", metadata, sections)
            try:
                index = farann.Index.load(tmp_path / "made")
            except farann.FormatError:
                continue
            loaded += 1
            queries = gaussian(rng, 7, DIM)
            with np.errstate(all="ignore"):
                for limits, asked in itertools.product(LIMITS, (queries, queries[0])):
                    ids = index.search_furthest(asked, 5, **limits).ids
                    assert np.isin(ids, np.append(index.ids, -1)).all()
                index.score(queries, index.ids)
                index.reconstruct(index.ids)
                index.remove(index.ids[::3])
                index.build().search_furthest(queries, 5, **ALL)
        assert loaded

    def test_the_core_refuses_it_with_vectors(self) -> None:
        index = index_of(clustered(np.random.default_rng(0), 900, 6), codes="int4", cells=7)
        cells = inside.store.of(index.build()).partitions
        assert cells is not None
        inside.store.put(index, partitions=replace(cells, relative=True))
        with pytest.raises(ValueError, match="only 4-bit codes without vectors"):
            inside.store.snapshot_of(index)
