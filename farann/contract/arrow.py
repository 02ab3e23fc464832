"""Columns of lists by the Arrow C interface: arrays over their memory, without a copy if possible.

The interface is described in "The Arrow C data interface" and "The Arrow PyCapsule interface" of
the Arrow documentation. Neither pyarrow nor any other library is needed to read it.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from farann._types import Int64Array

# Types of numbers by their format strings.
_TYPES = {b"e": "f2", b"f": "f4", b"g": "f8", b"c": "i1", b"C": "u1", b"s": "i2", b"S": "u2",
            b"i": "i4", b"I": "u4", b"l": "i8", b"L": "u8"}
_OFFSETS = {b"+l": "i4", b"+L": "i8"}  # types of offsets of lists, likewise
_FIXED = b"+w:"  # and the length follows
_ADDRESSES = ctypes.POINTER(ctypes.c_void_p)
_LAST = [("dictionary", ctypes.c_void_p), ("release", ctypes.c_void_p),
         ("private_data", ctypes.c_void_p)]


class _Schema(ctypes.Structure):
    _fields_ = [("format", ctypes.c_char_p), ("name", ctypes.c_char_p),
                ("metadata", ctypes.c_void_p), ("flags", ctypes.c_int64),
                ("n_children", ctypes.c_int64), ("children", _ADDRESSES), *_LAST]


class _Array(ctypes.Structure):
    _fields_ = [("length", ctypes.c_int64), ("null_count", ctypes.c_int64),
                ("offset", ctypes.c_int64), ("n_buffers", ctypes.c_int64),
                ("n_children", ctypes.c_int64), ("buffers", _ADDRESSES),
                ("children", _ADDRESSES), *_LAST]


class _Stream(ctypes.Structure):
    _fields_ = [
        ("get_schema", ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)),
        ("get_next", ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)),
        ("get_last_error", ctypes.CFUNCTYPE(ctypes.c_char_p, ctypes.c_void_p)),
        ("release", ctypes.c_void_p), ("private_data", ctypes.c_void_p)]


_pointer_in = ctypes.pythonapi.PyCapsule_GetPointer
_pointer_in.restype, _pointer_in.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
_Release = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


class _Memory:
    """Memory as numpy takes it; lives as long as an array over it does."""

    def __init__(self, address: int, dtype: str, n: int, owner: object) -> None:
        self._owner = owner
        self.__array_interface__ = {"data": (address, True), "shape": (n,), "typestr": f"<{dtype}",
                                    "version": 3}


def list_column(name: str, value: Any) -> npt.NDArray[Any] | None:
    """Rows of a column of lists of numbers, (n, dim); None for anything else.

    Raises
    ------
    ValueError
        Where a list or a number is missing, or lists differ in length.
    """
    schema, chunks = (_one_chunk if hasattr(value, "__arrow_c_array__") else _chunks)(value)
    known = _format_of(schema.struct)
    if known is None:
        return None
    format_, numbers = known
    made: list[npt.NDArray[Any]] = []
    row, dim = 0, int(format_[len(_FIXED):]) if format_.startswith(_FIXED) else None
    for chunk in chunks:
        rows = _rows(name, chunk, format_, numbers, dim, row)
        row, dim = row + chunk.struct.length, rows.shape[1] if len(rows) else dim
        if len(rows):
            made.append(rows)
    if len(made) == 1:
        return made[0]
    return np.concatenate(made) if made else np.empty((0, dim or 0), np.float32)


class _Struct:
    """A struct in a capsule, which keeps it."""

    def __init__(self, kind: Any, capsule: object, name: bytes) -> None:
        self.address, self._capsule = _pointer_in(capsule, name), capsule
        self.struct = kind.from_address(self.address)
        _refuse_released(self.struct)


class _Owned:
    """A struct that another library filled, given back to it with the last array over it."""

    def __init__(self, struct: Any) -> None:
        self.struct = struct

    def __del__(self) -> None:
        if self.struct.release:
            _Release(self.struct.release)(ctypes.addressof(self.struct))


def _one_chunk(value: Any) -> tuple[Any, Iterable[Any]]:
    schema, array = value.__arrow_c_array__()
    return _Struct(_Schema, schema, b"arrow_schema"), [_Struct(_Array, array, b"arrow_array")]


def _chunks(value: Any) -> tuple[Any, Iterable[Any]]:
    stream = _Struct(_Stream, value.__arrow_c_stream__(), b"arrow_array_stream")

    def ask(function: Callable[[int, int], int], struct: Any) -> _Owned:
        if function(stream.address, ctypes.addressof(struct)):
            what = stream.struct.get_last_error(stream.address) or b"no reason given"
            raise ValueError(f"Arrow stream: {what.decode(errors='replace')}")
        return _Owned(struct)

    schema = ask(stream.struct.get_schema, _Schema())
    _refuse_released(schema.struct)

    def chunks() -> Iterator[_Owned]:
        while (chunk := ask(stream.struct.get_next, _Array())).struct.release:
            yield chunk

    return schema, chunks()


def _refuse_released(struct: Any) -> None:
    """ValueError for a struct whose owner has taken it back: its memory may be gone."""
    if not struct.release:
        raise ValueError("Arrow: expected data that was not released, got some that was")


def _refuse_broken(name: str, array: Any, n_buffers: int, n_children: int) -> None:
    """ValueError unless an array has the parts that its format asks for.

    What memory a buffer has isn't said anywhere: that its producer knows.
    """
    if (array.length < 0 or array.offset < 0 or array.n_buffers < n_buffers or not array.buffers
            or array.n_children != n_children or (n_children and not array.children)):
        raise _broken(name, "it lacks a part, or its length or offset is negative")


def _broken(name: str, what: str) -> ValueError:
    return ValueError(f"{name}: expected a valid Arrow array, got one that isn't: {what}")


def _format_of(schema: Any) -> tuple[bytes, str] | None:
    """The format of a list of numbers, and the type of these; None for anything else."""
    format_ = schema.format or b""
    fixed = format_.startswith(_FIXED) and format_[len(_FIXED):].isdigit()
    if not (format_ in _OFFSETS or fixed) or schema.n_children != 1 or not schema.children:
        return None
    child = _Schema.from_address(schema.children[0])
    if child.dictionary or child.format not in _TYPES:
        return None
    return format_, _TYPES[child.format]


def _rows(name: str, owner: Any, format_: bytes, numbers: str, dim: int | None,
          first: int) -> npt.NDArray[Any]:
    """Rows of a chunk, the first of which is number `first` of all."""
    chunk = owner.struct
    _refuse_broken(name, chunk, 2 if format_ in _OFFSETS else 1, 1)
    n, values = chunk.length, _Array.from_address(chunk.children[0])
    _refuse_broken(name, values, 2, 0)
    missing = _first_missing(chunk, 0, n)
    if missing is not None:
        raise ValueError(f"{name}: expected a list of numbers in each row, got none in row "
                         f"{first + missing}; drop or fill it first")
    start = chunk.offset * (dim or 0)
    if format_ in _OFFSETS:
        if n and not chunk.buffers[1]:
            raise _broken(name, "it has no offsets")
        ends = np.asarray(_Memory(chunk.buffers[1], _OFFSETS[format_], chunk.offset + n + 1,
                                  owner))[chunk.offset :] if n else np.zeros(1, np.int64)
        start, dim = int(ends[0]), _common_length(name, np.diff(ends), dim, first)
    if n == 0 or not dim:
        return np.empty((n, dim or 0), np.float32)
    if start < 0 or dim < 0 or start + n * dim > values.length or not values.buffers[1]:
        raise _broken(name, f"lists reach beyond the {values.length} numbers that there are")
    missing = _first_missing(values, start, n * dim)
    if missing is not None:
        raise ValueError(f"{name}: expected numbers, got none in row {first + missing // dim}; "
                         "drop or fill it first")
    start += values.offset
    flat = np.asarray(_Memory(values.buffers[1], numbers, start + n * dim, owner))
    return flat[start:].reshape(n, dim)


def _common_length(name: str, lengths: Int64Array, dim: int | None, first: int) -> int | None:
    if len(lengths) == 0:
        return dim
    expected = int(lengths[0]) if dim is None else dim
    other = np.flatnonzero(lengths != expected)
    if len(other):
        raise ValueError(f"{name}: expected rows of equal length, got {expected} numbers in row 0 "
                         f"and {lengths[other[0]]} in row {first + other[0]}")
    return expected


def _first_missing(array: Any, start: int, n: int) -> int | None:
    """The first of n entries that the validity bitmap says is missing."""
    if array.null_count == 0 or n == 0 or not array.buffers[0]:
        return None
    begin = array.offset + start
    octets = np.asarray(_Memory(array.buffers[0], "u1", (begin + n + 7) // 8, None))[begin // 8 :]
    there = np.unpackbits(octets, bitorder="little")[begin % 8 : begin % 8 + n]
    return None if there.all() else int(there.argmin())
