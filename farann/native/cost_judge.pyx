"""Whether codes rule out enough rows to pay."""

cimport cython
from libc.stdint cimport int64_t

from farann.native.kernels cimport FEW_QUERIES
from farann.native.norm_pruning cimport NormPruning
from farann.native.process cimport COST_JUDGE, FUTILE_SEARCHES, uses
from farann.native.query_batch cimport QueryBatch

# Codes are given up if the rows that pass will cost more than 1.5 times what codes save.
cdef double SURELY = 1.5
# A search by codes was futile if the rows that passed cost over 2 times a float32 scan of all rows.
cdef double FAR_MORE = 2.0
# The cost of a passing row is multiplied by this if the k best are selected and the rows stay in
# caches. Measured: 64 queries, k = 100, 4,000 to 16,000 Gaussian rows, 8 to 100 dimensions.
cdef double SELECTED = 0.2

cdef enum:
    ALWAYS_PASS = 64  # rows a query that pass before the first judgment for free, beside k or 6 k
    FEW_COORDINATES = 1 << 21  # rows times dim up to which rows stay in caches: 8 MB of float32


@cython.no_gc  # what parts refer to never refers to them
@cython.freelist(8)
cdef class CostJudge:
    """What rows that codes did not rule out have cost, and will."""

    @staticmethod
    cdef CostJudge of(QueryBatch batch, NormPruning pruning, costs, bint selects):
        """`selects`: the best of many are selected among those that passed."""
        cdef CostJudge self = CostJudge.__new__(CostJudge)
        self.batch, self.pruning = batch, pruning
        self.cost_passed, self.cost_refined, self.cost_rescored, self.cost_whole = costs
        self.few_rows = (batch.n_queries >= FEW_QUERIES
                         and batch.filter.n_rows * batch.dim <= FEW_COORDINATES)
        self.selected = selects and self.few_rows
        if self.selected:
            self.cost_passed *= SELECTED
        return self

    cdef void begin(self) noexcept nogil:
        """Judge rows from here on, and not what those before have cost."""
        self.judged, self.n_scored = 0, 0
        self.share_judged, self.cost_judged = 0.0, self.cost_so_far()

    cdef bint can_judge(self, int64_t start) noexcept nogil:
        """Whether enough rows were scanned to tell, or all of them had scores."""
        return uses(COST_JUDGE) and (start >= max(<int64_t>FEWEST_JUDGED, 16 * self.batch.k) or (
            start == self.n_scored > 0))

    cdef bint will_cost_too_much(self, int64_t start, int64_t left) noexcept nogil:
        """Whether rows that codes let pass of those that are left will cost more than codes save.

        About 6 k of the first 16 k rows pass in any case, until there is a good threshold; later
        about k pass whenever the number of scanned rows doubles. If the first rows are all scored
        before a threshold is chosen, k of them pass. If codes serve, the share of other rows that
        pass halves at each doubling; if they don't, it stays the same.
        """
        cdef int64_t n = start - self.judged, usual = self.batch.k
        # Float32 would score all queries, codes score those that rows can still answer.
        cdef double idle = 1.0 - self.pruning.n_active / <double>self.batch.n_queries
        cdef double saved = left * (1.0 + self.cost_whole * idle)
        cdef double cost = self.cost_so_far(), share, falls = 0.5, expected = 0.0
        cdef bint first = self.judged == 0, scored = first and start == self.n_scored
        if scored:
            usual = self.batch.k + ALWAYS_PASS
        elif first:
            # In the order of norms the first rows pass in any case.
            usual = start if self.pruning.by_norm else 6 * self.batch.k + ALWAYS_PASS
        share = ((cost - self.cost_judged) / self.batch.n_queries
                 - usual * (self.cost_passed + self.cost_rescored)) / n
        if self.share_judged > 0.0:
            falls = min(max(share / self.share_judged, falls), 1.0)
        self.share_judged = share if scored or not first else 0.0
        self.judged, self.cost_judged = start, cost
        if share <= 0.0 or not self.pruning.all_are_coded() or (scored and self.pruning.by_norm):
            return False
        n = start
        while left > 0:
            share *= falls
            expected += share * min(n, left)
            left -= n
            n *= 2
        return expected > SURELY * saved

    cdef bint was_futile(self) noexcept nogil:
        """Whether a search of few rows by codes cost far more than one in float32, where k pass."""
        cdef int64_t n = self.batch.n_queries, usual = n * self.batch.k, i
        cdef int64_t rescored = self.batch.rescored + self.batch.alike - usual
        cdef double scanned = self.batch.scanned, left_out = n * self.batch.filter.n_rows - scanned
        cdef double cost = self.batch.refined * self.cost_refined
        for i in range(n):
            rescored += self.batch.queries[i].candidates.count
        cost += max(rescored, 0) * self.cost_rescored
        if self.selected:  # otherwise the cost of one is less well known
            cost += max(self.batch.passed + self.batch.alike - usual, 0) * self.cost_passed
        return uses(FUTILE_SEARCHES) and self.few_rows and cost > FAR_MORE * (
            scanned + max(left_out, 0.0) * (1.0 + self.cost_whole))

    cdef double cost_so_far(self) noexcept nogil:
        """What rows that codes did not rule out have cost."""
        return ((self.batch.passed + self.batch.alike) * self.cost_passed
                + self.batch.refined * self.cost_refined
                + (self.batch.rescored + self.batch.alike) * self.cost_rescored)
