"""The formats that `farann.vectors` reads and writes: for each how to look, and how to write.

Files come from strangers. A `look` function reads no more than the shape; the ``read`` it
returns reads the rows and checks them on the way. Faults are raised as `Fault`, or as whatever
a package throws at damaged bytes; `look` and ``read`` name the file in both. Nothing is
unpacked before what it says of its size is within the limit, and no other file is opened.
"""

from __future__ import annotations

import contextlib
import io
import math
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.lib import format as npy

from farann.contract.checks import to_int
from farann.io import optional_formats as optional
from farann.io import text
from farann.io.files import require_regular
from farann.io.vector_content import Array, Content, Fault, TooLarge, Wanted, check_size, naming


class Format(NamedTuple):
    """Reader and writer of a file format, and whether it holds several arrays by name.

    Tables tell what their columns hold and which are a frame's index, and give any of them as
    Python's values.
    """

    look: Callable[[Wanted], Content]
    write: Callable[[IO[bytes], Array, str | None], None]
    named: bool
    kinds: Callable[[Path], dict[str, type]] = lambda path: {}
    columns: Callable[[Path, list[str], int], list[list[Any]]] = lambda path, names, limit: []
    frame_index: Callable[[Path], list[str]] = lambda path: []


# The default limit of a file's unpacked bytes is the larger of these two. Compressed vectors hardly
# ever shrink to a tenth.
USUAL_BYTES = 64 << 20  # bytes
USUAL_RATIO = 100  # times the size of the file


def format_of(path: Path) -> Format:
    """Return the format that a file's extension stands for."""
    kind = FORMATS.get(path.suffix.lower())
    if kind is None:
        missing = "" if path.exists() else "there is no such file; "
        raise ValueError(f"{path}: {missing}unknown extension {path.suffix!r}; known ones are "
                         f"{' '.join(FORMATS)}")
    return kind


def look(path: Path, name: str | None, default: str, max_bytes: int | None = None,
         without: tuple[str, ...] = ()) -> Content:
    """Find an array in a file of at most ``max_bytes`` once it is unpacked.

    ``default`` is the name to prefer where none is given, ``without`` are columns of ids or labels.
    """
    kind = format_of(path)
    if name is not None and not kind.named:
        raise ValueError(f"{path}: a {path.suffix} file has no named arrays, got {name!r}")
    with _limited(path, max_bytes) as limit:
        content = kind.look(Wanted(path, name, default, limit, without))
        check_size(math.prod(content.shape) * content.dtype.itemsize, limit)

    def read(step: int) -> Iterator[Array]:
        require_regular(path)
        with naming(path):
            yield from content.read(step)

    return content._replace(read=read)


@contextlib.contextmanager
def _limited(path: Path, max_bytes: int | None) -> Iterator[int]:
    """The most bytes that a file may unpack to; errors name the file, and how to allow more."""
    size = require_regular(path).st_size
    limit = (max(USUAL_BYTES, USUAL_RATIO * size) if max_bytes is None
             else to_int("max_bytes", max_bytes, 1))
    with naming(path):
        try:
            yield limit
        except TooLarge as fault:
            usual = (f"; the limit is {USUAL_RATIO} times the file's size and at least "
                     f"{USUAL_BYTES >> 20} MiB" if max_bytes is None else "")
            raise Fault(f"{fault}{usual}; max_bytes= or --max-bytes sets another limit") from None


def kinds_of(path: Path) -> dict[str, type]:
    """The content of each column of a table; {} if columns have no names."""
    table = format_of(path)
    with naming(path):
        return table.kinds(path)


def index_of(path: Path) -> list[str]:
    """The columns of a table that are the index of a frame."""
    table = format_of(path)
    with naming(path):
        return table.frame_index(path)


def columns_of(path: Path, names: list[str], max_bytes: int | None = None) -> list[list[Any]]:
    """Some columns of a table, which together take at most ``max_bytes``, as `look` has them."""
    table = format_of(path)
    with _limited(path, max_bytes) as limit:
        return table.columns(path, names, limit)


# numpy

MAX_HEADER = 1 << 14  # bytes of an .npy header; numpy takes 10,000 and what is around them


def _look_npy(wanted: Wanted) -> Content:
    with np.errstate(over="raise"):  # in the size of an impossible shape
        array = npy.open_memmap(wanted.path, mode="r")
    n = array.shape[0] if array.ndim else 0
    return Content(array.shape, array.dtype, lambda step: (
        array[start : start + step] for start in range(0, n, step)), array)


def _write_npy(stream: IO[bytes], array: Array, name: str | None) -> None:
    np.save(stream, array, allow_pickle=False)


def _look_npz(wanted: Wanted) -> Content:
    with zipfile.ZipFile(wanted.path) as archive:
        names = [entry[:-4] for entry in archive.namelist() if entry.endswith(".npy")]
        entry = wanted.choose("array", names) + ".npy"
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
        with zipfile.ZipFile(wanted.path) as archive, archive.open(entry) as stream:
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
    with (zipfile.ZipFile(stream, "w") as archive,
          archive.open(f"{name or 'vectors'}.npy", "w", force_zip64=True) as entry):
        npy.write_array(entry, array, allow_pickle=False)


# .fvecs and its kin: in front of each row its length, as an int32


def _record(scalar: str, dim: int) -> np.dtype[Any]:
    return np.dtype([("dim", "<i4"), ("row", scalar, (dim,))])


def _vecs(scalar: str) -> Format:
    dtype = np.dtype(scalar)

    def look_vecs(wanted: Wanted) -> Content:
        path = wanted.path
        dim = int(np.fromfile(path, "<i4", 1).sum())  # 0 of an empty file
        if dim < 1:
            raise Fault(f"damaged, or not a {path.suffix} file: the first row has length {dim}")
        if path.stat().st_size % (4 + dim * dtype.itemsize):
            raise Fault(f"truncated, or not all rows have the length {dim} of the first")
        table = np.memmap(path, _record(scalar, dim), mode="r")

        def read(step: int) -> Iterator[Array]:
            for start in range(0, len(table), step):
                block = table[start : start + step]
                wrong = block["dim"] != dim
                if wrong.any():
                    row = int(wrong.argmax())
                    raise Fault(f"row {start + row}: expected length {dim}, got "
                                f"{block['dim'][row]}")
                yield block["row"]

        return Content((len(table), dim), dtype, read)

    def write_vecs(stream: IO[bytes], array: Array, name: str | None) -> None:
        table = np.empty(len(array), _record(scalar, array.shape[1]))
        table["dim"] = array.shape[1]
        with np.errstate(invalid="ignore"):
            table["row"] = array
        if dtype.kind != "f" and (table["row"] != array).any():
            raise ValueError(f"vectors: expected whole numbers that {dtype.name} can hold")
        stream.write(table.tobytes())

    return Format(look_vecs, write_vecs, named=False)


def _text(separator: str) -> Format:
    return Format(text.look_at_text, partial(text.write_text, separator=separator), named=True,
                  kinds=text.kinds_of_text, columns=text.columns_of_text)


_JSON_LINES = Format(text.look_at_json_lines, text.write_json_lines, named=True,
                     kinds=text.kinds_of_json_lines, columns=text.columns_of_json_lines)
_HDF5 = Format(optional.look_at_hdf5, optional.write_hdf5, named=True)

FORMATS: dict[str, Format] = {
    ".npy": Format(_look_npy, _write_npy, named=False),
    ".npz": Format(_look_npz, _write_npz, named=True),
    ".fvecs": _vecs("<f4"), ".ivecs": _vecs("<i4"), ".bvecs": _vecs("u1"),
    ".parquet": Format(optional.look_at_parquet, optional.write_parquet, named=True,
                       kinds=optional.kinds_of_parquet, columns=optional.columns_of_parquet,
                       frame_index=optional.index_of_parquet),
    ".hdf5": _HDF5, ".h5": _HDF5, ".jsonl": _JSON_LINES, ".ndjson": _JSON_LINES,
    **{suffix: _text(separator) for suffix, separator in text.SEPARATORS.items()}}
