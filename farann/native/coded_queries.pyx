"""Queries as codes, for the codes that rows have."""

cimport cython
from libc.math cimport sqrt
from farann.native.process cimport CODE_NOISE, SINGLE_TILES, uses
from farann.native.query_batch cimport Query

cdef enum:
    WIDEST_TILE = 64  # queries: more than tiles of any kernel have

# Without vectors codes stand for the rows: the error bound keeps this share of the code error, more
# than the rounding error of a key computed from a score.
cdef double LEFT_OF_SLACK = 1e-6


@cython.final
@cython.no_gc  # what parts refer to never refers to them
@cython.freelist(8)
cdef class CodedQueries:
    """Queries as codes, one after the other and in tiles."""

    @staticmethod
    cdef CodedQueries of_batch(QueryBatch batch, Codes codes, bint approximate, bint pca_filtered,
                               bint one_by_one=False):
        """`approximate`: code errors are taken as noise, with a bound of a few deviations."""
        cdef CodedQueries self = CodedQueries.__new__(CodedQueries)
        cdef int64_t n_tiles, width = batch.kernels.code_queries
        if one_by_one or (batch.n_queries < FEW_QUERIES and uses(SINGLE_TILES)):
            width = 1
        n_tiles = (batch.n_queries + width - 1) // width
        self.batch, self.codes, self.width, self.pca_filtered = batch, codes, width, pca_filtered
        self.approximate, self.outside_counts = approximate, 1.0
        self.bounds, self.scan_bounds = codes.bounds, codes.scan_bounds
        if approximate and uses(CODE_NOISE):
            # Three deviations without vectors: no exact keys correct the order by rough scores.
            self.bounds.noise = self.scan_bounds.noise = (
                codes.noise if batch.snapshot.vectors else min(1.0, 1.5 * codes.noise))
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
        cdef double outside
        if self.pca_filtered:
            encode_for_pca_filter(self, i, vector, self.scanned.of + i * self.scanned.groups)
        if self.codes.mean_query_direction is not None:
            coded.across = self.codes.mean_query_direction.residual_norm(
                self.batch.kernels, vector, &coded.along)
        outside = sqrt(farann_transform_vector(
            self.batch.kernels, &self.codes.transform.given, self.batch.dim, vector,
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
