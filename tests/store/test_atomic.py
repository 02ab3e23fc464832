"""A change either happened or didn't, wherever an exception, a signal or a fork comes in.

FARANN_ATOMIC=deep tries every line; the suite takes one in some, others for each kind of index.
"""

from __future__ import annotations

import linecache
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType, MappingProxyType
from typing import Any, NamedTuple

import inside
import numpy as np
import pytest
from cases import Float32, index_of
from inside import core
from numpy.typing import NDArray

import farann

PACKAGE = str(Path(farann.__file__).parent)
# Lines that the suite leaves out between two that it tries.
STRIDE = 1 if os.environ.get("FARANN_ATOMIC") == "deep" else 19
N, DIM, K = 300, 7, 5


class Kind(NamedTuple):
    """An index, and how it is asked."""

    options: dict[str, Any]
    own_ids: bool = False
    limits: Mapping[str, Any] = MappingProxyType({})
    named: bool = False  # ids are strings, and rows have groups


KINDS = {
    "plain": Kind({}),
    "own ids": Kind({"metric": "dot"}, own_ids=True),
    "cells": Kind({"metric": "cosine", "cells": 6}),
    "no vectors": Kind({"codes": "int4", "cells": 4, "keep_vectors": False}, True,
                       {"budget": 10**6}),
    "float32": Kind({"codes": "float32"}),
    "strings and groups": Kind({"metric": "cosine"}, own_ids=True, named=True),
}


@dataclass(frozen=True)
class Setting:
    """An index with rows that were built, added and removed, and what to do with it."""

    index: farann.Index
    store: inside.store.Store
    queries: Float32
    more: Float32
    kind: Kind

    def add(self, first: int) -> NDArray[Any]:
        """Add rows with ids from a number on, or strings of these."""
        return add_rows(self.index, self.more, first + np.arange(len(self.more)), self.kind.named)

    def replace(self) -> NDArray[Any]:
        """Replace rows of the base and the tail, and add others, in one change."""
        ids = self.index.ids[::11][:31].tolist()
        ids += [f"row {-id}" if self.kind.named else 10**6 + id
                for id in range(1, 1 + len(self.more) - len(ids))]
        groups = [f"group {number % 3}" for number in range(len(ids))]
        return self.index.add(self.more, ids, replace=True,
                              groups=groups if self.kind.named else None)


def add_rows(index: farann.Index, rows: Float32, ids: NDArray[np.int64] | None,
             named: bool) -> NDArray[Any]:
    if not named or ids is None:
        return index.add(rows, ids)
    return index.add(rows, [f"row {id}" for id in ids], groups=[f"group {id % 5}" for id in ids])


def setting_of(name: str) -> Setting:
    rng = np.random.default_rng(list(name.encode()))
    kind = KINDS[name]
    rows = rng.standard_normal((N + 60, DIM), dtype=np.float32)
    ids = rng.permutation(3 * N)[: N + 60].astype(np.int64) if kind.own_ids else None
    index = farann.Index(**kind.options)
    add_rows(index, rows[:N], None if ids is None else ids[:N], kind.named)
    add_rows(index.build(), rows[N:], None if ids is None else ids[N:], kind.named)
    index.remove(index.ids[5:40:3])
    more = 2 * rng.standard_normal((40, DIM), dtype=np.float32)
    return Setting(index, inside.store.of(index), rng.standard_normal((4, DIM), dtype=np.float32),
                   more, kind)


def seen(array: NDArray[Any]) -> bytes:
    """What an array holds; of objects, not where these are."""
    return array.tobytes() if array.dtype != object else repr(array.tolist()).encode()


def answers(index: farann.Index, setting: Setting) -> tuple[bytes, ...]:
    """What can be seen of an index: its answers, with filters as well, and scores."""
    ids = index.ids
    some = ids[:: max(1, len(ids) // 50)]
    asked: list[dict[str, Any]] = [{}, {"exclude": np.repeat(some[None, :9], 4, axis=0)},
                                   {"allowed": some}]
    if setting.kind.named:
        asked += [{"groups": ["group 0", "group 4", "group 4", "no group"]},
                  {"outside_groups": "group 1"}]
    found = [index.search_furthest(setting.queries, K, **setting.kind.limits, **filters)
             for filters in asked]
    scores = index.score(setting.queries, some)
    groups = index.groups() if setting.kind.named else ids
    return (seen(ids), seen(groups), scores.tobytes(),
            *(seen(part) for hits in found for part in (hits.ids, hits.scores)))


CHANGES: dict[str, Callable[[Setting, Path], object]] = {
    "add": lambda s, path: s.add(10**6),
    "replace": lambda s, path: s.replace(),
    "reserve": lambda s, path: s.index.reserve(1000),
    "remove": lambda s, path: s.index.remove(s.index.ids[::7]),
    "build": lambda s, path: s.index.build(),
    "tune": lambda s, path: s.index.tune(s.queries, k=3),
    "save": lambda s, path: s.index.save(path),
    "load": lambda s, path: farann.Index.load(path),
}


class Interrupted(BaseException):
    """As Ctrl+C is, no Exception."""


class Lines:
    """Counts the lines of the package that are executed, and raises at one of them."""

    def __init__(self, stop: int = -1) -> None:
        self.seen: list[tuple[str, int]] = []
        self._stop = stop

    @contextmanager
    def watched(self) -> Iterator[None]:
        before = sys.gettrace()
        sys.settrace(self._called)
        try:
            yield
        finally:
            sys.settrace(before)

    def _called(self, frame: FrameType, event: str, arg: Any) -> Callable[..., Any] | None:
        if not frame.f_code.co_filename.startswith(PACKAGE):
            return None
        entered: set[int] = set()

        def line(frame: FrameType, event: str, arg: Any) -> Callable[..., Any]:
            if event != "line":
                return line
            number = frame.f_lineno
            source = linecache.getline(frame.f_code.co_filename, number)
            if source.strip() == "try:":
                return line  # where no signal can come in, either
            if source.lstrip().startswith("with "):
                # It comes up again when the block is left, where no signal can come in.
                if number in entered:
                    entered.remove(number)
                    return line
                entered.add(number)
            self.seen.append((frame.f_code.co_filename, number))
            if len(self.seen) - 1 == self._stop:
                raise Interrupted
            return line

        return line


def places_of(lines: Lines, stride: int, offset: int) -> list[int]:
    """The first and the last time that each line came up, one in `stride` of them."""
    first = {line: i for i, line in reversed(list(enumerate(lines.seen)))}
    last = {line: i for i, line in enumerate(lines.seen)}
    return sorted({*first.values(), *last.values()})[offset % stride :: stride]


def after(setting: Setting, change: str, path: Path) -> tuple[bytes, ...]:
    restore(setting)
    CHANGES[change](setting, path)
    return answers(setting.index, setting)


def restore(setting: Setting) -> None:
    """Back to before the change, with nothing known of the searches that it made."""
    inside.store.restore(setting.index, setting.store)
    inside.store.forget_code_trials(setting.index)


# A file that was just opened is closed by the interpreter, which warns of it.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("name", KINDS)
def test_an_exception_at_any_line(name: str, change: str, tmp_path: Path) -> None:
    setting = setting_of(name)
    index, path = setting.index, tmp_path / "index"
    index.save(path)
    valid = {answers(index, setting), after(setting, change, path)}
    lines = Lines()
    restore(setting)
    with lines.watched():
        CHANGES[change](setting, path)
    places = places_of(lines, STRIDE, 5 * list(KINDS).index(name))
    assert places
    for number, place in enumerate(places):
        restore(setting)
        where = f"{lines.seen[place]}, line {place} of {len(lines.seen)}"
        with Lines(place).watched(), pytest.raises(Interrupted):
            CHANGES[change](setting, path)
        assert answers(index, setting) in valid, where
        if change == "save":
            assert answers(farann.Index.load(path), setting) in valid, where
        if number % STRIDE == 0:
            check_that_it_goes_on(setting, tmp_path / "again", where)


# Other builds of so few rows search for nothing, and takes no memory of the core's.
@pytest.mark.parametrize(("name", "change"), [
    ("cells", "build"), *((name, "tune") for name in KINDS)])
def test_no_memory_at_any_allocation_of_the_core(name: str, change: str, tmp_path: Path) -> None:
    setting = setting_of(name)
    index, path = setting.index, tmp_path / "index"
    valid = {answers(index, setting), after(setting, change, path)}
    restore(setting)
    core.fail_allocation(0)
    CHANGES[change](setting, path)
    made = core.fail_allocation(-1)
    assert made
    for number in range(1, made + 1, max(1, made // 20 if STRIDE > 1 else 1)):
        restore(setting)
        try:
            core.fail_allocation(number)
            with pytest.raises(MemoryError):
                CHANGES[change](setting, path)
        finally:
            core.fail_allocation(-1)
        assert answers(index, setting) in valid, f"allocation {number} of {made}"
    check_that_it_goes_on(setting, tmp_path / "again", name)


def check_that_it_goes_on(setting: Setting, path: Path, where: str) -> None:
    """Save, load, change and build; what was asked for is there."""
    index = setting.index
    before = answers(index, setting)
    index.save(path)
    assert np.array_equal(farann.Index.load(path).ids, index.ids), where
    assert answers(index, setting) == before, where
    added = setting.add(2 * 10**6)
    ids = index.ids
    rows = index.build().reconstruct(ids)
    assert added[0] in index and len(index) == len(ids), where
    if index.stats()["keep_vectors"]:
        fresh = index_of(rows, index.metric, ids)
        assert np.array_equal(index.search_furthest(setting.queries, K).ids,
                              fresh.search_furthest(setting.queries, K).ids), where


def test_an_id_that_comes_back_is_found_by_older_states(rng: np.random.Generator) -> None:
    """A search that began before a row was replaced excludes the old one by its id."""
    ids = rng.permutation(1000)[:300]
    index = index_of(rng.standard_normal((200, DIM), dtype=np.float32), ids=ids[:200])
    index.add(rng.standard_normal((100, DIM), dtype=np.float32), ids[200:])
    old = inside.store.of(index)
    expected = old.slots_of(ids)
    index.remove(ids[250])
    index.add(np.ones((1, DIM)), ids[250:251])
    assert np.array_equal(old.slots_of(ids), expected)
    assert inside.store.of(index).slots_of(ids[250:251]).tolist() == [300]


# Rows that are built, added and removed; `check` asks as a caller would.
PROCESS = """
import os, signal, threading, warnings
import farann
from test_atomic import CHANGES, KINDS, answers, setting_of, after
import inside
from pathlib import Path
warnings.simplefilter("ignore", DeprecationWarning)
path = Path({path!r})
"""

SIGNALS = PROCESS + """
import ctypes
from functools import partial
from operator import methodcaller
from inside import core

begun, last = 0, 0

def noisy(call):
    def counted(*given, **options):
        global begun
        begun += 1
        # In C from one to the next, so that the signal waits when the core begins.
        steps = [ctypes.pythonapi.PyErr_SetInterrupt] if begun == last else []
        steps.append(partial(call, *given, **options))
        return list(map(methodcaller("__call__"), steps))[-1]
    return counted

for name, call in list(vars(core).items()):
    if callable(call) and not isinstance(call, type):
        setattr(core, name, noisy(call))
wrong, hit, asked = [], 0, 0
for name in KINDS:
    setting = setting_of(name)
    setting.index.save(path)
    for change in CHANGES:
        valid = {answers(setting.index, setting)}
        inside.store.restore(setting.index, setting.store)
        begun = last = 0
        CHANGES[change](setting, path)
        calls = begun
        valid.add(answers(setting.index, setting))
        for number in sorted({1 + calls * i // rounds for i in range(rounds)} if calls else ()):
            inside.store.restore(setting.index, setting.store)
            begun, last, asked = 0, number, asked + 1
            try:
                CHANGES[change](setting, path)
            except KeyboardInterrupt:
                hit += 1
            last = 0
            locked = inside.store.is_locked(setting.index)
            if locked or answers(setting.index, setting) not in valid:
                wrong.append((name, change))
        inside.store.restore(setting.index, setting.store)
give(wrong=len(wrong), hit=hit, asked=asked, what=np.array([str(wrong)]))
"""


def test_real_signals(run_python: Callable[..., Any], tmp_path: Path) -> None:
    """The core, or Python as it comes back from there, hears of a signal."""
    code = SIGNALS.replace("{path!r}", repr(str(tmp_path / "index")))
    found = run_python(f"rounds = {200 if STRIDE == 1 else 6}\n" + code, timeout=1800)
    assert found["hit"] == found["asked"] > 50
    assert found["wrong"] == 0, found["what"]


MEMORY = PROCESS + """
import resource
from dataclasses import replace
wrong, failed = [], 0
for name in ("plain", "own ids", "float32"):
    setting = setting_of(name)
    index = setting.index
    index.add(np.random.default_rng(1).standard_normal((20_000, 7), dtype=np.float32),
              10**7 + np.arange(20_000))
    setting = replace(setting, store=inside.store.of(index))
    index.save(path)
    # BLAS, which builds of codes use, crashes where it gets no memory.
    for change in ("add", "replace", "remove", *(["build"] if name == "float32" else [])):
        valid = {answers(index, setting)}
        valid.add(after(setting, change, path))
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        for room in (0, 2**18, 2**20, 2**21, 2**22, 2**23):
            inside.store.restore(index, setting.store)
            try:
                try:
                    resource.setrlimit(resource.RLIMIT_AS, (used + room, resource.RLIM_INFINITY))
                    CHANGES[change](setting, path)
                finally:
                    resource.setrlimit(resource.RLIMIT_AS, (-1, resource.RLIM_INFINITY))
            except MemoryError:
                failed += 1
            if answers(index, setting) not in valid:
                wrong.append((name, change, room))
        inside.store.restore(index, setting.store)
give(wrong=len(wrong), failed=failed, what=np.array([str(wrong)]))
"""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="no limits of memory here")
def test_memory_that_runs_out(
    run_python: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Else malloc takes from what it gave back before, or reserved for threads.
    for name, value in (("ARENA_MAX", "1"), ("MMAP_THRESHOLD_", "65536"),
                        ("TRIM_THRESHOLD_", "65536")):
        monkeypatch.setenv(f"MALLOC_{name}", value)
    found = run_python(MEMORY.replace("{path!r}", repr(str(tmp_path / "index"))), timeout=600)
    assert found["wrong"] == 0, found["what"]
    assert found["failed"] > 0


FORKS = PROCESS + """
rng = np.random.default_rng(0)
rows = rng.standard_normal((6000, 12), dtype=np.float32)
index = farann.Index(cells=16)
index.add(rows[:5000])
index.build()
index.add(rows[5000:])
gone = index.search_furthest(rows[:50], 3).ids
expected = [index.search_furthest(rows[:50], 3, threads=2).ids,
            index.search_furthest(rows[:50], 3, exclude=gone).ids, index.score(rows[:9], gone[0])]
over, begun = threading.Event(), threading.Event()
def build():
    while not over.is_set():
        begun.set()
        index.build()
thread = threading.Thread(target=build)
thread.start()
begun.wait()
statuses = []
for _ in range(children):
    child = os.fork()
    if child == 0:
        status = 1
        try:
            found = [index.search_furthest(rows[:50], 3, threads=2).ids,
                     index.search_furthest(rows[:50], 3, exclude=gone).ids,
                     index.score(rows[:9], gone[0])]
            assert all(map(np.array_equal, found, expected))
            index.remove(index.ids[:9])
            assert len(index) == 5991
            status = 0
        finally:
            os._exit(status)
    statuses.append(os.waitpid(child, 0)[1])
over.set()
thread.join()
give(statuses=statuses)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_children_forked_during_a_build(run_python: Callable[..., Any], tmp_path: Path) -> None:
    children = 200 if STRIDE == 1 else 25
    code = FORKS.replace("{path!r}", repr(str(tmp_path / "index")))
    told = run_python(f"children = {children}\n" + code, timeout=900)
    found: NDArray[np.int64] = told["statuses"]
    assert found.tolist() == [0] * children
