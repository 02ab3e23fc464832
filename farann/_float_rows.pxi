# Rows in float32: where they have no codes, or codes rule out too little. Part of _core.pyx.

cdef class FloatRows(SeededRows):
    """Scores float32 rows in blocks, as they lie or packed."""

    cdef void scan_without_codes(self, int64_t start) noexcept nogil:
        """Score the rows at all positions from `start` on in float32, in the order of slots."""
        cdef Segment rest = self.snapshot.segments[0]
        cdef const int32_t[::1] of_positions = self.codes.slots
        cdef int64_t *slots = NULL
        cdef uint8_t *done = NULL
        cdef int64_t i
        if of_positions is None:
            rest.first, rest.count = start, self.codes.n_rows - start
            rest.rows += start * self.snapshot.dim
        else:
            slots = <int64_t *>self.allocated(self.codes.n_rows, sizeof(int64_t) + 1, True)
            if slots == NULL:
                self.out_of_memory = True
                return
            done = <uint8_t *>(slots + self.codes.n_rows)
            for i in range(start):
                if of_positions[i] >= 0:
                    done[of_positions[i]] = 1
            for i in range(self.codes.outliers.shape[0]):
                done[self.codes.outliers[i]] = 1
            rest.count, rest.positions = 0, slots
            for i in range(self.codes.n_rows):
                slots[rest.count] = i
                rest.count += not done[i]
        self.n_seen = start
        self.scan_after_codes(&rest)

    cdef void scan_after_codes(self, const Segment *rest) noexcept nogil:
        """Score rows that codes were given up for."""
        if not self.scans_rows:
            self.weights = <float *>self.allocated(self.n_weights(), sizeof(float), True)
            if self.weights == NULL:
                self.out_of_memory = True
                return
            self.scans_rows = True
            for i in range(self.n_queries):
                self.weigh(i)
        for i in range(self.n_queries):
            # Rough scores by codes are further off; what is left of them gets keys.
            self.rescore_best(&self.queries[i])
            self.rescore(&self.queries[i], 0)
            self.queries[i].best.count, self.queries[i].slack = 0, 0.0
            self.queries[i].by_keys = False
        self.scan(rest, 0, rest.count)

    cdef void scan(self, const Segment *segment, int64_t start, int64_t end) noexcept nogil:
        """Score rows block by block, and keep what may belong to an answer.

        The first blocks are small, so that there is a threshold soon.
        """
        cdef int64_t n, i, ramp = FIRST_BLOCK, stale = 0, passed
        while start < end and not self.stopped():
            if start >= stale:
                stale = self.raise_thresholds(start)
            n = min(min(self.block_rows, ramp), end - start)
            self.count_scanned(n, self.n_queries)
            if self.mode == PACKED:
                self.scan_packed(segment, start, n)
            else:
                for i in range(self.n_queries):
                    if self.mode == EXACT:
                        self.score_exact(&self.queries[i], segment, start, n)
                    elif self.queries[i].by_keys:
                        self.n_keyed = 0
                        self.take_keys(i)
                        self.count_scanned(-n, self.scan_keys(segment, start, n))
                    else:
                        passed = self.passed
                        self.scan_as_they_lie(i, segment, start, n)
                        self.judge_rough(&self.queries[i], self.passed - passed,
                                         self.n_seen + start, n)
            self.settle_keys()
            ramp = min(2 * ramp, self.block_rows)
            start += n
        self.n_seen += start

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
        self.float_products += n * self.snapshot.dim
        self.blocks += 1
        kernels.select_f32(self.bias, n, self.threshold_for(query, slack), &query.candidates)
        self.admit(query, before, &block)

    cdef void scan_packed(self, const Segment *segment, int64_t start, int64_t n) noexcept nogil:
        """Many queries: rows are packed once for all of them."""
        cdef farann_block block = self.block_of(segment, start)
        cdef int64_t tile, i, n_keyed = 0
        cdef double squares
        for i in range(self.n_queries):
            n_keyed += self.queries[i].by_keys
        self.n_keyed = 0
        if n_keyed < self.n_queries:
            squares = self.snapshot.kernels.pack_rows_f32(
                self.rows_at(segment, start), block.positions, n, self.snapshot.dim,
                &self.snapshot.centre[0], self.packing.unit, self.packing.bias_sign, self.panels,
                self.bias)
            for tile in range(self.n_tiles):
                if self.stopped():
                    return
                self.scan_tile(tile, segment, start, n, squares)
        else:
            for i in range(self.n_queries):
                self.take_keys(i)
        self.count_scanned(-n, self.scan_keys(segment, start, n))

    cdef void scan_tile(self, int64_t tile, const Segment *segment, int64_t start, int64_t n,
                        double squares) noexcept nogil:
        cdef const farann_kernels *kernels = self.snapshot.kernels
        cdef int64_t width = kernels.tile_queries, first = tile * width, i, passed
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
            if query.by_keys or (slack < 0.0 and self.keys_decide(query) and self.allocate_keys()):
                self.take_keys(first + i)
                continue
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
        self.float_products += n * width * self.snapshot.dim
        self.blocks += count
        for i in range(count):
            query = &self.queries[first + i]
            passed = self.candidates[i].count - query.candidates.count
            if passed > 0 and self.judge_rough(query, passed, self.n_seen + start, n):
                self.candidates[i].count = query.candidates.count
                self.take_keys(first + i)
        self.admit_tile(count, &block)
