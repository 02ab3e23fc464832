"""Sources: blocks of the rows of one storage kind.

A search goes through its sources, block by block. The first blocks are small, so that a threshold
rises before many rows have passed; each is twice as long as the one before it, up to what a level
has room for.
"""

cimport cython
from libc.stdint cimport INT64_MAX
from libc.string cimport memset


@cython.no_gc  # references between parts form no cycles
@cython.freelist(8)
cdef class RowReader:
    """Reads blocks of rows: float32 rows where they are stored, others converted to float32.

    A block is valid until the next one is read.
    """

    @staticmethod
    cdef RowReader of(Snapshot snapshot, Scratch scratch, int64_t room):
        """Blocks have up to `room` rows."""
        cdef RowReader self = RowReader.__new__(RowReader)
        self.snapshot, self.room = snapshot, max(min(room, snapshot.n_slots), 1)
        if snapshot.row_type != FARANN_FLOAT32:
            self.wide = <float *>scratch.allocate(self.room, snapshot.dim * sizeof(float), False)
        return self

    cdef RowBlock block(self, const Segment *segment, int64_t start, int64_t n) noexcept nogil:
        """Rows start .. start + n of a segment."""
        cdef RowBlock block
        cdef const uint8_t *rows = segment.rows
        if segment.positions != NULL:
            block.positions = segment.positions + start
        else:
            block.positions = NULL
            rows += start * self.snapshot.row_bytes
        if self.snapshot.row_type != FARANN_FLOAT32:
            return self.widen(rows, block.positions, n)
        block.rows = <const float *>rows
        return block

    cdef RowBlock widen(self, const uint8_t *rows, const int64_t *positions,
                        int64_t n) noexcept nogil:
        """A block in scratch memory, which later queries use again."""
        if positions != NULL or rows != self.source or n > self.n_wide:
            self.snapshot.kernels.widen_rows(self.snapshot.row_type, rows, positions, n,
                                             self.snapshot.dim, self.wide)
            self.source = rows if positions == NULL else NULL
            self.n_wide = n
        return RowBlock(self.wide, NULL)

    cdef void keys_at(self, const Segment *segment, const int64_t *positions, int64_t n,
                      const double *query, double *keys) noexcept nogil:
        """Exact keys of any number of rows of a segment, at some positions."""
        cdef bint wide = self.snapshot.row_type != FARANN_FLOAT32
        cdef int64_t start = 0, count
        cdef RowBlock rows = RowBlock(<const float *>segment.rows, positions)
        while start < n:
            count = n
            if wide:
                count = min(self.room, n - start)
                rows = self.widen(segment.rows, positions + start, count)
            self.snapshot.kernels.keys_f64[<int>self.snapshot.metric](
                rows.rows, rows.positions, count, self.snapshot.dim, query, keys + start)
            start += count

    cdef int64_t keys_of(self, const int64_t *slots, int64_t n, const double *query,
                         double *keys) noexcept nogil:
        """Write the exact keys of those of n slots whose rows are there; return how many are.

        Rows of the other segment begin a new call of the kernel: few slots follow one of the other.
        """
        cdef int64_t positions[KEYS_AT_ONCE]
        cdef int64_t start = 0, count, position, n_found = 0
        cdef int s
        cdef const Segment *segment
        while start < n:
            s, count = slots[start] >= self.snapshot.segments[1].first, 0
            segment = &self.snapshot.segments[s]
            while start + count < n and count < KEYS_AT_ONCE:
                position = slots[start + count] - segment.first
                if not 0 <= position < segment.count:
                    break
                positions[count] = position
                count += 1
            if s == 1 or self.snapshot.vectors:
                self.keys_at(segment, positions, count, query, keys + start)
                n_found += count
            start += max(count, 1)
        return n_found


@cython.no_gc  # references between parts form no cycles
cdef class Source:
    """Rows of one storage kind, block after block."""

    cdef void foresee(self) noexcept nogil:
        """Before any row: predict thresholds, if the source can."""

    cdef void begin(self, const int64_t *asking, int64_t n, bint all_rows) noexcept nogil:
        """Start over for n queries; `all_rows`: they found fewer than k rows so far."""

    cdef bint next(self, Block *block, int64_t most) noexcept nogil:
        """Make `block` the next one, of up to `most` rows; False: there is none."""
        return False

    cdef void skip(self) noexcept nogil:
        """Skip the rest of this order: none of its rows can be an answer."""
        self.at = self.end

    cdef void leave(self) noexcept nogil:
        """Give codes up for the rows that follow."""

    cdef Segment rows_of(self, Block *block) noexcept nogil:
        """The rows of a block as they are stored, valid until the next call.

        `block` is changed to hold these rows: some of its positions may have none.
        """
        return Segment(NULL, 0, 0, NULL)

    @cython.final
    cdef bint grow(self, Block *block, int64_t most) noexcept nogil:
        """Begin `block` where the last one ended; blocks grow here, and nowhere else."""
        block.begins, block.all_scored = self.done == 0, False
        block.members, block.n_members = NULL, 0
        block.start, block.n_before = self.at, self.done
        block.n = min(min(self.ramp, most), self.end - self.at)
        self.ramp = min(2 * self.ramp, LONG_BLOCKS * LARGEST_BLOCK)
        return block.n > 0

    @cython.final
    cdef bint go_on(self, int64_t n) noexcept nogil:
        """Count the n rows of a block as done, so that the next block begins after them."""
        self.at += n
        self.done += n
        return n > 0

    @cython.final
    cdef Segment rows_at(self, const Segment *segment, int64_t start, Block *block) noexcept nogil:
        """The block's rows of a segment, from `start` on; set how its rows become slots."""
        cdef Segment rows = segment[0]
        rows.count = block.n
        if rows.positions != NULL:
            rows.positions += start
        else:
            rows.first += start
            rows.rows += start * self.batch.snapshot.row_bytes
        block.where = farann_block(rows.first, rows.positions, NULL,
                                   self.batch.snapshot.ids_by_slot, self.batch.snapshot.n_slots)
        return rows


@cython.final
@cython.no_gc
cdef class RowSource(Source):
    """Rows of a segment, or some of them, in the order of their slots."""

    @staticmethod
    cdef RowSource of(QueryBatch batch, const Segment *segment):
        cdef RowSource self = RowSource.__new__(RowSource)
        self.batch, self.segment, self.count = batch, segment[0], segment.count
        self.stop = segment.count
        return self

    cdef void begin(self, const int64_t *asking, int64_t n, bint all_rows) noexcept nogil:
        self.at, self.end, self.done = self.first, self.stop, 0
        self.ramp = 4 * FIRST_BLOCK  # of first rows float32 lets the k best pass, not all

    cdef bint next(self, Block *block, int64_t most) noexcept nogil:
        if not self.grow(block, most):
            return False
        self.rows_of(block)
        return self.go_on(block.n)

    cdef Segment rows_of(self, Block *block) noexcept nogil:
        cdef Segment rows = self.rows_at(&self.segment, block.start, block)
        if self.read_as != NULL:
            block.where.first, block.where.positions = 0, self.read_as + block.start
        return rows


@cython.no_gc
cdef class CodeSource(Source):
    """Coded rows in the order of their positions."""

    @staticmethod
    cdef CodeSource of(QueryBatch batch, Codes codes):
        cdef CodeSource self = CodeSource.__new__(CodeSource)
        self.set_up(batch, codes)
        return self

    cdef set_up(self, QueryBatch batch, Codes codes):
        self.batch, self.codes, self.count = batch, codes, codes.n_positions
        self.stop = codes.n_positions
        if codes.slots is not None:
            self.positions = <int64_t *>batch.scratch.allocate(
                LONG_BLOCKS * LARGEST_BLOCK, sizeof(int64_t), False)
        if batch.snapshot.partitions is not None and batch.snapshot.partitions.relative:
            self.relative_to = batch.snapshot.partitions

    cdef void begin(self, const int64_t *asking, int64_t n, bint all_rows) noexcept nogil:
        self.at, self.done, self.left_at = self.first, 0, -1
        # Behind the first rows of a search in parts there is a threshold.
        self.ramp = max(min(self.first, <int64_t>LARGEST_BLOCK), <int64_t>FIRST_BLOCK)
        self.end = self.codes.n_positions if all_rows else self.stop

    cdef bint next(self, Block *block, int64_t most) noexcept nogil:
        if not self.grow(block, most):
            return False
        if self.n_scored > 0 and block.start == 0:
            block.all_scored, block.n = True, min(self.n_scored, self.end)
            self.ramp = max(block.n, FIRST_BLOCK)
        return self.take(block)

    cdef void leave(self) noexcept nogil:
        self.left_at = self.at
        self.skip()

    @cython.final
    cdef bint next_for(self, Block *block, int64_t most, const int64_t *members,
                       int64_t n) noexcept nogil:
        """Make `block` the next one, as long as there is room for, for some of the queries."""
        self.ramp = INT64_MAX // 2
        self.grow(block, most)
        block.begins, block.members, block.n_members = False, members, n
        return self.take(block)

    @cython.final
    cdef bint take(self, Block *block) noexcept nogil:
        """Set how the rows of a block become slots, and go on after the block.

        It is cut where codes have another layout, or are relative to another mean.
        """
        if block.start < self.codes.n_hubs:
            block.n = min(block.n, self.codes.n_hubs - block.start)
        if self.relative_to is not None:
            block.n = min(block.n, self.relative_to.end_of_cell(block.start) - block.start)
        block.where.first, block.where.positions, block.where.slots = block.start, NULL, NULL
        block.where.ids, block.where.end = self.batch.snapshot.ids_by_slot, self.codes.n_rows
        if self.codes.slots is not None:
            block.where.slots = &self.codes.slots[block.start]
        return self.go_on(block.n)

    cdef Segment rows_of(self, Block *block) noexcept nogil:
        cdef Segment segment = self.batch.snapshot.segments[self.s]
        cdef int64_t i, slot, n = 0
        if self.codes.slots is None:
            block.n = min(block.n, self.codes.n_rows - block.start)
            return self.rows_at(&segment, block.start, block)
        for i in range(block.start, block.start + block.n):
            slot = self.codes.slots[i] - segment.first
            if 0 <= slot < segment.count:
                self.positions[n] = slot
                n += 1
        block.n, segment.positions = n, self.positions
        return self.rows_at(&segment, 0, block)


@cython.final
@cython.no_gc
cdef class RestSource(Source):
    """Coded rows for which codes were given up, in the order of slots.

    They are read sequentially, and mostly by ascending id: of rows with equal keys those with
    smaller ids are the answer.
    """

    cdef CodeSource before
    cdef uint8_t *scanned       # by slot, bits; NULL: not allocated yet
    cdef int64_t *positions     # of the rows of a block
    cdef int64_t slot           # of the next row

    cdef void begin(self, const int64_t *asking, int64_t n, bint all_rows) noexcept nogil:
        cdef int64_t i, n_rows = self.codes.n_rows
        self.at = self.done = self.slot = self.end = 0
        if self.before.left_at < 0:
            return
        if self.scanned == NULL:
            self.scanned = <uint8_t *>self.batch.scratch.allocated(n_rows // 8 + 1, 1, False)
        if self.scanned == NULL:
            self.batch.scratch.failed = True
            return
        memset(self.scanned, 0, n_rows // 8 + 1)
        for i in range(self.before.left_at):
            self.mark(i if self.codes.slots is None else self.codes.slots[i])
        for i in range(self.codes.outliers.shape[0]):
            self.mark(self.codes.outliers[i])
        self.end, self.ramp = n_rows - self.at, FIRST_BLOCK
        self.at = 0

    cdef void mark(self, int64_t slot) noexcept nogil:
        if 0 <= slot < self.codes.n_rows:
            self.scanned[slot // 8] |= 1 << slot % 8
            self.at += 1

    cdef bint next(self, Block *block, int64_t most) noexcept nogil:
        cdef int64_t n = 0
        if not self.grow(block, min(most, <int64_t>LARGEST_BLOCK)):
            return False
        while n < block.n and self.slot < self.codes.n_rows:
            self.positions[n] = self.slot
            n += not self.scanned[self.slot // 8] >> self.slot % 8 & 1
            self.slot += 1
        block.n = n
        block.where = farann_block(0, self.positions, NULL, self.batch.snapshot.ids_by_slot,
                                   self.batch.snapshot.n_slots)
        return self.go_on(n)

    cdef Segment rows_of(self, Block *block) noexcept nogil:
        cdef Segment rows = self.batch.snapshot.segments[0]
        rows.positions, rows.count = block.where.positions, block.n
        return rows


@cython.final
@cython.no_gc
cdef class RunSource(CodeSource):
    """Added rows that have codes, run by run; each run has an order of its own."""

    cdef const int64_t[:, ::1] runs
    cdef const int64_t[::1] ends  # before which positions scans of runs end; None: whole
    cdef int64_t run
    cdef bint ends_early

    cdef void begin(self, const int64_t *asking, int64_t n, bint all_rows) noexcept nogil:
        self.run, self.at, self.end, self.done, self.ramp = 0, 0, 0, 0, FIRST_BLOCK
        self.ends_early = self.ends is not None and not all_rows

    cdef void leave(self) noexcept nogil:
        """Go on in the order of codes, as each run has few rows."""

    cdef bint next(self, Block *block, int64_t most) noexcept nogil:
        cdef bint begins = False
        while self.at >= self.end:
            if self.run >= self.runs.shape[0]:
                return False
            self.at, begins = self.runs[self.run, 0], True
            self.end = self.ends[self.run] if self.ends_early else self.runs[self.run, 1]
            if self.codes.max_norm is not None:
                self.ramp = FIRST_BLOCK
            self.run += 1
        self.grow(block, most)
        block.begins = begins
        return self.take(block)


cdef Source rest_behind(CodeSource before):
    """Make the source of the rows of another source for which codes were given up."""
    cdef RestSource source = RestSource.__new__(RestSource)
    source.batch, source.codes, source.before = before.batch, before.codes, before
    source.positions = <int64_t *>source.batch.scratch.allocate(
        LARGEST_BLOCK, sizeof(int64_t), False)
    return source


cdef CodeSource added_runs(QueryBatch batch, const int64_t[::1] ends):
    """Make the source of runs of added rows; `ends` holds until a query lacks k rows."""
    cdef RunSource source = RunSource.__new__(RunSource)
    cdef int64_t run
    source.set_up(batch, batch.snapshot.added)
    source.runs, source.ends, source.s = batch.snapshot.runs, ends, 1
    if ends is not None and ends.shape[0] != source.runs.shape[0]:
        raise ValueError("there must be an end for each run")
    for run in range(0 if ends is None else ends.shape[0]):
        if ends[run] % FARANN_CODE_PANEL or not (
                source.runs[run, 0] <= ends[run] <= source.runs[run, 1]):
            raise ValueError("ends must be positions of whole panels of their runs")
    return source


cdef Block piece(const Block *block, int64_t at, int64_t most) noexcept nogil:
    """The rows of a block from `at` on, up to `most`."""
    cdef Block part = block[0]
    part.start, part.n = block.start + at, min(most, block.n - at)
    part.n_before += at
    if part.where.slots != NULL:
        part.where.slots += at
    elif part.where.positions != NULL:
        part.where.positions += at
    else:
        part.where.first += at
    return part
