"""Which partitions a query probes."""

from libc.stdint cimport int32_t, int64_t, uint32_t

from farann.native.candidates cimport Candidates
from farann.native.code_scan cimport CodeScan
from farann.native.coded_queries cimport CodedQueries
from farann.native.kernels cimport farann_candidates, farann_coded_query, farann_entry
from farann.native.partitions cimport Partitions
from farann.native.query_batch cimport Query, QueryBatch


cdef class PartitionChoice:
    cdef QueryBatch batch
    cdef Candidates candidates
    cdef CodedQueries coded
    cdef CodeScan code_scan
    cdef Partitions partitions
    cdef double credited
    cdef bint predicts, may_predict  # the k-th key; at present, and when a search begins
    cdef double beside  # what is predicted, from what good partitions score
    cdef int64_t budget
    cdef uint32_t *query_codes  # whole codes for partitions, query after query
    cdef uint32_t *tile_codes  # of a tile
    cdef farann_coded_query *coded_queries
    cdef float *optimistic_scores  # of partitions, for a tile
    cdef farann_candidates chosen  # partitions, for one query
    cdef int64_t *choosing  # queries that have partitions to choose
    cdef int64_t n_choosing
    cdef int64_t *spent  # rows scored, by query
    cdef int32_t *probed  # partitions, query after query of those that choose
    cdef int64_t *probe_ends  # theirs
    cdef int64_t n_probes, probes_room
    cdef farann_entry *ranked  # partitions, where a budget needs them in order

    @staticmethod
    cdef PartitionChoice of(QueryBatch batch, Candidates candidates, CodedQueries coded,
                            CodeScan code_scan, double credited, int64_t budget, double predicted)
    cdef void encode(self, int64_t i) noexcept nogil
    cdef void choose(self) noexcept nogil
    cdef bint sees_partitions(self, int64_t i) noexcept nogil
    cdef double predicted_threshold(self, const Query *query, const float *scores) noexcept nogil
    cdef double mean_of_best(self, const float *scores) noexcept nogil
    cdef double deviation_of(self, const Query *query) noexcept nogil
    cdef void score_partitions(self, const int64_t *members, int64_t count) noexcept nogil
    cdef bint has_room(self) noexcept nogil
    cdef void choose_within_budget(self, int64_t i, const float *scores, float floor) noexcept nogil
