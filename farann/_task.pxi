# The search: some queries of a batch, and the scratch memory to answer them. Part of _core.pyx.

cdef struct Query:
    farann_query prepared
    farann_filter filter
    farann_candidates candidates
    farann_topk found
    const double *exact
    double threshold  # a reduced key that every row of the answer reaches
    double slack      # largest of the blocks so far
    double code_slack  # of scores by codes; negative: they can't be used
    double radius


cdef void *aligned(void *memory) noexcept nogil:
    cdef uintptr_t address = <uintptr_t>memory
    return <void *>((address + ALIGNMENT - 1) // ALIGNMENT * ALIGNMENT)


cdef class Task:
    """Some queries of a search, with the scratch memory to answer them."""

    cdef Snapshot snapshot
    cdef Filter filter
    cdef int64_t n_queries, k, n_tiles, block_rows, code_rows, capacity
    cdef double sign
    cdef bint beyond, out_of_memory
    cdef int mode
    cdef farann_packing packing
    cdef Query *queries
    cdef void *memory[10]
    cdef int n_memory
    cdef double *exact
    cdef double *keys
    cdef float *weights
    cdef float *panels
    cdef float *bias
    cdef float *thresholds
    cdef int64_t *positions
    cdef farann_candidates *candidates  # of one tile
    cdef Codes codes  # None where the codes are of no use
    cdef int64_t code_width  # queries of a tile of codes
    cdef uint32_t *code_queries
    cdef float *code_steps
    cdef readonly int64_t rescored

    def __cinit__(self):
        self.n_memory = 0
        self.queries = NULL

    def __dealloc__(self):
        cdef int64_t i
        if self.beyond and self.queries != NULL:
            for i in range(self.n_queries):
                free(self.queries[i].found.entries)
        for i in range(self.n_memory):
            free(self.memory[i])

    cdef void *allocate(self, int64_t count, int64_t size) except NULL:
        """Zeroed memory that goes with the task."""
        cdef void *memory = NULL
        if count <= (1 << 46) // size:
            memory = calloc(1, count * size + ALIGNMENT)
        if memory == NULL:
            raise MemoryError(f"a search needs {count * size:,} bytes of scratch memory")
        self.memory[self.n_memory] = memory
        self.n_memory += 1
        return aligned(memory)

    def __init__(self, Snapshot snapshot, Filter filter, const float[:, ::1] queries,
                 int64_t start, int64_t stop, int64_t k, bint nearest, radius=None):
        cdef int64_t i, tile, width, dim = snapshot.dim, exact_dim = padded(snapshot.dim)
        cdef const farann_kernels *kernels = snapshot.kernels
        cdef farann_entry *entries = NULL
        cdef float *scores = NULL
        cdef int64_t *slots = NULL
        cdef Query *query
        self.snapshot, self.filter = snapshot, filter
        self.n_queries, self.k = stop - start, max(min(k, filter.n_rows), 1)
        self.sign = -1.0 if nearest else 1.0
        self.beyond = radius is not None
        self.mode = PACKED if self.n_queries >= FEW_QUERIES else AS_THEY_LIE
        if filter.n_rows <= FEW_ROWS:
            self.mode = EXACT
        self.packing = farann_packing_of(snapshot.metric, self.sign)

        self.block_rows = rows_in_cache(4 * dim)
        self.code_rows = rows_in_cache(dim)
        tile = kernels.tile_queries
        self.n_tiles = (self.n_queries + tile - 1) // tile if self.mode == PACKED else 0
        self.capacity = (0 if self.beyond else 2 * self.k) + CANDIDATE_ROOM

        cdef int64_t room = self.capacity + self.code_rows
        self.queries = <Query *>self.allocate(self.n_queries, sizeof(Query))
        self.exact = <double *>self.allocate(self.n_queries * exact_dim, sizeof(double))
        self.keys = <double *>self.allocate(room, 2 * sizeof(double))
        self.positions = <int64_t *>(self.keys + room)
        self.weights = <float *>self.allocate(
            max(self.n_tiles * tile, self.n_queries) * exact_dim, sizeof(float))
        if not self.beyond:
            entries = <farann_entry *>self.allocate(
                self.n_queries * self.k, sizeof(farann_entry))
        if self.mode != EXACT:
            width = dim if self.mode == PACKED else 0
            self.panels = <float *>self.allocate(
                self.block_rows * (width + 1) + max(tile, kernels.code_queries),
                sizeof(float))
            self.bias = self.panels + self.block_rows * width
            self.thresholds = self.bias + self.block_rows
            scores = <float *>self.allocate(
                self.n_queries * room + 1, sizeof(float) + sizeof(int64_t))
            slots = <int64_t *>(scores + self.n_queries * room + self.n_queries * room % 2)
            self.candidates = <farann_candidates *>self.allocate(
                max(tile, kernels.code_queries), sizeof(farann_candidates))

        for i in range(self.n_queries):
            query = &self.queries[i]
            query.exact = self.exact + i * exact_dim
            farann_query_prepare(
                snapshot.metric, self.sign, &queries[start + i, 0], dim, &snapshot.centre[0],
                snapshot.centre_norm, self.exact + i * exact_dim,
                self.weights + (i // tile * tile * dim + i % tile if self.mode == PACKED
                                else i * exact_dim),
                tile if self.mode == PACKED else 1, &query.prepared)
            query.filter = filter.of_query(start + i)
            query.threshold = -INFINITY
            if self.beyond:
                query.radius = radius
                query.threshold = (farann_key_at(snapshot.metric, radius, query.prepared.query_norm)
                                   * query.prepared.key_scale + query.prepared.key_offset)
            else:
                query.found.entries = entries + i * self.k
                query.found.capacity = self.k
            if self.mode != EXACT:
                query.candidates.scores = scores + i * room
                query.candidates.slots = slots + i * room
        if (snapshot.codes is not None and self.mode != EXACT
                and filter.segments[0].positions == NULL):
            self.encode_queries(snapshot.codes)

    cdef encode_queries(self, Codes codes):
        """Tiles of queries as codes, their steps behind them."""
        cdef int64_t width, i, n
        cdef double[::1] scratch = np.empty(self.snapshot.dim)
        width = self.snapshot.kernels.code_queries if self.n_queries >= FEW_QUERIES else 1
        n = (self.n_queries + width - 1) // width * width
        self.code_width = width
        self.code_queries = <uint32_t *>self.allocate(n * (codes.groups + 1), sizeof(uint32_t))
        self.code_steps = <float *>(self.code_queries + n * codes.groups)
        for i in range(self.n_queries):
            self.queries[i].code_slack = farann_encode_query(
                self.snapshot.metric, self.sign, self.queries[i].exact, self.snapshot.dim,
                &self.snapshot.centre[0], &codes.signs[0, 0], &codes.bounds,
                &self.queries[i].prepared, self.snapshot.kernels.zero_point, &scratch[0],
                self.code_queries + i // width * width * codes.groups + i % width, width,
                self.code_steps + i)
        self.codes = codes

    # ---- the search loop ----

    def run(self):
        """Find the answers; the GIL is released meanwhile."""
        cdef int s
        with nogil:
            if self.codes is not None:
                self.score_outliers()
            for s in range(2):
                self.scan(&self.filter.segments[s])
            self.finish()
        if self.out_of_memory:
            raise MemoryError("no memory for the rows that were found; ask for fewer")

    cdef void scan(self, const Segment *segment) noexcept nogil:
        """Score all rows block by block, and keep what may belong to an answer.

        The first blocks are small, so that there is a threshold soon.
        """
        cdef int64_t start = 0, n, i, most = self.block_rows, ramp = FIRST_BLOCK
        cdef bint coded = self.codes is not None and segment.first == 0
        if coded:
            most = self.code_rows
        while start < segment.count:
            n = min(min(most, ramp), segment.count - start)
            if coded:
                self.scan_coded(segment, start, n)
            elif self.mode == PACKED:
                self.scan_packed(segment, start, n)
            else:
                for i in range(self.n_queries):
                    if self.mode == EXACT:
                        self.score_exact(&self.queries[i], segment, start, n)
                    else:
                        self.scan_as_they_lie(i, segment, start, n)
            ramp = min(2 * ramp, most)
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
        self.admit_tile(first, count, &block)

    cdef void scan_coded(self, const Segment *segment, int64_t start, int64_t n) noexcept nogil:
        """Score rows by their 8-bit codes, a tile of queries at a time."""
        cdef const farann_kernels *kernels = self.snapshot.kernels
        cdef farann_block block = self.block_of(segment, start)
        cdef int64_t first = 0, count, i, width = self.code_width, groups = self.codes.groups
        cdef bint any_coded
        cdef Query *query
        cdef farann_scan_codes *scan_codes = (
            kernels.scan_codes_one_i8 if width == 1 else kernels.scan_codes_i8)
        while first < self.n_queries:
            count = min(width, self.n_queries - first)
            any_coded = False
            for i in range(width):
                self.thresholds[i] = INFINITY
            for i in range(count):
                query = &self.queries[first + i]
                self.candidates[i] = query.candidates
                if query.code_slack < 0.0:
                    self.score_exact(query, segment, start, n)
                    continue
                any_coded = True
                self.thresholds[i] = self.threshold_for(query, query.code_slack)
            if any_coded:
                scan_codes(&self.codes.codes[start, 0], &self.codes.sums[start],
                           &self.codes.norms[start], n, groups, self.packing.bias_sign,
                           self.code_queries + first * groups, self.code_steps + first,
                           self.thresholds, self.candidates)
                self.admit_tile(first, count, &block)
            first += width

    cdef void score_outliers(self) noexcept nogil:
        """Rows that the codes can't hold get their canonical keys before all others."""
        cdef int64_t i
        cdef Segment outliers = self.snapshot.segments[0]
        outliers.count = self.codes.outliers.shape[0]
        if outliers.count == 0:
            return
        outliers.positions = &self.codes.outliers[0]
        for i in range(self.n_queries):
            if self.queries[i].code_slack >= 0.0:
                self.score_exact(&self.queries[i], &outliers, 0, outliers.count)

    cdef void admit_tile(self, int64_t first, int64_t count,
                         const farann_block *block) noexcept nogil:
        """Take over what a tile's scan appended to `self.candidates`."""
        cdef int64_t i, before
        cdef Query *query
        for i in range(count):
            query = &self.queries[first + i]
            before = query.candidates.count
            if self.candidates[i].count > before:
                query.candidates.count = self.candidates[i].count
                self.admit(query, before, block)

    cdef float threshold_for(self, Query *query, double slack) noexcept nogil:
        """What a rough score must be greater than, in a block where it is off by `slack`."""
        query.slack = max(query.slack, slack)
        return nextafterf(<float>(query.threshold - query.slack), -INFINITY)

    cdef void admit(self, Query *query, int64_t before, const farann_block *block) noexcept nogil:
        """Let new candidates through the filters; if there are many, thin them out."""
        farann_candidates_admit(&query.candidates, before, block, &query.filter)
        if query.candidates.count >= self.capacity:
            self.thin_out(query)

    cdef const float *rows_at(self, const Segment *segment, int64_t start) noexcept nogil:
        if segment.positions != NULL:
            return segment.rows
        return segment.rows + start * self.snapshot.dim

    cdef farann_block block_of(self, const Segment *segment, int64_t start) noexcept nogil:
        cdef farann_block block
        block.first = segment.first
        block.positions = NULL
        if segment.positions != NULL:
            block.positions = segment.positions + start
        else:
            block.first += start
        block.ids = self.snapshot.ids_by_slot
        return block

    cdef void score_exact(self, Query *query, const Segment *segment, int64_t start,
                          int64_t n) noexcept nogil:
        """Offer the canonical keys of rows start .. start + n of a segment."""
        cdef farann_block block = self.block_of(segment, start)
        self.snapshot.kernels.keys_f64[<int>self.snapshot.metric](
            self.rows_at(segment, start), block.positions, n, self.snapshot.dim, query.exact, self.keys)
        self.offer(query, n, &block, &query.filter)

    cdef void offer(self, Query *query, int64_t n, const farann_block *block,
                    const farann_filter *filter) noexcept nogil:
        """Offer rows with `self.keys` to the answer, and raise the threshold."""
        cdef farann_topk *found = &query.found
        if self.beyond:
            self.collect(query, n, block, filter)
            return
        farann_topk_push_block(found, self.keys, n, self.sign, block, filter)
        if found.count == found.capacity:
            query.threshold = max(
                query.threshold,
                found.entries[0].key * query.prepared.key_scale + query.prepared.key_offset)

    cdef void collect(self, Query *query, int64_t n, const farann_block *block,
                      const farann_filter *filter) noexcept nogil:
        """Append the rows that lie beyond the radius."""
        cdef farann_topk *found = &query.found
        cdef farann_entry *entries
        cdef double score
        cdef int64_t i, slot
        if found.count + n > found.capacity:
            found.capacity = 2 * found.capacity + n
            entries = <farann_entry *>realloc(found.entries, found.capacity * sizeof(farann_entry))
            if entries == NULL:
                found.capacity = found.count
                self.out_of_memory = True
                return
            found.entries = entries
        for i in range(n):
            score = farann_score(self.snapshot.metric, self.keys[i], query.prepared.query_norm)
            slot = block.first + (block.positions[i] if block.positions != NULL else i)
            if (farann_is_beyond(self.snapshot.metric, score, query.radius)
                    and farann_filter_allows(filter, slot)):
                found.entries[found.count].key = self.keys[i]
                found.entries[found.count].id = block.ids[slot] if block.ids != NULL else slot
                found.count += 1

    cdef void thin_out(self, Query *query) noexcept nogil:
        """Drop candidates that can't belong to the answer; if most stay, get keys."""
        self.keep_best(query)
        if query.candidates.count > self.capacity // 2:
            self.rescore_best(query)
        if query.candidates.count > self.capacity // 2:
            self.rescore(query, 0)

    cdef double keep_best(self, Query *query) noexcept nogil:
        """The k-th best rough score; less its slack, it bounds the k-th best key."""
        cdef double best
        if self.beyond or query.candidates.count < self.k:
            return INFINITY
        best = farann_candidates_keep_best(&query.candidates, self.k, 2.0 * query.slack)
        query.threshold = max(query.threshold, best - query.slack)
        return best

    cdef void rescore_best(self, Query *query) noexcept nogil:
        """Get the keys of the k best candidates, and drop those that these leave no place.

        Exact keys bound the k-th best key better, so that few other candidates need theirs.
        """
        cdef double best = self.keep_best(query)
        cdef int64_t first = farann_candidates_split(&query.candidates, -INFINITY, best)
        self.rescore(query, first)
        farann_candidates_split(&query.candidates, query.threshold - query.slack, INFINITY)

    cdef void rescore(self, Query *query, int64_t first) noexcept nogil:
        """Offer the canonical keys of the candidates from `first` on, and forget these."""
        cdef farann_filter admitted
        cdef farann_block block
        cdef int64_t i, n, slot
        cdef int s
        cdef const Segment *segment
        admitted.alive = NULL
        admitted.excluded = NULL
        admitted.n_excluded = 0
        for s in range(2):
            segment = &self.snapshot.segments[s]
            n = 0
            for i in range(first, query.candidates.count):
                slot = query.candidates.slots[i] - segment.first
                if 0 <= slot < segment.count:
                    self.positions[n] = slot
                    n += 1
            if n == 0:
                continue
            self.snapshot.kernels.keys_f64[<int>self.snapshot.metric](
                segment.rows, self.positions, n, self.snapshot.dim, query.exact, self.keys)
            block.first, block.positions = segment.first, self.positions
            block.ids = self.snapshot.ids_by_slot
            self.offer(query, n, &block, &admitted)
        self.rescored += query.candidates.count - first
        query.candidates.count = first

    cdef void finish(self) noexcept nogil:
        cdef Query *query
        cdef int64_t i
        for i in range(self.n_queries):
            query = &self.queries[i]
            if self.mode != EXACT:
                self.rescore_best(query)
                self.rescore(query, 0)
            farann_entries_sort(query.found.entries, query.found.count)

    # ---- answers ----

    cdef double score_of(self, const Query *query, int64_t i) noexcept nogil:
        return farann_score(self.snapshot.metric, self.sign * query.found.entries[i].key,
                            query.prepared.query_norm)

    def write_top(self, float[:, ::1] scores, int64_t[:, ::1] ids, int64_t start):
        """Write the answers to rows start, start + 1, ... of `scores` and `ids`."""
        cdef int64_t i, j
        cdef Query *query
        for i in range(self.n_queries):
            query = &self.queries[i]
            for j in range(ids.shape[1]):
                if j < query.found.count:
                    scores[start + i, j] = <float>self.score_of(query, j)
                    ids[start + i, j] = query.found.entries[j].id
                else:
                    scores[start + i, j] = <float>NAN
                    ids[start + i, j] = -1

    def counts(self):
        """Rows found, by query."""
        cdef int64_t i
        return [self.queries[i].found.count for i in range(self.n_queries)]

    def write_beyond(self, float[::1] scores, int64_t[::1] ids, int64_t start):
        """Write all answers, query after query, from `start` on."""
        cdef int64_t i, j
        cdef Query *query
        for i in range(self.n_queries):
            query = &self.queries[i]
            for j in range(query.found.count):
                scores[start] = <float>self.score_of(query, j)
                ids[start] = query.found.entries[j].id
                start += 1


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
        if not 0 <= slots[j] < snapshot.n_slots:
            raise ValueError("slots must be slots of the snapshot")
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
                    segment.rows, positions, n, snapshot.dim, task.queries[i].exact, keys)
                for j in range(n):
                    scores[start + i, at + j] = <float>farann_score(
                        snapshot.metric, keys[j], task.queries[i].prepared.query_norm)
            at += n
