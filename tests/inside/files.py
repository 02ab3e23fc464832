"""Of `farann/io`: files of arrays, indexes as sections, and how files are replaced."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import numpy as np

import farann
from farann.io import container as _container
from farann.io import delta as _delta
from farann.io import frames as _frames
from farann.io import index_file as _index_file
from farann.io.container import (
    DTYPES,
    MAGIC,
    VERSION,
    ArrayChunks,
    read_bytes,
    read_file,
    read_table,
    verify_file,
    write_bytes,
    write_file,
)
from farann.io.files import _claim as claim
from farann.io.files import _remove_unlocked as remove_unlocked
from farann.io.files import _sweep as sweep
from farann.io.files import open_regular, replacing


def sections_of(index: farann.Index) -> tuple[dict[str, Any], dict[str, Any]]:
    """Metadata and arrays of the file that an index would be saved to."""
    return _index_file.sections_of(index._live)


def delta_of(index: farann.Index) -> tuple[dict[str, Any], dict[str, Any]]:
    """Metadata and arrays of the frame that an index would append to its file."""
    state = index._live.synced
    found = _delta.delta_of(state.mark, index._live.store)
    assert found is not None
    return found[0], {
        name: np.concatenate(list(array.chunks)) if isinstance(array, ArrayChunks) else array
        for name, array in found[1].items()}


def append(path: Path, metadata: dict[str, Any], arrays: dict[str, Any]) -> None:
    """Append a frame to a file."""
    writer = _frames.Writer(path)
    writer.append(_frames.read_file(path)[2], metadata, arrays)
    writer.close()


def append_content(path: Path, content: bytes) -> None:
    """Append a frame of any content, with the checksums that it needs, to a file."""
    place = _frames.read_file(path)[2]
    header = _frames._FRAME_HEADER.pack(_frames._FRAME_MAGIC, place.number, len(content),
                                        zlib.crc32(place.before),
                                        _container.checksum_of(content.ljust(64, b"\0")))
    data = path.read_bytes()[: place.end].ljust(place.start, b"\0")
    path.write_bytes(data + header + _frames._CHECKSUM.pack(zlib.crc32(header)) + content)


def last_frame(path: Path) -> tuple[bytes, bytes]:
    """A file without its last frame, and the content of that."""
    data, start = path.read_bytes(), starts_of_frames(path)[-1]
    content = start + _frames._SIZE
    return data[:start], data[content : content + _frames._content_length(data[start:content])]


def frames_of(path: Path) -> int:
    """The number of frames in a file."""
    return len(_frames.read_file(path)[1])


def read_frames(path: Path) -> object:
    """Read all of a file."""
    return _frames.read_file(path)


def starts_of_frames(path: Path) -> list[int]:
    """Where the frames of a file begin."""
    with path.open("rb") as stream:
        header = stream.read(64)
        place = _frames.Place(0, content_length(path), header, header)
        places = [place, *(place for _, place in _frames._frames(stream, place))]
    return [place.start for place in places[:-1]]


def content_length(path: Path) -> int:
    """The bytes of a file before all frames."""
    return len(write_bytes(*_frames.read_file(path)[0]))
