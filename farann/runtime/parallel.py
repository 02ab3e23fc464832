"""Builds on all cores: functions of blocks of rows, whose results don't depend on the threads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from farann import _core
from farann._types import Progress
from farann.runtime import pool
from farann.runtime.process import ieee_arithmetic, limit_this_thread
from farann.runtime.progress import told

Part = TypeVar("Part")


def each(work: Callable[[Part], object], parts: Sequence[Part], threads: int, what: str = "",
         progress: Progress = False) -> None:
    """Call `work` for every part, on `threads` threads; with `progress` a bar is named `what`.

    What it writes for one part, no other part may read or write. BLAS must have one thread, see
    `one_thread`.
    """
    if not progress:
        _run(work, parts, threads)
        return
    with told(what, len(parts), progress) as advance:
        def and_tell(part: Part) -> None:
            work(part)
            advance(1)

        _run(and_tell, parts, threads)


def _run(work: Callable[[Part], object], parts: Sequence[Part], threads: int) -> None:
    if threads == 1 or len(parts) <= 1:
        with ieee_arithmetic():
            for part in parts:
                work(part)
        return

    def one(part: Part) -> pool.Function:
        def of_part(flag: _core.CancelFlag) -> None:
            limit_this_thread()
            with ieee_arithmetic():
                work(part)

        return of_part

    pool.run_all([one(part) for part in parts], threads)
