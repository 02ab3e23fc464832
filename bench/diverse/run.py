"""Times of farthest-point sampling on real data, on one thread."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

import farann

from ..results import markdown

Floats = NDArray[np.float32]
Positions = NDArray[np.int64]
Method = Callable[[Floats, int, int], Positions]  # of rows, how many, and the first

# Data sets of the suite: two with outliers, two whose rows have one length.
DATA = ("fashion-mnist-l2", "glove-cosine", "equal-norm-cosine", "sentences-cosine")


def _farann(rows: Floats, k: int, start: int) -> Positions:
    return farann.select_diverse(rows, k, start=start, threads=1).ids


def _numpy(rows: Floats, k: int, start: int) -> Positions:
    """One matrix-vector product a pick."""
    squares = np.einsum("ij,ij->i", rows, rows)
    least = np.full(len(rows), np.inf, np.float32)
    picks = np.empty(k, np.int64)
    for i in range(k):
        picks[i] = start
        distances = squares - 2.0 * (rows @ rows[start]) + squares[start]
        np.minimum(least, distances, out=least)
        start = int(least.argmax())
    return picks


def _fpsample(rows: Floats, k: int, start: int) -> Positions:
    """A pass over all rows a pick, compiled."""
    import fpsample

    return np.asarray(fpsample.fps_sampling(rows, k, start_idx=start), np.int64)


def _fpsample_buckets(rows: Floats, k: int, start: int) -> Positions:
    """A k-d tree with buckets; its first pick is another row."""
    import fpsample

    return np.asarray(fpsample.bucket_fps_kdline_sampling(rows, k, h=7, start_idx=start), np.int64)


METHODS: dict[str, tuple[str, Method]] = {
    "farann": ("farann", _farann), "numpy GEMV": ("numpy", _numpy),
    "fpsample": ("fpsample", _fpsample), "fpsample buckets": ("fpsample", _fpsample_buckets)}
MOST_DIM = {"fpsample buckets": 8}  # what its k-d tree takes


def available(dim: int) -> dict[str, Method]:
    """The ways whose library is installed, for rows of a dimension."""
    return {name: method for name, (module, method) in METHODS.items()
            if find_spec(module) is not None and dim <= MOST_DIM.get(name, dim)}


class Selected(NamedTuple):
    """One selection of one library."""

    data: str
    method: str
    k: int
    seconds: float  # of the process's CPU time, which other processes don't take
    estimated: bool  # from a shorter run, as the time grows at least as the number of picks


def selections(name: str, rows: Floats, ks: Sequence[int], limit: float,
               only: Sequence[str] | None = None) -> Iterator[Selected]:
    """Time each library; what would take more than `limit` seconds is estimated."""
    start = int(np.linalg.norm(rows - rows.mean(axis=0), axis=1).argmax())
    for method, select in available(rows.shape[1]).items():
        if only and method not in only:
            continue
        per_pick = 0.0
        if method != "farann":
            select(rows[:100], 2, 0)  # imports, and what is compiled when it is first called
            per_pick = _seconds(select, rows, min(ks[0], 10), start) / min(ks[0], 10)
        for k in ks:
            estimated = per_pick * k > limit
            if not estimated:
                per_pick = _seconds(select, rows, k, start) / k
            yield Selected(name, method, k, per_pick * k, estimated)


def _seconds(select: Method, rows: Floats, k: int, start: int) -> float:
    with threadpool_limits(1):
        began = time.process_time()
        select(rows, k, start)
        return time.process_time() - began


def table(found: Sequence[Selected]) -> str:
    """A Markdown table: a row a library, a column a data set and number of picks."""
    columns = list(dict.fromkeys((each.data, each.k) for each in found))
    times = {(each.method, each.data, each.k): each for each in found}
    rows = []
    for method in dict.fromkeys(each.method for each in found):
        cells = []
        for data, k in columns:
            one = times.get((method, data, k))
            cells.append("" if one is None
                         else f"{'~' if one.estimated else ''}{one.seconds:.3g}")
        rows.append([method, *cells])
    return markdown(["seconds", *(f"{data}, k = {k:,}" for data, k in columns)], rows)
