"""Queries as codes, for the codes that rows have."""

cimport cython
from libc.math cimport sqrt
from libc.stdint cimport int64_t, uint8_t, uint32_t

from farann.native.candidates cimport Candidates
from farann.native.codes cimport Codes
from farann.native.kernels cimport *
from farann.native.process cimport CODE_NOISE, LONGER_BLOCKS, SINGLE_TILES, uses
from farann.native.query_batch cimport Query, QueryBatch
from farann.native.rough cimport take_as_true

cdef enum:
    LONG_BLOCK_AFTER = 8  # a long block has at most 1/8 of the rows scanned before it


cdef int64_t most_code_rows(Codes codes, int64_t n_queries) noexcept:
    """Rows of the largest block that is scanned for a batch of `n_queries`."""
    cdef int64_t n = rows_in_cache(codes.scanned.groups * FARANN_CODE_GROUP)
    return LONG_BLOCKS * n if n_queries == 1 else n


@cython.no_gc  # what parts refer to never refers to them
@cython.freelist(8)
cdef class CodedQueries:
    """Queries as codes, one after the other and in tiles."""

    @staticmethod
    cdef CodedQueries of(QueryBatch batch, Candidates candidates, Codes codes, bint approximate,
                         bint pca_filtered):
        cdef CodedQueries self = CodedQueries.__new__(CodedQueries)
        cdef int64_t n_tiles, width = batch.kernels.code_queries
        if batch.n_queries < FEW_QUERIES and uses(SINGLE_TILES):
            width = 1
        n_tiles = (batch.n_queries + width - 1) // width
        self.batch, self.candidates, self.approximate = batch, candidates, approximate
        self.code_width = width
        self.code_rows = rows_in_cache(codes.scanned.groups * FARANN_CODE_GROUP)
        # With epsilon which rows are found depends on the blocks.
        self.most_rows = self.code_rows if batch.epsilon > 0.0 else most_code_rows(
            codes, batch.n_queries)
        self.use(codes, pca_filtered)
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

    cdef use(self, Codes codes, bint pca_filtered):
        """Take the codes of other rows: queries have to be coded for them."""
        self.codes, self.pca_filtered = codes, pca_filtered
        self.noise = self.outside_counts = 1.0
        if not (self.approximate and uses(CODE_NOISE)):
            return
        self.noise = noise_of(&codes.bounds)
        self.outside_counts = codes.outside_noise / self.noise

    cdef int64_t rows_after(self, int64_t n) noexcept nogil:
        """Rows of the next block, where n were scanned.

        What passes of a block is fetched from memory: a query by itself waits for that once a
        block. Behind many rows its threshold hardly rises, and long blocks let no more pass.
        """
        cdef int64_t long_block = n // LONG_BLOCK_AFTER // FIRST_BLOCK * FIRST_BLOCK
        return max(self.code_rows, min(long_block, self.most_rows) if uses(LONGER_BLOCKS) else 0)

    cdef const uint32_t *single_codes(self, int64_t i) noexcept nogil:
        """The codes of query i side by side."""
        return self.codes_of + i * self.codes.scanned.groups

    cdef const uint32_t *whole_codes(self, int64_t i) noexcept nogil:
        """With a PCA filter: the codes of all coordinates of query i."""
        return self.whole_queries + i * self.codes.groups

    cdef int64_t words_of_tile(self, int64_t width, int64_t groups) noexcept nogil:
        """Of codes; a single query's are a tile without more."""
        cdef int64_t most = self.batch.kernels.tile_groups
        return groups if width == 1 else width * ((groups + most - 1) // most * most)

    cdef const uint32_t *gather(self, const int64_t *queries, int64_t count,
                                bint whole) noexcept nogil:
        """Make some queries a tile; gives its codes: those that are scanned, or `whole` ones."""
        if whole and self.codes.has_pca_filter:
            self.batch.kernels.gather_codes(self.whole_queries, queries, count, self.codes.groups,
                                            self.whole_tile)
            return self.whole_tile
        self.batch.kernels.gather_codes(self.codes_of, queries, count, self.codes.scanned.groups,
                                        self.tile_codes)
        return self.tile_codes

    cdef void make_tiles(self) noexcept nogil:
        """Put queries as coded into tiles, in their order."""
        cdef int64_t first = 0, width = self.code_width, i
        while first < self.batch.n_queries:
            for i in range(width):
                self.candidates.members[i] = first + i
            self.batch.kernels.gather_codes(
                self.codes_of, self.candidates.members, min(width, self.batch.n_queries - first),
                self.codes.scanned.groups, self.tile_of(first))
            first += width

    cdef uint32_t *tile_of(self, int64_t first) noexcept nogil:
        """The tile that begins with a query."""
        return self.code_tiles + first // self.code_width * self.tile_words

    cdef void encode(self, int64_t i) noexcept nogil:
        """Code a query, whose vector was found just now, for the codes that rows have."""
        cdef Query *query = &self.batch.queries[i]
        cdef int64_t dim = self.batch.dim
        cdef double *vector = self.batch.query_vector
        cdef double outside
        cdef uint32_t *codes = self.codes_of + i * self.codes.scanned.groups
        if self.pca_filtered:
            self.encode_for_pca_filter(query, vector, codes)
        if self.codes.mean_query_direction is not None:
            self.project_on_mean_direction(query, vector)
        if self.codes.has_pca_filter:
            codes = self.whole_queries + i * self.codes.groups
        outside = farann_transform_query(self.batch.kernels, &self.codes.transform.given, dim, vector,
                                      vector + padded(dim)) * self.outside_counts
        farann_code_query(self.batch.kernels, vector, outside, &self.codes.bounds,
                          self.codes.bounds.norm, &query.prepared, self.codes.int4_alone,
                          self.code_bytes, codes, &query.whole)
        if not self.batch.snapshot.vectors:
            take_as_true(&query.whole, self.codes.int4_alone)
        if not self.codes.has_pca_filter:
            query.scan = query.whole
        elif self.pca_filtered and query.scan.step < 0.0:
            query.whole.step = -1.0
        query.whole.off *= self.noise
        query.whole.allowance *= self.noise
        query.whole.length *= self.noise
        query.scan.allowance *= self.noise
        query.scan.length *= self.noise
        query.coded = query.whole.step >= 0.0

    cdef void project_on_mean_direction(self, Query *query, const double *vector) noexcept nogil:
        """See what a query vector is along the mean query direction, and how long the rest is."""
        query.across = self.codes.mean_query_direction.residual_norm(self.batch.kernels, vector,
                                                                     &query.along)

    cdef void encode_for_pca_filter(self, Query *query, const double *vector,
                                    uint32_t *codes) noexcept nogil:
        """Code a query along the basis, for the PCA filter."""
        cdef const farann_kernels *kernels = self.batch.kernels
        cdef int64_t m = self.codes.pca_filter.n, j
        cdef double *along = self.batch.query_vector + padded(self.batch.dim)
        cdef double rest = self.codes.pca_filter.residual_norm(kernels, vector, along)
        for j in range(m, padded(m)):
            along[j] = 0.0
        farann_code_query(kernels, along, rest, &self.codes.scan_bounds,
                          self.codes.bounds.norm, &query.prepared, False, self.code_bytes, codes,
                          &query.scan)


cdef double noise_of(const farann_code_bounds *bounds) noexcept nogil:
    """Three deviations of what codes are off, by the most that they may be."""
    return min(1.0, 3.0 / sqrt(<double>bounds.dim))
