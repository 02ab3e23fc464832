"""Time searches with and without each mechanism, side by side, and print what it saves."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

import farann

from ..datasets import DataSet
from ..results import markdown
from .mechanisms import Mechanism
from .questions import QUESTIONS, Ask, asks, built, counts

Switch = Callable[[], AbstractContextManager[None]]

_FEWEST = 3
REAL = ["glove-cosine", "glove-dot", "fashion-mnist-l2", "two-towers-cosine", "two-towers-dot",
        "sentences-cosine", "descriptors-l2", "patches-cosine"]


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
    work: float  # all that is counted
    bytes: float  # of the index
    build: float  # time of the process
    used: bool  # whether anything that is counted differs, or time alone would tell


@dataclass(frozen=True)
class Side:
    """An index, and how long its build took."""

    index: farann.Index
    seconds: float


def side(data: DataSet, mechanism: Mechanism, off: bool) -> Side:
    """An index of the set, with or without a mechanism, asked once in each way."""
    question, options = QUESTIONS[mechanism.question], dict(mechanism.options)
    with mechanism.off() if off else nullcontext():
        start = time.process_time()
        index = built(data, options, question)
        seconds = time.process_time() - start
        for ask in asks_of(mechanism).values():  # what the core has
            ask(index, data.queries(), {})
    return Side(index, seconds)


def asks_of(mechanism: Mechanism) -> dict[tuple[str, str], Ask]:
    return asks(QUESTIONS[mechanism.question], dict(mechanism.options).get("keep_vectors", True))


def ablate(data: DataSet, mechanisms: list[Mechanism], seconds: float) -> Iterator[Saved]:
    """Measure each mechanism on a set."""
    queries = data.queries()
    for mechanism in mechanisms:
        gc.collect()
        sides = [side(data, mechanism, off) for off in (False, True)]
        switches: list[Switch] = [nullcontext, mechanism.off]
        # Before anything is timed: how often that is depends on the machine.
        found = {which: [_counts(one, mechanism, ask, queries, switch)
                         for one, switch in zip(sides, switches, strict=True)]
                 for which, ask in asks_of(mechanism).items()}
        sizes = [sum(one.index.stats()["bytes"].values()) for one in sides]
        used = not mechanism.counts or any(ours != theirs for ours, theirs in found.values())
        for (way, mode), ask in asks_of(mechanism).items():
            ours, theirs = found[way, mode]
            yield Saved(
                mechanism.name, data.name, way, mode,
                time=_ratio([partial(ask, one.index, queries, {}) for one in sides], switches,
                            seconds),
                work=sum(theirs.values()) / max(sum(ours.values()), 1),
                bytes=sizes[1] / sizes[0], build=sides[1].seconds / sides[0].seconds,
                used=used)


def _counts(side: Side, mechanism: Mechanism, ask: Ask, queries: NDArray[np.float32],
            switch: Switch) -> dict[str, int]:
    with switch():
        return counts(side.index, QUESTIONS[mechanism.question], ask, queries)


def _ratio(sides: list[Callable[[], Any]],
           switches: list[Switch], seconds: float) -> float:
    """The least time of the second over that of the first, in turns, each under its switch."""
    best, spent, turns = [float("inf")] * 2, 0.0, 0
    while turns < _FEWEST or spent < 2 * seconds:
        for i, (ask, switch) in enumerate(zip(sides, switches, strict=True)):
            with switch():
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
    >>> saved = Saved("hubs", "glove-dot", "exact", "batch", 1.25, 1.0, 0.9, 1.0, True)
    >>> print(table([saved]).splitlines()[2])
    | hubs | glove-dot exact batch 1.25 | 1 of 1 | 0.90 | 1.00 |
    """
    rows = []
    for name in dict.fromkeys(saved.mechanism for saved in found):
        of_it = [saved for saved in found if saved.mechanism == name]
        used = [saved for saved in of_it if saved.used]
        sets, those = ({saved.data for saved in some} for some in (of_it, used))
        notable = [f"{saved.data} {saved.way} {saved.mode} {saved.time:.2f}"
                   for saved in used if not 0.95 <= saved.time <= 1.1]
        middle = [float(np.median([getattr(saved, what) for saved in used or of_it]))
                  for what in ("bytes", "build")]
        rows.append([name, ", ".join(notable) or "none", f"{len(those)} of {len(sets)}",
                     *(f"{value:.2f}" for value in middle)])
    return markdown(["mechanism", "time without / with, above 1.1 or below .95",
                     "sets that use it", "bytes", "build"], rows, 2)
