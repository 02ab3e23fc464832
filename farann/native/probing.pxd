from farann.native.codes cimport Partitions
from farann.native.collector cimport Collector
from farann.native.kernels cimport *
from farann.native.query_batch cimport CodedQueries, QueryBatch, QueryCodes
from farann.native.sources cimport CodeSource


cdef class PartitionMeans:
    cdef QueryBatch batch
    cdef Partitions partitions
    cdef CodedQueries coded
    cdef double credited        # standard deviations added to the scores of means
    cdef QueryCodes codes
    cdef farann_coded_query *queries
    cdef farann_candidates best  # partitions that score well
    cdef float *scores          # optimistic scores of partitions, for a tile

    @staticmethod
    cdef PartitionMeans of(CodedQueries coded, double credited)
    cdef void encode(self, int64_t i) noexcept nogil
    cdef bint can_score(self, int64_t i) noexcept nogil
    cdef void score(self, const int64_t *members, int64_t count) noexcept nogil
    cdef double mean_of_best(self, const float *scores) noexcept nogil
    cdef double deviation_of(self, int64_t i, const float *scores, double good) noexcept nogil


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


cdef CodeSource probed_partitions(PartitionMeans means, Collector collector, int64_t n_first,
                                  int64_t budget, double predicted)
cdef CodeSource late_rows(Lateness lateness, double late, int64_t n_first)
