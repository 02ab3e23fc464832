"""Rows by reach: queries are done when no row that is left can reach their answers."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path
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
    in_turn,
    low_rank,
    queries_for,
    rows_for,
)
from code_file_cases import change, put, refuse
from codes_in_numpy import Float64, filled, lay_out, leading
from hypothesis import given
from hypothesis import strategies as st
from inside import core

import farann

LEVELS = inside.levels()
N, DIM = 3000, 12


def uneven(rng: np.random.Generator, n: int, dim: int, spread: float = 0.7) -> Float32:
    """Rows and queries of very different lengths."""
    rows = low_rank(rng, n, dim, 0.5).astype(np.float64)
    return (rows * np.exp(rng.normal(0.0, spread, (n, 1)))).astype(np.float32)


def index_by_reach(rows: Float32, metric: str, isa: str, m: int | None,
                   lead: Float64 | None = None, by_square: bool = False) -> farann.Index:
    """Rows by length, from the center or from the origin, or by what they are along a lead."""
    index = farann.Index(metric=metric)
    index.add(rows)
    index.build()
    inside.store.use_level(index, isa)
    store = inside.store.of(index)
    basis = None if m is None else leading(rows, metric, m, store.center)
    inside.store.put(index, codes=lay_out(rows, metric, basis, center=store.center, by_length=True,
                                    by_square=by_square, lead=lead))
    return index


def lead_of(queries: Float32) -> Float64:
    """The direction of the mean weights of furthest search."""
    return np.asarray(-queries.astype(np.float64).mean(axis=0))


# Under l2 there is no lead.
WAYS = [(metric, False) for metric in core.METRICS] + [("dot", True), ("cosine", True)]


@pytest.mark.parametrize("m", [None, 4])
@pytest.mark.parametrize(("metric", "lead"), WAYS)
def test_exact(metric: str, lead: bool, m: int | None, rng: np.random.Generator) -> None:
    rows, queries = uneven(rng, N, DIM), uneven(rng, 70, DIM) + np.float32(lead)
    index = index_by_reach(rows, metric, LEVELS[-1], m, lead_of(queries) if lead else None)
    for search, oracle in ((index.search_furthest, reference.furthest),
                           (index.search_nearest, reference.nearest)):
        expected = oracle(queries, rows, 100, metric)
        for isa, n, k in itertools.product(LEVELS, (1, 5, 70), (1, 10, 100)):
            inside.store.use_level(index, isa)
            some = reference.Found(expected.scores[:n], expected.ids[:n])
            assert_same(search(queries[:n], k), some, k)
    excluded = rng.integers(-1, N, (70, 20))
    allowed = np.sort(rng.choice(N, 1500, replace=False))
    expected = reference.furthest(queries, rows, 10, metric, exclude=excluded, allowed=allowed)
    radius = float(np.median(reference.furthest(queries, rows, 20, metric).scores[:, -1]))
    beyond = reference.beyond(queries, rows, radius, metric)
    for isa in LEVELS:
        inside.store.use_level(index, isa)
        assert_same(index.search_furthest(queries, 10, exclude=excluded, allowed=allowed), expected)
        assert_same_beyond(index.search_beyond(queries, radius=radius), beyond)


@pytest.mark.parametrize("metric", ["l2", "dot"])
def test_short_rows_are_left_out(metric: str, rng: np.random.Generator) -> None:
    rows, queries = uneven(rng, N, DIM, 1.0), uneven(rng, 70, DIM)
    index = index_by_reach(rows, metric, LEVELS[-1], None)
    for isa in LEVELS:
        inside.store.use_level(index, isa)
        for n in (1, 5, 70):
            stats = index.search_furthest(queries[:n], 10, return_stats=True).stats
            assert 64 * n <= stats.rows_scanned < 0.8 * N * n, (isa, n)


@pytest.mark.parametrize("metric", ["dot", "cosine"])
@pytest.mark.parametrize("isa", LEVELS)
def test_rows_that_lie_backwards_are_left_out(isa: str, metric: str, rng: np.random.Generator,
                                              request: pytest.FixtureRequest) -> None:
    rows, queries = uneven(rng, N, DIM, 0.1), uneven(rng, 70, DIM, 0.1)
    queries += 4.0 * np.float32(np.abs(queries).max())
    index = index_by_reach(rows, metric, isa, None, lead_of(queries))
    if isa == "scalar":
        # There codes of these 3,000 rows are given up for float32, which reads all rows.
        request.addfinalizer(inside.native.leave_out)
        inside.native.leave_out("cost-judge", "single-judge")
    for n in (1, 5, 70):
        hits = index.search_furthest(queries[:n], 10, return_stats=True)
        stats = hits.stats
        assert 64 * n <= stats.rows_scanned < 0.7 * N * n
        assert_same(hits, reference.furthest(queries[:n], rows, 10, metric))
    # For queries that look the other way all rows are in reach.
    hits = index.search_furthest(-queries[:5], 10, return_stats=True)
    stats = hits.stats
    assert stats.rows_scanned == 5 * N
    assert_same(hits, reference.furthest(-queries[:5], rows, 10, metric))


@pytest.mark.parametrize(("kind", "way"), in_turn(DATA, metrics=WAYS))
def test_hostile_rows(kind: str, way: tuple[str, bool], rng: np.random.Generator) -> None:
    metric, lead = way
    rows = rows_for(kind, rng, 400, 12, metric)
    queries = queries_for(rng, rows, metric)
    for m in (None, 4):
        try:
            index = index_by_reach(rows, metric, LEVELS[-1], m,
                                   rng.standard_normal(12) if lead else None)
        except AssertionError:  # such rows have no codes
            continue
        for search, oracle in ((index.search_furthest, reference.furthest),
                               (index.search_nearest, reference.nearest)):
            assert_same(search(queries, 7), oracle(queries, rows, 7, metric))
            assert_same(search(queries[:1], 7), oracle(queries[:1], rows, 7, metric))


@given(seed=st.integers(0, 2**32 - 1), metric=st.sampled_from(core.METRICS),
       dim=st.sampled_from([1, 2, 7]), spread=st.sampled_from([0.0, 1e-7, 1e-3, 1.0, 4.0]),
       offset=st.sampled_from([0.0, 1.0, 1e4]), twins=st.booleans())
def test_rows_on_the_edge_of_reach(seed: int, metric: str, dim: int, spread: float, offset: float,
                                   twins: bool) -> None:
    """Rows straight away from queries, of nearly equal lengths: the bound has nothing to spare."""
    rng = np.random.default_rng(seed)
    direction = rng.standard_normal((1, dim))
    sizes = np.exp(rng.normal(0.0, spread, (300, 1)))
    rows = (direction * sizes + offset).astype(np.float32)
    if twins:
        rows[150:] = rows[:150]
    queries = (offset - direction * rng.uniform(0.1, 10.0, (13, 1))).astype(np.float32)
    if metric == "cosine":
        rows[~rows.any(axis=1)] = 1.0
        queries[~queries.any(axis=1)] = 1.0
    try:
        index = index_by_reach(rows, metric, LEVELS[-1], None)
    except AssertionError:
        return
    expected = reference.furthest(queries, rows, 10, metric)
    assert_same(index.search_furthest(queries, 10), expected)
    some = reference.Found(expected.scores[:1], expected.ids[:1])
    assert_same(index.search_furthest(queries[:1], 10), some)


@given(seed=st.integers(0, 2**32 - 1), metric=st.sampled_from(["dot", "cosine"]),
       dim=st.sampled_from([1, 2, 3, 9]), spread=st.sampled_from([0.0, 1e-7, 1e-3, 1.0, 4.0]),
       offset=st.sampled_from([0.0, 1.0, 1e4]), size=st.sampled_from([1e-18, 1.0, 1e15]),
       twins=st.booleans())
def test_rows_on_the_edge_of_a_lead(seed: int, metric: str, dim: int, spread: float, offset: float,
                                    size: float, twins: bool) -> None:
    """Rows in a plane through the lead, and queries in it: the bound has nothing to spare."""
    rng = np.random.default_rng(seed)
    plane = np.linalg.qr(rng.standard_normal((dim, min(dim, 2))))[0].T
    angles = rng.uniform(-np.pi, np.pi, 300) * rng.choice([1.0, spread])
    parts = np.stack([np.cos(angles), np.sin(angles)], axis=1)[:, : len(plane)]
    lengths = np.exp(rng.normal(0.0, spread, (300, 1)))
    rows = (size * (lengths * parts @ plane + offset)).astype(np.float32)
    if twins:
        rows[150:] = rows[:150]
    queries = (-rng.uniform(0.1, 10.0, (13, len(plane))) @ plane).astype(np.float32)
    if metric == "cosine":
        rows[~rows.any(axis=1)] = 1.0
        queries[~queries.any(axis=1)] = 1.0
    try:
        index = index_by_reach(rows, metric, LEVELS[-1], None, plane[0])
    except AssertionError:
        return
    expected = reference.furthest(queries, rows, 10, metric)
    assert_same(index.search_furthest(queries, 10), expected)
    some = reference.Found(expected.scores[:1], expected.ids[:1])
    assert_same(index.search_furthest(queries[:1], 10), some)


def term_weights(rng: np.random.Generator, n: int, dim: int, share: float = 0.1) -> Float32:
    """Rows of length 1 up to rounding, most of which share nothing, as tf-idf rows."""
    rows = rng.random((n, dim)) * (rng.random((n, dim)) < share)
    rows[np.arange(n), rng.integers(0, dim, n)] += 0.1
    rows = rows.astype(np.float32)
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)


@pytest.mark.parametrize("m", [None, 4])
def test_rows_by_square(m: int | None, rng: np.random.Generator) -> None:
    rows, queries = term_weights(rng, N, 40), term_weights(rng, 70, 40)
    rows[1500:1600] = rows[:100]
    queries[::7] -= np.float32(0.1)
    index = index_by_reach(rows, "l2", LEVELS[-1], m, by_square=True)
    expected = reference.furthest(queries, rows, 100, "l2")
    nearest = reference.nearest(queries, rows, 10, "l2")
    excluded = rng.integers(-1, N, (70, 20))
    allowed = np.sort(rng.choice(N, 1500, replace=False))
    filtered = reference.furthest(queries, rows, 10, "l2", exclude=excluded, allowed=allowed)
    radius = float(np.median(expected.scores[:, 20]))
    beyond = reference.beyond(queries, rows, radius, "l2")
    for isa in LEVELS:
        inside.store.use_level(index, isa)
        for n, k in itertools.product((1, 5, 70), (1, 10, 100)):
            some = reference.Found(expected.scores[:n], expected.ids[:n])
            assert_same(index.search_furthest(queries[:n], k), some, k)
        assert_same(index.search_nearest(queries, 10), nearest)
        assert_same(index.search_furthest(queries, 10, exclude=excluded, allowed=allowed), filtered)
        assert_same_beyond(index.search_beyond(queries, radius=radius), beyond)
        rough = index.search_furthest(queries, 10, epsilon=0.01).scores
        assert (rough * 1.01 >= expected.scores[:, :10]).all()
    index.add(-rows[:300])  # only those of the base have no negative numbers
    both = np.concatenate([rows, -rows[:300]])
    assert_same(index.search_furthest(queries, 10), reference.furthest(queries, both, 10, "l2"))


@pytest.mark.parametrize("isa", LEVELS)
def test_rows_with_small_squares_are_left_out(isa: str, rng: np.random.Generator,
                                              request: pytest.FixtureRequest) -> None:
    request.addfinalizer(inside.native.leave_out)
    inside.native.leave_out("cost-judge", "single-judge")  # float32 reads few rows as they lie
    rows, queries = term_weights(rng, N, 40), term_weights(rng, 70, 40)
    index = index_by_reach(rows, "l2", isa, None, by_square=True)
    for n in (1, 70):
        stats = index.search_furthest(queries[:n], 10, return_stats=True).stats
        assert stats.rows_scanned < 0.6 * N * n


@given(seed=st.integers(0, 2**32 - 1), dim=st.sampled_from([1, 2, 7]), whole=st.booleans(),
       size=st.sampled_from([0.0, 1e-20, 1e-7, 1.0, 1e15]), twins=st.booleans(),
       below=st.sampled_from([0.0, 1e-7, 1.0]), far=st.sampled_from([0.0, 1.0, 1e4]))
def test_rows_on_the_edge_of_their_square(seed: int, dim: int, whole: bool, size: float,
                                          twins: bool, below: float, far: float) -> None:
    """Rows and queries that share nothing, or are opposite: the bound has nothing to spare."""
    rng = np.random.default_rng(seed)
    rows = rng.integers(0, 3, (300, dim)) * (1.0 if whole else 1.0 + 1e-7 * rng.random((300, 1)))
    rows = (size * rows).astype(np.float32) * (rng.random((300, dim)) < 0.4)
    rows[:150, 0] += np.float32(far)
    if twins:
        rows[150:] = rows[:150]
    queries = (size * rng.integers(0, 3, (13, dim))).astype(np.float32)
    queries *= np.where(rng.random((13, dim)) < 0.3, -below, 1.0).astype(np.float32)
    queries[0] = 0.0
    try:
        index = index_by_reach(rows, "l2", LEVELS[-1], None, by_square=True)
    except AssertionError:
        return
    for k in (1, 10):
        expected = reference.furthest(queries, rows, k, "l2")
        assert_same(index.search_furthest(queries, k), expected)
        for i in range(2):
            some = reference.Found(expected.scores[i : i + 1], expected.ids[i : i + 1])
            assert_same(index.search_furthest(queries[i : i + 1], k), some)


@pytest.mark.parametrize("metric", ["dot", "cosine"])
def test_what_a_lead_holds(metric: str, rng: np.random.Generator) -> None:
    rows, center, lead = uneven(rng, 1600, DIM), rng.standard_normal(DIM), rng.standard_normal(DIM)
    arrays = lay_out(rows, metric, center=center, lead=lead)
    assert arrays.max_norm is not None and arrays.max_along is not None and arrays.slots is not None
    lead /= np.linalg.norm(lead)
    assert arrays.mean_query_direction is not None
    np.testing.assert_allclose(arrays.mean_query_direction.directions[0], lead, rtol=1e-15)
    n = len(filled(arrays)) // 16 * 16
    vectors: Float64 = rows[arrays.slots[:n]].astype(np.float64)
    if metric == "cosine":
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors -= center
    along = vectors @ lead
    across = np.linalg.norm(vectors - along[:, None] * lead, axis=1)
    promise = 2.0 * along + across
    # Within parts of 512 rows lie by size.
    assert promise[:512].min() >= promise[512:1024].max() - 1e-9
    for held, values in ((arrays.max_along, along), (arrays.max_norm, across)):
        of_panels = values.reshape(-1, 16).max(axis=1)
        assert (of_panels <= held[: len(of_panels)]).all()
        np.testing.assert_allclose(held[: len(of_panels)], of_panels, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("metric", core.METRICS)
def test_what_lengths_hold(metric: str, rng: np.random.Generator) -> None:
    rows, center = uneven(rng, 1600, DIM), rng.standard_normal(DIM)
    arrays = lay_out(rows, metric, center=center, by_length=True)
    assert arrays.max_norm is not None and arrays.slots is not None
    n = len(filled(arrays)) // 16 * 16
    vectors: Float64 = rows[arrays.slots[:n]].astype(np.float64)
    if metric == "cosine":
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    lengths = np.linalg.norm(vectors - center, axis=1)
    # Within parts of 512 rows lie by size.
    assert lengths[:512].min() >= lengths[512:1024].max()
    assert lengths[512:1024].min() >= lengths[1024:].max()
    of_panels = lengths.reshape(-1, 16).max(axis=1)
    assert (of_panels <= arrays.max_norm[: len(of_panels)]).all()
    assert (arrays.max_norm[: len(of_panels)] <= of_panels * (1.0 + 1e-5)).all()


def spares_rows_and_survives_a_file(index: farann.Index, rows: Float32, queries: Float32,
                                    metric: str, path: Path) -> None:
    hits = index.search_furthest(queries, 10, return_stats=True)
    stats = hits.stats
    assert_same(hits, reference.furthest(queries, rows, 10, metric))
    assert stats.rows_scanned < 0.8 * len(rows) * len(queries)
    index.save(path)
    for mmap in (False, True):
        again = farann.Index.load(path, mmap=mmap).search_furthest(
            queries, 10, return_stats=True)
        its_stats = again.stats
        assert np.array_equal(again.ids, hits.ids) and its_stats == stats


@pytest.mark.parametrize("metric", ["l2", "dot"])
def test_build_and_save(metric: str, tmp_path: Path, rng: np.random.Generator) -> None:
    """Rows lie by length where that helps, also after a file has had them."""
    rows, queries = uneven(rng, 6000, DIM), uneven(rng, 50, DIM)
    index = farann.Index(metric=metric)
    index.add(rows)
    index.build()
    codes = inside.store.of(index).codes
    assert codes is not None and codes.max_norm is not None
    spares_rows_and_survives_a_file(index, rows, queries, metric, tmp_path / "index.farann")
    for broken in (change("max_norm", lambda array: array[:-1]), put("max_norm", 3, np.nan),
                   put("max_norm", 3, -1.0), put("max_norm", 3, np.inf),
                   change("max_norm", lambda array: array.astype(np.float64)),
                   change("max_norm", lambda array: array[None])):
        refuse(tmp_path / "index.farann", broken, False)


def test_build_and_save_squares(tmp_path: Path, rng: np.random.Generator) -> None:
    """The longest rows come first under l2 if they have no negative numbers and share little."""
    rows, queries = term_weights(rng, 6000, 64, 0.02), term_weights(rng, 50, 64, 0.02)
    index = farann.Index()
    index.add(rows)
    index.build()
    codes = inside.store.of(index).codes
    assert codes is not None and codes.max_square is not None and codes.max_norm is None
    spares_rows_and_survives_a_file(index, rows, queries, "l2", tmp_path / "index.farann")
    for broken in (change("max_square", lambda array: array[:-1]), put("max_square", 3, np.nan),
                   put("max_square", 3, -1.0), put("max_square", 3, np.inf),
                   change("max_square", lambda array: array.astype(np.float32)),
                   change("max_square", lambda array: array[None])):
        refuse(tmp_path / "index.farann", broken, False)
    rows[77, 5] = -1e-20
    for others in (rows, np.eye(8, dtype=np.float32)[rng.integers(0, 8, 6000)]):
        index = farann.Index()
        index.add(others)
        index.build()
        codes = inside.store.of(index).codes
        assert codes is not None and codes.max_square is None


@pytest.mark.parametrize("metric", ["dot", "cosine"])
def test_build_and_save_a_lead(metric: str, tmp_path: Path, rng: np.random.Generator) -> None:
    """Rows lie along what queries have in common where that helps."""
    rows = rng.standard_normal((6000, DIM), dtype=np.float32)
    queries = rng.standard_normal((450, DIM), dtype=np.float32) + np.float32(2.0)
    index = farann.Index(metric=metric)
    index.add(rows)
    index.build(queries=queries[50:])
    queries = queries[:50]
    codes = inside.store.of(index).codes
    assert codes is not None and codes.mean_query_direction is not None
    spares_rows_and_survives_a_file(index, rows, queries, metric, tmp_path / "index.farann")
    for broken in (change("max_along", lambda array: array[:-1]), put("max_along", 3, np.nan),
                   put("max_along", 3, np.inf), change("max_along", lambda array: array[None]),
                   put("mean_query_direction", (0, 3), np.nan),
                   put("mean_query_direction", (0, 3), 2.0),
                   change("mean_query_direction", lambda array: array[:, :-1]),
                   change("mean_query_direction", lambda array: np.append(array, [[0.0]], axis=1)),
                   change("mean_query_direction", lambda array: array.astype(np.float32)),
                   put("max_norm", 3, -1.0), change("max_norm", lambda array: array[:-1]),
                   change("mean_query_direction", lambda array: np.vstack([array, array]))):
        refuse(tmp_path / "index.farann", broken, False)


@pytest.mark.parametrize("lost", ["mean_query_direction", "max_along", "max_norm"])
def test_parts_of_a_lead_belong_together(lost: str, rng: np.random.Generator) -> None:
    rows = uneven(rng, 600, DIM)
    arrays = lay_out(rows, "dot", lead=rng.standard_normal(DIM))
    none: dict[str, Any] = {lost: None}
    with pytest.raises(ValueError, match="go together"):
        core.Codes(600, DIM, replace(arrays, **none))


def test_queries_of_all_the_sample_decide(rng: np.random.Generator) -> None:
    """Rows may be in an order, as words by how common they are, and the first ones special."""
    rows = rng.standard_normal((6000, 32), dtype=np.float32)
    rows[1500:] += np.float32(1.0)
    for ordered in (rows, rows[::-1]):
        index = farann.Index(metric="dot")
        index.add(ordered)
        index.build()
        codes = inside.store.of(index).codes
        assert codes is not None and codes.mean_query_direction is not None


def test_even_lengths_are_no_order(rng: np.random.Generator) -> None:
    rows = rng.standard_normal((6000, 64), dtype=np.float32)
    index = farann.Index(metric="dot")
    index.add(rows)
    index.build()
    codes = inside.store.of(index).codes
    assert codes is not None and codes.max_norm is None
