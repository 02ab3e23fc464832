"""Levels that score rows in float32: where there are no codes, or these rule out too little."""

cimport cython
from libc.math cimport INFINITY
from libc.stdint cimport int64_t, uint64_t
from libc.string cimport memcpy

from farann.native.codes cimport Codes
from farann.native.collector cimport Collector
from farann.native.kernels cimport *
from farann.native.levels cimport Level
from farann.native.query_batch cimport Query, QueryBatch
from farann.native.row_reader cimport RowBlock, RowReader
from farann.native.sources cimport Block, Source


@cython.no_gc  # what parts refer to never refers to them
cdef class FloatLevel(Level):
    """What float32 levels share: the vectors of queries, taken when the first block is scanned."""

    cdef void begin_query(self, int64_t i) noexcept nogil:
        self.has_vectors = False

    cdef bint take_vectors(self) noexcept nogil:
        """Have the vectors of all queries; False: there is no memory."""
        cdef int64_t i, n = self.batch.n_queries, size = padded(self.batch.dim)
        if self.vectors == NULL:
            self.vectors = <float *>self.batch.scratch.allocated(n * size, sizeof(float), True)
            self.batch.scratch.failed |= self.vectors == NULL
        if self.vectors == NULL:
            return False
        for i in range(0 if self.has_vectors else n):
            self.batch.find_query_vector(i)
            memcpy(self.vectors + i * size, self.batch.rounded, self.batch.dim * sizeof(float))
        self.has_vectors = True
        return True

    cdef void take_block(self, Source source, Block *block, int64_t n_members) noexcept nogil:
        self.rows = source.rows_of(block)
        block.where, block.n = self.rows.where, self.rows.n
        if not self.take_vectors():
            block.n = 0


@cython.final
@cython.no_gc
cdef class RowMajorLevel(FloatLevel):
    """Rows where they lie, for few queries: what bounds the speed is reading the rows."""

    cdef void scan(self, const Block *block, const int64_t *members, int64_t count,
                   Collector collector) noexcept nogil:
        cdef double slack = self.score_rows(block, members[0])
        self.unable = slack < 0.0
        if self.unable:
            return
        self.batch.kernels.select_f32(
            self.scores, block.n, collector.float_threshold(members[0], slack), &collector.tile[0])

    cdef void score(self, const Block *block, const int64_t *members, int64_t count,
                    Collector collector) noexcept nogil:
        cdef double slack = self.score_rows(block, members[0])
        self.unable = slack < 0.0
        if self.unable:
            return
        collector.allow(members[0], slack)
        collector.select(0, members[0], self.scores, block.n, &block.where)

    cdef double score_rows(self, const Block *block, int64_t i) noexcept nogil:
        """Score a block for query i; gives the slack, below 0 where float32 can't score it."""
        cdef const Query *query = &self.batch.queries[i]
        cdef RowBlock rows
        # Squares need not be summed if the codes bound the norms of rows.
        cdef bint bounded = (self.square_bound >= 0.0
                             and self.rows.segment.first < self.batch.snapshot.segments[0].count)
        cdef float norms[2]
        cdef double slack
        cdef int64_t j
        if block.n == 0:
            return 0.0
        rows = self.reader.block(&self.rows.segment, self.rows.start, block.n)
        self.batch.kernels.score_rows_f32(
            rows.rows, rows.positions, block.n, self.batch.dim, &self.batch.snapshot.padded_centre[0],
            self.vectors + i * padded(self.batch.dim), self.batch.packing.normalized,
            self.batch.packing.bias_sign, self.scores, NULL if bounded else norms)
        if bounded:
            slack = farann_query_slack_row_major(&query.prepared, False, 0.0, self.square_bound)
        else:
            slack = farann_query_slack_row_major(
                &query.prepared, self.batch.packing.normalized, norms[0], norms[1])
        if slack < 0.0:
            return slack
        if self.batch.packing.normalized:
            # Unpacked unit rows are not centered: the centre would only add a constant.
            for j in range(block.n):
                self.scores[j] += <float>query.prepared.key_offset
        self.batch.count_rows(block.n, self.batch.snapshot.row_bytes)
        self.batch.count_products(block.n, self.batch.dim, 1, False)
        return slack


@cython.final
@cython.no_gc
cdef class PackedLevel(FloatLevel):
    """Rows packed in panels once, for tiles of many queries."""

    cdef void take_block(self, Source source, Block *block, int64_t n_members) noexcept nogil:
        cdef RowBlock rows
        FloatLevel.take_block(self, source, block, n_members)
        if block.n and not self.has_room():
            block.n = 0
        if block.n == 0:
            return
        rows = self.reader.block(&self.rows.segment, self.rows.start, block.n)
        self.squares = self.batch.kernels.pack_rows_f32(
            rows.rows, rows.positions, block.n, self.batch.dim, &self.batch.snapshot.centre[0],
            self.batch.packing.normalized, self.batch.packing.bias_sign, self.panels, self.bias)

    cdef bint has_room(self) noexcept nogil:
        """Make room for a block in panels, once; False: there is no memory."""
        cdef int64_t dim = self.batch.dim
        if self.panels == NULL:
            self.panels = <float *>self.batch.scratch.allocated(
                self.most * (dim + 1 + self.width) + self.width * (dim + 1), sizeof(float), False)
            self.batch.scratch.failed |= self.panels == NULL
            self.bias = self.panels + self.most * dim
            self.scores = self.bias + self.most
            self.tile = self.scores + self.most * self.width
            self.thresholds = self.tile + self.width * dim
        return self.panels != NULL

    cdef int64_t next_tile(self, int64_t n_left) noexcept nogil:
        return min(self.width, n_left)

    cdef void take_tile(self, const int64_t *members, int64_t count,
                        Collector collector) noexcept nogil:
        """Put vectors side by side, and find what scores must be greater than."""
        cdef int64_t i, j, dim = self.batch.dim, n_able = 0
        cdef const float *vector
        cdef double slack
        self.unable = 0
        for j in range(self.width):
            self.thresholds[j] = INFINITY
        for j in range(count):
            vector = self.vectors + members[j] * padded(dim)
            for i in range(dim):
                self.tile[i * self.width + j] = vector[i]
            slack = farann_query_slack(&self.batch.queries[members[j]].prepared, self.squares)
            if slack < 0.0:
                self.unable |= <uint64_t>1 << j
            else:
                self.thresholds[j] = collector.float_threshold(members[j], slack)
                n_able += 1
        self.batch.count_rows(self.rows.n * n_able, self.batch.snapshot.row_bytes)
        self.batch.count_products(self.rows.n * self.width, self.batch.dim, count, False)

    cdef void scan(self, const Block *block, const int64_t *members, int64_t count,
                   Collector collector) noexcept nogil:
        if block.n == 0:
            return
        self.take_tile(members, count, collector)
        self.batch.kernels.scan_panels_f32(self.panels, block.n, self.batch.dim, self.bias,
                                           self.tile, count, self.thresholds, collector.tile)

    cdef void score(self, const Block *block, const int64_t *members, int64_t count,
                    Collector collector) noexcept nogil:
        cdef int64_t j
        if block.n == 0:
            return
        self.take_tile(members, count, collector)
        self.batch.kernels.score_panels_f32(self.panels, block.n, self.batch.dim, self.bias,
                                            self.tile, count, self.scores, self.most)
        for j in range(count):
            if not self.unable >> j & 1:
                collector.select(j, members[j], self.scores + j * self.most, block.n, &block.where)


cdef FloatLevel float_level_of(QueryBatch batch, RowReader reader):
    """What scores rows in float32, for as many queries as there are."""
    cdef RowMajorLevel few
    cdef PackedLevel many
    cdef FloatLevel level
    cdef Codes codes = batch.snapshot.codes
    if batch.n_queries >= FEW_QUERIES:
        level = many = PackedLevel.__new__(PackedLevel)
        many.width = batch.kernels.tile_queries
    else:
        level = few = RowMajorLevel.__new__(RowMajorLevel)
        few.square_bound = -1.0
        if batch.metric == FARANN_DOT and codes is not None and codes.outliers.shape[0] == 0:
            few.square_bound = codes.bounds.norm * codes.bounds.norm
        few.scores = <float *>batch.scratch.allocate(batch.block_rows, sizeof(float))
    level.batch, level.reader, level.most = batch, reader, batch.block_rows
    return level
