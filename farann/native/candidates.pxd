"""Choosing among rows that were scored: candidates, thresholds, the k best."""

from libc.stdint cimport int64_t

from farann.native.kernels cimport farann_block, farann_candidates, farann_filter
from farann.native.query_batch cimport Query, QueryBatch
from farann.native.row_reader cimport RowBlock, RowReader
from farann.native.snapshot cimport Segment


cdef class Candidates:
    cdef QueryBatch batch
    cdef int64_t capacity  # of candidates, before they are thinned out
    cdef bint for_best  # rows are searched for the k best of them, exactly
    cdef bint selects  # the k best when many have passed; or their scores are sorted, or k is large
    cdef bint scored  # roughly at first; otherwise rows get exact keys at once
    cdef double *exact_keys  # of some rows
    cdef int64_t *positions  # of these, within their segment
    cdef farann_candidates *tile  # the lists that the scan of a tile of queries appends to
    cdef int64_t *members  # the queries of this tile
    cdef RowReader rows

    @staticmethod
    cdef Candidates of(QueryBatch batch, int64_t room, int64_t largest_block, bint scored,
                       bint exact)
    cdef void admit_tile(self, int64_t count, const farann_block *block) noexcept nogil
    cdef float threshold_for(self, Query *query, double slack) noexcept nogil
    cdef bint begins(self) noexcept nogil
    cdef double admission_threshold(self, const Query *query) noexcept nogil
    cdef void admit_best(self, Query *query, const float *scores, int64_t n,
                         const farann_block *block) noexcept nogil
    cdef void select_best(self, Query *query, const float *scores, int64_t n,
                          const farann_block *block) noexcept nogil
    cdef float at_least(self, int64_t m, const float *scores, int64_t n) noexcept nogil
    cdef void admit(self, Query *query, int64_t before, const farann_block *block) noexcept nogil
    cdef void select_again(self, Query *query) noexcept nogil
    cdef RowBlock rows_at(self, const Segment *segment, int64_t start, int64_t n) noexcept nogil
    cdef farann_block block_of(self, const Segment *segment, int64_t start) noexcept nogil
    cdef void score_exactly(self, Query *query, const Segment *segment, int64_t start,
                            int64_t n) noexcept nogil
    cdef void offer(self, Query *query, int64_t n, const farann_block *block,
                    const farann_filter *filter) noexcept nogil
    cdef void raise_threshold(self, Query *query) noexcept nogil
    cdef void push_beyond(self, Query *query, int64_t n, const farann_block *block,
                          const farann_filter *filter) noexcept nogil
    cdef void collect(self, Query *query, int64_t n, const farann_block *block,
                      const farann_filter *filter) noexcept nogil
    cdef void forget(self, Query *query) noexcept nogil
    cdef void thin_out(self, Query *query) noexcept nogil
    cdef double keep_best(self, Query *query) noexcept nogil
    cdef int64_t raise_thresholds(self, int64_t start) noexcept nogil
    cdef void rerank_best(self, Query *query) noexcept nogil
    cdef void rerank_all(self, Query *query) noexcept nogil
    cdef void rerank(self, Query *query, int64_t first) noexcept nogil
    cdef void finish(self) noexcept nogil
    cdef double score_of(self, const Query *query, int64_t i) noexcept nogil
    cdef void write_answer(self, const Query *query, float *scores, int64_t *ids,
                           int64_t n) noexcept nogil
