"""The rows of a selection that meet each pick as it is made.

Bounds by float32 scores are kept in two arrays: those by whole chunks of picks, and those by the
picks since, which the kernel raises in place. The row with the largest bound gets its exact key and
waits among the settled rows, a heap by their keys. Picks only make keys smaller, so that of the heap
the first row alone need be brought up to date.
"""

cimport cython
from libc.math cimport INFINITY, nextafterf
from libc.stdint cimport int32_t, int64_t

from farann.native.kernels cimport *
from farann.native.picks cimport Picks
from farann.native.row_order cimport (
    EXACT, Bounded, RowState, goes_before, meet, push_row, put_first, sift_down)
from farann.native.scratch cimport Scratch

cdef enum:
    # A front has up to 1/FRONT_SHARE of the rows, in up to FRONT_BYTES, within these limits.
    FEWEST_FRONT = 256  # rows
    MOST_FRONT = 4096  # rows
    FRONT_SHARE = 8
    FRONT_BYTES = 1048576  # bytes of float32 rows that the second-level cache holds
    STRIDE = 64  # bounds whose largest is kept together
    LANES = 16


@cython.no_gc  # what parts refer to never refers to them
cdef class GreedyFront:
    """Rows in front; the first of them is the next pick if it goes before `last`."""

    @staticmethod
    cdef GreedyFront of(Picks picks, RowState *rows, int64_t n_slots):
        cdef GreedyFront self = GreedyFront.__new__(GreedyFront)
        cdef int64_t width = picks.kernels.panel_rows, room
        self.picks, self.kernels, self.rows, self.chunk = picks, picks.kernels, rows, picks.chunk
        self.dim, self.ids = picks.dim, picks.snapshot.ids_by_slot
        self.most = min(FRONT_BYTES // (4 * self.dim), n_slots // FRONT_SHARE)
        self.most = min(max(self.most, FEWEST_FRONT) // width, MOST_FRONT // width) * width
        room = (min(self.most, n_slots) + STRIDE + width) // STRIDE * STRIDE
        self.scratch = Scratch()
        self.ready = <Bounded *>self.scratch.allocate(n_slots + 1, sizeof(Bounded), False)
        self.slots = <int64_t *>self.scratch.allocate(room, sizeof(int64_t), False)
        self.settled = <Bounded *>self.scratch.allocate(room, sizeof(Bounded), False)
        self.panels = <float *>self.scratch.allocate(room * (self.dim + 1), sizeof(float), False)
        self.bias = self.panels + room * self.dim
        self.bounds = <float *>self.scratch.allocate(3 * room, sizeof(float), False)
        self.best, self.of_stride = self.bounds + room, self.bounds + 2 * room
        self.place_of = <int64_t *>self.scratch.allocate(room // STRIDE, sizeof(int64_t), False)
        self.last.bound = INFINITY
        return self

    cdef int64_t id_of(self, int64_t slot) noexcept nogil:
        return slot if self.ids == NULL else self.ids[slot]

    # ---- which rows ----

    cdef void take(self, int64_t n, double floor) noexcept nogil:
        """Take the first of n rows that are ready; no other row is above the floor."""
        cdef int64_t i, slot
        cdef Bounded row
        cdef double bound
        self.last.bound, self.last.id, self.last.slot = floor, -1, -1
        if n > self.most:
            put_first(self.ready, n, self.most)
            n, self.last = self.most, self.ready[self.most]
        self.n, self.n_settled = n, 0
        for i in range(n):
            row = self.ready[i]
            slot, bound = row.slot, row.bound
            self.slots[i], self.best[i], self.bounds[i] = slot, -INFINITY, -INFINITY
            if self.rows[slot].chunk == EXACT:
                push_row(self.settled, &self.n_settled, &row)
                continue
            self.bounds[i] = <float>bound
            if <double>self.bounds[i] < bound:
                self.bounds[i] = nextafterf(self.bounds[i], INFINITY)
        for i in range(n, (n + STRIDE - 1) // STRIDE * STRIDE):
            self.best[i], self.bounds[i] = -INFINITY, -INFINITY
        if not self.picks.by_keys:
            self.picks.pack(self.slots, n, self.panels, self.bias)

    cdef void catch_up(self) noexcept nogil:
        """Have rows that met no pick meet all that there are."""
        cdef int64_t first = 0, n
        while first < self.picks.count:
            n = min(self.chunk, self.picks.count - first)
            self.kernels.best_scores_f32(
                self.panels, self.n, self.dim, self.bias, self.picks.tiles + first * self.dim, n,
                self.picks.offsets + first, self.best)
            self.n_scored += n * self.n
            first += n
            self.end_chunk(first)

    cdef void leave(self, int64_t met) noexcept nogil:
        """Write back the bounds of the rows, which met `met` picks, before other rows come."""
        if met > 0:
            self.end_chunk(met)
        self.n = self.n_settled = 0
        self.last.bound = INFINITY

    # ---- picks ----

    cdef void meet_last(self) noexcept nogil:
        """Have the rows meet the last pick."""
        cdef int64_t at = self.picks.count - 1, width = self.kernels.tile_queries
        if self.n == 0 or self.picks.by_keys:
            return
        self.kernels.best_scores_f32(
            self.panels, self.n, self.dim, self.bias,
            self.picks.tiles + at // width * width * self.dim + at % width, 1,
            self.picks.offsets + at, self.best)
        self.n_scored += self.n
        if (at + 1) % self.chunk == 0:
            self.end_chunk(at + 1)

    cdef void end_chunk(self, int64_t met) noexcept nogil:
        """Write what the picks up to `met`, of one chunk, mean for the rows that aren't settled."""
        cdef int64_t i, chunk = (met - 1) // self.chunk
        cdef RowState *row
        for i in range(self.n):
            if self.bounds[i] == -INFINITY:
                continue
            row = &self.rows[self.slots[i]]
            meet(row, chunk, -self.best[i], self.picks.off)
            row.met = <int32_t>met
            self.bounds[i] = min(self.bounds[i], -self.best[i])
            self.best[i] = -INFINITY

    # ---- the next one ----

    cdef int64_t first_row(self, const int64_t *given_up) noexcept nogil:
        """The slot of the row that goes before all others, behind, too; -1: it isn't known."""
        cdef Bounded first
        cdef int64_t at, s
        for s in range((self.n + STRIDE - 1) // STRIDE):
            self.look_at(s)
        at = self.first_unsettled(&first)
        while not farann_is_up(given_up):
            if self.n_settled and (at < 0 or goes_before(&self.settled[0], &first)):
                if not goes_before(&self.settled[0], &self.last):
                    return -1
                if self.rows[self.settled[0].slot].met == self.picks.count:
                    return self.settled[0].slot
                self.refresh_first()
                continue
            if at < 0 or not goes_before(&first, &self.last):
                return -1
            self.settle(at)
            self.look_at(at // STRIDE)
            at = self.first_unsettled(&first)
        return -1

    cdef void look_at(self, int64_t s) noexcept nogil:
        """Find the largest bound of a stride by scores."""
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
        bound = lanes[0]
        for j in range(1, LANES):
            bound = max(bound, lanes[j])
        self.of_stride[s], self.place_of[s] = bound, -1
        self.n_compared += STRIDE

    cdef int64_t first_unsettled(self, Bounded *first) noexcept nogil:
        """Where the row is that has the largest bound by scores; -1: there is none."""
        cdef int64_t s, at, best = -1, strides = (self.n + STRIDE - 1) // STRIDE
        cdef float top = -INFINITY
        for s in range(strides):
            top = max(top, self.of_stride[s])
        if top == -INFINITY:
            return -1
        for s in range(strides):
            if self.of_stride[s] < top:
                continue
            if self.place_of[s] < 0:
                self.place_of[s] = self.place_in(s)
            at = self.place_of[s]
            if best < 0 or self.id_of(self.slots[at]) < first.id:
                best, first.id = at, self.id_of(self.slots[at])
        first.bound, first.slot = top, self.slots[best]
        return best

    cdef int64_t place_in(self, int64_t s) noexcept nogil:
        """Where the row of a stride is that has its largest bound, and the smallest id of these."""
        cdef int64_t i, best = -1
        for i in range(s * STRIDE, (s + 1) * STRIDE):
            if min(self.bounds[i], -self.best[i]) == self.of_stride[s] and (
                    best < 0 or self.id_of(self.slots[i]) < self.id_of(self.slots[best])):
                best = i
        return best

    cdef void settle(self, int64_t at) noexcept nogil:
        """Make the bound of a row its smallest key over all picks."""
        cdef int64_t slot = self.slots[at], count = self.picks.count, start, end
        cdef RowState *row = &self.rows[slot]
        cdef const float *vector = self.picks.row_of(slot)
        cdef double key = INFINITY
        cdef Bounded settled
        meet(row, (count - 1) // self.chunk, -self.best[at], self.picks.off)
        if row.chunk >= 0:
            start = row.chunk * self.chunk
            end = min(start + self.chunk, count)
            key = self.picks.least_key(vector, start, end)
            self.n_exact += end - start
        if row.chunk < 0 or key > row.others - self.picks.off:
            key = self.picks.least_key(vector, 0, count)
            self.n_exact += count
        row.bound, row.others, row.chunk, row.met = key, INFINITY, EXACT, <int32_t>count
        self.bounds[at] = -INFINITY
        settled.bound, settled.slot, settled.id = key, slot, self.id_of(slot)
        push_row(self.settled, &self.n_settled, &settled)

    cdef void refresh_first(self) noexcept nogil:
        """Bring the first settled row up to date."""
        cdef Bounded *first = &self.settled[0]
        cdef RowState *row = &self.rows[first.slot]
        row.bound = min(row.bound, self.picks.least_key(
            self.picks.row_of(first.slot), row.met, self.picks.count))
        self.n_exact += self.picks.count - row.met
        row.met = <int32_t>self.picks.count
        first.bound = row.bound
        sift_down(self.settled, self.n_settled)

    cdef void drop_first(self) noexcept nogil:
        """Take the first settled row out, which was chosen."""
        self.n_settled -= 1
        self.settled[0] = self.settled[self.n_settled]
        sift_down(self.settled, self.n_settled)
