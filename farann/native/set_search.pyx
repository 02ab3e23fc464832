"""Rows that are furthest from the nearest member of a set.

A row's key over a set is its smallest key over the members. The key for any one of them bounds it
from above, so whatever rules a row out for one of these rules it out for the set. Blocks of codes
are scanned for all members with the set's threshold. Rows that pass for all of them get exact keys,
one member after the other while they can still be an answer.
"""

from libc.math cimport INFINITY
from libc.stdint cimport int32_t, int64_t, uint64_t

from farann.native.candidates cimport Candidates
from farann.native.code_scan cimport FEW_MEMBERS, HIGH_NIBBLES, WHOLE_CODES, CodeScan
from farann.native.coded_queries cimport CodedQueries
from farann.native.kernels cimport *
from farann.native.key_scan cimport KeyScan
from farann.native.member_sets cimport MemberSet, MemberSets
from farann.native.norm_pruning cimport NormPruning
from farann.native.process cimport CancelFlag
from farann.native.query_batch cimport Query, QueryBatch
from farann.native.snapshot cimport Filter, Segment, Snapshot

cdef enum:
    FEW_ROWS = 64  # rows up to which all get exact keys


cdef class SetSearch:
    """Some sets of a batch: `run` answers them.

    Parameters
    ----------
    snapshot : Snapshot
        With vectors.
    filter : Filter
        Which rows may be found; excluded ids are those of sets, counted through the whole batch.
    members : float32 (m, dim)
        Of these sets, one set after the other.
    offsets : int64 (n + 1,)
        Where the members of each set begin, from 0 on; no set is empty.
    start : int
        The first set's number in the whole batch.
    k : int
    epsilon : float
        No row that is left out is more than (1 + epsilon) times as far as the k-th found, or
        better by epsilon.
    budget : int
        How many rows of the last build to scan, in whole panels; 0: all.
    raw : bool
        Compare keys of members as they are, under cosine, too.
    floor : float
        Rows below this key over their set need not be found.
    """

    def __init__(self, Snapshot snapshot, Filter filter, const float[:, ::1] members,
                 const int64_t[::1] offsets, int64_t start, int64_t k, *, double epsilon=0.0,
                 int64_t budget=0, bint raw=False, double floor=-INFINITY,
                 CancelFlag flag=None):
        cdef QueryBatch batch
        cdef Filter bare
        cdef bint listed = filter.segments[0].positions != NULL
        cdef int64_t largest_block, m = members.shape[0]
        if not snapshot.vectors:
            raise ValueError("sets can't be searched for without vectors")
        # The sets apply their own exclusions.
        bare = filter.for_others(m)
        batch = QueryBatch.of(snapshot, bare, members, 0, m, 1, False, flag)
        self.batch = batch
        batch.epsilon = epsilon
        self.codes = None if listed or filter.n_rows <= FEW_ROWS else snapshot.codes
        largest_block = batch.block_rows
        if self.codes is not None:
            largest_block = max(
                largest_block, rows_in_cache(self.codes.scanned.groups * FARANN_CODE_GROUP))
        self.candidates = Candidates.of(batch, 0, largest_block, True, False)
        self.marks = <int32_t *>batch.scratch.allocate(largest_block, sizeof(int32_t))
        self.members = MemberSets.of(batch, self.candidates, largest_block, raw, floor)
        self.members.take(filter, offsets, start, max(min(k, filter.n_rows), 1))
        self.margins = <float *>batch.scratch.allocate(largest_block, sizeof(float))
        if self.codes is not None:
            self.coded = CodedQueries.of(batch, self.candidates, self.codes, False,
                                         self.codes.has_pca_filter)
            self.code_scan = CodeScan.of(
                batch, self.candidates, KeyScan.of(batch, self.candidates, False, False),
                self.coded)
            if (self.coded.code_width > 1 and not self.codes.has_pca_filter
                    and not self.codes.int4_alone):
                self.scores = <float *>batch.scratch.allocate(
                    self.coded.code_width * largest_block, sizeof(float), False)
            self.pruning = NormPruning.of(batch, self.candidates, self.coded)
            self.active = <int64_t *>batch.scratch.allocate(
                2 * batch.n_queries, sizeof(int64_t))
            self.owners = self.active + batch.n_queries
            self.n_scanned = self.codes.n_positions
            if 0 < budget < self.n_scanned:
                self.n_scanned = min(whole_panels(budget), self.n_scanned)
        self.prepare()

    def prepare(self):
        """All that is derived from members before the search."""
        cdef int64_t i
        cdef uint64_t before
        with nogil:
            before = farann_arithmetic_begin()
            for i in range(self.batch.n_queries):
                if self.batch.stopped():
                    break
                self.batch.find_query_vector(i)
                if self.coded is not None:
                    self.coded.encode(i)
            farann_arithmetic_end(before)
        self.batch.check_cancelled()

    def run(self):
        """Find the answers; the GIL is released meanwhile."""
        cdef uint64_t before
        with nogil:
            before = farann_arithmetic_begin()
            self.answer()
            farann_arithmetic_end(before)
        self.batch.check_cancelled()

    def write_top(self, float[:, ::1] scores, int64_t[:, ::1] ids, int64_t start):
        """Write the answers to rows start, start + 1, ... of `scores` and `ids`."""
        self.members.write_top(scores, ids, start)

    def write_keys(self, double[:, ::1] keys, int64_t start):
        """Write the keys of the answers, -infinity where there are fewer rows."""
        self.members.write_keys(keys, start)

    def did(self):
        """What `SearchStats` has beside the number of queries."""
        return (self.batch.scanned, self.batch.refined, self.batch.rescored, self.batch.bytes_read,
                self.batch.code_products, self.batch.float_products, self.batch.blocks,
                self.batch.passed)

    # ---- the search ----

    cdef void answer(self) noexcept nogil:
        cdef int64_t s
        cdef Segment outliers = self.batch.filter.segments[0]
        if self.codes is None:
            self.members.score_segment(&self.batch.filter.segments[0])
        else:
            outliers.count = self.codes.outliers.shape[0]
            if outliers.count:
                outliers.positions = &self.codes.outliers[0]
                self.members.score_segment(&outliers)
            self.batch.kernels.begin()
            self.scan_codes(0, self.n_scanned)
            if self.members.lacks_rows():  # a budget must not leave fewer than k
                self.scan_codes(self.n_scanned, self.codes.n_positions)
            self.batch.kernels.end()
        self.members.score_segment(&self.batch.filter.segments[1])
        for s in range(self.members.count):
            farann_entries_sort(self.members.sets[s].found.entries,
                                self.members.sets[s].found.count, self.batch.given_up)

    cdef void scan_codes(self, int64_t start, int64_t end) noexcept nogil:
        """Scan the codes of positions start .. end; without a threshold, the first blocks are small."""
        cdef int64_t ramp = self.coded.code_rows if start > 0 else FIRST_BLOCK, n
        while start < end and not self.batch.stopped():
            self.keep_active(start)
            if self.n_active == 0:
                return
            n = min(min(self.coded.code_rows, ramp), end - start)
            self.scan_block(start, n)
            ramp = min(2 * ramp, self.coded.code_rows)
            start += n

    cdef void keep_active(self, int64_t start) noexcept nogil:
        """See which members the next rows are to be scanned for.

        Where rows lie by norm, sets are left out that no row from a position on can answer. For
        that it is enough that none can answer one of the members.
        """
        cdef int64_t s, i, panel = start // FARANN_CODE_PANEL
        cdef bint can_answer
        cdef MemberSet *members
        self.n_active = 0
        for s in range(self.members.count):
            members, can_answer = &self.members.sets[s], True
            for i in range(members.first, members.end):
                can_answer &= self.can_answer(panel, members, i)
            for i in range(members.first, members.end if can_answer else members.first):
                self.active[self.n_active], self.owners[self.n_active] = i, s
                self.n_active += 1

    cdef bint can_answer(self, int64_t panel, const MemberSet *members, int64_t i) noexcept nogil:
        """Whether rows from a panel on may reach the set's threshold for one of its members."""
        cdef Query *query = &self.batch.queries[i]
        query.threshold = self.members.threshold_of(members, i)
        return not (self.pruning.by_norm and query.coded
                    and self.pruning.max_key_bound(panel, query) + query.whole.off
                    < self.candidates.admission_threshold(query))

    cdef void scan_block(self, int64_t start, int64_t n) noexcept nogil:
        """Scan a block of codes for the sets that it can answer."""
        cdef int64_t first = 0, width = self.coded.code_width, count
        if self.n_active < FEW_MEMBERS:
            width = 1
        self.code_scan.take_block(start, n, (self.n_active + width - 1) // width)
        while first < self.n_active and not self.batch.stopped():
            if self.n_active - first < FEW_MEMBERS:
                width = 1
            count = min(width, self.n_active - first)
            self.scan_tile(width, first, count, start, n)
            first += count

    cdef void scan_tile(self, int64_t width, int64_t first, int64_t count, int64_t start,
                        int64_t n) noexcept nogil:
        """Scan the block for some active members, and settle the sets that end with one."""
        cdef int64_t i
        cdef int level = HIGH_NIBBLES if self.codes.int4_alone else WHOLE_CODES
        cdef bint by_scores = self.scores != NULL and width > 1
        cdef farann_coded_tile tile
        cdef Query *query
        for i in range(count):
            query = &self.batch.queries[self.active[first + i]]
            self.code_scan.raise_pass_threshold(query, level, 0.0)
            farann_pass_thresholds_set(&self.code_scan.pass_thresholds, i, &query.pass_threshold)
            self.candidates.tile[i] = query.candidates
            self.candidates.tile[i].count = 0
        for i in range(count, width):
            farann_pass_thresholds_set(&self.code_scan.pass_thresholds, i,
                                       &self.code_scan.nothing_passes)
        tile.bars, tile.ahead = &self.code_scan.pass_thresholds, NULL
        if width == 1:
            tile.codes = self.coded.single_codes(self.active[first])
        else:
            tile.codes = self.coded.gather(self.active + first, count, False)
        if by_scores:
            self.batch.kernels.score_codes_i8(&self.code_scan.block, n, &tile, self.scores)
        else:
            self.code_scan.scan_function(width == 1, level == HIGH_NIBBLES)(
                &self.code_scan.block, 0, n, &tile, self.candidates.tile)
        self.code_scan.count_products(n * width, self.codes.scanned.groups, count)
        self.batch.scanned += min(n, self.codes.n_filled - start) * count
        self.batch.bytes_read += n * count * self.code_scan.code_bytes_of_row(level == HIGH_NIBBLES)
        for i in range(count):
            self.take_passed(first + i, &self.candidates.tile[i],
                             self.scores + i * n if by_scores else NULL, start, n)

    cdef void take_passed(self, int64_t at, const farann_candidates *passed, const float *scores,
                          int64_t start, int64_t n) noexcept nogil:
        """Note which rows passed for the active member at a place, by scores or as the scan found.

        After the last one of a set, settle those that did for all.
        """
        cdef int64_t i = self.active[at], j, count
        cdef MemberSet *members = &self.members.sets[self.owners[at]]
        cdef const Query *query = &self.batch.queries[i]
        cdef float threshold
        if at == 0 or self.owners[at - 1] != self.owners[at]:
            members.n_met = 0
            for j in range(n):
                self.marks[j] = 0
                self.margins[j] = INFINITY
        if query.coded and scores != NULL:
            # A score is at most `query.whole.off` below the reduced key.
            threshold = self.candidates.threshold_for(&self.batch.queries[i], query.whole.off)
            self.batch.kernels.lower_f32(scores, n, threshold, self.margins)
        elif query.coded:
            for j in range(passed.count):
                self.marks[passed.slots[j]] += 1
            members.n_met += 1
        if at + 1 < self.n_active and self.owners[at + 1] == self.owners[at]:
            return
        if members.n_met == 0:
            count = self.batch.kernels.find_f32(self.margins, n, 0.0, self.marks)
        else:
            count = 0
            for j in range(n):
                if self.marks[j] == members.n_met and self.margins[j] > 0.0:
                    self.marks[count] = <int32_t>j
                    count += 1
        self.settle(members, start, count)

    cdef void settle(self, MemberSet *members, int64_t start, int64_t n) noexcept nogil:
        """Give the rows of a block that passed, n of `marks`, exact keys."""
        cdef int64_t j, slot, count = 0
        for j in range(n):
            slot = start + self.marks[j]
            if slot >= self.codes.n_filled:
                continue
            if self.codes.slots is not None:
                slot = self.codes.slots[slot]
            if 0 <= slot < self.codes.n_rows and farann_filter_allows(&members.filter, slot):
                self.members.kept[count] = slot
                count += 1
        self.batch.passed += count
        self.members.score_kept(members, &self.batch.snapshot.segments[0], count)
