"""Builds of small sets: what they sample, and that they leave out only what can't pay."""

from __future__ import annotations

from typing import Any

import inside
import numpy as np
import pytest
from approximate_cases import recall_of
from cases import Float32, index_of, low_rank
from numpy.typing import NDArray
from reference import METRICS, furthest

import farann

Vectors = NDArray[np.float64]


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """Counts sample queries that builds ask, and looks for directions of a PCA filter."""
    done = {"queries": 0, "directions": 0}
    top, choose = inside.runtime.top, inside.quantize.choose_pca_filter

    def counted_top(snapshot: Any, chosen: Any, queries: Float32, *more: Any, **named: Any) -> Any:
        if len(queries) > 1:  # levels are tried by single ones
            done["queries"] += len(queries)
        return top(snapshot, chosen, queries, *more, **named)

    def counted_looks(*given: Any) -> Any:
        done["directions"] += 1
        return choose(*given)

    monkeypatch.setattr(inside.settings, "top", counted_top)
    monkeypatch.setattr(inside.settings, "choose_pca_filter", counted_looks)
    return done


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize(("n", "dim", "queries", "looks"), [
    (6000, 400, 64, 0), (6000, 64, 512, 0), (10_000, 64, 157, 0), (20_000, 64, 1250, 0)])
def test_rows_that_lie_anywhere_are_asked_little(metric: str, n: int, dim: int, queries: int,
                                                 looks: int, work: dict[str, int],
                                                 rng: np.random.Generator) -> None:
    index_of(rng.standard_normal((n, dim), dtype=np.float32), metric, threads=1).build()
    assert work == {"queries": queries, "directions": looks}


def test_rows_of_few_directions_are_asked_more(work: dict[str, int],
                                               rng: np.random.Generator) -> None:
    index = index_of(low_rank(rng, 6000, 400), threads=1).build()
    assert work == {"queries": 256, "directions": 1}
    assert index.stats()["directions"] > 0
    # Queries of few directions, among rows of many.
    work["queries"] = 0
    index = index_of(rng.standard_normal((6000, 64), dtype=np.float32), "dot", threads=1)
    index.build(low_rank(rng, 3000, 64))
    assert work["queries"] == 512


@pytest.mark.parametrize("metric", METRICS)
def test_answers_are_exact_and_recall_is_what_was_asked(metric: str,
                                                        rng: np.random.Generator) -> None:
    rows = rng.standard_normal((6000, 48), dtype=np.float32)
    queries = rng.standard_normal((400, 48), dtype=np.float32)
    index = index_of(rows, metric).build()
    expected = furthest(queries[:40], rows, 10, metric)
    np.testing.assert_array_equal(index.search_furthest(queries[:40], 10).ids, expected.ids)
    exact = index.search_furthest(queries, 10).ids
    found = index.search_furthest(queries, 10, recall=0.9).ids
    assert recall_of(found, exact) >= 0.89


def spectra(rng: np.random.Generator) -> list[tuple[str, Vectors, Vectors]]:
    """Rows and query vectors of many kinds, in 300 dimensions."""
    n, dim = 600, 300
    turned = np.linalg.qr(rng.standard_normal((dim, dim)))[0]
    deviations = {"flat": np.ones(dim), "slow": np.linspace(1, 0.3, dim),
                  "fast": np.geomspace(1, 0.01, dim), "few": np.r_[np.ones(20), np.full(280, 0.05)],
                  "one": np.r_[30.0, np.ones(dim - 1)]}
    made = []
    for of_rows, theirs in deviations.items():
        rows = (rng.standard_normal((n, dim)) * theirs) @ turned
        for of_queries, asked in deviations.items():
            made.append((f"{of_rows}, {of_queries}", rows,
                         (rng.standard_normal((128, dim)) * asked) @ turned))
    return made


def test_a_filter_is_ruled_out_only_where_none_would_be_chosen(rng: np.random.Generator) -> None:
    ruled_out, chosen, found = set(), set(), np.empty((0, 0))
    for at, (name, rows, asked) in enumerate(spectra(rng)):
        if at % 5 == 0:
            found = inside.quantize.directions(rows, 0)
        for sign in (0.0, 1.0, -1.0):
            keys = asked @ rows.T + sign * (rows**2).sum(axis=1)
            thresholds = np.sort(keys, axis=1)[:, -10]
            some = asked, thresholds, sign
            if inside.quantize.lie_anywhere(rows, asked):
                ruled_out.add((name, sign))
            basis = inside.quantize.choose_pca_filter(found, rows, 100_000, *some, 300, 0)
            assert (0 if basis is None else len(basis)) == plainly_chosen(found, rows, *some)
            if basis is not None:
                chosen.add((name, sign))
    assert not ruled_out & chosen
    assert ("flat, flat", 0.0) in ruled_out and ("few, few", 0.0) in chosen


def plainly_chosen(found: Vectors, rows: Vectors, asked: Vectors, thresholds: Vectors,
                   sign: float) -> int:
    """The number of directions with the least cost, from all bounds of each number."""
    best, best_cost = 0, 0.8 * 308
    for m in (4, 8, 12, 16, 24, 32, 48, 64, 96):
        part = inside.quantize.Projection(found[:m])
        along, asked_along = part.along(rows), part.along(asked)
        rest, asked_rest = (
            np.sqrt(np.maximum((v**2).sum(axis=1) - (a**2).sum(axis=1), 0.0))
            for v, a in ((rows, along), (asked, asked_along)))
        bounds = asked_along @ along.T + np.outer(asked_rest, rest) + sign * (rows**2).sum(axis=1)
        left = 2.0 * (bounds >= thresholds[:, None]).mean()
        cost = m + 12 + left * (2500 + 4 * 300)
        if cost < best_cost:
            best, best_cost = m, cost
    return best


def test_what_directions_hold_at_most(rng: np.random.Generator) -> None:
    for deviations in (np.ones(300), np.linspace(1, 0.3, 300), np.geomspace(1, 0.01, 300)):
        rows = rng.standard_normal((256, 300)) * deviations
        for m in (10, 100, 150):
            held = (deviations[:m] ** 2).sum() / (deviations**2).sum()
            bound = inside.quantize.most_held(rows, m)
            assert 0.95 * held <= bound <= 1.0
            if deviations[-1] == 1.0:
                assert bound == pytest.approx((m / 300) ** 0.5, rel=0.1)
    assert inside.quantize.most_held(np.ones((1, 4)), 2) == 1.0
    assert inside.quantize.most_held(np.zeros((5, 4)), 2) == 0.0


@pytest.mark.parametrize("dim", [3, 64, 144, 145, 300, 1100])
def test_directions_are_orthonormal_and_hold_most(dim: int, rng: np.random.Generator) -> None:
    rows = rng.standard_normal((500, dim)) * np.geomspace(1, 0.05, dim)
    found = inside.quantize.directions(rows, 0)
    assert found.dtype == np.float64 and found.shape == (min(dim, 144), dim)
    np.testing.assert_allclose(found @ found.T, np.eye(len(found)), atol=1e-12)
    values = np.linalg.eigvalsh(rows.T @ rows)[::-1]
    for m in (1, 3, 32, 128):
        held = ((rows @ found[:m].T) ** 2).sum()
        assert held >= 0.97 * values[:m].sum()


def test_blocks_have_all_rows_once_and_about_as_many() -> None:
    for n in (0, 1, 4096, 4097, 6000, 32_768, 32_769, 100_001):
        blocks = inside.quantize.blocks_of(n)
        assert [i for block in blocks for i in range(block.start, block.stop)] == list(range(n))
        sizes = [block.stop - block.start for block in blocks]
        assert max(sizes, default=0) <= 4096
        if 0 < n <= 32_768:
            assert max(sizes) - min(sizes) < len(sizes)
        else:
            assert all(size == 4096 for size in sizes[:-1])
        for block in blocks[:2]:
            parts = inside.quantize.parts_of(block)
            assert [i for part in parts for i in range(part.start, part.stop)] == list(
                range(block.start, block.stop))


def test_added_rows_and_files_of_small_builds(rng: np.random.Generator, tmp_path: Any) -> None:
    rows = rng.standard_normal((7000, 48), dtype=np.float32)
    index = index_of(rows[:6000], "dot").build()
    index.add(rows[6000:])
    index.save(tmp_path / "small.ix")
    for one in (index, farann.Index.load(tmp_path / "small.ix")):
        np.testing.assert_array_equal(one.search_furthest(rows[:20], 5).ids,
                                      furthest(rows[:20], rows, 5, "dot").ids)
