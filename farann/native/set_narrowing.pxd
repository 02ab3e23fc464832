"""Rows that passed for a set's center, scored for all its members."""

from libc.stdint cimport int32_t, int64_t, uint8_t

from farann.native.code_scan cimport CodeScan
from farann.native.member_sets cimport MemberSet, MemberSets
from farann.native.query_batch cimport QueryBatch


cdef class SetNarrowing:
    cdef QueryBatch batch
    cdef MemberSets members
    cdef CodeScan code_scan
    cdef int64_t groups, code_width
    cdef uint8_t *joined    # the block, where codes lie in halves
    cdef int64_t joined_at
    cdef uint8_t *panels    # rows that passed, side by side
    cdef float *inv_scales
    cdef float *scores
    cdef uint8_t *is_in     # by row

    @staticmethod
    cdef SetNarrowing of(MemberSets members, CodeScan code_scan)
    cdef int64_t narrow(self, const MemberSet *members, int64_t start, int64_t n_block,
                        int32_t *numbers, int64_t n) noexcept nogil
    cdef void gather(self, int64_t start, int64_t n_block, const int32_t *numbers,
                     int64_t n) noexcept nogil
    cdef void keep(self, const MemberSet *members, int64_t i, const float *scores, int64_t start,
                   const int32_t *numbers, int64_t n) noexcept nogil
