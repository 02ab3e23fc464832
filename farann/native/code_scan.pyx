"""One block of coded rows: scanned for tiles of queries, refined by their whole codes."""

cimport cython
from libc.math cimport INFINITY
from libc.stdint cimport int8_t, int64_t, uint8_t, uint32_t

from farann.native.candidates cimport Candidates
from farann.native.coded_queries cimport CodedQueries
from farann.native.codes cimport Codes
from farann.native.key_scan cimport FEWEST_FOR_KEYS, KeyScan
from farann.native.kernels cimport *
from farann.native.process cimport EARLY_FILTERS, JOINED_NIBBLES, NIBBLE_JUDGE, uses
from farann.native.query_batch cimport LONGEST_PAUSE, Query, QueryBatch

cdef enum:
    # High nibbles alone pause for a query if they let more than one row in
    # max(FEW_PASS, FEW_PASS_DIMS / dim) pass: the low nibbles they spare must pay for reading those
    # of the rows that pass.
    FEW_PASS = 4
    FEW_PASS_DIMS = 1024  # coordinates; below 256 of them the limit is stricter than 1/4

# A filter drops rows before their whole codes are read only if it allows less than this share of
# the rows. A single query fetches these codes from memory row by row, so its limit is higher.
cdef double MOST_ALLOWED = 0.4  # share of rows; tiles of queries
cdef double MOST_ALLOWED_FOR_ONE = 0.75  # share of rows; single queries


@cython.no_gc  # what parts refer to never refers to them
@cython.freelist(8)
cdef class CodeScan:
    """Scans blocks of codes, of their high nibbles or along a basis, and refines what passes."""

    @staticmethod
    cdef CodeScan of(QueryBatch batch, Candidates candidates, KeyScan key_scan, CodedQueries coded):
        cdef CodeScan self = CodeScan.__new__(CodeScan)
        cdef Codes codes = coded.codes
        cdef int64_t width = coded.code_width
        self.batch, self.candidates, self.key_scan, self.coded = batch, candidates, key_scan, coded
        self.pass_thresholds.sign, self.nothing_passes = batch.sign, farann_pass_threshold_none()
        if batch.snapshot.partitions is not None and batch.snapshot.partitions.relative:
            self.offsets = <double *>batch.scratch.allocate(width + codes.groups, sizeof(double))
            self.mean = <int8_t *>(self.offsets + width)
        if (uses(JOINED_NIBBLES) and codes.low_nibbles is not None
                and (batch.n_queries + width - 1) // width > batch.kernels.few_tiles and width > 1):
            self.joined = <uint8_t *>batch.scratch.allocate(
                coded.code_rows, codes.groups * FARANN_CODE_GROUP, False)
        self.high_first = width == 1 and codes.high_nibbles_first
        return self

    cdef void scan_codes(self, int64_t start, int64_t n) noexcept nogil:
        """Score rows at some positions by their 8-bit codes, a tile of queries at a time."""
        cdef int64_t first = 0, count, i, width = self.coded.code_width
        self.take_block(start, n, (self.batch.n_queries + width - 1) // width)
        while first < self.batch.n_queries and not self.batch.stopped():
            count = min(width, self.batch.n_queries - first)
            for i in range(count):
                self.candidates.members[i] = first + i
            self.scan_code_tile(self.coded.tile_of(first), width, count, start, n)
            first += width

    cdef void scan_for_members(self, int64_t width, int64_t count, int64_t start,
                               int64_t n) noexcept nogil:
        """Scan the block for a tile of any queries, the first `count` of the members."""
        cdef const uint32_t *codes
        if width == 1:
            codes = self.coded.single_codes(self.candidates.members[0])
        else:
            codes = self.coded.gather(self.candidates.members, count, False)
        self.scan_code_tile(codes, width, count, start, n)

    cdef void take_block(self, int64_t start, int64_t n, int64_t n_tiles) noexcept nogil:
        """Make n rows from a position on the block that `n_tiles` tiles scan."""
        cdef const farann_coded_rows *rows = &self.coded.codes.scanned
        cdef int64_t panel = start // FARANN_CODE_PANEL
        cdef int64_t at = panel * FARANN_CODE_PANEL * self.coded.codes.panels.shape[1]
        self.block = rows[0]
        self.block.inv_scales += panel
        if rows.low_nibble_norm != NULL:
            self.block.low_nibble_norm += panel
        if rows.squares != NULL:
            self.block.squares += start
        self.block.panels += at
        self.take_mean(start)
        if rows.low_nibbles == NULL:
            return
        if n_tiles > self.batch.kernels.few_tiles and self.joined != NULL:
            self.batch.kernels.join_codes_i8(rows, start, n, self.joined)
            self.block.panels, self.block.low_nibbles = self.joined, NULL
        else:
            self.block.low_nibbles += at

    cdef void take_mean(self, int64_t position) noexcept nogil:
        """Make the mean of a position's partition that of the block."""
        if self.mean != NULL:
            self.mean_unit = self.batch.snapshot.partitions.write_mean(position, self.mean)

    cdef int64_t of_one_mean(self, int64_t start, int64_t n) noexcept nogil:
        """How many of n rows from a position on were coded relative to the same mean."""
        cdef int64_t begun
        if self.mean == NULL:
            return n
        begun = self.batch.snapshot.partitions.begun(start)
        if begun > self.batch.snapshot.partitions.n_cells:
            return n
        return min(n, self.batch.snapshot.partitions.starts[begun] - start)

    cdef double offset_of(self, int64_t i) noexcept nogil:
        """What the mean adds to scores of the block for query i."""
        return self.mean_unit * self.batch.queries[i].scan.step * farann_code_product(
            self.coded.single_codes(i), self.mean, self.coded.codes.groups)

    cdef void add_offsets(self, int64_t count) noexcept nogil:
        """Add what means do to scores that the scan of a tile appended."""
        cdef farann_candidates *list
        cdef int64_t i, j
        for i in range(count):
            list = &self.candidates.tile[i]
            for j in range(self.batch.queries[self.candidates.members[i]].candidates.count,
                           list.count):
                list.scores[j] = <float>(list.scores[j] + self.offsets[i])

    cdef void scan_code_tile(self, const uint32_t *codes, int64_t width, int64_t count,
                             int64_t start, int64_t n) noexcept nogil:
        """Scan the block for one tile, whose queries are the first `count` of the members."""
        cdef farann_block block = self.coded_block(start)
        cdef int64_t i, n_coded = 0, n_rows = min(n, self.coded.codes.n_filled - start)
        cdef bint single = width == 1
        cdef bint high = self.coded.codes.int4_alone or (
            single and self.high_nibbles_first(&self.batch.queries[self.candidates.members[0]]))
        cdef farann_coded_tile tile
        cdef double offset = 0.0
        cdef Query *query
        for i in range(count):
            query = &self.batch.queries[self.candidates.members[i]]
            self.candidates.tile[i] = query.candidates
            if query.by_keys:
                farann_pass_thresholds_set(&self.pass_thresholds, i, &self.nothing_passes)
                continue
            n_coded += query.coded
            if self.mean_unit != 0.0:
                offset = self.offsets[i] = self.offset_of(self.candidates.members[i])
            self.raise_pass_threshold(query, HIGH_NIBBLES if high else WHOLE_CODES, offset)
            farann_pass_thresholds_set(&self.pass_thresholds, i, &query.pass_threshold)
        for i in range(count, width):
            farann_pass_thresholds_set(&self.pass_thresholds, i, &self.nothing_passes)
        if n_coded == 0:
            return
        tile.codes, tile.bars, tile.ahead = codes, &self.pass_thresholds, &self.ahead
        self.scan_function(single, high)(&self.block, 0, n, &tile, self.candidates.tile)
        if self.keys_follow and not single and start >= max(FEWEST_FOR_KEYS, 16 * self.batch.k):
            self.give_up_codes_of(count, start, n_rows)
        if self.mean_unit != 0.0:
            self.add_offsets(count)
        self.batch.scanned += n_rows * n_coded
        self.count_products(n * width, self.coded.codes.scanned.groups, count)
        self.batch.bytes_read += n_rows * n_coded * self.code_bytes_of_row(high)
        if uses(EARLY_FILTERS) and self.batch.filter.share < (MOST_ALLOWED_FOR_ONE if single else MOST_ALLOWED) and (
                self.coded.codes.has_pca_filter or (high and not self.coded.codes.int4_alone)):
            # To see whether a row is allowed costs less than to fetch the other codes of many.
            for i in range(count):
                query = &self.batch.queries[self.candidates.members[i]]
                farann_candidates_drop(&self.candidates.tile[i], query.candidates.count, &block,
                                       &query.filter)
        if self.coded.codes.has_pca_filter:
            self.refine(count, start, NULL)
        elif high and not self.coded.codes.int4_alone:
            query = &self.batch.queries[self.candidates.members[0]]
            self.judge_high_nibbles(query, self.candidates.tile[0].count - query.candidates.count,
                                    n)
            self.refine(1, start, codes)
        self.candidates.admit_tile(count, &block)

    cdef void give_up_codes_of(self, int64_t count, int64_t start, int64_t n) noexcept nogil:
        """Drop what passed for queries of a tile if it is too much; these get keys instead."""
        cdef int64_t i, passed
        cdef Query *query
        for i in range(count):
            query = &self.batch.queries[self.candidates.members[i]]
            passed = self.candidates.tile[i].count - query.candidates.count
            if passed > 0 and self.key_scan.judge_rough(query, passed, start, n):
                self.batch.alike += passed
                self.candidates.tile[i].count = query.candidates.count

    cdef void raise_pass_threshold(self, Query *query, int level, double offset) noexcept nogil:
        """Make it that of the threshold, for scores that lack the offset."""
        cdef double floor = self.candidates.admission_threshold(query) - offset
        if floor == query.pass_floor and level == query.pass_level:
            return
        query.pass_floor, query.pass_level = floor, level
        query.pass_threshold = farann_pass_threshold_at(&query.scan, &self.coded.codes.scan_bounds, floor,
                                                  self.batch.sign, level == HIGH_NIBBLES)

    cdef farann_scan_codes *scan_function(self, bint single, bint high) noexcept nogil:
        cdef const farann_kernels *kernels = self.batch.kernels
        if high:
            return kernels.scan_high_one_i4 if single else kernels.scan_high_i4
        return kernels.scan_codes_one_i8 if single else kernels.scan_codes_i8

    cdef void count_products(self, int64_t n, int64_t groups, int64_t blocks) noexcept nogil:
        """Count the work of n rough scores by codes of `groups` groups."""
        self.batch.code_products += n * groups * FARANN_CODE_GROUP
        self.batch.blocks += blocks

    cdef int64_t code_bytes_of_row(self, bint high) noexcept nogil:
        """Bytes that a scan reads of a row."""
        cdef int64_t n = self.coded.codes.panels.shape[1]
        if not high and self.coded.codes.scanned.low_nibbles != NULL:
            n *= 2
        return n if self.coded.codes.scanned.squares == NULL else n + <int64_t>sizeof(float)

    cdef bint high_nibbles_first(self, Query *query) noexcept nogil:
        """Whether to read the high nibbles of codes first: not before there is a threshold."""
        if not self.high_first or query.threshold == -INFINITY:
            return False
        if query.pause > 0:
            query.pause -= 1
            return False
        return True

    cdef void judge_high_nibbles(self, Query *query, int64_t passed, int64_t n) noexcept nogil:
        if uses(NIBBLE_JUDGE) and passed * max(FEW_PASS, FEW_PASS_DIMS // self.coded.codes.dim) > n:
            query.next_pause = min(2 * query.next_pause + 1, LONGEST_PAUSE)
            query.pause = query.next_pause

    cdef void refine(self, int64_t count, int64_t start, const uint32_t *codes) noexcept nogil:
        """Score again, by the whole codes, what a tile's scan has left.

        `codes` are those of a single query; NULL: all members have some of their own.
        """
        cdef farann_coded_tile tile
        cdef farann_pass_thresholds thresholds
        cdef farann_pass_threshold threshold
        cdef int64_t i, n
        cdef Query *query
        tile.bars, thresholds.sign = &thresholds, self.pass_thresholds.sign
        for i in range(count):
            query = &self.batch.queries[self.candidates.members[i]]
            n = self.candidates.tile[i].count - query.candidates.count
            if n == 0:
                continue
            self.batch.refined += n
            self.batch.bytes_read += n * self.coded.codes.groups * FARANN_CODE_GROUP
            threshold = farann_pass_threshold_at(&query.whole, &self.coded.codes.bounds,
                                           self.candidates.admission_threshold(query),
                                           self.batch.sign, False)
            farann_pass_thresholds_set(&thresholds, 0, &threshold)
            tile.codes = codes
            if codes == NULL:
                tile.codes = self.coded.whole_codes(self.candidates.members[i])
            self.batch.kernels.rerank_codes_i8(&self.coded.codes.refined, start, &tile,
                                               &self.candidates.tile[i], query.candidates.count)

    cdef farann_block coded_block(self, int64_t start) noexcept nogil:
        cdef farann_block block
        block.first, block.positions, block.ids = start, NULL, self.batch.snapshot.ids_by_slot
        block.slots, block.end = NULL, self.coded.codes.n_rows
        if self.coded.codes.slots is not None:
            block.slots = &self.coded.codes.slots[start]
        return block

    cdef void set_whole_thresholds(self, int64_t count) noexcept nogil:
        """Bars for whole codes, of a tile whose queries are the first `count` of the members."""
        cdef int64_t i
        cdef farann_pass_threshold threshold
        cdef const Query *query
        for i in range(self.coded.code_width):
            threshold = self.nothing_passes
            if i < count:
                query = &self.batch.queries[self.candidates.members[i]]
                self.candidates.tile[i] = query.candidates
                if query.coded and not query.by_keys:
                    threshold = farann_pass_threshold_at(&query.whole, &self.coded.codes.bounds,
                                                   self.candidates.admission_threshold(query),
                                                   self.batch.sign, False)
            farann_pass_thresholds_set(&self.pass_thresholds, i, &threshold)
