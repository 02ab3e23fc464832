"""Searches: exact and approximate, from the first row to the answer.

A search goes through its parts. A part is a source of rows with what goes with how these are kept:

    Source      gives blocks of rows: of the base, of partitions, of added rows
    Bound       tells which queries a block can still answer, before it is scored
    Level       scores a block for a tile of queries: by codes, in float32, by exact keys
    Collector   takes the rows that pass, and owns the thresholds
    Judge       says which level pays, by what the levels before have ruled out
"""

from libc.math cimport INFINITY
from libc.stdint cimport INT64_MAX, int64_t, uint64_t
from libc.stdlib cimport free

from farann.native.bounds cimport Bound, CeilingBound, NormBound, lie_by_norm
from farann.native.coded_queries cimport CodedQueries
from farann.native.codes cimport Codes
from farann.native.collector cimport (BeyondCollector, Collector, NearestBeyondCollector,
                                      n_new)
from farann.native.float_levels cimport float_level_of
from farann.native.integer_keys cimport IntegerKeys
from farann.native.judge cimport Judge
from farann.native.kernels cimport *
from farann.native.key_level cimport DecodedLevel, KeyLevel
from farann.native.levels cimport CodeLevel, Level, WholeLevel, code_rows_of, level_of, whole_level_of
from farann.native.probing cimport Lateness, LateSource, PartitionMeans, PartitionSource
from farann.native.process cimport FIRST_IN_FLOAT32, FIRST_ROWS, NEVER, CancelFlag, uses
from farann.native.query_batch cimport QueryBatch
from farann.native.snapshot cimport Filter, Segment, Snapshot
from farann.native.sources cimport Block, CodeSource, RestSource, RowSource, RunSource, Source, piece

cdef enum:
    CANDIDATE_ROOM = 64  # candidates beyond 2 k that a query holds before they are thinned out
    # First rows that are all scored, so that they give the first threshold.
    LEAST_SCORED = 128  # rows; fewer are scanned as all others are
    MOST_SCORED = 512  # rows, at most; LARGEST_BLOCK if the k best are selected
    SCORED_OF_K = 4  # none are scored this way unless 4 k rows fit into the limit
    FIRST_OF_K = 16  # rows of a first block that are all scored in float32, for each of the k best
    SCORED_TWICE = 4  # rows are scored a second time, in float32, if they are 1/4 of all at most
    # Rows from which those in the order of norms are read in this order, even if codes don't pay.
    MANY_IN_ORDER = 16384


cdef class Part:
    """Rows of one source, for the queries that have codes there, for the others, or for all."""


cdef class Task:
    """Some queries of a search: `run` answers them.

    Where `rule` is an approximate `StopRule`, rows that answer many queries are always scanned.
    With `rule.deviations`, in a partitioned index, the partitions follow that reach the k-th best
    found so far, or what that is predicted to be in the end; otherwise `rule.rows` are scanned in
    their order, and with `rule.extends_beyond` twice as many, and again, for queries whose answers
    lie late among these. Errors of codes are taken for noise there: what they allow for is three
    standard deviations of it. Where filters leave fewer than k rows of all these, every row is
    scanned.

    Parameters
    ----------
    snapshot : Snapshot
    filter : Filter
    queries : float32 (n, dim)
    start, stop : int
        The queries of the batch to search for.
    k : int
    nearest : bool
    rule : StopRule, optional
    radii : float64 (n,), optional
        Search for all rows beyond these, or with `nearest` for the k nearest of them.
    flag : CancelFlag, optional
    costs : tuple of four floats
        See `Judge`.
    by_codes : bool
    tells_late : bool
        Tell how late the answers of queries came, see `late_to`.
    """

    def __init__(self, Snapshot snapshot, Filter filter, const float[:, ::1] queries,
                 int64_t start, int64_t stop, int64_t k, bint nearest, rule=None, *, radii=None,
                 CancelFlag flag=None, costs=(0.0, 0.0, 0.0, 0.0), bint by_codes=True,
                 bint tells_late=False):
        self.batch = QueryBatch.of(snapshot, filter, queries, start, stop, k, nearest, flag)
        if rule is not None:
            self.batch.take_rule(rule)
            self.approximate = rule.approximate
        if radii is not None and len(radii) != len(queries):
            raise ValueError("there must be a radius for each query")
        self.owned = []
        self.judges = True
        self.put_together(rule, costs, by_codes or self.approximate, radii, start, tells_late)
        self.prepare()

    # ---- what a search is made of ----

    cdef put_together(self, rule, costs, bint by_codes, radii, int64_t start, bint tells_late):
        """Choose the collector and the levels, and then the parts."""
        cdef QueryBatch batch = self.batch
        cdef Snapshot snapshot = batch.snapshot
        cdef int64_t n_rows = batch.filter.n_rows, largest_block = batch.block_rows, i
        cdef int64_t n = batch.n_queries
        cdef bint nearest = batch.sign < 0.0, few = n_rows <= FEW_ROWS and (snapshot.vectors or n_rows == 0)
        cdef bint listed = batch.filter.segments[0].positions != NULL
        cdef Codes codes = snapshot.codes
        cdef CeilingBound ceilings
        if not snapshot.vectors and listed:
            raise ValueError("without vectors a filter must be a mask")
        if few or listed or not (by_codes or not snapshot.vectors):
            codes = None
        if codes is not None:
            largest_block = max(largest_block, self.most_code_rows(codes))
        if radii is None:
            self.collector = Collector.__new__(Collector)
        elif nearest:
            self.collector = NearestBeyondCollector.__new__(NearestBeyondCollector)
        else:
            self.collector = BeyondCollector.__new__(BeyondCollector)
        for i in range(0 if radii is None else n):
            batch.queries[i].radius = radii[start + i]
        self.collector.set_up(batch, 3 * CANDIDATE_ROOM if self.approximate else CANDIDATE_ROOM,
                              largest_block, not few, not self.approximate)
        ceilings = CeilingBound.of(batch, IntegerKeys.of(batch, self.collector.rows))
        if self.approximate:
            costs = (0.0, 0.0, 0.0, 0.0)
        # Where lateness is measured rows with exact keys would not count.
        self.judge = Judge.of(
            batch, self.collector, ceilings, costs, radii is None and batch.epsilon == 0.0
            and snapshot.vectors and (codes is None or not self.approximate or not tells_late))
        self.keys = KeyLevel.of(batch, self.collector, self.judge)
        self.add_level(self.keys)
        if not few:
            self.floats = float_level_of(batch, self.collector.rows)
            self.add_level(self.floats)
        self.asking = <int64_t *>batch.scratch.allocate(5 * n, sizeof(int64_t))
        self.alive, self.scored = self.asking + n, self.asking + 2 * n
        self.keyed, self.refused = self.asking + 3 * n, self.asking + 4 * n
        self.put_base_together(codes, rule, tells_late)
        self.put_tail_together(codes, rule)

    cdef put_base_together(self, Codes codes, rule, bint tells_late):
        """The parts of the rows of the last build."""
        cdef QueryBatch batch = self.batch
        cdef Snapshot snapshot = batch.snapshot
        cdef Codes order = snapshot.codes
        cdef int64_t first_block = FIRST_BLOCK, most = INT64_MAX, n_first
        cdef Part part
        if codes is None:
            if (self.floats is not None and order is not None and not self.approximate
                    and batch.filter.segments[0].positions == NULL
                    and order.n_positions >= MANY_IN_ORDER and lie_by_norm(batch, order)):
                self.coded = CodedQueries.of_batch(batch, order, False, order.has_pca_filter)
                self.base_codes = CodeSource.of(batch, order, 0)
                self.add_outliers(order, self.keys)
                part = Part()
                part.source, part.level = self.base_codes, self.floats
                part.bound = NormBound.of(self.coded)
                self.add(part)
                return
            if self.collector.first_selects and self.floats is not None:
                first_block *= min(batch.block_rows // FIRST_BLOCK,
                                   1 + FIRST_OF_K * batch.k // FIRST_BLOCK)
            self.base_rows = RowSource.of(batch, &batch.filter.segments[0], first_block)
            self.add_rows(self.base_rows, self.rows_level(), None, True, False)
            return
        self.coded = CodedQueries.of_batch(
            batch, codes, self.approximate, codes.has_pca_filter and (
                not self.approximate or (rule.deviations is not None
                                         and snapshot.partitions is not None)))
        self.add_uncoded(CodeSource.of(batch, codes, 0), self.coded, False)
        self.add_outliers(codes, self.keys)
        n_first = codes.n_positions
        if self.approximate:
            if 0 < rule.budget <= snapshot.n_slots:
                most = whole_panels(rule.budget)
            if rule.deviations is not None and snapshot.partitions is not None:
                n_first = min(snapshot.partitions.starts[0], whole_panels(most // 2))
            elif rule.rows is not None and rule.rows < n_first:
                n_first = whole_panels(rule.rows)
            n_first = min(n_first, most)
        self.base_codes = CodeSource.of(batch, codes, self.rows_to_score(codes, n_first))
        self.base_codes.stop = n_first
        self.add_codes(self.base_codes, self.coded, self.base_codes.n_scored, False)
        if not self.approximate:
            if snapshot.vectors:
                self.add_rest()
            return
        if rule.deviations is not None and snapshot.partitions is not None:
            self.means = PartitionMeans.of(self.coded, rule.deviations)
            self.add_codes(PartitionSource.of_means(self.means, self.collector, n_first, most,
                                                    rule.predicted_threshold),
                           self.coded, 0, False)
        elif rule.extends_beyond is not None:
            self.lateness = Lateness.of(self.coded, self.collector, None)
            self.extends = True  # `LateSource` tells lateness
            self.add_codes(LateSource.of_lateness(self.lateness, rule.extends_beyond, n_first),
                           self.coded, 0, False)
        if tells_late and self.lateness is None:
            self.lateness = Lateness.of(self.coded, self.collector,
                                        snapshot.partitions if self.means is not None else None)

    cdef add_rest(self):
        """Coded rows that codes were given up for."""
        cdef Part part = Part()
        part.source, part.level = RestSource.behind(self.base_codes), self.floats
        part.coded, part.usable = self.coded, True
        self.add(part)

    cdef add_outliers(self, Codes codes, Level level):
        """Rows of the base without codes: they get exact keys first of all."""
        cdef Segment outliers = self.batch.snapshot.segments[0]
        cdef RowSource rows
        outliers.count = codes.outliers.shape[0]
        if outliers.count == 0:
            return
        if self.batch.snapshot.vectors:
            outliers.positions = &codes.outliers[0]
        rows = RowSource.of(self.batch, &outliers)
        if not self.batch.snapshot.vectors:
            rows.read_as = &codes.outliers[0]  # they are all that there is of the base
        self.add_rows(rows, level, None, True, False)

    cdef put_tail_together(self, Codes codes, rule):
        """The parts of the rows added since."""
        cdef QueryBatch batch = self.batch
        cdef Snapshot snapshot = batch.snapshot
        cdef Segment rest = batch.filter.segments[1]
        cdef RunSource runs, again
        if codes is not None and snapshot.added is not None:
            rest = snapshot.uncoded
            self.coded_added = CodedQueries.of_batch(
                batch, snapshot.added, self.approximate, snapshot.added.has_pca_filter)
            again = self.runs_of(None)
            self.add_uncoded(again, self.coded_added, True)
            runs = self.runs_of(None if rule is None else rule.run_ends)
            self.add_codes(runs, self.coded_added, 0, True)
        self.tail_rows = RowSource.of(batch, &rest)
        if rest.count:
            self.add_rows(self.tail_rows, self.rows_level(), None, True, True)

    cdef RunSource runs_of(self, ends):
        cdef RunSource source = RunSource.__new__(RunSource)
        source.set_up(self.batch, self.batch.snapshot.added)
        source.runs = self.batch.snapshot.runs
        source.take_ends(ends)
        return source

    cdef Level rows_level(self):
        """What scores rows that have no codes."""
        return self.keys if self.floats is None else self.floats

    cdef add_uncoded(self, CodeSource source, CodedQueries coded, bint tail):
        """All coded rows, for queries that have no codes: keys of the rows, or of decoded ones."""
        cdef Part part = Part()
        part.source, part.level, part.coded, part.tail = source, self.keys, coded, tail
        part.usable = False
        if not self.batch.snapshot.vectors:
            part.level = DecodedLevel.of(coded, level_of(coded, source.codes.n_positions, 0))
        self.add(part)

    cdef add_codes(self, CodeSource source, CodedQueries coded, int64_t n_scored, bint tail):
        """Coded rows, for the queries that have codes."""
        cdef Part part = Part()
        cdef Codes codes = coded.codes
        cdef int64_t most = self.most_code_rows(codes)
        part.source, part.coded, part.usable, part.tail = source, coded, True, tail
        part.n_scored = n_scored
        if codes.has_pca_filter:
            part.whole = whole_level_of(coded, most, n_scored)
            self.add_level(part.whole)
        if codes.has_pca_filter and not coded.pca_filtered:
            part.level, part.whole = part.whole, None
        else:
            part.level = level_of(coded, most, 0 if codes.has_pca_filter else n_scored)
            self.add_level(part.level)
        if self.approximate:  # scores are not told apart beyond the first rows
            part.level.first_judged = INT64_MAX
        if self.batch.snapshot.vectors and not self.approximate:
            part.floats = self.floats
        if lie_by_norm(self.batch, codes) and (
                not tail or self.batch.snapshot.codes.max_norm is not None):
            part.bound, part.by_norm = NormBound.of(coded), True
        self.add(part)

    cdef add_rows(self, RowSource source, Level level, CodedQueries coded, bint usable, bint tail):
        cdef Part part = Part()
        part.source, part.level, part.coded, part.usable = source, level, coded, usable
        part.tail = tail
        self.add(part)

    cdef add(self, Part part):
        if part.bound is None:
            part.bound = Bound()
        self.owned.append(part)
        self.parts[self.n_parts] = <void *>part
        self.n_parts += 1

    cdef add_level(self, Level level):
        self.owned.append(level)
        self.levels[self.n_levels] = <void *>level
        self.n_levels += 1

    cdef int64_t most_code_rows(self, Codes codes):
        """Rows of the largest block of codes. With epsilon the rows found depend on the blocks."""
        cdef bint long_blocks = (self.batch.n_queries == 1 and not self.approximate
                                 and self.batch.epsilon == 0.0)
        return (LONG_BLOCKS if long_blocks else 1) * code_rows_of(codes)

    cdef int64_t rows_to_score(self, Codes codes, int64_t stop) noexcept:
        """How many first rows to score all of, up to `stop`, for a first threshold."""
        cdef int64_t k = self.batch.k, most = MOST_SCORED, n
        if self.collector.selects:
            most = LARGEST_BLOCK
        elif k > FARANN_SCORE_GROUPS // 2:
            most = 0
        if (self.coded.width == 1 or SCORED_OF_K * k > most or codes.int4_alone
                or self.batch.filter.alive != NULL or not uses(FIRST_ROWS)
                or isinstance(self.collector, BeyondCollector)):
            return 0
        n = min(min(codes.n_leading, code_rows_of(codes)), min(most, stop))
        if codes.has_pca_filter:
            n = min(n, codes.n_hubs)
        return n - n % FARANN_SCORE_GROUPS if n >= LEAST_SCORED else 0

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

    # ---- the search ----

    def run(self):
        """Find the answers; the GIL is released meanwhile."""
        cdef uint64_t before
        with nogil:
            before = farann_arithmetic_begin()
            self.answer()
            farann_arithmetic_end(before)
        self.check_finished()

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
        self.futile = self.gave_up or self.judge.was_futile()
        self.all_ask()
        self.all_rows = not self.collector.all_have_k_rows()
        for s in range(self.n_parts):
            if (<Part>self.parts[s]).tail and not (self.gave_up and self.is_part):
                self.scan_part(<Part>self.parts[s])
        self.batch.kernels.end()
        self.collector.finish()

    cdef bint stopped(self) noexcept nogil:
        """Whether the search is to end; what was found is the answer where its time is over."""
        if farann_is_up(self.batch.given_up):
            return True
        return (self.batch.end_time < INFINITY and self.batch.time_to_look()
                and farann_seconds() >= self.batch.end_time and self.collector.all_have_k_rows())

    cdef void all_ask(self) noexcept nogil:
        cdef int64_t i
        self.n_asking = self.batch.n_queries
        for i in range(self.n_asking):
            self.asking[i] = i

    cdef int64_t ask_again(self) noexcept nogil:
        """Which queries begin again: their prediction failed, or they found fewer than k rows."""
        cdef int64_t n
        if not self.approximate or self.all_rows or self.base_codes is None or self.ended:
            return 0
        n = self.collector.forget_unkept(self.asking)
        if n:
            return n
        if self.lateness is not None and not self.extends:
            self.lateness.tell()
        self.all_rows = True
        return self.collector.forget_short(self.asking)

    cdef void scan_part(self, Part part) noexcept nogil:
        """The scan: a block, the queries it can answer, their scores, the rows that pass."""
        cdef Block block
        cdef int64_t n_alive = self.asking_for(part)
        cdef void *level
        if n_alive == 0:
            return
        self.allow_slack(part, self.alive, n_alive)
        part.source.begin(self.asking, self.n_asking, self.all_rows)
        self.judge.begin_part(part.n_scored)
        while not self.ended:
            level = self.level_of(part)
            if not part.source.next(&block, (<Level>level).most_after(
                    self.n_seen + part.source.done)):
                break
            self.collector.look(self.n_seen + block.n_before)
            if block.members != NULL:
                self.scan_block(part, <Level>level, &block, block.members, block.n_members)
                continue
            if block.begins:
                n_alive = self.asking_for(part)
            n_alive = part.bound.keep_alive(&block, self.alive, n_alive, self.collector)
            if n_alive == 0:
                part.source.skip()
                continue
            self.scan_alive(part, <Level>level, &block, n_alive)
            self.judge_block(part, &block, n_alive)
            if self.gave_up and self.is_part:
                return
        self.n_seen += part.source.done

    cdef int64_t asking_for(self, Part part) noexcept nogil:
        """List the queries that ask, and that the part is for, as alive; gives how many."""
        cdef int64_t j, i, n = 0
        for j in range(self.n_asking):
            i = self.asking[j]
            self.alive[n] = i
            n += part.coded is None or part.coded.of[i].usable == part.usable
        return n

    cdef void allow_slack(self, Part part, const int64_t *members, int64_t n) noexcept nogil:
        """Let scores of some queries be off by what those of the part's level are."""
        cdef int64_t j
        for j in range(n):
            self.collector.allow(members[j], part.level.slack_of(members[j]))

    cdef void *level_of(self, Part part) noexcept nogil:
        """The level that the judge names for the next block."""
        if part.floats is not None and not self.judge.codes_pay:
            return <void *>part.floats
        if part.whole is not None and (not self.judge.filter_pays
                                       or part.source.at < part.source.codes.n_hubs):
            return <void *>part.whole
        return <void *>part.level

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

    cdef void scan_tile(self, Level level, const Block *block, const int64_t *members,
                        int64_t count) noexcept nogil:
        cdef int64_t j
        self.collector.open(members, count)
        if block.all_scored:
            level.score(block, members, count, self.collector)
        else:
            level.scan(block, members, count, self.collector)
        for j in range(count):
            if self.refuses(level, block, j, members[j]):
                self.collector.drop_new(j, members[j])
                self.refused[self.n_refused] = members[j]
                self.n_refused += 1
        if level.narrows:
            if self.batch.filter.share < level.few_allowed:
                # To see whether a row is allowed costs less than to fetch its other codes.
                self.collector.drop_filtered(members, count, &block.where)
            level.narrow(block.start, members, count, self.collector)
        for j in range(count):
            if n_new(self.collector, j, members[j]) or self.collector.meets_all:
                self.collector.admit(j, members[j], &block.where)

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

    cdef void judge_block(self, Part part, const Block *block, int64_t n_alive) noexcept nogil:
        """Let the judge look at what the levels have ruled out; where codes don't pay, end them."""
        cdef int64_t j, n = block.n_before + block.n
        if part.floats is None or not self.judge.codes_pay:
            return
        if part.whole is not None and part.coded.width > 1:
            self.judge.look_at_filter(block.n, n_alive, code_rows_of(part.source.codes))
        if not self.judges:
            return
        if n < self.judge.next_look:
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

    # ---- parts of the rows, other queries ----

    def n_in_line(self):
        """Rows to search, in a line: positions of codes or the first segment, then the second."""
        return self.n_before_tail() + self.batch.filter.segments[1].count

    cdef int64_t n_before_tail(self):
        if self.base_codes is not None:
            return self.base_codes.codes.n_positions
        return self.batch.filter.segments[0].count

    def search_only(self, int64_t first, int64_t end, Task leader=None):
        """Search only some rows of the line, in whole panels of codes.

        The leader has searched its first ones, and there is a threshold. What has no place in the
        line belongs to the first rows. If codes rule out too little, the leader stops, and
        `gave_up` is true.
        """
        cdef int64_t i, before = self.n_before_tail()
        cdef int s
        if not 0 <= first <= end or first % FARANN_CODE_PANEL or end % FARANN_CODE_PANEL or (
                (first > 0) != (leader is not None)):
            raise ValueError("parts of the line must be whole panels, and all but the first have "
                             "a leader")
        self.is_part, self.judges = True, first == 0
        if self.base_codes is not None:
            self.base_codes.first = min(first, before)
            self.base_codes.stop = min(end, before)
        else:
            self.base_rows.first, self.base_rows.stop = min(first, before), min(end, before)
        self.tail_rows.first = max(first - before, 0)
        self.tail_rows.stop = max(min(end - before, self.tail_rows.count), 0)
        if leader is None:
            return
        for s in range(self.n_parts):
            # All that is neither in the line nor behind it was searched by the leader.
            if not ((<Part>self.parts[s]).tail or (<Part>self.parts[s]).source in (
                    self.base_codes, self.base_rows)):
                (<Part>self.parts[s]).source = RowSource.of(self.batch, &NO_ROWS)
        if (leader.batch.n_queries != self.batch.n_queries
                or leader.batch.snapshot is not self.batch.snapshot):
            raise ValueError("a leader must have searched for the same queries")
        for i in range(self.batch.n_queries):
            self.collector.raise_threshold(i, leader.collector.found[i].threshold)

    cdef void begin_again(self, const float *given) noexcept nogil:
        """Forget the one query of this search, and prepare another in its place."""
        self.batch.begin_again(given)
        self.batch.scratch.failed = False
        self.prepare_query(0)
        if self.coded is not None:
            self.coded.make_tiles()

    # ---- what was found ----

    def write_top(self, float[:, ::1] scores, int64_t[:, ::1] ids, int64_t start):
        """Write the answers to rows start, start + 1, ... of `scores` and `ids`."""
        cdef int64_t i
        cdef uint64_t before
        with nogil:
            before = farann_arithmetic_begin()
            for i in range(self.batch.n_queries):
                self.collector.write(i, &scores[start + i, 0], &ids[start + i, 0], ids.shape[1])
            farann_arithmetic_end(before)

    def counts(self):
        """Rows found, by query."""
        cdef int64_t i
        return [self.collector.found[i].top.count for i in range(self.batch.n_queries)]

    def write_beyond(self, float[::1] scores, int64_t[::1] ids, int64_t start):
        """Write all answers, query after query, from `start` on."""
        cdef int64_t i, n
        cdef uint64_t before
        with nogil:
            before = farann_arithmetic_begin()
            for i in range(self.batch.n_queries):
                n = self.collector.found[i].top.count
                if n:
                    self.collector.write(i, &scores[start], &ids[start], n)
                start += n
            farann_arithmetic_end(before)

    def late_to(self, float[::1] late, int64_t start):
        """Write how late the answers of queries came, from `start` on.

        Rows lie first that answer many sample queries. Of the rows of an answer it is the mean root
        of the number of their panel, from 1 on, where rows in partitions have that of the first of
        these. Those count as 0 that have their keys already, as the best of a list do. Queries of
        another kind have other answers, which lie later.
        """
        cdef int64_t i
        if self.lateness is not None:
            for i in range(self.batch.n_queries):
                late[start + i] = self.lateness.of_queries[i]

    def did(self):
        """What `SearchStats` has beside the number of queries."""
        return self.batch.counts()


cdef Segment NO_ROWS


def write_best(tasks, float[:, ::1] scores, int64_t[:, ::1] ids):
    """Write what tasks found for the same queries in different rows."""
    cdef Task task, first = tasks[0]
    cdef int64_t i, j, n, room = 0, k = scores.shape[1]
    cdef farann_topk all
    cdef farann_topk *top
    cdef uint64_t before
    for task in tasks:
        room += task.batch.k
    all.entries = <farann_entry *>farann_alloc(room * sizeof(farann_entry), False)
    if all.entries == NULL:
        raise MemoryError(f"a search needs {room * sizeof(farann_entry):,} bytes of scratch memory")
    before = farann_arithmetic_begin()
    for i in range(first.batch.n_queries):
        n = 0
        for task in tasks:
            top = &task.collector.found[i].top
            for j in range(top.count):
                all.entries[n + j] = top.entries[j]
            n += top.count
        farann_entries_sort(all.entries, n, &NEVER)
        top = &first.collector.found[i].top
        top.count = min(n, first.batch.k)
        for j in range(top.count):
            top.entries[j] = all.entries[j]
        first.collector.write(i, &scores[i, 0], &ids[i, 0], k)
    farann_arithmetic_end(before)
    free(all.entries)
