"""Rows that passed for a set's center, scored for all its members.

Their codes are taken out of their panels and put into panels of their own, so that a tile of members
meets the few rows that passed and no others.
"""

cimport cython
from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t

from farann.native.code_scan cimport CodeScan
from farann.native.kernels cimport *
from farann.native.member_sets cimport MemberSet, MemberSets
from farann.native.query_batch cimport Query


@cython.no_gc  # what parts refer to never refers to them
cdef class SetNarrowing:
    """Panels of the rows of a block that passed."""

    @staticmethod
    cdef SetNarrowing of(MemberSets members, CodeScan code_scan):
        cdef SetNarrowing self = SetNarrowing.__new__(SetNarrowing)
        cdef int64_t room = code_scan.coded.code_rows, i
        self.batch, self.members, self.code_scan = members.batch, members, code_scan
        self.groups, self.code_width = code_scan.coded.codes.groups, code_scan.coded.code_width
        self.joined_at = -1
        if code_scan.coded.codes.low_nibbles is not None:
            self.joined = <uint8_t *>self.batch.scratch.allocate(
                room, self.groups * FARANN_CODE_GROUP, False)
        self.panels = <uint8_t *>self.batch.scratch.allocate(
            room, self.groups * FARANN_CODE_GROUP)
        self.scores = <float *>self.batch.scratch.allocate(
            room * self.code_width, sizeof(float), False)
        self.inv_scales = <float *>self.batch.scratch.allocate(room, sizeof(float), False)
        for i in range(room):
            self.inv_scales[i] = 1.0
        self.is_in = <uint8_t *>self.batch.scratch.allocate(room, sizeof(uint8_t))
        return self

    cdef int64_t narrow(self, const MemberSet *members, int64_t start, int64_t n_block,
                        int32_t *numbers, int64_t n) noexcept nogil:
        """Keep those of n rows of a block that pass for all members, and give how many do."""
        cdef int64_t first = members.first, count, i, kept = 0, padded_n = whole_panels(n)
        cdef farann_coded_rows rows = self.code_scan.block
        cdef farann_coded_tile tile
        self.gather(start, n_block, numbers, n)
        for i in range(n):
            self.is_in[i] = True
        rows.panels, rows.low_nibbles, rows.row_major = self.panels, NULL, NULL
        rows.inv_scales, rows.squares = self.inv_scales, NULL
        tile.bars, tile.ahead = &self.code_scan.pass_thresholds, NULL
        while first < members.end:
            count = min(self.code_width, members.end - first)
            tile.codes = self.code_scan.take_whole_tile(first, count)
            self.batch.kernels.score_codes_i8(&rows, padded_n, &tile, self.scores)
            for i in range(count):
                self.keep(members, first + i, self.scores + i * padded_n, start, numbers, n)
            first += count
        count = members.end - members.first
        self.code_scan.count_products(padded_n * count, self.groups, 0)
        self.batch.refined += n
        self.batch.bytes_read += n * self.groups * FARANN_CODE_GROUP
        for i in range(n):
            numbers[kept] = numbers[i]
            kept += self.is_in[i]
        return kept

    cdef void gather(self, int64_t start, int64_t n_block, const int32_t *numbers,
                     int64_t n) noexcept nogil:
        """Put the codes of some rows of the block into panels."""
        cdef const uint8_t *panels = self.code_scan.block.panels
        cdef const uint32_t *given
        cdef uint32_t *to
        cdef int64_t i, g, groups = self.groups
        if self.code_scan.block.low_nibbles != NULL:
            if self.joined_at != start:
                self.batch.kernels.join_codes_i8(&self.code_scan.coded.codes.scanned, start,
                                                 n_block, self.joined)
                self.joined_at = start
            panels = self.joined
        for i in range(n):
            given = (<const uint32_t *>panels
                     + numbers[i] // FARANN_CODE_PANEL * FARANN_CODE_PANEL * groups
                     + numbers[i] % FARANN_CODE_PANEL)
            to = (<uint32_t *>self.panels + i // FARANN_CODE_PANEL * FARANN_CODE_PANEL * groups
                  + i % FARANN_CODE_PANEL)
            for g in range(groups):
                to[g * FARANN_CODE_PANEL] = given[g * FARANN_CODE_PANEL]

    cdef void keep(self, const MemberSet *members, int64_t i, const float *scores, int64_t start,
                   const int32_t *numbers, int64_t n) noexcept nogil:
        """Note which rows don't pass for a member."""
        cdef Query *query = &self.batch.queries[i]
        cdef const float *inv_scales = self.code_scan.block.inv_scales
        cdef const float *squares = self.code_scan.block.squares
        cdef double least, square = 0.0, sign = self.batch.sign
        cdef int64_t r
        if not query.coded:
            return
        query.threshold = self.members.threshold_of(members, i)
        least = self.code_scan.candidates.admission_threshold(query) - query.whole.off
        for r in range(n):
            if squares != NULL:
                square = sign * squares[numbers[r]]
            self.is_in[r] &= (scores[r] + square
                              >= least * inv_scales[numbers[r] // FARANN_CODE_PANEL])
