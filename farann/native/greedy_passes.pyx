"""Greedy selection of few rows, or from few: a pass over all rows a pick.

Each pick lowers a bound on each row's smallest key, by its float32 score and what that may be off.
Rows whose bounds are the largest get their exact keys, which decide, and wait in a heap: picks only
make keys smaller, so that of the heap the first row alone need be brought up to date. Rows are
scored where they lie, or packed first where they are short and enough picks are made. The first
pass says as well whether all numbers are finite and float32 can hold the scores.
"""

cimport cython
from libc.math cimport INFINITY, fabs, sqrt, sqrtf
from libc.stdint cimport INT32_MAX, int32_t, int64_t, uint8_t, uint64_t
from libc.string cimport memcpy

from farann.native.kernels cimport *
from farann.native.process cimport NEVER, CancelFlag
from farann.native.row_order cimport Bounded, push_row, sift_down
from farann.native.scratch cimport Scratch

from farann.native.process import Cancelled

cdef enum:
    STRIDE = FARANN_SCORE_GROUPS  # rows whose largest bound is kept together
    # A chunk is CHUNK_PRODUCTS / dim picks, within these limits; a bound names the chunk of the
    # nearest pick.
    MOST_CHUNK = 32  # picks
    LEAST_CHUNK = 8  # picks
    CHUNK_PRODUCTS = 2048  # multiply-adds of one row with a chunk
    SHORT = 64  # coordinates up to which rows may be packed
    PICKS_TO_PACK = 4  # rows are packed if there are more than 4 + 3/4 dim picks

# Relative rounding error of float32 arithmetic on a score, its offset, and their difference.
cdef double ROUNDING = 2.0**-21
# |y|^2 up to which float32 holds all scores and offsets.
cdef double LARGEST_SQUARES = 1e35


@cython.no_gc
cdef class GreedyPasses:
    """One selection; `run` goes on with it.

    Parameters
    ----------
    rows : float32 (n, dim)
        Of any numbers; where `possible` is False, there is no selection.
    metric : int
        Position in `METRICS`.
    isa : str
        One of `isa_levels()`.
    first : int64 (m,)
        Slots that are chosen before, at least one, each once.
    most : int
        Picks in all, without these.
    ids : int64 (n,) or None
        Ids by slot; None where the id is the slot.
    allowed : uint8 (n,) or None
        0 for rows that are not chosen.
    radius : float or None
        Stop where every row is within it.
    """

    def __init__(self, const float[:, ::1] rows, int metric, str isa, const int64_t[::1] first,
                 int64_t most, *, const int64_t[::1] ids=None, const uint8_t[::1] allowed=None,
                 radius=None):
        cdef int64_t i
        cdef uint64_t before
        self.n, self.dim = rows.shape[0], rows.shape[1]
        if not 1 <= self.n <= INT32_MAX or self.dim < 1 or not 0 <= metric < 3:
            raise ValueError("a selection needs rows, at most 2^31 - 1, and a metric")
        if first.shape[0] < 1 or most < 0 or (ids is not None and ids.shape[0] != self.n) or (
                allowed is not None and allowed.shape[0] != self.n):
            raise ValueError("a selection needs a row to begin with, and what is given of each row")
        for i in range(first.shape[0]):
            if not 0 <= first[i] < self.n:
                raise ValueError("first must be slots of the rows")
        self.kernels, self.metric, self.given_up = kernels_of(isa), <farann_metric>metric, &NEVER
        self.packing = farann_packing_of(self.metric, 1.0)
        self.rows, self.ids = &rows[0, 0], NULL
        if ids is not None:
            self.ids = &ids[0]
        self.held_rows, self.held_ids = rows, ids
        self.n_before, self.most = first.shape[0], first.shape[0] + most
        self.has_radius = radius is not None
        self.radius = radius if self.has_radius else 0.0
        self.chunk = min(max(CHUNK_PRODUCTS // self.dim, <int64_t>LEAST_CHUNK), <int64_t>MOST_CHUNK)
        self.are_packed = (self.dim <= SHORT
                           and self.most > PICKS_TO_PACK + self.dim * 3 // 4)
        self.allocate()
        with nogil:
            before = farann_arithmetic_begin()
            for i in range(self.n_strides * STRIDE):
                self.recent[i], self.least[i], self.scores[i] = INFINITY, INFINITY, -INFINITY
            for i in range(self.n, self.n_strides * STRIDE):
                self.least[i] = -INFINITY
            for i in range(self.n):
                if allowed is not None and not allowed[i]:
                    self.least[i] = -INFINITY
            self.possible = self.begin(&first[0])
            farann_arithmetic_end(before)

    cdef int allocate(self) except -1:
        cdef int64_t room, width = padded(self.dim), n_panels
        self.n_strides = (self.n + STRIDE - 1) // STRIDE
        room = self.n_strides * STRIDE
        self.scratch = Scratch()
        self.recent = <float *>self.scratch.allocate(5 * room, sizeof(float), False)
        self.least, self.others = self.recent + room, self.recent + 2 * room
        self.scores, self.lengths = self.recent + 3 * room, self.recent + 4 * room
        self.chunks = <int32_t *>self.scratch.allocate(2 * room, sizeof(int32_t), False)
        self.met = self.chunks + room
        self.settled = <Bounded *>self.scratch.allocate(self.n, sizeof(Bounded), False)
        self.tops = <float *>self.scratch.allocate(self.n_strides, sizeof(float), False)
        self.picks = <int64_t *>self.scratch.allocate(self.most, sizeof(int64_t), False)
        self.norms = <double *>self.scratch.allocate(2 * self.most, sizeof(double), False)
        self.keys = self.norms + self.most
        self.centre = <double *>self.scratch.allocate(3 * width, sizeof(double))
        self.exact, self.query_vector = self.centre + width, self.centre + 2 * width
        self.centre_f32 = <float *>self.scratch.allocate(2 * width, sizeof(float))
        self.rounded = self.centre_f32 + width
        if self.are_packed:
            n_panels = (self.n + self.kernels.panel_rows - 1) // self.kernels.panel_rows
            room = n_panels * self.kernels.panel_rows
            self.panels = <float *>self.scratch.allocate(
                room * (self.dim + 1), sizeof(float), False)
            self.bias = self.panels + room * self.dim
            self.tile = <float *>self.scratch.allocate(
                self.dim * self.kernels.tile_queries, sizeof(float))
        return 0

    def run(self, int64_t count, CancelFlag flag=None):
        """Choose up to `count` more rows; gives how many there are now."""
        cdef uint64_t before
        self.given_up = &NEVER
        if flag is not None:
            self.given_up = &flag.raised
        if not self.possible:
            raise ValueError("float32 can't hold the scores of these rows")
        with nogil:
            before = farann_arithmetic_begin()
            self.pick(min(self.count + count, self.most))
            farann_arithmetic_end(before)
        if farann_is_up(self.given_up):
            self.given_up = &NEVER
            raise Cancelled("the batch of this task was given up")
        self.given_up = &NEVER
        return self.count - self.n_before

    def write(self, int64_t[::1] ids, float[::1] scores):
        """Write the ids of the picks, and their scores for the nearest pick before."""
        cdef int64_t i
        for i in range(self.n_before, self.count):
            ids[i - self.n_before] = self.id_of(self.picks[i])
            scores[i - self.n_before] = <float>farann_score(self.metric, self.keys[i], 1.0)

    def did(self):
        """Pairs of rows that were scored in float32, and by exact keys; 0."""
        return self.n_scored, self.n_exact, 0

    # ---- picks ----

    cdef bint begin(self, const int64_t *first) noexcept nogil:
        """Meet the rows that were chosen before; gives whether float32 holds what there is."""
        cdef int64_t i
        cdef float norms[2]
        cdef const float *row = self.rows + first[0] * self.dim
        if self.metric == FARANN_L2:
            # Differences from a row are as small as the rows are close.
            self.kernels.widen_f32(row, self.dim, self.centre)
            for i in range(self.dim):
                self.centre_f32[i] = row[i]
        # Without a query, scores are |y|^2 alone.
        self.kernels.score_rows_f32(self.rows, NULL, self.n, self.dim, self.centre_f32, self.rounded,
                                    False, 1.0, self.lengths, norms)
        self.smallest, self.squares = norms[0], norms[1] * (1.0 + 1e-3)
        self.prepare(row)
        if not self.squares < LARGEST_SQUARES or self.slack() < 0.0:
            return False
        if self.metric == FARANN_COSINE:
            for i in range(self.n):
                self.lengths[i] = 1.0 / sqrtf(self.lengths[i])
        if self.are_packed:
            self.pack()
        for i in range(self.n_before):
            self.meet(first[i])
        return True

    cdef void pack(self) noexcept nogil:
        """Pack the rows, which are scored as panels from now on."""
        self.kernels.pack_rows_f32(self.rows, NULL, self.n, self.dim, self.centre,
                                   self.packing.normalized, self.packing.bias_sign, self.panels,
                                   self.bias)
        self.in_panels = True

    cdef void pick(self, int64_t end) noexcept nogil:
        """Choose rows until there are `end` picks, counting those before."""
        cdef int64_t slot
        cdef double key
        while self.count < end and not self.finished and not farann_is_up(self.given_up):
            slot = self.next_row()
            if slot < 0:
                self.finished = True
                return
            key = self.settled[0].bound
            if self.has_radius and not farann_is_beyond(
                    self.metric, farann_score(self.metric, key, 1.0), self.radius):
                self.finished = True
                return
            self.n_settled -= 1
            self.settled[0] = self.settled[self.n_settled]
            sift_down(self.settled, self.n_settled)
            self.keys[self.count] = key
            if self.count + 1 < self.most:
                self.meet(slot)
            else:
                self.picks[self.count] = slot
                self.count += 1

    cdef void meet(self, int64_t slot) noexcept nogil:
        """Add a pick, and have all rows meet it."""
        cdef int64_t i, width = self.kernels.tile_queries
        cdef float nothing = 0.0
        self.prepare(self.rows + slot * self.dim)
        if self.in_panels:
            for i in range(self.dim):
                self.tile[i * width] = self.rounded[i]
            self.kernels.best_scores_f32(self.panels, self.n, self.dim, self.bias, self.tile, 1,
                                         &nothing, self.scores)
        else:
            self.score_rows()
        self.take(slot)

    cdef void prepare(self, const float *row) noexcept nogil:
        """Make a row a query for scores that are keys, but for an offset."""
        farann_query_prepare(self.kernels, self.metric, 1.0, row, self.dim, self.centre, 0.0,
                             self.exact, self.query_vector, self.rounded, &self.prepared)

    cdef void score_rows(self) noexcept nogil:
        """Score the rows where they lie."""
        cdef int64_t i
        if self.metric == FARANN_L2 and self.count == 0:  # the center
            memcpy(self.scores, self.lengths, self.n * sizeof(float))
            return
        self.kernels.score_rows_f32(self.rows, NULL, self.n, self.dim, self.centre_f32, self.rounded,
                                    False, 0.0, self.scores, NULL)
        if self.metric == FARANN_L2:
            for i in range(self.n):
                self.scores[i] += self.lengths[i]
        elif self.metric == FARANN_COSINE:
            for i in range(self.n):
                self.scores[i] *= self.lengths[i]

    cdef double slack(self) noexcept nogil:
        """How far scores for the query are off at most; below 0: float32 can't hold them."""
        if not self.packing.normalized:
            return farann_query_slack(&self.prepared, self.squares)
        if self.in_panels:
            return farann_query_slack(&self.prepared, 1.0 + 1e-3)
        if farann_query_slack_row_major(&self.prepared, True, self.smallest, self.squares) < 0.0:
            return -1.0
        return 2.0 * farann_query_slack(&self.prepared, 1.0)  # lengths are rounded, too

    cdef void take(self, int64_t slot) noexcept nogil:
        """Make the row that all were scored for a pick."""
        cdef double slack = self.slack(), offset = self.prepared.key_offset
        cdef double length = sqrt(1.0 if self.packing.normalized else self.squares)
        slack += ROUNDING * (fabs(offset) + length * (self.prepared.vector_norm + length))
        self.off = max(self.off, 2.0 * slack)
        self.least[slot] = -INFINITY
        self.picks[self.count] = slot
        self.norms[self.count] = self.prepared.query_norm
        self.count += 1
        self.n_scored += self.n
        self.kernels.lower_bounds_f32(self.scores, self.n_strides * STRIDE, <float>(offset - slack),
                                      self.recent, self.least, self.tops)
        if self.count % self.chunk == 0:
            self.end_chunk()

    cdef void end_chunk(self) noexcept nogil:
        """Note which rows have their nearest pick among those of the chunk that is full."""
        cdef int64_t i
        cdef int32_t chunk = <int32_t>(self.count // self.chunk - 1)
        cdef float recent, least, larger
        if chunk == 0:
            for i in range(self.n):
                self.others[i] = INFINITY
        for i in range(self.n):
            recent, least = self.recent[i], self.least[i]
            self.chunks[i] = chunk if recent < least else self.chunks[i]
            self.least[i] = recent if recent < least else least
            larger = least if recent < least else recent
            self.others[i] = larger if larger < self.others[i] else self.others[i]
            self.recent[i] = INFINITY

    # ---- the next one ----

    cdef int64_t next_row(self) noexcept nogil:
        """The slot of the row that goes before all others; -1: there is none."""
        cdef int64_t s, best
        cdef double bar
        while True:
            bar = self.best_settled()
            best = 0
            for s in range(1, self.n_strides):
                if self.tops[s] > self.tops[best]:
                    best = s
            if self.tops[best] == -INFINITY or self.tops[best] < bar:
                return self.settled[0].slot if self.n_settled else -1
            self.settle_in(best, bar)

    cdef double best_settled(self) noexcept nogil:
        """The largest key of settled rows, whose row comes first; -infinity: there is none."""
        cdef Bounded *first = self.settled
        while self.n_settled and self.met[first.slot] < self.count:
            first.bound = min(first.bound, self.least_key(
                first.slot, self.met[first.slot], self.count))
            self.met[first.slot] = <int32_t>self.count
            sift_down(self.settled, self.n_settled)
        return first.bound if self.n_settled else -INFINITY

    cdef void settle_in(self, int64_t stride, double bar) noexcept nogil:
        """Settle the first row of a stride, and those with bounds at its key or above, and `bar`."""
        cdef int64_t i, start = stride * STRIDE
        cdef float top = self.tops[stride], bound
        for i in range(start, start + STRIDE):
            if min(self.recent[i], self.least[i]) >= top:
                bar = max(bar, self.settle(i))
        top = -INFINITY
        for i in range(start, start + STRIDE):
            bound = min(self.recent[i], self.least[i])
            if bound > -INFINITY and bound >= bar:
                bar = max(bar, self.settle(i))
            else:
                top = max(top, bound)
        self.tops[stride] = top

    cdef double settle(self, int64_t slot) noexcept nogil:
        """Find a row's smallest key over all picks, first over those of which one is the nearest."""
        cdef int64_t start = self.count // self.chunk * self.chunk, end = self.count
        cdef double rest = self.least[slot], key
        cdef Bounded row
        if self.least[slot] < self.recent[slot]:
            start, rest = self.chunks[slot] * self.chunk, min(self.recent[slot], self.others[slot])
            end = start + self.chunk
        key = self.least_key(slot, start, end)
        if key > rest - self.off:
            key = min(key, self.least_key(slot, 0, self.count))
        self.least[slot] = -INFINITY
        row.bound, row.slot, row.id = key, slot, self.id_of(slot)
        self.met[slot] = <int32_t>self.count
        push_row(self.settled, &self.n_settled, &row)
        return key

    cdef int64_t id_of(self, int64_t slot) noexcept nogil:
        return slot if self.ids == NULL else self.ids[slot]

    # ---- keys ----

    cdef double least_key(self, int64_t slot, int64_t first, int64_t end) noexcept nogil:
        """The smallest key of a row over the picks first .. end, as in `Picks`."""
        cdef farann_metric sums = FARANN_DOT if self.metric == FARANN_COSINE else self.metric
        cdef const float *row = self.rows + slot * self.dim
        cdef double keys[MOST_CHUNK]
        cdef double least = INFINITY, norm = 1.0
        cdef int64_t n, j
        self.n_exact += end - first
        self.kernels.widen_f32(row, self.dim, self.exact)
        if self.metric == FARANN_COSINE:
            self.kernels.project_f64(self.exact, 1, (self.dim + 7) // 8 * 8, self.exact, &norm)
            norm = sqrt(norm)
        while first < end:
            n = min(end - first, <int64_t>MOST_CHUNK)
            self.kernels.keys_f64[<int>sums](self.rows, self.picks + first, n, self.dim, self.exact,
                                             keys)
            for j in range(n):
                if self.metric == FARANN_COSINE:
                    keys[j] = keys[j] / norm / self.norms[first + j]
                least = min(least, keys[j])
            first += n
        return least
