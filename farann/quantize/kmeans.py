"""k-means, by scikit-learn (Lloyd 1982): rows in as many groups as are wanted."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from farann import _core
from farann._types import Float32Array, Float64Array, Int32Array, Int64Array, Progress, RowArray
from farann.quantize.query_sample import Moment
from farann.quantize.scalar import blocks_of, centred
from farann.runtime.parallel import each
from farann.runtime.process import one_thread
from farann.runtime.progress import told

# So many partitions are found at once; more in two levels, which takes far less time.
_MOST_AT_ONCE = 256
# To so many means a row is compared; of more, to those of the parts that are nearest to it.
_MOST_COMPARED, _PARTS_COMPARED = 1024, 4
# Rows a partition to learn from, and rounds.
_ROWS_A_CELL, _ROUNDS = 64, 8
# Coordinates beyond are cut: where rows are so large, searches score all of them in float64.
_LARGEST = 1e16
# Lengths of which float32 holds the squares, and whose inverses are good.
_SHORTEST, _LONGEST = 1e-15, 1e15


class Space(NamedTuple):
    """Where partitions are made: rows that are near have about the same keys.

    With a moment of queries, directions that these look along count more.
    """

    centre: Float64Array
    normalized: bool
    moment: Moment | None = None

    def of(self, rows: RowArray) -> Float32Array:
        """Rows as points."""
        return self.weighed(_moderate(rows, self.centre, self.normalized))

    def weighed(self, vectors: Float32Array) -> Float32Array:
        """Centred rows as points; a symmetric matrix does it."""
        return vectors if self.moment is None else self.moment.weighed(vectors)


class Means(NamedTuple):
    """Means of partitions; of many, those of parts, and where the partitions of each part begin."""

    partitions: Float32Array
    parts: Float32Array | None = None
    starts: Int64Array | None = None


def partition(rows: RowArray, space: Space, n_partitions: int, seed: int,
              threads: int = 1, progress: Progress = False) -> Int32Array:
    """The partition of each row.

    Many partitions are found in two levels: the rows are split, and each part is split again into
    as many partitions as are its share. A row's partition is the nearest of all, or where there are
    very many, of those in the parts that are nearest.
    """
    means = means_of(rows, space, n_partitions, seed, threads, progress)
    return _labels(rows, space, means, threads, progress)


def means_of(rows: RowArray, space: Space, n_partitions: int, seed: int,
             threads: int = 1, progress: Progress = False) -> Means:
    """The means of partitions, by a sample of the rows."""
    n_parts = 1 if n_partitions <= _MOST_AT_ONCE else round(n_partitions**0.5)
    with told("finding partitions", n_parts, progress) as advance:
        points = space.of(rows[_sample(len(rows), n_partitions * _ROWS_A_CELL)])
        if n_parts == 1:
            means = Means(k_means(points, n_partitions, seed))
            advance(1)
            return means
        return _in_two_levels(points, n_parts, n_partitions, seed, threads, advance)


def _in_two_levels(points: Float32Array, n_parts: int, n_partitions: int, seed: int, threads: int,
                   advance: Callable[[int], None]) -> Means:
    """Means of parts, each of which is split into its share of partitions."""
    parts = k_means(points[_sample(len(points), n_parts * _ROWS_A_CELL)], n_parts, seed)
    part_of = _nearest(points, parts, threads)
    members = [np.flatnonzero(part_of == p) for p in range(len(parts))]
    numbers = [max(1, round(n_partitions * len(some) / len(points))) if len(some) else 0
               for some in members]
    starts = np.cumsum([0, *(min(pair) for pair in zip(numbers, map(len, members), strict=True))])
    partitions = np.empty((starts[-1], points.shape[1]), np.float32)

    def split(p: int) -> None:
        if len(members[p]):
            partitions[starts[p] : starts[p + 1]] = _fitted(points[members[p]], numbers[p], seed)
        advance(1)

    with _fitting():
        each(split, range(len(parts)), threads)
    return Means(partitions, parts, starts)


def k_means(points: Float32Array, n_partitions: int, seed: int,
            init: str = "random") -> Float32Array:
    """Means of so many groups of points, or of as many as there are points.

    They begin at random points, or those of "k-means++" (Arthur and Vassilvitskii 2007).
    """
    with _fitting():
        return _fitted(points, n_partitions, seed, init)


@contextmanager
def _fitting() -> Iterator[None]:
    """Sums of one thread, whose order is always the same, and no warnings.

    So few rounds don't converge, and groups of equal rows can't be told apart.
    """
    library = _scikit_learn()  # before its libraries are told how many threads they have
    with one_thread(), warnings.catch_warnings():
        warnings.simplefilter("ignore", library.exceptions.ConvergenceWarning)
        yield


def _scikit_learn() -> Any:
    try:
        import sklearn.cluster
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "sklearn":
            raise
        raise ImportError("rows and queries are grouped by scikit-learn, for cells= and recall=, "
                          "and it isn't installed: pip install 'farann[sklearn]'") from None
    return sklearn


def _fitted(points: Float32Array, n_partitions: int, seed: int,
            init: str = "random") -> Float32Array:
    from sklearn.cluster import KMeans

    model = KMeans(min(n_partitions, len(points)), init=init, n_init=1, max_iter=_ROUNDS, tol=0.0,
                   algorithm="lloyd", random_state=seed % 2**32)  # it takes no more
    return model.fit(points).cluster_centers_.astype(np.float32)  # type: ignore[no-any-return]


def _sample(n: int, most: int) -> Int64Array:
    return np.arange(0, n, max(1, n // most))


def _nearest(points: Float32Array, means: Float32Array, threads: int) -> Int32Array:
    """The number of the mean that is nearest to each point."""
    labels = np.empty(len(points), np.int32)
    lines, squares = _lines(means), _squares(means)

    def find(block: slice) -> None:
        labels[block] = np.argmin(points[block] @ lines + squares, axis=1)

    each(find, blocks_of(len(points)), threads)
    return labels


def _lines(means: Float32Array) -> Float32Array:
    """What points are multiplied with: of |x - m|^2 the part -2 <x, m>, (dim, n)."""
    return np.ascontiguousarray(np.float32(-2.0) * means.T)


def _squares(means: Float32Array) -> Float32Array:
    squares: Float32Array = np.einsum("ij,ij->i", means, means, dtype=np.float64).astype(np.float32)
    return squares


def _labels(rows: RowArray, space: Space, means: Means, threads: int,
            progress: Progress = False) -> Int32Array:
    """The partition of each row."""
    labels = np.empty(len(rows), np.int32)
    # Means are weighed once more in the place of all rows: <W x, m> is <x, W m>.
    lines, squares = _lines(space.weighed(means.partitions)), _squares(means.partitions)
    few = means.parts is None or means.starts is None or len(means.partitions) <= _MOST_COMPARED
    if not few:
        assert means.parts is not None
        part_lines, part_squares = _lines(space.weighed(means.parts)), _squares(means.parts)

    def find(block: slice) -> None:
        vectors = _moderate(rows[block], space.centre, space.normalized)
        if few:
            labels[block] = np.argmin(vectors @ lines + squares, axis=1)
            return
        assert means.starts is not None
        near = np.argpartition(vectors @ part_lines + part_squares, _PARTS_COMPARED,
                               axis=1)[:, :_PARTS_COMPARED]
        labels[block] = _best_of_parts(vectors, near, means.starts, lines, squares)

    each(find, blocks_of(len(rows)), threads, "assigning rows to partitions", progress)
    return labels


def _best_of_parts(vectors: Float32Array, near: npt.NDArray[np.intp], starts: Int64Array,
                   lines: Float32Array, squares: Float32Array) -> Int32Array:
    """The nearest mean among those of some parts (n, p), the same of which vectors share."""
    best = np.full(len(vectors), np.inf, np.float32)
    labels = np.zeros(len(vectors), np.int32)
    flat = near.ravel()
    order = np.argsort(flat, kind="stable")
    bounds = np.searchsorted(flat[order], np.arange(len(starts)))
    for p in range(len(starts) - 1):
        start, stop = starts[p], starts[p + 1]
        members = order[bounds[p] : bounds[p + 1]] // near.shape[1]
        if len(members) == 0 or start == stop:
            continue
        distances = vectors[members] @ lines[:, start:stop] + squares[start:stop]
        found = np.argmin(distances, axis=1)
        least = distances[np.arange(len(members)), found]
        better = least < best[members]
        best[members[better]] = least[better]
        labels[members[better]] = start + found[better]
    return labels


def _moderate(rows: RowArray, centre: Float64Array, normalized: bool) -> Float32Array:
    """Centred rows, of which float32 can hold the squares; larger ones are cut to that."""
    vectors: Float32Array
    rows = _core.widened(rows)
    with np.errstate(over="ignore"):
        if not normalized:
            vectors = rows - centre.astype(np.float32)
        else:
            lengths = np.sqrt(np.einsum("ij,ij->i", rows, rows))
            if not (_SHORTEST < lengths.min(initial=1.0) <= lengths.max(initial=1.0) < _LONGEST):
                return centred(rows, centre, normalized).astype(np.float32)
            vectors = rows / lengths[:, None]
            vectors -= centre.astype(np.float32)
    return np.clip(vectors, -_LARGEST, _LARGEST, out=vectors)
