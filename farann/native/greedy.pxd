"""Greedy selection: each time the row whose smallest key over those chosen before is largest."""

from libc.stdint cimport int64_t

from farann.native.kernels cimport farann_kernels
from farann.native.picks cimport Picks
from farann.native.row_order cimport Bounded, RowState
from farann.native.scratch cimport Scratch
from farann.native.snapshot cimport Filter, Snapshot


cdef class Greedy:
    cdef Snapshot snapshot
    cdef Filter filter
    cdef Picks picks
    cdef const farann_kernels *kernels
    cdef Scratch scratch
    cdef const int64_t *given_up
    cdef int64_t dim, n_slots, chunk, block
    cdef RowState *rows
    cdef bint by_keys       # float32 can't hold the scores
    # Rows that are brought up to date together.
    cdef int64_t *behind
    cdef int64_t *sorted
    cdef int64_t *met_counts
    cdef float *copies      # of some rows, as they are
    cdef float *panels
    cdef float *bias
    cdef float *best
    # Rows in front: up to date, and kept so; the next pick is one of them as long as it goes before
    # `last`, and all others don't.
    cdef Bounded *front
    cdef int64_t n_front, most_front
    cdef int64_t *heap      # their places, the first one's first, while many get exact keys
    cdef int64_t n_heap
    cdef float *front_panels
    cdef float *front_bias
    cdef Bounded last
    cdef double *sample
    cdef int64_t[::1] slots
    cdef double[::1] keys
    cdef int64_t n_picked
    cdef readonly bint finished
    cdef double radius
    cdef bint has_radius
    cdef int64_t n_scored, n_exact, n_compared

    cdef int allocate(self) except -1
    cdef void pick(self, int64_t count) noexcept nogil
    cdef int64_t next_pick(self) noexcept nogil
    cdef void take(self, const float *row) noexcept nogil
    cdef int64_t first_in_front(self, int64_t n_settled) noexcept nogil
    cdef void settle(self, int64_t slot) noexcept nogil
    cdef void meet_last(self) noexcept nogil
    cdef void make_front(self) noexcept nogil
    cdef int64_t gather(self, double floor, int64_t *n_ready) noexcept nogil
    cdef double floor_for(self, int64_t wanted) noexcept nogil
    cdef void update(self, int64_t n, double floor) noexcept nogil
    cdef void update_block(self, const int64_t *slots, int64_t n, double floor) noexcept nogil
    cdef void update_by_keys(self, int64_t slot) noexcept nogil
    cdef void fill_front(self) noexcept nogil
    cdef void pack(self, const int64_t *slots, int64_t n, float *panels, float *bias) noexcept nogil
