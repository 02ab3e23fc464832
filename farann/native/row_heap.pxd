"""A heap of rows by bounds on their keys."""

from libc.stdint cimport int64_t


cdef struct Bounded:
    double bound
    int64_t slot


cdef inline int64_t id_at(const int64_t *ids, int64_t slot) noexcept nogil:
    return slot if ids == NULL else ids[slot]


cdef inline bint goes_before(const Bounded *a, const Bounded *b, const int64_t *ids) noexcept nogil:
    return a.bound > b.bound or (
        a.bound == b.bound and id_at(ids, a.slot) < id_at(ids, b.slot))


cdef void make_heap(Bounded *heap, int64_t n, const int64_t *ids) noexcept nogil
cdef void sift_down(Bounded *heap, int64_t n, int64_t at, const int64_t *ids) noexcept nogil
cdef void push(Bounded *heap, int64_t *n, Bounded entry, const int64_t *ids) noexcept nogil
cdef Bounded pop(Bounded *heap, int64_t *n, const int64_t *ids) noexcept nogil
