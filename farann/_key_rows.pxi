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
    # Of rows that are scored first, more than one in so many can't be told from the best. Later ones
    # may still rule them out, so that one costs no more than a key of so many coordinates.
    FEW_ALIKE = 4
    PASSES_AS_KEY = 512
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

    cdef farann_key_panels key_panels
    cdef float *box_low     # the smallest of each coordinate of the block
    cdef float *box_high    # the largest
    cdef float *corner      # of these the ones whose key is best
    cdef double *key_tile   # some queries in float64, side by side
    cdef farann_key_bar *key_bars
    cdef int64_t *keyed     # queries that get the keys of the block; NULL: no memory so far
    cdef int64_t n_keyed
    cdef int64_t n_seen     # rows scanned before those of the segment
    cdef bint keys_follow   # blocks of codes, for queries that too many of their rows pass for
    cdef bint takes_alike   # whether rows are the first, see `admit_best`
    cdef int64_t n_near     # rows that would have passed, had they had no keys
    cdef int64_t alike      # and those of codes

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

        Of rows in any order n k / seen pass by themselves, some more or less.
        """
        if seen < self.k or self.few_of(passed - 2 * n * self.k // seen, n) or (
                not self.keys_decide(query)):
            return False
        if not self.allocate_keys():
            return False
        self.rescore_best(query)
        self.rescore(query, 0)
        query.by_keys = True
        return True

    cdef void admit_best(self, Query *query, const float *scores, int64_t n,
                         const farann_block *block) noexcept nogil:
        """As in `Selection`, but rows that codes can't tell from the best get keys.

        Where a filter leaves out the best, many pass for that reason alone.
        """
        cdef int64_t before = query.candidates.count, passed
        if not (self.takes_alike and self.filter.is_open() and self.keys_decide(query)):
            Selection.admit_best(self, query, scores, n, block)
            return
        self.select_best(query, scores, n, block)
        passed = query.candidates.count - before
        if (passed * FEW_ALIKE > n and passed * PASSES_AS_KEY > n * self.snapshot.dim
                and self.allocate_keys()):
            self.alike += passed
            query.candidates.count, query.by_keys = before, True
            return
        self.admit(query, before, block)

    cdef void count_scanned(self, int64_t n, int64_t n_queries) noexcept nogil:
        """Note that so many queries were scored for by n rows in full."""
        self.scanned += n * n_queries
        self.bytes_read += n * n_queries * self.snapshot.dim * <int64_t>sizeof(float)

    cdef void settle_keys(self) noexcept nogil:
        """After a whole block: rough scores will do again for queries that few rows came near."""
        cdef int64_t i
        cdef Query *query
        for i in range(self.n_queries):
            query = &self.queries[i]
            query.by_keys = query.by_keys and not query.keys_end
            query.keys_end = False

    cdef void take_keys(self, int64_t i) noexcept nogil:
        """Put a query among those that get the keys of the block."""
        self.keyed[self.n_keyed] = i
        self.n_keyed += 1

    cdef bint allocate_keys(self) noexcept nogil:
        """Room for packed rows in float64, once for all; whether there is."""
        cdef const farann_kernels *kernels = self.snapshot.kernels
        cdef int64_t dim = self.snapshot.dim, width = kernels.key_queries, i
        cdef int64_t rows = self.block_rows + kernels.key_rows if self.mode == PACKED else 0
        cdef double *memory
        if self.keyed != NULL:
            return True
        memory = <double *>self.allocated(
            rows * (dim + 3) + width * (dim + 2 * KEYS_AT_ONCE + sizeof(farann_key_bar) // 8)
            + self.n_queries + 2 * dim, sizeof(double), False)
        if memory == NULL:
            self.out_of_memory = True
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
        self.box_low = <float *>(self.keyed + self.n_queries)
        self.box_high = self.box_low + dim
        self.corner = self.box_high + dim
        return True

    cdef void score_keyed(self, Query *query, const Segment *segment, int64_t start,
                          int64_t n) noexcept nogil:
        """Offer the keys of a block, row by row."""
        cdef double near = self.near_key(query)
        cdef int64_t i, n_near = 0
        self.score_exact(query, segment, start, n)
        for i in range(n):
            n_near += self.sign * self.keys[i] > near
        self.n_near += n_near
        query.keys_end = self.few_of(2 * n_near, n)

    cdef int64_t scan_keys(self, const Segment *segment, int64_t start, int64_t n) noexcept nogil:
        """Offer the keys of a block to the queries in `self.keyed`; gives how many need none."""
        cdef const farann_kernels *kernels = self.snapshot.kernels
        cdef int64_t at = 0, count, i, width = kernels.key_queries
        cdef farann_block block = self.block_of(segment, start)
        cdef int64_t n_left_out = self.leave_out_box(&block, self.rows_at(segment, start), n)
        if self.n_keyed < FEW_KEYED:
            for i in range(self.n_keyed):
                self.score_keyed(&self.queries[self.keyed[i]], segment, start, n)
            return n_left_out
        self.pack_keys(&block, self.rows_at(segment, start), n)
        while at < self.n_keyed and not self.stopped():
            count = min(width, self.n_keyed - at)
            self.scan_key_tile(&self.keyed[at], count, &block, n)
            self.float_products += n * width * self.snapshot.dim * (
                KEY_PRODUCTS_L2 if self.snapshot.metric == FARANN_L2 else KEY_PRODUCTS)
            self.blocks += count
            at += count
        return n_left_out

    cdef int64_t leave_out_box(self, const farann_block *block, const float *rows,
                               int64_t n) noexcept nogil:
        """Forget the queries in `self.keyed` that no row of a block can answer; gives how many."""
        cdef int64_t n_before = self.n_keyed
        cdef int64_t i, slot, kept = 0, id, first_id = INT64_MAX
        cdef bint wanted = False
        cdef Query *query
        for i in range(self.n_keyed):
            query = &self.queries[self.keyed[i]]
            wanted |= query.box_pause == 0 and query.found.count == query.found.capacity
        if not wanted:
            for i in range(self.n_keyed):
                query = &self.queries[self.keyed[i]]
                query.box_pause -= query.box_pause > 0
            return 0
        self.snapshot.kernels.box_f32(rows, block.positions, n, self.snapshot.dim, self.box_low,
                                      self.box_high)
        for i in range(n):
            slot = block.first + (block.positions[i] if block.positions != NULL else i)
            id = block.ids[slot] if block.ids != NULL else slot
            first_id = min(first_id, id)
        for i in range(self.n_keyed):
            query = &self.queries[self.keyed[i]]
            if query.box_pause > 0:
                query.box_pause -= 1
            elif query.found.count == query.found.capacity:
                if self.box_is_worse(query, first_id):
                    query.next_box_pause = 0
                    continue
                query.next_box_pause = min(2 * query.next_box_pause + 1, LONGEST_PAUSE)
                query.box_pause = query.next_box_pause
            self.keyed[kept] = self.keyed[i]
            kept += 1
        self.n_keyed = kept
        return n_before - kept

    cdef bint box_is_worse(self, const Query *query, int64_t first_id) noexcept nogil:
        """Whether every row in the box, none with an id before `first_id`, has a key too small.

        Rounding keeps order: sums of terms that are none larger, added in the same order, are none
        larger. So the computed key of the best corner bounds the computed keys of all rows.
        """
        cdef const farann_entry *last = &query.found.entries[0]
        cdef const double *exact = self.exact_query(query)
        cdef farann_metric metric = self.snapshot.metric
        cdef double key
        cdef int64_t j
        for j in range(self.snapshot.dim):
            if metric != FARANN_L2:
                self.corner[j] = self.box_low[j] if self.sign * exact[j] > 0.0 else self.box_high[j]
            elif self.sign > 0.0:
                if fabs(exact[j] - self.box_low[j]) > fabs(exact[j] - self.box_high[j]):
                    self.corner[j] = self.box_low[j]
                else:
                    self.corner[j] = self.box_high[j]
            else:
                self.corner[j] = <float>min(max(exact[j], <double>self.box_low[j]),
                                            <double>self.box_high[j])
        if metric == FARANN_COSINE:
            metric = FARANN_DOT
        self.snapshot.kernels.keys_f64[<int>metric](self.corner, NULL, 1, self.snapshot.dim, exact,
                                                    &key)
        key *= self.sign
        if self.packing.unit:
            # What is not above 0 is not after dividing by a norm.
            key = 0.0 if key <= 0.0 else INFINITY
        return key < last.key or (key == last.key and first_id > last.id)

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
            self.n_near += near[i]
            query.keys_end = self.few_of(2 * near[i], n)

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

    cdef void scan_keys_at(self, int64_t start, int64_t n, bint counted) noexcept nogil:
        """Score rows at some positions by keys for queries that get these.

        `counted`: as scanned, as they were scored by codes before.
        """
        cdef Segment rows = self.snapshot.segments[0]
        cdef int64_t i, slot, at = 0, n_rows, n_scored, near
        if self.list_keyed() == 0:
            return
        rows.count, rows.positions = 0, self.positions
        for i in range(start, start + n):
            slot = i if self.codes.slots is None else self.codes.slots[i]
            if 0 <= slot < self.codes.n_rows:
                self.positions[rows.count] = slot
                rows.count += 1
        while at < rows.count and not self.stopped():
            n_rows, n_scored = min(self.block_rows, rows.count - at), self.list_keyed()
            near = self.n_near
            n_scored -= self.scan_keys(&rows, at, n_rows)
            if not counted:
                self.count_scanned(n_rows, n_scored)
                self.alike += self.n_near - near
            at += n_rows
        self.settle_keys()

    cdef int64_t list_keyed(self) noexcept nogil:
        """Put the active queries that get keys into `self.keyed`; gives how many these are."""
        cdef int64_t i
        self.n_keyed = 0
        for i in range(self.n_active):
            if self.queries[self.active[i]].by_keys:
                self.take_keys(self.active[i])
        return self.n_keyed

    cdef void end_keys(self) noexcept nogil:
        """From here on nobody looks for keys: what is scanned next is scanned for all queries."""
        cdef int64_t i
        self.keys_follow = False
        for i in range(self.n_queries):
            self.queries[i].by_keys = False
