"""Progress of long work: one bar over all steps, or calls of a user's function."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import takewhile
from typing import TYPE_CHECKING, Any

from farann._types import Progress

if TYPE_CHECKING:
    import logging

# Names of a build's steps, in order, and their relative times, measured on
# 200,000 x 96 with partitions. Steps that a build doesn't have take no time.
_BUILD_STEPS = {
    "copying rows": 0.3, "merging rows": 0.1, "choosing a transform": 0.1, "measuring rows": 0.2,
    "coding rows for a sample of queries": 0.3, "answering a sample of queries": 0.8,
    "choosing what to look at first": 0.1, "finding partitions": 1.2,
    "assigning rows to partitions": 0.8, "describing partitions": 0.3, "coding rows": 0.4,
    "coding rows without partitions": 0.3, "comparing layouts": 0.4,
}
_MEASURING = 2.0  # relative time of a table of recall
_BAR = "{desc}{percentage:3.0f}%|{bar}| {elapsed}<{remaining}"


def log() -> logging.Logger:
    """The library's logger; imported here, as it takes long, and is there once an index is."""
    import logging

    return logging.getLogger("farann")


def measuring(k: int) -> str:
    """The name of the build step that measures the recall of k rows."""
    return f"measuring recall, k={k}"


def build_steps(tuned_for: Iterable[int] = ()) -> dict[str, float]:
    """The steps of a build, and about what share of its time each takes."""
    return {**_BUILD_STEPS, **{measuring(k): _MEASURING for k in sorted(tuned_for)}}


@contextmanager
def shown(progress: Progress, steps: Mapping[str, float]) -> Iterator[Progress]:
    """Replace True by a function that shows one bar over all `steps`, with the time left.

    Their values are about what share of the time each takes.
    """
    if progress is not True:
        yield progress
        return
    from tqdm.auto import tqdm  # takes as long to import as all else

    with tqdm(total=1.0, bar_format=_BAR) as bar:
        yield _Whole(bar, steps)
        bar.set_description("done", refresh=False)
        bar.update(1.0 - bar.n)


class _Whole:
    """Updates a bar with the share of all steps that is done."""

    def __init__(self, bar: Any, steps: Mapping[str, float]) -> None:
        self.bar, self._steps = bar, dict(steps)
        self._what, self._before = "", 0.0

    def __call__(self, what: str, done: int, total: int) -> None:
        if what != self._what:
            self._before += self._steps.pop(self._what, 0.0)
            if what in self._steps:  # they come in their order: what is before it comes no more
                for earlier in takewhile(lambda step: step != what, [*self._steps]):
                    del self._steps[earlier]
            self._what = what
            self.bar.set_description(what)  # shown at once: this step may take long
        share = self._steps.get(what, 0.0)
        of = self._before + sum(self._steps.values())
        now = (self._before + share * done / total) / of if of else 0.0
        self.bar.update(max(now - self.bar.n, 0.0))


@contextmanager
def told(what: str, total: int, progress: Progress) -> Iterator[Callable[[int], None]]:
    """A function to be called with how much more is done of a step, by one thread after the other.

    That it has begun is told at once, so that a bar has its name.
    """
    if progress is False or total == 0:
        yield lambda more: None
        return
    with shown(progress, {what: 1.0}) as teller:
        assert callable(teller)
        teller(what, 0, total)
        lock, done = threading.Lock(), 0

        def tell(more: int) -> None:
            nonlocal done
            with lock:
                done += more
                teller(what, done, total)

        yield tell


def renamed(progress: Progress, what: str) -> Progress:
    """Reports a step by another name."""
    if not callable(progress):
        return progress
    return lambda _, done, total: progress(what, done, total)
