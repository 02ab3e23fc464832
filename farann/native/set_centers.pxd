"""One more query for each set: a weighted mean of its members, whose key bounds that of the set."""

from libc.stdint cimport int64_t

from farann.native.coded_queries cimport CodedQueries
from farann.native.member_sets cimport MemberSet, MemberSets
from farann.native.query_batch cimport QueryBatch


cdef enum:
    # Rows all over the place by which weights are found.
    SAMPLED_ROWS = 128


cdef class SetCenters:
    cdef QueryBatch batch
    cdef MemberSets members
    cdef CodedQueries coded
    cdef float[:, ::1] given  # members, then centers
    cdef double *weights      # of the members of one set
    cdef double *best
    cdef double *pull
    cdef double *moments      # of the keys for the members of each set: means, then covariances
    cdef double *sum

    @staticmethod
    cdef SetCenters of(MemberSets members, CodedQueries coded, float[:, ::1] given)
    cdef double estimate(self, const MemberSet *members, int64_t i, float score) noexcept nogil
    cdef bint can_weigh(self, const MemberSet *members) noexcept nogil
    cdef void take_sample(self, MemberSet *members, const float *scores, int64_t n) noexcept nogil
    cdef void find(self, MemberSet *members) noexcept nogil
    cdef void weigh(self, const MemberSet *members) noexcept nogil
    cdef double place(self, const MemberSet *members) noexcept nogil
