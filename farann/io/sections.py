"""The header of a file and the table of its sections: bytes, and what they say, checked."""

from __future__ import annotations

import io
import math
import os
import re
import struct
import zlib
from typing import NamedTuple

import numpy as np

from farann.contract import FormatError

MAGIC = b"\xfafarann\n"
VERSION = 1
ALIGNMENT = 64
MAX_SECTIONS = 1024
MAX_NDIM = 6
HEADER = struct.Struct("<8sIIQ36x")  # magic, version, sections, file length; then the checksum
CHECKSUM = struct.Struct("<I")
ENTRY = struct.Struct(f"<48s4sI{MAX_NDIM}QQQI4x")  # the fields of Section
TABLE_START = HEADER.size + CHECKSUM.size
NAME = re.compile(r"[A-Za-z0-9_.-]{1,48}", re.ASCII)
DTYPES = {
    code: np.dtype(f"<{code}")
    for code in ("i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8")
}
JSON = "json"


class Section(NamedTuple):
    """A row of the section table."""

    name: str
    code: str
    shape: tuple[int, ...]
    offset: int
    nbytes: int
    checksum: int

    def pack(self) -> bytes:
        """The row as bytes."""
        name, code = self.name.encode("ascii"), self.code.encode("ascii")
        shape = self.shape + (0,) * (MAX_NDIM - len(self.shape))
        return ENTRY.pack(name, code, len(self.shape), *shape, *self[3:])


def read_table(stream: io.BufferedIOBase) -> list[Section]:
    """Check the header and the section table."""
    length = stream.seek(0, os.SEEK_END)
    stream.seek(0)
    start = stream.read(TABLE_START)
    version, count = _check_header(start, length)
    table = stream.read(count * ENTRY.size)
    header, checksum = start[: HEADER.size], start[HEADER.size :]
    if CHECKSUM.pack(zlib.crc32(header + table)) != checksum:
        raise FormatError("the header or section table is damaged: wrong checksum")
    if header != HEADER.pack(MAGIC, version, count, length):
        raise FormatError("reserved bytes of the header are not zero")
    sections: list[Section] = []
    end = TABLE_START + len(table)
    for position in range(count):
        entry = table[position * ENTRY.size : (position + 1) * ENTRY.size]
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
    """The format version of a file of `length` bytes, and the number of its sections."""
    if not start:
        raise FormatError("the file is empty")
    if not start.startswith(MAGIC) and not (len(start) < len(MAGIC) and MAGIC.startswith(start)):
        raise FormatError(f"not a farann file: expected it to begin with {MAGIC!r}, "
                          f"got {start[:len(MAGIC)]!r}")
    if len(start) < TABLE_START:
        raise FormatError(f"truncated: expected at least {TABLE_START} bytes, got {len(start)}")
    _, version, count, stated = HEADER.unpack_from(start)
    # Comes before the checksum: another version may keep its checksum elsewhere.
    if version > VERSION:
        raise FormatError(f"written in format version {version}, newer than the latest that this "
                          f"farann reads ({VERSION}): a newer farann is needed")
    if version < 1:
        raise FormatError("format version 0 does not exist")
    if stated != length:
        kind = "truncated" if length < stated else "too long"
        raise FormatError(f"{kind}: expected {stated} bytes, got {length}")
    if not 1 <= count <= MAX_SECTIONS or TABLE_START + count * ENTRY.size > length:
        raise FormatError(f"expected 1 to {MAX_SECTIONS} sections that fit {length} bytes, "
                          f"got {count}")
    return version, count


def _parse_entry(entry: bytes, position: int, end: int) -> Section:
    """Read one row of the table; ``end`` is where the section before it ends."""
    raw_name, raw_code, ndim, *lengths, offset, nbytes, checksum = ENTRY.unpack(entry)
    name = raw_name.rstrip(b"\0").decode("latin-1")
    code = raw_code.rstrip(b"\0").decode("latin-1")
    if not NAME.fullmatch(name):
        raise FormatError(f"section {position}: {name!r} is not a name")
    if (position == 0) != (name == "metadata") or (position == 0) != (code == JSON):
        raise FormatError(f"section {position}: expected the first section and no other to be "
                          f"'metadata' of type 'json', got {name!r} of type {code!r}")
    if code != JSON and code not in DTYPES:
        raise FormatError(f"section {name!r}: unknown dtype {code!r}")
    if ndim > MAX_NDIM:
        raise FormatError(f"section {name!r}: expected at most {MAX_NDIM} dimensions, got {ndim}")
    section = Section(name, code, tuple(lengths[:ndim]), offset, nbytes, checksum)
    if section.pack() != entry:
        raise FormatError(f"section {name!r}: reserved bytes are not zero")
    itemsize = 1 if code == JSON else DTYPES[code].itemsize
    if math.prod(section.shape) * itemsize != nbytes:
        raise FormatError(f"section {name!r}: shape {section.shape} of {code} does not take "
                          f"{nbytes} bytes")
    if too_large(section.shape, itemsize):
        raise FormatError(f"section {name!r}: shape {section.shape} is too large")
    if offset != aligned(end):
        raise FormatError(f"section {name!r}: expected it at byte {aligned(end)}, got {offset}")
    return section


def aligned(offset: int) -> int:
    """The start of a section if the one before it ends here."""
    return -(-offset // ALIGNMENT) * ALIGNMENT


def too_large(shape: tuple[int, ...], itemsize: int) -> bool:
    """Whether numpy cannot hold a shape; an empty array, too, may have such lengths."""
    return math.prod(filter(None, shape)) * itemsize > np.iinfo(np.intp).max
