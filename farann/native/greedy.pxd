"""Greedy selection: each time the row whose smallest key over those chosen before is largest."""

from libc.stdint cimport int32_t, int64_t, uint8_t

from farann.native.kernels cimport farann_candidates, farann_kernels
from farann.native.picks cimport Picks
from farann.native.process cimport CancelFlag
from farann.native.row_heap cimport Bounded
from farann.native.scratch cimport Scratch
from farann.native.snapshot cimport Filter, Snapshot


cdef struct RowState:
    # Of the picks before `met` the row's smallest key is at most its bound. `nearest` has a key of
    # at least `low`, and that is the smallest unless others may be below: these have `others` or
    # more. Where `is_exact`, the bound is the smallest key itself.
    int32_t met
    int32_t nearest
    bint is_exact
    double low
    double others


cdef class Greedy:
    cdef Snapshot snapshot
    cdef Filter filter
    cdef Picks picks
    cdef const farann_kernels *kernels
    cdef Scratch scratch
    cdef const int64_t *ids
    cdef const int64_t *given_up
    cdef int64_t dim, n_slots
    cdef RowState *rows
    cdef Bounded *heap
    cdef int64_t n_heap
    cdef double *bounds   # by slot, while all rows are passed; NaN: not in the heap
    cdef float *scores    # of a block of rows
    cdef Bounded *batch   # entries that are out of the heap
    cdef float *tile      # their vectors, side by side
    cdef float *thresholds
    cdef double *offsets  # of the tile's rows: scores are offset - key, within the slack
    cdef double *slacks
    cdef farann_candidates *found
    cdef double least_exact  # of this pick: the largest exact key that is up to date
    cdef double row_cost, pass_cost, spent
    cdef int64_t n_passed  # picks that all rows have met
    cdef int64_t most_in_batch
    cdef int64_t[::1] slots
    cdef double[::1] keys
    cdef int64_t n_first, n_picked
    cdef readonly bint finished
    cdef double radius
    cdef bint has_radius
    cdef int64_t n_scored, n_exact

    cdef void pick(self, int64_t count) noexcept nogil
    cdef bint find(self) noexcept nogil
    cdef void pass_all(self) noexcept nogil
    cdef void pass_block(self, int64_t pick, int s, int64_t start, int64_t n) noexcept nogil
    cdef void settle(self, Bounded *entry) noexcept nogil
    cdef int64_t gather(self, int64_t most) noexcept nogil
    cdef void update(self, int64_t count) noexcept nogil
    cdef void update_tile(self, Bounded *entries, int64_t count) noexcept nogil
    cdef void meet(self, Bounded *entry, int64_t pick, double low, double high) noexcept nogil
