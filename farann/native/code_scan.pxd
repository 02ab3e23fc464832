"""One block of coded rows: scanned for tiles of queries, refined by their whole codes."""

from libc.stdint cimport int8_t, int64_t, uint8_t, uint32_t

from farann.native.candidates cimport Candidates
from farann.native.coded_queries cimport CodedQueries
from farann.native.kernels cimport (farann_ahead, farann_block, farann_pass_threshold,
                                    farann_pass_thresholds, farann_coded_rows, farann_scan_codes)
from farann.native.key_scan cimport KeyScan
from farann.native.query_batch cimport Query, QueryBatch

cdef enum CodeLevel:
    # What a scan reads: whole codes, or their high nibbles.
    WHOLE_CODES, HIGH_NIBBLES

cdef enum:
    FEW_MEMBERS = 3  # queries from which on rows are scanned for a tile; fewer scan one by one


cdef class CodeScan:
    cdef QueryBatch batch
    cdef Candidates candidates
    cdef KeyScan key_scan
    cdef CodedQueries coded
    cdef farann_coded_rows block  # the rows that are scanned by tile after tile
    cdef farann_ahead ahead  # codes to prefetch, which are read after these
    cdef uint8_t *joined  # their whole codes, joined from nibbles if many tiles read them
    cdef farann_pass_thresholds pass_thresholds  # of one tile
    cdef farann_pass_threshold nothing_passes
    cdef bint high_first  # queries are alone, and codes are not in the cache
    cdef bint keys_follow  # blocks of codes, for queries that too many of their rows pass for
    cdef int8_t *mean  # the mean that rows of the block were coded relative to; NULL: none
    cdef double mean_unit  # 0: nothing
    cdef double *offsets  # score of that mean, by query of a tile

    @staticmethod
    cdef CodeScan of(QueryBatch batch, Candidates candidates, KeyScan key_scan, CodedQueries coded)
    cdef void scan_codes(self, int64_t start, int64_t n) noexcept nogil
    cdef void scan_for_members(self, int64_t width, int64_t count, int64_t start,
                               int64_t n) noexcept nogil
    cdef void take_block(self, int64_t start, int64_t n, int64_t n_tiles) noexcept nogil
    cdef void take_mean(self, int64_t position) noexcept nogil
    cdef int64_t of_one_mean(self, int64_t start, int64_t n) noexcept nogil
    cdef double offset_of(self, int64_t i) noexcept nogil
    cdef void add_offsets(self, int64_t count) noexcept nogil
    cdef void scan_code_tile(self, const uint32_t *codes, int64_t width, int64_t count,
                             int64_t start, int64_t n) noexcept nogil
    cdef void give_up_codes_of(self, int64_t count, int64_t start, int64_t n) noexcept nogil
    cdef void raise_pass_threshold(self, Query *query, int level, double offset) noexcept nogil
    cdef farann_scan_codes *scan_function(self, bint single, bint high) noexcept nogil
    cdef void count_products(self, int64_t n, int64_t groups, int64_t blocks) noexcept nogil
    cdef int64_t code_bytes_of_row(self, bint high) noexcept nogil
    cdef bint high_nibbles_first(self, Query *query) noexcept nogil
    cdef void judge_high_nibbles(self, Query *query, int64_t passed, int64_t n) noexcept nogil
    cdef void refine(self, int64_t count, int64_t start, const uint32_t *codes) noexcept nogil
    cdef farann_block coded_block(self, int64_t start) noexcept nogil
    cdef void set_whole_thresholds(self, int64_t count) noexcept nogil
