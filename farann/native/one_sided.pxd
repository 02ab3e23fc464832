"""Scores whose terms have one sign: float32 is off by a share of them."""

from farann.native.query_batch cimport Query, QueryBatch
from farann.native.snapshot cimport Snapshot


cdef class OneSided:
    cdef QueryBatch batch
    cdef bint allowed  # whether all rows from now on are scored in float32

    @staticmethod
    cdef OneSided of(QueryBatch batch)
    cdef bint begins(self, Query *query, bint others) noexcept nogil
    cdef bint pays(self, const Query *query, double least, bint others) noexcept nogil
    cdef double slack_at(self, const Query *query, double threshold) noexcept nogil
    cdef bint nothing_negative(self, const Query *query) noexcept nogil


cdef bint has_negative(Snapshot snapshot) noexcept nogil
