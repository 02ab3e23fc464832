"""The guard: it finds queries unlike those that a search was tuned with."""

cimport cython
from libc.math cimport INFINITY, NAN, expf, fabs, log, sqrt


import numpy as np

from farann.native.kernels import Cancelled

cdef enum:
    GUARD_WIDTH = 64  # sums that a query is reduced to, at most
    GUARD_POINTS = 256  # points that queries are compared with, at most

# A witness's surprises are the squares of its deviations from the usual on either side, in
# deviations of these squares; deviations count up to MOST_SURPRISING.
cdef double MOST_SURPRISING = 8.0
# Each query takes SURPRISE_MARGIN off the sum of surprises, or UNSURE over the root of the sample's
# size.
cdef double SURPRISE_MARGIN = 0.25, UNSURE = 3.0
# Sum from which queries are suspect, until it is below half of that; standard deviations of a
# batch's mean surprise from which.
cdef double SUSPICIOUS_SUM = 40.0, SUSPICIOUS_MEAN = 4.0
cdef double MOST_SUM = 60.0  # the sum never grows beyond, so that suspicion ends
cdef int64_t LEAST_BATCH = 256  # queries from which a batch's mean counts: squares are skewed
# Suspects that are answered exactly before the verdict; while it is within DOUBT standard errors,
# MORE are, up to MOST_CHECKED.
cdef int64_t CHECKED = 30, MORE = 15, MOST_CHECKED = 60
cdef double DOUBT = 1.5
# As surprising answers as those that had found enough raise no suspicion; that is forgotten over so
# many queries, as others may be as surprising.
cdef double REMEMBERED = 1024.0
# Rows that count as expected beyond a key in any case, so that a logarithm is finite.
cdef double LEAST_BEYOND = 1e-3


cdef class KeyModel:
    """The keys of all rows for a query: their mean, deviation, and how many lie beyond a key.

    A reduced key is <w, z> of z = (y, |y|^2 / unit) and w = (query vector, sign unit), without the
    last coordinate where keys have no squares. Line 0 of `axes` (1 + KEY_AXES, dim) is the mean of
    y, the others are principal axes of z. `terms` has for each line what the last coordinate adds,
    the variance of z along it, and the part of it within groups; of line 0 both are that along any
    other direction. `groups` are those of rows: how many, their deviation over the usual one, and
    their means along the first axes.

    With `n_rows` what is told is that of so many of these rows: of fewer the k-th is less far out.
    """

    def __init__(self, str isa, const float[:, ::1] axes, const double[:, ::1] terms,
                 const double[:, ::1] groups, int64_t n_rows=0):
        self.kernels = kernels_of(isa)
        if (axes.shape[0] != 1 + KEY_AXES or axes.shape[1] < 1
                or terms.shape[0] != 1 + KEY_AXES or terms.shape[1] != 3
                or groups.shape[1] != 2 + GROUP_AXES):
            raise ValueError("axes, terms and groups must be those of the dimension")
        if not (np.isfinite(axes).all() and np.isfinite(terms).all() and np.isfinite(groups).all()):
            raise ValueError("axes, terms and groups must be finite")
        modelled = np.asarray(groups)[:, 0].sum()
        if not (modelled > 0.0 and n_rows >= 0):
            raise ValueError("there must be rows")
        self.axes, self.terms, self.groups = axes, terms, groups
        self.zeros = np.zeros(padded(axes.shape[1]), np.float32)
        self.more = n_rows / modelled if n_rows else 1.0

    cdef void tell(self, const float *query_vector, double norm, double sign, double key,
                   float *found) noexcept nogil:
        """Write how far a reduced key is below the mean, in deviations of all keys of the query,
        and the logarithm of the number of rows expected beyond it; NaN where all keys are equal."""
        cdef float products[1 + KEY_AXES]
        cdef double along[1 + KEY_AXES]
        cdef double variance = 0.0, within = 0.0, across = norm * norm, beyond = 0.0, falls = 0.0
        cdef double square, scale, x
        cdef int64_t dim = self.axes.shape[1], j, c
        self.kernels.score_rows_f32(&self.axes[0, 0], NULL, 1 + KEY_AXES, dim, &self.zeros[0],
                                    query_vector, False, 0.0, products, NULL)
        along[0] = products[0]
        for j in range(1, 1 + KEY_AXES):
            along[j] = products[j]
            across -= along[j] * along[j]
            along[j] += sign * self.terms[j, 0]
            square = along[j] * along[j]
            variance += self.terms[j, 1] * square
            within += self.terms[j, 2] * square
        across = max(across, 0.0)
        variance += self.terms[0, 1] * across
        within += self.terms[0, 2] * across
        key -= along[0] + sign * self.terms[0, 0]
        found[0] = found[1] = NAN
        if not (0.0 < variance < INFINITY and 0.0 < within and -INFINITY < key < INFINITY):
            return
        found[0] = <float>(-key / sqrt(variance))
        within = 1.0 / sqrt(within)
        for c in range(self.groups.shape[0]):
            x = key
            for j in range(GROUP_AXES):
                x -= self.groups[c, 2 + j] * along[1 + j]
            scale = within / self.groups[c, 1]
            x *= scale
            # The upper tail of the normal distribution, to some hundredths.
            square = 0.5 * expf(<float>(-fabs(x) * (0.717 + 0.416 * fabs(x))))
            beyond += self.groups[c, 0] * (square if x > 0.0 else 1.0 - square)
            falls += self.groups[c, 0] * square * (0.717 + 0.832 * fabs(x)) * scale
        if self.more != 1.0 and falls > 0.0:  # by how much removed rows move the k-th key
            found[0] += <float>(log(self.more) * beyond / (falls * sqrt(variance)))
        found[1] = <float>log(self.more * beyond + LEAST_BEYOND)


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
        cdef const int64_t *given_up = &NEVER
        cdef uint64_t before
        if not (0 <= start <= stop <= queries.shape[0] and stop <= unlike.shape[0]
                and queries.shape[1] == self.dim):
            raise ValueError("queries must be those of the dimension, with a mark for each")
        if flag is not None:
            given_up = &flag.raised
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
        cdef double found
        self.kernels.keys_f64[<int>FARANN_L2](x, NULL, 1, n, &self.zeros[0], &found)
        return found

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
            self.count_one()
        return like

    cdef void count_one(self) noexcept:
        """Count a single query that is like the sample."""
        with cython.critical_section(self):
            self.alone += 1

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


cdef class Watch:
    """Whether answers are as those of the sample, by three witnesses, and the verdict on others.

    `usual` (3, 7) is a line of `Tuning.usual`; NaN among what tells of an answer tells nothing. Once
    surprises add up to more than chance explains, queries with a number above the mean are suspect.
    Some of both are answered exactly and compared: if all together had found the recall, only
    answers that are more surprising raise suspicion; if not, all suspects are to be answered
    exactly, until surprises end, and others, too, if they miss too much in spite of that.
    """

    def __init__(self, double recall, usual, int64_t sampled):
        self.usual = self.of_witness = np.ascontiguousarray(usual, np.float64)
        if self.of_witness.shape[0] != WITNESSES or self.of_witness.shape[1] != 7:
            raise ValueError("there must be seven numbers for each witness")
        if not (self.usual[:, 1:6:2] > 0.0).all():
            raise ValueError("deviations must be positive")
        self.recall, self.sampled = recall, max(sampled, 1)
        self.margin = max(SURPRISE_MARGIN, UNSURE / sqrt(<double>self.sampled))

    def forget(self):
        """For tests: begin anew, as if no query had been asked."""
        cdef int at
        with cython.critical_section(self):
            self.alarmed = 0
            self.forget_checks()
            for at in range(2 * WITNESSES):
                self.surplus[at] = self.tolerated[at] = 0.0

    cdef int tell(self, const float *witness, int64_t n) noexcept nogil:
        """Take what tells of n answers; return the witnesses that are surprising, as bits."""
        cdef double sums[2 * WITNESSES]
        cdef double far, most = SUSPICIOUS_MEAN * sqrt(n * (1.0 + <double>n / self.sampled))
        cdef int64_t i
        cdef int w, side, at, before = self.alarmed
        self.at_once = n
        for w in range(2 * WITNESSES):
            sums[w] = 0.0
        for i in range(n):
            for w in range(WITNESSES):
                far = (witness[i * WITNESSES + w] - self.of_witness[w, 0]) / self.of_witness[w, 1]
                if far == far:
                    far = min(max(far, -MOST_SURPRISING), MOST_SURPRISING)
                    for side in range(2 if w else 1):  # rows with exact keys seem early
                        sums[2 * w + side] += (
                            (far * far if (far < 0.0) == side else 0.0)
                            - self.of_witness[w, 2 + 2 * side]) / self.of_witness[w, 3 + 2 * side]
        self.alarmed = 0
        for at in range(2 * WITNESSES):
            self.total[at] += sums[at]
            sums[at] -= n * self.tolerated[at]
            self.tolerated[at] *= max(1.0 - n / REMEMBERED, 0.0)
            self.surplus[at] = min(max(self.surplus[at] + sums[at] - n * self.margin, 0.0),
                                   MOST_SUM)
            if self.surplus[at] > SUSPICIOUS_SUM / (1 + (before >> at // 2 & 1)) or (
                    n >= LEAST_BATCH and sums[at] > most):
                self.alarmed |= 1 << at // 2
        if self.alarmed == 0:
            self.forget_checks()
        return self.alarmed

    cdef bint is_suspect(self, const float *witness) noexcept nogil:
        cdef int w
        for w in range(WITNESSES):
            if self.alarmed >> w & 1 and witness[w] > self.of_witness[w, 0]:
                return True
        return False

    cdef void forget_checks(self) noexcept nogil:
        cdef int g
        for g in range(2 * WITNESSES):
            self.total[g] = 0.0
        for g in range(2):
            self.seen[g] = self.checked[g] = 0
            self.found[g] = self.squares[g] = 0.0
            self.short[g] = self.decided[g] = False

    cdef double mean_of(self, int group, double *error) noexcept nogil:
        """The mean recall of what was checked of a group, and its standard error."""
        cdef double n = self.checked[group], mean = self.found[group] / n
        error[0] = sqrt(max(self.squares[group] / n - mean * mean, 0.0) / n)
        return mean

    cdef void decide(self) noexcept nogil:
        """Decide whether all queries together miss too much, so that suspects are to be answered
        exactly; then whether they do in spite of that, and all are to be."""
        cdef double suspects = <double>self.seen[0] / max(self.seen[0] + self.seen[1], 1)
        cdef double error = 0.0, other_error = 0.0, mean = 1.0, other = 1.0, beyond
        cdef int group = self.decided[0], w
        cdef bint enough = self.checked[group] >= CHECKED
        if self.decided[group] or not enough:
            return
        if group == 0:
            mean = self.mean_of(0, &error)
            enough = self.others_left() == 0
        if self.checked[1] and enough:
            other = self.mean_of(1, &other_error)
        else:  # no worse than those of the sample, at best
            for w in range(WITNESSES):
                if self.alarmed >> w & 1:
                    other = min(other, self.of_witness[w, 6])
        beyond = suspects * mean + (1.0 - suspects) * other - self.recall
        error, other_error = suspects * error, (1.0 - suspects) * other_error
        error = sqrt(error * error + other_error * other_error)
        self.decided[group] = beyond < -DOUBT * error or (enough and (
            beyond > DOUBT * error or self.checked[group] >= MOST_CHECKED))
        self.short[group] = beyond < -0.5 * error  # chance isn't a loss

    cdef int64_t others_left(self) noexcept nogil:
        """How many others to check, too: of large batches half as many as suspects, or fewer where
        they are seldom seen; of small ones it would take too long."""
        cdef double share = <double>self.seen[1] / max(self.seen[0], self.seen[1], <int64_t>1)
        if self.at_once < LEAST_BATCH:
            return 0
        return max(<int64_t>(0.5 * share * self.checked[0]) - self.checked[1], <int64_t>0)

    cdef int64_t left(self, int group) noexcept nogil:
        """How many of a group to check: suspects, or others; -1: all are to be answered exactly."""
        if self.alarmed == 0:  # they had found enough
            return 0
        if self.decided[group]:
            return -self.short[group]
        if not self.decided[0] and (group or self.others_left() > 0):
            return self.others_left() if group else max(CHECKED - self.checked[0], <int64_t>0)
        return MORE if self.checked[group] >= CHECKED else CHECKED - self.checked[group]

    def to_check(self, int group):
        """The same for callers."""
        return self.left(group)

    def groups(self, const float[:, ::1] witness):
        """Take what tells of a batch; return the numbers of suspects and of the others, or None."""
        cdef int64_t i, n = witness.shape[0]
        if witness.shape[1] != WITNESSES:
            raise ValueError("there must be three numbers for each query")
        suspects = np.zeros(n, np.bool_)
        cdef uint8_t[::1] marks = suspects.view(np.uint8)
        with cython.critical_section(self):
            if n == 0 or self.tell(&witness[0, 0], n) == 0:
                return None
            for i in range(n):
                marks[i] = self.is_suspect(&witness[i, 0])
                self.seen[not marks[i]] += 1
        return np.flatnonzero(suspects), np.flatnonzero(~suspects)

    def note(self, int group, recalls):
        """Note what checked queries of a group had found."""
        cdef int64_t n = len(recalls)
        cdef double found = recalls.sum(), squares = (recalls * recalls).sum()
        cdef int at
        with cython.critical_section(self):
            self.checked[group] += n
            self.found[group] += found
            self.squares[group] += squares
            if self.decided[0]:
                self.decide()
                return
            self.decide()
            if not self.decided[0]:
                return
            for at in range(2 * WITNESSES):
                if not self.short[0]:
                    self.surplus[at] = 0.0
                    self.tolerated[at] = max(self.tolerated[at], self.total[at] / max(
                        self.seen[0] + self.seen[1], 1))
                elif self.alarmed >> at // 2 & 1:
                    self.surplus[at] = MOST_SUM
            if not self.short[0]:
                self.alarmed = 0
                self.forget_checks()

    cdef int take_one(self, const float *witness) noexcept:
        """Take what tells of a single query; return its group if it is to be answered exactly, or
        -1."""
        cdef int group = -1
        with cython.critical_section(self):
            if self.tell(witness, 1):
                group = not self.is_suspect(witness)
                self.seen[group] += 1
                if self.left(group) == 0:
                    group = -1
        return group
