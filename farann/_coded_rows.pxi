# All coded rows: which come first, which queries need the next. Part of _core.pyx.

# Codes are given up if what passes will cost so many times what they save.
cdef double SURELY = 1.5


cdef class CodedRows(CodedBlocks):
    """Scores all coded rows of a snapshot, block by block, and those without codes."""

    cdef int64_t first, end  # of the rows to search, where these aren't all
    cdef bint by_reach  # whether rows lie by it, and it tells of what is asked
    cdef uint8_t *whole_panels  # with a basis: whole codes of a block; NULL: there is a first look
    cdef float *whole_weights   # of these panels

    def __cinit__(self):
        self.first, self.end = 0, INT64_MAX

    cdef allocate_codes(self):
        CodedBlocks.allocate_codes(self)
        self.see_reach()

    cdef void see_reach(self) noexcept nogil:
        # What is nearest under l2 may have any length.
        self.by_reach = self.codes.reach is not None and (
            self.sign > 0.0 or self.snapshot.metric != FARANN_L2)

    cdef int64_t scan_all_codes(self) noexcept nogil:
        """Score all coded rows, as `scan` does; gives the position from which codes don't pay."""
        cdef int64_t end = min(self.end, self.codes.n_positions), start = self.first, n
        cdef int64_t ramp, stale = 0, refined
        if start == 0:
            start = self.scan_first_rows(end)
        ramp = max(min(start, self.code_rows), FIRST_BLOCK)
        # A first look lets many pass by itself, and of rows in cells as many as k may be answers.
        self.keys_follow = not self.codes.has_basis and self.k <= FEW_BEST
        while start < end and not self.stopped():
            if start >= stale:
                stale = self.raise_thresholds(start)
                # Later rows have the judgment of the first.
                if self.first == 0 and start >= max(FEWEST_JUDGED, 16 * self.k) and (
                        self.will_cost_too_much(start, self.codes.n_positions - start)):
                    self.end_keys()
                    return start
            n = self.of_one_mean(start, min(min(self.code_rows, ramp), end - start))
            self.keep_active(start)
            refined = self.refined
            if self.n_active == 0:
                break
            elif self.whole_panels != NULL and self.pack_whole(start, n):
                self.scan_whole(start, n)
            elif self.n_active == self.n_queries:
                self.scan_codes(start, n)
            else:
                self.scan_for_active(start, n)
            self.judge_look(self.refined - refined, n)
            self.scan_keys_at(start, n, False)
            ramp = min(2 * ramp, self.code_rows)
            start += n
        self.end_keys()
        return self.codes.n_positions

    cdef void judge_look(self, int64_t refined, int64_t n) noexcept nogil:
        """If a first look at n rows let so many pass that whole codes cost less, look no more."""
        if (self.codes.has_basis and self.whole_panels == NULL and self.code_width > 1
                and n == self.code_rows
                and refined * self.cost_refined > SURELY * n * self.n_active * self.cost_whole):
            self.whole_panels = <uint8_t *>self.allocated(
                n, self.codes.groups * FARANN_CODE_GROUP + sizeof(float), False)
            self.whole_weights = <float *>(
                self.whole_panels + n * self.codes.groups * FARANN_CODE_GROUP)

    cdef bint pack_whole(self, int64_t start, int64_t n) noexcept nogil:
        """Put whole codes of n rows into panels; False: these must have one weight, and don't."""
        cdef const float *weights = self.codes.refined.weights + start
        cdef int64_t i, groups = self.codes.groups
        for i in range(n):
            if weights[i] != weights[i - i % FARANN_CODE_PANEL]:
                return False
            self.whole_weights[i // FARANN_CODE_PANEL] = weights[i]
            self.positions[i] = i
        farann_pack_codes(self.codes.refined.whole + start * groups * FARANN_CODE_GROUP,
                          self.positions, n, groups, False, self.whole_panels, NULL)
        return True

    cdef void scan_whole(self, int64_t start, int64_t n) noexcept nogil:
        """Scan the whole codes that `pack_whole` has laid out for the queries that are active."""
        cdef int64_t at = 0, count, i, width = self.code_width, groups = self.codes.groups
        cdef int64_t n_coded
        cdef farann_coded_rows rows = self.codes.refined
        cdef farann_block block = self.coded_block(start)
        cdef farann_coded_tile tile
        rows.panels, rows.weights, rows.whole = self.whole_panels, self.whole_weights, NULL
        if rows.squares != NULL:
            rows.squares += start
        tile.bars, tile.ahead, tile.codes = &self.bars, NULL, self.hub_queries
        while at < self.n_active and not self.stopped():
            count, n_coded = min(width, self.n_active - at), 0
            for i in range(count):
                self.members[i] = self.active[at + i]
                n_coded += self.queries[self.members[i]].coded
            self.snapshot.kernels.gather_codes(self.whole_queries, self.members, count, groups,
                                               self.hub_queries)
            self.set_whole_bars(count)
            self.snapshot.kernels.scan_codes_i8(&rows, 0, n, &tile, self.candidates)
            self.count_products(n * width, groups, count)
            self.scanned += min(n, self.codes.n_filled - start) * n_coded
            self.bytes_read += n * n_coded * groups * FARANN_CODE_GROUP
            self.admit_tile(count, &block)
            at += count

    cdef void set_whole_bars(self, int64_t count) noexcept nogil:
        """Bars for whole codes, of a tile whose queries are the first `count` of `self.members`."""
        cdef int64_t i
        cdef farann_code_bar bar
        cdef const Query *query
        for i in range(self.code_width):
            bar = self.no_bar
            if i < count:
                query = &self.queries[self.members[i]]
                self.candidates[i] = query.candidates
                if query.coded and not query.by_keys:
                    bar = farann_code_bar_at(&query.whole, &self.codes.bounds,
                                             self.wanted(query), self.sign, False)
            farann_code_bars_set(&self.bars, i, &bar)

    cdef bint will_cost_too_much(self, int64_t start, int64_t left) noexcept nogil:
        """Whether rows that codes let pass of those that are left will cost more than codes save.

        Of the first 16 k rows some 6 k pass in any case, until there is a good threshold, and later
        about k each time as many rows again were scanned. Where codes serve, those that pass beside
        these become as rare; where they don't, as many pass of rows that come later.
        """
        cdef int64_t n = start - self.judged, usual = self.k
        cdef double saved = left
        cdef double cost = self.cost_so_far(), share, falls = 0.5, expected = 0.0
        if self.judged == 0:
            # Where rows lie by reach the first pass, whatever the rest does.
            usual = start if self.by_reach else 6 * self.k + ALWAYS_PASS
        share = ((cost - self.cost_judged) / self.n_queries
                 - usual * (self.cost_passed + self.cost_rescored)) / n
        if self.share_judged > 0.0:
            falls = min(max(share / self.share_judged, falls), 1.0)
        self.share_judged = share if self.judged else 0.0
        self.judged, self.cost_judged = start, cost
        if share <= 0.0 or not self.all_look_on():
            return False
        n = start
        while left > 0:
            share *= falls
            expected += share * min(n, left)
            left -= n
            n *= 2
        return expected > SURELY * saved

    cdef bint all_look_on(self) noexcept nogil:
        """Whether all queries have codes, and rows in reach: of others all is known."""
        cdef int64_t i
        for i in range(self.n_queries):
            if not self.queries[i].coded:
                return False
        return self.n_active == self.n_queries

    cdef double cost_so_far(self) noexcept nogil:
        """What rows that codes did not rule out have cost, see `Queries`."""
        return ((self.passed + self.alike) * self.cost_passed + self.refined * self.cost_refined
                + (self.rescored + self.alike) * self.cost_rescored)

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
        tile.bars, self.takes_alike = &self.bars, True
        while first < self.n_queries and not self.stopped():
            count = min(width, self.n_queries - first)
            for i in range(count):
                query = &self.queries[first + i]
                self.members[i] = first + i
                self.raise_bar(query, WHOLE_CODES, 0.0)
                farann_code_bars_set(&self.bars, i, &query.bar)
            tile.codes = self.tile_of(first)
            self.scanned += n * self.score_tile(&self.block, &tile, count, n)
            first += width
        self.bytes_read += self.scanned * self.code_bytes_of_row(False)
        self.scan_keys_at(0, n, True)
        self.takes_alike = False
        for i in range(self.n_queries):
            # Keys have set a threshold: the next rows show whether codes will do.
            self.queries[i].by_keys = False
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
        cdef int64_t i, n_coded = 0, before
        cdef const float *scores
        cdef Query *query
        self.snapshot.kernels.score_codes_i8(rows, n, tile, self.scores)
        self.count_products(n * self.code_width, self.codes.groups, count)
        for i in range(count):
            query = &self.queries[self.members[i]]
            if not query.coded:
                continue
            n_coded += 1
            scores = self.scores + i * n
            if query.expected == -INFINITY:
                self.admit_best(query, scores, n, &block)
                continue
            before = query.candidates.count
            self.snapshot.kernels.select_f32(scores, n, self.threshold_for(query, 0.0),
                                             &query.candidates)
            self.admit(query, before, &block)
        return n_coded

    cdef int64_t scan_hubs(self, int64_t most) noexcept nogil:
        """With a basis: score the first rows, up to `most`, by whole codes; gives how many.

        A first look would let most of them pass.
        """
        cdef int64_t first = 0, count, i, width = self.code_width, groups = self.codes.groups
        cdef int64_t n_rows = min(self.codes.n_hubs, most), start, n, n_coded
        cdef int64_t n_scored = self.to_be_scored(n_rows)
        cdef farann_coded_tile tile
        cdef farann_block block
        tile.bars, tile.ahead = &self.bars, NULL
        while n_rows and first < self.n_queries and not self.stopped():
            count, n_coded = min(width, self.n_queries - first), 0
            for i in range(count):
                self.members[i] = first + i
                n_coded += self.queries[first + i].coded
            tile.codes = self.whole_queries + first * groups
            if width > 1:
                tile.codes = self.hub_queries
                self.snapshot.kernels.gather_codes(self.whole_queries, self.members, count, groups,
                                                   self.hub_queries)
            start = 0
            while start < n_rows:
                n = min(max(start, FIRST_BLOCK), n_rows - start)
                if start == 0 and n_scored:
                    n = n_scored
                self.set_whole_bars(count)
                if start == 0 and n_scored:
                    self.score_tile(&self.codes.hubs, &tile, count, n)
                else:
                    self.scan_function(width == 1, False)(&self.codes.hubs, start, n, &tile,
                                                          self.candidates)
                    self.count_products(n * width, groups, count)
                    block = self.coded_block(start)
                    self.admit_tile(count, &block)
                start += n
            n = min(n_rows, self.codes.n_filled)
            self.scanned += n * n_coded
            self.bytes_read += n * n_coded * (
                groups * FARANN_CODE_GROUP + (sizeof(float) if self.codes.hubs.squares else 0))
            first += width
        return n_rows

    cdef void keep_active(self, int64_t start) noexcept nogil:
        """Where rows lie by reach: forget the queries that no row from a position on can answer."""
        cdef int64_t i, kept = 0, panel = start // FARANN_CODE_PANEL
        cdef const Query *query
        if not self.by_reach:
            return
        for i in range(self.n_active):
            query = &self.queries[self.active[i]]
            self.active[kept] = self.active[i]
            kept += query.coded and (
                self.most_from(panel, query) + query.whole.slack >= self.wanted(query))
        self.n_active = kept

    cdef double most_from(self, int64_t panel, const Query *query) noexcept nogil:
        """The reduced key that rows from a panel on have at most."""
        cdef double reach = self.codes.reach[panel], along
        cdef double length = query.prepared.weight_norm
        if self.snapshot.metric == FARANN_L2:
            return (length * reach + reach * reach) * BOUND_UP
        if self.codes.lead is None:
            return length * reach * BOUND_UP
        # Backwards rows may lie as far as any does.
        along = query.along * (self.codes.reach_along[panel] if query.along > 0.0
                               else -self.codes.bounds.norm)
        reach *= query.across
        return along + reach + (BOUND_UP - 1.0) * (fabs(along) + reach)

    cdef void scan_for_active(self, int64_t start, int64_t n) noexcept nogil:
        """Scan rows for some of the queries."""
        cdef int64_t at = 0, count, i, width = self.code_width
        self.take_block(start, n, (self.n_active + width - 1) // width)
        while at < self.n_active and not self.stopped():
            if self.n_active - at < FEW_VISITORS:
                width = 1
            count = min(width, self.n_active - at)
            for i in range(count):
                self.members[i] = self.active[at + i]
            self.scan_for_members(width, count, start, n)
            at += count

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
            while start < rows.count and not self.stopped():
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
        while start < rows.count and not self.stopped():
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
        cdef double offset
        farann_query_weights(self.snapshot.metric, self.sign, self.exact_query(query),
                             self.snapshot.dim, &self.snapshot.centre[0],
                             query.prepared.query_norm, self.turned)
        farann_turn_weights(self.snapshot.kernels, &self.codes.turn.given, self.snapshot.dim,
                            self.turned, self.turned + padded(self.snapshot.dim))
        block.first, block.positions, block.slots = 0, self.positions, NULL
        block.ids, block.end = self.snapshot.ids_by_slot, self.snapshot.n_slots
        while start < self.codes.n_positions and not self.stopped():
            n = 0
            self.take_mean(start)
            offset = 0.0
            if self.mean_unit != 0.0:
                offset = mean_score(self.mean, self.mean_unit, self.codes.dim, self.turned)
            for position in range(start, start + FARANN_CODE_PANEL):
                slot = position if self.codes.slots is None else self.codes.slots[position]
                if 0 <= slot < self.codes.n_rows:
                    self.positions[n] = slot
                    self.keys[n] = rough_key(&query.prepared, self.sign,
                                             decoded_score(
                        &self.codes.scanned, self.codes.dim, self.turned, self.sign, position)
                                             + offset)
                    n += 1
            self.offer(query, n, &block, &query.filter)
            start += FARANN_CODE_PANEL
