"""How many rows of a selection are above a bound."""

from libc.stdint cimport int64_t

from farann.native.kernels cimport farann_kernels
from farann.native.picks cimport Picks
from farann.native.row_order cimport RowState
from farann.native.scratch cimport Scratch


cdef class BoundSample:
    cdef Picks picks
    cdef const farann_kernels *kernels
    cdef Scratch scratch
    cdef int64_t dim, n, seen  # rows, and picks that they have met
    cdef int64_t *slots
    cdef float *panels
    cdef float *bias
    cdef float *best          # minus bounds by all picks that were seen
    cdef double *bounds       # of those that may be chosen
    cdef int64_t n_scored

    @staticmethod
    cdef BoundSample of(Picks picks, const RowState *rows, int64_t n_slots)
    cdef void see_picks(self) noexcept nogil
    cdef double floor_for(self, const RowState *rows, int64_t wanted, int64_t n_left) noexcept nogil
