# The search: every row is scored, in blocks. Part of _core.pyx.

cdef class Task(Selection):
    """Some queries of a search: `run` answers them."""

    def run(self):
        """Find the answers; the GIL is released meanwhile."""
        cdef int s
        with nogil:
            if self.codes is not None:
                self.score_uncoded()
                self.scan_all_codes()
                self.refine_all_deferred()
            for s in range(2):
                if s > 0 or self.codes is None:
                    self.scan(&self.filter.segments[s])
            self.finish()
        if self.out_of_memory:
            raise MemoryError("no memory for the rows that were found; ask for fewer")

    cdef void scan(self, const Segment *segment) noexcept nogil:
        """Score all rows block by block, and keep what may belong to an answer.

        The first blocks are small, so that there is a threshold soon.
        """
        cdef int64_t start = 0, n, i, ramp = FIRST_BLOCK
        while start < segment.count:
            n = min(min(self.block_rows, ramp), segment.count - start)
            self.scanned += n * self.n_queries
            self.bytes_read += n * self.n_queries * self.snapshot.dim * sizeof(float)
            if self.mode == PACKED:
                self.scan_packed(segment, start, n)
            else:
                for i in range(self.n_queries):
                    if self.mode == EXACT:
                        self.score_exact(&self.queries[i], segment, start, n)
                    else:
                        self.scan_as_they_lie(i, segment, start, n)
            ramp = min(2 * ramp, self.block_rows)
            start += n

    cdef void scan_all_codes(self) noexcept nogil:
        """Score all coded rows, as `scan` does."""
        cdef int64_t start = self.scan_first_rows(self.codes.n_positions), n
        cdef int64_t ramp = max(start, FIRST_BLOCK)
        while start < self.codes.n_positions:
            n = min(min(self.code_rows, ramp), self.codes.n_positions - start)
            self.keep_active(start)
            if self.n_active == self.n_queries:
                self.scan_codes(start, n)
            elif self.n_active:
                self.scan_for_active(start, n)
            else:
                break
            ramp = min(2 * ramp, self.code_rows)
            start += n

    cdef int64_t scan_first_rows(self, int64_t most) noexcept nogil:
        """Score some rows, up to `most`, that set the threshold; gives how many."""
        cdef int64_t first = 0, count, i, width = self.code_width
        cdef int64_t n = self.to_be_scored(most)
        cdef farann_coded_tile tile
        cdef Query *query
        if self.codes.has_basis:
            return self.scan_hubs(most)
        if n == 0:
            return 0
        self.take_block(0, n, (self.n_queries + width - 1) // width)
        tile.bars = &self.bars
        while first < self.n_queries:
            count = min(width, self.n_queries - first)
            for i in range(count):
                query = &self.queries[first + i]
                self.members[i] = first + i
                self.raise_bar(query, WHOLE_CODES)
                farann_code_bars_set(&self.bars, i, &query.bar)
            tile.codes = self.code_queries + first * self.codes.scanned.groups
            self.scanned += n * self.score_tile(&self.block, &tile, count, n)
            first += width
        self.bytes_read += self.scanned * self.code_bytes_of_row(False)
        return n

    cdef int64_t to_be_scored(self, int64_t most) noexcept nogil:
        """How many first rows, of up to `most`, to score all of."""
        cdef int64_t n = min(self.n_scored, most)
        return n - n % FARANN_SCORE_GROUPS if n >= LEAST_SCORED else 0

    cdef int64_t score_tile(self, const farann_coded_rows *rows, const farann_coded_tile *tile,
                            int64_t count, int64_t n) noexcept nogil:
        """Score the first n rows for a tile, and admit the best; gives how many queries do.

        A threshold that is good from the start spares most rows the way through the lists.
        """
        cdef farann_block block = self.coded_block(0)
        cdef int64_t i, n_coded = 0
        cdef const float *scores
        cdef float floor
        cdef Query *query
        self.snapshot.kernels.score_codes_i8(rows, n, tile, self.scores)
        for i in range(count):
            query = &self.queries[self.members[i]]
            self.candidates[i] = query.candidates
            if not query.coded:
                continue
            n_coded += 1
            scores = self.scores + i * n
            floor = farann_best_scores_at_least(&query.best, scores, n)
            query.best.count = 0  # the rows are going to be admitted
            floor = nextafterf(<float>(floor - 2.0 * query.slack), -INFINITY)
            self.snapshot.kernels.select_f32(scores, n, floor, &self.candidates[i])
        self.admit_tile(count, &block)
        return n_coded

    cdef int64_t scan_hubs(self, int64_t most) noexcept nogil:
        """With a basis: score the first rows, up to `most`, by whole codes; gives how many.

        A first look would let most of them pass.
        """
        cdef int64_t first = 0, count, i, g, width = self.code_width, groups = self.codes.groups
        cdef int64_t n_rows = min(self.codes.n_hubs, most), start, n, n_coded
        cdef int64_t n_scored = self.to_be_scored(n_rows)
        cdef farann_coded_tile tile
        cdef farann_code_bar bar
        cdef farann_block block
        cdef Query *query
        tile.codes, tile.bars = self.hub_queries, &self.bars
        while n_rows and first < self.n_queries:
            count, n_coded = min(width, self.n_queries - first), 0
            for i in range(count):
                self.members[i] = first + i
                n_coded += self.queries[first + i].coded
                for g in range(groups):
                    self.hub_queries[g * width + i] = self.whole_queries[(first + i) * groups + g]
            start = 0
            while start < n_rows:
                n = min(max(start, FIRST_BLOCK), n_rows - start)
                if start == 0 and n_scored:
                    n = n_scored
                for i in range(width):
                    bar = self.no_bar
                    if i < count:
                        query = &self.queries[first + i]
                        self.candidates[i] = query.candidates
                        if query.coded:
                            bar = farann_code_bar_at(&query.whole, &self.codes.bounds,
                                                     self.wanted(query), self.sign, False)
                    farann_code_bars_set(&self.bars, i, &bar)
                if start == 0 and n_scored:
                    self.score_tile(&self.codes.hubs, &tile, count, n)
                else:
                    self.scan_function(width == 1, False)(&self.codes.hubs, start, n, &tile,
                                                          self.candidates)
                    block = self.coded_block(start)
                    self.admit_tile(count, &block)
                start += n
            n = min(n_rows, self.codes.n_filled)
            self.scanned += n * n_coded
            self.bytes_read += n * n_coded * (
                groups * FARANN_CODE_GROUP + (sizeof(float) if self.codes.hubs.squares else 0))
            first += width
        return n_rows

    cdef void scan_as_they_lie(self, int64_t i, const Segment *segment, int64_t start,
                               int64_t n) noexcept nogil:
        """Few queries: what bounds the speed is reading the rows."""
        cdef const farann_kernels *kernels = self.snapshot.kernels
        cdef Query *query = &self.queries[i]
        cdef farann_block block = self.block_of(segment, start)
        cdef int64_t before = query.candidates.count, j
        cdef float norms[2]
        cdef double slack
        kernels.score_rows_f32(
            self.rows_at(segment, start), block.positions, n, self.snapshot.dim,
            &self.snapshot.padded_centre[0], self.weights + i * padded(self.snapshot.dim),
            self.packing.unit, self.packing.bias_sign, self.bias, norms)
        slack = farann_query_slack_as_lies(&query.prepared, self.packing.unit, norms[0], norms[1])
        if slack < 0.0:
            self.score_exact(query, segment, start, n)
            return
        if self.packing.unit:
            # As they lie unit rows are not centred: what the centre takes off is a constant.
            for j in range(n):
                self.bias[j] += <float>query.prepared.key_offset
        kernels.select_f32(self.bias, n, self.threshold_for(query, slack), &query.candidates)
        self.admit(query, before, &block)

    cdef void scan_packed(self, const Segment *segment, int64_t start, int64_t n) noexcept nogil:
        """Many queries: rows are packed once for all of them."""
        cdef farann_block block = self.block_of(segment, start)
        cdef int64_t tile
        cdef double squares = self.snapshot.kernels.pack_rows_f32(
            self.rows_at(segment, start), block.positions, n, self.snapshot.dim,
            &self.snapshot.centre[0], self.packing.unit, self.packing.bias_sign, self.panels,
            self.bias)
        for tile in range(self.n_tiles):
            self.scan_tile(tile, segment, start, n, squares)

    cdef void scan_tile(self, int64_t tile, const Segment *segment, int64_t start, int64_t n,
                        double squares) noexcept nogil:
        cdef const farann_kernels *kernels = self.snapshot.kernels
        cdef int64_t width = kernels.tile_queries, first = tile * width, i
        cdef int64_t count = min(width, self.n_queries - first)
        cdef farann_block block = self.block_of(segment, start)
        cdef double slack
        cdef bint any_packed = False
        cdef Query *query
        for i in range(width):
            self.thresholds[i] = INFINITY
        for i in range(count):
            query = &self.queries[first + i]
            self.members[i] = first + i
            self.candidates[i] = query.candidates
            slack = farann_query_slack(&query.prepared, squares)
            if slack < 0.0:
                self.score_exact(query, segment, start, n)
                continue
            any_packed = True
            self.thresholds[i] = self.threshold_for(query, slack)
        if not any_packed:
            return
        kernels.scan_panels_f32(self.panels, n, self.snapshot.dim, self.bias,
                                self.weights + first * self.snapshot.dim, self.thresholds,
                                self.candidates)
        self.admit_tile(count, &block)

    cdef void scan_codes(self, int64_t start, int64_t n) noexcept nogil:
        """Score rows at some positions by their 8-bit codes, a tile of queries at a time."""
        cdef int64_t first = 0, count, i, width = self.code_width
        self.take_block(start, n, (self.n_queries + width - 1) // width)
        while first < self.n_queries:
            count = min(width, self.n_queries - first)
            for i in range(count):
                self.members[i] = first + i
            self.scan_code_tile(self.code_queries + first * self.codes.scanned.groups, width,
                                count, start, n)
            first += width

    cdef void keep_active(self, int64_t start) noexcept nogil:
        """Where rows lie by length: forget the queries that no row from a position on can answer."""
        cdef int64_t i, kept = 0
        cdef double reach, most
        cdef const Query *query
        # What is nearest under l2 may have any length.
        if self.codes.reach is None or (self.sign < 0.0 and self.codes.scanned.squares != NULL):
            return
        reach = self.codes.reach[start // FARANN_CODE_PANEL]
        for i in range(self.n_active):
            query = &self.queries[self.active[i]]
            most = query.prepared.weight_norm * reach
            if self.codes.scanned.squares != NULL:
                most += reach * reach
            self.active[kept] = self.active[i]
            kept += query.coded and (
                most * BOUND_UP + query.whole.slack >= self.wanted(query))
        self.n_active = kept

    cdef void scan_for_active(self, int64_t start, int64_t n) noexcept nogil:
        """Scan rows for some of the queries."""
        cdef int64_t at = 0, count, i, width = self.code_width
        self.take_block(start, n, (self.n_active + width - 1) // width)
        while at < self.n_active:
            if self.n_active - at < FEW_VISITORS:
                width = 1
            count = min(width, self.n_active - at)
            for i in range(count):
                self.members[i] = self.active[at + i]
            self.scan_for_members(width, count, start, n)
            at += count

    cdef void scan_for_members(self, int64_t width, int64_t count, int64_t start,
                               int64_t n) noexcept nogil:
        """Scan the block for a tile of any queries, the first `count` of `self.members`."""
        cdef int64_t groups = self.codes.scanned.groups, i, g, member
        cdef const uint32_t *codes
        for i in range(count):
            member = self.members[i]
            codes = self.codes_of + member * groups
            for g in range(groups):
                self.tile_codes[g * width + i] = codes[g]
        self.scan_code_tile(self.tile_codes, width, count, start, n)

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
        if rows.lower == NULL:
            return
        if n_tiles > FEW_TILES and self.joined != NULL:
            self.snapshot.kernels.join_codes_i8(rows, start, n, self.joined)
            self.block.panels, self.block.lower = self.joined, NULL
        else:
            self.block.lower += at

    cdef void scan_code_tile(self, const uint32_t *codes, int64_t width, int64_t count,
                             int64_t start, int64_t n) noexcept nogil:
        """Scan the block for one tile, whose queries are the first `count` of `self.members`."""
        cdef farann_block block = self.coded_block(start)
        cdef int64_t i, n_coded = 0, n_rows = min(n, self.codes.n_filled - start)
        cdef bint single = width == 1
        cdef bint upper = self.codes.upper_alone or (
            single and self.upper_first(&self.queries[self.members[0]]))
        cdef farann_coded_tile tile
        cdef Query *query
        for i in range(count):
            query = &self.queries[self.members[i]]
            self.candidates[i] = query.candidates
            n_coded += query.coded
            self.raise_bar(query, UPPER_HALVES if upper else WHOLE_CODES)
            farann_code_bars_set(&self.bars, i, &query.bar)
        for i in range(count, width):
            farann_code_bars_set(&self.bars, i, &self.no_bar)
        if n_coded == 0:
            return
        tile.codes, tile.bars = codes, &self.bars
        self.scan_function(single, upper)(&self.block, 0, n, &tile, self.candidates)
        self.scanned += n_rows * n_coded
        self.bytes_read += n_rows * n_coded * self.code_bytes_of_row(upper)
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

    cdef void raise_bar(self, Query *query, int level) noexcept nogil:
        """Make the bar that of the threshold."""
        if query.threshold == query.bar_floor and level == query.bar_level:
            return
        query.bar_floor, query.bar_level = query.threshold, level
        query.bar = farann_code_bar_at(&query.scan, &self.codes.scan_bounds, self.wanted(query),
                                       self.sign, level == UPPER_HALVES)

    cdef farann_scan_codes *scan_function(self, bint single, bint upper) noexcept nogil:
        cdef const farann_kernels *kernels = self.snapshot.kernels
        if upper:
            return kernels.scan_upper_one_i4 if single else kernels.scan_upper_i4
        return kernels.scan_codes_one_i8 if single else kernels.scan_codes_i8

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
            if self.queries[i].deferred.count:
                self.refine_deferred(i, self.single_codes(i))

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

    cdef void score_uncoded(self) noexcept nogil:
        """First of all the canonical keys of rows without codes, and for queries without them."""
        cdef const Segment *rows = &self.snapshot.segments[0]
        cdef int64_t i, start, n
        for i in range(self.n_queries):
            if self.queries[i].coded:
                self.queries[i].slack = self.queries[i].whole.off
                self.score_outliers(&self.queries[i])
                continue
            self.scanned += rows.count
            if not self.snapshot.vectors:
                self.score_outliers(&self.queries[i])
                self.score_decoded(&self.queries[i])
                continue
            start = 0
            while start < rows.count:
                n = min(self.block_rows, rows.count - start)
                self.score_exact(&self.queries[i], rows, start, n)
                self.bytes_read += n * self.snapshot.dim * sizeof(float)
                start += n

    cdef void score_outliers(self, Query *query) noexcept nogil:
        """Offer the canonical keys of the rows that have no codes."""
        cdef Segment rows = self.snapshot.segments[0]
        cdef farann_block block
        cdef const int64_t *positions = NULL
        cdef int64_t start = 0, n
        rows.count = self.codes.outliers.shape[0]
        self.rescored += rows.count
        self.bytes_read += rows.count * self.snapshot.dim * sizeof(float)
        while start < rows.count:
            n = min(self.block_rows, rows.count - start)
            rows.positions = &self.codes.outliers[0]
            block = self.block_of(&rows, start)
            if self.snapshot.vectors:
                positions = rows.positions + start
            else:
                # The outliers are all that there is of the base.
                rows.positions = NULL
            self.snapshot.kernels.keys_f64[<int>self.snapshot.metric](
                self.rows_at(&rows, start), positions, n, self.snapshot.dim,
                self.exact_query(query), self.keys)
            self.offer(query, n, &block, &query.filter)
            start += n

    cdef void score_decoded(self, Query *query) noexcept nogil:
        """Offer all coded rows, for a query that can't be coded itself, without vectors."""
        cdef farann_block block
        cdef int64_t start = 0, position, slot, n
        farann_query_weights(self.snapshot.metric, self.sign, self.exact_query(query),
                             self.snapshot.dim, &self.snapshot.centre[0], query.prepared.query_norm, self.turned)
        self.snapshot.kernels.rotate_f64(self.turned, self.snapshot.dim, &self.codes.turns[0, 0],
                                         FARANN_ROTATION_ROUNDS)
        block.first, block.positions, block.slots = 0, self.positions, NULL
        block.ids, block.end = self.snapshot.ids_by_slot, self.snapshot.n_slots
        while start < self.codes.n_positions:
            n = 0
            for position in range(start, start + FARANN_CODE_PANEL):
                slot = position if self.codes.slots is None else self.codes.slots[position]
                if 0 <= slot < self.codes.n_rows:
                    self.positions[n] = slot
                    self.keys[n] = rough_key(&query.prepared, self.sign,
                                             decoded_score(
                        &self.codes.scanned, self.codes.dim, self.turned, self.sign, position))
                    n += 1
            self.offer(query, n, &block, &query.filter)
            start += FARANN_CODE_PANEL

    cdef farann_block coded_block(self, int64_t start) noexcept nogil:
        cdef farann_block block
        block.first, block.positions, block.ids = start, NULL, self.snapshot.ids_by_slot
        block.slots, block.end = NULL, self.codes.n_rows
        if self.codes.slots is not None:
            block.slots = &self.codes.slots[start]
        return block


def score_slots(Snapshot snapshot, const float[:, ::1] queries, const int64_t[::1] slots,
                float[:, ::1] scores, int64_t start, int64_t stop):
    """Write the scores of `slots` for queries start .. stop to the same rows of `scores`."""
    cdef int64_t i, j, n, first, at, n_slots = slots.shape[0]
    cdef int64_t positions[SCORES_AT_ONCE]
    cdef double keys[SCORES_AT_ONCE]
    cdef const Segment *segment
    cdef Task task
    if n_slots == 0 or stop <= start:
        return
    for j in range(n_slots):
        if not 0 <= slots[j] < snapshot.n_slots or (
                not snapshot.vectors and slots[j] < snapshot.segments[0].count):
            raise ValueError("slots must be slots of the snapshot, of rows with vectors")
    # Only the queries are wanted of it: with no rows to search, it takes little memory.
    task = Task(snapshot, Filter(snapshot, slots=np.empty(0, np.int64)), queries, start, stop, 1,
                False)
    with nogil:
        at = 0
        while at < n_slots:
            segment = &snapshot.segments[slots[at] >= snapshot.segments[1].first]
            n = 0
            while n < SCORES_AT_ONCE and at + n < n_slots:
                positions[n] = slots[at + n] - segment.first
                if not 0 <= positions[n] < segment.count:
                    break
                n += 1
            for i in range(stop - start):
                snapshot.kernels.keys_f64[<int>snapshot.metric](
                    segment.rows, positions, n, snapshot.dim,
                    task.exact_query(&task.queries[i]), keys)
                for j in range(n):
                    scores[start + i, at + j] = <float>farann_score(
                        snapshot.metric, keys[j], task.queries[i].prepared.query_norm)
            at += n
