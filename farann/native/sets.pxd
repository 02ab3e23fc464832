"""Searches for the rows that are furthest from the nearest member of a set."""

from libc.stdint cimport int32_t, int64_t

from farann.native.bounds cimport Bound, NormBound
from farann.native.coded_queries cimport CodedQueries
from farann.native.codes cimport Codes
from farann.native.collector cimport Collector
from farann.native.kernels cimport farann_block, farann_candidates, farann_filter, farann_topk
from farann.native.levels cimport Level
from farann.native.snapshot cimport Segment
from farann.native.task cimport Task


cdef struct MemberSet:
    int64_t first, end      # its members, queries of the batch
    int64_t last_coded      # the last of them that has codes; -1: none has
    int64_t n_scored        # members that the block was scored for
    farann_topk top
    farann_filter filter
    double threshold        # a key that every row of the answer reaches


cdef class SetCollector(Collector):
    cdef bint raw           # keys of members are compared as they are
    cdef double floor       # every set's first threshold
    cdef int64_t count      # of sets
    cdef MemberSet *sets
    cdef int64_t *owners    # the set of each member
    cdef double *least      # by row that gets exact keys: its smallest key over the members met
    cdef int64_t *kept      # and its place in its segment
    cdef double *rest_keys  # keys of the rests of a member
    cdef int64_t *order     # members of each set, those first that rule out most
    cdef int64_t *seen      # by member: rows that got a key for it, and those that it ruled out
    cdef int64_t *ruled_out
    cdef int64_t *marks     # by row of a block: the last mark that it got
    cdef int64_t mark       # the last one given
    cdef float *margins     # by row: the least margin of its scores above the thresholds
    cdef int32_t *rows_met  # rows of a block that may answer a set

    cdef take_sets(self, filter, const int64_t[::1] offsets, int64_t start, int64_t k,
                   int64_t largest_block)
    cdef void find_coded(self, CodedQueries coded) noexcept nogil
    cdef bint are_raw(self, const MemberSet *members) noexcept nogil
    cdef void settle_set(self, MemberSet *members, int64_t n, int64_t met,
                         const farann_block *where) noexcept nogil
    cdef void score_rows(self, MemberSet *members, const Segment *rows) noexcept nogil
    cdef void score_kept(self, MemberSet *members, const Segment *segment, int64_t n,
                         int64_t met) noexcept nogil
    cdef void keep_common(self, farann_candidates *passed,
                          const farann_candidates *others) noexcept nogil
    cdef void note_ruled_out(self, int64_t i, int64_t n, int64_t left) noexcept nogil
    cdef void sort_members(self, const MemberSet *members) noexcept nogil


cdef class SetKeyLevel(Level):
    cdef SetCollector collector
    cdef bint uncoded       # whether it scores just the sets that have no member with codes
    cdef Segment rows

    @staticmethod
    cdef SetKeyLevel of(SetCollector collector, bint uncoded)


cdef class SetLevel(Level):
    cdef SetCollector collector
    cdef CodedQueries coded
    cdef Level codes        # what scans them for one member

    @staticmethod
    cdef SetLevel of(SetCollector collector, CodedQueries coded, Level codes)


cdef class SetBound(Bound):
    cdef SetCollector collector
    cdef NormBound norms    # None: norms bound nothing
    cdef bint enough        # whether rows are searched just for sets that found too few

    @staticmethod
    cdef SetBound of(SetCollector collector, NormBound norms, bint enough)


cdef class SetSearch(Task):
    cdef SetCollector sets

    cdef put_codes_together(self, Codes codes, int64_t budget)
    cdef add_some(self, Codes codes, int64_t first, int64_t stop)
