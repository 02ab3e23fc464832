"""The formats that `farann.vectors` reads and writes: for each how to look, and how to write.

Files come from strangers. A `look` function reads no more than the shape; the ``read`` it
returns reads the rows and checks them on the way. Faults are raised as `_Fault`, or as whatever
a package throws at damaged bytes; `look` and ``read`` name the file in both. Nothing is
unpacked before what it says of its size is within the limit, and no other file is opened.
"""

from __future__ import annotations

import contextlib
import errno
import importlib
import io
import math
import stat
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

__all__ = ["FORMATS", "Array", "Content", "Format", "format_of", "look"]

Array = NDArray[Any]
Reader = Callable[[int], Iterator[Array]]


class Content(NamedTuple):
    """An array in a file: what it looks like, and how to read it, so many rows at a time."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    read: Reader
    whole: Array | None = None  # mapped into memory, where the file holds it as numpy does


class Format(NamedTuple):
    """What can be done with a kind of file, and whether it holds several arrays by name.

    ``look`` takes the path, the name wanted, the name to prefer and the limit in bytes.
    """

    look: Callable[[Path, str | None, str, int], Content]
    write: Callable[[IO[bytes], Array, str | None], None]
    named: bool


class _Fault(ValueError):
    """What is wrong with a file, without the file's name."""


class _TooLarge(_Fault):
    """What a file says it holds is beyond the limit."""


# What a file may hold unless told otherwise: so many bytes, or so many times its own. Vectors
# hardly ever shrink to a tenth when compressed.
USUAL_BYTES, USUAL_RATIO = 64 << 20, 100


def format_of(path: Path) -> Format:
    """Return the format that a file's extension stands for."""
    try:
        return FORMATS[path.suffix.lower()]
    except KeyError:
        known = " ".join(FORMATS)
        raise ValueError(
            f"{path}: unknown extension {path.suffix!r}; known ones are {known}"
        ) from None


def look(path: Path, name: str | None, default: str, max_bytes: int | None = None) -> Content:
    """Find an array in a file of at most ``max_bytes`` once it is unpacked.

    ``default`` is the name to prefer where none is given.
    """
    kind = format_of(path)
    if name is not None and not kind.named:
        raise ValueError(f"{path}: a {path.suffix} file has no named arrays, got {name!r}")
    size = _size_of_regular(path)
    limit = max(USUAL_BYTES, USUAL_RATIO * size) if max_bytes is None else max_bytes
    with _naming(path):
        try:
            content = kind.look(path, name, default, limit)
            _check_size(math.prod(content.shape) * content.dtype.itemsize, limit)
        except _TooLarge as fault:
            usual = (f"; the limit is {USUAL_RATIO} times the file's size and at least "
                     f"{USUAL_BYTES >> 20} MiB" if max_bytes is None else "")
            raise _Fault(f"{fault}{usual}; max_bytes= or --max-bytes sets another limit") from None

    def read(step: int) -> Iterator[Array]:
        _size_of_regular(path)
        with _naming(path):
            yield from content.read(step)

    return content._replace(read=read)


def _size_of_regular(path: Path) -> int:
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise ValueError(f"{path}: not a regular file")
    return status.st_size


def _check_size(size: int, limit: int) -> None:
    if size > limit:
        raise _TooLarge(f"expected at most {limit} bytes of numbers once unpacked, got {size}")


@contextlib.contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Turn whatever goes wrong with the bytes of a file into a ValueError that names it."""
    try:
        yield
    except _Fault as fault:
        raise ValueError(f"{path}: {fault}") from None
    except ImportError:
        raise
    except Exception as error:
        # h5py and pyarrow raise OSError for damage, too; what the system says has a number. EINVAL
        # is damage as well: a place before the file's beginning.
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
            raise
        raise ValueError(f"{path}: damaged, or not a {path.suffix} file: {error}") from error


def _slices(array: Any, n: int) -> Reader:
    return lambda step: (array[start : start + step] for start in range(0, n, step))


def _choose(path: Path, what: str, names: Iterable[str], wanted: str | None, default: str) -> str:
    """Pick the wanted array, or the only one, or the default."""
    names = sorted(names)
    listed = ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
    if wanted in names:
        return str(wanted)
    if wanted is not None:
        raise _Fault(f"no {what} is called {wanted!r}; there are: {listed or 'none'}")
    if len(names) == 1:
        return names[0]
    if default in names:
        return default
    if not names:
        raise _Fault(f"holds no {what}")
    raise _Fault(f"holds several: {listed}; say which as {path.name}:NAME")


def _package(module: str, path_or_suffix: Path | str) -> Any:
    """Import an optional package, or say how to get it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        raise ImportError(
            f"{path_or_suffix}: this takes {package}, which can't be imported; "
            f"install it with: pip install {package}"
        ) from error


# numpy

MAX_HEADER = 1 << 14  # bytes of an .npy header; numpy takes 10,000 and what is around them


def _look_npy(path: Path, name: str | None, default: str, limit: int) -> Content:
    with np.errstate(over="raise"):  # in the size of an impossible shape
        array = npy.open_memmap(path, mode="r")
    read = _slices(array, array.shape[0] if array.ndim else 0)
    return Content(array.shape, array.dtype, read, array)


def _write_npy(stream: IO[bytes], array: Array, name: str | None) -> None:
    np.save(stream, array, allow_pickle=False)


def _look_npz(path: Path, name: str | None, default: str, limit: int) -> Content:
    with zipfile.ZipFile(path) as archive:
        names = [entry[:-4] for entry in archive.namelist() if entry.endswith(".npy")]
        entry = _choose(path, "array", names, name, default) + ".npy"
        facts = archive.getinfo(entry)
        # numpy writes no others, and Python unpacks others without a limit.
        if facts.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise _Fault(f"{entry} is packed by method {facts.compress_type}; expected 0 (stored) "
                         f"or 8 (deflated)")
        length = facts.file_size
        with archive.open(entry) as stream:
            shape, fortran, dtype, start_of_rows = _npy_header(stream)
    if math.prod(shape) * dtype.itemsize > length:
        raise _Fault(f"truncated: {entry} of {length} bytes can't hold {dtype} of shape {shape}")

    def read(step: int) -> Iterator[Array]:
        # Rows stored column by column all end at the end: nothing to gain from steps.
        per_block = shape[0] if fortran else step
        with zipfile.ZipFile(path) as archive, archive.open(entry) as stream:
            stream.read(start_of_rows)
            for start in range(0, shape[0], max(1, per_block)):
                block = (min(per_block, shape[0] - start), *shape[1:])
                data = stream.read(math.prod(block) * dtype.itemsize)
                array = np.frombuffer(data, dtype)
                yield array.reshape(block, order="F" if fortran else "C")

    return Content(shape, dtype, read)


def _npy_header(stream: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any], int]:
    """Shape, whether in column order, dtype, and the byte where the rows begin."""
    # A header may claim 4 GB, which would be read before numpy refuses them.
    start = io.BytesIO(stream.read(MAX_HEADER))
    version = npy.read_magic(start)
    # Version 3 differs in field names only, and arrays with fields are not vectors.
    read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, fortran, dtype = read(start)
    if dtype.hasobject:
        raise _Fault("holds Python objects, not numbers")
    if any(length < 0 for length in shape):
        raise _Fault(f"impossible shape {shape}")
    return shape, fortran, dtype, start.tell()


def _write_npz(stream: IO[bytes], array: Array, name: str | None) -> None:
    with zipfile.ZipFile(stream, "w") as archive, archive.open(
        f"{name or 'vectors'}.npy", "w", force_zip64=True
    ) as entry:
        npy.write_array(entry, array, allow_pickle=False)


# .fvecs and its kin: in front of each row its length, as an int32


def _record(scalar: str, dim: int) -> np.dtype[Any]:
    return np.dtype([("dim", "<i4"), ("row", scalar, (dim,))])


def _vecs(scalar: str) -> Format:
    itemsize = np.dtype(scalar).itemsize

    def look_vecs(path: Path, name: str | None, default: str, limit: int) -> Content:
        size = path.stat().st_size
        with open(path, "rb") as stream:
            start = stream.read(4)
        dim = int.from_bytes(start, "little", signed=True)
        if len(start) < 4 or dim < 1:
            raise _Fault(f"damaged, or not a {path.suffix} file: the first row has length {dim}")
        if size % (4 + dim * itemsize):
            raise _Fault(f"truncated, or not all rows have the length {dim} of the first")
        table = np.memmap(path, _record(scalar, dim), mode="r")

        def read(step: int) -> Iterator[Array]:
            for start in range(0, len(table), step):
                block = table[start : start + step]
                wrong = block["dim"] != dim
                if wrong.any():
                    row = int(wrong.argmax())
                    raise _Fault(
                        f"row {start + row}: expected length {dim}, got {block['dim'][row]}"
                    )
                yield block["row"]

        return Content((len(table), dim), np.dtype(scalar), read)

    def write_vecs(stream: IO[bytes], array: Array, name: str | None) -> None:
        if itemsize == 1 or "i" in scalar:
            limits = np.iinfo(scalar)
            # Python's numbers: float16 could not be compared with the limits of int32.
            if array.size and not (limits.min <= array.min().item()
                                   and array.max().item() <= limits.max):
                raise ValueError(f"vectors: expected numbers that {limits.dtype} can hold")
            if array.dtype.kind == "f" and (array != np.trunc(array)).any():
                raise ValueError("vectors: expected whole numbers")
        table = np.empty(len(array), _record(scalar, array.shape[1]))
        table["dim"] = array.shape[1]
        table["row"] = array
        stream.write(table.tobytes())

    return Format(look_vecs, write_vecs, named=False)


# Parquet


def _look_parquet(path: Path, name: str | None, default: str, limit: int) -> Content:
    parquet = _package("pyarrow.parquet", path)
    types = importlib.import_module("pyarrow.types")

    def is_number(kind: Any) -> bool:
        return bool(types.is_integer(kind) or types.is_floating(kind))

    def is_list(kind: Any) -> bool:
        listed = types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)
        return bool(listed) and is_number(kind.value_type)

    with parquet.ParquetFile(path) as file:
        rows = file.metadata.num_rows
        kinds = {field.name: field.type for field in file.schema_arrow}
        lists = [column for column, kind in kinds.items() if is_list(kind)]
        if name is not None and name in kinds and is_number(kinds[name]):
            columns = [name]
        elif name is None and kinds and all(map(is_number, kinds.values())):
            columns = list(kinds)
        else:
            columns = [_choose(path, "column of lists of numbers", lists, name, default)]
        plain = columns[0] not in lists
        numbers = [kinds[column] if plain else kinds[column].value_type for column in columns]
        dtype = np.result_type(*(np.dtype(kind.to_pandas_dtype()) for kind in numbers))
        _check_column_sizes(file.metadata, columns, dtype.itemsize, limit)
        dim = len(columns) if plain else _length_of_lists(file, columns[0])

    def read(step: int) -> Iterator[Array]:
        done = 0
        with parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(step, columns=columns):
                parts = [batch.column(column) for column in columns]
                if not plain:
                    yield _lists_to_rows(parts[0], dim, done)
                elif any(part.null_count for part in parts):
                    raise _Fault(f"a value is missing in rows {done} to {done + len(batch) - 1}")
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
            if any(chunk.path_in_schema == c or chunk.path_in_schema.startswith(c + ".")
                   for c in columns):
                count += chunk.num_values
                pages += chunk.total_uncompressed_size
    _check_size(max(count * itemsize, pages), limit)


def _length_of_lists(file: Any, column: str) -> int:
    """The length that a column's type says, or that the first list has."""
    fixed: int | None = getattr(file.schema_arrow.field(column).type, "list_size", None)
    if fixed is not None:
        return fixed
    for batch in file.iter_batches(1, columns=[column]):
        first = batch.column(0)[0]
        return len(first) if first.is_valid else 0
    return 0


def _lists_to_rows(column: Any, dim: int, start: int) -> Array:
    """Make an array (n, dim) of an Arrow array of lists, all of length dim."""
    lengths = importlib.import_module("pyarrow.compute").list_value_length(column)
    lengths = lengths.fill_null(-1).to_numpy(zero_copy_only=False)
    wrong = lengths != dim
    if wrong.any():
        row = int(wrong.argmax())
        got = "none" if lengths[row] < 0 else f"{lengths[row]}"
        raise _Fault(f"row {start + row}: expected {dim} numbers, got {got}")
    values = column.flatten()
    if values.null_count:
        row = int(values.is_null().to_numpy(zero_copy_only=False).argmax()) // dim
        raise _Fault(f"row {start + row}: a value is missing")
    numbers: Array = values.to_numpy(zero_copy_only=False)
    return numbers.reshape(-1, dim)


def _write_parquet(stream: IO[bytes], array: Array, name: str | None) -> None:
    parquet, arrow = _package("pyarrow.parquet", ".parquet"), _package("pyarrow", ".parquet")
    flat = arrow.array(np.ascontiguousarray(array).ravel())
    rows = arrow.FixedSizeListArray.from_arrays(flat, array.shape[1])
    parquet.write_table(arrow.table({name or "vectors": rows}), stream)


# HDF5

DEFLATE, SHUFFLE, FLETCHER32 = 1, 2, 3  # numbers of filters; the others compress, too
DEFLATE_RATIO = 1032  # more than that nothing grows


def _look_hdf5(path: Path, name: str | None, default: str, limit: int) -> Content:
    h5py = _package("h5py", path)

    def look_at(file: Any, name: str) -> Any:
        data = _hard_linked(h5py, file, name)
        if not isinstance(data, h5py.Dataset):
            raise _Fault(f"no data set is called {name!r}; there are: {', '.join(file) or 'none'}")
        _check_storage(name, data, limit)
        return data

    with h5py.File(path, "r") as file:
        if name is None:
            # Links are offered, so that the refusal can name them, and never followed.
            names = [key for key in file if not _is_hard(h5py, file, key)
                     or isinstance(file[key], h5py.Dataset)]
            name = _choose(path, "data set", names, None, default)
        data = look_at(file, name)
        shape, dtype = tuple(data.shape or ()), data.dtype

    def read(step: int) -> Iterator[Array]:
        with h5py.File(path, "r") as file:
            data = look_at(file, name)
            _check_chunks(name, data, limit)
            yield from _slices(data, shape[0])(step)

    return Content(shape, dtype, read)


def _is_hard(h5py: Any, group: Any, key: str) -> bool:
    return isinstance(group.get(key, getlink=True), h5py.HardLink)


def _hard_linked(h5py: Any, file: Any, name: str) -> Any:
    """Go to an object by hard links alone: soft and external ones may lead into other files."""
    place = file
    for part in (part for part in name.split("/") if part not in ("", ".")):
        if not isinstance(place, h5py.Group) or part not in place:
            return None
        if not _is_hard(h5py, place, part):
            raise _Fault(f"{name!r}: {part!r} is a soft or external link, which may lead into "
                         f"another file; name the data set itself")
        place = place[part]
    return place


def _check_storage(name: str, data: Any, limit: int) -> None:
    """Refuse a data set whose numbers lie in other files, or unpack to more than it says."""
    if data.is_virtual:
        raise _Fault(f"{name!r} is a virtual data set, made of others that may lie in other files")
    if data.external:
        raise _Fault(f"{name!r} has external storage: its numbers lie in other files")
    # A whole chunk is unpacked for any row of it, and may be larger than the data set.
    _check_size(math.prod(data.chunks or (0,)) * data.dtype.itemsize, limit)
    settings = data.id.get_create_plist()
    filters = [settings.get_filter(number)[0] for number in range(settings.get_nfilters())]
    if len([number for number in filters if number not in (SHUFFLE, FLETCHER32)]) > 1:
        raise _Fault(f"{name!r} is compressed more than once (filters {filters})")


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
            raise _Fault(f"{name!r}: the chunk at {offset} unpacks to more than {size} bytes")


def _write_hdf5(stream: IO[bytes], array: Array, name: str | None) -> None:
    with _package("h5py", ".hdf5").File(stream, "w") as file:
        file.create_dataset(name or "train", data=array)


_HDF5 = Format(_look_hdf5, _write_hdf5, named=True)

FORMATS: dict[str, Format] = {
    ".npy": Format(_look_npy, _write_npy, named=False),
    ".npz": Format(_look_npz, _write_npz, named=True),
    ".fvecs": _vecs("<f4"),
    ".ivecs": _vecs("<i4"),
    ".bvecs": _vecs("u1"),
    ".parquet": Format(_look_parquet, _write_parquet, named=True),
    ".hdf5": _HDF5,
    ".h5": _HDF5,
}
