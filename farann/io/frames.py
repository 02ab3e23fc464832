"""Frames: changes behind the content of a file, each made valid by the write of its header.

A frame begins at a multiple of 4096 bytes, so that no write touches a block with committed bytes.
Its header, of 64 bytes, is zeros until all else is on disk. ``docs/format.md`` has the layout.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import struct
import zlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple, TypeAlias
from weakref import WeakSet

from farann.contract import FormatError
from farann.io import container
from farann.io.container import Arrays, Content
from farann.io.files import StrPath, force, require_regular

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_FRAME_MAGIC = b"\xfaframe\r\n"
# Magic, number, bytes of content, checksums of the header before it and of the content's; then its
# own.
_FRAME_HEADER = struct.Struct("<8sQQII28x")
_CHECKSUM = struct.Struct("<I")
_SIZE = _FRAME_HEADER.size + _CHECKSUM.size
_DISK_BLOCK = 4096  # bytes that disks write as a whole, at most
_LOCKED_BYTE = 1 << 62  # what Windows locks nobody may read, so it is no byte of the file
_READS = 3  # times that a damaged header is read: another process may be writing it


Stream: TypeAlias = io.BufferedIOBase | io.RawIOBase


class Place(NamedTuple):
    """The end of what is committed in a file."""

    number: int  # frames before it
    end: int  # bytes before it
    first: bytes  # the header of the file
    before: bytes  # that of the last frame, or of the file

    @property
    def start(self) -> int:
        """Where the next frame begins."""
        return -(-self.end // _DISK_BLOCK) * _DISK_BLOCK


def read_file(path: StrPath, *, mmap: bool = False,
              read: Iterable[str] = ()) -> tuple[Content, list[Content], Place]:
    """Read a file as `container.read_file` does, and all its frames; those are never mapped."""
    with container.opened(path) as stream:
        content, length = container.read_sections(stream, mapped=mmap, read=read)
        header = _read_at(stream, 0, _SIZE)
        return content, *_all_frames(stream, Place(0, length, header, header))


def frames_since(path: StrPath, place: Place) -> tuple[list[Content], Place] | None:
    """The frames behind a place, and the place behind them; None if the file is another one."""
    with container.opened(path) as stream:
        if not _holds(stream, place):
            return None
        return _all_frames(stream, place)


def _all_frames(stream: io.BufferedIOBase, place: Place) -> tuple[list[Content], Place]:
    all_frames = list(_frames(stream, place))
    return [frame for frame, _ in all_frames], all_frames[-1][1] if all_frames else place


def _holds(stream: Stream, place: Place) -> bool:
    """Whether a file has what was before a place."""
    at = 0 if place.number == 0 else place.end - _SIZE - _content_length(place.before)
    return (_read_at(stream, 0, _SIZE) == place.first
            and _read_at(stream, at, _SIZE) == place.before)


def begin(header: bytes) -> Place:
    """The place behind the content of a file without frames, by its header."""
    return Place(0, container.length_of(header), header, header)


def _content_length(header: bytes) -> int:
    return int(_FRAME_HEADER.unpack_from(header)[2])


def _read_at(stream: Stream, at: int, n: int) -> bytes:
    stream.seek(at)
    return stream.read(n) or b""


def _frames(stream: io.BufferedIOBase, place: Place) -> Iterator[tuple[Content, Place]]:
    """Frames and the places behind them. A file that was cut ends with its last whole frame."""
    while True:
        at, length = place.start, stream.seek(0, os.SEEK_END)
        if _read_at(stream, place.end, at - place.end).strip(b"\0"):
            raise FormatError(f"byte {place.end} to {at}: expected zeros behind what is there")
        header = _header_at(stream, at, place)
        if header is None:
            return
        n = _content_length(header)
        if at + _SIZE + n > length:
            return
        content = _read_at(stream, at + _SIZE, n)
        _, _, _, _, checksum = _FRAME_HEADER.unpack_from(header)
        try:
            if container.checksum_of(content) != checksum:
                raise FormatError("its content isn't that of its header")
            frame = container.read_bytes(content)
        except FormatError as error:
            raise FormatError(f"frame {place.number}: {error}") from None
        place = Place(place.number + 1, at + _SIZE + n, place.first, header)
        yield frame, place


def _header_at(stream: io.BufferedIOBase, at: int, place: Place) -> bytes | None:
    """The header of the frame behind a place; None if there is none, or it was cut."""
    for _ in range(_READS):
        header = _read_at(stream, at, _SIZE)
        if len(header) < _SIZE or not header.strip(b"\0"):
            return None
        magic, number, n, previous, _ = fields = _FRAME_HEADER.unpack_from(header)
        packed = _FRAME_HEADER.pack(*fields)
        if magic == _FRAME_MAGIC and header == packed + _CHECKSUM.pack(zlib.crc32(packed)):
            if number != place.number or previous != zlib.crc32(place.before):
                raise FormatError(f"frame {place.number} doesn't follow what is before it")
            return header
    raise FormatError(f"frame {place.number}: its header is damaged")


class Writer:
    """A file that is open for frames, locked until it is closed; BlockingIOError where another
    writer, of this process or another one, has it open."""

    path: str

    def __init__(self, path: StrPath) -> None:
        self.path, self._process = os.fsdecode(path), os.getpid()
        require_regular(self.path)
        self._stream = open(self.path, "r+b", buffering=0)  # noqa: SIM115 - `close` closes it
        try:
            _lock(self._stream.fileno(), lock=True)
        except OSError as error:
            self._stream.close()
            if error.errno not in (errno.EACCES, errno.EAGAIN, errno.EDEADLK):
                raise
            raise BlockingIOError(errno.EAGAIN, "another index syncs to this file; close it first",
                                  self.path) from None
        _open.add(self)

    def holds(self, place: Place) -> bool:
        """Whether the file still has its name, ends at a place, and this process has its lock."""
        with contextlib.suppress(OSError, ValueError):  # the last where it is closed
            theirs, ours = os.stat(self.path), os.fstat(self._stream.fileno())
            return (self._process == os.getpid() and os.path.samestat(theirs, ours)
                    and _holds(self._stream, place)
                    and not _read_at(self._stream, place.start, _SIZE).strip(b"\0"))
        return False

    def append(self, place: Place, metadata: Mapping[str, Any], arrays: Arrays) -> Place:
        """Append a frame behind a place; return the place behind it, once it is on disk.

        If this fails before the header is written, nothing was appended.
        """
        content = container.write_bytes(metadata, arrays)
        header = _FRAME_HEADER.pack(_FRAME_MAGIC, place.number, len(content),
                                    zlib.crc32(place.before), container.checksum_of(content))
        header += _CHECKSUM.pack(zlib.crc32(header))
        end = place.start + _SIZE + len(content)
        new = Place(place.number + 1, end, place.first, header)
        # Behind it the place of the next header is zeros, whatever a killed writer left there.
        padding = bytes(new.start + _SIZE - new.end)
        self._write(place.end, bytes(place.start + _SIZE - place.end))
        self._write(place.start + _SIZE, content)
        self._write(new.end, padding)
        force(self._stream.fileno())
        self.in_doubt = True
        self._write(place.start, header)
        force(self._stream.fileno())
        self.in_doubt = False
        return new

    in_doubt: bool = False  # whether `append` failed while it wrote the header, which may be there

    def _write(self, at: int, data: bytes) -> None:
        self._stream.seek(at)
        left = memoryview(data)
        while left:
            left = left[self._stream.write(left) or 0 :]

    def close(self) -> None:
        """Close the file, and let others write to it."""
        # Not by closing alone: code of others may have copied the descriptor, and Windows may take
        # its time.
        if not self._stream.closed and self._process == os.getpid():
            with contextlib.suppress(OSError):
                _lock(self._stream.fileno(), lock=False)
        self._stream.close()

    def __del__(self) -> None:
        if "_stream" in self.__dict__:
            self.close()


_open: WeakSet[Writer] = WeakSet()


def _after_fork() -> None:
    """Close files in a forked child: it would keep their locks when its parent is killed."""
    for writer in list(_open):
        writer._stream.close()
    _open.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def _lock(descriptor: int, *, lock: bool) -> None:
    """Lock or unlock a file for this opening of it."""
    if fcntl is not None:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB if lock else fcntl.LOCK_UN)
    else:
        import msvcrt

        os.lseek(descriptor, _LOCKED_BYTE, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK if lock else msvcrt.LK_UNLCK, 1)
