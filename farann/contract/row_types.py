"""Row types, and lossless conversion of rows that come as another type.

Every value of each of these types is a float32, so that all that holds for float32 rows holds for
the others.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from farann._types import BoolArray, RowArray
from farann.contract import checks
from farann.contract.checks import plain_numbers

# Types of rows in memory and in files, by name. numpy has no bfloat16: these are its bits.
STORED: dict[str, np.dtype[Any]] = {
    "float32": np.dtype(np.float32), "float16": np.dtype(np.float16),
    "bfloat16": np.dtype(np.uint16), "uint8": np.dtype(np.uint8), "int8": np.dtype(np.int8)}
_NUMBERS_AT_ONCE = 1 << 20  # numbers that are converted at a time
# Bytes of a cache line. Vector loads from rows that don't begin at one straddle two.
_LINE = 64


def to_row_type(value: Any) -> str:
    """Check the type in which rows are to be stored: a name, or a dtype."""
    if isinstance(value, np.dtype) or (isinstance(value, type) and issubclass(value, np.generic)):
        value = np.dtype(value).name
    return str(checks.to_choice("dtype", value, tuple(STORED)))


def row_type_for(dtype: np.dtype[Any]) -> str:
    """The default type that rows are kept as: their own, or else float32."""
    return dtype.name if dtype.name in STORED else "float32"


def empty_rows(shape: tuple[int, ...], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """Room for rows, at the beginning of a line of the cache."""
    size = math.prod(shape) * dtype.itemsize
    room = np.empty(size + _LINE, np.uint8)
    start = -room.ctypes.data % _LINE
    return room[start : start + size].view(dtype).reshape(shape)


def to_rows(name: str, value: Any, dim: int | None, row_type: str, *, normalized: bool,
            as_is: bool = False, first: int = 0, checked: bool = True) -> RowArray:
    """Check rows and give them as they are kept, (n, dim), C-contiguous.

    Rows of the type are taken as they are, and uint16 as the bits of bfloat16; others are rounded
    to float32, and converted to another type if that loses nothing, ValueError where a number isn't
    one of it.

    `dim` and `normalized` are as for `checks.to_vectors`. `as_is`: what would have to be copied is
    refused. `first`: the number of the first row in what errors say. `checked`: False leaves the
    numbers of what is not converted to whoever copies it.
    """
    array = checks.to_matrix(name, value, dim, single=False)
    if row_type == "bfloat16" and array.dtype.kind == "u" and array.dtype.itemsize == 2:
        array = array.astype(np.uint16, copy=False)  # its bits
    is_type = array.dtype == STORED[row_type] or array.dtype.name == row_type == "bfloat16"
    fits = is_type and array.flags.c_contiguous and array.flags.aligned
    if as_is and not fits:
        order = "in C order" if array.flags.c_contiguous else "not in C order"
        raise ValueError(f"{name}: expected {row_type} in C order, as copy=False says, "
                         f"got {array.dtype} {order}")
    if is_type:
        rows = np.require(array, requirements=["C", "A"]).view(STORED[row_type])
    elif row_type == "float32":
        rows = checks.as_float32(array)
    else:
        rows = _converted(name, array, row_type, first)
    if checked or not fits:
        checks.check_rows(name, rows, normalized, first,
                          original=array if row_type == "float32" else None)
    return rows


def _converted(name: str, array: npt.NDArray[Any], row_type: str, first: int) -> RowArray:
    rows = np.empty(array.shape, STORED[row_type])
    step = max(_NUMBERS_AT_ONCE // max(array.shape[1], 1), 1)
    for start in range(0, len(array), step):
        block = plain_numbers(array[start : start + step])
        rows[start : start + step], exact = _converted_block(block, row_type)
        if exact.all():
            continue
        row, column = np.argwhere(~exact)[0]
        raise ValueError(_not_exact(name, block[row, column], row_type, first + start + int(row)))
    return rows


def _converted_block(numbers: npt.NDArray[Any], row_type: str) -> tuple[RowArray, BoolArray]:
    """Numbers as they are kept, and which of them are the same as before; NaN is the same."""
    with np.errstate(all="ignore"):
        if row_type in ("uint8", "int8"):
            limits = np.iinfo(row_type)
            inside = (numbers >= limits.min) & (numbers <= limits.max)
            rows = np.where(inside, numbers, numbers.dtype.type(0)).astype(row_type)
            return rows, inside & (rows == numbers)
        wide = numbers.astype(np.float32)
        same = _same(wide, numbers)
        if row_type == "float16":
            rows = wide.astype(np.float16)
            return rows, same & _same(rows, wide)
        bits = wide.view(np.uint32)
        return (bits >> 16).astype(np.uint16), same & (((bits & 0xFFFF) == 0) | np.isnan(wide))


def _same(converted: npt.NDArray[Any], numbers: npt.NDArray[Any]) -> BoolArray:
    if numbers.dtype.kind in "iu":
        # As whole numbers: float64 doesn't hold all of 64 bits.
        limits = np.iinfo(numbers.dtype)
        inside = (converted >= float(limits.min)) & (converted < float(limits.max) + 1.0)
        whole = np.where(inside, converted, np.float32(0)).astype(numbers.dtype)
        return np.asarray(inside & (whole == numbers))
    return np.asarray((converted == numbers) | (np.isnan(converted) & np.isnan(numbers)))


def _not_exact(name: str, number: Any, row_type: str, row: int) -> str:
    """The error for a number that would be changed, with a remedy."""
    if isinstance(number, np.floating) and not np.isfinite(number):
        what = "NaN" if np.isnan(number) else "infinity"
        return f"{name}: expected finite numbers, got {what} in row {row}"
    how = (f"round them yourself first (np.clip(np.rint(rows), {np.iinfo(row_type).min}, "
           f"{np.iinfo(row_type).max}))" if row_type in ("uint8", "int8")
           else f"convert them yourself first (rows.astype({row_type!r}))")
    return (f"{name}: expected numbers that {row_type} holds exactly, as Index(dtype={row_type!r}) "
            f"says, got {number} in row {row}; {how}, or make the index with another dtype")
