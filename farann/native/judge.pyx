"""The judge: it counts what levels cost, and chooses those of the next block and of each query.

Levels are chosen by what they ruled out so far, counted in rows and never in time: the same search
goes the same way each time.
"""

cimport cython
from libc.math cimport INFINITY, log
from libc.string cimport memset

from farann.native.kernels cimport *

cdef enum:
    CACHED = 1 << 20  # coordinates of rows in float32 that the caches hold
    PACKED_FOR = 6  # queries from which rows are packed for exact keys: fewer don't pay for that
    LONGEST_PAUSE = 7  # turns of a pause, at most: blocks, tasks or single queries
    FEWEST_JUDGED = 256  # rows scanned before codes are judged, at least; or 16 k if that is more
    ALWAYS_PASS = 64  # rows a query, plus 6 k, whose passing the first judgment doesn't count
    # If more than one row in MANY_PASS passes by float32, float64 keys of all rows cost less: a row
    # that passes is listed and fetched again. Under l2 a key takes three operations a coordinate,
    # not one.
    MANY_PASS = 10
    MANY_PASS_L2 = 5
    MANY_PASS_ROW_MAJOR = 4  # as MANY_PASS, for unpacked rows, whose float64 keys take longer
    # Codes of which fewer than one row in LEAST_DEAR passes keep a block. Batches of 1,000 on 16,000
    # rows in 1,536 dimensions took 1.2 times as long with one in 10.
    LEAST_DEAR = 5
    # Where no query reads float32 yet, one in 16 is expected to with the first: of a million patches
    # of photographs, 16 dimensions, one in 10 to 16 did.
    CLIMB_TOGETHER = 16
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

    @property
    def pauses(self):
        """Whether the next task is to begin without codes."""
        return self.pause.left != 0

    def begin(self):
        """Whether this task is to begin with codes."""
        return not rests(&self.pause)

    def note(self, bint lost):
        """Record whether a task that began with codes lost by them."""
        note(&self.pause, lost)


@cython.final
@cython.no_gc  # references between parts form no cycles
@cython.freelist(8)
cdef class Judge:
    """Says for each query which rung of a part's ladder scores its next block.

    A level refuses a block for a query that too many rows pass for; the next rung scores it then.
    Codes have another try when the rows scanned have doubled, unless they were given up.
    """

    @staticmethod
    cdef Judge of(QueryBatch batch, Collector collector, CeilingBound ceilings, costs,
                  bint goes_by_keys):
        cdef Judge self = Judge.__new__(Judge)
        self.batch, self.collector, self.ceilings = batch, collector, ceilings
        if uses(COST_JUDGE):
            (self.cost_passed, self.cost_refined, self.cost_reranked, self.cost_packed,
             self.cost_alone, self.cost_in_order) = costs
        self.counts = self.cost_passed + self.cost_refined + self.cost_reranked > 0.0
        self.goes_by_keys = goes_by_keys and uses(KEY_SCAN)
        self.packs = self.goes_by_keys and batch.n_queries >= PACKED_FOR
        self.accounts = <Account *>batch.scratch.allocate(batch.n_queries, sizeof(Account))
        return self

    cdef void begin(self) noexcept nogil:
        """Reset the state to that before the first row."""
        cdef int64_t i
        self.paid, self.coded = 0.0, 0
        self.extra = row_cost(self, max(self.batch.n_queries // CLIMB_TOGETHER, <int64_t>1),
                              self.cost_in_order)
        memset(self.accounts, 0, self.batch.n_queries * sizeof(Account))
        for i in range(self.batch.n_queries if self.leader is not None else 0):
            self.accounts[i].rung = self.leader.accounts[i].rung
            self.accounts[i].back = self.leader.accounts[i].back

    cdef void begin_part(self) noexcept nogil:
        """Begin to count for the next part: the cost of rows before it is left out."""
        cdef int64_t i
        cdef Account *account
        self.next_look = self.next_doubling = 0
        self.trying = self.leaves = False
        for i in range(self.batch.n_queries):
            account = &self.accounts[i]
            account.rows = account.scanned = 0
            account.tries = False
            account.spent = account.lost = account.share = account.expected = 0.0

    # ---- blocks that a level refuses ----

    cdef bint too_alike(self, int64_t i, int64_t n_selected, int64_t n) noexcept nogil:
        """Whether the scores of too many of the n first rows are too close to the best.

        Where a filter leaves out the best, many pass for that reason alone.
        """
        cdef int64_t passed = n_selected - self.batch.k
        return (self.goes_by_keys and key_scan_pays(self, n_selected, n)
                and self.batch.filter.is_open()
                and self.collector.answers[i].predicted == -INFINITY
                and passed * FEW_ALIKE > n and passed * PASSES_AS_KEY > n * self.batch.dim)

    cdef bint too_many(self, int64_t i, int64_t passed, int64_t seen, int64_t n) noexcept nogil:
        """Whether too many of n rows passed, after `seen` others, so that keys of all cost less.

        In random order about n k / seen rows pass anyway.
        """
        cdef bint pays = key_scan_pays(self, passed, n)
        if passed == 0 or seen < self.batch.k or not self.goes_by_keys or (
                self.collector.answers[i].predicted > -INFINITY):
            return False
        passed -= 2 * n * self.batch.k // seen
        if passed * SOME_PASS > n:
            self.ceilings.find(i)
        return pays and not few_of(self, passed, n)

    cdef bint dear(self, int64_t passed, int64_t n, bint narrows) noexcept nogil:
        """Whether n rows cost less in float32 than the codes of which so many pass."""
        cdef double cost = self.cost_refined if narrows else self.cost_passed + self.cost_reranked
        return passed * LEAST_DEAR >= n and passed * cost >= self.extra * n

    cdef void climb(self, int64_t i, int rung, bint stays) noexcept nogil:
        """A block is scored by a higher rung; so are the next ones if the query `stays` there.

        It doesn't leave codes for float32 where their costs are counted: rows that are alike lie
        together, so that one block tells little of others. What it cost counts at the next look.
        """
        cdef Account *account = &self.accounts[i]
        cdef bint by_codes = self.counts and account.rung == CODES and not account.tries
        if rung == KEYS and self.goes_by_keys:
            self.ceilings.find(i)
        if rung == FLOAT32 and by_codes:
            return
        if stays and (self.goes_by_keys or rung < KEYS):
            account.back = CODES if by_codes else FLOAT32
            account.rung, account.tries = rung, False

    cdef void met(self, int64_t i, int64_t near, int64_t n) noexcept nogil:
        """Switch a query back from exact keys if few of n rows came near its k-th key."""
        if self.accounts[i].rung == KEYS and few_of(self, 2 * near, n):
            self.accounts[i].rung = self.accounts[i].back

    # ---- codes, by the cost of the rows that they let pass ----

    cdef void charge(self, int64_t i, int64_t n, int64_t passed, int64_t refined,
                     int64_t reranked) noexcept nogil:
        """Count n rows that codes scored for a query, and the cost of those not ruled out."""
        cdef double cost = (passed * self.cost_passed + refined * self.cost_refined
                            + reranked * self.cost_reranked)
        self.accounts[i].scanned += n
        self.accounts[i].spent += cost
        self.coded += n
        self.paid += cost

    cdef void pay_for_keys(self, int64_t n) noexcept nogil:
        self.paid += n * self.cost_reranked

    cdef bint lost(self, int64_t n_rows, bint in_order) noexcept nogil:
        """Whether float32 would have cost less for n_rows in all, where no single look found that;
        `in_order`: it, too, would have read them in an order that may end.

        Of rows in any order the i-th passes with a chance of k in i, by whatever level. Few rows
        are all scanned in float32, where norms end a scan of their codes. In order float32 takes
        about twice what its rows cost, as it reads whole blocks.
        """
        cdef int64_t k = self.batch.k, n = self.batch.n_queries
        cdef int64_t otherwise = max(self.coded, n * n_rows if n_rows < MANY_IN_ORDER else 0)
        cdef double rows = <double>self.coded / n, passed = k * (1.0 + log(max(rows / k, 1.0)))
        cdef double extra = row_cost(self, n, self.cost_in_order if in_order else 0.0)
        return self.paid - n * (passed * self.cost_passed + k * self.cost_reranked) > (
            extra * otherwise * (2.0 if in_order else 1.0))

    cdef bint look(self, const int64_t *members, int64_t n_members, int64_t n, int64_t left,
                   Bound order, int64_t at) noexcept nogil:
        """Give codes up for queries that float32 serves better in the `left` rows; let those that go
        without them try them again. Return whether none goes by them, as they are of no use to all.

        This is judged after n rows, each time that n has doubled. A block later it is for those
        that try. `order`: the bound that may end the scan, whose rows go on at `at`; or None.
        """
        cdef int64_t j, n_float32 = n_members, n_by_codes = 0, shared = 0
        cdef double lost = 0.0, best = 0.0, of_all = n_members + self.cost_packed
        cdef bint doubled = n >= self.next_doubling, in_order = order is not None, of_no_use, leaves
        cdef Account *account
        if n < max(<int64_t>FEWEST_JUDGED, 16 * self.batch.k):
            self.next_look = self.next_doubling = 2 * n
            return False
        for j in range(n_members):
            account = &self.accounts[members[j]]
            if account.scanned and (doubled or account.tries):
                predict_cost(self, account, n, left, in_order)
        while n_float32 > 0 and n_float32 != shared:
            # The fewer queries share packed rows, the more does float32 cost each.
            shared, n_float32 = n_float32, 0
            self.extra = row_cost(self, shared, self.cost_in_order)
            for j in range(n_members):
                account = &self.accounts[members[j]]
                n_float32 += account.rung == FLOAT32 or too_costly(account, self.extra, n, left)
        if n_float32 == 0:
            self.extra = row_cost(self, max(n_members // CLIMB_TOGETHER, <int64_t>1),
                                  self.cost_in_order)
        for j in range(n_members):
            account = &self.accounts[members[j]]
            lost += account.lost
            best += max(min(account.expected, self.extra * left), 0.0)
        of_no_use = (left > 0 and best >= of_all * left
                     and lost > of_all * (n + MOST_LOST * (n + left)))
        leaves = of_no_use and not (
            in_order and self.order_pays(order, at, members, n_members, n, left))
        if doubled:
            self.next_doubling = 2 * n
        self.next_look, self.trying, self.leaves = self.next_doubling, False, leaves
        for j in range(n_members):
            account = &self.accounts[members[j]]
            if account.rung == CODES and (doubled or account.tries or leaves):
                account.tries = False
                if leaves or too_costly(account, self.extra, n, left):
                    # Rough scores by codes have larger errors; the candidates get exact keys.
                    self.collector.settle(members[j])
                    account.rung = FLOAT32
            elif CODES < account.rung < KEYS and doubled and not leaves:
                account.rung, account.tries, self.trying = CODES, True, True
                self.next_look = n + 1
            n_by_codes += account.rung == CODES
        return of_no_use and n_by_codes == 0

    cdef void look_at_order(self, Bound order, int64_t at, const int64_t *members,
                            int64_t n_members, int64_t n, int64_t left) noexcept nogil:
        """Where there are no codes, see whether rows are to be read in the order of memory."""
        self.next_look = 2 * n
        self.leaves = not self.order_pays(order, at, members, n_members, n, left)

    cdef bint order_pays(self, Bound order, int64_t at, const int64_t *members, int64_t n_members,
                         int64_t n, int64_t left) noexcept nogil:
        """Whether queries in float32 read less of the `left` rows after n in an order that may end
        than it takes longer to read rows out of the order of memory; few rows are in the caches."""
        if (not self.counts or (n + left) * self.batch.dim < CACHED
                or n < max(<int64_t>FEWEST_JUDGED, 16 * self.batch.k)):
            return True
        return (order.n_within(at, members, n_members, self.collector)
                * row_cost(self, n_members, self.cost_in_order)
                <= n_members * left * row_cost(self, n_members, 0.0))


cdef double row_cost(Judge judge, int64_t shared, double reading) noexcept nogil:
    """The same, if it takes `reading` longer to read than in the order of memory."""
    return 1.0 + min((judge.cost_packed + reading) / shared, judge.cost_alone + reading)


cdef bint key_scan_pays(Judge judge, int64_t passed, int64_t n) noexcept nogil:
    """Whether queries of so many results may go by exact keys of blocks, if `passed` of n rows pass.

    Rows of which most tie with the k-th would join the list and get keys as well.
    """
    return judge.batch.k <= MOST_FOR_KEYS or 10 * passed > 9 * n


cdef bint few_of(Judge judge, int64_t passed, int64_t n) noexcept nogil:
    """Whether rough scores cost less than exact keys if `passed` of n rows pass."""
    if not judge.packs and not judge.ceilings.integer_keys.may_be_exact():
        return passed * MANY_PASS_ROW_MAJOR <= n
    return passed * (MANY_PASS_L2 if judge.batch.traits.squared else MANY_PASS) <= n


cdef void predict_cost(Judge judge, Account *account, int64_t n, int64_t left,
                       bint in_order) noexcept nogil:
    """Compute what the rows that will pass by codes cost a query, and would have cost so far.

    About 6 k of the first 16 k rows pass in any case, until there is a good threshold; later
    about k pass whenever the number of scanned rows doubles. If codes serve, the share of other
    rows that pass halves at each doubling; if they don't, it stays the same. Of rows that codes did
    not score, others would have passed as of those that they did.
    """
    cdef int64_t rows = n - account.rows, usual = judge.batch.k
    cdef double share, falls = 0.5
    cdef bint first = account.rows == 0
    if first:
        usual = 6 * judge.batch.k + ALWAYS_PASS
    share = (account.spent / account.scanned
             - usual * (judge.cost_passed + judge.cost_reranked) / rows)
    if first and in_order:
        share = 0.0  # in the order of norms the first rows pass in any case
    if account.share > 0.0:
        falls = min(max(share / account.share, falls), 1.0)
    account.lost += share * rows
    account.rows, account.share = n, 0.0 if first else share
    account.spent, account.scanned, account.expected = 0.0, 0, 0.0
    while left > 0:
        share *= falls
        account.expected += share * min(n, left)
        left -= n
        n *= 2


cdef bint too_costly(const Account *account, double extra, int64_t n, int64_t left) noexcept nogil:
    """Whether codes are to be given up for a query, if float32 costs `extra` more a row.

    A wrong guess costs a share of what codes could save, not a factor.
    """
    return (account.lost - extra * account.rows > MOST_LOST * extra * (n + left)
            and account.expected > extra * left)
