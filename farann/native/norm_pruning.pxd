"""Norm pruning: which queries rows from a position on can still answer."""

from libc.stdint cimport int64_t

from farann.native.candidates cimport Candidates
from farann.native.coded_queries cimport CodedQueries
from farann.native.query_batch cimport Query, QueryBatch


cdef class NormPruning:
    cdef QueryBatch batch
    cdef Candidates candidates
    cdef CodedQueries coded
    cdef int64_t *active  # these queries
    cdef int64_t n_active
    cdef bint by_norm  # whether rows lie by norm, and norms bound their keys

    @staticmethod
    cdef NormPruning of(QueryBatch batch, Candidates candidates, CodedQueries coded)
    cdef void see_norms(self) noexcept nogil
    cdef void keep_active(self, int64_t start) noexcept nogil
    cdef double max_key_bound(self, int64_t panel, const Query *query) noexcept nogil
    cdef bint all_are_coded(self) noexcept nogil
    cdef void all_active(self) noexcept nogil
