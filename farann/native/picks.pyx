"""A growing set of rows, and keys of other rows over it.

Keys over sets are compared across members. Under cosine they are divided by the member's norm, so
that they are minus the cosine; otherwise they are the exact keys as they are.
"""

cimport cython
from libc.math cimport INFINITY, sqrt
from libc.stdint cimport int64_t
from libc.string cimport memcpy

from farann.native.kernels cimport *
from farann.native.scratch cimport Scratch
from farann.native.snapshot cimport Snapshot


@cython.no_gc
cdef class Picks:
    """Rows that were chosen: exact, and packed as panels in float32."""

    @staticmethod
    cdef Picks of(Snapshot snapshot):
        cdef Picks self = Picks.__new__(Picks)
        cdef int64_t n = padded(snapshot.dim)
        self.snapshot, self.kernels, self.metric = snapshot, snapshot.kernels, snapshot.metric
        self.dim = snapshot.dim
        self.packing = farann_packing_of(self.metric, -1.0)
        self.scratch = Scratch()
        self.exact = <double *>self.scratch.allocate(n, sizeof(double))
        self.query_vector = <double *>self.scratch.allocate(2 * n, sizeof(double))
        self.rounded = <float *>self.scratch.allocate(n, sizeof(float))
        return self

    cdef const float *row_of(self, int64_t slot) noexcept nogil:
        """A row of the snapshot."""
        cdef int s = slot >= self.snapshot.segments[1].first
        return self.snapshot.segments[s].rows + (
            slot - self.snapshot.segments[s].first) * self.dim

    cdef int grow(self, int64_t needed) except -1:
        """Make room for so many rows in all; those that are there move."""
        cdef Scratch scratch
        cdef int64_t width = self.kernels.panel_rows, room
        cdef float *rows
        cdef double *norms
        cdef float *panels
        if needed <= self.capacity:
            return 0
        room = max(needed, 2 * self.capacity)
        room = (room + width - 1) // width * width
        scratch = Scratch()
        rows = <float *>scratch.allocate(room, self.dim * sizeof(float), False)
        norms = <double *>scratch.allocate(room, sizeof(double), False)
        panels = <float *>scratch.allocate(room, (self.dim + 1) * sizeof(float), False)
        if self.count:
            memcpy(rows, self.rows, self.count * self.dim * sizeof(float))
            memcpy(norms, self.norms, self.count * sizeof(double))
        self.rows, self.norms, self.panels, self.grown = rows, norms, panels, scratch
        self.bias = panels + room * self.dim
        self.capacity, self.n_packed = room, 0  # all are packed again
        return 0

    cdef void add(self, const float *row) noexcept nogil:
        """Add a row, for which there is room."""
        memcpy(self.rows + self.count * self.dim, row, self.dim * sizeof(float))
        self.norms[self.count] = self.norm_of(row)
        self.count += 1

    cdef void pack(self) noexcept nogil:
        """Pack the rows that were added, and with them the panel that they begin in."""
        cdef int64_t width = self.kernels.panel_rows
        cdef int64_t first = self.n_packed // width * width
        cdef double squares
        if self.n_packed == self.count:
            return
        squares = self.kernels.pack_rows_f32(
            self.rows + first * self.dim, NULL, self.count - first, self.dim,
            &self.snapshot.centre[0], self.packing.normalized, self.packing.bias_sign,
            self.panels + first * self.dim, self.bias + first)
        if not squares <= self.squares:
            self.squares = squares
        self.n_packed = self.count

    cdef double norm_of(self, const float *row) noexcept nogil:
        """|row| in the order of exact keys under cosine; else 1."""
        cdef double square
        if self.metric != FARANN_COSINE:
            return 1.0
        self.kernels.widen_f32(row, self.dim, self.exact)
        self.kernels.keys_f64[<int>FARANN_DOT](row, NULL, 1, self.dim, self.exact, &square)
        return sqrt(-square)

    cdef double least_key(self, const float *row, int64_t first, int64_t end,
                          int64_t *nearest) noexcept nogil:
        """The smallest key of a row over the members first .. end; which of them has it."""
        cdef double keys[KEYS_AT_ONCE]
        cdef double least = INFINITY, norm = self.norm_of(row)
        cdef int64_t n, j
        while first < end:
            n = min(end - first, KEYS_AT_ONCE)
            self.score(row, norm, first, n, keys)
            for j in range(n):
                if keys[j] < least:
                    least, nearest[0] = keys[j], first + j
            first += n
        return least

    cdef void keys_of(self, const float *row, double *to, int64_t stride) noexcept nogil:
        """Write the keys of a row for all members, `stride` apart."""
        cdef double keys[KEYS_AT_ONCE]
        cdef double norm = self.norm_of(row)
        cdef int64_t first = 0, n, j
        while first < self.count:
            n = min(self.count - first, KEYS_AT_ONCE)
            self.score(row, norm, first, n, keys)
            for j in range(n):
                to[(first + j) * stride] = keys[j]
            first += n

    cdef void score(self, const float *row, double norm, int64_t first, int64_t n,
                    double *keys) noexcept nogil:
        """The keys of a row of this norm for members first .. first + n.

        Sums of products and of squared differences are the same either way round; what they are
        divided by, and in which order, is that of searches with the members as queries.
        """
        cdef farann_metric sums = FARANN_DOT if self.metric == FARANN_COSINE else self.metric
        cdef int64_t j
        self.kernels.widen_f32(row, self.dim, self.exact)
        self.kernels.keys_f64[<int>sums](self.rows + first * self.dim, NULL, n, self.dim,
                                         self.exact, keys)
        if self.metric == FARANN_COSINE:
            for j in range(n):
                keys[j] = keys[j] / norm / self.norms[first + j]

    cdef void prepare(self, const float *row, double sign) noexcept nogil:
        """Make a row a query: `rounded`, `prepared`."""
        farann_query_prepare(
            self.kernels, self.metric, sign, row, self.dim, &self.snapshot.full_centre[0],
            self.snapshot.centre_norm, self.exact, self.query_vector, self.rounded,
            &self.prepared)

    cdef double slack(self) noexcept nogil:
        """How far scores of packed rows may be off for the row that was prepared.

        Negative: float32 can't hold them.
        """
        return farann_query_slack(&self.prepared, self.squares)

