"""Ways to score a block for a tile of queries: the base, and those that go by codes."""

cimport cython
from libc.math cimport INFINITY, NAN
from libc.stdint cimport INT64_MAX

from farann.native.collector cimport n_new, rough_key
from farann.native.judge cimport KEYS, MOST_FOR_KEYS, Pause, note, rests
from farann.native.query_batch cimport CodedQuery
from farann.native.kernels cimport *

cdef enum:
    FEW_MEMBERS = 3  # fewer queries of a block are scanned one by one, and not as a tile
    LONG_BLOCK_AFTER = 8  # a long block has at most 1/8 of the rows scanned before it
    FEWEST_FOR_KEYS = 256  # coded rows scanned before a query goes by exact keys; or 16 k if more
    # High nibbles pause for a query if more than one row in FEW_PASS + FEW_PASS_DIMS / dim passes:
    # a row that passes costs the time to read dim + 2,000 bytes in sequence, measured; each other
    # row saves dim / 2 bytes.
    FEW_PASS = 2
    FEW_PASS_DIMS = 4000  # coordinates
    # Coordinates up to which single approximate queries read whole codes wherever exact ones do:
    # high nibbles spare 16 bytes a row or fewer. With 384 (sentences) they take .6 of the time.
    FEW_SPARED = 32

# A filter drops rows before their whole codes are read only if it allows less than this share of
# the rows. A single query fetches these codes from memory row by row, so its limit is higher.
cdef double MOST_ALLOWED = 0.4  # share of rows; tiles of queries
cdef double MOST_ALLOWED_FOR_ONE = 0.75  # share of rows; single queries


@cython.no_gc  # references between parts form no cycles
cdef class Level:
    """A way to score a block for a tile of queries."""

    cdef void begin_query(self, int64_t i) noexcept nogil:
        """Query i was prepared."""

    cdef int64_t most_after(self, int64_t n) noexcept nogil:
        """Rows of the next block at most, where n were scanned."""
        return self.most

    cdef void take_block(self, Source source, Block *block, int64_t n_members) noexcept nogil:
        """Get a block ready for tiles of `n_members` queries."""

    cdef int64_t next_tile(self, const int64_t *members, int64_t n) noexcept nogil:
        """The number of the n remaining queries to scan together."""
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
        """Score the appended rows again, more closely; `start`: the first row's position."""


cdef struct Passing:  # which rows pass for a query
    farann_pass_threshold threshold
    double floor      # the reduced key that it was made for
    bint high         # whether for high nibbles
    Pause pause       # of high nibbles


@cython.no_gc
cdef class CodeLevel(Level):
    """Codes as they are scanned: of 8 bits, of 4 bits alone, or those along a PCA filter."""

    cdef Codes codes
    cdef CodedQueries coded
    cdef Passing *passing       # by query
    cdef bint whole             # scans codes of all coordinates, beside a PCA filter
    cdef int64_t width          # queries of the current tile's kernel
    cdef bint in_order          # all queries of the batch are scanned, in the tiles of `coded`
    cdef bint all_scored        # rows of the block are all scored
    cdef int64_t usual          # rows of a block that stays in the cache
    cdef farann_coded_rows rows  # of the block
    cdef uint8_t *joined        # whole codes of a block, joined for many tiles; NULL: never
    cdef float *scores          # of a block whose rows are all scored, query after query
    cdef farann_pass_thresholds thresholds
    cdef farann_pass_threshold nothing_passes
    cdef int64_t high_bytes, whole_bytes  # that a scan reads of a row
    cdef double *offsets        # added to scores, by place in the tile; NULL: nothing
    cdef int32_t *chain         # of the tile, see `farann_coded_tile`; NULL: no chains

    cdef set_up(self, CodedQueries coded, int64_t most, int64_t n_scored):
        """Blocks have up to `most` rows; the first `n_scored` are all scored."""
        cdef Codes codes = coded.codes
        cdef int64_t width = coded.width, n_tiles = (coded.batch.n_queries + width - 1) // width
        cdef int64_t of_square = 0 if codes.scanned.squares == NULL else sizeof(float)
        self.batch, self.coded, self.codes = coded.batch, coded, codes
        self.most, self.usual = most, code_rows_of(codes)
        self.high_bytes = self.whole_bytes = codes.row_bytes + of_square
        if codes.scanned.low_nibbles != NULL:
            self.whole_bytes += codes.row_bytes
        self.first_judged = INT64_MAX
        # A PCA filter alone lets many rows pass, and with a large k more rows have close scores.
        if width > 1 and not codes.has_pca_filter and self.batch.k <= MOST_FOR_KEYS:
            self.first_judged = max(<int64_t>FEWEST_FOR_KEYS, 16 * self.batch.k)
        if uses(EARLY_FILTERS):
            self.few_allowed = MOST_ALLOWED_FOR_ONE if width == 1 else MOST_ALLOWED
        self.passing = <Passing *>self.batch.scratch.allocate(self.batch.n_queries, sizeof(Passing))
        self.thresholds.sign, self.nothing_passes = self.batch.sign, farann_pass_threshold_none()
        if (uses(JOINED_NIBBLES) and codes.scanned.low_nibbles != NULL
                and n_tiles > self.batch.kernels.few_tiles and width > 1):
            self.joined = <uint8_t *>self.batch.scratch.allocate(
                self.usual, codes.groups * FARANN_CODE_GROUP, False)
        if n_scored:
            self.scores = <float *>self.batch.scratch.allocate(
                width * n_scored, sizeof(float), False)

    cdef void begin_query(self, int64_t i) noexcept nogil:
        self.passing[i].floor = NAN

    cdef int64_t most_after(self, int64_t n) noexcept nogil:
        """Rows that pass are fetched from memory: a single query waits for that once a block.
        Behind many rows its threshold hardly rises, so long blocks let no more rows pass."""
        cdef int64_t long_block = n // LONG_BLOCK_AFTER // FIRST_BLOCK * FIRST_BLOCK
        return max(self.usual, min(long_block, self.most) if uses(LONGER_BLOCKS) else 0)

    cdef void take_block(self, Source source, Block *block, int64_t n_members) noexcept nogil:
        cdef const farann_coded_rows *rows = &self.codes.scanned
        self.in_order = block.members == NULL and n_members == self.batch.n_queries
        self.all_scored = block.all_scored
        take_rows(self, rows, block.start, self.codes.row_bytes)
        if rows.low_nibbles == NULL:
            return
        self.rows.low_nibbles += block.start * self.codes.row_bytes
        if self.joined != NULL and n_members > self.batch.kernels.few_tiles * self.coded.width:
            self.batch.kernels.join_codes_i8(&self.rows, block.n, self.joined)
            self.rows.panels, self.rows.low_nibbles = self.joined, NULL

    cdef int64_t next_tile(self, const int64_t *members, int64_t n) noexcept nogil:
        self.width = self.coded.width
        if not self.in_order and not self.all_scored and n < FEW_MEMBERS:
            self.width = 1
        return min(self.width, n)

    cdef void scan(self, const Block *block, const int64_t *members, int64_t count,
                   Collector collector) noexcept nogil:
        scan_codes(self, block, members, count, self.codes.int4_alone, collector)
        self.narrows = self.codes.has_pca_filter

    cdef void score(self, const Block *block, const int64_t *members, int64_t count,
                    Collector collector) noexcept nogil:
        cdef farann_coded_tile tile
        cdef int64_t j
        tile = tile_of(self, members, count, False, collector)
        self.batch.kernels.score_codes_i8(&self.rows, block.n, &tile, self.scores)
        count_work(self, block, count, False)
        self.narrows = False
        for j in range(count):
            collector.select(j, members[j], self.scores + j * block.n, block.n, &block.where)

    cdef void narrow(self, int64_t start, const int64_t *members, int64_t count,
                     Collector collector) noexcept nogil:
        """Score again by whole codes: with low nibbles, or all coordinates behind a PCA filter."""
        cdef farann_coded_tile tile
        cdef farann_pass_thresholds thresholds
        cdef farann_pass_threshold threshold
        cdef int64_t j, n
        tile.bars, thresholds.sign = &thresholds, self.batch.sign
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
            tile.codes = self.coded.tile_of(&self.coded.whole, members + j, 1, 1)
            self.batch.kernels.rerank_codes_i8(&self.codes.refined, start, &tile,
                                               &collector.tile[j], collector.tile[j].count - n)


cdef void take_rows(CodeLevel level, const farann_coded_rows *rows, int64_t start,
                    int64_t row_bytes) noexcept nogil:
    """Point to the codes of the rows from a position on, the first one of a panel."""
    cdef int64_t panel = start // FARANN_CODE_PANEL
    level.rows = rows[0]
    level.rows.panels += start * row_bytes
    level.rows.inv_scales += panel
    if rows.low_nibble_norm != NULL:
        level.rows.low_nibble_norm += panel
    if rows.squares != NULL:
        level.rows.squares += start


cdef farann_coded_tile tile_of(CodeLevel level, const int64_t *members, int64_t count, bint high,
                               Collector collector) noexcept nogil:
    """Set some queries, and the scores that rows must exceed to pass for them."""
    cdef farann_coded_tile tile
    cdef const CodedQuery *query
    cdef Passing *passing
    cdef double floor
    cdef int64_t j
    for j in range(count):
        collector.allow(members[j], level.coded.of[members[j]].whole.off)
        passing = &level.passing[members[j]]
        floor = collector.bar(members[j]) - (0.0 if level.offsets == NULL else level.offsets[j])
        if floor != passing.floor or high != passing.high:
            passing.floor, passing.high, query = floor, high, &level.coded.of[members[j]]
            passing.threshold = farann_pass_threshold_at(
                &query.whole if level.whole else &query.scan,
                &level.codes.bounds if level.whole else &level.codes.scan_bounds, floor,
                level.batch.sign, high)
        farann_pass_thresholds_set(&level.thresholds, j, &passing.threshold)
    for j in range(count, level.width):
        farann_pass_thresholds_set(&level.thresholds, j, &level.nothing_passes)
    tile.bars, tile.chain, tile.count = &level.thresholds, level.chain, count
    if level.in_order:
        tile.codes = level.coded.tiles + members[0] // level.width * level.coded.tile_words
    else:
        tile.codes = level.coded.tile_of(
            &level.coded.whole if level.whole else &level.coded.scanned, members, count,
            level.width)
    return tile


cdef void scan_codes(CodeLevel level, const Block *block, const int64_t *members, int64_t count,
                     bint high, Collector collector) noexcept nogil:
    """Scan a block by the kernel for tiles of this width; `high`: by high nibbles alone."""
    cdef const farann_kernels *kernels = level.batch.kernels
    cdef farann_coded_tile tile = tile_of(level, members, count, high, collector)
    cdef farann_scan_codes *chosen = kernels.scan_codes_i8
    if level.width == 1:
        chosen = kernels.scan_codes_one_i8
    chosen(&level.rows, high, block.n, &tile, collector.tile)
    count_work(level, block, count, high)


cdef void count_work(CodeLevel level, const Block *block, int64_t count, bint high) noexcept nogil:
    level.batch.count_rows(min(block.n, level.codes.n_filled - block.start) * count,
                           level.high_bytes if high else level.whole_bytes)
    level.batch.count_products(block.n * level.width, level.rows.groups * FARANN_CODE_GROUP,
                               count, True)


@cython.final
@cython.no_gc
cdef class NibbleLevel(CodeLevel):
    """High nibbles of 8-bit codes, for a single query, which is bound by memory."""

    cdef void begin_query(self, int64_t i) noexcept nogil:
        CodeLevel.begin_query(self, i)
        self.passing[i].pause.left, self.passing[i].pause.next = 0, 1

    cdef void scan(self, const Block *block, const int64_t *members, int64_t count,
                   Collector collector) noexcept nogil:
        self.narrows = (collector.answers[members[0]].threshold > -INFINITY
                        and not rests(&self.passing[members[0]].pause))
        scan_codes(self, block, members, count, self.narrows, collector)
        if (self.narrows and uses(NIBBLE_JUDGE) and n_new(collector, 0, members[0])
                * (FEW_PASS + FEW_PASS_DIMS // self.codes.dim) > block.n):
            note(&self.passing[members[0]].pause, True)


@cython.final
@cython.no_gc
cdef class RelativeLevel(CodeLevel):
    """4-bit codes relative to the means of partitions."""

    cdef int8_t *mean       # that rows of the block were coded relative to
    cdef double mean_unit   # 0: they weren't

    cdef set_up(self, CodedQueries coded, int64_t most, int64_t n_scored):
        CodeLevel.set_up(self, coded, most, n_scored)
        self.offsets = <double *>self.batch.scratch.allocate(
            coded.width + self.codes.groups, sizeof(double))
        self.mean = <int8_t *>(self.offsets + coded.width)

    cdef void take_block(self, Source source, Block *block, int64_t n_members) noexcept nogil:
        CodeLevel.take_block(self, source, block, n_members)
        self.mean_unit = self.batch.snapshot.partitions.write_mean(block.start, self.mean)

    cdef void scan(self, const Block *block, const int64_t *members, int64_t count,
                   Collector collector) noexcept nogil:
        cdef int64_t j, row, i
        for j in range(count):
            i = members[j]
            self.offsets[j] = 0.0
            if self.mean_unit != 0.0:
                self.offsets[j] = self.mean_unit * self.coded.of[i].scan.step * farann_code_product(
                    self.coded.tile_of(&self.coded.scanned, &i, 1, 1), self.mean, self.codes.groups)
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

    cdef uint8_t *panels    # a block in panels
    cdef float *inv_scales  # of these
    cdef int64_t *positions
    cdef bint in_panels     # whether the block is

    cdef void take_block(self, Source source, Block *block, int64_t n_members) noexcept nogil:
        cdef int64_t i, row_bytes = self.codes.groups * FARANN_CODE_GROUP
        self.in_order, self.all_scored = False, block.all_scored
        self.in_panels = block.start + block.n <= self.codes.n_hubs
        if self.in_panels:
            take_rows(self, &self.codes.hubs, block.start, row_bytes)
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


@cython.final
@cython.no_gc
cdef class SetLevel(CodeLevel):
    """Codes for up to a tile of members of each set: a row passes if it does for all of them."""

    cdef const int64_t *owners  # the set of each query
    cdef int64_t *seen          # by query: rows scored for it alone, and those that it ruled out
    cdef int64_t *ruled_out

    cdef void take_block(self, Source source, Block *block, int64_t n_members) noexcept nogil:
        CodeLevel.take_block(self, source, block, n_members)
        self.in_order = False

    cdef int64_t next_tile(self, const int64_t *members, int64_t n) noexcept nogil:
        """As many whole sets as fit."""
        cdef int64_t count = min(self.coded.width, n)
        self.width = self.coded.width
        while count < n and self.owners[members[count]] == self.owners[members[count - 1]]:
            count -= 1
        return count

    cdef void scan(self, const Block *block, const int64_t *members, int64_t count,
                   Collector collector) noexcept nogil:
        cdef int64_t j
        if (count > 1 and self.owners[members[0]] == self.owners[members[count - 1]]
                and self.one_is_enough(block, members, collector)):
            return
        for j in range(1, self.width + 1):
            self.chain[j] = -(j < count and self.owners[members[j]] == self.owners[members[j - 1]])
        CodeLevel.scan(self, block, members, count, collector)

    cdef bint one_is_enough(self, const Block *block, const int64_t *members,
                            Collector collector) noexcept nogil:
        """Scan for the first member alone; False: too many rows pass, or did in a block before."""
        cdef int64_t i = members[0], passed, width = self.width
        cdef bint enough
        if rests(&self.passing[i].pause):
            return False
        self.width = 1
        CodeLevel.scan(self, block, members, 1, collector)
        self.width, passed = width, n_new(collector, 0, i)
        enough = passed * KEY_ROWS <= block.n
        note(&self.passing[i].pause, not enough)
        self.seen[i] += block.n
        self.ruled_out[i] += block.n - passed
        if not enough:
            collector.tile[0].count -= passed
        return enough


@cython.final
@cython.no_gc
cdef class DecodedLevel(Level):
    """Codes that stand for rows, for queries that have no codes themselves."""

    cdef Codes codes
    cdef RelativeLevel relative  # None: codes aren't relative to means of partitions

    cdef void take_block(self, Source source, Block *block, int64_t n_members) noexcept nogil:
        if self.relative is not None:
            self.relative.take_block(source, block, n_members)

    cdef void scan(self, const Block *block, const int64_t *members, int64_t count,
                   Collector collector) noexcept nogil:
        cdef int64_t slots[FARANN_CODE_PANEL]
        cdef double keys[FARANN_CODE_PANEL]
        cdef int64_t i = members[0], position, slot, n = 0
        cdef farann_block where
        cdef double offset
        self.batch.find_query_vector(i)
        farann_transform_vector(self.batch.kernels, &self.codes.transform.record,
                               self.batch.dim, self.batch.query_vector,
                               self.batch.query_vector + padded(self.batch.dim))
        offset = self.mean_score()
        for position in range(block.start, block.start + block.n):
            slot = position
            if self.codes.slots is not None:
                slot = self.codes.slots[position]
            if 0 <= slot < self.codes.n_rows:
                slots[n] = slot
                keys[n] = rough_key(&self.batch.queries[i], self.batch.sign,
                                    self.decoded_score(position) + offset)
                n += 1
        where = farann_block(0, &slots[0], NULL, self.batch.snapshot.ids_by_slot,
                             self.batch.snapshot.n_slots)
        collector.take(i, keys, NULL, n, &where, &self.batch.queries[i].filter)
        self.batch.count_rows(n, 0)

    cdef double decoded_score(self, int64_t position) noexcept nogil:
        """The rough score of the row at a position for the query vector, which isn't coded."""
        cdef const farann_coded_rows *rows = &self.codes.scanned
        cdef int64_t pairs = code_pairs(rows.groups), panel, row, j, pair, panel_row
        cdef int shift
        cdef uint8_t top
        cdef double total = 0.0, low = 7.5
        panel, row = position // FARANN_CODE_PANEL, position % FARANN_CODE_PANEL
        cdef const uint8_t *high = rows.panels + (
            panel * FARANN_CODE_PANEL * pairs + row) * FARANN_CODE_GROUP
        cdef const uint8_t *lower = NULL
        if rows.low_nibbles != NULL:  # in quads of rows
            panel_row = panel * FARANN_CODE_PANEL + row // 4 * 4
            lower = rows.low_nibbles + (panel_row * pairs + row % 4) * FARANN_CODE_GROUP
        for j in range(self.codes.dim):
            pair = j // (2 * FARANN_CODE_GROUP)
            shift = 4 * (j // FARANN_CODE_GROUP % 2)
            if lower != NULL:
                low = lower[pair * 4 * FARANN_CODE_GROUP + j % FARANN_CODE_GROUP] >> shift & 15
            top = high[pair * FARANN_CODE_PANEL * FARANN_CODE_GROUP + j % FARANN_CODE_GROUP]
            total += self.batch.query_vector[j] * (16.0 * (top >> shift & 15) + low - 128.0)
        if rows.squares != NULL:
            total += self.batch.sign * rows.squares[position]
        return total / rows.inv_scales[panel]

    cdef double mean_score(self) noexcept nogil:
        """The part of the score from the mean that rows of the block were coded relative to."""
        cdef int64_t j
        cdef double total = 0.0
        if self.relative is None or self.relative.mean_unit == 0.0:
            return 0.0
        for j in range(self.codes.dim):
            total += self.batch.query_vector[j] * self.relative.mean[j]
        return total * self.relative.mean_unit


cdef int64_t code_rows_of(Codes codes) noexcept nogil:
    """Rows of a block of codes that stays in the cache."""
    return rows_in_cache(codes.scanned.groups * FARANN_CODE_GROUP)


cdef Level code_level_of(CodedQueries coded, int64_t most, int64_t n_scored):
    """The first level for the codes of some rows."""
    cdef CodeLevel level
    if coded.batch.snapshot.partitions is not None and coded.batch.snapshot.partitions.relative:
        level = RelativeLevel.__new__(RelativeLevel)
    elif (coded.width == 1 and coded.codes.high_nibbles_first and uses(HIGH_NIBBLES)
          and not (coded.codes.whole_codes_first and (
              not coded.approximate or coded.codes.n_coded <= FEW_SPARED))):
        level = NibbleLevel.__new__(NibbleLevel)
    else:
        level = CodeLevel.__new__(CodeLevel)
    level.set_up(coded, most, n_scored)
    return level


cdef Level set_level_of(CodedQueries coded, int64_t most, const int64_t *owners, int64_t *seen,
                        int64_t *ruled_out):
    """The level that scans codes for members of sets; nibbles are joined to whole codes."""
    cdef SetLevel level = SetLevel.__new__(SetLevel)
    level.set_up(coded, most, 0)
    level.owners, level.seen, level.ruled_out = owners, seen, ruled_out
    level.first_judged = INT64_MAX
    level.chain = <int32_t *>coded.batch.scratch.allocate(coded.width + 1, sizeof(int32_t))
    return level


cdef Level whole_level_of(CodedQueries coded, int64_t most, int64_t n_scored):
    """Whole codes, beside a PCA filter."""
    cdef WholeLevel level = WholeLevel.__new__(WholeLevel)
    level.set_up(coded, most, n_scored)
    level.whole = True
    level.whole_bytes += coded.codes.groups * FARANN_CODE_GROUP - coded.codes.row_bytes
    return level


cdef Level decoded_level_of(CodedQueries coded):
    """Keys of decoded rows, where there are no others."""
    cdef DecodedLevel level = DecodedLevel.__new__(DecodedLevel)
    cdef Level codes = code_level_of(coded, coded.codes.n_positions, 0)
    level.batch, level.codes, level.most = coded.batch, coded.codes, FARANN_CODE_PANEL
    level.rung = KEYS
    if isinstance(codes, RelativeLevel):
        level.relative = <RelativeLevel>codes
    return level
