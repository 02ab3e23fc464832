from libc.stdint cimport int64_t

from farann.native.bounds cimport CeilingBound
from farann.native.collector cimport Collector
from farann.native.query_batch cimport QueryBatch


cdef struct Pause:  # of a mechanism that fails repeatedly
    int64_t left  # turns left of it
    int64_t next  # turns of the next one: twice as long, until something succeeds


cdef inline bint rests(Pause *pause) noexcept nogil:
    """Whether there is a pause, one turn of which is over now."""
    if pause.left == 0:
        return False
    pause.left -= 1
    return True


cdef void note(Pause *pause, bint failed) noexcept nogil


cdef class CodeTrials:
    cdef Pause pause


cdef class Judge:
    cdef QueryBatch batch
    cdef Collector collector
    cdef CeilingBound ceilings
    # Costs of a row that passes, is refined, is reranked. Unit: the time that scanning a row by
    # codes saves over float32. 0: codes are never given up.
    cdef double cost_passed, cost_refined, cost_reranked
    cdef double cost_whole      # the same of a row scanned by whole codes, put into panels
    cdef bint codes_pay         # False: all rows from here on are scored in float32
    cdef int64_t next_look      # rows scanned when codes are judged next
    cdef int64_t judged         # rows scanned at the last judgment
    cdef double cost_judged, share_judged  # the cost up to there, and of a row before it
    cdef double lost            # what codes lost up to there, in rows of this part
    cdef int64_t n_alike        # rows whose scores were too close to the k-th: these got keys
    cdef bint may_go_by_keys    # whether queries may switch to exact keys
    cdef bint packs             # exact keys are computed for tiles of queries, too
    cdef bint *by_keys          # by query: whether it gets exact keys of all rows
    cdef int64_t n_by_keys

    @staticmethod
    cdef Judge of(QueryBatch batch, Collector collector, CeilingBound ceilings, costs,
                  bint may_go_by_keys)
    cdef void begin(self) noexcept nogil
    cdef void begin_part(self) noexcept nogil
    cdef bint too_alike(self, int64_t i, int64_t n_selected, int64_t n) noexcept nogil
    cdef bint too_many(self, int64_t i, int64_t passed, int64_t seen, int64_t n) noexcept nogil
    cdef void take_by_keys(self, int64_t i) noexcept nogil
    cdef void met(self, int64_t i, int64_t near, int64_t n) noexcept nogil
    cdef void end_keys(self) noexcept nogil
    cdef void look_at_codes(self, int64_t n, int64_t left, int64_t n_alive, bint by_norm,
                            bint all_coded) noexcept nogil
