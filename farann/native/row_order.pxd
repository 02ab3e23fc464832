"""Rows by bounds on their keys: the largest first, of equal ones the smallest id."""

from libc.stdint cimport int64_t


cdef struct Bounded:
    double bound
    int64_t id
    int64_t slot


cdef inline bint goes_before(const Bounded *a, const Bounded *b) noexcept nogil:
    return a.bound > b.bound or (a.bound == b.bound and a.id < b.id)


cdef void put_first(Bounded *rows, int64_t n, int64_t m) noexcept nogil
cdef double largest_but(double *values, int64_t n, int64_t m) noexcept nogil
