"""Rows that are furthest from the nearest member of a set.

A row's key over a set is its smallest key over the members. The key for any one of them bounds it
from above, and so does any mean of them, which is the key for the set's center (`SetCenters`). So
whatever rules a row out for one of these rules it out for the set. The first rows are scored for all
members, which gives the set a threshold and the center its weights. Then blocks of codes are scanned
for centers as they are for queries, or for all members where a center rules out too little, all with
the set's threshold. Rows that pass get exact keys, one member after the other while they can still
be an answer.
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
from farann.native.process cimport SET_CENTERS, SET_NARROWING, CancelFlag, uses
from farann.native.query_batch cimport LONGEST_PAUSE, Query, QueryBatch
from farann.native.set_centers cimport SetCenters
from farann.native.set_first_rows cimport SetFirstRows
from farann.native.set_narrowing cimport SetNarrowing
from farann.native.snapshot cimport Filter, Segment, Snapshot

import numpy as np

cdef enum:
    # Up to so many rows all get exact keys.
    FEW_ROWS = 64
    # What it costs to give a row exact keys, and to take out its codes, in scores by codes.
    COST_OF_EXACT = 64
    COST_OF_NARROWING = 16


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
        cdef int64_t largest_block, m = members.shape[0], n_sets = offsets.shape[0] - 1
        cdef float[:, ::1] given = np.empty((m + n_sets, members.shape[1]), np.float32)
        if not snapshot.vectors:
            raise ValueError("sets can't be searched for without vectors")
        given[:m] = members
        given[m:] = 0.0
        # What is left out for a set is known to the sets.
        bare = filter.for_others(m + n_sets)
        batch = QueryBatch.of(snapshot, bare, given, 0, m + n_sets, 1, False, flag)
        self.batch, self.n_members = batch, m
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
                self.narrowing = SetNarrowing.of(self.members, self.code_scan)
            self.pruning = NormPruning.of(batch, self.candidates, self.coded)
            self.active = <int64_t *>batch.scratch.allocate(
                2 * batch.n_queries, sizeof(int64_t))
            self.owners = self.active + batch.n_queries
            self.passed = <farann_candidates *>batch.scratch.allocate(
                self.coded.code_width, sizeof(farann_candidates))
            self.n_scanned = self.codes.n_positions
            if 0 < budget < self.n_scanned:
                self.n_scanned = min(whole_panels(budget), self.n_scanned)
            self.centers = SetCenters.of(self.members, self.coded, given)
            self.first = SetFirstRows.of(self.centers, self.code_scan, self.n_scanned,
                                         int(np.diff(offsets).max()))
        self.prepare()

    def prepare(self):
        """All that is derived from members before the search."""
        cdef int64_t i
        cdef uint64_t before
        with nogil:
            before = farann_arithmetic_begin()
            for i in range(self.n_members):
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
            if self.first.n:
                self.scan_first_rows()
            self.scan_codes(self.first.n, self.n_scanned)
            if self.members.lacks_rows():  # a budget must not leave fewer than k
                self.scan_codes(self.n_scanned, self.codes.n_positions)
            self.batch.kernels.end()
        self.members.score_segment(&self.batch.filter.segments[1])
        for s in range(self.members.count):
            farann_entries_sort(self.members.sets[s].found.entries,
                                self.members.sets[s].found.count, self.batch.given_up)

    # ---- the first rows ----

    cdef void scan_first_rows(self) noexcept nogil:
        """Settle the first rows for all sets, and see what keys of other rows are like."""
        cdef int64_t s
        cdef MemberSet *members
        for s in range(self.members.count):
            if self.batch.stopped():
                return
            members = &self.members.sets[s]
            self.first.score(members)
            self.settle(members, 0, self.first.best_of(members, self.marks))
            self.settle(members, 0, self.first.others_of(members, self.marks))
            self.first.sample(members)

    cdef void find_centers(self) noexcept nogil:
        cdef int64_t s
        if not uses(SET_CENTERS):
            return
        for s in range(self.members.count):
            if self.members.sets[s].end - self.members.sets[s].first > 1:
                self.centers.find(&self.members.sets[s])

    # ---- all other rows ----

    cdef void scan_codes(self, int64_t start, int64_t end) noexcept nogil:
        """Scan the codes of positions start .. end; without a threshold, the first blocks are small."""
        cdef int64_t ramp = self.coded.code_rows if start > 0 else FIRST_BLOCK, n, stale = start
        while start < end and not self.batch.stopped():
            if start >= stale:  # thresholds have risen
                self.find_centers()
                stale = 2 * start + self.coded.code_rows
            self.keep_active(start)
            if self.n_active == 0:
                return
            n = min(min(self.coded.code_rows, ramp), end - start)
            self.scan_block(start, n)
            ramp = min(2 * ramp, self.coded.code_rows)
            start += n

    cdef void keep_active(self, int64_t start) noexcept nogil:
        """See which queries the next rows are to be scanned for: of each set its center, or all.

        Where rows lie by norm, sets are left out that no row from a position on can answer. For
        that it is enough that none can answer one of the members.
        """
        cdef int64_t s, i, panel = start // FARANN_CODE_PANEL
        cdef bint can_answer
        cdef MemberSet *members
        self.n_active = self.n_centers = 0
        for s in range(self.members.count):
            members = &self.members.sets[s]
            if members.has_center and members.pause == 0 and self.can_answer(
                    panel, members, members.center):
                self.active[self.n_centers], self.owners[self.n_centers] = members.center, s
                self.n_centers += 1
        self.n_active = self.n_centers
        for s in range(self.members.count):
            members = &self.members.sets[s]
            if members.has_center:
                if members.pause == 0 or not self.can_answer(panel, members, members.center):
                    continue
                members.pause -= 1
            can_answer = True
            for i in range(members.first, members.end):
                can_answer &= self.can_answer(panel, members, i)
            for i in range(members.first, members.end):
                if can_answer:
                    self.active[self.n_active], self.owners[self.n_active] = i, s
                    self.n_active += 1

    cdef bint can_answer(self, int64_t panel, const MemberSet *members, int64_t i) noexcept nogil:
        """Whether rows from a panel on may reach the set's threshold for one of its queries."""
        cdef Query *query = &self.batch.queries[i]
        query.threshold = self.members.threshold_of(members, i)
        return not (self.pruning.by_norm and query.coded
                    and self.pruning.max_key_bound(panel, query) + query.whole.off
                    < self.candidates.admission_threshold(query))

    cdef void scan_block(self, int64_t start, int64_t n) noexcept nogil:
        """Scan a block of codes for the sets that it can answer."""
        cdef int64_t first = 0, width = self.coded.code_width, left, count
        if self.n_active < FEW_MEMBERS:
            width = 1
        self.code_scan.take_block(start, n, (self.n_active + width - 1) // width)
        while first < self.n_active and not self.batch.stopped():
            left = (self.n_centers if first < self.n_centers else self.n_active) - first
            count = 1 if left < FEW_MEMBERS else min(width, left)
            self.scan_tile(1 if left < FEW_MEMBERS else width, first, count, start, n)
            first += count

    cdef void scan_tile(self, int64_t width, int64_t first, int64_t count, int64_t start,
                        int64_t n) noexcept nogil:
        """Scan the block for some active queries, and settle the sets that end with one."""
        cdef int64_t i
        cdef int level = HIGH_NIBBLES if self.codes.int4_alone else WHOLE_CODES
        cdef bint by_center = first < self.n_centers
        cdef bint by_scores = self.scores != NULL and width > 1 and not by_center
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
        if by_center:
            self.take_centers(first, count, start, n)
            return
        for i in range(count):
            self.take_passed(first + i, &self.candidates.tile[i],
                             self.scores + i * n if by_scores else NULL, start, n)

    cdef void take_centers(self, int64_t first, int64_t count, int64_t start,
                           int64_t n) noexcept nogil:
        """Settle what passed for the centers of a tile.

        A center that leaves more rows than all members would cost by codes is not asked for some
        blocks, ever more.
        """
        cdef int64_t i, j, left, cost
        cdef MemberSet *members
        for i in range(count):
            self.passed[i] = self.candidates.tile[i]
        for i in range(count):
            members = &self.members.sets[self.owners[first + i]]
            if self.codes.has_pca_filter:
                self.refine(members, members.center, &self.passed[i], start)
                for j in range(members.first, members.end):
                    if self.passed[i].count:
                        self.refine(members, self.members.order[j], &self.passed[i], start)
            left = self.passed[i].count
            for j in range(left):
                self.marks[j] = <int32_t>self.passed[i].slots[j]
            cost = left * COST_OF_EXACT
            if uses(SET_NARROWING) and self.narrowing is not None and left >= FARANN_CODE_PANEL:
                cost = left * (COST_OF_NARROWING + members.end - members.first)
                left = self.narrowing.narrow(members, start, n, self.marks, left)
                cost += left * COST_OF_EXACT
            self.settle(members, start, left)
            if cost > n * (members.end - members.first):
                members.next_pause = min(2 * members.next_pause + 1, <int64_t>LONGEST_PAUSE)
                members.pause = members.next_pause
            else:
                members.next_pause = 0

    cdef void refine(self, const MemberSet *members, int64_t i, farann_candidates *passed,
                     int64_t start) noexcept nogil:
        """Keep the rows that pass by whole codes, too, for one of the set's queries."""
        cdef Query *query = &self.batch.queries[i]
        if not query.coded:
            return
        query.threshold = self.members.threshold_of(members, i)
        self.candidates.tile[0], self.candidates.members[0] = passed[0], i
        self.code_scan.refine(1, start, NULL)
        passed[0] = self.candidates.tile[0]

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
            # A score is at most so far below the reduced key.
            threshold = self.candidates.threshold_for(&self.batch.queries[i], query.whole.off)
            self.batch.kernels.lower_f32(scores, n, threshold, self.margins)
        elif query.coded:
            for j in range(passed.count):
                self.marks[passed.slots[j]] += 1
            members.n_met += 1
        if at + 1 < self.n_active and self.owners[at + 1] == self.owners[at]:
            return
        if scores != NULL:
            count = self.batch.kernels.find_f32(self.margins, n, 0.0, self.marks)
        else:
            count = 0
            for j in range(n):
                if self.marks[j] == members.n_met:
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
