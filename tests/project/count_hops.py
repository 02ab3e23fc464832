"""Count how often a call goes from one Python file of the package to another, and through how many.

`python tests/count_hops.py` prints the files on the way of each kind of search.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from types import FrameType
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

import farann

PACKAGE = os.path.dirname(farann.__file__) + os.sep
# Functions that fill the slots of a result, and the one that gives errors for unknown keywords.
RECORDS = ("unchecked", "RangeHits.__init__", "hinted.<locals>.call")


class Way(NamedTuple):
    """The files that a call goes through, in order, from and back to the first."""

    files: tuple[str, ...]

    @property
    def changes(self) -> int:
        """Times that the file changes, calls and returns alike."""
        return len(self.files) - 1

    @property
    def different(self) -> int:
        """Files, each counted once."""
        return len(set(self.files))

    def __str__(self) -> str:
        return (f"{self.changes} changes of file in {self.different} files: "
                + " > ".join(self.files))


def way_of(call: Callable[[], object]) -> Way:
    """The way of a call on this thread."""
    stack: list[str] = []
    way: list[str] = []

    def note(frame: FrameType, event: str, _: object) -> None:
        name = frame.f_code.co_filename
        # Filling the slots of a result is no way to follow, as it is none in a NamedTuple.
        if not name.startswith(PACKAGE) or frame.f_code.co_qualname in RECORDS:
            return
        if event == "call":
            stack.append(name[len(PACKAGE):])
        elif event == "return" and stack:
            stack.pop()
        else:
            return
        if stack and (not way or way[-1] != stack[-1]):
            way.append(stack[-1])

    sys.setprofile(note)
    try:
        call()
    finally:
        sys.setprofile(None)
    return Way(tuple(way))


def ways() -> dict[str, Way]:
    """The way of each kind of search, after a first one of its kind."""
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((20_000, 32), dtype=np.float32)
    queries = rng.standard_normal((100, 32), dtype=np.float32)
    mask = np.arange(len(rows)) % 2 == 0
    plain, partitioned = farann.Index(threads=1), farann.Index(threads=1, cells=64)
    for index in (plain, partitioned):
        index.add(rows)
        index.build(tune=(10,))
    one, several, some = queries[0], one_list(queries[0]), partitioned
    calls: dict[str, Callable[[], object]] = {
        "batch": lambda: plain.search_furthest(queries),
        "small batch": lambda: plain.search_furthest(queries[:6]),
        "recall": lambda: some.search_furthest(queries, recall=0.95),
        "mask": lambda: plain.search_furthest(queries, allowed=mask),
        "single": lambda: plain.search_furthest(one),
        "list": lambda: plain.search_furthest(several),
    }
    found = {}
    for name, call in calls.items():
        call()
        call()  # batches of one size are kept from the second on
        found[name] = way_of(call)
    return found


def one_list(query: npt.NDArray[np.float32]) -> list[float]:
    """A query as a list."""
    return [float(x) for x in query]


if __name__ == "__main__":
    for name, way in ways().items():
        print(f"{name}: {way}")
