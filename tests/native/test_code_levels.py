"""The cascade of codes: whatever levels rows have, answers are exact."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import inside
import numpy as np
import pytest
import reference
from cases import (
    DATA,
    Float32,
    assert_same,
    assert_same_beyond,
    core_top,
    in_turn,
    low_rank,
    pairs,
    queries_for,
    rows_for,
)
from codes_in_numpy import (
    codes_of,
    four_bits,
    lay_out,
    leading,
    orthonormal,
)
from inside import core

import farann

LEVELS = inside.levels()


def coded_index(rows: Float32, metric: str, isa: str, m: int | None, rng: np.random.Generator, *,
                by_length: bool = False) -> farann.Index:
    """An index whose codes have m leading directions (None: no basis).

    They are in random order, or have the longest rows first.
    """
    index = farann.Index(metric=metric)
    index.add(rows)
    index.build()
    inside.store.use_level(index, isa)
    store = inside.store.of(index)
    basis = None if m is None else leading(rows, metric, m, store.center)
    inside.store.put(index, codes=lay_out(rows, metric, basis, order=rng.permutation(len(rows)),
                                    center=store.center, by_length=by_length))
    return index


# ---- exact at every level ----


@pytest.mark.parametrize(("isa", "metric", "m"), pairs(
    LEVELS, core.METRICS, [None, 1, 3, 4, 8, 17, 40]))
def test_exact(isa: str, metric: str, m: int | None, rng: np.random.Generator) -> None:
    rows, queries = low_rank(rng, 333, 40), low_rank(rng, 29, 40)
    index = coded_index(rows, metric, isa, m, rng)
    for search, oracle in ((index.search_furthest, reference.furthest),
                           (index.search_nearest, reference.nearest)):
        expected = oracle(queries, rows, 400, metric)
        for n in (1, 3, 29):
            for k in (1, 10, 400):
                some = reference.Found(expected.scores[:n], expected.ids[:n])
                assert_same(search(queries[:n], k), some, k)
    excluded = rng.integers(-1, 333, (29, 20))
    allowed = np.sort(rng.choice(333, 150, replace=False))
    filters: list[dict[str, Any]] = [{"exclude": excluded}, {"allowed": allowed},
                                     {"exclude": excluded, "allowed": allowed}]
    radius = float(np.median(reference.furthest(queries, rows, 20, metric).scores[:, -1]))
    for filter in filters:
        expected = reference.furthest(queries, rows, 10, metric, **filter)
        assert_same(index.search_furthest(queries, 10, **filter), expected)
        assert_same_beyond(index.search_beyond(queries, radius=radius, **filter),
                           reference.beyond(queries, rows, radius, metric, **filter))
    for n in (1, 29):
        assert_same_beyond(index.search_beyond(queries[:n], radius=radius),
                           reference.beyond(queries[:n], rows, radius, metric))


@pytest.mark.parametrize("m", [None, 8])
@pytest.mark.parametrize("metric", core.METRICS)
def test_thousands_wanted(metric: str, m: int | None, rng: np.random.Generator) -> None:
    """Candidates are thinned out many times, by scores that are right on both sides."""
    rows, queries = low_rank(rng, 5000, 24), low_rank(rng, 7, 24)
    codes = core.Codes(5000, 24, lay_out(
        rows, metric, None if m is None else leading(rows, metric, m)))
    for nearest, oracle in ((False, reference.furthest), (True, reference.nearest)):
        expected = oracle(queries, rows, 1000, metric)
        for isa in LEVELS:
            for n in (1, 7):
                scores, ids, _ = core_top(rows, queries[:n], 1000, metric, isa, nearest=nearest,
                                          codes=codes)
                np.testing.assert_array_equal(ids, expected.ids[:n])
                np.testing.assert_array_equal(scores, expected.scores[:n])


@pytest.mark.parametrize(("kind", "metric", "m"), [
    (*pair, m) for i, m in enumerate([None, 4]) for pair in in_turn(DATA, i)])
def test_hostile_rows(metric: str, kind: str, m: int | None, rng: np.random.Generator) -> None:
    rows = rows_for(kind, rng, 200, 12, metric)
    queries = queries_for(rng, rows, metric)
    try:
        index = coded_index(rows, metric, LEVELS[-1], m, rng)
    except AssertionError:  # such rows have no codes
        index = farann.Index(metric=metric)
        index.add(rows)
    for search, oracle in ((index.search_furthest, reference.furthest),
                           (index.search_nearest, reference.nearest)):
        assert_same(search(queries, 7), oracle(queries, rows, 7, metric))


@pytest.mark.parametrize("metric", core.METRICS)
@pytest.mark.parametrize("dim", [1, 2, 5, 255, 2048])
def test_dimensions(dim: int, metric: str, rng: np.random.Generator) -> None:
    rows, queries = low_rank(rng, 100, dim), low_rank(rng, 7, dim)
    expected = reference.furthest(queries, rows, 5, metric)
    for m in {1, min(dim, 5), min(dim, 128)}:
        codes = core.Codes(100, dim, lay_out(rows, metric, orthonormal(rng, m, dim)))
        for isa in LEVELS:
            scores, ids, _ = core_top(rows, queries, 5, metric, isa, codes=codes)
            np.testing.assert_array_equal(ids, expected.ids)
            np.testing.assert_array_equal(scores, expected.scores)


def test_the_first_look_prunes(rng: np.random.Generator) -> None:
    """Rows near few dimensions: few pass the first look, at one query and at many."""
    rows, queries = low_rank(rng, 20_000, 64, 0.001), low_rank(rng, 40, 64, 0.001)
    for metric in core.METRICS:
        codes = core.Codes(20_000, 64, lay_out(rows, metric, leading(rows, metric, 8)))
        snapshot = inside.native.snapshot_of_rows(rows, metric, LEVELS[-1], codes=codes)
        for n in (1, 40):
            task = inside.native.task_of(snapshot, queries, 10, stop=n)
            task.run()
            work = inside.native.work_of(task)
            assert work.rows_scanned == 20_000 * n
            assert 10 * n <= work.rows_refined < 4000 * n
            assert 10 * n <= work.rows_rescored < 400 * n


# ---- upper halves, then whole codes ----


def wide(rng: np.random.Generator, n: int, dim: int) -> Float32:
    """Rows of no particular shape, of sizes that differ from panel to panel and within."""
    sizes = 10.0 ** rng.uniform(-0.5, 0, (n, 1))
    return (sizes * rng.standard_normal((n, dim))).astype(np.float32)


@pytest.mark.parametrize("metric", core.METRICS)
@pytest.mark.parametrize("isa", LEVELS)
def test_single_queries_of_many_rows(isa: str, metric: str, rng: np.random.Generator) -> None:
    """More than some blocks: upper halves, refining and pauses, with all that an index can do."""
    n, dim = 5003, 20
    rows, queries = wide(rng, n, dim), wide(rng, 5, dim)
    index = farann.Index(metric=metric)
    index.add(rows[: n - 300])
    index.build()
    inside.store.use_level(index, isa)
    store = inside.store.of(index)
    # The rows that answer come last: then upper halves let many through, until they don't.
    order = np.argsort(np.linalg.norm(rows[: n - 300], axis=1))
    codes = lay_out(rows[: n - 300], metric, order=order, center=store.center)
    inside.store.put(index, codes=codes)
    index.add(rows[n - 300 :])
    gone = np.sort(rng.choice(n, 200, replace=False))
    index.remove(gone)
    alive = np.setdiff1d(np.arange(n), gone)
    excluded = rng.choice(alive, (5, 40))
    allowed = np.sort(rng.choice(alive, 2500, replace=False))
    radii = reference.furthest(queries, rows[alive], 40, metric).scores[:, -1]
    refined = 0
    for filter in ({}, {"exclude": excluded}, {"allowed": allowed},
                   {"exclude": excluded, "allowed": allowed}):
        for i, query in enumerate(queries):
            one: dict[str, Any] = {name: value[i : i + 1] if name == "exclude" else value
                                   for name, value in filter.items()}
            for search, oracle in ((index.search_furthest, reference.furthest),
                                   (index.search_nearest, reference.nearest)):
                expected = oracle(queries[i : i + 1], rows[alive], 10, metric, ids=alive, **one)
                assert_same(search(query[None], 10, **one), expected)
                refined += index.stats()["last_search"]["rows_refined"]
            assert_same_beyond(
                index.search_beyond(query[None], radius=float(radii[i]), **one),
                reference.beyond(queries[i : i + 1], rows[alive], float(radii[i]), metric,
                                 ids=alive, **one))
    assert refined > 0
    assert_same(index.search_furthest(queries, 10),
                reference.furthest(queries, rows[alive], 10, metric, ids=alive))


@pytest.mark.parametrize("ascending", [False, True])
@pytest.mark.parametrize("isa", LEVELS)
def test_pauses(isa: str, ascending: bool, rng: np.random.Generator) -> None:
    """Where too many rows pass, whole codes are scanned for 1, 3, 7, 7 .. blocks."""
    n, dim = 160 * 1024, 16
    rows = rng.standard_normal((n, dim))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    sizes = np.linspace(0.5, 1.0, n) if ascending else np.linspace(1.0, 0.5, n)
    scaled = (sizes[:, None] * rows).astype(np.float32)
    query = (1e-3 * rng.standard_normal((1, dim))).astype(np.float32)
    snapshot = inside.native.snapshot_of_rows(scaled, "l2", isa,
                                              codes=core.Codes(n, dim, lay_out(scaled, "l2")))
    task = inside.native.task_of(snapshot, query, 10)
    ids = inside.native.run(task, 1, 10).ids
    np.testing.assert_array_equal(ids, reference.furthest(query, scaled, 10, "l2").ids)
    work = inside.native.work_of(task)
    assert work.rows_scanned == n and work.rows_rescored < n // 4
    read_later = work.rows_refined * dim + 4 * dim * work.rows_rescored
    upper = (dim + 4) * n - (work.bytes_read - read_later)
    # Rows of which only half of the codes was read, in blocks of up to 4096 rows.
    read_first = upper // (dim // 2)
    if ascending:
        # Sizes rise, so that all of a block passes. One block in eight is tried in the end; the
        # first ones double from 64 rows on.
        assert n // 16 < read_first < n // 6 and work.rows_refined > read_first // 2
    else:
        assert read_first > 0.9 * n and work.rows_refined < n // 16


@pytest.mark.parametrize("squared", [True, False])
def test_four_bits(squared: bool, rng: np.random.Generator) -> None:
    """Upper halves alone leave more rows to their vectors, but no wrong answers."""
    rows, queries = wide(rng, 3001, 21), wide(rng, 23, 21)
    for metric in ["l2"] if squared else ["dot", "cosine"]:
        arrays = lay_out(rows, metric, order=rng.permutation(3001))
        assert (arrays.squares is not None) == squared
        codes = core.Codes(3001, 21, four_bits(arrays))
        for nearest, oracle in ((False, reference.furthest), (True, reference.nearest)):
            expected = oracle(queries, rows, 600, metric)
            for isa, k, some in itertools.product(
                    LEVELS, (1, 30, 600), (slice(0, 1), slice(5, 8), slice(0, 23))):
                scores, ids, _ = core_top(rows, queries[some], k, metric, isa, nearest=nearest,
                                          codes=codes)
                np.testing.assert_array_equal(ids, expected.ids[some, :k])
                np.testing.assert_array_equal(scores, expected.scores[some, :k])
        for isa in LEVELS:
            *_, few = core_top(rows, queries, 1, metric, isa, codes=codes)
            assert few < 23 * 3001 // 3, isa


# ---- the first rows, by whole codes ----


@pytest.mark.parametrize(("isa", "metric", "hub_rows"), pairs(
    LEVELS, core.METRICS, [0, 16, 40, 512]))
def test_first_rows(isa: str, metric: str, hub_rows: int, rng: np.random.Generator,
                    monkeypatch: pytest.MonkeyPatch) -> None:
    """However many there are, answers are the same; without them all rows get a first look."""
    monkeypatch.setattr(inside.settings, "hub_rows", hub_rows)
    rows, queries = low_rank(rng, 333, 40), low_rank(rng, 29, 40)
    queries[3] *= 1e25  # has no codes, among others that have
    index = coded_index(rows, metric, isa, 4, rng)
    expected = reference.furthest(queries, rows, 10, metric)
    for n in (1, 5, 17, 29):
        hits = index.search_furthest(queries[:n], 10, return_stats=True)
        stats = hits.stats
        assert_same(hits, reference.Found(expected.scores[:n], expected.ids[:n]), 10)
        assert (stats.rows_refined == 0) == (hub_rows == 512)


def test_rows_of_a_panel_have_one_weight(rng: np.random.Generator) -> None:
    arrays = lay_out(rows := low_rank(rng, 300, 40), "dot", leading(rows, "dot", 4))
    assert arrays.whole_inv_scale is not None
    weights = arrays.whole_inv_scale.copy()
    weights[1::2] /= 2
    with pytest.raises(ValueError, match="whole codes of a panel must have one scale"):
        core.Codes(300, 40, replace(arrays, whole_inv_scale=weights))


# ---- rows along a basis ----


@pytest.mark.parametrize("dim", [3, 16, 50, 300])
@pytest.mark.parametrize("metric", core.METRICS)
def test_what_codes_along_hold(metric: str, dim: int, rng: np.random.Generator) -> None:
    sizes = np.float32(10.0) ** rng.uniform(-3, 0, (60, 1))
    rows = (low_rank(rng, 60, dim) * sizes).astype(np.float32)
    order = rng.permutation(60)
    for basis in (leading(rows, metric, min(dim, 7)), orthonormal(rng, min(dim, 9), dim)):
        arrays = lay_out(rows, metric, basis, order=order)
        assert arrays.slots is not None
        assert arrays.low_nibbles is None and arrays.low_nibble_norm is None
        np.testing.assert_array_equal(arrays.slots, np.append(order, np.full(4, -1)))
        codes = codes_of(arrays).along
        assert codes is not None and not codes[60:].any()
        codes, weights = codes[:60] - 128, np.repeat(arrays.inv_scale, 16)[:60].astype(np.float64)
        vectors = rows[order].astype(np.float64)
        if metric == "cosine":
            vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        along = vectors @ basis.T
        rest = np.linalg.norm(vectors - along @ basis, axis=1) * weights
        left = np.linalg.norm(weights[:, None] * along - codes[:, : len(basis)], axis=1)
        assert np.abs(codes).max() == 127
        residual, length, _, norm, rest_unit, *outside = arrays.bounds
        assert outside == [0.0, 0.0, 0.0]
        assert left.max() <= residual <= left.max() + 1e-4
        lengths = np.linalg.norm(along, axis=1)
        for bound, values in ((norm, lengths), (length, weights * lengths)):
            assert values.max() <= bound <= values.max() * (1 + 1e-6)
        assert (codes[:, -4:] == codes[:, -1:]).all()
        assert not codes[:, len(basis) : -4].any()
        assert (codes[:, -1] * rest_unit >= rest).all()
        assert (codes[:, -1] * rest_unit <= rest + rest_unit + 1e-4 * length).all()
        assert arrays.inv_scale.max() <= arrays.inv_scale.min() * core.CODE_SPAN * (1 + 1e-6)
        # All coordinates, by one weight a panel.
        whole, own = codes_of(arrays).whole[:60, :dim] - 128, arrays.whole_inv_scale
        assert own is not None and arrays.whole_bounds is not None
        assert (own.reshape(-1, 16) == own[::16, None]).all()
        highest = np.array([np.abs(whole[i : i + 16]).max() for i in range(0, 60, 16)])
        assert ((highest == 127) | (own[::16] == own.max())).all() and (highest == 127).any()


# ---- the life of an index ----


@pytest.mark.parametrize("metric", core.METRICS)
def test_life(metric: str, rng: np.random.Generator) -> None:
    """Rows added, removed, laid out anew, with ids of one's own: answers follow."""
    rows, ids = low_rank(rng, 300, 32), rng.permutation(1000)[:300]
    queries = low_rank(rng, 8, 32)
    index = farann.Index(metric=metric)
    index.add(rows, ids)
    index.build()
    store = inside.store.of(index)
    inside.store.put(index, codes=lay_out(rows, metric, leading(rows, metric, 5, store.center),
                                    order=rng.permutation(300), center=store.center))

    def check(directions: int) -> None:
        assert index.stats()["directions"] == directions
        present = index.reconstruct(index.ids)
        expected = reference.furthest(queries, present, 20, metric, ids=index.ids)
        assert_same(index.search_furthest(queries, 20), expected)
        assert_same(index.search_furthest(queries[0], 20),
                    reference.Found(expected.scores[0], expected.ids[0]))

    check(5)
    index.add(low_rank(rng, 100, 32), np.arange(2000, 2100))
    check(5)
    index.remove(ids[::3])
    index.remove(np.arange(2000, 2050))
    check(5)
    index.add(rows[:10], ids[:30:3])  # ids of removed rows
    check(5)
    index.build()
    check(0)  # few rows need no first look


# ---- whole codes, where a first look lets too many pass ----


def counts(index: farann.Index) -> tuple[int, int]:
    """Rows that the last search refined, and its products of codes."""
    did = index.stats()["last_search"]
    return did["rows_refined"], did["code_products"]
