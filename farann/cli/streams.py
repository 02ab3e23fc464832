"""Standard streams: all of the output gets out or the command fails, and nothing moves a cursor."""

from __future__ import annotations

import errno
import io
import os
import re
import select
import sys
from contextlib import suppress
from types import TracebackType
from typing import IO, Any, Self

from farann.io.files import occupy_standard_descriptors

_OUTPUT = "standard output"
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")  # moves a cursor, or ends a line


def printable(value: object, keep: str = "") -> str:
    """A text as a terminal may get it: an id from a stranger's file must not move its cursor.
    Characters of `keep` stay."""
    text = str(value)
    return text if text.isprintable() else "".join(
        one if one.isprintable() or one in keep else one.encode("unicode_escape").decode()
        for one in text)


def without_controls(text: str) -> str:
    """A text of one line, with escapes for characters that move a cursor."""
    return _CONTROL.sub(lambda one: one[0].encode("unicode_escape").decode(), text)


class _Descriptor(io.RawIOBase):
    """Writes to a descriptor; None: it is closed, and each write fails."""

    def __init__(self, descriptor: int | None) -> None:
        self._descriptor, self.given_up = descriptor, False

    def writable(self) -> bool:
        return True

    def isatty(self) -> bool:
        return self._descriptor is not None and os.isatty(self._descriptor)

    def fileno(self) -> int:
        if self._descriptor is None:
            raise io.UnsupportedOperation(f"{_OUTPUT} is closed")
        return self._descriptor

    def write(self, data: Any) -> int:
        if self.given_up:  # or Python would complain of the rest at exit
            return len(data)
        if self._descriptor is None:
            raise OSError(errno.EBADF, "it is closed", _OUTPUT)
        while True:
            try:
                return os.write(self._descriptor, data)
            except BlockingIOError:  # another process has made the pipe so
                select.select([], [self._descriptor], [])
            except OSError as error:
                error.filename = _OUTPUT
                raise


class _OnTerminal(io.RawIOBase):
    """Bytes of UTF-8 as text on a terminal, with escapes for characters that aren't printable."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._stream.write(printable(bytes(data).decode("utf-8", "backslashreplace"), keep="\n\t"))
        return len(data)


class Streams:
    """The standard streams while a command runs.

    Output is buffered by a writer that goes on after a short write and fails where it can't, also
    where Python is told not to buffer. Characters that the console's encoding lacks are escaped.
    Closed streams are ones that fail or, for errors, take all.
    """

    def __init__(self) -> None:
        self._before = sys.stdin, sys.stdout, sys.stderr
        self._raw: _Descriptor | None = None
        self._errors: str | None = None

    def __enter__(self) -> Self:
        if None in self._before:
            occupy_standard_descriptors()  # a file that is opened must not become one of them
        if sys.stderr is None:
            sys.stderr = open(os.devnull, "w", encoding="utf-8")
        out: Any = sys.stdout
        try:
            descriptor = None if out is None else out.fileno()
        except (AttributeError, OSError, ValueError):  # not of a file
            descriptor = -1
        if descriptor == -1 or (os.name == "nt" and out is not None and out.isatty()):
            if isinstance(out, io.TextIOWrapper):
                self._errors = out.errors
                out.reconfigure(errors="backslashreplace")
            return self
        if out is not None:
            out.flush()
        self._raw = _Descriptor(descriptor)
        sys.stdout = io.TextIOWrapper(
            io.BufferedWriter(self._raw), getattr(out, "encoding", "utf-8"), "backslashreplace",
            line_buffering=self._raw.isatty())
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.give_up()
        if self._errors is not None and isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors=self._errors)
        sys.stdin, sys.stdout, sys.stderr = self._before

    def give_up(self) -> None:
        """Write what can be written, and drop the rest."""
        with suppress(OSError):
            sys.stdout.flush()
        if self._raw is not None:
            self._raw.given_up = True
            sys.stdout.flush()


def data_output(binary: bool) -> IO[bytes]:
    """Standard output for data: bytes as they are, on a terminal text alone, and escaped."""
    sys.stdout.flush()
    if not sys.stdout.isatty() and hasattr(sys.stdout, "buffer"):
        return sys.stdout.buffer
    if binary:
        raise ValueError("--output: this format is no text; write it to a file, or to a pipe")
    return _OnTerminal(sys.stdout)  # type: ignore[return-value]
