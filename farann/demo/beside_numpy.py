"""farann and numpy on the same queries: times, one thread each, and whether their ids agree."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

import farann

__all__ = ["BATCH", "K", "Numpy", "Trial", "compare", "report", "table", "verdict"]

K = 10
BATCH = 256  # queries timed at once
SINGLES = 16  # queries timed one by one
TIMES = 4  # of each, of which the first one warms up, and the best counts

Array = NDArray[Any]
Search = Callable[[Array], NDArray[np.int64]]


@dataclass(frozen=True, kw_only=True)
class Trial:
    """Seconds a query, and answers, of farann and numpy."""

    farann_batch: float
    numpy_batch: float
    farann_single: float
    numpy_single: float
    equal: int  # ids that are the same as those of numpy in float64
    tied: int  # ids that differ where the float64 scores do not
    float32_equal: int  # ids of numpy in float32 that are right
    total: int
    distinct: int


def compare(index: farann.Index, rows: Array, queries: Array) -> Trial:
    """Time an index and numpy on the same queries, and compare their ids with float64's."""
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1):
        return _compare(index, rows, queries)


def _compare(index: farann.Index, rows: Array, queries: Array) -> Trial:
    fast = Numpy(rows, index.metric, np.float32)
    searches: tuple[Search, Search] = (
        lambda some: index.search_furthest(some, K, threads=1).ids,
        fast.search,
    )
    singles = queries[:SINGLES]
    times = []
    for _ in range(TIMES):
        for search in searches:
            times.append(_seconds(search, [queries]) / len(queries))
            times.append(_seconds(search, singles) / len(singles))
    best = np.reshape(times[4:], (-1, 4)).min(axis=0)
    ids, float32_ids = (search(queries) for search in searches)
    right = Numpy(rows, index.metric, np.float64).search(queries)
    differ = ids != right
    tied = 0
    for query, rank in np.argwhere(differ):
        ours, theirs = _scores(
            index.metric, queries[query], rows[[ids[query, rank], right[query, rank]]]
        )
        tied += math.isclose(ours, theirs, rel_tol=1e-12)
    farann_batch, farann_single, numpy_batch, numpy_single = best.tolist()
    return Trial(
        farann_batch=farann_batch,
        numpy_batch=numpy_batch,
        farann_single=farann_single,
        numpy_single=numpy_single,
        equal=int((~differ).sum()),
        tied=tied,
        float32_equal=int((float32_ids == right).sum()),
        total=right.size,
        distinct=len(np.unique(ids)),
    )


class Numpy:
    """Furthest search the fast way in numpy.

    Whatever the metric, a matrix product gives the keys, larger for rows further away. As it
    takes far longer to partition 400,000 keys than to compute them, rows are put in groups:
    the k furthest rows are in the k groups of largest maximum.
    """

    def __init__(self, rows: Array, metric: str, dtype: type[np.floating[Any]]) -> None:
        columns = np.ascontiguousarray(rows.T, dtype)
        squares = np.einsum("ij,ij->j", columns, columns)
        if metric == "l2":  # the row's part of the squared distance
            columns = np.vstack([-2 * columns, squares])
        else:
            columns *= -1
            if metric == "cosine":
                columns /= np.sqrt(squares)
        self.metric = metric
        self.count = len(rows)
        self.per_group = max(1, round(math.sqrt(self.count / K)))
        padding = -self.count % self.per_group
        self.columns = np.pad(columns, ((0, 0), (0, padding)))
        self.groups = self.columns.shape[1] // self.per_group
        # Kept, because fresh pages would cost more than the product.
        self.keys = np.empty((256 // columns.itemsize, self.columns.shape[1]), dtype)

    def search(self, queries: Array) -> NDArray[np.int64]:
        """Return the ids of the K furthest rows, furthest first."""
        if queries.ndim == 1:
            found: NDArray[np.int64] = self._search(queries[None, :])[0]
            return found
        size = len(self.keys)
        parts = [self._search(queries[i : i + size]) for i in range(0, len(queries), size)]
        return np.concatenate(parts)

    def _search(self, queries: Array) -> NDArray[np.int64]:
        queries = queries.astype(self.columns.dtype)
        if self.metric == "l2":
            queries = np.hstack([queries, np.ones_like(queries[:, :1])])
        keys = np.matmul(queries, self.columns, out=self.keys[: len(queries)])
        keys[:, self.count :] = -np.inf
        maxima = keys.reshape(len(keys), self.per_group, self.groups).max(axis=1)
        groups = np.argpartition(maxima, -K, axis=1)[:, -K:]
        members = np.arange(self.per_group) * self.groups
        ids = (groups[:, :, None] + members).reshape(len(keys), -1)
        candidates = np.take_along_axis(keys, ids, axis=1)
        best = np.argpartition(candidates, -K, axis=1)[:, -K:]
        ids = np.take_along_axis(ids, best, axis=1)
        order = np.argsort(-np.take_along_axis(candidates, best, axis=1), axis=1)
        return np.take_along_axis(ids, order, axis=1)


def _scores(metric: str, query: Array, rows: Array) -> list[float]:
    """Scores in float64, from their definitions."""
    q, x = query.astype(np.float64), rows.astype(np.float64)
    if metric == "l2":
        scores = np.linalg.norm(x - q, axis=1)
    elif metric == "dot":
        scores = x @ q
    else:
        scores = x @ q / np.linalg.norm(x, axis=1) / np.linalg.norm(q)
    return [float(score) for score in scores]


def _seconds(search: Search, batches: Iterable[Array]) -> float:
    """How long searches take, one after another."""
    began = time.perf_counter()
    for batch in batches:
        search(batch)
    return time.perf_counter() - began


# Words about the numbers


def report(
    trials: dict[str, Trial], isa: str, count: int, write: Callable[[str], object]
) -> None:
    """Write the table of times."""
    write(f"Time a query for the {K} furthest of {count:,} rows")
    write(f"  farann {farann.__version__} ({isa}), exact, one thread")
    write(f"  numpy {np.__version__}, float32 GEMM, group maxima, argpartition, one thread")
    write("")
    write(f"            {f'{BATCH} queries at once':^29}     {'one query at a time':^29}".rstrip())
    heads = f"{'farann':>10}{'numpy':>10}{'speed-up':>9}"
    write(f"            {heads}     {heads}")
    for metric, *cells in table(trials):
        batch, single = (f"{a:>10}{b:>10}{c:>9}" for a, b, c in (cells[:3], cells[3:]))
        write(f"  {metric:<10}{batch}     {single}")


def table(trials: dict[str, Trial]) -> list[list[str]]:
    """A line for each metric: time of farann, of numpy and speed-up, in batches and one by one."""
    return [
        [metric]
        + [text for ours, theirs in ((trial.farann_batch, trial.numpy_batch),
                                     (trial.farann_single, trial.numpy_single))
           for text in (_time(ours), _time(theirs), f"{theirs / ours:.1f}x")]
        for metric, trial in trials.items()
    ]


def verdict(trials: dict[str, Trial]) -> tuple[bool, list[str]]:
    """Whether all ids are right, and that in words."""
    total = sum(trial.total for trial in trials.values())
    equal = sum(trial.equal for trial in trials.values())
    tied = sum(trial.tied for trial in trials.values())
    float32 = sum(trial.float32_equal for trial in trials.values())
    right = equal + tied == total
    said = "agree" if right else "DISAGREE"
    lines = [f"Ids {said} with numpy in float64: {equal + tied:,} of {total:,}."]
    if tied:
        lines.append(f"  {tied:,} of them are other rows with an equal score.")
    return right, [*lines, f"Those of numpy in float32: {float32:,} the same."]


def _time(seconds: float) -> str:
    unit, value = ("us", seconds * 1e6) if seconds < 1e-3 else ("ms", seconds * 1e3)
    digits = 2 if value < 10 else 1 if value < 100 else 0
    return f"{value:.{digits}f} {unit}"
