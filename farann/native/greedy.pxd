"""Greedy selection: each time the row whose smallest key over those chosen before is largest."""

from libc.stdint cimport int64_t

from farann.native.bound_sample cimport BoundSample
from farann.native.greedy_front cimport GreedyFront
from farann.native.kernels cimport farann_kernels
from farann.native.picks cimport Picks
from farann.native.row_order cimport RowState
from farann.native.scratch cimport Scratch
from farann.native.snapshot cimport Filter, Snapshot


cdef class Greedy:
    cdef Snapshot snapshot
    cdef Filter filter
    cdef Picks picks
    cdef GreedyFront front
    cdef BoundSample sample
    cdef const farann_kernels *kernels
    cdef Scratch scratch
    cdef const int64_t *given_up
    cdef int64_t dim, n_slots, n_left, block
    cdef RowState *rows
    # Rows that are brought up to date together.
    cdef int64_t *behind
    cdef int64_t *sorted
    cdef int64_t *met_counts
    cdef float *panels
    cdef float *bias
    cdef float *best
    cdef int64_t *block_slots   # those that are left of a block
    cdef int64_t *block_places  # where they are in its panels
    cdef int64_t n_block, n_packed
    cdef int64_t[::1] slots
    cdef double[::1] keys
    cdef int64_t n_picked
    cdef readonly bint finished
    cdef double radius
    cdef bint has_radius
    cdef int64_t n_scored, n_exact

    cdef int allocate(self) except -1
    cdef void pick(self, int64_t count) noexcept nogil
    cdef int64_t next_pick(self) noexcept nogil
    cdef void make_front(self) noexcept nogil
    cdef void gather_all(self) noexcept nogil
    cdef int64_t gather(self, double floor, int64_t *n_ready) noexcept nogil
    cdef void update(self, int64_t n, double floor) noexcept nogil
    cdef void update_by_keys(self, int64_t slot) noexcept nogil
    cdef void update_block(self, const int64_t *slots, int64_t n, double floor) noexcept nogil
    cdef void score_block(self, const float *tiles, int64_t n, const float *offsets) noexcept nogil
    cdef void keep_above(self, double floor) noexcept nogil
