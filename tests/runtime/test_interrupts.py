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
from inside.contract import ALL_CODES
from numpy.typing import NDArray

import farann

Arrays = dict[str, NDArray[np.generic]]

# Sends itself a real SIGINT once tasks are at work, the first of several hundred, for each call.
INTERRUPTED = """
import os, signal, threading
import inside
import farann

rng = np.random.default_rng(0)
rows = rng.standard_normal((30_000, 64), dtype=np.float32)
queries = np.tile(rows[:4000], (100, 1))
few = queries[:20]
built = {}

def index_of(options):
    if options not in built:
        built.clear()
        index = built[options] = eval(f"farann.Index(64, {options})")
        index.add(rows)
        index.build()
    return built[options]

def interrupted_at(options, call, threads):
    index, begun, interrupted = index_of(options), threading.Semaphore(0), False
    running, n_begun = [0], [0]

    def before_and_after():
        return index.search_furthest(few, 5, budget=10**7)

    expected = before_and_after()

    def noisy(task, run):
        running[0] += 1
        n_begun[0] += 1
        begun.release()
        while n_begun[0] >= min(threads, 2) and not task.flag.is_cancelled():
            pass  # until the main thread has heard
        try:
            run()
        finally:
            running[0] -= 1

    def interrupt():
        for _ in range(min(threads, 2)):
            begun.acquire()
        os.kill(os.getpid(), signal.SIGINT)

    sender = threading.Thread(target=interrupt)
    sender.start()
    made = eval(f"lambda index: index.{call}")
    try:
        with inside.native.watched(run=noisy):
            made(index)
    except KeyboardInterrupt:
        interrupted = running[0] == 0  # nobody is left at work
    sender.join()
    found = before_and_after()
    same = (found.ids == expected.ids).all() and (found.scores == expected.scores).all()
    return interrupted, n_begun[0], same

told = [interrupted_at(options, call, int(threads)) for options, call, threads in given["cases"]]
give(told=np.array(told, int))
"""

# An index, what it is asked, and the threads of that.
CASES = [
    ("", "search_furthest(queries, threads=1)", 1),
    ("", "search_furthest(queries, threads=2)", 2),
    ("", "search_furthest(queries, threads=4)", 4),
    ("", "search_furthest(queries, k=500, threads=2)", 2),
    ("", "search_beyond(queries, radius=1e9, threads=2)", 2),
    ("codes='float32'", "search_nearest(queries, threads=1)", 1),
    ("cells=200", "search_furthest(queries, budget=20_000, threads=2)", 2),
    ("codes='int4', keep_vectors=False", "search_furthest(queries, recall=1.0, threads=2)", 2),
]


def test_ctrl_c_ends_a_batch(run_python: Callable[..., Arrays]) -> None:
    """All that are at work stop, the rest is never begun, and the index answers as before."""
    told = run_python(INTERRUPTED, cases=CASES, timeout=600)["told"].tolist()
    for case, (interrupted, begun, same) in zip(CASES, told, strict=True):
        assert interrupted and same, case
        # Of 196 or more: one that may end before a second thread begins, and one of each thread.
        least = min(case[-1], 2)
        assert least <= begun < case[-1] + least, case


def test_ctrl_c_ends_a_single_search(run_python: Callable[..., Arrays]) -> None:
    """One query has one task, which goes on once the main thread has heard, and ends by itself."""
    told = run_python(
        """
import os, signal, threading
import inside
import farann

def noisy(task, run):
    assert threading.current_thread() is not threading.main_thread()
    os.kill(os.getpid(), signal.SIGINT)
    while not task.flag.is_cancelled():
        pass
    run()
    ended.append(True)

ended = []
rows = np.arange(5_000_000, dtype=np.float32)[:, None]  # so many that it counts as long
index = farann.Index(1, codes="float32")
index.add(rows)
index.build()
try:
    with inside.native.watched(run=noisy):
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
import inside
import farann

def noisy(task, run):
    os.kill(os.getpid(), signal.SIGINT)
    run()

index = farann.Index(64)
index.add(np.random.default_rng(0).standard_normal((60_000, 64), dtype=np.float32))
try:
    with inside.native.watched(run=noisy):
        index.build()
except KeyboardInterrupt:
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
    snapshot = inside.store.snapshot_of(index_of(rows).build())
    flag = core.CancelFlag()
    assert not flag.is_cancelled()
    for rule in (None, ALL_CODES):
        task = partial(inside.native.task_of, snapshot, rows, 3, rule=rule, stop=20)
        with pytest.raises(core.Cancelled):
            task(flag=cancelled())
        flag = core.CancelFlag()
        task = task(flag=flag)
        flag.cancel()
        assert flag.is_cancelled()
        with pytest.raises(core.Cancelled):
            task.run()
        assert task.did()[0] == 0  # no block was begun
    with pytest.raises(core.Cancelled):
        core.keys_of_slots(snapshot, rows[:500], np.arange(500), np.empty((500, 500)), cancelled())


MANY = 10**12  # more looks than anybody takes


def tasks_to_interrupt(rows: NDArray[np.float32]) -> dict[str, Callable[[core.CancelFlag], Any]]:
    """What the core may be at work at for long, by name: each makes a task and runs it."""
    queries, most = rows[:70], len(rows)
    line = np.arange(100_000, dtype=np.float32)[:, None]
    plain = inside.store.snapshot_of(index_of(rows, codes="float32").build())
    coded, halves, cells = (index_of(rows, **options).build() for options in (
        {"codes": "int8"}, {"codes": "int4"}, {"cells": 30}))
    growing = index_of(rows[: most - 600]).build()
    growing.add(rows[most - 600 :])
    members = np.arange(0, 71, 7, dtype=np.int64)

    def search(snapshot: core.Snapshot, k: int, queries: NDArray[np.float32] = queries,
               **options: Any) -> Any:
        return lambda flag: inside.native.task_of(snapshot, queries, k, flag=flag, **options).run()

    whole = inside.store.snapshot_of(index_of(line, codes="float32").build())
    found = {"float32": search(plain, 5),
             "sorting": search(whole, len(line), queries=line[:1])}
    for name, index in (("int8", coded), ("int4", halves), ("added", growing), ("cells", cells)):
        snapshot = inside.store.snapshot_of(index)
        found[name] = search(snapshot, 5)
        found[f"{name}, nearest"] = search(snapshot, 5, nearest=True)
        found[f"{name}, one query"] = search(snapshot, 5, queries=queries[:1])
        found[f"{name}, approximate"] = search(snapshot, 5, rule=ALL_CODES)
    snapshot = inside.store.snapshot_of(coded)
    everything, slots = core.Filter(snapshot), np.arange(most)
    found |= {
        "beyond": lambda flag: inside.native.task_of(
            snapshot, queries, 1, flag=flag, collector=core.RangeCollector(np.full(70, 1.0))).run(),
        "selection": lambda flag: core.Greedy(snapshot, everything, slots[:1], 300).run(300, flag),
        "sets": lambda flag: core.SetSearch(snapshot, everything, queries.astype(float), members,
                                            0, 5, flag=flag).run(),
        "pairs": search(snapshot, 1, queries=rows[:300]),
        "keys": lambda flag: core.keys_of_slots(
            snapshot, queries, slots, np.empty((70, most)), flag),
    }
    return found


def test_whenever_it_is_given_up() -> None:
    """All that takes long looks often, and ends at whichever look it is told to."""
    rows = np.random.default_rng(0).standard_normal((6000, 24), dtype=np.float32)
    looks: dict[str, int] = {}
    for name, run in tasks_to_interrupt(rows).items():
        flag = core.CancelFlag()
        flag.cancel_at(MANY)
        run(flag)
        looks[name] = MANY - flag.cancel_at(0)
        for look in {1, 2, *np.linspace(1, looks[name], 7, dtype=int).tolist()}:
            flag.cancel_at(look)
            with pytest.raises(core.Cancelled):
                run(flag)
            assert flag.is_cancelled(), (name, look)
    assert looks["sorting"] > 3000  # while what one query has found is put in order


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
        inside.runtime.run_all([work(i) for i in range(100)], threads, long=long)
    assert len(begun) <= 3 + threads
    done: list[int] = []

    def note(i: int) -> Callable[[object], None]:
        return lambda flag: done.append(i)

    inside.runtime.run_all([note(i) for i in range(100)], threads, long=long)
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

    inside.runtime.forget_executors()
    monkeypatch.setattr(ThreadPoolExecutor, "submit", refuse)
    who: list[int] = []
    inside.runtime.run_all([lambda flag: who.append(threading.get_ident())] * 20, 4, long=long)
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
queries = rng.standard_normal((12_000, 16), dtype=np.float32)
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
    assert not inside.runtime.is_long(1, 50_000 * 64, 10, "avx2")
    assert not inside.runtime.is_long(1000, 10_000 * 64, 10, "avx2")
    assert not inside.runtime.is_long(128, 150_000 * 50, 10, "avx2")
    assert inside.runtime.is_long(1000, 100_000 * 64, 10, "avx2")
    assert inside.runtime.is_long(1000, 10_000 * 64, 10, "scalar")
    assert inside.runtime.is_long(1, 10**8, 10, "avx2")
    assert inside.runtime.is_long(1, 10**6, 10**7, "avx2")


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
queries = rng.standard_normal((12_000, 16), dtype=np.float32)
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
        for limit in ("long_work", "slow_long_work", "small_work", "small_work_of_few"):
            patch.setattr(inside.settings, limit, 0)

        def noted(task: Any, run: Callable[[], None]) -> None:
            who.add(threading.current_thread().name)
            run()

        with inside.native.watched(run=noted):
            for threads in (1, 2):
                assert_same(index.search_furthest(rows, 5, threads=threads), expected)
            assert_same(index.search_furthest(rows[0], 5),
                        farann.Hits(expected.ids[0], expected.scores[0]))
    assert "MainThread" not in who and any(name.startswith("farann-main") for name in who)
