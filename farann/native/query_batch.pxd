"""Some queries of a batch, and what is derived from each of them."""

from libc.stdint cimport int64_t

from farann.native.kernels cimport (farann_best_scores, farann_candidates, farann_pass_threshold,
                                    farann_coded_query, farann_filter, farann_kernels,
                                    farann_metric, farann_packing, farann_query, farann_topk)
from farann.native.process cimport CancelFlag
from farann.native.scratch cimport Scratch
from farann.native.snapshot cimport Filter, Snapshot

cdef enum:
    # Blocks that are scanned by whole codes, at most, before high nibbles alone are tried again.
    LONGEST_PAUSE = 7


cdef struct Query:
    # What every scan of a block needs comes first, so that it shares a line of the cache.
    double threshold  # a reduced key that every row of the answer reaches
    double predicted  # one that it is taken to reach, until it turns out that it doesn't
    double pass_floor  # what the pass threshold was made for, less what the partition adds
    farann_pass_threshold pass_threshold
    int pass_level
    farann_candidates candidates
    farann_best_scores best  # without room: k is too large to keep them sorted
    int64_t select_at  # candidates when the best of them are selected again
    bint coded
    bint by_keys      # rough scores rule out too little, see `KeyScan`
    bint keys_end     # whether they do no longer, from the next block on
    bint left_out     # no row of the block can answer it
    double ceiling_key  # no key times the sign exceeds it; infinity: not known, NaN: not computed
    double along, across  # component along the mean query direction, and length of the rest
    double slack      # largest of the blocks scanned
    farann_query prepared
    farann_filter filter
    farann_topk found
    const float *given
    farann_coded_query scan  # as coded for the scanned panels
    farann_coded_query whole  # and for all coordinates; a negative unit: not usable
    # Blocks left of the pause of high nibbles that let too many rows pass, and the last such pause.
    int64_t pause, next_pause
    double radius
    # Reduced keys: rows above the first are not beyond the radius for certain, those below the
    # second are.
    double ceiling, sure


cdef class QueryBatch:
    cdef Snapshot snapshot
    cdef Filter filter
    cdef Scratch scratch
    cdef CancelFlag flag
    cdef const int64_t *given_up
    cdef const farann_kernels *kernels
    cdef farann_metric metric
    cdef farann_packing packing
    cdef int64_t dim, n_queries, k, block_rows
    cdef double sign, epsilon
    cdef double end_time  # when the time of these queries is over; infinity: never
    cdef int64_t next_look  # at the clock, in multiply-adds
    cdef bint late
    cdef bint beyond  # a radius, and not the k best
    cdef bint best_beyond  # the k nearest of the rows beyond a radius
    cdef const float[:, ::1] given  # keeps the queries alive
    cdef Query *queries
    cdef double *exact  # the last query that was requested, in float64
    cdef const Query *exact_of
    cdef double *query_vector  # that of the last query, which coding transforms; then scratch
    cdef float *rounded  # the same as float32, before it is transformed
    # What `SearchStats` has.
    cdef int64_t scanned, refined, rescored, bytes_read
    # Multiply-adds of rough scores, those for the empty places of tiles, too; blocks that were
    # scanned for a query; and rows that passed.
    cdef int64_t code_products, float_products, blocks, passed
    cdef int64_t n_near  # rows that would have passed, had they had no keys
    cdef int64_t alike   # and those of codes

    @staticmethod
    cdef QueryBatch of(Snapshot snapshot, Filter filter, const float[:, ::1] queries,
                       int64_t start, int64_t stop, int64_t k, bint nearest, CancelFlag flag)
    cdef take_rule(self, rule)
    cdef take_filter(self, Filter filter)
    cdef take_radii(self, const double[::1] radii, int64_t start)
    cdef bint cancelled(self) noexcept nogil
    cdef bint stopped(self) noexcept nogil
    cdef bint time_is_over(self) noexcept nogil
    cdef bint all_have_k_rows(self) noexcept nogil
    cdef void lift_time_limit(self) noexcept nogil
    cdef check_cancelled(self)
    cdef const double *exact_query(self, const Query *query) noexcept nogil
    cdef void find_query_vector(self, int64_t i) noexcept nogil
    cdef void count_scanned(self, int64_t n, int64_t n_queries) noexcept nogil
    cdef void set_radius(self, int64_t i) noexcept nogil
    cdef void set_ceiling(self, int64_t i) noexcept nogil
    cdef void begin_again(self, const float *given) noexcept nogil
