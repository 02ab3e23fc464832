"""The watch over approximate answers: what tells of them, and the verdict on what they find."""

cimport cython
from libc.math cimport INFINITY, NAN, sqrt
from libc.string cimport memset

import numpy as np

# A witness's surprises are the squares of its deviations from the usual on either side, in
# deviations of these squares, and the deviations; these count up to MOST_SURPRISING.
cdef double MOST_SURPRISING = 8.0
# Each query takes SURPRISE_MARGIN off the sum of surprises, or UNSURE over the root of the sample's
# size.
cdef double SURPRISE_MARGIN = 0.15, UNSURE = 3.0
# Surprise of a query that the guard found; one in 30 is usual, so that more than one in 20 are many.
cdef double GUARDED = 10.0, USUALLY_GUARDED = 0.035
# Sum from which queries are suspicious, until it is below half of that; standard deviations of a
# batch's mean surprise from which.
cdef double SUSPICIOUS_SUM = 40.0, SUSPICIOUS_MEAN = 4.0
cdef double MOST_SUM = 45.0  # the sum never grows beyond, so that suspicion ends
# Queries from which a batch's mean counts, as squares are skewed.
cdef int64_t LEAST_BATCH = 256
# Telling of keys takes time: while nothing is surprising, TOLD_OF_BATCH coordinates of a batch are
# read, but at least LEAST_BATCH queries, and one single query in dim // TOLD_COORDINATES.
cdef int64_t TOLD_OF_BATCH = 1 << 17, TOLD_COORDINATES = 256
# Suspicious queries that are checked before the verdict; while it is within DOUBT standard errors,
# MORE are, up to MOST_CHECKED. A mean recall that is less than LITTLE and half such an error below
# the one requested isn't a loss.
cdef int64_t CHECKED = 60, MORE = 30, MOST_CHECKED = 120
cdef double DOUBT = 1.5, LITTLE = 0.01
# As surprising answers as those that had found enough raise no suspicion; that is forgotten after so
# many queries, as others may be as surprising, and after twice as many if they had found enough
# once more.
cdef int64_t REMEMBERED = 1024, LONGEST_REMEMBERED = 1 << 20
# Where nothing is surprising, COMPARED queries of batches are compared at once, as few take longer.
# They found too little if their mean recall is more than TOLERATED and SURE standard errors below
# the one requested; enough again, if it isn't more than TOLERATED below. After MOST_COMPARED of them
# what was found counts half.
cdef int64_t COMPARED = 30, MOST_COMPARED = 256
cdef double TOLERATED = 0.02, SURE = 2.0
# While too little is found, both searches take longer than an exact one alone: SELDOM_AFTER
# queries after the verdict one in 2 is still compared, after as many more one in 3, and so on to
# one in RAREST. From LEAST_SPLIT queries of a batch on these are compared, and the others answered
# exactly; a smaller batch is compared as a whole or not at all, as two searches take longer. All
# queries are compared again once a mean of about the last RECENT isn't TOLERATED short.
cdef int64_t SELDOM_AFTER = 512, RAREST = 8, LEAST_SPLIT = 16
cdef double RECENT = 8.0


cdef class Watch:
    """Whether answers are as those of the sample, by two witnesses, and the verdict on others.

    Many queries that the guard found are surprising, too: what else is like them passes it.

    `usual` (2, 6) is a line of `Tuning.usual`; NaN among what tells of an answer tells nothing.
    Once surprises add up to more than chance explains, some queries are answered exactly and
    compared. If they had found the recall, only answers that are more surprising raise suspicion;
    if not, all queries are to be answered exactly, until surprises end, or these had found enough.

    What no witness tells of is found by comparing one query in `one_in` where nothing is
    surprising. If these miss too much, all are to be answered exactly, until they don't.
    """

    def __init__(self, double recall, usual, int64_t sampled, int64_t one_in):
        self.usual = self.of_witness = np.ascontiguousarray(usual, np.float64)
        if self.of_witness.shape[0] != WITNESSES or self.of_witness.shape[1] != 6:
            raise ValueError("there must be six numbers for each witness")
        if not (self.usual[:, 1::2] > 0.0).all():
            raise ValueError("deviations must be positive")
        self.recall, self.sampled, self.one_in = recall, max(sampled, 1), max(one_in, 1)
        self.memory = REMEMBERED
        self.margin = max(SURPRISE_MARGIN, UNSURE / sqrt(<double>self.sampled))

    def forget(self):
        """For tests: begin anew, as if no query had been asked."""
        with cython.critical_section(self):
            self.alarmed, self.verdict = 0, ENOUGH
            self.unchecked = self.due = self.checked = 0
            self.recalls = self.squares = 0.0
            self.fell_short, self.recent = 0, 0.0
            self.memory, self.remembered = REMEMBERED, 0
            memset(self.surplus, 0, sizeof(self.surplus))
            memset(self.tolerated, 0, sizeof(self.tolerated))

    cdef void tell(self, const float *told, int64_t n, int64_t every,
                   int64_t unlike) noexcept nogil:
        """Take what tells of the first of each `every` of n answers, and the number of other
        queries, which the guard found to be unlike the sample."""
        cdef double sums[SURPRISES]
        cdef double numbers[WITNESSES + 1]
        cdef int64_t i
        cdef double far, number
        cdef const double *usual
        cdef int w, side, at, before = self.alarmed
        if not before:
            memset(self.numbers, 0, sizeof(self.numbers))
            memset(self.total, 0, sizeof(self.total))
        self.remembered -= n + unlike
        if self.remembered < 0:
            memset(self.tolerated, 0, sizeof(self.tolerated))
        memset(sums, 0, sizeof(sums))
        memset(numbers, 0, sizeof(numbers))
        for i in range((n + every - 1) // every):
            for w in range(WITNESSES):
                usual = &self.of_witness[w, 0]
                far = (told[i * every * WITNESSES + w] - usual[0]) / usual[1]
                if far == far:
                    numbers[w] += 1.0
                    far = min(max(far, -MOST_SURPRISING), MOST_SURPRISING)
                    at = 4 * w
                    for side in range(2):
                        sums[at + side] += (max(far, 0.0)**2 - usual[2 + 2 * side]) / usual[
                            3 + 2 * side]
                        sums[at + 2 + side] += far
                        far = -far
        numbers[WITNESSES] = n + unlike
        sums[4 * WITNESSES] = GUARDED * (unlike - USUALLY_GUARDED * numbers[WITNESSES])
        self.alarmed = 0
        for w in range(WITNESSES + 1):
            self.numbers[w] += <int64_t>numbers[w]
        for at in range(SURPRISES):
            if at < 4 and at & 1:  # rows with exact keys seem early
                continue
            w = at // 4
            number = numbers[w]
            self.total[at] += sums[at]
            sums[at] -= number * self.tolerated[at]
            self.surplus[at] = min(max(self.surplus[at] + sums[at] - number * self.margin, 0.0),
                                   MOST_SUM)
            if self.surplus[at] > SUSPICIOUS_SUM / (1 + (before >> w & 1)) or (
                    w < WITNESSES and number >= LEAST_BATCH and sums[at] > SUSPICIOUS_MEAN * sqrt(
                        number * (1.0 + number / self.sampled))):
                self.alarmed |= 1 << w
        if (before != 0) != (self.alarmed != 0) and self.verdict != SHORT:
            self.begin(ENOUGH)
            self.due = CHECKED if self.alarmed else 0

    cdef void count(self, int64_t n, int64_t least) noexcept nogil:
        """Count n queries where nothing is surprising; at least so many are compared at once."""
        if self.alarmed == 0:
            self.unchecked += n
            if self.unchecked >= least * self.one_in:
                self.due += self.unchecked // self.one_in
                self.unchecked %= self.one_in

    cdef int64_t to_check(self) noexcept nogil:
        return -1 if self.verdict else self.due

    cdef void begin(self, Verdict verdict) noexcept nogil:
        self.verdict = verdict
        if verdict == ENOUGH:
            self.fell_short = 0
        self.checked, self.recalls, self.squares = 0, 0.0, 0.0

    cdef void decide(self) noexcept nogil:
        """Decide whether queries find too little, by those checked since the last verdict."""
        cdef double mean, error, beyond
        cdef bint short, first
        cdef int at
        cdef int64_t least = MOST_COMPARED if self.verdict == SHORT_WHERE_SURPRISING else COMPARED
        if self.checked < least or (self.alarmed and self.due and self.verdict == ENOUGH):
            return
        mean = self.recalls / self.checked
        error = sqrt(max(self.squares / self.checked - mean * mean, 0.0) / self.checked)
        beyond = mean - self.recall
        if self.verdict != SHORT and self.alarmed:
            if self.verdict == ENOUGH and self.checked < MOST_CHECKED and (
                    -DOUBT * error <= beyond <= DOUBT * error):
                self.due = MORE
                return
            short, first = beyond < -LITTLE - 0.5 * error, self.verdict == ENOUGH
            self.begin(SHORT_WHERE_SURPRISING if short else ENOUGH)
            if short:
                self.memory = REMEMBERED
            else:
                self.alarmed, self.remembered = 0, self.memory
                self.memory = min(2 * self.memory, LONGEST_REMEMBERED)
            for at in range(SURPRISES):
                if not short:
                    self.surplus[at] = 0.0
                    self.tolerated[at] = max(self.tolerated[at], self.total[at] / max(
                        self.numbers[at // 4], <int64_t>1))
                elif first and self.alarmed >> at // 4 & 1:
                    self.surplus[at] = MOST_SUM
            return
        short = beyond < -TOLERATED - (SURE * error if self.verdict == ENOUGH else 0.0)
        if short != (self.verdict == SHORT):
            self.begin(SHORT if short else ENOUGH)
        elif self.checked >= MOST_COMPARED:
            self.checked //= 2
            self.recalls *= 0.5
            self.squares *= 0.5

    @property
    def left(self):
        """How many queries to check; -1: all are to be answered exactly."""
        return self.to_check()

    @property
    def only_compares(self):
        """Whether nothing is surprising, so that checked queries keep their answers: the same calls
        give the same."""
        return self.alarmed == 0 and self.verdict == ENOUGH

    def every(self, int64_t n, int64_t dim):
        """Of which of n queries at once to tell: one in so many."""
        return self.told_of(n, dim)

    cdef int64_t told_of(self, int64_t n, int64_t dim) noexcept nogil:
        """See `every`."""
        if self.alarmed:
            return 1
        return max(min(n // LEAST_BATCH, n * dim // TOLD_OF_BATCH), <int64_t>1)

    cdef bint is_busy(self, int64_t n) noexcept nogil:
        """Whether some of the next n queries at once are to be answered exactly, as far as this is
        known."""
        return (self.alarmed != 0 or self.verdict != ENOUGH or self.due != 0
                or self.unchecked + n >= COMPARED * self.one_in)

    cdef void take_some(self, const float *told, int64_t n, int64_t every,
                        int64_t unlike=0) noexcept:
        """Take what tells of the answers of a batch, see `take`."""
        with cython.critical_section(self):
            self.tell(told, n, every, unlike)
            self.count(n, COMPARED)

    def take(self, const float[:, ::1] told, int64_t every, int64_t unlike=0):
        """Take what tells of the answers of a batch, of the keys of one in `every`, in which so
        many other queries are unlike the sample; return the numbers of queries in the order in
        which some are to be checked, the most usual first."""
        cdef int64_t n = told.shape[0]
        if told.shape[1] != WITNESSES or every < 1:
            raise ValueError("there must be two numbers for each query")
        self.take_some(&told[0, 0] if n else NULL, n, every, unlike)
        if self.to_check() == 0:
            return np.arange(n)
        far = (np.asarray(told) - self.usual[:, 0]) / self.usual[:, 1]
        far = np.clip(np.nan_to_num(far), -MOST_SURPRISING, MOST_SURPRISING)
        return np.argsort(far.sum(axis=1), kind="stable")

    def note(self, recalls):
        """Note what checked queries had found."""
        cdef int64_t n = len(recalls)
        cdef double total = recalls.sum(), squares = (recalls * recalls).sum(), kept
        with cython.critical_section(self):
            kept = (1.0 - 1.0 / RECENT)**n
            self.recent = kept * self.recent + (1.0 - kept) * total / max(n, 1)
            self.checked += n
            self.recalls += total
            self.squares += squares
            self.due = max(self.due - n, 0)
            self.decide()

    cdef bint tells_key(self, int64_t dim) noexcept nogil:
        """Whether to tell of the key of the next single query."""
        return self.alarmed != 0 or self.singles % max(dim // TOLD_COORDINATES, <int64_t>1) == 0

    cdef int64_t one_in_short(self) noexcept nogil:
        """While too little is found, one query in so many is compared; 1 while enough is."""
        if self.recent >= self.recall - TOLERATED:
            return 1
        return min(1 + self.fell_short // SELDOM_AFTER, RAREST)

    cdef bint passes_over(self) noexcept nogil:
        """Whether the next single query is answered exactly without being compared."""
        return self.fell_short % self.one_in_short() != 0

    cdef void pass_over(self) noexcept:
        """Count a single query that wasn't compared."""
        with cython.critical_section(self):
            self.fell_short += 1

    def compared(self, int64_t n):
        """Which of the next n queries are searched approximately; None: all, as while enough is
        found. Small batches are not split."""
        cdef int64_t one_in = self.one_in_short(), before = self.fell_short
        if n < LEAST_SPLIT * one_in:  # all or none of them
            return None if before // max(n, 1) % one_in == 0 else np.arange(0)
        return None if one_in == 1 else np.arange((one_in - before % one_in) % one_in, n, one_in)

    def count_next(self, int64_t n):
        """Count n queries, of which `compared` told."""
        with cython.critical_section(self):
            if self.verdict != ENOUGH:
                self.fell_short += n

    cdef bint take_one(self, const float *told) noexcept:
        """Take what tells of a single query; return whether it is to be answered exactly, too."""
        cdef bint checked
        with cython.critical_section(self):
            self.singles += 1
            if self.verdict != ENOUGH:
                self.fell_short += 1
            self.tell(told, 1, 1, 0)
            self.count(1, 1)
            checked = self.to_check() != 0
        return checked

    cdef void take_unlike(self) noexcept:
        """Take a single query that the guard found."""
        with cython.critical_section(self):
            self.tell(NULL, 0, 1, 1)


cdef class KeyModel:
    """The second witness, how the keys of all rows lie for a query: their mean and deviation.

    A reduced key is <w, z> of z = (y, |y|^2 / unit) and w = (query vector, sign unit), without the
    last coordinate where keys have no squares. Line 0 of `axes` (1 + KEY_AXES, dim) is the mean of
    y, the others are principal axes of z. `terms` has for each line what the last coordinate adds,
    and the variance of z along it; of line 0 this is that along any other direction.
    """

    def __init__(self, str isa, const float[:, ::1] axes, const double[:, ::1] terms):
        self.kernels = kernels_of(isa)
        if (axes.shape[0] != 1 + KEY_AXES or axes.shape[1] < 1
                or terms.shape[0] != 1 + KEY_AXES or terms.shape[1] != 2):
            raise ValueError("axes and terms must be those of the dimension")
        if not (np.isfinite(axes).all() and np.isfinite(terms).all()):
            raise ValueError("axes and terms must be finite")
        self.axes, self.terms = axes, terms
        self.zeros = np.zeros(padded(axes.shape[1]), np.float32)

    cdef float tell(self, const float *vector, double factor, double norm, double sign,
                    double key) noexcept nogil:
        """How far a reduced key is below the mean, in deviations of all keys of the query; NaN
        where all keys are equal.

        The query vector is `factor` times a vector.
        """
        cdef float products[1 + KEY_AXES]
        cdef double variance = 0.0, across = norm * norm, along
        cdef int64_t j
        self.kernels.score_rows_f32(&self.axes[0, 0], NULL, 1 + KEY_AXES, self.axes.shape[1],
                                    &self.zeros[0], vector, False, 0.0, products, NULL)
        for j in range(1, 1 + KEY_AXES):
            along = factor * products[j]
            across -= along * along
            along += sign * self.terms[j, 0]
            variance += self.terms[j, 1] * along * along
        variance += self.terms[0, 1] * max(across, 0.0)
        key -= factor * products[0] + sign * self.terms[0, 0]
        if not (0.0 < variance < INFINITY and -INFINITY < key < INFINITY):
            return NAN
        return <float>(-key / sqrt(variance))
