"""Vectors in HDF5 and Parquet files, which take packages that are optional.

Of HDF5 links to other files and storage outside the file are refused. Rows of Parquet are lists, or
one column for each coordinate.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np

from farann.contract.arrow import is_number, kind_of, rows_of_lists
from farann.io.files import open_regular
from farann.io.vector_content import Array, Content, Fault, Wanted, check_size, optional_package

# Numbers of filters in HDF5, all others of which compress, too.
_DEFLATE, _SHUFFLE, _FLETCHER32 = 1, 2, 3
_DEFLATE_RATIO = 1032  # most bytes that deflate unpacks from one (zlib's documentation)
_MOST_NAMED = 1000  # data sets that are looked for
_VALUES_AT_ONCE = 1 << 16  # of columns of words
_SHOWN = 8  # data sets that a message names


# ---- HDF5 ----


def look_at_hdf5(wanted: Wanted) -> Content:
    """Find a data set."""
    path, name, limit = wanted.path, wanted.name, wanted.limit
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
            name = wanted.choose("data set", outside or names)
        data = look_at(file, name)
        shape, dtype = tuple(data.shape or ()), data.dtype

    def read(step: int) -> Iterator[Array]:
        with h5py.File(path, "r") as file:
            data = look_at(file, name)
            _check_chunks(name, data, limit)
            yield from (data[start : start + step] for start in range(0, shape[0], step))

    return Content(shape, dtype, read)


def _data_sets(h5py: Any, file: Any) -> list[str]:
    """Paths of data sets, in groups, too, and of soft links, which are named and never followed."""
    names: list[str] = []

    def note(name: str, link: Any) -> bool | None:
        if isinstance(link, h5py.HardLink) and not isinstance(file[name], h5py.Dataset):
            return None
        names.append(name)
        return len(names) == _MOST_NAMED or None  # which ends it

    file.visititems_links(note)
    return names


def _hard_linked(h5py: Any, file: Any, name: str) -> Any:
    """Open an object by hard links alone: soft and external ones may lead into other files."""
    place = file
    for part in (part for part in name.split("/") if part not in ("", ".")):
        if not isinstance(place, h5py.Group) or part not in place:
            return None
        if not isinstance(place.get(part, getlink=True), h5py.HardLink):
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
    filters = _filters(data)
    if len([number for number in filters if number not in (_SHUFFLE, _FLETCHER32)]) > 1:
        raise Fault(f"{name!r} is compressed more than once (filters {filters})")


def _filters(data: Any) -> list[int]:
    settings = data.id.get_create_plist()
    return [settings.get_filter(number)[0] for number in range(settings.get_nfilters())]


def _check_chunks(name: str, data: Any, limit: int) -> None:
    """Refuse deflated chunks that are larger than they should be: HDF5 unpacks all there is."""
    if not data.chunks or _DEFLATE not in _filters(data):
        return
    large = []  # only these can be beyond the limit, and there are few unless the limit is low

    def look_at(chunk: Any) -> None:
        if chunk.size * _DEFLATE_RATIO > limit:
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


# ---- Parquet ----


def look_at_parquet(wanted: Wanted) -> Content:
    """Find a column of lists, or columns of numbers but those of ids."""
    path, name = wanted.path, wanted.name
    parquet = optional_package("pyarrow.parquet", path)
    with parquet.ParquetFile(path) as file:
        rows = file.metadata.num_rows
        kinds = {field.name: field.type for field in file.schema_arrow
                 if field.name not in wanted.without}
        lists = [column for column, kind in kinds.items()
                 if kind_of(kind) is list and is_number(kind.value_type)]
        if name is not None and name in kinds and is_number(kinds[name]):
            columns = [name]
        elif name is None and kinds and all(map(is_number, kinds.values())):
            columns = list(kinds)
        else:
            columns = [wanted.choose("column of lists of numbers", lists)]
        plain = columns[0] not in lists
        numbers = [kinds[column] if plain else kinds[column].value_type for column in columns]
        dtype = np.result_type(*(np.dtype(kind.to_pandas_dtype()) for kind in numbers))
        _check_column_sizes(file.metadata, columns, dtype.itemsize, wanted.limit)
        dim = len(columns) if plain else _length_of_lists(file, columns[0])

    def read(step: int) -> Iterator[Array]:
        done = 0
        with parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(step, columns=columns):
                parts = [batch.column(column) for column in columns]
                if not plain:
                    try:
                        yield rows_of_lists(parts[0], dim, done)
                    except ValueError as error:
                        raise Fault(error) from None
                elif any(part.null_count for part in parts):
                    raise Fault(f"a value is missing in rows {done} to {done + len(batch) - 1}")
                else:
                    yield np.column_stack([p.to_numpy(zero_copy_only=False) for p in parts])
                done += len(batch)

    return Content((rows, dim), dtype, read)


def _check_column_sizes(metadata: Any, columns: list[str], itemsize: int, limit: int) -> None:
    """Check what unpacking columns takes, before even the length of a list is looked up."""
    count = pages = 0
    for group in range(metadata.num_row_groups):
        chunks = metadata.row_group(group)
        for position in range(chunks.num_columns):
            chunk = chunks.column(position)
            if f"{chunk.path_in_schema}.".startswith(tuple(f"{c}." for c in columns)):
                count += chunk.num_values
                pages += chunk.total_uncompressed_size
    check_size(max(count * itemsize, pages), limit)


def _length_of_lists(file: Any, column: str) -> int:
    """The length that a column's type says, or that the first list has."""
    fixed: int | None = getattr(file.schema_arrow.field(column).type, "list_size", None)
    if fixed is not None:
        return fixed
    batch = next(file.iter_batches(1, columns=[column]), None)
    return batch.column(0).value_lengths()[0].as_py() or 0 if batch else 0


def kinds_of_parquet(path: Path) -> dict[str, type]:
    """The content of the columns."""
    with open_regular(path) as stream:
        file = optional_package("pyarrow.parquet", path).ParquetFile(stream)
        return {field.name: object if kind_of(field.type) is list and not is_number(
            field.type.value_type) else kind_of(field.type) for field in file.schema_arrow}


def index_of_parquet(path: Path) -> list[str]:
    """The columns that hold the index of a frame of pandas, which writes them last."""
    with open_regular(path) as stream:
        schema = optional_package("pyarrow.parquet", path).read_schema(stream)
        known = (schema.pandas_metadata or {}).get("index_columns", [])
        return [one for one in known if one in schema.names]  # a range isn't written


def columns_of_parquet(path: Path, names: list[str], limit: int) -> list[list[Any]]:
    """The values of some columns, at most `limit` bytes with 8 for each and strings in full."""
    left, columns = limit, [list[Any]() for _ in names]
    with open_regular(path) as stream:
        parquet = optional_package("pyarrow.parquet", path)
        file = parquet.ParquetFile(stream)
        for field in map(file.schema_arrow.field, names):
            if not _is_plain(field.type):
                raise Fault(f"expected numbers or words in {field.name!r}, got {field.type}")
        # Words stay numbers of a dictionary: a small file can repeat a long one at will.
        file = parquet.ParquetFile(stream, read_dictionary=[
            name for name in names if kind_of(file.schema_arrow.field(name).type) is str])
        _check_column_sizes(file.metadata, names, 8, limit)
        for batch in file.iter_batches(_VALUES_AT_ONCE, columns=names):
            for values, part in zip(columns, map(batch.column, names), strict=True):
                if not hasattr(part, "dictionary"):
                    values.extend(part.to_pylist())
                    continue
                there = np.asarray(part.is_valid())
                used, places, counts = np.unique(np.asarray(part.indices.fill_null(0))[there],
                                                 return_inverse=True, return_counts=True)
                texts = part.dictionary.take(used).to_pylist()
                left -= sum(len(str(text).encode()) * count
                            for text, count in zip(texts, counts.tolist(), strict=True))
                check_size(limit - left, limit, "text")
                column = np.full(len(part), None)
                column[there] = np.array(texts, object)[places]
                values.extend(column.tolist())
    return columns


def _is_plain(kind: Any) -> bool:
    """Whether values of a type of Arrow are numbers, words or times, of which none is large."""
    from pyarrow import types

    if types.is_dictionary(kind):
        kind = kind.value_type
    return is_number(kind) or kind_of(kind) is str or types.is_boolean(kind) or (
        types.is_temporal(kind) or types.is_decimal(kind))


def write_parquet(stream: IO[bytes], array: Array, name: str | None) -> None:
    """Write rows as a column of lists."""
    parquet = optional_package("pyarrow.parquet", ".parquet")
    arrow = optional_package("pyarrow", ".parquet")
    flat = arrow.array(np.ascontiguousarray(array).ravel())
    rows = arrow.FixedSizeListArray.from_arrays(flat, array.shape[1])
    parquet.write_table(arrow.table({name or "vectors": rows}), stream)
