"""Approximate search: coded rows in their order, up to a position."""

cimport cython
from libc.math cimport INFINITY, sqrt
from libc.stdint cimport int64_t

from farann.native.candidates cimport Candidates
from farann.native.code_scan cimport FEW_MEMBERS, CodeScan
from farann.native.coded_queries cimport CodedQueries
from farann.native.first_rows cimport FirstRows
from farann.native.kernels cimport *
from farann.native.lateness cimport Lateness
from farann.native.query_batch cimport Query, QueryBatch
from farann.native.uncoded_rows cimport UncodedRows


@cython.no_gc  # what parts refer to never refers to them
@cython.freelist(8)
cdef class OrderedScan:
    """Scans the rows that are always scanned, and all for queries that found too few."""

    @staticmethod
    cdef OrderedScan of(QueryBatch batch, Candidates candidates, CodedQueries coded,
                        CodeScan code_scan, FirstRows first_rows, UncodedRows uncoded,
                        int64_t n_first):
        cdef OrderedScan self = OrderedScan.__new__(OrderedScan)
        self.batch, self.candidates = batch, candidates
        self.coded, self.code_scan = coded, code_scan
        self.first_rows, self.uncoded, self.n_first = first_rows, uncoded, n_first
        return self

    cdef void scan_in_order(self, int64_t start, int64_t end) noexcept nogil:
        """Scan the rows at positions start .. end."""
        cdef int64_t n, i, ramp
        if start == 0:
            start = self.first_rows.scan_first_rows(end)
        ramp = max(start, FIRST_BLOCK)
        while start < end and not self.batch.stopped():
            n = self.code_scan.of_one_mean(start, min(min(self.coded.code_rows, ramp), end - start))
            if self.coded.codes.has_pca_filter and not self.coded.pca_filtered:
                for i in range(self.batch.n_queries):
                    if self.batch.stopped():
                        return
                    self.refine_rows(i, start, n)
            else:
                self.code_scan.scan_codes(start, n)
            ramp = min(2 * ramp, self.coded.code_rows)
            start += n

    cdef void refine_rows(self, int64_t i, int64_t start, int64_t n) noexcept nogil:
        """Score rows by whole codes, without a PCA filter: few rows aren't worth its cost."""
        cdef Query *query = &self.batch.queries[i]
        cdef farann_block block = self.code_scan.coded_block(start)
        cdef int64_t before = query.candidates.count, j
        if not query.coded:
            return
        self.candidates.tile[0], self.candidates.members[0] = query.candidates, i
        for j in range(n):
            self.candidates.tile[0].slots[before + j] = j
        self.candidates.tile[0].count = before + n
        self.batch.scanned += min(n, self.coded.codes.n_filled - start)
        self.code_scan.refine(1, start, NULL)
        self.candidates.admit_tile(1, &block)

    cdef void scan_for_one(self, int64_t i, int64_t stop) noexcept nogil:
        """Scan the coded rows before a position for query i."""
        self.scan_for_some(&i, 1, 0, stop)

    cdef void scan_for_some(self, const int64_t *which, int64_t count, int64_t start,
                            int64_t stop) noexcept nogil:
        """Scan the coded rows at positions start .. stop for some queries."""
        cdef int64_t first, n, width, some, j
        while start < stop and not self.batch.stopped():
            n = self.code_scan.of_one_mean(start, min(self.coded.code_rows, stop - start))
            first = 0
            if self.coded.codes.has_pca_filter and not self.coded.pca_filtered:
                while first < count:
                    self.refine_rows(which[first], start, n)
                    first += 1
            else:
                width = self.coded.code_width
                self.code_scan.take_block(start, n, (count + width - 1) // width)
            while first < count and not self.batch.stopped():
                width = self.coded.code_width if count - first >= FEW_MEMBERS else 1
                some = min(width, count - first)
                for j in range(some):
                    self.candidates.members[j] = which[first + j]
                self.code_scan.scan_for_members(width, some, start, n)
                first += some
            start += n

    cdef void extend(self, Lateness lateness, double late) noexcept nogil:
        """Scan twice as many rows, and again, for queries whose answers lie late in those scanned.

        `late`: from which lateness on in the first scan; later ones by the root of their rows.
        """
        cdef int64_t end = self.n_first, n_positions = self.coded.codes.n_positions
        cdef int64_t n_late = 0, count, i
        cdef int64_t *which = lateness.which
        cdef double unit = late / sqrt(end // FARANN_CODE_PANEL + 1.0)
        for i in range(self.batch.n_queries):
            if lateness.of_queries[i] > late:
                which[n_late] = i
                n_late += 1
        while n_late > 0 and end < n_positions and not self.batch.stopped():
            self.scan_for_some(which, n_late, end, min(2 * end, n_positions))
            end *= 2
            late = unit * sqrt(end // FARANN_CODE_PANEL + 1.0)
            count, n_late = n_late, 0
            for i in range(count):
                if lateness.lateness_of(&self.batch.queries[which[i]]) > late:
                    which[n_late] = which[i]
                    n_late += 1

    cdef void complete(self) noexcept nogil:
        """Search all coded rows for queries that found too few."""
        cdef Query *query
        cdef int64_t i
        for i in range(self.batch.n_queries):
            query = &self.batch.queries[i]
            if not query.coded or query.found.count + query.candidates.count >= self.batch.k:
                continue
            self.candidates.forget(query)
            query.threshold = query.predicted = -INFINITY
            self.uncoded.score_outliers(query)
            self.scan_for_one(i, self.coded.codes.n_positions)
