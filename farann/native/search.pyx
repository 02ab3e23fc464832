"""The loop of all searches, from the first row to the answer.

A search scans its parts one after the other. A part has a source of rows, bounds and levels:

    Source      yields blocks of rows: of the base, of partitions, of added rows
    Bound       rules out queries that a block can't answer, or all from there on
    Level       scores a block for a tile of queries: by codes, in float32, by exact keys
    Collector   keeps the rows that pass, and owns the thresholds
    Judge       chooses the level that pays, by the rows that levels have ruled out

`task` and `sets` choose the parts of a search.
"""

cimport cython
from libc.math cimport INFINITY
from libc.string cimport memcpy

from farann.native.collector cimport n_new
from farann.native.judge cimport CODES, FLOAT32, KEYS
from farann.native.kernels cimport *
from farann.native.sources cimport piece

@cython.final
cdef class Part:
    """Rows of one source, for the queries that have codes there, for the others, or for all."""

    cdef take(self, Level level):
        """Add a level to the ladder."""
        self.owned.append(level)
        self.levels[level.rung] = <void *>level

    cdef bind(self, Bound bound):
        """Add a bound."""
        if self.n_bounds == MOST_BOUNDS:
            raise ValueError("a part has too many bounds")
        self.owned.append(bound)
        self.bounds[self.n_bounds] = <void *>bound
        self.n_bounds += 1
        if bound.from_here_on:
            self.order = bound

    cdef int64_t keep_open(self, bint from_here_on, const Block *block, int64_t *members,
                            int64_t n, Collector collector) noexcept nogil:
        """Move the members that a block can answer to the front, by the bounds that hold for it
        alone, or by those that hold from there on; return how many they are."""
        cdef int b
        for b in range(self.n_bounds):
            if n > 0 and (<Bound>self.bounds[b]).from_here_on == from_here_on:
                n = (<Bound>self.bounds[b]).keep_open(block, members, n, collector)
        return n

    cdef void *at(self, int rung) noexcept nogil:
        """The level at a rung, or the next one below; if there is none, the lowest."""
        while rung > 0 and self.levels[rung] == NULL:
            rung -= 1
        while self.levels[rung] == NULL:
            rung += 1
        return self.levels[rung]

    cdef void *of_block(self, int rung, const Block *block) noexcept nogil:
        """The level at a rung for a block."""
        if rung == CODES and self.whole is not None and block.start < self.source.codes.n_hubs:
            return <void *>self.whole
        return self.levels[rung]

    cdef void begin_query(self, int64_t i) noexcept nogil:
        """Query i was prepared."""
        cdef int rung, b
        for b in range(self.n_bounds):
            (<Bound>self.bounds[b]).forget(i)
        for rung in range(N_RUNGS):
            if self.levels[rung] != NULL:
                (<Level>self.levels[rung]).begin_query(i)
        if self.whole is not None:
            self.whole.begin_query(i)


cdef class Search:
    """Some queries and the parts of their search: `run` answers them."""

    # ---- the parts of a search ----

    cdef make_room(self):
        """Make room for lists of queries."""
        cdef int64_t n = self.batch.n_queries
        self.owned = []
        self.asking = <int64_t *>self.batch.scratch.allocate(5 * n, sizeof(int64_t))
        self.in_part, self.open = self.asking + n, self.asking + 2 * n
        self.scored, self.rungs = self.asking + 3 * n, self.asking + 4 * n

    cdef Part add(self, Source source, ladder, CodedQueries coded=None, bint usable=True):
        """Add a part: rows of a source, for queries that have codes there, or for the others.

        `ladder`: its levels, of which the judge chooses one for each query and block.
        """
        cdef Part part = Part()
        part.source, part.owned = source, []
        part.bind(self.judge.ceilings)
        for level in ladder:
            part.take(level)
        part.coded, part.usable = coded, usable
        if self.n_parts == MOST_PARTS:
            raise ValueError("a search has too many parts")
        self.owned.append(part)
        self.parts[self.n_parts] = <void *>part
        self.n_parts += 1
        return part

    cdef prepare(self):
        """Compute the values that are derived from queries, before the search."""
        cdef uint64_t before
        with nogil:
            before = farann_arithmetic_begin()
            prepare_queries(self)
            farann_arithmetic_end(before)
        self.batch.check_cancelled()

    # ---- the loop ----

    def run(self):
        """Find the answers; the GIL is released meanwhile."""
        cdef uint64_t before
        with nogil:
            before = farann_arithmetic_begin()
            self.answer()
            farann_arithmetic_end(before)
        self.check_finished()

    def did(self):
        """The fields of `SearchStats` but for the number of queries."""
        return self.batch.counts()

    @cython.final
    cdef void answer(self) noexcept nogil:
        """Find the answers, between the calls that begin and end arithmetic."""
        cdef int s
        cdef int64_t i, before, n_rows = 0
        cdef bint in_order = False
        self.batch.kernels.begin()
        self.judge.begin()
        self.gave_up = self.leaves = self.all_rows = self.ended = False
        self.all_ask()
        for s in range(self.n_parts):
            (<Part>self.parts[s]).source.foresee()
        while self.n_asking > 0:  # a round
            self.n_seen = 0
            for s in range(self.n_base):
                scan_part(self, <Part>self.parts[s])
            self.n_asking = ask_again(self)
        self.all_ask()
        for i in range(self.batch.n_queries if self.kth_keys != NULL else 0):
            self.kth_keys[i] = self.collector.kth_so_far(i)
        self.all_rows = not self.collector.all_have_k_rows()
        for s in range(self.n_base, self.n_parts):
            scan_part(self, <Part>self.parts[s])
        for s in range(self.n_base):
            n_rows = max(n_rows, (<Part>self.parts[s]).source.count)
            in_order = in_order or (<Part>self.parts[s]).order is not None
        self.batch.kernels.end()
        before = self.batch.rescored
        self.collector.finish()
        self.judge.pay_for_keys(self.batch.rescored - before)
        self.lost = self.gave_up or self.judge.lost(n_rows, in_order)

    @cython.final
    cdef void all_ask(self) noexcept nogil:
        cdef int64_t i
        self.n_asking = self.batch.n_queries
        for i in range(self.n_asking):
            self.asking[i] = i

    cdef check_finished(self):
        self.batch.check_cancelled()
        if self.batch.scratch.failed:
            if self.approximate:
                raise MemoryError("no memory for the list of cells to visit; ask fewer queries at "
                                  "once")
            raise MemoryError("no memory for the rows that were found; ask for fewer")

    cdef void begin_again(self, const float *vectors, int64_t n) noexcept nogil:
        """Replace the queries of this search by n others, one after the other, and prepare these."""
        self.batch.begin_again(vectors, n)
        self.batch.scratch.failed = False
        prepare_queries(self)


cdef void prepare_queries(Search search) noexcept nogil:
    cdef int64_t i
    cdef int s
    for i in range(search.batch.n_queries):
        if search.batch.cancelled():
            return
        search.batch.find_query_vector(i)
        search.collector.forget(i)
        if search.coded_added is not None:
            search.coded_added.encode(i)
            search.batch.find_query_vector(i)
        if search.coded is not None:
            search.coded.encode(i)
            if search.means is not None:
                search.means.encode(i)
        for s in range(search.n_parts):
            (<Part>search.parts[s]).begin_query(i)
    if search.coded_added is not None:
        search.coded_added.make_tiles()
    if search.coded is not None:
        search.coded.make_tiles()


cdef bint stopped(Search search) noexcept nogil:
    """Whether the search must stop: it was canceled, or its time is over."""
    if farann_is_up(search.batch.given_up):
        return True
    return (search.batch.end_time < INFINITY and search.batch.time_to_look()
            and farann_seconds() >= search.batch.end_time and search.collector.all_have_k_rows())


cdef int64_t ask_again(Search search) noexcept nogil:
    """List the queries that start over: a prediction failed, or fewer than k rows were found."""
    cdef int64_t n
    if not search.approximate or search.all_rows or search.coded is None or search.ended:
        return 0
    n = search.collector.forget_unkept(search.asking)
    if n:
        return n
    if search.lateness is not None and not search.extends:
        search.lateness.tell()
    search.all_rows = True
    return search.collector.forget_short(search.asking)


cdef void scan_part(Search search, Part part) noexcept nogil:
    """The scan: a block, the queries it can answer, their scores, the rows that pass."""
    cdef Block block
    cdef int64_t n_in_part = asking_for(search, part)
    cdef void *level
    if n_in_part == 0 or (search.gave_up and search.leads):
        return
    part.source.begin(search.asking, search.n_asking, search.all_rows)
    search.judge.begin_part()
    while not search.ended:
        level = part.at(lowest_rung(search, n_in_part))
        if not part.source.next(&block, (<Level>level).most_after(
                search.n_seen + part.source.done)):
            break
        if block.members != NULL:
            scan_block(search, part, <Level>level, block, block.members, block.n_members)
            continue
        if block.begins:
            n_in_part = asking_for(search, part)
        n_in_part = part.keep_open(True, &block, search.in_part, n_in_part, search.collector)
        if n_in_part == 0:
            part.source.skip()
            continue
        scan_open(search, part, &block, n_in_part)
        judge_block(search, part, &block, n_in_part)
        if search.gave_up and search.leads:
            return
    search.n_seen += part.source.done


cdef int64_t asking_for(Search search, Part part) noexcept nogil:
    """List the queries that ask, and that the part is for; return their number."""
    cdef int64_t j, i, n = 0
    for j in range(search.n_asking):
        i = search.asking[j]
        search.in_part[n] = i
        n += part.coded is None or part.coded.of[i].usable == part.usable
    return n


cdef int lowest_rung(Search search, int64_t n_in_part) noexcept nogil:
    """The lowest rung of all queries: its level says how long the next block may be."""
    cdef int lowest = FLOAT32
    cdef int64_t j
    for j in range(n_in_part):
        lowest = min(lowest, search.judge.accounts[search.in_part[j]].rung)
        if lowest == CODES:  # as of the first query, mostly
            break
    return lowest


cdef void scan_open(Search search, Part part, const Block *block, int64_t n_in_part) noexcept nogil:
    """Scan a block for the queries that it can answer, each by the level at its rung."""
    cdef int64_t j, i, n
    memcpy(search.open, search.in_part, n_in_part * sizeof(int64_t))
    n = part.keep_open(False, block, search.open, n_in_part, search.collector)
    for j in range(n):
        i = search.open[j]
        search.rungs[i] = (<Level>part.at(search.judge.accounts[i].rung)).rung
    scan_from(search, part, 0, block, n)


cdef void scan_from(Search search, Part part, int rung, const Block *whole,
                    int64_t n) noexcept nogil:
    """Scan a block by the levels from a rung on; queries that one refuses go on to the next."""
    cdef Block block
    cdef int64_t j, i, count, start = 0
    cdef bint more
    while rung < KEYS and part.levels[rung] == NULL:
        rung += 1
    while start < whole.n:
        block = piece(whole, start, (<Level>part.levels[rung]).most)
        start += block.n
        count = 0
        for j in range(n):
            i = search.open[j]
            search.scored[count] = i
            count += search.rungs[i] == rung
        scan_block(search, part, <Level>part.of_block(rung, &block), block, search.scored, count)
        more = False
        for j in range(n):
            more = more or search.rungs[search.open[j]] > rung
        if more and rung < KEYS:
            scan_from(search, part, rung + 1, &block, n)


cdef void scan_block(Search search, Part part, Level level, Block block, const int64_t *members,
                     int64_t n) noexcept nogil:
    """Scan a block by one level, a tile of queries at a time."""
    cdef int64_t at = 0, count
    if n > 0:
        level.take_block(part.source, &block, n)
    while at < n and block.n > 0:
        search.ended = search.ended or stopped(search)
        if search.ended:
            return
        count = level.next_tile(members + at, n - at)
        scan_tile(search, part, level, &block, members + at, count)
        at += count


cdef void scan_tile(Search search, Part part, Level level, const Block *block,
                    const int64_t *members, int64_t count) noexcept nogil:
    cdef int64_t j, i, passed, before
    cdef bint may_refuse, counts = level.rung == CODES and search.judge.counts
    for j in range(count):  # the lists that the scan appends to
        search.collector.tile[j] = search.collector.answers[members[j]].passed
    if block.all_scored:
        level.score(block, members, count, search.collector)
    else:
        level.scan(block, members, count, search.collector)
    may_refuse = (level.unable or block.all_scored or search.judge.trying
                  or search.n_seen + block.n_before >= level.first_judged)
    for j in range(count if may_refuse else 0):
        if refuses(search, level, block, j, members[j]):
            climb(search, part, level, block, j, members[j])
    if level.narrows:
        for j in range(count if counts else 0):
            search.judge.charge(members[j], 0, 0, n_new(search.collector, j, members[j]), 0)
        # Checking a filter costs less than fetching a row's other codes.
        for j in range(count if search.batch.filter.share < level.few_allowed else 0):
            farann_candidates_drop(
                &search.collector.tile[j], search.collector.answers[members[j]].passed.count,
                &block.where, &search.batch.queries[members[j]].filter)
        level.narrow(block.start, members, count, search.collector)
    for j in range(count):
        i = members[j]
        passed, before = n_new(search.collector, j, i), search.batch.rescored
        if passed:
            search.collector.admit(j, i, &block.where)
        if counts:
            search.judge.charge(i, block.n, passed, 0, search.batch.rescored - before)


cdef void climb(Search search, Part part, Level level, const Block *block, int64_t j,
                int64_t i) noexcept nogil:
    """Leave a block to the next level for query i, number j of the tile, and those that follow.

    First rows give a threshold, with which the next blocks go by codes again.
    """
    cdef int64_t passed = n_new(search.collector, j, i)
    cdef int rung = level.rung + 1
    while part.levels[rung] == NULL or (rung == FLOAT32 and not uses(FIRST_IN_FLOAT32)):
        rung += 1
    search.rungs[i] = rung
    if level.rung == CODES:
        search.judge.charge(i, 0, passed, 0, passed)
        search.judge.coded -= block.n
    if not level.unable >> j & 1:
        # Rows count where they are scored again; codes have places for more than there are.
        search.batch.scanned -= block.n if level.rung else min(
            block.n, part.source.codes.n_filled - block.start)
    if rung == KEYS:
        search.collector.rerank_all(i)
    else:
        search.collector.settle(i)
    search.collector.tile[j].count = search.collector.answers[i].passed.count
    search.judge.climb(i, rung, not block.all_scored)


cdef bint refuses(Search search, Level level, const Block *block, int64_t j,
                  int64_t i) noexcept nogil:
    """Whether a level can't score a block for a query, or can't tell enough of its rows apart."""
    cdef int64_t passed = n_new(search.collector, j, i), seen = search.n_seen + block.n_before
    if level.unable >> j & 1:
        return True
    if passed == 0:
        return False
    if block.all_scored:
        return search.judge.too_alike(i, passed, block.n)
    if (level.rung == CODES and search.judge.accounts[i].tries
            and search.judge.dear(passed, block.n, level.narrows)):
        return True
    return (seen >= level.first_judged and search.judge.too_many(i, passed, seen, block.n)
            and (level.rung != CODES or search.judge.cost_passed == 0.0
                 or search.judge.dear(passed, block.n, level.narrows)))


cdef void judge_block(Search search, Part part, const Block *block,
                      int64_t n_in_part) noexcept nogil:
    """Let the judge decide for which queries codes still pay; if for none, leave their order."""
    cdef int64_t n = block.n_before + block.n, at = block.start + block.n
    cdef int64_t left = part.source.count - n
    if n < search.judge.next_look or part.levels[FLOAT32] == NULL:
        return
    if part.levels[CODES] != NULL:
        search.gave_up |= search.judge.look(search.in_part, n_in_part, n, left, part.order, at)
    elif part.order is not None:
        search.judge.look_at_order(part.order, at, search.in_part, n_in_part, n, left)
    else:
        return
    if search.judge.leaves:
        search.leaves = True
        if not search.is_part:
            part.source.leave()
