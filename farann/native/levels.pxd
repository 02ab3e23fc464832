from libc.stdint cimport int64_t, uint64_t

from farann.native.codes cimport Codes
from farann.native.collector cimport Collector
from farann.native.query_batch cimport CodedQueries, QueryBatch
from farann.native.sources cimport Block, Source


cdef enum:
    # More members of a set are scanned for where more than 1/48 of the rows pass: an exact key
    # takes 25 ns, a row of a scan .6; measured, 100,000 x 50.
    KEY_ROWS = 48


cdef class Level:
    cdef QueryBatch batch
    cdef int rung           # of a part's ladder
    cdef bint narrows       # whether the rows of the last scan are to be narrowed down
    cdef int64_t most       # rows of a block that there is room for
    cdef int64_t first_judged  # rows scanned before the judge may take queries to exact keys
    cdef double few_allowed    # share of rows below which filters come before narrowing down
    cdef uint64_t unable    # places in the last tile of queries that could not be scored, as bits

    cdef void begin_query(self, int64_t i) noexcept nogil
    cdef int64_t most_after(self, int64_t n) noexcept nogil
    cdef void take_block(self, Source source, Block *block, int64_t n_members) noexcept nogil
    cdef int64_t next_tile(self, const int64_t *members, int64_t n) noexcept nogil
    cdef void scan(self, const Block *block, const int64_t *members, int64_t count,
                   Collector collector) noexcept nogil
    cdef void score(self, const Block *block, const int64_t *members, int64_t count,
                    Collector collector) noexcept nogil
    cdef void narrow(self, int64_t start, const int64_t *members, int64_t count,
                     Collector collector) noexcept nogil


cdef int64_t code_rows_of(Codes codes) noexcept nogil
cdef Level code_level_of(CodedQueries coded, int64_t most, int64_t n_scored)
cdef Level set_level_of(CodedQueries coded, int64_t most, const int64_t *owners, int64_t *seen,
                        int64_t *ruled_out)
cdef Level whole_level_of(CodedQueries coded, int64_t most, int64_t n_scored)
cdef Level decoded_level_of(CodedQueries coded)
