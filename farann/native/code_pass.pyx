"""All coded rows, block by block, as long as codes pay."""

cimport cython
from libc.stdint cimport int64_t, uint8_t

from farann.native.candidates cimport Candidates
from farann.native.code_scan cimport FEW_MEMBERS, CodeScan
from farann.native.coded_queries cimport CodedQueries
from farann.native.cost_judge cimport FEWEST_JUDGED, CostJudge
from farann.native.first_rows cimport FirstRows
from farann.native.kernels cimport *
from farann.native.norm_pruning cimport NormPruning
from farann.native.position_keys cimport PositionKeys
from farann.native.process cimport PCA_FILTER_JUDGE, uses
from farann.native.query_batch cimport QueryBatch
from farann.native.snapshot cimport FEW_BEST

# The PCA filter is given up if refining the rows of a block that pass it costs over 1.5 times as
# much as scanning the whole codes of all its rows.
cdef double SURELY = 1.5


@cython.no_gc  # what parts refer to never refers to them
@cython.freelist(8)
cdef class CodePass:
    """Scans all coded rows of a snapshot, for the queries that they can still answer."""

    @staticmethod
    cdef CodePass of(QueryBatch batch, Candidates candidates, CodedQueries coded,
                     CodeScan code_scan, NormPruning pruning, CostJudge judge, FirstRows first_rows,
                     PositionKeys position_keys):
        cdef CodePass self = CodePass.__new__(CodePass)
        self.batch, self.candidates = batch, candidates
        self.coded, self.code_scan = coded, code_scan
        self.pruning, self.judge, self.first_rows = pruning, judge, first_rows
        self.position_keys = position_keys
        return self

    cdef void begin_again(self) noexcept nogil:
        """Be as before the first query."""
        self.code_scan.mean_unit = 0.0
        self.pruning.all_active()
        self.judge.judged, self.judge.cost_judged, self.judge.share_judged = 0, 0.0, 0.0

    cdef int64_t scan_all_codes(self, int64_t first, int64_t last) noexcept nogil:
        """Score all coded rows from `first` on, before `last`; gives from where codes don't pay."""
        cdef int64_t end = min(last, self.coded.codes.n_positions), start = first, n
        cdef int64_t ramp, stale = 0, refined
        if start == 0:
            start = self.first_rows.scan_first_rows(end)
            if self.judge.selected and not self.coded.codes.has_pca_filter:
                self.judge.n_scored = start
        ramp = max(min(start, self.coded.code_rows), FIRST_BLOCK)
        # A PCA filter lets many pass by itself, and of rows in partitions k may be answers.
        self.code_scan.keys_follow = (
            not self.coded.codes.has_pca_filter and self.batch.k <= FEW_BEST)
        while start < end and not self.batch.stopped():
            if start >= stale:
                stale = self.candidates.raise_thresholds(start)
                # Later rows have the judgment of the first.
                if first == 0 and self.judge.can_judge(start) and (
                        self.judge.will_cost_too_much(start, self.coded.codes.n_positions - start)):
                    self.end_keys()
                    return start
            n = self.code_scan.of_one_mean(
                start, min(min(self.coded.rows_after(start), ramp), end - start))
            self.pruning.keep_active(start)
            refined = self.batch.refined
            if self.pruning.n_active == 0:
                break
            elif self.whole_panels != NULL and self.pack_whole(start, n):
                self.scan_whole(start, n)
            elif self.pruning.n_active == self.batch.n_queries:
                self.code_scan.scan_codes(start, n)
            else:
                self.scan_for_active(start, n)
            self.judge_pca_filter(self.batch.refined - refined, n)
            self.position_keys.scan_keys_at(start, n, False)
            ramp = min(2 * ramp, self.coded.most_rows)
            start += n
        self.end_keys()
        return self.coded.codes.n_positions

    cdef void judge_pca_filter(self, int64_t refined, int64_t n) noexcept nogil:
        """Give up the PCA filter if whole codes of n rows cost less than refining `refined`."""
        cdef int64_t rows = self.coded.code_rows
        cdef int64_t fewest = FEWEST_JUDGED if self.judge.selected else rows
        cdef double cost = refined * self.judge.cost_refined
        cdef double most = SURELY * n * self.pruning.n_active * self.judge.cost_whole
        if (uses(PCA_FILTER_JUDGE) and self.coded.codes.has_pca_filter and self.whole_panels == NULL
                and self.coded.code_width > 1 and n >= min(rows, fewest) and cost > most):
            self.whole_panels = <uint8_t *>self.batch.scratch.allocated(
                rows, self.coded.codes.groups * FARANN_CODE_GROUP + sizeof(float), False)
            self.whole_weights = <float *>(
                self.whole_panels + rows * self.coded.codes.groups * FARANN_CODE_GROUP)

    cdef bint pack_whole(self, int64_t start, int64_t n) noexcept nogil:
        """Put whole codes of n rows into panels; False: these must have one weight, and don't."""
        cdef const float *weights = self.coded.codes.refined.inv_scales + start
        cdef int64_t i, groups = self.coded.codes.groups
        for i in range(n):
            if weights[i] != weights[i - i % FARANN_CODE_PANEL]:
                return False
            self.whole_weights[i // FARANN_CODE_PANEL] = weights[i]
            self.candidates.positions[i] = i
        farann_pack_codes(self.coded.codes.refined.row_major + start * groups * FARANN_CODE_GROUP,
                          self.candidates.positions, n, groups, False, self.whole_panels, NULL)
        return True

    cdef void scan_whole(self, int64_t start, int64_t n) noexcept nogil:
        """Scan the whole codes that `pack_whole` has laid out for the queries that are active."""
        cdef int64_t at = 0, count, i, n_coded
        cdef int64_t width = self.coded.code_width, groups = self.coded.codes.groups
        cdef farann_coded_rows rows = self.coded.codes.refined
        cdef farann_block block = self.code_scan.coded_block(start)
        cdef farann_coded_tile tile
        rows.panels, rows.inv_scales, rows.row_major = self.whole_panels, self.whole_weights, NULL
        if rows.squares != NULL:
            rows.squares += start
        tile.bars, tile.ahead = &self.code_scan.pass_thresholds, NULL
        while at < self.pruning.n_active and not self.batch.stopped():
            count, n_coded = min(width, self.pruning.n_active - at), 0
            for i in range(count):
                self.candidates.members[i] = self.pruning.active[at + i]
                n_coded += self.batch.queries[self.candidates.members[i]].coded
            tile.codes = self.coded.gather(self.candidates.members, count, True)
            self.code_scan.set_whole_thresholds(count)
            self.batch.kernels.scan_codes_i8(&rows, 0, n, &tile, self.candidates.tile)
            self.code_scan.count_products(n * width, groups, count)
            self.batch.scanned += min(n, self.coded.codes.n_filled - start) * n_coded
            self.batch.bytes_read += n * n_coded * groups * FARANN_CODE_GROUP
            self.candidates.admit_tile(count, &block)
            at += count

    cdef void scan_for_active(self, int64_t start, int64_t n) noexcept nogil:
        """Scan rows for some of the queries."""
        cdef int64_t at = 0, count, i, width = self.coded.code_width
        self.code_scan.take_block(start, n, (self.pruning.n_active + width - 1) // width)
        while at < self.pruning.n_active and not self.batch.stopped():
            if self.pruning.n_active - at < FEW_MEMBERS:
                width = 1
            count = min(width, self.pruning.n_active - at)
            for i in range(count):
                self.candidates.members[i] = self.pruning.active[at + i]
            self.code_scan.scan_for_members(width, count, start, n)
            at += count

    cdef void end_keys(self) noexcept nogil:
        """From here on nobody looks for keys: what is scanned next is scanned for all queries."""
        cdef int64_t i
        self.code_scan.keys_follow = False
        for i in range(self.batch.n_queries):
            self.batch.queries[i].by_keys = False
