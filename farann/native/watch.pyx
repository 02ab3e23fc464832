"""The watch over approximate answers: what tells of them, and the verdict on what they find."""

cimport cython
from libc.math cimport sqrt
from libc.string cimport memset

import numpy as np

# A witness's surprises are the squares of its deviations from the usual on either side, in
# deviations of these squares, and the deviations; these count up to MOST_SURPRISING.
cdef double MOST_SURPRISING = 8.0
# Each query takes SURPRISE_MARGIN off the sum of surprises, or UNSURE over the root of the sample's
# size.
cdef double SURPRISE_MARGIN = 0.25, UNSURE = 3.0
# Sum from which queries are suspect, until it is below half of that; standard deviations of a
# batch's mean surprise from which.
cdef double SUSPICIOUS_SUM = 40.0, SUSPICIOUS_MEAN = 4.0
cdef double MOST_SUM = 60.0  # the sum never grows beyond, so that suspicion ends
# Queries from which a batch's mean counts, as squares are skewed. Of larger batches about as many
# are told of, and the others only if these are surprising.
cdef int64_t LEAST_BATCH = 256
# The key of one single query in dim // TOLD_COORDINATES is told of while nothing is surprising, as
# that takes time.
cdef int64_t TOLD_COORDINATES = 256
# Suspects that are answered exactly before the verdict; while it is within DOUBT standard errors,
# MORE are, up to MOST_CHECKED.
cdef int64_t CHECKED = 30, MORE = 15, MOST_CHECKED = 60
cdef double DOUBT = 1.5
# As surprising answers as those that had found enough raise no suspicion; that is forgotten over so
# many queries, as others may be as surprising.
cdef double REMEMBERED = 1024.0
# Where nothing is surprising, too little is found if the mean recall of checked queries is more
# than TOLERATED and SURE standard errors below the one requested. After MOST_OF_ALL of them what was
# found counts half.
cdef double TOLERATED = 0.02, SURE = 2.0
cdef int64_t MOST_OF_ALL = 256


cdef class Watch:
    """Whether answers are as those of the sample, by three witnesses, and the verdict on others.

    `usual` (3, 7) is a line of `Tuning.usual`; NaN among what tells of an answer tells nothing.
    Once surprises add up to more than chance explains, queries with a number above the mean are suspect.
    Some of both are answered exactly and compared: if all together had found the recall, only
    answers that are more surprising raise suspicion; if not, all suspects are to be answered
    exactly, until surprises end, and others, too, if they miss too much in spite of that.

    What no witness tells of is found by comparing one query in `one_in` where nothing is
    surprising. If these miss too much, all are to be answered exactly, until they don't.
    """

    def __init__(self, double recall, usual, int64_t sampled, int64_t one_in):
        self.usual = self.of_witness = np.ascontiguousarray(usual, np.float64)
        if self.of_witness.shape[0] != WITNESSES or self.of_witness.shape[1] != 7:
            raise ValueError("there must be seven numbers for each witness")
        if not (self.usual[:, 1:6:2] > 0.0).all():
            raise ValueError("deviations must be positive")
        self.recall, self.sampled, self.one_in = recall, max(sampled, 1), max(one_in, 1)
        self.margin = max(SURPRISE_MARGIN, UNSURE / sqrt(<double>self.sampled))

    def forget(self):
        """For tests: begin anew, as if no query had been asked."""
        with cython.critical_section(self):
            self.alarmed = 0
            self.unchecked = self.due = 0
            self.forget_checks()
            memset(&self.of_all, 0, sizeof(Checks))
            memset(self.surplus, 0, sizeof(self.surplus))
            memset(self.tolerated, 0, sizeof(self.tolerated))

    cdef int tell(self, const float *told, int64_t n, int64_t every) noexcept nogil:
        """Take what tells of n answers, the first of each `every` lines; return the witnesses that
        are surprising, as bits."""
        cdef double sums[SURPRISES * WITNESSES]
        cdef double numbers[WITNESSES]
        cdef int64_t i
        cdef double far, number
        cdef const double *usual
        cdef int w, side, at, before = self.alarmed
        self.in_batch = n >= LEAST_BATCH
        memset(sums, 0, sizeof(sums))
        memset(numbers, 0, sizeof(numbers))
        for i in range(n):
            for w in range(WITNESSES):
                usual = &self.of_witness[w, 0]
                far = (told[i * every * WITNESSES + w] - usual[0]) / usual[1]
                if far == far:
                    numbers[w] += 1.0
                    far = min(max(far, -MOST_SURPRISING), MOST_SURPRISING)
                    at = SURPRISES * w
                    for side in range(2):
                        sums[at + side] += (max(far, 0.0)**2 - usual[2 + 2 * side]) / usual[
                            3 + 2 * side]
                        sums[at + 2 + side] += far
                        far = -far
        self.alarmed = 0
        for at in range(SURPRISES * WITNESSES):
            if at < SURPRISES and at & 1:  # rows with exact keys seem early
                continue
            w = at // SURPRISES
            number = numbers[w]
            self.total[at] += sums[at]
            sums[at] -= number * self.tolerated[at]
            self.tolerated[at] *= max(1.0 - number / REMEMBERED, 0.0)
            self.surplus[at] = min(max(self.surplus[at] + sums[at] - number * self.margin, 0.0),
                                   MOST_SUM)
            if self.surplus[at] > SUSPICIOUS_SUM / (1 + (before >> w & 1)) or (
                    self.in_batch and sums[at] > SUSPICIOUS_MEAN * sqrt(
                        number * (1.0 + number / self.sampled))):
                self.alarmed |= 1 << w
        if before and self.alarmed == 0:
            self.forget_checks()
        return self.alarmed

    cdef bint is_suspect(self, const float *told) noexcept nogil:
        cdef int w
        for w in range(WITNESSES):
            if self.alarmed >> w & 1 and told[w] > self.of_witness[w, 0]:
                return True
        return False

    cdef void forget_checks(self) noexcept nogil:
        memset(self.total, 0, sizeof(self.total))
        memset(self.of_group, 0, sizeof(self.of_group))

    cdef void decide(self) noexcept nogil:
        """Decide whether all queries together miss too much, so that suspects are to be answered
        exactly; then whether they do in spite of that, and all are to be."""
        cdef Checks *suspects = &self.of_group[0]
        cdef Checks *others = &self.of_group[1]
        cdef Checks *group = others if suspects.decided else suspects
        cdef double share = <double>suspects.seen / max(suspects.seen + others.seen, 1)
        cdef double error = 0.0, other_error = 0.0, mean = 1.0, other = 1.0, beyond
        cdef bint enough = group.checked >= CHECKED
        cdef int w
        if group.decided or not enough:
            return
        if group == suspects:
            mean = mean_of(suspects, &error)
            enough = self.others_left() == 0
        if others.checked and enough:
            other = mean_of(others, &other_error)
        else:  # no worse than those of the sample, at best
            for w in range(WITNESSES):
                if self.alarmed >> w & 1:
                    other = min(other, self.of_witness[w, 6])
        beyond = share * mean + (1.0 - share) * other - self.recall
        error, other_error = share * error, (1.0 - share) * other_error
        error = sqrt(error * error + other_error * other_error)
        group.decided = beyond < -DOUBT * error or (enough and (
            beyond > DOUBT * error or group.checked >= MOST_CHECKED))
        group.short = beyond < -0.5 * error  # chance isn't a loss

    cdef int64_t others_left(self) noexcept nogil:
        """How many others to check, too: of large batches half as many as suspects, or fewer where
        they are seldom seen; of small ones it would take too long."""
        cdef Checks *suspects = &self.of_group[0]
        cdef Checks *others = &self.of_group[1]
        cdef double share = <double>others.seen / max(suspects.seen, others.seen, <int64_t>1)
        if not self.in_batch:
            return 0
        return max(<int64_t>(0.5 * share * suspects.checked) - others.checked, <int64_t>0)

    cdef void decide_for_all(self) noexcept nogil:
        """Decide whether too little is found where nothing is surprising."""
        cdef Checks *checks = &self.of_all
        cdef double error, mean
        cdef bint short
        if checks.checked < CHECKED:
            return
        mean = mean_of(checks, &error)
        short = mean + (0.0 if checks.short else SURE * error) < self.recall - TOLERATED
        if short != checks.short:
            memset(checks, 0, sizeof(Checks))
            checks.short = short
        elif checks.checked >= MOST_OF_ALL:
            checks.checked //= 2
            checks.found *= 0.5
            checks.squares *= 0.5

    cdef int64_t left(self, int group) noexcept nogil:
        """How many of a group to check: suspects, or others; -1: all are to be answered exactly."""
        cdef Checks *checks = &self.of_group[group]
        if self.of_all.short:
            return -1
        if self.alarmed == 0:  # or they had found enough
            return self.due if group else 0
        if checks.decided:
            return -checks.short
        if not self.of_group[0].decided and (group or self.others_left() > 0):
            return self.others_left() if group else max(CHECKED - checks.checked, <int64_t>0)
        return MORE if checks.checked >= CHECKED else CHECKED - checks.checked

    def to_check(self, group):
        """The same for callers."""
        return self.left(group)

    @property
    def only_compares(self):
        """Whether nothing is surprising, so that checked queries keep their answers: the same calls
        give the same."""
        return self.alarmed == 0 and not self.of_all.short

    def every(self, n):
        """Of which of n queries at once to tell: one in so many."""
        return 1 if self.alarmed else max(n // LEAST_BATCH, 1)

    def is_surprised(self, const float[:, ::1] told, int64_t every):
        """Take what tells of one answer in `every` of a batch; return whether any witness is
        surprising."""
        cdef bint surprised = False
        if told.shape[1] != WITNESSES or every < 1:
            raise ValueError("there must be three numbers for each query")
        with cython.critical_section(self):
            if told.shape[0]:
                surprised = self.tell(&told[0, 0], (told.shape[0] - 1) // every + 1, every) != 0
        return surprised

    def groups(self, const float[:, ::1] told):
        """The numbers of suspects in a batch and of the others, by what tells of all answers."""
        cdef int64_t i, n = told.shape[0]
        suspects = np.zeros(n, np.bool_)
        cdef uint8_t[::1] marks = suspects.view(np.uint8)
        with cython.critical_section(self):
            self.count_unchecked(n, CHECKED)  # few at once take longer
            for i in range(n if self.alarmed else 0):
                marks[i] = self.is_suspect(&told[i, 0])
                self.of_group[not marks[i]].seen += 1
        return np.flatnonzero(suspects), np.flatnonzero(~suspects)

    def note(self, int group, recalls):
        """Note what checked queries of a group had found."""
        cdef int64_t n = len(recalls)
        cdef double found = recalls.sum(), squares = (recalls * recalls).sum()
        cdef Checks *checks = &self.of_group[group]
        cdef int at
        with cython.critical_section(self):
            if self.alarmed == 0 or self.of_all.short:
                checks = &self.of_all
                self.due = max(self.due - n, 0)
            elif checks.decided:
                return
            checks.checked += n
            checks.found += found
            checks.squares += squares
            if checks == &self.of_all:
                self.decide_for_all()
                return
            if self.of_group[0].decided:
                self.decide()
                return
            self.decide()
            if not self.of_group[0].decided:
                return
            for at in range(SURPRISES * WITNESSES):
                if not self.of_group[0].short:
                    self.surplus[at] = 0.0
                    self.tolerated[at] = max(self.tolerated[at], self.total[at] / max(
                        self.of_group[0].seen + self.of_group[1].seen, 1))
                elif self.alarmed >> at // SURPRISES & 1:
                    self.surplus[at] = MOST_SUM
            if not self.of_group[0].short:
                self.alarmed = 0
                self.forget_checks()

    cdef void count_unchecked(self, int64_t n, int64_t least) noexcept nogil:
        """Count n queries more; at least so many are checked at once."""
        if self.alarmed == 0:
            self.unchecked += n
            if self.unchecked >= least * self.one_in:
                self.due += self.unchecked // self.one_in
                self.unchecked %= self.one_in

    cdef bint tells_key(self, int64_t dim) noexcept nogil:
        """Whether to tell of the key of the next single query."""
        return self.alarmed != 0 or self.singles % max(dim // TOLD_COORDINATES, <int64_t>1) == 0

    cdef int take_one(self, const float *told) noexcept:
        """Take what tells of a single query; return its group if it is to be answered exactly, or
        -1."""
        cdef int group = 1
        with cython.critical_section(self):
            self.singles += 1
            if self.tell(told, 1, 1):
                group = not self.is_suspect(told)
                self.of_group[group].seen += 1
            self.count_unchecked(1, 1)
            if self.left(group) == 0:
                group = -1
        return group


cdef double mean_of(const Checks *checks, double *error) noexcept nogil:
    """The mean recall of what was checked, and its standard error."""
    cdef double n = checks.checked, mean = checks.found / n
    error[0] = sqrt(max(checks.squares / n - mean * mean, 0.0) / n)
    return mean
