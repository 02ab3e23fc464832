"""The first coded rows: all are scored, so that there is a good threshold."""

cimport cython
from libc.math cimport INFINITY
from libc.stdint cimport int64_t

from farann.native.candidates cimport Candidates
from farann.native.code_scan cimport WHOLE_CODES, CodeScan
from farann.native.coded_queries cimport CodedQueries
from farann.native.codes cimport Codes
from farann.native.key_scan cimport KeyScan
from farann.native.kernels cimport *
from farann.native.position_keys cimport PositionKeys
from farann.native.process cimport FIRST_IN_FLOAT32, FIRST_ROWS, uses
from farann.native.query_batch cimport Query, QueryBatch
from farann.native.row_scan cimport RowScan, few_of
from farann.native.snapshot cimport Segment

cdef enum:
    # First rows that are all scored, so that they give the first threshold.
    LEAST_SCORED = 128  # rows; fewer are scanned as all others are
    MOST_SCORED = 512  # rows, at most; LARGEST_BLOCK if the k best are selected
    SCORED_OF_K = 4  # none are scored this way unless 4 k rows fit into the limit


@cython.no_gc  # what parts refer to never refers to them
@cython.freelist(8)
cdef class FirstRows:
    """Scores rows that many queries find, before the others are scanned."""

    @staticmethod
    cdef FirstRows of(QueryBatch batch, Candidates candidates, KeyScan key_scan, CodedQueries coded,
                      CodeScan code_scan, PositionKeys position_keys, RowScan row_scan):
        """`row_scan`: scores rows that codes can't tell apart; None: they get keys at once."""
        cdef FirstRows self = FirstRows.__new__(FirstRows)
        cdef Codes codes = coded.codes
        cdef int64_t k = batch.k, most = MOST_SCORED
        self.batch, self.candidates, self.key_scan = batch, candidates, key_scan
        self.coded, self.code_scan, self.position_keys = coded, code_scan, position_keys
        self.row_scan = row_scan
        if candidates.selects:
            most = LARGEST_BLOCK
        elif k > FARANN_SCORE_GROUPS // 2:
            most = 0
        if (coded.code_width > 1 and SCORED_OF_K * k <= most and not batch.beyond
                and not codes.int4_alone and batch.filter.alive == NULL):
            self.n_scored = min(codes.n_leading, coded.code_rows, most)
            self.scores = <float *>batch.scratch.allocate(
                coded.code_width * most, sizeof(float), False)
            self.slots = <int64_t *>batch.scratch.allocate(most, sizeof(int64_t), False)
        return self

    cdef int64_t scan_first_rows(self, int64_t most) noexcept nogil:
        """Score some rows, up to `most`, that set the threshold; gives how many."""
        cdef int64_t first = 0, count, i, width = self.coded.code_width
        cdef int64_t n = self.to_be_scored(most)
        cdef farann_coded_tile tile
        cdef Query *query
        if self.coded.codes.has_pca_filter:
            return self.scan_hubs(most)
        if n == 0:
            return 0
        self.code_scan.take_block(0, n, (self.batch.n_queries + width - 1) // width)
        tile.bars = &self.code_scan.pass_thresholds
        while first < self.batch.n_queries and not self.batch.stopped():
            count = min(width, self.batch.n_queries - first)
            for i in range(count):
                query = &self.batch.queries[first + i]
                self.candidates.members[i] = first + i
                self.code_scan.raise_pass_threshold(query, WHOLE_CODES, 0.0)
                farann_pass_thresholds_set(&self.code_scan.pass_thresholds, i, &query.pass_threshold)
            tile.codes = self.coded.tile_of(first)
            self.batch.scanned += n * self.score_tile(&self.code_scan.block, &tile, count, n, True)
            first += width
        self.batch.bytes_read += self.batch.scanned * self.code_scan.code_bytes_of_row(False)
        if self.row_scan is not None and few_of(n, self.coded.codes) and self.most_are_alike():
            self.score_in_float32(n)
            return n
        self.position_keys.scan_keys_at(0, n, True)
        for i in range(self.batch.n_queries):
            # Keys have set a threshold: the next rows show whether codes will do.
            self.batch.queries[i].by_keys = False
        return n

    cdef bint most_are_alike(self) noexcept nogil:
        """Whether codes can't tell the first rows apart for most queries; all have codes."""
        cdef int64_t i, alike = 0
        for i in range(self.batch.n_queries):
            if not self.batch.queries[i].coded:
                return False
            alike += self.batch.queries[i].by_keys
        return uses(FIRST_IN_FLOAT32) and 2 * alike > self.batch.n_queries

    cdef void score_in_float32(self, int64_t n) noexcept nogil:
        """Score the first n rows in float32 for all queries, which costs less than keys for most.

        What was found so far is forgotten, so that rows without codes, a few, have to be scored too.
        """
        cdef Segment rows = self.batch.snapshot.segments[0]
        cdef int64_t i, slot
        rows.count, rows.positions = 0, self.slots
        for i in range(n):
            slot = i if self.coded.codes.slots is None else self.coded.codes.slots[i]
            if 0 <= slot < self.coded.codes.n_rows:
                self.slots[rows.count] = slot
                rows.count += 1
        if not self.row_scan.begin_in_float32():
            return
        self.row_scan.scan(&rows, 0, rows.count)
        if self.coded.codes.outliers.shape[0]:
            rows.count, rows.positions = self.coded.codes.outliers.shape[0], &self.coded.codes.outliers[0]
            self.row_scan.scan(&rows, 0, rows.count)
        for i in range(self.batch.n_queries):
            # Codes go on from here.
            self.batch.queries[i].slack = max(self.batch.queries[i].slack,
                                              self.batch.queries[i].whole.off)

    cdef int64_t scan_hubs(self, int64_t most) noexcept nogil:
        """With a PCA filter: score the first rows, up to `most`, by whole codes; gives how many.

        That would let most of them pass.
        """
        cdef int64_t first = 0, count, i
        cdef int64_t width = self.coded.code_width, groups = self.coded.codes.groups
        cdef int64_t row_bytes = groups * FARANN_CODE_GROUP
        cdef int64_t n_rows = min(self.coded.codes.n_hubs, most), start, n, n_coded
        cdef int64_t n_scored = self.to_be_scored(n_rows)
        cdef farann_coded_tile tile
        cdef farann_block block
        if self.coded.codes.hubs.squares != NULL:
            row_bytes += sizeof(float)
        tile.bars, tile.ahead = &self.code_scan.pass_thresholds, NULL
        while n_rows and first < self.batch.n_queries and not self.batch.stopped():
            count, n_coded = min(width, self.batch.n_queries - first), 0
            for i in range(count):
                self.candidates.members[i] = first + i
                n_coded += self.batch.queries[first + i].coded
            tile.codes = self.coded.whole_queries + first * groups
            if width > 1:
                tile.codes = self.coded.gather(self.candidates.members, count, True)
            start = 0
            while start < n_rows:
                n = min(max(start, FIRST_BLOCK), n_rows - start)
                if start == 0 and n_scored:
                    n = n_scored
                self.code_scan.set_whole_thresholds(count)
                if start == 0 and n_scored:
                    self.score_tile(&self.coded.codes.hubs, &tile, count, n, False)
                else:
                    self.code_scan.scan_function(width == 1, False)(
                        &self.coded.codes.hubs, start, n, &tile, self.candidates.tile)
                    self.code_scan.count_products(n * width, groups, count)
                    block = self.code_scan.coded_block(start)
                    self.candidates.admit_tile(count, &block)
                start += n
            n = min(n_rows, self.coded.codes.n_filled)
            self.batch.scanned += n * n_coded
            self.batch.bytes_read += n * n_coded * row_bytes
            first += width
        return n_rows

    cdef int64_t to_be_scored(self, int64_t most) noexcept nogil:
        """How many first rows, of up to `most`, to score all of."""
        cdef int64_t n = min(self.n_scored, most)
        if not uses(FIRST_ROWS):
            return 0
        return n - n % FARANN_SCORE_GROUPS if n >= LEAST_SCORED else 0

    cdef int64_t score_tile(self, const farann_coded_rows *rows, const farann_coded_tile *tile,
                            int64_t count, int64_t n,
                            bint keys_follow) noexcept nogil:
        """Score the first n rows for a tile, and admit the best; gives how many queries do.

        A threshold that is good from the start spares most rows the way through the lists.
        `keys_follow`: of rows that can't be told from the best.
        """
        cdef farann_block block = self.code_scan.coded_block(0)
        cdef int64_t i, n_coded = 0, before
        cdef const float *scores
        cdef Query *query
        self.batch.kernels.score_codes_i8(rows, n, tile, self.scores)
        self.code_scan.count_products(n * self.coded.code_width, self.coded.codes.groups, count)
        for i in range(count):
            query = &self.batch.queries[self.candidates.members[i]]
            if not query.coded:
                continue
            n_coded += 1
            scores = self.scores + i * n
            if query.predicted == -INFINITY:
                if keys_follow:
                    self.key_scan.admit_first(query, scores, n, &block)
                else:
                    self.candidates.admit_best(query, scores, n, &block)
                continue
            before = query.candidates.count
            self.batch.kernels.select_f32(scores, n, self.candidates.threshold_for(query, 0.0),
                                          &query.candidates)
            self.candidates.admit(query, before, &block)
        return n_coded
