"""Exact keys of rows at positions of codes."""

cimport cython
from libc.stdint cimport int64_t

from farann.native.candidates cimport Candidates
from farann.native.coded_queries cimport CodedQueries
from farann.native.key_scan cimport KeyScan
from farann.native.norm_pruning cimport NormPruning
from farann.native.query_batch cimport QueryBatch
from farann.native.snapshot cimport Segment


@cython.no_gc  # what parts refer to never refers to them
@cython.freelist(8)
cdef class PositionKeys:
    """Scores rows at some positions by exact keys, for queries that get these."""

    @staticmethod
    cdef PositionKeys of(QueryBatch batch, Candidates candidates, KeyScan key_scan,
                         CodedQueries coded, NormPruning pruning):
        cdef PositionKeys self = PositionKeys.__new__(PositionKeys)
        self.batch, self.candidates, self.key_scan = batch, candidates, key_scan
        self.coded, self.pruning = coded, pruning
        return self

    cdef void scan_keys_at(self, int64_t start, int64_t n, bint counted) noexcept nogil:
        """Score rows at some positions by keys for queries that get these.

        `counted`: as scanned, as they were scored by codes before.
        """
        cdef Segment rows = self.batch.snapshot.segments[0]
        cdef int64_t i, slot, at = 0, n_rows, n_scored, near
        if self.list_keyed() == 0:
            return
        rows.count, rows.positions = 0, self.candidates.positions
        for i in range(start, start + n):
            slot = i if self.coded.codes.slots is None else self.coded.codes.slots[i]
            if 0 <= slot < self.coded.codes.n_rows:
                self.candidates.positions[rows.count] = slot
                rows.count += 1
        while at < rows.count and not self.batch.stopped():
            n_rows, n_scored = min(self.batch.block_rows, rows.count - at), self.list_keyed()
            near = self.batch.n_near
            self.key_scan.scan_keys(&rows, at, n_rows)
            if not counted:
                self.batch.count_scanned(n_rows, n_scored)
                self.batch.alike += self.batch.n_near - near
            at += n_rows
        self.key_scan.settle_keys()

    cdef int64_t list_keyed(self) noexcept nogil:
        """Put the active queries that get keys where keys are taken for; gives how many."""
        cdef int64_t i
        self.key_scan.n_keyed = 0
        for i in range(self.pruning.n_active):
            if self.batch.queries[self.pruning.active[i]].by_keys:
                self.key_scan.take_keys(self.pruning.active[i])
        return self.key_scan.n_keyed
