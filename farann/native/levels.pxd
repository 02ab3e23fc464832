"""Ways to score a block for a tile of queries: the base, and those that go by codes."""

from libc.stdint cimport int8_t, int64_t, uint8_t, uint32_t, uint64_t

from farann.native.coded_queries cimport CodedQueries
from farann.native.codes cimport Codes
from farann.native.collector cimport Collector
from farann.native.judge cimport Pause
from farann.native.kernels cimport (farann_ahead, farann_coded_rows, farann_coded_tile,
                                    farann_pass_threshold, farann_pass_thresholds)
from farann.native.query_batch cimport QueryBatch
from farann.native.sources cimport Block, Source


cdef class Level:
    cdef QueryBatch batch
    cdef bint narrows       # whether the rows of the last scan are to be narrowed down
    cdef int64_t most       # rows of a block that there is room for
    cdef int64_t first_judged  # rows scanned before the judge may take queries to exact keys
    cdef double few_allowed    # share of rows below which filters come before narrowing down
    cdef uint64_t unable    # places in the last tile of queries that could not be scored, as bits

    cdef void begin_query(self, int64_t i) noexcept nogil
    cdef double slack_of(self, int64_t i) noexcept nogil
    cdef int64_t most_after(self, int64_t n) noexcept nogil
    cdef void take_block(self, Source source, Block *block, int64_t n_members) noexcept nogil
    cdef int64_t next_tile(self, int64_t n_left) noexcept nogil
    cdef void scan(self, const Block *block, const int64_t *members, int64_t count,
                   Collector collector) noexcept nogil
    cdef void score(self, const Block *block, const int64_t *members, int64_t count,
                    Collector collector) noexcept nogil
    cdef void narrow(self, int64_t start, const int64_t *members, int64_t count,
                     Collector collector) noexcept nogil


cdef struct Passing:  # what passes for a query
    farann_pass_threshold threshold
    double floor      # the reduced key that it was made for
    bint high         # whether for high nibbles
    Pause pause       # of high nibbles


cdef class CodeLevel(Level):
    cdef Codes codes
    cdef CodedQueries coded
    cdef Passing *passing       # by query
    cdef int64_t width          # queries of the current tile's kernel
    cdef bint in_order          # all queries are scanned, in tiles that are there
    cdef bint all_scored        # rows of the block are all scored
    cdef int64_t usual          # rows of a block
    cdef farann_coded_rows rows  # of the block
    cdef uint8_t *joined        # whole codes of a block, joined for many tiles; NULL: never
    cdef float *scores          # of a block whose rows are all scored, query after query
    cdef farann_pass_thresholds thresholds
    cdef farann_pass_threshold nothing_passes
    cdef farann_ahead ahead     # codes to prefetch meanwhile
    cdef int64_t high_bytes, whole_bytes  # that a scan reads of a row
    cdef double *offsets        # what scores lack, by place in the tile; NULL: nothing

    cdef set_up(self, CodedQueries coded, int64_t most, int64_t n_scored)
    cdef void take_rows(self, const farann_coded_rows *rows, int64_t start,
                        int64_t row_bytes) noexcept nogil
    cdef void ask_for(self, const Block *block, int64_t n_members) noexcept nogil
    cdef farann_pass_threshold threshold_at(self, int64_t i, double floor,
                                            bint high) noexcept nogil
    cdef const uint32_t *codes_of(self, const int64_t *members, int64_t count) noexcept nogil
    cdef farann_coded_tile tile_of(self, const int64_t *members, int64_t count, bint high,
                                   Collector collector) noexcept nogil
    cdef void run(self, const Block *block, const farann_coded_tile *tile, int64_t count,
                  bint high, Collector collector) noexcept nogil
    cdef void count_work(self, const Block *block, int64_t count, bint high) noexcept nogil


cdef class NibbleLevel(CodeLevel):
    pass


cdef class RelativeLevel(CodeLevel):
    cdef int8_t *mean       # that rows of the block were coded relative to
    cdef double mean_unit   # 0: they weren't

    cdef void take_mean(self, int64_t position) noexcept nogil


cdef class WholeLevel(CodeLevel):
    cdef uint8_t *panels    # a block in panels
    cdef float *inv_scales  # of these
    cdef int64_t *positions
    cdef bint in_panels     # whether the block is

    cdef bint has_room(self) noexcept nogil


cdef int64_t code_rows_of(Codes codes) noexcept nogil
cdef CodeLevel level_of(CodedQueries coded, int64_t most, int64_t n_scored)
cdef WholeLevel whole_level_of(CodedQueries coded, int64_t most, int64_t n_scored)
