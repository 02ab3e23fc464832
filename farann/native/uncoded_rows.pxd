"""Rows without codes, and rows for queries without codes."""

from farann.native.candidates cimport Candidates
from farann.native.code_scan cimport CodeScan
from farann.native.coded_queries cimport CodedQueries
from farann.native.query_batch cimport Query, QueryBatch


cdef class UncodedRows:
    cdef QueryBatch batch
    cdef Candidates candidates
    cdef CodedQueries coded
    cdef CodeScan code_scan

    @staticmethod
    cdef UncodedRows of(QueryBatch batch, Candidates candidates, CodedQueries coded,
                        CodeScan code_scan)
    cdef void score_uncoded(self) noexcept nogil
    cdef void score_outliers(self, Query *query) noexcept nogil
    cdef void score_decoded(self, Query *query) noexcept nogil
