# Rows added since the last build. Part of _core.pyx.

cdef class AddedRows(FloatRows):
    """Scores the rows of the tail: most have codes, the others are scanned in float32."""

    cdef bint has_added(self, int64_t coded) noexcept nogil:
        """Whether the tail has codes that pay, as those of the base did up to position `coded`."""
        return (self.codes is not None and self.snapshot.added is not None
                and coded == self.codes.n_positions and not self.stopped())

    cdef search_added(self):
        """Score the tail by its codes, and settle the answers."""
        cdef uint64_t before
        cdef int64_t coded
        self.codes = self.snapshot.added
        with nogil:
            before = farann_arithmetic_begin()
            self.take_added_codes()
            self.snapshot.kernels.begin()
            coded = self.scan_added_codes()
            self.refine_all_deferred()
            self.snapshot.kernels.end()
            if coded < self.codes.n_positions and not self.stopped():
                self.scan_added_without_codes(coded)
            self.scan(&self.snapshot.uncoded)
            self.finish()
            farann_arithmetic_end(before)

    cdef void take_added_codes(self) noexcept nogil:
        """Code the queries anew: what holds for the rows of the tail is another thing."""
        cdef int64_t i
        cdef Query *query
        self.looks_first = self.codes.has_basis
        for i in range(self.n_queries):
            if self.stopped():
                return
            query = &self.queries[i]
            query.bar_floor = NAN
            self.encode(i)
            query.coded = query.whole.unit >= 0.0
            if query.coded:
                query.slack = max(query.slack, query.whole.off)
            else:
                self.score_added(query)
        if self.code_width > 1:
            self.make_tiles()

    cdef void score_added(self, Query *query) noexcept nogil:
        """Offer the canonical keys of rows with codes, for a query without."""
        cdef Segment rows = self.snapshot.segments[1]
        cdef int64_t start = 0, n
        rows.positions = self.positions
        while start < self.codes.n_positions and not self.stopped():
            n = self.added_at(start, min(start + self.block_rows, self.codes.n_positions),
                              self.positions)
            self.score_exact(query, &rows, 0, n)
            self.scanned += n
            self.bytes_read += n * self.snapshot.dim * sizeof(float)
            start += self.block_rows

    cdef int64_t added_at(self, int64_t start, int64_t stop, int64_t *rows) noexcept nogil:
        """Write which rows of the tail have the positions start .. stop; gives how many."""
        cdef int64_t i, n = 0
        for i in range(start, stop):
            if self.codes.slots[i] >= 0:
                rows[n] = self.codes.slots[i] - self.snapshot.segments[1].first
                n += 1
        return n

    cdef int64_t scan_added_codes(self) noexcept nogil:
        """Score the coded rows; gives the position from which codes don't pay."""
        cdef int64_t start = 0, n, ramp = FIRST_BLOCK, judged = 0
        cdef double cost = self.cost_so_far()
        cdef bint by_reach = self.codes.reach is not None and (
            self.sign > 0.0 or self.snapshot.metric != FARANN_L2)
        while start < self.codes.n_positions and not self.stopped():
            if start >= 2 * judged and start >= max(FEWEST_JUDGED, 16 * self.k):
                if self.costs_too_much(self.cost_so_far() - cost, start - judged):
                    return start
                judged, cost = start, self.cost_so_far()
            n = min(min(self.code_rows, ramp), self.codes.n_positions - start)
            if by_reach:
                n = min(n, FIRST_BLOCK)
                self.keep_in_reach(start, n)
            else:
                self.n_active = self.n_queries
            if self.n_active == self.n_queries:
                self.scan_codes(start, n)
            elif self.n_active:
                self.scan_for_active(start, n)
            ramp = min(2 * ramp, self.code_rows)
            start += n
        return self.codes.n_positions

    cdef void keep_in_reach(self, int64_t start, int64_t n) noexcept nogil:
        """Find the queries that rows at some positions can answer.

        Rows are by reach in parts only, as they came in.
        """
        cdef int64_t i, panel = start // FARANN_CODE_PANEL
        cdef int64_t end = panel + (n + FARANN_CODE_PANEL - 1) // FARANN_CODE_PANEL
        cdef double reach = 0.0, along = -INFINITY
        cdef const Query *query
        for i in range(panel, end):
            reach = max(reach, self.codes.reach[i])
            if self.codes.lead is not None:
                along = max(along, self.codes.reach_along[i])
        self.n_active = 0
        for i in range(self.n_queries):
            query = &self.queries[i]
            self.active[self.n_active] = i
            self.n_active += query.coded and (
                self.most_within(reach, along, query) + query.whole.slack >= self.wanted(query))

    cdef void scan_added_without_codes(self, int64_t start) noexcept nogil:
        """Score the rows at all positions from `start` on in float32."""
        cdef Segment rest = self.snapshot.segments[1]
        cdef int64_t *rows = <int64_t *>self.allocated(
            self.codes.n_positions - start, sizeof(int64_t), False)
        if rows == NULL:
            self.out_of_memory = True
            return
        rest.count = self.added_at(start, self.codes.n_positions, rows)
        rest.positions = rows
        self.scan_after_codes(&rest)
