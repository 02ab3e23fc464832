"""Files of named numpy arrays and one JSON section; the layout is in ``docs/format.md``.

The bytes come from strangers: nothing read from them is trusted before it is checked, no
memory is asked for beyond what the file itself holds, and every fault is a `FormatError`.
"""

from __future__ import annotations

import contextlib
import io
import json
import math
import os
import re
import struct
import zlib
from collections.abc import Iterable, Iterator, Mapping
from mmap import ACCESS_READ, ALLOCATIONGRANULARITY
from mmap import mmap as map_file
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import DTypeLike, NDArray

from farann.contract import FormatError
from farann.contract.row_types import empty_rows
from farann.io.files import open_regular, replacing

MAGIC = b"\xfafarann\n"
VERSION = 3
_OLDEST = 2  # version that can be read
_ALIGNMENT = 64  # bytes: each payload begins at a multiple, which is a cache line
_MAX_SECTIONS = 4096  # sections of a file: its table, of 128 bytes each, takes at most 512 KiB
_MAX_NDIM = 6  # dimensions of an array: an entry has room for 6
_MAX_METADATA = 1 << 20  # bytes of JSON, which takes far more room once it is parsed
_LARGE = 1 << 20  # bytes from which `read_file` maps a section instead of reading it
_CHUNK = 1 << 20  # bytes written or checked at a time
_HEADER = struct.Struct("<8sIIQ36x")  # magic, version, sections, file length; then the checksum
_CHECKSUM = struct.Struct("<I")
_ENTRY = struct.Struct(f"<48s4sI{_MAX_NDIM}QQQI4x")  # the fields of _Section
_TABLE_START = _HEADER.size + _CHECKSUM.size
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,48}", re.ASCII)
_JSON = "json"
DTYPES = {code: np.dtype(f"<{code}") for code in (
    "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8")}
_ITEMSIZES = {_JSON: 1, **{code: dtype.itemsize for code, dtype in DTYPES.items()}}


class ArrayChunks(NamedTuple):
    """An array handed over piece by piece, so that it never has to exist as a whole.

    All chunks have its dtype, and their elements, one after the other, are its elements in C order.
    A chunk is done with when the next one is asked for, so one buffer may serve them all.
    """

    dtype: DTypeLike
    shape: tuple[int, ...]
    chunks: Iterable[NDArray[Any]]


Arrays: TypeAlias = Mapping[str, NDArray[Any] | ArrayChunks]
Content: TypeAlias = tuple[dict[str, Any], dict[str, NDArray[Any]]]


def write_file(path: str | os.PathLike[str], metadata: Mapping[str, Any], arrays: Arrays) -> bytes:
    """Write a file, wholly or not at all, and return its header; see `files.replacing`.

    `metadata` is anything JSON can say, with finite numbers, in at most 1 MiB of text. `arrays` are
    of integers or floats in at most 6 dimensions; their names consist of at most 48 ASCII letters,
    digits, ``_``, ``.`` and ``-``, and ``metadata`` is taken. TypeError or ValueError for content
    that the format cannot hold; OSError if the file cannot be written.
    """
    with replacing(path) as stream:
        return _write(stream, metadata, arrays)


def write_bytes(metadata: Mapping[str, Any], arrays: Arrays) -> bytes:
    """Return the bytes that `write_file` would write."""
    stream = io.BytesIO()
    _write(stream, metadata, arrays)
    return stream.getvalue()


def read_file(path: str | os.PathLike[str], *, mmap: bool = False,
              read: Iterable[str] = ()) -> Content:
    """Read a file's metadata and its arrays, in native byte order.

    With `mmap`, sections of 1 MiB and more, but those of `read`, stay on disk, mapped into memory,
    and are not checked against their checksums (see `verify_file`); all arrays are read-only then.
    As long as one of them lives, the file must not be shortened or written in place; replacing it,
    as `write_file` does, is safe (Windows refuses to). FormatError if it is no farann file, or is
    truncated, altered or of another version; OSError if it cannot be read, or is no regular file.
    """
    with opened(path) as stream:
        content, length = read_sections(stream, mapped=mmap, read=read)
        _check_end(stream, length)
        return content


def read_bytes(data: bytes | bytearray | memoryview) -> Content:
    """Read what `write_bytes` returned; the arrays are copies."""
    stream = io.BytesIO(data)
    content, length = read_sections(stream, mapped=False)
    _check_end(stream, length)
    return content


def length_of(header: bytes) -> int:
    """The bytes of content that a header of a file says there are."""
    return int(_HEADER.unpack_from(header)[3])


def is_current(header: bytes) -> bool:
    """Whether the header of a file is of the version that is written."""
    return bool(_HEADER.unpack_from(header)[1] == VERSION)


def checksum_of(data: bytes) -> int:
    """The checksum in the header of what `write_bytes` returned: that of all checksums in it."""
    return int(_CHECKSUM.unpack_from(data, _HEADER.size)[0])


def verify_file(path: str | os.PathLike[str]) -> None:
    """Check every byte of a file, in little memory; errors as in `read_file`."""
    with opened(path) as stream:
        sections, length = _sections(stream)
        _load_metadata(stream, next(sections))
        for section in sections:
            _check(stream, section)
        _check_end(stream, length)


# ---- metadata ----


def encode_metadata(metadata: Mapping[str, Any]) -> bytes:
    """JSON; ValueError or TypeError for what it can't say."""
    text = json.dumps(dict(metadata), sort_keys=True, separators=(",", ":"), allow_nan=False)
    payload = text.encode("ascii")
    _check_metadata_size(len(payload))
    _decode_metadata(payload)  # never write what cannot be read
    return payload


def _check_metadata_size(nbytes: int) -> None:
    """Refuse more than there may be, before there is memory for it."""
    if nbytes > _MAX_METADATA:
        raise FormatError(f"metadata: expected at most {_MAX_METADATA} bytes, got {nbytes}")


def _decode_metadata(payload: bytes) -> dict[str, Any]:
    """Read JSON, if it is an object without repeated keys and infinite numbers."""
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(dict(pairs)) != len(pairs):
            raise ValueError("a key comes twice")
        return dict(pairs)

    def finite(text: str) -> float:
        if not math.isfinite(float(text)):
            raise ValueError(f"{text} is not a finite number")
        return float(text)

    try:
        metadata = json.loads(payload.decode("utf-8"), object_pairs_hook=unique,
                              parse_float=finite, parse_constant=finite)
    except (ValueError, RecursionError) as error:
        raise FormatError(f"metadata is not valid JSON: {error}") from None
    if not isinstance(metadata, dict):
        raise FormatError(f"metadata: expected a JSON object, got {type(metadata).__name__}")
    return metadata


def _load_metadata(stream: io.BufferedIOBase, section: _Section) -> dict[str, Any]:
    _check_metadata_size(section.nbytes)
    payload = bytearray(section.nbytes)
    _check(stream, section, memoryview(payload))
    return _decode_metadata(bytes(payload))


# ---- the section table ----


class _Section(NamedTuple):
    """A row of the section table."""

    name: str
    code: str
    shape: tuple[int, ...]
    offset: int
    checksum: int

    @property
    def nbytes(self) -> int:
        """Bytes of the payload."""
        return math.prod(self.shape) * _ITEMSIZES[self.code]

    def pack(self) -> bytes:
        """The row as bytes."""
        shape = self.shape + (0,) * (_MAX_NDIM - len(self.shape))
        return _ENTRY.pack(self.name.encode("ascii"), self.code.encode("ascii"), len(self.shape),
                           *shape, self.offset, self.nbytes, self.checksum)


def read_table(stream: io.BufferedIOBase) -> list[_Section]:
    """Check the header and the section table."""
    length = stream.seek(0, os.SEEK_END)
    stream.seek(0)
    start = stream.read(_TABLE_START)
    count, length = _check_header(start, length)
    table = stream.read(count * _ENTRY.size)
    header, checksum = start[: _HEADER.size], start[_HEADER.size :]
    if _CHECKSUM.pack(zlib.crc32(header + table)) != checksum:
        raise FormatError("the header or section table is damaged: wrong checksum")
    if header != _HEADER.pack(*_HEADER.unpack(header)):
        raise FormatError("reserved bytes of the header are not zero")
    sections: list[_Section] = []
    end = _TABLE_START + len(table)
    for position in range(count):
        entry = table[position * _ENTRY.size : (position + 1) * _ENTRY.size]
        sections.append(_parse_entry(entry, position, end))
        end = sections[-1].offset + sections[-1].nbytes
        if end > length:
            raise FormatError(f"section {sections[-1].name!r} reaches beyond the end of the file")
    if end != length:
        raise FormatError(f"{length - end} bytes after the last section")
    if len({section.name for section in sections}) != count:
        raise FormatError("two sections have the same name")
    return sections


def _check_header(start: bytes, length: int) -> tuple[int, int]:
    """The number of sections of a file of `length` bytes, and where they end."""
    if not start:
        raise FormatError("the file is empty")
    if not start.startswith(MAGIC) and not (len(start) < len(MAGIC) and MAGIC.startswith(start)):
        raise FormatError(f"not a farann file: expected it to begin with {MAGIC!r}, "
                          f"got {start[:len(MAGIC)]!r}")
    if len(start) < _TABLE_START:
        raise FormatError(f"truncated: expected at least {_TABLE_START} bytes, got {len(start)}")
    _, version, count, stated = _HEADER.unpack_from(start)
    # Comes before the checksum: another version may keep its checksum elsewhere.
    if version > VERSION:
        raise FormatError(f"written in format version {version}, newer than the latest that this "
                          f"farann reads ({VERSION}): a newer farann is needed")
    if version < _OLDEST:
        raise FormatError(f"written in format version {version}, before the first release, and "
                          f"this farann reads {_OLDEST} to {VERSION}: build it again")
    if stated > length:
        raise FormatError(f"truncated: expected {stated} bytes, got {length}")
    if not 1 <= count <= _MAX_SECTIONS or _TABLE_START + count * _ENTRY.size > stated:
        raise FormatError(f"expected 1 to {_MAX_SECTIONS} sections that fit {stated} bytes, "
                          f"got {count}")
    return int(count), int(stated)


def _parse_entry(entry: bytes, position: int, end: int) -> _Section:
    """Read one row of the table; ``end`` is where the section before it ends."""
    raw_name, raw_code, ndim, *lengths, _, _, checksum = _ENTRY.unpack(entry)
    name, code = (raw.rstrip(b"\0").decode("latin-1") for raw in (raw_name, raw_code))
    if not _NAME.fullmatch(name):
        raise FormatError(f"section {position}: {name!r} is not a name")
    if (position == 0) != (name == "metadata") or (position == 0) != (code == _JSON):
        raise FormatError(f"section {position}: expected the first section and no other to be "
                          f"'metadata' of type 'json', got {name!r} of type {code!r}")
    if code not in _ITEMSIZES:
        raise FormatError(f"section {name!r}: unknown dtype {code!r}")
    if ndim > _MAX_NDIM:
        raise FormatError(f"section {name!r}: expected at most {_MAX_NDIM} dimensions, got {ndim}")
    section = _Section(name, code, tuple(lengths[:ndim]), _aligned(end), checksum)
    if _too_large(section.shape, _ITEMSIZES[code]):
        raise FormatError(f"section {name!r}: shape {section.shape} is too large")
    if section.pack() != entry:
        raise FormatError(f"section {name!r}: its row of the table isn't that of {code} of shape "
                          f"{section.shape} at byte {section.offset}")
    return section


def _aligned(offset: int) -> int:
    """The start of a section if the one before it ends here."""
    return -(-offset // _ALIGNMENT) * _ALIGNMENT


def _too_large(shape: tuple[int, ...], itemsize: int) -> bool:
    """Whether numpy cannot hold a shape; an empty array, too, may have such lengths."""
    return math.prod(filter(None, shape)) * itemsize > np.iinfo(np.intp).max


# ---- writing ----


def _write(stream: io.BufferedIOBase, metadata: Mapping[str, Any], arrays: Arrays) -> bytes:
    """Write payloads first, then go back to fill in header and table with their checksums; return
    the header."""
    if len(arrays) >= _MAX_SECTIONS:
        raise ValueError(f"arrays: expected fewer than {_MAX_SECTIONS}, got {len(arrays)}")
    text = np.frombuffer(encode_metadata(metadata), np.uint8)
    parts = [("metadata", _JSON, ArrayChunks(text.dtype, text.shape, [text]))]
    parts += [(name, *_storable(name, arrays[name])) for name in sorted(arrays)]
    end = _TABLE_START + _ENTRY.size * len(parts)
    stream.write(bytes(end))
    table = b""
    for name, code, content in parts:
        stream.write(bytes(_aligned(end) - end))
        section = _Section(name, code, content.shape, _aligned(end),
                           _write_payload(stream, name, content))
        table += section.pack()
        end = section.offset + section.nbytes
    header = _HEADER.pack(MAGIC, VERSION, len(parts), end)
    header += _CHECKSUM.pack(zlib.crc32(header + table))
    stream.seek(0)
    stream.write(header + table)
    return header


def _storable(name: str, content: NDArray[Any] | ArrayChunks) -> tuple[str, ArrayChunks]:
    """Return the dtype code of an array and the array as little-endian chunks."""
    if not _NAME.fullmatch(name) or name == "metadata":
        raise ValueError("arrays: expected names of 1 to 48 ASCII letters, digits, '_', '.', '-' "
                         f"other than 'metadata', got {name!r}")
    if isinstance(content, np.ndarray):
        content = ArrayChunks(content.dtype, content.shape, [content])
    dtype = np.dtype(content.dtype)
    code = f"{dtype.kind}{dtype.itemsize}"
    if code not in DTYPES:
        raise TypeError(f"arrays[{name!r}]: expected an integer or float dtype, got {dtype}")
    shape = tuple(int(length) for length in content.shape)
    if len(shape) > _MAX_NDIM or min(shape, default=0) < 0 or _too_large(shape, dtype.itemsize):
        raise ValueError(f"arrays[{name!r}]: expected at most {_MAX_NDIM} dimensions, none "
                         f"negative, that this machine can address, got shape {shape}")
    return code, ArrayChunks(DTYPES[code], shape, content.chunks)


def _write_payload(stream: io.BufferedIOBase, name: str, content: ArrayChunks) -> int:
    """Write the elements of an array; return their checksum."""
    dtype = np.dtype(content.dtype)
    expected, step = math.prod(content.shape), _CHUNK // dtype.itemsize
    size = checksum = 0
    for chunk in content.chunks:
        size += chunk.size
        if size > expected:
            break
        flat = np.ascontiguousarray(chunk).reshape(-1)
        for start in range(0, chunk.size, step):
            piece = flat[start : start + step].astype(dtype, casting="equiv", copy=False)
            stream.write(piece.view(np.uint8).data)
            checksum = zlib.crc32(piece.view(np.uint8).data, checksum)
    if size != expected:
        raise ValueError(f"arrays[{name!r}]: expected chunks of {expected} elements in all for "
                         f"shape {content.shape}, got {'at least ' * (size > expected)}{size}")
    return checksum


# ---- reading ----


@contextlib.contextmanager
def opened(path: str | os.PathLike[str]) -> Iterator[io.BufferedReader]:
    """Open a file, and name it in what goes wrong with its bytes."""
    with open_regular(path) as stream:
        try:
            yield stream
        except FormatError as error:
            raise FormatError(f"{os.fsdecode(path)}: {error}") from None


def read_sections(stream: io.BufferedIOBase, *, mapped: bool,
                  read: Iterable[str] = ()) -> tuple[Content, int]:
    """Read the content of a file, see `read_file`, and its length, behind which frames may be."""
    arrays: dict[str, NDArray[Any]] = {}
    sections, length = _sections(stream)
    metadata = _load_metadata(stream, next(sections))
    for section in sections:
        if mapped and section.nbytes >= _LARGE and section.name not in read:
            array = _map(stream, section)
        else:
            array = empty_rows(section.shape, DTYPES[section.code])
            _check(stream, section, array.reshape(-1).view(np.uint8).data)
        # Nothing is converted, or copied, on a little-endian machine.
        array = array.astype(array.dtype.newbyteorder("="), copy=False)
        array.flags.writeable = not mapped
        arrays[section.name] = array
    return (metadata, arrays), length


def _check_end(stream: io.BufferedIOBase, length: int) -> None:
    size = stream.seek(0, os.SEEK_END)
    if size != length:
        raise FormatError(f"too long: expected {length} bytes, got {size}")


def _sections(stream: io.BufferedIOBase) -> tuple[Iterator[_Section], int]:
    """Check everything but the payloads; stand at the start of each section's payload. Also return
    where the last ends."""
    sections = read_table(stream)

    def each() -> Iterator[_Section]:
        end = sections[0].offset
        for section in sections:
            stream.seek(end)
            if stream.read(section.offset - end).strip(b"\0"):
                raise FormatError(f"section {section.name!r}: the padding before it is not zero")
            yield section
            end = section.offset + section.nbytes

    return each(), sections[-1].offset + sections[-1].nbytes


def _check(stream: io.BufferedIOBase, section: _Section, target: memoryview | None = None) -> None:
    """Compare a payload with its checksum, and keep the bytes in ``target`` if given."""
    scratch = memoryview(bytearray(0 if target else min(_CHUNK, section.nbytes)))
    checksum = 0
    for start in range(0, section.nbytes, _CHUNK):
        stop = min(start + _CHUNK, section.nbytes)
        piece = target[start:stop] if target else scratch[: stop - start]
        if stream.readinto(piece) != len(piece):
            raise FormatError(f"section {section.name!r}: the file was cut short meanwhile")
        checksum = zlib.crc32(piece, checksum)
    if checksum != section.checksum:
        raise FormatError(f"section {section.name!r} is damaged: wrong checksum")


def _map(stream: io.BufferedIOBase, section: _Section) -> NDArray[Any]:
    """Map an array into memory, unread and unchecked."""
    before = section.offset % ALLOCATIONGRANULARITY
    try:
        mapping = map_file(stream.fileno(), before + section.nbytes, access=ACCESS_READ,
                           offset=section.offset - before)
    except ValueError:
        raise FormatError(f"section {section.name!r}: the file was cut short meanwhile") from None
    dtype = DTYPES[section.code]
    count = section.nbytes // dtype.itemsize
    return np.frombuffer(mapping, dtype, count, before).reshape(section.shape)
