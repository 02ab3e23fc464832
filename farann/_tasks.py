"""Threads for searches: one pool a process, none of OpenMP's spinning barriers."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol
from weakref import WeakSet

_lock = threading.Lock()
_pool: ThreadPoolExecutor | None = None
_pool_size = 0


def cpu_count() -> int:
    """CPUs that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _executor(threads: int) -> ThreadPoolExecutor:
    global _pool, _pool_size
    with _lock:
        if _pool is None or _pool_size < threads:
            # A pool that others still use finishes its work and ends with its last task.
            _pool = ThreadPoolExecutor(threads, thread_name_prefix="farann")
            _pool_size = threads
        return _pool


def run_all(functions: Iterable[Callable[[], object]], threads: int) -> None:
    """Call all functions, up to `threads` at a time; the first error is raised after the last."""
    work = list(functions)
    if threads == 1 or len(work) <= 1:
        for function in work:
            function()
        return
    iterator, errors, lock = iter(work), [], threading.Lock()

    def take_and_run() -> None:
        while True:
            with lock:
                function = next(iterator, None)
            if function is None:
                return
            try:
                function()
            except BaseException as error:
                errors.append(error)
                return

    helpers = min(threads, len(work)) - 1
    executor = _executor(threads)
    futures = [executor.submit(take_and_run) for _ in range(helpers)]
    take_and_run()
    for future in futures:
        # A helper that has not begun has nothing left to do: don't wait behind other searches.
        if not future.cancel():
            future.result()
    if errors:
        raise errors[0]


class Lockable(Protocol):
    """Something with a lock that `fresh_lock` made."""

    _lock: threading.Lock


_locked: WeakSet[Lockable] = WeakSet()


def fresh_lock(owner: Lockable) -> threading.Lock:
    """A lock for `owner`; a forked child gets a new one, as nobody there could open the old."""
    with _lock:
        _locked.add(owner)
    return threading.Lock()


def _after_fork() -> None:
    """In a forked child the other threads are gone, and with them who held locks."""
    global _pool, _pool_size, _lock
    _pool, _pool_size, _lock = None, 0, threading.Lock()
    for owner in _locked:
        owner._lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
