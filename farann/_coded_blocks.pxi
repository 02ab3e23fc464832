# One block of coded rows: scanned for tiles of queries, scored again. Part of _core.pyx.

cdef class CodedBlocks(KeyRows):
    """Scans blocks of codes, of their upper halves or along a basis, and refines what passes."""

    cdef void scan_codes(self, int64_t start, int64_t n) noexcept nogil:
        """Score rows at some positions by their 8-bit codes, a tile of queries at a time."""
        cdef int64_t first = 0, count, i, width = self.code_width
        self.take_block(start, n, (self.n_queries + width - 1) // width)
        while first < self.n_queries and not self.stopped():
            count = min(width, self.n_queries - first)
            for i in range(count):
                self.members[i] = first + i
            self.scan_code_tile(self.tile_of(first), width, count, start, n)
            first += width

    cdef void scan_for_members(self, int64_t width, int64_t count, int64_t start,
                               int64_t n) noexcept nogil:
        """Scan the block for a tile of any queries, the first `count` of `self.members`."""
        cdef const uint32_t *codes = self.tile_codes
        if width == 1:
            codes = self.single_codes(self.members[0])
        else:
            self.snapshot.kernels.gather_codes(self.codes_of, self.members, count,
                                               self.codes.scanned.groups, self.tile_codes)
        self.scan_code_tile(codes, width, count, start, n)

    cdef void take_block(self, int64_t start, int64_t n, int64_t n_tiles) noexcept nogil:
        """Make rows at some positions those that are scanned, by so many tiles."""
        cdef const farann_coded_rows *rows = &self.codes.scanned
        cdef int64_t panel = start // FARANN_CODE_PANEL
        cdef int64_t at = panel * FARANN_CODE_PANEL * self.codes.panels.shape[1]
        self.block = rows[0]
        self.block.weights += panel
        if rows.unknown != NULL:
            self.block.unknown += panel
        if rows.squares != NULL:
            self.block.squares += start
        self.block.panels += at
        self.take_mean(start)
        if rows.lower == NULL:
            return
        if n_tiles > self.snapshot.kernels.few_tiles and self.joined != NULL:
            self.snapshot.kernels.join_codes_i8(rows, start, n, self.joined)
            self.block.panels, self.block.lower = self.joined, NULL
        else:
            self.block.lower += at

    cdef void take_mean(self, int64_t position) noexcept nogil:
        """Make the mean of a position's cell that of the block."""
        if self.mean != NULL:
            self.mean_unit = self.snapshot.cells.write_mean(position, self.mean)

    cdef int64_t of_one_mean(self, int64_t start, int64_t n) noexcept nogil:
        """How many of n rows from a position on were coded relative to the same mean."""
        cdef int64_t begun
        if self.mean == NULL:
            return n
        begun = self.snapshot.cells.begun(start)
        if begun > self.snapshot.cells.n_cells:
            return n
        return min(n, self.snapshot.cells.starts[begun] - start)

    cdef double offset_of(self, int64_t i) noexcept nogil:
        """What the mean adds to scores of the block for query i."""
        return self.mean_unit * self.queries[i].scan.unit * farann_code_product(
            self.single_codes(i), self.mean, self.codes.groups)

    cdef void add_offsets(self, int64_t count) noexcept nogil:
        """Add what means do to scores that the scan of a tile appended."""
        cdef farann_candidates *list
        cdef int64_t i, j
        for i in range(count):
            list = &self.candidates[i]
            for j in range(self.queries[self.members[i]].candidates.count, list.count):
                list.scores[j] = <float>(list.scores[j] + self.offsets[i])

    @cython.final
    cdef void scan_code_tile(self, const uint32_t *codes, int64_t width, int64_t count,
                             int64_t start, int64_t n) noexcept nogil:
        """Scan the block for one tile, whose queries are the first `count` of `self.members`."""
        cdef farann_block block = self.coded_block(start)
        cdef int64_t i, n_coded = 0, n_rows = min(n, self.codes.n_filled - start)
        cdef bint single = width == 1
        cdef bint upper = self.codes.upper_alone or (
            single and self.upper_first(&self.queries[self.members[0]]))
        cdef farann_coded_tile tile
        cdef double offset = 0.0
        cdef Query *query
        for i in range(count):
            query = &self.queries[self.members[i]]
            self.candidates[i] = query.candidates
            if query.by_keys:
                farann_code_bars_set(&self.bars, i, &self.no_bar)
                continue
            n_coded += query.coded
            if self.mean_unit != 0.0:
                offset = self.offsets[i] = self.offset_of(self.members[i])
            self.raise_bar(query, UPPER_HALVES if upper else WHOLE_CODES, offset)
            farann_code_bars_set(&self.bars, i, &query.bar)
        for i in range(count, width):
            farann_code_bars_set(&self.bars, i, &self.no_bar)
        if n_coded == 0:
            return
        tile.codes, tile.bars, tile.ahead = codes, &self.bars, &self.ahead
        self.scan_function(single, upper)(&self.block, 0, n, &tile, self.candidates)
        if self.keys_follow and not single and start >= max(FEWEST_JUDGED, 16 * self.k):
            self.give_up_codes_of(count, start, n_rows)
        if self.mean_unit != 0.0:
            self.add_offsets(count)
        self.scanned += n_rows * n_coded
        self.count_products(n * width, self.codes.scanned.groups, count)
        self.bytes_read += n_rows * n_coded * self.code_bytes_of_row(upper)
        if self.filter.alive != NULL and (
                self.codes.has_basis or (upper and not self.codes.upper_alone)):
            # To see whether a row is allowed costs less than to fetch its other codes.
            for i in range(count):
                query = &self.queries[self.members[i]]
                farann_candidates_drop(&self.candidates[i], query.candidates.count, &block,
                                       &query.filter)
        if self.codes.has_basis:
            self.refine(count, start, NULL)
        elif upper and not self.codes.upper_alone:
            query = &self.queries[self.members[0]]
            self.judge_upper(query, self.candidates[0].count - query.candidates.count, n)
            self.defer(query, start)
            self.refine(1, start, codes)
            if query.deferred.count > DEFERRED:
                self.admit_tile(count, &block)
                self.refine_deferred(self.members[0], codes)
                return
        self.admit_tile(count, &block)

    @cython.final
    cdef void give_up_codes_of(self, int64_t count, int64_t start, int64_t n) noexcept nogil:
        """Drop what passed for queries of a tile if it is too much; these get keys instead."""
        cdef int64_t i, passed
        cdef Query *query
        for i in range(count):
            query = &self.queries[self.members[i]]
            passed = self.candidates[i].count - query.candidates.count
            if passed > 0 and self.judge_rough(query, passed, start, n):
                self.alike += passed
                self.candidates[i].count = query.candidates.count

    @cython.final
    cdef void raise_bar(self, Query *query, int level, double offset) noexcept nogil:
        """Make the bar that of the threshold, for scores that lack the offset."""
        cdef double floor = self.wanted(query) - offset
        if floor == query.bar_floor and level == query.bar_level:
            return
        query.bar_floor, query.bar_level = floor, level
        query.bar = farann_code_bar_at(&query.scan, &self.codes.scan_bounds, floor, self.sign,
                                       level == UPPER_HALVES)

    @cython.final
    cdef farann_scan_codes *scan_function(self, bint single, bint upper) noexcept nogil:
        cdef const farann_kernels *kernels = self.snapshot.kernels
        if upper:
            return kernels.scan_upper_one_i4 if single else kernels.scan_upper_i4
        return kernels.scan_codes_one_i8 if single else kernels.scan_codes_i8

    @cython.final
    cdef void count_products(self, int64_t n, int64_t groups, int64_t blocks) noexcept nogil:
        """Note n rough scores by codes of so many groups."""
        self.code_products += n * groups * FARANN_CODE_GROUP
        self.blocks += blocks

    @cython.final
    cdef int64_t code_bytes_of_row(self, bint upper) noexcept nogil:
        """Bytes that a scan reads of a row."""
        cdef int64_t n = self.codes.panels.shape[1]
        if not upper and self.codes.scanned.lower != NULL:
            n *= 2
        return n if self.codes.scanned.squares == NULL else n + <int64_t>sizeof(float)

    cdef bint upper_first(self, Query *query) noexcept nogil:
        """Whether to read the upper halves of codes first: not before there is a threshold.

        Nor for a query that is alone only for once, which has no room for rows to put off.
        """
        if query.deferred.slots == NULL or query.threshold == -INFINITY:
            return False
        if query.pause > 0:
            query.pause -= 1
            return False
        return True

    cdef void judge_upper(self, Query *query, int64_t passed, int64_t n) noexcept nogil:
        if passed * FEW_PASS > n:
            query.next_pause = min(2 * query.next_pause + 1, LONGEST_PAUSE)
            query.pause = query.next_pause

    cdef void defer(self, Query *query, int64_t start) noexcept nogil:
        """Put off rows that passed, but by the middle of what they may be are no answer yet.

        In the end, when the threshold is as good as it gets, fewer of them are worth a look.
        """
        cdef farann_candidates *passed = &self.candidates[0]
        cdef farann_candidates *deferred = &query.deferred
        cdef const farann_coded_rows *rows = &self.codes.scanned
        cdef int64_t i, position, panel, kept = query.candidates.count
        cdef double floor = self.wanted(query)
        cdef float score, square = 0.0
        for i in range(kept, passed.count):
            position = start + passed.slots[i]
            panel = position // FARANN_CODE_PANEL
            if rows.squares != NULL:
                square = <float>self.sign * rows.squares[position]
            score = farann_code_score(&query.bar, passed.scores[i], rows.weights[panel], square)
            if score >= floor:
                passed.slots[kept], passed.scores[kept] = passed.slots[i], passed.scores[i]
                kept += 1
                continue
            deferred.slots[deferred.count] = position
            deferred.scores[deferred.count] = passed.scores[i]
            deferred.count += 1
        passed.count = kept

    cdef void refine_all_deferred(self) noexcept nogil:
        cdef int64_t i
        for i in range(self.n_queries):
            if self.stopped():
                return
            if self.queries[i].deferred.count:
                self.refine_deferred(i, self.single_codes(i))

    @cython.final
    cdef const uint32_t *single_codes(self, int64_t i) noexcept nogil:
        """The codes of query i side by side."""
        return self.codes_of + i * self.codes.scanned.groups

    cdef void refine_deferred(self, int64_t i, const uint32_t *codes) noexcept nogil:
        """Score those rows that were put off and may still belong to the answer."""
        cdef Query *query = &self.queries[i]
        cdef farann_candidates *deferred = &query.deferred
        cdef farann_candidates *passed = &self.candidates[0]
        cdef farann_block block = self.coded_block(0)
        cdef int64_t j = 0
        cdef farann_code_bar bar
        while j < deferred.count:
            self.candidates[0], self.members[0] = query.candidates, i
            bar = farann_code_bar_at(&query.whole, &self.codes.bounds, self.wanted(query),
                                     self.sign, True)
            while j < deferred.count and passed.count < query.candidates.count + FIRST_BLOCK:
                if farann_code_passes(&bar, &self.codes.scanned, deferred.slots[j],
                                      deferred.scores[j]):
                    passed.slots[passed.count] = deferred.slots[j]
                    passed.scores[passed.count] = deferred.scores[j]
                    passed.count += 1
                j += 1
            self.refine(1, 0, codes)
            self.admit_tile(1, &block)
        deferred.count = 0

    cdef void refine(self, int64_t count, int64_t start, const uint32_t *codes) noexcept nogil:
        """Score again, by the whole codes, what a tile's scan has left.

        `codes` are those of a single query; NULL: all members have some of their own.
        """
        cdef farann_coded_tile tile
        cdef farann_code_bars bars
        cdef farann_code_bar bar
        cdef int64_t i, n
        cdef Query *query
        tile.bars, bars.sign = &bars, self.bars.sign
        for i in range(count):
            query = &self.queries[self.members[i]]
            n = self.candidates[i].count - query.candidates.count
            if n == 0:
                continue
            self.refined += n
            self.bytes_read += n * self.codes.groups * FARANN_CODE_GROUP
            bar = farann_code_bar_at(&query.whole, &self.codes.bounds, self.wanted(query),
                                     self.sign, False)
            farann_code_bars_set(&bars, 0, &bar)
            tile.codes = codes
            if codes == NULL:
                tile.codes = self.whole_queries + self.members[i] * self.codes.groups
            self.snapshot.kernels.refine_codes_i8(
                &self.codes.refined, start, &tile, &self.candidates[i], query.candidates.count)

    @cython.final
    cdef farann_block coded_block(self, int64_t start) noexcept nogil:
        cdef farann_block block
        block.first, block.positions, block.ids = start, NULL, self.snapshot.ids_by_slot
        block.slots, block.end = NULL, self.codes.n_rows
        if self.codes.slots is not None:
            block.slots = &self.codes.slots[start]
        return block
