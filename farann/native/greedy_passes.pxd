"""Greedy selection of few rows, or from few: a pass over all rows a pick."""

from libc.stdint cimport int32_t, int64_t

from farann.native.kernels cimport farann_kernels, farann_metric, farann_packing, farann_query
from farann.native.row_order cimport Bounded
from farann.native.scratch cimport Scratch


cdef class GreedyPasses:
    cdef const farann_kernels *kernels
    cdef farann_metric metric
    cdef farann_packing packing
    cdef Scratch scratch
    cdef const float[:, ::1] held_rows
    cdef const int64_t[::1] held_ids
    cdef const float *rows
    cdef const int64_t *ids       # NULL: the id is the slot
    cdef const int64_t *given_up
    cdef int64_t dim, n, n_strides, chunk
    cdef readonly bint possible   # False: float32 can't hold the scores, or rows have none
    cdef readonly bint finished
    # Picks: their slots, those before among them; their norms under cosine.
    cdef int64_t *picks
    cdef double *norms
    cdef int64_t count, n_before, most
    cdef double *keys             # of each pick over those before it
    # Bounds on keys by row: `recent` by the present chunk of picks, `least` by whole chunks,
    # `others` by whole chunks but the nearest, which `chunks` names. `least` is -infinity for
    # settled rows and those that may not be chosen.
    cdef float *recent
    cdef float *least
    cdef float *others
    cdef int32_t *chunks
    cdef float *tops              # of each stride of rows the largest bound
    cdef double off               # bounds exceed keys by at most this
    # Rows whose keys are known, a heap, and how many picks each has met.
    cdef Bounded *settled
    cdef int64_t n_settled
    cdef int32_t *met
    # A query, and the arrays that its scores are computed from.
    cdef double *centre
    cdef float *centre_f32
    cdef double *exact
    cdef double *query_vector
    cdef float *rounded
    cdef float *scores
    cdef float *lengths           # |y|^2 of each row under l2, 1 / |x| under cosine
    cdef double squares, smallest
    cdef farann_query prepared
    cdef bint are_packed, in_panels
    cdef float *panels
    cdef float *bias
    cdef float *tile
    cdef double radius
    cdef bint has_radius
    cdef int64_t n_scored, n_exact

    cdef int allocate(self) except -1
    cdef bint begin(self, const int64_t *first) noexcept nogil
    cdef void pack(self) noexcept nogil
    cdef double slack(self) noexcept nogil
    cdef void take(self, int64_t slot) noexcept nogil
    cdef void prepare(self, const float *row) noexcept nogil
    cdef void score_rows(self) noexcept nogil
    cdef void meet(self, int64_t slot) noexcept nogil
    cdef void end_chunk(self) noexcept nogil
    cdef void pick(self, int64_t end) noexcept nogil
    cdef int64_t next_row(self) noexcept nogil
    cdef double best_settled(self) noexcept nogil
    cdef void settle_in(self, int64_t stride, double bar) noexcept nogil
    cdef double settle(self, int64_t slot) noexcept nogil
    cdef int64_t id_of(self, int64_t slot) noexcept nogil
    cdef double least_key(self, int64_t slot, int64_t first, int64_t end) noexcept nogil
