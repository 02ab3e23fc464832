"""Searches for the rows that are furthest from the nearest member of a set.

A row's key over a set is its smallest key over the members. The key for any one of them bounds it
from above, so whatever rules a row out for one of these rules it out for the set. Blocks of codes
are scanned for all members with the set's threshold. Rows that pass for all of them get exact keys,
one member after the other while they can still be an answer.
"""

cimport cython
from libc.math cimport INFINITY, NAN
from libc.stdint cimport uint32_t

from farann.native.bounds cimport lie_by_norm
from farann.native.collector cimport floor_of
from farann.native.kernels cimport *
from farann.native.levels cimport Level, code_rows_of
from farann.native.process cimport MEMBER_ORDER, CancelFlag, uses
from farann.native.query_batch cimport Query, QueryBatch
from farann.native.search cimport Part
from farann.native.snapshot cimport Filter, Snapshot
from farann.native.sources cimport Block, CodeSource, RowSource, Source
from farann.native.task cimport FEW_ROWS

@cython.no_gc  # what parts refer to never refers to them
cdef class SetCollector(Collector):
    """Collects the k best rows of each set, whose members are the queries of a batch."""

    cdef allocate_answers(self, bint exact):
        """Sets have them."""
        self.meets_all = True

    cdef take_sets(self, filter, const int64_t[::1] offsets, int64_t start, int64_t k,
                   int64_t largest_block):
        """Take the sets: members offsets[s] .. offsets[s + 1] each, and what they may find."""
        cdef int64_t i, s, n_places = 0, n = self.batch.n_queries
        cdef Filter chosen = filter
        cdef farann_entry *entries
        cdef uint32_t *places = NULL
        self.count = offsets.shape[0] - 1
        if self.count < 1 or offsets[0] != 0 or offsets[self.count] != n:
            raise ValueError("offsets must be those of the members")
        chosen.check_queries(start + self.count)
        self.sets = <MemberSet *>self.batch.scratch.allocate(self.count, sizeof(MemberSet))
        entries = <farann_entry *>self.batch.scratch.allocate(self.count * k, sizeof(farann_entry))
        self.owners = <int64_t *>self.batch.scratch.allocate(4 * n, sizeof(int64_t))
        self.order, self.seen = self.owners + n, self.owners + 2 * n
        self.ruled_out = self.owners + 3 * n
        self.least = <double *>self.batch.scratch.allocate(
            largest_block, sizeof(double) + sizeof(int64_t))
        self.kept = <int64_t *>(self.least + largest_block)
        if self.batch.rests is not None:
            self.rest_keys = <double *>self.batch.scratch.allocate(largest_block, sizeof(double))
        self.margins = <float *>self.batch.scratch.allocate(
            largest_block, sizeof(float) + 2 * sizeof(int32_t))
        self.marks = <int32_t *>(self.margins + largest_block)
        self.touched = self.marks + largest_block
        for s in range(self.count):
            n_places += farann_id_set_room(chosen.n_excluded(start + s))
        if n_places:
            places = <uint32_t *>self.batch.scratch.allocate(n_places, sizeof(uint32_t))
        for s in range(self.count):
            if offsets[s] >= offsets[s + 1]:
                raise ValueError("a set must have a member")
            self.sets[s].first, self.sets[s].end = offsets[s], offsets[s + 1]
            self.sets[s].last_coded = -1
            self.sets[s].top.entries, self.sets[s].top.capacity = entries + s * k, k
            self.sets[s].threshold = self.floor
            self.sets[s].filter = chosen.of_query(start + s, places)
            places += farann_id_set_room(chosen.n_excluded(start + s))
            for i in range(offsets[s], offsets[s + 1]):
                self.owners[i], self.order[i] = s, i

    cdef void find_coded(self, CodedQueries coded) noexcept nogil:
        """Note which members have codes."""
        cdef int64_t i
        for i in range(self.batch.n_queries):
            if coded.of[i].usable:
                self.sets[self.owners[i]].last_coded = i

    cdef bint are_raw(self, const MemberSet *members) noexcept nogil:
        """Whether keys of a set are as they are in a search with its members as queries.

        Those of a single member always are, so that answers are those of `search_furthest`.
        """
        return self.raw or members.end - members.first == 1

    cdef bint all_have_k_rows(self) noexcept nogil:
        cdef int64_t s
        for s in range(self.count):
            if self.sets[s].top.count < self.sets[s].top.capacity:
                return False
        return True

    cdef double bar(self, int64_t i) noexcept nogil:
        """The set's threshold as a reduced key of one of its members."""
        cdef const Query *query = &self.batch.queries[i]
        cdef const MemberSet *members = &self.sets[self.owners[i]]
        cdef double scale = query.prepared.key_scale if self.are_raw(members) else 1.0
        self.found[i].threshold = floor_of(query, members.threshold * scale)
        return Collector.bar(self, i)

    cdef void open(self, const int64_t *members, int64_t count) noexcept nogil:
        Collector.open(self, members, count)
        self.by_scores = False

    cdef void select(self, int64_t j, int64_t i, const float *scores, int64_t n,
                     const farann_block *where) noexcept nogil:
        """Note by how much rows pass for a member; behind the last one, settle its set."""
        cdef MemberSet *members = &self.sets[self.owners[i]]
        cdef int64_t row
        if members.n_scored == 0:
            for row in range(n):
                self.margins[row] = INFINITY
        members.n_scored += 1
        self.by_scores = True
        self.batch.kernels.lower_f32(scores, n, self.float_threshold(i, 0.0), self.margins)
        if i == members.last_coded:
            self.settle_set(members, n, where)

    cdef void admit(self, int64_t j, int64_t i, const farann_block *where) noexcept nogil:
        """Mark the rows that passed for a member; behind the last one, settle its set.

        Where it had scores, `select` did that.
        """
        cdef MemberSet *members = &self.sets[self.owners[i]]
        cdef farann_candidates *passed = &self.tile[j]
        cdef int64_t row, at
        if members.last_coded < 0 or self.by_scores:
            return
        members.n_listed += 1
        for at in range(passed.count):
            row = passed.slots[at]
            if self.marks[row] == 0:
                self.touched[self.n_touched] = <int32_t>row
                self.n_touched += 1
            self.marks[row] += 1
        if i == members.last_coded:
            self.settle_set(members, 0, where)

    cdef void settle_set(self, MemberSet *members, int64_t n,
                         const farann_block *where) noexcept nogil:
        """Give the rows of a block that passed for all members exact keys; `n`: by scores alone."""
        cdef int64_t at, slot, count = 0, row
        if members.n_listed == 0:
            self.n_touched = self.batch.kernels.find_f32(self.margins, n, 0.0, self.touched)
        for at in range(self.n_touched):
            row = self.touched[at]
            if members.n_listed:
                if self.marks[row] != members.n_listed or (
                        members.n_scored and not self.margins[row] > 0.0):
                    self.marks[row] = 0
                    continue
                self.marks[row] = 0
            slot = where.slots[row] if where.slots != NULL else where.first + row
            if 0 <= slot < where.end and farann_filter_allows(&members.filter, slot):
                self.kept[count] = slot
                count += 1
        members.n_scored = members.n_listed = self.n_touched = 0
        self.batch.passed += count
        self.score_kept(members, &self.batch.snapshot.segments[0], count)

    cdef void score_rows(self, MemberSet *members, const RowRange *rows) noexcept nogil:
        """Give rows exact keys alone."""
        cdef int64_t at, position, count = 0
        for at in range(rows.start, rows.start + rows.n):
            position = at if rows.segment.positions == NULL else rows.segment.positions[at]
            if farann_filter_allows(&members.filter, rows.segment.first + position):
                self.kept[count] = position
                count += 1
        self.batch.scanned += count
        self.score_kept(members, &rows.segment, count)

    cdef void score_kept(self, MemberSet *members, const Segment *segment,
                         int64_t n) noexcept nogil:
        """Give n rows of a segment exact keys, member by member while they may be an answer."""
        cdef int64_t at, i, j, count
        cdef double scale
        cdef farann_block where
        cdef farann_filter all_allowed
        cdef const double *rest
        for j in range(n):
            self.least[j] = INFINITY
        for at in range(members.first, members.end):
            if n == 0:
                break
            i, scale = self.order[at], 1.0
            if not self.are_raw(members):
                scale = self.batch.queries[i].prepared.query_norm
            self.rows.keys_at(segment, self.kept, n, self.batch.exact_query(i), self.keys)
            rest = self.batch.rest_of(i)
            if rest != NULL:
                self.rows.keys_at(segment, self.kept, n, rest, self.rest_keys)
                for j in range(n):
                    self.keys[j] += self.rest_keys[j]
            self.batch.rescored += n
            self.batch.bytes_read += n * self.batch.snapshot.row_bytes
            count = 0
            for j in range(n):
                self.least[count] = min(self.least[j], self.keys[j] / scale)
                self.kept[count] = self.kept[j]
                count += self.least[count] >= members.threshold
            self.seen[i] += n
            self.ruled_out[i] += n - count
            n = count
        self.sort_members(members)
        if n == 0:
            return
        where = farann_block(segment.first, self.kept, NULL, self.batch.snapshot.ids_by_slot,
                             self.batch.snapshot.n_slots)
        all_allowed.alive, all_allowed.groups, all_allowed.excluded.bits = NULL, NULL, 0
        farann_topk_push_block(&members.top, self.least, n, 1.0, &where, &all_allowed)
        if members.top.count == members.top.capacity:
            members.threshold = members.top.entries[0].key

    cdef void sort_members(self, const MemberSet *members) noexcept nogil:
        """Move members forward that rule out a larger share of their rows than those before."""
        cdef int64_t at, i, before
        if not uses(MEMBER_ORDER):
            return
        for at in range(members.first + 1, members.end):
            i, before = self.order[at], self.order[at - 1]
            if (<double>self.ruled_out[i] * self.seen[before]
                    > <double>self.ruled_out[before] * self.seen[i]):
                self.order[at - 1], self.order[at] = i, before

    cdef void finish(self) noexcept nogil:
        cdef int64_t s
        for s in range(self.count):
            farann_entries_sort(self.sets[s].top.entries, self.sets[s].top.count,
                                self.batch.given_up)


@cython.no_gc
cdef class SetKeyLevel(Level):
    """Exact keys of all rows of a block over sets, each met once, by its first member."""

    @staticmethod
    cdef SetKeyLevel of(SetCollector collector, bint uncoded):
        """`uncoded`: of sets that have no member with codes."""
        cdef SetKeyLevel self = SetKeyLevel.__new__(SetKeyLevel)
        self.batch, self.collector, self.uncoded = collector.batch, collector, uncoded
        self.most = collector.batch.block_rows
        return self

    cdef void take_block(self, Source source, Block *block, int64_t n_members) noexcept nogil:
        self.rows = source.rows_of(block)
        block.n = self.rows.n

    cdef void scan(self, const Block *block, const int64_t *members, int64_t count,
                   Collector collector) noexcept nogil:
        cdef MemberSet *chosen = &self.collector.sets[self.collector.owners[members[0]]]
        self.collector.by_scores = True  # nothing was listed
        if members[0] == chosen.first and not (self.uncoded and chosen.last_coded >= 0):
            self.collector.score_rows(chosen, &self.rows)


@cython.no_gc
cdef class SetBound(Bound):
    """Sets that rows can still answer: for that they must be able to answer each member."""

    @staticmethod
    cdef SetBound of(SetCollector collector, NormBound norms, bint enough):
        """`enough`: no rows are wanted once all sets have k."""
        cdef SetBound self = SetBound.__new__(SetBound)
        self.batch, self.collector, self.norms = collector.batch, collector, norms
        self.enough = enough
        return self

    cdef int64_t keep_alive(self, const Block *block, int64_t *members, int64_t n,
                            Collector collector) noexcept nogil:
        cdef int64_t j, i, kept = 0, begin = 0, panel = block.start // FARANN_CODE_PANEL
        cdef bint can_answer = True
        if self.enough and block.begins and self.collector.all_have_k_rows():
            return 0
        for j in range(n if self.norms is not None else 0):
            i = members[j]
            members[kept] = i
            kept += 1
            can_answer &= (self.norms.max_key(panel, i) + self.norms.coded.of[i].whole.off
                           >= collector.bar(i))
            if j + 1 == n or self.collector.owners[members[j + 1]] != self.collector.owners[i]:
                if not can_answer:
                    kept = begin
                begin, can_answer = kept, True
        return kept if self.norms is not None else n


cdef class SetSearch(Task):
    """Some sets of a batch: `run` answers them, as a search for their members does.

    Parameters
    ----------
    snapshot : Snapshot
        With vectors.
    filter : Filter
        Which rows may be found; excluded ids are those of sets, counted through the whole batch.
    members : float64 (m, dim)
        Of these sets, one set after the other.
    offsets : int64 (n + 1,)
        Where the members of each set begin, from 0 on; no set is empty.
    start : int
        The first set's number in the whole batch.
    k : int
    epsilon : float
        No row that is left out is more than (1 + epsilon) times as far as the k-th found, or
        better by epsilon.
    budget : int
        How many rows of the last build to scan, in whole panels; 0: all.
    seconds : float
        For each set: what has been found by then is the answer; 0: no limit.
    rests : float64 (m, dim), optional
        Of members that have more than 29 bits: what is to be taken from them to leave so many, and
        has no more than 24. Products with rows are exact then, and have the same bits everywhere.
    raw : bool
        Compare keys of members as they are, under cosine, too; scores are these keys. A member may
        be zero then.
    floor : float
        Rows below this key over their set need not be found.
    """

    def __init__(self, Snapshot snapshot, Filter filter, const double[:, ::1] members,
                 const int64_t[::1] offsets, int64_t start, int64_t k, *, double epsilon=0.0,
                 int64_t budget=0, double seconds=0.0, rests=None, bint raw=False, double floor=-INFINITY,
                 CancelFlag flag=None):
        cdef int64_t n = members.shape[0], largest_block
        cdef bint listed = filter.segments[0].positions != NULL
        cdef Codes codes = None if listed or filter.n_rows <= FEW_ROWS else snapshot.codes
        if not snapshot.vectors:
            raise ValueError("sets can't be searched for without vectors")
        # The sets apply their own exclusions.
        if members.shape[1] != snapshot.dim:
            raise ValueError("members must have the dimension of the rows")
        self.batch = QueryBatch.of(snapshot, filter.for_others(n), None, 0, n, 1, False, flag)
        self.batch.wide, self.batch.rests = members, rests
        if rests is not None and (rests.shape[0] != n or rests.shape[1] != members.shape[1]):
            raise ValueError("rests must have the shape of members")
        self.batch.epsilon = epsilon
        if seconds > 0.0:
            self.batch.take_time(seconds * (offsets.shape[0] - 1))
        self.make_room()
        largest_block = self.batch.block_rows
        if codes is not None:
            largest_block = max(largest_block, self.most_code_rows(codes))
        self.collector = self.sets = SetCollector.__new__(SetCollector)
        self.sets.raw, self.sets.floor = raw, floor
        self.sets.set_up(self.batch, 0, largest_block, True, False)
        self.sets.take_sets(filter, offsets, start, max(min(k, filter.n_rows), 1), largest_block)
        self.take_judge((0.0, 0.0, 0.0, 0.0), False)
        if codes is None:
            self.add(RowSource.of(self.batch, &filter.segments[0]),
                     SetKeyLevel.of(self.sets, False))
        else:
            self.put_codes_together(codes, budget)
        if filter.segments[1].count:
            self.add(RowSource.of(self.batch, &filter.segments[1]),
                     SetKeyLevel.of(self.sets, False), None, True, True)
        self.prepare()
        if self.coded is not None:
            self.sets.find_coded(self.coded)

    cdef put_codes_together(self, Codes codes, int64_t budget):
        """The parts of the rows of the last build."""
        cdef int64_t n = codes.n_positions
        self.coded = CodedQueries.of_batch(self.batch, codes, False, codes.has_pca_filter)
        self.add(CodeSource.of(self.batch, codes, 0), SetKeyLevel.of(self.sets, True), self.coded,
                 False)
        self.add_outliers(codes, SetKeyLevel.of(self.sets, False))
        if 0 < budget < n:
            n = min(whole_panels(budget), n)
        self.add_some(codes, 0, n)
        if n < codes.n_positions:  # a budget must not leave fewer than k
            self.add_some(codes, n, codes.n_positions)

    cdef add_some(self, Codes codes, int64_t first, int64_t stop):
        """Coded rows at some positions; all of a block are scored if tiles of members are."""
        cdef CodeSource source = CodeSource.of(self.batch, codes, 0)
        cdef NormBound norms = NormBound.of(self.coded) if lie_by_norm(self.batch, codes) else None
        cdef bint scored = (self.coded.width > 1 and not codes.has_pca_filter
                            and not codes.int4_alone)
        source.first, source.stop, source.all_scored = first, stop, scored
        cdef Part part = self.add_codes(source, self.coded,
                                        code_rows_of(codes) if scored else 0, False)
        part.bound, part.floats = SetBound.of(self.sets, norms, first > 0), None

    def write_top(self, float[:, ::1] scores, int64_t[:, ::1] ids, int64_t start):
        """Write the answers to rows start, start + 1, ..., padded where fewer rows were found."""
        cdef SetCollector collector = self.sets
        cdef int64_t s, j
        cdef double norm
        cdef const farann_topk *top
        for s in range(collector.count):
            top, norm = &collector.sets[s].top, 1.0
            if collector.are_raw(&collector.sets[s]):
                norm = self.batch.queries[collector.sets[s].first].prepared.query_norm
            for j in range(ids.shape[1]):
                scores[start + s, j], ids[start + s, j] = <float>NAN, -1
                if j < top.count:
                    scores[start + s, j] = <float>(
                        top.entries[j].key + 0.0 if collector.raw  # never -0.0
                        else farann_score(self.batch.metric, top.entries[j].key, norm))
                    ids[start + s, j] = top.entries[j].id

    def write_keys(self, double[:, ::1] keys, int64_t start):
        """Write the keys of the answers, -infinity where there are fewer rows."""
        cdef SetCollector collector = self.sets
        cdef int64_t s, j
        for s in range(collector.count):
            for j in range(keys.shape[1]):
                keys[start + s, j] = -INFINITY
                if j < collector.sets[s].top.count:
                    keys[start + s, j] = collector.sets[s].top.entries[j].key
