from libc.stdint cimport int64_t

from farann.native.codes cimport Codes
from farann.native.collector cimport Collector
from farann.native.query_batch cimport CodedQueries, QueryBatch
from farann.native.sources cimport Block, RowBlock, RowReader


cdef class IntegerKeys:
    cdef QueryBatch batch
    cdef RowReader rows
    cdef float *zeros  # a vector; NULL: not allocated yet
    cdef float *vector  # factors of the rows: -2 q under l2, else q
    cdef float *products  # of a block
    cdef float *squares

    cdef bint are_exact(self, int64_t i) noexcept nogil
    cdef bint may_be_exact(self) noexcept nogil
    cdef void find(self, int64_t i, const RowBlock *rows, int64_t n, double *keys) noexcept nogil


cdef class Bound:
    cdef QueryBatch batch
    cdef bint from_here_on  # whether it holds for a block and all after it, or for one alone

    cdef void forget(self, int64_t i) noexcept nogil
    cdef int64_t keep_open(self, const Block *block, int64_t *members, int64_t n,
                            Collector collector) noexcept nogil
    cdef int64_t n_within(self, int64_t start, const int64_t *members, int64_t n,
                          Collector collector) noexcept nogil


cdef class NormBound(Bound):
    cdef CodedQueries coded
    cdef Codes codes

    @staticmethod
    cdef NormBound of(CodedQueries coded)
    cdef bint is_open(self, int64_t panel, int64_t i, Collector collector) noexcept nogil
    cdef double max_key(self, int64_t panel, int64_t i) noexcept nogil


cdef class CeilingBound(Bound):
    cdef IntegerKeys integer_keys
    cdef double *ceilings   # keys times the sign, by query; infinity: unknown, NaN: not computed
    cdef int64_t n_known    # queries that have one

    @staticmethod
    cdef CeilingBound of(QueryBatch batch, RowReader rows)
    cdef void find(self, int64_t i) noexcept nogil


cdef bint lie_by_norm(QueryBatch batch, Codes codes) noexcept nogil
