from libc.stdint cimport int64_t

from farann.native.bounds cimport Bound, CeilingBound
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


cdef enum:
    # Rows from which a scan without codes reads rows by norm, so that norms may end it.
    MANY_IN_ORDER = 16384
    # k up to which queries go by exact keys if many rows pass: with more, each of these joins a long
    # list, which costs less than its key, unless nearly all pass.
    MOST_FOR_KEYS = 128


cdef enum:  # rungs of a ladder of levels, from the fastest to the one that tells all rows apart
    CODES, FLOAT32, KEYS, N_RUNGS


cdef struct Account:  # of a query, for the codes of one part
    int rung            # of the level that scores its next block
    int back            # of the level that takes over where exact keys of all rows don't pay
    bint tries          # whether codes have another try in that block
    int64_t rows        # rows up to the last look
    double lost         # the cost of those that codes let pass, without those that always do
    int64_t scanned     # rows scored by codes since
    double spent        # the cost of those that passed
    double share        # the cost of a row between the last two looks; 0: there were none
    double expected     # the cost of the rows that are left


cdef class Judge:
    cdef QueryBatch batch
    cdef Collector collector
    cdef CeilingBound ceilings
    # Costs of a row that passes, is refined, is reranked. Unit: what a product with a row takes
    # longer in float32 than by codes. 0: codes are never given up.
    cdef double cost_passed, cost_refined, cost_reranked
    # The same of a row in float32: to pack it, for all queries; or to read it for one query alone;
    # and what these take longer in the order of codes than in that of memory.
    cdef double cost_packed, cost_alone, cost_in_order
    cdef bint counts            # whether there are any
    cdef int64_t next_doubling  # rows scanned when codes are judged next, for all queries
    cdef int64_t next_look      # the same for those that try them again
    cdef bint trying            # whether these do in the next block
    cdef double extra           # what a row costs more in float32, as of the last look
    cdef bint leaves            # whether rows are to be read in the order of memory from there on
    cdef bint goes_by_keys      # whether queries may switch to exact keys
    cdef bint packs             # exact keys are computed for tiles of queries, too
    # The cost of all rows that passed by codes, and of all keys computed last.
    cdef double paid
    cdef int64_t coded          # rows that codes scored, but for those that a higher rung did
    cdef Account *accounts      # by query
    cdef Judge leader           # that of a search of other rows, at whose rungs queries begin; None

    @staticmethod
    cdef Judge of(QueryBatch batch, Collector collector, CeilingBound ceilings, costs,
                  bint goes_by_keys)
    cdef void begin(self) noexcept nogil
    cdef void begin_part(self) noexcept nogil
    cdef bint too_alike(self, int64_t i, int64_t n_selected, int64_t n) noexcept nogil
    cdef bint too_many(self, int64_t i, int64_t passed, int64_t seen, int64_t n) noexcept nogil
    cdef void charge(self, int64_t i, int64_t n, int64_t passed, int64_t refined,
                     int64_t reranked) noexcept nogil
    cdef void pay_for_keys(self, int64_t n) noexcept nogil
    cdef bint lost(self, int64_t n_rows, bint in_order) noexcept nogil
    cdef bint dear(self, int64_t passed, int64_t n, bint narrows) noexcept nogil
    cdef void climb(self, int64_t i, int rung, bint stays) noexcept nogil
    cdef void met(self, int64_t i, int64_t near, int64_t n) noexcept nogil
    cdef bint look(self, const int64_t *members, int64_t n_members, int64_t n, int64_t left,
                   Bound order, int64_t at) noexcept nogil
    cdef void look_at_order(self, Bound order, int64_t at, const int64_t *members,
                            int64_t n_members, int64_t n, int64_t left) noexcept nogil
    cdef bint order_pays(self, Bound order, int64_t at, const int64_t *members, int64_t n_members,
                         int64_t n, int64_t left) noexcept nogil
