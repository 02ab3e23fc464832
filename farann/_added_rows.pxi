# Rows added since the last build. Part of _core.pyx.

cdef class AddedRows(FloatRows):
    """Scores the rows of the tail: most have codes, the others are scanned in float32."""

    cdef const int64_t[::1] stops  # before which positions scans of runs end
    cdef bint has_stops            # or they are scanned whole
    cdef bint stops_early          # whether they do, for the queries there are
    cdef bint looked_first         # at the base

    cdef take_stops(self, Snapshot snapshot, const int64_t[::1] stops):
        cdef int64_t run
        if stops is None or snapshot.added is None:
            return
        if stops.shape[0] != snapshot.runs.shape[0]:
            raise ValueError("there must be a stop for each run")
        for run in range(stops.shape[0]):
            if stops[run] % FARANN_CODE_PANEL or not (
                    snapshot.runs[run, 0] <= stops[run] <= snapshot.runs[run, 1]):
                raise ValueError("stops must be positions of whole panels of their runs")
        self.stops, self.has_stops = stops, True

    cdef bint has_added(self, int64_t coded) noexcept nogil:
        """Whether the tail has codes that pay, as those of the base did up to position `coded`."""
        return (self.codes is not None and self.snapshot.added is not None
                and coded == self.codes.n_positions and not self.stopped())

    cdef search_added(self):
        """Score the tail by its codes, and settle the answers."""
        cdef uint64_t before
        self.codes, self.looked_first = self.snapshot.added, self.looks_first
        with nogil:
            before = farann_arithmetic_begin()
            self.stops_early = self.has_stops and self.all_found()
            self.take_added_codes()
            self.snapshot.kernels.begin()
            self.scan_added_codes()
            self.refine_all_deferred()
            self.snapshot.kernels.end()
            self.scan(&self.snapshot.uncoded, 0, self.snapshot.uncoded.count)
            self.finish()
            farann_arithmetic_end(before)

    cdef search_base(self):
        """Take the codes of the base again."""
        self.codes, self.looks_first = self.snapshot.codes, self.looked_first
        self.see_reach()

    cdef bint all_found(self) noexcept nogil:
        """Whether all queries have found k rows: others need what there is."""
        cdef int64_t i
        cdef const Query *query
        for i in range(self.n_queries):
            query = &self.queries[i]
            if query.found.count + query.candidates.count < self.k:
                return False
        return True

    cdef int64_t stop_of(self, int64_t run) noexcept nogil:
        return self.stops[run] if self.stops_early else self.snapshot.runs[run, 1]

    cdef void take_added_codes(self) noexcept nogil:
        """Code the queries anew: what holds for the rows of the tail is another thing."""
        cdef int64_t i
        cdef Query *query
        self.looks_first = self.codes.has_basis
        self.see_reach()
        # Where it tells nothing of the base, it tells nothing of the tail.
        self.by_reach &= self.snapshot.codes.reach is not None
        for i in range(self.n_queries):
            if self.stopped():
                return
            query = &self.queries[i]
            query.bar_floor, query.filter.n_met = NAN, 0  # what was met is in the base
            self.weigh(i)
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
        cdef int64_t run, start, stop, n
        rows.positions = self.positions
        for run in range(self.snapshot.runs.shape[0]):
            start, stop = self.snapshot.runs[run, 0], self.snapshot.runs[run, 1]
            while start < stop and not self.stopped():
                n = self.added_at(start, min(start + self.block_rows, stop), self.positions)
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

    cdef void scan_added_codes(self) noexcept nogil:
        """Score the coded rows, run by run, up to where codes don't pay, if they don't."""
        cdef int64_t run, start, stop, n, ramp = FIRST_BLOCK, done = 0, stale = 0
        self.judged, self.share_judged, self.cost_judged = 0, 0.0, self.cost_so_far()
        for run in range(self.snapshot.runs.shape[0]):
            start, stop = self.snapshot.runs[run, 0], self.stop_of(run)
            self.all_active()
            if self.by_reach:
                ramp = FIRST_BLOCK
            while start < stop and not self.stopped():
                if done >= stale:
                    stale = self.raise_thresholds(done)
                    if done >= max(FEWEST_JUDGED, 16 * self.k) and (
                            self.will_cost_too_much(done, self.codes.n_filled - done)):
                        self.scan_added_without_codes(run, start)
                        return
                n = min(min(self.code_rows, ramp), stop - start)
                self.keep_active(start)
                if self.n_active == self.n_queries:
                    self.scan_codes(start, n)
                elif self.n_active:
                    self.scan_for_active(start, n)
                else:
                    break
                ramp = min(2 * ramp, self.code_rows)
                start += n
                done += n

    cdef void all_active(self) noexcept nogil:
        cdef int64_t i
        self.n_active = self.n_queries
        for i in range(self.n_queries):
            self.active[i] = i

    cdef void scan_added_without_codes(self, int64_t run, int64_t start) noexcept nogil:
        """Score the rows from a position of a run on in float32."""
        cdef Segment rest = self.snapshot.segments[1]
        cdef int64_t *rows = <int64_t *>self.allocated(rest.count, sizeof(int64_t), False)
        if rows == NULL:
            self.out_of_memory = True
            return
        self.refine_all_deferred()
        rest.positions, rest.count = rows, 0
        while run < self.snapshot.runs.shape[0]:
            rest.count += self.added_at(start, self.stop_of(run), rows + rest.count)
            run += 1
            if run < self.snapshot.runs.shape[0]:
                start = self.snapshot.runs[run, 0]
        self.scan_after_codes(&rest)
