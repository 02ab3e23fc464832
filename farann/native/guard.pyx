"""The guard: it finds queries unlike those that a search was tuned with."""

cimport cython
from libc.math cimport sqrt

import numpy as np

from farann.native.kernels import Cancelled

cdef enum:
    GUARD_WIDTH = 64  # sums that a query is reduced to, at most
    GUARD_POINTS = 256  # points that queries are compared with, at most


cdef class Guard:
    """Tells queries that are unlike a sample of queries, by two tests.

    A query is first reduced to `width` sums: the sum j has the coordinates j, j + width, ..., each
    times its sign. With `unit` they are divided by the query's length, as only directions count.
    Less the center and times the scale they are x. A query is like the sample if x is near one of
    up to `GUARD_POINTS` points, |x - c|^2 <= reach, and in no direction further out than the
    sample, |A x| <= 1, where A are the axes. Width is dim up to a multiple of 16, and at most
    `GUARD_WIDTH`.
    """

    def __init__(self, str isa, bint unit, const float[::1] signs, const float[::1] center,
                 double scale, const float[:, ::1] points, const float[::1] reaches,
                 const float[:, ::1] axes):
        self.kernels = kernels_of(isa)
        self.unit, self.scale = unit, scale
        self.dim, self.width = signs.shape[0], min(padded(signs.shape[0]), <int64_t>GUARD_WIDTH)
        if (self.dim < 1 or center.shape[0] != self.width
                or not 1 <= points.shape[0] <= GUARD_POINTS or points.shape[1] != self.width
                or reaches.shape[0] != points.shape[0]
                or axes.shape[0] != self.width or axes.shape[1] != self.width):
            raise ValueError("points, axes and center must be those of the dimension")
        if not (scale > 0.0 and np.isfinite(scale) and np.isfinite(center).all()
                and np.isfinite(points).all() and np.isfinite(reaches).all()
                and np.isfinite(axes).all()):
            raise ValueError("points, axes and center must be finite, and the scale positive")
        self.signs, self.center = signs, center
        self.points, self.reaches, self.axes = points, reaches, axes
        # A query is near a point where <x, c> plus this is at least |x|^2 / 2.
        with np.errstate(over="ignore"):
            squares = np.square(points, dtype=np.float64).sum(axis=1)
            self.biases = (0.5 * (np.asarray(reaches) - squares)).astype(np.float32)
        self.zeros = np.zeros(padded(self.dim))

    def find(self, const float[:, ::1] queries, int64_t start, int64_t stop, uint8_t[::1] unlike,
             CancelFlag flag=None):
        """Mark the queries start .. stop that are unlike the sample; return how many."""
        cdef int64_t at = start
        cdef const int64_t *given_up = &NEVER if flag is None else &flag.raised
        cdef uint64_t before
        if not (0 <= start <= stop <= queries.shape[0] and stop <= unlike.shape[0]
                and queries.shape[1] == self.dim):
            raise ValueError("queries must be those of the dimension, with a mark for each")
        with nogil:
            before = farann_arithmetic_begin()
            while at < stop and not farann_is_up(given_up):
                unlike[at] = not self.passes(&queries[at, 0], 1.0)
                at += 1
            farann_arithmetic_end(before)
        if at < stop:
            raise Cancelled
        return np.count_nonzero(unlike[start:stop])

    cdef double reduce(self, const float *query, float *x) noexcept nogil:
        """Reduce a query to x (width,); return |x|^2."""
        cdef int64_t width = self.width, whole = self.dim - self.dim % FARANN_PADDING, first, j
        cdef const float *signs = &self.signs[0]
        cdef const float *center = &self.center[0]
        cdef double factor = self.scale
        cdef float sums[GUARD_WIDTH]
        for j in range(GUARD_WIDTH):
            sums[j] = 0.0
        first = 0
        while first < whole:
            for j in range(FARANN_PADDING):  # a cache line of floats: compilers use vectors
                sums[first % width + j] += signs[first + j] * query[first + j]
            first += FARANN_PADDING
        for j in range(whole, self.dim):
            sums[j % width] += signs[j] * query[j]
        if self.unit:
            # A query of zero has no direction, and any answer is one.
            factor = sqrt(self.sum_of_squares(query, self.dim))
            factor = self.scale / factor if factor > 0.0 else self.scale
        for j in range(width):
            x[j] = <float>(sums[j] * factor - center[j] * self.scale)
        return self.sum_of_squares(x, width)

    cdef double sum_of_squares(self, const float *x, int64_t n) noexcept nogil:
        """The sum of squares of up to dim numbers."""
        cdef double square
        self.kernels.keys_f64[<int>FARANN_L2](x, NULL, 1, n, &self.zeros[0], &square)
        return square

    def is_like(self, const float[:, ::1] queries, int64_t i, double times=1.0):
        """Whether query i is like the sample, where squares may be `times` as large.

        Single queries that are like it are counted: see `count_alone`.
        """
        cdef bint like
        cdef uint64_t before
        if not 0 <= i < queries.shape[0] or queries.shape[1] != self.dim:
            raise ValueError("queries must be those of the dimension")
        with nogil:
            before = farann_arithmetic_begin()
            like = self.passes(&queries[i, 0], times)
            farann_arithmetic_end(before)
        if like and times == 1.0:
            self.count(1)
        return like

    cdef void count(self, int64_t n) noexcept:
        """Count queries that are like the sample."""
        with cython.critical_section(self):
            self.alone += n

    def count_alone(self):
        """The number of single queries like the sample since the last call."""
        cdef int64_t count
        with cython.critical_section(self):
            count, self.alone = self.alone, 0
        return count

    cdef bint passes(self, const float *query, double times) noexcept nogil:
        """Both tests for one query; points with many queries near them come first."""
        cdef float x[GUARD_WIDTH]
        cdef float scores[GUARD_WIDTH]
        cdef double half = 0.5 * self.reduce(query, x), more = 0.5 * (times - 1.0)
        cdef int64_t n = self.points.shape[0], first = 0, count, i
        self.kernels.score_rows_f32(&self.axes[0, 0], NULL, self.width, self.width,
                                    <const float *>&self.zeros[0], x, False, 0.0, scores, NULL)
        if not self.sum_of_squares(scores, self.width) <= times:  # nor if it is NaN
            return False
        while first < n:
            count = min(<int64_t>GUARD_WIDTH, n - first)
            self.kernels.score_rows_f32(&self.points[first, 0], NULL, count, self.width,
                                        <const float *>&self.zeros[0], x, False, 0.0, scores, NULL)
            for i in range(count):
                if scores[i] + self.biases[first + i] + more * self.reaches[first + i] >= half:
                    return True
            first += count
        return False
