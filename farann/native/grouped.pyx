"""Collector of the k best rows of each query of which at most some share a group."""

cimport cython
from libc.math cimport INFINITY, nextafterf

from farann.native.collector cimport Answer, Collector, at_least
from farann.native.kernels cimport *

cdef enum:
    SELECTED = 4  # first rows that are tried, as a multiple of k: some of them share groups


@cython.final
@cython.no_gc  # references between parts form no cycles
cdef class GroupedCollector(Collector):
    """Collects the k best rows of which at most `per_group` share a group; `by_slot` has the groups.

    They are those that are taken greedily in the order of keys: of all sets of k rows that keep the
    limit, the one whose last row has the largest key. The last of any such set is a threshold,
    also by rough scores. A row of the answer is in that of each part of the rows that holds it:
    those that rule it out there, `per_group` of its group or k, do so among all.
    """

    cdef const int32_t[::1] by_slot
    cdef int64_t per_group
    cdef int32_t *groups        # of the entries of `top`, query after query, and of `floors`
    # By query, and one to try rows with: such rows by the least keys that rough scores leave them.
    cdef farann_topk *floors

    def __init__(self, int64_t k, int64_t per_group, const int32_t[::1] by_slot):
        Collector.__init__(self, k)
        self.per_group, self.by_slot = per_group, by_slot

    cdef allocate_answers(self):
        cdef int64_t i, n = self.batch.n_queries, k = self.batch.k
        cdef farann_entry *entries
        if self.per_group < 1 or self.by_slot.shape[0] < self.batch.snapshot.n_slots:
            raise ValueError("each row must have a group, of which some rows may be found")
        self.capacity += 4 * k
        entries = <farann_entry *>self.batch.scratch.allocate((2 * n + 1) * k, sizeof(farann_entry))
        self.groups = <int32_t *>self.batch.scratch.allocate((2 * n + 1) * k, sizeof(int32_t))
        self.floors = <farann_topk *>self.batch.scratch.allocate(n + 1, sizeof(farann_topk))
        for i in range(n):
            self.answers[i].top.entries, self.answers[i].top.capacity = entries + i * k, k
        for i in range(n + 1):
            self.floors[i].entries, self.floors[i].capacity = entries + (n + i) * k, k

    cdef farann_grouped by_group(self, int64_t i) noexcept nogil:
        """The rows of a query by exact keys."""
        return farann_grouped(&self.answers[i].top, self.groups + i * self.batch.k, self.per_group)

    cdef farann_grouped roughly(self, int64_t i) noexcept nogil:
        """The rows of a query by their floors; those of query n are for trials."""
        return farann_grouped(&self.floors[i], self.groups + (self.batch.n_queries + i)
                              * self.batch.k, self.per_group)

    cdef void forget(self, int64_t i) noexcept nogil:
        Collector.forget(self, i)
        self.floors[i].count = 0

    cdef bint has_k_rows(self, int64_t i) noexcept nogil:
        return max(self.answers[i].top.count, self.floors[i].count) == self.batch.k

    cdef void select(self, int64_t j, int64_t i, const float *scores, int64_t n,
                     const farann_block *where) noexcept nogil:
        """Append those of the first rows that may belong to the answer: all, unless k of the best
        4 k keep the limit."""
        cdef farann_candidates *list = &self.tile[j]
        cdef int64_t before = list.count, at, trial = self.batch.n_queries
        cdef float floor = self.float_bar(i)
        if floor == -INFINITY:
            floor = at_least(self, SELECTED * self.batch.k, scores, n)
            self.batch.kernels.select_f32(
                scores, n, nextafterf(<float>(floor - 2.0 * self.answers[i].slack), -INFINITY),
                list)
            farann_candidates_drop(list, before, where, &self.batch.queries[i].filter)
            self.floors[trial].count = 0
            for at in range(before, list.count if floor > -INFINITY else before):
                if list.scores[at] >= floor:
                    farann_grouped_push(self.roughly(trial),
                                        farann_entry(list.scores[at], list.slots[at]),
                                        self.by_slot[farann_slot_of(where, list.slots[at])])
            if floor == -INFINITY or self.floors[trial].count == self.batch.k:
                return
            list.count, floor = before, -INFINITY
        self.batch.kernels.select_f32(scores, n, floor, list)

    cdef void take_passed(self, int64_t i, int64_t before,
                          const farann_block *where) noexcept nogil:
        """Make slots of rows appended from `before` on, and keep those that may be taken."""
        cdef Answer *answer = &self.answers[i]
        farann_candidates_admit(&answer.passed, before, where, &self.batch.queries[i].filter,
                                &answer.best, 0.0, INFINITY, INFINITY)
        farann_grouped_admit(&answer.passed, before, &self.by_slot[0], self.roughly(i),
                             answer.slack)
        if self.floors[i].count == self.batch.k:
            self.raise_threshold(i, self.floors[i].entries[self.batch.k - 1].key)

    cdef double keep_best(self, int64_t i) noexcept nogil:
        cdef Answer *answer = &self.answers[i]
        cdef double least
        if self.floors[i].count < self.batch.k:
            return INFINITY
        least = self.floors[i].entries[self.batch.k - 1].key
        farann_candidates_split(&answer.passed, least - answer.slack, INFINITY)
        return least + answer.slack

    cdef const farann_entry *kth(self, int64_t i) noexcept nogil:
        cdef const farann_topk *top = &self.answers[i].top
        return &top.entries[top.count - 1] if top.count == top.capacity else NULL

    cdef void take(self, int64_t i, const double *keys, const int64_t *rows, int64_t n,
                   const farann_block *where, const farann_filter *filter) noexcept nogil:
        farann_grouped_push_rows(self.by_group(i), &self.by_slot[0], keys, rows, n, self.batch.sign,
                                 where, filter)
        self.raise_to_kth(i)

    cdef absorb(self, int64_t i, list others):
        cdef GroupedCollector other
        cdef int64_t j
        for other in others:
            for j in range(other.answers[i].top.count):
                farann_grouped_push(self.by_group(i), other.answers[i].top.entries[j],
                                    other.by_group(i).groups[j])
