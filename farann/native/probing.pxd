"""Sources of approximate searches: partitions that queries choose, and rows that come later."""

from libc.stdint cimport int32_t, int64_t, uint32_t, uint8_t

from farann.native.coded_queries cimport CodedQueries
from farann.native.codes cimport Partitions
from farann.native.collector cimport Collector
from farann.native.kernels cimport farann_candidates, farann_coded_query, farann_entry
from farann.native.query_batch cimport QueryBatch
from farann.native.sources cimport CodeSource


cdef class PartitionMeans:
    cdef QueryBatch batch
    cdef Partitions partitions
    cdef CodedQueries coded
    cdef double credited        # standard deviations that are added to means
    cdef uint32_t *codes        # of queries, one after the other
    cdef uint32_t *tile_codes
    cdef farann_coded_query *queries
    cdef float *scores          # optimistic scores of partitions, for a tile

    @staticmethod
    cdef PartitionMeans of(CodedQueries coded, double credited)
    cdef void encode(self, int64_t i) noexcept nogil
    cdef bint can_score(self, int64_t i) noexcept nogil
    cdef void score(self, const int64_t *members, int64_t count) noexcept nogil
    cdef double mean_of_best(self, const float *scores) noexcept nogil
    cdef double deviation_of(self, int64_t i) noexcept nogil


cdef class PartitionSource(CodeSource):
    cdef PartitionMeans means
    cdef Collector collector
    cdef int64_t n_first        # rows scanned in any case
    cdef int64_t budget         # rows to scan at most
    cdef double beside          # deviations that k-th keys are above good partitions; NaN: unknown
    cdef bint chosen            # whether partitions were chosen before any row was scanned
    cdef int64_t *everyone
    cdef int64_t *spent         # rows scanned, by query
    cdef int32_t *probed        # partitions, query after query
    cdef int64_t *probers       # queries, partition after partition
    cdef int64_t *probe_ends    # of each query's partitions
    cdef int64_t *heads         # of each partition's queries
    cdef int64_t n_probes, room
    cdef int64_t cell           # the partition of the next block; or the probe, of a single query
    cdef int64_t probing        # the partition of the next block; -1: there is none
    cdef farann_candidates ranked  # partitions by score, where a budget needs them in order
    cdef farann_entry *entries

    @staticmethod
    cdef PartitionSource of_means(PartitionMeans means, Collector collector, int64_t n_first,
                                  int64_t budget, double predicted)
    cdef void choose(self, const int64_t *members, int64_t n, bint predicts) noexcept nogil
    cdef void choose_for_one(self, int64_t i, const float *scores, float floor) noexcept nogil
    cdef void list_probers(self, const int64_t *members, int64_t n) noexcept nogil
    cdef bint has_room(self) noexcept nogil
    cdef void take_cell(self, int64_t cell) noexcept nogil


cdef class Lateness:
    cdef QueryBatch batch
    cdef Collector collector
    cdef CodedQueries coded
    cdef const uint8_t[::1] places  # of rows in the order of codes, see `places_of`
    cdef uint8_t last_place     # that of all rows in partitions
    cdef float *of_queries

    @staticmethod
    cdef Lateness of(CodedQueries coded, Collector collector, Partitions partitions)
    cdef void tell(self) noexcept nogil
    cdef float of_query(self, int64_t i) noexcept nogil


cdef class LateSource(CodeSource):
    cdef Lateness lateness
    cdef double late            # lateness in the rows before `first` from which more are scanned
    cdef int64_t *late_ones
    cdef int64_t n_late

    @staticmethod
    cdef LateSource of_lateness(Lateness lateness, double late, int64_t n_first)
    cdef void keep_late(self) noexcept nogil
