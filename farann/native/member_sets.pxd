"""Sets of vectors as queries: what each has found, and exact keys of rows over its members."""

from libc.stdint cimport int64_t

from farann.native.candidates cimport Candidates
from farann.native.kernels cimport farann_filter, farann_topk
from farann.native.query_batch cimport QueryBatch
from farann.native.snapshot cimport Segment


cdef struct MemberSet:
    int64_t first, end  # its members, queries of the batch
    int64_t n_met       # of those, for which the block was scanned by codes
    farann_topk found
    farann_filter filter
    double threshold    # a key that every row of the answer reaches


cdef class MemberSets:
    cdef QueryBatch batch
    cdef Candidates candidates
    cdef bint raw
    cdef double floor       # every set's first threshold
    cdef int64_t count
    cdef MemberSet *sets
    cdef double *least      # by row that gets exact keys: its smallest key over the members met
    cdef int64_t *kept      # and its place in its segment
    cdef int64_t *order     # members of each set, those first that rule out most
    cdef int64_t *seen      # by member: rows that got a key for it, and those that it ruled out
    cdef int64_t *ruled_out

    @staticmethod
    cdef MemberSets of(QueryBatch batch, Candidates candidates, int64_t largest_block, bint raw,
                       double floor)
    cdef take(self, filter, const int64_t[::1] offsets, int64_t start, int64_t k)
    cdef write_top(self, float[:, ::1] scores, int64_t[:, ::1] ids, int64_t start)
    cdef write_keys(self, double[:, ::1] keys, int64_t start)
    cdef bint are_raw(self, const MemberSet *members) noexcept nogil
    cdef bint lacks_rows(self) noexcept nogil
    cdef double threshold_of(self, const MemberSet *members, int64_t i) noexcept nogil
    cdef void sort_members(self, const MemberSet *members) noexcept nogil
    cdef void score_segment(self, const Segment *segment) noexcept nogil
    cdef void score_kept(self, MemberSet *members, const Segment *segment, int64_t n) noexcept nogil
