"""The first coded rows, scored for all members of each set."""

from libc.stdint cimport int32_t, int64_t

from farann.native.code_scan cimport CodeScan
from farann.native.coded_queries cimport CodedQueries
from farann.native.codes cimport Codes
from farann.native.member_sets cimport MemberSet
from farann.native.query_batch cimport QueryBatch
from farann.native.row_order cimport Bounded
from farann.native.set_centers cimport SetCenters


cdef class SetFirstRows:
    cdef QueryBatch batch
    cdef SetCenters centers
    cdef CodeScan code_scan
    cdef CodedQueries coded
    cdef Codes codes
    cdef int64_t n          # rows; 0: none are scored
    cdef float *scores      # member by member
    cdef float *of_panel
    cdef double *least      # by row
    cdef Bounded *rows

    @staticmethod
    cdef SetFirstRows of(SetCenters centers, CodeScan code_scan, int64_t most, int64_t largest_set)
    cdef void score(self, const MemberSet *members) noexcept nogil
    cdef int64_t best_of(self, const MemberSet *members, int32_t *numbers) noexcept nogil
    cdef int64_t others_of(self, const MemberSet *members, int32_t *numbers) noexcept nogil
    cdef void sample(self, MemberSet *members) noexcept nogil
