"""Arrays of whatever users have: nested lists, columns of frames, tensors."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

# Most characters of a value in an error message.
_MOST_SHOWN = 100
# DLPack devices whose memory the CPU reads: its own, and memory pinned for CUDA or ROCm.
_CPU_DEVICES = (1, 3, 11)
# Objects of an array that are looked at to tell whether it holds rows.
_LOOKED_AT = 16


def shown(value: Any) -> str:
    """A value for an error message: short, and of any value."""
    try:
        text = repr(value)
    except Exception:  # Python refuses to print numbers of more than 4300 digits
        text = f"a value of type {type(value).__name__}"
    return text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}..."


def to_array(name: str, value: Any) -> npt.NDArray[Any]:
    """An array of whatever came; ragged nests are refused, and what has no numbers for everything.

    Rows may be a column of a frame, an array of arrays or a tensor on the CPU: see `Index.add`.
    """
    if type(value) is np.ndarray:
        array = value
    elif isinstance(value, np.ndarray):
        _refuse_masked(name, value)
        array = np.asarray(value)
    else:
        array = _of_other(name, value)
    if array.dtype == object and array.ndim == 1 and len(array):
        return _stacked(name, array)
    return array


def plain_numbers(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """bfloat16, float8 and the like, as ml_dtypes has them, as float32; others as they are."""
    return array.astype(np.float32) if _is_small(array.dtype) else array


def are_numbers(array: npt.NDArray[Any]) -> bool:
    """Whether an array has real numbers, of numpy's types or as ml_dtypes has them."""
    return array.dtype.kind in "fiu" or _is_small(array.dtype)


def _is_small(dtype: np.dtype[Any]) -> bool:
    return dtype.kind == "V" and dtype.type.__module__.partition(".")[0] == "ml_dtypes"


def what_is(array: npt.NDArray[Any]) -> str:
    """What an array of no numbers has, for an error message, and what to write instead."""
    if array.dtype.kind in "UT":
        return "strings"
    if array.dtype.kind == "S":
        return "bytes; decode them to strings first"
    if array.ndim == 0:
        return shown(array.item())
    if array.dtype != object:
        return f"an array of {array.dtype}"
    if array.ndim == 2 and len(array) and any(_is_row(cell) for cell in array[0]):
        return ("a table whose cells are arrays; pass the column of vectors alone, such as "
                'np.stack(table["embedding"])')
    if array.ndim == 2:
        return "an array of Python objects; if they are numbers, write .astype(float)"
    return f"objects such as {shown(array.flat[0])}" if array.size else "an array of Python objects"


def _of_other(name: str, value: Any) -> npt.NDArray[Any]:
    """An array of what isn't one yet."""
    if hasattr(value, "nnz") and hasattr(value, "toarray"):
        raise TypeError(f"{name}: expected a dense array, got a sparse {type(value).__name__}; "
                        "write .toarray()")
    if hasattr(value, "__next__"):
        raise TypeError(f"{name}: expected an array, got a {type(value).__name__}; write list(...)")
    if type(value).__module__.partition(".")[0] == "torch":
        value = _plain_tensor(name, value)
    if _may_be_list_column(value):
        from farann.contract.arrow import list_column

        try:
            rows = list_column(name, value)
        except ImportError:  # pandas needs pyarrow for it
            rows = None
        if rows is not None:
            return rows
    if hasattr(value, "__dlpack__") and not hasattr(value, "__array__"):
        return _by_dlpack(name, value)
    try:
        return np.asarray(value)
    except (TypeError, OverflowError) as error:  # dates among numbers, say
        raise TypeError(f"{name}: expected an array of numbers, got {shown(value)}") from error
    except ValueError as error:
        raise ValueError(_ragged(name, value)) from error
    except (RuntimeError, BufferError) as error:  # of tensors that have to be moved first
        raise TypeError(f"{name}: expected an array that numpy can read, got a "
                        f"{type(value).__name__}: {error}") from error


def _may_be_list_column(value: Any) -> bool:
    """Whether it is worth asking by the Arrow interface: pandas converts whole frames for that."""
    is_arrow = hasattr(value, "__arrow_c_array__") or hasattr(value, "__arrow_c_stream__")
    numpy_has_it = isinstance(getattr(value, "dtype", None), np.dtype)
    return is_arrow and not numpy_has_it and getattr(value, "ndim", 1) == 1


def _refuse_masked(name: str, value: Any) -> None:
    if np.any(getattr(value, "mask", False)):
        raise ValueError(f"{name}: expected an array without masked values; write .filled(0), say, "
                         "or leave their rows out")


def _plain_tensor(name: str, value: Any) -> Any:
    """A tensor of torch as numpy can read it."""
    device = getattr(value, "device", None)
    if device is not None and device.type != "cpu":
        raise TypeError(f"{name}: expected a tensor on the CPU, got one on {device}; write .cpu()")
    if getattr(value, "is_sparse", False):
        raise TypeError(f"{name}: expected a dense tensor, got a sparse one; write .to_dense()")
    if getattr(value, "requires_grad", False):
        value = value.detach()
    # numpy has no bfloat16 and no float8.
    if any(text in str(getattr(value, "dtype", "")) for text in ("bfloat16", "float8")):
        value = value.float()
    return value


def _by_dlpack(name: str, value: Any) -> npt.NDArray[Any]:
    device = value.__dlpack_device__()[0] if hasattr(value, "__dlpack_device__") else 1
    if device not in _CPU_DEVICES:
        raise TypeError(f"{name}: expected a tensor on the CPU, got one elsewhere (device type "
                        f"{int(device)} of DLPack); copy it to the CPU first")
    try:
        return np.from_dlpack(value)
    except (RuntimeError, BufferError, TypeError, ValueError) as error:
        raise TypeError(f"{name}: expected a tensor that numpy can read, got a "
                        f"{type(value).__name__}: {error}") from error


def _stacked(name: str, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Stack an array of rows into one array; an array without rows is returned unchanged."""
    if not any(_is_row(row) for row in array[:_LOOKED_AT]):
        return array
    lengths = np.fromiter((len(row) if _is_row(row) else -1 for row in array), np.int64, len(array))
    if (lengths != lengths[0]).any():
        raise ValueError(_ragged(name, array))
    rows = [row if isinstance(row, (list, tuple, np.ndarray)) else to_array(name, row)
            for row in array]
    try:
        return np.asarray(rows)
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"{name}: expected rows of numbers of equal length, got ragged data"
                         ) from error


def _is_row(row: Any) -> bool:
    """Whether an object could be a vector."""
    return hasattr(row, "__len__") and hasattr(row, "__getitem__") and not isinstance(
        row, (str, bytes, dict)) and getattr(row, "shape", (0,)) != ()


def _ragged(name: str, rows: Any) -> str:
    """The error for rows of unequal length."""
    expected = f"{name}: expected rows of equal length, got "
    if isinstance(rows, (list, tuple, np.ndarray)) and any(map(_is_row, rows)):
        for i, row in enumerate(rows):
            if not _is_row(row):
                return f"{expected}{shown(row)} in row {i}; drop or fill it first"
            if len(row) != len(rows[0]):
                return f"{expected}{len(rows[0])} numbers in row 0 and {len(row)} in row {i}"
    return f"{expected}ragged data"
