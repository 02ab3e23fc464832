"""The judge: it counts what levels cost, and chooses those of the next block and of each query.

Levels are chosen by what they ruled out so far, counted in rows and never in time: the same search
goes the same way each time.
"""

cimport cython
from libc.math cimport INFINITY

from farann.native.kernels cimport *

cdef enum:
    LONGEST_PAUSE = 7  # turns of a pause, at most: blocks, tasks or single queries
    FEWEST_JUDGED = 256  # rows scanned before codes are judged, at least; or 16 k if that is more
    ALWAYS_PASS = 64  # rows a query, plus 6 k, whose passing the first judgment doesn't count
    # If more than one row in MANY_PASS passes by float32, float64 keys of all rows cost less: a row
    # that passes is listed and fetched again. Under l2 a key takes three operations a coordinate,
    # not one.
    MANY_PASS = 10
    MANY_PASS_L2 = 5
    MANY_PASS_ROW_MAJOR = 4  # as MANY_PASS, for unpacked rows, whose float64 keys take longer
    SOME_PASS = 32  # if more than one row in 32 passes, the query's ceiling is looked for
    # All first rows get exact keys if codes can't tell more than 1/FEW_ALIKE of them from the best.
    # Later rows may rule these out: such a row costs at most PASSES_AS_KEY coordinates of a key.
    FEW_ALIKE = 4
    PASSES_AS_KEY = 512

# Codes are given up if the rows that pass will cost more than codes save, but not before they lost
# a tenth of what they could save on all rows: a wrong guess costs a tenth, not a factor.
cdef double MOST_LOST = 0.1


cdef void note(Pause *pause, bint failed) noexcept nogil:
    """Begin a pause of `next` turns after a failure, and make the next pause longer.

    `next` is 0 after a success, and at first where a single failure has no pause.
    """
    pause.left = pause.next if failed else 0
    pause.next = min(2 * pause.next + 1, <int64_t>LONGEST_PAUSE) if failed else 0


cdef class CodeTrials:
    """Counts tasks for which codes didn't pay: the next ones begin without them.

    A count of tasks decides, so that the same searches scan the same rows each time. Answers don't
    depend on it. All threads share the count; of two that count at once, one may be lost.
    """

    def begin(self):
        """Whether the next task is to begin with codes."""
        return not rests(&self.pause)

    def note(self, bint gave_up):
        """Record whether a task that began with codes gave them up."""
        note(&self.pause, gave_up)


@cython.final
@cython.no_gc  # references between parts form no cycles
@cython.freelist(8)
cdef class Judge:
    """Says which levels pay: for all queries, and for each."""

    @staticmethod
    cdef Judge of(QueryBatch batch, Collector collector, CeilingBound ceilings, costs,
                  bint may_go_by_keys):
        cdef Judge self = Judge.__new__(Judge)
        self.batch, self.collector, self.ceilings = batch, collector, ceilings
        self.cost_passed, self.cost_refined, self.cost_reranked, self.cost_whole = costs
        self.may_go_by_keys = may_go_by_keys and uses(KEY_SCAN)
        self.packs = self.may_go_by_keys and batch.n_queries >= FEW_QUERIES
        self.by_keys = <bint *>batch.scratch.allocate(batch.n_queries, sizeof(bint))
        return self

    cdef void begin(self) noexcept nogil:
        """Reset the state to that before the first row."""
        self.codes_pay, self.n_alike = True, 0
        self.end_keys()

    cdef void begin_part(self) noexcept nogil:
        """Begin to count for the next part: the cost of rows before it is left out."""
        self.judged, self.next_look = 0, 0
        self.share_judged, self.lost, self.cost_judged = 0.0, 0.0, cost_so_far(self)

    # ---- exact keys of all rows, for queries whose k-th key many rows share ----

    cdef bint too_alike(self, int64_t i, int64_t n_selected, int64_t n) noexcept nogil:
        """Whether the scores of too many of the n first rows are too close to the best.

        Where a filter leaves out the best, many pass for that reason alone.
        """
        cdef int64_t passed = n_selected - self.batch.k
        if not (self.may_go_by_keys and self.batch.filter.is_open()
                and self.collector.found[i].predicted == -INFINITY):
            return False
        if not (passed * FEW_ALIKE > n and passed * PASSES_AS_KEY > n * self.batch.dim):
            return False
        self.n_alike += passed
        return True

    cdef bint too_many(self, int64_t i, int64_t passed, int64_t seen, int64_t n) noexcept nogil:
        """Whether too many of n rows passed, after `seen` others, so that keys of all cost less.

        In random order about n k / seen rows pass anyway.
        """
        if passed == 0 or seen < self.batch.k or not self.may_go_by_keys or (
                self.collector.found[i].predicted > -INFINITY):
            return False
        passed -= 2 * n * self.batch.k // seen
        if passed * SOME_PASS > n:
            self.ceilings.find(i)
        if few_of(self, passed, n):
            return False
        self.n_alike += passed
        return True

    cdef void take_by_keys(self, int64_t i) noexcept nogil:
        """Switch a query to exact keys from the next block on."""
        self.n_by_keys += not self.by_keys[i]
        self.by_keys[i] = True
        self.ceilings.find(i)

    cdef void met(self, int64_t i, int64_t near, int64_t n) noexcept nogil:
        """Switch a query back to rough scores if few of n rows came near its k-th key."""
        if not self.by_keys[i]:
            return
        self.n_alike += near
        if few_of(self, 2 * near, n):
            self.by_keys[i] = False
            self.n_by_keys -= 1

    cdef void end_keys(self) noexcept nogil:
        """Switch all queries back to rough scores."""
        cdef int64_t i
        self.n_by_keys = 0
        for i in range(self.batch.n_queries):
            self.by_keys[i] = False

    # ---- levels, for all queries ----

    cdef void look_at_codes(self, int64_t n, int64_t left, int64_t n_alive, bint by_norm,
                            bint all_coded) noexcept nogil:
        """Give codes up if the rows that will pass of the `left` ones cost too much.

        This is judged after n rows, and each time that n has doubled.
        """
        if not uses(COST_JUDGE):
            return
        self.next_look = 2 * n
        if n >= max(<int64_t>FEWEST_JUDGED, 16 * self.batch.k):
            self.codes_pay = not (will_cost_too_much(self, n, left, n_alive, by_norm)
                                  and all_coded)


cdef bint few_of(Judge judge, int64_t passed, int64_t n) noexcept nogil:
    """Whether rough scores cost less than exact keys if `passed` of n rows pass."""
    if not judge.packs and not judge.ceilings.integer_keys.may_be_exact():
        return passed * MANY_PASS_ROW_MAJOR <= n
    return passed * (MANY_PASS_L2 if judge.batch.metric == FARANN_L2 else MANY_PASS) <= n


cdef bint will_cost_too_much(Judge judge, int64_t n, int64_t left, int64_t n_alive,
                             bint by_norm) noexcept nogil:
    """Whether the rows that will pass cost more than codes save.

    About 6 k of the first 16 k rows pass in any case, until there is a good threshold; later
    about k pass whenever the number of scanned rows doubles. If codes serve, the share of other
    rows that pass halves at each doubling; if they don't, it stays the same.
    """
    cdef int64_t met = n - judge.judged, usual = judge.batch.k
    # Float32 would score all queries, codes score those that rows can still answer.
    cdef double idle = 1.0 - n_alive / <double>judge.batch.n_queries
    cdef double saved = left * (1.0 + judge.cost_whole * idle)
    cdef double cost = cost_so_far(judge), share, falls = 0.5, expected = 0.0
    cdef bint first = judge.judged == 0
    if first:
        # In the order of norms the first rows pass in any case.
        usual = n if by_norm else 6 * judge.batch.k + ALWAYS_PASS
    share = ((cost - judge.cost_judged) / judge.batch.n_queries
             - usual * (judge.cost_passed + judge.cost_reranked)) / met
    if judge.share_judged > 0.0:
        falls = min(max(share / judge.share_judged, falls), 1.0)
    judge.share_judged = 0.0 if first else share
    judge.judged, judge.cost_judged = n, cost
    judge.lost += (share - 1.0) * met
    if judge.lost <= MOST_LOST * (n + left):
        return False
    while left > 0:
        share *= falls
        expected += share * min(n, left)
        left -= n
        n *= 2
    return expected > saved


cdef double cost_so_far(Judge judge) noexcept nogil:
    """The cost of the rows that codes did not rule out."""
    return ((judge.batch.passed + judge.n_alike) * judge.cost_passed
            + judge.batch.refined * judge.cost_refined
            + (judge.batch.rescored + judge.n_alike) * judge.cost_reranked)
