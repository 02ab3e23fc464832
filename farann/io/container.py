"""Files of named numpy arrays and one JSON section; the layout is in ``docs/format.md``.

The bytes come from strangers: nothing read from them is trusted before it is checked, no
memory is asked for beyond what the file itself holds, and every fault is a `FormatError`.
"""

from __future__ import annotations

import contextlib
import io
import math
import os
import zlib
from collections.abc import Iterable, Iterator, Mapping
from mmap import ACCESS_READ, ALLOCATIONGRANULARITY
from mmap import mmap as map_file
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray

from farann.contract import FormatError
from farann.contract.row_types import empty_rows
from farann.io.files import open_regular, replacing
from farann.io.metadata import check_metadata_size, decode_metadata, encode_metadata
from farann.io.sections import (
    CHECKSUM,
    DTYPES,
    ENTRY,
    HEADER,
    JSON,
    MAGIC,
    MAX_NDIM,
    MAX_SECTIONS,
    NAME,
    TABLE_START,
    VERSION,
    Section,
    aligned,
    read_table,
    too_large,
)

__all__ = [
    "ArrayChunks",
    "FormatError",
    "read_bytes",
    "read_file",
    "verify_file",
    "write_bytes",
    "write_file",
]

LARGE = 1 << 20  # bytes from which `read_file` maps a section instead of reading it
CHUNK = 1 << 20  # bytes written or checked at a time


class ArrayChunks(NamedTuple):
    """An array handed over piece by piece, so that it never has to exist as a whole.

    Parameters
    ----------
    dtype : dtype
        Of the array and of every chunk.
    shape : tuple of int
        Of the whole array.
    chunks : iterable of ndarray
        Their elements, one after the other, are the array's elements in C order. A chunk is
        done with when the next one is asked for, so one buffer may serve them all.

    Examples
    --------
    >>> rows = np.arange(12, dtype=np.float32).reshape(6, 2)
    >>> even = ArrayChunks(np.float32, (3, 2), (rows[i : i + 1] for i in range(0, 6, 2)))
    >>> read_bytes(write_bytes({}, {"rows": even}))[1]["rows"].tolist()
    [[0.0, 1.0], [4.0, 5.0], [8.0, 9.0]]
    """

    dtype: DTypeLike
    shape: tuple[int, ...]
    chunks: Iterable[NDArray[Any]]


def write_file(
    path: str | os.PathLike[str],
    metadata: Mapping[str, Any],
    arrays: Mapping[str, NDArray[Any] | ArrayChunks],
) -> None:
    """Write a file, wholly or not at all.

    The bytes go to a temporary file beside ``path``, are forced to disk, and only then take
    the place of what was there. After a failure the old file is as it was. The new file has
    the mode and, where allowed, the owner and group of the old one. A symbolic link stays, and
    what it points to is replaced.

    Parameters
    ----------
    path : str or path-like
        Where to; replaced if it is a file.
    metadata : mapping
        Anything JSON can say, with finite numbers; at most 1 MiB as text.
    arrays : mapping of str to ndarray or ArrayChunks
        Integer and floating-point arrays of at most 6 dimensions. Names consist of at most 48
        ASCII letters, digits, ``_``, ``.`` and ``-``; ``metadata`` is taken.

    Raises
    ------
    TypeError, ValueError
        For content that the format cannot hold.
    OSError
        If the file cannot be written, or ``path`` is a directory, FIFO, socket or device.
    """
    with replacing(path) as stream:
        _write(stream, metadata, arrays)


def write_bytes(
    metadata: Mapping[str, Any], arrays: Mapping[str, NDArray[Any] | ArrayChunks]
) -> bytes:
    """Return the bytes that `write_file` would write."""
    stream = io.BytesIO()
    _write(stream, metadata, arrays)
    return stream.getvalue()


def read_file(
    path: str | os.PathLike[str], *, mmap: bool = False
) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """Read a file back.

    Parameters
    ----------
    path : str or path-like
        The file.
    mmap : bool
        Leave sections of 1 MiB and more on disk and map them into memory. Those are not
        checked against their checksums (see `verify_file`), and all arrays are read-only.
        As long as one of them lives, the file must not be shortened or written in place;
        replacing it, as `write_file` does, is safe (Windows refuses to).

    Returns
    -------
    metadata : dict
    arrays : dict of str to ndarray
        In native byte order.

    Raises
    ------
    FormatError
        If the file is not a farann file, or is truncated, altered or of a newer version.
    OSError
        If the file cannot be opened or read, or is a directory, FIFO, socket or device.
    """
    with _opened(path) as stream:
        return _read(stream, mapped=mmap)


def read_bytes(
    data: bytes | bytearray | memoryview,
) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """Read what `write_bytes` returned; the arrays are copies.

    Examples
    --------
    >>> read_bytes(write_bytes({"unit": "m"}, {"ids": np.arange(3)}))
    ({'unit': 'm'}, {'ids': array([0, 1, 2])})
    """
    return _read(io.BytesIO(data), mapped=False)


def verify_file(path: str | os.PathLike[str]) -> None:
    """Check every byte of a file, in little memory; errors as in `read_file`."""
    with _opened(path) as stream:
        for section in _sections(stream):
            if section.code == JSON:
                _load_metadata(stream, section)
            else:
                _check(stream, section)


# Writing


def _write(
    stream: io.BufferedIOBase,
    metadata: Mapping[str, Any],
    arrays: Mapping[str, NDArray[Any] | ArrayChunks],
) -> None:
    """Write payloads first, then go back to fill in the table with their checksums."""
    if len(arrays) >= MAX_SECTIONS:
        raise ValueError(f"arrays: expected fewer than {MAX_SECTIONS}, got {len(arrays)}")
    text = np.frombuffer(encode_metadata(metadata), np.uint8)
    parts = [("metadata", JSON, ArrayChunks(text.dtype, text.shape, [text]))]
    parts += [(name, *_storable(name, arrays[name])) for name in sorted(arrays)]
    end = TABLE_START + ENTRY.size * len(parts)
    stream.write(bytes(end))
    table = b""
    for name, code, content in parts:
        offset = aligned(end)
        stream.write(bytes(offset - end))
        nbytes, checksum = _write_payload(stream, name, content)
        table += Section(name, code, content.shape, offset, nbytes, checksum).pack()
        end = offset + nbytes
    header = HEADER.pack(MAGIC, VERSION, len(parts), end)
    stream.seek(0)
    stream.write(header + CHECKSUM.pack(zlib.crc32(header + table)) + table)


def _storable(name: str, content: NDArray[Any] | ArrayChunks) -> tuple[str, ArrayChunks]:
    """Return the dtype code of an array and the array as little-endian chunks."""
    if not NAME.fullmatch(name) or name == "metadata":
        raise ValueError(
            f"arrays: expected names of 1 to 48 ASCII letters, digits, '_', '.', '-' "
            f"other than 'metadata', got {name!r}"
        )
    if isinstance(content, np.ndarray):
        content = ArrayChunks(content.dtype, content.shape, [content])
    elif not isinstance(content, ArrayChunks):
        raise TypeError(
            f"arrays[{name!r}]: expected an ndarray or ArrayChunks, got {type(content).__name__}"
        )
    dtype = np.dtype(content.dtype)
    code = f"{dtype.kind}{dtype.itemsize}"
    if code not in DTYPES:
        raise TypeError(f"arrays[{name!r}]: expected an integer or float dtype, got {dtype}")
    shape = tuple(int(length) for length in content.shape)
    if len(shape) > MAX_NDIM or min(shape, default=0) < 0 or too_large(shape, dtype.itemsize):
        raise ValueError(
            f"arrays[{name!r}]: expected at most {MAX_NDIM} dimensions, none negative, that this "
            f"machine can address, got shape {shape}"
        )
    return code, ArrayChunks(DTYPES[code], shape, content.chunks)


def _write_payload(stream: io.BufferedIOBase, name: str, content: ArrayChunks) -> tuple[int, int]:
    """Write the elements of an array; return how many bytes they took, and their checksum."""
    dtype = np.dtype(content.dtype)
    expected = math.prod(content.shape)
    size = checksum = 0
    for chunk in content.chunks:
        if not np.can_cast(chunk.dtype, dtype, casting="equiv"):
            raise TypeError(f"arrays[{name!r}]: expected chunks of {dtype}, got {chunk.dtype}")
        size += chunk.size
        if size > expected:
            break
        for piece in _pieces(chunk, dtype):
            stream.write(piece)
            checksum = zlib.crc32(piece, checksum)
    if size != expected:
        raise ValueError(
            f"arrays[{name!r}]: expected chunks of {expected} elements in all for shape "
            f"{content.shape}, got {'at least ' if size > expected else ''}{size}"
        )
    return expected * dtype.itemsize, checksum


def _pieces(array: NDArray[Any], dtype: np.dtype[Any]) -> Iterator[memoryview]:
    """Give an array's bytes in C order, a bounded number at a time."""
    if array.size == 0:
        return
    # The iterator copies only where strides or byte order call for it, and then into a buffer.
    pieces = np.nditer(
        array,
        flags=["external_loop", "buffered"],
        order="C",
        op_dtypes=[dtype],
        casting="equiv",
        buffersize=CHUNK // dtype.itemsize,
    )
    with pieces:
        for piece in pieces:
            yield np.ascontiguousarray(piece).view(np.uint8).data


# Reading


@contextlib.contextmanager
def _opened(path: str | os.PathLike[str]) -> Iterator[io.BufferedReader]:
    """Open a file, and name it in what goes wrong with its bytes."""
    with open_regular(path) as stream:
        try:
            yield stream
        except FormatError as error:
            raise FormatError(f"{os.fsdecode(path)}: {error}") from None


def _read(
    stream: io.BufferedIOBase, *, mapped: bool
) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    metadata: dict[str, Any] = {}
    arrays: dict[str, NDArray[Any]] = {}
    for section in _sections(stream):
        if section.code == JSON:
            metadata = _load_metadata(stream, section)
            continue
        large = section.nbytes >= LARGE
        array = _map(stream, section) if mapped and large else _load(stream, section)
        # Nothing is converted, or copied, on a little-endian machine.
        array = array.astype(array.dtype.newbyteorder("="), copy=False)
        array.flags.writeable = not mapped
        arrays[section.name] = array
    return metadata, arrays


def _sections(stream: io.BufferedIOBase) -> Iterator[Section]:
    """Check everything but the payloads; stand at the start of each section's payload."""
    sections = read_table(stream)
    end = sections[0].offset
    for section in sections:
        stream.seek(end)
        if stream.read(section.offset - end).strip(b"\0"):
            raise FormatError(f"section {section.name!r}: the padding before it is not zero")
        yield section
        end = section.offset + section.nbytes


def _check(
    stream: io.BufferedIOBase, section: Section, target: memoryview | None = None
) -> None:
    """Compare a payload with its checksum, and keep the bytes in ``target`` if given."""
    scratch = memoryview(bytearray(0 if target else min(CHUNK, section.nbytes)))
    checksum = 0
    for start in range(0, section.nbytes, CHUNK):
        stop = min(start + CHUNK, section.nbytes)
        piece = target[start:stop] if target else scratch[: stop - start]
        if stream.readinto(piece) != len(piece):
            raise FormatError(f"section {section.name!r}: the file was cut short meanwhile")
        checksum = zlib.crc32(piece, checksum)
    if checksum != section.checksum:
        raise FormatError(f"section {section.name!r} is damaged: wrong checksum")


def _load(stream: io.BufferedIOBase, section: Section) -> NDArray[Any]:
    """Read an array."""
    array = empty_rows(section.shape, DTYPES[section.code])
    _check(stream, section, array.reshape(-1).view(np.uint8).data)
    return array


def _map(stream: io.BufferedIOBase, section: Section) -> NDArray[Any]:
    """Map an array into memory, unread and unchecked."""
    lead = section.offset % ALLOCATIONGRANULARITY
    try:
        mapping = map_file(
            stream.fileno(),
            lead + section.nbytes,
            access=ACCESS_READ,
            offset=section.offset - lead,
        )
    except ValueError:
        raise FormatError(f"section {section.name!r}: the file was cut short meanwhile") from None
    dtype = DTYPES[section.code]
    count = section.nbytes // dtype.itemsize
    return np.frombuffer(mapping, dtype, count, lead).reshape(section.shape)


# Both ways


def _load_metadata(stream: io.BufferedIOBase, section: Section) -> dict[str, Any]:
    check_metadata_size(section.nbytes)
    payload = bytearray(section.nbytes)
    _check(stream, section, memoryview(payload))
    return decode_metadata(bytes(payload))


