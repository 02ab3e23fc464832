from farann.native.kernels cimport *
from farann.native.query_batch cimport Query, QueryBatch, reduced_key
from farann.native.sources cimport RowReader

cdef struct Answer:  # rows found by a query; its collector alone writes it
    double threshold  # a reduced key that every row of the answer reaches
    double predicted  # the same as a prediction, which the search may find to be wrong
    double slack      # the scores of `passed` are off by at most this
    farann_candidates passed  # rows by rough scores
    farann_best_scores best   # the k best of these scores, sorted; no room: they are selected
    farann_topk top           # rows by exact keys
    int64_t select_at         # count of `passed` at which the best are selected again


cdef class Collector:
    cdef QueryBatch batch
    cdef RowReader rows
    cdef Answer *answers        # by query
    cdef farann_candidates *tile  # lists that the scan of a tile of queries appends to
    cdef int64_t capacity       # of `passed`, before it is thinned out
    cdef int64_t k              # rows that are wanted of each query, at most
    cdef const double[::1] radii  # by query; None: of no use here
    cdef bint ranks             # whether the k best are found; else a radius is the threshold
    cdef bint by_keys           # whether exact keys of all rows may take the place of rough scores
    cdef bint selects           # the k best are selected when many have passed
    cdef double *keys           # exact keys of some rows
    cdef int64_t *places        # places of these rows in their block, if it has other rows

    cdef set_up(self, QueryBatch batch, int64_t room, int64_t largest_block, bint scored)
    cdef allocate_answers(self)
    cdef void forget(self, int64_t i) noexcept nogil
    cdef int64_t forget_unkept(self, int64_t *members) noexcept nogil
    cdef int64_t forget_short(self, int64_t *members) noexcept nogil
    cdef bint all_have_k_rows(self) noexcept nogil
    cdef bint has_k_rows(self, int64_t i) noexcept nogil
    cdef void predict(self, int64_t i, double key) noexcept nogil
    cdef void allow(self, int64_t i, double slack) noexcept nogil
    cdef void raise_threshold(self, int64_t i, double key) noexcept nogil
    cdef double bar(self, int64_t i) noexcept nogil
    cdef float float_bar(self, int64_t i) noexcept nogil
    cdef void select(self, int64_t j, int64_t i, const float *scores, int64_t n,
                     const farann_block *where) noexcept nogil
    cdef void admit(self, int64_t j, int64_t i, const farann_block *where) noexcept nogil
    cdef void take_passed(self, int64_t i, int64_t before, const farann_block *where) noexcept nogil
    cdef double keep_best(self, int64_t i) noexcept nogil
    cdef double kth_so_far(self, int64_t i) noexcept nogil
    cdef void rerank_all(self, int64_t i) noexcept nogil
    cdef const farann_entry *kth(self, int64_t i) noexcept nogil
    cdef const farann_entry *kth_near(self, int64_t i, double key) noexcept nogil
    cdef void settle(self, int64_t i) noexcept nogil
    cdef void take(self, int64_t i, const double *keys, const int64_t *rows, int64_t n,
                   const farann_block *where, const farann_filter *filter) noexcept nogil
    cdef void raise_to_kth(self, int64_t i) noexcept nogil
    cdef absorb(self, int64_t i, list others)
    cdef void finish(self) noexcept nogil
    cdef void write(self, int64_t i, float *scores, int64_t *ids, int64_t n) noexcept nogil


cdef inline int64_t n_new(Collector collector, int64_t j, int64_t i) noexcept nogil:
    """Rows appended to list j of the tile, that of query i."""
    return collector.tile[j].count - collector.answers[i].passed.count


cdef float at_least(Collector collector, int64_t m, const float *scores, int64_t n) noexcept nogil
cdef double bar_of(QueryBatch batch, int64_t i, double threshold) noexcept nogil
cdef double floor_of(const Query *query, double reduced) noexcept nogil
cdef double rough_key(const Query *query, double sign, double score) noexcept nogil
