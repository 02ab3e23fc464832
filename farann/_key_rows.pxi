# Canonical keys of all rows of a block, where rough scores rule out too little. Part of _core.pyx.

cdef enum:
    # Keys of so many rows are compared with one threshold.
    KEYS_AT_ONCE = 256
    # Fewer queries take keys row by row: packing serves too few.
    FEW_KEYED = 3
    # If more than one row in so many passes by float32, float64 for all of them costs less: a row
    # that passes is kept in lists and fetched again. Squared differences take three operations
    # where a product takes one.
    MANY_PASS = 10
    MANY_PASS_L2 = 5
    # A float64 product of a packed row is counted as so many in float32, or of l2 as so many.
    KEY_PRODUCTS = 2
    KEY_PRODUCTS_L2 = 6

# More than rounding moves a quotient by, and a product with a norm, relative to themselves.
cdef double QUOTIENT_ERROR = 2.0 ** -50
# Less than any product of float32 numbers other than 0; its product with a norm does not underflow.
cdef double NEARLY_ZERO = 1e-200


cdef class KeyRows(Selection):
    """Gives queries whose k-th key is shared, or nearly so, by many rows the keys of all rows.

    Float32 can't tell these rows apart, and would let all of them pass. Canonical keys and ids can.
    """

    cdef farann_key_panels key_panels  # without rows: there is no memory for them so far
    cdef double *key_tile   # some queries in float64, side by side
    cdef farann_key_bar *key_bars
    cdef int64_t *keyed     # queries that get the keys of the block
    cdef int64_t n_keyed
    cdef int64_t n_seen     # rows scanned before those of the segment
    cdef bint keys_follow   # blocks of codes, for queries that too many of their rows pass for
    cdef int64_t alike      # rows that passed by codes for nothing, as keys took their place

    cdef bint keys_decide(self, const Query *query) noexcept nogil:
        """Whether a search is one that may go by keys: exact, for k rows, with vectors."""
        return (not self.beyond and self.epsilon == 0.0 and query.expected == -INFINITY
                and self.snapshot.vectors)

    cdef bint few_of(self, int64_t passed, int64_t n) noexcept nogil:
        """Whether so few of n rows pass that float32 costs less."""
        return passed * (MANY_PASS_L2 if self.snapshot.metric == FARANN_L2 else MANY_PASS) <= n

    cdef bint judge_rough(self, Query *query, int64_t passed, int64_t seen,
                          int64_t n) noexcept nogil:
        """Whether too many of n rows passed, after `seen` others: from now on keys decide.

        Of rows in any order n k / seen pass by themselves.
        """
        if self.few_of(passed, n) or seen < 2 * MANY_PASS * self.k or not self.keys_decide(query):
            return False
        if self.mode == PACKED and not self.allocate_keys():
            return False
        self.rescore_best(query)
        self.rescore(query, 0)
        query.by_keys = True
        return True

    cdef void take_keys(self, int64_t i) noexcept nogil:
        """Put a query among those that get the keys of the block."""
        self.keyed[self.n_keyed] = i
        self.n_keyed += 1

    cdef bint allocate_keys(self) noexcept nogil:
        """Room for packed rows in float64, once for all; whether there is."""
        cdef const farann_kernels *kernels = self.snapshot.kernels
        cdef int64_t dim = self.snapshot.dim, width = kernels.key_queries, i
        cdef int64_t rows = self.block_rows + kernels.key_rows
        cdef double *memory
        if self.key_panels.rows != NULL:
            return True
        memory = <double *>self.allocated(
            rows * (dim + 3) + width * (dim + 2 * KEYS_AT_ONCE + sizeof(farann_key_bar) // 8)
            + self.n_queries, sizeof(double), False)
        if memory == NULL:
            return False
        self.key_panels.rows, self.key_panels.dim = memory, dim
        self.key_panels.norms = memory + rows * dim
        self.key_panels.ids = self.key_panels.norms + rows
        self.key_panels.first_ids = self.key_panels.ids + rows
        self.key_tile = self.key_panels.first_ids + rows
        memory = self.key_tile + width * dim
        self.key_bars = <farann_key_bar *>(memory + width * 2 * KEYS_AT_ONCE)
        for i in range(width):
            self.key_bars[i].keys = memory + 2 * i * KEYS_AT_ONCE
            self.key_bars[i].rows = <int64_t *>(self.key_bars[i].keys + KEYS_AT_ONCE)
        self.keyed = <int64_t *>(self.key_bars + width)
        return True

    cdef void score_keyed(self, Query *query, const Segment *segment, int64_t start,
                          int64_t n) noexcept nogil:
        """Offer the keys of a block, row by row."""
        cdef double near = self.near_key(query)
        cdef int64_t i, n_near = 0
        self.score_exact(query, segment, start, n)
        for i in range(n):
            n_near += self.sign * self.keys[i] > near
        query.by_keys = query.by_keys and not self.few_of(2 * n_near, n)

    cdef void scan_keys(self, const Segment *segment, int64_t start, int64_t n) noexcept nogil:
        """Offer the keys of a block to the queries in `self.keyed`."""
        cdef const farann_kernels *kernels = self.snapshot.kernels
        cdef int64_t at = 0, count, i, width = kernels.key_queries
        if self.n_keyed < FEW_KEYED:
            for i in range(self.n_keyed):
                self.score_keyed(&self.queries[self.keyed[i]], segment, start, n)
            return
        cdef farann_block block = self.block_of(segment, start)
        self.pack_keys(&block, self.rows_at(segment, start), n)
        while at < self.n_keyed and not self.stopped():
            count = min(width, self.n_keyed - at)
            self.scan_key_tile(&self.keyed[at], count, &block, n)
            self.float_products += n * width * self.snapshot.dim * (
                KEY_PRODUCTS_L2 if self.snapshot.metric == FARANN_L2 else KEY_PRODUCTS)
            self.blocks += count
            at += count

    cdef void pack_keys(self, const farann_block *block, const float *rows,
                        int64_t n) noexcept nogil:
        cdef int64_t i, slot, width = self.snapshot.kernels.key_rows
        cdef double *first = self.key_panels.first_ids
        cdef double id
        self.snapshot.kernels.pack_rows_f64(
            rows, block.positions, n, self.snapshot.dim, self.packing.unit, self.key_panels.rows,
            self.key_panels.norms)
        for i in range(n):
            slot = block.first + (block.positions[i] if block.positions != NULL else i)
            id = <double>(block.ids[slot] if block.ids != NULL else slot)
            self.key_panels.ids[i] = id
            first[i // width] = id if i % width == 0 else min(first[i // width], id)
        for i in range(n, (n + width - 1) // width * width):
            self.key_panels.ids[i] = INFINITY

    cdef void scan_key_tile(self, const int64_t *members, int64_t count, const farann_block *block,
                            int64_t n) noexcept nogil:
        cdef int64_t width = self.snapshot.kernels.key_queries, dim = self.snapshot.dim, start = 0
        cdef int64_t i, j, step
        cdef int64_t near[16]
        cdef farann_key_bar *bar
        cdef Query *query
        for i in range(count):
            query, near[i] = &self.queries[members[i]], 0
            for j in range(dim):
                self.key_tile[j * width + i] = query.given[j]
        for i in range(count, width):
            for j in range(dim):
                self.key_tile[j * width + i] = 0.0
        while start < n:
            step = KEYS_AT_ONCE
            for i in range(count):
                query = &self.queries[members[i]]
                self.set_key_bar(&self.key_bars[i], query)
                if query.found.count < query.found.capacity:
                    # All pass until there are k: then there is something to compare with.
                    step = self.snapshot.kernels.key_rows
            step = min(step, n - start)
            self.snapshot.kernels.scan_keys_f64[<int>self.snapshot.metric](
                &self.key_panels, start, step, self.key_tile, self.sign, <int>count, self.key_bars)
            for i in range(count):
                bar, query = &self.key_bars[i], &self.queries[members[i]]
                near[i] += bar.n_near
                self.rescored += bar.count
                farann_topk_push_rows(&query.found, bar.keys, bar.rows, bar.count, block,
                                      &query.filter)
                self.raise_threshold(query)
            start += step
        for i in range(count):
            query = &self.queries[members[i]]
            query.by_keys = query.by_keys and not self.few_of(2 * near[i], n)

    cdef void set_key_bar(self, farann_key_bar *bar, const Query *query) noexcept nogil:
        """What keys times the sign are compared with, by what has been found so far."""
        cdef double lost
        bar.n_near, bar.count = 0, 0
        bar.least = bar.just_below = bar.near = -INFINITY
        bar.last_id, bar.beyond = INFINITY, -INFINITY
        if query.found.count < query.found.capacity:
            return
        bar.least, bar.last_id = query.found.entries[0].key, <double>query.found.entries[0].id
        lost = fabs(bar.least) * QUOTIENT_ERROR
        bar.beyond = 0.5 * (nextafter(bar.least, INFINITY) - bar.least) * (1.0 - QUOTIENT_ERROR)
        bar.just_below = bar.least - (lost if self.packing.unit else 0.0)
        bar.near = min(self.near_key(query), bar.least - 2.0 * lost - NEARLY_ZERO)

    cdef double near_key(self, const Query *query) noexcept nogil:
        """Keys times the sign above this would pass by float32, give or take the slack."""
        return ((query.threshold - query.slack - query.prepared.key_offset)
                / query.prepared.key_scale)
