from farann.native.codes cimport Codes
from farann.native.kernels cimport *
from farann.native.snapshot cimport Filter, Snapshot


cdef enum:
    N_COUNTS = 9  # fields of `SearchStats` that batches count


cdef struct Query:
    const float *vector     # NULL: it is in float64
    farann_query prepared
    farann_filter filter    # the rows it may find


cdef inline double reduced_key(const Query *query, double key) noexcept nogil:
    """The reduced key of a key times the sign."""
    return key * query.prepared.key_scale + query.prepared.key_offset


cdef class QueryBatch:
    cdef Snapshot snapshot
    cdef Filter filter
    cdef Scratch scratch
    cdef const int64_t *given_up
    cdef CancelFlag flag            # keeps `given_up` alive
    cdef const farann_kernels *kernels
    cdef farann_metric metric
    cdef farann_traits traits
    cdef float bias_sign    # of |y|^2 in scores
    cdef int64_t dim, n_queries, k
    cdef int64_t room               # queries that others may take the place of, at most
    cdef int64_t block_rows         # float32 rows of a block
    cdef double sign                # 1 for the furthest, -1 for the nearest rows
    cdef bint negates               # scores are those of the queries times -1
    cdef double epsilon
    cdef double end_time            # seconds; infinity: no time limit
    cdef int64_t next_look          # at the clock, in multiply-adds
    cdef const float[:, ::1] narrow  # keeps the queries alive
    cdef const double[:, ::1] wide  # of 29 bits but for the rests, so that products are exact
    cdef const double[:, ::1] rests
    cdef Query *queries
    cdef double *exact              # the query last asked for, in float64
    cdef const Query *exact_of
    cdef double *query_vector       # of the query last prepared; coding transforms it in place
    cdef float *rounded             # the same in float32, before it is transformed
    # Counts of work, see `SearchStats`.
    cdef int64_t scanned, refined, rescored, bytes_read
    cdef int64_t code_products, float_products, blocks, passed, packed

    @staticmethod
    cdef QueryBatch of(Snapshot snapshot, Filter filter, const float[:, ::1] queries,
                       int64_t start, int64_t stop, int64_t k, bint nearest, CancelFlag flag)
    cdef take_time(self, double seconds)
    cdef take_filter(self, Filter filter)
    cdef bint cancelled(self) noexcept nogil
    cdef bint time_to_look(self) noexcept nogil
    cdef check_cancelled(self)
    cdef const double *exact_query(self, int64_t i) noexcept nogil
    cdef const double *rest_of(self, int64_t i) noexcept nogil
    cdef void find_query_vector(self, int64_t i) noexcept nogil
    cdef double round_query_vector(self, int64_t i) noexcept nogil
    cdef void count_rows(self, int64_t n, int64_t row_bytes) noexcept nogil
    cdef void count_products(self, int64_t n, int64_t row_products, int64_t n_queries,
                             bint of_codes) noexcept nogil
    cdef void begin_again(self, const float *vectors, int64_t n) noexcept nogil
    cdef void add_counts(self, int64_t *counts) noexcept nogil
    cdef tuple counts(self)


cdef struct CodedQuery:
    farann_coded_query scan   # for the scanned coordinates: all, or those of the PCA filter
    farann_coded_query whole  # for all coordinates
    # Component along the mean query direction, length of the rest; where rows are nonnegative |q|^2
    # and the norm of the negative part of q.
    double along, across
    bint usable               # whether codes can score the query


cdef struct QueryCodes:
    uint32_t *of              # codes of all queries, one after the other
    uint32_t *tile            # a tile of some of them
    int64_t groups            # words of a query


cdef class CodedQueries:
    cdef QueryBatch batch
    cdef Codes codes            # of the rows that are searched
    cdef farann_code_bounds bounds, scan_bounds  # error bounds of whole and of scanned codes
    cdef double outside_counts  # share of the part outside the axes in the error bound
    cdef bint approximate, pca_filtered  # rows are scanned along the PCA axes first
    cdef int64_t width          # queries of a tile
    cdef CodedQuery *of         # by query
    cdef QueryCodes scanned     # of the coordinates that are scanned
    cdef QueryCodes whole       # of all coordinates: the same but for a PCA filter
    cdef uint32_t *tiles        # scanned codes in tiles, in the order of queries
    cdef int64_t tile_words     # from one tile to the next
    cdef uint8_t *code_bytes

    @staticmethod
    cdef CodedQueries of_batch(QueryBatch batch, Codes codes, bint pca_filtered,
                               double deviations=*, bint in_tiles=*)
    cdef QueryCodes room_for(self, int64_t groups) except *
    cdef const uint32_t *tile_of(self, const QueryCodes *codes, const int64_t *members,
                                 int64_t count, int64_t width) noexcept nogil
    cdef void make_tiles(self) noexcept nogil
    cdef void encode(self, int64_t i) noexcept nogil
