"""Ways to score a block for a tile of queries: the base, and those that go by codes."""

cimport cython
from libc.math cimport INFINITY, NAN
from libc.stdint cimport INT64_MAX, int32_t

from farann.native.collector cimport FEW_BEST, n_new
from farann.native.judge cimport note, rests
from farann.native.kernels cimport *
from farann.native.process cimport (ASKING_AHEAD, EARLY_FILTERS, HIGH_NIBBLES, JOINED_NIBBLES,
                                    LONGER_BLOCKS, NIBBLE_JUDGE, uses)

cdef enum:
    FEW_MEMBERS = 3  # fewer queries of a block are scanned one by one, and not as a tile
    LONG_BLOCK_AFTER = 8  # a long block has at most 1/8 of the rows scanned before it
    FEWEST_FOR_KEYS = 256  # coded rows scanned before a query goes by exact keys; or 16 k if more
    # High nibbles alone pause for a query if they let more than one row in
    # FEW_PASS + FEW_PASS_DIMS / dim pass: a row that passes waits as long as it takes to read
    # dim + 2,000 bytes one after the other, measured; each row that doesn't spares dim / 2 bytes.
    FEW_PASS = 2
    FEW_PASS_DIMS = 4000  # coordinates

# A filter drops rows before their whole codes are read only if it allows less than this share of
# the rows. A single query fetches these codes from memory row by row, so its limit is higher.
cdef double MOST_ALLOWED = 0.4  # share of rows; tiles of queries
cdef double MOST_ALLOWED_FOR_ONE = 0.75  # share of rows; single queries


@cython.no_gc  # what parts refer to never refers to them
cdef class Level:
    """A way to score a block for a tile of queries."""

    cdef void begin_query(self, int64_t i) noexcept nogil:
        """Query i was prepared."""

    cdef double slack_of(self, int64_t i) noexcept nogil:
        """What scores of all blocks are off by at most, as far as that is known before."""
        return 0.0

    cdef int64_t most_after(self, int64_t n) noexcept nogil:
        """Rows of the next block at most, where n were scanned."""
        return self.most

    cdef void take_block(self, Source source, Block *block, int64_t n_members) noexcept nogil:
        """Get a block ready for tiles of `n_members` queries."""

    cdef int64_t next_tile(self, int64_t n_left) noexcept nogil:
        """How many of the queries that are left to scan together."""
        return 1

    cdef void scan(self, const Block *block, const int64_t *members, int64_t count,
                   Collector collector) noexcept nogil:
        """Append the rows that may be worth finding to the lists of the tile."""

    cdef void score(self, const Block *block, const int64_t *members, int64_t count,
                    Collector collector) noexcept nogil:
        """Score all rows, and append the best; those that pass where there is a threshold."""
        self.scan(block, members, count, collector)

    cdef void narrow(self, int64_t start, const int64_t *members, int64_t count,
                     Collector collector) noexcept nogil:
        """Score again, more closely, what was appended; `start`: the first row's position."""


@cython.no_gc
cdef class CodeLevel(Level):
    """Codes as they are scanned: of 8 bits, of 4 bits alone, or those along a PCA filter."""

    cdef set_up(self, CodedQueries coded, int64_t most, int64_t n_scored):
        """Blocks have up to `most` rows; the first `n_scored` are all scored."""
        cdef Codes codes = coded.codes
        cdef int64_t width = coded.width, n_tiles = (coded.batch.n_queries + width - 1) // width
        cdef int64_t of_square = 0 if codes.scanned.squares == NULL else sizeof(float)
        self.batch, self.coded, self.codes = coded.batch, coded, codes
        self.most, self.usual = most, code_rows_of(codes)
        self.high_bytes = self.whole_bytes = codes.panels.shape[1] + of_square
        if codes.scanned.low_nibbles != NULL:
            self.whole_bytes += codes.panels.shape[1]
        self.first_judged = INT64_MAX
        # A PCA filter lets many pass by itself, and of many best rows more are hard to tell apart.
        if width > 1 and not codes.has_pca_filter and self.batch.k <= FEW_BEST:
            self.first_judged = max(<int64_t>FEWEST_FOR_KEYS, 16 * self.batch.k)
        if uses(EARLY_FILTERS):
            self.few_allowed = MOST_ALLOWED_FOR_ONE if width == 1 else MOST_ALLOWED
        self.passing = <Passing *>self.batch.scratch.allocate(self.batch.n_queries, sizeof(Passing))
        self.thresholds.sign, self.nothing_passes = self.batch.sign, farann_pass_threshold_none()
        if (uses(JOINED_NIBBLES) and codes.low_nibbles is not None
                and n_tiles > self.batch.kernels.few_tiles and width > 1):
            self.joined = <uint8_t *>self.batch.scratch.allocate(
                self.usual, codes.groups * FARANN_CODE_GROUP, False)
        if n_scored:
            self.scores = <float *>self.batch.scratch.allocate(
                width * n_scored, sizeof(float), False)

    cdef void begin_query(self, int64_t i) noexcept nogil:
        self.passing[i].floor = NAN

    cdef double slack_of(self, int64_t i) noexcept nogil:
        return self.coded.of[i].whole.off

    cdef int64_t most_after(self, int64_t n) noexcept nogil:
        """What passes of a block is fetched from memory: a query by itself waits for that once a
        block. Behind many rows its threshold hardly rises, and long blocks let no more pass."""
        cdef int64_t long_block = n // LONG_BLOCK_AFTER // FIRST_BLOCK * FIRST_BLOCK
        return max(self.usual, min(long_block, self.most) if uses(LONGER_BLOCKS) else 0)

    cdef void take_block(self, Source source, Block *block, int64_t n_members) noexcept nogil:
        cdef const farann_coded_rows *rows = &self.codes.scanned
        self.in_order = block.members == NULL and n_members == self.batch.n_queries
        self.all_scored = block.all_scored
        farann_ahead_finish(&self.ahead)
        if block.next_n and uses(ASKING_AHEAD):
            self.ask_for(block, n_members)
        self.take_rows(rows, block.start, self.codes.panels.shape[1])
        if rows.low_nibbles == NULL:
            return
        if self.joined != NULL and n_members > self.batch.kernels.few_tiles * self.coded.width:
            self.batch.kernels.join_codes_i8(rows, block.start, block.n, self.joined)
            self.rows.panels, self.rows.low_nibbles = self.joined, NULL
        else:
            self.rows.low_nibbles += block.start * self.codes.panels.shape[1]

    @cython.final
    cdef void take_rows(self, const farann_coded_rows *rows, int64_t start,
                        int64_t row_bytes) noexcept nogil:
        """Begin with the row at a position, the first of a panel."""
        cdef int64_t panel = start // FARANN_CODE_PANEL
        self.rows = rows[0]
        self.rows.panels += start * row_bytes
        self.rows.inv_scales += panel
        if rows.low_nibble_norm != NULL:
            self.rows.low_nibble_norm += panel
        if rows.squares != NULL:
            self.rows.squares += start

    @cython.final
    cdef void ask_for(self, const Block *block, int64_t n_members) noexcept nogil:
        """Have memory asked for the next block while this one is scanned, as it lies elsewhere."""
        cdef const int32_t *slots = NULL
        cdef int64_t width = self.coded.width, tiles = (n_members + width - 1) // width
        cdef int64_t panel_bytes = FARANN_CODE_PANEL * self.codes.panels.shape[1]
        cdef int64_t steps = max(block.n // self.batch.kernels.step_rows, 1) * tiles
        if width == 1:
            farann_ask_for(&self.codes.scanned, panel_bytes, block.next_start, block.next_n)
            return
        if self.codes.slots is not None:
            slots = &self.codes.slots[0]
        self.ahead = farann_ahead_of(&self.codes.scanned, panel_bytes, slots, block.next_start,
                                     min(block.next_n, self.usual), steps)

    cdef int64_t next_tile(self, int64_t n_left) noexcept nogil:
        self.width = self.coded.width
        if not self.in_order and not self.all_scored and n_left < FEW_MEMBERS:
            self.width = 1
        return min(self.width, n_left)

    cdef farann_pass_threshold threshold_at(self, int64_t i, double floor,
                                            bint high) noexcept nogil:
        return farann_pass_threshold_at(&self.coded.of[i].scan, &self.codes.scan_bounds, floor,
                                        self.batch.sign, high)

    cdef const uint32_t *codes_of(self, const int64_t *members, int64_t count) noexcept nogil:
        if self.width == 1:
            return self.coded.single_codes(members[0])
        if self.in_order:
            return self.coded.tile_of(members[0])
        return self.coded.gather(members, count, False)

    @cython.final
    cdef farann_coded_tile tile_of(self, const int64_t *members, int64_t count, bint high,
                                   Collector collector) noexcept nogil:
        """Some queries, and what rows must reach to pass for them."""
        cdef farann_coded_tile tile
        cdef Passing *passing
        cdef double floor
        cdef int64_t j
        for j in range(count):
            passing = &self.passing[members[j]]
            floor = collector.bar(members[j]) - (0.0 if self.offsets == NULL else self.offsets[j])
            if floor != passing.floor or high != passing.high:
                passing.floor, passing.high = floor, high
                passing.threshold = self.threshold_at(members[j], floor, high)
            farann_pass_thresholds_set(&self.thresholds, j, &passing.threshold)
        for j in range(count, self.width):
            farann_pass_thresholds_set(&self.thresholds, j, &self.nothing_passes)
        tile.codes, tile.bars = self.codes_of(members, count), &self.thresholds
        tile.ahead = &self.ahead
        return tile

    @cython.final
    cdef void run(self, const Block *block, const farann_coded_tile *tile, int64_t count,
                  bint high, Collector collector) noexcept nogil:
        """Scan a block by the kernel for tiles of this width."""
        cdef const farann_kernels *kernels = self.batch.kernels
        cdef farann_scan_codes *one = kernels.scan_high_one_i4 if high else kernels.scan_codes_one_i8
        cdef farann_scan_codes *many = kernels.scan_high_i4 if high else kernels.scan_codes_i8
        cdef farann_scan_codes *chosen = one if self.width == 1 else many
        chosen(&self.rows, 0, block.n, tile, collector.tile)
        self.count_work(block, count, high)

    cdef void scan(self, const Block *block, const int64_t *members, int64_t count,
                   Collector collector) noexcept nogil:
        cdef bint high = self.codes.int4_alone
        cdef farann_coded_tile tile = self.tile_of(members, count, high, collector)
        self.run(block, &tile, count, high, collector)
        self.narrows = self.codes.has_pca_filter

    @cython.final
    cdef void count_work(self, const Block *block, int64_t count, bint high) noexcept nogil:
        self.batch.count_rows(min(block.n, self.codes.n_filled - block.start) * count,
                              self.high_bytes if high else self.whole_bytes)
        self.batch.count_products(block.n * self.width, self.rows.groups * FARANN_CODE_GROUP,
                                  count, True)

    cdef void score(self, const Block *block, const int64_t *members, int64_t count,
                    Collector collector) noexcept nogil:
        cdef farann_coded_tile tile
        cdef int64_t j
        tile = self.tile_of(members, count, False, collector)
        tile.ahead = NULL
        self.batch.kernels.score_codes_i8(&self.rows, block.n, &tile, self.scores)
        self.count_work(block, count, False)
        self.narrows = False
        for j in range(count):
            collector.select(j, members[j], self.scores + j * block.n, block.n, &block.where)

    cdef void narrow(self, int64_t start, const int64_t *members, int64_t count,
                     Collector collector) noexcept nogil:
        """By whole codes: low nibbles, or those of all coordinates behind a PCA filter."""
        cdef farann_coded_tile tile
        cdef farann_pass_thresholds thresholds
        cdef farann_pass_threshold threshold
        cdef int64_t j, n
        tile.bars, tile.ahead, thresholds.sign = &thresholds, NULL, self.batch.sign
        for j in range(count):
            n = n_new(collector, j, members[j])
            if n == 0:
                continue
            self.batch.refined += n
            self.batch.bytes_read += n * self.codes.groups * FARANN_CODE_GROUP
            threshold = farann_pass_threshold_at(
                &self.coded.of[members[j]].whole, &self.codes.bounds, collector.bar(members[j]),
                self.batch.sign, False)
            farann_pass_thresholds_set(&thresholds, 0, &threshold)
            tile.codes = self.coded.whole_codes(members[j])
            self.batch.kernels.rerank_codes_i8(&self.codes.refined, start, &tile,
                                               &collector.tile[j], collector.tile[j].count - n)


@cython.final
@cython.no_gc
cdef class NibbleLevel(CodeLevel):
    """High nibbles of 8-bit codes, for a query by itself, which waits for memory."""

    cdef void begin_query(self, int64_t i) noexcept nogil:
        CodeLevel.begin_query(self, i)
        self.passing[i].pause.left, self.passing[i].pause.next = 0, 1

    cdef void scan(self, const Block *block, const int64_t *members, int64_t count,
                   Collector collector) noexcept nogil:
        cdef farann_coded_tile tile
        self.narrows = (collector.found[members[0]].threshold > -INFINITY
                        and not rests(&self.passing[members[0]].pause))
        tile = self.tile_of(members, count, self.narrows, collector)
        self.run(block, &tile, count, self.narrows, collector)
        if (self.narrows and uses(NIBBLE_JUDGE) and n_new(collector, 0, members[0])
                * (FEW_PASS + FEW_PASS_DIMS // self.codes.dim) > block.n):
            note(&self.passing[members[0]].pause, True)


@cython.final
@cython.no_gc
cdef class RelativeLevel(CodeLevel):
    """4-bit codes relative to the means of partitions."""

    cdef set_up(self, CodedQueries coded, int64_t most, int64_t n_scored):
        CodeLevel.set_up(self, coded, most, n_scored)
        self.offsets = <double *>self.batch.scratch.allocate(
            coded.width + self.codes.groups, sizeof(double))
        self.mean = <int8_t *>(self.offsets + coded.width)

    cdef void take_mean(self, int64_t position) noexcept nogil:
        """Make the mean of a position's partition that of the block."""
        self.mean_unit = self.batch.snapshot.partitions.write_mean(position, self.mean)

    cdef void take_block(self, Source source, Block *block, int64_t n_members) noexcept nogil:
        CodeLevel.take_block(self, source, block, n_members)
        self.take_mean(block.start)

    cdef void scan(self, const Block *block, const int64_t *members, int64_t count,
                   Collector collector) noexcept nogil:
        cdef int64_t j, row, i
        for j in range(count):
            i = members[j]
            self.offsets[j] = 0.0
            if self.mean_unit != 0.0:
                self.offsets[j] = self.mean_unit * self.coded.of[i].scan.step * farann_code_product(
                    self.coded.single_codes(i), self.mean, self.codes.groups)
        CodeLevel.scan(self, block, members, count, collector)
        for j in range(count):
            for row in range(collector.tile[j].count - n_new(collector, j, members[j]),
                             collector.tile[j].count):
                collector.tile[j].scores[row] = <float>(collector.tile[j].scores[row]
                                                        + self.offsets[j])


@cython.final
@cython.no_gc
cdef class WholeLevel(CodeLevel):
    """Whole codes beside a PCA filter: they refine what passes it, or are scanned in its place."""

    cdef void take_block(self, Source source, Block *block, int64_t n_members) noexcept nogil:
        cdef int64_t i, row_bytes = self.codes.groups * FARANN_CODE_GROUP
        self.in_order, self.all_scored = False, block.all_scored
        self.in_panels = block.start + block.n <= self.codes.n_hubs
        if self.in_panels:
            self.take_rows(&self.codes.hubs, block.start, row_bytes)
            return
        self.in_panels = self.coded.width > 1 and self.has_room()
        if not self.in_panels:
            return
        self.rows = self.codes.refined
        for i in range(block.n):
            self.inv_scales[i // FARANN_CODE_PANEL] = self.rows.inv_scales[block.start + i]
            self.positions[i] = i
        farann_pack_codes(self.rows.row_major + block.start * row_bytes, self.positions, block.n,
                          self.codes.groups, False, self.panels, NULL)
        self.rows.panels, self.rows.inv_scales = self.panels, self.inv_scales
        self.rows.row_major = NULL
        if self.rows.squares != NULL:
            self.rows.squares += block.start

    cdef bint has_room(self) noexcept nogil:
        """Make room for a block in panels, once; False: there is none."""
        cdef int64_t n = self.most, row_bytes = self.codes.groups * FARANN_CODE_GROUP
        if self.panels == NULL:
            self.panels = <uint8_t *>self.batch.scratch.allocated(
                n, row_bytes + sizeof(float) + sizeof(int64_t), False)
            self.positions = <int64_t *>(self.panels + n * row_bytes)
            self.inv_scales = <float *>(self.positions + n)
        return self.panels != NULL

    cdef farann_pass_threshold threshold_at(self, int64_t i, double floor,
                                            bint high) noexcept nogil:
        return farann_pass_threshold_at(&self.coded.of[i].whole, &self.codes.bounds, floor,
                                        self.batch.sign, False)

    cdef const uint32_t *codes_of(self, const int64_t *members, int64_t count) noexcept nogil:
        if self.width == 1:
            return self.coded.whole_codes(members[0])
        return self.coded.gather(members, count, True)

    cdef void scan(self, const Block *block, const int64_t *members, int64_t count,
                   Collector collector) noexcept nogil:
        cdef int64_t j, row
        if self.in_panels:
            CodeLevel.scan(self, block, members, count, collector)
            self.narrows = False
            return
        for j in range(count):  # few rows, or one query: they are scored where they lie
            for row in range(block.n):
                collector.tile[j].slots[collector.tile[j].count + row] = row
            collector.tile[j].count += block.n
        self.batch.count_rows(min(block.n, self.codes.n_filled - block.start) * count, 0)
        self.narrow(block.start, members, count, collector)
        self.narrows = False


cdef int64_t code_rows_of(Codes codes) noexcept nogil:
    """Rows of a block of codes that stays in the cache."""
    return rows_in_cache(codes.scanned.groups * FARANN_CODE_GROUP)


cdef CodeLevel level_of(CodedQueries coded, int64_t most, int64_t n_scored):
    """What scans the codes of some rows first."""
    cdef CodeLevel level
    if coded.batch.snapshot.partitions is not None and coded.batch.snapshot.partitions.relative:
        level = RelativeLevel.__new__(RelativeLevel)
    elif (coded.width == 1 and coded.codes.high_nibbles_first and uses(HIGH_NIBBLES)
            and (coded.approximate or not coded.codes.whole_codes_first)):
        level = NibbleLevel.__new__(NibbleLevel)
    else:
        level = CodeLevel.__new__(CodeLevel)
    level.set_up(coded, most, n_scored)
    return level


cdef WholeLevel whole_level_of(CodedQueries coded, int64_t most, int64_t n_scored):
    """Whole codes, beside a PCA filter."""
    cdef WholeLevel level = WholeLevel.__new__(WholeLevel)
    level.set_up(coded, most, n_scored)
    level.whole_bytes += coded.codes.groups * FARANN_CODE_GROUP - coded.codes.panels.shape[1]
    return level
