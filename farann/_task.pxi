# The search: every row is scored, in blocks. Part of _core.pyx.

cdef class Task(AddedRows):
    """Some queries of a search: `run` answers them."""

    cdef readonly bint gave_up  # codes, as they rule out too little
    cdef bint lacks_tail        # whose codes take the place of the others

    def run(self):
        """Find the answers; the GIL is released meanwhile."""
        cdef uint64_t before
        with nogil:
            before = farann_arithmetic_begin()
            self.answer()
            farann_arithmetic_end(before)
        if self.lacks_tail:
            self.search_added()
        self.check_finished()

    cdef check_finished(self):
        self.check_cancelled()
        if self.out_of_memory:
            raise MemoryError(self.what_lacked_memory())

    cdef str what_lacked_memory(self):
        return "no memory for the rows that were found; ask for fewer"

    cdef void answer(self) noexcept nogil:
        """Find the answers, between the calls that begin and end arithmetic."""
        cdef int64_t coded = 0
        if self.codes is not None:
            self.snapshot.kernels.begin()
            if self.first == 0:
                self.score_uncoded()
                self.scan_seeds()
            coded = self.scan_all_codes()
            self.refine_all_deferred()
            self.snapshot.kernels.end()
            self.gave_up = coded < self.codes.n_positions
            if self.gave_up and self.end == INT64_MAX and not self.stopped():
                self.scan_without_codes(coded)
        else:
            self.scan_segment(0)
        self.answer_from_tail(coded)

    cdef void answer_from_tail(self, int64_t coded) noexcept nogil:
        """Settle the answers with the rows of the tail, unless these have codes."""
        self.lacks_tail = self.has_added(coded)
        if not self.lacks_tail:
            self.scan_segment(1)
            self.finish()

    def n_in_line(self):
        """Rows to search, in a line: positions of codes or the first segment, then the second."""
        return self.n_before_tail() + self.filter.segments[1].count

    cdef int64_t n_before_tail(self) noexcept nogil:
        return self.filter.segments[0].count if self.codes is None else self.codes.n_positions

    def search_only(self, int64_t first, int64_t end, Task leader=None):
        """Search only some rows of the line, in whole panels of codes.

        The leader has searched its first ones, and there is a threshold. What has no place in the
        line belongs to the first rows. If codes rule out too little, the leader stops, and
        `gave_up` is true.
        """
        cdef int64_t i
        if not 0 <= first <= end or first % FARANN_CODE_PANEL or end % FARANN_CODE_PANEL or (
                (first > 0) != (leader is not None)):
            raise ValueError("parts of the line must be whole panels, and all but the first have "
                             "a leader")
        self.first, self.end = first, end
        if leader is None:
            return
        if leader.n_queries != self.n_queries or leader.snapshot is not self.snapshot:
            raise ValueError("a leader must have searched for the same queries")
        for i in range(self.n_queries):
            self.queries[i].threshold = leader.queries[i].threshold
            if self.queries[i].coded:
                self.queries[i].slack = self.queries[i].whole.off

    cdef void scan_segment(self, int s) noexcept nogil:
        """Score what the task has to search of a segment, in float32 or by canonical keys."""
        cdef const Segment *segment = &self.filter.segments[s]
        cdef int64_t before = self.n_before_tail() if s == 1 else 0
        self.scan(segment, max(self.first - before, 0), min(self.end - before, segment.count))

    cdef void begin_again(self, const float *given) noexcept nogil:
        """Forget the one query of this task, and prepare another in its place."""
        cdef Query *query = &self.queries[0]
        query.given, self.exact_of = given, NULL
        query.threshold, query.expected, query.bar_floor = -INFINITY, -INFINITY, NAN
        query.slack, query.pause, query.next_pause, query.by_keys = 0.0, 0, 0, False
        query.box_pause, query.next_box_pause, query.keys_end = 0, 0, False
        query.candidates.count = query.best.count = query.found.count = query.deferred.count = 0
        query.filter.met, query.filter.n_met = NULL, 0
        self.n_active, self.mean_unit, self.out_of_memory, self.n_seen = 1, 0.0, False, 0
        self.scanned = self.refined = self.rescored = self.bytes_read = 0
        self.code_products = self.float_products = self.blocks = self.passed = 0
        self.alike = self.n_near = 0
        self.judged, self.cost_judged, self.share_judged = 0, 0.0, 0.0
        self.prepare(0)


def write_best(list tasks, float[:, ::1] scores, int64_t[:, ::1] ids):
    """Write what tasks found for the same queries in different rows, or in some of the same."""
    cdef Task task, first = tasks[0]
    cdef int64_t i, j, n, room = 0, k = scores.shape[1]
    cdef farann_topk all
    cdef farann_topk *found
    cdef uint64_t before
    for task in tasks:
        room += task.k
    all.entries = <farann_entry *>farann_alloc(room * sizeof(farann_entry), False)
    if all.entries == NULL:
        raise MemoryError(f"a search needs {room * sizeof(farann_entry):,} bytes of scratch memory")
    before = farann_arithmetic_begin()
    for i in range(first.n_queries):
        n = 0
        for task in tasks:
            found = &task.queries[i].found
            for j in range(found.count):
                all.entries[n + j] = found.entries[j]
            n += found.count
        farann_entries_sort(all.entries, n, &NEVER)
        found = &first.queries[i].found
        found.count = 0
        for j in range(n):
            # A row has the same key wherever it was found, so that it lies beside itself.
            if found.count < first.k and (j == 0 or all.entries[j].id != all.entries[j - 1].id):
                found.entries[found.count] = all.entries[j]
                found.count += 1
        first.write_answer(&first.queries[i], &scores[i, 0], &ids[i, 0], k)
    farann_arithmetic_end(before)
    free(all.entries)


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
