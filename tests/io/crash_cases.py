"""A recorder of what a save asks of the file system, and the states a power cut may leave.

The model is what POSIX promises and no more. What was written to a file, or set on it, is on disk
for sure once `fsync` of that file has returned; before that, any sector may have any of the
contents it had since, whatever the order of the writes, and the length too. A change of a folder
is on disk once `fsync` of the folder has returned; before that any subset of the changes may be
there, of a rename also its one half.
"""

from __future__ import annotations

import contextlib
import fcntl
import io
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import inside
import numpy as np
import pytest

SECTOR = 512  # bytes that a disk writes as a whole
UNKNOWN = ("rename", "renames", "link", "symlink", "truncate", "ftruncate", "write", "pwrite",
           "writev", "pwritev", "chmod", "chown", "remove", "rmdir", "mkdir", "sendfile",
           "copy_file_range", "posix_fallocate", "fdatasync", "sync")
# Of `os`, what a recorder does itself, and what changes a file's mode.
REPLACED, CHANGES = ("open", "fsync", "replace", "unlink"), ("fchmod", "fchown")


class Event(NamedTuple):
    """One step of a save; what is in ``facts`` depends on the kind."""

    kind: str  # create, write, mode, lock, sync, rename, unlink, sync folder, returned
    file: int = -1
    facts: tuple[Any, ...] = ()


@dataclass
class Disk:
    """Files by number, with their content and mode, and the folder that names them."""

    files: dict[int, tuple[bytes, int]]
    names: dict[str, int]

    def seen(self) -> dict[str, tuple[bytes, int]]:
        return {name: self.files[file] for name, file in self.names.items()}

    @classmethod
    def of(cls, folder: Path) -> Disk:
        names = {name: number for number, name in enumerate(sorted(os.listdir(folder)))}
        files = {number: ((folder / name).read_bytes(), mode_of(folder / name))
                 for name, number in names.items()}
        return cls(files, names)


def mode_of(file: Path | int) -> int:
    return stat.S_IMODE(os.stat(file).st_mode)


class Noted(io.FileIO):
    """A file that tells what is written to it."""

    def __init__(self, recorder: Recorder, path: Any, mode: str, opener: Any) -> None:
        self.recorder = recorder
        super().__init__(path, mode, opener=opener)

    def write(self, data: Any) -> int:
        start = self.tell()
        count = super().write(data)
        assert count is not None
        self.recorder.note("write", self.fileno(), start, bytes(memoryview(data)[:count]))
        return count

    def truncate(self, *_: Any) -> int:
        raise AssertionError("not in the model")


class Recorder:
    """Does what `os` does to the files of a folder, and notes it."""

    def __init__(self, folder: Path, events: list[Event]) -> None:
        self.folder, self.events = folder, events
        self.numbers = Disk.of(folder).names
        self.opened: dict[int, int] = {}  # file by descriptor; -1 is the folder
        self.fresh = iter(range(len(self.numbers), 1000))
        self.real = {name: getattr(os, name) for name in (*REPLACED, *CHANGES)}
        self.real_lock = fcntl.flock

    def note(self, kind: str, descriptor: int, *facts: Any) -> None:
        self.events.append(Event(kind, self.opened[descriptor], facts))

    def open(self, path: Any, flags: int, *mode: Any, **options: Any) -> int:
        descriptor: int = self.real["open"](path, flags, *mode, **options)
        name = os.path.basename(path)
        if os.path.samefile(path, self.folder):
            self.opened[descriptor] = -1
        elif flags & os.O_CREAT:
            assert flags & os.O_EXCL, "only a new file is made"
            self.numbers[name] = self.opened[descriptor] = next(self.fresh)
            self.note("create", descriptor, name, mode_of(descriptor))
        else:
            assert not flags & os.O_TRUNC
            self.opened[descriptor] = self.numbers[name]
        return descriptor

    def open_noted(self, path: Any, mode: str, opener: Any = None, buffering: int = -1) -> Any:
        if mode == "rb":
            return open(path, mode, opener=opener)
        noted = Noted(self, path, mode, opener or self.open)
        return noted if buffering == 0 else io.BufferedRandom(noted)

    def fsync(self, descriptor: int) -> None:
        self.real["fsync"](descriptor)
        if self.opened[descriptor] < 0:
            self.events.append(Event("sync folder"))
        else:
            self.note("sync", descriptor)

    def replace(self, source: str, target: str) -> None:
        self.real["replace"](source, target)
        old, new = os.path.basename(source), os.path.basename(target)
        self.numbers[new] = self.numbers.pop(old)
        self.events.append(Event("rename", self.numbers[new], (old, new)))

    def unlink(self, path: str) -> None:
        self.real["unlink"](path)
        name = os.path.basename(path)
        self.events.append(Event("unlink", self.numbers.pop(name), (name,)))

    def changing(self, name: str) -> Any:
        def change(descriptor: int, *values: int) -> None:
            self.real[name](descriptor, *values)
            self.note("mode", descriptor, mode_of(descriptor))
        return change

    def flock(self, file: int, how: int) -> None:
        self.real_lock(file, how)
        self.note("lock", file)


def _unknown(*_: Any, **__: Any) -> None:
    raise AssertionError("not in the model")


@contextlib.contextmanager
def recorded(folder: Path, events: list[Event]) -> Iterator[None]:
    """Note what is done to the files of a folder; anything not in the model is an error."""
    recorder = Recorder(folder, events)
    with pytest.MonkeyPatch.context() as patch:
        for name in UNKNOWN:
            patch.setattr(os, name, _unknown, raising=False)
        for name in REPLACED:
            patch.setattr(os, name, getattr(recorder, name))
        for name in CHANGES:
            patch.setattr(os, name, recorder.changing(name))
        patch.setattr(fcntl, "flock", recorder.flock)
        for name in ("files_open", "frames_open"):
            patch.setattr(inside.settings, name, recorder.open_noted, raising=False)
        yield


def crashes(before: Disk, events: list[Event], seed: int, samples: int) -> Iterator[Disk]:
    """States after a crash that comes after these events: the extreme ones, then some at random."""
    rng = np.random.default_rng(seed)
    for names, data in ((0, 0), (0, 1), (1, 0), (1, 1)):
        yield _crash(before, events, rng, names, data)
    for _ in range(samples):
        yield _crash(before, events, rng, None, None)


def _crash(before: Disk, events: list[Event], rng: np.random.Generator, names: int | None,
           data: int | None) -> Disk:
    """One state: of what was not synced all is kept (1), nothing (0), or some (None)."""
    def kept(wish: int | None) -> bool:
        return bool(rng.integers(2)) if wish is None else bool(wish)

    disk = Disk(dict(before.files), dict(before.names))
    synced = max((at for at, event in enumerate(events) if event.kind == "sync folder"), default=-1)
    for at, event in enumerate(events):
        if event.kind in ("create", "rename", "unlink"):
            _enter(disk, event, at < synced, lambda: kept(names))
    for file in {event.file for event in events if event.file >= 0}:
        own = [event for event in events if event.file == file]
        last = max((at for at, event in enumerate(own) if event.kind == "sync"), default=-1)
        content, mode = before.files.get(file, (b"", 0))
        for event in own[: last + 1]:
            content, mode = _written(content, mode, event)
        contents, modes = [content], [mode]
        for event in own[last + 1 :]:
            content, mode = _written(content, mode, event)
            contents.append(content)
            modes.append(mode)
        # A file has the mode it was made with from the beginning.
        modes = [mode for mode in modes if mode] or [mode]
        if data is None:
            mode = modes[int(rng.integers(len(modes)))]
            disk.files[file] = _torn(contents, rng), mode
        else:
            disk.files[file] = contents[-data], modes[-data]
    return disk


def _enter(disk: Disk, event: Event, surely: bool, kept: Any) -> None:
    if event.kind == "unlink":
        if surely or kept():
            disk.names.pop(event.facts[0], None)
        return
    if event.kind == "rename" and (surely or kept()):
        disk.names.pop(event.facts[0], None)
    if surely or kept():
        disk.names[event.facts[-1] if event.kind == "rename" else event.facts[0]] = event.file


def _written(content: bytes, mode: int, event: Event) -> tuple[bytes, int]:
    if event.kind == "create":
        return content, event.facts[1]
    if event.kind == "mode":
        return content, event.facts[0]
    if event.kind == "write":
        start, data = event.facts
        content = content.ljust(start, b"\0")
        content = content[:start] + data + content[start + len(data) :]
    return content, mode


def _torn(contents: list[bytes], rng: np.random.Generator) -> bytes:
    """Sectors of different ages, in a file of the length it had at some time."""
    length = len(contents[int(rng.integers(len(contents)))])
    ages = rng.integers(len(contents), size=-(-length // SECTOR))
    sectors = (contents[age][at * SECTOR : (at + 1) * SECTOR].ljust(SECTOR, b"\0")
               for at, age in enumerate(ages))
    return b"".join(sectors)[:length]


def replayed(before: Disk, events: list[Event]) -> Disk:
    """What is there when nothing goes wrong."""
    return _crash(before, events, np.random.default_rng(0), 1, 1)
