"""CPUs, their instruction-set level, and threads for searches: one pool a process.

It has none of OpenMP's spinning barriers.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from functools import cache
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from farann import _core

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

# Seconds of a wait, at most. Ctrl+C ends a wait that has begun, but not on Windows, nor if it comes
# just before: Python then handles it between two waits.
_PATIENCE = 0.05

Function = Callable[[_core.CancelFlag], object]

_lock = threading.Lock()
# Pools, their sizes and what keeps their threads off a caller's CPU, by the name of these threads.
# The one of `_STAND_IN` works in the place of the main one, which waits for signals.
_pools: dict[str, tuple[int, ThreadPoolExecutor, _core.Apart]] = {}
_WORKERS, _STAND_IN = "farann", "farann-main"
_forced = os.environ.get("FARANN_ISA")
_levels = cache(_core.isa_levels)  # asking the CPU takes as long as adding a few rows


def default_isa() -> str:
    """The level that FARANN_ISA named when farann was imported, or the fastest there is."""
    levels = _levels()
    if not _forced:
        return levels[-1]
    if _forced not in levels:
        raise ValueError(f"FARANN_ISA: this CPU has {', '.join(levels)}; got {_forced!r}")
    return _forced


def cpu_count() -> int:
    """CPUs that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _executor(name: str, threads: int) -> tuple[ThreadPoolExecutor, _core.Apart]:
    """A pool of so many threads, and what keeps them off a caller's CPU."""
    with _lock:
        if name not in _pools or _pools[name][0] < threads:
            from concurrent.futures import ThreadPoolExecutor

            ids = list[int]()
            # A pool that others still use finishes its work and ends with its last task.
            _pools[name] = threads, ThreadPoolExecutor(
                threads, thread_name_prefix=name,
                initializer=lambda: ids.append(threading.get_native_id())), _core.Apart(
                    ids, threads)
        return _pools[name][1:]


def _forget_executors() -> None:
    """Drop the executors: work must not wait forever for a thread that could not be started."""
    with _lock:
        _pools.clear()


class _Batch:
    """Functions that threads take in turn, until none is left or one has failed."""

    def __init__(self, functions: Iterable[Function]) -> None:
        self.flag = _core.CancelFlag()
        self.errors: list[BaseException] = []
        self._left = deque(functions)
        self.size = len(self._left)
        # Number of pool threads at work. The calling thread, where Ctrl+C may come at any step,
        # never takes their lock: it waits for the bell alone, a lock that a helper's end releases.
        self._helpers, self._lock = 0, threading.Lock()
        self._bell = threading.Lock()
        self._bell.acquire()

    def work(self) -> None:
        """Take functions and call them."""
        while True:
            try:
                function = self._left.popleft()
            except IndexError:
                return
            function(self.flag)

    def help(self) -> None:
        """Take functions and call them in a thread of a pool; errors are kept for the caller."""
        with self._lock:
            if not self._left:
                return
            self._helpers += 1
        try:
            self.work()
        except BaseException as error:
            self.errors.append(error)
            self.cancel()
        with self._lock:
            self._helpers -= 1
            if self._bell.locked():
                self._bell.release()

    def cancel(self) -> None:
        """Stop all threads at the next block of rows; no more functions are taken."""
        self.flag.cancel()
        self._left.clear()

    def wait(self) -> None:
        """Wait until no function is left and no helper is at work."""
        while self._left or self._helpers:  # in this order: a helper counts before it takes
            self._bell.acquire(timeout=_PATIENCE)

    def give_up(self) -> None:
        """Cancel, and wait until all helpers have stopped."""
        self.cancel()
        while True:
            try:
                self.wait()
                return
            except KeyboardInterrupt:
                pass  # the caller is about to raise an error already

    def start_helpers(self, executor: ThreadPoolExecutor, number: int) -> bool:
        """Submit helpers to a pool; return whether it took all of them."""
        try:
            for _ in range(number):
                executor.submit(self.help)
        except RuntimeError:  # the interpreter ends, or there may be no more threads
            _forget_executors()
            return False
        except BaseException:
            # Ctrl+C. The pool may not know of a thread that it has just started. That thread would
            # wait for work forever, and Python's exit for the thread.
            _forget_executors()
            executor.shutdown(wait=False)
            raise
        return True


def run_all(functions: Iterable[Function], threads: int, *, long: bool = False,
            apart: bool = False) -> None:
    """Call all functions, up to `threads` at a time; the first error is raised after the last.
    `apart`: they call nothing that starts threads, and their CPUs may be chosen, see `_core.Apart`.

    Each is given the flag that tells it to stop. Python hears of Ctrl+C in the main thread, between
    its own steps: where work takes `long`, that thread lets another one do it, and waits. Where no
    thread can be started, the calling one does everything.
    """
    functions = list(functions)
    if not long and (threads == 1 or len(functions) <= 1):
        flag = _core.CancelFlag()
        for function in functions:
            function(flag)
        return
    batch = _Batch(functions)
    helpers = min(threads, batch.size) - 1
    executor, aside = _executor(_WORKERS, threads - 1) if helpers > 0 else (None, nullcontext())
    try:
        with aside if apart and not long else nullcontext():
            waits = long and threading.current_thread() is threading.main_thread() and (
                batch.start_helpers(_executor(_STAND_IN, 1)[0], 1))
            if executor is not None:
                batch.start_helpers(executor, helpers)
            if not waits:
                batch.work()
            batch.wait()
    except _core.Cancelled:
        batch.give_up()  # a helper failed first: its error is in `errors`
    except BaseException:
        batch.give_up()
        raise
    if batch.errors:
        raise batch.errors[0]


_locked: WeakSet[Any] = WeakSet()  # objects whose `_lock` a forked child replaces


def fresh_lock(owner: Any) -> threading.Lock:
    """A lock for `owner`; a forked child gets a new one, as no thread there could release it."""
    # Imported here and not with the package, as it takes long, and not during searches: a child
    # that is forked meanwhile could never import it.
    import concurrent.futures.thread  # noqa: F401

    with _lock:
        _locked.add(owner)
    return threading.Lock()


def _after_fork() -> None:
    """Reset locks in a forked child, whose other threads are gone."""
    global _lock
    _lock = threading.Lock()
    _forget_executors()
    for owner in _locked:
        owner._lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
