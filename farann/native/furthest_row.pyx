"""One row, the furthest from one query, by exact keys alone: without an index."""

from libc.math cimport INFINITY
from libc.stdint cimport int64_t, uint8_t, uint64_t

from farann.native.kernels cimport *
from farann.native.scratch cimport Scratch

cdef enum:
    KEYS_AT_ONCE = 256  # rows whose exact keys are computed at once


def furthest_row(const float[:, ::1] rows, int metric, str isa, const float[::1] query, *,
                 const int64_t[::1] ids=None, const uint8_t[::1] allowed=None):
    """The slot of the row furthest from a query by exact keys, of equal ones that of the smallest
    id; -1: there is none."""
    cdef int64_t n = rows.shape[0], dim = rows.shape[1], start = 0, i, count, best = -1, id
    cdef const farann_kernels *kernels = kernels_of(isa)
    cdef Scratch scratch = Scratch()
    cdef double *exact = <double *>scratch.allocate(padded(dim), sizeof(double))
    cdef double keys[KEYS_AT_ONCE]
    cdef double best_key = -INFINITY
    cdef int64_t best_id = 0
    cdef uint64_t before
    if dim < 1 or query.shape[0] != dim or not 0 <= metric < 3 or (
            (ids is not None and ids.shape[0] != n)
            or (allowed is not None and allowed.shape[0] != n)):
        raise ValueError("a query must be of the rows' dimension, and what is given of each row")
    with nogil:
        before = farann_arithmetic_begin()
        kernels.widen_f32(&query[0], dim, exact)
        while start < n:
            count = min(n - start, <int64_t>KEYS_AT_ONCE)
            kernels.keys_f64[metric](&rows[start, 0], NULL, count, dim, exact, keys)
            for i in range(count):
                if allowed is not None and not allowed[start + i]:
                    continue
                id = start + i if ids is None else ids[start + i]
                if best < 0 or keys[i] > best_key or (keys[i] == best_key and id < best_id):
                    best, best_key, best_id = start + i, keys[i], id
            start += count
        farann_arithmetic_end(before)
    return best
