"""Rows in float32: where they have no codes, or codes rule out too little."""

from libc.stdint cimport int64_t

from farann.native.candidates cimport Candidates
from farann.native.codes cimport Codes
from farann.native.key_scan cimport KeyScan
from farann.native.kernels cimport farann_block
from farann.native.query_batch cimport Query, QueryBatch
from farann.native.snapshot cimport Segment


cdef class RowScan:
    cdef QueryBatch batch
    cdef Candidates candidates
    cdef KeyScan key_scan
    cdef float *query_vectors  # of all queries; NULL: no rows were scanned yet
    cdef int64_t rows_a_key  # rows in float32 that cost as much as the key of one
    cdef int64_t n_seen  # rows scanned before those of the segment

    cdef set_up(self, QueryBatch batch, Candidates candidates, KeyScan key_scan)
    cdef bint make_room(self) noexcept nogil
    cdef void take_query(self, int64_t i) noexcept nogil
    cdef void scan_block(self, const Segment *segment, int64_t start, int64_t n) noexcept nogil
    cdef bint take_queries(self) noexcept nogil
    cdef bint begin_in_float32(self) noexcept nogil
    cdef void forget_scores(self, Query *query) noexcept nogil
    cdef bint begins_anew(self, int64_t start) noexcept nogil
    cdef void scan_without_codes(self, Codes codes, int64_t start) noexcept nogil
    cdef void scan_after_codes(self, const Segment *rest) noexcept nogil
    cdef void scan(self, const Segment *segment, int64_t start, int64_t end) noexcept nogil
    cdef void scan_keys(self, const Segment *segment, int64_t start, int64_t n, int64_t first,
                        int64_t count) noexcept nogil


cdef class ExactScan(RowScan):
    pass


cdef class RowMajorScan(RowScan):
    cdef float *scores  # of a block
    cdef double square_bound  # upper bound on |y|^2 of rows of the base; -1: not known

    cdef void scan_row_major(self, int64_t i, const Segment *segment, int64_t start,
                             int64_t n) noexcept nogil


cdef class PackedScan(RowScan):
    cdef int64_t n_tiles
    cdef float *panels
    cdef float *bias
    cdef float *scores  # of a block, for a tile
    cdef float *thresholds  # of a tile

    cdef void scan_packed(self, const Segment *segment, int64_t start, int64_t n) noexcept nogil
    cdef void scan_tile(self, int64_t tile, const Segment *segment, int64_t start, int64_t n,
                        double squares) noexcept nogil
    cdef void score_tile(self, int64_t first, int64_t count, int64_t n,
                         const farann_block *block) noexcept nogil


cdef bint few_of(int64_t n, Codes codes) noexcept nogil
