"""Query-cluster shortlists: rows that answered similar queries come first."""

from libc.stdint cimport int64_t, uint32_t

from farann.native.candidates cimport Candidates
from farann.native.code_scan cimport CodeScan
from farann.native.coded_queries cimport CodedQueries
from farann.native.kernels cimport farann_coded_rows
from farann.native.query_batch cimport QueryBatch
from farann.native.shortlists cimport Shortlists


cdef class ShortlistScan:
    cdef QueryBatch batch
    cdef Candidates candidates
    cdef CodedQueries coded
    cdef CodeScan code_scan
    cdef Shortlists lists
    cdef uint32_t *tile_codes  # whole codes of a tile
    cdef float *scores  # of a tile
    cdef int64_t *list_of  # by query
    cdef int64_t *list_heads  # a list's first query among these
    cdef int64_t *askers  # queries, list after list

    @staticmethod
    cdef ShortlistScan of(QueryBatch batch, Candidates candidates, CodedQueries coded,
                          CodeScan code_scan, Shortlists lists)
    cdef void run(self) noexcept nogil
    cdef void choose_lists(self) noexcept nogil
    cdef void score_rows(self, const farann_coded_rows *rows, int64_t n, int64_t at,
                         int64_t count) noexcept nogil
    cdef void score_list(self, int64_t number, int64_t at, int64_t count) noexcept nogil
