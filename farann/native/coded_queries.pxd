"""Queries as codes, for the codes that rows have."""

from libc.stdint cimport int64_t, uint8_t, uint32_t

from farann.native.codes cimport Codes
from farann.native.kernels cimport farann_coded_query
from farann.native.query_batch cimport QueryBatch


cdef struct CodedQuery:
    farann_coded_query scan   # for what is scanned
    farann_coded_query whole  # for all coordinates
    double along, across      # component along the mean query direction, length of the rest
    bint usable               # whether codes can score the query


cdef class CodedQueries:
    cdef QueryBatch batch
    cdef Codes codes            # of the rows that are searched
    cdef double noise, outside_counts  # shares of the code errors that are allowed for
    cdef bint approximate, pca_filtered  # rows are scanned along the PCA axes first
    cdef int64_t width          # queries of a tile
    cdef CodedQuery *of         # by query
    cdef uint32_t *codes_of     # codes for the scanned panels, query after query
    cdef uint32_t *code_tiles   # the same in tiles
    cdef int64_t tile_words     # from one tile to the next
    cdef uint32_t *tile_codes   # a tile of some queries
    cdef uint32_t *whole_queries  # with a PCA filter: codes of all coordinates
    cdef uint32_t *whole_tile
    cdef uint8_t *code_bytes

    @staticmethod
    cdef CodedQueries of_batch(QueryBatch batch, Codes codes, bint approximate, bint pca_filtered,
                               bint one_by_one=*)
    cdef const uint32_t *single_codes(self, int64_t i) noexcept nogil
    cdef const uint32_t *whole_codes(self, int64_t i) noexcept nogil
    cdef int64_t words_of_tile(self, int64_t width, int64_t groups) noexcept nogil
    cdef const uint32_t *gather(self, const int64_t *members, int64_t count,
                                bint whole) noexcept nogil
    cdef void make_tiles(self) noexcept nogil
    cdef const uint32_t *tile_of(self, int64_t first) noexcept nogil
    cdef void encode(self, int64_t i) noexcept nogil
