"""Cliffs: a batch, a number of threads or a shape that takes longer than its neighbors or peers.

``python -m bench grid`` times cells by turns with faiss Flat, on its own and on padded dimensions,
and with numpy, and prints the worst cells with the goal that each misses.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from fnmatch import fnmatch
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

import farann

from . import datasets, machine
from .algorithms.faiss_flat import FaissFlat
from .algorithms.numpy_gemm import NumpyGemm
from .edge import data
from .reduction import METRICS
from .results import markdown
from .run import Log, Options
from .turns import HOPELESS, REST, asked_in, of_round
from .turns import timed as by_turns

BATCHES = (1, 2, 3, 5, 6, 8, 10, 16, 32, 64, 256, 1000)
THREADS = (1, 2, 8)
RECALLS = (None, 0.95)
LIMIT = 1.1  # of each ratio that a goal is about
_SHAPES = [(dim, n) for dim in (2, 8, 32, 128, 512, 1536, 4096) for n in (100, 1000, 10**4, 10**5)]
_MOST_VALUES = 60_000_000  # of a shape; larger ones are left out
_REAL = ("glove", "fashion-mnist", "two-towers")
_MADE: dict[str, data.Generator] = {
    "strong-axes": data.anisotropic(np.geomspace(2, 0.05, 64)), "histograms": data.histograms}
_ROWS = 100_000  # of made sets

Floats = datasets.Floats
Ask = Callable[[Floats], object]


class Cell(NamedTuple):
    """A measured cell; times are microseconds a query, the CPU's with one thread.

    Attributes
    ----------
    worst : float
        The largest of `ratios`, whose goal is `LIMIT`.
    ratios : dict
        Of its time to that of a single query ("batch"), of one thread ("threads") and of
        the fastest peer ("peer").
    """

    set: str
    metric: str
    recall: float | None
    threads: int
    batch: int
    us: float
    worst: float
    ratios: dict[str, float]


def names() -> list[str]:
    """The sets: real ones, made ones, and shapes of Gaussian rows."""
    return [*_REAL, *_MADE, *(f"{n}x{dim}" for dim, n in _SHAPES if n * dim <= _MOST_VALUES)]


def rows_and_queries(name: str, cache: Path, most: int | None) -> tuple[Floats, Floats]:
    """The vectors of a set, at most so many rows."""
    if name in _REAL:
        loaded = datasets.load(f"{name}-dot", cache, most)
        return loaded.rows(), loaded.queries()[: max(BATCHES)]
    if name in _MADE:
        return _MADE[name](min(most or _ROWS, _ROWS), max(BATCHES), 0)
    n, dim = map(int, name.split("x"))
    return data.gaussian(dim)(min(most or n, n), max(BATCHES), 0)


def timed(ways: dict[str, Ask], queries: Floats, batch: int, threads: int,
          seconds: float) -> dict[str, tuple[float, float]]:
    """CPU and wall microseconds a query: medians of rounds in which each way takes its turn."""
    n = asked_in(batch, len(queries))

    def rounds_of(ask: Ask) -> Callable[[int], object]:
        return lambda number: [ask(some) for some in of_round(queries, batch, number)]

    took = by_turns({name: rounds_of(ask) for name, ask in ways.items()}, seconds,
                    *((HOPELESS, REST) if threads > 1 else ()))
    return {name: (1e6 / n * median(cpu for cpu, _ in rounds),
                   1e6 / n * median(wall for _, wall in rounds)) for name, rounds in took.items()}


def _ways(rows: Floats, metric: str, recall: float | None,
          k: int) -> tuple[dict[str, Ask], list[Any]]:
    """How each library is asked, and the peers."""
    index = farann.Index(metric=metric)
    index.add(rows)
    index.build()
    k = min(k, len(rows))
    if recall:
        index.tune(k=k)
    ways: dict[str, Ask] = {"farann": partial(index.search_furthest, k=k, recall=recall)}
    peers: list[Any] = []
    for peer, parameters in ((FaissFlat, {"multiple": 16}), (FaissFlat, {"multiple": 1}),
                             (NumpyGemm, {})):
        if peer.missing() is None:
            made = peer(metric, k, parameters)
            made.build(rows)
            peers.append(made)
            ways[f"{peer.name}-{len(peers)}"] = made.search
    return ways, peers


def cells(name: str, rows: Floats, queries: Floats, metric: str, recall: float | None,
          batches: tuple[int, ...], threads: tuple[int, ...], k: int,
          seconds: float) -> Iterator[Cell]:
    """Measure the cells of a set under a metric."""
    ways, peers = _ways(rows, metric, recall, k)
    ask: Callable[..., object] = ways["farann"]
    of_one = dict[int, tuple[float, float]]()
    for n_threads in threads:
        ways["farann"] = partial(ask, threads=n_threads)
        for peer in peers:
            peer.set_threads(n_threads)
        for batch in batches:
            took = timed(ways, queries, batch, n_threads, seconds)
            which = 0 if n_threads == 1 else 1  # the CPU's time, or the clock's
            cpu, wall = took.pop("farann")
            ratios: dict[str, float] = {}
            if n_threads == 1:
                of_one[batch] = cpu, wall
                ratios["batch"] = cpu / of_one[batches[0]][0]
            else:
                ratios["threads"] = wall / of_one[batch][1]
            us = (cpu, wall)[which]
            if took:
                ratios["peer"] = us / min(one[which] for one in took.values())
            yield Cell(name, metric, recall, n_threads, batch, us, max(ratios.values()), ratios)


def run(only: list[str] | None, metrics: list[str] | None, quick: bool, k: int, seconds: float,
        most: int | None, cache: Path, out: Path, command: list[str]) -> str:
    """Measure all cells, and return the worst as a Markdown table.

    Parameters
    ----------
    only : list of str or None
        Patterns of names of sets.
    metrics : list of str or None
    quick : bool
        Leave out recalls, eight threads and half of the batches.
    k : int
        Answers a query; all rows where a set has fewer.
    seconds : float
        To spend on a cell and library, at least.
    most : int or None
        Rows of each set, at most.
    cache, out : Path
    command : list of str
        Recorded with the results.
    """
    # Read when faiss is loaded; numpy's own OpenBLAS has its kernels already.
    os.environ.update(FaissFlat.environment(machine.cpu_flags()))
    log, found = Log(out, Options(k=k), command), list[Cell]()
    batches, threads = (BATCHES[::2], THREADS[:2]) if quick else (BATCHES, THREADS)
    chosen = [name for name in names() if not only or any(fnmatch(name, one) for one in only)]
    if not chosen:
        raise ValueError(f"--only must match some of {', '.join(names())}")
    for name in tqdm(chosen, unit="set"):
        rows, queries = rows_and_queries(name, cache, most)
        for metric in metrics or METRICS:
            for recall in RECALLS[:1] if quick or name in names()[len(_REAL) + 2 :] else RECALLS:
                for cell in cells(name, rows, queries, metric, recall, batches, threads, k,
                                  seconds):
                    found.append(cell)
                    log.write("grid", **cell._asdict())
    return table(found)


def table(found: list[Cell], most: int = 20) -> str:
    """The worst cells, and the goals that they miss.

    Examples
    --------
    >>> one = Cell("glove", "dot", None, 1, 2, 90.0, 1.5, {"batch": 1.5, "peer": 0.1})
    >>> print(table([one]))
    1 of 1 cells miss a goal of 1.1.
    <BLANKLINE>
    | set | metric | search | threads | batch | us a query | misses | batch | threads | peer |
    |---|---|---|---:|---:|---:|---:|---:|---:|---:|
    | glove | dot | exact | 1 | 2 | 90 | batch | 1.50 |  | 0.10 |
    """
    found = sorted(found, key=lambda cell: -cell.worst)
    bad = sum(cell.worst > LIMIT for cell in found)
    kinds = ("batch", "threads", "peer")
    rows = []
    for cell in found[:most]:
        misses = ", ".join(kind for kind, ratio in cell.ratios.items() if ratio > LIMIT)
        ratios = (f"{cell.ratios[kind]:.2f}" if kind in cell.ratios else "" for kind in kinds)
        rows.append([cell.set, cell.metric, str(cell.recall or "exact"), str(cell.threads),
                     str(cell.batch), f"{cell.us:.3g}", misses, *ratios])
    heads = ["set", "metric", "search", "threads", "batch", "us a query", "misses", *kinds]
    return f"{bad} of {len(found)} cells miss a goal of {LIMIT}.\n\n{markdown(heads, rows, 3)}"
