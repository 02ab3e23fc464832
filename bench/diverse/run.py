"""Times of selections on real data, on one thread."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from threadpoolctl import threadpool_limits

from ..results import markdown
from .methods import MOST_ROWS, Floats, Method, Positions, available, radius

# Data sets of the suite: two with outliers, two whose rows have one length.
DATA = ("fashion-mnist-l2", "glove-cosine", "equal-norm-cosine", "sentences-cosine")


class Selected(NamedTuple):
    """One selection of one library."""

    data: str
    method: str
    k: int
    seconds: float  # of the process's CPU time, which other processes don't take
    estimated: bool  # from a shorter run, as the time grows at least as the number of picks
    radius: float


def selections(name: str, rows: Floats, ks: Sequence[int], limit: float,
               only: Sequence[str] | None = None) -> Iterator[Selected]:
    """Time each library; what would take more than `limit` seconds is estimated."""
    for method, select in available(rows.shape[1]).items():
        if only and method not in only:
            continue
        given = rows[: MOST_ROWS.get(method, len(rows))]
        start = _start(given)
        label = f"{method}, {len(given):,} rows" if len(given) < len(rows) else method
        per_pick = 0.0
        for k in ks:
            picks = np.empty(0, np.int64)
            if per_pick == 0.0 and method != "farann" and method not in MOST_ROWS:
                select(given[:100], 2, 0)  # imports, and what is compiled when it is first called
                _, seconds = _timed(select, given, min(k, 10), start)
                per_pick = seconds / min(k, 10)
            if per_pick * k <= limit:
                picks, seconds = _timed(select, given, k, start)
                per_pick = seconds / k
            done = len(picks) == k
            yield Selected(name, label, k, per_pick * k, not done,
                           radius(given, picks) if done else float("nan"))


def _start(rows: Floats) -> int:
    """The row furthest from the mean."""
    return int(np.linalg.norm(rows - rows.mean(axis=0), axis=1).argmax())


def _timed(select: Method, rows: Floats, k: int, start: int) -> tuple[Positions, float]:
    with threadpool_limits(1):
        began = time.process_time()
        picks = select(rows, k, start)
        return picks, time.process_time() - began


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
