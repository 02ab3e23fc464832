"""A guard for `recall=`: queries unlike those that a plan was measured with get exact answers.

A plan holds for queries like its sample. Two tests recognize others. Nearly all queries of the
sample pass both: they are near one of some points, and within an ellipsoid around their mean. Long
queries are first reduced to a few sums of their coordinates. `_core.Guard` runs the tests,
docs/how-it-works/partitions.md explains them. `_core.KeyModel` is a witness of answers: the mean
and deviation of the keys of all rows for a query.
"""

from __future__ import annotations

import sys
import warnings
from dataclasses import dataclass, field
from functools import partial
from types import FrameType

import numpy as np

from farann import _core
from farann._types import Float32Array, Float64Array, Int64Array
from farann.contract import RecallWarning
from farann.contract.index_spec import traits_of
from farann.quantize.kmeans import move_means
from farann.quantize.records import Record, one, section
from farann.runtime import pool
from farann.runtime.pieces import Allowance, Pieces

SAMPLE = 8192  # most sample queries that a guard is made from
_HELD_OUT = 4  # one query in 4 is held out, to measure how far queries are from the points
_FAILING = 250  # one in 250 of those held out may fail a test
# Of fewer than 250 the limit is 1.5 times the value that 1 in 20 exceeds: the largest of a few
# queries is a poor estimate.
_BEYOND = 1.5
_WIDTH = 64  # most sums of coordinates that a query is reduced to: GUARD_WIDTH of the core
POINTS = 256  # most points of a guard: GUARD_POINTS of the core
_QUERIES_A_POINT = 4  # least sample queries for each point
_CHOICE_A_POINT = 8  # queries from which each point is chosen: with more, outliers are chosen
_POINTS_AT_ONCE = 8  # points chosen in one piece of making a guard
# Queries at the mean distance that are added to those near a point before its spread is computed.
_USUAL_QUERIES = 4
_LEAST_SPREAD = 1e-4  # floor of a point's spread, where the sample's mean squared length is 1
_LEAST_VARIANCE = 1e-4  # floor of the variance along an axis, in the same unit
_LEAST_LIMIT = 1e-2  # floor of a test's limit on squared distances over variance or spread
_SUMMED_AT_ONCE = 512  # queries of one piece of making a guard
_TESTED_AT_ONCE = 1024  # queries that are tested between two looks for Ctrl+C
_LONG = 16_384  # queries whose tests take some milliseconds: Ctrl+C must be able to end them
# Share of queries like the sample that fail by chance (2 tests, 1 in 250 each, and the sample's
# error); these needn't be guarded.
_USUAL_SHARE = 0.015
_FAR_BEYOND = 1.25  # failing at 1.25 times the limits, for squares of distances, isn't chance
_COMPARING = 0.02  # time for comparing answers with exact ones, over that of the answers
_LEAST_COST = 1e-4  # of answers beside exact ones, by which comparing is planned
_MOST_WATCHES = 64  # kinds of searches, by k and recall
_WARN_AFTER = 4  # warn when this many more queries were guarded than _WARN_SHARE of all
_WARN_SHARE = 0.05
# Of the model of keys.
MODEL_ROWS = 4096  # most rows that a model is made from
_AXES = 15  # KEY_AXES of the core
_ITERATIONS = 8  # of subspace iterations
_SPARE_AXES = 8  # axes beyond those kept, with which iterations converge sooner
_MODELLED_AT_ONCE = 1024  # rows of one piece
_LAST_DEVIATION = 4.0  # of the last coordinate, over that along the longest axis


@dataclass(frozen=True, eq=False, repr=False)
class KeyArrays(Record):
    """The arrays that `_core.KeyModel` is made of, and that a file keeps."""

    axes: Float32Array = field(metadata=section(np.float32, 2))
    terms: Float64Array = field(metadata=section(np.float64, 2))


@dataclass(frozen=True, eq=False, repr=False)
class GuardArrays(Record):
    """The arrays that `_core.Guard` is made of, and that a file keeps."""

    center: Float32Array = field(metadata=section(np.float32, 1))
    scale: float = field(metadata=section(np.float64, 1, one))
    points: Float32Array = field(metadata=section(np.float32, 2))
    reaches: Float32Array = field(metadata=section(np.float32, 1))
    axes: Float32Array = field(metadata=section(np.float32, 2))


class Guard:
    """Finds queries that are unlike a sample, and counts them."""
    arrays: GuardArrays
    keys: KeyArrays | None
    tests: _core.Guard
    model: _core.KeyModel | None

    def __init__(self, arrays: GuardArrays, dim: int, scale_free: bool, isa: str,
                 keys: KeyArrays | None = None) -> None:
        self.arrays, self.keys = arrays, keys
        self.tests = _core.Guard(isa, scale_free, signs_of(dim), *vars(arrays).values())
        self.model = None if keys is None else _core.KeyModel(isa, keys.axes, keys.terms)
        self._watches: dict[tuple[int, float, bool, bool], _core.Watch] = {}
        self._n_queries, self._guarded, self._surplus, self._warned = 0, 0, 0.0, False

    def unlike(self, queries: Float32Array, threads: int) -> Int64Array | None:
        """Find the queries to guard; return their positions, or None if there are none.

        If no more fail than chance explains, those that fail narrowly aren't guarded: the measured
        recall is that of a sample with such queries.
        """
        n, usual = len(queries), _USUAL_SHARE * len(queries)
        if n == 1 and self.tests.is_like(queries, 0):
            return None
        marks, step = np.zeros(n, np.uint8), _TESTED_AT_ONCE
        if n <= step:
            self.tests.find(queries, 0, n, marks)
        else:
            pool.run_all([partial(self.tests.find, queries, start, min(start + step, n), marks)
                          for start in range(0, n, step)], threads, long=n >= _LONG)
        flagged = np.flatnonzero(marks)
        if n > 1 and len(flagged) <= usual + 2.0 * usual**0.5:
            far = [not self.tests.is_like(queries, int(i), _FAR_BEYOND) for i in flagged]
            flagged = flagged[np.array(far, np.bool_)]
        self.note(n + self.tests.count_alone(), len(flagged))
        return flagged if len(flagged) else None

    def watch_for(self, key: tuple[int, float, bool, bool], usual: Float64Array, sampled: int,
                  cost: float) -> _core.Watch:
        """The watch over answers of one kind (k, recall, single, of every row), as long as the same
        is usual; `cost` is that beside exact search."""
        watch = self._watches.get(key)
        if watch is None or not np.array_equal(watch.usual, usual):
            if len(self._watches) >= _MOST_WATCHES:
                self._watches.clear()
            watch = self._watches[key] = _core.Watch(
                key[1], usual, sampled, round(1.0 / (_COMPARING * max(cost, _LEAST_COST))))
        return watch

    def note(self, queries: int, guarded: int) -> None:
        """Count queries; warn the caller once if chance doesn't explain those guarded."""
        self._n_queries += queries
        self._guarded += guarded
        self._surplus = max(self._surplus + guarded - _WARN_SHARE * queries, 0.0)
        if self._surplus <= _WARN_AFTER or self._warned:
            return
        self._warned = True
        warnings.warn(
            f"recall: {self._guarded} of {self._n_queries} queries were unlike those that this "
            "recall was measured with, and were answered exactly, which takes longer; earlier ones "
            "may have found less than was requested; give a sample of all kinds of queries to "
            "tune(queries), or to build(queries)", RecallWarning, stacklevel=_frames_to_caller())


def _frames_to_caller() -> int:
    """Number of frames from the caller up to the first one outside of the package."""
    frame: FrameType | None = sys._getframe(1)
    n = 1
    while frame is not None and frame.f_globals.get("__name__", "").startswith("farann."):
        frame, n = frame.f_back, n + 1
    return n


def signs_of(dim: int) -> Float32Array:
    """A sign for each coordinate: a fixed hash of its number, as files don't keep them."""
    with np.errstate(over="ignore"):
        z = np.arange(1, dim + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.where(z >> np.uint64(63), np.float32(-1), np.float32(1))


def width_of(dim: int) -> int:
    """Number of sums that a query is reduced to."""
    return min(-(-dim // 16) * 16, _WIDTH)


def _sums_of(queries: Float32Array, scale_free: bool) -> Float64Array:
    """Sums of the queries' coordinates, without queries whose sums float32 can't hold."""
    n, dim = queries.shape
    width = width_of(dim)
    signed = np.zeros((n, -(-dim // width) * width), np.float32)
    np.multiply(queries, signs_of(dim), out=signed[:, :dim])
    with np.errstate(over="ignore", invalid="ignore"):
        sums = signed.reshape(n, -1, width).sum(axis=1).astype(np.float64)
    if scale_free:
        lengths = np.sqrt(np.einsum("ij,ij->i", queries, queries, dtype=np.float64))
        sums /= np.where(lengths > 0.0, lengths, 1.0)[:, None]
    finite: Float64Array = sums[np.isfinite(sums).all(axis=1)]
    return finite


def guard_in_pieces(allowed: Allowance, queries: Float32Array, scale_free: bool, seed: int,
                    isa: str, keys: KeyArrays | None = None) -> Pieces[Guard]:
    """Make a guard by queries that a table was measured with; `scale_free`: lengths don't count.
    `keys`: the model of the keys of all rows."""
    allowed.multiplies = True
    yield
    dim = queries.shape[1]
    order = np.random.default_rng([seed, 2]).permutation(len(queries))[:SAMPLE]
    parts = []
    for start in range(0, len(order), _SUMMED_AT_ONCE):
        some = order[start : start + _SUMMED_AT_ONCE]
        parts.append(_sums_of(queries[some], scale_free))
        allowed.spend_on(0, len(some) * dim)
        yield
    sums = np.concatenate(parts)
    arrays = (yield from _arrays_of(sums, isa, allowed)) if len(sums) else _nothing(width_of(dim))
    return Guard(arrays, dim, scale_free, isa, keys)


def _nothing(width: int) -> GuardArrays:
    """Arrays of a guard that guards every query."""
    least = np.full(1, -np.finfo(np.float32).max, np.float32)
    return GuardArrays(np.zeros(width, np.float32), 1.0, np.zeros((1, width), np.float32), least,
                       np.zeros((width, width), np.float32))


def _arrays_of(sums: Float64Array, isa: str, allowed: Allowance) -> Pieces[GuardArrays]:
    held_out = np.arange(len(sums)) % _HELD_OUT == _HELD_OUT - 1
    center = sums[~held_out].mean(axis=0).astype(np.float32)
    sums = sums - center
    square = float(np.einsum("ij,ij->i", sums, sums).mean())
    # If all sample queries are the same, the unit of distances is about their rounding.
    usual = np.sqrt(square) or 1e-3 * float(np.abs(center).max()) or 1.0
    allowed.spend_on(0, 3 * sums.size)
    yield
    x = sums / usual
    learned, others = x[~held_out], x[held_out] if held_out.any() else x
    allowed.spend_on(0, 2 * x.size)
    yield
    axes = _whitening(learned)
    allowed.spend_on(x.size * x.shape[1] + 10 * x.shape[1]**3, x.size)
    yield
    axes /= np.sqrt(_largest(np.einsum("ij,ij->i", others @ axes.T, others @ axes.T)))
    chosen = yield from _far_apart(learned.astype(np.float32), isa, allowed)
    nearest, _ = yield from _nearest(learned, chosen.astype(np.float64), allowed)
    move_means(chosen, learned.astype(np.float32), nearest)
    points = chosen.astype(np.float64)
    nearest, squares = yield from _nearest(learned, points, allowed)
    near = np.bincount(nearest, minlength=len(points))
    # Points with many queries near come first, as they are tested in this order.
    order = np.argsort(-near, kind="stable")
    points, near = points[order], near[order]
    spread = np.bincount(nearest, squares, minlength=len(points))[order]
    # One query less: a point is the mean of its own queries, which makes their distances smaller.
    spread = (spread + _USUAL_QUERIES * squares.mean()) / (np.maximum(near - 1, 0) + _USUAL_QUERIES)
    spread = np.maximum(spread, _LEAST_SPREAD)
    limit = _largest((yield from _nearest(others, points, allowed, spread))[1])
    return GuardArrays(center, 1.0 / usual, points.astype(np.float32),
                       (limit * spread).astype(np.float32), np.ascontiguousarray(axes, np.float32))


def _far_apart(x: Float32Array, isa: str, allowed: Allowance) -> Pieces[Float32Array]:
    """Choose queries, each the furthest from those before, so that each group has one."""
    n = max(1, min(POINTS, len(x) // _QUERIES_A_POINT))
    some, first = x[: _CHOICE_A_POINT * n], np.zeros(1, np.int64)
    snapshot = _core.Snapshot(some[:0], some, None, None, np.zeros(x.shape[1]),
                              traits_of("l2").number, isa)
    task = _core.Greedy(snapshot, _core.Filter(snapshot), first, n - 1)
    while task.run(_POINTS_AT_ONCE) < n - 1:
        allowed.spend_on(_POINTS_AT_ONCE * some.size, 0)
        yield
    slots = np.empty(n - 1, np.int64)
    task.write(slots, np.empty(n - 1, np.float32))
    return np.take(some, np.concatenate([first, slots]), axis=0)


def _largest(squares: Float64Array) -> float:
    """The limit on squares that nearly all held-out queries stay within."""
    n, ordered = len(squares), np.sort(squares)
    largest = ordered[-1 - n // _FAILING] if n >= _FAILING else _BEYOND * ordered[-1 - n // 20]
    return float(max(largest, _LEAST_LIMIT))


def _whitening(x: Float64Array) -> Float64Array:
    """Matrix A such that |A x|^2 sums the squares along principal axes, each over its variance.

    Few queries say little about a variance, so each is mixed with the mean variance.
    """
    n, width = x.shape
    moment = x.T @ x
    values, vectors = np.linalg.eigh(moment + np.trace(moment) / n * np.eye(width))
    axes: Float64Array = (vectors / np.sqrt(np.maximum(values / (n + width), _LEAST_VARIANCE))).T
    return axes


def _nearest(x: Float64Array, points: Float64Array, allowed: Allowance,
             spread: Float64Array | float = 1.0) -> Pieces[tuple[Int64Array, Float64Array]]:
    """The point nearest to each query, and the square of the distance, over the point's spread."""
    nearest, least = np.empty(len(x), np.int64), np.empty(len(x))
    own = np.einsum("ij,ij->i", points, points)
    for start in range(0, len(x), _SUMMED_AT_ONCE):
        some = x[start : start + _SUMMED_AT_ONCE]
        squares = np.einsum("ij,ij->i", some, some)[:, None] - 2.0 * (some @ points.T) + own
        squares = np.maximum(squares, 0.0) / spread
        places = squares.argmin(axis=1)
        nearest[start : start + len(some)] = places
        least[start : start + len(some)] = squares[np.arange(len(some)), places]
        allowed.spend_on(some.size * len(points), 3 * squares.size)
        yield
    return nearest, least


def model_in_pieces(allowed: Allowance, rows: Float64Array, squares: bool,
                    seed: int) -> Pieces[KeyArrays]:
    """Model the keys of all rows by some of these, centered; `squares`: whether keys have |y|^2."""
    allowed.multiplies = True
    yield
    random = np.random.default_rng([seed, 3])
    mean, unit = rows.mean(axis=0), 0.0
    z, n = rows - mean, len(rows)
    dim = z.shape[1]
    if squares:
        last = np.einsum("ij,ij->i", rows, rows)
        unit = last.std() / (_LAST_DEVIATION * (z.std() or 1.0)) or 1.0
        z = np.column_stack([z, (last - last.mean()) / unit])
    yield
    axes, _ = np.linalg.qr(random.standard_normal((z.shape[1], min(_AXES + _SPARE_AXES,
                                                                   z.shape[1]))))
    for _ in range(_ITERATIONS):
        moved = np.zeros_like(axes)
        for start in range(0, n, _MODELLED_AT_ONCE):
            some = z[start : start + _MODELLED_AT_ONCE]
            moved += some.T @ (some @ axes)
            allowed.spend_on(2 * some.size * axes.shape[1], some.size)
            yield
        axes, _ = np.linalg.qr(moved)
    along = z @ axes
    values, turn = np.linalg.eigh(along.T @ along / n)
    number = min(_AXES, len(values))
    axes, values = axes @ turn[:, ::-1][:, :number], values[::-1][:number]
    allowed.spend_on(2 * z.size * len(turn), 0)
    yield
    lines, terms = np.zeros((1 + _AXES, dim)), np.zeros((1 + _AXES, 2))
    lines[0], lines[1 : 1 + number] = mean, axes[:dim].T
    if squares:
        terms[0, 0], terms[1 : 1 + number, 0] = float(last.mean()), unit * axes[dim]
    terms[1 : 1 + number, 1] = values
    rest = max(float(np.einsum("ij,ij->", z, z)) / n - values.sum(), 0.0)
    terms[0, 1] = rest / max(z.shape[1] - number, 1)
    return KeyArrays(lines.astype(np.float32), terms)
