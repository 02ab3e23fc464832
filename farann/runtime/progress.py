"""Progress of long work: one bar over all steps, or calls of a user's function."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from farann._types import Progress

if TYPE_CHECKING:
    import logging

# Names of a build's steps, in order, and their relative times, measured on
# 200,000 x 96 with partitions. Steps that a build doesn't have take no time.
_BUILD_STEPS = {
    "copying rows": 0.3, "merging rows": 0.1, "choosing a transform": 0.1, "measuring rows": 0.2,
    "coding rows for a sample of queries": 0.3, "answering a sample of queries": 0.8,
    "choosing what to look at first": 0.1, "finding partitions": 1.2,
    "assigning rows to partitions": 0.8, "describing partitions": 0.3, "coding rows": 0.5,
    "comparing layouts": 0.4}
_MEASURING = 2.0  # relative time of a table of recall
_BAR = "{desc}{percentage:3.0f}%|{bar}| {elapsed}<{remaining}"


def log() -> logging.Logger:
    """The library's logger; `logging` is imported here, as it takes long."""
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
    """Replace True by a function that shows one bar over all `steps`, given by relative time."""
    if progress is not True:
        yield progress
        return
    from tqdm.auto import tqdm  # takes as long to import as all else

    left, step, before = dict(steps), "", 0.0  # steps to come, the current one, time of those done
    with tqdm(total=1.0, bar_format=_BAR) as bar:
        def tell(what: str, done: int, total: int) -> None:
            nonlocal step, before
            if what != step:
                before += left.pop(step, 0.0)
                if what in left:  # steps come in order: skipped ones take no time
                    for earlier in [*left][: [*left].index(what)]:
                        del left[earlier]
                step = what
                bar.set_description(what)  # shown at once: this step may take long
            of = before + sum(left.values())
            now = (before + left.get(what, 0.0) * done / total) / of if of else 0.0
            bar.update(max(now - bar.n, 0.0))

        yield tell
        bar.set_description("done", refresh=False)
        bar.update(1.0 - bar.n)


@contextmanager
def told(what: str, total: int, progress: Progress) -> Iterator[Callable[[int], None]]:
    """Yield a function that adds to the work done of a step; the step's name is shown at once."""
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
    """Report a step by another name."""
    if not callable(progress):
        return progress
    return lambda _, done, total: progress(what, done, total)
