"""Time searches with and without each mechanism, side by side, and print what it saves."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

import farann

from ..datasets import DataSet
from .mechanisms import Mechanism

_K, _ALONE, _FEWEST = 10, 64, 3
_WAYS: dict[str, dict[str, Any]] = {"exact": {}, "0.95": {"recall": 0.95}}
_MODES = ("batch", "single")
REAL = ["glove-cosine", "glove-dot", "fashion-mnist-l2", "two-towers-cosine", "two-towers-dot",
        "sentences-cosine", "descriptors-l2", "patches-cosine"]
# Sets where all counts stay the same don't use a mechanism.
_COUNTS = ("rows_scanned", "code_products", "float_products", "rows_passed", "rows_refined")


@dataclass(frozen=True)
class Saved:
    """What a mechanism saves on one set, in one way to search.

    Ratios are of an index without it over one with it: above 1 it pays.
    """

    mechanism: str
    data: str
    way: str
    mode: str
    time: float  # of the process
    scanned: float  # rows
    bytes: float  # of the index
    build: float  # time of the process
    lines: int  # of code that name it
    used: bool  # whether anything that is counted differs


@dataclass(frozen=True)
class Side:
    """An index, and how long its build took."""

    index: farann.Index
    seconds: float


def side(data: DataSet, mechanism: Mechanism, off: bool) -> Side:
    """An index of the set, with or without a mechanism."""
    options: dict[str, Any] = dict(mechanism.options)
    index = farann.Index(metric=data.metric, threads=1, **options)
    with mechanism.off() if off else nullcontext():
        start = time.process_time()
        index.add(data.rows())
        index.build(queries=data.sample())
        seconds = time.process_time() - start
        for way in _ways(options):  # tables of efforts, and what the core has
            _ask(index, data, way, "batch")()
    return Side(index, seconds)


def _ways(options: dict[str, Any]) -> list[str]:
    """Of `_WAYS`, those that an index with such options has."""
    return [way for way in _WAYS if way != "exact" or options.get("keep_vectors", True)]


def ablate(data: DataSet, mechanisms: list[Mechanism], seconds: float) -> Iterator[Saved]:
    """Measure each mechanism on a set."""
    for mechanism in mechanisms:
        gc.collect()
        sides, lines = [side(data, mechanism, off) for off in (False, True)], mechanism.lines
        asked = [(name, mode) for name in _ways(dict(mechanism.options)) for mode in _MODES]
        # Before anything is timed: how often that is depends on the machine.
        counts = {which: [_counts(one.index, data, *which) for one in sides] for which in asked}
        sizes = [sum(one.index.stats()["bytes"].values()) for one in sides]
        used = any(ours[count] != theirs[count]
                   for ours, theirs in counts.values() for count in _COUNTS)
        for name, mode in asked:
            ours, theirs = counts[name, mode]
            yield Saved(
                mechanism.name, data.name, name, mode,
                time=_ratio([_ask(one.index, data, name, mode) for one in sides], seconds),
                scanned=theirs["rows_scanned"] / max(ours["rows_scanned"], 1),
                bytes=sizes[1] / sizes[0], build=sides[1].seconds / sides[0].seconds,
                lines=lines, used=used)


def _asked(data: DataSet, mode: str) -> list[NDArray[np.float32]]:
    """What is asked at once."""
    return [data.queries()] if mode == "batch" else list(data.queries()[:_ALONE])


def _ask(index: farann.Index, data: DataSet, way: str, mode: str) -> Callable[[], None]:
    """A search to time."""
    queries, options = _asked(data, mode), _WAYS[way]

    def ask() -> None:
        for some in queries:
            index.search_furthest(some, _K, **options)

    return ask


def _counts(index: farann.Index, data: DataSet, way: str, mode: str) -> dict[str, int]:
    """What was counted, over all queries."""
    total: dict[str, int] = {}
    for some in _asked(data, mode):
        *_, stats = index.search_furthest(some, _K, return_stats=True, **_WAYS[way])
        for name, value in stats._asdict().items():
            total[name] = total.get(name, 0) + value
    return total


def _ratio(asks: list[Callable[[], None]], seconds: float) -> float:
    """The least time of the second over that of the first, in turns."""
    best, spent, turns = [float("inf")] * 2, 0.0, 0
    while turns < _FEWEST or spent < 2 * seconds:
        for i, ask in enumerate(asks):
            start = time.process_time()
            ask()
            taken = time.process_time() - start
            best[i], spent = min(best[i], taken), spent + taken
        turns += 1
    return best[1] / best[0]


def table(found: list[Saved]) -> str:
    """Markdown: a row for each mechanism, with its best and its usual saving over the sets.

    Examples
    --------
    >>> saved = Saved("hubs", "glove-dot", "exact", "batch", 1.25, 1.0, 0.9, 1.0, 40, True)
    >>> print(table([saved]).splitlines()[2])
    | hubs | 40 | 1 of 1 | glove-dot exact batch 1.25 | 0.90 | 1.00 |
    """
    lines = ["| mechanism | lines | sets that use it | time without / with, above 1.1 or below .95 "
             "| bytes | build |", "|---|---:|---:|---|---:|---:|"]
    for name in dict.fromkeys(saved.mechanism for saved in found):
        of_it = [saved for saved in found if saved.mechanism == name]
        used = [saved for saved in of_it if saved.used]
        sets, those = ({saved.data for saved in some} for some in (of_it, used))
        notable = [f"{saved.data} {saved.way} {saved.mode} {saved.time:.2f}"
                   for saved in used if not 0.95 <= saved.time <= 1.1]
        middle = [float(np.median([getattr(saved, what) for saved in used or of_it]))
                  for what in ("bytes", "build")]
        lines.append(f"| {name} | {of_it[0].lines} | {len(those)} of {len(sets)} | "
                     f"{', '.join(notable) or 'none'} | {middle[0]:.2f} | {middle[1]:.2f} |")
    return "\n".join(lines)

