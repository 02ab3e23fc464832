"""Many Python threads at one index: every answer is that of a moment, before or after."""

from __future__ import annotations

import os
import pickle
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import inside
import numpy as np
import pytest
import reference
from cases import Float32, arrays_of, assert_same, index_of
from inside import core
from numpy.typing import NDArray
from reference import METRICS

import farann

DIM = 12
# Seconds until a test that hangs is ended; nothing else depends on it.
PATIENCE = 300.0


def has_gil() -> bool:
    """Whether threads take turns; other Pythons have none, unless a module turned it on."""
    return bool(getattr(sys, "_is_gil_enabled", lambda: True)())


def run_together(*functions: Callable[[], object]) -> None:
    """Run functions in threads that start at one moment; pass on what they raise."""
    failures: list[BaseException] = []
    gate = threading.Barrier(len(functions))

    def run(function: Callable[[], object]) -> None:
        try:
            gate.wait(PATIENCE)
            function()
        except BaseException as failure:
            failures.append(failure)

    threads = [threading.Thread(target=run, args=(f,), daemon=True) for f in functions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    if failures:
        raise failures[0]
    assert not any(thread.is_alive() for thread in threads), "threads wait for each other"


class State(NamedTuple):
    """What the index holds at one moment."""

    rows: Float32
    ids: NDArray[np.int64]


class Step(NamedTuple):
    """A change, and the state after it."""

    change: Callable[[farann.Index], object]
    after: State


def history(rng: np.random.Generator, steps: int) -> tuple[State, list[Step]]:
    """Random adds, removals and builds; ids from 10**6 stay for good."""
    ids = np.concatenate([np.arange(3950), 10**6 + np.arange(50)])
    state = first = State(rng.standard_normal((4000, DIM), dtype=np.float32), ids)
    made: list[Step] = []
    for number in range(steps):
        kind = rng.choice(["add", "replace", "remove", "build"], p=[0.3, 0.2, 0.35, 0.15])
        if kind in ("add", "replace"):
            # Ever longer rows, so that each change shows in the answers.
            rows = rng.standard_normal((20, DIM), dtype=np.float32) * np.float32(1 + 0.1 * number)
            new = 10_000 * (number + 1) + rng.permutation(20)
            if kind == "replace":
                new[5:] = rng.choice(state.ids[state.ids < 10**6], 15, replace=False)
            left = ~np.isin(state.ids, new)
            state = State(np.vstack([state.rows[left], rows]),
                          np.concatenate([state.ids[left], new]))
            made.append(Step(partial(farann.Index.add, rows=rows, ids=new,
                                     replace=kind == "replace"), state))
        elif kind == "remove":
            largest = np.argsort(np.linalg.norm(state.rows, axis=1))[::-1]
            gone = largest[state.ids[largest] < 10**6][:15]
            gone_ids = state.ids[gone]
            state = State(np.delete(state.rows, gone, axis=0), np.delete(state.ids, gone))
            made.append(Step(partial(farann.Index.remove, ids=gone_ids), state))
        else:
            made.append(Step(farann.Index.build, state))
    return first, made


@pytest.fixture
def restless() -> Iterator[None]:
    """Threads take turns every microsecond, so that they meet in more places."""
    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(usual)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.usefixtures("restless")
def test_every_answer_is_that_of_a_moment(metric: str, rng: np.random.Generator) -> None:
    first, steps = history(rng, 50)
    states = [first, *(step.after for step in steps)]
    queries = rng.standard_normal((6, DIM), dtype=np.float32)
    stay = 10**6 + np.arange(50)
    radius = {"l2": 6.0, "dot": -6.0, "cosine": -0.5}[metric]
    index = index_of(first.rows, metric, first.ids)
    begun, done = [0], [0]
    seen: list[tuple[str, int, int, Any]] = []

    over, looked = threading.Event(), threading.Event()

    def change() -> None:
        try:
            for number, step in enumerate(steps, 1):
                begun[0] = number
                step.change(index)
                done[0] = number
                for _ in range(3):  # looks that come between two changes, at least
                    looked.clear()
                    assert looked.wait(PATIENCE)
        finally:
            over.set()

    def watch(names: list[str]) -> None:
        while True:
            for name in names:
                before = done[0]
                answer = looks[name]()
                seen.append((name, before, begun[0], answer))
                looked.set()
            if over.is_set():
                return

    many = np.tile(queries, (20, 1))  # enough work that threads share it
    # Of the ids left out and allowed some are there only for a while.
    left_out = [np.concatenate([state.ids[-6:] for state in states[::4]]).tolist()] * 6
    kept = np.concatenate([stay, *(state.ids[-20:] for state in states[::2])]).tolist()
    prepared = index.filter(allowed=kept)
    looks: dict[str, Callable[[], Any]] = {
        "batch": lambda: index.search_furthest(queries, 8),
        "threads": lambda: index.search_furthest(many, 8, threads=2),
        "single": lambda: index.search_furthest(queries[0], 8),
        "nearest": lambda: index.search_nearest(queries, 8),
        "exclude": lambda: index.search_furthest(queries, 8, exclude=left_out),
        "allowed": lambda: index.search_furthest(queries, 8, allowed=kept),
        "prepared": lambda: index.search_furthest(queries, 8, allowed=prepared),
        "beyond": lambda: index.search_beyond(queries, radius=radius, exclude=left_out,
                                              allowed=kept),
        "copy": lambda: pickle.loads(pickle.dumps(index)).search_furthest(queries, 8),
        "score": lambda: index.score(queries, stay),
        "ids": lambda: index.ids,
        "length": lambda: np.array(len(index)),
    }
    names = list(looks)
    run_together(change, *(lambda n=n: watch(names[n:] + names[:n]) for n in (0, 3, 6)))

    def furthest(state: State, **filters: Any) -> reference.Found:
        return reference.furthest(queries, state.rows, 8, metric, ids=state.ids, **filters)

    def beyond(state: State) -> reference.Beyond:
        return reference.beyond(
            queries, state.rows, radius, metric, ids=state.ids, exclude=left_out, allowed=kept
        )

    plain = [furthest(state) for state in states]
    lasting = reference.score(queries, first.rows[-50:], metric)
    expected: dict[str, Sequence[Any]] = {
        "batch": plain,
        "copy": plain,
        "threads": [reference.Found(np.tile(found.scores, (20, 1)), np.tile(found.ids, (20, 1)))
                    for found in plain],
        "single": [reference.Found(found.scores[0], found.ids[0]) for found in plain],
        "nearest": [reference.nearest(queries, s.rows, 8, metric, ids=s.ids) for s in states],
        "exclude": [furthest(state, exclude=left_out) for state in states],
        "allowed": [furthest(state, allowed=kept) for state in states],
        "prepared": [furthest(state, allowed=kept) for state in states],
        "beyond": [beyond(state) for state in states],
        "score": [lasting] * len(states),
        "ids": [state.ids for state in states],
        "length": [len(state.ids) for state in states],
    }
    assert len({one.ids.tobytes() for one in expected["beyond"]}) > 5
    assert {name for name, *_ in seen} == set(looks)
    for name, before, after, answer in seen:
        possible = expected[name][before : after + 1]
        assert any(same(answer, one) for one in possible), (name, before, after)
    assert_same(index.search_furthest(queries, 8), plain[-1])
    assert np.isin(stay, index.ids).all()


@pytest.mark.parametrize("named", [False, True])
@pytest.mark.usefixtures("restless")
def test_a_replaced_row_is_always_there_once(named: bool, rng: np.random.Generator) -> None:
    """Each look finds for each id one row, the old or the new one, and no id goes back."""
    n, steps, version = 400, 150, 1000.0
    ids = np.array([f"row {i}" for i in range(n)], object) if named else rng.permutation(n)
    # The furthest rows of the query 0: row i of version v has the first coordinate v.
    rows = np.abs(rng.standard_normal((n, 3), dtype=np.float32))
    rows[:8, 0] = version
    index = index_of(rows, ids=ids)
    over, looked = threading.Event(), threading.Event()
    seen: list[farann.Hits] = []

    def change() -> None:
        try:
            for step in range(1, steps + 1):
                replaced = np.arange(8) if step % 3 else np.arange(8)[::2]
                new = np.zeros((len(replaced) + 1, 3), np.float32)
                new[:-1, 0] = version + step
                new_ids = np.append(ids[replaced], f"more {step}" if named else n + step)
                index.add(new, new_ids, replace=True)
                looked.clear()
                assert looked.wait(PATIENCE)
        finally:
            over.set()

    def look() -> None:
        while not over.is_set():
            seen.append(index.search_furthest(np.zeros(3), 8))
            looked.set()

    run_together(change, look, look)
    assert len(seen) >= steps
    for hits in seen:
        assert set(hits.ids) == set(ids[:8])
        assert (hits.scores >= version).all()
    steps_seen = {float(hits.scores[0]) for hits in seen}
    assert len(steps_seen) > 10
    assert len(index) == n + steps and sorted(index.ids) == sorted(
        [*ids, *(f"more {i}" if named else n + i for i in range(1, steps + 1))])


def same(answer: Any, expected: Any) -> bool:
    return all(
        np.array_equal(part, other, equal_nan=part.dtype == np.float32)
        for part, other in zip(arrays_of(answer), arrays_of(expected), strict=True)
    )


@pytest.mark.parametrize("threads", [1, 2])
def test_the_first_search_from_many_threads(threads: int, rng: np.random.Generator) -> None:
    rows = rng.standard_normal((3000, DIM), dtype=np.float32)
    queries = rng.standard_normal((150, DIM), dtype=np.float32)
    index = index_of(rows, threads=threads)
    hits: list[farann.Hits] = []
    run_together(*[lambda: hits.append(index.search_furthest(queries))] * 8)
    expected = reference.furthest(queries, rows, 10, "l2")
    assert len(hits) == 8
    for got in hits:
        assert_same(got, expected)


def test_adding_from_many_threads(rng: np.random.Generator) -> None:
    index = farann.Index(DIM)
    parts = rng.standard_normal((6, 15, 7, DIM), dtype=np.float32)
    given: list[tuple[NDArray[np.int64], Float32]] = []

    def add(thread: int) -> Callable[[], None]:
        return lambda: given.extend((index.add(part), part) for part in parts[thread])

    run_together(*map(add, range(6)))
    ids = np.concatenate([ids for ids, _ in given])
    assert np.array_equal(np.sort(ids), np.arange(6 * 15 * 7))
    assert np.array_equal(index.ids, np.arange(6 * 15 * 7))
    for part_ids, part in given:
        assert np.array_equal(index.reconstruct(part_ids), part)


@pytest.mark.usefixtures("restless")
@pytest.mark.parametrize(("kept_as", "dtype", "nan"), [
    ("float32", np.float32, np.nan), ("float16", np.float16, np.nan),
    ("bfloat16", np.uint16, 0xFFFF)])
def test_rows_that_change_while_they_are_added(kept_as: str, dtype: type, nan: float,
                                               monkeypatch: pytest.MonkeyPatch) -> None:
    """What is kept is what was checked, though another thread writes right after the check."""
    index, check = farann.Index(dtype=kept_as), core.first_bad_row
    for times in (1, 2):
        rows: NDArray[Any] = np.ones((5, 3), dtype)

        def then_changed(given: NDArray[Any], unit: bool, rows: NDArray[Any] = rows) -> int:
            bad = check(given, unit)
            rows[:] = nan
            return bad

        with monkeypatch.context() as patched:
            patched.setattr(inside.settings, "first_bad_row", then_changed)
            index.add(rows)
        assert np.isfinite(index.reconstruct(index.ids)).all() and len(index) == 5 * times
        index.build()
    rows = np.ones((5, 3), dtype)
    rows[2, 1] = nan
    with pytest.raises(ValueError, match="^rows: expected finite numbers, got NaN in row 2$"):
        index.add(rows)
    assert len(index) == 10


def test_length_is_that_of_a_moment() -> None:
    index = index_of(np.ones((1000, DIM), np.float32))
    lengths: set[int] = set()
    over, looked = threading.Event(), threading.Event()

    def change() -> None:
        try:
            for _ in range(200):
                looked.clear()
                ids = index.add(np.ones((1, DIM)))
                index.build()
                index.remove(ids)
                assert looked.wait(PATIENCE)
        finally:
            over.set()

    def look() -> None:
        while not over.is_set():
            lengths.add(len(index))
            looked.set()

    run_together(change, look, look, look)
    assert lengths <= {1000, 1001}


def test_one_of_two_that_add_the_same_id_fails(rng: np.random.Generator) -> None:
    for number in range(10):
        index = farann.Index(DIM)
        rows = rng.standard_normal((4, 500, DIM), dtype=np.float32)
        outcomes: list[int] = []

        def add(
            thread: int,
            index: farann.Index = index,
            rows: Float32 = rows,
            outcomes: list[int] = outcomes,
        ) -> None:
            try:
                index.add(rows[thread], np.arange(500) * (thread + 1))
            except ValueError:
                return
            outcomes.append(thread)

        run_together(*(lambda t=t: add(t) for t in range(4)))
        # All of them share the id 0.
        (winner,) = outcomes
        assert np.array_equal(index.ids, np.arange(500) * (winner + 1)), number
        assert np.array_equal(index.reconstruct(index.ids), rows[winner])


def test_indexes_do_not_disturb_each_other(rng: np.random.Generator) -> None:
    rows = rng.standard_normal((3, 2000, DIM), dtype=np.float32)
    indexes = [index_of(part, metric) for part, metric in zip(rows, METRICS, strict=True)]
    expected = [reference.furthest(rows[0][:200], part, 10, metric)
                for part, metric in zip(rows, METRICS, strict=True)]

    def search(number: int) -> None:
        for _ in range(10):
            got = indexes[number].search_furthest(rows[0][:200], threads=2)
            assert_same(got, expected[number])

    run_together(*(lambda n=n: search(n) for n in (0, 1, 2, 0, 1, 2)))


@pytest.fixture
def only_given_up() -> Iterator[None]:
    """No thread is interrupted: others run only when one gives the interpreter up by itself."""
    usual = sys.getswitchinterval()
    sys.setswitchinterval(10_000.0)
    yield
    sys.setswitchinterval(usual)


def another_runs_during(call: Callable[[], object]) -> bool:
    """Whether a thread that waits for the interpreter gets it while a call is under way."""
    begun, ran = threading.Event(), threading.Event()

    def wait_and_run() -> None:
        begun.wait()
        ran.set()

    thread = threading.Thread(target=wait_and_run, daemon=True)
    thread.start()
    begun.set()  # the thread is ready, and would run if it could
    call()
    did = ran.is_set()
    thread.join()
    return did


@pytest.mark.skipif(not has_gil(), reason="there is no GIL to give up")
@pytest.mark.parametrize("kind", ["exact", "approximate", "score"])
@pytest.mark.usefixtures("only_given_up")
def test_other_threads_run_during_a_search(kind: str, rng: np.random.Generator) -> None:
    """The core gives the interpreter up. A busy machine may not run the other thread at once, so
    there are many searches, of which one must have been in the company of another thread."""
    index = index_of(rng.standard_normal((20_000, 64), dtype=np.float32)).build()
    queries = rng.standard_normal((300, 64), dtype=np.float32)
    snapshot = inside.store.snapshot_of(index)
    slots, keys = np.arange(20_000), np.empty((300, 20_000))

    def call() -> Any:
        if kind == "score":
            return partial(core.keys_of_slots, snapshot, queries, slots, keys)
        if kind == "exact":
            return inside.native.task_of(snapshot, queries, 10).run
        rule = inside.contract.StopRule(rows=5000)
        return inside.native.task_of(snapshot, queries, 10, rule=rule).run

    assert not another_runs_during(partial(sum, range(1_000_000)))
    assert any(another_runs_during(call()) for _ in range(1000))


FORK = """
import os, pickle, threading, warnings
import farann
from cases import index_of

# Python 3.12 and later warn of forks in processes with threads; here that is the point.
warnings.simplefilter("ignore", DeprecationWarning)
rows = np.random.default_rng(0).standard_normal((5000, 16), dtype=np.float32)
index = index_of(rows, threads=2)
expected = index.search_furthest(rows[:200], threads=2)
def ask(index):
    hits = index.search_furthest(rows[:200], threads=2)
    assert np.array_equal(hits.ids, expected.ids)
    assert np.array_equal(hits.scores, expected.scores)
children = []
for _ in range(3):
    child = os.fork()
    if child == 0:
        status = 1
        try:
            ask(index)
            index.add(rows[:50] * 9)
            index.remove(index.ids[-50:])
            ask(index)
            ask(index.build())
            status = 0
        finally:
            os._exit(status)
    children.append(child)
ask(index)
statuses = [os.waitpid(child, 0)[1] for child in children]
ask(index)
give(statuses=statuses)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_forks_after_use(run_python: Callable[..., Any]) -> None:
    assert run_python(FORK, timeout=300)["statuses"].tolist() == [0, 0, 0]


def test_interpreter_ends_cleanly_after_threaded_searches(run_python: Callable[..., Any]) -> None:
    code = """
from cases import index_of
rows = np.random.default_rng(0).standard_normal((5000, 16), dtype=np.float32)
keep = index_of(rows, threads=2)
give(ids=keep.search_furthest(rows[:300]).ids)
"""
    assert run_python(code, timeout=300)["ids"].shape == (300, 10)


FORKS = """
import os, threading
import farann
x = np.random.default_rng(0).standard_normal((20_000, 24), dtype=np.float32)
index = farann.Index()
index.add(x)
expected = index.search_furthest(x[:300], 5).ids
over = threading.Event()

searching = [threading.Thread(target=lambda: [index.search_furthest(x[:300], 5, threads=2)
                                              for _ in iter(over.is_set, True)]) for _ in range(3)]
changing = threading.Thread(target=lambda: [index.remove(index.add(x[:1]))
                                            for _ in iter(over.is_set, True)])
for thread in (*searching, changing):
    thread.start()
status = []
for _ in range(12):
    child = os.fork()
    if child == 0:
        found = index.search_furthest(x[:300], 5, allowed=np.arange(len(x)), threads=2).ids
        os._exit(0 if (found == expected).all() else 1)
    status.append(os.waitpid(child, 0)[1])
over.set()
for thread in (*searching, changing):
    thread.join()
give(status=status)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
def test_children_forked_in_the_middle_of_it(run_python: Callable[..., Any]) -> None:
    """A child has none of the other threads, and none of the locks that they held."""
    # Python 3.12 and newer warn of forks in a process with threads, which is the point here.
    code = "import warnings; warnings.simplefilter('ignore', DeprecationWarning)\n" + FORKS
    answer = run_python(code, timeout=300)
    assert answer["status"].tolist() == [0] * 12
