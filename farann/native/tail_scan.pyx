"""Rows added since the last build."""

cimport cython
from libc.math cimport NAN
from libc.stdint cimport int64_t

from farann.native.candidates cimport Candidates
from farann.native.code_pass cimport CodePass
from farann.native.code_scan cimport CodeScan
from farann.native.coded_queries cimport CodedQueries
from farann.native.codes cimport Codes
from farann.native.kernels cimport *
from farann.native.query_batch cimport Query, QueryBatch
from farann.native.row_scan cimport RowScan
from farann.native.snapshot cimport Segment, Snapshot


@cython.no_gc  # what parts refer to never refers to them
@cython.freelist(8)
cdef class TailScan:
    """Scans the rows of the tail by their codes, run by run."""

    @staticmethod
    cdef TailScan of(QueryBatch batch, Candidates candidates, RowScan row_scan, CodedQueries coded,
                     CodeScan code_scan, CodePass code_pass, const int64_t[::1] run_ends=None):
        cdef TailScan self = TailScan.__new__(TailScan)
        self.batch, self.candidates, self.row_scan = batch, candidates, row_scan
        self.coded, self.code_scan, self.code_pass = coded, code_scan, code_pass
        self.pruning, self.judge = code_pass.pruning, code_pass.judge
        self.take_run_ends(batch.snapshot, run_ends)
        return self

    cdef take_run_ends(self, Snapshot snapshot, const int64_t[::1] run_ends):
        cdef int64_t run
        if run_ends is None or snapshot.added is None:
            return
        if run_ends.shape[0] != snapshot.runs.shape[0]:
            raise ValueError("there must be an end for each run")
        for run in range(run_ends.shape[0]):
            if run_ends[run] % FARANN_CODE_PANEL or not (
                    snapshot.runs[run, 0] <= run_ends[run] <= snapshot.runs[run, 1]):
                raise ValueError("ends must be positions of whole panels of their runs")
        self.run_ends, self.has_run_ends = run_ends, True

    cdef begin(self):
        """Take the codes of the tail in place of those of the base."""
        cdef Codes added = self.batch.snapshot.added
        self.base_pca_filtered = self.coded.pca_filtered
        self.coded.use(added, added.has_pca_filter)

    cdef end(self):
        """Take the codes of the base again."""
        self.coded.use(self.batch.snapshot.codes, self.base_pca_filtered)
        self.pruning.see_norms()

    cdef void scan(self) noexcept nogil:
        """Score all rows that have codes."""
        self.ends_early = self.has_run_ends and self.all_found()
        self.take_added_codes()
        self.batch.kernels.begin()
        self.scan_added_codes()
        self.batch.kernels.end()

    cdef bint all_found(self) noexcept nogil:
        """Whether all queries have found k rows: others need what there is."""
        cdef int64_t i
        cdef const Query *query
        for i in range(self.batch.n_queries):
            query = &self.batch.queries[i]
            if query.found.count + query.candidates.count < self.batch.k:
                return False
        return True

    cdef int64_t end_of(self, int64_t run) noexcept nogil:
        return self.run_ends[run] if self.ends_early else self.batch.snapshot.runs[run, 1]

    cdef void take_added_codes(self) noexcept nogil:
        """Code the queries anew: what holds for the rows of the tail is another thing."""
        cdef int64_t i
        cdef Query *query
        self.pruning.see_norms()
        # If norms prune nothing in the base, they are not used in the tail.
        self.pruning.by_norm &= self.batch.snapshot.codes.max_norm is not None
        for i in range(self.batch.n_queries):
            if self.batch.stopped():
                return
            query = &self.batch.queries[i]
            query.pass_floor = NAN
            self.batch.find_query_vector(i)
            self.coded.encode(i)
            if query.coded:
                query.slack = max(query.slack, query.whole.off)
            else:
                self.score_added(query)
        if self.coded.code_width > 1:
            self.coded.make_tiles()

    cdef void score_added(self, Query *query) noexcept nogil:
        """Offer the exact keys of rows with codes, for a query without."""
        cdef Segment rows = self.batch.snapshot.segments[1]
        cdef int64_t run, start, stop, n
        rows.positions = self.candidates.positions
        for run in range(self.batch.snapshot.runs.shape[0]):
            start, stop = self.batch.snapshot.runs[run, 0], self.batch.snapshot.runs[run, 1]
            while start < stop and not self.batch.stopped():
                n = self.added_at(start, min(start + self.batch.block_rows, stop),
                                  self.candidates.positions)
                self.candidates.score_exactly(query, &rows, 0, n)
                self.batch.scanned += n
                self.batch.bytes_read += n * self.batch.snapshot.row_bytes
                start += self.batch.block_rows

    cdef int64_t added_at(self, int64_t start, int64_t stop, int64_t *rows) noexcept nogil:
        """Write which rows of the tail have the positions start .. stop; gives how many."""
        cdef int64_t i, n = 0
        for i in range(start, stop):
            if self.coded.codes.slots[i] >= 0:
                rows[n] = self.coded.codes.slots[i] - self.batch.snapshot.segments[1].first
                n += 1
        return n

    cdef void scan_added_codes(self) noexcept nogil:
        """Score the coded rows, run by run, up to where codes don't pay, if they don't."""
        cdef int64_t run, start, stop, n, ramp = FIRST_BLOCK, done = 0, stale = 0
        self.judge.begin()
        for run in range(self.batch.snapshot.runs.shape[0]):
            start, stop = self.batch.snapshot.runs[run, 0], self.end_of(run)
            self.pruning.all_active()
            if self.pruning.by_norm:
                ramp = FIRST_BLOCK
            while start < stop and not self.batch.stopped():
                if done >= stale:
                    stale = self.candidates.raise_thresholds(done)
                    if self.judge.can_judge(done) and (
                            self.judge.will_cost_too_much(done, self.coded.codes.n_filled - done)):
                        self.scan_added_without_codes(run, start)
                        return
                n = min(min(self.rows_of_block(done), ramp), stop - start)
                self.pruning.keep_active(start)
                if self.pruning.n_active == self.batch.n_queries:
                    self.code_scan.scan_codes(start, n)
                elif self.pruning.n_active:
                    self.code_pass.scan_for_active(start, n)
                else:
                    break
                ramp = min(2 * ramp, self.coded.most_rows)
                start += n
                done += n

    cdef int64_t rows_of_block(self, int64_t done) noexcept nogil:
        """Rows of the next block at most, after the base and `done` rows of the tail."""
        if self.coded.approximate:
            return self.coded.code_rows
        return self.coded.rows_after(self.batch.snapshot.codes.n_positions + done)

    cdef void scan_added_without_codes(self, int64_t run, int64_t start) noexcept nogil:
        """Score the rows from a position of a run on in float32."""
        cdef Segment rest = self.batch.snapshot.segments[1]
        cdef int64_t *rows = <int64_t *>self.batch.scratch.allocated(rest.count, sizeof(int64_t),
                                                                     False)
        if rows == NULL:
            self.batch.scratch.failed = True
            return
        rest.positions, rest.count = rows, 0
        while run < self.batch.snapshot.runs.shape[0]:
            rest.count += self.added_at(start, self.end_of(run), rows + rest.count)
            run += 1
            if run < self.batch.snapshot.runs.shape[0]:
                start = self.batch.snapshot.runs[run, 0]
        self.row_scan.scan_after_codes(&rest)
