"""Rows in float32: where they have no codes, or codes rule out too little."""

cimport cython
from libc.math cimport INFINITY
from libc.stdint cimport int32_t, int64_t, uint8_t
from libc.string cimport memcpy

from farann.native.candidates cimport Candidates
from farann.native.codes cimport Codes
from farann.native.key_scan cimport KeyScan
from farann.native.kernels cimport *
from farann.native.process cimport SCORED_ANEW, uses
from farann.native.query_batch cimport Query, QueryBatch
from farann.native.row_reader cimport RowBlock
from farann.native.snapshot cimport Segment

cdef enum:
    # Rows scored in float32 in the time in which one row passes and gets its exact key:
    ROW_MAJOR_A_KEY = 4  # by a single query
    PACKED_A_KEY = 16  # packed, by a batch
    SHARE_AGAIN = 4  # rows are scored a second time only if they are at most 1/4 of the coded rows
    FIRST_OF_K = 16  # a first threshold is chosen from about 16 k rows, up to a whole block


cdef bint few_of(int64_t n, Codes codes) noexcept nogil:
    """Whether scoring n of the coded rows once more is little beside scanning all."""
    return SHARE_AGAIN * n <= codes.n_rows


@cython.no_gc  # what parts refer to never refers to them
cdef class RowScan:
    """Scores rows in blocks; classes below say how those of a block are scored."""

    cdef set_up(self, QueryBatch batch, Candidates candidates, KeyScan key_scan):
        self.batch, self.candidates, self.key_scan = batch, candidates, key_scan

    cdef bint make_room(self) noexcept nogil:
        """Make room for the query vectors, which `take_query` takes; False: there is none."""
        cdef int64_t width = self.batch.kernels.tile_queries, n = self.batch.n_queries
        # All queries, in whole tiles.
        n = (n + width - 1) // width * width
        self.query_vectors = <float *>self.batch.scratch.allocated(
            n * padded(self.batch.dim), sizeof(float), True)
        self.batch.scratch.failed |= self.query_vectors == NULL
        return self.query_vectors != NULL

    cdef void take_query(self, int64_t i) noexcept nogil:
        """Keep the vector of a query, which the batch has found just now."""

    cdef void scan_block(self, const Segment *segment, int64_t start, int64_t n) noexcept nogil:
        """Score rows start .. start + n of a segment for all queries."""

    cdef bint take_queries(self) noexcept nogil:
        """Have the vectors of all queries, where codes were to do without; False: no room."""
        cdef int64_t i
        if self.query_vectors != NULL:
            return True
        if not self.make_room():
            return False
        for i in range(self.batch.n_queries):
            self.batch.find_query_vector(i)
            self.take_query(i)
        return True

    cdef bint begin_in_float32(self) noexcept nogil:
        """Forget the rows found by codes; False: no room."""
        cdef int64_t i
        for i in range(self.batch.n_queries):
            self.candidates.forget(&self.batch.queries[i])
            self.forget_scores(&self.batch.queries[i])
        return self.take_queries()

    cdef void forget_scores(self, Query *query) noexcept nogil:
        """Forget what scores by codes were, and how far they were off."""
        query.best.count, query.slack, query.by_keys, query.select_at = 0, 0.0, False, 0

    cdef void scan_without_codes(self, Codes codes, int64_t start) noexcept nogil:
        """Score the rows at all positions from `start` on in float32, in the order of slots."""
        cdef Segment rest = self.batch.snapshot.segments[0]
        cdef const int32_t[::1] of_positions = codes.slots
        cdef int64_t *slots = NULL
        cdef uint8_t *done = NULL
        cdef int64_t i
        if few_of(start, codes) and self.begins_anew(start):
            start = 0
        elif of_positions is None:
            rest.first, rest.count = start, codes.n_rows - start
            rest.rows += start * self.batch.snapshot.row_bytes
        else:
            slots = <int64_t *>self.batch.scratch.allocated(codes.n_rows, sizeof(int64_t) + 1, True)
            if slots == NULL:
                self.batch.scratch.failed = True
                return
            done = <uint8_t *>(slots + codes.n_rows)
            for i in range(start):
                if of_positions[i] >= 0:
                    done[of_positions[i]] = 1
            for i in range(codes.outliers.shape[0]):
                done[codes.outliers[i]] = 1
            rest.count, rest.positions = 0, slots
            for i in range(codes.n_rows):
                slots[rest.count] = i
                rest.count += not done[i]
        self.n_seen = start
        self.scan_after_codes(&rest)

    cdef bint begins_anew(self, int64_t start) noexcept nogil:
        """Whether to score all rows anew: keys of those that passed, of `start`, would cost more."""
        cdef int64_t i, passed = 0
        for i in range(self.batch.n_queries):
            passed += self.batch.queries[i].candidates.count
        if not uses(SCORED_ANEW) or passed * self.rows_a_key <= start * self.batch.n_queries:
            return False
        self.begin_in_float32()
        return True

    cdef void scan_after_codes(self, const Segment *rest) noexcept nogil:
        """Score rows that codes were given up for."""
        cdef int64_t i
        if not self.take_queries():
            return
        for i in range(self.batch.n_queries):
            # Rough scores by codes have larger errors; the candidates left get exact keys.
            self.candidates.rerank_all(&self.batch.queries[i])
            self.forget_scores(&self.batch.queries[i])
        self.scan(rest, 0, rest.count)

    cdef void scan(self, const Segment *segment, int64_t start, int64_t end) noexcept nogil:
        """Score rows block by block, and keep what may belong to an answer.

        Where there is no threshold it is chosen by all scores of the first block, which is larger
        for more of the best. Otherwise the first blocks are small.
        """
        cdef int64_t n, ramp = FIRST_BLOCK, stale = 0
        if self.candidates.begins():
            ramp *= min(self.batch.block_rows // FIRST_BLOCK,
                        1 + FIRST_OF_K * self.batch.k // FIRST_BLOCK)
        while start < end and not self.batch.stopped():
            if start >= stale:
                stale = self.candidates.raise_thresholds(start)
            n = min(min(self.batch.block_rows, ramp), end - start)
            self.batch.count_scanned(n, self.batch.n_queries)
            self.scan_block(segment, start, n)
            self.key_scan.settle_keys()
            ramp = min(2 * ramp, self.batch.block_rows)
            start += n
        self.n_seen += start


    cdef void scan_keys(self, const Segment *segment, int64_t start, int64_t n, int64_t first,
                        int64_t count) noexcept nogil:
        """Give keys of a block to those of some queries that get them."""
        cdef int64_t i
        self.key_scan.n_keyed = 0
        for i in range(first, first + count):
            if self.batch.queries[i].by_keys and not self.batch.queries[i].left_out:
                self.key_scan.take_keys(i)
        if self.key_scan.n_keyed:
            self.key_scan.scan_keys(segment, start, n)


@cython.no_gc
cdef class ExactScan(RowScan):
    """Gives all rows exact keys: they are too few for anything else."""

    cdef void scan_block(self, const Segment *segment, int64_t start, int64_t n) noexcept nogil:
        cdef int64_t i
        for i in range(self.batch.n_queries):
            self.candidates.score_exactly(&self.batch.queries[i], segment, start, n)


@cython.no_gc
cdef class RowMajorScan(RowScan):
    """Scores rows where they lie, for few queries: what bounds the speed is reading the rows."""

    cdef set_up(self, QueryBatch batch, Candidates candidates, KeyScan key_scan):
        cdef Codes codes = batch.snapshot.codes
        RowScan.set_up(self, batch, candidates, key_scan)
        self.rows_a_key, self.square_bound = ROW_MAJOR_A_KEY, -1.0
        if batch.metric == FARANN_DOT and codes is not None and codes.outliers.shape[0] == 0:
            self.square_bound = codes.bounds.norm * codes.bounds.norm
        self.scores = <float *>batch.scratch.allocate(batch.block_rows, sizeof(float))

    cdef void take_query(self, int64_t i) noexcept nogil:
        cdef int64_t dim = self.batch.dim
        memcpy(self.query_vectors + i * padded(dim), self.batch.rounded, dim * sizeof(float))

    cdef void scan_block(self, const Segment *segment, int64_t start, int64_t n) noexcept nogil:
        cdef int64_t i, passed
        cdef bint rough
        cdef Query *query
        self.batch.count_scanned(-n, self.key_scan.ceilings.leave_out(segment, start, n))
        for i in range(self.batch.n_queries):
            query = &self.batch.queries[i]
            if query.left_out:
                continue
            passed, rough = self.batch.passed, not query.by_keys
            if rough:
                self.scan_row_major(i, segment, start, n)
            if query.by_keys:
                self.scan_keys(segment, start, n, i, 1)
            elif rough:
                self.key_scan.judge_rough(query, self.batch.passed - passed, self.n_seen + start, n)

    cdef void scan_row_major(self, int64_t i, const Segment *segment, int64_t start,
                             int64_t n) noexcept nogil:
        """Score a block for one query."""
        cdef const farann_kernels *kernels = self.batch.kernels
        cdef Query *query = &self.batch.queries[i]
        cdef farann_block block = self.candidates.block_of(segment, start)
        cdef RowBlock rows = self.candidates.rows_at(segment, start, n)
        cdef int64_t before = query.candidates.count, j
        cdef float threshold
        # Squares need not be summed if the codes bound the norms of rows.
        cdef bint bounded = (self.square_bound >= 0.0
                             and segment.first < self.batch.snapshot.segments[0].count)
        cdef float norms[2]
        cdef double slack
        kernels.score_rows_f32(
            rows.rows, rows.positions, n, self.batch.dim, &self.batch.snapshot.padded_centre[0],
            self.query_vectors + i * padded(self.batch.dim),
            self.batch.packing.normalized, self.batch.packing.bias_sign, self.scores,
            NULL if bounded else norms)
        if bounded:
            slack = farann_query_slack_row_major(&query.prepared, False, 0.0, self.square_bound)
        else:
            slack = farann_query_slack_row_major(
                &query.prepared, self.batch.packing.normalized, norms[0], norms[1])
        if slack < 0.0:
            self.candidates.score_exactly(query, segment, start, n)
            return
        if self.batch.packing.normalized:
            # Unpacked unit rows are not centered: the centre would only add a constant.
            for j in range(n):
                self.scores[j] += <float>query.prepared.key_offset
        self.batch.float_products += n * self.batch.dim
        self.batch.blocks += 1
        threshold = self.candidates.threshold_for(query, slack)
        if threshold == -INFINITY and self.candidates.for_best:
            self.key_scan.admit_first(query, self.scores, n, &block)
            return
        kernels.select_f32(self.scores, n, threshold, &query.candidates)
        self.candidates.admit(query, before, &block)


@cython.no_gc
cdef class PackedScan(RowScan):
    """Packs rows in panels, once for tiles of many queries."""

    cdef set_up(self, QueryBatch batch, Candidates candidates, KeyScan key_scan):
        cdef int64_t width = batch.kernels.tile_queries
        RowScan.set_up(self, batch, candidates, key_scan)
        self.rows_a_key = PACKED_A_KEY
        self.n_tiles = (batch.n_queries + width - 1) // width
        self.panels = <float *>batch.scratch.allocate(
            batch.block_rows * (batch.dim + 1 + width) + width, sizeof(float), False)
        self.bias = self.panels + batch.block_rows * batch.dim
        self.scores = self.bias + batch.block_rows
        self.thresholds = self.scores + width * batch.block_rows

    cdef void take_query(self, int64_t i) noexcept nogil:
        cdef int64_t dim = self.batch.dim, width = self.batch.kernels.tile_queries, j
        cdef float *tile = self.query_vectors + i // width * width * dim + i % width
        for j in range(dim):
            tile[j * width] = self.batch.rounded[j]

    cdef void scan_block(self, const Segment *segment, int64_t start, int64_t n) noexcept nogil:
        cdef int64_t i, n_out = self.key_scan.ceilings.leave_out(segment, start, n)
        cdef bint waits = False
        cdef const Query *query
        for i in range(self.batch.n_queries):
            query = &self.batch.queries[i]
            waits |= not (query.by_keys or query.left_out)
        if waits and not self.batch.stopped():
            self.scan_packed(segment, start, n)
        self.batch.count_scanned(-n, n_out)
        self.scan_keys(segment, start, n, 0, self.batch.n_queries)

    cdef void scan_packed(self, const Segment *segment, int64_t start, int64_t n) noexcept nogil:
        """Pack the rows of a block for the queries that wait for that."""
        cdef RowBlock rows = self.candidates.rows_at(segment, start, n)
        cdef int64_t tile
        cdef double squares = self.batch.kernels.pack_rows_f32(
            rows.rows, rows.positions, n, self.batch.dim, &self.batch.snapshot.centre[0],
            self.batch.packing.normalized, self.batch.packing.bias_sign, self.panels, self.bias)
        for tile in range(self.n_tiles):
            if self.batch.stopped():
                return
            self.scan_tile(tile, segment, start, n, squares)

    cdef void scan_tile(self, int64_t tile, const Segment *segment, int64_t start, int64_t n,
                        double squares) noexcept nogil:
        cdef const farann_kernels *kernels = self.batch.kernels
        cdef int64_t width = kernels.tile_queries, first = tile * width, i, passed
        cdef int64_t count = min(width, self.batch.n_queries - first)
        cdef farann_block block = self.candidates.block_of(segment, start)
        cdef double slack
        cdef bint any_packed = False, first_scores = False
        cdef Query *query
        for i in range(width):
            self.thresholds[i] = INFINITY
        for i in range(count):
            query = &self.batch.queries[first + i]
            self.candidates.members[i] = first + i
            self.candidates.tile[i] = query.candidates
            if query.by_keys or query.left_out:
                continue
            slack = farann_query_slack(&query.prepared, squares)
            if slack < 0.0:
                if self.key_scan.keys_decide(query) and self.key_scan.allocate_keys():
                    self.candidates.rerank_all(query)
                    query.by_keys, self.candidates.tile[i].count = True, 0
                else:
                    self.candidates.score_exactly(query, segment, start, n)
                continue
            any_packed = True
            self.thresholds[i] = self.candidates.threshold_for(query, slack)
            first_scores |= self.thresholds[i] == -INFINITY and self.candidates.for_best
        if not any_packed:
            return
        self.batch.float_products += n * width * self.batch.dim
        self.batch.blocks += count
        if first_scores:
            self.score_tile(first, count, n, &block)
            return
        kernels.scan_panels_f32(self.panels, n, self.batch.dim, self.bias,
                                self.query_vectors + first * self.batch.dim, count,
                                self.thresholds, self.candidates.tile)
        for i in range(count):
            query = &self.batch.queries[first + i]
            passed = self.candidates.tile[i].count - query.candidates.count
            if passed > 0 and self.key_scan.judge_rough(query, passed, self.n_seen + start, n):
                self.candidates.tile[i].count = query.candidates.count
        self.candidates.admit_tile(count, &block)

    cdef void score_tile(self, int64_t first, int64_t count, int64_t n,
                         const farann_block *block) noexcept nogil:
        """Keep all scores of a block, and choose the best, where there is no threshold yet."""
        cdef int64_t i, before
        cdef const float *scores
        cdef Query *query
        self.batch.kernels.score_panels_f32(
            self.panels, n, self.batch.dim, self.bias, self.query_vectors + first * self.batch.dim,
            count, self.scores, self.batch.block_rows)
        for i in range(count):
            query, scores = &self.batch.queries[first + i], self.scores + i * self.batch.block_rows
            before = query.candidates.count
            if self.thresholds[i] == INFINITY:  # it has keys
                continue
            if self.thresholds[i] > -INFINITY:
                self.batch.kernels.select_f32(scores, n, self.thresholds[i], &query.candidates)
                self.candidates.admit(query, before, block)
                continue
            self.key_scan.admit_first(query, scores, n, block)
