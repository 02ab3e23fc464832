# First of all rows that answered similar queries. Part of _core.pyx.

cdef class SeededRows(CodedRows):
    """Looks first at rows that answered similar queries: they give a good threshold at once.

    They are passed over when they are met again in their place.
    """

    cdef Seeds seeds           # None where they are of no use
    cdef uint32_t *seed_codes  # whole codes of a tile
    cdef float *seed_scores    # of a tile
    cdef int64_t *list_of      # by query
    cdef int64_t *list_heads   # a list's first query among these
    cdef int64_t *askers       # queries, list after list

    cdef allocate_codes(self):
        CodedRows.allocate_codes(self)
        cdef int64_t width = self.snapshot.kernels.code_queries
        cdef Seeds seeds = self.snapshot.seeds
        self.seeds = None
        if (not self.snapshot.seeds_for(self.k) or self.sign < 0.0 or self.beyond
                or not self.seeds_pay(seeds)):
            return
        self.seeds = seeds
        self.n_scored = 0  # there is a threshold before
        self.list_of = <int64_t *>self.allocate(
            2 * self.n_queries + seeds.n_lists + 2, sizeof(int64_t))
        self.askers = self.list_of + self.n_queries
        self.list_heads = self.askers + self.n_queries
        self.seed_codes = <uint32_t *>self.allocate(
            self.words_of_tile(width, self.codes.groups) + width * MOST_SCORED, sizeof(uint32_t))
        self.seed_scores = <float *>(
            self.seed_codes + self.words_of_tile(width, self.codes.groups))

    cdef bint seeds_pay(self, Seeds seeds):
        return True

    cdef void scan_seeds(self) noexcept nogil:
        """Score the rows of each query's list."""
        cdef int64_t width = self.snapshot.kernels.code_queries, i, at, end
        if self.seeds is None:
            return
        self.choose_lists()
        for i in range(self.seeds.n_lists):
            at, end = self.list_heads[i], self.list_heads[i + 1]
            while at < end and not self.stopped():
                self.score_list(i, at, min(width, end - at))
                at += width

    cdef void choose_lists(self) noexcept nogil:
        """Find the list of each query, and put the queries of a list together."""
        cdef int64_t width = self.snapshot.kernels.code_queries, first = 0, count, i, j
        cdef int64_t n = self.seeds.n_padded
        cdef const float *scores
        for i in range(self.seeds.n_lists + 2):
            self.list_heads[i] = 0
        for i in range(self.n_queries):
            self.askers[i] = i
        while first < self.n_queries:
            count = min(width, self.n_queries - first)
            self.score_seeds(&self.seeds.groups, n, first, count)
            for i in range(count):
                scores = self.seed_scores + i * n
                self.list_of[first + i] = 0
                for j in range(1, self.seeds.n_lists):
                    if scores[j] > scores[self.list_of[first + i]]:
                        self.list_of[first + i] = j
                self.list_heads[self.list_of[first + i] + 2] += 1
            first += width
        # Each list's head is that of the one before until its queries are in place.
        for i in range(self.seeds.n_lists):
            self.list_heads[i + 2] += self.list_heads[i + 1]
        for i in range(self.n_queries):
            self.askers[self.list_heads[self.list_of[i] + 1]] = i
            self.list_heads[self.list_of[i] + 1] += 1

    cdef void score_seeds(self, const farann_coded_rows *rows, int64_t n, int64_t at,
                          int64_t count) noexcept nogil:
        """Score rows for a tile of queries, `count` of `self.askers`, a row of scores for each."""
        cdef int64_t width = self.snapshot.kernels.code_queries if count > 1 else 1, i
        cdef farann_coded_tile tile
        cdef farann_code_bar bar
        cdef const Query *query
        tile.codes, tile.bars = self.seed_codes, &self.bars
        for i in range(width):
            # What is left of a tile repeats a query.
            self.members[i] = self.askers[at + min(i, count - 1)]
            query = &self.queries[self.members[i]]
            bar = self.no_bar  # scores of a query without codes mean nothing, and aren't used
            if query.coded:
                bar = farann_code_bar_at(&query.whole, &self.codes.bounds, -INFINITY, self.sign,
                                         False)
            farann_code_bars_set(&self.bars, i, &bar)
        if width == 1:
            tile.codes = self.single_codes(self.members[0])
            self.snapshot.kernels.score_codes_one_i8(rows, n, &tile, self.seed_scores)
        else:
            self.snapshot.kernels.gather_codes(self.codes_of, self.members, width,
                                               self.codes.groups, self.seed_codes)
            self.snapshot.kernels.score_codes_i8(rows, n, &tile, self.seed_scores)
        self.count_products(n * width, self.codes.groups, count)

    cdef void score_list(self, int64_t number, int64_t at, int64_t count) noexcept nogil:
        """Admit the rows of a list for some of its queries."""
        cdef farann_coded_rows rows = self.seeds.list_at(number)
        cdef int64_t n = self.seeds.length, i, j
        cdef const float *weights = &self.seeds.row_weights[number * n]
        cdef farann_block block = self.coded_block(0)
        cdef float *scores
        cdef Query *query
        block.first, block.slots, block.positions = 0, NULL, &self.seeds.slots[number * n]
        self.score_seeds(&rows, n, at, count)
        for i in range(count):
            query = &self.queries[self.askers[at + i]]
            if not query.coded:
                continue
            scores = self.seed_scores + i * n
            for j in range(n):
                scores[j] /= weights[j]
            self.admit_best(query, scores, n, &block)
            self.rescore_best(query)
            query.filter.met, query.filter.n_met = block.positions, n
            self.scanned += n
            self.bytes_read += n * self.codes.groups * FARANN_CODE_GROUP
