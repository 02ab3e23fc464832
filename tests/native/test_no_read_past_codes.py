"""Scans read no byte beyond the codes: these end where memory does. A read beyond kills pytest."""

from __future__ import annotations

import ctypes
import mmap
import sys
from dataclasses import replace

import inside
import numpy as np
import pytest
import reference
from inside import core
from inside.contract import traits_of
from inside.layout import Builder, whole_panels
from inside.quantize import Projection, Transform, directions, measure_rows, rotation_signs
from numpy.typing import NDArray

N_ROWS, PROT_NONE = 640, 0

if not sys.platform.startswith("linux"):
    pytest.skip("needs mprotect", allow_module_level=True)


def at_the_end_of_memory(array: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A copy before a page that can't be read."""
    room = -(-array.nbytes // mmap.PAGESIZE) * mmap.PAGESIZE
    memory = mmap.mmap(-1, room + mmap.PAGESIZE)
    flat = np.frombuffer(memory, np.uint8)
    libc = ctypes.CDLL(None, use_errno=True)
    beyond = ctypes.c_void_p(flat.ctypes.data + room)
    assert libc.mprotect(beyond, ctypes.c_size_t(mmap.PAGESIZE), PROT_NONE) == 0
    copy = flat[room - array.nbytes : room].reshape(array.shape)
    copy[:] = array
    return copy


@pytest.mark.parametrize("n_queries", [1, 9, 70])
@pytest.mark.parametrize("kind", ["halves", "upper", "along"])
@pytest.mark.parametrize("dim", [4, 50, 64, 97, 200])
@pytest.mark.parametrize("isa", inside.levels())
def test_nothing_is_read_beyond(isa: str, dim: int, kind: str, n_queries: int,
                                rng: np.random.Generator) -> None:
    rows = rng.standard_normal((N_ROWS, dim), dtype=np.float32)
    queries = rng.standard_normal((n_queries, dim), dtype=np.float32)
    center, unit = np.zeros(dim), False
    extents = measure_rows(rows, center, unit, Transform(rotation_signs(dim, 0)), isa, False)
    assert extents is not None
    builder = Builder(rows, center, traits_of("dot"), isa, extents, False)
    order = builder.by_size(np.delete(np.arange(N_ROWS), extents.outliers))
    basis = directions(rows.astype(np.float64), 0)[: dim // 3 + 1]
    arrays = builder.lay_out(whole_panels(order),
                             Projection(basis) if kind == "along" else None)
    arrays = replace(arrays, panels=at_the_end_of_memory(arrays.panels))
    if arrays.low_nibbles is not None:
        lower = None if kind == "upper" else at_the_end_of_memory(arrays.low_nibbles)
        arrays = replace(arrays, low_nibbles=lower)
    snapshot = inside.native.snapshot_of_rows(rows, "dot", isa, center=center,
                                              codes=core.Codes(N_ROWS, dim, arrays))
    ids = inside.native.run(inside.native.task_of(snapshot, queries, 10), n_queries, 10).ids
    np.testing.assert_array_equal(ids, reference.furthest(queries, rows, 10, "dot").ids)
