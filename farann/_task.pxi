# The search: every row is scored, in blocks. Part of _core.pyx.

cdef class Task(AddedRows):
    """Some queries of a search: `run` answers them."""

    def run(self):
        """Find the answers; the GIL is released meanwhile."""
        cdef int64_t coded = 0
        cdef uint64_t before
        cdef bint added
        with nogil:
            before = farann_arithmetic_begin()
            if self.codes is None:
                self.scan(&self.filter.segments[0])
            else:
                self.snapshot.kernels.begin()
                self.score_uncoded()
                self.scan_seeds()
                coded = self.scan_all_codes()
                self.refine_all_deferred()
                self.snapshot.kernels.end()
                if coded < self.codes.n_positions and not self.stopped():
                    self.scan_without_codes(coded)
            added = self.has_added(coded)
            if not added:
                self.scan(&self.filter.segments[1])
                self.finish()
            farann_arithmetic_end(before)
        if added:
            self.search_added()
        self.check_cancelled()
        if self.out_of_memory:
            raise MemoryError("no memory for the rows that were found; ask for fewer")


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
