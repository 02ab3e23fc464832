"""The process is left as it was: threads of BLAS, the arithmetic of threads."""

from __future__ import annotations

import linecache
import os
import queue
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from types import ModuleType
from typing import Any

import inside
import numpy as np
import pytest
import reference
from cases import assert_same, assert_same_beyond, assert_same_bits, index_of, pairs, rows_for
from inside import core
from numpy.typing import NDArray
from reference import METRICS
from threadpoolctl import ThreadpoolController, threadpool_info, threadpool_limits

import farann

Arrays = dict[str, NDArray[np.generic]]


def blas_threads() -> list[int]:
    return [info["num_threads"] for info in threadpool_info() if info["user_api"] == "blas"]


@pytest.fixture
def three_threads() -> Iterator[list[int]]:
    """Of BLAS, unless it has fewer at most."""
    with threadpool_limits(3, user_api="blas"):
        before = blas_threads()
        assert before and max(before) > 1
        yield before
        assert blas_threads() == before


def test_each_file_of_tests_begins_with_one_thread() -> None:
    """Whatever others set: two wait for each other, and tests take up to 15 times as long."""
    assert set(blas_threads()) == {1}


def test_the_last_to_leave_restores(three_threads: list[int]) -> None:
    first, second = inside.runtime.one_thread(), inside.runtime.one_thread()
    first.__enter__()
    assert set(blas_threads()) == {1}
    second.__enter__()
    first.__exit__(None, None, None)
    assert set(blas_threads()) == {1}
    second.__exit__(None, None, None)
    assert blas_threads() == three_threads


def test_threads_come_and_go(three_threads: list[int]) -> None:
    n, seen = 4, []
    gate = threading.Barrier(n + 1)

    def use(number: int) -> None:
        guard = inside.runtime.one_thread()
        for step in range(2 * n):
            if step == number:
                guard.__enter__()
            if step == n + number:
                guard.__exit__(None, None, None)
            gate.wait(60)
            gate.wait(60)  # somebody looks in between

    threads = [threading.Thread(target=use, args=(i,)) for i in range(n)]
    for thread in threads:
        thread.start()
    for _ in range(2 * n):
        gate.wait(60)
        seen.append(blas_threads())
        gate.wait(60)
    for thread in threads:
        thread.join()
    one = [1] * len(three_threads)
    assert seen == [one] * (2 * n - 1) + [three_threads]


def test_libraries_are_looked_for_again_where_modules_came(
    monkeypatch: pytest.MonkeyPatch
) -> None:
    """To look for them takes longer than to build a small index."""
    looked: list[object] = []

    class Looking(ThreadpoolController):  # type: ignore[misc]  # it has no types
        def __init__(self) -> None:
            looked.append(None)
            super().__init__()

    monkeypatch.setattr("threadpoolctl.ThreadpoolController", Looking)
    for name in ("one more module", "and another"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
        for _ in range(3):
            with inside.runtime.one_thread():
                pass
    assert len(looked) == 2


def test_openmp_is_limited_in_this_thread_and_restored() -> None:
    pytest.importorskip("sklearn.cluster")  # which has one

    def threads() -> set[int]:
        return {one["num_threads"] for one in threadpool_info() if one["user_api"] == "openmp"}

    with threadpool_limits(3, user_api="openmp"):
        if threads() != {3}:
            pytest.skip("needs an OpenMP that can be set")
        with inside.runtime.one_thread(), inside.runtime.one_thread():
            assert threads() == {1}
        assert threads() == {3}
        with pytest.raises(ValueError), inside.runtime.one_thread():
            raise ValueError
        assert threads() == {3}


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, GeneratorExit])
def test_errors_restore_too(three_threads: list[int], error: type[BaseException]) -> None:
    with pytest.raises(error), inside.runtime.one_thread():
        assert set(blas_threads()) == {1}
        raise error


def test_an_interrupt_at_any_line(three_threads: list[int]) -> None:
    """Of those that limit and restore; once there is one, it is survived."""
    file = inside.runtime.one_thread.__wrapped__.__code__.co_filename  # type: ignore[attr-defined]
    n_lines, at, count = 10**6, 0, 0

    def trace(frame: Any, event: str, _: Any) -> Any:
        nonlocal count
        if frame.f_code.co_filename != file:
            return None
        line = linecache.getline(file, frame.f_lineno).strip()
        # Python looks for no signals between taking a lock and its block, nor where a `try` begins.
        if event == "line" and line not in ("with _lock:", "try:"):
            count += 1
            if count == at:
                raise KeyboardInterrupt
        return trace

    while at <= n_lines:
        count, interrupted = 0, False
        sys.settrace(trace)
        try:
            with inside.runtime.one_thread():
                pass
        except KeyboardInterrupt:
            interrupted = True
        finally:
            sys.settrace(None)
        assert interrupted == (at > 0), at
        assert not inside.runtime.blas_is_held() and blas_threads() == three_threads, at
        if at == 0:
            n_lines = count
        at += 1
    assert n_lines > 20


FORK = """
import os, threading, warnings
import inside
from threadpoolctl import threadpool_info, threadpool_limits

# Python 3.12 and later warn of forks in processes with threads; here that is the point.
warnings.simplefilter("ignore", DeprecationWarning)
def limits():
    return [i["num_threads"] for i in threadpool_info() if i["user_api"] == "blas"]

threadpool_limits(3, user_api="blas")
usual = limits()
entered, leave = threading.Event(), threading.Event()
def use():
    with inside.runtime.one_thread():
        entered.set()
        leave.wait(60)
thread = threading.Thread(target=use)
thread.start()
assert entered.wait(60)
child = os.fork()
if child == 0:
    held = inside.runtime.blas_is_held()
    good = set(limits()) == {1} and not held
    with inside.runtime.one_thread():
        good = good and set(limits()) == {1}
    os._exit(0 if good else 1)
_, status = os.waitpid(child, 0)
leave.set()
thread.join()
give(status=status, usual=usual, after=limits())
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_a_forked_child_keeps_the_limit_of_a_thread_that_is_gone(
    run_python: Callable[..., Arrays],
) -> None:
    """It can't be lifted there: that thread may have held a lock of BLAS. Later limits end."""
    # In a process of its own: libraries that other tests load here complain of forks.
    told = run_python(FORK)
    assert told["status"] == 0 and max(told["usual"]) > 1
    assert told["after"].tolist() == told["usual"].tolist()


def test_two_builds_at_once(run_python: Callable[..., Arrays]) -> None:
    """Partitioned, so that scikit-learn and its OpenMP are loaded meanwhile."""
    told = run_python(
        """
import threading
import farann
from threadpoolctl import threadpool_info, threadpool_limits

def limits():
    return {i["filepath"]: i["num_threads"] for i in threadpool_info() if i["user_api"] == "blas"}

usual = set(limits().values())
threadpool_limits(3, user_api="blas")
before = limits()
rows = np.random.default_rng(0).standard_normal((6000, 24), dtype=np.float32)
gate = threading.Barrier(3)

def build(n):
    index = farann.Index(24, cells=30)
    index.add(rows[:n])
    gate.wait(60)
    index.build()

threads = [threading.Thread(target=build, args=(n,)) for n in (6000, 5000, 4500)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
after = limits()
give(kept=after | before == after, several=max(before.values()) > 1,
     others={n for name, n in after.items() if name not in before} <= usual)
"""
    )
    assert told["kept"] and told["several"] and told["others"]


# ---- arithmetic ----


@pytest.fixture
def no_denormals() -> Iterator[None]:
    """As in a process that has loaded a library compiled with -ffast-math."""
    if core.flush_denormals(True) < 0:
        pytest.skip("no such mode is known for this CPU")
    try:
        assert np.float32(1e-40) * np.float32(1.0) == 0.0
        yield
        # All that was called left it as it was.
        assert core.flush_denormals(True) == 1
    finally:
        core.flush_denormals(False)


@pytest.mark.parametrize(("kind", "metric", "codes"), pairs(
    ["denormals", "1e-22", "mixed magnitudes"], METRICS, ["int8", "float32"]))
def test_answers_are_those_of_denormal_rows(
    request: pytest.FixtureRequest, rng: np.random.Generator, kind: str, metric: str, codes: str
) -> None:
    rows = rows_for(kind, rng, 900, 7, metric)
    queries = rows_for(kind, rng, 40, 7, metric)
    oracles = (reference.furthest, reference.nearest)
    expected = [oracle(queries, rows, 9, metric) for oracle in oracles]
    radius = float(np.median(expected[0].scores))
    beyond, scores = reference.beyond(queries, rows, radius, metric), reference.score(
        queries, rows, metric)
    request.getfixturevalue("no_denormals")
    index = index_of(rows, metric, codes=codes, threads=2).build()
    searches: list[Callable[..., farann.Hits]] = [index.search_furthest, index.search_nearest]
    for search, right in zip(searches, expected, strict=True):
        assert_same(search(queries, 9), right)
        assert_same(search(queries[:3], 9), farann.Hits(right.ids[:3], right.scores[:3]))
        assert_same(search(queries[0], 9), farann.Hits(right.ids[0], right.scores[0]))
    assert_same_beyond(index.search_beyond(queries, radius=radius), beyond)
    assert_same_bits(index.score(queries, np.arange(len(rows))), scores)


def test_zero_vectors_are_told_from_denormal_ones(no_denormals: None) -> None:
    rows = np.full((3, 4), 700, np.int32).view(np.float32)
    assert core.first_bad_row(rows, True) == -1
    rows[1] = 0.0
    assert core.first_bad_row(rows, True) == 1


def test_ieee_arithmetic_is_for_a_block(no_denormals: None) -> None:
    tiny = np.full(4, 700, np.int32).view(np.float32)
    with pytest.raises(ZeroDivisionError), inside.runtime.ieee_arithmetic():
        assert (tiny * np.float32(1.0)).view(np.uint32).all()
        raise ZeroDivisionError
    assert not (tiny * np.float32(1.0)).view(np.uint32).any()


def test_every_entry_of_the_core_leaves_it(no_denormals: None) -> None:
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((5000, 12), dtype=np.float32)
    for options in ({}, {"cells": 20}, {"codes": "int4", "keep_vectors": False, "cells": 20}):
        index = index_of(rows, **options).build()
        calls: list[Callable[[], object]] = [
            lambda: index.search_furthest(rows[:30], budget=2000),
            lambda: index.search_furthest(rows[0], budget=2000),
            lambda: index.score(rows[:3], [1, 2, 3]),
            lambda: index.reconstruct([1, 2, 3]),
            lambda: index.tune(rows[:50], k=3),
            lambda: index.add(rows[:40]),
            lambda: index.build(),
        ]
        for call in calls:
            call()
            assert core.flush_denormals(True) == 1


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="CPUs are chosen on Linux")
@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize(("options", "apart"), [
    ({}, False), ({"apart": True}, True), ({"apart": True, "long": True}, False)])
def test_threads_that_share_a_search_keep_apart(options: dict[str, bool], apart: bool,
                                                fails: bool) -> None:
    """The caller stays on its CPU meanwhile, and helpers on others; then all have all again."""
    before = os.sched_getaffinity(0)
    if apart and not 2 <= len(before) <= 16:
        pytest.skip("for 2 to 16 CPUs")
    both, met = threading.Barrier(2), dict[int, set[int]]()
    inside.runtime.forget_executors()  # a pool of more threads than CPUs stays as it is

    def work(flag: Any) -> None:
        met[threading.get_native_id()] = os.sched_getaffinity(0)
        both.wait(60)
        if fails:
            raise LookupError

    for _ in range(2):  # the first time threads are started, which the system places well
        met.clear()
        try:
            inside.runtime.run_all([work, work], 2, **options)
        except LookupError:
            assert fails
    assert len(met) == 2
    own = met.pop(threading.get_native_id(), before)
    assert (len(own) == 1) == apart
    for thread, others in met.items():
        assert others == (before - own if apart else before)
        assert os.sched_getaffinity(thread) == before
    assert os.sched_getaffinity(0) == before


@pytest.fixture
def resting() -> Iterator[int]:
    """The native id of a thread that rests."""
    ids, end = queue.SimpleQueue[int](), threading.Event()

    def rest() -> None:
        ids.put(threading.get_native_id())
        end.wait(60)

    thread = threading.Thread(target=rest)
    thread.start()
    yield ids.get()
    end.set()
    thread.join()


@pytest.fixture
def two_cpus() -> set[int]:
    cpus = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set[int]()
    if not 2 <= len(cpus) <= 16:
        pytest.skip("for 2 to 16 CPUs")
    return cpus


def test_a_second_caller_leaves_threads_where_the_first_wants_them(resting: int,
                                                                   two_cpus: set[int]) -> None:
    apart = core.Apart([resting], 1)

    def second() -> tuple[set[int], set[int]]:
        with apart:
            during = os.sched_getaffinity(0)
        return during, os.sched_getaffinity(resting)

    with apart, ThreadPoolExecutor(1) as executor:
        others = two_cpus - os.sched_getaffinity(0)
        assert len(others) == len(two_cpus) - 1
        os.sched_setaffinity(executor.submit(threading.get_native_id).result(), two_cpus)
        assert executor.submit(second).result() == (two_cpus, others)
    assert os.sched_getaffinity(0) == os.sched_getaffinity(resting) == two_cpus


def test_threads_keep_to_their_own_cpus(resting: int, two_cpus: set[int]) -> None:
    own = {min(two_cpus)}
    os.sched_setaffinity(resting, own)
    for cpu in sorted(two_cpus):
        os.sched_setaffinity(0, {cpu})  # where it mostly is still afterwards
        os.sched_setaffinity(0, two_cpus)
        with core.Apart([resting], 1):
            assert os.sched_getaffinity(resting) == own
        assert os.sched_getaffinity(resting) == own


@pytest.mark.parametrize(("n", "size"), [(1, 2), (0, 1), (16, 16)])
def test_cpus_are_left_while_threads_start_or_where_they_are_many(
        n: int, size: int, resting: int, two_cpus: set[int]) -> None:
    with core.Apart(n * [resting], size):
        assert os.sched_getaffinity(0) == os.sched_getaffinity(resting) == two_cpus
