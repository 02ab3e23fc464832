"""Rows added since the last build."""

from libc.stdint cimport int64_t

from farann.native.candidates cimport Candidates
from farann.native.code_pass cimport CodePass
from farann.native.code_scan cimport CodeScan
from farann.native.coded_queries cimport CodedQueries
from farann.native.cost_judge cimport CostJudge
from farann.native.norm_pruning cimport NormPruning
from farann.native.query_batch cimport Query, QueryBatch
from farann.native.row_scan cimport RowScan
from farann.native.snapshot cimport Snapshot


cdef class TailScan:
    cdef QueryBatch batch
    cdef Candidates candidates
    cdef RowScan row_scan
    cdef CodedQueries coded
    cdef CodeScan code_scan
    cdef NormPruning pruning
    cdef CostJudge judge
    cdef CodePass code_pass
    cdef const int64_t[::1] run_ends  # before which positions scans of runs end
    cdef bint has_run_ends  # or they are scanned whole
    cdef bint base_pca_filtered  # whether rows of the base were
    cdef bint ends_early  # whether they do, for the queries there are

    @staticmethod
    cdef TailScan of(QueryBatch batch, Candidates candidates, RowScan row_scan, CodedQueries coded,
                     CodeScan code_scan, CodePass code_pass, const int64_t[::1] run_ends=*)
    cdef take_run_ends(self, Snapshot snapshot, const int64_t[::1] run_ends)
    cdef begin(self)
    cdef end(self)
    cdef void scan(self) noexcept nogil
    cdef bint all_found(self) noexcept nogil
    cdef int64_t end_of(self, int64_t run) noexcept nogil
    cdef void take_added_codes(self) noexcept nogil
    cdef void score_added(self, Query *query) noexcept nogil
    cdef int64_t added_at(self, int64_t start, int64_t stop, int64_t *rows) noexcept nogil
    cdef void scan_added_codes(self) noexcept nogil
    cdef int64_t rows_of_block(self, int64_t done) noexcept nogil
    cdef void scan_added_without_codes(self, int64_t run, int64_t start) noexcept nogil
