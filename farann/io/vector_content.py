"""What all vector formats share: what a file was found to hold, and what is wrong with it."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Reader = Callable[[int], Iterator[Array]]


class Content(NamedTuple):
    """An array in a file: shape, type, and how to read it in blocks of rows."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    read: Reader
    whole: Array | None = None  # mapped into memory, where the file holds it as numpy does


class Fault(ValueError):
    """A fault of a file, described without the file's name."""


class TooLarge(Fault):
    """A fault: the file's content is larger than the limit."""


def check_size(size: int, limit: int) -> None:
    """Refuse more bytes than the limit."""
    if size > limit:
        raise TooLarge(f"expected at most {limit} bytes of numbers once unpacked, got {size}")


def slices(array: Any, n: int) -> Reader:
    """Reads rows of what can be sliced."""
    return lambda step: (array[start : start + step] for start in range(0, n, step))


def choose(path: Path, what: str, names: Iterable[str], wanted: str | None, default: str) -> str:
    """Pick the wanted array, or the only one, or the default."""
    names = sorted(names)
    listed = ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
    if wanted in names:
        return str(wanted)
    if wanted is not None:
        raise Fault(f"no {what} is called {wanted!r}; there are: {listed or 'none'}")
    if len(names) == 1:
        return names[0]
    if default in names:
        return default
    if not names:
        raise Fault(f"holds no {what}")
    raise Fault(f"holds several: {listed}; say which as {path.name}:NAME")


def optional_package(module: str, path_or_suffix: Path | str) -> Any:
    """Import an optional package, or say how to get it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        raise ImportError(
            f"{path_or_suffix}: this takes {package}, which can't be imported; "
            f"install it with: pip install {package}"
        ) from error
