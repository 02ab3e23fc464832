"""Vector files: reading them block by block, and writing them.

========================  =================================================================
``.npy``                  one array, mapped into memory
``.npz``                  the only array, or the one named
``.fvecs .ivecs .bvecs``  rows of float32, int32 or uint8, each with its length before it
``.parquet``              a column of lists, or all columns where each is a number (pyarrow)
``.hdf5 .h5``             a data set, as ann-benchmarks publishes them (h5py)
``.csv .tsv``             numbers between commas or tabs, perhaps below a line of names
``.jsonl .ndjson``        a list of numbers a line, or an object with one
========================  =================================================================
"""

from __future__ import annotations

import glob
import os
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from farann._types import Progress, RowArray
from farann.contract.row_types import STORED, row_type_for, to_row_type, to_rows
from farann.io.files import replacing
from farann.io.text import SEPARATORS, text_lines
from farann.io.vector_content import Array, Reader
from farann.io.vector_formats import FORMATS, format_of, look
from farann.runtime.progress import told

__all__ = ["VectorFile", "open_vectors", "read_id_lists", "read_ids", "write_vectors"]

FILE_BLOCK_BYTES, COPY_BYTES = 64 << 20, 16 << 20

StrPath = str | os.PathLike[str]


@dataclass(frozen=True)
class VectorFile:
    """Vectors of a file, whose shape alone has been read.

    Attributes
    ----------
    path : Path
    rows, dim : int
        Number of vectors, and of numbers in each.
    dtype : dtype
        Type of these numbers.
    """

    path: Path
    rows: int
    dim: int
    dtype: np.dtype[Any]
    _read: Reader = field(repr=False)
    _whole: Array | None = field(default=None, repr=False, compare=False)

    @property
    def kept_as(self) -> str:
        """The `dtype` of an index that keeps these numbers as they are, or else "float32"."""
        return row_type_for(self.dtype)

    def blocks(self, block_bytes: int = FILE_BLOCK_BYTES) -> Iterator[Array]:
        """Read the rows block by block; a damaged file is a ValueError.

        Parameters
        ----------
        block_bytes : int
            Approximate size of a block as float32; a row is never split.

        Yields
        ------
        ndarray of shape (n, dim)
            The next rows, n >= 1. It may be a read-only view of the file.

        Examples
        --------
        >>> sum(len(block) for block in open_vectors("items.npy").blocks())  # doctest: +SKIP
        100000
        """
        step = max(1, block_bytes // max(1, self.dim * max(4, self.dtype.itemsize)))
        done = 0
        for block in self._read(step):
            if len(block):
                done += len(block)
                yield block
        if done != self.rows:
            hint = "; fields in quotes can't have line breaks here" if (
                self.path.suffix.lower() in SEPARATORS) else ""
            raise ValueError(f"{self.path}: expected {self.rows} rows, got {done}{hint}")

    def read(self) -> Array:
        """Read all rows as one array of shape (rows, dim), which may be read-only."""
        blocks = list(self.blocks())
        return blocks[0] if len(blocks) == 1 else np.concatenate(
            [np.empty((0, self.dim), self.dtype), *blocks])

    def map(self, folder: StrPath | None = None, *, dtype: str = "float32", unit: bool = False,
            progress: Progress = False) -> RowArray:
        """Map all rows into memory, also if they are larger than memory.

        An ``.npy`` file of this `dtype` in C order is mapped as it is, without checks, and must not
        change while the array exists. Other files are copied, block by block, to a temporary file
        without a name, which is removed with the array.

        Parameters
        ----------
        folder : str or path-like, optional
            Folder of the copy; by default that of the file.
        dtype : {"float32", "float16", "bfloat16", "uint8", "int8"}
            Type of the numbers, as for `farann.Index`. Only float32 rounds.
        unit : bool
            Refuse zero vectors in a copy, as an index for cosine does.
        progress : bool or callable
            As in `Index.build`, while a copy is made.

        Returns
        -------
        ndarray (rows, dim)
            Read-only, in C order, as ``Index.add(..., copy=False)`` takes it. Of bfloat16 the bits,
            as uint16.

        Raises
        ------
        ValueError, OSError
            If the file is damaged or has a number that an index would refuse; if the copy can't be
            written.

        Examples
        --------
        >>> rows = open_vectors("items.parquet:embedding").map()  # doctest: +SKIP
        >>> ids = farann.Index().add(rows, copy=False)  # doctest: +SKIP
        """
        whole = self._whole
        stored = STORED[to_row_type(dtype)]
        if whole is not None and whole.dtype == stored and (
                whole.flags.c_contiguous and whole.flags.aligned):
            return np.asarray(whole)
        if self.rows == 0:
            return np.empty((0, self.dim), stored)
        place, done = self.path.parent if folder is None else Path(folder), 0
        # The system removes it as soon as nobody has it open, also where the process is killed.
        with (
            tempfile.TemporaryFile(dir=place, prefix=".farann-", buffering=0) as stream,
            told("copying rows", self.rows, progress) as advance,
        ):
            for block in self.blocks(COPY_BYTES):
                vectors = to_rows(str(self.path), block, self.dim, dtype, normalized=unit,
                                  first=done)
                left = vectors.data.cast("B")
                try:
                    while left:
                        left = left[stream.write(left) :]
                except OSError as error:
                    error.filename = str(place)  # the file itself has no name
                    raise
                done += len(block)
                advance(len(block))
            return np.asarray(np.memmap(stream, stored, "r", shape=(self.rows, self.dim)))


def open_vectors(file: StrPath | Sequence[StrPath], *, default: str = "train",
                 ids: str | Sequence[str] | None = None,
                 max_bytes: int | None = None) -> VectorFile:
    """Open a vector file, or several whose rows follow one another.

    Parameters
    ----------
    file : str or path-like, or a sequence of them
        The file, or ``FILE:NAME`` for one array, column or data set of several. A pattern such as
        ``parts/*.npy`` stands for the files that it matches, a folder for its Parquet files; both
        in the order of their names.
    default : str
        The name to use if the file has several and none was given: ann-benchmarks calls rows
        ``train`` and queries ``test``.
    ids : str or sequence of str, optional
        Columns that hold ids or labels of the rows and aren't coordinates, in text and Parquet.
    max_bytes : int, optional
        The most bytes that the numbers of a file may take once they are unpacked; by default 100
        times the size of the file, and at least 64 MiB.

    Returns
    -------
    VectorFile
        A single vector, from an array of one dimension, counts as one row.

    Raises
    ------
    ValueError
        If the file is of no known kind or is damaged, or what it holds is not vectors, takes more
        than ``max_bytes``, or lies in other files (HDF5); if files differ in dimension, or there
        are none.
    ImportError, OSError
        If reading it takes a package that is not installed; if it cannot be opened.

    Examples
    --------
    >>> queries = open_vectors("glove-100-angular.hdf5:test")  # doctest: +SKIP
    >>> queries.rows, queries.dim  # doctest: +SKIP
    (10000, 100)
    """
    without = (ids,) if isinstance(ids, str) else tuple(ids or ())
    parts = [_opened(path, name, default, without, max_bytes) for path, name in files_of(file)]
    if len(parts) == 1:
        return parts[0]
    first = parts[0]
    for one in parts:
        if one.dim != first.dim:
            raise ValueError(f"{one.path}: expected vectors of dimension {first.dim}, as "
                             f"{first.path} has, got {one.dim}")
    dtype = np.result_type(*(one.dtype for one in parts))

    def read(step: int) -> Iterator[Array]:
        return (block for one in parts for block in one._read(step))

    return VectorFile(first.path, sum(one.rows for one in parts), first.dim, dtype, read)


def _opened(path: Path, name: str | None, default: str, without: tuple[str, ...],
            max_bytes: int | None) -> VectorFile:
    shape, dtype, read, whole = look(path, name, default, max_bytes, without)
    if dtype.kind not in "fiu":
        raise ValueError(f"{path}: expected numbers, got {dtype}")
    if len(shape) == 1 and shape[0] > 0:
        return VectorFile(path, 1, shape[0], dtype, lambda _: iter(
            [np.concatenate(list(read(shape[0])))[None]]))
    if len(shape) != 2 or shape[1] < 1:
        raise ValueError(f"{path}: expected vectors, an array of shape (rows, dim), got {shape}")
    return VectorFile(path, shape[0], shape[1], dtype, read, whole)


def files_of(file: StrPath | Sequence[StrPath]) -> list[tuple[Path, str | None]]:
    """List the files of names, patterns and folders, each with the name of its array."""
    files: list[tuple[Path, str | None]] = []
    for one in [file] if isinstance(file, (str, os.PathLike)) else file:
        path, name = split_name(one)
        paths = [path]
        if path.is_dir():
            paths = sorted(path.glob("*.parquet"))
        elif not path.exists() and glob.has_magic(str(path)):
            paths = [*map(Path, sorted(glob.glob(str(path))))]
        if not paths:
            raise ValueError(f"{path}: expected files of vectors, or a folder of Parquet files, "
                             "got none")
        files += [(one, name) for one in paths]
    if not files:
        raise ValueError("file: expected one or more, got none")
    return files


def read_ids(file: StrPath, *, max_bytes: int | None = None) -> Array:
    """Read ids: a list of integers, or a boolean mask. Errors are those of `open_vectors`.

    Parameters
    ----------
    file : str or path-like
        Any of the vector files with one list of integers, or ``.txt`` with integers between blanks,
        commas or line ends.
    max_bytes : int, optional
        As for `open_vectors`; text has no limit.

    Returns
    -------
    ndarray of shape (n,), int64 or bool

    Examples
    --------
    >>> read_ids("allowed.txt")  # doctest: +SKIP
    array([ 3, 17, 42])
    """
    path, name = split_name(file)
    if path.suffix == ".txt":
        return np.concatenate([np.empty(0, np.int64), *_text_lines(path)])
    ids = integers_of(path, name, max_bytes, "iub")
    if ids.ndim == 2 and 1 in ids.shape:
        ids = ids.ravel()
    if ids.ndim != 1:
        raise ValueError(f"{path}: expected one list of ids, got an array of shape {ids.shape}")
    return ids


def read_id_lists(file: StrPath, n: int | None, *,
                  max_bytes: int | None = None) -> Array | list[Array]:
    """Read a list of ids for each of n queries. Errors are those of `open_vectors`.

    Parameters
    ----------
    file : str or path-like
        Any of the vector files, with a row of integers a query (-1 means nothing) or one list that
        goes for every query; or ``.txt`` with a line a query.
    n : int, or None
        How many queries there are; None: as many as there are lists.
    max_bytes : int, optional
        As for `open_vectors`; text has no limit.

    Returns
    -------
    ndarray of shape (n, m), int64, or list of n arrays

    Examples
    --------
    >>> read_id_lists("seen.txt", 2)  # doctest: +SKIP
    [array([4, 8]), array([], dtype=int64)]
    """
    path, name = split_name(file)
    lists: Array | list[Array]
    if path.suffix == ".txt":
        lists = list(_text_lines(path))
    else:
        lists = integers_of(path, name, max_bytes)
        if lists.ndim == 1:
            lists = np.broadcast_to(lists, (1 if n is None else n, len(lists)))
        if lists.ndim != 2:
            raise ValueError(f"{path}: expected ids a query, got an array of shape {lists.shape}")
    if n is not None and len(lists) != n:
        raise ValueError(f"{path}: expected a list for each query ({n}), got {len(lists)}")
    return lists


def write_vectors(file: StrPath, vectors: ArrayLike, name: str | None = None) -> None:
    """Write vectors whole or not at all; the extension is the format.

    Parameters
    ----------
    file : str or path-like
        The file to write or replace; its mode, owner and group are kept where allowed.
    vectors : array-like of shape (rows, dim)
        Numbers. ``.ivecs`` and ``.bvecs`` take those that int32 and uint8 can hold.
    name : str, optional
        Of the array, column or data set; ``vectors`` unless given, ``train`` in ``.hdf5``. Text has
        none.

    Raises
    ------
    ValueError, ImportError, OSError
        If the extension is unknown, or the file cannot hold these vectors; if writing it takes a
        package that is not installed; if the file cannot be written.

    Examples
    --------
    >>> write_vectors("items.fvecs", np.ones((3, 8)))  # doctest: +SKIP
    """
    path = Path(file)
    array = np.asarray(vectors)
    if array.ndim != 2 or array.shape[1] < 1 or array.dtype.kind not in "fiu":
        raise ValueError("vectors: expected numbers of shape (rows, dim), got "
                         f"{array.dtype} of {array.shape}")
    kind = format_of(path)
    if name is not None and not kind.named:
        raise ValueError(f"name: a {path.suffix} file has no named arrays, got {name!r}")
    with replacing(path) as stream:
        kind.write(stream, array, name)


def split_name(file: StrPath) -> tuple[Path, str | None]:
    """Split FILE:NAME, unless a file has that name."""
    text = os.fspath(file)
    head, _, name = text.rpartition(":")
    path = Path(head)
    known = path.suffix.lower() in FORMATS or (head and path.is_dir())
    if name and known and not os.path.exists(text):
        return path, name
    return Path(text), None


def integers_of(path: Path, name: str | None, max_bytes: int | None = None,
                kinds: str = "iu") -> Array:
    """Read a whole array of integers as int64, or of booleans as they are."""
    shape, dtype, read, _ = look(path, name, "ids", max_bytes)
    if 0 in shape and dtype.kind == "f":  # numpy's type of an empty list
        return np.empty(shape, np.int64)
    if dtype.kind not in kinds:
        raise ValueError(f"{path}: expected integer ids, got {dtype}")
    blocks = list(read(max(1, *shape)))
    array = np.concatenate(blocks) if blocks else np.empty(shape, dtype)
    if dtype.kind == "b":
        return array
    if dtype.kind == "u" and array.max(initial=0) > np.iinfo(np.int64).max:
        raise ValueError(f"{path}: expected ids that int64 can hold, got {array.max()}")
    return array.astype(np.int64, copy=False)


def _text_lines(path: Path) -> Iterator[Array]:
    """Read the integers of each line of a text file."""
    for number, line in enumerate(text_lines(path), 1):
        try:
            yield np.array([int(word) for word in line.replace(",", " ").split()], np.int64)
        except (ValueError, OverflowError):
            raise ValueError(f"{path}: line {number}: expected int64 ids, got "
                             f"{line.strip()[:40]!r}") from None
