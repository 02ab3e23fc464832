"""Rows that are furthest from the nearest member of a set."""

from libc.stdint cimport int32_t, int64_t

from farann.native.candidates cimport Candidates
from farann.native.code_scan cimport CodeScan
from farann.native.coded_queries cimport CodedQueries
from farann.native.codes cimport Codes
from farann.native.kernels cimport farann_candidates
from farann.native.member_sets cimport MemberSet, MemberSets
from farann.native.norm_pruning cimport NormPruning
from farann.native.query_batch cimport QueryBatch


cdef class SetSearch:
    cdef QueryBatch batch
    cdef Candidates candidates
    cdef CodedQueries coded
    cdef CodeScan code_scan
    cdef Codes codes  # None: there are none, or they don't pay
    cdef MemberSets members
    cdef NormPruning pruning
    cdef int64_t n_scanned
    cdef int64_t *active    # members that the next rows are scanned for, set by set
    cdef int64_t *owners    # and the sets
    cdef int64_t n_active
    cdef int32_t *marks     # by row of a block: members of the set that it passed for; then rows
    cdef float *scores      # of a tile's members, by whole codes; NULL: rows that pass are listed
    cdef float *margins     # by row: the least margin of its scores above the thresholds

    cdef void answer(self) noexcept nogil
    cdef void scan_codes(self, int64_t start, int64_t end) noexcept nogil
    cdef void keep_active(self, int64_t start) noexcept nogil
    cdef bint can_answer(self, int64_t panel, const MemberSet *members, int64_t i) noexcept nogil
    cdef void scan_block(self, int64_t start, int64_t n) noexcept nogil
    cdef void scan_tile(self, int64_t width, int64_t first, int64_t count, int64_t start,
                        int64_t n) noexcept nogil
    cdef void take_passed(self, int64_t at, const farann_candidates *passed, const float *scores,
                          int64_t start, int64_t n) noexcept nogil
    cdef void settle(self, MemberSet *members, int64_t start, int64_t n) noexcept nogil
