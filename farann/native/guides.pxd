"""Picks that rule out most rows, and how many rows are above a bound."""

from libc.stdint cimport int32_t, int64_t, uint8_t

from farann.native.kernels cimport farann_kernels
from farann.native.picks cimport Picks
from farann.native.row_order cimport RowState
from farann.native.scratch cimport Scratch


cdef class Guides:
    cdef Picks picks
    cdef const farann_kernels *kernels
    cdef Scratch scratch
    cdef int64_t dim, n, n_sample, n_counted, room, seen
    cdef int64_t *sample      # slots
    cdef float *panels        # of the sample
    cdef float *bias
    cdef float *best          # minus bounds by all picks that were seen
    cdef float *of_pick
    cdef double *bounds       # of those that may be chosen
    cdef float *scores        # (room, n_counted): of the last picks, less their offsets
    cdef uint8_t *reaches     # (n_counted, room): whether the pick has the row at most at the floor
    cdef int32_t *counts      # of rows that a pick would rule out
    cdef float *tiles         # of the guides, as those of picks
    cdef float *offsets
    cdef int64_t n_scored

    @staticmethod
    cdef Guides of(Picks picks, const RowState *rows, int64_t n_slots, int64_t most)
    cdef void see_picks(self) noexcept nogil
    cdef double floor_for(self, const RowState *rows, int64_t wanted, int64_t n_left) noexcept nogil
    cdef void choose(self, const RowState *rows, double floor) noexcept nogil
    cdef void count_reached(self, const RowState *rows, double floor) noexcept nogil
    cdef void add(self, int64_t at) noexcept nogil
