"""Vectors in HDF5 files; links to other files, and storage outside the file, are refused."""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from farann.io.vector_content import (
    Array,
    Content,
    Fault,
    check_size,
    choose,
    optional_package,
    slices,
)

DEFLATE, SHUFFLE, FLETCHER32 = 1, 2, 3  # numbers of filters; the others compress, too
DEFLATE_RATIO = 1032  # most bytes that deflate unpacks from one
_MOST_NAMED, _SHOWN = 1000, 8  # data sets that are looked for, and that a message names


def look_at_hdf5(path: Path, name: str | None, default: str, limit: int) -> Content:
    """Find a data set."""
    h5py = optional_package("h5py", path)

    def look_at(file: Any, name: str) -> Any:
        data = _hard_linked(h5py, file, name)
        if not isinstance(data, h5py.Dataset):
            there = ", ".join(_data_sets(h5py, file)[:_SHOWN]) or "none"
            raise Fault(f"no data set is called {name!r}; there are: {there}")
        _check_storage(name, data, limit)
        return data

    with h5py.File(path, "r") as file:
        if name is None:
            names = _data_sets(h5py, file)
            outside = [one for one in names if "/" not in one]  # of groups
            name = choose(path, "data set", outside or names, None, default)
        data = look_at(file, name)
        shape, dtype = tuple(data.shape or ()), data.dtype

    def read(step: int) -> Iterator[Array]:
        with h5py.File(path, "r") as file:
            data = look_at(file, name)
            _check_chunks(name, data, limit)
            yield from slices(data, shape[0])(step)

    return Content(shape, dtype, read)


def _data_sets(h5py: Any, file: Any) -> list[str]:
    """Paths of data sets, in groups, too, and of links, which are named and never followed."""
    found: list[str] = []
    groups, seen = [("", file)], {h5py.h5o.get_info(file.id).addr}
    while groups and len(found) < _MOST_NAMED:
        before, group = groups.pop(0)
        for key in group:
            if not _is_hard(h5py, group, key) or isinstance(group[key], h5py.Dataset):
                found.append(before + key)
            elif isinstance(group[key], h5py.Group):
                # A group may be linked to from below itself.
                place = h5py.h5o.get_info(group[key].id).addr
                if place not in seen:
                    seen.add(place)
                    groups.append((f"{before}{key}/", group[key]))
    return found


def _is_hard(h5py: Any, group: Any, key: str) -> bool:
    return isinstance(group.get(key, getlink=True), h5py.HardLink)


def _hard_linked(h5py: Any, file: Any, name: str) -> Any:
    """Go to an object by hard links alone: soft and external ones may lead into other files."""
    place = file
    for part in (part for part in name.split("/") if part not in ("", ".")):
        if not isinstance(place, h5py.Group) or part not in place:
            return None
        if not _is_hard(h5py, place, part):
            raise Fault(f"{name!r}: {part!r} is a soft or external link, which may lead into "
                        f"another file; name the data set itself")
        place = place[part]
    return place


def _check_storage(name: str, data: Any, limit: int) -> None:
    """Refuse a data set whose numbers lie in other files, or unpack to more than it says."""
    if data.is_virtual:
        raise Fault(f"{name!r} is a virtual data set, made of others that may lie in other files")
    if data.external:
        raise Fault(f"{name!r} has external storage: its numbers lie in other files")
    # A whole chunk is unpacked for any row of it, and may be larger than the data set.
    check_size(math.prod(data.chunks or (0,)) * data.dtype.itemsize, limit)
    settings = data.id.get_create_plist()
    filters = [settings.get_filter(number)[0] for number in range(settings.get_nfilters())]
    if len([number for number in filters if number not in (SHUFFLE, FLETCHER32)]) > 1:
        raise Fault(f"{name!r} is compressed more than once (filters {filters})")


def _check_chunks(name: str, data: Any, limit: int) -> None:
    """Refuse deflated chunks that are larger than they should be: HDF5 unpacks all there is."""
    settings = data.id.get_create_plist()
    if not data.chunks or all(settings.get_filter(number)[0] != DEFLATE
                              for number in range(settings.get_nfilters())):
        return
    large = []  # only these can be beyond the limit, and there are few unless the limit is low

    def look_at(chunk: Any) -> None:
        if chunk.size * DEFLATE_RATIO > limit:
            large.append(chunk.chunk_offset)

    data.id.chunk_iter(look_at)
    size = math.prod(data.chunks) * data.dtype.itemsize
    for offset in large:
        skipped, packed = data.id.read_direct_chunk(offset)
        # A bit is set for each filter that the chunk did not go through.
        if not skipped and len(zlib.decompressobj().decompress(packed, size + 1)) > size:
            raise Fault(f"{name!r}: the chunk at {offset} unpacks to more than {size} bytes")


def write_hdf5(stream: IO[bytes], array: Array, name: str | None) -> None:
    """Write a data set."""
    with optional_package("h5py", ".hdf5").File(stream, "w") as file:
        file.create_dataset(name or "train", data=array)
