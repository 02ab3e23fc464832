"""Whether codes rule out enough rows to pay."""

from libc.stdint cimport int64_t

from farann.native.norm_pruning cimport NormPruning
from farann.native.query_batch cimport QueryBatch

cdef enum:
    FEWEST_JUDGED = 256  # rows scanned before codes are judged, at least; or 16 k if that is more


cdef class CostJudge:
    cdef QueryBatch batch
    cdef NormPruning pruning
    # That a row passes, is refined and rescored, in rows that are scanned by codes and not in
    # float32; 0: codes are never given up.
    cdef double cost_passed, cost_refined, cost_rescored
    cdef bint few_rows, selected  # rows that pass cost less, see SELECTED
    cdef double cost_whole  # the same of one that is scanned by whole codes, put into panels
    cdef int64_t n_scored  # first rows that all had scores, where the best of many were selected
    cdef int64_t judged  # the position of the last judgment
    cdef double cost_judged, share_judged  # the cost up to there, and of a row before it

    @staticmethod
    cdef CostJudge of(QueryBatch batch, NormPruning pruning, costs, bint selects)
    cdef void begin(self) noexcept nogil
    cdef bint can_judge(self, int64_t start) noexcept nogil
    cdef bint will_cost_too_much(self, int64_t start, int64_t left) noexcept nogil
    cdef bint was_futile(self) noexcept nogil
    cdef double cost_so_far(self) noexcept nogil
