"""Approximate search: coded rows in their order, up to a position."""

from libc.stdint cimport int64_t

from farann.native.candidates cimport Candidates
from farann.native.code_scan cimport CodeScan
from farann.native.coded_queries cimport CodedQueries
from farann.native.first_rows cimport FirstRows
from farann.native.lateness cimport Lateness
from farann.native.query_batch cimport QueryBatch
from farann.native.uncoded_rows cimport UncodedRows


cdef class OrderedScan:
    cdef QueryBatch batch
    cdef Candidates candidates
    cdef CodedQueries coded
    cdef CodeScan code_scan
    cdef FirstRows first_rows
    cdef UncodedRows uncoded
    cdef int64_t n_first  # positions that are always scanned

    @staticmethod
    cdef OrderedScan of(QueryBatch batch, Candidates candidates, CodedQueries coded,
                        CodeScan code_scan, FirstRows first_rows, UncodedRows uncoded,
                        int64_t n_first)
    cdef void scan_in_order(self, int64_t start, int64_t end) noexcept nogil
    cdef void refine_rows(self, int64_t i, int64_t start, int64_t n) noexcept nogil
    cdef void scan_for_one(self, int64_t i, int64_t stop) noexcept nogil
    cdef void scan_for_some(self, const int64_t *which, int64_t count, int64_t start,
                            int64_t stop) noexcept nogil
    cdef void extend(self, Lateness lateness, double late) noexcept nogil
    cdef void complete(self) noexcept nogil
