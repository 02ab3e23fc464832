"""Choosing among rows that were scored: candidates, thresholds, the k best."""

cimport cython
from libc.math cimport INFINITY, NAN, nextafterf
from libc.stdint cimport int64_t

from farann.native.kernels cimport *
from farann.native.process cimport BEST_FIRST, SELECTING, uses
from farann.native.query_batch cimport Query, QueryBatch
from farann.native.rough cimport rough_key
from farann.native.row_reader cimport RowBlock, RowReader
from farann.native.snapshot cimport FEW_BEST, Segment

cdef enum:
    # k from which there is room for 4 k candidates, not 2 k: codes can't tell many of them from the
    # k-th, and exact keys before the end would be wasted on these.
    LARGE_K = 65
    FEW_SORTED = 24  # k up to which exact searches keep the best scores sorted; above, they select
    RESCORED_AT_ONCE = 4096  # candidates reranked between looks at the cancel flag


@cython.no_gc  # what parts refer to never refers to them
@cython.freelist(8)
cdef class Candidates:
    """What the queries of a batch have found so far."""

    @staticmethod
    cdef Candidates of(QueryBatch batch, int64_t room, int64_t largest_block, bint scored,
                       bint exact):
        """`room` for candidates beyond twice k; blocks have up to `largest_block` rows."""
        cdef Candidates self = Candidates.__new__(Candidates)
        cdef int64_t i, n = batch.n_queries, k = batch.k, n_kept
        cdef int64_t width = max(batch.kernels.tile_queries, batch.kernels.code_queries)
        cdef farann_entry *entries = NULL
        cdef float *best = NULL
        cdef float *scores = NULL
        cdef int64_t *slots = NULL
        cdef Query *query
        self.batch, self.scored = batch, scored
        self.for_best = uses(SELECTING) and exact and not (batch.beyond or batch.best_beyond)
        self.selects = self.for_best and k > FEW_SORTED
        self.rows = RowReader.of(batch.snapshot, batch.scratch, batch.block_rows)
        self.capacity = room
        if not batch.beyond:
            self.capacity += (4 if k >= LARGE_K else 2) * k
        n_kept = self.capacity + largest_block
        self.exact_keys = <double *>batch.scratch.allocate(n_kept, 2 * sizeof(double), False)
        self.positions = <int64_t *>(self.exact_keys + n_kept)
        if not batch.beyond:
            entries = <farann_entry *>batch.scratch.allocate(n * k, sizeof(farann_entry))
            if k <= (FEW_SORTED if self.selects else FEW_BEST):
                best = <float *>batch.scratch.allocate(n * k, sizeof(float))
        if scored:
            scores = <float *>batch.scratch.allocate(
                n * n_kept + 1, sizeof(float) + sizeof(int64_t), False)
            slots = <int64_t *>(scores + n * n_kept + n * n_kept % 2)
            self.tile = <farann_candidates *>batch.scratch.allocate(
                width, sizeof(farann_candidates) + sizeof(int64_t))
            self.members = <int64_t *>(self.tile + width)
        for i in range(n):
            query = &batch.queries[i]
            if not batch.beyond:
                query.found.entries, query.found.capacity = entries + i * k, k
                if best != NULL:
                    query.best.scores, query.best.capacity = best + i * k, k
            if scored:
                query.candidates.scores = scores + i * n_kept
                query.candidates.slots = slots + i * n_kept
        return self

    cdef void admit_tile(self, int64_t count, const farann_block *block) noexcept nogil:
        """Take over what the scan of a tile, `self.members`, appended to `self.tile`."""
        cdef int64_t i, before
        cdef Query *query
        for i in range(count):
            query = &self.batch.queries[self.members[i]]
            before = query.candidates.count
            if self.tile[i].count > before:
                query.candidates.count = self.tile[i].count
                self.admit(query, before, block)

    cdef float threshold_for(self, Query *query, double slack) noexcept nogil:
        """What a rough score must be greater than, in a block where it is off by `slack`."""
        query.slack = max(query.slack, slack)
        return nextafterf(<float>(self.admission_threshold(query) - query.slack), -INFINITY)

    cdef bint begins(self) noexcept nogil:
        """Whether no query has a threshold, and one that is chosen by scores will do."""
        cdef int64_t i
        for i in range(self.batch.n_queries):
            if self.batch.queries[i].threshold > -INFINITY:
                return False
        return self.for_best

    cdef double admission_threshold(self, const Query *query) noexcept nogil:
        """The reduced key that a row must reach to be worth finding."""
        if self.batch.epsilon == 0.0:
            return max(query.threshold, query.predicted)
        return farann_key_within(self.batch.metric, self.batch.sign, query.threshold,
                                 self.batch.epsilon, &query.prepared)

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
        cdef bint all_allowed = self.batch.filter.is_open()
        cdef float floor
        if self.batch.best_beyond:  # any number of them may be too near
            self.batch.kernels.select_f32(scores, n, -INFINITY, &query.candidates)
            return
        # The filter may exclude some of the k best, so the 2 k best are admitted.
        floor = self.at_least(self.batch.k if all_allowed else 2 * self.batch.k, scores, n)
        self.batch.kernels.select_f32(
            scores, n, nextafterf(<float>(floor - 2.0 * query.slack), -INFINITY),
            &query.candidates)
        if not all_allowed and floor > -INFINITY:
            farann_candidates_drop(&query.candidates, before, block, &query.filter)
            for i in range(before, query.candidates.count):
                reach += query.candidates.scores[i] >= floor
            if reach < self.batch.k:
                query.candidates.count = before
                self.batch.kernels.select_f32(scores, n, -INFINITY, &query.candidates)

    cdef float at_least(self, int64_t m, const float *scores, int64_t n) noexcept nogil:
        """What the last of the m best of n scores is at least.

        The largest of groups are different scores. -inf: there are too few.
        """
        cdef float largest[FARANN_SCORE_GROUPS]
        if m > FARANN_SCORE_GROUPS // 2 or n % FARANN_PADDING:
            return self.batch.kernels.kth_largest_f32(scores, n, m)
        self.batch.kernels.largest_f32(scores, n, largest)
        return self.batch.kernels.kth_largest_f32(largest, FARANN_SCORE_GROUPS, m)

    cdef void admit(self, Query *query, int64_t before, const farann_block *block) noexcept nogil:
        """Let new candidates through the filters; if there are many, thin them out."""
        cdef farann_candidates *list = &query.candidates
        self.batch.passed += list.count - before
        if self.batch.best_beyond:
            farann_candidates_admit_below(
                list, before, block, &query.filter, &query.best, 2.0 * query.slack,
                query.sure - query.slack, query.ceiling + query.slack)
        else:
            farann_candidates_admit(list, before, block, &query.filter, &query.best,
                                    2.0 * query.slack)
        if self.selects:
            self.select_again(query)
        elif query.best.count == self.batch.k:
            query.threshold = max(query.threshold, query.best.scores[self.batch.k - 1]
                                  - query.slack)
        if list.count >= self.capacity or (
                query.threshold == -INFINITY and list.count >= 2 * self.batch.k):
            self.thin_out(query)

    cdef void select_again(self, Query *query) noexcept nogil:
        """Select the k best, which raises the threshold, if enough have passed since."""
        if query.candidates.count >= max(query.select_at, self.batch.k):
            self.keep_best(query)
            query.select_at = query.candidates.count + 1
            if self.batch.n_queries >= FEW_QUERIES:  # what passes for one may be read anywhere
                query.select_at += self.batch.k // 8

    cdef RowBlock rows_at(self, const Segment *segment, int64_t start, int64_t n) noexcept nogil:
        """Rows start .. start + n of a segment, good until others are asked for."""
        return self.rows.block(segment, start, n)

    cdef farann_block block_of(self, const Segment *segment, int64_t start) noexcept nogil:
        cdef farann_block block
        block.first = segment.first
        block.positions, block.slots, block.end = NULL, NULL, self.batch.snapshot.n_slots
        if segment.positions != NULL:
            block.positions = segment.positions + start
        else:
            block.first += start
        block.ids = self.batch.snapshot.ids_by_slot
        return block

    cdef void score_exactly(self, Query *query, const Segment *segment, int64_t start,
                            int64_t n) noexcept nogil:
        """Offer the exact keys of rows start .. start + n of a segment."""
        cdef farann_block block = self.block_of(segment, start)
        cdef RowBlock rows = self.rows_at(segment, start, n)
        self.batch.kernels.keys_f64[<int>self.batch.metric](
            rows.rows, rows.positions, n, self.batch.dim, self.batch.exact_query(query),
            self.exact_keys)
        self.offer(query, n, &block, &query.filter)
        self.batch.rescored += n

    cdef void offer(self, Query *query, int64_t n, const farann_block *block,
                    const farann_filter *filter) noexcept nogil:
        """Offer rows with `self.exact_keys` to the answer, and raise the threshold."""
        cdef farann_topk *found = &query.found
        if self.batch.beyond:
            self.collect(query, n, block, filter)
            return
        if self.batch.best_beyond:
            self.push_beyond(query, n, block, filter)
            return
        farann_topk_push_block(found, self.exact_keys, n, self.batch.sign, block, filter)
        self.raise_threshold(query)

    cdef void push_beyond(self, Query *query, int64_t n, const farann_block *block,
                          const farann_filter *filter) noexcept nogil:
        """Offer those rows that lie beyond the radius."""
        cdef farann_topk *found = &query.found
        cdef double key, score
        cdef int64_t i, slot
        for i in range(n):
            key = self.batch.sign * self.exact_keys[i]
            if found.count == found.capacity and key < found.entries[0].key:
                continue
            score = farann_score(self.batch.metric, self.exact_keys[i], query.prepared.query_norm)
            slot = block.first + (block.positions[i] if block.positions != NULL else i)
            if (farann_is_beyond(self.batch.metric, score, query.radius)
                    and farann_filter_allows(filter, slot)):
                farann_topk_push(found, key, block.ids[slot] if block.ids != NULL else slot)
        self.raise_threshold(query)

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
                self.batch.scratch.failed = True
                return
            found.entries = entries
        for i in range(n):
            score = farann_score(self.batch.metric, self.exact_keys[i], query.prepared.query_norm)
            slot = block.first + (block.positions[i] if block.positions != NULL else i)
            if (farann_is_beyond(self.batch.metric, score, query.radius)
                    and farann_filter_allows(filter, slot)):
                found.entries[found.count].key = self.exact_keys[i]
                found.entries[found.count].id = block.ids[slot] if block.ids != NULL else slot
                found.count += 1

    cdef void forget(self, Query *query) noexcept nogil:
        """Forget the rows found, and the threshold if these rows would not pass it again."""
        query.found.count = query.candidates.count = query.best.count = 0
        if self.batch.epsilon > 0.0:  # rows must be better than the threshold by epsilon
            query.threshold = -INFINITY

    cdef void thin_out(self, Query *query) noexcept nogil:
        """Drop candidates that can't belong to the answer; if most stay, get keys."""
        self.keep_best(query)
        if query.candidates.count > self.capacity // 2:
            self.rerank_best(query)
        if query.candidates.count > self.capacity // 2:
            self.rerank(query, 0)

    cdef double keep_best(self, Query *query) noexcept nogil:
        """The k-th best rough score; less its slack, it bounds the k-th best key."""
        cdef double best
        if query.best.capacity:
            if query.best.count < self.batch.k:
                return INFINITY
            best = query.best.scores[self.batch.k - 1]
            farann_candidates_split(&query.candidates, best - 2.0 * query.slack, INFINITY)
            return best
        if self.batch.best_beyond:  # those that may be too near are none of the best yet
            self.rerank(query, farann_candidates_split(&query.candidates, -INFINITY,
                                                       query.sure - query.slack))
        if self.batch.beyond or query.candidates.count < self.batch.k:
            return INFINITY
        if self.selects:
            best = self.batch.kernels.kth_largest_f32(query.candidates.scores,
                                                      query.candidates.count, self.batch.k)
            farann_candidates_split(&query.candidates, best - 2.0 * query.slack, INFINITY)
        else:
            best = farann_candidates_keep_best(&query.candidates, self.batch.k, 2.0 * query.slack)
        query.threshold = max(query.threshold, best - query.slack)
        return best

    cdef int64_t raise_thresholds(self, int64_t start) noexcept nogil:
        """Where the k best scores aren't kept sorted, look what they are; gives when to next."""
        cdef int64_t i
        if self.batch.k > FEW_BEST and not self.selects:
            for i in range(self.batch.n_queries):
                self.keep_best(&self.batch.queries[i])
        return 2 * start

    cdef void rerank_best(self, Query *query) noexcept nogil:
        """Get the keys of the k best candidates, and drop those that these leave no place.

        Exact keys bound the k-th best key better, so that few other candidates need theirs.
        """
        cdef double best = self.keep_best(query)
        cdef int64_t first = farann_candidates_split(&query.candidates, -INFINITY, best)
        self.rerank(query, first)
        farann_candidates_split(&query.candidates, query.threshold - query.slack, INFINITY)

    cdef void rerank_all(self, Query *query) noexcept nogil:
        """Get the keys of all candidates that may still belong to the answer."""
        if uses(BEST_FIRST):
            self.rerank_best(query)
        self.rerank(query, 0)

    cdef void rerank(self, Query *query, int64_t first) noexcept nogil:
        """Offer the exact keys of the candidates from `first` on, and forget these.

        Also when the time of a search is over: they would be lost.
        """
        cdef farann_filter admitted
        cdef farann_block block
        cdef int64_t i, n, slot, count = query.candidates.count
        cdef const int64_t *slots = query.candidates.slots
        cdef int64_t *positions = self.positions
        cdef int s
        cdef bint rough
        cdef const Segment *segment
        admitted.alive, admitted.groups = NULL, NULL
        admitted.excluded.bits = 0
        for s in range(2):
            segment = &self.batch.snapshot.segments[s]
            if segment.count == 0:
                continue
            rough = s == 0 and not self.batch.snapshot.vectors
            block.first, block.positions, block.slots = segment.first, self.positions, NULL
            block.end = self.batch.snapshot.n_slots
            block.ids = self.batch.snapshot.ids_by_slot
            i = first
            while i < count and not self.batch.cancelled():
                n = 0
                while i < count and n < RESCORED_AT_ONCE:
                    slot = slots[i] - segment.first
                    if 0 <= slot < segment.count:
                        positions[n] = slot
                        if rough:
                            self.exact_keys[n] = rough_key(&query.prepared, self.batch.sign,
                                                           query.candidates.scores[i])
                        n += 1
                    i += 1
                if n == 0:
                    continue
                if not rough:
                    self.rows.keys_at(segment, self.positions, n, self.batch.exact_query(query),
                                      self.exact_keys)
                    self.batch.rescored += n
                    self.batch.bytes_read += n * self.rows.row_bytes
                self.offer(query, n, &block, &admitted)
        query.candidates.count = first

    cdef void finish(self) noexcept nogil:
        cdef Query *query
        cdef int64_t i
        self.batch.lift_time_limit()
        for i in range(self.batch.n_queries):
            if self.batch.stopped():
                return
            query = &self.batch.queries[i]
            if self.scored:
                self.rerank_all(query)
            if self.batch.beyond or not self.scored:
                farann_entries_sort(query.found.entries, query.found.count, self.batch.given_up)
                continue
            # Its candidates, which are done with, had room for four times k slots if k is large.
            farann_many_entries_sort(query.found.entries, query.found.count,
                                     <farann_entry *>query.candidates.slots, self.batch.given_up)

    cdef double score_of(self, const Query *query, int64_t i) noexcept nogil:
        cdef double key = self.batch.sign * query.found.entries[i].key
        if self.batch.metric == FARANN_L2:
            key = max(key, 0.0)  # that of a rough score may be less
        return farann_score(self.batch.metric, key, query.prepared.query_norm)

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
