"""How far work that takes long has come: a bar, or a function that is told."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from farann._types import Progress


@contextmanager
def told(what: str, total: int, progress: Progress) -> Iterator[Callable[[int], None]]:
    """A function to be called with how much more is done, by one thread after the other."""
    if callable(progress):
        yield _teller(what, total, progress)
    elif progress:
        from tqdm import tqdm  # takes as long to import as all else

        with tqdm(total=total, desc=what) as bar:
            def advance(more: int) -> None:
                bar.update(more)

            yield advance
    else:
        yield lambda more: None


def _teller(what: str, total: int,
            progress: Callable[[str, int, int], object]) -> Callable[[int], None]:
    lock, done = threading.Lock(), 0

    def tell(more: int) -> None:
        nonlocal done
        with lock:
            done += more
            progress(what, done, total)

    return tell
