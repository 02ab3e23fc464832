"""Keys that no row is above."""

from libc.stdint cimport int64_t

from farann.native.candidates cimport Candidates
from farann.native.integer_keys cimport IntegerKeys
from farann.native.kernels cimport farann_block
from farann.native.query_batch cimport Query, QueryBatch
from farann.native.snapshot cimport Segment


cdef class Ceilings:
    cdef QueryBatch batch
    cdef Candidates candidates
    cdef IntegerKeys integer_keys

    @staticmethod
    cdef Ceilings of(QueryBatch batch, Candidates candidates, IntegerKeys integer_keys)
    cdef void find(self, Query *query) noexcept nogil
    cdef double of_query(self, const Query *query) noexcept nogil
    cdef bint nothing_negative(self, const Query *query) noexcept nogil
    cdef double of_axis(self, const Query *query) noexcept nogil
    cdef int64_t leave_out(self, const Segment *segment, int64_t start, int64_t n) noexcept nogil


cdef int64_t least_id(const farann_block *block, int64_t n) noexcept nogil
