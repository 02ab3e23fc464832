"""Queries as codes, for the codes that rows have."""

from libc.stdint cimport int64_t, uint8_t, uint32_t

from farann.native.candidates cimport Candidates
from farann.native.codes cimport Codes
from farann.native.query_batch cimport Query, QueryBatch


cdef int64_t most_code_rows(Codes codes, int64_t n_queries) noexcept


cdef class CodedQueries:
    cdef QueryBatch batch
    cdef Candidates candidates
    cdef Codes codes  # of the rows that are searched
    cdef bint approximate  # errors of codes are taken for noise
    cdef double noise, outside_counts  # what they count then; otherwise all of it
    cdef bint pca_filtered  # rows are scanned along the basis first
    cdef int64_t code_width  # queries of a tile
    cdef int64_t code_rows  # of a block
    cdef int64_t most_rows  # and of one that is scanned for a query by itself
    cdef uint32_t *codes_of  # codes of queries for the scanned panels, one after the other
    cdef uint32_t *code_tiles  # the same in tiles
    cdef int64_t tile_words  # from one of these to the next
    cdef uint32_t *tile_codes  # a tile of some of the queries
    cdef uint32_t *whole_queries  # with a basis: all coordinates, query after query
    cdef uint32_t *whole_tile  # the same of a tile
    cdef uint8_t *code_bytes

    @staticmethod
    cdef CodedQueries of(QueryBatch batch, Candidates candidates, Codes codes, bint approximate,
                         bint pca_filtered)
    cdef use(self, Codes codes, bint pca_filtered)
    cdef int64_t rows_after(self, int64_t n) noexcept nogil
    cdef const uint32_t *single_codes(self, int64_t i) noexcept nogil
    cdef const uint32_t *whole_codes(self, int64_t i) noexcept nogil
    cdef int64_t words_of_tile(self, int64_t width, int64_t groups) noexcept nogil
    cdef const uint32_t *gather(self, const int64_t *queries, int64_t count,
                                bint whole) noexcept nogil
    cdef void make_tiles(self) noexcept nogil
    cdef uint32_t *tile_of(self, int64_t first) noexcept nogil
    cdef void encode(self, int64_t i) noexcept nogil
    cdef void project_on_mean_direction(self, Query *query, const double *vector) noexcept nogil
    cdef void encode_for_pca_filter(self, Query *query, const double *vector,
                                    uint32_t *codes) noexcept nogil
