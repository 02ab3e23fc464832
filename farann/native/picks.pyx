"""A growing set of rows, and keys of other rows over it.

Keys over sets are compared across members. Under cosine they are divided by the member's norm, so
that they are minus the cosine; otherwise they are the exact keys as they are.
"""

cimport cython
from libc.math cimport fabs, sqrt
from libc.string cimport memcpy

from farann.native.snapshot cimport Segment
from farann.native.sources cimport KEYS_AT_ONCE

cdef enum:
    FEW_PICKS = 8  # rows that lack at most 8 picks are scored where they lie: packing costs more

# Relative rounding error in float32 of an offset, and of a score less this.
cdef double FLOAT32_ROUNDING = 2.0**-21
# From this offset plus slack on picks go by exact keys alone: float32 ends at 3.4e38.
cdef double LARGEST_OFFSET = 1e37


@cython.no_gc
cdef class Picks:
    """Rows that were chosen: exact, and as queries in float32."""

    cdef begin(self, Snapshot snapshot):
        """Make room to score rows of a snapshot."""
        cdef int64_t n = padded(snapshot.dim), width
        self.snapshot, self.kernels, self.metric = snapshot, snapshot.kernels, snapshot.metric
        self.dim = snapshot.dim
        self.traits = snapshot.traits
        self.bias_sign = -1.0 if self.traits.squared else 0.0
        self.scratch = Scratch()
        self.exact = <double *>self.scratch.allocate(n, sizeof(double))
        self.query_vector = <double *>self.scratch.allocate(2 * n, sizeof(double))
        self.rounded = <float *>self.scratch.allocate(n, sizeof(float))
        self.copies = <float *>self.scratch.allocate(MOST_PACKED * self.dim, sizeof(float), False)
        self.positions = <int64_t *>self.scratch.allocate(MOST_PACKED, sizeof(int64_t), False)
        self.scores = <float *>self.scratch.allocate(MOST_PACKED, sizeof(float), False)
        self.reader = RowReader.of(snapshot, self.scratch, rows_in_cache(4 * self.dim))
        width = self.kernels.tile_queries
        self.chunk = MOST_CHUNK // width * width

    cdef void follow(self, Picks other) noexcept nogil:
        """Share another's picks, with memory of its own to score rows."""
        self.rows, self.norms, self.tiles = other.rows, other.norms, other.tiles
        self.offsets, self.row_offsets = other.offsets, other.row_offsets
        self.count, self.squares, self.off = other.count, other.squares, other.off
        self.by_keys, self.row_major = other.by_keys, other.row_major

    cdef const float *row_of(self, int64_t slot) noexcept nogil:
        """A row of the snapshot, good until another one is asked for."""
        cdef const Segment *segment = &self.snapshot.segments[
            slot >= self.snapshot.segments[1].first]
        return self.reader.block(segment, slot - segment.first, 1).rows

    cdef grow(self, int64_t needed):
        """Make room for `needed` rows in all; those that are there move."""
        cdef Scratch scratch
        cdef int64_t width = self.kernels.tile_queries, room, i
        cdef float *rows
        cdef double *norms
        cdef float *tiles
        if needed <= self.capacity:
            return
        room = (max(needed, 2 * self.capacity) + width - 1) // width * width
        scratch = Scratch()
        rows = <float *>scratch.allocate(room, self.dim * sizeof(float), False)
        norms = <double *>scratch.allocate(room, sizeof(double), False)
        tiles = <float *>scratch.allocate(room, (self.dim + 2) * sizeof(float), True)
        for i in range(room):
            tiles[room * self.dim + i] = INFINITY
        if self.count:
            memcpy(rows, self.rows, self.count * self.dim * sizeof(float))
            memcpy(norms, self.norms, self.count * sizeof(double))
            i = (self.count + width - 1) // width * width
            memcpy(tiles, self.tiles, i * self.dim * sizeof(float))
            memcpy(tiles + room * self.dim, self.offsets, i * sizeof(float))
            memcpy(tiles + room * (self.dim + 1), self.row_offsets, i * sizeof(float))
        self.rows, self.norms, self.tiles, self.grown = rows, norms, tiles, scratch
        self.offsets, self.row_offsets = tiles + room * self.dim, tiles + room * (self.dim + 1)
        self.capacity = room

    cdef void prepare(self, const float *row) noexcept nogil:
        """Make a row a query for the nearest rows."""
        farann_query_prepare(
            self.kernels, self.metric, -1.0, row, self.dim, &self.snapshot.center[0],
            self.snapshot.center_norm, self.exact, self.query_vector, self.rounded, &self.prepared)

    cdef void add_query(self, const float *row) noexcept nogil:
        """Add a row, for which there is room, also as a query.

        A score less the offset is then minus a bound on the key, which exceeds the key by at most
        `off`, unless float32 can't hold the scores.
        """
        cdef int64_t width = self.kernels.tile_queries, j, at = self.count
        cdef float *tile = self.tiles + at // width * width * self.dim + at % width
        cdef double slack, offset
        self.prepare(row)
        for j in range(self.dim):
            tile[j * width] = self.rounded[j]
        slack = farann_query_slack(&self.prepared, self.squares)
        offset = fabs(self.prepared.key_offset)
        slack += FLOAT32_ROUNDING * offset
        self.offsets[at] = <float>(self.prepared.key_offset + slack)
        # Unit rows are not centered where they lie: their scores lack the constant.
        self.row_offsets[at] = <float>slack if self.traits.normalized else self.offsets[at]
        self.off = max(self.off, 2.0 * slack)
        memcpy(self.rows + at * self.dim, row, self.dim * sizeof(float))
        self.norms[at] = self.norm_of(row)
        self.count += 1
        if not (farann_query_slack(&self.prepared, self.squares) >= 0.0
                and offset + slack < LARGEST_OFFSET):
            self.by_keys, self.row_major = True, False

    cdef void score_all(self, int64_t slot, RowState *states, int64_t part,
                        int64_t parts) noexcept nogil:
        """Score every n-th block of all rows, of n parts, for a pick; find the range of |y|^2."""
        cdef int64_t rows = min(self.reader.room, <int64_t>MOST_PACKED), start, n, i
        cdef const Segment *segment
        cdef RowBlock block
        cdef float norms[2]
        cdef int s
        self.smallest, self.largest = INFINITY, 0.0
        self.prepare(self.row_of(slot))
        for s in range(2):
            segment, start = &self.snapshot.segments[s], part * rows
            while start < segment.count:
                n = min(rows, segment.count - start)
                block = self.reader.block(segment, start, n)
                self.score_rows(&block, n, norms)
                self.smallest = min(self.smallest, norms[0])
                # A NaN is infinity, too.
                self.largest = max(self.largest, norms[1] if norms[1] < INFINITY else INFINITY)
                for i in range(n):
                    states[segment.first + start + i].bound = self.scores[i]
                start += parts * rows

    cdef bint meet_first(self, int64_t slot, RowState *states) noexcept nogil:
        """Add the first pick, for which all rows were scored.

        False: float32 can't hold the scores, and no row has met it.
        """
        cdef int64_t i
        cdef RowState *state
        cdef bint held
        self.prepare(self.row_of(slot))
        # Unit rows less a center of length 1 at most have |y|^2 up to 4.
        self.squares = 4.0 if self.traits.normalized else self.largest * (1.0 + 1e-3)
        held = farann_query_slack_row_major(
            &self.prepared, self.traits.normalized, self.smallest, self.largest) >= 0.0
        self.add_query(self.row_of(slot))
        held &= not self.by_keys
        self.row_major = held and self.snapshot.row_type == FARANN_FLOAT32
        for i in range(self.snapshot.n_slots):
            state = &states[i]
            state.others = INFINITY
            state.bound = -(<float>state.bound - self.row_offsets[0]) if held else INFINITY
            state.met, state.chunk = held, 0 if held else UNKNOWN
        return held

    cdef void score_rows(self, const RowBlock *block, int64_t n, float *norms) noexcept nogil:
        """Score up to MOST_PACKED rows where they lie for the query in `rounded`.

        norms[0] .. norms[1] are their |y|^2, those of products are left out where it is NULL.
        """
        cdef float own[2]
        if norms == NULL and (self.traits.normalized or self.traits.squared):  # the kernel's room
            norms = &own[0]
        self.kernels.score_rows_f32(
            block.rows, block.positions, n, self.dim, &self.snapshot.row_major_center[0],
            self.rounded, self.traits.normalized, self.bias_sign, self.scores, norms)

    cdef void raise_best(self, int64_t at, const int64_t *slots, int64_t n,
                         float *best) noexcept nogil:
        """Raise `best` of each row to its score for a pick less the offset, where they lie."""
        cdef int64_t width = self.kernels.tile_queries, start = 0, count, i
        cdef const float *tile = self.tiles + at // width * width * self.dim + at % width
        cdef float offset = self.row_offsets[at]
        cdef RowBlock block
        for i in range(self.dim):
            self.rounded[i] = tile[i * width]
        while start < n:
            count = min(n - start, <int64_t>MOST_PACKED)
            block = self.rows_at(slots + start, count)
            self.score_rows(&block, count, NULL)
            for i in range(count):
                best[start + i] = max(best[start + i], self.scores[i] - offset)
            start += count

    cdef RowBlock rows_at(self, const int64_t *slots, int64_t n) noexcept nogil:
        """Up to MOST_PACKED rows: where they lie, or copies of those that lie apart."""
        cdef const Segment *segment = &self.snapshot.segments[
            slots[0] >= self.snapshot.segments[1].first]
        cdef bint lie_together = self.snapshot.row_type == FARANN_FLOAT32
        cdef int64_t i
        for i in range(n):
            self.positions[i] = slots[i] - segment.first
            lie_together &= 0 <= self.positions[i] < segment.count
        if lie_together:
            return RowBlock(<const float *>segment.rows, self.positions)
        for i in range(n):
            memcpy(self.copies + i * self.dim, self.row_of(slots[i]), self.dim * sizeof(float))
        return RowBlock(self.copies, NULL)

    cdef void pack(self, const int64_t *slots, int64_t n, float *panels,
                   float *bias) noexcept nogil:
        """Pack rows as panels."""
        cdef int64_t start = 0, count, width = self.kernels.panel_rows
        cdef RowBlock block
        while start < n:
            count = min(n - start, MOST_PACKED // width * width)
            block = self.rows_at(slots + start, count)
            self.kernels.pack_rows_f32(
                block.rows, block.positions, count, self.dim, &self.snapshot.center[0],
                self.traits.normalized, self.bias_sign, panels + start * self.dim, bias + start)
            start += count

    cdef double norm_of(self, const float *row) noexcept nogil:
        """|row| in the order of exact keys under cosine; else 1."""
        cdef double square
        if not self.traits.normalized:
            return 1.0
        self.kernels.widen_f32(row, self.dim, self.exact)
        self.kernels.keys_f64[<int>self.traits.sums](row, NULL, 1, self.dim, self.exact, &square)
        return sqrt(-square)

    cdef double least_key(self, const float *row, int64_t first, int64_t end) noexcept nogil:
        """The smallest key of a row over the members first .. end.

        Sums of products and of squared differences are the same either way round; what they are
        divided by, and in which order, is that of searches with the members as queries.
        """
        cdef double keys[KEYS_AT_ONCE]
        cdef double least = INFINITY, norm = self.norm_of(row)
        cdef int64_t n, j
        self.n_exact += end - first
        self.kernels.widen_f32(row, self.dim, self.exact)
        while first < end:
            n = min(end - first, KEYS_AT_ONCE)
            self.kernels.keys_f64[<int>self.traits.sums](
                self.rows + first * self.dim, NULL, n, self.dim, self.exact, keys)
            for j in range(n):
                least = min(least, keys[j] / norm / self.norms[first + j])
            first += n
        return least

    cdef void make_exact(self, RowState *state, int64_t slot) noexcept nogil:
        """Bring a row up to date by exact keys alone."""
        cdef int64_t first = state.met if state.chunk == KEY_KNOWN else 0
        cdef double key = INFINITY if first == 0 else state.bound
        state.bound = min(key, self.least_key(self.row_of(slot), first, self.count))
        state.others, state.chunk, state.met = INFINITY, KEY_KNOWN, <int32_t>self.count


@cython.no_gc
cdef class OpenRows(Picks):
    """The picks of a selection, and rows that meet them together; one for each thread."""

    @staticmethod
    cdef OpenRows of(Snapshot snapshot, RowState *states):
        cdef OpenRows self = OpenRows.__new__(OpenRows)
        cdef int64_t room = MOST_PACKED + snapshot.kernels.panel_rows, dim = snapshot.dim
        self.begin(snapshot)
        self.states = states
        self.panels = <float *>self.scratch.allocate(room, (dim + 1) * sizeof(float), False)
        self.bias = self.panels + room * dim
        self.best = <float *>self.scratch.allocate(room, sizeof(float))
        self.slots = <int64_t *>self.scratch.allocate(2 * room, sizeof(int64_t), False)
        self.places = self.slots + room
        return self

    cdef void meet_picks(self, const int32_t *slots, int64_t n, double floor) noexcept nogil:
        """Have rows meet the picks they lack, chunk by chunk, while they are above the floor."""
        cdef int64_t first = self.states[slots[0]].met, end, i, chunk, count = self.count
        cdef int64_t width = self.kernels.tile_queries
        cdef bint packed = not self.row_major or count - first > FEW_PICKS
        cdef RowState *row
        if self.by_keys:
            for i in range(n):
                self.make_exact(&self.states[slots[i]], slots[i])
            return
        for i in range(n):
            self.slots[i], self.places[i] = slots[i], i
        self.n = self.n_scored_at_once = n
        if packed:
            self.pack(self.slots, n, self.panels, self.bias)
            first -= first % width
        while self.n and first < count:
            chunk = first // self.chunk
            end = min((chunk + 1) * self.chunk, count)
            score_block(self, first, end, packed)
            for i in range(self.n):
                row = &self.states[self.slots[i]]
                meet(row, chunk, -self.best[self.places[i]], self.off)
                row.met = max(row.met, <int32_t>end)
            first = end
            keep_above(self, floor, packed)


cdef void score_block(OpenRows block, int64_t first, int64_t end, bint packed) noexcept nogil:
    """Find the best of the block's scores for some picks of a chunk, less their offsets."""
    cdef int64_t i, n = block.n_scored_at_once
    for i in range(n):
        block.best[i] = -INFINITY
    block.n_scored += (end - first) * n
    if packed:
        block.kernels.best_scores_f32(
            block.panels, n, block.dim, block.bias, block.tiles + first * block.dim, end - first,
            block.offsets + first, block.best)
        return
    for i in range(first, end):
        block.raise_best(i, block.slots, n, block.best)


cdef void keep_above(OpenRows block, double floor, bint packed) noexcept nogil:
    """Leave out rows at the floor or below; pack the others where half the panels will do."""
    cdef int64_t i, left = 0, width = block.kernels.panel_rows
    for i in range(block.n):
        if block.states[block.slots[i]].bound > floor:
            block.slots[left] = block.slots[i]
            block.places[left] = block.places[i]
            left += 1
    block.n = left
    if not packed or left and uses(SHRINKING_BLOCKS) and (
            2 * ((left + width - 1) // width) <= (block.n_scored_at_once + width - 1) // width):
        if packed:
            block.pack(block.slots, left, block.panels, block.bias)
        block.n_scored_at_once = left
        for i in range(left):
            block.places[i] = i


cdef void put_first(Bounded *rows, int64_t n, int64_t m) noexcept nogil:
    """Bring the first m of n rows to the front, and the next one behind them; 0 <= m < n."""
    cdef int64_t low = 0, high = n - 1, i, j
    cdef Bounded middle
    while low < high:
        middle = rows[(low + high) // 2]
        i, j = low, high
        while i <= j:
            while goes_before(&rows[i], &middle):
                i += 1
            while goes_before(&middle, &rows[j]):
                j -= 1
            if i <= j:
                rows[i], rows[j] = rows[j], rows[i]
                i += 1
                j -= 1
        if m <= j:
            high = j
        elif m >= i:
            low = i
        else:
            return
