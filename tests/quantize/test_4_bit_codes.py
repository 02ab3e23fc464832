"""4-bit codes, and indexes that keep codes alone: how good, how large, how they live."""

from __future__ import annotations

import itertools
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import codes_in_numpy as model
import inside
import numpy as np
import pytest
import reference
from approximate_cases import clustered, gaussian, heavy_tailed, recall_of
from cases import (
    DATA,
    Float32,
    assert_exact,
    assert_same,
    index_of,
    near,
    pairs,
    queries_for,
    rows_for,
)
from inside import core
from inside.contract import CODE_WIDTHS, CodeWidth
from numpy.typing import NDArray
from reference import METRICS

import farann

CODES = ("int8", "int4")
EVERYTHING: dict[str, Any] = {"budget": 2**40}
# What the codes of Gaussian rows find of the ten furthest, at least.
ENOUGH = {"int8": 0.95, "int4": 0.78}


def codes_alone(rows: Float32, metric: str = "l2", **options: Any) -> farann.Index:
    return index_of(rows, metric, keep_vectors=False, **options).build()


def found(hits: farann.Hits) -> NDArray[np.int64]:
    """Ids, which are as many as were asked for, each once, best scores first."""
    ids, scores = np.atleast_2d(hits.ids), np.atleast_2d(hits.scores)
    assert (ids >= 0).all() and all(len(set(row)) == len(row) for row in ids.tolist())
    assert not np.isnan(scores).any()
    return ids


class TestFourBits:
    """With vectors answers are exact, whatever the codes."""

    @pytest.mark.parametrize(("metric", "kind"), list(zip(itertools.cycle(METRICS), DATA)))
    def test_exact_on_hostile_rows(self, metric: str, kind: str, rng: np.random.Generator) -> None:
        for n, dim, cells in ((200, 9, None), (70, 1, None), (300, 33, 7)):
            rows = rows_for(kind, rng, n, dim, metric)
            index = index_of(rows, metric, codes="int4", cells=cells)
            assert_exact(index, rows, queries_for(rng, rows, metric), [1, 10, n + 1])

    @pytest.mark.parametrize("metric", METRICS)
    def test_exact_on_many_rows(self, metric: str, rng: np.random.Generator) -> None:
        """So many that they are laid out by sample queries, and rounded for them."""
        rows, queries = heavy_tailed(rng, 6000, 12), gaussian(rng, 30, 12)
        index = index_of(rows, metric, codes="int4").build()
        expected = reference.furthest(queries, rows, 10, metric)
        hits = index.search_furthest(queries, 10, return_stats=True)
        stats = hits.stats
        assert_same(hits, expected)
        assert stats.rows_rescored < stats.rows_scanned
        for i in range(5):
            one = index.search_furthest(queries[i], 10)
            assert np.array_equal(one.ids, expected.ids[i])

    def test_half_of_the_memory_of_codes(self, rng: np.random.Generator) -> None:
        rows = gaussian(rng, 5000, 64)
        sizes = [index_of(rows, codes=codes).build().stats()["bytes"]["codes"] for codes in CODES]
        assert sizes[1] <= 0.58 * sizes[0]


class TestRecall:
    @pytest.mark.parametrize("codes", CODES)
    @pytest.mark.parametrize("metric", METRICS)
    def test_batches_and_single_queries(self, metric: str, codes: str,
                                        rng: np.random.Generator) -> None:
        rows, queries = gaussian(rng, 6000, 50), gaussian(rng, 200, 50)
        truth = reference.furthest(queries, rows, 10, metric).ids
        index = codes_alone(rows, metric, codes=codes)
        hits = index.search_furthest(queries, budget=6000, return_stats=True)
        stats = hits.stats
        recall = recall_of(found(hits), truth)
        assert recall >= ENOUGH[codes]
        assert stats.rows_scanned >= (6000 - 6000 // 256) * 200
        assert index.stats()["codes_recall"] == pytest.approx(recall, abs=0.03)
        single = [index.search_furthest(query, **EVERYTHING) for query in queries]
        for one, ids, scores in zip(single, hits.ids, hits.scores, strict=True):
            assert np.array_equal(one.ids, ids)
            assert near(one.scores, scores, abs=1e-5)

    @pytest.mark.parametrize("codes", CODES)
    def test_at_every_level(self, codes: str, rng: np.random.Generator,
                            monkeypatch: pytest.MonkeyPatch) -> None:
        rows, queries = gaussian(rng, 5000, 50), gaussian(rng, 100, 50)
        truth = reference.furthest(queries, rows, 10, "cosine").ids
        for level in inside.levels():
            monkeypatch.setattr(inside.settings, "forced_level", level)
            index = codes_alone(rows, "cosine", codes=codes)
            assert index.isa == level
            ids = index.search_furthest(queries, budget=5000).ids
            assert recall_of(ids, truth) >= ENOUGH[codes], level

    def test_another_width_is_a_row_of_the_table(self, rng: np.random.Generator,
                                                 monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(CODE_WIDTHS, "int6", CodeWidth(6, is_coarse=True))
        rows, queries = gaussian(rng, 5000, 50), gaussian(rng, 100, 50)
        recalls = []
        for codes in ("int4", "int6", "int8"):
            index = index_of(rows, "dot", codes=codes).build()
            exact = index.search_furthest(queries)
            assert_same(exact, reference.furthest(queries, rows, 10, "dot"))
            alone = codes_alone(rows, "dot", codes=codes).search_furthest(queries, budget=5000)
            recalls.append(recall_of(alone.ids, exact.ids))
        assert recalls[0] + 0.05 < recalls[1] < recalls[2] + 0.01

    @pytest.mark.parametrize("metric", METRICS)
    def test_cells(self, metric: str, rng: np.random.Generator) -> None:
        # Of fewer queries the recall says little: it strays by 0.01 with 300.
        rows, queries = np.split(clustered(rng, 10_000, 16), [8000])
        index = codes_alone(rows, metric, cells=60)
        everything = index.search_furthest(queries, **EVERYTHING).ids
        for limits in ({"recall": 1.0}, {"budget": 8000}):
            assert np.array_equal(index.search_furthest(queries, **limits).ids, everything)
        index.tune(k=10)
        hits = index.search_furthest(queries, recall=0.9, return_stats=True)
        stats = hits.stats
        assert recall_of(found(hits), everything) >= 0.89
        assert stats.rows_scanned < 0.9 * 8000 * len(queries)
        stats = index.search_furthest(queries, budget=800, return_stats=True).stats
        assert stats.rows_scanned <= 800 * len(queries)

    def test_recall_without_cells_scans_all(self, rng: np.random.Generator) -> None:
        rows = gaussian(rng, 5000, 12)
        index = codes_alone(rows)
        table = index.tune()
        assert table.efforts == (float("inf"),) and table.recalls == (1.0,)
        assert_same(index.search_furthest(rows[:9], recall=0.5),
                    index.search_furthest(rows[:9], **EVERYTHING))


class TestScores:
    @pytest.mark.parametrize("codes", CODES)
    @pytest.mark.parametrize("metric", METRICS)
    def test_without_bias(self, metric: str, codes: str, rng: np.random.Generator) -> None:
        rows, queries = gaussian(rng, 5000, 40) + np.float32(0.5), gaussian(rng, 60, 40)
        index = codes_alone(rows, metric, codes=codes)
        errors = index.score(queries, np.arange(5000)).astype(float) - reference.score(
            queries, rows, metric)
        assert 0 < errors.std() < {"int8": 0.01, "int4": 0.12}[codes] * (
            reference.score(queries, rows, metric).std())
        assert abs(errors.mean()) < 0.03 * errors.std()

    @pytest.mark.parametrize("codes", CODES)
    @pytest.mark.parametrize("metric", METRICS)
    def test_searches_agree_with_score(self, metric: str, codes: str,
                                       rng: np.random.Generator) -> None:
        """But for the query's code, whose error is that of 8 bits."""
        rows, queries = gaussian(rng, 5000, 40), gaussian(rng, 30, 40)
        index = codes_alone(rows, metric, codes=codes)
        hits = index.search_furthest(queries, 10, **EVERYTHING)
        scores = index.score(queries, np.arange(5000))
        off = np.take_along_axis(scores, hits.ids, 1) - hits.scores
        assert np.abs(off).max() < 0.06 * scores.std()
        sign = 1.0 if metric == "l2" else -1.0
        assert (np.diff(sign * hits.scores, axis=1) <= 0.0).all()

    @pytest.mark.parametrize("codes", CODES)
    @pytest.mark.parametrize("metric", METRICS)
    def test_scores_are_those_of_decoded_rows(self, metric: str, codes: str,
                                              rng: np.random.Generator) -> None:
        """As far as lengths, which scores have from elsewhere, don't matter."""
        rows, queries = gaussian(rng, 4500, 21), gaussian(rng, 9, 21)
        index = codes_alone(rows, metric, codes=codes)
        ids = rng.permutation(4500)[:500]
        decoded = index.reconstruct(ids)
        if metric == "cosine" and codes == "int8":
            assert np.linalg.norm(decoded, axis=1) == pytest.approx(1.0, abs=1e-6)
        again = reference.score(queries, decoded, metric)
        tolerance = 1e-3 if metric == "dot" else {"int8": 0.01, "int4": 0.06}[codes]
        assert near(index.score(queries, ids), again, rel=tolerance, abs=tolerance)

    def test_distances_are_never_nan(self, rng: np.random.Generator) -> None:
        """A rough square may be less than 0 where a query is a row."""
        rows = gaussian(rng, 70, 30)
        index = codes_alone(rows, codes="int4")
        assert (index.score(rows, np.arange(70)) >= 0.0).all()
        assert (index.search_furthest(rows, 70, **EVERYTHING).scores >= 0.0).all()

    def test_equal_rows_by_id(self, rng: np.random.Generator) -> None:
        rows = np.repeat(gaussian(rng, 8, 6), 16, axis=0)
        ids = rng.permutation(128)
        index = farann.Index(keep_vectors=False)
        index.add(rows, ids)
        hits = index.search_furthest(rows[:1], 16, **EVERYTHING)
        # All that are furthest are equal, and some equal rows may share no panel.
        for score in np.unique(hits.scores):
            tied = hits.ids[hits.scores == score]
            assert (np.diff(tied) > 0).all()

    def test_queries_that_codes_cannot_hold(self, rng: np.random.Generator) -> None:
        rows = gaussian(rng, 500, 12)
        for codes in CODES:
            index = codes_alone(rows, "dot", codes=codes)
            nothing = index.search_furthest(np.zeros(12), 5, **EVERYTHING)
            assert nothing.ids.tolist() == [0, 1, 2, 3, 4] and not nothing.scores.any()
            query = gaussian(rng, 1, 12)
            truth = reference.furthest(query, rows, 50, "dot").ids
            for scale in (1e-38, 1e-20, 1e20, 3e37):
                hits = index.search_furthest(query * np.float32(scale), 50, **EVERYTHING)
                assert recall_of(found(hits), truth) >= 0.8


class TestRows:
    @pytest.mark.parametrize(("metric", "kind"), list(zip(itertools.cycle(METRICS), DATA)))
    def test_hostile(self, metric: str, kind: str, rng: np.random.Generator) -> None:
        for codes, cells in itertools.product(CODES, (None, 5)):
            rows = rows_for(kind, rng, 200, 7, metric)
            index = codes_alone(rows, metric, codes=codes, cells=cells)
            queries = queries_for(rng, rows, metric)
            with np.errstate(over="ignore", invalid="ignore"):
                for query in (queries, queries[0]):
                    found(index.search_furthest(query, 12, **EVERYTHING))
                assert index.reconstruct(index.ids).shape == rows.shape
                index.add(rows_for(kind, rng, 40, 7, metric))
                index.remove(np.arange(0, 200, 3))
                assert len(index.build()) == 173
                found(index.search_furthest(queries, 173, **EVERYTHING))

    @pytest.mark.parametrize("metric", METRICS)
    def test_few(self, metric: str, rng: np.random.Generator) -> None:
        for n, dim, codes in itertools.product((1, 2, 15, 17, 65), (1, 4, 9), CODES):
            rows = gaussian(rng, n, dim)
            index = codes_alone(rows, metric, codes=codes)
            for queries in (rows[:2], rows[0]):
                ids = np.atleast_2d(index.search_furthest(queries, n + 1, **EVERYTHING).ids)
                assert all(sorted(row) == [-1, *range(n)] for row in ids.tolist())

    def test_what_codes_cannot_hold_is_kept(self) -> None:
        """Rows that are all the same have no spread to code: nothing is dropped then."""
        rows = np.full((300, 4), 7.0, np.float32)
        index = codes_alone(rows)
        hits = index.search_furthest([[7.0, 7.0, 7.0, 8.0]], 3, **EVERYTHING)
        assert hits.ids.tolist() == [[0, 1, 2]] and (hits.scores == 1.0).all()

    def test_one_far_row_is_exact(self, rng: np.random.Generator) -> None:
        rows = gaussian(rng, 300, 8)
        rows[123] *= np.float32(1e6)
        index = codes_alone(rows)
        assert np.array_equal(index.reconstruct(123), rows[123])
        hits = index.search_furthest(rows[:4], 1, **EVERYTHING)
        assert_same(hits, reference.furthest(rows[:4], rows, 1, "l2"))
        assert index.score(rows[0], [123]) == reference.score(rows[:1], rows[[123]], "l2")[0]


class TestMemory:
    @pytest.mark.parametrize(("metric", "dim"), [("cosine", 50), ("l2", 784)])
    @pytest.mark.parametrize(("codes", "most"), [("int8", 0.30), ("int4", 0.17)])
    def test_of_float32(self, codes: str, most: float, metric: str, dim: int,
                        rng: np.random.Generator) -> None:
        rows = gaussian(rng, 6000, dim)
        index = codes_alone(rows, metric, codes=codes)
        assert sum(index.stats()["bytes"].values()) <= most * rows.nbytes

    @pytest.mark.parametrize("cells", [None, 20])
    @pytest.mark.parametrize("codes", CODES)
    def test_of_removed_rows_comes_back(self, codes: str, cells: int | None,
                                        rng: np.random.Generator) -> None:
        index = codes_alone(gaussian(rng, 20_000, 64), codes=codes, cells=cells)
        before = sum(index.stats()["bytes"].values())
        index.remove(rng.permutation(20_000)[:15_000])
        index.build()
        # Ids are no longer slots, which takes 8 bytes a row.
        after = sum(index.stats()["bytes"].values()) - 8 * 5000
        assert after < {None: 0.40, 20: 0.55}[cells] * before


class TestLife:
    """What was coded stays as it was; what is added is exact until it is coded as well."""

    @pytest.mark.parametrize(("metric", "codes", "cells"), pairs(METRICS, CODES, [None, 12]))
    def test_codes_stay(self, metric: str, codes: str, cells: int | None,
                        rng: np.random.Generator) -> None:
        rows, queries = gaussian(rng, 3000, 10), gaussian(rng, 20, 10)
        ids = rng.permutation(90_000)[:3000]
        index = farann.Index(metric=metric, codes=codes, cells=cells, keep_vectors=False)
        index.add(rows[:2000], ids[:2000])
        index.build()
        decoded, scores = index.reconstruct(ids[:2000]), index.score(queries, ids[:2000])
        index.add(rows[2000:], ids[2000:])
        assert np.array_equal(index.reconstruct(ids[2000:]), rows[2000:])
        assert np.array_equal(index.score(queries, ids[2000:]),
                              reference.score(queries, rows[2000:], metric))
        gone = np.zeros(3000, np.bool_)
        gone[rng.permutation(3000)[:1300]] = True
        index.remove(ids[gone])
        old = ~gone[:2000]
        for _ in range(2):
            index.build()
            assert len(index) == 1700 and index.stats()["added"] == index.stats()["removed"] == 0
            assert np.array_equal(index.reconstruct(ids[:2000][old]), decoded[old])
            assert np.array_equal(index.score(queries, ids[:2000][old]), scores[:, old])
        truth = reference.furthest(queries, rows[~gone], 10, metric, ids=ids[~gone])
        hits = index.search_furthest(queries, 10, **EVERYTHING)
        assert recall_of(found(hits), truth.ids) >= ENOUGH[codes] - 0.05
        assert index.search_furthest(queries[0], 10, **EVERYTHING).ids.tolist() == (
            hits.ids[0].tolist())

    def test_larger_rows_get_weights_of_their_own(self, rng: np.random.Generator) -> None:
        index = codes_alone(gaussian(rng, 2000, 16))
        new = gaussian(rng, 500, 16) * np.float32(30)
        ids = index.add(new)
        index.build()
        assert np.abs(index.reconstruct(ids) - new).max() < 1.0
        assert index.stats()["bytes"]["rows"] == 0

    @pytest.mark.parametrize("codes", CODES)
    def test_a_budget_of_all_rows_scans_all(self, codes: str, rng: np.random.Generator) -> None:
        """Also where rows that were removed left gaps."""
        rows, queries = gaussian(rng, 2000, 16), gaussian(rng, 20, 16)
        index = codes_alone(rows, codes=codes)
        index.remove(np.flatnonzero(rng.random(2000) < 0.9))
        index.build()
        codes_of = inside.store.of(index).codes
        assert codes_of is not None and len(codes_of.panels) > len(index) + 100
        expected = found(index.search_furthest(queries, 10, **EVERYTHING))
        for budget in (len(index), len(index) + 40):
            np.testing.assert_array_equal(
                found(index.search_furthest(queries, 10, budget=budget)), expected)

    def test_rows_far_beyond_stay_float32(self, rng: np.random.Generator) -> None:
        index = codes_alone(gaussian(rng, 2000, 16))
        new = gaussian(rng, 20, 16) * np.float32(1e12)
        ids = index.add(np.vstack([new, gaussian(rng, 20, 16)]), np.arange(5000, 5040))
        index.build()
        assert np.array_equal(index.reconstruct(ids[:20]), new)
        assert index.stats()["bytes"]["rows"] == 20 * 64
        assert np.isin(found(index.search_furthest(new[:3], 9, **EVERYTHING)), ids[:20]).all()

    def test_all_removed(self, rng: np.random.Generator) -> None:
        rows = gaussian(rng, 300, 5)
        index = codes_alone(rows)
        index.remove(np.arange(300))
        assert (index.search_furthest(rows[0], 3, **EVERYTHING).ids == -1).all()
        index.build()
        assert len(index) == 0
        new = gaussian(rng, 200, 5)
        ids = index.add(new)
        assert ids[0] == 300
        hits = index.build().search_furthest(new[:5], 10, **EVERYTHING)
        assert recall_of(hits.ids, reference.furthest(new[:5], new, 10, "l2", ids=ids).ids) > 0.9

    def test_the_first_search_builds(self, rng: np.random.Generator) -> None:
        index = index_of(gaussian(rng, 300, 8), keep_vectors=False)
        index.search_furthest(np.ones(8), **EVERYTHING)
        assert index.stats()["built"] and index.stats()["bytes"]["rows"] == 0


class TestFilters:
    @pytest.mark.parametrize("cells", [None, 9])
    @pytest.mark.parametrize("codes", CODES)
    def test_allowed_and_excluded(self, codes: str, cells: int | None,
                                  rng: np.random.Generator) -> None:
        rows, queries = gaussian(rng, 5000, 20), gaussian(rng, 12, 20)
        index = codes_alone(rows, codes=codes, cells=cells)
        index.add(gaussian(rng, 30, 20))
        best = index.search_furthest(queries, 40, **EVERYTHING).ids
        for size in (3000, 60, 20):  # a mask, and what would be a list if there were vectors
            allowed = rng.permutation(5030)[:size]
            for limits in (EVERYTHING, {"recall": 0.9}, {"budget": 500}):
                ids = index.search_furthest(queries, 15, allowed=allowed, **limits).ids
                assert np.isin(ids, allowed).all()
                ids = index.search_furthest(queries, 15, exclude=best, **limits).ids
                assert (ids >= 0).all() and not (ids[:, :, None] == best[:, None, :]).any()
        scores = index.score(queries, allowed)
        order = np.argsort(-scores, axis=1)[:, :15]
        ids = index.search_furthest(queries, 15, allowed=allowed, **EVERYTHING).ids
        assert recall_of(ids, allowed[order]) >= 0.9


class TestThreads:
    def test_same_answers(self, rng: np.random.Generator) -> None:
        rows, queries = gaussian(rng, 5000, 20), gaussian(rng, 900, 20)
        for codes in CODES:
            index = codes_alone(rows, codes=codes)
            assert_same(index.search_furthest(queries, threads=3, **EVERYTHING),
                        index.search_furthest(queries, threads=1, **EVERYTHING))


def lives(codes: str, cells: int | None, metric: str) -> Iterator[farann.Index]:
    """An index without vectors at the stages of its life."""
    rng = np.random.default_rng(0)
    index = index_of(gaussian(rng, 900, 9), metric, codes=codes, cells=cells, keep_vectors=False)
    yield index.build()
    index.add(gaussian(rng, 40, 9), np.arange(5000, 5040))
    yield index
    index.remove([3, 800, 5001])
    yield index
    yield index.build()


class TestFiles:
    @pytest.mark.parametrize(("metric", "codes", "cells"), pairs(METRICS, CODES, [None, 6]))
    def test_the_same_again(self, metric: str, codes: str, cells: int | None,
                            tmp_path: Path) -> None:
        queries = gaussian(np.random.default_rng(7), 9, 9)
        path, second = tmp_path / "index", tmp_path / "second"
        for index in lives(codes, cells, metric):
            hits = index.search_furthest(queries, 20, **EVERYTHING)
            index.save(path)
            for again in (farann.Index.load(path), farann.Index.load(path, mmap=True),
                          pickle.loads(pickle.dumps(index))):
                assert np.array_equal(again.ids, index.ids)
                assert_same(again.search_furthest(queries, 20, **EVERYTHING), hits)
                assert np.array_equal(again.score(queries, index.ids),
                                      index.score(queries, index.ids))
                assert again.stats()["codes_recall"] == index.stats()["codes_recall"]
                with pytest.raises(ValueError, match="needs the vectors"):
                    again.search_furthest(queries)
                again.save(second)
                assert second.read_bytes() == path.read_bytes()
                again.add(queries)
                again.remove(index.ids[:100])
                found(again.build().search_furthest(queries, 20, **EVERYTHING))

    def test_not_built_yet(self, tmp_path: Path, rng: np.random.Generator) -> None:
        rows = gaussian(rng, 300, 6)
        index_of(rows, keep_vectors=False).save(tmp_path / "index")
        index = farann.Index.load(tmp_path / "index")
        assert np.array_equal(index.reconstruct(np.arange(300)), rows)
        found(index.search_furthest(rows[:3], **EVERYTHING))
        assert index.stats()["bytes"]["rows"] == 0

    def test_smaller_than_float32(self, tmp_path: Path, rng: np.random.Generator) -> None:
        rows = gaussian(rng, 8000, 64)
        codes_alone(rows, codes="int4").save(tmp_path / "index")
        assert (tmp_path / "index").stat().st_size < 0.2 * rows.nbytes


def answers_or_refusal(path: Path, metadata: dict[str, Any],
                       arrays: dict[str, NDArray[Any]]) -> bool:
    """Whether made-up content is refused; if not, the index answers with rows that it has."""
    inside.files.write_file(path, metadata, arrays)
    for mmap in (True, False):
        try:
            index = farann.Index.load(path, mmap=mmap)
        except farann.FormatError:
            continue
        queries = gaussian(np.random.default_rng(3), 7, 9)
        with np.errstate(all="ignore"):
            for asked in (queries, queries[0]):
                ids = index.search_furthest(asked, 5, **EVERYTHING).ids
                assert np.isin(ids, np.append(index.ids, -1)).all()
            index.score(queries, index.ids[:50])
            index.reconstruct(index.ids[:50])
            index.remove(index.ids[::7])
            index.build().search_furthest(queries, 5, **EVERYTHING)
        return False
    return True


class TestCraftedFiles:
    @pytest.fixture(params=itertools.product(CODES, (None, 6)), ids=str)
    @staticmethod
    def parts(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[dict[str, Any], Any]:
        codes, cells = request.param
        stages = lives(codes, cells, "l2")
        next(stages)
        next(stages).save(tmp_path / "whole")
        return inside.files.read_file(tmp_path / "whole")

    def test_sections_left_out(self, parts: Any, tmp_path: Path) -> None:
        metadata, arrays = parts
        # What single queries begin with decides nothing but the time they take.
        harmless = {"ids", "partitions.squares", "codes.float32_below", "codes.whole_codes_first"}
        if metadata["codes"] == "int8":
            harmless.add("codes.slots")  # all rows have codes, then of others
        for name in arrays:
            rest = {other: array for other, array in arrays.items() if other != name}
            refused = answers_or_refusal(tmp_path / "made", metadata, rest)
            assert refused or name in harmless, name

    def test_sections_cut_short(self, parts: Any, tmp_path: Path) -> None:
        metadata, arrays = parts
        for name, array in arrays.items():
            for part in (array[:-1], array[: len(array) // 2], array[:0]):
                if len(part) < len(array):
                    if name == "partitions.starts" and len(part) > 1:
                        continue  # fewer cells
                    assert answers_or_refusal(
                        tmp_path / "made", metadata, {**arrays, name: part}), name

    def test_bytes_of_anything(self, parts: Any, tmp_path: Path) -> None:
        metadata, arrays = parts
        rng = np.random.default_rng(0)
        for name, array in arrays.items():
            for _ in range(4):
                made = np.frombuffer(rng.bytes(array.nbytes), array.dtype).reshape(array.shape)
                answers_or_refusal(tmp_path / "made", metadata, {**arrays, name: made})

    def test_metadata(self, parts: Any, tmp_path: Path) -> None:
        metadata, arrays = parts
        other = {"int8": "int4", "int4": "int8"}[metadata["codes"]]
        wrong: dict[str, list[Any]] = {
            "coded": [0, 1, 899, 901, 941, -1, 0.5, "many", True], "codes": [other, "float32"],
            "keep_vectors": [True], "built": [False], "codes_recall": [2.0, "high", -0.5],
            "dim": [8, 10], "count": [900, 2000],
        }
        for key, values in wrong.items():
            for value in values:
                assert answers_or_refusal(
                    tmp_path / "made", {**metadata, key: value}, arrays), (key, value)

    def test_rows_named_twice(self, parts: Any, tmp_path: Path) -> None:
        metadata, arrays = parts
        if "codes.slots" in arrays:
            slots = arrays["codes.slots"].copy()
            slots[20] = slots[21]
            assert answers_or_refusal(tmp_path / "made", metadata,
                                      {**arrays, "codes.slots": slots})


class TestErrors:
    @pytest.fixture
    @staticmethod
    def index() -> farann.Index:
        return codes_alone(np.eye(40, dtype=np.float32))

    def test_what_needs_the_vectors(self, index: farann.Index) -> None:
        query = np.ones(40)
        for ask, what in (
            (lambda: index.search_furthest(query), "exact search needs the vectors"),
            (lambda: index.search_furthest(query, epsilon=0.1), "epsilon: .* needs the vectors"),
            (lambda: index.search_nearest(query), "exact search needs the vectors"),
            (lambda: index.search_beyond(query, radius=1.0), "search_beyond needs the vectors"),
        ):
            with pytest.raises(ValueError, match=what + ".*keep_vectors=False dropped them"):
                ask()

    def test_arguments(self) -> None:
        with pytest.raises(ValueError, match="keep_vectors: .*codes='float32'"):
            farann.Index(codes="float32", keep_vectors=False)
        with pytest.raises(TypeError, match="keep_vectors: expected True or False, got 'no'"):
            farann.Index(keep_vectors="no")  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="codes: expected one of 'int8', 'int4', 'float32'"):
            farann.Index(codes="int2")

    def test_unknown_ids(self, index: farann.Index) -> None:
        for ask in (index.reconstruct, lambda ids: index.score(np.ones(40), ids)):
            with pytest.raises(KeyError, match="99 is not in the index"):
                ask([1, 99])

    def test_the_core_refuses_what_it_could_not_read(self, rng: np.random.Generator) -> None:
        index = codes_alone(gaussian(rng, 100, 6))
        store, snapshot = inside.store.of(index), inside.store.snapshot_of(index)
        query, slots = np.ones((1, 6), np.float32), np.arange(3)
        with pytest.raises(ValueError, match="with vectors"):
            core.keys_of_slots(snapshot, query, slots, np.empty((1, 3)))
        with pytest.raises(ValueError, match="must be a mask"):
            inside.native.task_of(snapshot, query, 3, chosen=core.Filter(snapshot, slots=slots))
        for codes, base in ((None, store.base), (store.codes, np.ones((1, 6), np.float32))):
            made = None if codes is None else core.Codes(100, 6, codes)
            with pytest.raises(ValueError, match="without vectors there must be codes"):
                core.Snapshot(base, store.tail, None, None, store.center, 0, index.isa, codes=made,
                              vectors=False)


class TestRotation:
    @pytest.mark.parametrize("dim", [1, 2, 3, 7, 8, 50, 129])
    def test_there_and_back(self, dim: int, rng: np.random.Generator) -> None:
        signs = rng.choice(np.array([-1, 1], np.int8), (3, dim))
        rows = gaussian(rng, 20, dim)
        transform = inside.quantize.Transform(signs)
        turned = transform.rows(rows.astype(np.float64))
        assert near(np.linalg.norm(turned, axis=1), np.linalg.norm(rows, axis=1))
        assert near(transform.rows_from(turned), rows)
        largest = np.empty(20)
        core.code_extents(rows, np.zeros(dim), False, signs, None, inside.levels()[-1], largest)
        assert near(np.abs(turned).max(axis=1), largest, rel=1e-12)

    @pytest.mark.parametrize("dim", [1, 3, 8, 50, 129, 784])
    def test_the_same_bits_at_all_levels(self, dim: int, rng: np.random.Generator) -> None:
        signs = rng.choice(np.array([-1, 1], np.int8), (3, dim))
        rows = rng.standard_normal((9, dim))
        by_level = [rows.copy() for _ in inside.levels()]
        for vectors, level in zip(by_level, inside.levels(), strict=True):
            core.rotate(vectors, signs, level)
            np.testing.assert_array_equal(vectors, by_level[0])
        np.testing.assert_allclose(by_level[0], model.turned(rows, signs), atol=1e-12)
        with pytest.raises(ValueError, match="each coordinate"):
            core.rotate(rows, np.ones((3, dim + 1), np.int8), inside.levels()[0])
