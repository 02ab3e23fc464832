"""Synced files after kills, full disks, power cuts, cuts and flipped bits: each is the index as it
was after one of its syncs, or is refused."""

from __future__ import annotations

import errno
import io
from pathlib import Path
from typing import Any

import inside
import pytest

pytest.importorskip("fcntl")

from crash_cases import Disk, Event, crashes, recorded, replayed
from sync_cases import begun, seen, steps, synced

import farann

N_SYNCS = 5


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "synced.farann"


def state_of(path: Path, mmap: bool = False) -> tuple[Any, ...]:
    with farann.Index.load(path, mmap=mmap) as index:
        return seen(index)


def test_a_file_that_is_cut(path: Path) -> None:
    """It opens as it was after one of its syncs, or, if the first is cut, not at all."""
    states = synced(path, N_SYNCS)
    whole = path.read_bytes()
    base = inside.files.content_length(path)
    found = []
    edges = [at + i for at in range(0, len(whole), 4096) for i in (0, 1, 63, 64, 65)]
    for length in sorted({*range(0, len(whole), 331), base - 1, base, *edges, len(whole) - 1}):
        path.write_bytes(whole[:length])
        if length < base:
            with pytest.raises(farann.FormatError):
                farann.Index.load(path, mmap=True)
            continue
        state = state_of(path, mmap=bool(length % 2))
        assert state in states
        found.append(states.index(state))
    assert found == sorted(found) and set(found) == set(range(N_SYNCS))


def test_flipped_bits(path: Path) -> None:
    """All are found: here each of headers, and one of every 23rd byte."""
    synced(path, 3)
    whole, base = path.read_bytes(), inside.files.content_length(path)
    for at in range(len(whole)):
        in_header = at < 64 or (at > base and at % 4096 < 64)
        for bit in range(8) if in_header else [at % 8] if at % 23 == 0 else []:
            changed = bytearray(whole)
            changed[at] ^= 1 << bit
            path.write_bytes(changed)
            with pytest.raises(farann.FormatError):
                inside.files.read_frames(path)


@pytest.mark.parametrize("mmap", [False, True])
def test_damaged_frames(mmap: bool, path: Path) -> None:
    """An index finds them, mapped or not."""
    synced(path, 4)
    whole = path.read_bytes()
    base = inside.files.content_length(path)
    for at in range(-(-base // 4096) * 4096, len(whole), 117):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 4]) + whole[at + 1 :])
        with pytest.raises(farann.FormatError, match=str(path)):
            farann.Index.load(path, mmap=mmap)


def test_frames_of_other_files_and_orders(path: Path) -> None:
    synced(path, 4)
    whole, starts = path.read_bytes(), inside.files.starts_of_frames(path)
    first, second, third = (slice(a, b) for a, b in zip(starts, [*starts[1:], len(whole)],
                                                        strict=True))
    head = whole[: starts[0]]
    for order in ((second, third), (first, third), (second, first, third), (first, first)):
        path.write_bytes(head + b"".join(whole[part] for part in order))
        with pytest.raises(farann.FormatError, match="doesn't follow"):
            farann.Index.load(path)
    other = path.with_name("other")
    synced(other, 2)
    path.write_bytes(head + whole[first] + other.read_bytes()[starts[0] :])
    with pytest.raises(farann.FormatError, match="doesn't follow"):
        farann.Index.load(path)


class Killed(BaseException):
    pass


def failing(patch: pytest.MonkeyPatch, error: BaseException, writes: int, share: float) -> None:
    """Let a write to frames end with an error, when a share of it was written."""
    left = [writes]

    class Failing(io.FileIO):
        def write(self, data: Any) -> int:
            if left[0] == 0:
                super().write(bytes(data)[: int(share * len(data))])
                raise error
            left[0] -= 1
            return super().write(data) or 0

    patch.setattr(inside.settings, "frames_open", lambda path, mode, **_: Failing(
        path, mode.replace("b", "")), raising=False)


@pytest.mark.parametrize("share", [0.0, 0.5])
@pytest.mark.parametrize("error", [Killed(), OSError(errno.ENOSPC, "full")], ids=["kill", "full"])
def test_each_write_may_be_the_last(error: BaseException, share: float, path: Path) -> None:
    """The file is as before or after. Then the index, or whoever loads the file, goes on."""
    writes = 0
    while True:
        index = begun()
        index.sync(path)
        for step, _ in zip(steps(), range(2), strict=False):
            step(index)
            index.sync(path)
        index.close()
        index = farann.Index.load(path)
        before = seen(index)
        index.remove("row 11")
        with pytest.MonkeyPatch.context() as patch:
            failing(patch, error, writes, share)
            try:
                index.sync(path)
            except type(error):
                done = False
            else:
                done = True
        after = seen(index)
        if done:
            index.close()
        if not done and writes == 3 and share:
            # Half a header, which no disk writes: it is found.
            with pytest.raises(farann.FormatError, match="its header is damaged"):
                farann.Index.load(path)
        else:
            assert state_of(path) == (after if done else before)
            other = farann.Index.load(path)
            other.remove("row 12")
            other.sync(path)
            assert state_of(path) == seen(other)
            other.close()
            if not done and writes < 3:
                with pytest.raises(ValueError, match="was changed by others"):
                    index.sync(path)
                index.save(path)
        if done:
            break
        index.remove("row 13")
        index.sync(path)
        assert state_of(path) == seen(index)
        index.close()
        writes += 1
    assert writes == 4


# ---- power cuts, see test_crash_consistency ----

def record(folder: Path) -> tuple[Disk, list[Event], list[tuple[Any, ...]]]:
    """What was on disk, what some syncs did, and what was seen after each."""
    folder.mkdir()
    before, events, states = Disk.of(folder), list[Event](), list[tuple[Any, ...]]()
    index = begun(60)
    with recorded(folder, events):
        for step, _ in zip(steps(60), range(N_SYNCS), strict=False):
            index.sync(folder / "synced.farann")
            events.append(Event("returned"))
            states.append(seen(index))
            step(index)
    index.close()
    assert replayed(before, events).seen() == Disk.of(folder).seen()
    return before, events, states


def faults(record: tuple[Disk, list[Event], list[tuple[Any, ...]]], events: list[Event],
           path: Path, samples: int) -> tuple[set[str], int]:
    """What is bad in the states that power cuts may leave, and the number of these."""
    before, _, states = record
    known, found = dict[bytes, int | None](), set[str]()
    for length in range(len(events) + 1):
        returned = sum(event.kind == "returned" for event in events[:length])
        for disk in crashes(before, events[:length], length, samples):
            content = disk.seen().get("synced.farann", (None, 0))[0]
            if content is None:
                if returned:
                    found.add("gone")
                continue
            if content not in known:
                path.write_bytes(content)
                try:
                    known[content] = states.index(state_of(path, mmap=bool(length % 2)))
                except (farann.FormatError, ValueError):
                    known[content] = None
            at = known[content]
            if at is None:
                found.add("damaged")
            elif not returned - 1 <= at <= returned:
                found.add("a sync that had returned is lost")
    return found, len(known)


def test_power_cuts(tmp_path: Path) -> None:
    recording = record(tmp_path / "folder")
    found, known = faults(recording, recording[1], tmp_path / "state", 12)
    assert found == set() and known > 30


@pytest.mark.parametrize(("left_out", "harm"), [
    (0, "damaged"), (1, "a sync that had returned is lost")])
def test_what_each_sync_is_for(left_out: int, harm: str, tmp_path: Path) -> None:
    """Without the one before the header, or the one behind it, power cuts do harm."""
    recording = record(tmp_path / "folder")
    whole = next(at for at, event in enumerate(recording[1]) if event.kind == "returned")
    events, syncs = recording[1][:whole], 0
    for event in recording[1][whole:]:
        syncs += event.kind == "sync"
        if event.kind != "sync" or syncs % 2 == left_out:
            events.append(event)
    assert harm in faults(recording, events, tmp_path / "state", 12)[0]
