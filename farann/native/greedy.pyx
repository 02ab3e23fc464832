"""Greedy selection: each time the row whose smallest key over those chosen before is largest.

Each row has a bound on its smallest key. Picks only make the key smaller, so an old bound still
holds, and rows with small bounds need no look. The rows with the largest bounds, some thousands,
are in front: they meet each pick when it is made, by float32 scores with an error bound, and the
first of them gets its exact key, which decides. When no row in front is sure to go before all
others, rows behind with large bounds meet the picks that they lack, and a new front is made.
"""

cimport cython
from libc.math cimport INFINITY, nextafterf
from libc.stdint cimport INT32_MAX

from farann.native.kernels cimport *
from farann.native.picks cimport (KEY_KNOWN, MOST_PACKED, OUT, UNKNOWN, Bounded, OpenRows, Picks,
                                  RowState, goes_before, meet, put_first)
from farann.native.snapshot cimport Filter, Snapshot

from functools import partial

import numpy as np

from farann.native.kernels import Cancelled

cdef enum:
    # A front has up to 1/FRONT_SHARE of the rows, in up to FRONT_BYTES, within these limits.
    FEWEST_FRONT = 256  # rows
    MOST_FRONT = 4096  # rows
    FRONT_SHARE = 8
    ROWS_A_PICK = 64  # and at most 64 rows for each pick that is left to make
    FRONT_BYTES = 1048576  # bytes of float32 rows that the second-level cache holds
    ENOUGH_SHARE = 8  # a front is made once 1/8 of the rows that it may hold are ready
    STRIDE = 64  # rows in front whose largest bound is kept together
    LANES = 16  # bounds compared side by side
    MOST_SAMPLED = 1024  # rows of the sample that a floor is chosen by, at most
    FEWEST_SAMPLED = 64  # the same at least, or all rows if there are fewer
    SAMPLED_SHARE = 16  # one row in 16 is sampled, within these limits
    # A front is packed once it has met PICKS_TO_PACK + dim / DIM_A_PICK picks.
    PICKS_TO_PACK = 8
    DIM_A_PICK = 16
    WORTH_THREADS = 4194304  # multiply-adds below which a second thread costs more than it saves


@cython.no_gc  # references between parts form no cycles
cdef class Front:
    """The rows that meet each pick when it is made; the first is next if it goes before `last`.

    Bounds are in two arrays: those by whole chunks of picks, and those by the picks since, which
    the kernel raises in place. The row with the largest bound is settled: its bound becomes its
    exact key, rounded up. As picks only make keys smaller, it is looked at again only when no
    other bound is larger.
    """

    cdef Picks picks
    cdef const farann_kernels *kernels
    cdef Scratch scratch
    cdef RowState *rows       # of all rows, by slot
    cdef const int64_t *ids   # by slot; NULL: they are the slots
    cdef int64_t room, most, n, n_strides
    cdef int64_t met          # picks that the rows have met by float32
    cdef int64_t to_pack      # picks that the rows meet before they are packed; -1: they are
    cdef int64_t *slots
    cdef float *panels
    cdef float *bias
    cdef float *bounds        # by whole chunks of picks, or the exact key; -infinity: chosen
    cdef float *best          # minus bounds by the picks since
    cdef float *tops          # the largest bound of each stride
    cdef int64_t *place_of    # position of the first row of a stride; -1: not looked for
    cdef int64_t first        # position of the row that `first_row` gave
    cdef Bounded last         # no row behind goes before it
    cdef int64_t n_compared

    @staticmethod
    cdef Front of(Picks picks, RowState *rows, int64_t n_slots):
        cdef Front self = Front.__new__(Front)
        cdef int64_t width = picks.kernels.panel_rows, room, most
        self.picks, self.kernels, self.rows = picks, picks.kernels, rows
        self.ids = picks.snapshot.ids_by_slot
        most = min(FRONT_BYTES // (4 * picks.dim), n_slots // FRONT_SHARE)
        self.room = min(max(most, FEWEST_FRONT) // width, MOST_FRONT // width) * width
        room = (min(self.room, n_slots) + STRIDE + width) // STRIDE * STRIDE
        self.scratch = Scratch()
        self.slots = <int64_t *>self.scratch.allocate(room, sizeof(int64_t), False)
        self.panels = <float *>self.scratch.allocate(room * (picks.dim + 1), sizeof(float), False)
        self.bias = self.panels + room * picks.dim
        self.bounds = <float *>self.scratch.allocate(3 * room, sizeof(float), False)
        self.best, self.tops = self.bounds + room, self.bounds + 2 * room
        self.place_of = <int64_t *>self.scratch.allocate(room // STRIDE, sizeof(int64_t), False)
        self.last.bound = INFINITY
        return self

    cdef int64_t id_of(self, int64_t slot) noexcept nogil:
        return slot if self.ids == NULL else self.ids[slot]

    # ---- which rows ----

    cdef void take(self, Bounded *ready, int64_t n, double floor) noexcept nogil:
        """Take the first of n rows that met all picks; no other row is above the floor."""
        cdef int64_t i
        self.last.bound, self.last.id, self.last.slot = floor, -1, -1
        if n > self.most:
            put_first(ready, n, self.most)
            n, self.last = self.most, ready[self.most]
        self.n, self.n_strides, self.met = n, (n + STRIDE - 1) // STRIDE, self.picks.count
        for i in range(self.n_strides * STRIDE):
            self.best[i] = self.bounds[i] = -INFINITY
        for i in range(n):
            self.slots[i], self.bounds[i] = ready[i].slot, rounded_up(ready[i].bound)
        self.to_pack = PICKS_TO_PACK + self.picks.dim // DIM_A_PICK if self.picks.row_major else 0

    cdef void leave(self) noexcept nogil:
        """Write back the bounds of the rows before other rows come."""
        self.end_chunk()
        self.n = self.n_strides = 0
        self.last.bound = INFINITY

    cdef void meet_last(self) noexcept nogil:
        """Have the rows meet the last pick."""
        cdef int64_t at = self.picks.count - 1, width = self.kernels.tile_queries
        if self.n == 0 or self.picks.by_keys:
            return
        if self.to_pack == 0:
            self.picks.pack(self.slots, self.n, self.panels, self.bias)
        self.to_pack = max(self.to_pack - 1, <int64_t>-1)
        if self.to_pack >= 0:
            self.picks.raise_best(at, self.slots, self.n, self.best)
        else:
            self.kernels.best_scores_f32(
                self.panels, self.n, self.picks.dim, self.bias,
                self.picks.tiles + at // width * width * self.picks.dim + at % width, 1,
                self.picks.offsets + at, self.best)
        self.picks.n_scored += self.n
        self.met = at + 1
        if self.met % self.picks.chunk == 0:
            self.end_chunk()

    cdef void end_chunk(self) noexcept nogil:
        """Lower the bounds of rows that aren't settled by the picks since the last chunk."""
        cdef int64_t i, chunk = (self.met - 1) // self.picks.chunk
        cdef RowState *row
        for i in range(self.n):
            row = &self.rows[self.slots[i]]
            if row.chunk >= 0 or row.chunk == UNKNOWN:
                meet(row, chunk, -self.best[i], self.picks.off)
                row.met = <int32_t>self.met
            self.bounds[i] = min(self.bounds[i], -self.best[i])
            self.best[i] = -INFINITY

    # ---- the next one ----

    cdef int64_t first_row(self, const int64_t *given_up) noexcept nogil:
        """The slot of the row that goes before all others, also those behind; -1: unknown."""
        cdef int64_t s, at
        cdef Bounded first
        cdef RowState *row
        for s in range(self.n_strides):
            self.see_stride(s)
        while self.n_strides and not farann_is_up(given_up):
            first = self.largest()
            if first.bound == -INFINITY or not goes_before(&first, &self.last):
                return -1
            row = &self.rows[first.slot]
            if row.chunk == KEY_KNOWN and row.met == self.picks.count:
                return first.slot
            s = self.first // STRIDE
            for at in range(s * STRIDE, (s + 1) * STRIDE):
                # Rows that tie are settled at once: looking for the first of them takes as long.
                if at == self.first or (min(self.bounds[at], -self.best[at]) == self.tops[s]
                                        and self.rows[self.slots[at]].chunk != KEY_KNOWN):
                    self.settle(at)
            self.see_stride(s)
        return -1

    cdef void see_stride(self, int64_t s) noexcept nogil:
        """Find the largest bound of a stride."""
        cdef int64_t i, j
        cdef float lanes[LANES]
        cdef float bound, other
        for j in range(LANES):
            lanes[j] = -INFINITY
        for i in range(s * STRIDE // LANES, (s + 1) * STRIDE // LANES):
            for j in range(LANES):
                bound, other = self.bounds[i * LANES + j], -self.best[i * LANES + j]
                bound = other if other < bound else bound
                lanes[j] = bound if bound > lanes[j] else lanes[j]
        self.tops[s], self.place_of[s] = lanes[0], -1
        for j in range(1, LANES):
            self.tops[s] = max(self.tops[s], lanes[j])
        self.n_compared += STRIDE

    cdef Bounded largest(self) noexcept nogil:
        """The first of all rows by bounds, settled or not; it is at position `first`."""
        cdef int64_t s
        cdef float top = -INFINITY
        cdef Bounded row, best = Bounded(-INFINITY, -1, -1)
        for s in range(self.n_strides):
            top = max(top, self.tops[s])
        for s in range(self.n_strides):
            if self.tops[s] < top or top == -INFINITY:
                continue
            if self.place_of[s] < 0:
                self.place_of[s] = self.place_in(s)
            row = self.bounded(self.place_of[s], top)
            if best.slot < 0 or goes_before(&row, &best):
                best, self.first = row, self.place_of[s]
        return best

    cdef int64_t place_in(self, int64_t s) noexcept nogil:
        """The position of the first of those rows of a stride that have its largest bound."""
        cdef int64_t i, best = -1
        cdef Bounded row, first
        for i in range(s * STRIDE, (s + 1) * STRIDE):
            if min(self.bounds[i], -self.best[i]) == self.tops[s]:
                row = self.bounded(i, self.tops[s])
                if best < 0 or goes_before(&row, &first):
                    best, first = i, row
        return best

    cdef Bounded bounded(self, int64_t at, double bound) noexcept nogil:
        """A row by its bound in float32, or its exact key if that is smaller."""
        cdef int64_t slot = self.slots[at]
        if self.rows[slot].chunk == KEY_KNOWN:
            bound = min(bound, self.rows[slot].bound)
        return Bounded(bound, self.id_of(slot), slot)

    cdef void settle(self, int64_t at) noexcept nogil:
        """Make a row's bound its smallest key over all picks."""
        cdef int64_t slot = self.slots[at], count = self.picks.count, start, end
        cdef RowState *row = &self.rows[slot]
        cdef double key
        if row.chunk != KEY_KNOWN:
            meet(row, (self.met - 1) // self.picks.chunk, -self.best[at], self.picks.off)
        if row.chunk >= 0 and not self.picks.by_keys:
            start = row.chunk * self.picks.chunk
            end = min(start + self.picks.chunk, count)
            key = self.picks.least_key(self.picks.row_of(slot), start, end)
            if key <= row.others - self.picks.off:
                row.bound, row.met, row.chunk = key, <int32_t>count, KEY_KNOWN
        if row.chunk != KEY_KNOWN or row.met < count:
            self.picks.make_exact(row, slot)
        self.bounds[at] = rounded_up(row.bound)


@cython.no_gc
cdef class Greedy:
    """One selection; `run` goes on with it.

    The slots `first`, at least one, are chosen before, and `most` more. No row is chosen that the
    filter, a mask, excludes, or once every row is within `radius`. `groups` has the number of each
    slot's group, of which `per_group` rows are chosen at most, those chosen before among them.
    `run_all` calls each function of a list with a flag, in several of the `threads`.
    """

    cdef Snapshot snapshot
    cdef Picks picks
    cdef Front front
    cdef Scratch scratch
    cdef const int64_t *given_up
    cdef int64_t n_slots, n_left, first
    cdef RowState *rows
    cdef Bounded *ready   # where rows are gathered that may come in front
    cdef int32_t *behind  # rows that lack picks; `sorted`: the same by how many they met
    cdef int32_t *sorted
    cdef int64_t *met_counts
    cdef int32_t *sample  # rows in random places; the floor is chosen by these
    cdef int64_t n_sampled
    cdef list blocks      # one for each thread
    cdef object run_all   # calls functions in threads
    cdef int64_t n_lacking, n_parts
    cdef double floor     # rows with bounds below it need not meet all picks
    cdef int64_t[::1] slots
    cdef double[::1] keys
    cdef int64_t n_picked, picked_before  # picks now, and when the last front was made
    cdef readonly bint finished, by_float32  # whether float32 holds the scores for the first pick
    cdef double radius
    cdef bint has_radius
    cdef const int32_t[::1] groups
    cdef int64_t[::1] group_room  # rows that may still be chosen, by group

    def __init__(self, Snapshot snapshot, Filter filter, const int64_t[::1] first, int64_t most, *,
                 radius=None, const int32_t[::1] groups=None, int64_t per_group=0,
                 int64_t threads=1, run_all=None):
        cdef int64_t i, n = snapshot.n_slots
        cdef int64_t sampled = max(min(n // SAMPLED_SHARE, <int64_t>MOST_SAMPLED),
                                   <int64_t>FEWEST_SAMPLED)
        cdef uint64_t before
        cdef OpenRows block
        if not snapshot.vectors or snapshot.n_slots > INT32_MAX:
            raise ValueError("a selection needs vectors, of at most 2^31 - 1 rows")
        if filter.segments[0].positions != NULL or first.shape[0] < 1:
            raise ValueError("a selection needs a mask and a row to begin with")
        for i in range(first.shape[0]):
            if not 0 <= first[i] < snapshot.n_slots:
                raise ValueError("first must be slots of the snapshot")
        self.snapshot, self.n_slots, self.given_up = snapshot, n, &NEVER
        self.has_radius, self.radius = radius is not None, radius or 0.0
        self.picked_before, self.groups = -1, groups
        if groups is not None:
            if groups.shape[0] != n or np.min(groups, initial=0) < 0:
                raise ValueError("groups must have a number for each slot")
            self.group_room = np.full(np.max(groups, initial=-1) + 1, per_group)
        self.slots, self.keys = np.empty(most, np.int64), np.empty(most, np.float64)
        self.scratch = Scratch()
        self.rows = <RowState *>self.scratch.allocate(n, sizeof(RowState), False)
        self.blocks = [OpenRows.of(snapshot, self.rows) for i in range(threads)]
        self.picks = self.blocks[0]
        self.picks.grow(first.shape[0])
        self.front = Front.of(self.picks, self.rows, n)
        self.ready = <Bounded *>self.scratch.allocate(n + 1, sizeof(Bounded), False)
        self.behind = <int32_t *>self.scratch.allocate(2 * n, sizeof(int32_t), False)
        self.sorted = self.behind + n
        self.met_counts = <int64_t *>self.scratch.allocate(
            self.picks.capacity + self.slots.shape[0] + 2, sizeof(int64_t))
        self.run_all, self.first = run_all, first[0]
        self.n_sampled = min(sampled, n)
        self.sample = <int32_t *>self.scratch.allocate(self.n_sampled, sizeof(int32_t), False)
        for i in range(self.n_sampled):
            self.sample[i] = <int32_t>(n * i // self.n_sampled)
        self.in_parts(n)
        for block in self.blocks[1:self.n_parts]:
            self.picks.smallest = min(self.picks.smallest, block.smallest)
            self.picks.largest = max(self.picks.largest, block.largest)
        with nogil:
            before = farann_arithmetic_begin()
            self.by_float32 = self.picks.meet_first(first[0], self.rows)
            self.picks.n_scored = self.n_left = self.n_slots
            for i in range(1, first.shape[0]):
                self.picks.add_query(self.picks.row_of(first[i]))
                self.leave_out(first[i])
            self.leave_out(first[0])
            for i in range(self.n_slots):
                if filter.live != NULL and not filter.live[i]:
                    self.leave_out(i)
            for i in range(first.shape[0]):
                self.count_in_group(first[i])
            farann_arithmetic_end(before)

    def run(self, int64_t count, CancelFlag flag=None):
        """Choose up to `count` more rows; return how many are chosen in all."""
        cdef uint64_t before
        self.given_up = &NEVER if flag is None else &flag.raised
        count = min(count, self.slots.shape[0] - self.n_picked)
        self.picks.grow(self.picks.count + count)
        before = farann_arithmetic_begin()
        try:
            with nogil:
                self.pick(count)
        finally:
            farann_arithmetic_end(before)
        if farann_is_up(self.given_up):
            raise Cancelled("the batch of this task was given up")
        return self.n_picked

    def write(self, int64_t[::1] ids, float[::1] scores):
        """Write the ids of the picks, and their scores for the nearest pick before."""
        cdef int64_t i
        for i in range(self.n_picked):
            ids[i] = self.front.id_of(self.slots[i])
            scores[i] = <float>farann_score(self.snapshot.metric, self.keys[i], 1.0)

    def did(self):
        """Pairs of rows that were scored in float32, and by exact keys; rows compared in front."""
        cdef OpenRows block
        cdef int64_t scored = 0, exact = 0
        for block in self.blocks:
            scored, exact = scored + block.n_scored, exact + block.n_exact
        return scored, exact, self.front.n_compared

    # ---- choosing ----

    cdef int pick(self, int64_t count) except -1 nogil:
        """Choose up to `count` rows, as long as none is given up."""
        cdef int64_t slot
        cdef double key
        while count and not self.finished:
            slot = self.front.first_row(self.given_up)
            if farann_is_up(self.given_up):
                return 0
            if slot < 0:
                self.finished = self.n_left == 0
                if not self.finished:
                    self.make_front()
                continue
            key = self.rows[slot].bound
            if self.has_radius and not farann_is_beyond(
                    self.snapshot.metric, farann_score(self.snapshot.metric, key, 1.0),
                    self.radius):
                self.finished = True
                return 0
            self.keys[self.n_picked], self.slots[self.n_picked] = key, slot
            self.n_picked += 1
            count -= 1
            self.leave_out(slot)
            self.front.bounds[self.front.first] = -INFINITY
            self.count_in_group(slot)
            if self.n_picked < self.slots.shape[0]:
                self.picks.add_query(self.picks.row_of(slot))
                self.front.meet_last()
        return 0

    cdef void count_in_group(self, int64_t slot) noexcept nogil:
        """Count a chosen row; if its group has enough of them, leave its other rows out."""
        cdef int64_t i
        cdef int32_t group
        if self.groups is None:
            return
        group = self.groups[slot]
        self.group_room[group] -= 1
        if self.group_room[group] != 0:
            return
        for i in range(self.n_slots):
            if self.groups[i] == group:
                self.leave_out(i)
        for i in range(self.front.n):
            if self.groups[self.front.slots[i]] == group:
                self.front.bounds[i] = -INFINITY

    cdef void leave_out(self, int64_t slot) noexcept nogil:
        self.n_left -= self.rows[slot].chunk != OUT
        self.rows[slot].chunk = OUT

    cdef int make_front(self) except -1 nogil:
        """Bring rows with large bounds up to date until enough of them are still above others."""
        cdef int64_t n, n_ready = 0, wanted
        cdef double floor = -INFINITY
        self.front.leave()
        if self.picked_before == self.n_picked:  # as where rows are all alike
            wanted = 4 * self.front.most
        else:
            wanted = ROWS_A_PICK * (self.slots.shape[0] - self.n_picked)
        wanted = min(self.front.room, max(wanted, <int64_t>FEWEST_FRONT))
        self.front.most, self.picked_before = wanted, self.n_picked
        while not farann_is_up(self.given_up):
            floor = self.floor_for(wanted)
            n = self.gather(floor, &n_ready)
            if n:
                self.update(self.behind, n, floor)
                self.gather(floor, &n_ready)
            if n_ready * ENOUGH_SHARE >= self.front.most or floor == -INFINITY:
                break
            wanted = 2 * wanted
        if not farann_is_up(self.given_up):
            self.front.take(self.ready, n_ready, floor)
        return 0

    cdef double floor_for(self, int64_t wanted) except? 1.0 nogil:
        """The bound that about `wanted` rows exceed once they have met all picks.

        -infinity: all rows that are left are wanted.
        """
        cdef int64_t i, n = 0, above
        if wanted >= self.n_left:
            return -INFINITY
        for i in range(self.n_sampled):
            if self.rows[self.sample[i]].chunk != OUT:
                self.sample[n] = self.sample[i]
                n += 1
        self.n_sampled = n
        self.update(self.sample, n, -INFINITY)
        for i in range(n):
            self.note_ready(i, self.sample[i])
        above = max(wanted * n // self.n_left, 1)
        if above >= n:
            return -INFINITY
        put_first(self.ready, n, above)
        return self.ready[above].bound

    cdef void note_ready(self, int64_t at, int64_t slot) noexcept nogil:
        self.ready[at].bound, self.ready[at].slot = self.rows[slot].bound, slot
        self.ready[at].id = self.front.id_of(slot)

    cdef int64_t gather(self, double floor, int64_t *n_ready) noexcept nogil:
        """Note rows above a bound: those that lack picks, and others, ready for the front."""
        cdef int64_t i, n = 0, ready = 0
        for i in range(self.n_slots):
            if not self.rows[i].bound > floor or self.rows[i].chunk == OUT:
                continue
            if self.rows[i].met < self.picks.count:
                self.behind[n] = <int32_t>i
                n += 1
            else:
                self.note_ready(ready, i)
                ready += 1
        n_ready[0] = ready
        return n

    # ---- behind ----

    cdef int update(self, const int32_t *slots, int64_t n, double floor) except -1 nogil:
        """Bring n rows up to date, in blocks of rows that lack similar numbers of picks."""
        cdef int64_t i, met, same, total = 0, count = self.picks.count, lacking = 0, parts = 1
        for i in range(count + 1):
            self.met_counts[i] = 0
        for i in range(n):
            self.met_counts[self.rows[slots[i]].met] += 1
        for i in range(count + 1):
            same, self.met_counts[i] = self.met_counts[i], total
            total += same
            lacking += same * (count - i)
        self.n_lacking, self.floor = self.met_counts[count], floor  # others lack none
        for i in range(total):
            met = self.rows[slots[i]].met
            self.sorted[self.met_counts[met]] = slots[i]
            self.met_counts[met] += 1
        with gil:
            self.in_parts(lacking)
        return 0

    cdef in_parts(self, int64_t pairs):
        """Score pairs of rows and picks, in threads if there are many."""
        self.n_parts = len(self.blocks) if pairs * self.picks.dim >= WORTH_THREADS else 1
        if self.n_parts == 1:
            self.score_part(0)
        else:
            self.run_all([partial(self.score_part, i) for i in range(self.n_parts)], self.n_parts)

    def score_part(self, int64_t part, flag=None):
        """Score every n-th block of rows, of n parts, for the first pick or those that it lacks."""
        cdef OpenRows block = self.blocks[part]
        cdef int64_t width = block.kernels.panel_rows, n = MOST_PACKED // width * width
        cdef int64_t start = part * n
        cdef uint64_t before
        with nogil:
            before = farann_arithmetic_begin()
            if self.picks.count == 0:
                block.score_all(self.first, self.rows, part, self.n_parts)
            else:
                block.follow(self.picks)
            while start < self.n_lacking and not farann_is_up(self.given_up):
                block.meet_picks(self.sorted + start, min(n, self.n_lacking - start), self.floor)
                start += n * self.n_parts
            farann_arithmetic_end(before)


cdef inline float rounded_up(double bound) noexcept nogil:
    cdef float rounded = <float>bound
    return nextafterf(rounded, INFINITY) if <double>rounded < bound else rounded
