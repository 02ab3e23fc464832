"""Queries as codes, for the codes that rows have."""

cimport cython
from libc.math cimport sqrt

from farann.native.kernels cimport *
from farann.native.process cimport CODE_NOISE, SINGLE_TILES, uses
from farann.native.query_batch cimport Query

cdef enum:
    WIDEST_TILE = 64  # queries: more than tiles of any kernel have

# Without vectors codes stand for the rows: this share of the code error stays allowed for, which is
# more than rounding moves a key made of a score.
cdef double LEFT_OF_SLACK = 1e-6


@cython.final
@cython.no_gc  # what parts refer to never refers to them
@cython.freelist(8)
cdef class CodedQueries:
    """Queries as codes, one after the other and in tiles."""

    @staticmethod
    cdef CodedQueries of_batch(QueryBatch batch, Codes codes, bint approximate, bint pca_filtered,
                               bint one_by_one=False):
        """`approximate`: errors of codes are taken for noise, three deviations of it."""
        cdef CodedQueries self = CodedQueries.__new__(CodedQueries)
        cdef int64_t n_tiles, width = batch.kernels.code_queries
        if one_by_one or (batch.n_queries < FEW_QUERIES and uses(SINGLE_TILES)):
            width = 1
        n_tiles = (batch.n_queries + width - 1) // width
        self.batch, self.codes, self.width, self.pca_filtered = batch, codes, width, pca_filtered
        self.approximate, self.noise, self.outside_counts = approximate, 1.0, 1.0
        if approximate and uses(CODE_NOISE):
            self.noise = min(1.0, 3.0 / sqrt(<double>codes.bounds.dim))
            self.outside_counts = codes.outside_noise / self.noise
        self.of = <CodedQuery *>batch.scratch.allocate(batch.n_queries, sizeof(CodedQuery))
        self.code_bytes = <uint8_t *>batch.scratch.allocate(2 * padded(batch.dim), sizeof(uint8_t))
        self.codes_of = <uint32_t *>batch.scratch.allocate(
            batch.n_queries * codes.scanned.groups, sizeof(uint32_t))
        self.code_tiles = self.codes_of
        self.tile_words = self.words_of_tile(width, codes.scanned.groups)
        if width > 1:
            self.code_tiles = <uint32_t *>batch.scratch.allocate(
                n_tiles * self.tile_words, sizeof(uint32_t))
        self.tile_codes = <uint32_t *>batch.scratch.allocate(self.tile_words, sizeof(uint32_t))
        if codes.has_pca_filter:
            self.whole_queries = <uint32_t *>batch.scratch.allocate(
                batch.n_queries * codes.groups, sizeof(uint32_t))
            self.whole_tile = <uint32_t *>batch.scratch.allocate(
                self.words_of_tile(width, codes.groups), sizeof(uint32_t))
        return self

    cdef const uint32_t *single_codes(self, int64_t i) noexcept nogil:
        """The codes of query i side by side."""
        return self.codes_of + i * self.codes.scanned.groups

    cdef const uint32_t *whole_codes(self, int64_t i) noexcept nogil:
        """The codes of all coordinates of query i."""
        if self.codes.has_pca_filter:
            return self.whole_queries + i * self.codes.groups
        return self.single_codes(i)

    cdef int64_t words_of_tile(self, int64_t width, int64_t groups) noexcept nogil:
        """Of codes; a single query's are a tile without more."""
        cdef int64_t most = self.batch.kernels.tile_groups
        return groups if width == 1 else width * ((groups + most - 1) // most * most)

    cdef const uint32_t *gather(self, const int64_t *members, int64_t count,
                                bint whole) noexcept nogil:
        """Make some queries a tile; gives its codes: those that are scanned, or `whole` ones."""
        if whole and self.codes.has_pca_filter:
            self.batch.kernels.gather_codes(self.whole_queries, members, count, self.codes.groups,
                                            self.whole_tile)
            return self.whole_tile
        self.batch.kernels.gather_codes(self.codes_of, members, count, self.codes.scanned.groups,
                                        self.tile_codes)
        return self.tile_codes

    cdef void make_tiles(self) noexcept nogil:
        """Put queries as coded into tiles, in their order."""
        cdef int64_t first = 0, i, count
        cdef int64_t members[WIDEST_TILE]
        while self.width > 1 and first < self.batch.n_queries:
            count = min(self.width, self.batch.n_queries - first)
            for i in range(count):
                members[i] = first + i
            self.batch.kernels.gather_codes(
                self.codes_of, members, count, self.codes.scanned.groups,
                self.code_tiles + first // self.width * self.tile_words)
            first += count

    cdef const uint32_t *tile_of(self, int64_t first) noexcept nogil:
        """The tile that begins with a query."""
        return self.code_tiles + first // self.width * self.tile_words

    cdef void encode(self, int64_t i) noexcept nogil:
        """Code query i, whose vector was found just now, for the codes that rows have."""
        cdef const Query *query = &self.batch.queries[i]
        cdef CodedQuery *coded = &self.of[i]
        cdef double *vector = self.batch.query_vector
        cdef double outside
        cdef uint32_t *codes = self.codes_of + i * self.codes.scanned.groups
        if self.pca_filtered:
            encode_for_pca_filter(self, i, vector, codes)
        if self.codes.mean_query_direction is not None:
            coded.across = self.codes.mean_query_direction.residual_norm(
                self.batch.kernels, vector, &coded.along)
        if self.codes.has_pca_filter:
            codes = self.whole_queries + i * self.codes.groups
        outside = farann_transform_query(
            self.batch.kernels, &self.codes.transform.given, self.batch.dim, vector,
            vector + padded(self.batch.dim)) * self.outside_counts
        farann_code_query(self.batch.kernels, vector, outside, &self.codes.bounds,
                          self.codes.bounds.norm, &query.prepared, self.codes.int4_alone,
                          self.code_bytes, codes, &coded.whole)
        if not self.batch.snapshot.vectors:
            take_code_as_true(self, &coded.whole)
        if not self.codes.has_pca_filter:
            coded.scan = coded.whole
        elif self.pca_filtered and coded.scan.step < 0.0:
            coded.whole.step = -1.0
        coded.whole.off *= self.noise
        coded.whole.allowance *= self.noise
        coded.whole.length *= self.noise
        coded.scan.allowance *= self.noise
        coded.scan.length *= self.noise
        coded.usable = coded.whole.step >= 0.0


cdef void encode_for_pca_filter(CodedQueries queries, int64_t i, const double *vector,
                                uint32_t *codes) noexcept nogil:
    """Code a query along the PCA axes."""
    cdef const farann_kernels *kernels = queries.batch.kernels
    cdef int64_t m = queries.codes.pca_filter.n, j
    cdef double *along = queries.batch.query_vector + padded(queries.batch.dim)
    cdef double rest = queries.codes.pca_filter.residual_norm(kernels, vector, along)
    for j in range(m, padded(m)):
        along[j] = 0.0
    farann_code_query(kernels, along, rest, &queries.codes.scan_bounds, queries.codes.bounds.norm,
                      &queries.batch.queries[i].prepared, False, queries.code_bytes, codes,
                      &queries.of[i].scan)


cdef void take_code_as_true(CodedQueries queries, farann_coded_query *coded) noexcept nogil:
    """Take rows' codes for the rows: there is no error to allow for.

    Where high nibbles only come first, the norm of the low ones stays.
    """
    coded.off *= LEFT_OF_SLACK
    coded.allowance = 0.0
    if queries.codes.int4_alone:
        coded.length = 0.0
