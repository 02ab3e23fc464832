"""Levels that score rows in float32: where there are no codes, or these rule out too little."""

from libc.stdint cimport int64_t

from farann.native.collector cimport Collector
from farann.native.levels cimport Level
from farann.native.query_batch cimport QueryBatch
from farann.native.row_reader cimport RowReader
from farann.native.sources cimport Block, RowRange


cdef class FloatLevel(Level):
    cdef RowReader reader
    cdef float *vectors     # of all queries, padded; NULL: no block was scanned yet
    cdef bint has_vectors   # whether they are those of the present queries
    cdef RowRange rows      # of the block

    cdef bint take_vectors(self) noexcept nogil


cdef class RowMajorLevel(FloatLevel):
    cdef float *scores
    cdef double square_bound  # upper bound on |y|^2 of rows of the base; -1: not known

    cdef double score_rows(self, const Block *block, int64_t i) noexcept nogil


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
