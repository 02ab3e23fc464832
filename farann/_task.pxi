# The search: every row is scored, in blocks. Part of _core.pyx.

cdef class Task(SeededRows):
    """Some queries of a search: `run` answers them."""

    def run(self):
        """Find the answers; the GIL is released meanwhile."""
        cdef int s
        cdef int64_t coded
        cdef uint64_t before
        with nogil:
            before = farann_arithmetic_begin()
            if self.codes is not None:
                self.snapshot.kernels.begin()
                self.score_uncoded()
                self.scan_seeds()
                coded = self.scan_all_codes()
                self.refine_all_deferred()
                self.snapshot.kernels.end()
                if coded < self.codes.n_positions and not self.stopped():
                    self.scan_without_codes(coded)
            for s in range(2):
                if s > 0 or self.codes is None:
                    self.scan(&self.filter.segments[s])
            self.finish()
            farann_arithmetic_end(before)
        self.check_cancelled()
        if self.out_of_memory:
            raise MemoryError("no memory for the rows that were found; ask for fewer")

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
        self.scan(&rest)

    cdef void scan(self, const Segment *segment) noexcept nogil:
        """Score all rows block by block, and keep what may belong to an answer.

        The first blocks are small, so that there is a threshold soon.
        """
        cdef int64_t start = 0, n, i, ramp = FIRST_BLOCK, stale = 0
        while start < segment.count and not self.stopped():
            if start >= stale:
                stale = self.raise_thresholds(start)
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
        cdef int64_t tile
        cdef double squares = self.snapshot.kernels.pack_rows_f32(
            self.rows_at(segment, start), block.positions, n, self.snapshot.dim,
            &self.snapshot.centre[0], self.packing.unit, self.packing.bias_sign, self.panels,
            self.bias)
        for tile in range(self.n_tiles):
            if self.stopped():
                return
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
        self.float_products += n * width * self.snapshot.dim
        self.blocks += count
        self.admit_tile(count, &block)


def score_slots(Snapshot snapshot, const float[:, ::1] queries, const int64_t[::1] slots,
                float[:, ::1] scores, int64_t start, int64_t stop, CancelFlag flag=None):
    """Write the scores of `slots` for queries start .. stop to the same rows of `scores`."""
    cdef int64_t i, j, n, first, at, n_slots = slots.shape[0]
    cdef int64_t positions[SCORES_AT_ONCE]
    cdef double keys[SCORES_AT_ONCE]
    cdef const Segment *segment
    cdef uint64_t before
    cdef Task task
    if n_slots == 0 or stop <= start:
        return
    for j in range(n_slots):
        if not 0 <= slots[j] < snapshot.n_slots or (
                not snapshot.vectors and slots[j] < snapshot.segments[0].count):
            raise ValueError("slots must be slots of the snapshot, of rows with vectors")
    # Only the queries are wanted of it: with no rows to search, it takes little memory.
    task = Task(snapshot, Filter(snapshot, slots=np.empty(0, np.int64)), queries, start, stop, 1,
                False, flag=flag)
    with nogil:
        before = farann_arithmetic_begin()
        at = 0
        while at < n_slots and not task.stopped():
            segment = &snapshot.segments[slots[at] >= snapshot.segments[1].first]
            n = 0
            while n < SCORES_AT_ONCE and at + n < n_slots:
                positions[n] = slots[at + n] - segment.first
                if not 0 <= positions[n] < segment.count:
                    break
                n += 1
            for i in range(stop - start):
                if task.stopped():
                    break
                snapshot.kernels.keys_f64[<int>snapshot.metric](
                    segment.rows, positions, n, snapshot.dim,
                    task.exact_query(&task.queries[i]), keys)
                for j in range(n):
                    scores[start + i, at + j] = <float>farann_score(
                        snapshot.metric, keys[j], task.queries[i].prepared.query_norm)
            at += n
        farann_arithmetic_end(before)
    task.check_cancelled()
