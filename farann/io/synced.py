"""An index that is synced to a file: changes go there as frames, and `reload` takes them."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol, TypeVar

from farann.contract import FormatError
from farann.io import container, delta, frames, index_file
from farann.io.container import Content
from farann.io.delta import Mark
from farann.io.files import StrPath
from farann.io.frames import Place, Writer
from farann.runtime.progress import log
from farann.store.live import Live
from farann.store.store import Store

_MOST_FRAMES = 1024  # frames of a file: each takes a third of a millisecond to load
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
_LEAST_FRAMES = 1 << 20  # bytes of frames that are no reason to write the file anew
Sections = Mapping[str, Any]
Kind = TypeVar("Kind", bound="HasLive")


class HasLive(Protocol):
    """An index, which this module may not import."""

    _live: Live


class Synced(NamedTuple):
    """The file that an index was last loaded from or synced to, and what is in it."""

    path: str
    place: Place
    mark: Mark
    whole: int  # bytes of the content before all frames
    mapped: bool = False  # as it was loaded
    has_more: bool = False  # whether it has sections beside the index
    writer: Writer | None = None

    def close(self) -> None:
        """Let others write to the file."""
        if self.writer is not None:
            self.writer.close()


class Beside(NamedTuple):
    """Sections that a file has beside the index: all there are, and what changed."""

    whole: Callable[[], Sections] = dict
    changes: Callable[[], Sections] = dict


NOTHING = Beside()


def load(path: StrPath, mapped: bool, read: tuple[str, ...],
         restored: Callable[..., Kind]) -> tuple[Kind, list[Sections]]:
    """An index from a file and its frames, and the sections of all these."""
    name = os.fsdecode(path)
    (metadata, arrays), changes, place = frames.read_file(path, mmap=mapped, read=read)
    try:
        index = restored(metadata, arrays, checked=not mapped)
        live = index._live
        live.store = _applied(live.store, changes)
    except FormatError as error:
        raise FormatError(f"{name}: {error}") from None
    live.synced = Synced(os.path.realpath(name), place, delta.mark_of(live.store),
                         container.length_of(place.first), mapped, "documents" in arrays)
    return index, [arrays, *(sections for _, sections in changes)]


def _applied(store: Store | None, changes: list[Content], before: int = 0) -> Store | None:
    for number, (metadata, arrays) in enumerate(changes, before):
        try:
            store = delta.applied(store, metadata, arrays)
        except FormatError as error:
            raise FormatError(f"frame {number}: {error}") from None
    return store


def save(live: Live, path: StrPath) -> None:
    """Write a file whole; a file that the index is synced to stays that."""
    state, name = live.synced, os.path.realpath(os.fsdecode(path))
    if state is None or state.path != name:
        container.write_file(path, *index_file.sections_of(live))
        return
    with live._lock:  # a change meanwhile would be in the file, and in the next frame again
        state = live.synced or state
        _check_nothing_lost(state, NOTHING)
        if os.name == "nt":
            state.close()  # Windows replaces no open file
        mark, (metadata, arrays) = delta.mark_of(live.store), index_file.sections_of(live)
        header = container.write_file(path, metadata, arrays)
        state.close()
        live.synced = Synced(name, frames.begin(header), mark, container.length_of(header),
                             state.mapped)


def sync(live: Live, path: StrPath, beside: Beside, *, over: bool = False) -> None:
    """Append to a file what changed since it was loaded or synced; else write it whole.

    `over` replaces what others wrote to it, or write; otherwise that is an error.
    """
    name = os.path.realpath(os.fsdecode(path))
    with live._lock:
        state = live.synced
        if state is not None and state.path != name:
            state.close()
            state = None
        if state is not None:
            _check_nothing_lost(state, beside)
        try:
            writer = _writer_of(state, name)
        except (BlockingIOError, ValueError):
            if not over:
                raise
            state = writer = None
        try:
            live.synced = _synced(live, name, state, writer, beside)
        except BaseException:
            if writer is not None and (state is None or writer is not state.writer
                                       or writer.in_doubt):
                writer.close()
            if writer is not None and writer.in_doubt:
                live.synced = None  # so that the next sync writes the file whole
            raise


def _check_nothing_lost(state: Synced, beside: Beside) -> None:
    if state.has_more and beside is NOTHING:
        raise ValueError(f"path: {state.path!r} has documents beside the index, which would be "
                         "lost; change it by the store that wrote it")


def _writer_of(state: Synced | None, name: str) -> Writer | None:
    """A writer that has the lock of the file; None where there is no file."""
    writer = None if state is None else state.writer
    if writer is not None and state is not None:
        if writer.holds(state.place):
            return writer
        writer.close()
    if not os.path.exists(name):
        return None
    writer = Writer(name)
    if state is not None and not writer.holds(state.place):
        writer.close()
        raise ValueError(f"path: {name!r} was changed by others since this index was loaded from "
                         "it or synced to it; reload() takes their changes, save() replaces them")
    return writer


def _synced(live: Live, name: str, state: Synced | None, writer: Writer | None,
            beside: Beside) -> Synced:
    """Write what changed, and return the new state."""
    mark, changes = delta.mark_of(live.store), None
    if state is not None and writer is not None:
        state = state._replace(writer=writer)
        changes = delta.delta_of(state.mark, live.store)
        if changes is not None:
            metadata, arrays = changes
            changes = metadata, {**arrays, **beside.changes()}
            if not any(changes):
                return state
            if container.is_current(state.place.first) and state.place.number < _MOST_FRAMES and (
                    state.place.end - state.whole <= max(state.whole, _LEAST_FRAMES)):
                return _appended(state, mark, *changes)
    metadata, arrays = index_file.sections_of(live)
    if os.name == "nt" and writer is not None:
        writer.close()  # Windows replaces no open file
    try:
        header = container.write_file(name, metadata, {**arrays, **beside.whole()})
    except OSError as error:
        # Nobody may replace it, as on Windows while it is open, or there is no room for two.
        refused = isinstance(error, PermissionError) or error.errno in _NO_ROOM
        if changes is None or state is None or not refused:
            raise
        log().info("%s can't be replaced now, and gets longer", name)
        if os.name == "nt":
            state = state._replace(writer=_writer_of(state._replace(writer=None), name))
        return _appended(state, mark, *changes)
    if writer is not None:
        writer.close()
    writer = None
    with contextlib.suppress(OSError):  # another one was faster; the next sync sees that
        writer = Writer(name)
    log().debug("wrote %r whole", name)
    return Synced(name, frames.begin(header), mark, container.length_of(header),
                  has_more=beside is not NOTHING, writer=writer)


def _appended(state: Synced, mark: Mark, metadata: dict[str, Any], arrays: Sections) -> Synced:
    assert state.writer is not None
    place = state.writer.append(state.place, metadata, arrays)
    return state._replace(place=place, mark=mark)


def reload(live: Live, load: Callable[..., tuple[HasLive, list[Sections]]]) -> bool:
    """Take over what others wrote to the file; return whether there was anything."""
    with live._lock:
        store, state = live.store, live.synced
        if state is None:
            raise ValueError("reload: expected an index that was loaded from a file, or synced to "
                             "one")
        if not state.mark.has_rows_of(store):
            raise ValueError("reload: expected an index without changes of its own; sync or save "
                             "it, or load the file anew")
        since = frames.frames_since(state.path, state.place)
        if since is not None and not since[0]:
            return False
        if since is not None and state.mark.is_build_of(store):
            changes, place = since
            try:
                new = _applied(store, changes, state.place.number)
            except FormatError as error:
                raise FormatError(f"{state.path}: {error}") from None
            live.store, live.synced = new, state._replace(place=place, mark=delta.mark_of(new))
            return True
        other = load(state.path, mmap=state.mapped)[0]._live
        if other.spec != live.spec:
            raise ValueError(f"reload: {state.path!r} now has an index of another kind; load it")
        state.close()
        live.store, live.synced = other.store, other.synced
        return True
