"""Searches for the rows furthest from queries, or nearest to them: of what parts they are made."""

from libc.stdint cimport INT64_MAX, uint64_t

from farann.native.bounds cimport CeilingBound, IntegerKeys, NormBound, lie_by_norm
from farann.native.collector cimport Collector, NearestBeyondCollector, RangeCollector
from farann.native.judge cimport Judge
from farann.native.kernels cimport *
from farann.native.levels cimport code_rows_of, level_of, whole_level_of
from farann.native.probing cimport LateSource, Lateness, PartitionMeans, PartitionSource
from farann.native.process cimport FIRST_ROWS, NEVER, CancelFlag, uses
from farann.native.query_batch cimport QueryBatch
from farann.native.row_levels cimport DecodedLevel, KeyLevel, float_level_of
from farann.native.snapshot cimport Filter, Segment, Snapshot
from farann.native.sources cimport RestSource

cdef enum:
    CANDIDATE_ROOM = 64  # candidates beyond 2 k that a query holds before they are thinned out
    # First rows that are all scored, so that they give the first threshold.
    LEAST_SCORED = 128  # rows; fewer are scanned as all others are
    MOST_SCORED = 512  # rows, at most; LARGEST_BLOCK if the k best are selected
    SCORED_OF_K = 4  # none are scored this way unless 4 k rows fit into the limit
    # Rows from which those in the order of norms are read in this order, even if codes don't pay.
    MANY_IN_ORDER = 16384


cdef class Task(Search):
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
        Search for the k nearest rows beyond these; with k = 0 for all rows beyond them, or with
        `nearest` for all rows within them.
    most : int
        Of all rows of a range, find this many or a block more, whichever they are; 0: find all.
    flag : CancelFlag, optional
    costs : tuple of four floats
        See `Judge`.
    by_codes : bool
    tells_late : bool
        Tell how late the answers of queries came, see `late_to`.
    """

    def __init__(self, Snapshot snapshot, Filter filter, const float[:, ::1] queries,
                 int64_t start, int64_t stop, int64_t k, bint nearest, rule=None, *, radii=None,
                 int64_t most=0, CancelFlag flag=None, costs=(0.0, 0.0, 0.0, 0.0),
                 bint by_codes=True, bint tells_late=False):
        self.batch = QueryBatch.of(snapshot, filter, queries, start, stop, k, nearest, flag)
        if rule is not None:
            self.batch.take_rule(rule)
            self.approximate = rule.approximate
        if radii is not None and len(radii) != len(queries):
            raise ValueError("there must be a radius for each query")
        self.make_room()
        self.judges = True
        self.put_together(rule, costs, by_codes or self.approximate, radii, start, k, tells_late)
        if most > 0:
            (<RangeCollector?>self.collector).most = most
        self.prepare()

    # ---- what a search is made of ----

    cdef put_together(self, rule, costs, bint by_codes, radii, int64_t start, int64_t k,
                      bint tells_late):
        """Choose the collector and the levels, and then the parts."""
        cdef QueryBatch batch = self.batch
        cdef Snapshot snapshot = batch.snapshot
        cdef int64_t n_rows = batch.filter.n_rows, largest_block = batch.block_rows, i
        cdef int64_t n = batch.n_queries
        cdef bint nearest = batch.sign < 0.0, few = n_rows <= FEW_ROWS and (snapshot.vectors or n_rows == 0)
        cdef bint listed = batch.filter.segments[0].positions != NULL
        cdef Codes codes = snapshot.codes
        if not snapshot.vectors and listed:
            raise ValueError("without vectors a filter must be a mask")
        if few or listed or not (by_codes or not snapshot.vectors):
            codes = None
        if codes is not None:
            largest_block = max(largest_block, self.most_code_rows(codes))
        if radii is None:
            self.collector = Collector.__new__(Collector)
        elif nearest and k:
            self.collector = NearestBeyondCollector.__new__(NearestBeyondCollector)
        else:
            self.collector = RangeCollector.__new__(RangeCollector)
        for i in range(0 if radii is None else n):
            batch.queries[i].radius = radii[start + i]
        self.collector.set_up(batch, 3 * CANDIDATE_ROOM if self.approximate else CANDIDATE_ROOM,
                              largest_block, not few, not self.approximate)
        if self.approximate:
            costs = (0.0, 0.0, 0.0, 0.0)
        # Where lateness is measured rows with exact keys would not count.
        self.take_judge(costs, radii is None and batch.epsilon == 0.0 and snapshot.vectors
                        and (codes is None or not self.approximate or not tells_late))
        self.add_level(self.keys)
        if not few:
            self.floats = float_level_of(batch, self.collector.rows)
            self.add_level(self.floats)
        self.put_base_together(codes, rule, tells_late)
        self.put_tail_together(codes, rule)

    cdef take_judge(self, costs, bint may_go_by_keys):
        """Have a judge, and exact keys for the queries that it takes from other levels."""
        cdef IntegerKeys integer_keys = IntegerKeys.of(self.batch, self.collector.rows)
        self.judge = Judge.of(self.batch, self.collector,
                              CeilingBound.of(self.batch, integer_keys), costs, may_go_by_keys)
        self.keys = KeyLevel.of(self.batch, self.collector, self.judge)

    cdef put_base_together(self, Codes codes, rule, bint tells_late):
        """The parts of the rows of the last build."""
        cdef QueryBatch batch = self.batch
        cdef Snapshot snapshot = batch.snapshot
        cdef Codes order = snapshot.codes
        cdef int64_t most = INT64_MAX, n_first
        if codes is None:
            if (self.floats is not None and order is not None and not self.approximate
                    and batch.filter.segments[0].positions == NULL
                    and order.n_positions >= MANY_IN_ORDER and lie_by_norm(batch, order)):
                self.coded = CodedQueries.of_batch(batch, order, False, order.has_pca_filter)
                self.base_codes = CodeSource.of(batch, order, 0)
                self.add_outliers(order, self.keys)
                self.add(self.base_codes, self.floats).bound = NormBound.of(self.coded)
                return
            self.base_rows = RowSource.of(batch, &batch.filter.segments[0])
            self.add(self.base_rows, self.rows_level())
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
                self.add(RestSource.behind(self.base_codes), self.floats, self.coded)
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
        self.add(rows, level)

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
            self.add(self.tail_rows, self.rows_level(), None, True, True)

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
        cdef Level level = self.keys
        if not self.batch.snapshot.vectors:
            level = DecodedLevel.of(coded, level_of(coded, source.codes.n_positions, 0))
        self.add(source, level, coded, False, tail)

    cdef Part add_codes(self, CodeSource source, CodedQueries coded, int64_t n_scored, bint tail):
        """Coded rows, for the queries that have codes."""
        cdef Codes codes = coded.codes
        cdef Level level = None, whole = None
        cdef int64_t most = self.most_code_rows(codes)
        cdef Part part
        if codes.has_pca_filter:
            level = whole = whole_level_of(coded, most, n_scored)
            self.add_level(whole)
        if coded.pca_filtered or whole is None:
            level = level_of(coded, most, 0 if codes.has_pca_filter else n_scored)
            self.add_level(level)
        if self.approximate:  # scores are not told apart beyond the first rows
            level.first_judged = INT64_MAX
        part = self.add(source, level, coded, True, tail)
        if level is not whole:
            part.whole = whole
        if self.batch.snapshot.vectors and not self.approximate:
            part.floats = self.floats
        if lie_by_norm(self.batch, codes) and (
                not tail or self.batch.snapshot.codes.max_norm is not None):
            part.bound, part.by_norm = NormBound.of(coded), True
        return part

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
                or isinstance(self.collector, RangeCollector)):
            return 0
        n = min(min(codes.n_leading, code_rows_of(codes)), min(most, stop))
        if codes.has_pca_filter:
            n = min(n, codes.n_hubs)
        return n - n % FARANN_CODE_PANEL if n >= LEAST_SCORED else 0

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

    def write_range(self, float[::1] scores, int64_t[::1] ids, int64_t start):
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
    cdef int64_t i, j
    cdef farann_topk *best
    cdef const farann_topk *top
    cdef uint64_t before = farann_arithmetic_begin()
    for i in range(first.batch.n_queries):
        best = &first.collector.found[i].top
        for j in range(best.count // 2):  # the worst row first, as while rows are pushed
            best.entries[j], best.entries[best.count - 1 - j] = (
                best.entries[best.count - 1 - j], best.entries[j])
        for task in tasks[1:]:
            top = &task.collector.found[i].top
            for j in range(top.count):
                farann_topk_push(best, top.entries[j].key, top.entries[j].id)
        farann_entries_sort(best.entries, best.count, &NEVER)
        first.collector.write(i, &scores[i, 0], &ids[i, 0], scores.shape[1])
    farann_arithmetic_end(before)
