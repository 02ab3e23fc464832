"""Picks that rule out most rows: those that rows meet first which lack many picks.

Some rows all over the place meet all picks. Their bounds tell how many rows are above a floor. A
guide is the pick that has most of them at most at the floor, but for those that guides before it
have there.
"""

cimport cython
from libc.math cimport INFINITY
from libc.stdint cimport int32_t, int64_t, uint8_t
from libc.string cimport memset

from farann.native.kernels cimport *
from farann.native.picks cimport Picks
from farann.native.process cimport GUIDES, uses
from farann.native.row_order cimport RowState, bound_of, largest_but
from farann.native.scratch cimport Scratch

cdef enum:
    SAMPLED_ROWS = 1024
    SAMPLED_SHARE = 16
    # Of these, those by which guides are chosen.
    COUNTED_ROWS = 256
    # Picks of which guides are chosen, the last ones; and guides.
    MOST_SEEN = 2048
    MOST_GUIDES = 64
    # A guide rules out one of so many of the sampled rows, at least.
    LEAST_SHARE = 64


@cython.no_gc  # what parts refer to never refers to them
cdef class Guides:
    """The guides of a selection, in tiles as picks are."""

    @staticmethod
    cdef Guides of(Picks picks, const RowState *rows, int64_t n_slots, int64_t most):
        cdef Guides self = Guides.__new__(Guides)
        cdef int64_t width = picks.kernels.tile_queries, i, at, room
        cdef int64_t wanted, step
        self.picks, self.kernels, self.dim = picks, picks.kernels, picks.dim
        self.scratch = Scratch()
        self.sample = <int64_t *>self.scratch.allocate(SAMPLED_ROWS, sizeof(int64_t))
        wanted = max(min(n_slots // SAMPLED_SHARE, SAMPLED_ROWS), COUNTED_ROWS // 4)
        step = max(wanted // COUNTED_ROWS, 1)
        for i in range(min(wanted, n_slots)):
            # Those that come first are all over the place, too.
            at = i // (wanted // step) + i % (wanted // step) * step
            at = n_slots * at // wanted if n_slots > wanted else i
            if at < n_slots and not rows[at].is_out:
                self.sample[self.n_sample] = at
                self.n_sample += 1
        self.n_counted = min(self.n_sample, COUNTED_ROWS)
        self.room = min(most, <int64_t>MOST_SEEN)
        room = SAMPLED_ROWS + picks.kernels.panel_rows
        self.panels = <float *>self.scratch.allocate(room * (self.dim + 1), sizeof(float), False)
        self.bias = self.panels + room * self.dim
        self.best = <float *>self.scratch.allocate(2 * room, sizeof(float))
        self.of_pick = self.best + room
        for i in range(room):
            self.best[i] = -INFINITY
        self.bounds = <double *>self.scratch.allocate(SAMPLED_ROWS, sizeof(double))
        self.scores = <float *>self.scratch.allocate(
            self.room * COUNTED_ROWS, sizeof(float), False)
        self.reaches = <uint8_t *>self.scratch.allocate(
            self.room * COUNTED_ROWS, sizeof(uint8_t), False)
        self.counts = <int32_t *>self.scratch.allocate(self.room, sizeof(int32_t))
        room = (MOST_GUIDES + width - 1) // width * width
        self.tiles = <float *>self.scratch.allocate(room, (self.dim + 1) * sizeof(float))
        self.offsets = self.tiles + room * self.dim
        return self

    cdef void see_picks(self) noexcept nogil:
        """Have the sampled rows meet the picks since the last time."""
        cdef int64_t width = self.kernels.tile_queries, i, n = self.n_sample
        cdef float *scores
        if self.seen == 0:
            self.picks.pack(self.sample, n, self.panels, self.bias)
        while self.seen < self.picks.count:
            for i in range(n):
                self.of_pick[i] = -INFINITY
            self.kernels.best_scores_f32(
                self.panels, n, self.dim, self.bias,
                self.picks.tiles + self.seen // width * width * self.dim + self.seen % width, 1,
                self.picks.offsets + self.seen, self.of_pick)
            for i in range(n):
                self.best[i] = max(self.best[i], self.of_pick[i])
            scores = self.scores + self.seen % self.room * COUNTED_ROWS
            for i in range(self.n_counted):
                scores[i] = self.of_pick[i]
            self.n_scored += n
            self.seen += 1

    cdef double floor_for(self, const RowState *rows, int64_t wanted,
                          int64_t n_left) noexcept nogil:
        """A bound that about so many rows are above once they have met all picks.

        -infinity: all rows that are left are wanted.
        """
        cdef int64_t i, n = 0, above
        for i in range(self.n_sample):
            if not rows[self.sample[i]].is_out:
                self.bounds[n] = -self.best[i]
                n += 1
        above = max(wanted * n // n_left, 1)
        return -INFINITY if wanted >= n_left or above >= n else largest_but(self.bounds, n, above)

    cdef void choose(self, const RowState *rows, double floor) noexcept nogil:
        """Choose guides for rows above a floor."""
        cdef int64_t i, s, best, n = min(self.seen, self.room)
        cdef int64_t width = self.kernels.tile_queries
        cdef const uint8_t *reaches
        self.n = 0
        if self.picks.by_keys or not uses(GUIDES):
            return
        self.count_reached(rows, floor)
        while self.n < MOST_GUIDES:
            best = 0
            for i in range(n):
                if self.counts[i] > self.counts[best]:
                    best = i
            if self.counts[best] * LEAST_SHARE < self.n_counted or self.counts[best] == 0:
                break
            self.add(best)
            for s in range(self.n_counted):
                reaches = self.reaches + s * self.room
                if reaches[best]:
                    for i in range(n):
                        self.counts[i] -= reaches[i]
                    memset(self.reaches + s * self.room, 0, n)
        for i in range(self.n, (self.n + width - 1) // width * width):
            self.offsets[i] = INFINITY

    cdef void count_reached(self, const RowState *rows, double floor) noexcept nogil:
        """See which picks would rule out which of the sampled rows, of those above the floor."""
        cdef int64_t s, i, n = min(self.seen, self.room)
        cdef bint is_above
        cdef uint8_t *reaches
        memset(self.counts, 0, self.room * sizeof(int32_t))
        for s in range(self.n_counted):
            reaches = self.reaches + s * self.room
            is_above = (not rows[self.sample[s]].is_out
                        and bound_of(&rows[self.sample[s]]) > floor)
            for i in range(n):
                reaches[i] = is_above and -self.scores[i * COUNTED_ROWS + s] <= floor
                self.counts[i] += reaches[i]

    cdef void add(self, int64_t at) noexcept nogil:
        """Make a pick a guide, by its place among those that were seen."""
        cdef int64_t width = self.kernels.tile_queries, i = self.n, j
        cdef int64_t pick = (self.seen - 1) // self.room * self.room + at
        cdef float *tile = self.tiles + i // width * width * self.dim + i % width
        cdef const float *given
        if pick >= self.seen:
            pick -= self.room
        given = self.picks.tiles + pick // width * width * self.dim + pick % width
        for j in range(self.dim):
            tile[j * width] = given[j * width]
        self.offsets[i] = self.picks.offsets[pick]
        self.n += 1
