"""The certificate of codes: no row that belongs to an answer is lost, whatever the data.

The inequalities of docs/how-it-works, by plain numpy; then that kernels keep the candidates
which numpy says, at every level.
"""

from __future__ import annotations

from typing import NamedTuple

import inside
import numpy as np
import pytest
import reference
from cases import DATA, Float32, core_top, low_rank, pairs, queries_for
from codes_in_numpy import (
    Float64,
    Int64,
    Level,
    Levels,
    Question,
    codes_of,
    filled,
    four_bits,
    lay_out,
    leading,
    levels,
    orthonormal,
    question,
    reduced_keys,
    turned,
)
from hypothesis import assume, given
from hypothesis import strategies as st
from inside import core
from numpy.typing import NDArray

LEVELS = inside.levels()
TINY = np.float32(1e-6)


class Problem(NamedTuple):
    """Rows, queries, a basis and what is asked of them."""

    rows: Float32
    queries: Float32
    basis: Float64 | None
    order: Int64
    metric: str
    sign: float
    axes: Float64 | None


def with_lower_halves(rng: np.random.Generator, n: int, dim: int, half: int) -> Float32:
    """Rows with the weight 1 whose codes + 128 all have these lower halves; not turned yet."""
    rows = 16.0 * rng.integers(1, 8, (n, dim)) * rng.choice([-1, 1], (n, dim)) + half
    rows[:, 0] = rng.choice([-127, 127], n)
    return np.asarray(np.clip(rows, -127, 127).astype(np.float32))


def rows_of(kind: str, rng: np.random.Generator, n: int, basis: Float64) -> Float32:
    """Rows that are awkward for a basis, or for codes of all coordinates."""
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
        return rng.choice(np.array([-127, 127], np.float32), (n, dim))
    if kind == "sizes of all kinds in a panel":
        return (10.0 ** rng.uniform(-6, 0, (n, 1)) * rng.standard_normal((n, dim))).astype(
            np.float32)
    if kind == "one large row a panel":
        return np.where(np.arange(n)[:, None] % 16 == 0, 1e6, 1).astype(
            np.float32) * rng.standard_normal((n, dim), dtype=np.float32)
    if kind in LOWER:
        # Turned back, so that these are the coordinates that are coded.
        there = turned(np.eye(dim), inside.quantize.rotation_signs(dim, 0))
        return (with_lower_halves(rng, n, dim, LOWER[kind]) @ there.T).astype(np.float32)
    return DATA[kind](rng, n, dim)


LOWER = {"lower halves 0": 0, "lower halves 15": 15, "lower halves 7": 7}
KINDS = ["in the span", "orthogonal", "low rank, tiny noise", "edges of steps",
         "edges along the basis", "saturating along the basis", "saturating",
         "sizes of all kinds in a panel", "one large row a panel", *LOWER, *DATA]


@st.composite
def problems(draw: st.DrawFn) -> Problem:
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    metric = draw(st.sampled_from(core.METRICS))
    n = draw(st.integers(65, 200))
    dim = draw(st.one_of(*3 * [st.integers(1, 40)], st.integers(41, 300), st.integers(301, 2048)))
    m = draw(st.integers(1, min(dim, 20)))
    basis = np.eye(dim)[:m] if draw(st.booleans()) else orthonormal(rng, m, dim)
    size = np.float32(draw(st.sampled_from([1.0, 1.0, 1e-9, 1e9])))
    with np.errstate(over="ignore"):
        rows = size * rows_of(draw(st.sampled_from(KINDS)), rng, n, basis)
    rows = np.nan_to_num(rows, posinf=3e38, neginf=-3e38)
    if metric == "cosine":
        rows[~rows.any(axis=1), 0] = TINY
    # Queries of all sizes: what sets the unit is the query, or the squares of rows.
    with np.errstate(over="ignore"):
        sized = [(rng.standard_normal((1, dim)) * size * 2.0**exponent).astype(np.float32)
                 for exponent in rng.integers(-10, 90, 4)]
        # Or float32 itself.
        sized += [(rng.standard_normal((1, dim)) * 10.0 ** rng.uniform(-40, 37)).astype(np.float32)
                  for _ in range(2)]
    queries = np.nan_to_num(np.vstack([queries_for(rng, rows, metric), *sized]), posinf=3e38,
                            neginf=-3e38)
    queries = queries[queries.any(axis=1)] if metric == "cosine" else queries
    looks = draw(st.sampled_from([basis, None, None]))
    # The basis, which rows may lie along, or others that have no part in them.
    axes = draw(st.sampled_from([None, None, basis, orthonormal(rng, m, dim)]))
    return Problem(rows, np.ascontiguousarray(queries), looks, rng.permutation(n), metric,
                   draw(st.sampled_from([1.0, -1.0])), axes)


def laid_out(problem: Problem) -> inside.quantize.CodeArrays:
    try:
        return lay_out(problem.rows, problem.metric, problem.basis, order=problem.order,
                       axes=problem.axes)
    except AssertionError:
        assume(False)  # such rows have no codes
        raise


def assert_certified(level: Level, at: NDArray[np.intp], keys: Float64) -> None:
    """Each row passes where its own key is what is asked for, and with it for all less."""
    floor = np.full(len(level.sums), -np.inf)
    floor[at] = keys
    limits = level.limits(floor)
    sums = level.sums[at]
    # The mathematics need none of the 2 that pays for rounding.
    assert (sums >= limits.real[at] + 2.0 - 1e-9 * (2.0**10 + np.abs(limits.real[at]))).all()
    assert (sums > limits.strictest[at]).all()
    for i in range(0, len(at), 9):
        assert level.unknown is not None or level.passing(keys[i])[at[i]]
    # Differences of sums and limits stay within 32 bits, whatever is asked for.
    for wanted in (-np.inf, -1e38, 0.0, float(keys.max()), 1e38, np.inf):
        limits = level.limits(wanted)
        for rounded in (limits.fused, limits.rounded):
            assert (np.abs(rounded) < 2**31).all()
            assert (np.abs(level.sums - rounded) < 2**31).all()
    assert (np.abs(level.sums) < 2**29).all()


def within_off(level: Level, at: NDArray[np.intp], keys: Float64) -> bool:
    return bool((np.abs(level.scores()[at].astype(np.float64) - keys) <= level.off).all())


@given(problems())
def test_certificate(problem: Problem) -> None:
    """By every kind of scan, with queries of both sizes; scores are as near as they must be."""
    arrays = laid_out(problem)
    center, at = np.zeros(problem.rows.shape[1]), filled(arrays)
    assert arrays.slots is not None
    for query in problem.queries:
        asked = question(query, center, problem.metric, problem.sign)
        keys = reduced_keys(query, problem.rows[arrays.slots[at]], problem.metric, problem.sign,
                            asked)
        for largest in (63, 127):
            found = levels(asked, arrays, problem.sign, largest)
            if found is None:
                continue
            for level in found:
                if level is not None:
                    assert_certified(level, at, keys)
            assert found.whole is not None and within_off(found.whole, at, keys)
            if arrays.low_nibbles is None:
                continue
            alone = levels(asked, four_bits(arrays), problem.sign, largest)
            if alone is not None:
                assert alone.upper is not None
                assert_certified(alone.upper, at, keys)
                assert within_off(alone.upper, at, keys)


@given(problems(), st.sampled_from(LEVELS), st.sampled_from([1, 9]), st.booleans())
def test_answers(problem: Problem, isa: str, k: int, halved: bool) -> None:
    """The same data through the kernels, one query at a time and all at once."""
    arrays = laid_out(problem)
    rows, queries, nearest = problem.rows, problem.queries, problem.sign < 0.0
    if halved and arrays.low_nibbles is not None:
        arrays = four_bits(arrays)
    codes = core.Codes(len(rows), rows.shape[1], arrays)
    oracle = reference.nearest if nearest else reference.furthest
    expected = oracle(queries, rows, k, problem.metric)
    for some in (slice(0, 1), slice(3, 4), slice(-1, None), slice(0, None)):
        scores, ids, _ = core_top(rows, queries[some], k, problem.metric, isa, nearest=nearest,
                                  codes=codes)
        np.testing.assert_array_equal(ids, expected.ids[some])
        np.testing.assert_array_equal(scores, expected.scores[some])


@pytest.mark.parametrize("half", LOWER.values())
def test_lower_halves_of_choice(half: int, rng: np.random.Generator) -> None:
    """What these rows are made for: all that upper halves leave out adds up."""
    dim = 32
    there = turned(np.eye(dim), inside.quantize.rotation_signs(dim, 0))
    rows = (with_lower_halves(rng, 64, dim, half) @ there.T).astype(np.float32)
    arrays = lay_out(rows, "dot")
    lower = codes_of(arrays).whole[:, 1:] & 15
    assert (lower == half).mean() > 0.8
    assert (arrays.bounds.low_nibble_norm > 7 * (dim - 1) ** 0.5) == (half != 7)


# ---- what kernels keep ----


class Kept(NamedTuple):
    """Rows that a search refines and rescores: at least, and at most."""

    refined: tuple[int, int]
    rescored: tuple[int, int]
    bytes_read: tuple[int, int]


def blocks(n: int) -> list[slice]:
    """How a search cuts positions of few bytes: longer and longer, up to 1024."""
    found, start, length = [], 0, 64
    while start < n:
        found.append(slice(start, min(start + length, n)))
        start, length = start + length, min(2 * length, 1024)
    return found


def kept_by(asked: Levels, floor: float, arrays: inside.quantize.CodeArrays, single: bool,
            row_dim: int) -> Kept:
    """What becomes of one query: bounds from limits as levels round them, one way and another."""
    n, dim = len(arrays.panels), arrays.transform.width
    coded, n_filled = np.zeros(n, np.bool_), int(filled(arrays)[-1]) + 1
    coded[filled(arrays)] = True
    refined, rescored, n_bytes = np.zeros(2, int), np.zeros(2, int), 0
    pause = next_pause = 0
    few = 2 + 4000 // row_dim  # of few dimensions fewer rows may pass
    width = arrays.panels.shape[1] + (0 if arrays.squares is None else 4)
    for block in blocks(n):
        upper_first = single and asked.upper is not None and asked.whole is not None
        if upper_first and pause:
            pause, upper_first = pause - 1, False
        first = (asked.along if asked.along is not None else
                 asked.upper if upper_first or asked.whole is None else asked.whole)
        assert first is not None
        limits = first.limits(floor)
        passed = [(first.sums > limit)[block] for limit in (limits.strictest, limits.loosest)]
        whole_too = arrays.low_nibbles is not None and not upper_first
        read = width + (arrays.panels.shape[1] if whole_too else 0)
        n_bytes += read * (min(block.stop, n_filled) - block.start)
        if upper_first:
            many = [few * int(some.sum()) > block.stop - block.start for some in passed]
            assert many[0] == many[1], "the test needs data that decide"
            if many[0]:
                next_pause = min(2 * next_pause + 1, 7)
                pause = next_pause
        if upper_first or asked.along is not None:
            refined += [int(some.sum()) for some in passed]
            assert asked.whole is not None
            passed = [some & asked.whole.passing(floor)[block] for some in passed]
        # At last all candidates must have scores that the floor, and what they are off, allow.
        last = asked.whole if asked.whole is not None else first
        least = floor - last.off
        doubt = 1e-6 * np.array([1.0, -1.0]) * (abs(floor) + last.off)
        scores = last.scores()[block].astype(np.float64)
        passed = [some & (scores >= least + more) for some, more in zip(passed, doubt, strict=True)]
        rescored += [int((some & coded[block]).sum()) for some in passed]
    vectors = 4 * row_dim
    total = [n_bytes + int(r) * dim + int(s) * vectors for r, s in zip(refined, rescored,
                                                                       strict=True)]
    return Kept(*((int(low), int(high)) for low, high in (refined, rescored, total)))


def floor_of(radius: float, metric: str, asked: Question) -> float:
    """The reduced key that a search beyond a radius starts from."""
    key = radius**2 if metric == "l2" else -radius
    if metric == "cosine":
        key /= asked.key_scale
    return (key - abs(key) * 1e-12) * asked.key_scale + asked.key_offset


@pytest.mark.parametrize(("isa", "metric", "layout"), pairs(
    LEVELS, core.METRICS, ["halves", "axes", "four bits", 1, 6, 8]))
def test_kernels_keep_these_candidates(isa: str, metric: str, layout: str | int,
                                       rng: np.random.Generator,
                                       monkeypatch: pytest.MonkeyPatch) -> None:
    """As many as plain numpy says, at each step: with a fixed radius all thresholds are known."""
    monkeypatch.setattr(inside.settings, "hub_rows", 0)
    n = 5037
    rows, queries = low_rank(rng, n, 37, 0.3), low_rank(rng, 9, 37, 0.3)
    basis = leading(rows, metric, layout) if isinstance(layout, int) else None
    axes = leading(rows, metric, 36) if layout == "axes" else None
    arrays = lay_out(rows, metric, basis, order=rng.permutation(n), axes=axes)
    arrays = four_bits(arrays) if layout == "four bits" else arrays
    center = np.zeros(37)
    snapshot = inside.native.snapshot_of_rows(rows, metric, isa, codes=core.Codes(n, 37, arrays))
    assert len(filled(arrays)) == n  # others would be scored exactly, at once
    for wanted in (30, 3000):  # few pass, or so many that upper halves are left for some blocks
        scores = reference.furthest(queries, rows, wanted, metric).scores[:, -1]
        for some in (slice(0, 1), slice(7, 8), slice(0, 9)):
            radius = float(np.median(scores[some]))
            every = []
            for query in queries[some]:
                asked = question(query, center, metric, 1.0)
                found = levels(asked, arrays, 1.0, inside.native.largest_code(isa))
                assert found is not None
                every.append(kept_by(found, floor_of(radius, metric, asked), arrays,
                                     some.stop - some.start == 1, 37))
            task = inside.native.task_of(snapshot, queries[some].copy(), 1, collector=(
                core.RangeCollector(np.full(len(every), radius))))
            task.run()
            work = inside.native.work_of(task)
            counted = {"refined": work.rows_refined, "rescored": work.rows_rescored,
                       "bytes_read": work.bytes_read}
            for name in Kept._fields:
                low, high = (sum(getattr(kept, name)[i] for kept in every) for i in (0, 1))
                # Kernels hold rows against the floor in float32.
                assert low - 2 <= counted[name] <= high, name
                assert high - low <= 2 + high // 200
            # Four bits may rule out nothing for one query.
            all_may = layout == "four bits" and len(every) == 1
            assert 0 < work.rows_rescored < n * len(every) + all_may
            assert (work.rows_refined > 0) == (
                basis is not None or (layout in ("halves", "axes") and len(every) == 1))
