"""How many rows of a selection are above a bound: rows all over the place that meet every pick."""

cimport cython
from libc.math cimport INFINITY
from libc.stdint cimport int64_t

from farann.native.kernels cimport *
from farann.native.picks cimport Picks
from farann.native.row_order cimport RowState, largest_but
from farann.native.scratch cimport Scratch

cdef enum:
    MOST_SAMPLED = 1024  # rows of the sample, at most
    FEWEST_SAMPLED = 64  # rows of the sample, at least, or all rows if there are fewer
    SHARE = 16  # one row in 16 is sampled, within these limits


@cython.no_gc  # what parts refer to never refers to them
cdef class BoundSample:
    """The sampled rows of a selection, and their bounds by all picks."""

    @staticmethod
    cdef BoundSample of(Picks picks, const RowState *rows, int64_t n_slots):
        cdef BoundSample self = BoundSample.__new__(BoundSample)
        cdef int64_t i, at, room = MOST_SAMPLED + picks.kernels.panel_rows
        cdef int64_t wanted = max(min(n_slots // SHARE, <int64_t>MOST_SAMPLED),
                                  <int64_t>FEWEST_SAMPLED)
        self.picks, self.kernels, self.dim = picks, picks.kernels, picks.dim
        self.scratch = Scratch()
        self.slots = <int64_t *>self.scratch.allocate(MOST_SAMPLED, sizeof(int64_t))
        for i in range(min(wanted, n_slots)):
            at = n_slots * i // wanted if n_slots > wanted else i
            if not rows[at].is_out:
                self.slots[self.n] = at
                self.n += 1
        self.panels = <float *>self.scratch.allocate(room * (self.dim + 1), sizeof(float), False)
        self.bias = self.panels + room * self.dim
        self.best = <float *>self.scratch.allocate(room, sizeof(float))
        for i in range(room):
            self.best[i] = -INFINITY
        self.bounds = <double *>self.scratch.allocate(MOST_SAMPLED, sizeof(double))
        return self

    cdef void see_picks(self) noexcept nogil:
        """Have the rows meet the picks since the last time."""
        cdef int64_t width = self.kernels.tile_queries
        if self.seen == 0:
            self.picks.pack(self.slots, self.n, self.panels, self.bias)
        while self.seen < self.picks.count:
            self.kernels.best_scores_f32(
                self.panels, self.n, self.dim, self.bias,
                self.picks.tiles + self.seen // width * width * self.dim + self.seen % width, 1,
                self.picks.offsets + self.seen, self.best)
            self.n_scored += self.n
            self.seen += 1

    cdef double floor_for(self, const RowState *rows, int64_t wanted,
                          int64_t n_left) noexcept nogil:
        """The bound that about `wanted` rows exceed once they have met all picks.

        -infinity: all rows that are left are wanted.
        """
        cdef int64_t i, n = 0, above
        for i in range(self.n):
            if not rows[self.slots[i]].is_out:
                self.bounds[n] = -self.best[i]
                n += 1
        above = max(wanted * n // n_left, 1)
        return -INFINITY if wanted >= n_left or above >= n else largest_but(self.bounds, n, above)
