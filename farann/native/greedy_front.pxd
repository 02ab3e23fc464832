"""The rows of a selection that meet each pick as it is made."""

from libc.stdint cimport int64_t

from farann.native.kernels cimport farann_kernels
from farann.native.picks cimport Picks
from farann.native.row_order cimport Bounded, RowState
from farann.native.scratch cimport Scratch


cdef class GreedyFront:
    cdef Picks picks
    cdef const farann_kernels *kernels
    cdef Scratch scratch
    cdef RowState *rows       # of all rows, by slot
    cdef const int64_t *ids   # by slot; NULL: they are the slots
    cdef int64_t dim, chunk
    cdef int64_t most, n
    cdef Bounded *ready       # where rows are gathered that may come in front
    cdef int64_t *slots
    cdef float *panels
    cdef float *bias
    cdef float *bounds        # by picks of whole chunks; -infinity: settled, or chosen
    cdef float *best          # minus bounds by the picks since
    cdef float *of_stride     # the largest bound of some rows that follow each other
    cdef int64_t *place_of    # position of the largest bound of a stride; -1: not computed
    cdef Bounded last         # no row behind goes before it
    # Rows with exact keys, of picks that may be fewer than all: a heap, the first row first.
    cdef Bounded *settled
    cdef int64_t n_settled
    cdef int64_t n_scored, n_exact, n_compared

    @staticmethod
    cdef GreedyFront of(Picks picks, RowState *rows, int64_t n_slots)
    cdef void take(self, int64_t n, double floor) noexcept nogil
    cdef void catch_up(self) noexcept nogil
    cdef void leave(self, int64_t met) noexcept nogil
    cdef void meet_last(self) noexcept nogil
    cdef void end_chunk(self, int64_t met) noexcept nogil
    cdef int64_t first_row(self, const int64_t *given_up) noexcept nogil
    cdef void look_at(self, int64_t s) noexcept nogil
    cdef int64_t place_in(self, int64_t s) noexcept nogil
    cdef int64_t first_unsettled(self, Bounded *first) noexcept nogil
    cdef void settle(self, int64_t at) noexcept nogil
    cdef void refresh_first(self) noexcept nogil
    cdef void drop_first(self) noexcept nogil
    cdef int64_t id_of(self, int64_t slot) noexcept nogil
