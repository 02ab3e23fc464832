"""Levels that give all rows of a block keys, and no rough scores."""

from libc.stdint cimport int64_t

from farann.native.collector cimport Collector
from farann.native.integer_keys cimport IntegerKeys
from farann.native.judge cimport Judge
from farann.native.kernels cimport farann_block, farann_key_panels, farann_key_threshold
from farann.native.levels cimport Level, RelativeLevel
from farann.native.coded_queries cimport CodedQueries
from farann.native.query_batch cimport QueryBatch
from farann.native.sources cimport Block, RowRange


cdef class KeyLevel(Level):
    cdef Collector collector
    cdef Judge judge
    cdef IntegerKeys integer_keys
    cdef RowRange rows          # of the block
    cdef bint packed            # whether these were packed for tiles of queries
    cdef farann_key_panels panels
    cdef double *tile           # some queries in float64, side by side; NULL: not allocated yet
    cdef farann_key_threshold *thresholds

    @staticmethod
    cdef KeyLevel of(QueryBatch batch, Collector collector, Judge judge)
    cdef bint has_room(self) noexcept nogil
    cdef void pack(self) noexcept nogil
    cdef void scan_one(self, int64_t i) noexcept nogil
    cdef void take_columns(self, const int64_t *members, int64_t count) noexcept nogil
    cdef void set_threshold(self, farann_key_threshold *threshold, int64_t i) noexcept nogil
    cdef double near_key(self, int64_t i) noexcept nogil


cdef class DecodedLevel(Level):
    cdef CodedQueries coded
    cdef RelativeLevel relative  # None: codes aren't relative to means of partitions

    @staticmethod
    cdef DecodedLevel of(CodedQueries coded, Level level)
    cdef double decoded_score(self, int64_t position) noexcept nogil
    cdef double mean_score(self) noexcept nogil
