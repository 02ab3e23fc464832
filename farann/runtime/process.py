"""Builds on all cores, with results that don't depend on the threads.

Meanwhile they change two settings: the threads of BLAS, and denormal numbers in their own threads.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeVar

from farann import _core
from farann._types import Progress
from farann.runtime import pool
from farann.runtime.progress import told

Part = TypeVar("Part")

_lock = threading.Lock()
# Users that need BLAS to have one thread; and by file name the libraries, with their old threads.
_users: set[object] = set()
_limited: dict[str, tuple[Any, int]] = {}
# The number of Python modules at the last look for libraries, and those of BLAS and of OpenMP that
# were found. A look takes some milliseconds, like the build of an index of a few thousand rows.
_found: tuple[int, list[Any], list[Any]] = (-1, [], [])


@contextmanager
def one_thread() -> Iterator[None]:
    """Let BLAS and OpenMP use one thread: threads that wait by spinning take minutes on a busy
    machine.

    The limit of BLAS is one for the process, and ends with the last of its users. OpenMP has a
    limit for each thread, which holds for a BLAS that is made with it, too.
    """
    user = object()
    before: list[tuple[Any, int]] = []  # libraries of OpenMP, with their old threads
    try:
        with _lock:
            _users.add(user)
            _limit(before)
        yield
    finally:
        try:
            _leave(user, before)
        except BaseException:  # a Ctrl+C in here
            _leave(user, before)
            raise


def _limit(before: list[tuple[Any, int]]) -> None:
    """Limit the libraries that there are; modules that were imported since may have loaded more."""
    global _found
    if _found[0] != len(sys.modules):
        from threadpoolctl import ThreadpoolController  # for builds alone

        libraries = ThreadpoolController()
        _found = (len(sys.modules), *(libraries.select(user_api=api).lib_controllers
                                      for api in ("blas", "openmp")))
    for library in _found[1]:
        threads = library.num_threads
        if threads and threads > 1 and getattr(library, "threading_layer", "") != "openmp":
            _limited.setdefault(library.filepath, (library, threads))
            _set_threads(library, 1)
    for library in _found[2]:
        threads = library.num_threads
        if threads != 1:
            before.append((library, threads))
            library.set_num_threads(1)


def _leave(user: object, before: list[tuple[Any, int]]) -> None:
    for library, threads in before:
        library.set_num_threads(threads)
    with _lock:
        _users.discard(user)
        for name, (library, threads) in () if _users else list(_limited.items()):
            # Keep another number that somebody has set meanwhile.
            if library.num_threads == 1:
                _set_threads(library, threads)
            del _limited[name]


def _set_threads(library: Any, number: int) -> None:
    # From 3.8 on threadpoolctl lets one thread alone set those of OpenBLAS, as long as it lives;
    # from others it does nothing, and doesn't say so.
    release = getattr(library, "clear_controlling_thread", None)
    if release is not None:
        release(force=True)
    library.set_num_threads(number)
    if release is not None:
        release(force=True)


@contextmanager
def ieee_arithmetic() -> Iterator[None]:
    """Switch denormal numbers on in this thread; some libraries switch them off at import."""
    before = _core.begin_arithmetic()
    try:
        yield
    finally:
        _core.end_arithmetic(before)


def each(work: Callable[[Part], object], parts: Sequence[Part], threads: int, what: str = "",
         progress: Progress = False) -> None:
    """Call `work` for every part on some threads, under `one_thread`, with a bar named `what`. No
    part may read or write what `work` writes for another."""
    caller = threading.current_thread()
    with told(what, len(parts), progress) as advance:
        def one(part: Part, flag: _core.CancelFlag) -> None:
            for library in _found[2] if threading.current_thread() is not caller else ():
                library.set_num_threads(1)  # in a thread of farann's pool, for good
            with ieee_arithmetic():
                work(part)
            advance(1)

        pool.run_all([partial(one, part) for part in parts], threads)


def _after_fork() -> None:
    """Forget limits in a forked child. That of BLAS stays: a thread that is gone may hold a lock
    of BLAS, which setting it would wait for."""
    global _lock
    _lock = threading.Lock()
    _users.clear()
    _limited.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
