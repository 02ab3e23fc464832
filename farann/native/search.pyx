"""The loop of all searches, from the first row to the answer.

A search goes through its parts. A part is a source of rows with what goes with how these are kept:

    Source      gives blocks of rows: of the base, of partitions, of added rows
    Bound       tells which queries a block can still answer, before it is scored
    Level       scores a block for a tile of queries: by codes, in float32, by exact keys
    Collector   takes the rows that pass, and owns the thresholds
    Judge       says which level pays, by what the levels before have ruled out

`task` and `sets` say of what parts a search is made.
"""

cimport cython
from libc.math cimport INFINITY
from libc.stdint cimport uint64_t

from farann.native.collector cimport n_new
from farann.native.kernels cimport *
from farann.native.process cimport FIRST_IN_FLOAT32, uses
from farann.native.sources cimport piece

cdef enum:
    SCORED_TWICE = 4  # rows are scored a second time, in float32, if they are 1/4 of all at most


cdef class Part:
    """Rows of one source, for the queries that have codes there, for the others, or for all."""


cdef class Search:
    """Some queries and the parts of their search: `run` answers them."""

    # ---- what a search is made of ----

    cdef make_room(self):
        """Make room for lists of queries."""
        cdef int64_t n = self.batch.n_queries
        self.owned = []
        self.asking = <int64_t *>self.batch.scratch.allocate(5 * n, sizeof(int64_t))
        self.alive, self.scored = self.asking + n, self.asking + 2 * n
        self.keyed, self.refused = self.asking + 3 * n, self.asking + 4 * n

    cdef Part add(self, Source source, Level level, CodedQueries coded=None, bint usable=True,
                  bint tail=False):
        """Add a part: rows of a source, for the queries that have codes there, or for the others."""
        cdef Part part = Part()
        part.source, part.level, part.bound = source, level, Bound()
        part.coded, part.usable, part.tail = coded, usable, tail
        if self.n_parts == MOST_PARTS:
            raise ValueError("a search has too many parts")
        self.owned.append(part)
        self.parts[self.n_parts] = <void *>part
        self.n_parts += 1
        return part

    cdef add_level(self, Level level):
        if self.n_levels == MOST_LEVELS:
            raise ValueError("a search has too many levels")
        self.owned.append(level)
        self.levels[self.n_levels] = <void *>level
        self.n_levels += 1

    cdef prepare(self):
        """All that is derived from queries before the search."""
        cdef int64_t i
        cdef uint64_t before
        with nogil:
            before = farann_arithmetic_begin()
            for i in range(self.batch.n_queries):
                if self.batch.cancelled():
                    break
                self.prepare_query(i)
            if self.coded is not None:
                self.coded.make_tiles()
            if self.coded_added is not None:
                self.coded_added.make_tiles()
            farann_arithmetic_end(before)
        self.batch.check_cancelled()

    @cython.final
    cdef void prepare_query(self, int64_t i) noexcept nogil:
        cdef int s
        self.batch.find_query_vector(i)
        self.collector.begin(i)
        self.judge.ceilings.forget(i)
        if self.coded_added is not None:
            self.coded_added.encode(i)
            self.batch.find_query_vector(i)
        if self.coded is not None:
            self.coded.encode(i)
            if self.means is not None:
                self.means.encode(i)
        for s in range(self.n_levels):
            (<Level>self.levels[s]).begin_query(i)

    # ---- the loop ----

    def run(self):
        """Find the answers; the GIL is released meanwhile."""
        cdef uint64_t before
        with nogil:
            before = farann_arithmetic_begin()
            self.answer()
            farann_arithmetic_end(before)
        self.check_finished()

    @cython.final
    cdef void answer(self) noexcept nogil:
        """Find the answers, between the calls that begin and end arithmetic."""
        cdef int s
        self.batch.kernels.begin()
        self.judge.begin()
        self.gave_up = self.all_rows = self.ended = False
        self.all_ask()
        for s in range(self.n_parts):
            (<Part>self.parts[s]).source.foresee()
        while self.n_asking > 0:  # a round
            self.n_seen = 0
            for s in range(self.n_parts):
                if not (<Part>self.parts[s]).tail:
                    self.scan_part(<Part>self.parts[s])
            self.n_asking = self.ask_again()
        self.all_ask()
        self.all_rows = not self.collector.all_have_k_rows()
        for s in range(self.n_parts):
            if (<Part>self.parts[s]).tail:
                self.scan_part(<Part>self.parts[s])
        self.batch.kernels.end()
        self.collector.finish()

    @cython.final
    cdef bint stopped(self) noexcept nogil:
        """Whether the search is to end; what was found is the answer where its time is over."""
        if farann_is_up(self.batch.given_up):
            return True
        return (self.batch.end_time < INFINITY and self.batch.time_to_look()
                and farann_seconds() >= self.batch.end_time and self.collector.all_have_k_rows())

    @cython.final
    cdef void all_ask(self) noexcept nogil:
        cdef int64_t i
        self.n_asking = self.batch.n_queries
        for i in range(self.n_asking):
            self.asking[i] = i

    @cython.final
    cdef int64_t ask_again(self) noexcept nogil:
        """Which queries begin again: their prediction failed, or they found fewer than k rows."""
        cdef int64_t n
        if not self.approximate or self.all_rows or self.coded is None or self.ended:
            return 0
        n = self.collector.forget_unkept(self.asking)
        if n:
            return n
        if self.lateness is not None and not self.extends:
            self.lateness.tell()
        self.all_rows = True
        return self.collector.forget_short(self.asking)

    @cython.final
    cdef void scan_part(self, Part part) noexcept nogil:
        """The scan: a block, the queries it can answer, their scores, the rows that pass."""
        cdef Block block
        cdef int64_t n_alive = self.asking_for(part)
        cdef void *level
        if n_alive == 0 or (self.gave_up and self.is_part):
            return
        self.allow_slack(part, self.alive, n_alive)
        part.source.begin(self.asking, self.n_asking, self.all_rows)
        self.judge.begin_part()
        while not self.ended:
            level = self.level_of(part)
            if not part.source.next(&block, (<Level>level).most_after(
                    self.n_seen + part.source.done)):
                break
            self.collector.look(self.n_seen + block.n_before)
            if block.members != NULL:
                self.scan_block(part, <Level>level, &block, block.members, block.n_members)
                continue
            if block.begins or part.bound.of_block:
                n_alive = self.asking_for(part)
            n_alive = part.bound.keep_alive(&block, self.alive, n_alive, self.collector)
            if n_alive == 0:
                if not part.bound.of_block:
                    part.source.skip()
                continue
            self.scan_alive(part, <Level>level, &block, n_alive)
            self.judge_block(part, &block, n_alive)
            if self.gave_up and self.is_part:
                return
        self.n_seen += part.source.done

    @cython.final
    cdef int64_t asking_for(self, Part part) noexcept nogil:
        """List the queries that ask, and that the part is for, as alive; gives how many."""
        cdef int64_t j, i, n = 0
        for j in range(self.n_asking):
            i = self.asking[j]
            self.alive[n] = i
            n += part.coded is None or part.coded.of[i].usable == part.usable
        return n

    @cython.final
    cdef void allow_slack(self, Part part, const int64_t *members, int64_t n) noexcept nogil:
        """Let scores of some queries be off by what those of the part's level are."""
        cdef int64_t j
        for j in range(n):
            self.collector.allow(members[j], part.level.slack_of(members[j]))

    @cython.final
    cdef void *level_of(self, Part part) noexcept nogil:
        """The level that the judge names for the next block."""
        if part.floats is not None and not self.judge.codes_pay:
            return <void *>part.floats
        if part.whole is not None and part.source.at < part.source.codes.n_hubs:
            return <void *>part.whole
        return <void *>part.level

    @cython.final
    cdef void scan_alive(self, Part part, Level level, const Block *block,
                         int64_t n_alive) noexcept nogil:
        """Scan a block for the queries that it can answer: by its level, or by exact keys."""
        cdef int64_t n
        self.n_refused = self.n_keyed = 0
        if self.judge.n_by_keys == 0 and self.judge.ceilings.n_known == 0:
            self.scan_block(part, level, block, self.alive, n_alive)
        else:
            n = self.split(block, n_alive)
            self.scan_block(part, level, block, self.scored, n)
            self.scan_block(part, self.keys, block, self.keyed, self.n_keyed)
        if self.n_refused:
            self.scan_refused(part, block)

    @cython.final
    cdef int64_t split(self, const Block *block, int64_t n_alive) noexcept nogil:
        """List the queries that the block is scored for, and apart from them those by keys."""
        cdef int64_t j, n, kept = 0
        for j in range(n_alive):
            self.scored[j] = self.alive[j]
        n = self.judge.ceilings.keep_alive(block, self.scored, n_alive, self.collector)
        for j in range(n):
            if self.judge.by_keys[self.scored[j]]:
                self.keyed[self.n_keyed] = self.scored[j]
                self.n_keyed += 1
            else:
                self.scored[kept] = self.scored[j]
                kept += 1
        return kept

    @cython.final
    cdef void scan_block(self, Part part, Level level, const Block *whole, const int64_t *members,
                         int64_t n) noexcept nogil:
        """Scan a block by one level, a tile of queries at a time; in pieces if it is too long."""
        cdef Block block
        cdef int64_t start = 0, at, count
        while start < whole.n and n > 0:
            block = whole[0]
            if whole.n > level.most:
                block = piece(whole, start, level.most)
            start += block.n
            level.take_block(part.source, &block, n)
            at = 0
            while at < n and block.n > 0:
                self.ended = self.ended or self.stopped()
                if self.ended:
                    return
                count = level.next_tile(n - at)
                self.scan_tile(level, &block, members + at, count)
                at += count

    @cython.final
    cdef void scan_tile(self, Level level, const Block *block, const int64_t *members,
                        int64_t count) noexcept nogil:
        cdef int64_t j
        cdef bint may_refuse
        self.collector.open(members, count)
        if block.all_scored:
            level.score(block, members, count, self.collector)
        else:
            level.scan(block, members, count, self.collector)
        may_refuse = (level.unable or block.all_scored
                      or self.n_seen + block.n_before >= level.first_judged)
        for j in range(count if may_refuse else 0):
            if self.refuses(level, block, j, members[j]):
                self.collector.drop_new(j, members[j])
                if not level.unable >> j & 1:
                    self.batch.scanned -= block.n  # rows count where they are scored again
                self.refused[self.n_refused] = members[j]
                self.n_refused += 1
        if level.narrows:
            if self.batch.filter.share < level.few_allowed:
                # To see whether a row is allowed costs less than to fetch its other codes.
                self.collector.drop_filtered(members, count, &block.where)
            level.narrow(block.start, members, count, self.collector)
        for j in range(count):
            if n_new(self.collector, j, members[j]):
                self.collector.admit(j, members[j], &block.where)

    @cython.final
    cdef bint refuses(self, Level level, const Block *block, int64_t j, int64_t i) noexcept nogil:
        """Whether a level can't score a block for a query, or can't tell enough of its rows apart."""
        cdef int64_t passed = n_new(self.collector, j, i), seen = self.n_seen + block.n_before
        if level.unable >> j & 1:
            return True
        if passed == 0:
            return False
        if block.all_scored:
            return self.judge.too_alike(i, passed, block.n)
        return seen >= level.first_judged and self.judge.too_many(i, passed, seen, block.n)

    @cython.final
    cdef void scan_refused(self, Part part, const Block *block) noexcept nogil:
        """Score a block more closely for the queries that its level refused.

        Of the first rows a good threshold is wanted, for most queries by float32. Behind them the
        queries go by exact keys.
        """
        cdef Block few
        cdef int64_t j, n = self.n_refused, start = 0
        if (block.all_scored and part.floats is not None and 2 * n > self.batch.n_queries
                and uses(FIRST_IN_FLOAT32) and SCORED_TWICE * block.n <= part.source.count):
            for j in range(n):
                self.scored[j] = self.refused[j]
                self.collector.settle(self.scored[j])
            while start < block.n:  # float32 may refuse a query in each piece
                few = piece(block, start, part.floats.most)
                start += few.n
                self.n_refused = 0
                self.scan_block(part, part.floats, &few, self.scored, n)
                self.scan_by_keys(part, &few)
            self.allow_slack(part, self.scored, n)  # codes go on from here
        else:
            self.scan_by_keys(part, block)
        if block.all_scored and part.coded is not None:
            self.judge.end_keys()  # there is a threshold now: the next rows show whether codes do

    @cython.final
    cdef void scan_by_keys(self, Part part, const Block *block) noexcept nogil:
        """Get the keys of a block for the queries that were refused."""
        cdef int64_t j, n = self.n_refused
        self.n_refused = 0
        for j in range(n):
            self.keyed[j] = self.refused[j]
            self.collector.rerank_all(self.keyed[j])
            if self.judge.may_go_by_keys:
                self.judge.take_by_keys(self.keyed[j])
        self.scan_block(part, self.keys, block, self.keyed, n)

    @cython.final
    cdef void judge_block(self, Part part, const Block *block, int64_t n_alive) noexcept nogil:
        """Let the judge look at what the levels have ruled out; where codes don't pay, end them."""
        cdef int64_t j, n = block.n_before + block.n
        if part.floats is None or not self.judge.codes_pay:
            return
        if not self.judges or n < self.judge.next_look:
            return
        self.judge.look_at_codes(n, part.source.count - n, n_alive, part.by_norm,
                                 self.n_asking == self.batch.n_queries)
        if self.judge.codes_pay:
            return
        self.gave_up = True
        self.judge.end_keys()
        for j in range(n_alive):
            # Rough scores by codes have larger errors; the candidates get exact keys.
            self.collector.settle(self.alive[j])
        if not part.by_norm:
            part.source.leave()

    cdef check_finished(self):
        self.batch.check_cancelled()
        if self.batch.scratch.failed:
            if self.approximate:
                raise MemoryError("no memory for the list of cells to visit; ask fewer queries at "
                                  "once")
            raise MemoryError("no memory for the rows that were found; ask for fewer")

    cdef void begin_again(self, const float *given) noexcept nogil:
        """Forget the one query of this search, and prepare another in its place."""
        self.batch.begin_again(given)
        self.batch.scratch.failed = False
        self.prepare_query(0)
        if self.coded is not None:
            self.coded.make_tiles()
