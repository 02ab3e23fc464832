"""How late the rows of an answer lie in the order of codes."""

from libc.stdint cimport int64_t, uint8_t

from farann.native.candidates cimport Candidates
from farann.native.coded_queries cimport CodedQueries
from farann.native.partitions cimport Partitions
from farann.native.query_batch cimport Query, QueryBatch


cdef class Lateness:
    cdef QueryBatch batch
    cdef Candidates candidates
    cdef CodedQueries coded
    cdef const uint8_t[::1] places  # of rows in the order of codes, see `places_of`
    cdef uint8_t last_place  # that of all rows in partitions
    cdef float *of_queries
    cdef int64_t *which  # room for the numbers of queries

    @staticmethod
    cdef Lateness of(QueryBatch batch, Candidates candidates, CodedQueries coded, Partitions partitions)
    cdef void tell_late(self) noexcept nogil
    cdef float lateness_of(self, Query *query) noexcept nogil
