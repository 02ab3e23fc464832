"""Columns of lists by the Arrow interface, read with pyarrow, without a copy if possible."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt


def list_column(name: str, value: Any) -> npt.NDArray[Any] | None:
    """Rows of a column of lists of numbers, (n, dim); None for anything else. ValueError for
    missing numbers or ragged lists, ImportError without pyarrow."""
    import pyarrow

    try:
        column = (pyarrow.array if hasattr(value, "__arrow_c_array__")
                  else pyarrow.chunked_array)(value)
    except pyarrow.ArrowException as error:
        raise ValueError(f"{name}: expected a valid Arrow array, got one that isn't: "
                         f"{error}") from None
    if kind_of(column.type) is not list or not is_number(column.type.value_type):
        return None
    made: list[npt.NDArray[Any]] = []
    first, dim = 0, getattr(column.type, "list_size", None)
    for chunk in getattr(column, "chunks", [column]):
        if len(chunk):
            try:
                made.append(rows_of_lists(chunk, dim, first))
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from None
            first, dim = first + len(chunk), made[-1].shape[1]
    if len(made) == 1:
        return made[0]
    return np.concatenate(made) if made else np.empty((0, dim or 0), np.float32)


def kind_of(kind: Any) -> type:
    """The type of Python that a type of Arrow is nearest to."""
    from pyarrow import types

    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        return list
    if types.is_integer(kind):
        return int
    if types.is_floating(kind):
        return float
    if types.is_dictionary(kind):
        kind = kind.value_type
    return str if str(kind) in ("string", "large_string", "string_view") else object


def is_number(kind: Any) -> bool:
    """Whether a type of Arrow has numbers."""
    return kind_of(kind) in (int, float)


def rows_of_lists(chunk: Any, dim: int | None, first: int) -> npt.NDArray[Any]:
    """Rows of lists of `dim` numbers, None: as many as the first has; errors count from `first`."""
    try:
        chunk.validate()
    except ValueError as error:
        raise ValueError(f"expected a valid Arrow array, got one that isn't: {error}") from None
    if chunk.null_count:
        raise ValueError("expected a list of numbers in each row, got none in row "
                         f"{first + _first_missing(chunk)}; drop or fill it first")
    lengths = np.asarray(chunk.value_lengths())
    dim = int(lengths[0]) if dim is None else dim
    other = np.flatnonzero(lengths != dim)
    if len(other):
        raise ValueError(f"expected rows of equal length, got {dim} numbers in row 0 and "
                         f"{lengths[other[0]]} in row {first + other[0]}")
    numbers = chunk.flatten()
    if numbers.null_count:
        raise ValueError("expected numbers, got none in row "
                         f"{first + _first_missing(numbers) // dim}; drop or fill it first")
    rows: npt.NDArray[Any] = numbers.to_numpy().reshape(len(chunk), dim)
    return rows


def _first_missing(array: Any) -> int:
    return int(np.asarray(array.is_null()).argmax())
