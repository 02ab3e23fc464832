"""Greedy selection: each time the row whose smallest key over those chosen before is largest.

Each row has a bound on its smallest key, which holds although there have been more picks since: they
only make it smaller. Rows are in a heap by their bounds, and only the first ones are brought up to
date: by float32 scores and what these may be off, several rows at once against packed picks; and
in the end by exact keys, which decide.
"""

cimport cython
from libc.math cimport INFINITY, NAN, fabs, isnan, nextafterf
from libc.stdint cimport INT32_MAX, int32_t, int64_t, uint64_t

from farann.native.kernels cimport *
from farann.native.picks cimport Picks
from farann.native.process cimport NEVER, CancelFlag
from farann.native.row_heap cimport Bounded, make_heap, pop, push, sift_down
from farann.native.scratch cimport Scratch
from farann.native.snapshot cimport Filter, Snapshot

from farann.native.process import Cancelled

import numpy as np

cdef enum:
    # Rows that are brought up to date together, at most, and the picks that they meet at a time.
    MOST_ROWS = 64
    MOST_PICKS = 512
    # Fewer picks than these are met by exact keys, where a row's key was exact before.
    FEW_PICKS = 4
    # All rows pass for so many picks at most.
    MOST_PASSED = 8

# Nanoseconds, roughly, that it takes to bring a row up to date; and to score a row in a pass over
# all rows, for each and for each coordinate.
cdef double ROW_COST = 400.0, ROW_COST_A_COORDINATE = 1.0
cdef double PASS_COST = 3.0, PASS_COST_A_COORDINATE = 0.16
# Of float64 arithmetic on sums of a few terms.
cdef double ROUNDING = 2.0**-49


@cython.no_gc
cdef class Greedy:
    """One selection; `run` goes on with it.

    Parameters
    ----------
    snapshot : Snapshot
        With vectors.
    filter : Filter
        A mask; only rows that it allows are chosen.
    first : int64 (m,)
        Slots that are chosen before, at least one; any rows of the snapshot, each once.
    most : int
        Picks in all, without these.
    radius : float or None
        Stop where every row is within it.
    """

    def __init__(self, Snapshot snapshot, Filter filter, const int64_t[::1] first, int64_t most, *,
                 radius=None):
        cdef int64_t i, width = snapshot.kernels.tile_queries
        if not snapshot.vectors or snapshot.n_slots > INT32_MAX:
            raise ValueError("a selection needs vectors, of at most 2^31 - 1 rows")
        if filter.segments[0].positions != NULL or first.shape[0] < 1:
            raise ValueError("a selection needs a mask and a row to begin with")
        for i in range(first.shape[0]):
            if not 0 <= first[i] < snapshot.n_slots:
                raise ValueError("first must be slots of the snapshot")
        self.snapshot, self.filter, self.kernels = snapshot, filter, snapshot.kernels
        self.ids, self.dim, self.n_slots = snapshot.ids_by_slot, snapshot.dim, snapshot.n_slots
        self.given_up = &NEVER
        self.has_radius = radius is not None
        self.radius = radius if self.has_radius else 0.0
        self.scratch = Scratch()
        self.rows = <RowState *>self.scratch.allocate(self.n_slots, sizeof(RowState))
        self.heap = <Bounded *>self.scratch.allocate(self.n_slots, sizeof(Bounded), False)
        self.bounds = <double *>self.scratch.allocate(self.n_slots, sizeof(double), False)
        self.scores = <float *>self.scratch.allocate(LARGEST_BLOCK, sizeof(float))
        self.batch = <Bounded *>self.scratch.allocate(MOST_ROWS, sizeof(Bounded))
        self.tile = <float *>self.scratch.allocate(width * self.dim, sizeof(float))
        self.thresholds = <float *>self.scratch.allocate(width, sizeof(float))
        self.offsets = <double *>self.scratch.allocate(2 * width, sizeof(double))
        self.slacks = self.offsets + width
        self.found = <farann_candidates *>self.scratch.allocate(width, sizeof(farann_candidates))
        for i in range(width):
            self.found[i].scores = <float *>self.scratch.allocate(
                MOST_PICKS + snapshot.kernels.panel_rows, sizeof(float), False)
            self.found[i].slots = <int64_t *>self.scratch.allocate(
                MOST_PICKS + snapshot.kernels.panel_rows, sizeof(int64_t), False)
        self.row_cost = ROW_COST + self.dim * ROW_COST_A_COORDINATE
        self.pass_cost = self.n_slots * (PASS_COST + self.dim * PASS_COST_A_COORDINATE)
        self.picks = Picks.of(snapshot)
        self.slots = np.empty(most, np.int64)
        self.keys = np.empty(most, np.float64)
        self.picks.grow(first.shape[0])
        with nogil:
            for i in range(self.n_slots):
                self.bounds[i] = NAN if filter.alive != NULL and not filter.alive[i] else INFINITY
                self.rows[i].low, self.rows[i].others = INFINITY, INFINITY
                self.rows[i].nearest = -1
            for i in range(first.shape[0]):
                self.bounds[first[i]] = NAN
                self.picks.add(self.picks.row_of(first[i]))
            for i in range(self.n_slots):
                if not isnan(self.bounds[i]):
                    self.heap[self.n_heap].bound, self.heap[self.n_heap].slot = INFINITY, i
                    self.n_heap += 1

    def run(self, int64_t count, CancelFlag flag=None):
        """Choose up to `count` more rows; gives how many there are now."""
        cdef uint64_t before
        self.given_up = &NEVER
        if flag is not None:
            self.given_up = &flag.raised
        count = min(count, self.slots.shape[0] - self.n_picked)
        self.picks.grow(self.picks.count + count)
        with nogil:
            before = farann_arithmetic_begin()
            self.pick(count)
            farann_arithmetic_end(before)
        if farann_load(self.given_up):
            self.given_up = &NEVER
            raise Cancelled("the batch of this task was given up")
        self.given_up = &NEVER
        return self.n_picked

    def write(self, int64_t[::1] ids, float[::1] scores):
        """Write the ids of the picks, and their scores for the nearest pick before."""
        cdef int64_t i
        for i in range(self.n_picked):
            ids[i] = self.slots[i] if self.ids == NULL else self.ids[self.slots[i]]
            scores[i] = <float>farann_score(self.snapshot.metric, self.keys[i], 1.0)

    def did(self):
        """Pairs of rows that were scored in float32, and by exact keys."""
        return self.n_scored, self.n_exact

    # ---- choosing ----

    cdef void pick(self, int64_t count) noexcept nogil:
        cdef int64_t i
        cdef Bounded best
        for i in range(count):
            if self.finished or not self.find():
                return
            best = self.heap[0]
            if self.has_radius and not farann_is_beyond(
                    self.snapshot.metric, farann_score(self.snapshot.metric, best.bound, 1.0),
                    self.radius):
                self.finished = True
                return
            best = pop(self.heap, &self.n_heap, self.ids)
            self.keys[self.n_picked], self.slots[self.n_picked] = best.bound, best.slot
            self.n_picked += 1
            self.picks.add(self.picks.row_of(best.slot))

    cdef bint find(self) noexcept nogil:
        """Bring rows up to date until the first one is the next pick; False: there is none."""
        cdef int64_t most = 1, n
        cdef Bounded *first = self.heap
        cdef RowState *row
        self.picks.pack()
        self.least_exact, self.spent = -INFINITY, 0.0
        if self.n_passed == 0 and self.picks.count <= MOST_PASSED:
            self.pass_all()
        while self.n_heap > 0 and farann_load(self.given_up) == 0:
            row = &self.rows[first.slot]
            if row.met == self.picks.count and row.is_exact:
                return True
            if row.met == self.picks.count or (
                    row.is_exact and self.picks.count - row.met <= FEW_PICKS):
                self.settle(first)
                sift_down(self.heap, self.n_heap, 0, self.ids)
                continue
            n = self.gather(most)
            self.update(n)
            self.spent += n * self.row_cost
            most = min(2 * most, MOST_ROWS)
            if self.spent > self.pass_cost and self.picks.count - self.n_passed <= MOST_PASSED:
                self.pass_all()
                self.spent = -INFINITY
        if self.n_heap == 0:
            self.finished = True
        return False

    cdef void settle(self, Bounded *entry) noexcept nogil:
        """Make the bound of a row its smallest key over all picks."""
        cdef RowState *row = &self.rows[entry.slot]
        cdef const float *vector = self.picks.row_of(entry.slot)
        cdef int64_t nearest = row.nearest, n = self.picks.count, first = row.met
        cdef double key = INFINITY
        if not row.is_exact:
            if nearest >= 0:
                key = self.picks.least_key(vector, nearest, nearest + 1, &nearest)
                self.n_exact += 1
            if nearest < 0 or key > row.others:  # any pick may be the nearest
                key, first = INFINITY, 0
            entry.bound = key
        if first < n:
            key = self.picks.least_key(vector, first, n, &nearest)
            self.n_exact += n - first
            if key < entry.bound:
                entry.bound, row.nearest = key, <int32_t>nearest
        row.low, row.others, row.is_exact = entry.bound, INFINITY, True
        row.met = <int32_t>n
        self.least_exact = max(self.least_exact, entry.bound)

    # ---- several rows ----

    cdef int64_t gather(self, int64_t most) noexcept nogil:
        """Take the first rows that aren't up to date out of the heap."""
        cdef int64_t n = 0
        cdef Bounded *first = self.heap
        while n < most and self.n_heap > 0 and first.bound >= self.least_exact and (
                self.rows[first.slot].met < self.picks.count):
            self.batch[n] = pop(self.heap, &self.n_heap, self.ids)
            n += 1
        return n

    cdef void update(self, int64_t count) noexcept nogil:
        """Bring the rows of the batch up to date, those together that lack about as many picks."""
        cdef int64_t i, j, width = self.kernels.tile_queries
        cdef Bounded entry
        for i in range(1, count):
            entry, j = self.batch[i], i
            while j > 0 and self.rows[self.batch[j - 1].slot].met > self.rows[entry.slot].met:
                self.batch[j] = self.batch[j - 1]
                j -= 1
            self.batch[j] = entry
        i = 0
        while i < count:
            self.update_tile(self.batch + i, min(width, count - i))
            i += width
        for i in range(count):
            push(self.heap, &self.n_heap, self.batch[i], self.ids)

    cdef void update_tile(self, Bounded *entries, int64_t count) noexcept nogil:
        """Bring rows up to date that are in the order of the picks they have met."""
        cdef int64_t width = self.kernels.tile_queries, i, j, n
        cdef int64_t first = self.rows[entries[0].slot].met
        cdef double key, highest
        cdef bint any_scored = False
        first -= first % self.kernels.panel_rows
        for i in range(width):
            self.thresholds[i] = INFINITY
        for i in range(count):
            self.picks.prepare(self.picks.row_of(entries[i].slot), -1.0)
            self.offsets[i], self.slacks[i] = self.picks.prepared.key_offset, self.picks.slack()
            if self.slacks[i] < 0.0:
                self.settle(&entries[i])
                continue
            any_scored = True
            for j in range(self.dim):
                self.tile[j * width + i] = self.picks.rounded[j]
            self.slacks[i] += ROUNDING * (1.0 + fabs(self.offsets[i]) + self.slacks[i])
        highest = INFINITY
        while any_scored and first < self.picks.count and highest >= self.least_exact:
            n = min(MOST_PICKS, self.picks.count - first)
            for i in range(count):
                self.found[i].count = 0
                if self.slacks[i] >= 0.0:
                    # Of picks whose scores aren't greater no key is below the bound.
                    key = self.offsets[i] - self.slacks[i] - entries[i].bound
                    key -= ROUNDING * (fabs(self.offsets[i]) + fabs(entries[i].bound))
                    self.thresholds[i] = nextafterf(<float>key, -INFINITY)
            self.kernels.scan_panels_f32(
                self.picks.panels + first * self.dim, n, self.dim, self.picks.bias + first,
                self.tile, self.thresholds, self.found)
            self.n_scored += n * count
            highest = -INFINITY
            for i in range(count):
                if self.slacks[i] < 0.0:
                    continue
                for j in range(self.found[i].count):
                    key = self.offsets[i] - self.found[i].scores[j]
                    self.meet(&entries[i], first + self.found[i].slots[j],
                              key - self.slacks[i] - ROUNDING * fabs(key),
                              key + self.slacks[i] + ROUNDING * fabs(key))
                self.rows[entries[i].slot].met = max(
                    self.rows[entries[i].slot].met, <int32_t>(first + n))
                highest = max(highest, entries[i].bound)
            first += n

    cdef void meet(self, Bounded *entry, int64_t pick, double low, double high) noexcept nogil:
        """Note that a row's key for a pick is in low .. high."""
        cdef RowState *row = &self.rows[entry.slot]
        if pick == row.nearest:
            return
        if high < entry.bound:
            if row.nearest >= 0:
                row.others = min(row.others, row.low)
            row.nearest, row.low, entry.bound = <int32_t>pick, low, high
            row.is_exact = False
        elif low < entry.bound:
            row.others = min(row.others, low)
            row.is_exact = False

    # ---- all rows ----

    cdef void pass_all(self) noexcept nogil:
        """Have all rows meet all picks that some have not met, and make the heap anew."""
        cdef int64_t i, n = self.n_heap, start, block, pick
        cdef int64_t rows = rows_in_cache(4 * self.dim)
        cdef int s
        for i in range(self.n_slots):
            self.bounds[i] = NAN
        for i in range(n):
            self.bounds[self.heap[i].slot] = self.heap[i].bound
        for s in range(2):
            start = 0
            while start < self.snapshot.segments[s].count:
                if farann_load(self.given_up):
                    return
                block = min(rows, self.snapshot.segments[s].count - start)
                for pick in range(self.n_passed, self.picks.count):
                    self.pass_block(pick, s, start, block)
                start += block
        self.n_heap = 0
        for i in range(self.n_slots):
            if isnan(self.bounds[i]):
                continue
            self.rows[i].met = <int32_t>self.picks.count
            self.heap[self.n_heap].bound, self.heap[self.n_heap].slot = self.bounds[i], i
            self.n_heap += 1
        make_heap(self.heap, self.n_heap, self.ids)
        self.n_passed = self.picks.count

    cdef void pass_block(self, int64_t pick, int s, int64_t start, int64_t n) noexcept nogil:
        """Have a block of rows meet a pick."""
        cdef const float *rows = self.snapshot.segments[s].rows + start * self.dim
        cdef int64_t slot = self.snapshot.segments[s].first + start, i
        cdef bint normalized = self.picks.packing.normalized
        cdef float norms[2]
        cdef int64_t of_none = 0
        cdef double slack, offset, key, more
        cdef Bounded entry
        self.picks.prepare(self.picks.rows + pick * self.dim, 1.0)
        self.kernels.score_rows_f32(
            rows, NULL, n, self.dim, &self.snapshot.padded_centre[0], self.picks.rounded,
            normalized, 1.0 if self.snapshot.metric == FARANN_L2 else 0.0, self.scores, norms)
        slack = farann_query_slack_row_major(&self.picks.prepared, normalized, norms[0], norms[1])
        # Rows as they lie aren't centred where they are normalized.
        offset = 0.0 if normalized else self.picks.prepared.key_offset
        self.n_scored += n
        for i in range(n):
            entry.slot, entry.bound = slot + i, self.bounds[slot + i]
            if isnan(entry.bound):
                continue
            if slack < 0.0:
                self.n_exact += 1
                key = self.picks.least_key(rows + i * self.dim, pick, pick + 1, &of_none)
                self.meet(&entry, pick, key, key)
            else:
                key = self.scores[i] - offset
                more = slack + ROUNDING * (1.0 + fabs(offset) + fabs(key) + slack)
                self.meet(&entry, pick, key - more, key + more)
            self.bounds[slot + i] = entry.bound
