"""Searches for the rows furthest from queries, or nearest to them: the choice of their parts."""

from libc.math cimport INFINITY, NAN
from libc.stdint cimport INT64_MAX

from farann.native.bounds cimport CeilingBound, NormBound, lie_by_norm
from farann.native.collector cimport Collector, floor_of
from farann.native.judge cimport MANY_IN_ORDER, Judge
from farann.native.kernels cimport *
from farann.native.levels cimport code_level_of, code_rows_of, decoded_level_of, whole_level_of
from farann.native.probing cimport Lateness, PartitionMeans, late_rows, probed_partitions
from farann.native.query_batch cimport CodedQueries, QueryBatch, reduced_key
from farann.native.row_levels cimport float_level_of, key_level_of
from farann.native.snapshot cimport Filter, Segment, Snapshot
from farann.native.search cimport Part
from farann.native.sources cimport CodeSource, added_runs, rest_behind
from farann.native.watch cimport WITNESSES, KeyModel

cdef enum:
    CANDIDATE_ROOM = 64  # candidates beyond 2 k that a query holds before they are thinned out
    # First rows that are all scored, so that they give the first threshold.
    LEAST_SCORED = 64  # rows; fewer are scanned as all others are
    MOST_SCORED = 512  # rows, at most; LARGEST_BLOCK if the k best are selected
    SCORED_OF_K = 4  # no first rows are scored like this if 4 k is above the limit

# Standard deviations of code errors that bounds of approximate searches allow for.
cdef double MOST_NOISE = 2.0  # with vectors; in partitions from an effort of 3 on
# In partitions without effort. Little effort finds .95 of the answers if dimensions are few, where
# many rows tie: on patches 2 rescores 2.5 times as many rows as 1, which loses .002 of the answers.
cdef double LEAST_NOISE = 0.8
cdef double NOISE_BY_EFFORT = 0.4  # more for each deviation of effort
# Where no exact keys correct the order by rough scores, and of added rows: of the rows of the build
# alone it was measured what is missed by it.
cdef double MORE_NOISE = 3.0


cdef class Task(Search):
    """Some queries of a search: `run` answers them.

    Where `rule` is an approximate `StopRule`, rows that answer many queries are always scanned.
    With `rule.deviations`, in a partitioned index, the partitions follow whose optimistic scores
    reach the k-th best key so far, or the predicted one. Otherwise `rule.rows` rows are scanned in
    order, and with `rule.extends_beyond` twice as many, and again, for queries whose answers lie
    late among them. Errors of codes are treated as noise, see `noise_deviations`. If fewer than k
    of the scanned rows pass the filters, every row is scanned.

    The queries are start .. stop of a batch; what is found for them is up to the collector. `costs`
    are those of `Judge`; without codes and `by_norm` rows are read in the order of memory; for
    `tells_late` and `model` see `witness_to`. `negates`: queries are the
    negated ones of the caller, whose scores are written.
    """

    def __init__(self, Snapshot snapshot, Filter filter, const float[:, ::1] queries, int64_t start,
                 int64_t stop, Collector collector not None, bint nearest=False, rule=None, *,
                 CancelFlag flag=None, costs=(0.0,) * 6, bint by_codes=True, bint by_norm=True,
                 bint tells_late=False, KeyModel model=None, bint negates=False):
        self.model = model
        self.batch = QueryBatch.of(snapshot, filter, queries, start, stop, collector.k, nearest,
                                   flag)
        self.batch.negates = negates
        if rule is not None:
            self.batch.epsilon, self.approximate = rule.epsilon, rule.approximate
            if rule.seconds is not None:
                self.batch.take_time(rule.seconds * self.batch.n_queries)
        self.make_room()
        self.collector = collector
        put_together(self, rule, costs, by_codes or self.approximate, by_norm, tells_late)
        self.prepare()

    # ---- parts of the rows, other queries ----

    def n_in_line(self):
        """Rows to search, in a line: positions of codes or the first segment, then the second."""
        return self.base.count + self.batch.filter.segments[1].count

    def search_only(self, int64_t first, int64_t end, Task leader=None):
        """Search only some rows of the line, in whole panels of codes.

        The leader has searched the first rows of the line and the rows outside of it, so that there
        is a threshold. Where rows are in a file, it stops if codes rule out too few of its rows,
        and `gave_up` is true: in the order of codes a file would be read here and there.
        """
        cdef int64_t i, before = self.base.count
        cdef int s
        if not 0 <= first <= end or first % FARANN_CODE_PANEL or end % FARANN_CODE_PANEL or (
                (first > 0) != (leader is not None)):
            raise ValueError("parts of the line must be whole panels, and all but the first have "
                             "a leader")
        self.is_part = True
        self.leads = first == 0 and self.batch.snapshot.in_file is not None
        self.base.first, self.base.stop = min(first, before), min(end, before)
        self.tail.first = max(first - before, 0)
        self.tail.stop = max(min(end - before, self.tail.count), 0)
        if leader is None:
            return
        if self.batch.snapshot.in_file is not None:
            self.judge.cost_passed = self.judge.cost_refined = self.judge.cost_reranked = 0.0
        self.base.count = max(self.base.stop - self.base.first, 0)  # rows left, for the judge
        for s in range(self.n_base):
            # The leader has searched the parts outside of the line.
            if (<Part>self.parts[s]).source is not self.base:
                (<Part>self.parts[s]).source = RowSource.of(self.batch, &NO_ROWS)
        if (leader.batch.n_queries != self.batch.n_queries
                or leader.batch.snapshot is not self.batch.snapshot):
            raise ValueError("a leader must have searched for the same queries")
        self.judge.leader = leader.judge
        for i in range(self.batch.n_queries):
            self.collector.raise_threshold(i, leader.collector.answers[i].threshold)

    def rule_out(self, double least):
        """Rule out rows whose key is below `least`, which under cosine is minus the cosine."""
        cdef int64_t i
        for i in range(self.batch.n_queries):
            self.collector.raise_threshold(i, floor_of(&self.batch.queries[i], least))

    # ---- what was found ----

    def write_top(self, float[:, ::1] scores, int64_t[:, ::1] ids, int64_t start):
        """Write the answers to rows start, start + 1, ... of `scores` and `ids`."""
        write_found(self, &scores[start, 0], &ids[start, 0], ids.shape[1])

    def write_keys(self, double[::1] keys, int64_t[::1] ids, int64_t start):
        """Write the key and the id of each query's furthest row, or -infinity and -1."""
        cdef int64_t i
        cdef const farann_topk *top
        for i in range(self.batch.n_queries):
            top = &self.collector.answers[i].top
            keys[start + i], ids[start + i] = -INFINITY, -1
            if top.count:
                keys[start + i] = top.entries[0].key / self.batch.queries[i].prepared.query_norm
                ids[start + i] = top.entries[0].id

    def counts(self):
        """Rows found, by query."""
        cdef int64_t i
        return [self.collector.answers[i].top.count for i in range(self.batch.n_queries)]

    def write_range(self, float[::1] scores, int64_t[::1] ids, int64_t start):
        """Write all answers, query after query, from `start` on."""
        write_found(self, &scores[start], &ids[start], -1)

    cdef void tell(self, int64_t i, float *witness, bint of_key) noexcept nogil:
        """What tells of the answer of query i; see `witness_to`."""
        cdef const farann_topk *top = &self.collector.answers[i].top
        cdef const farann_query *query = &self.batch.queries[i].prepared
        witness[0] = witness[1] = NAN
        if self.lateness is not None and self.lateness.coded.of[i].usable:
            witness[0] = self.lateness.of_queries[i]
        cdef double key, factor
        if self.model is not None and of_key and top.count == top.capacity:
            key = reduced_key(&self.batch.queries[i], top.entries[top.count - 1].key)
            factor = self.batch.round_query_vector(i)
            witness[1] = self.model.tell(
                self.batch.rounded, factor, query.vector_norm, self.batch.bias_sign,
                key if self.kth_keys == NULL else self.kth_keys[i])

    def witness_to(self, float[:, ::1] witness, int64_t start, int64_t every=1):
        """Write what tells of the answers of queries, from line `start` on: their lateness, and
        for a `model` what that tells of the k-th keys of one query in `every`; else NaN.

        Rows that answer many sample queries come first. The lateness of an answer is the mean of
        the square roots of its rows' panel numbers, from 1 on; rows in partitions have the panel
        number of the first partition, and rows with exact keys count as 0. Queries of another kind
        have other answers, which lie later.
        """
        cdef int64_t i
        cdef uint64_t before
        if witness.shape[1] != WITNESSES or not (
                0 <= start <= witness.shape[0] - self.batch.n_queries and every >= 1):
            raise ValueError("there must be two numbers for each query")
        with nogil:
            before = farann_arithmetic_begin()
            for i in range(self.batch.n_queries if self.lateness is not None else 0):
                self.tell(i, &witness[start + i, 0], (start + i) % every == 0)
            farann_arithmetic_end(before)


cdef int64_t most_code_rows(Task task, Codes codes):
    """Rows of the largest block of codes. With epsilon the rows found depend on the blocks."""
    cdef bint long_blocks = (task.batch.n_queries == 1 and not task.approximate
                             and task.batch.epsilon == 0.0)
    return (LONG_BLOCKS if long_blocks else 1) * code_rows_of(codes)


cdef take_judge(Search search, costs, bint goes_by_keys):
    """Add the judge, and exact keys for the queries that it switches to these."""
    cdef QueryBatch batch = search.batch
    search.judge = Judge.of(batch, search.collector,
                            CeilingBound.of(batch, search.collector.rows), costs, goes_by_keys)
    search.keys = key_level_of(batch, search.collector, search.judge)


cdef add_outliers(Search search, Codes codes, Level level):
    """Rows of the base without codes: they get exact keys first of all."""
    cdef Snapshot snapshot = search.batch.snapshot
    cdef Segment outliers = snapshot.segments[0]
    cdef RowSource rows
    outliers.count = codes.outliers.shape[0]
    if outliers.count == 0:
        return
    if snapshot.vectors:
        outliers.positions = &codes.outliers[0]
    rows = RowSource.of(search.batch, &outliers)
    if not snapshot.vectors:
        rows.read_as = &codes.outliers[0]  # the base has no other vectors
    search.add(rows, [level])


cdef put_together(Task task, rule, costs, bint by_codes, bint by_norm, bint tells_late):
    """Choose the levels, and then the parts."""
    cdef QueryBatch batch = task.batch
    cdef Snapshot snapshot = batch.snapshot
    cdef int64_t n_rows = batch.filter.n_rows, largest_block = batch.block_rows
    cdef bint few = n_rows <= FEW_ROWS and (snapshot.vectors or n_rows == 0)
    cdef bint listed = batch.filter.segments[0].positions != NULL
    cdef Codes codes = snapshot.codes
    if not snapshot.vectors and listed:
        raise ValueError("without vectors a filter must be a mask")
    if few or listed or not (by_codes or not snapshot.vectors):
        codes = None
    if codes is not None:
        largest_block = max(largest_block, most_code_rows(task, codes))
    task.collector.set_up(batch, 3 * CANDIDATE_ROOM if task.approximate else CANDIDATE_ROOM,
                          largest_block, not few)
    if task.approximate:
        costs = (0.0,) * 6
    # Where lateness is measured, rows with exact keys would not count.
    take_judge(task, costs, task.collector.by_keys and batch.epsilon == 0.0 and snapshot.vectors
               and (codes is None or not task.approximate or not tells_late))
    task.row_levels = [task.keys]
    if not few:
        task.row_levels.append(float_level_of(batch, task.collector, codes is None))
    if codes is None:
        put_rows_together(task, by_norm)
    else:
        put_codes_together(task, codes, rule, tells_late)
    task.n_base = task.n_parts
    put_tail_together(task, codes, rule)
    if task.model is not None and task.n_parts > task.n_base:  # it knows nothing of added rows
        task.kth_keys = <double *>batch.scratch.allocate(batch.n_queries, sizeof(double))


cdef double noise_deviations(Task task, double effort, bint added=False) noexcept:
    """The deviations of code errors in their bound; infinite where errors aren't noise.

    `effort`: those by which partitions are probed; infinite for rows in none.
    """
    if not task.approximate:
        return INFINITY
    if added or not task.batch.snapshot.vectors:
        return MORE_NOISE
    return min(MOST_NOISE, LEAST_NOISE + NOISE_BY_EFFORT * effort)


cdef put_rows_together(Task task, bint by_norm):
    """The parts of the rows of the last build, without codes."""
    cdef QueryBatch batch = task.batch
    cdef Codes order = batch.snapshot.codes
    if (by_norm and len(task.row_levels) > 1 and order is not None and not task.approximate
            and batch.snapshot.in_file is None and batch.filter.segments[0].positions == NULL
            and order.n_positions >= MANY_IN_ORDER and lie_by_norm(batch, order)):
        task.coded = CodedQueries.of_batch(batch, order, order.has_pca_filter)
        task.base = CodeSource.of(batch, order)
        add_outliers(task, order, task.keys)
        task.add(task.base, task.row_levels).bind(NormBound.of(task.coded))
        task.add(rest_behind(task.base), task.row_levels)
        return
    task.base = RowSource.of(batch, &batch.filter.segments[0])
    task.add(task.base, task.row_levels)


cdef put_codes_together(Task task, Codes codes, rule, bint tells_late):
    """The parts of the rows of the last build, by their codes."""
    cdef QueryBatch batch = task.batch
    cdef Snapshot snapshot = batch.snapshot
    cdef CodeSource base
    cdef int64_t most = INT64_MAX, n_first = codes.n_positions
    cdef bint probes = (task.approximate and rule.deviations is not None
                        and snapshot.partitions is not None)
    task.coded = CodedQueries.of_batch(
        batch, codes, codes.has_pca_filter and (probes or not task.approximate),
        noise_deviations(task, rule.deviations if probes else INFINITY))
    add_uncoded(task, CodeSource.of(batch, codes), task.coded)
    add_outliers(task, codes, task.keys)
    if task.approximate:
        if 0 < rule.budget <= snapshot.n_slots:
            most = whole_panels(rule.budget)
        if probes:
            n_first = min(snapshot.partitions.starts[0], whole_panels(most // 2))
        elif rule.rows is not None and rule.rows < n_first:
            n_first = whole_panels(rule.rows)
        n_first = min(n_first, most)
    task.base = base = CodeSource.of(batch, codes)
    base.n_scored, base.stop = rows_to_score(task, codes, n_first), n_first
    add_codes(task, base, task.coded)
    if not task.approximate:
        if snapshot.vectors:
            task.add(rest_behind(base), task.row_levels, task.coded)
    elif probes:
        task.means = PartitionMeans.of(task.coded, rule.deviations)
        add_codes(task, probed_partitions(task.means, task.collector, n_first, most,
                                          rule.predicted_threshold), task.coded)
    elif rule.extends_beyond is not None:
        task.lateness = Lateness.of(task.coded, task.collector, None)
        task.extends = True  # the source of late rows tells lateness
        add_codes(task, late_rows(task.lateness, rule.extends_beyond, n_first), task.coded)
    if tells_late and task.approximate and task.lateness is None:
        task.lateness = Lateness.of(task.coded, task.collector,
                                    snapshot.partitions if probes else None)


cdef put_tail_together(Task task, Codes codes, rule):
    """The parts of the rows added since."""
    cdef QueryBatch batch = task.batch
    cdef Snapshot snapshot = batch.snapshot
    cdef Segment rest = batch.filter.segments[1]
    if codes is not None and snapshot.added is not None:
        rest = snapshot.uncoded
        task.coded_added = CodedQueries.of_batch(
            batch, snapshot.added, snapshot.added.has_pca_filter,
            noise_deviations(task, INFINITY, True))
        add_uncoded(task, added_runs(batch, None), task.coded_added)
        add_codes(task, added_runs(batch, None if rule is None else rule.run_ends),
                  task.coded_added)
    task.tail = RowSource.of(batch, &rest)
    if rest.count:
        task.add(task.tail, task.row_levels)


cdef add_uncoded(Task task, CodeSource source, CodedQueries coded):
    """All coded rows, for queries that have no codes: keys of the rows, or of decoded ones."""
    cdef Level level = task.keys if task.batch.snapshot.vectors else decoded_level_of(coded)
    task.add(source, [level], coded, False)


cdef add_codes(Task task, CodeSource source, CodedQueries coded):
    """Coded rows, for the queries that have codes."""
    cdef Codes codes = coded.codes
    cdef Level level, whole = None
    cdef int64_t most = most_code_rows(task, codes), n_scored = source.n_scored
    cdef Part part
    if codes.has_pca_filter:
        level = whole = whole_level_of(coded, most, n_scored)
    if coded.pca_filtered or whole is None:
        level = code_level_of(coded, most, 0 if codes.has_pca_filter else n_scored)
    if task.approximate:  # close scores are resolved among the first rows alone
        level.first_judged = INT64_MAX
    part = task.add(source, [level], coded)
    if level is not whole:
        part.whole = whole
    if task.batch.snapshot.vectors:
        for level in [task.keys] if task.approximate else task.row_levels:
            part.take(level)
    if lie_by_norm(task.batch, codes) and task.batch.snapshot.codes.max_norm is not None:
        part.bind(NormBound.of(coded))


cdef int64_t rows_to_score(Task task, Codes codes, int64_t stop) noexcept:
    """How many first rows to score all of, up to `stop`, for a first threshold."""
    cdef int64_t k = task.batch.k, most = MOST_SCORED, n
    if task.collector.selects:
        most = LARGEST_BLOCK
    if (task.coded.width == 1 or SCORED_OF_K * k > most or codes.int4_alone
            or task.batch.filter.live != NULL or not uses(FIRST_ROWS) or not task.collector.ranks):
        return 0
    n = min(min(codes.n_leading, code_rows_of(codes)), min(most, stop))
    if codes.has_pca_filter:
        n = min(n, codes.n_hubs)
    return n - n % FARANN_CODE_PANEL if n >= LEAST_SCORED else 0


cdef write_found(Task task, float *scores, int64_t *ids, int64_t width):
    """Write `width` results of each query, one query after the other; -1: all that were found."""
    cdef int64_t i, n, at = 0
    cdef uint64_t before
    with nogil:
        before = farann_arithmetic_begin()
        for i in range(task.batch.n_queries):
            n = task.collector.answers[i].top.count if width < 0 else width
            task.collector.write(i, scores + at, ids + at, n)
            at += n
        farann_arithmetic_end(before)


cdef Segment NO_ROWS


def write_best(tasks, float[:, ::1] scores, int64_t[:, ::1] ids):
    """Merge what tasks found for the same queries in different rows."""
    cdef Task first = tasks[0]
    cdef list others = [(<Task?>task).collector for task in tasks[1:]]
    cdef int64_t i
    cdef uint64_t before = farann_arithmetic_begin()
    for i in range(first.batch.n_queries):
        first.collector.absorb(i, others)
        first.collector.write(i, &scores[i, 0], &ids[i, 0], scores.shape[1])
    farann_arithmetic_end(before)
