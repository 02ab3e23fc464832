"""Levels that read rows: in float32, or for exact keys."""

from libc.stdint cimport int64_t

from farann.native.bounds cimport IntegerKeys
from farann.native.coded_queries cimport CodedQueries
from farann.native.collector cimport Collector
from farann.native.judge cimport Judge
from farann.native.kernels cimport farann_key_panels, farann_key_threshold
from farann.native.levels cimport Level, RelativeLevel
from farann.native.query_batch cimport QueryBatch
from farann.native.sources cimport Block, RowRange, RowReader


cdef class FloatLevel(Level):
    cdef RowReader reader
    cdef float *vectors     # of all queries, padded; NULL: no block was scanned yet
    cdef bint has_vectors   # whether they are those of the present queries
    cdef RowRange rows      # of the block

    cdef bint take_vectors(self) noexcept nogil


cdef class RowMajorLevel(FloatLevel):
    cdef float *scores
    cdef double square_bound  # upper bound on |y|^2 of rows of the base; -1: not known



cdef class PackedLevel(FloatLevel):
    cdef int64_t width      # queries of a tile
    cdef float *panels      # the rows of the block
    cdef float *bias
    cdef double squares     # the largest |y|^2 of the block
    cdef float *tile        # vectors of a tile, side by side
    cdef float *thresholds
    cdef float *scores      # of a block whose rows are all scored, query after query

    cdef bint has_room(self) noexcept nogil
    cdef void take_tile(self, const int64_t *members, int64_t count,
                        Collector collector) noexcept nogil


cdef FloatLevel float_level_of(QueryBatch batch, RowReader reader)


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
