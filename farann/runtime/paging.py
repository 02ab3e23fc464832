"""Rows in mapped files: the system is told in which order they are going to be read.

It reads ahead of a fault, by up to 8 MB on some disks. Where rows are read at random that is nearly
all wasted, and where memory is short it drives out pages that are still needed. None of this
changes a result, and arrays in memory are left alone.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import mmap

# Names of advice in `mmap`, which has those of the platform alone: none on Windows.
NORMAL, RANDOM, SEQUENTIAL, _WILL_NEED = (
    f"MADV_{name}" for name in ("NORMAL", "RANDOM", "SEQUENTIAL", "WILLNEED"))


def mapping_of(array: object) -> mmap.mmap | None:
    """The mapping that an array is a view of; None if it isn't one of a file."""
    if "mmap" not in sys.modules:  # whoever maps a file imports it
        return None
    import mmap

    while isinstance(array, (np.ndarray, memoryview)):
        array = array.base if isinstance(array, np.ndarray) else array.obj
    return array if isinstance(array, mmap.mmap) else None


def is_mapped(array: object) -> bool:
    """Whether an array is a view of a mapped file."""
    return mapping_of(array) is not None


def exceed_memory(rows: npt.NDArray[Any]) -> bool:
    """Whether mapped rows are, in float32, more than memory holds: two sets of codes, of about
    half as much, may not fit beside what a build takes."""
    return is_mapped(rows) and 4 * rows.size > memory()


def memory(root: Path = Path("/")) -> float:
    """Bytes that this process may use: those of the machine or of a cgroup it is in, 1 or 2."""
    limits = [float("inf")]
    with suppress(AttributeError, ValueError, OSError):  # not on Windows
        limits.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    with suppress(OSError, ValueError):  # no cgroups
        for line in (root / "proc/self/cgroup").read_text().splitlines():
            _, controllers, name = line.split(":", 2)
            top, file = root / "sys/fs/cgroup", "memory.max"
            if controllers:
                top, file = top / "memory", "memory.limit_in_bytes"
            if not controllers or "memory" in controllers.split(","):
                own = top / name.lstrip("/")
                for group in (top, own, *own.parents):
                    with suppress(OSError, ValueError):  # no such file; "max"
                        limits.append(int((group / file).read_text()))
    return min(limits)


def advise(array: object, advice: str) -> None:
    """Tell the system how a mapped array is going to be read; nothing happens with others."""
    mapping = mapping_of(array)
    if mapping is not None and isinstance(array, np.ndarray) and array.size:
        reach = sum((n - 1) * step for n, step in zip(array.shape, array.strides, strict=True))
        _advise(mapping, array.ctypes.data - _start_of(mapping), reach + array.itemsize, advice)


def _start_of(mapping: mmap.mmap) -> int:
    return int(np.frombuffer(mapping, np.uint8).ctypes.data)


def _advise(mapping: mmap.mmap, start: int, nbytes: int, advice: str) -> None:
    import mmap

    if hasattr(mmap, advice):
        before = start % mmap.PAGESIZE
        with suppress(OSError):  # some file systems take no advice
            mapping.madvise(getattr(mmap, advice), start - before, nbytes + before)


@contextmanager
def in_order(rows: object, then: str = RANDOM) -> Iterator[None]:
    """Read mapped rows from beginning to end, and as `then` says afterwards."""
    advise(rows, SEQUENTIAL)
    try:
        yield
    finally:
        advise(rows, then)


def taken(rows: npt.NDArray[Any], which: slice | npt.NDArray[np.integer[Any]]) -> npt.NDArray[Any]:
    """``rows[which]``, where pages of a mapped file are all requested before the first is waited
    for. They come in any order, many at a time."""
    mapping, step = mapping_of(rows), rows.strides[0]
    if mapping is not None and step > 0:
        row_bytes = rows.nbytes // len(rows) if len(rows) else 0
        start = rows.ctypes.data - _start_of(mapping)
        numbers = np.arange(len(rows))[which] if isinstance(which, slice) else which
        for number in numbers.tolist():
            _advise(mapping, start + number * step, row_bytes, _WILL_NEED)
    return rows[which]
