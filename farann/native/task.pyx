"""Searches for the rows furthest from queries, or nearest to them: of what parts they are made."""

from libc.stdint cimport INT64_MAX, int64_t, uint64_t
from libc.stdlib cimport free

from farann.native.bounds cimport CeilingBound, IntegerKeys, NormBound, lie_by_norm
from farann.native.coded_queries cimport CodedQueries
from farann.native.codes cimport Codes
from farann.native.collector cimport Collector, NearestBeyondCollector, RangeCollector
from farann.native.judge cimport Judge
from farann.native.kernels cimport *
from farann.native.levels cimport Level, code_rows_of, level_of, whole_level_of
from farann.native.probing cimport LateSource, Lateness, PartitionMeans, PartitionSource
from farann.native.process cimport FIRST_ROWS, NEVER, CancelFlag, uses
from farann.native.query_batch cimport QueryBatch
from farann.native.row_levels cimport DecodedLevel, KeyLevel, float_level_of
from farann.native.search cimport Part, Search
from farann.native.snapshot cimport Filter, Segment, Snapshot
from farann.native.sources cimport CodeSource, RestSource, RowSource, RunSource

cdef enum:
    CANDIDATE_ROOM = 64  # candidates beyond 2 k that a query holds before they are thinned out
    # First rows that are all scored, so that they give the first threshold.
    LEAST_SCORED = 128  # rows; fewer are scanned as all others are
    MOST_SCORED = 512  # rows, at most; LARGEST_BLOCK if the k best are selected
    SCORED_OF_K = 4  # none are scored this way unless 4 k rows fit into the limit
    FIRST_OF_K = 16  # rows of a first block that are all scored in float32, for each of the k best
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
        cdef CeilingBound ceilings
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

    cdef int64_t most_code_rows(self, Codes codes):
        """Rows of the largest block of codes. With epsilon the rows found depend on the blocks."""
        cdef bint long_blocks = (self.batch.n_together == 1 and not self.approximate
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
