from farann.native.codes cimport Codes, Partitions
from farann.native.kernels cimport *
from farann.native.query_batch cimport QueryBatch
from farann.native.snapshot cimport Segment, Snapshot

cdef enum:
    # Rows whose keys are computed at once, in arrays on the stack, or compared with one threshold.
    KEYS_AT_ONCE = 256


cdef struct RowBlock:
    const float *rows
    const int64_t *positions  # of the rows of the block; NULL: they come one after the other


cdef class RowReader:
    cdef Snapshot snapshot
    cdef int64_t room  # rows that fit into `wide`
    cdef float *wide
    cdef const uint8_t *source  # of the rows that are there; NULL: those at some positions
    cdef int64_t n_wide

    @staticmethod
    cdef RowReader of(Snapshot snapshot, Scratch scratch, int64_t room)
    cdef RowBlock block(self, const Segment *segment, int64_t start, int64_t n) noexcept nogil
    cdef RowBlock widen(self, const uint8_t *rows, const int64_t *positions,
                        int64_t n) noexcept nogil
    cdef void keys_at(self, const Segment *segment, const int64_t *positions, int64_t n,
                      const double *query, double *keys) noexcept nogil
    cdef int64_t keys_of(self, const int64_t *slots, int64_t n, const double *query,
                         double *keys) noexcept nogil


cdef struct Block:
    int64_t start, n         # positions of codes, or rows of a segment
    int64_t n_before         # rows of the source before these
    bint all_scored          # for a first threshold
    bint begins              # an order of rows: bounds hold anew
    farann_block where       # how rows of the block become slots
    const int64_t *members   # the queries that chose it; NULL: all that ask
    int64_t n_members


cdef class Source:
    cdef QueryBatch batch
    cdef Codes codes        # of its rows; None: they have none
    cdef int64_t count      # rows or positions that it has in all
    cdef int64_t first, stop  # those to search
    cdef int64_t at, end    # where the next block begins, and the last one ends
    cdef int64_t done       # rows in blocks so far
    cdef int64_t ramp       # rows of the next block at most

    cdef void foresee(self) noexcept nogil
    cdef void begin(self, const int64_t *asking, int64_t n, bint all_rows) noexcept nogil
    cdef bint next(self, Block *block, int64_t most) noexcept nogil
    cdef void skip(self) noexcept nogil
    cdef void leave(self) noexcept nogil
    cdef Segment rows_of(self, Block *block) noexcept nogil
    cdef bint grow(self, Block *block, int64_t most) noexcept nogil
    cdef bint go_on(self, int64_t n) noexcept nogil
    cdef Segment rows_at(self, const Segment *segment, int64_t start, Block *block) noexcept nogil


cdef class RowSource(Source):
    cdef Segment segment
    cdef const int64_t *read_as    # slots of rows that lie one after the other; NULL: they don't

    @staticmethod
    cdef RowSource of(QueryBatch batch, const Segment *segment)


cdef class CodeSource(Source):
    cdef Partitions relative_to  # None: codes aren't relative to means of partitions
    cdef int64_t n_scored        # first rows that are all scored, for a first threshold
    cdef int64_t *positions      # of the rows of a block
    cdef int s                   # the segment of its rows
    cdef int64_t left_at         # the position from which codes were given up; -1: they weren't

    @staticmethod
    cdef CodeSource of(QueryBatch batch, Codes codes)
    cdef set_up(self, QueryBatch batch, Codes codes)
    cdef bint next_for(self, Block *block, int64_t most, const int64_t *members,
                       int64_t n) noexcept nogil
    cdef bint take(self, Block *block) noexcept nogil


cdef Source rest_behind(CodeSource before)
cdef CodeSource added_runs(QueryBatch batch, const int64_t[::1] ends)
cdef Block piece(const Block *block, int64_t at, int64_t most) noexcept nogil
