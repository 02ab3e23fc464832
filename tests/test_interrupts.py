"""Ctrl+C, errors in threads, and threads that can't be had: a batch ends, and nothing else does."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from operator import methodcaller
from typing import Any

import inside
import numpy as np
import pytest
from cases import assert_same, index_of
from inside import core
from numpy.typing import NDArray

import farann

Arrays = dict[str, NDArray[np.generic]]

# Sends itself a real SIGINT once tasks are at work, the first of several hundred.
INTERRUPTED = """
import os, signal, threading
from inside import batches, core
import farann

rng = np.random.default_rng(0)
rows = rng.standard_normal((30_000, 64), dtype=np.float32)
threads = int(given["threads"])
index = farann.Index(64, threads=threads, OPTIONS)
index.add(rows)
index.build()
queries = np.tile(rows[:4000], (100, 1))
few = queries[:20]

def before_and_after():
    return index.search_furthest(few, 5, budget=10**7)

expected = before_and_after()
begun, interrupted = threading.Semaphore(0), False
tasks = {"Task": core.Task, "ApproximateTask": core.ApproximateTask}
running, n_begun = [0], [0]

def noisy(kind):
    class Noisy(kind):
        def run(self):
            running[0] += 1
            n_begun[0] += 1
            begun.release()
            try:
                kind.run(self)
            finally:
                running[0] -= 1
    return Noisy

for name, kind in tasks.items():
    setattr(core, name, noisy(kind))

def interrupt():
    for _ in range(min(threads, 2)):
        begun.acquire()
    os.kill(os.getpid(), signal.SIGINT)

sender = threading.Thread(target=interrupt)
sender.start()
try:
    CALL
except KeyboardInterrupt:
    interrupted = running[0] == 0  # nobody is left at work
sender.join()
for name, kind in tasks.items():
    setattr(core, name, kind)
found = before_and_after()
give(interrupted=interrupted, begun=n_begun[0], same=(found.ids == expected.ids).all()
     and (found.scores == expected.scores).all())
"""


@pytest.mark.parametrize(
    ("options", "call", "threads"),
    [
        ("", "index.search_furthest(queries)", 1),
        ("", "index.search_furthest(queries)", 2),
        ("", "index.search_furthest(queries)", 4),
        ("", "index.search_furthest(queries, k=500)", 2),
        ("codes='float32'", "index.search_nearest(queries)", 1),
        ("cells=200", "index.search_furthest(queries, budget=20_000)", 2),
        ("codes='int4', keep_vectors=False", "index.search_furthest(queries, recall=1.0)", 2),
        ("", "index.search_beyond(queries, 1e9)", 2),
    ],
)
def test_ctrl_c_ends_a_batch(
    run_python: Callable[..., Arrays], options: str, call: str, threads: int
) -> None:
    """All that are at work stop, the rest is never begun, and the index answers as before."""
    code = INTERRUPTED.replace("OPTIONS", options).replace("CALL", call)
    told = run_python(code, threads=threads, timeout=600)
    assert told["interrupted"] and told["same"]
    assert min(threads, 2) <= int(told["begun"]) < 98  # of 196 or more


def test_ctrl_c_ends_a_single_search(run_python: Callable[..., Arrays]) -> None:
    """One query has one task, in which most of the time is spent at ordering what was found."""
    told = run_python(
        """
import os, signal, threading
from inside import core
import farann

class Noisy(core.Task):
    def run(self):
        os.kill(os.getpid(), signal.SIGINT)  # heard by the main thread, while this one works
        super().run()
        ended.append(True)

ended = []
rows = np.arange(3_000_000, dtype=np.float32)[:, None]
index = farann.Index(1, codes="float32")
index.add(rows)
index.build()
kind, core.Task = core.Task, Noisy
try:
    index.search_furthest(np.zeros(1), k=len(rows))
except KeyboardInterrupt:
    give(interrupted=not ended)
"""
    )
    assert told["interrupted"]


def test_a_build_can_be_interrupted(run_python: Callable[..., Arrays]) -> None:
    told = run_python(
        """
import os, signal
from inside import core
import farann

class Noisy(core.Task):
    def run(self):
        os.kill(os.getpid(), signal.SIGINT)
        super().run()

index = farann.Index(64)
index.add(np.random.default_rng(0).standard_normal((60_000, 64), dtype=np.float32))
kind, core.Task = core.Task, Noisy
try:
    index.build()
except KeyboardInterrupt:
    core.Task = kind
    give(found=index.build().search_furthest(np.zeros(64), 3).ids)
"""
    )
    assert len(told["found"]) == 3


def test_coding_and_checking_rows_look_for_signals() -> None:
    """Of many rows not all are checked, or coded, before Python is asked for signals."""
    rows, signs = np.ones((2**19, 64), np.float32), np.ones((3, 64), np.int8)
    nowhere, extents = np.zeros(64), np.full(len(rows), np.nan)
    codes, unknown = np.zeros((len(rows), 64), np.uint8), np.zeros(len(rows), np.float32)
    turn = (nowhere, False, signs, None)
    calls: list[Callable[[], object]] = [
        partial(core.first_bad_row, rows, False),
        partial(core.code_extents, rows, *turn, "scalar", extents),
        partial(core.encode_rows, rows, *turn, unknown, "scalar", codes, extents.copy(), unknown),
    ]
    for call in calls:
        ended: list[bool] = []
        # In C from one to the next, so that nobody but the core can notice the signal.
        steps = [ctypes.pythonapi.PyErr_SetInterrupt, call, partial(ended.append, True)]
        with pytest.raises(KeyboardInterrupt):
            list(map(methodcaller("__call__"), steps))
        assert not ended
    assert np.isfinite(extents[0]) and np.isnan(extents[-1])
    assert codes[0].any() and not codes[-1].any()


def cancelled() -> core.CancelFlag:
    flag = core.CancelFlag()
    flag.cancel()
    return flag


def test_a_task_that_is_given_up_says_so(rng: np.random.Generator) -> None:
    rows = rng.standard_normal((500, 8), dtype=np.float32)
    snapshot = inside.snapshot_of(index_of(rows).build())
    chosen = core.Filter(snapshot)
    flag = core.CancelFlag()
    assert not flag.is_cancelled()
    kind: Any
    option: Any
    for kind, option in ((core.Task, False), (core.ApproximateTask, inside.ALL_CODES)):
        with pytest.raises(core.Cancelled):
            kind(snapshot, chosen, rows, 0, 20, 3, option, flag=cancelled())
        flag = core.CancelFlag()
        task = kind(snapshot, chosen, rows, 0, 20, 3, option, flag=flag)
        flag.cancel()
        assert flag.is_cancelled()
        with pytest.raises(core.Cancelled):
            task.run()
        assert task.did()[0] == 0  # no block was begun
    with pytest.raises(core.Cancelled):
        core.score_slots(snapshot, rows, np.arange(500), np.empty((500, 500), np.float32), 0,
                         500, cancelled())


@pytest.mark.parametrize("long", [False, True])
@pytest.mark.parametrize("threads", [1, 2, 5])
def test_after_an_error_nothing_more_is_begun(threads: int, long: bool) -> None:
    """The others are told to stop, and the error is that of the function, not theirs."""
    begun: list[int] = []

    def work(number: int) -> Callable[[core.CancelFlag], object]:
        def function(flag: core.CancelFlag) -> None:
            begun.append(number)
            if number == 3:
                raise LookupError("number 3")
            if number > 3:
                while not flag.is_cancelled():
                    pass
                raise core.Cancelled

        return function

    with pytest.raises(LookupError, match="number 3"):
        inside.pool.run_all([work(i) for i in range(100)], threads, long=long)
    assert len(begun) <= 3 + threads
    done: list[int] = []

    def note(i: int) -> Callable[[object], None]:
        return lambda flag: done.append(i)

    inside.pool.run_all([note(i) for i in range(100)], threads, long=long)
    assert sorted(done) == list(range(100))


@pytest.mark.parametrize("long", [False, True])
@pytest.mark.parametrize(
    "message", ["can't start new thread", "cannot schedule new futures after interpreter shutdown"]
)
def test_without_threads_the_caller_does_it(
    monkeypatch: pytest.MonkeyPatch, long: bool, message: str
) -> None:
    def refuse(*_: object) -> None:
        raise RuntimeError(message)

    inside.forget_executors()
    monkeypatch.setattr(ThreadPoolExecutor, "submit", refuse)
    who: list[int] = []
    inside.pool.run_all([lambda flag: who.append(threading.get_ident())] * 20, 4, long=long)
    assert who == [threading.get_ident()] * 20


def test_at_exit_a_batch_is_answered(run_python: Callable[..., Arrays]) -> None:
    """Then there are no new threads, and those of pools have ended."""
    told = run_python(
        """
import atexit
import farann

rng = np.random.default_rng(0)
index = farann.Index(16, threads=3)
index.add(rng.standard_normal((5000, 16), dtype=np.float32))
index.build()
queries = rng.standard_normal((3000, 16), dtype=np.float32)
expected = index.search_furthest(queries).ids
atexit.register(lambda: give(same=(index.search_furthest(queries).ids == expected).all()))
"""
    )
    assert told["same"]


def test_where_the_system_gives_no_threads(run_python: Callable[..., Arrays]) -> None:
    """Stacks that no address space has room for, as no other limit binds the superuser."""
    told = run_python(
        """
import threading
import farann

rng = np.random.default_rng(0)
index = farann.Index(16, threads=1)  # builds have threads, too
index.add(rng.standard_normal((5000, 16), dtype=np.float32))
index.build()
queries = rng.standard_normal((3000, 16), dtype=np.float32)
expected = index.search_furthest(queries, threads=1).ids
threading.stack_size(2**46)
try:
    threading.Thread(target=print).start()
    refused = False
except RuntimeError:
    refused = True
answers = [index.search_furthest(queries, threads=3).ids for _ in range(3)]
def workers():
    return sum(thread.name.startswith("farann") for thread in threading.enumerate())

left = workers()
threading.stack_size(0)
answers.append(index.search_furthest(queries, threads=3).ids)
give(refused=refused, left=left, same=[(a == expected).all() for a in answers],
     after=workers())
"""
    )
    assert told["refused"] and told["left"] == 0
    assert told["same"].all() and int(told["after"]) > 0  # once there are threads they are used


def test_long_work_is_told_by_counting() -> None:
    """A small search stays where it is asked; the main thread does nothing that takes long."""
    assert not inside.is_long(1, 50_000 * 64, 10, "avx2")
    assert not inside.is_long(1000, 10_000 * 64, 10, "avx2")
    assert not inside.is_long(128, 150_000 * 50, 10, "avx2")
    assert inside.is_long(1000, 100_000 * 64, 10, "avx2")
    assert inside.is_long(1000, 10_000 * 64, 10, "scalar")
    assert inside.is_long(1, 10**8, 10, "avx2")
    assert inside.is_long(1, 10**6, 10**7, "avx2")


def test_an_interrupt_while_threads_are_started(run_python: Callable[..., Arrays]) -> None:
    """The pool doesn't know of the thread, which ends all the same, as does the process."""
    told = run_python(
        """
import sys, threading
import farann

rng = np.random.default_rng(0)
index = farann.Index(16, threads=1)  # builds have threads, too
index.add(rng.standard_normal((5000, 16), dtype=np.float32))
index.build()
queries = rng.standard_normal((3000, 16), dtype=np.float32)
expected = index.search_furthest(queries, threads=1).ids
start = threading.Thread.start

def interrupted(self):
    start(self)
    started.append(self)
    raise KeyboardInterrupt

started, heard = [], []
threading.Thread.start = interrupted
for _ in range(3):
    try:
        index.search_furthest(queries, threads=2)
    except KeyboardInterrupt as error:
        heard.append(error)  # with its traceback, and all that it holds
threading.Thread.start = start
for thread in started:
    thread.join()
give(heard=len(heard), started=len(started),
     same=(index.search_furthest(queries, threads=2).ids == expected).all())
"""
    )
    assert told["heard"] == told["started"] == 3 and told["same"]


def test_the_main_thread_waits_while_others_work(rng: np.random.Generator) -> None:
    rows = rng.standard_normal((300, 4), dtype=np.float32)
    index = index_of(rows).build()
    expected = index.search_furthest(rows, 5)
    who: set[str] = set()
    with pytest.MonkeyPatch.context() as patch:
        for limit in ("_LONG_WORK", "_SLOW_LONG_WORK", "_SMALL_WORK"):
            patch.setattr(inside.batches, limit, 0)

        class Noted(core.Task):
            def run(self) -> None:
                who.add(threading.current_thread().name)
                super().run()

        patch.setattr(core, "Task", Noted)
        for threads in (1, 2):
            assert_same(index.search_furthest(rows, 5, threads=threads), expected)
        assert_same(index.search_furthest(rows[0], 5), farann.Hits(*(a[0] for a in expected)))
    assert "MainThread" not in who and any(name.startswith("farann-main") for name in who)
