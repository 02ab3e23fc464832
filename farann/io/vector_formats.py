"""The formats that `farann.vectors` reads and writes: for each how to look, and how to write.

Files come from strangers. A `look` function reads no more than the shape; the ``read`` it
returns reads the rows and checks them on the way. Faults are raised as `Fault`, or as whatever
a package throws at damaged bytes; `look` and ``read`` name the file in both. Nothing is
unpacked before what it says of its size is within the limit, and no other file is opened.
"""

from __future__ import annotations

import contextlib
import errno
import io
import math
import stat
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.lib import format as npy

from farann.io.json_lines import look_at_json_lines, write_json_lines
from farann.io.optional_formats import (
    look_at_hdf5,
    look_at_parquet,
    write_hdf5,
    write_parquet,
)
from farann.io.text import SEPARATORS, look_at_text, write_text
from farann.io.vector_content import Array, Content, Fault, TooLarge, check_size, choose, slices

__all__ = ["FORMATS", "Format", "format_of", "look"]

class Format(NamedTuple):
    """Reader and writer of a file format, and whether it holds several arrays by name.

    ``look`` takes the path, the name wanted, the name to prefer, the limit in bytes, and the name
    of a column that holds ids.
    """

    look: Callable[[Path, str | None, str, int, str | None], Content]
    write: Callable[[IO[bytes], Array, str | None], None]
    named: bool


# The default limit of a file's unpacked bytes is the larger of these two. Compressed vectors hardly
# ever shrink to a tenth.
USUAL_BYTES = 64 << 20  # bytes
USUAL_RATIO = 100  # times the size of the file


def format_of(path: Path) -> Format:
    """Return the format that a file's extension stands for."""
    try:
        return FORMATS[path.suffix.lower()]
    except KeyError:
        missing = "" if path.exists() else "there is no such file; "
        known = " ".join(FORMATS)
        raise ValueError(
            f"{path}: {missing}unknown extension {path.suffix!r}; known ones are {known}"
        ) from None


def look(path: Path, name: str | None, default: str, max_bytes: int | None = None,
         without: str | None = None) -> Content:
    """Find an array in a file of at most ``max_bytes`` once it is unpacked.

    ``default`` is the name to prefer where none is given, ``without`` a column that holds ids.
    """
    kind = format_of(path)
    if name is not None and not kind.named:
        raise ValueError(f"{path}: a {path.suffix} file has no named arrays, got {name!r}")
    size = _size_of_regular(path)
    limit = max(USUAL_BYTES, USUAL_RATIO * size) if max_bytes is None else max_bytes
    with _naming(path):
        try:
            content = kind.look(path, name, default, limit, without)
            check_size(math.prod(content.shape) * content.dtype.itemsize, limit)
        except TooLarge as fault:
            usual = (f"; the limit is {USUAL_RATIO} times the file's size and at least "
                     f"{USUAL_BYTES >> 20} MiB" if max_bytes is None else "")
            raise Fault(f"{fault}{usual}; max_bytes= or --max-bytes sets another limit") from None

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


@contextlib.contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Turn whatever goes wrong with the bytes of a file into a ValueError that names it."""
    try:
        yield
    except Fault as fault:
        raise ValueError(f"{path}: {fault}") from None
    except ImportError:
        raise
    except Exception as error:
        # h5py and pyarrow raise OSError for damage, too; what the system says has a number. EINVAL
        # is damage as well: a place before the file's beginning.
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
            raise
        raise ValueError(f"{path}: damaged, or not a {path.suffix} file: {error}") from error


# numpy

MAX_HEADER = 1 << 14  # bytes of an .npy header; numpy takes 10,000 and what is around them


def _look_npy(path: Path, name: str | None, default: str, limit: int,
              without: str | None) -> Content:
    with np.errstate(over="raise"):  # in the size of an impossible shape
        array = npy.open_memmap(path, mode="r")
    read = slices(array, array.shape[0] if array.ndim else 0)
    return Content(array.shape, array.dtype, read, array)


def _write_npy(stream: IO[bytes], array: Array, name: str | None) -> None:
    np.save(stream, array, allow_pickle=False)


def _look_npz(path: Path, name: str | None, default: str, limit: int,
              without: str | None) -> Content:
    with zipfile.ZipFile(path) as archive:
        names = [entry[:-4] for entry in archive.namelist() if entry.endswith(".npy")]
        entry = choose(path, "array", names, name, default) + ".npy"
        facts = archive.getinfo(entry)
        # numpy writes no others, and Python unpacks others without a limit.
        if facts.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise Fault(f"{entry} is packed by method {facts.compress_type}; expected 0 (stored) "
                        f"or 8 (deflated)")
        length = facts.file_size
        with archive.open(entry) as stream:
            shape, fortran, dtype, start_of_rows = _npy_header(stream)
    if math.prod(shape) * dtype.itemsize > length:
        raise Fault(f"truncated: {entry} of {length} bytes can't hold {dtype} of shape {shape}")

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
        raise Fault("holds Python objects, not numbers")
    if any(length < 0 for length in shape):
        raise Fault(f"impossible shape {shape}")
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

    def look_vecs(path: Path, name: str | None, default: str, limit: int,
                  without: str | None) -> Content:
        size = path.stat().st_size
        with open(path, "rb") as stream:
            start = stream.read(4)
        dim = int.from_bytes(start, "little", signed=True)
        if len(start) < 4 or dim < 1:
            raise Fault(f"damaged, or not a {path.suffix} file: the first row has length {dim}")
        if size % (4 + dim * itemsize):
            raise Fault(f"truncated, or not all rows have the length {dim} of the first")
        table = np.memmap(path, _record(scalar, dim), mode="r")

        def read(step: int) -> Iterator[Array]:
            for start in range(0, len(table), step):
                block = table[start : start + step]
                wrong = block["dim"] != dim
                if wrong.any():
                    row = int(wrong.argmax())
                    raise Fault(
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


def _text(separator: str) -> Format:
    return Format(look_at_text, partial(write_text, separator=separator), named=True)


_JSON_LINES = Format(look_at_json_lines, write_json_lines, named=True)
_HDF5 = Format(look_at_hdf5, write_hdf5, named=True)

FORMATS: dict[str, Format] = {
    ".npy": Format(_look_npy, _write_npy, named=False),
    ".npz": Format(_look_npz, _write_npz, named=True),
    ".fvecs": _vecs("<f4"),
    ".ivecs": _vecs("<i4"),
    ".bvecs": _vecs("u1"),
    ".parquet": Format(look_at_parquet, write_parquet, named=True),
    ".hdf5": _HDF5,
    ".h5": _HDF5,
    ".jsonl": _JSON_LINES,
    ".ndjson": _JSON_LINES,
    **{suffix: _text(separator) for suffix, separator in SEPARATORS.items()},
}
