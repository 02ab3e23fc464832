"""Rows as float32, whatever they are kept as."""

cimport cython
from libc.stdint cimport int64_t, uint8_t

from farann.native.kernels cimport *
from farann.native.scratch cimport Scratch
from farann.native.snapshot cimport Segment, Snapshot


@cython.no_gc  # what parts refer to never refers to them
@cython.freelist(8)
cdef class RowReader:
    """Gives float32 rows where they lie, and others as float32, a block at a time.

    A block is good until the next one is asked for.
    """

    @staticmethod
    cdef RowReader of(Snapshot snapshot, Scratch scratch, int64_t room):
        """Blocks have up to `room` rows."""
        cdef RowReader self = RowReader.__new__(RowReader)
        self.kernels, self.metric, self.dim = snapshot.kernels, snapshot.metric, snapshot.dim
        self.row_type, self.row_bytes = snapshot.row_type, snapshot.row_bytes
        self.room = max(min(room, snapshot.n_slots), 1)
        if self.row_type != FARANN_FLOAT32:
            self.wide = <float *>scratch.allocate(self.room, self.dim * sizeof(float), False)
        return self

    cdef RowBlock block(self, const Segment *segment, int64_t start, int64_t n) noexcept nogil:
        """Rows start .. start + n of a segment."""
        cdef RowBlock block
        cdef const uint8_t *rows = segment.rows
        if segment.positions != NULL:
            block.positions = segment.positions + start
        else:
            block.positions = NULL
            rows += start * self.row_bytes
        if self.row_type != FARANN_FLOAT32:
            return self.widen(rows, block.positions, n)
        block.rows = <const float *>rows
        return block

    cdef RowBlock widen(self, const uint8_t *rows, const int64_t *positions,
                        int64_t n) noexcept nogil:
        """A block in scratch memory. The one that is there does, as it does for the next query."""
        if positions != NULL or rows != self.source or n > self.n_wide:
            self.kernels.widen_rows(self.row_type, rows, positions, n, self.dim, self.wide)
            self.source = rows if positions == NULL else NULL
            self.n_wide = n
        return RowBlock(self.wide, NULL)

    cdef void keys_at(self, const Segment *segment, const int64_t *positions, int64_t n,
                      const double *query, double *keys) noexcept nogil:
        """Exact keys of any number of rows of a segment, at some positions."""
        cdef int64_t start = 0, count
        if self.row_type == FARANN_FLOAT32:
            self.kernels.keys_f64[<int>self.metric](<const float *>segment.rows, positions, n,
                                                    self.dim, query, keys)
            return
        while start < n:
            count = min(self.room, n - start)
            self.widen(segment.rows, positions + start, count)
            self.kernels.keys_f64[<int>self.metric](self.wide, NULL, count, self.dim, query,
                                                    keys + start)
            start += count
