"""Collectors of the rows that pass: the only owners of thresholds.

A level appends rows with rough scores to the lists of a tile; `admit` takes them over, and raises
the threshold. At the end, or where lists are full, rows get exact keys. All rows with exact keys
come in by `take`. Dropping rows drops the threshold that came from them.
"""

cimport cython
from libc.float cimport DBL_MIN
from libc.math cimport INFINITY, NAN, fabs, nextafterf
from libc.stdlib cimport free

cdef enum:
    # k from which there is room for 4 k candidates, not 2 k: codes can't tell many of them from the
    # k-th. With 4 k for all, 2 % more rows are refined on Fashion-MNIST.
    LARGE_K = 65
    FEW_SORTED = 24  # k up to which searches keep the best scores sorted; above, they select
    RERANKED_AT_ONCE = 4096  # candidates reranked between looks at the cancel flag


@cython.no_gc  # references between parts form no cycles
cdef class Collector:
    """Collects the k best rows of each query of one task."""

    def __cinit__(self):
        self.radii = None

    def __init__(self, int64_t k):
        self.k, self.ranks, self.by_keys = k, True, True

    cdef set_up(self, QueryBatch batch, int64_t room, int64_t largest_block, bint scored):
        """`room` for candidates beyond twice k; blocks have up to `largest_block` rows."""
        cdef int64_t i, n = batch.n_queries, n_kept, width
        cdef int64_t *slots
        if self.batch is not None:
            raise ValueError("a collector is for one task")
        if self.radii is not None and self.radii.shape[0] != n:
            raise ValueError("there must be a radius for each query")
        self.batch = batch
        self.rows = RowReader.of(batch.snapshot, batch.scratch, batch.block_rows)
        self.answers = <Answer *>batch.scratch.allocate(n, sizeof(Answer))
        self.capacity = room
        self.allocate_answers()
        n_kept = self.capacity + largest_block
        self.keys = <double *>batch.scratch.allocate(n_kept, 2 * sizeof(double), False)
        self.places = <int64_t *>(self.keys + n_kept)
        width = max(batch.kernels.tile_queries, batch.kernels.code_queries)
        self.tile = <farann_candidates *>batch.scratch.allocate(
            max(width, batch.kernels.key_queries), sizeof(farann_candidates))
        if scored:
            slots = <int64_t *>batch.scratch.allocate(
                n * n_kept, sizeof(int64_t) + sizeof(float), False)
            for i in range(n):
                self.answers[i].passed.slots = slots + i * n_kept
                self.answers[i].passed.scores = <float *>(slots + n * n_kept) + i * n_kept

    cdef allocate_answers(self):
        cdef int64_t i, n = self.batch.n_queries, k = self.batch.k
        cdef farann_entry *entries
        cdef float *best = NULL
        self.selects = k > FEW_SORTED and uses(SELECTING)
        self.capacity += (4 if k >= LARGE_K else 2) * k
        entries = <farann_entry *>self.batch.scratch.allocate(n * k, sizeof(farann_entry))
        if not self.selects:
            best = <float *>self.batch.scratch.allocate(n * k, sizeof(float))
        for i in range(n):
            self.answers[i].top.entries, self.answers[i].top.capacity = entries + i * k, k
            if best != NULL:
                self.answers[i].best.scores, self.answers[i].best.capacity = best + i * k, k

    cdef void forget(self, int64_t i) noexcept nogil:
        """Reset query i: drop its rows, and the threshold that came from them."""
        cdef Answer *answer = &self.answers[i]
        answer.threshold, answer.predicted, answer.slack = -INFINITY, -INFINITY, 0.0
        answer.passed.count = answer.best.count = answer.top.count = answer.select_at = 0

    cdef int64_t forget_unkept(self, int64_t *members) noexcept nogil:
        """Reset the queries that fell short of a prediction; write which, return how many."""
        cdef int64_t i, n = 0
        for i in range(self.batch.n_queries):
            if self.answers[i].predicted == -INFINITY:
                continue
            self.keep_best(i)
            if self.answers[i].threshold + self.answers[i].slack < self.answers[i].predicted:
                self.forget(i)
                members[n] = i
                n += 1
        return n

    @cython.final
    cdef int64_t forget_short(self, int64_t *members) noexcept nogil:
        """Reset the queries that found fewer than k rows; write which, return how many."""
        cdef int64_t i, n = 0
        for i in range(self.batch.n_queries):
            if not self.has_k_rows(i):
                self.forget(i)
                members[n] = i
                n += 1
        return n

    @cython.final
    cdef bint all_have_k_rows(self) noexcept nogil:
        cdef int64_t i
        for i in range(self.batch.n_queries):
            if not self.has_k_rows(i):
                return False
        return True

    cdef bint has_k_rows(self, int64_t i) noexcept nogil:
        """Whether a query has found k rows, with those that have no exact keys yet."""
        return self.answers[i].top.count + self.answers[i].passed.count >= self.batch.k

    @cython.final
    cdef void predict(self, int64_t i, double key) noexcept nogil:
        """Predict a reduced key that all rows of the answer reach."""
        self.answers[i].predicted = key

    @cython.final
    cdef void allow(self, int64_t i, double slack) noexcept nogil:
        """Raise the error bound of the rough scores to come."""
        self.answers[i].slack = max(self.answers[i].slack, slack)

    @cython.final
    cdef void raise_threshold(self, int64_t i, double key) noexcept nogil:
        """Use a threshold that another search has found for the same query."""
        self.answers[i].threshold = max(self.answers[i].threshold, key)

    cdef double bar(self, int64_t i) noexcept nogil:
        """The reduced key that a row must reach to be worth finding."""
        return bar_of(self.batch, i, max(self.answers[i].threshold, self.answers[i].predicted))

    @cython.final
    cdef float float_bar(self, int64_t i) noexcept nogil:
        """The rough score that rows must exceed, with the allowed error of scores."""
        return nextafterf(<float>(self.bar(i) - self.answers[i].slack), -INFINITY)

    # ---- rows with rough scores ----

    cdef void select(self, int64_t j, int64_t i, const float *scores, int64_t n,
                     const farann_block *where) noexcept nogil:
        """Append those of n scored rows of a block that may belong to the answer.

        Without a threshold these are the k best, up to the error of scores. With a filter, which
        may exclude some, the 2 k best are taken, and then all.
        """
        cdef farann_candidates *list = &self.tile[j]
        cdef int64_t before = list.count, row, reach = 0
        cdef bint all_allowed = self.batch.filter.is_open()
        cdef float floor = self.float_bar(i)
        cdef double slack = self.answers[i].slack
        if floor > -INFINITY:
            self.batch.kernels.select_f32(scores, n, floor, list)
            return
        floor = at_least(self, self.batch.k if all_allowed else 2 * self.batch.k, scores, n)
        self.batch.kernels.select_f32(
            scores, n, nextafterf(<float>(floor - 2.0 * slack), -INFINITY), list)
        if not all_allowed and floor > -INFINITY:
            farann_candidates_drop(list, before, where, &self.batch.queries[i].filter)
            for row in range(before, list.count):
                reach += list.scores[row] >= floor
            if reach < self.batch.k:
                list.count = before
                self.batch.kernels.select_f32(scores, n, -INFINITY, list)

    cdef void admit(self, int64_t j, int64_t i, const farann_block *where) noexcept nogil:
        """Take over the rows appended to list j of the tile, that of query i."""
        cdef Answer *answer = &self.answers[i]
        cdef int64_t before = answer.passed.count
        answer.passed.count = self.tile[j].count
        self.batch.passed += answer.passed.count - before
        self.take_passed(i, before, where)
        if self.selects:
            # Selecting the k best raises the threshold. It waits for k/5 more rows, which takes
            # less time than to select after each block, though some more rows pass.
            if answer.passed.count >= max(answer.select_at, self.batch.k):
                self.keep_best(i)
                answer.select_at = answer.passed.count + 1 + self.batch.k // 5
        elif answer.best.count == self.batch.k:
            self.raise_threshold(i, answer.best.scores[self.batch.k - 1] - answer.slack)
        if answer.passed.count >= self.capacity or (
                answer.threshold == -INFINITY and answer.passed.count >= 2 * self.batch.k):
            thin_out(self, i)

    cdef void take_passed(self, int64_t i, int64_t before,
                          const farann_block *where) noexcept nogil:
        """Make slots of rows appended from `before` on, keep the allowed, note the best scores."""
        cdef Answer *answer = &self.answers[i]
        farann_candidates_admit(&answer.passed, before, where, &self.batch.queries[i].filter,
                                &answer.best, 2.0 * answer.slack, INFINITY, INFINITY)

    cdef double keep_best(self, int64_t i) noexcept nogil:
        """The k-th best rough score; less its slack, it bounds the k-th best key."""
        cdef Answer *answer = &self.answers[i]
        cdef double best
        if (answer.passed.count if self.selects else answer.best.count) < self.batch.k:
            return INFINITY
        if self.selects:
            best = self.batch.kernels.kth_largest_f32(answer.passed.scores, answer.passed.count,
                                                      self.batch.k)
            self.raise_threshold(i, best - answer.slack)
        else:
            best = answer.best.scores[self.batch.k - 1]
        farann_candidates_split(&answer.passed, best - 2.0 * answer.slack, INFINITY)
        return best

    @cython.final
    cdef double kth_so_far(self, int64_t i) noexcept nogil:
        """The k-th best reduced key up to errors of codes; infinite: fewer rows were found."""
        cdef double best = self.keep_best(i), key
        cdef const farann_entry *last = self.kth(i)
        if last == NULL:
            return best
        key = reduced_key(&self.batch.queries[i], last.key)
        return key if best == INFINITY else max(best, key)

    # ---- exact keys ----

    @cython.final
    cdef void rerank_all(self, int64_t i) noexcept nogil:
        """Get the keys of all candidates that may still belong to the answer."""
        if uses(BEST_FIRST):
            rerank_best(self, i)
        rerank(self, i, 0)

    cdef const farann_entry *kth(self, int64_t i) noexcept nogil:
        """The k-th best row by exact keys, which others must beat; NULL: any row is taken."""
        cdef const farann_topk *top = &self.answers[i].top
        return top.entries if top.count == top.capacity else NULL

    @cython.final
    cdef const farann_entry *kth_near(self, int64_t i, double key) noexcept nogil:
        """The k-th best row among all that passed; NULL if there is none, or it is below `key`."""
        cdef Answer *answer = &self.answers[i]
        if answer.threshold + answer.slack < key:
            return NULL  # by rough scores already
        if answer.passed.count:
            self.rerank_all(i)
        return self.kth(i)

    @cython.final
    cdef void settle(self, int64_t i) noexcept nogil:
        """Get the keys of all candidates, and reset the error bound of rough scores."""
        cdef Answer *answer = &self.answers[i]
        self.rerank_all(i)
        answer.best.count, answer.slack, answer.select_at = 0, 0.0, 0

    cdef void take(self, int64_t i, const double *keys, const int64_t *rows, int64_t n,
                   const farann_block *where, const farann_filter *filter) noexcept nogil:
        """Take n rows of a block by exact keys: some rows, or the first ones if `rows` is NULL."""
        farann_topk_push_rows(&self.answers[i].top, keys, rows, n, self.batch.sign, where, filter)
        self.raise_to_kth(i)

    @cython.final
    cdef void raise_to_kth(self, int64_t i) noexcept nogil:
        """Make the key of the k-th row, if there is one, the threshold."""
        cdef const farann_entry *last = self.kth(i)
        if last != NULL:
            self.raise_threshold(i, reduced_key(&self.batch.queries[i], last.key))

    cdef absorb(self, int64_t i, list others):
        """Add what other collectors found for the same query in other rows; all have finished."""
        cdef farann_topk *best = &self.answers[i].top
        cdef const farann_topk *top
        cdef Collector other
        cdef int64_t j
        for j in range(best.count // 2):  # the worst row first, as in a heap
            best.entries[j], best.entries[best.count - 1 - j] = (
                best.entries[best.count - 1 - j], best.entries[j])
        for other in others:
            top = &other.answers[i].top
            for j in range(top.count):
                farann_topk_push(best, top.entries[j].key, top.entries[j].id)
        farann_entries_sort(best.entries, best.count, NULL, &NEVER)

    cdef void finish(self) noexcept nogil:
        """Get the keys of the remaining candidates, and sort the answers."""
        cdef Answer *answer
        cdef farann_entry *memory
        cdef int64_t i
        for i in range(self.batch.n_queries):
            if self.batch.cancelled():
                return
            answer, memory = &self.answers[i], NULL
            self.rerank_all(i)
            if 2 * answer.top.count <= self.capacity:  # sort in the room of the candidates
                memory = <farann_entry *>answer.passed.slots
            farann_entries_sort(answer.top.entries, answer.top.count, memory, self.batch.given_up)

    cdef void write(self, int64_t i, float *scores, int64_t *ids, int64_t n) noexcept nogil:
        """Write n results of query i, padded where fewer rows were found."""
        cdef const farann_topk *top = &self.answers[i].top
        cdef double key, score
        cdef int64_t j
        for j in range(n):
            scores[j], ids[j] = <float>NAN, -1
            if j < top.count:
                key = self.batch.sign * top.entries[j].key
                if self.batch.traits.squared:
                    key = max(key, 0.0)  # a key computed from a rough score may be negative
                score = farann_score(self.batch.metric, key,
                                     self.batch.queries[i].prepared.query_norm)
                scores[j] = <float>(0.0 - score if self.batch.negates else score)  # not -0.0
                ids[j] = top.entries[j].id


cdef float at_least(Collector collector, int64_t m, const float *scores, int64_t n) noexcept nogil:
    """A lower bound on the m-th best of n scores: the m-th best of the maxima of groups.

    -inf if there are fewer groups than m.
    """
    cdef float largest[FARANN_SCORE_GROUPS]
    if m > FARANN_SCORE_GROUPS // 2 or n % FARANN_PADDING:
        return collector.batch.kernels.kth_largest_f32(scores, n, m)
    collector.batch.kernels.largest_f32(scores, n, largest)
    return collector.batch.kernels.kth_largest_f32(largest, FARANN_SCORE_GROUPS, m)


cdef void thin_out(Collector collector, int64_t i) noexcept nogil:
    """Drop rows that can't belong to the answer; if most stay, get keys."""
    collector.keep_best(i)
    if collector.answers[i].passed.count > collector.capacity // 2:
        rerank_best(collector, i)
    if collector.answers[i].passed.count > collector.capacity // 2:
        rerank(collector, i, 0)


cdef void rerank_best(Collector collector, int64_t i) noexcept nogil:
    """Get the keys of the k best candidates, and drop the candidates that these rule out.

    Exact keys bound the k-th best key better, so that few other candidates need theirs.
    """
    cdef Answer *answer = &collector.answers[i]
    rerank(collector, i, farann_candidates_split(&answer.passed, -INFINITY, collector.keep_best(i)))
    farann_candidates_split(&answer.passed, answer.threshold - answer.slack, INFINITY)


cdef void rerank(Collector collector, int64_t i, int64_t first) noexcept nogil:
    """Offer the exact keys of the candidates from `first` on, and drop these candidates.

    Candidates that are left after a time limit are reranked, too.
    """
    cdef const Query *query = &collector.batch.queries[i]
    cdef Answer *answer = &collector.answers[i]
    cdef farann_filter admitted
    cdef farann_block where
    cdef int64_t j = first, row, n, n_exact
    admitted.live, admitted.groups, admitted.excluded.bits = NULL, NULL, 0
    while j < answer.passed.count and not collector.batch.cancelled():
        n = min(answer.passed.count - j, <int64_t>RERANKED_AT_ONCE)
        where = farann_block(0, answer.passed.slots + j, NULL,
                             collector.batch.snapshot.ids_by_slot, collector.batch.snapshot.n_slots)
        for row in range(0 if collector.batch.snapshot.vectors else n):
            collector.keys[row] = rough_key(query, collector.batch.sign,
                                            answer.passed.scores[j + row])
        n_exact = collector.rows.keys_of(answer.passed.slots + j, n, collector.batch.exact_query(i),
                                         collector.keys)
        collector.batch.rescored += n_exact
        collector.batch.bytes_read += n_exact * collector.batch.snapshot.row_bytes
        collector.take(i, collector.keys, NULL, n, &where, &admitted)
        j += n
    answer.passed.count = first


@cython.no_gc
cdef class RangeCollector(Collector):
    """Collects all rows beyond a radius, or within it, which is the threshold from the start.

    Of each query `most` rows are found, or a block more; 0: all.
    """

    cdef int64_t most

    def __init__(self, const double[::1] radii, int64_t most=0):
        self.radii, self.most = radii, most

    cdef allocate_answers(self):
        """Allocate nothing: answers grow as rows are found."""

    def __dealloc__(self):
        cdef int64_t i
        if self.answers != NULL:
            for i in range(self.batch.n_queries):
                free(self.answers[i].top.entries)

    cdef void forget(self, int64_t i) noexcept nogil:
        cdef const Query *query = &self.batch.queries[i]
        Collector.forget(self, i)
        self.raise_threshold(i, reduced_key(query, farann_key_at(
            self.batch.metric, self.batch.sign, self.radii[i], query.prepared.query_norm)))

    cdef double keep_best(self, int64_t i) noexcept nogil:
        """Rows are not ranked: there is nothing to drop."""
        return INFINITY

    cdef const farann_entry *kth(self, int64_t i) noexcept nogil:
        """NULL: all rows beyond the radius are wanted, not k of them."""
        return NULL

    cdef void take(self, int64_t i, const double *keys, const int64_t *rows, int64_t n,
                   const farann_block *where, const farann_filter *filter) noexcept nogil:
        """Append the rows that lie on the wanted side of the radius."""
        cdef farann_topk *top = &self.answers[i].top
        cdef farann_entry *entries
        if 0 < self.most <= top.count:
            return
        n = keep_on_side(self, i, keys, rows, n, self.batch.sign > 0.0)
        if top.count + n > top.capacity:
            entries = <farann_entry *>farann_realloc(
                top.entries, (2 * top.capacity + n) * sizeof(farann_entry))
            if entries == NULL:
                self.batch.scratch.failed = True
                return
            top.entries, top.capacity = entries, 2 * top.capacity + n
        farann_topk_push_rows(top, self.keys, self.places, n, self.batch.sign, where, filter)
        if 0 < self.most <= top.count:
            self.raise_threshold(i, INFINITY)


@cython.no_gc
cdef class NearestBeyondCollector(Collector):
    """Collects the k nearest of the rows beyond a radius."""

    # Reduced keys, by query: rows above `not_beyond` are not beyond the radius, rows below `beyond`
    # are.
    cdef double *not_beyond
    cdef double *beyond

    def __init__(self, int64_t k, const double[::1] radii):
        self.k, self.ranks, self.radii = k, True, radii

    cdef allocate_answers(self):
        cdef int64_t n = self.batch.n_queries
        Collector.allocate_answers(self)
        self.not_beyond = <double *>self.batch.scratch.allocate(2 * n, sizeof(double))
        self.beyond = self.not_beyond + n

    cdef void forget(self, int64_t i) noexcept nogil:
        """Compute which rough scores show that a row is beyond the radius, or that it is not."""
        cdef const Query *query = &self.batch.queries[i]
        cdef double key = farann_key_at(self.batch.metric, 1.0, self.radii[i],
                                        query.prepared.query_norm)
        cdef double band = 4e-12 * fabs(key) + 4.0 * DBL_MIN  # twice the rounding error
        Collector.forget(self, i)
        self.not_beyond[i] = query.prepared.key_offset - key * query.prepared.key_scale
        self.beyond[i] = query.prepared.key_offset - (key + band) * query.prepared.key_scale
        if not self.beyond[i] <= self.not_beyond[i]:  # the radius is too large for its square
            self.not_beyond[i], self.beyond[i] = INFINITY, -INFINITY

    cdef void select(self, int64_t j, int64_t i, const float *scores, int64_t n,
                     const farann_block *where) noexcept nogil:
        """Append all rows of a first block: any number of them may be within the radius."""
        self.batch.kernels.select_f32(scores, n, self.float_bar(i), &self.tile[j])

    cdef void take_passed(self, int64_t i, int64_t before,
                          const farann_block *where) noexcept nogil:
        cdef Answer *answer = &self.answers[i]
        farann_candidates_admit(
            &answer.passed, before, where, &self.batch.queries[i].filter, &answer.best,
            2.0 * answer.slack, self.beyond[i] - answer.slack, self.not_beyond[i] + answer.slack)

    cdef double keep_best(self, int64_t i) noexcept nogil:
        """Rows that may be within the radius don't count before they have keys."""
        if self.selects:
            rerank(self, i, farann_candidates_split(&self.answers[i].passed, -INFINITY,
                                                    self.beyond[i] - self.answers[i].slack))
        return Collector.keep_best(self, i)

    cdef void take(self, int64_t i, const double *keys, const int64_t *rows, int64_t n,
                   const farann_block *where, const farann_filter *filter) noexcept nogil:
        """Take those rows that lie beyond the radius."""
        Collector.take(self, i, self.keys, self.places,
                       keep_on_side(self, i, keys, rows, n, True), where, filter)


cdef int64_t keep_on_side(Collector collector, int64_t i, const double *keys, const int64_t *rows,
                          int64_t n, bint beyond) noexcept nogil:
    """Copy the keys of rows beyond the radius, or within it, and their places in the block."""
    cdef const Query *query = &collector.batch.queries[i]
    cdef int64_t at, hits = 0
    cdef double score
    for at in range(n):
        score = farann_score(collector.batch.metric, keys[at], query.prepared.query_norm)
        collector.keys[hits], collector.places[hits] = keys[at], at if rows == NULL else rows[at]
        hits += farann_is_beyond(collector.batch.metric, score, collector.radii[i]) == beyond
    return hits


cdef double bar_of(QueryBatch batch, int64_t i, double threshold) noexcept nogil:
    """The reduced key that a row must reach beside a threshold, with the batch's epsilon."""
    if batch.epsilon == 0.0:
        return threshold
    return farann_key_within(batch.metric, batch.sign, threshold, batch.epsilon,
                             &batch.queries[i].prepared)


cdef double floor_of(const Query *query, double reduced) noexcept nogil:
    """The score threshold of a reduced key without its offset; slacks pay for the rounding."""
    return reduced + query.prepared.key_offset


cdef double rough_key(const Query *query, double sign, double score) noexcept nogil:
    """The key whose reduced key is a rough score."""
    return sign * (score - query.prepared.key_offset) / query.prepared.key_scale
