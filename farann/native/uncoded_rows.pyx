"""Rows without codes, and rows for queries without codes."""

cimport cython
from libc.stdint cimport int64_t

from farann.native.candidates cimport Candidates
from farann.native.code_scan cimport CodeScan
from farann.native.coded_queries cimport CodedQueries
from farann.native.kernels cimport *
from farann.native.query_batch cimport Query, QueryBatch
from farann.native.rough cimport decoded_score, mean_score, rough_key
from farann.native.row_reader cimport RowBlock
from farann.native.snapshot cimport Segment


@cython.no_gc  # what parts refer to never refers to them
@cython.freelist(8)
cdef class UncodedRows:
    """Offers exact keys where there are no codes: of outliers, and to queries that have none."""

    @staticmethod
    cdef UncodedRows of(QueryBatch batch, Candidates candidates, CodedQueries coded,
                        CodeScan code_scan):
        cdef UncodedRows self = UncodedRows.__new__(UncodedRows)
        self.batch, self.candidates = batch, candidates
        self.coded, self.code_scan = coded, code_scan
        return self

    cdef void score_uncoded(self) noexcept nogil:
        """First of all the exact keys of rows without codes, and for queries without them."""
        cdef const Segment *rows = &self.batch.snapshot.segments[0]
        cdef int64_t i, start, n
        for i in range(self.batch.n_queries):
            if self.batch.queries[i].coded:
                self.batch.queries[i].slack = self.batch.queries[i].whole.off
                self.score_outliers(&self.batch.queries[i])
                continue
            self.batch.scanned += rows.count
            if not self.batch.snapshot.vectors:
                self.score_outliers(&self.batch.queries[i])
                self.score_decoded(&self.batch.queries[i])
                continue
            start = 0
            while start < rows.count and not self.batch.stopped():
                n = min(self.batch.block_rows, rows.count - start)
                self.candidates.score_exactly(&self.batch.queries[i], rows, start, n)
                self.batch.bytes_read += n * self.batch.snapshot.row_bytes
                start += n

    cdef void score_outliers(self, Query *query) noexcept nogil:
        """Offer the exact keys of the rows that have no codes."""
        cdef Segment rows = self.batch.snapshot.segments[0]
        cdef farann_block block
        cdef RowBlock read
        cdef int64_t start = 0, n
        rows.count = self.coded.codes.outliers.shape[0]
        self.batch.rescored += rows.count
        self.batch.bytes_read += rows.count * self.batch.snapshot.row_bytes
        while start < rows.count and not self.batch.stopped():
            n = min(self.batch.block_rows, rows.count - start)
            rows.positions = &self.coded.codes.outliers[0]
            block = self.candidates.block_of(&rows, start)
            if not self.batch.snapshot.vectors:
                # The outliers are all that there is of the base.
                rows.positions = NULL
            read = self.candidates.rows_at(&rows, start, n)
            self.batch.kernels.keys_f64[<int>self.batch.metric](
                read.rows, read.positions, n, self.batch.dim, self.batch.exact_query(query),
                self.candidates.exact_keys)
            self.candidates.offer(query, n, &block, &query.filter)
            start += n

    cdef void score_decoded(self, Query *query) noexcept nogil:
        """Offer all coded rows, for a query that can't be coded itself, without vectors."""
        cdef farann_block block
        cdef int64_t start = 0, position, slot, n
        cdef double offset, score
        farann_query_vector(self.batch.metric, self.batch.sign, self.batch.exact_query(query),
                             self.batch.dim, &self.batch.snapshot.centre[0],
                             query.prepared.query_norm, self.batch.query_vector)
        farann_transform_query(self.batch.kernels, &self.coded.codes.transform.given, self.batch.dim,
                            self.batch.query_vector,
                            self.batch.query_vector + padded(self.batch.dim))
        block.first, block.positions, block.slots = 0, self.candidates.positions, NULL
        block.ids, block.end = self.batch.snapshot.ids_by_slot, self.batch.snapshot.n_slots
        while start < self.coded.codes.n_positions and not self.batch.stopped():
            n = 0
            self.code_scan.take_mean(start)
            offset = 0.0
            if self.code_scan.mean_unit != 0.0:
                offset = mean_score(self.code_scan.mean, self.code_scan.mean_unit,
                                    self.coded.codes.dim, self.batch.query_vector)
            for position in range(start, start + FARANN_CODE_PANEL):
                slot = position
                if self.coded.codes.slots is not None:
                    slot = self.coded.codes.slots[position]
                if 0 <= slot < self.coded.codes.n_rows:
                    self.candidates.positions[n] = slot
                    score = decoded_score(&self.coded.codes.scanned, self.coded.codes.dim,
                                          self.batch.query_vector, self.batch.sign, position)
                    self.candidates.exact_keys[n] = rough_key(&query.prepared, self.batch.sign,
                                                              score + offset)
                    n += 1
            self.candidates.offer(query, n, &block, &query.filter)
            start += FARANN_CODE_PANEL
