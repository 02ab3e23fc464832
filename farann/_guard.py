"""A guard for `recall=`: queries unlike those that a plan was measured with get exact answers.

A plan holds for queries like its sample. Others are told by two tests, each of which nearly all
queries of the sample pass: they are near one of some points among it, and in no direction further
out than it. Long queries are reduced to a few sums of their coordinates before that. `_core.Guard`
does the tests, docs/how-it-works/partitions.md explains them.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import partial
from math import inf
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from farann import _core, _search, _tasks
from farann._kmeans import k_means
from farann._process import ieee_arithmetic, one_thread
from farann._results import Hits, SearchStats, share_found
from farann._types import BoolArray, Float32Array, Float64Array, Int64Array

if TYPE_CHECKING:
    from farann._filters import Wanted
    from farann._store import Store, View

# Sample queries at most; one in so many is held out to see how far queries of the sample are from
# the points; of these, one in so many may fail a test, which of fewer is so many times what one in
# twenty exceeds.
SAMPLE, _HELD_OUT, _FAILING, _BEYOND = 8192, 4, 250, 1.5
# Sums that are kept of a query; points, and queries for each of these.
_WIDTH, _POINTS, _QUERIES_A_POINT = 64, 256, 4
# How far queries are from a point is told by those near it, and so many more at the usual distance.
_USUAL_QUERIES = 4
# What is next to nothing beside the mean square of the sample.
_LEAST_SPREAD, _LEAST_VARIANCE, _LEAST_LIMIT = 1e-4, 1e-4, 1e-2
# Queries that a thread looks at without being asked to stop, and how many take some milliseconds.
_PART, _LONG = 1024, 16_384
# Queries that chance may have among those like the sample; and so many times a square of a distance
# is too far for chance.
_USUAL_SHARE, _FAR = 0.015, 1.25
# Where answers come earlier or later than is usual by so many deviations, so many queries of a
# batch are answered exactly, to see what the others lack, if it is of so many at least. In smaller
# ones late answers are taken for bad ones, by more deviations.
_UNUSUAL, _AUDITED, _WORTH_AUDITING, _LATE = 2.5, 128, 512, 4.0
# How the core is told to scan all codes.
_ALL_CODES: dict[str, Any] = {"effort": inf}
# Warn when so many queries were guarded beyond such a share of all.
_WARN_AFTER, _WARN_SHARE = 4, 0.05


class RecallWarning(UserWarning):
    """Many queries are unlike those that a recall was measured with.

    They get exact answers, so recall is what was asked for, but searches take longer than they
    would if `Index.build` or `Index.tune` were given queries of that kind.
    """


class GuardArrays(NamedTuple):
    """What `_core.Guard` is made of, and what a file keeps of it."""

    centre: Float32Array
    scale: float
    points: Float32Array
    reaches: Float32Array
    axes: Float32Array


class Guard:
    """Tells queries that are unlike a sample, and counts them."""

    def __init__(self, arrays: GuardArrays, dim: int, unit: bool, isa: str) -> None:
        self.arrays = arrays
        self.tests = _core.Guard(isa, unit, signs_of(dim), *arrays)
        self._asked, self._guarded, self._surplus, self._warned = 0, 0, 0.0, False

    def unlike(self, queries: Float32Array, threads: int) -> Int64Array | None:
        """Numbers of the queries to guard; None where there is none.

        As many as chance has among queries like the sample may stay, if they are hardly unlike:
        the recall that was measured is that of a sample with such queries.
        """
        n = len(queries)
        if n == 1:
            if self.tests.is_like(queries, 0):
                return None
            found = np.zeros(1, np.int64)
        else:
            found = self._found(queries, threads)
        self._note(n + self.tests.count_alone(), len(found), 6)
        return found if len(found) else None

    def _found(self, queries: Float32Array, threads: int) -> Int64Array:
        n = len(queries)
        marks = np.zeros(n, np.uint8)
        if n <= _PART:
            self.tests.find(queries, 0, n, marks)
        else:
            _tasks.run_all([partial(self.tests.find, queries, start, min(start + _PART, n), marks)
                            for start in range(0, n, _PART)], threads, long=n >= _LONG)
        found = np.flatnonzero(marks)
        usual = _USUAL_SHARE * n
        if len(found) <= usual + 2.0 * usual**0.5:
            far = [not self.tests.is_like(queries, int(i), _FAR) for i in found]
            found = found[np.array(far, np.bool_)]
        return found

    def top(self, store: Store, view: View, wanted: Wanted, queries: Float32Array, k: int,
            threads: int, options: dict[str, Any], usual: tuple[float, float, int] | None = None,
            recall: float | None = None) -> tuple[Hits, SearchStats]:
        """The k best rows of each query: exact for those that are unlike the sample, or turn out to
        be, as their answers come later than is `usual`, and `recall` isn't reached.

        `options` are for the others. Without vectors all codes are scanned in the place of an exact
        search.
        """
        n, unlike = len(queries), self.unlike(queries, threads)
        if unlike is None and usual is None:
            return _searched(store, view, wanted, queries, k, threads, options)
        guarded = np.empty(0, np.int64) if unlike is None else unlike
        like = np.delete(np.arange(n), guarded)
        exact = {} if store.n_coded is None else _ALL_CODES
        late = np.zeros(len(like), np.float32)
        if usual is not None:
            options = options | {"late": late}
        did = []

        def search(which: Int64Array, limits: dict[str, Any]) -> None:
            if len(which):
                hits.scores[which], hits.ids[which] = (found := _searched(
                    store, view, wanted.of(which, n), queries[which], k, threads, limits))[0]
                did.append(found[1])

        if unlike is None:
            hits, work = _searched(store, view, wanted, queries, k, threads, options)
            did.append(work)
        else:
            hits = Hits(np.empty((n, k), np.float32), np.empty((n, k), np.int64))
            search(like, options)
            search(guarded, exact)
        if usual is not None and recall is not None:
            how_late = self.tests.how_late(len(like), float(late.sum(dtype=np.float64)), *usual)
            again = _repeat(like, late > usual[0], how_late, recall, hits,
                            lambda which: search(which, exact))
            if 0 < len(again) <= _AUDITED and len(like) >= _WORTH_AUDITING:
                self.tests.late_surplus = 0.0  # what was found is enough
            self._note(0, len(again), 5)
            guarded = np.union1d(guarded, again)
        total = SearchStats(*map(sum, zip(*did, strict=True)))
        return hits, total._replace(queries=n, queries_guarded=len(guarded))

    def _note(self, asked: int, guarded: int, frames: int) -> None:
        """Count queries; warn once, so many frames up, if chance doesn't explain those guarded."""
        self._asked += asked
        self._guarded += guarded
        self._surplus = max(self._surplus + guarded - _WARN_SHARE * asked, 0.0)
        if self._surplus <= _WARN_AFTER or self._warned:
            return
        self._warned = True
        warnings.warn(
            f"recall: {self._guarded} of {self._asked} queries were unlike those that this recall "
            "was measured with, and were answered exactly, which takes longer; give a sample of "
            "such queries to tune(queries), or to build(queries)", RecallWarning, stacklevel=frames)


def _searched(store: Store, view: View, wanted: Wanted, queries: Float32Array, k: int, threads: int,
              options: dict[str, Any]) -> tuple[Hits, SearchStats]:
    """The k best rows of each query, approximate with an effort among the `options`."""
    approximate = "effort" in options
    chosen = wanted.filter(store, view, len(queries), exact=not approximate)
    return _search.top(view.snapshot if approximate else view.exact, chosen, queries, k, False,
                       threads, **options)


def _repeat(like: Int64Array, late: BoolArray, how_late: float, recall: float, hits: Hits,
            search: Callable[[Int64Array], None]) -> Int64Array:
    """Search exactly for queries whose answers came unusually late or early; gives which.

    In a large batch some are answered exactly to see what the others lack. If that is too much, it
    is the late ones that are answered so, and if these don't make up for it all.
    """
    if len(like) < _WORTH_AUDITING:
        again = like[late] if how_late > _LATE else like[:0]
        search(again)
        return again
    if abs(how_late) <= _UNUSUAL:
        return like[:0]
    some = np.arange(0, len(like), -(-len(like) // _AUDITED))
    found, done = hits.ids[like[some]], np.zeros(len(like), np.bool_)
    search(like[some])
    done[some] = True
    shares = np.array([share_found(one[None], wanted[None])
                       for one, wanted in zip(found, hits.ids[like[some]], strict=True)])
    if shares.mean() < recall:
        enough = np.where(late[some], 1.0, shares).mean() >= recall
        others = late & ~done if enough else ~done
        search(like[others])
        done |= others
    return like[done]


def signs_of(dim: int) -> Float32Array:
    """A sign for each coordinate: a fixed hash of its number, as files don't keep them."""
    with np.errstate(over="ignore"):
        z = np.arange(1, dim + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.where(z >> np.uint64(63), np.float32(-1), np.float32(1))


def width_of(dim: int) -> int:
    """Sums that are kept of a query."""
    return min(-(-dim // 16) * 16, _WIDTH)


def _sums_of(queries: Float32Array, unit: bool) -> Float64Array:
    """What is kept of queries, without those that float32 can't hold."""
    n, dim = queries.shape
    width = width_of(dim)
    signed = np.zeros((n, -(-dim // width) * width), np.float32)
    np.multiply(queries, signs_of(dim), out=signed[:, :dim])
    with np.errstate(over="ignore", invalid="ignore"):
        sums = signed.reshape(n, -1, width).sum(axis=1).astype(np.float64)
    if unit:
        lengths = np.sqrt(np.einsum("ij,ij->i", queries, queries, dtype=np.float64))
        sums /= np.where(lengths > 0.0, lengths, 1.0)[:, None]
    finite: Float64Array = sums[np.isfinite(sums).all(axis=1)]
    return finite


@ieee_arithmetic()
def make_guard(queries: Float32Array, unit: bool, seed: int, isa: str) -> Guard:
    """A guard for a plan that was measured with such queries; `unit`: their lengths don't count."""
    dim = queries.shape[1]
    draw = np.random.default_rng([seed, 2])
    order = draw.permutation(len(queries))[:SAMPLE]
    sums = _sums_of(queries[order], unit)
    with one_thread():
        arrays = _arrays_of(sums, seed) if len(sums) else _nothing(width_of(dim))
    return Guard(arrays, dim, unit, isa)


def _nothing(width: int) -> GuardArrays:
    """What no query is like."""
    least = np.full(1, -np.finfo(np.float32).max, np.float32)
    return GuardArrays(np.zeros(width, np.float32), 1.0, np.zeros((1, width), np.float32), least,
                       np.zeros((width, width), np.float32))


def _arrays_of(sums: Float64Array, seed: int) -> GuardArrays:
    held_out = np.arange(len(sums)) % _HELD_OUT == _HELD_OUT - 1
    centre = sums[~held_out].mean(axis=0).astype(np.float32)
    sums = sums - centre
    square = float(np.einsum("ij,ij->i", sums, sums).mean())
    # Queries that are all the same may be off by their rounding.
    usual = np.sqrt(square) or 1e-3 * float(np.abs(centre).max()) or 1.0
    x = sums / usual
    learned, others = x[~held_out], x[held_out] if held_out.any() else x
    axes = _whitening(learned)
    axes /= np.sqrt(_largest(np.einsum("ij,ij->i", others @ axes.T, others @ axes.T)))
    # Where queries lie in groups, each is to have a point, which random ones hardly achieve.
    points = k_means(learned.astype(np.float32), max(1, min(
        _POINTS, len(learned) // _QUERIES_A_POINT)), seed, "k-means++").astype(np.float64)
    nearest, squares = _nearest(learned, points)
    near = np.bincount(nearest, minlength=len(points))
    # Those that many queries are near are looked at first.
    order = np.argsort(-near, kind="stable")
    points, near = points[order], near[order]
    spread = np.bincount(nearest, squares, minlength=len(points))[order]
    # A query counts among those near its point, whose mean it moved there.
    spread = (spread + _USUAL_QUERIES * squares.mean()) / (
        np.maximum(near - 1, 0) + _USUAL_QUERIES)
    spread = np.maximum(spread, _LEAST_SPREAD)
    limit = _largest(_nearest(others, points, spread)[1])
    return GuardArrays(centre, 1.0 / usual, points.astype(np.float32),
                       (limit * spread).astype(np.float32), np.ascontiguousarray(axes, np.float32))


def _largest(squares: Float64Array) -> float:
    """What nearly all queries don't exceed, by some that were held out."""
    n = len(squares)
    found = np.sort(squares)[-1 - n // _FAILING]
    if n < _FAILING:
        # The largest of few may be anything, as they had few to learn from; what one in twenty
        # exceeds isn't far below.
        found = _BEYOND * np.sort(squares)[-1 - n // 20]
    return float(max(found, _LEAST_LIMIT))


def _whitening(x: Float64Array) -> Float64Array:
    """Rows A with |A x|^2 the squares along principal axes, each over its variance.

    Few queries say little about a variance, so all have a part of the mean one.
    """
    n, width = x.shape
    moment = x.T @ x
    values, vectors = np.linalg.eigh(moment + np.trace(moment) / n * np.eye(width))
    axes: Float64Array = (vectors / np.sqrt(np.maximum(values / (n + width), _LEAST_VARIANCE))).T
    return axes


def _nearest(x: Float64Array, points: Float64Array,
             spread: Float64Array | float = 1.0) -> tuple[Int64Array, Float64Array]:
    """The point nearest to each query, and the square of the distance, over the point's spread."""
    squares = _squares(x, points) / spread
    nearest = squares.argmin(axis=1)
    return nearest, squares[np.arange(len(x)), nearest]


def _squares(x: Float64Array, points: Float64Array) -> Float64Array:
    """Squares of distances between queries and points."""
    squares: Float64Array = x @ (-2.0 * points.T)
    squares += np.einsum("ij,ij->i", points, points)
    squares += np.einsum("ij,ij->i", x, x)[:, None]
    return np.maximum(squares, 0.0, out=squares)
