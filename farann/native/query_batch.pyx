"""Some queries of a batch, and the values derived from each of them, such as their codes."""

cimport cython
from libc.math cimport INFINITY, sqrt
from libc.string cimport memcpy, memset

from farann.native.kernels import Cancelled

cdef enum:
    TILED_FOR = 6  # queries of a batch from which codes are scored for tiles of them
    # With a time limit:
    ROWS_IN_ANY_CASE = 1024  # rows that each query meets before the first look; or 4 k if more
    WORK_A_LOOK = 1 << 22  # multiply-adds between looks at the clock: under a millisecond
    WIDEST_TILE = 64  # queries: more than tiles of any kernel have

# Without vectors codes stand for the rows: the error bound keeps this share of the code error, more
# than the rounding error of a key computed from a score.
cdef double LEFT_OF_SLACK = 1e-6


@cython.final
@cython.no_gc  # references between parts form no cycles
@cython.freelist(8)
cdef class QueryBatch:
    """The queries start .. stop of a batch, their limits, and counts of the work done.

    They are those of `given` in float32 or, where that is None, of `wide` in float64, less `rests`.
    """

    @staticmethod
    cdef QueryBatch of(Snapshot snapshot, Filter filter, const float[:, ::1] queries,
                       int64_t start, int64_t stop, int64_t k, bint nearest, CancelFlag flag):
        cdef QueryBatch self = QueryBatch.__new__(QueryBatch)
        cdef int64_t i, padded_dim = padded(snapshot.dim), n_places = 0
        cdef uint32_t *places = NULL
        self.snapshot, self.filter, self.flag, self.scratch = snapshot, filter, flag, Scratch()
        self.given_up, self.end_time = &NEVER if flag is None else &flag.raised, INFINITY
        self.kernels, self.metric, self.dim = snapshot.kernels, snapshot.metric, snapshot.dim
        self.n_queries = self.room = stop - start
        self.k = max(min(k, filter.n_rows), 1)
        self.sign = -1.0 if nearest else 1.0
        self.traits = snapshot.traits
        self.bias_sign = <float>self.sign if self.traits.squared else 0.0
        self.block_rows = min(rows_in_cache(4 * self.dim), whole_blocks(snapshot.n_slots))
        self.narrow, self.exact_of = queries, NULL
        self.queries = <Query *>self.scratch.allocate(self.n_queries, sizeof(Query))
        self.exact = <double *>self.scratch.allocate(padded_dim, sizeof(double))
        self.query_vector = <double *>self.scratch.allocate(
            2 * padded_dim, sizeof(double) + sizeof(float))
        self.rounded = <float *>(self.query_vector + 2 * padded_dim)
        filter.check_queries(stop)
        for i in range(self.n_queries):
            n_places += farann_id_set_room(filter.n_excluded(start + i))
        if n_places:
            places = <uint32_t *>self.scratch.allocate(n_places, sizeof(uint32_t))
        with nogil:
            for i in range(self.n_queries):
                if queries is not None:
                    self.queries[i].vector = &queries[start + i, 0]
                if self.cancelled():
                    break
                self.queries[i].filter = filter.of_query(start + i, places)
                places += farann_id_set_room(filter.n_excluded(start + i))
        return self

    cdef take_time(self, double seconds):
        """End the search of all queries after some seconds."""
        self.end_time = farann_seconds() + seconds
        self.next_look = max(WORK_A_LOOK, self.n_queries * self.dim
                             * max(ROWS_IN_ANY_CASE, 4 * self.k))

    cdef take_filter(self, Filter filter):
        """Replace the mask of the single query."""
        self.filter, self.queries[0].filter = filter, filter.of_query(0, NULL)

    cdef bint cancelled(self) noexcept nogil:
        """Whether the batch was given up."""
        return farann_is_up(self.given_up)

    cdef bint time_to_look(self) noexcept nogil:
        """Whether enough work was done since the clock was last read."""
        cdef int64_t work = self.code_products + self.float_products + self.rescored * self.dim
        if work < self.next_look:
            return False
        self.next_look = work + WORK_A_LOOK
        return True

    cdef check_cancelled(self):
        if self.cancelled():
            raise Cancelled("the batch of this task was given up")

    cdef const double *exact_query(self, int64_t i) noexcept nogil:
        """Query i in float64, until another one is asked for."""
        cdef const Query *query = &self.queries[i]
        cdef bint rests = self.rests is not None
        cdef int64_t j
        if self.exact_of != query:
            if query.vector != NULL:
                self.kernels.widen_f32(query.vector, self.dim, self.exact)
            else:
                for j in range(self.dim):
                    self.exact[j] = self.wide[i, j] - (self.rests[i, j] if rests else 0.0)
            self.exact_of = query
        return self.exact

    cdef const double *rest_of(self, int64_t i) noexcept nogil:
        """The rest of query i, until a query is prepared; NULL: none."""
        if self.rests is None:
            return NULL
        memset(self.query_vector, 0, padded(self.dim) * sizeof(double))
        memcpy(self.query_vector, &self.rests[i, 0], self.dim * sizeof(double))
        return self.query_vector

    cdef void find_query_vector(self, int64_t i) noexcept nogil:
        """Compute the vector that rows are multiplied with for query i, and its constants.

        They are those of the whole query, with its rest, as its keys are.
        """
        cdef Query *query = &self.queries[i]
        if query.vector == NULL:
            memcpy(self.exact, &self.wide[i, 0], self.dim * sizeof(double))
        farann_query_prepare(
            self.kernels, self.metric, self.sign, query.vector, self.dim, &self.snapshot.center[0],
            self.snapshot.center_norm, self.exact, self.query_vector, self.rounded, &query.prepared)
        self.exact_of = query if self.rests is None else NULL

    cdef double round_query_vector(self, int64_t i) noexcept nogil:
        """Write that vector to `rounded` in float32, over the factor that is returned, in a tenth
        of the time."""
        cdef const float *vector = self.queries[i].vector
        cdef const double *center = &self.snapshot.center[0]
        cdef float *rounded = self.rounded
        cdef double factor = -self.sign / self.queries[i].prepared.query_norm
        cdef int64_t j
        if vector == NULL:
            self.find_query_vector(i)
            return 1.0
        if not self.traits.squared:
            memcpy(rounded, vector, self.dim * sizeof(float))
            return factor
        for j in range(self.dim):
            rounded[j] = <float>(vector[j] - center[j])
        return 2.0 * factor

    cdef void count_rows(self, int64_t n, int64_t row_bytes) noexcept nogil:
        """Count n rows that were read and scored for one query."""
        self.scanned += n
        self.bytes_read += n * row_bytes

    cdef void count_products(self, int64_t n, int64_t row_products, int64_t n_queries,
                             bint of_codes) noexcept nogil:
        """Count the multiply-adds of n scores of a block, which was scanned for some queries."""
        if of_codes:
            self.code_products += n * row_products
        else:
            self.float_products += n * row_products
        self.blocks += n_queries

    cdef void begin_again(self, const float *vectors, int64_t n) noexcept nogil:
        """Replace all queries by n others, for which there is room."""
        cdef int64_t i
        self.n_queries = n
        for i in range(self.n_queries):
            self.queries[i].vector = vectors + i * self.dim
        self.exact_of = NULL
        self.scanned = self.refined = self.rescored = self.bytes_read = 0
        self.code_products = self.float_products = self.blocks = self.passed = self.packed = 0

    cdef void add_counts(self, int64_t *counts) noexcept nogil:
        """Add the fields of `SearchStats` but for the number of queries."""
        counts[0] += self.scanned
        counts[1] += self.refined
        counts[2] += self.rescored
        counts[3] += self.bytes_read
        counts[4] += self.code_products
        counts[5] += self.float_products
        counts[6] += self.blocks
        counts[7] += self.passed
        counts[8] += self.packed

    cdef tuple counts(self):
        """The fields of `SearchStats` but for the number of queries."""
        cdef int64_t counts[N_COUNTS]
        memset(counts, 0, sizeof(counts))
        self.add_counts(counts)
        return tuple([count for count in counts])


@cython.final
@cython.no_gc
@cython.freelist(8)
cdef class CodedQueries:
    """Queries as codes, one after the other and in tiles."""

    @staticmethod
    cdef CodedQueries of_batch(QueryBatch batch, Codes codes, bint pca_filtered,
                               double deviations=INFINITY, bint in_tiles=False):
        """`deviations`: the bound of code errors, taken as noise; infinite: their true bound.

        `in_tiles`: even few queries are scanned together.
        """
        cdef CodedQueries self = CodedQueries.__new__(CodedQueries)
        cdef int64_t n_tiles, width = batch.kernels.code_queries
        if batch.n_queries < TILED_FOR and uses(SINGLE_TILES) and not in_tiles:
            width = 1
        n_tiles = (batch.n_queries + width - 1) // width
        self.batch, self.codes, self.width, self.pca_filtered = batch, codes, width, pca_filtered
        self.approximate, self.outside_counts = deviations < INFINITY, 1.0
        self.bounds, self.scan_bounds = codes.bounds, codes.scan_bounds
        if self.approximate and uses(CODE_NOISE):
            self.bounds.noise = self.scan_bounds.noise = min(
                1.0, deviations / sqrt(<double>codes.bounds.dim))
            self.outside_counts = codes.outside_noise
        self.of = <CodedQuery *>batch.scratch.allocate(batch.n_queries, sizeof(CodedQuery))
        self.code_bytes = <uint8_t *>batch.scratch.allocate(2 * padded(batch.dim), sizeof(uint8_t))
        self.scanned = self.whole = self.room_for(codes.scanned.groups)
        self.tiles, self.tile_words = self.scanned.of, words_of_tile(self, codes.scanned.groups)
        if width > 1:
            self.tiles = <uint32_t *>batch.scratch.allocate(
                n_tiles * self.tile_words, sizeof(uint32_t))
        if codes.has_pca_filter:
            self.whole = self.room_for(codes.groups)
        return self

    cdef QueryCodes room_for(self, int64_t groups) except *:
        """Room for codes of all queries, and for a tile of some."""
        cdef QueryCodes codes
        codes.groups = groups
        codes.of = <uint32_t *>self.batch.scratch.allocate(
            self.batch.n_queries * groups, sizeof(uint32_t))
        codes.tile = <uint32_t *>self.batch.scratch.allocate(
            words_of_tile(self, groups), sizeof(uint32_t))
        return codes

    cdef const uint32_t *tile_of(self, const QueryCodes *codes, const int64_t *members,
                                 int64_t count, int64_t width) noexcept nogil:
        """Make some queries a tile; return its codes."""
        if width == 1:
            return codes.of + members[0] * codes.groups
        self.batch.kernels.gather_codes(codes.of, members, count, codes.groups, codes.tile)
        return codes.tile

    cdef void make_tiles(self) noexcept nogil:
        """Copy the codes of all queries into tiles, in their order."""
        cdef int64_t first = 0, i, count
        cdef int64_t members[WIDEST_TILE]
        while self.width > 1 and first < self.batch.n_queries:
            count = min(self.width, self.batch.n_queries - first)
            for i in range(count):
                members[i] = first + i
            self.batch.kernels.gather_codes(self.scanned.of, members, count, self.scanned.groups,
                                            self.tiles + first // self.width * self.tile_words)
            first += count

    cdef void encode(self, int64_t i) noexcept nogil:
        """Code query i, the one last prepared, for the codes of the rows."""
        cdef const Query *query = &self.batch.queries[i]
        cdef CodedQuery *coded = &self.of[i]
        cdef double *vector = self.batch.query_vector
        cdef const double *exact
        cdef double outside
        if self.pca_filtered:
            encode_for_pca_filter(self, i, vector, self.scanned.of + i * self.scanned.groups)
        if self.codes.mean_query_direction is not None:
            coded.across = self.codes.mean_query_direction.residual_norm(
                self.batch.kernels, vector, &coded.along)
        if self.codes.by_square:
            exact = self.batch.exact_query(i)
            coded.along = farann_along(self.batch.kernels, NULL, 0, padded(self.batch.dim), exact,
                                       NULL)
            coded.across = farann_negative_norm(exact, padded(self.batch.dim))
        outside = sqrt(farann_transform_vector(
            self.batch.kernels, &self.codes.transform.record, self.batch.dim, vector,
            vector + padded(self.batch.dim))) * self.outside_counts
        farann_code_query(self.batch.kernels, vector, outside, &self.bounds,
                          self.codes.bounds.norm, &query.prepared, self.codes.int4_alone,
                          self.code_bytes, self.whole.of + i * self.whole.groups, &coded.whole)
        if not self.batch.snapshot.vectors:
            take_code_as_true(self, &coded.whole)
        if not self.codes.has_pca_filter:
            coded.scan = coded.whole
        elif self.pca_filtered and coded.scan.step < 0.0:
            coded.whole.step = -1.0
        coded.usable = coded.whole.step >= 0.0


cdef int64_t words_of_tile(CodedQueries queries, int64_t groups) noexcept:
    """Copy codes into tiles; a single query is a tile as it is."""
    cdef int64_t most = queries.batch.kernels.tile_groups
    return groups if queries.width == 1 else queries.width * ((groups + most - 1) // most * most)


cdef void encode_for_pca_filter(CodedQueries queries, int64_t i, const double *vector,
                                uint32_t *codes) noexcept nogil:
    """Code a query along the PCA axes."""
    cdef const farann_kernels *kernels = queries.batch.kernels
    cdef int64_t m = queries.codes.pca_filter.n, j
    cdef double *along = queries.batch.query_vector + padded(queries.batch.dim)
    cdef double rest = queries.codes.pca_filter.residual_norm(kernels, vector, along)
    for j in range(m, padded(m)):
        along[j] = 0.0
    farann_code_query(kernels, along, rest, &queries.scan_bounds, queries.codes.bounds.norm,
                      &queries.batch.queries[i].prepared, False, queries.code_bytes, codes,
                      &queries.of[i].scan)


cdef void take_code_as_true(CodedQueries queries, farann_coded_query *coded) noexcept nogil:
    """Treat codes as the rows themselves: the error bound is 0.

    Where high nibbles are scanned first, the norm of the low nibbles stays in the bound.
    """
    coded.off *= LEFT_OF_SLACK
    coded.allowance = 0.0
    if queries.codes.int4_alone:
        coded.length = 0.0
