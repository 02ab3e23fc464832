from libc.stdint cimport int64_t

from farann.native.bounds cimport Bound
from farann.native.collector cimport Collector
from farann.native.judge cimport N_RUNGS, Judge
from farann.native.levels cimport Level
from farann.native.probing cimport Lateness, PartitionMeans
from farann.native.query_batch cimport CodedQueries, QueryBatch
from farann.native.sources cimport Block, Source
from farann.native.watch cimport KeyModel

cdef enum:
    MOST_PARTS = 10
    MOST_BOUNDS = 3


cdef class Part:
    cdef Source source
    cdef void *bounds[MOST_BOUNDS]
    cdef int n_bounds
    cdef Bound order            # the bound that holds from a block on: rows come in an order; None
    cdef void *levels[N_RUNGS]  # by rung; NULL: there is none
    cdef list owned             # the bounds and levels
    cdef Level whole            # whole codes for hubs, beside a PCA filter; else None
    cdef CodedQueries coded     # None: for all queries
    cdef bint usable            # for the queries that have codes, or for the others

    cdef take(self, Level level)
    cdef bind(self, Bound bound)
    cdef int64_t keep_open(self, bint from_here_on, const Block *block, int64_t *members,
                            int64_t n, Collector collector) noexcept nogil
    cdef void *at(self, int rung) noexcept nogil
    cdef void *of_block(self, int rung, const Block *block) noexcept nogil
    cdef void begin_query(self, int64_t i) noexcept nogil


cdef class Search:
    cdef QueryBatch batch
    cdef Collector collector
    cdef Judge judge
    cdef list owned             # the objects that the pointers below refer to
    cdef void *parts[MOST_PARTS]
    cdef int n_parts, n_base    # all, and those of the last build: rows added since come last
    cdef CodedQueries coded, coded_added  # None: there are no codes that are of use
    cdef PartitionMeans means   # None: no partitions are chosen
    cdef Lateness lateness      # None: it is not measured
    cdef KeyModel model         # None: answers aren't compared with it
    cdef double *kth_keys       # those that are, before added rows are scanned
    cdef Level keys             # exact keys of all rows of a block
    cdef bint approximate
    cdef bint is_part           # whether only some rows are searched, see `search_only`
    cdef bint leads             # whether these end where codes are given up
    cdef bint ended             # whether the search was given up, or its time is over
    cdef bint all_rows          # for queries that found fewer than k rows in those to search
    cdef bint extends           # whether more rows are scanned for queries with late answers
    cdef readonly bint gave_up  # whether codes were given up, as they rule out too little
    cdef readonly bint lost     # whether they were, or cost more than they saved
    cdef readonly bint leaves   # whether rows are better read in the order of memory
    cdef int64_t n_seen         # rows in parts before the current one
    # Queries: those that ask in this round, those that a part can still answer, those that a block
    # can answer, those that a level scores.
    cdef int64_t *asking
    cdef int64_t *in_part
    cdef int64_t *open
    cdef int64_t *scored
    cdef int64_t *rungs         # by query: of the level that scores the block
    cdef int64_t n_asking

    cdef make_room(self)
    cdef Part add(self, Source source, ladder, CodedQueries coded=*, bint usable=*)
    cdef prepare(self)
    cdef check_finished(self)

    cdef void answer(self) noexcept nogil
    cdef void all_ask(self) noexcept nogil
    cdef void begin_again(self, const float *vectors, int64_t n) noexcept nogil
