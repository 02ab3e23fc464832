"""The first coded rows, scored for all members of each set.

They give the set a threshold that is good from the start. Those of them that look best get exact
keys before the others, most of which then need none.
"""

cimport cython
from libc.math cimport INFINITY
from libc.stdint cimport int32_t, int64_t
from libc.string cimport memcpy

from farann.native.code_scan cimport WHOLE_CODES, CodeScan
from farann.native.codes cimport Codes
from farann.native.kernels cimport *
from farann.native.member_sets cimport MemberSet
from farann.native.process cimport SET_FIRST_ROWS, uses
from farann.native.query_batch cimport Query
from farann.native.row_order cimport Bounded, put_first
from farann.native.set_centers cimport SAMPLED_ROWS, SetCenters

cdef enum:
    # Rows, and how many scores of a set there may be.
    FIRST_ROWS = 512
    MOST_SCORES = 1048576


@cython.no_gc  # what parts refer to never refers to them
cdef class SetFirstRows:
    """Scores of the first rows, of one set at a time."""

    @staticmethod
    cdef SetFirstRows of(SetCenters centers, CodeScan code_scan, int64_t most,
                         int64_t largest_set):
        cdef SetFirstRows self = SetFirstRows.__new__(SetFirstRows)
        cdef Codes codes = code_scan.coded.codes
        cdef int64_t n = min(min(most, <int64_t>FIRST_ROWS), code_scan.coded.code_rows)
        self.batch, self.centers, self.code_scan = centers.batch, centers, code_scan
        self.coded, self.codes = code_scan.coded, codes
        if codes.has_pca_filter:
            n = min(n, codes.n_hubs)
        n = min(n, MOST_SCORES // largest_set) // SAMPLED_ROWS * SAMPLED_ROWS
        if not uses(SET_FIRST_ROWS) or code_scan.coded.code_width == 1 or codes.int4_alone or n == 0:
            return self
        self.n = n
        self.scores = <float *>self.batch.scratch.allocate(
            (largest_set + code_scan.coded.code_width) * n, sizeof(float), False)
        self.of_panel = <float *>self.batch.scratch.allocate(
            code_scan.coded.code_width * FARANN_CODE_PANEL, sizeof(float), False)
        self.least = <double *>self.batch.scratch.allocate(n, sizeof(double), False)
        self.rows = <Bounded *>self.batch.scratch.allocate(n, sizeof(Bounded), False)
        return self

    cdef void score(self, const MemberSet *members) noexcept nogil:
        """Score the first rows for all members of a set by whole codes."""
        cdef int64_t first = members.first, count, width = self.coded.code_width
        cdef farann_coded_tile tile
        tile.bars, tile.ahead = &self.code_scan.pass_thresholds, NULL
        while first < members.end:
            count = min(width, members.end - first)
            tile.codes = self.code_scan.take_whole_tile(first, count)
            self.batch.kernels.score_codes_i8(
                &self.codes.hubs if self.codes.has_pca_filter else &self.codes.scanned, self.n, &tile,
                self.scores + (first - members.first) * self.n)
            self.code_scan.count_products(self.n * width, self.codes.groups, count)
            first += count
        count = members.end - members.first
        self.batch.scanned += min(self.n, self.codes.n_filled) * count
        self.batch.bytes_read += self.n * count * self.codes.groups * FARANN_CODE_GROUP

    cdef int64_t best_of(self, const MemberSet *members, int32_t *numbers) noexcept nogil:
        """Write the numbers of the rows that look best, twice k, and give how many these are."""
        cdef int64_t i, r, n = self.n, best = min(2 * members.found.capacity, n)
        cdef const float *scores
        for r in range(n):
            self.least[r] = INFINITY
        for i in range(members.end - members.first):
            scores = self.scores + i * n
            if self.batch.queries[members.first + i].coded:
                for r in range(n):
                    self.least[r] = min(self.least[r],
                                        self.centers.estimate(members, i, scores[r]))
        if self.centers.members.floor > -INFINITY:
            return 0  # there is a threshold
        for r in range(n):
            self.rows[r].bound, self.rows[r].id, self.rows[r].slot = self.least[r], r, r
        if best < n:
            put_first(self.rows, n, best)
        for r in range(best):
            numbers[r] = <int32_t>self.rows[r].slot
            self.least[self.rows[r].slot] = -INFINITY
        return best

    cdef int64_t others_of(self, const MemberSet *members, int32_t *numbers) noexcept nogil:
        """The same of all others that may reach the threshold."""
        cdef int64_t i, r, n = self.n, count = 0
        cdef double reduced
        cdef Query *query
        cdef const float *scores
        for i in range(members.first, members.end):
            query, scores = &self.batch.queries[i], self.scores + (i - members.first) * n
            if not query.coded:
                continue
            query.threshold = self.centers.members.threshold_of(members, i)
            reduced = self.code_scan.candidates.admission_threshold(query) - query.whole.off
            for r in range(n):
                if scores[r] < reduced:
                    self.least[r] = -INFINITY
        for r in range(n):
            if self.least[r] > -INFINITY:
                numbers[count] = <int32_t>r
                count += 1
        return count

    cdef void sample(self, MemberSet *members) noexcept nogil:
        """Score panels all over the place for a set, for the weights of its center."""
        cdef int64_t n_panels = self.codes.n_filled // FARANN_CODE_PANEL
        cdef int64_t first = members.first, count, width = self.coded.code_width, p, i
        cdef farann_coded_tile tile
        cdef Query *query
        if not self.centers.can_weigh(members) or n_panels < SAMPLED_ROWS:
            return
        tile.bars, tile.ahead = &self.code_scan.pass_thresholds, NULL
        while first < members.end:
            count = min(width, members.end - first)
            for i in range(count):
                query = &self.batch.queries[first + i]
                self.code_scan.candidates.members[i] = first + i
                self.code_scan.raise_pass_threshold(query, WHOLE_CODES, 0.0)
                farann_pass_thresholds_set(&self.code_scan.pass_thresholds, i,
                                           &query.pass_threshold)
            tile.codes = self.coded.gather(self.code_scan.candidates.members, count, False)
            for p in range(SAMPLED_ROWS // FARANN_CODE_PANEL):
                self.code_scan.take_block(n_panels * FARANN_CODE_PANEL // SAMPLED_ROWS * p
                                * FARANN_CODE_PANEL, FARANN_CODE_PANEL, 1)
                self.batch.kernels.score_codes_i8(&self.code_scan.block, FARANN_CODE_PANEL, &tile,
                                                  self.of_panel)
                for i in range(count):
                    memcpy(self.scores + (first - members.first + i) * SAMPLED_ROWS
                           + p * FARANN_CODE_PANEL, self.of_panel + i * FARANN_CODE_PANEL,
                           FARANN_CODE_PANEL * sizeof(float))
            self.code_scan.count_products(SAMPLED_ROWS * width, self.codes.scanned.groups, count)
            first += count
        self.centers.take_sample(members, self.scores, SAMPLED_ROWS)
