"""Rows by bounds on their keys: the largest first, of equal ones the smallest id."""

from libc.math cimport INFINITY
from libc.stdint cimport int32_t, int64_t


cdef struct Bounded:
    double bound
    int64_t id
    int64_t slot


cdef enum:
    EXACT = -1    # the bound is the key
    UNKNOWN = -2  # any pick may be the nearest


cdef struct RowState:
    double bound    # the smallest key over the picks before `met` is at most this
    double others   # keys for picks outside `chunk` are at least this minus the error of bounds
    int32_t met
    int32_t chunk   # the picks of which one is the nearest, or EXACT, or UNKNOWN
    char is_out     # not to be chosen


cdef inline bint goes_before(const Bounded *a, const Bounded *b) noexcept nogil:
    return a.bound > b.bound or (a.bound == b.bound and a.id < b.id)


cdef inline void meet(RowState *row, int64_t chunk, double bound, double off) noexcept nogil:
    """Note that a row has at most this key for picks of a chunk, and a bound that is tight."""
    if bound < row.bound:
        if row.chunk == UNKNOWN:
            row.others = -INFINITY if row.bound < INFINITY else INFINITY
        elif row.chunk != chunk:
            row.others = min(row.others, row.bound)
        row.bound, row.chunk = bound, <int32_t>chunk
    elif row.chunk == EXACT:
        if bound - off < row.bound:
            row.chunk = UNKNOWN
    elif row.chunk != chunk:
        row.others = min(row.others, bound)


cdef void put_first(Bounded *rows, int64_t n, int64_t m) noexcept nogil
cdef void push_row(Bounded *heap, int64_t *n, const Bounded *row) noexcept nogil
cdef void sift_down(Bounded *heap, int64_t n) noexcept nogil
cdef double largest_but(double *values, int64_t n, int64_t m) noexcept nogil
