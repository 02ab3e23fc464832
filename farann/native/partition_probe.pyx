"""Probing partitions: each is scanned for all queries that chose it."""

cimport cython
from libc.math cimport INFINITY
from libc.stdint cimport INT64_MAX, int32_t, int64_t
from libc.stdlib cimport free

from farann.native.candidates cimport Candidates
from farann.native.code_scan cimport FEW_MEMBERS, CodeScan
from farann.native.coded_queries cimport CodedQueries
from farann.native.kernels cimport *
from farann.native.ordered_scan cimport OrderedScan
from farann.native.partition_choice cimport PartitionChoice
from farann.native.process cimport ASKING_AHEAD, uses
from farann.native.query_batch cimport Query, QueryBatch


@cython.no_gc  # what parts refer to never refers to them
@cython.freelist(8)
cdef class PartitionProbe:
    """Scans the partitions that queries choose, in the order of their rows."""

    @staticmethod
    cdef PartitionProbe of(QueryBatch batch, Candidates candidates, CodedQueries coded,
                           CodeScan code_scan, OrderedScan ordered, PartitionChoice choice):
        cdef PartitionProbe self = PartitionProbe.__new__(PartitionProbe)
        self.batch, self.candidates = batch, candidates
        self.coded, self.code_scan = coded, code_scan
        self.ordered, self.choice = ordered, choice
        self.uncoded, self.partitions = ordered.uncoded, choice.partitions
        self.heads = <int64_t *>batch.scratch.allocate(
            choice.partitions.n_padded + 2, sizeof(int64_t))
        return self

    cdef void run(self) noexcept nogil:
        """Scan the partitions with the best optimistic scores."""
        if not self.choice.predicts:
            self.choose_for_all()
        self.probe_all()
        if self.choice.predicts:
            self.start_again()
            self.choice.choose()
            self.probe_all()

    cdef void choose_for_all(self) noexcept nogil:
        cdef int64_t i
        for i in range(self.batch.n_queries):
            self.choice.choosing[i], self.choice.spent[i] = i, self.ordered.n_first
        self.choice.n_choosing = self.batch.n_queries
        self.choice.choose()

    cdef void start_again(self) noexcept nogil:
        """For queries that found less than predicted, with what they found for a threshold."""
        cdef int64_t i
        cdef Query *query
        self.choice.n_choosing, self.choice.predicts = 0, False
        for i in range(self.batch.n_queries):
            query = &self.batch.queries[i]
            if query.best.capacity == 0:
                self.candidates.keep_best(query)
            if query.threshold + query.slack >= query.predicted:
                continue
            query.predicted = -INFINITY
            self.candidates.forget(query)
            self.uncoded.score_outliers(query)
            self.ordered.scan_for_one(i, self.ordered.n_first)
            self.choice.choosing[self.choice.n_choosing] = i
            self.choice.n_choosing += 1

    cdef void probe_all(self) noexcept nogil:
        """Scan the partitions in order, each for all its probers."""
        cdef int64_t c, i, j
        if self.choice.n_probes == 0:
            return
        if self.choice.n_choosing == 1 and self.choice.budget == INT64_MAX:
            self.probe_for_one(self.choice.choosing[0])
            return
        self.probers = <int32_t *>farann_alloc(
            self.choice.n_probes * sizeof(int32_t), False)
        if self.probers == NULL:
            self.batch.scratch.failed = True
            return
        for c in range(self.partitions.n_cells + 2):
            self.heads[c] = 0
        for j in range(self.choice.n_probes):
            self.heads[self.choice.probed[j] + 2] += 1
        for c in range(self.partitions.n_cells):
            self.heads[c + 2] += self.heads[c + 1]
        # Each partition's head is that of the one before until its probers are in place.
        j = 0
        for i in range(self.choice.n_choosing):
            while j < self.choice.probe_ends[i]:
                c = self.choice.probed[j]
                self.probers[self.heads[c + 1]] = <int32_t>self.choice.choosing[i]
                self.heads[c + 1] += 1
                j += 1
        for c in range(self.partitions.n_cells):
            if self.heads[c] == self.heads[c + 1]:
                continue
            if self.batch.stopped():
                break
            if (uses(ASKING_AHEAD) and self.coded.code_width > 1 and c + 1 < self.partitions.n_cells
                    and self.heads[c + 1] < self.heads[c + 2]):
                self.ask_for(c + 1)
            self.probe_partition(c)
            farann_ahead_finish(&self.code_scan.ahead)
        free(self.probers)

    cdef void probe_for_one(self, int64_t member) noexcept nogil:
        """Scan the partitions that a single query probes; they are in order."""
        cdef const int64_t *starts = &self.partitions.starts[0]
        cdef const int32_t *probed = self.choice.probed
        cdef int64_t panel_bytes = FARANN_CODE_PANEL * self.coded.codes.panels.shape[1]
        cdef int64_t j, c, start, n
        self.candidates.members[0] = member
        for j in range(self.choice.n_probes):
            if self.batch.stopped():
                return
            if j + 1 < self.choice.n_probes and uses(ASKING_AHEAD):
                # They jump about, and a query alone has nothing else to do until memory answers.
                c = probed[j + 1]
                farann_ask_for(&self.coded.codes.scanned, panel_bytes, starts[c],
                               starts[c + 1] - starts[c])
            c = probed[j]
            start = starts[c]
            while start < starts[c + 1]:
                n = min(self.coded.code_rows, starts[c + 1] - start)
                self.code_scan.take_block(start, n, 1)
                self.code_scan.scan_for_members(1, 1, start, n)
                start += n

    cdef void ask_for(self, int64_t c) noexcept nogil:
        """Have the probe before ask memory for a partition, as these are short, and jump about."""
        cdef const farann_kernels *kernels = self.batch.kernels
        cdef const int64_t *starts = &self.partitions.starts[0]
        cdef const int32_t *slots = NULL
        cdef int64_t width = self.coded.code_width
        cdef int64_t tiles = (self.heads[c] - self.heads[c - 1] + width - 1) // width
        cdef int64_t steps = max((starts[c] - starts[c - 1]) // kernels.step_rows, 1) * tiles
        if self.coded.codes.slots is not None:
            slots = &self.coded.codes.slots[0]
        self.code_scan.ahead = farann_ahead_of(
            &self.coded.codes.scanned, FARANN_CODE_PANEL * self.coded.codes.panels.shape[1], slots,
            starts[c], min(starts[c + 1] - starts[c], self.coded.code_rows), steps)

    cdef void probe_partition(self, int64_t c) noexcept nogil:
        """Scan a partition for its probers."""
        cdef const int64_t *starts = &self.partitions.starts[0]
        cdef int64_t start = starts[c], end = self.heads[c + 1], at, n, width, count, i
        while start < starts[c + 1]:
            n, at = min(self.coded.code_rows, starts[c + 1] - start), self.heads[c]
            width = self.coded.code_width
            self.code_scan.take_block(start, n, (end - at + width - 1) // width)
            while at < end and not self.batch.stopped():
                width = self.coded.code_width if end - at >= FEW_MEMBERS else 1
                count = min(width, end - at)
                for i in range(count):
                    self.candidates.members[i] = self.probers[at + i]
                self.code_scan.scan_for_members(width, count, start, n)
                at += count
            start += n
