"""Searches for the rows that are furthest from the nearest member of a set.

A row's key over a set is its smallest key over the members. The key for any one member bounds it
from above, so a row that is ruled out for one member is ruled out for the set. Blocks of codes are
scanned with the set's threshold for a tile of its members, those that rule out most. Rows that pass
for all of them get exact keys, member by member while they can still be an answer.
"""

cimport cython
from libc.math cimport INFINITY, NAN

from farann.native.bounds cimport Bound, NormBound, lie_by_norm
from farann.native.codes cimport Codes
from farann.native.collector cimport Collector, bar_of, floor_of
from farann.native.judge cimport KEYS
from farann.native.kernels cimport *
from farann.native.levels cimport KEY_ROWS, Level, code_rows_of, set_level_of
from farann.native.query_batch cimport CodedQueries, Query, QueryBatch
from farann.native.search cimport Search
from farann.native.snapshot cimport Filter, Segment, Snapshot
from farann.native.sources cimport Block, CodeSource, RowSource, Source
from farann.native.task cimport FEW_ROWS, add_outliers, take_judge


cdef struct MemberSet:
    int64_t first, end      # its members, queries of the batch
    farann_topk top
    farann_filter filter
    double threshold        # a key that every row of the answer reaches
    int64_t passed          # rows whose codes let them pass
    bint open               # whether the rows that are left of a part can be an answer


@cython.no_gc  # references between parts form no cycles
cdef class SetCollector(Collector):
    """Collects the k best rows of each set, whose members are the queries of a batch."""

    cdef const int32_t[::1] by_slot  # the groups of rows
    cdef int64_t per_group  # rows of a group in an answer, at most; 0: any
    cdef int32_t *groups    # of the entries of answers, set after set
    cdef bint raw           # keys of members are compared as they are
    cdef double floor       # every set's first threshold
    cdef int64_t count      # of sets
    cdef MemberSet *sets
    cdef int64_t *owners    # the set of each member
    cdef double *least      # by row that gets exact keys: its smallest key over the members met
    cdef int64_t *rows_at   # and its place in its segment
    cdef double *rest_keys  # the keys of the rest of a member
    cdef int64_t *order     # members of each set, those first that rule out most
    cdef int64_t *seen      # by member: rows that got a key for it, and those that it ruled out
    cdef int64_t *ruled_out

    cdef allocate_answers(self):
        """Allocate nothing: `take_sets` makes room by set."""

    cdef take_sets(self, Filter filter, const int64_t[::1] offsets, int64_t start, int64_t k,
                   int64_t largest_block):
        """Take the sets, members offsets[s] .. offsets[s + 1] each, and their filter."""
        cdef int64_t i, s, n_places = 0, n = self.batch.n_queries
        cdef farann_entry *entries
        cdef uint32_t *places = NULL
        self.count = offsets.shape[0] - 1
        if self.count < 1 or offsets[0] != 0 or offsets[self.count] != n:
            raise ValueError("offsets must be those of the members")
        filter.check_queries(start + self.count)
        self.sets = <MemberSet *>self.batch.scratch.allocate(self.count, sizeof(MemberSet))
        entries = <farann_entry *>self.batch.scratch.allocate(self.count * k, sizeof(farann_entry))
        if self.per_group:
            self.groups = <int32_t *>self.batch.scratch.allocate(self.count * k, sizeof(int32_t))
        self.owners = <int64_t *>self.batch.scratch.allocate(4 * n, sizeof(int64_t))
        self.order, self.seen = self.owners + n, self.owners + 2 * n
        self.ruled_out = self.owners + 3 * n
        self.least = <double *>self.batch.scratch.allocate(
            largest_block, sizeof(double) + sizeof(int64_t))
        self.rows_at = <int64_t *>(self.least + largest_block)
        if self.batch.rests is not None:
            self.rest_keys = <double *>self.batch.scratch.allocate(largest_block, sizeof(double))
        for s in range(self.count):
            n_places += farann_id_set_room(filter.n_excluded(start + s))
        if n_places:
            places = <uint32_t *>self.batch.scratch.allocate(n_places, sizeof(uint32_t))
        for s in range(self.count):
            if offsets[s] >= offsets[s + 1]:
                raise ValueError("a set must have a member")
            self.sets[s].first, self.sets[s].end = offsets[s], offsets[s + 1]
            self.sets[s].top.entries, self.sets[s].top.capacity = entries + s * k, k
            self.sets[s].threshold = self.floor
            self.sets[s].filter = filter.of_query(start + s, places)
            places += farann_id_set_room(filter.n_excluded(start + s))
            for i in range(offsets[s], offsets[s + 1]):
                self.owners[i], self.order[i] = s, i

    cdef bint are_raw(self, const MemberSet *members) noexcept nogil:
        """Whether keys of a set are compared as they are, not divided by members' lengths.

        The keys of a single member always are, so that answers are those of `search_furthest`.
        """
        return self.raw or members.end - members.first == 1

    cdef bint has_k_rows(self, int64_t i) noexcept nogil:
        cdef const farann_topk *top = &self.sets[self.owners[i]].top
        return top.count == top.capacity

    cdef double bar(self, int64_t i) noexcept nogil:
        """The set's threshold as a reduced key of one of its members."""
        cdef const Query *query = &self.batch.queries[i]
        cdef const MemberSet *members = &self.sets[self.owners[i]]
        cdef double scale = query.prepared.key_scale if self.are_raw(members) else 1.0
        return bar_of(self.batch, i, floor_of(query, members.threshold * scale))

    cdef void admit(self, int64_t j, int64_t i, const farann_block *where) noexcept nogil:
        """Compute exact keys of the rows in list j of the tile, which pass for member i's set."""
        cdef MemberSet *members = &self.sets[self.owners[i]]
        cdef const farann_candidates *passed = &self.tile[j]
        cdef int64_t at, slot, count = 0
        for at in range(passed.count):
            slot = farann_slot_of(where, passed.slots[at])
            if 0 <= slot < where.end and farann_filter_allows(&members.filter, slot):
                self.rows_at[count] = slot
                count += 1
        self.batch.passed += count
        members.passed += count
        self.score_kept(members, &self.batch.snapshot.segments[0], count)

    cdef void score_rows(self, MemberSet *members, const Segment *rows) noexcept nogil:
        """Give exact keys to all rows that the set's filter allows."""
        cdef int64_t at, position, count = 0
        for at in range(rows.count):
            position = at if rows.positions == NULL else rows.positions[at]
            if farann_filter_allows(&members.filter, rows.first + position):
                self.rows_at[count] = position
                count += 1
        self.batch.scanned += count
        self.score_kept(members, rows, count)

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
            self.rows.keys_at(segment, self.rows_at, n, self.batch.exact_query(i), self.keys)
            rest = self.batch.rest_of(i)
            if rest != NULL:
                self.rows.keys_at(segment, self.rows_at, n, rest, self.rest_keys)
                for j in range(n):
                    self.keys[j] += self.rest_keys[j]
            self.batch.rescored += n
            self.batch.bytes_read += n * self.batch.snapshot.row_bytes
            count = 0
            for j in range(n):
                self.least[count] = min(self.least[j], self.keys[j] / scale)
                self.rows_at[count] = self.rows_at[j]
                count += self.least[count] >= members.threshold
            self.seen[i] += n
            self.ruled_out[i] += n - count
            n = count
        self.sort_members(members)
        if n == 0:
            return
        where = farann_block(segment.first, self.rows_at, NULL, self.batch.snapshot.ids_by_slot,
                             self.batch.snapshot.n_slots)
        all_allowed.live, all_allowed.groups, all_allowed.excluded.bits = NULL, NULL, 0
        if self.per_group:
            farann_grouped_push_rows(
                farann_grouped(&members.top, self.groups + (members - self.sets)
                               * members.top.capacity, self.per_group),
                &self.by_slot[0], self.least, NULL, n, 1.0, &where, &all_allowed)
        else:
            farann_topk_push_rows(&members.top, self.least, NULL, n, 1.0, &where, &all_allowed)
        if members.top.count == members.top.capacity:
            members.threshold = members.top.entries[
                members.top.count - 1 if self.per_group else 0].key

    cdef void sort_members(self, const MemberSet *members) noexcept nogil:
        """Sort members by the share of rows that they rule out."""
        cdef int64_t at, j, i, before
        for at in range(members.first + 1, members.end if uses(MEMBER_ORDER) else 0):
            j, i = at, self.order[at]
            while j > members.first:
                before = self.order[j - 1]
                if (<double>self.ruled_out[i] * self.seen[before]
                        <= <double>self.ruled_out[before] * self.seen[i]):
                    break
                self.order[j] = before
                j -= 1
            self.order[j] = i

    cdef void finish(self) noexcept nogil:
        cdef int64_t s
        for s in range(self.count):
            farann_entries_sort(self.sets[s].top.entries, self.sets[s].top.count, NULL,
                                self.batch.given_up)


@cython.no_gc
cdef class SetKeyLevel(Level):
    """Exact keys of all rows of a block over sets, each met once, by its first member."""

    cdef SetCollector collector
    cdef CodedQueries coded
    cdef Segment rows

    @staticmethod
    cdef SetKeyLevel of(SetCollector collector, CodedQueries coded):
        """`coded`: only sets none of whose members has codes there; None: all sets."""
        cdef SetKeyLevel self = SetKeyLevel.__new__(SetKeyLevel)
        self.batch, self.collector, self.coded = collector.batch, collector, coded
        self.most, self.rung = collector.batch.block_rows, KEYS
        return self

    cdef void take_block(self, Source source, Block *block, int64_t n_members) noexcept nogil:
        self.rows = source.rows_of(block)

    cdef void scan(self, const Block *block, const int64_t *members, int64_t count,
                   Collector collector) noexcept nogil:
        cdef MemberSet *chosen = &self.collector.sets[self.collector.owners[members[0]]]
        cdef int64_t i
        if members[0] != chosen.first:
            return
        for i in range(chosen.first, chosen.end if self.coded is not None else chosen.first):
            if self.coded.of[i].usable:
                return
        self.collector.score_rows(chosen, &self.rows)


@cython.no_gc
cdef class SetBound(Bound):
    """Rules out sets of which one member rules the rows out; lists the members to scan for."""

    cdef SetCollector collector
    cdef CodedQueries coded
    cdef NormBound norms    # None: there is no norm bound
    cdef bint enough        # whether rows are scanned only if a set has found fewer than k

    cdef int64_t keep_open(self, const Block *block, int64_t *members, int64_t n,
                            Collector collector) noexcept nogil:
        """Keep the sets all of whose members these rows can answer; list which are scanned.

        Half a tile of them are, those that rule out most, or a whole one where many rows pass.
        """
        cdef MemberSet *chosen
        cdef int64_t s, at, i, room, count = 0, width = self.coded.width
        if self.enough and block.begins and self.collector.all_have_k_rows():
            return 0
        for at in range(n if block.begins else 0):
            self.collector.sets[self.collector.owners[members[at]]].open = True
        for s in range(self.collector.count):
            chosen = &self.collector.sets[s]
            chosen.open = chosen.open and self.can_answer(block, chosen)
            if not chosen.open:
                continue
            room = (width + 1) // 2 if chosen.passed * KEY_ROWS < block.n_before else width
            for at in range(chosen.first, chosen.end):
                i = self.collector.order[at]
                if self.coded.of[i].usable and room > 0:
                    members[count] = i
                    count += 1
                    room -= 1
        return count

    cdef bint can_answer(self, const Block *block, const MemberSet *chosen) noexcept nogil:
        """Whether norms let the rows from a block on answer all members of a set."""
        cdef int64_t i, panel = block.start // FARANN_CODE_PANEL
        for i in range(chosen.first, chosen.end if self.norms is not None else chosen.first):
            if self.coded.of[i].usable and (
                    self.norms.max_key(panel, i) + self.coded.of[i].whole.slack
                    < self.collector.bar(i)):
                return False
        return True


cdef class SetSearch(Search):
    """Some sets of a batch: `run` answers them, as a search for their members does.

    The members of each set, which is not empty, begin at an offset; the first set is number
    `start` of the batch. `budget` is how many rows of the last build to scan, 0 all; `seconds` are
    for each set, 0 no limit. `rests` are the lowest bits of members of more than 29 bits, at most
    24 of them: members keep 29 bits without them, so that products with rows are exact, with the
    same bits everywhere. With `raw` keys are compared as they are, under cosine, too, scores are
    these keys, and a member may be zero. Rows below `floor` over their set need not be found. At
    most `per_group` rows of a group are, by the groups of `by_slot`; 0: any.
    """

    cdef SetCollector sets

    def __init__(self, Snapshot snapshot, Filter filter, const double[:, ::1] members,
                 const int64_t[::1] offsets, int64_t start, int64_t k, *, double epsilon=0.0,
                 int64_t budget=0, double seconds=0.0, rests=None, bint raw=False,
                 double floor=-INFINITY, int64_t per_group=0, const int32_t[::1] by_slot=None,
                 CancelFlag flag=None):
        cdef int64_t n = members.shape[0], largest_block
        cdef bint listed = filter.segments[0].positions != NULL
        cdef Codes codes = None if listed or filter.n_rows <= FEW_ROWS else snapshot.codes
        if not snapshot.vectors:
            raise ValueError("sets can't be searched for without vectors")
        if per_group < 0 or (per_group and (
                by_slot is None or by_slot.shape[0] < snapshot.n_slots)):
            raise ValueError("each row must have a group, of which some rows may be found")
        # The sets apply their own exclusions.
        if members.shape[1] != snapshot.dim:
            raise ValueError("members must have the dimension of the rows")
        self.batch = QueryBatch.of(snapshot, filter.for_all(), None, 0, n, 1, False, flag)
        self.batch.wide, self.batch.rests = members, rests
        if rests is not None and (rests.shape[0] != n or rests.shape[1] != members.shape[1]):
            raise ValueError("rests must have the shape of members")
        self.batch.epsilon = epsilon
        if seconds > 0.0:
            self.batch.take_time(seconds * (offsets.shape[0] - 1))
        self.make_room()
        largest_block = self.batch.block_rows
        if codes is not None:
            largest_block = max(largest_block, code_rows_of(codes))
        self.collector = self.sets = SetCollector.__new__(SetCollector)
        self.sets.raw, self.sets.floor = raw, floor
        self.sets.per_group, self.sets.by_slot = per_group, by_slot
        self.sets.set_up(self.batch, 0, largest_block, True)
        self.sets.take_sets(filter, offsets, start, max(min(k, filter.n_rows), 1), largest_block)
        take_judge(self, (0.0,) * 6, False)
        if codes is None:
            self.add(RowSource.of(self.batch, &filter.segments[0]),
                     [SetKeyLevel.of(self.sets, None)])
        else:
            self.put_codes_together(codes, budget)
        self.n_base = self.n_parts
        if filter.segments[1].count:
            self.add(RowSource.of(self.batch, &filter.segments[1]),
                     [SetKeyLevel.of(self.sets, None)])
        self.prepare()

    cdef put_codes_together(self, Codes codes, int64_t budget):
        """The parts of the rows of the last build."""
        cdef int64_t n = codes.n_positions
        self.coded = CodedQueries.of_batch(self.batch, codes, codes.has_pca_filter, INFINITY,
                                           self.batch.n_queries > self.sets.count)
        self.add(CodeSource.of(self.batch, codes), [SetKeyLevel.of(self.sets, self.coded)],
                 self.coded, False)
        add_outliers(self, codes, SetKeyLevel.of(self.sets, None))
        if 0 < budget < n:
            n = min(whole_panels(budget), n)
        self.add_some(codes, 0, n)
        if n < codes.n_positions:  # a budget must not leave fewer than k
            self.add_some(codes, n, codes.n_positions)

    cdef add_some(self, Codes codes, int64_t first, int64_t stop):
        """Add coded rows at some positions."""
        cdef CodeSource source = CodeSource.of(self.batch, codes)
        cdef SetBound bound = SetBound.__new__(SetBound)
        cdef Level level
        source.first, source.stop = first, stop
        level = set_level_of(self.coded, code_rows_of(codes), self.sets.owners, self.sets.seen,
                             self.sets.ruled_out)
        bound.batch, bound.collector, bound.coded = self.batch, self.sets, self.coded
        bound.from_here_on, bound.enough = True, first > 0
        if lie_by_norm(self.batch, codes):
            bound.norms = NormBound.of(self.coded)
        self.add(source, [level], self.coded).bind(bound)

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
