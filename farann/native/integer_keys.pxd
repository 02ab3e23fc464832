"""Exact keys by float32, where rows and query are whole numbers."""

from libc.stdint cimport int64_t

from farann.native.kernels cimport *
from farann.native.query_batch cimport QueryBatch
from farann.native.row_reader cimport RowBlock, RowReader


cdef class IntegerKeys:
    cdef QueryBatch batch
    cdef RowReader rows
    cdef float *zeros  # a vector; NULL: not allocated yet
    cdef float *vector  # factors of the rows: -2 q under l2, else q
    cdef float *products  # of a block
    cdef float *squares

    @staticmethod
    cdef IntegerKeys of(QueryBatch batch, RowReader rows)
    cdef bint are_exact(self, int64_t i) noexcept nogil
    cdef double largest_sum(self, int64_t i) noexcept nogil
    cdef bint may_be_exact(self) noexcept nogil
    cdef void find(self, int64_t i, const RowBlock *rows, int64_t n, double *keys) noexcept nogil
    cdef bint make_room(self) noexcept nogil
