"""A power cut during a save: whatever was not forced to disk is lost, torn or out of order.

`crash_cases` records two saves over an old index and makes up the states that a power cut after
each of their steps may leave. In each, the file is the old index or the new one, and the next
save works. Without any of the steps that make it so the same search finds states that are bad.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import inside
import numpy as np
import pytest
from cases import index_of

import farann

pytest.importorskip("fcntl")

from crash_cases import Disk, Event, crashes, mode_of, recorded, replayed

MODE = 0o640
SAMPLES = 30  # states at random after each step, which is enough to find what is bad
NAME = "index.farann"
OLD_TEMPORARY = f".farann-{zlib.crc32(NAME.encode()):08x}-0123456789abcdef.tmp"


def index_number(number: int) -> farann.Index:
    rows = np.random.default_rng(number).standard_normal((1000, 16)).astype(np.float32)
    return index_of(rows, ("l2", "dot", "cosine", "l2")[number]).build()


class Record(NamedTuple):
    """What was on disk, what two saves did, and the file before, between and after them."""

    before: Disk
    events: list[Event]
    contents: list[bytes | None]


def record(folder: Path, first: bool) -> Record:
    folder.mkdir()
    path, contents = folder / NAME, list[bytes | None]([None])
    if not first:
        index_number(0).save(path)
        path.chmod(MODE)
        contents = [path.read_bytes()]
    (folder / OLD_TEMPORARY).write_bytes(b"what a killed save left")
    (folder / OLD_TEMPORARY).chmod(0o600)
    before, events = Disk.of(folder), list[Event]()
    indexes = index_number(1), index_number(2)
    with recorded(folder, events):
        for index in indexes:
            index.save(path)
            events.append(Event("returned"))
            contents.append(path.read_bytes())
    # Nothing was done that the recorder did not see.
    assert replayed(before, events).seen() == Disk.of(folder).seen()
    return Record(before, events, contents)


@pytest.fixture(scope="module")
def over_old(tmp_path_factory: pytest.TempPathFactory) -> Record:
    return record(tmp_path_factory.mktemp("crash") / "over", False)


@pytest.fixture(scope="module")
def from_none(tmp_path_factory: pytest.TempPathFactory) -> Record:
    before = os.umask(0o022)
    try:
        return record(tmp_path_factory.mktemp("crash") / "new", True)
    finally:
        os.umask(before)


def faults(
    recording: Record,
    events: list[Event],
    also: Callable[[dict[str, tuple[bytes, int]], bytes | None], None] = lambda *_: None,
    samples: int = SAMPLES,
) -> set[str]:
    """What is bad in the states that crashes may leave; ``also`` checks each of the others.

    ``also`` takes the files by name with content and mode, and the content of the index file.
    """
    found, known = set(), set()
    first = recording.contents[0] is None
    expected_mode = 0o644 if first else MODE
    for length in range(len(events) + 1):
        returned = sum(event.kind == "returned" for event in events[:length])
        allowed = recording.contents[returned : returned + 2]
        for disk in crashes(recording.before, events[:length], length, samples):
            files = disk.seen()
            content, mode = files.get(NAME, (None, expected_mode))
            if content is None and None not in allowed:
                found.add("the index is gone")
            elif content not in allowed:
                older = content in recording.contents
                found.add("a save that had returned is lost" if older else "the index is torn")
            elif mode != expected_mode:
                found.add("the mode has changed")
            elif any(mode & ~expected_mode for _, mode in files.values()):
                found.add("more may read it")
            else:
                state = frozenset(files.items())
                if state not in known:
                    also(files, content)
                known.add(state)
    assert found or len(known) > 20
    return found


def without(events: list[Event], kind: str) -> list[Event]:
    kept = [event for event in events if event.kind != kind]
    assert len(kept) < len(events)
    return kept


def moved_behind(events: list[Event], kind: str, other: str) -> list[Event]:
    """Move each event of a kind behind the next of another kind."""
    moved, waiting = [], []
    for event in events:
        if event.kind == kind:
            waiting.append(event)
            continue
        moved.append(event)
        if event.kind == other:
            moved += waiting
            waiting = []
    assert not waiting and moved != events
    return moved


def test_what_a_save_does(over_old: Record, from_none: Record) -> None:
    """The order that saving.md promises; the last lock and unlink are of what was swept."""
    for recording in (over_old, from_none):
        steps = [event.kind for event in recording.events]
        first = steps[: steps.index("returned")]
        second = steps[len(first) + 1 : -1]
        short = [kind for at, kind in enumerate(first) if kind != "write" or first[at - 1] != kind]
        modes = ["mode"] if recording is over_old else []
        assert short == ["lock", "unlink", "create", "lock", *modes, "write", "sync", "rename",
                         "sync folder"]
        assert second[:3] == ["create", "lock", "mode"] and steps[-1] == "returned"
        # Enough of them that they can come in another order.
        assert first.count("write") >= 2


def test_any_crash_leaves_the_old_or_the_new(
    over_old: Record, from_none: Record, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Load and save again are asked for real; only that disks are waited for is left out."""
    later = index_number(3)
    later.save(tmp_path / NAME)
    latest = (tmp_path / NAME).read_bytes()
    ids = {content: index_number(number).search_furthest(np.ones(16)).ids.tolist()
           for number, content in [*enumerate(over_old.contents), (3, latest)]}
    (tmp_path / NAME).unlink()
    path = tmp_path / NAME
    monkeypatch.setattr(os, "fsync", lambda _: None)

    def goes_on(files: dict[str, tuple[bytes, int]], content: bytes | None) -> None:
        for name, (data, mode) in files.items():
            (tmp_path / name).write_bytes(data)
            (tmp_path / name).chmod(mode)
        if content is not None:
            for mmap in (False, True):
                index = farann.Index.load(path, mmap=mmap)
                assert index.search_furthest(np.ones(16)).ids.tolist() == ids[content]
        later.save(path)
        assert path.read_bytes() == latest
        assert content is None or mode_of(path) == files[NAME][1]
        assert os.listdir(tmp_path) == [NAME]
        path.unlink()

    for recording in (over_old, from_none):
        assert faults(recording, recording.events, goes_on, 2 * SAMPLES) == set()


def test_what_each_step_is_for(over_old: Record, from_none: Record) -> None:
    """Without one of them, or in another order, a crash does harm, and it is found."""
    for recording in (over_old, from_none):
        events = recording.events
        assert "the index is torn" in faults(recording, without(events, "sync"))
        assert "the index is torn" in faults(recording, moved_behind(events, "sync", "rename"))
        lost = faults(recording, without(events, "sync folder"))
        assert lost and lost <= {"a save that had returned is lost", "the index is gone"}
    events = over_old.events
    removed = [step for event in events for step in (
        (Event("unlink", facts=(NAME,)), event) if event.kind == "rename" else (event,))]
    assert "the index is gone" in faults(over_old, removed)
    assert faults(over_old, moved_behind(events, "mode", "sync")) == {"the mode has changed"}
    wide = [event._replace(facts=(event.facts[0], 0o644)) if event.kind == "create" else event
            for event in events]
    assert "more may read it" in faults(over_old, wide)


@pytest.mark.parametrize("left_out", ["fsync", "sync_folder"])
def test_a_save_without_it_is_found(
    left_out: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As above, with the step taken out of the code, not out of what was recorded."""
    if left_out == "fsync":
        real = os

        class WithoutSync:
            def __getattr__(self, name: str) -> object:
                return (lambda _: None) if name == "fsync" else getattr(real, name)

        monkeypatch.setattr(inside.settings, "files_os", WithoutSync())
    else:
        monkeypatch.setattr(inside.settings, left_out, lambda _: None)
    recording = record(tmp_path / "without", False)
    assert faults(recording, recording.events)
