"""Searches: exact and approximate, from the first row to the answer.

A search is put together of parts, each a class of few fields in a module of its own:

    QueryBatch        the queries, and what is derived from each
    Candidates        rows that may belong to an answer; thresholds; the k best
    KeyScan           exact keys of whole blocks, where many rows share the k-th key
    Ceilings          keys that no row is above: then smaller ids alone count
    RowScan           float32 rows: by exact keys alone, as they lie, or packed
    CodedQueries      queries as codes
    CodeScan          a block of codes: scanned for tiles of queries, refined
    UncodedRows       rows without codes
    FirstRows         the first coded rows, for a threshold
    CodePass          all coded rows, for queries that they can still answer
    TailScan          rows added since the last build
    OrderedScan, PartitionChoice, PartitionProbe, Lateness
                      approximate searches: rows that are always scanned, partitions
"""

from libc.stdint cimport INT64_MAX, int64_t, uint64_t

from farann.native.answers cimport Answers
from farann.native.candidates cimport Candidates
from farann.native.code_pass cimport CodePass
from farann.native.code_scan cimport CodeScan
from farann.native.coded_queries cimport CodedQueries, most_code_rows
from farann.native.codes cimport Codes
from farann.native.cost_judge cimport CostJudge
from farann.native.first_rows cimport FirstRows
from farann.native.key_scan cimport KeyScan
from farann.native.kernels cimport *
from farann.native.lateness cimport Lateness
from farann.native.norm_pruning cimport NormPruning
from farann.native.ordered_scan cimport OrderedScan
from farann.native.partition_choice cimport PartitionChoice
from farann.native.partition_probe cimport PartitionProbe
from farann.native.partitions cimport Partitions
from farann.native.position_keys cimport PositionKeys
from farann.native.process cimport CancelFlag
from farann.native.query_batch cimport Query, QueryBatch
from farann.native.row_scan cimport ExactScan, PackedScan, RowMajorScan
from farann.native.snapshot cimport Filter, Segment, Snapshot
from farann.native.tail_scan cimport TailScan
from farann.native.uncoded_rows cimport UncodedRows

cdef enum:
    FEW_ROWS = 64  # rows up to which exact keys of all cost less than a rough pass


cdef bint keys_alone(QueryBatch batch):
    """Whether all rows get exact keys, because they are few."""
    cdef int64_t n = batch.filter.n_rows
    return n <= FEW_ROWS and (batch.snapshot.vectors or n == 0)


cdef Codes codes_for(QueryBatch batch, bint by_codes):
    """The codes to search by; None: rows are scored in float32, or by exact keys alone."""
    cdef bint listed = batch.filter.segments[0].positions != NULL
    if not batch.snapshot.vectors and listed:
        raise ValueError("without vectors a filter must be a mask")
    if keys_alone(batch) or listed or not (by_codes or not batch.snapshot.vectors):
        return None
    return batch.snapshot.codes


cdef class Task(Answers):
    """Some queries of an exact search: `run` answers them.

    With `radii` it is for all rows beyond these, or with `nearest` for the k nearest of them.
    """

    def __init__(self, Snapshot snapshot, Filter filter, const float[:, ::1] queries,
                 int64_t start, int64_t stop, int64_t k, bint nearest, rule=None, *, radii=None,
                 CancelFlag flag=None, costs=(0.0, 0.0, 0.0, 0.0), bint by_codes=True):
        cdef QueryBatch batch = QueryBatch.of(snapshot, filter, queries, start, stop, k, nearest,
                                              flag)
        cdef Codes codes = codes_for(batch, by_codes)
        if rule is not None:
            batch.take_rule(rule)
        if radii is not None:
            if len(radii) != len(queries):
                raise ValueError("there must be a radius for each query")
            batch.take_radii(radii, start)
        self.put_together(batch, codes, CANDIDATE_ROOM, True, True)
        if codes is not None:
            self.put_codes_together(codes, costs, False, codes.has_pca_filter)
        self.prepare()

    # ---- what a search is made of ----

    cdef put_together(self, QueryBatch batch, Codes codes, int64_t room, bint keys_may_decide,
                      bint exact):
        """The parts that all searches have."""
        cdef int64_t largest_block = batch.block_rows, uncoded
        cdef bint few = keys_alone(batch), packed = not few and batch.n_queries >= FEW_QUERIES
        if codes is not None:
            largest_block = max(largest_block, most_code_rows(codes, batch.n_queries))
        self.batch, self.first, self.end = batch, 0, INT64_MAX
        self.candidates = Candidates.of(batch, room, largest_block, not few, exact)
        self.key_scan = KeyScan.of(
            batch, self.candidates, keys_may_decide and not (batch.beyond or batch.best_beyond)
            and batch.epsilon == 0.0 and batch.snapshot.vectors, packed)
        if few:
            self.row_scan = ExactScan.__new__(ExactScan)
        elif packed:
            self.row_scan = PackedScan.__new__(PackedScan)
        else:
            self.row_scan = RowMajorScan.__new__(RowMajorScan)
        self.row_scan.set_up(batch, self.candidates, self.key_scan)
        uncoded = (batch.filter.segments[1].count if batch.snapshot.added is None
                   else batch.snapshot.uncoded.count)
        if not few and (codes is None or uncoded > 0) and not self.row_scan.make_room():
            raise MemoryError("a search needs memory for the vectors of its queries")

    cdef put_codes_together(self, Codes codes, costs, bint approximate, bint pca_filtered,
                            run_ends=None):
        """The parts that go by codes."""
        cdef QueryBatch batch = self.batch
        cdef NormPruning pruning
        cdef PositionKeys position_keys
        self.coded = CodedQueries.of(batch, self.candidates, codes, approximate, pca_filtered)
        self.code_scan = CodeScan.of(batch, self.candidates, self.key_scan, self.coded)
        self.uncoded = UncodedRows.of(batch, self.candidates, self.coded, self.code_scan)
        pruning = NormPruning.of(batch, self.candidates, self.coded)
        position_keys = PositionKeys.of(batch, self.candidates, self.key_scan, self.coded, pruning)
        self.first_rows = FirstRows.of(batch, self.candidates, self.key_scan, self.coded,
                                       self.code_scan, position_keys,
                                       None if approximate else self.row_scan)
        self.code_pass = CodePass.of(batch, self.candidates, self.coded, self.code_scan, pruning,
                                     CostJudge.of(batch, pruning, costs,
                                                  self.candidates.selects), self.first_rows,
                                     position_keys)
        if batch.snapshot.added is not None:
            self.tail = TailScan.of(batch, self.candidates, self.row_scan, self.coded,
                                    self.code_scan, self.code_pass, run_ends)

    cdef prepare(self):
        """All that is derived from queries before the search."""
        cdef int64_t i
        cdef uint64_t before
        with nogil:
            before = farann_arithmetic_begin()
            for i in range(self.batch.n_queries):
                if self.batch.stopped():
                    break
                self.prepare_query(i)
            if self.coded is not None and self.coded.code_width > 1:
                self.coded.make_tiles()
            farann_arithmetic_end(before)
        self.batch.check_cancelled()

    cdef void prepare_query(self, int64_t i) noexcept nogil:
        self.batch.find_query_vector(i)
        if self.row_scan.query_vectors != NULL:
            self.row_scan.take_query(i)
        if self.batch.beyond:
            self.batch.set_radius(i)
        elif self.batch.best_beyond:
            self.batch.set_ceiling(i)
        if self.coded is not None:
            self.coded.encode(i)

    # ---- the search ----

    def run(self):
        """Find the answers; the GIL is released meanwhile."""
        cdef uint64_t before
        with nogil:
            before = farann_arithmetic_begin()
            self.answer()
            farann_arithmetic_end(before)
        if self.lacks_tail:
            self.search_added()
        self.check_finished()

    cdef void answer(self) noexcept nogil:
        """Find the answers, between the calls that begin and end arithmetic."""
        cdef int64_t coded = 0
        self.key_scan.in_float32 = self.coded is None
        if self.coded is None:
            self.scan_segment(0)
            self.answer_from_tail(False)
            return
        self.batch.kernels.begin()
        if self.first == 0:
            self.uncoded.score_uncoded()
        coded = self.code_pass.scan_all_codes(self.first, self.end)
        self.batch.kernels.end()
        self.gave_up = coded < self.coded.codes.n_positions and not self.batch.stopped()
        self.futile = self.gave_up or self.code_pass.judge.was_futile()
        if self.gave_up and self.end == INT64_MAX:
            self.key_scan.in_float32 = True
            self.row_scan.scan_without_codes(self.coded.codes, coded)
        self.answer_from_tail(not self.gave_up)

    cdef void answer_from_tail(self, bint by_codes) noexcept nogil:
        """Settle the answers with the rows of the tail, unless these have codes that pay, too."""
        self.lacks_tail = by_codes and self.tail is not None and not self.batch.stopped()
        if not self.lacks_tail:
            self.scan_segment(1)
            self.candidates.finish()

    cdef search_added(self):
        """Score the tail by its codes, and settle the answers."""
        cdef const Segment *rest = &self.batch.snapshot.uncoded
        cdef uint64_t before
        self.tail.begin()
        with nogil:
            before = farann_arithmetic_begin()
            self.tail.scan()
            self.row_scan.scan(rest, 0, rest.count)
            self.candidates.finish()
            farann_arithmetic_end(before)

    cdef search_base(self):
        """Take the codes of the base again."""
        self.tail.end()

    cdef void scan_segment(self, int s) noexcept nogil:
        """Score what there is to search of a segment, in float32 or by exact keys."""
        cdef const Segment *segment = &self.batch.filter.segments[s]
        cdef int64_t before = self.n_before_tail() if s == 1 else 0
        self.row_scan.scan(segment, max(self.first - before, 0),
                           min(self.end - before, segment.count))

    cdef check_finished(self):
        self.batch.check_cancelled()
        if self.batch.scratch.failed:
            raise MemoryError(self.what_lacked_memory())

    cdef str what_lacked_memory(self):
        return "no memory for the rows that were found; ask for fewer"

    # ---- parts of the rows, other queries ----

    def n_in_line(self):
        """Rows to search, in a line: positions of codes or the first segment, then the second."""
        return self.n_before_tail() + self.batch.filter.segments[1].count

    cdef int64_t n_before_tail(self) noexcept nogil:
        if self.coded is None:
            return self.batch.filter.segments[0].count
        return self.coded.codes.n_positions

    def search_only(self, int64_t first, int64_t end, Task leader=None):
        """Search only some rows of the line, in whole panels of codes.

        The leader has searched its first ones, and there is a threshold. What has no place in the
        line belongs to the first rows. If codes rule out too little, the leader stops, and
        `gave_up` is true.
        """
        cdef int64_t i
        cdef Query *query
        if not 0 <= first <= end or first % FARANN_CODE_PANEL or end % FARANN_CODE_PANEL or (
                (first > 0) != (leader is not None)):
            raise ValueError("parts of the line must be whole panels, and all but the first have "
                             "a leader")
        self.first, self.end = first, end
        if leader is None:
            return
        if (leader.batch.n_queries != self.batch.n_queries
                or leader.batch.snapshot is not self.batch.snapshot):
            raise ValueError("a leader must have searched for the same queries")
        for i in range(self.batch.n_queries):
            query = &self.batch.queries[i]
            query.threshold = leader.batch.queries[i].threshold
            if query.coded:
                query.slack = query.whole.off

    cdef void begin_again(self, const float *given) noexcept nogil:
        """Forget the one query of this search, and prepare another in its place."""
        self.batch.begin_again(given)
        self.batch.scratch.failed, self.row_scan.n_seen = False, 0
        if self.coded is not None:
            self.code_pass.begin_again()
        self.prepare_query(0)


cdef class ApproximateTask(Task):
    """Some queries of a search that stops early, where its rule says: an approximate `StopRule`.

    The rows that answer many queries are always scanned. With `deviations`, in a partitioned index,
    the partitions follow that reach the k-th best found so far, or what that is predicted to be in
    the end; otherwise `rows` are scanned in their order.
    Errors of codes are taken for noise: what they allow for is three standard deviations of it.
    Where filters leave fewer than k rows of all these, every row is scanned.
    With `extends_beyond` twice as many rows are scanned for queries whose answers come later, and
    again, until they lie early among the rows scanned.
    With `tells_late` the search tells how late the answers of queries came, see `late_to`.
    """

    def __init__(self, Snapshot snapshot, Filter filter, const float[:, ::1] queries,
                 int64_t start, int64_t stop, int64_t k, rule, *, bint nearest=False,
                 CancelFlag flag=None, bint tells_late=False):
        cdef Partitions partitions = None if rule.deviations is None else snapshot.partitions
        cdef QueryBatch batch = QueryBatch.of(snapshot, filter, queries, start, stop, k, nearest,
                                              flag)
        cdef Codes codes = codes_for(batch, True)
        cdef int64_t budget = rule.budget, most = INT64_MAX, n_first
        batch.take_rule(rule)
        if rule.extends_beyond is not None and partitions is None:
            self.extends, self.late, tells_late = True, rule.extends_beyond, True
        # Thresholds may rise in steps here and let more rows through in between, so there is three
        # times the room. Rows that got exact keys early would not count when lateness is measured.
        self.put_together(batch, codes, 3 * CANDIDATE_ROOM, codes is None or not tells_late,
                          False)
        if codes is not None:
            self.put_codes_together(codes, (0.0, 0.0, 0.0, 0.0), True,
                                    codes.has_pca_filter and partitions is not None, rule.run_ends)
            if 0 < budget <= snapshot.n_slots:
                most = whole_panels(budget)
            n_first = codes.n_positions
            if partitions is not None:
                n_first = min(partitions.starts[0], whole_panels(most // 2))
            elif rule.rows is not None and rule.rows < n_first:
                n_first = whole_panels(rule.rows)
            self.ordered = OrderedScan.of(batch, self.candidates, self.coded, self.code_scan,
                                          self.first_rows, self.uncoded, min(n_first, most))
            if partitions is not None:
                self.choice = PartitionChoice.of(batch, self.candidates, self.coded, self.code_scan,
                                                 rule.deviations, most,
                                                 rule.predicted_threshold)
                self.probe = PartitionProbe.of(batch, self.candidates, self.coded, self.code_scan,
                                               self.ordered, self.choice)
            if tells_late:
                self.lateness = Lateness.of(batch, self.candidates, self.coded, partitions)
        self.prepare()

    cdef void prepare_query(self, int64_t i) noexcept nogil:
        Task.prepare_query(self, i)
        if self.choice is not None:
            self.choice.encode(i)

    cdef void answer(self) noexcept nogil:
        if self.coded is None:
            Task.answer(self)
            return
        self.batch.kernels.begin()
        self.uncoded.score_uncoded()
        if self.choice is not None and self.choice.predicts:
            self.probe.choose_for_all()
        self.ordered.scan_in_order(0, self.ordered.n_first)
        if self.probe is not None:
            self.probe.run()
        if self.lateness is not None:
            self.lateness.tell_late()
        if self.extends:
            self.ordered.extend(self.lateness, self.late)
        self.ordered.complete()
        self.batch.kernels.end()
        self.answer_from_tail(True)

    cdef void begin_again(self, const float *given) noexcept nogil:
        if self.choice is not None:
            self.choice.predicts = self.choice.may_predict
        Task.begin_again(self, given)

    cdef str what_lacked_memory(self):
        return "no memory for the list of cells to visit; ask fewer queries at once"

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
