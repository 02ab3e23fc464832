"""Exact keys by float32, where rows and query are whole numbers."""

from libc.stdint cimport int64_t

from farann.native.candidates cimport Candidates
from farann.native.query_batch cimport Query, QueryBatch
from farann.native.snapshot cimport Segment, Snapshot


cdef class IntegerKeys:
    cdef QueryBatch batch
    cdef Candidates candidates
    cdef float *zeros  # a vector; NULL: not allocated yet
    cdef float *vector  # factors of the rows: -2 q under l2, else q
    cdef float *products  # of a block
    cdef float *squares

    @staticmethod
    cdef IntegerKeys of(QueryBatch batch, Candidates candidates)
    cdef bint are_exact(self, const Query *query) noexcept nogil
    cdef double largest_sum(self, const Query *query) noexcept nogil
    cdef bint may_be_exact(self) noexcept nogil
    cdef void find(self, const Query *query, const Segment *segment, int64_t start,
                   int64_t n) noexcept nogil
    cdef bint make_room(self) noexcept nogil


cdef int64_t largest_integer(Snapshot snapshot) noexcept nogil
