"""The cascade of codes: its certificate holds for hostile data, and its answers are exact."""

from __future__ import annotations

from typing import Any, NamedTuple

import farann
import numpy as np
import pytest
import reference
from cases import (
    DATA,
    Float32,
    ask_core,
    assert_same,
    assert_same_beyond,
    queries_for,
    rows_for,
)
from codes_in_numpy import (
    ZERO_POINTS,
    Float64,
    Int64,
    by_position,
    lay_out,
    leading,
    levels,
    orthonormal,
    question,
    reduced_keys,
)
from farann import _core, _layout
from hypothesis import assume, given
from hypothesis import strategies as st

LEVELS = farann.isa_levels()
TINY = np.float32(1e-6)


def low_rank(rng: np.random.Generator, n: int, dim: int, noise: float = 0.05) -> Float32:
    """Rows near a space of few dimensions."""
    rank = max(1, dim // 8)
    rows = rng.standard_normal((n, rank)) @ rng.standard_normal((rank, dim))
    return (rows + noise * rng.standard_normal((n, dim))).astype(np.float32)


def coded_index(rows: Float32, metric: str, isa: str, m: int | None,
                rng: np.random.Generator) -> farann.Index:
    """An index whose codes have m leading directions (None: no basis) and a random order."""
    index = farann.Index(metric=metric)
    index.add(rows)
    index.build()
    index._isa = isa
    store = index._store
    assert store is not None
    basis = None if m is None else leading(rows, metric, m, store.centre)
    store.codes = lay_out(rows, metric, basis, order=rng.permutation(len(rows)),
                          centre=store.centre)
    return index


# ---- exact at every level ----


@pytest.mark.parametrize("m", [None, 1, 3, 4, 8, 17, 40])
@pytest.mark.parametrize("metric", _core.METRICS)
@pytest.mark.parametrize("isa", LEVELS)
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
        assert_same_beyond(index.search_beyond(queries, radius, **filter),
                           reference.beyond(queries, rows, radius, metric, **filter))
    for n in (1, 29):
        assert_same_beyond(index.search_beyond(queries[:n], radius),
                           reference.beyond(queries[:n], rows, radius, metric))


@pytest.mark.parametrize("m", [None, 8])
@pytest.mark.parametrize("metric", _core.METRICS)
@pytest.mark.parametrize("isa", LEVELS)
def test_thousands_wanted(isa: str, metric: str, m: int | None, rng: np.random.Generator) -> None:
    """Candidates are thinned out many times, by scores that are right on both sides."""
    rows, queries = low_rank(rng, 5000, 24), low_rank(rng, 7, 24)
    codes = _core.Codes(5000, 24, *lay_out(
        rows, metric, None if m is None else leading(rows, metric, m)))
    for nearest, oracle in ((False, reference.furthest), (True, reference.nearest)):
        expected = oracle(queries, rows, 1000, metric)
        for n in (1, 7):
            scores, ids, _ = ask_core(rows, queries[:n], 1000, metric, isa, nearest=nearest,
                                      codes=codes)
            np.testing.assert_array_equal(ids, expected.ids[:n])
            np.testing.assert_array_equal(scores, expected.scores[:n])


@pytest.mark.parametrize("m", [None, 4])
@pytest.mark.parametrize("kind", DATA)
@pytest.mark.parametrize("metric", _core.METRICS)
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


@pytest.mark.parametrize("metric", _core.METRICS)
@pytest.mark.parametrize("dim", [1, 2, 5, 255, 2048])
def test_dimensions(dim: int, metric: str, rng: np.random.Generator) -> None:
    rows, queries = low_rank(rng, 100, dim), low_rank(rng, 7, dim)
    expected = reference.furthest(queries, rows, 5, metric)
    for m in {1, min(dim, 5), min(dim, 128)}:
        codes = _core.Codes(100, dim, *lay_out(rows, metric, orthonormal(rng, m, dim)))
        for isa in LEVELS:
            scores, ids, _ = ask_core(rows, queries, 5, metric, isa, codes=codes)
            np.testing.assert_array_equal(ids, expected.ids)
            np.testing.assert_array_equal(scores, expected.scores)


def test_the_first_look_prunes(rng: np.random.Generator) -> None:
    """Rows near few dimensions: few pass the first look, at one query and at many."""
    rows, queries = low_rank(rng, 20_000, 64, 0.001), low_rank(rng, 40, 64, 0.001)
    for metric in _core.METRICS:
        codes = _core.Codes(20_000, 64, *lay_out(rows, metric, leading(rows, metric, 8)))
        snapshot = _core.Snapshot(rows, rows[:0], None, None, np.zeros(64),
                                  _core.METRICS.index(metric), LEVELS[-1], codes)
        for n in (1, 40):
            task = _core.Task(snapshot, _core.Filter(snapshot), queries, 0, n, 10, False)
            task.run()
            assert task.scanned == 20_000 * n
            assert 10 * n <= task.refined < 4000 * n
            assert 10 * n <= task.rescored < 400 * n


# ---- the certificate ----


class Problem(NamedTuple):
    """Rows, queries, a basis and what is asked of them."""

    rows: Float32
    queries: Float32
    basis: Float64 | None
    order: Int64
    metric: str
    sign: float


def rows_of(kind: str, rng: np.random.Generator, n: int, basis: Float64) -> Float32:
    """Rows that are awkward for a basis."""
    m, dim = basis.shape
    steps = rng.integers(-127, 128, (n, m)) + 0.5
    if kind == "in the span":
        return (rng.standard_normal((n, m)) @ basis).astype(np.float32)
    if kind == "orthogonal":
        rows = rng.standard_normal((n, dim))
        return (rows - rows @ basis.T @ basis).astype(np.float32)
    if kind == "low rank, tiny noise":
        return low_rank(rng, n, dim, 1e-6)
    if kind == "edges of steps":
        return (rng.integers(-127, 128, (n, dim)) + 0.5).astype(np.float32)
    if kind == "edges along the basis":
        return (steps @ basis + 1e-3 * rng.standard_normal((n, dim))).astype(np.float32)
    if kind == "saturating along the basis":
        return (127.0 * rng.choice([-1, 1], (n, m)) @ basis).astype(np.float32)
    if kind == "saturating":
        return rng.choice(np.float32([-127, 127]), (n, dim))
    return DATA[kind](rng, n, dim)


KINDS = ["in the span", "orthogonal", "low rank, tiny noise", "edges of steps",
         "edges along the basis", "saturating along the basis", "saturating", *DATA]


@st.composite
def problems(draw: st.DrawFn) -> Problem:
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    metric = draw(st.sampled_from(_core.METRICS))
    n, dim = draw(st.integers(65, 200)), draw(st.integers(1, 40))
    m = draw(st.integers(1, min(dim, 20)))
    basis = np.eye(dim)[:m] if draw(st.booleans()) else orthonormal(rng, m, dim)
    size = np.float32(draw(st.sampled_from([1.0, 1.0, 1e-9, 1e9])))
    with np.errstate(over="ignore"):
        rows = size * rows_of(draw(st.sampled_from(KINDS)), rng, n, basis)
    rows = np.nan_to_num(rows, posinf=3e38, neginf=-3e38)
    if metric == "cosine":
        rows[~rows.any(axis=1), 0] = TINY
    # Queries of all sizes: squares are shifted from 0 to 31 bits and beyond, or the step is none.
    queries = np.vstack([queries_for(rng, rows, metric)] + [
        (rng.standard_normal((1, dim)) * size * 2.0**exponent).astype(np.float32)
        for exponent in rng.integers(-10, 45, 4)])
    queries = queries[queries.any(axis=1)] if metric == "cosine" else queries
    return Problem(rows, queries, draw(st.sampled_from([basis, basis, None])),
                   rng.permutation(n), metric, draw(st.sampled_from([1.0, -1.0])))


def laid_out(problem: Problem) -> _layout.CodeArrays:
    try:
        return lay_out(problem.rows, problem.metric, problem.basis, order=problem.order)
    except AssertionError:
        assume(False)  # such rows have no codes
        raise


@given(problems())
def test_certificate(problem: Problem) -> None:
    """Scores of all coordinates are within slack of the reduced key; the first look's not below."""
    arrays = laid_out(problem)
    centre = np.zeros(problem.rows.shape[1])
    position = np.flatnonzero(arrays.sums != _core.NOT_CODED)
    at = position if arrays.slots is None else arrays.slots[position]
    for query in problem.queries:
        asked = question(query, centre, problem.metric, problem.sign)
        keys = reduced_keys(query, problem.rows[at], problem.metric, problem.sign, asked)
        for zero_point in (64, 128):
            found = levels(asked, arrays, problem.sign, zero_point)
            if found is None:
                continue
            for level in found:
                scores = level.scores[position] * level.step
                assert (scores >= keys - level.slack).all()
                assert (np.abs(level.scores[position]) <= 2**29 + 1).all()
            whole = found[-1]
            rough = whole.scores[position].astype(np.float32) * np.float32(whole.step)
            assert (np.abs(rough.astype(np.float64) - keys) <= whole.slack).all()
            # Equal keys pass: a threshold that is some row's key keeps that row.
            for level in found:
                for i in range(0, len(keys), 9):
                    floor = keys[i] - level.slack
                    assert level.scores[position[i]] > level.threshold(floor)


@given(problems(), st.sampled_from(LEVELS), st.sampled_from([1, 9]))
def test_answers(problem: Problem, isa: str, k: int) -> None:
    """The same data through the kernels, one query at a time and all at once."""
    arrays = laid_out(problem)
    rows, queries, nearest = problem.rows, problem.queries, problem.sign < 0.0
    codes = _core.Codes(*rows.shape, *arrays)
    oracle = reference.nearest if nearest else reference.furthest
    expected = oracle(queries, rows, k, problem.metric)
    for some in (slice(0, 1), slice(0, None)):
        scores, ids, _ = ask_core(rows, queries[some], k, problem.metric, isa, nearest=nearest,
                                  codes=codes)
        np.testing.assert_array_equal(ids, expected.ids[some])
        np.testing.assert_array_equal(scores, expected.scores[some])


@pytest.mark.parametrize("m", [None, 1, 6, 8])
@pytest.mark.parametrize("metric", _core.METRICS)
@pytest.mark.parametrize("isa", LEVELS)
def test_kernels_keep_these_candidates(isa: str, metric: str, m: int | None,
                                       rng: np.random.Generator) -> None:
    """As many as plain numpy says, at each step: with a fixed radius all thresholds are known."""
    rows, queries = low_rank(rng, 777, 37), low_rank(rng, 14, 37)
    basis = None if m is None else leading(rows, metric, m)
    arrays = lay_out(rows, metric, basis, order=rng.permutation(777))
    centre, number = np.zeros(37), _core.METRICS.index(metric)
    snapshot = _core.Snapshot(rows, rows[:0], None, None, centre, number, isa,
                              _core.Codes(777, 37, *arrays))
    radius = float(np.median(reference.furthest(queries, rows, 300, metric).scores[:, -1]))
    coded = arrays.sums != _core.NOT_CODED
    for n in (1, 14):
        kept, refined = 0, 0
        for query in queries[:n]:
            asked = question(query, centre, metric, 1.0)
            length = asked.key_scale**-1 if metric == "cosine" else 1.0
            key = radius**2 if metric == "l2" else -radius * length
            floor = (key - abs(key) * 1e-12) * asked.key_scale + asked.key_offset
            found = levels(asked, arrays, 1.0, ZERO_POINTS[isa])
            assert found is not None
            passed = coded.copy()
            for i, level in enumerate(found):
                passed &= level.scores > level.threshold(floor - level.slack)
                if i == 0 and len(found) == 2:
                    refined += int(passed.sum())
            kept += int(passed.sum())
        task = _core.Task(snapshot, _core.Filter(snapshot), queries, 0, n, 1, False, radius)
        task.run()
        assert (task.refined, task.rescored) == (refined, kept)
        assert (task.refined > 0) == (m is not None) and 0 < kept < 777 * n
        assert m in (None, 1) or task.refined < 777 * n


# ---- rows along a basis ----


@pytest.mark.parametrize("dim", [3, 16, 50, 300])
@pytest.mark.parametrize("metric", _core.METRICS)
def test_what_codes_along_hold(metric: str, dim: int, rng: np.random.Generator) -> None:
    rows = low_rank(rng, 100, dim)
    order = rng.permutation(100)
    for basis in (leading(rows, metric, min(dim, 7)), orthonormal(rng, min(dim, 9), dim)):
        arrays = lay_out(rows, metric, basis, order=order)
        assert arrays.basis_bounds is not None and arrays.slots is not None
        scale, residual, norm, rest_unit = arrays.basis_bounds
        codes = by_position(arrays.panels)[:100].astype(np.int64)
        vectors = rows[order].astype(np.float64)
        if metric == "cosine":
            vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        along = vectors @ basis.T
        rest = np.linalg.norm(vectors - along @ basis, axis=1)
        left = np.linalg.norm(along - scale * codes[:, : len(basis)], axis=1)
        assert np.abs(codes).max() == 127
        assert left.max() <= residual <= left.max() * (1 + 1e-3)
        assert np.linalg.norm(along, axis=1).max() <= norm
        assert (codes[:, -4:] == codes[:, -1:]).all()
        assert (codes[:, -1] * rest_unit >= rest).all()
        assert (codes[:, -1] * rest_unit <= rest + rest_unit + 1e-4 * norm).all()
        np.testing.assert_array_equal(arrays.sums[:100], codes.sum(axis=1))
        np.testing.assert_array_equal(arrays.slots[:100], order)
        assert (arrays.slots[100:] == -1).all() and (arrays.sums[100:] == _core.NOT_CODED).all()


# ---- the life of an index ----


@pytest.mark.parametrize("metric", _core.METRICS)
def test_life(metric: str, rng: np.random.Generator) -> None:
    """Rows added, removed, laid out anew, with ids of one's own: answers follow."""
    rows, ids = low_rank(rng, 300, 32), rng.permutation(1000)[:300]
    queries = low_rank(rng, 8, 32)
    index = farann.Index(metric=metric)
    index.add(rows, ids)
    index.build()
    store = index._store
    assert store is not None
    store.codes = lay_out(rows, metric, leading(rows, metric, 5, store.centre),
                          order=rng.permutation(300), centre=store.centre)

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
