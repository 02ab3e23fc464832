"""Rows that are furthest from the nearest member of a set."""

from libc.stdint cimport int32_t, int64_t, uint32_t

from farann.native.candidates cimport Candidates
from farann.native.code_scan cimport CodeScan
from farann.native.coded_queries cimport CodedQueries
from farann.native.codes cimport Codes
from farann.native.kernels cimport farann_filter, farann_topk
from farann.native.norm_pruning cimport NormPruning
from farann.native.query_batch cimport QueryBatch
from farann.native.snapshot cimport Segment


cdef struct MemberSet:
    int64_t first, end  # its members, queries of the batch
    int64_t n_met       # of these, for which the block was scanned by codes
    farann_topk found
    farann_filter filter
    double threshold    # a key that every row of the answer reaches


cdef class SetSearch:
    cdef QueryBatch batch
    cdef Candidates candidates
    cdef CodedQueries coded
    cdef CodeScan code_scan
    cdef Codes codes  # None: there are none, or they don't pay
    cdef int64_t n_sets, n_scanned
    cdef bint raw
    cdef MemberSet *sets
    cdef NormPruning pruning
    cdef int64_t *active    # members of the sets that rows can still answer, set after set
    cdef int64_t *owners    # and the sets
    cdef int64_t n_active
    cdef int32_t *marks     # by row of a block: members of the set that it passed for; then rows
    cdef float *scores      # of a tile's members, by whole codes; NULL: the scan tells what passes
    cdef float *margins     # by row: how far it is above what it must be for all, at least
    cdef double *least      # by row that gets exact keys: the smallest so far
    cdef int64_t *kept      # and its place in its segment

    cdef take_sets(self, filter, const int64_t[::1] offsets, int64_t start, int64_t k)
    cdef void answer(self) noexcept nogil
    cdef bint are_raw(self, const MemberSet *members) noexcept nogil
    cdef bint lacks_rows(self) noexcept nogil
    cdef void scan_codes(self, int64_t start, int64_t end) noexcept nogil
    cdef void scan_block(self, int64_t start, int64_t n) noexcept nogil
    cdef void keep_active(self, int64_t start) noexcept nogil
    cdef const uint32_t *tile_of(self, int64_t first, int64_t count) noexcept nogil
    cdef void scan_tile(self, int64_t first, int64_t count, int64_t start, int64_t n) noexcept nogil
    cdef double threshold_of(self, const MemberSet *members, int64_t i) noexcept nogil
    cdef void take_passed(self, MemberSet *members, int64_t i, int64_t at, int64_t start,
                          int64_t n) noexcept nogil
    cdef void settle(self, MemberSet *members, int64_t start, int64_t n) noexcept nogil
    cdef void score_segment(self, const Segment *segment) noexcept nogil
    cdef void score_kept(self, MemberSet *members, const Segment *segment, int64_t n) noexcept nogil
