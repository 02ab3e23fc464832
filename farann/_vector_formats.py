"""The formats that `farann.vectors` reads and writes: for each how to look, and how to write.

Files come from strangers. A `look` function reads no more than the shape; the ``read`` it
returns reads the rows and checks them on the way. Faults are raised as `_Fault`, or as whatever
a package throws at damaged bytes; `look` and ``read`` name the file in both.
"""

from __future__ import annotations

import contextlib
import errno
import importlib
import math
import stat
import zipfile
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
    """What can be done with a kind of file, and whether it holds several arrays by name."""

    look: Callable[[Path, str | None, str], Content]
    write: Callable[[IO[bytes], Array, str | None], None]
    named: bool


class _Fault(ValueError):
    """What is wrong with a file, without the file's name."""


def format_of(path: Path) -> Format:
    """Return the format that a file's extension stands for."""
    try:
        return FORMATS[path.suffix.lower()]
    except KeyError:
        known = " ".join(FORMATS)
        raise ValueError(
            f"{path}: unknown extension {path.suffix!r}; known ones are {known}"
        ) from None


def look(path: Path, name: str | None, default: str) -> Content:
    """Find an array in a file; default is the name to prefer where none is given."""
    kind = format_of(path)
    if name is not None and not kind.named:
        raise ValueError(f"{path}: a {path.suffix} file has no named arrays, got {name!r}")
    if not stat.S_ISREG(path.stat().st_mode):
        raise ValueError(f"{path}: not a regular file")
    with _naming(path):
        content = kind.look(path, name, default)

    def read(step: int) -> Iterator[Array]:
        with _naming(path):
            yield from content.read(step)

    return content._replace(read=read)


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


def _look_npy(path: Path, name: str | None, default: str) -> Content:
    with np.errstate(over="raise"):  # in the size of an impossible shape
        array = npy.open_memmap(path, mode="r")
    read = _slices(array, array.shape[0] if array.ndim else 0)
    return Content(array.shape, array.dtype, read, array)


def _write_npy(stream: IO[bytes], array: Array, name: str | None) -> None:
    np.save(stream, array, allow_pickle=False)


def _look_npz(path: Path, name: str | None, default: str) -> Content:
    with zipfile.ZipFile(path) as archive:
        names = [entry[:-4] for entry in archive.namelist() if entry.endswith(".npy")]
        entry = _choose(path, "array", names, name, default) + ".npy"
        length = archive.getinfo(entry).file_size
        with archive.open(entry) as stream:
            shape, fortran, dtype = _npy_header(stream)
    if math.prod(shape) * dtype.itemsize > length:
        raise _Fault(f"truncated: {entry} of {length} bytes can't hold {dtype} of shape {shape}")

    def read(step: int) -> Iterator[Array]:
        # Rows stored column by column all end at the end: nothing to gain from steps.
        per_block = shape[0] if fortran else step
        with zipfile.ZipFile(path) as archive, archive.open(entry) as stream:
            _npy_header(stream)
            for start in range(0, shape[0], max(1, per_block)):
                block = (min(per_block, shape[0] - start), *shape[1:])
                data = stream.read(math.prod(block) * dtype.itemsize)
                array = np.frombuffer(data, dtype)
                yield array.reshape(block, order="F" if fortran else "C")

    return Content(shape, dtype, read)


def _npy_header(stream: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    version = npy.read_magic(stream)
    # Version 3 differs in field names only, and arrays with fields are not vectors.
    read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, fortran, dtype = read(stream)
    if dtype.hasobject:
        raise _Fault("holds Python objects, not numbers")
    if any(length < 0 for length in shape):
        raise _Fault(f"impossible shape {shape}")
    return shape, fortran, dtype


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

    def look_vecs(path: Path, name: str | None, default: str) -> Content:
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


def _look_parquet(path: Path, name: str | None, default: str) -> Content:
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

    numbers = [kinds[column] if plain else kinds[column].value_type for column in columns]
    dtype = np.result_type(*(np.dtype(kind.to_pandas_dtype()) for kind in numbers))
    return Content((rows, dim), dtype, read)


def _length_of_lists(file: Any, column: str) -> int:
    """The length that a column's type says, or that the first list has."""
    fixed: int | None = getattr(file.schema_arrow.field(column).type, "list_size", None)
    if fixed is not None:
        return fixed
    for batch in file.iter_batches(1, columns=[column]):
        return len(batch.column(0)[0].as_py() or ())
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


def _look_hdf5(path: Path, name: str | None, default: str) -> Content:
    h5py = _package("h5py", path)
    with h5py.File(path, "r") as file:
        if name is None:
            names = [key for key in file if isinstance(file.get(key), h5py.Dataset)]
            name = _choose(path, "data set", names, None, default)
        data = file.get(name)
        if not isinstance(data, h5py.Dataset):
            raise _Fault(f"no data set is called {name!r}; there are: {', '.join(file) or 'none'}")
        shape, dtype = tuple(data.shape or ()), data.dtype

    def read(step: int) -> Iterator[Array]:
        with h5py.File(path, "r") as file:
            yield from _slices(file[name], shape[0])(step)

    return Content(shape, dtype, read)


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
