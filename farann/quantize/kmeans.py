"""Group rows by k-means, with scikit-learn (Lloyd 1982)."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from farann import _core
from farann._types import Float32Array, Float64Array, Int32Array, Int64Array, Progress, RowArray
from farann.quantize.scalar import centered, each_block, each_in_groups, parts_of
from farann.quantize.transform import Moment
from farann.runtime.process import each, one_thread
from farann.runtime.progress import told

_MOST_AT_ONCE = 256  # partitions of one k-means; more take two levels, which takes far less time
_MOST_COMPARED = 1024  # partitions up to which a row is compared with the means of all
_PARTS_COMPARED = 4  # of more: a row is compared with the means in its 4 nearest first-level parts
_ROWS_A_CELL = 64  # sampled rows per partition; with fewer, means depend on the sample
_ROWS_A_PART = 256  # sampled rows per part: means of few rows are long, and attract too few rows
_ROUNDS = 8  # rounds of k-means; later ones hardly move means
_MOST_AXES = 128  # dimensions beyond which groups are made along this number of principal axes
_POINTS_OF_AXES = 4096  # least points that the axes are computed from, up to twice that
_COMPARED_AT_ONCE = 1024  # vectors that are compared at a time, whose distances stay in caches
_LARGEST_POINT = 1e16  # coordinates are clipped to this; such large rows are scored in float64


class Space(NamedTuple):
    """The space that partitions are made in: rows that are near have about the same keys.

    With a moment of queries, directions that these look along count more.
    """

    center: Float64Array
    normalized: bool
    moment: Moment | None = None

    def of(self, rows: RowArray) -> Float32Array:
        """Rows as points."""
        points = np.empty(rows.shape, np.float32)
        for some in parts_of(slice(0, len(rows))):
            points[some] = self.weighed(_moderate(rows[some], self.center, self.normalized))
        return points

    def weighed(self, vectors: Float32Array) -> Float32Array:
        """Turn centered rows into points, by a symmetric matrix."""
        return vectors if self.moment is None else self.moment.weighed(vectors)


class Means(NamedTuple):
    """Means of partitions; of many, those of parts, and where the partitions of each part begin."""

    partitions: Float32Array
    parts: Float32Array | None = None
    starts: Int64Array | None = None


class _Sample:
    """Some of the rows, centered, with 8 bits a coordinate: in memory, so that rows in a file are
    read once, however often k-means looks at them. It gives its rows as an array does.

    Errors of 1/254 of a row's largest coordinate hardly move means, which are of many rows.
    """

    def __init__(self, rows: RowArray, space: Space, threads: int) -> None:
        self.shape = rows.shape
        self._codes = np.empty(rows.shape, np.int8)
        self._scales = np.empty((len(rows), 1), np.float32)

        def code(block: slice) -> None:
            own = rows[block]
            for some in parts_of(slice(0, len(own))):
                vectors = _moderate(own[some], space.center, space.normalized)
                scales = np.abs(vectors).max(axis=1, keepdims=True, initial=0.0)
                scales = np.maximum(scales, np.float32(1e-30)) / np.float32(127.0)
                at = slice(block.start + some.start, block.start + some.stop)
                self._scales[at], self._codes[at] = scales, np.rint(vectors / scales)

        each_block(code, rows, threads)

    def __len__(self) -> int:
        return len(self._codes)

    def __getitem__(self, which: slice | Int64Array) -> Float32Array:
        return self._codes[which] * self._scales[which]


def means_of(rows: RowArray, space: Space, n_partitions: int, seed: int,
             threads: int = 1, progress: Progress = False) -> Means:
    """The means of partitions, by a sample of the rows."""
    n_parts = 1 if n_partitions <= _MOST_AT_ONCE else round(n_partitions**0.5)
    with _fitting(), told("finding partitions", n_parts, progress) as advance:
        sample: Any = _Sample(_some_of(rows, n_partitions * _ROWS_A_CELL), space, threads)
        space = Space(np.zeros(rows.shape[1]), False, space.moment)  # samples are centered
        axes = _axes_of(space.of(_some_of(sample, _POINTS_OF_AXES)), seed)
        if n_parts == 1:
            means = Means(_fitted(space.of(sample), n_partitions, seed, axes=axes))
            advance(1)
            return means
        return _in_two_levels(sample, space, n_parts, n_partitions, seed, axes, threads, advance)


def _in_two_levels(rows: RowArray, space: Space, n_parts: int, n_partitions: int, seed: int,
                   axes: Any, threads: int, advance: Callable[[int], None]) -> Means:
    """Fit means in two levels: each part is split into its share of partitions. Points are made
    anew for each part: allocating memory for all of them would take longer."""
    parts = _fitted(space.of(_some_of(rows, n_parts * _ROWS_A_PART)), n_parts, seed, axes=axes)
    part_of = labels_of(rows, space, Means(parts), threads)
    members = [np.flatnonzero(part_of == p) for p in range(len(parts))]
    numbers = [min(len(some), max(1, round(n_partitions * len(some) / len(rows))))
               for some in members]
    starts = np.cumsum([0, *numbers])
    partitions = np.empty((starts[-1], rows.shape[1]), np.float32)

    def split(p: int) -> None:
        if len(members[p]):
            partitions[starts[p] : starts[p + 1]] = _fitted(
                space.of(rows[members[p]]), numbers[p], seed, axes=axes)
        advance(1)

    each(split, range(len(parts)), threads)
    return Means(partitions, parts, starts)


@contextmanager
def _fitting() -> Iterator[None]:
    """Limit sums to one thread, for one order of additions, and silence two warnings.

    8 rounds don't converge, and groups of equal rows can't be distinguished.
    """
    import sklearn.cluster  # before its libraries are told how many threads they have

    with one_thread(), warnings.catch_warnings():
        warnings.simplefilter("ignore", sklearn.exceptions.ConvergenceWarning)
        yield


def _axes_of(points: Float32Array, seed: int) -> Any:
    """A map to the principal axes of points; None: they have few dimensions."""
    if points.shape[1] <= _MOST_AXES or len(points) <= _MOST_AXES:
        return None
    from sklearn.decomposition import PCA

    return PCA(_MOST_AXES, svd_solver="randomized", random_state=seed % 2**32).fit(points)


def _fitted(points: Float32Array, n_groups: int, seed: int, axes: Any = None) -> Float32Array:
    """Fit means: groups are formed along the axes, if any, and means have all dimensions."""
    from sklearn.cluster import KMeans

    model = KMeans(min(n_groups, len(points)), init="random", n_init=1, max_iter=_ROUNDS, tol=0.0,
                   algorithm="lloyd", random_state=seed % 2**32,  # it takes no more
                   copy_x=False)  # it centers points and puts them back
    if axes is None:
        return model.fit(points).cluster_centers_.astype(np.float32)  # type: ignore[no-any-return]
    labels = model.fit(axes.transform(points)).labels_
    means: Float32Array = axes.inverse_transform(model.cluster_centers_).astype(np.float32)
    move_means(means, points, labels)
    return means


def move_means(means: Float32Array, points: Float32Array,
               labels: npt.NDArray[np.integer[Any]]) -> None:
    """Move means to those of their points, if they have some."""
    sums = np.zeros(means.shape)
    _core.add_to_groups(points, labels.astype(np.int32), sums)
    counts = np.bincount(labels, minlength=len(means))
    filled = counts > 0
    means[filled] = sums[filled] / counts[filled, None]


def _some_of(rows: RowArray, least: int) -> RowArray:
    """Take evenly spaced rows: `least` to twice that, or all if there are fewer."""
    return rows[:: max(1, len(rows) // least)]


def _compared(means: Float32Array, space: Space) -> Float32Array:
    """Lines (n, dim + 1): the product of one with (x, 1) is |x - m|^2 - |x|^2 of its mean m. Means
    are weighed again instead of all rows, as <W x, m> is <x, W m>."""
    squares = np.einsum("ij,ij->i", means, means, dtype=np.float64)
    return np.column_stack([-2.0 * space.weighed(means), squares]).astype(np.float32)


def labels_of(rows: RowArray, space: Space, means: Means, threads: int, progress: Progress = False,
              take: Callable[[int, slice, Int32Array], object] | None = None) -> Int32Array:
    """The partition of each row: the nearest of all, or where there are very many, of those in the
    parts that are nearest.

    `take` is called with the group of a block, see `each_in_groups`, the block and its labels,
    while its rows are at hand.
    """
    labels = np.empty(len(rows), np.int32)
    partitions, parts, starts = _compared(means.partitions, space), None, means.starts
    if means.parts is not None and len(partitions) > _MOST_COMPARED:
        parts = _compared(means.parts, space)

    def find(group: int, block: slice) -> None:
        label(block)
        if take is not None:
            take(group, block, labels[block])

    def label(block: slice) -> None:
        points = np.ones((block.stop - block.start, rows.shape[1] + 1), np.float32)
        own = rows[block]
        for some in parts_of(slice(0, len(points))):
            points[some, :-1] = _moderate(own[some], space.center, space.normalized)
        if parts is None or starts is None:
            for some in parts_of(slice(0, len(points)), _COMPARED_AT_ONCE):
                labels[block][some] = (points[some] @ partitions.T).argmin(axis=1)
            return
        near = np.argpartition(points @ parts.T, _PARTS_COMPARED, axis=1)[:, :_PARTS_COMPARED]
        labels[block] = _best_of_parts(points, near, starts, partitions)

    each_in_groups(find, rows, threads, "assigning rows to partitions", progress)
    return labels


def _best_of_parts(points: Float32Array, near: npt.NDArray[np.intp], starts: Int64Array,
                   partitions: Float32Array) -> Int32Array:
    """The partition nearest to each point among those of its p nearest parts, `near` (n, p)."""
    best = np.full(len(points), np.inf, np.float32)
    labels = np.zeros(len(points), np.int32)
    order = np.argsort(near, axis=None, kind="stable")
    bounds = np.searchsorted(near.ravel()[order], np.arange(len(starts)))
    for p in range(len(starts) - 1):
        members = order[bounds[p] : bounds[p + 1]] // near.shape[1]
        if len(members) == 0 or starts[p] == starts[p + 1]:
            continue
        distances = points[members] @ partitions[starts[p] : starts[p + 1]].T
        places = distances.argmin(axis=1)
        least = distances[np.arange(len(members)), places]
        better = least < best[members]
        best[members[better]] = least[better]
        labels[members[better]] = starts[p] + places[better]
    return labels


def _moderate(rows: RowArray, center: Float64Array, normalized: bool) -> Float32Array:
    """Center rows, and clip them to values whose squares float32 can hold."""
    vectors = centered(rows, center, normalized)
    return np.clip(vectors, -_LARGEST_POINT, _LARGEST_POINT, out=vectors).astype(np.float32)
