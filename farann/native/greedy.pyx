"""Greedy selection: each time the row whose smallest key over those chosen before is largest.

Each row has a bound on its smallest key. Picks only make the key smaller, so that an old bound
still holds, and rows whose bounds are small need no look. In front are the rows with the largest
bounds, some thousands: they meet each pick as it is made, by float32 scores and what these may be
off; the first one gets its exact key, which decides. When no row in front goes before all others
for sure, those behind with large bounds are brought up to date, by many picks at once, and
another front is made.
"""

cimport cython
from libc.math cimport INFINITY
from libc.stdint cimport INT32_MAX, int32_t, int64_t, uint64_t
from libc.string cimport memcpy

from farann.native.kernels cimport *
from farann.native.picks cimport Picks
from farann.native.process cimport NEVER, CancelFlag
from farann.native.row_order cimport (
    EXACT, UNKNOWN, Bounded, RowState, goes_before, largest_but, make_heap, meet, put_first,
    sift_down)
from farann.native.scratch cimport Scratch
from farann.native.snapshot cimport Filter, Snapshot

from farann.native.process import Cancelled

import numpy as np

cdef enum:
    # Picks whose scores are kept apart: the nearest is among so many, or a few less, in whole tiles.
    MOST_CHUNK = 64
    # Rows that are brought up to date together at most, whole panels of them.
    BLOCK = 128
    # Rows in front, at most, and bytes of them, as the second-level cache holds; one in so many do.
    MOST_FRONT = 4096
    FRONT_BYTES = 1048576
    ENOUGH_SHARE = 8
    # Bounds that are looked at to find one that so many rows are above.
    SAMPLE = 4096
    # Exact keys for one pick, after which rows in front are kept as a heap.
    FEW = 8

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
        cdef int64_t i
        cdef uint64_t before
        if not snapshot.vectors or snapshot.n_slots > INT32_MAX:
            raise ValueError("a selection needs vectors, of at most 2^31 - 1 rows")
        if filter.segments[0].positions != NULL or first.shape[0] < 1:
            raise ValueError("a selection needs a mask and a row to begin with")
        for i in range(first.shape[0]):
            if not 0 <= first[i] < snapshot.n_slots:
                raise ValueError("first must be slots of the snapshot")
        self.snapshot, self.filter, self.kernels = snapshot, filter, snapshot.kernels
        self.dim, self.n_slots, self.given_up = snapshot.dim, snapshot.n_slots, &NEVER
        self.has_radius = radius is not None
        self.radius = radius if self.has_radius else 0.0
        self.slots, self.keys = np.empty(most, np.int64), np.empty(most, np.float64)
        self.picks = Picks.of(snapshot)
        self.picks.grow(first.shape[0])
        self.allocate()
        with nogil:
            before = farann_arithmetic_begin()
            self.picks.see_norms(self.best)
            for i in range(self.n_slots):
                self.rows[i].bound, self.rows[i].others = INFINITY, INFINITY
                self.rows[i].chunk = UNKNOWN
                self.rows[i].is_out = filter.alive != NULL and not filter.alive[i]
            for i in range(first.shape[0]):
                self.rows[first[i]].is_out = True
                self.take(self.picks.row_of(first[i]))
            farann_arithmetic_end(before)

    cdef int allocate(self) except -1:
        cdef int64_t width = self.kernels.panel_rows, block, front
        self.chunk = MOST_CHUNK // self.kernels.tile_queries * self.kernels.tile_queries
        self.scratch = Scratch()
        self.rows = <RowState *>self.scratch.allocate(self.n_slots, sizeof(RowState))
        self.behind = <int64_t *>self.scratch.allocate(2 * self.n_slots, sizeof(int64_t), False)
        self.sorted = self.behind + self.n_slots
        self.met_counts = <int64_t *>self.scratch.allocate(
            self.picks.capacity + self.slots.shape[0] + 2, sizeof(int64_t))
        self.front = <Bounded *>self.scratch.allocate(self.n_slots + 1, sizeof(Bounded), False)
        self.sample = <double *>self.scratch.allocate(SAMPLE, sizeof(double), False)
        self.most_front = max(FRONT_BYTES // (4 * self.dim) // width, 1) * width
        self.most_front = min(self.most_front, <int64_t>MOST_FRONT)
        self.heap = <int64_t *>self.scratch.allocate(self.most_front, sizeof(int64_t), False)
        self.block = min(self.most_front, <int64_t>BLOCK)
        block = self.block + width
        front = self.most_front + width
        self.copies = <float *>self.scratch.allocate(block * self.dim, sizeof(float), False)
        self.panels = <float *>self.scratch.allocate(block * (self.dim + 1), sizeof(float), False)
        self.bias = self.panels + block * self.dim
        self.front_panels = <float *>self.scratch.allocate(
            front * (self.dim + 1), sizeof(float), False)
        self.front_bias = self.front_panels + front * self.dim
        self.best = <float *>self.scratch.allocate(
            max(front, <int64_t>LARGEST_BLOCK), sizeof(float))
        return 0

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
        cdef const int64_t *by_slot = self.snapshot.ids_by_slot
        for i in range(self.n_picked):
            ids[i] = self.slots[i] if by_slot == NULL else by_slot[self.slots[i]]
            scores[i] = <float>farann_score(self.snapshot.metric, self.keys[i], 1.0)

    def did(self):
        """Pairs of rows that were scored in float32, and by exact keys; rows compared in front."""
        return self.n_scored, self.n_exact, self.n_compared

    # ---- choosing ----

    cdef void pick(self, int64_t count) noexcept nogil:
        cdef int64_t i, slot
        for i in range(count):
            slot = self.next_pick()
            if slot < 0:
                return
            if self.has_radius and not farann_is_beyond(
                    self.snapshot.metric,
                    farann_score(self.snapshot.metric, self.rows[slot].bound, 1.0), self.radius):
                self.finished = True
                return
            self.keys[self.n_picked] = self.rows[slot].bound
            self.slots[self.n_picked] = slot
            self.n_picked += 1
            self.rows[slot].is_out = True
            self.take(self.picks.row_of(slot))
            self.meet_last()

    cdef void take(self, const float *row) noexcept nogil:
        """Make a row a pick."""
        self.by_keys |= not self.picks.add_query(row)

    cdef int64_t next_pick(self) noexcept nogil:
        """The slot of the row to choose now; -1: there is none, or the search was given up."""
        cdef int64_t at, n_settled = 0
        cdef Bounded *first
        while farann_load(self.given_up) == 0:
            at = self.first_in_front(n_settled)
            if at < 0 or not goes_before(&self.front[at], &self.last):
                if self.finished:
                    return -1
                self.make_front()
                n_settled = 0
                continue
            first = &self.front[at]
            if self.rows[first.slot].chunk == EXACT:
                return first.slot
            self.settle(first.slot)
            first.bound = self.rows[first.slot].bound
            n_settled += 1
        return -1

    cdef int64_t first_in_front(self, int64_t n_settled) noexcept nogil:
        """Where in front the first row is that may be chosen; -1: nowhere.

        Since this pick was asked for, so many of those that were first got exact keys.
        """
        cdef int64_t i, best = -1
        if n_settled > FEW:
            sift_down(self.front, self.heap, self.n_heap, 0)
            return self.heap[0]
        self.n_heap = 0
        for i in range(self.n_front):
            if self.rows[self.front[i].slot].is_out:
                continue
            if best < 0 or goes_before(&self.front[i], &self.front[best]):
                best = i
            self.heap[self.n_heap] = i
            self.n_heap += 1
        self.n_compared += self.n_front
        if n_settled == FEW:
            make_heap(self.front, self.heap, self.n_heap)
        return best

    cdef void settle(self, int64_t slot) noexcept nogil:
        """Make the bound of a row that is up to date its smallest key over all picks."""
        cdef RowState *row = &self.rows[slot]
        cdef const float *vector = self.picks.row_of(slot)
        cdef int64_t first = row.chunk * self.chunk, n = self.picks.count
        cdef double key = INFINITY
        if row.chunk >= 0:
            key = self.picks.least_key(vector, first, min(first + self.chunk, n))
            self.n_exact += min(first + self.chunk, n) - first
        if row.chunk < 0 or key > row.others - self.picks.off:
            key = self.picks.least_key(vector, 0, n)
            self.n_exact += n
        row.bound, row.others, row.chunk = key, INFINITY, EXACT

    # ---- in front ----

    cdef void meet_last(self) noexcept nogil:
        """Have the rows in front meet the last pick."""
        cdef int64_t i, slot, width = self.kernels.tile_queries, at = self.picks.count - 1
        cdef int64_t n = self.n_front, chunk = at // self.chunk
        cdef double key
        cdef RowState *row
        if not self.by_keys:
            for i in range(n):
                self.best[i] = -INFINITY
            self.kernels.best_scores_f32(
                self.front_panels, n, self.dim, self.front_bias,
                self.picks.tiles + at // width * width * self.dim + at % width, 1,
                self.picks.offsets + at, self.best)
            self.n_scored += n
        for i in range(n):
            slot = self.front[i].slot
            row = &self.rows[slot]
            if row.is_out:
                continue
            if self.by_keys or (row.chunk == EXACT
                                and -self.best[i] - self.picks.off < row.bound):
                key = self.picks.least_key(self.picks.row_of(slot), at, at + 1)
                self.n_exact += 1
                if row.chunk == EXACT:
                    row.bound = min(row.bound, key)
                else:
                    meet(row, chunk, key, self.picks.off)
            else:
                meet(row, chunk, -self.best[i], self.picks.off)
            row.met = <int32_t>(at + 1)
            self.front[i].bound = row.bound

    cdef void make_front(self) noexcept nogil:
        """Bring rows with large bounds up to date until enough of them are still above others."""
        cdef int64_t n, n_ready = 0, wanted = self.most_front
        cdef double floor
        while farann_load(self.given_up) == 0:
            floor = self.floor_for(wanted)
            n = self.gather(floor, &n_ready)
            self.update(n, floor)
            n_ready = 0
            self.gather(floor, &n_ready)
            if n_ready * ENOUGH_SHARE >= self.most_front or floor == -INFINITY:
                break
            wanted = 2 * wanted
        if farann_load(self.given_up):
            self.n_front = 0
            return
        self.n_front = n_ready
        self.last.bound, self.last.id, self.last.slot = floor, -1, -1
        if n_ready > self.most_front:
            put_first(self.front, n_ready, self.most_front)
            self.n_front, self.last = self.most_front, self.front[self.most_front]
        self.finished = self.n_front == 0
        self.fill_front()

    cdef double floor_for(self, int64_t wanted) noexcept nogil:
        """A bound that about so many rows are above; -infinity: all are wanted."""
        cdef int64_t i = 0, n = 0, step = max(self.n_slots // SAMPLE, 1), above
        if wanted >= self.n_slots:
            return -INFINITY
        while i < self.n_slots and n < SAMPLE:
            if not self.rows[i].is_out:
                self.sample[n] = self.rows[i].bound
                n += 1
            i += step
        above = wanted * n // self.n_slots
        return -INFINITY if above >= n else largest_but(self.sample, n, above)

    cdef int64_t gather(self, double floor, int64_t *n_ready) noexcept nogil:
        """Note the rows above a bound: those that lack picks, and the others, in front."""
        cdef int64_t i, n = 0, ready = 0
        cdef const int64_t *ids = self.snapshot.ids_by_slot
        for i in range(self.n_slots):
            if not self.rows[i].bound > floor or self.rows[i].is_out:
                continue
            if self.rows[i].met < self.picks.count:
                self.behind[n] = i
                n += 1
            else:
                self.front[ready].bound, self.front[ready].slot = self.rows[i].bound, i
                self.front[ready].id = i if ids == NULL else ids[i]
                ready += 1
        n_ready[0] = ready
        return n

    cdef void fill_front(self) noexcept nogil:
        """Pack the rows in front."""
        cdef int64_t start = 0, i, n
        cdef int64_t slots[BLOCK]
        if self.by_keys:
            return
        while start < self.n_front:
            n = min(self.block, self.n_front - start)
            for i in range(n):
                slots[i] = self.front[start + i].slot
            self.pack(slots, n, self.front_panels + start * self.dim, self.front_bias + start)
            start += n

    # ---- behind ----

    cdef void update(self, int64_t n, double floor) noexcept nogil:
        """Bring n rows up to date, those together that lack about as many picks."""
        cdef int64_t i, at, total = 0, count
        for i in range(self.picks.count + 1):
            self.met_counts[i] = 0
        for i in range(n):
            self.met_counts[self.rows[self.behind[i]].met] += 1
        for i in range(self.picks.count + 1):
            count = self.met_counts[i]
            self.met_counts[i] = total
            total += count
        for i in range(n):
            at = self.rows[self.behind[i]].met
            self.sorted[self.met_counts[at]] = self.behind[i]
            self.met_counts[at] += 1
        i = 0
        while i < n and farann_load(self.given_up) == 0:
            if self.by_keys:
                self.update_by_keys(self.sorted[i])
                i += 1
                continue
            count = min(self.block, n - i)
            self.update_block(self.sorted + i, count, floor)
            i += count

    cdef void update_by_keys(self, int64_t slot) noexcept nogil:
        """Bring a row up to date by exact keys alone."""
        cdef RowState *row = &self.rows[slot]
        cdef int64_t first = row.met if row.chunk == EXACT else 0
        cdef double key = self.picks.least_key(self.picks.row_of(slot), first, self.picks.count)
        self.n_exact += self.picks.count - first
        if row.chunk == EXACT:
            key = min(key, row.bound)
        row.bound, row.others, row.chunk = key, INFINITY, EXACT
        row.met = <int32_t>self.picks.count

    cdef void update_block(self, const int64_t *slots, int64_t n, double floor) noexcept nogil:
        """Have rows meet picks chunk by chunk, as long as one of them is above the floor."""
        cdef int64_t first = self.rows[slots[0]].met, end, i, chunk
        cdef int64_t width = self.kernels.tile_queries
        cdef bint any_above = True
        self.pack(slots, n, self.panels, self.bias)
        first -= first % width
        while any_above and first < self.picks.count:
            chunk = first // self.chunk
            end = min((chunk + 1) * self.chunk, self.picks.count)
            for i in range(n):
                self.best[i] = -INFINITY
            self.kernels.best_scores_f32(
                self.panels, n, self.dim, self.bias, self.picks.tiles + first * self.dim,
                end - first, self.picks.offsets + first, self.best)
            self.n_scored += n * (end - first)
            any_above = False
            for i in range(n):
                meet(&self.rows[slots[i]], chunk, -self.best[i], self.picks.off)
                self.rows[slots[i]].met = max(self.rows[slots[i]].met, <int32_t>end)
                any_above |= self.rows[slots[i]].bound > floor
            first = end

    cdef void pack(self, const int64_t *slots, int64_t n, float *panels, float *bias) noexcept nogil:
        """Pack up to a block of rows as panels."""
        cdef int64_t i
        for i in range(n):
            memcpy(self.copies + i * self.dim, self.picks.row_of(slots[i]),
                   self.dim * sizeof(float))
        self.kernels.pack_rows_f32(
            self.copies, NULL, n, self.dim, &self.snapshot.centre[0],
            self.picks.packing.normalized, self.picks.packing.bias_sign, panels, bias)
