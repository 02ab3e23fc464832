# Choosing among rows that were scored: candidates, thresholds, answers. Part of _core.pyx.

cdef class Selection(Queries):
    """What the queries of a task have found so far."""

    @cython.final
    cdef void admit_tile(self, int64_t count, const farann_block *block) noexcept nogil:
        """Take over what the scan of a tile, `self.members`, appended to `self.candidates`."""
        cdef int64_t i, before
        cdef Query *query
        for i in range(count):
            query = &self.queries[self.members[i]]
            before = query.candidates.count
            if self.candidates[i].count > before:
                query.candidates.count = self.candidates[i].count
                self.admit(query, before, block)

    @cython.final
    cdef float threshold_for(self, Query *query, double slack) noexcept nogil:
        """What a rough score must be greater than, in a block where it is off by `slack`."""
        query.slack = max(query.slack, slack)
        return nextafterf(<float>(self.wanted(query) - query.slack), -INFINITY)

    @cython.final
    cdef double wanted(self, const Query *query) noexcept nogil:
        """The reduced key that a row must reach to be worth finding."""
        if self.epsilon == 0.0:
            return max(query.threshold, query.expected)
        return farann_key_within(self.snapshot.metric, query.threshold, self.epsilon,
                                 &query.prepared)

    cdef void admit_best(self, Query *query, const float *scores, int64_t n,
                         const farann_block *block) noexcept nogil:
        """Admit those of n scored rows of a block that may be among the k best of them."""
        cdef int64_t before = query.candidates.count
        self.select_best(query, scores, n, block)
        self.admit(query, before, block)

    cdef void select_best(self, Query *query, const float *scores, int64_t n,
                          const farann_block *block) noexcept nogil:
        """Append them to the candidates, as rows of the block."""
        cdef int64_t before = query.candidates.count, i, reach = 0
        cdef bint all_allowed = self.filter.is_open()
        # Of the best some may be excluded: as many rows again may take their places.
        cdef float floor = self.at_least(self.k if all_allowed else 2 * self.k, scores, n)
        self.snapshot.kernels.select_f32(
            scores, n, nextafterf(<float>(floor - 2.0 * query.slack), -INFINITY),
            &query.candidates)
        if not all_allowed and floor > -INFINITY:
            farann_candidates_drop(&query.candidates, before, block, &query.filter)
            for i in range(before, query.candidates.count):
                reach += query.candidates.scores[i] >= floor
            if reach < self.k:
                query.candidates.count = before
                self.snapshot.kernels.select_f32(scores, n, -INFINITY, &query.candidates)

    cdef float at_least(self, int64_t m, const float *scores, int64_t n) noexcept nogil:
        """What the last of the m best of n scores is at least, m <= FEW_BEST.

        The largest of groups are different scores. -inf: there are too few.
        """
        cdef float largest[FARANN_SCORE_GROUPS]
        cdef float kept[FEW_BEST]
        cdef farann_best_scores best
        best.scores, best.capacity, best.count = kept, m, 0
        self.snapshot.kernels.largest_f32(scores, n, largest)
        farann_best_scores_add(&best, largest, FARANN_SCORE_GROUPS)
        return farann_best_scores_last(&best)

    @cython.final
    cdef void admit(self, Query *query, int64_t before, const farann_block *block) noexcept nogil:
        """Let new candidates through the filters; if there are many, thin them out."""
        cdef farann_candidates *list = &query.candidates
        self.passed += list.count - before
        farann_candidates_admit(list, before, block, &query.filter, &query.best,
                                2.0 * query.slack)
        if query.best.count == self.k:
            query.threshold = max(query.threshold, query.best.scores[self.k - 1] - query.slack)
        if list.count >= self.capacity or (
                query.threshold == -INFINITY and list.count >= 2 * self.k):
            self.thin_out(query)

    cdef const float *rows_at(self, const Segment *segment, int64_t start) noexcept nogil:
        if segment.positions != NULL:
            return segment.rows
        return segment.rows + start * self.snapshot.dim

    cdef farann_block block_of(self, const Segment *segment, int64_t start) noexcept nogil:
        cdef farann_block block
        block.first = segment.first
        block.positions, block.slots, block.end = NULL, NULL, self.snapshot.n_slots
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
            self.rows_at(segment, start), block.positions, n, self.snapshot.dim,
            self.exact_query(query), self.keys)
        self.offer(query, n, &block, &query.filter)
        self.rescored += n

    cdef void offer(self, Query *query, int64_t n, const farann_block *block,
                    const farann_filter *filter) noexcept nogil:
        """Offer rows with `self.keys` to the answer, and raise the threshold."""
        cdef farann_topk *found = &query.found
        if self.beyond:
            self.collect(query, n, block, filter)
            return
        farann_topk_push_block(found, self.keys, n, self.sign, block, filter)
        self.raise_threshold(query)

    @cython.final
    cdef void raise_threshold(self, Query *query) noexcept nogil:
        """Make the k-th best key, if k are known, the threshold."""
        cdef const farann_topk *found = &query.found
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
            entries = <farann_entry *>farann_realloc(
                found.entries, found.capacity * sizeof(farann_entry))
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

    @cython.final
    cdef double keep_best(self, Query *query) noexcept nogil:
        """The k-th best rough score; less its slack, it bounds the k-th best key."""
        cdef double best
        if query.best.capacity:
            if query.best.count < self.k:
                return INFINITY
            best = query.best.scores[self.k - 1]
            farann_candidates_split(&query.candidates, best - 2.0 * query.slack, INFINITY)
            return best
        if self.beyond or query.candidates.count < self.k:
            return INFINITY
        best = farann_candidates_keep_best(&query.candidates, self.k, 2.0 * query.slack)
        query.threshold = max(query.threshold, best - query.slack)
        return best

    @cython.final
    cdef int64_t raise_thresholds(self, int64_t start) noexcept nogil:
        """Where the k best scores aren't kept sorted, look what they are; gives when to next."""
        cdef int64_t i
        if self.k > FEW_BEST:
            for i in range(self.n_queries):
                self.keep_best(&self.queries[i])
        return 2 * start

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
        cdef int64_t i, n, slot, count = query.candidates.count
        cdef const int64_t *slots = query.candidates.slots
        cdef int64_t *positions = self.positions
        cdef int s
        cdef bint rough
        cdef const Segment *segment
        admitted.alive = NULL
        admitted.excluded.bits = 0
        admitted.n_met = 0
        for s in range(2):
            segment = &self.snapshot.segments[s]
            if segment.count == 0:
                continue
            rough = s == 0 and not self.snapshot.vectors
            block.first, block.positions, block.slots = segment.first, self.positions, NULL
            block.end = self.snapshot.n_slots
            block.ids = self.snapshot.ids_by_slot
            i = first
            while i < count and not self.stopped():
                n = 0
                while i < count and n < RESCORED_AT_ONCE:
                    slot = slots[i] - segment.first
                    if 0 <= slot < segment.count:
                        positions[n] = slot
                        if rough:
                            self.keys[n] = rough_key(&query.prepared, self.sign,
                                                     query.candidates.scores[i])
                        n += 1
                    i += 1
                if n == 0:
                    continue
                if not rough:
                    self.snapshot.kernels.keys_f64[<int>self.snapshot.metric](
                        segment.rows, self.positions, n, self.snapshot.dim,
                        self.exact_query(query), self.keys)
                    self.rescored += n
                    self.bytes_read += n * self.snapshot.dim * sizeof(float)
                self.offer(query, n, &block, &admitted)
        query.candidates.count = first

    cdef void finish(self) noexcept nogil:
        cdef Query *query
        cdef int64_t i
        for i in range(self.n_queries):
            if self.stopped():
                return
            query = &self.queries[i]
            if self.mode != EXACT:
                self.rescore_best(query)
                self.rescore(query, 0)
            if self.beyond or self.mode == EXACT:
                farann_entries_sort(query.found.entries, query.found.count, self.given_up)
                continue
            # Its candidates, which are done with, had room for four times k slots if k is large.
            farann_many_entries_sort(query.found.entries, query.found.count,
                                     <farann_entry *>query.candidates.slots, self.given_up)

    cdef double score_of(self, const Query *query, int64_t i) noexcept nogil:
        cdef double key = self.sign * query.found.entries[i].key
        if self.snapshot.metric == FARANN_L2:
            key = max(key, 0.0)  # that of a rough score may be less
        return farann_score(self.snapshot.metric, key, query.prepared.query_norm)

    def write_top(self, float[:, ::1] scores, int64_t[:, ::1] ids, int64_t start):
        """Write the answers to rows start, start + 1, ... of `scores` and `ids`."""
        cdef int64_t i
        cdef uint64_t before
        with nogil:
            before = farann_arithmetic_begin()
            for i in range(self.n_queries):
                self.write_answer(&self.queries[i], &scores[start + i, 0], &ids[start + i, 0],
                                  ids.shape[1])
            farann_arithmetic_end(before)

    cdef void write_answer(self, const Query *query, float *scores, int64_t *ids,
                           int64_t n) noexcept nogil:
        """Write n results, padded where fewer rows were found."""
        cdef int64_t j
        for j in range(n):
            if j < query.found.count:
                scores[j] = <float>self.score_of(query, j)
                ids[j] = query.found.entries[j].id
            else:
                scores[j], ids[j] = <float>NAN, -1

    def did(self):
        """What `SearchStats` has beside the number of queries."""
        return (self.scanned, self.refined, self.rescored, self.bytes_read, self.code_products,
                self.float_products, self.blocks, self.passed)

    def counts(self):
        """Rows found, by query."""
        cdef int64_t i
        return [self.queries[i].found.count for i in range(self.n_queries)]

    def write_beyond(self, float[::1] scores, int64_t[::1] ids, int64_t start):
        """Write all answers, query after query, from `start` on."""
        cdef int64_t i, j
        cdef uint64_t before
        cdef Query *query
        with nogil:
            before = farann_arithmetic_begin()
            for i in range(self.n_queries):
                query = &self.queries[i]
                for j in range(query.found.count):
                    scores[start] = <float>self.score_of(query, j)
                    ids[start] = query.found.entries[j].id
                    start += 1
            farann_arithmetic_end(before)
