from libc.math cimport INFINITY

from farann.native.kernels cimport *
from farann.native.snapshot cimport Snapshot
from farann.native.sources cimport RowBlock, RowReader

cdef enum:
    # Picks of a chunk, rounded down to whole tiles; a bound names the chunk of the nearest pick.
    MOST_CHUNK = 64
    MOST_PACKED = 128  # rows that are packed at once, at most
    KEY_KNOWN = -1  # chunk of a row whose bound is the key
    UNKNOWN = -2  # chunk of a row of which any pick may be the nearest
    OUT = -3  # chunk of a row that is not to be chosen


cdef struct RowState:
    double bound    # the smallest key over the picks before `met` is at most this
    double others   # keys for picks outside `chunk` are at least this minus the error of bounds
    int32_t met
    int32_t chunk   # the picks of which one is the nearest, or KEY_KNOWN, UNKNOWN or OUT


cdef struct Bounded:
    double bound
    int64_t id
    int64_t slot


cdef inline bint goes_before(const Bounded *a, const Bounded *b) noexcept nogil:
    """Whether a row with a bound comes first: the larger bound, of equal ones the smaller id."""
    return a.bound > b.bound or (a.bound == b.bound and a.id < b.id)


cdef void put_first(Bounded *rows, int64_t n, int64_t m) noexcept nogil


cdef inline void meet(RowState *row, int64_t chunk, double bound, double off) noexcept nogil:
    """Note that a row has at most this key for picks of a chunk, and a bound that is tight."""
    if bound < row.bound:
        if row.chunk == UNKNOWN:
            row.others = -INFINITY if row.bound < INFINITY else INFINITY
        elif row.chunk != chunk:
            row.others = min(row.others, row.bound)
        row.bound, row.chunk = bound, <int32_t>chunk
    elif row.chunk == KEY_KNOWN:
        if bound - off < row.bound:
            row.chunk = UNKNOWN
    elif row.chunk != chunk:
        row.others = min(row.others, bound)


cdef class Picks:
    cdef Snapshot snapshot
    cdef const farann_kernels *kernels
    cdef farann_metric metric
    cdef farann_traits traits
    cdef float bias_sign    # of |y|^2 in scores
    cdef int64_t dim, count, capacity
    cdef int64_t n_scored, n_exact  # pairs of rows and picks, by float32 and by exact keys
    cdef Scratch scratch, grown  # of one row; of all that were added
    cdef float *rows      # as they are, one after the other
    cdef double *norms    # |s| under cosine, else 1
    cdef float *tiles     # their vectors, as queries of a search for the nearest rows
    cdef float *offsets   # subtracted from scores for these, which gives minus a bound on the key
    cdef float *row_offsets  # the same for rows that are scored where they lie
    cdef double smallest, largest  # of the |y|^2 of scored rows
    cdef double squares   # the largest |y|^2 of all rows
    cdef double off       # error bound: bounds on keys exceed the keys by at most this
    cdef int64_t chunk    # picks of which the nearest is one, where a bound is known
    cdef bint by_keys     # float32 can't hold the scores
    cdef bint row_major   # few picks meet rows where they lie
    cdef float *copies    # of some rows, and their positions in a segment
    cdef int64_t *positions
    cdef float *scores    # of a block of rows
    cdef double *exact    # the last row that keys were computed for, in float64
    cdef double *query_vector
    cdef float *rounded
    cdef farann_query prepared
    cdef RowReader reader

    cdef begin(self, Snapshot snapshot)
    cdef void follow(self, Picks other) noexcept nogil
    cdef const float *row_of(self, int64_t slot) noexcept nogil
    cdef grow(self, int64_t needed)
    cdef void prepare(self, const float *row) noexcept nogil
    cdef void score_all(self, int64_t slot, RowState *states, int64_t part,
                        int64_t parts) noexcept nogil
    cdef bint meet_first(self, int64_t slot, RowState *states) noexcept nogil
    cdef void score_rows(self, const RowBlock *block, int64_t n, float *norms) noexcept nogil
    cdef void raise_best(self, int64_t at, const int64_t *slots, int64_t n,
                         float *best) noexcept nogil
    cdef RowBlock rows_at(self, const int64_t *slots, int64_t n) noexcept nogil
    cdef void add_query(self, const float *row) noexcept nogil
    cdef void pack(self, const int64_t *slots, int64_t n, float *panels, float *bias) noexcept nogil
    cdef double norm_of(self, const float *row) noexcept nogil
    cdef double least_key(self, const float *row, int64_t first, int64_t end) noexcept nogil
    cdef void make_exact(self, RowState *state, int64_t slot) noexcept nogil


cdef class OpenRows(Picks):
    cdef RowState *states  # of all rows, by slot
    cdef int64_t *slots    # of the rows that are left, and their places in the panels
    cdef int64_t *places
    cdef int64_t n, n_scored_at_once
    cdef float *panels
    cdef float *bias
    cdef float *best

    @staticmethod
    cdef OpenRows of(Snapshot snapshot, RowState *states)
    cdef void meet_picks(self, const int32_t *slots, int64_t n, double floor) noexcept nogil
