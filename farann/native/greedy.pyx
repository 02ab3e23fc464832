"""Greedy selection: each time the row whose smallest key over those chosen before is largest.

Each row has a bound on its smallest key. Picks only make the key smaller, so that an old bound
still holds, and rows whose bounds are small need no look. In front are the rows with the largest
bounds, some thousands: they meet each pick as it is made, by float32 scores and what these may be
off; the first one gets its exact key, which decides. When no row in front goes before all others
for sure, those behind with large bounds are brought up to date, by many picks at once, and another
front is made.
"""

cimport cython
from libc.math cimport INFINITY
from libc.stdint cimport INT32_MAX, int32_t, int64_t, uint64_t

from farann.native.bound_sample cimport BoundSample
from farann.native.greedy_front cimport GreedyFront
from farann.native.kernels cimport *
from farann.native.picks cimport MOST_PACKED, Picks
from farann.native.process cimport NEVER, SHRINKING_BLOCKS, CancelFlag, uses
from farann.native.row_order cimport EXACT, UNKNOWN, RowState, meet
from farann.native.scratch cimport Scratch
from farann.native.snapshot cimport Filter, Snapshot

from farann.native.process import Cancelled

import numpy as np

cdef enum:
    ENOUGH_SHARE = 8  # a front is made once 1/8 of the rows that it may hold are ready

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
        self.picks.make_room_to_pack()
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
                self.picks.add_query(self.picks.row_of(first[i]))
            for i in range(self.n_slots):
                self.n_left += not self.rows[i].is_out
            farann_arithmetic_end(before)
        self.sample = BoundSample.of(self.picks, self.rows, self.n_slots)

    cdef int allocate(self) except -1:
        cdef int64_t width = self.kernels.panel_rows, room
        self.scratch = Scratch()
        self.rows = <RowState *>self.scratch.allocate(self.n_slots, sizeof(RowState))
        self.behind = <int64_t *>self.scratch.allocate(2 * self.n_slots, sizeof(int64_t), False)
        self.sorted = self.behind + self.n_slots
        self.met_counts = <int64_t *>self.scratch.allocate(
            self.picks.capacity + self.slots.shape[0] + 2, sizeof(int64_t))
        self.front = GreedyFront.of(self.picks, self.rows, self.n_slots)
        self.block = MOST_PACKED // width * width
        room = self.block + width
        self.panels = <float *>self.scratch.allocate(room * (self.dim + 1), sizeof(float), False)
        self.bias = self.panels + room * self.dim
        self.block_slots = <int64_t *>self.scratch.allocate(2 * room, sizeof(int64_t), False)
        self.block_places = self.block_slots + room
        self.best = <float *>self.scratch.allocate(
            max(room, <int64_t>LARGEST_BLOCK), sizeof(float))
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
        if farann_is_up(self.given_up):
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
        return (self.n_scored + self.front.n_scored + self.sample.n_scored,
                self.n_exact + self.front.n_exact, self.front.n_compared)

    # ---- choosing ----

    cdef void pick(self, int64_t count) noexcept nogil:
        cdef int64_t i, slot
        cdef bint by_keys
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
            self.n_left -= 1
            self.rows[slot].is_out = True
            self.front.drop_first()
            by_keys = self.picks.by_keys
            self.picks.add_query(self.picks.row_of(slot))
            if self.picks.by_keys and not by_keys:
                self.front.leave(self.picks.count - 1)
            self.front.meet_last()

    cdef int64_t next_pick(self) noexcept nogil:
        """The slot of the row to choose now; -1: there is none, or the search was given up."""
        cdef int64_t slot
        while not farann_is_up(self.given_up) and not self.finished:
            slot = self.front.first_row(self.given_up)
            if slot >= 0:
                return slot
            if farann_is_up(self.given_up):
                return -1
            self.finished = self.n_left == 0
            if not self.finished:
                self.make_front()
        return -1

    cdef void make_front(self) noexcept nogil:
        """Bring rows with large bounds up to date until enough of them are still above others."""
        cdef int64_t n, n_ready = 0, wanted = self.front.most
        cdef double floor = -INFINITY
        if self.n_left <= wanted and self.front.n == 0 and not self.picks.by_keys:
            # All of them can be in front for good, from the first pick on.
            self.gather_all()
            self.front.take(self.n_left, floor)
            self.front.catch_up()
            return
        self.front.leave(self.picks.count)
        if not self.picks.by_keys:
            self.sample.see_picks()
        while not farann_is_up(self.given_up):
            if not self.picks.by_keys:
                floor = self.sample.floor_for(self.rows, wanted, self.n_left)
            n = self.gather(floor, &n_ready)
            self.update(n, floor)
            n_ready = 0
            self.gather(floor, &n_ready)
            if n_ready * ENOUGH_SHARE >= self.front.most or floor == -INFINITY:
                break
            wanted = 2 * wanted
        if not farann_is_up(self.given_up):
            self.front.take(n_ready, floor)

    cdef void gather_all(self) noexcept nogil:
        """Note all rows as ready for the front."""
        cdef int64_t i, n = 0
        for i in range(self.n_slots):
            if not self.rows[i].is_out:
                self.front.ready[n].bound, self.front.ready[n].slot = self.rows[i].bound, i
                self.front.ready[n].id = self.front.id_of(i)
                n += 1

    cdef int64_t gather(self, double floor, int64_t *n_ready) noexcept nogil:
        """Note the rows above a bound: those that lack picks, and the others, ready for the front."""
        cdef int64_t i, n = 0, ready = 0
        for i in range(self.n_slots):
            if not self.rows[i].bound > floor or self.rows[i].is_out:
                continue
            if self.rows[i].met < self.picks.count:
                self.behind[n] = i
                n += 1
            else:
                self.front.ready[ready].bound = self.rows[i].bound
                self.front.ready[ready].slot = i
                self.front.ready[ready].id = self.front.id_of(i)
                ready += 1
        n_ready[0] = ready
        return n

    # ---- behind ----

    cdef void update(self, int64_t n, double floor) noexcept nogil:
        """Bring n rows up to date, in blocks of rows that lack similar numbers of picks."""
        cdef int64_t i, at, total = 0, count
        if n == 0:
            return
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
        while i < n and not farann_is_up(self.given_up):
            if self.picks.by_keys:
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
        """Have rows meet picks chunk by chunk, as long as they are above the floor."""
        cdef int64_t first = self.rows[slots[0]].met, end, i, chunk, count = self.picks.count
        cdef int64_t width = self.kernels.tile_queries
        cdef RowState *row
        for i in range(n):
            self.block_slots[i], self.block_places[i] = slots[i], i
        self.n_block = self.n_packed = n
        self.picks.pack(slots, n, self.panels, self.bias)
        first -= first % width
        while self.n_block and first < count:
            chunk = first // self.picks.chunk
            end = min((chunk + 1) * self.picks.chunk, count)
            self.score_block(self.picks.tiles + first * self.dim, end - first,
                             self.picks.offsets + first)
            for i in range(self.n_block):
                row = &self.rows[self.block_slots[i]]
                meet(row, chunk, -self.best[self.block_places[i]], self.picks.off)
                row.met = max(row.met, <int32_t>end)
            first = end
            self.keep_above(floor)

    cdef void score_block(self, const float *tiles, int64_t n, const float *offsets) noexcept nogil:
        """Find the best of the block's scores for n queries, less their offsets."""
        cdef int64_t i
        for i in range(self.n_packed):
            self.best[i] = -INFINITY
        self.kernels.best_scores_f32(self.panels, self.n_packed, self.dim, self.bias, tiles, n,
                                     offsets, self.best)
        self.n_scored += n * self.n_packed

    cdef void keep_above(self, double floor) noexcept nogil:
        """Leave out rows that are at most at the floor, and pack the others where half the panels do."""
        cdef int64_t i, kept = 0, width = self.kernels.panel_rows
        for i in range(self.n_block):
            if self.rows[self.block_slots[i]].bound > floor:
                self.block_slots[kept] = self.block_slots[i]
                self.block_places[kept] = self.block_places[i]
                kept += 1
        self.n_block = kept
        if uses(SHRINKING_BLOCKS) and kept and 2 * ((kept + width - 1) // width) <= (self.n_packed + width - 1) // width:
            self.picks.pack(self.block_slots, kept, self.panels, self.bias)
            self.n_packed = kept
            for i in range(kept):
                self.block_places[i] = i
