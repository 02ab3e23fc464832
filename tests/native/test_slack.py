"""No kind of search loses a row to its rough scores: those that reach a threshold are found.

Thresholds are keys of rows themselves, so that the slack of scores has to pay for all errors, on
rows which make the errors of one kind large beside all others.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any, NamedTuple

import diverse_oracle
import inside
import numpy as np
import pytest
import reference
from cases import Float32, float32, pairs
from codes_in_numpy import four_bits, lay_out, leading, orthonormal
from inside import core
from numpy.testing import assert_array_equal
from numpy.typing import NDArray

Float64 = NDArray[np.float64]
N, COPIES, QUERIES = 96, 64, 7


Given = tuple[Float32, Float32]  # rows and queries
Maker = Callable[[np.random.Generator, int], Given]


class Case(NamedTuple):
    """Rows, of which the first are copies of one of them, queries, and all keys, by query."""

    name: str
    rows: Float32
    queries: Float32
    keys: Float64
    center: Float64
    codes: core.Codes | None


def _normal(rng: np.random.Generator, dim: int, n: int = N) -> Float64:
    return rng.standard_normal((n, dim))


def _offset(ratio: float) -> Maker:
    """Rows around a center that is so many times as far away as they are wide."""
    def make(rng: np.random.Generator, dim: int) -> Given:
        center = ratio * _normal(rng, dim, 1)
        rows = center + _normal(rng, dim)
        queries = _normal(rng, dim, QUERIES)
        queries[1] = center[0] + queries[1]
        queries[2:4] *= ratio
        queries[4] = rows[4]
        return float32(rows), float32(queries)
    return make


def _column(ratio: float) -> Maker:
    """A column that is the same in all rows, and so large."""
    def make(rng: np.random.Generator, dim: int) -> Given:
        rows, queries = _normal(rng, dim), _normal(rng, dim, QUERIES)
        rows[:, 0] = ratio
        queries[3:, 0] = ratio * queries[3:, 0]
        return float32(rows), float32(queries)
    return make


def _one_direction(rng: np.random.Generator, dim: int) -> Given:
    """Whole numbers, so that directions are the same to the last bit, and only lengths differ."""
    line = rng.integers(1, 30, (1, dim)) * rng.choice([-1, 1], (1, dim))
    queries = _normal(rng, dim, QUERIES)
    queries[0] = line
    return (float32(line * rng.integers(1, 5000, (N, 1))), float32(queries))


def _few_bits(rng: np.random.Generator, dim: int) -> Given:
    """Rows and queries that codes hold exactly, of one sign."""
    rows, queries = rng.integers(100, 128, (N, dim)), rng.integers(60, 64, (QUERIES, dim))
    rows[:, 0], queries[:, 0] = 127, 63
    return float32(rows), float32(queries)


def _tiny(size: float, of_queries: float) -> Maker:
    """Products that float32 takes for denormal numbers, or for 0."""
    def make(rng: np.random.Generator, dim: int) -> Given:
        return (float32(size * _normal(rng, dim)),
                float32(of_queries * _normal(rng, dim, QUERIES)))
    return make


def _biased(rng: np.random.Generator, dim: int) -> Given:
    """Sums that begin with 1 in each lane, and lose all further terms."""
    rows, queries = np.full((N, dim), 0.99 * 2.0**-19), np.full((QUERIES, dim), 2.0**-5)
    rows[:, : max(dim // 64, 1)] = queries[:, : max(dim // 64, 1)] = 1.0
    rows[N // 2 :] *= -1.0  # so that 0 is the center
    queries[1::2, dim // 3 :] *= rng.uniform(0.9, 1.0, (QUERIES // 2, dim - dim // 3))
    return float32(rows), float32(queries)


def _far_queries(rng: np.random.Generator, dim: int) -> Given:
    return float32(_normal(rng, dim)), float32(1e13 * _normal(rng, dim, QUERIES))


def _last_bits(rng: np.random.Generator, dim: int) -> Given:
    base = rng.uniform(1.0, 1.9, dim).astype(np.float32).view(np.int32)
    rows = (base + rng.integers(-3, 4, (N, dim), dtype=np.int32)).view(np.float32)
    return rows, float32(_normal(rng, dim, QUERIES))


KINDS: dict[str, Maker] = {
    "around 0": _offset(0.0), "offset 1e2": _offset(1e2), "offset 1e5": _offset(1e5),
    "offset 1e8": _offset(1e8), "column 1e8": _column(1e8), "column 1e13": _column(1e13),
    "one direction": _one_direction, "few bits": _few_bits, "tiny": _tiny(1e-22, 1e-23),
    "tiny rows": _tiny(1e-43, 1e10), "tiny squares": _tiny(1e-30, 1e20),
    "tiny queries": _tiny(1e3, 1e-43), "huge": _tiny(1e19, 1e19), "biased": _biased,
    "far queries": _far_queries, "last bits": _last_bits,
}
PROBLEMS = [*itertools.product(KINDS, (1, 3, 16, 131)), ("biased", 2048)]
LAYOUTS = ("float32", "int8", "int4", "filter", "axes")


def codes_for(layout: str, rows: Float32, metric: str, center: Float64,
              rng: np.random.Generator) -> core.Codes | None:
    """Codes of the rows in their order; None without codes, or where rows can't have any."""
    dim = rows.shape[1]
    options: dict[str, Any] = {"center": center}
    if layout == "float32":
        return None
    if layout in ("filter", "axes"):
        m = min(dim, 4)
        options["basis" if layout == "filter" else "axes"] = (
            leading(rows, metric, m, center) if rng.integers(2) else orthonormal(rng, m, dim))
    if layout == "by length":
        options["by_length"] = True
    try:
        arrays = lay_out(rows, metric, **options)
    except AssertionError:
        return None
    return core.Codes(len(rows), dim, four_bits(arrays) if layout == "int4" else arrays)


@cache
def cases(metric: str, layout: str) -> list[Case]:
    """Of each kind in each dimension, with codes of a layout, or without any."""
    made = []
    for number, (kind, dim) in enumerate(PROBLEMS):
        rng = np.random.default_rng(number)
        rows, queries = KINDS[kind](rng, dim)
        if metric == "cosine":
            rows[~rows.any(axis=1), 0] = queries[~queries.any(axis=1), 0] = 1e-40
        wide = rows.astype(np.float64)
        if metric == "cosine":
            wide /= np.linalg.norm(wide, axis=1, keepdims=True)
        center = float32(wide.mean(axis=0)).astype(np.float64)
        if center.any():
            queries[5] = center
        rows = np.concatenate([np.repeat(rows[rng.integers(N)][None], COPIES, axis=0), rows])
        codes = codes_for(layout, rows, metric, center, rng)
        columns = reference.Columns(rows, metric)
        if (codes is None) == (layout == "float32"):
            keys = np.array([columns.keys(query) for query in queries])
            made.append(Case(f"{kind}, {dim} dimensions", rows, queries, keys, center, codes))
    return made


@pytest.fixture(autouse=True)
def rough_scores_alone() -> Iterator[None]:
    """Exact keys don't take over where many rows tie."""
    inside.native.leave_out("key-scan", "cost-judge", "single-judge")
    yield
    inside.native.leave_out()


@pytest.mark.parametrize(("isa", "metric", "layout"), pairs(
    inside.levels(), core.METRICS, LAYOUTS))
def test_rows_at_the_threshold(isa: str, metric: str, layout: str) -> None:
    """The threshold is the key of a row, which another part of the rows gave."""
    for number, (name, rows, queries, keys, center, codes) in enumerate(cases(metric, layout)):
        ids = np.arange(len(rows))[::-1].copy()  # the row that gave the threshold loses each tie
        snapshot = inside.native.snapshot_of_rows(rows, metric, isa, codes=codes, center=center,
                                                  ids=ids)
        for sign in (1.0, -1.0):
            right = np.array([ids[np.lexsort((ids, -sign * key))[:COPIES]] for key in keys])
            for some in (slice(0, QUERIES), slice(number % QUERIES, number % QUERIES + 1)):
                leader, task = (inside.native.task_of(snapshot, queries[some], COPIES,
                                                      nearest=sign < 0.0) for _ in range(2))
                leader.search_only(0, COPIES)
                leader.run()
                task.search_only(COPIES, 1 << 20, leader)
                task.run()
                found = np.empty_like(right[some])
                core.write_best([leader, task], np.empty(found.shape, np.float32), found)
                assert_array_equal(found, right[some], name)


@pytest.mark.parametrize(("isa", "metric", "layout"), pairs(
    inside.levels(), core.METRICS, [*LAYOUTS, "by length"]))
def test_rows_at_the_radius(isa: str, metric: str, layout: str) -> None:
    for name, rows, queries, keys, center, codes in cases(metric, layout):
        snapshot = inside.native.snapshot_of_rows(rows, metric, isa, codes=codes, center=center)
        scores = np.array([reference.scores_from_keys(query, key, metric)
                           for query, key in zip(queries, keys, strict=True)])
        for nearest in (False, True):
            radii = scores[:, 0]
            if not nearest:
                radii = np.nextafter(radii, -np.inf if metric == "l2" else np.inf)
            beyond = scores > radii[:, None] if metric == "l2" else scores < radii[:, None]
            right = (~beyond if nearest else beyond).sum(axis=1)
            for some in (slice(0, QUERIES), slice(3, 4)):
                task = inside.native.task_of(snapshot, queries[some], 0, nearest=nearest,
                                             collector=core.RangeCollector(radii[some].copy()))
                task.run()
                assert task.counts() == right[some].tolist(), (name, nearest)


@pytest.mark.parametrize(("isa", "layout", "kind", "metric"), pairs(
    inside.levels(), [*LAYOUTS[1:], "by length"],
    ["wide", "with rests", "raw", "raw with rests"], core.METRICS))
def test_rows_at_the_floor_of_a_set(isa: str, layout: str, kind: str, metric: str) -> None:
    """Members in float64: what is known of them is the whole of them.

    Under l2 without rests: squares of so many bits aren't exact.
    """
    raw, with_rests = "raw" in kind, "rests" in kind and metric != "l2"
    for name, rows, queries, of_queries, center, codes in cases(metric, layout):
        keys, members = of_queries, queries.astype(np.float64)
        if with_rests:
            members *= 1 + 2.0**-30 / 3
            columns = reference.Columns(rows, metric)
            keys = np.array([diverse_oracle.keys(columns, member) for member in members])
        snapshot = inside.native.snapshot_of_rows(rows, metric, isa, codes=codes, center=center)
        for first, end in ((0, 1), (3, 4), (1, 3), (0, QUERIES)):
            some, of_some = members[first:end], keys[first:end]
            if metric == "cosine" and not raw and len(some) > 1:
                of_some = of_some / np.sqrt(reference.total(some.T * some.T))[:, None]
            least = of_some.min(axis=0)
            task = core.SetSearch(
                snapshot, core.Filter(snapshot), some, np.array([0, len(some)]), 0, len(rows),
                raw=raw, floor=least[0],
                rests=inside.native.low_bits(some) if with_rests else None)
            task.run()
            found = np.empty((1, len(rows)))
            task.write_keys(found, 0)
            right = np.sort(least[least >= least[0]])[::-1]
            assert found[0][found[0] > -np.inf].tolist() == right.tolist(), name


@pytest.mark.parametrize("isa", inside.levels())
def test_the_longest_row_at_the_norm_bound(isa: str, rng: np.random.Generator) -> None:
    """Queries along it, whose keys round by far more than the bound was rounded up by."""
    rows = rng.uniform(-0.7, 0.7, (N, 3)).astype(np.float32)
    rows[0], rows[:, 0] = 0.77, 1e18
    center = float32([1e18, 0, 0]).astype(np.float64)
    queries = np.repeat(-rows[:1], 40, axis=0)
    queries[:, 0] = rng.uniform(1e-4, 1e-2, 40)
    columns, codes = reference.Columns(rows, "dot"), core.Codes(
        N, 3, lay_out(rows, "dot", center=center, by_length=True))
    snapshot = inside.native.snapshot_of_rows(rows, "dot", isa, codes=codes, center=center)
    for query in queries:
        keys = columns.keys(query)
        task = inside.native.task_of(snapshot, query[None], 1)
        task.rule_out(keys.max())
        assert inside.native.run(task, 1, 1).ids == keys.argmax()
        sets = core.SetSearch(snapshot, core.Filter(snapshot), query[None].astype(np.float64),
                              np.array([0, 1]), 0, N, floor=keys[0])
        sets.run()
        found = np.empty((1, N))
        sets.write_keys(found, 0)
        assert (found > -np.inf).sum() == (keys >= keys[0]).sum()
