"""Query-cluster shortlists: rows that answered similar queries come first."""

cimport cython
from libc.math cimport INFINITY
from libc.stdint cimport int64_t, uint32_t

from farann.native.candidates cimport Candidates
from farann.native.code_scan cimport CodeScan
from farann.native.coded_queries cimport CodedQueries
from farann.native.kernels cimport *
from farann.native.query_batch cimport Query, QueryBatch
from farann.native.shortlists cimport MOST_SCORED, Shortlists


@cython.no_gc  # what parts refer to never refers to them
@cython.freelist(8)
cdef class ShortlistScan:
    """Looks first at rows that answered similar queries: they give a good threshold at once.

    They are passed over when they are met again in their place.
    """

    @staticmethod
    cdef ShortlistScan of(QueryBatch batch, Candidates candidates, CodedQueries coded,
                          CodeScan code_scan, Shortlists lists):
        cdef ShortlistScan self = ShortlistScan.__new__(ShortlistScan)
        cdef int64_t width = batch.kernels.code_queries
        cdef int64_t words = coded.words_of_tile(width, coded.codes.groups)
        self.batch, self.candidates = batch, candidates
        self.coded, self.code_scan = coded, code_scan
        self.lists = lists
        self.list_of = <int64_t *>batch.scratch.allocate(
            2 * batch.n_queries + lists.n_lists + 2, sizeof(int64_t))
        self.askers = self.list_of + batch.n_queries
        self.list_heads = self.askers + batch.n_queries
        self.tile_codes = <uint32_t *>batch.scratch.allocate(
            words + width * MOST_SCORED, sizeof(uint32_t))
        self.scores = <float *>(self.tile_codes + words)
        return self

    cdef void run(self) noexcept nogil:
        """Score the rows of each query's list."""
        cdef int64_t width = self.batch.kernels.code_queries, i, at, end
        self.choose_lists()
        for i in range(self.lists.n_lists):
            at, end = self.list_heads[i], self.list_heads[i + 1]
            while at < end and not self.batch.stopped():
                self.score_list(i, at, min(width, end - at))
                at += width

    cdef void choose_lists(self) noexcept nogil:
        """Find the list of each query, and put the queries of a list together."""
        cdef int64_t width = self.batch.kernels.code_queries, first = 0, count, i, j
        cdef int64_t n = self.lists.n_padded
        cdef const float *scores
        for i in range(self.lists.n_lists + 2):
            self.list_heads[i] = 0
        for i in range(self.batch.n_queries):
            self.askers[i] = i
        while first < self.batch.n_queries:
            count = min(width, self.batch.n_queries - first)
            self.score_rows(&self.lists.groups, n, first, count)
            for i in range(count):
                scores = self.scores + i * n
                self.list_of[first + i] = 0
                for j in range(1, self.lists.n_lists):
                    if scores[j] > scores[self.list_of[first + i]]:
                        self.list_of[first + i] = j
                self.list_heads[self.list_of[first + i] + 2] += 1
            first += width
        # Each list's head is that of the one before until its queries are in place.
        for i in range(self.lists.n_lists):
            self.list_heads[i + 2] += self.list_heads[i + 1]
        for i in range(self.batch.n_queries):
            self.askers[self.list_heads[self.list_of[i] + 1]] = i
            self.list_heads[self.list_of[i] + 1] += 1

    cdef void score_rows(self, const farann_coded_rows *rows, int64_t n, int64_t at,
                         int64_t count) noexcept nogil:
        """Score rows for a tile of queries, `count` of `self.askers`, a row of scores for each."""
        cdef int64_t width = self.batch.kernels.code_queries if count > 1 else 1, i
        cdef farann_coded_tile tile
        cdef farann_pass_threshold threshold
        cdef const Query *query
        tile.codes, tile.bars = self.tile_codes, &self.code_scan.pass_thresholds
        for i in range(width):
            # What is left of a tile repeats a query.
            self.candidates.members[i] = self.askers[at + min(i, count - 1)]
            query = &self.batch.queries[self.candidates.members[i]]
            # Scores of a query without codes mean nothing, and aren't used.
            threshold = self.code_scan.nothing_passes
            if query.coded:
                threshold = farann_pass_threshold_at(&query.whole, &self.coded.codes.bounds, -INFINITY,
                                               self.batch.sign, False)
            farann_pass_thresholds_set(&self.code_scan.pass_thresholds, i, &threshold)
        if width == 1:
            tile.codes = self.coded.single_codes(self.candidates.members[0])
            self.batch.kernels.score_codes_one_i8(rows, n, &tile, self.scores)
        else:
            self.batch.kernels.gather_codes(self.coded.codes_of, self.candidates.members, width,
                                            self.coded.codes.groups, self.tile_codes)
            self.batch.kernels.score_codes_i8(rows, n, &tile, self.scores)
        self.code_scan.count_products(n * width, self.coded.codes.groups, count)

    cdef void score_list(self, int64_t number, int64_t at, int64_t count) noexcept nogil:
        """Admit the rows of a list for some of its queries."""
        cdef farann_coded_rows rows = self.lists.list_at(number)
        cdef int64_t n = self.lists.length, i, j
        cdef const float *weights = &self.lists.row_weights[number * n]
        cdef farann_block block = self.code_scan.coded_block(0)
        cdef float *scores
        cdef Query *query
        block.first, block.slots, block.positions = 0, NULL, &self.lists.slots[number * n]
        self.score_rows(&rows, n, at, count)
        for i in range(count):
            query = &self.batch.queries[self.askers[at + i]]
            if not query.coded:
                continue
            scores = self.scores + i * n
            for j in range(n):
                scores[j] /= weights[j]
            self.candidates.admit_best(query, scores, n, &block)
            self.candidates.rerank_best(query)
            query.filter.met, query.filter.n_met = block.positions, n
            self.batch.scanned += n
            self.batch.bytes_read += n * self.coded.codes.groups * FARANN_CODE_GROUP
