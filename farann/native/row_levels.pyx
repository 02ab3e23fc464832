"""Levels that read rows: they score these in float32, or give all of a block exact keys."""

cimport cython
from libc.math cimport INFINITY, fabs
from libc.string cimport memcpy

from farann.native.bounds cimport IntegerKeys
from farann.native.judge cimport FLOAT32, KEYS
from farann.native.kernels cimport *
from farann.native.query_batch cimport Query
from farann.native.snapshot cimport Segment
from farann.native.sources cimport KEYS_AT_ONCE, Block, RowBlock, RowReader, Source

cdef enum:
    FEW_PACKED = 6  # fewer queries read rows where they are stored: reading them bounds the speed
    FEW_KEYED = 3  # fewer queries compute keys row by row: packing rows would not pay
    KEY_PRODUCTS = 2  # float32 products that a float64 product of a packed row counts as
    KEY_PRODUCTS_L2 = 6  # the same under l2

# Relative bound on the rounding error of a quotient, and of a product with a norm.
cdef double QUOTIENT_ERROR = 2.0 ** -50
# Less than any product of float32 numbers other than 0; its product with a norm does not underflow.
cdef double NEARLY_ZERO = 1e-200


@cython.final
@cython.no_gc  # references between parts form no cycles
cdef class FloatLevel(Level):
    """Rows in float32: packed in panels once for tiles of queries, where they are stored for few.

    Few queries are bound by reading rows.
    """

    cdef RowReader reader
    cdef float *vectors     # of all queries, padded; NULL: there is no room for any yet
    cdef Segment rows       # of the block
    cdef bint packed        # whether these are in panels
    cdef Segment in_panels  # those that were put there last: the same for the next few queries
    cdef int64_t width      # queries of a tile of packed rows
    cdef float *panels
    cdef float *bias
    cdef double squares     # the largest |y|^2 of the block
    # Vectors side by side, tile after tile: most blocks have the same queries as the one before.
    cdef float *tiles
    cdef int64_t *in_tiles  # the queries that these are of, plus 1
    cdef int64_t n_tiles    # that the block has met
    cdef float *thresholds
    cdef float *scores      # of a block, query after query

    cdef void begin_query(self, int64_t i) noexcept nogil:
        if self.vectors != NULL:
            self.take_vector(i)
            if self.in_tiles != NULL:
                self.in_tiles[i] = 0

    cdef void take_block(self, Source source, Block *block, int64_t n_members) noexcept nogil:
        cdef RowBlock rows
        self.rows = source.rows_of(block)
        self.packed, self.n_tiles = n_members >= FEW_PACKED, 0
        if not self.has_room():
            self.batch.scratch.failed, block.n = True, 0
            return
        if self.packed and block.n > 0 and (
                self.rows.positions != NULL or self.in_panels.positions != NULL
                or self.rows.rows != self.in_panels.rows
                or self.rows.count != self.in_panels.count):
            rows, self.in_panels = self.reader.block(&self.rows, 0, block.n), self.rows
            self.batch.packed += block.n
            self.squares = self.batch.kernels.pack_rows_f32(
                rows.rows, rows.positions, block.n, self.batch.dim, &self.batch.snapshot.center[0],
                self.batch.traits.normalized, self.batch.bias_sign, self.panels, self.bias)

    cdef void take_vector(self, int64_t i) noexcept nogil:
        memcpy(self.vectors + i * padded(self.batch.dim), self.batch.rounded,
               padded(self.batch.dim) * sizeof(float))

    cdef bint has_room(self) noexcept nogil:
        """Make room, once, for the vectors, and put them there; False: there is no memory."""
        cdef int64_t i
        if self.vectors == NULL:
            self.make_room()
            for i in range(self.batch.n_queries if self.vectors != NULL else 0):
                self.batch.find_query_vector(i)
                self.take_vector(i)
        return self.vectors != NULL

    cdef void make_room(self) noexcept nogil:
        """One piece of memory for all: several that are as large may go back to the system each
        time, as by glibc, and are slow to get again."""
        cdef int64_t dim = self.batch.dim, n = self.batch.room, width = self.width, most = self.most
        cdef int64_t n_vectors = n * padded(dim) + most * min(width, n), n_panels = most * dim
        if n < FEW_PACKED:
            self.vectors = <float *>self.batch.scratch.allocated(n_vectors, sizeof(float), False)
            self.scores = self.vectors + n * padded(dim)
            return
        self.in_tiles = <int64_t *>self.batch.scratch.allocated(n + width, sizeof(int64_t), True)
        self.panels = <float *>self.batch.scratch.allocated(
            n_panels + n_vectors + most + width + (n + width) * dim, sizeof(float), False)
        if self.in_tiles == NULL or self.panels == NULL:
            return
        self.vectors = self.panels + n_panels
        self.scores = self.vectors + n * padded(dim)
        self.bias = self.scores + most * min(width, n)
        self.thresholds = self.bias + most
        self.tiles = self.thresholds + width

    cdef int64_t next_tile(self, const int64_t *members, int64_t n) noexcept nogil:
        return min(self.width, n) if self.packed else 1

    cdef void scan(self, const Block *block, const int64_t *members, int64_t count,
                   Collector collector) noexcept nogil:
        if block.begins and collector.ranks and collector.float_bar(members[0]) == -INFINITY:
            self.score(block, members, count, collector)  # of first rows the k best pass, not all
            return
        if not self.packed:
            self.score_one(block, members[0], collector)
            if not self.unable:
                self.batch.kernels.select_f32(
                    self.scores, block.n, collector.float_bar(members[0]), &collector.tile[0])
            return
        self.batch.kernels.scan_panels_f32(
            self.panels, block.n, self.batch.dim, self.bias,
            self.take_tile(members, count, collector), count, self.thresholds, collector.tile)

    cdef void score(self, const Block *block, const int64_t *members, int64_t count,
                    Collector collector) noexcept nogil:
        cdef int64_t j
        if not self.packed:
            self.score_one(block, members[0], collector)
            if not self.unable:
                collector.select(0, members[0], self.scores, block.n, &block.where)
            return
        self.batch.kernels.score_panels_f32(
            self.panels, block.n, self.batch.dim, self.bias,
            self.take_tile(members, count, collector), count, self.scores, self.most)
        for j in range(count):
            if not self.unable >> j & 1:
                collector.select(j, members[j], self.scores + j * self.most, block.n, &block.where)

    cdef void score_one(self, const Block *block, int64_t i, Collector collector) noexcept nogil:
        """Score the rows of a block where they are stored."""
        cdef const Query *query = &self.batch.queries[i]
        cdef RowBlock rows = self.reader.block(&self.rows, 0, block.n)
        cdef int64_t j
        cdef float norms[2]
        cdef double slack
        self.batch.kernels.score_rows_f32(
            rows.rows, rows.positions, block.n, self.batch.dim,
            &self.batch.snapshot.row_major_center[0], self.vectors + i * padded(self.batch.dim),
            self.batch.traits.normalized, self.batch.bias_sign, self.scores, norms)
        slack = farann_query_slack_row_major(&query.prepared, self.batch.traits.normalized,
                                             norms[0], norms[1])
        self.unable = slack < 0.0
        if self.unable:
            return
        if self.batch.traits.normalized:
            # Unpacked unit rows are not centered: the center would only add a constant.
            for j in range(block.n):
                self.scores[j] += <float>query.prepared.key_offset
        self.batch.count_rows(block.n, self.batch.snapshot.row_bytes)
        self.batch.count_products(block.n, self.batch.dim, 1, False)
        collector.allow(i, slack)

    cdef const float *take_tile(self, const int64_t *members, int64_t count,
                                Collector collector) noexcept nogil:
        """Interleave the vectors, and compute the scores that rows must exceed."""
        cdef int64_t j, n_able = 0
        cdef float *tile = self.tiles + self.n_tiles * self.width * self.batch.dim
        cdef int64_t *in_tile = self.in_tiles + self.n_tiles * self.width
        cdef bint changed = False
        cdef double slack
        self.unable = 0
        self.n_tiles += 1
        for j in range(self.width):
            self.thresholds[j] = INFINITY
        for j in range(count):
            changed |= in_tile[j] != members[j] + 1
            in_tile[j] = members[j] + 1
        if changed:
            for j in range(count, self.width):
                in_tile[j] = 0
            self.batch.kernels.pack_queries_f32(
                self.vectors, padded(self.batch.dim), members, count, self.batch.dim, tile)
        for j in range(count):
            slack = farann_query_slack(&self.batch.queries[members[j]].prepared, self.squares)
            if slack < 0.0:
                self.unable |= <uint64_t>1 << j
            else:
                collector.allow(members[j], slack)
                self.thresholds[j] = collector.float_bar(members[j])
                n_able += 1
        self.batch.count_rows(self.rows.count * n_able, self.batch.snapshot.row_bytes)
        self.batch.count_products(self.rows.count * self.width, self.batch.dim, count, False)
        return tile


cdef Level float_level_of(QueryBatch batch, Collector collector, bint begins):
    """The level that scores rows in float32; `begins`: with it searches do."""
    cdef FloatLevel level = FloatLevel.__new__(FloatLevel)
    level.batch, level.reader, level.most = batch, collector.rows, batch.block_rows
    level.rung, level.width = FLOAT32, batch.kernels.tile_queries
    if begins:
        level.make_room()
        if level.vectors == NULL:
            raise MemoryError("no memory for the vectors of queries; ask fewer at once")
    return level


@cython.final
@cython.no_gc  # references between parts form no cycles
cdef class KeyLevel(Level):
    """Exact keys of all rows: for few rows, and where many rows nearly share the k-th key.

    Rough scores can't tell such rows apart, and all of them would pass.
    """

    cdef Collector collector
    cdef Judge judge
    cdef IntegerKeys integer_keys
    cdef Segment rows           # of the block
    cdef double *keys           # of its rows, for one query
    cdef bint packed            # whether these were packed for tiles of queries
    cdef farann_key_panels panels
    cdef double *tile           # some queries in float64, side by side; NULL: not allocated yet
    cdef farann_key_threshold *thresholds

    cdef void take_block(self, Source source, Block *block, int64_t n_members) noexcept nogil:
        self.rows = source.rows_of(block)
        self.packed = (self.judge.packs and n_members >= FEW_KEYED and block.n > 0
                       and self.has_room())
        if self.packed:
            self.pack(&block.where)

    cdef int64_t next_tile(self, const int64_t *members, int64_t n) noexcept nogil:
        return min(<int64_t>self.batch.kernels.key_queries, n) if self.packed else 1

    cdef void scan(self, const Block *block, const int64_t *members, int64_t count,
                   Collector collector) noexcept nogil:
        """Offer the keys of the block to the answers of a tile's queries."""
        cdef int64_t start = 0, i, step, at
        cdef int64_t near[16]
        cdef farann_key_threshold *threshold
        self.batch.count_rows(block.n * count, self.batch.snapshot.row_bytes)
        if not self.packed:
            self.scan_one(members[0], &block.where)
            return
        for i in range(count):
            near[i] = 0
        self.take_columns(members, count)
        while start < block.n:
            step = KEYS_AT_ONCE
            for i in range(count):
                self.set_threshold(&self.thresholds[i], members[i])
                if not self.thresholds[i].least > -INFINITY:
                    # All rows pass until there are k: then there is a threshold.
                    step = self.batch.kernels.key_rows
            step = min(step, block.n - start)
            self.batch.kernels.scan_keys_f64[<int>self.batch.metric](
                &self.panels, start, step, self.tile, self.batch.sign, <int>count, self.thresholds)
            for i in range(count):
                threshold = &self.thresholds[i]
                near[i] += threshold.n_near
                self.batch.rescored += threshold.count
                for at in range(threshold.count):
                    threshold.keys[at] *= self.batch.sign  # as they were before
                collector.take(members[i], threshold.keys, threshold.rows, threshold.count,
                               &block.where, &self.batch.queries[members[i]].filter)
            start += step
        self.batch.count_products(
            block.n * self.batch.kernels.key_queries, self.panels.lanes[8] * (
                KEY_PRODUCTS_L2 if self.batch.traits.squared else KEY_PRODUCTS), count, False)
        for i in range(count):
            self.judge.met(members[i], near[i], block.n)

    cdef bint has_room(self) noexcept nogil:
        """Room for packed rows in float64, once for all; False: there is no memory."""
        cdef const farann_kernels *kernels = self.batch.kernels
        cdef int64_t dim = self.batch.dim, width = kernels.key_queries, i
        cdef int64_t rows = self.most + kernels.key_rows
        cdef double *memory
        if self.tile != NULL:
            return True
        memory = <double *>self.batch.scratch.allocated(
            rows * (dim + 3) + width * (dim + 2 * KEYS_AT_ONCE + sizeof(farann_key_threshold) // 8)
            + dim, sizeof(double), False)
        if memory == NULL:
            return False
        self.panels.rows, self.panels.dim = memory, dim
        self.panels.norms = memory + rows * dim
        self.panels.ids = self.panels.norms + rows
        self.panels.first_ids = self.panels.ids + rows
        self.tile = self.panels.first_ids + rows
        memory = self.tile + width * dim
        self.thresholds = <farann_key_threshold *>(memory + width * 2 * KEYS_AT_ONCE)
        for i in range(width):
            self.thresholds[i].keys = memory + 2 * i * KEYS_AT_ONCE
            self.thresholds[i].rows = <int64_t *>(self.thresholds[i].keys + KEYS_AT_ONCE)
        self.panels.columns = <int64_t *>(self.thresholds + width)
        return True

    cdef void pack(self, const farann_block *where) noexcept nogil:
        cdef int64_t i, slot, n = self.rows.count, width = self.batch.kernels.key_rows
        cdef RowBlock rows = self.collector.rows.block(&self.rows, 0, n)
        cdef double *first = self.panels.first_ids
        cdef double id
        self.batch.packed += n
        self.batch.kernels.pack_rows_f64(
            rows.rows, rows.positions, n, self.batch.dim, self.batch.traits.normalized,
            self.panels.rows, self.panels.norms)
        for i in range(n):
            slot = where.first + (where.positions[i] if where.positions != NULL else i)
            id = <double>(where.ids[slot] if where.ids != NULL else slot)
            self.panels.ids[i] = id
            first[i // width] = id if i % width == 0 else min(first[i // width], id)
        for i in range(n, (n + width - 1) // width * width):
            self.panels.ids[i] = INFINITY

    cdef void scan_one(self, int64_t i, const farann_block *where) noexcept nogil:
        """Offer the keys of a block, row by row."""
        cdef int64_t n = self.rows.count, j, n_near = 0
        cdef RowBlock rows = self.collector.rows.block(&self.rows, 0, n)
        cdef double *keys = self.keys
        cdef double near
        if self.judge.accounts[i].rung == KEYS and self.integer_keys.are_exact(i):
            self.integer_keys.find(i, &rows, n, keys)
        else:
            self.batch.kernels.keys_f64[<int>self.batch.metric](
                rows.rows, rows.positions, n, self.batch.dim, self.batch.exact_query(i), keys)
            self.batch.rescored += n
        self.collector.take(i, keys, NULL, n, where, &self.batch.queries[i].filter)
        if self.judge.accounts[i].rung == KEYS:
            near = self.near_key(i)  # by the threshold after this block, which the next block has
            for j in range(n):
                n_near += self.batch.sign * keys[j] > near
            self.judge.met(i, n_near, n)

    cdef void take_columns(self, const int64_t *members, int64_t count) noexcept nogil:
        """Make a tile of some queries, of the columns in which any of them is other than 0.

        Differences of others count, too, where these are squared.
        """
        cdef int64_t width = self.batch.kernels.key_queries, n = 0, lane, i, j
        cdef bint counts
        cdef double *column
        for lane in range(8):
            self.panels.lanes[lane] = n
            for j in range(lane, self.batch.dim, 8):
                column, counts = self.tile + n * width, self.batch.traits.squared
                for i in range(width):
                    column[i] = self.batch.queries[members[i]].vector[j] if i < count else 0.0
                    counts |= column[i] != 0.0 or not uses(ZERO_COLUMNS)
                self.panels.columns[n] = j
                n += counts
        self.panels.lanes[8] = n

    cdef void set_threshold(self, farann_key_threshold *threshold, int64_t i) noexcept nogil:
        """The threshold for keys times the sign, from the rows found so far."""
        cdef const farann_entry *last = self.collector.kth(i)
        cdef double lost
        threshold.n_near, threshold.count = 0, 0
        threshold.least = threshold.near = -INFINITY
        threshold.last_id = INFINITY
        if last == NULL:
            return
        threshold.least, threshold.last_id = last.key, <double>last.id
        lost = fabs(threshold.least) * QUOTIENT_ERROR
        threshold.near = min(self.near_key(i), threshold.least - 2.0 * lost - NEARLY_ZERO)

    cdef double near_key(self, int64_t i) noexcept nogil:
        """The key times the sign from which rows would pass by rough scores, less the slack."""
        return ((self.collector.answers[i].threshold - self.collector.answers[i].slack
                 - self.batch.queries[i].prepared.key_offset)
                / self.batch.queries[i].prepared.key_scale)


cdef Level key_level_of(QueryBatch batch, Collector collector, Judge judge):
    """The level of exact keys of all rows."""
    cdef KeyLevel level = KeyLevel.__new__(KeyLevel)
    level.batch, level.collector, level.judge = batch, collector, judge
    level.most, level.rung = batch.block_rows, KEYS
    level.integer_keys = judge.ceilings.integer_keys
    level.keys = <double *>batch.scratch.allocate(batch.block_rows, sizeof(double), False)
    return level
