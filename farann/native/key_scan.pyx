"""Exact keys of all rows of a block, where rough scores rule out too little."""

cimport cython
from libc.math cimport INFINITY, fabs, nextafter
from libc.stdint cimport int64_t

from farann.native.candidates cimport Candidates
from farann.native.ceilings cimport Ceilings
from farann.native.integer_keys cimport IntegerKeys
from farann.native.kernels cimport *
from farann.native.process cimport KEY_SCAN, ZERO_COLUMNS, uses
from farann.native.query_batch cimport Query, QueryBatch
from farann.native.row_reader cimport RowBlock
from farann.native.snapshot cimport Segment

cdef enum:
    KEYS_AT_ONCE = 256  # rows whose keys are compared with one threshold before it is raised
    FEW_KEYED = 3  # fewer queries compute keys row by row: packing rows would not pay
    # If more than one row in MANY_PASS passes by float32, float64 keys of all rows cost less: a row
    # that passes is listed and fetched again. Under l2 a key takes three operations a coordinate,
    # not one.
    MANY_PASS = 10
    MANY_PASS_L2 = 5
    SOME_PASS = 32  # if more than one row in 32 passes, the query's ceiling key is computed
    MANY_PASS_ROW_MAJOR = 4  # as MANY_PASS, for unpacked rows, whose float64 keys take longer
    # Of the first rows, if more than one in FEW_ALIKE can't be told from the best, all get keys.
    # Later rows may still rule them out: one counts as a key of PASSES_AS_KEY coordinates, no more.
    FEW_ALIKE = 4
    PASSES_AS_KEY = 512
    KEY_PRODUCTS = 2  # float32 products that a float64 product of a packed row counts as
    KEY_PRODUCTS_L2 = 6  # the same under l2

# Relative bound on the rounding error of a quotient, and of a product with a norm.
cdef double QUOTIENT_ERROR = 2.0 ** -50
# Less than any product of float32 numbers other than 0; its product with a norm does not underflow.
cdef double NEARLY_ZERO = 1e-200


@cython.no_gc  # what parts refer to never refers to them
@cython.freelist(8)
cdef class KeyScan:
    """Gives queries whose k-th key is shared, or nearly so, by many rows the keys of all rows.

    Float32 can't tell these rows apart, and would let all of them pass. Exact keys and ids can.
    """

    @staticmethod
    cdef KeyScan of(QueryBatch batch, Candidates candidates, bint may_decide, bint packed):
        """`may_decide`: the search is exact, for k rows, with vectors, and keys may be told."""
        cdef KeyScan self = KeyScan.__new__(KeyScan)
        self.batch, self.candidates, self.may_decide = batch, candidates, may_decide
        self.integer_keys = IntegerKeys.of(batch, candidates)
        self.ceilings = Ceilings.of(batch, candidates, self.integer_keys)
        self.packed_rows = batch.block_rows + batch.kernels.key_rows if packed else 0
        return self

    cdef int pieces(self) noexcept:
        """How many pieces of memory exact keys have needed so far."""
        return (self.keyed != NULL) + (self.integer_keys.zeros != NULL)

    cdef bint keys_decide(self, const Query *query) noexcept nogil:
        """Whether a query may go by keys."""
        return uses(KEY_SCAN) and self.may_decide and query.predicted == -INFINITY

    cdef bint few_of(self, int64_t passed, int64_t n) noexcept nogil:
        """Whether float32 costs less than exact keys if `passed` of n rows pass."""
        if not self.packed_rows and not self.integer_keys.may_be_exact():
            return passed * MANY_PASS_ROW_MAJOR <= n
        return passed * (MANY_PASS_L2 if self.batch.metric == FARANN_L2 else MANY_PASS) <= n

    cdef bint judge_rough(self, Query *query, int64_t passed, int64_t seen,
                          int64_t n) noexcept nogil:
        """Whether too many of n rows passed, after `seen` others: from now on keys decide.

        Of rows in any order n k / seen pass by themselves, some more or less.
        """
        if seen < self.batch.k or not self.keys_decide(query):
            return False
        passed -= 2 * n * self.batch.k // seen
        if self.in_float32 and passed * SOME_PASS > n:
            self.ceilings.find(query)
        if self.few_of(passed, n) or not self.allocate_keys():
            return False
        self.candidates.rerank_all(query)
        query.by_keys = True
        return True

    cdef void admit_first(self, Query *query, const float *scores, int64_t n,
                          const farann_block *block) noexcept nogil:
        """Admit the best of the first rows; those that codes can't tell from these get keys.

        Where a filter leaves out the best, many pass for that reason alone.
        """
        cdef int64_t before = query.candidates.count, passed
        if not (self.batch.filter.is_open() and self.keys_decide(query)):
            self.candidates.admit_best(query, scores, n, block)
            return
        self.candidates.select_best(query, scores, n, block)
        passed = query.candidates.count - before - self.batch.k
        if (passed * FEW_ALIKE > n and passed * PASSES_AS_KEY > n * self.batch.dim
                and self.allocate_keys()):
            self.batch.alike += passed
            query.candidates.count, query.by_keys = before, True
            return
        self.candidates.admit(query, before, block)

    cdef void settle_keys(self) noexcept nogil:
        """After a whole block: rough scores will do again for queries that few rows came near."""
        cdef int64_t i
        cdef Query *query
        for i in range(self.batch.n_queries):
            query = &self.batch.queries[i]
            if query.by_keys and self.in_float32:
                self.ceilings.find(query)
            query.by_keys = query.by_keys and not query.keys_end
            query.keys_end = False

    cdef void take_keys(self, int64_t i) noexcept nogil:
        """Put a query among those that get the keys of the block."""
        self.keyed[self.n_keyed] = i
        self.n_keyed += 1

    cdef bint allocate_keys(self) noexcept nogil:
        """Room for packed rows in float64, once for all; whether there is."""
        cdef const farann_kernels *kernels = self.batch.kernels
        cdef int64_t dim = self.batch.dim, width = kernels.key_queries, i
        cdef int64_t rows = self.packed_rows
        cdef double *memory
        if self.keyed != NULL:
            return True
        memory = <double *>self.batch.scratch.allocated(
            rows * (dim + 3) + width * (dim + 2 * KEYS_AT_ONCE + sizeof(farann_key_threshold) // 8)
            + self.batch.n_queries + dim, sizeof(double), False)
        if memory == NULL:
            self.batch.scratch.failed = True
            return False
        self.key_panels.rows, self.key_panels.dim = memory, dim
        self.key_panels.norms = memory + rows * dim
        self.key_panels.ids = self.key_panels.norms + rows
        self.key_panels.first_ids = self.key_panels.ids + rows
        self.key_tile = self.key_panels.first_ids + rows
        memory = self.key_tile + width * dim
        self.key_thresholds = <farann_key_threshold *>(memory + width * 2 * KEYS_AT_ONCE)
        for i in range(width):
            self.key_thresholds[i].keys = memory + 2 * i * KEYS_AT_ONCE
            self.key_thresholds[i].rows = <int64_t *>(self.key_thresholds[i].keys + KEYS_AT_ONCE)
        self.keyed = <int64_t *>(self.key_thresholds + width)
        self.key_panels.columns = self.keyed + self.batch.n_queries
        return True

    cdef void score_keyed(self, Query *query, const Segment *segment, int64_t start,
                          int64_t n) noexcept nogil:
        """Offer the keys of a block, row by row."""
        cdef double near
        cdef int64_t i, n_near = 0
        cdef farann_block block
        if self.integer_keys.are_exact(query):
            block = self.candidates.block_of(segment, start)
            self.integer_keys.find(query, segment, start, n)
            self.candidates.offer(query, n, &block, &query.filter)
        else:
            self.candidates.score_exactly(query, segment, start, n)
        near = self.near_key(query)  # by what is known now, as it is for the next block
        for i in range(n):
            n_near += self.batch.sign * self.candidates.exact_keys[i] > near
        self.batch.n_near += n_near
        query.keys_end = self.few_of(2 * n_near, n)

    cdef void scan_keys(self, const Segment *segment, int64_t start, int64_t n) noexcept nogil:
        """Offer the keys of a block to the queries in `self.keyed`."""
        cdef const farann_kernels *kernels = self.batch.kernels
        cdef int64_t at = 0, count, i, width = kernels.key_queries
        cdef farann_block block = self.candidates.block_of(segment, start)
        if self.n_keyed < FEW_KEYED:
            for i in range(self.n_keyed):
                self.score_keyed(&self.batch.queries[self.keyed[i]], segment, start, n)
            return
        self.pack_keys(&block, segment, start, n)
        while at < self.n_keyed and not self.batch.stopped():
            count = min(width, self.n_keyed - at)
            self.scan_key_tile(&self.keyed[at], count, &block, n)
            self.batch.float_products += n * width * self.key_panels.lanes[8] * (
                KEY_PRODUCTS_L2 if self.batch.metric == FARANN_L2 else KEY_PRODUCTS)
            self.batch.blocks += count
            at += count

    cdef void pack_keys(self, const farann_block *block, const Segment *segment, int64_t start,
                        int64_t n) noexcept nogil:
        cdef int64_t i, slot, width = self.batch.kernels.key_rows
        cdef RowBlock rows = self.candidates.rows_at(segment, start, n)
        cdef double *first = self.key_panels.first_ids
        cdef double id
        self.batch.kernels.pack_rows_f64(
            rows.rows, rows.positions, n, self.batch.dim, self.batch.packing.normalized,
            self.key_panels.rows, self.key_panels.norms)
        for i in range(n):
            slot = block.first + (block.positions[i] if block.positions != NULL else i)
            id = <double>(block.ids[slot] if block.ids != NULL else slot)
            self.key_panels.ids[i] = id
            first[i // width] = id if i % width == 0 else min(first[i // width], id)
        for i in range(n, (n + width - 1) // width * width):
            self.key_panels.ids[i] = INFINITY

    cdef void take_columns(self, const int64_t *members, int64_t count) noexcept nogil:
        """Make a tile of some queries, of the columns in which any of them is other than 0.

        Differences of others count, too, where these are squared.
        """
        cdef int64_t width = self.batch.kernels.key_queries, n = 0, lane, i, j
        cdef bint counts
        cdef double *column
        for lane in range(8):
            self.key_panels.lanes[lane] = n
            for j in range(lane, self.batch.dim, 8):
                column, counts = self.key_tile + n * width, self.batch.metric == FARANN_L2
                for i in range(width):
                    column[i] = self.batch.queries[members[i]].given[j] if i < count else 0.0
                    counts |= column[i] != 0.0 or not uses(ZERO_COLUMNS)
                self.key_panels.columns[n] = j
                n += counts
        self.key_panels.lanes[8] = n

    cdef void scan_key_tile(self, const int64_t *members, int64_t count, const farann_block *block,
                            int64_t n) noexcept nogil:
        cdef int64_t start = 0, i, step
        cdef int64_t near[16]
        cdef farann_key_threshold *threshold
        cdef Query *query
        for i in range(count):
            near[i] = 0
        self.take_columns(members, count)
        while start < n:
            step = KEYS_AT_ONCE
            for i in range(count):
                query = &self.batch.queries[members[i]]
                self.set_key_threshold(&self.key_thresholds[i], query)
                if query.found.count < query.found.capacity:
                    # All pass until there are k: then there is something to compare with.
                    step = self.batch.kernels.key_rows
            step = min(step, n - start)
            self.batch.kernels.scan_keys_f64[<int>self.batch.metric](
                &self.key_panels, start, step, self.key_tile, self.batch.sign, <int>count,
                self.key_thresholds)
            for i in range(count):
                threshold, query = &self.key_thresholds[i], &self.batch.queries[members[i]]
                near[i] += threshold.n_near
                self.batch.rescored += threshold.count
                farann_topk_push_rows(&query.found, threshold.keys, threshold.rows, threshold.count,
                                      block, &query.filter)
                self.candidates.raise_threshold(query)
            start += step
        for i in range(count):
            query = &self.batch.queries[members[i]]
            self.batch.n_near += near[i]
            query.keys_end = self.few_of(2 * near[i], n)

    cdef void set_key_threshold(self, farann_key_threshold *threshold, const Query *query) noexcept nogil:
        """What keys times the sign are compared with, by what has been found so far."""
        cdef double lost, gap
        threshold.n_near, threshold.count = 0, 0
        threshold.least = threshold.just_below = threshold.near = -INFINITY
        threshold.last_id, threshold.beyond = INFINITY, -INFINITY
        if query.found.count < query.found.capacity:
            return
        threshold.least = query.found.entries[0].key
        threshold.last_id = <double>query.found.entries[0].id
        lost = fabs(threshold.least) * QUOTIENT_ERROR
        gap = nextafter(threshold.least, INFINITY) - threshold.least
        threshold.beyond = 0.5 * gap * (1.0 - QUOTIENT_ERROR)
        threshold.just_below = threshold.least - (lost if self.batch.packing.normalized else 0.0)
        threshold.near = min(self.near_key(query), threshold.least - 2.0 * lost - NEARLY_ZERO)

    cdef double near_key(self, const Query *query) noexcept nogil:
        """Keys times the sign above this would pass by float32, give or take the slack."""
        return ((query.threshold - query.slack - query.prepared.key_offset)
                / query.prepared.key_scale)
