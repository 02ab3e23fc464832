"""The native core: owns buffers and lifetimes, releases the GIL, runs the search loop.

A `Snapshot` is one immutable state of an index. A `Filter` says which rows may be found. A
search is one `Task`, which owns the scratch memory for some queries of a batch; threads run
tasks side by side over the same snapshot.
"""

cimport cython  # final: methods of hot loops are called as functions
from cpython.buffer cimport (PyBUF_FORMAT, PyBUF_SIMPLE, PyBUF_STRIDES, PyBUF_WRITABLE,
                             PyBuffer_Release, PyObject_GetBuffer)
from cpython.exc cimport PyErr_CheckSignals
from libc.math cimport INFINITY, NAN, fabs, isnan, log2, nextafter, nextafterf, sqrt
from libc.stdint cimport (INT64_MAX, UINT32_MAX, int8_t, int32_t, int64_t, uint8_t, uint32_t,
                          uint64_t, uintptr_t)
from libc.stdlib cimport free

from farann._kernels cimport *

import numpy as np

METRICS = ("l2", "dot", "cosine")

# Pays for the rounding of float64.
cdef double BOUND_UP = 1.0 + 1e-9

# What one piece of scratch memory may take.
cdef int64_t MOST_BYTES = 1 << 46

cdef enum:
    # How a task scores rows: canonical keys of all; roughly, as they lie; roughly, packed.
    EXACT, AS_THEY_LIE, PACKED
    # Below this many queries packing the rows costs more than it saves, and below this many
    # rows a rough pass does.
    FEW_QUERIES = 6
    FEW_ROWS = 64
    ALIGNMENT = 64
    # Candidates that a query may hold beyond twice k before they are thinned out.
    CANDIDATE_ROOM = 64
    # Coordinates whose upper halves have sums that float32 holds, whatever they are.
    MOST_HALVED = 8192
    # Pieces of memory that a task may have.
    MOST_ALLOCATED = 32
    # From so many queries on rows are scanned for a tile of them.
    FEW_VISITORS = 3
    # The first rows, so many at most and at least, are all scored before there is a threshold.
    MOST_SCORED = 512
    LEAST_SCORED = 128
    # So many best scores are kept sorted; of more, new ones are gathered first.
    FEW_BEST = 64
    # A packed block of rows should stay in the second-level cache.
    BLOCK_BYTES = 524288
    FIRST_BLOCK = 64
    LARGEST_BLOCK = 1024
    # Of the upper halves of codes less than one row in so many should pass.
    FEW_PASS = 4
    LONGEST_PAUSE = 7
    # Rows that pass by them but don't look like an answer are put off, so many at most.
    DEFERRED = 8192
    SCORES_AT_ONCE = 256
    # Rows that are scanned before it is judged whether codes rule out enough.
    FEWEST_JUDGED = 256
    # And rows that may pass until then, beside those that have to do with k.
    ALWAYS_PASS = 64
    # Rows that are scored again before somebody looks whether the search was given up.
    RESCORED_AT_ONCE = 4096
    # Coordinates that are checked, and coded, before signals are looked for.
    CHECKED_AT_ONCE = 16777216
    CODED_AT_ONCE = 1048576
    # Of the rows of a base, one in so many may be without codes.
    FEWEST_CODED = 256
    # Directions of a first look; what rounding may do to their products grows with the number.
    LARGEST_BASIS = 128


def isa_levels():
    """Names of the instruction-set levels that this CPU has, slowest first."""
    cdef const char *const *level = farann_kernel_levels()
    names = []
    while level[0] != NULL:
        names.append(level[0].decode("ascii"))
        level += 1
    return tuple(names)


cdef const farann_kernels *kernels_of(str isa) except NULL:
    cdef const farann_kernels *kernels = farann_kernels_by_name(isa.encode("ascii"))
    if kernels == NULL:
        raise ValueError(f"isa: this CPU has {', '.join(isa_levels())}, got {isa!r}")
    return kernels


def largest_query_code(str isa):
    """Largest magnitude of a query's 8-bit codes: what the byte products of this level allow."""
    return kernels_of(isa).largest_code


def first_bad_row(const float[:, ::1] rows, bint unit):
    """Number of the first row with a NaN or infinity (with `unit`: or all zeros), or -1."""
    cdef int64_t bad = -1, n = rows.shape[0], dim = rows.shape[1], start = 0, count
    cdef uint64_t before
    if dim == 0:
        return -1
    while start < n and bad < 0:
        count = min(max(CHECKED_AT_ONCE // dim, 1), n - start)
        with nogil:
            before = farann_arithmetic_begin()
            bad = farann_first_bad_row(&rows[start, 0], count, dim, unit)
            farann_arithmetic_end(before)
        bad += start if bad >= 0 else 0
        start += count
        PyErr_CheckSignals()
    return bad


cdef int64_t padded(int64_t dim) noexcept nogil:
    return (dim + FARANN_PADDING - 1) // FARANN_PADDING * FARANN_PADDING


cdef int64_t rows_in_cache(int64_t row_bytes) noexcept nogil:
    """Rows of a block: whole panels of every kind."""
    return min(max(BLOCK_BYTES // row_bytes // FIRST_BLOCK, 1) * FIRST_BLOCK, LARGEST_BLOCK)


include "_process.pxi"
include "_codes.pxi"
include "_cells.pxi"
include "_seeds.pxi"
include "_snapshot.pxi"
include "_guard.pxi"
include "_rough.pxi"
include "_queries.pxi"
include "_selection.pxi"
include "_key_rows.pxi"
include "_coded_blocks.pxi"
include "_coded_rows.pxi"
include "_seeded_rows.pxi"
include "_float_rows.pxi"
include "_added_rows.pxi"
include "_task.pxi"
include "_places.pxi"
include "_approximate.pxi"
include "_single.pxi"
