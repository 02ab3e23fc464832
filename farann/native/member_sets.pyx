"""Sets of vectors as queries: what each has found, and exact keys of rows over its members."""

cimport cython
from libc.math cimport INFINITY, NAN, fabs
from libc.stdint cimport int64_t, uint32_t

from farann.native.candidates cimport Candidates
from farann.native.kernels cimport *
from farann.native.process cimport MEMBER_ORDER, uses
from farann.native.query_batch cimport Query, QueryBatch
from farann.native.snapshot cimport Filter, Segment

cdef double ROUNDING = 2.0**-49  # relative error of float64 sums of a few terms


@cython.no_gc  # what parts refer to never refers to them
cdef class MemberSets:
    """The sets whose members are the queries of a batch."""

    @staticmethod
    cdef MemberSets of(QueryBatch batch, Candidates candidates, int64_t largest_block, bint raw,
                       double floor):
        cdef MemberSets self = MemberSets.__new__(MemberSets)
        self.batch, self.candidates, self.raw, self.floor = batch, candidates, raw, floor
        self.least = <double *>batch.scratch.allocate(largest_block, sizeof(double))
        self.kept = <int64_t *>batch.scratch.allocate(largest_block, sizeof(int64_t))
        return self

    cdef take(self, filter, const int64_t[::1] offsets, int64_t start, int64_t k):
        cdef int64_t i, n_places = 0
        cdef Filter chosen = filter
        cdef farann_entry *entries
        cdef uint32_t *places = NULL
        self.count = offsets.shape[0] - 1
        if self.count < 1 or offsets[0] != 0 or offsets[self.count] != self.batch.n_queries:
            raise ValueError("offsets must be those of the members")
        chosen.check_queries(start + self.count)
        self.sets = <MemberSet *>self.batch.scratch.allocate(self.count, sizeof(MemberSet))
        entries = <farann_entry *>self.batch.scratch.allocate(
            self.count * k, sizeof(farann_entry))
        self.order = <int64_t *>self.batch.scratch.allocate(
            3 * offsets[self.count], sizeof(int64_t))
        self.seen = self.order + offsets[self.count]
        self.ruled_out = self.seen + offsets[self.count]
        for i in range(offsets[self.count]):
            self.order[i] = i
        for i in range(self.count):
            n_places += farann_id_set_room(chosen.n_excluded(start + i))
        if n_places:
            places = <uint32_t *>self.batch.scratch.allocate(n_places, sizeof(uint32_t))
        for i in range(self.count):
            if offsets[i] >= offsets[i + 1]:
                raise ValueError("a set must have a member")
            self.sets[i].first, self.sets[i].end = offsets[i], offsets[i + 1]
            self.sets[i].found.entries, self.sets[i].found.capacity = entries + i * k, k
            self.sets[i].threshold = self.floor
            self.sets[i].filter = chosen.of_query(start + i, places)
            places += farann_id_set_room(chosen.n_excluded(start + i))

    cdef write_top(self, float[:, ::1] scores, int64_t[:, ::1] ids, int64_t start):
        """Write the answers, padded where fewer rows were found."""
        cdef int64_t i, j
        cdef double norm
        cdef farann_topk *found
        for i in range(self.count):
            found = &self.sets[i].found
            norm = 1.0
            if self.are_raw(&self.sets[i]):
                norm = self.batch.queries[self.sets[i].first].prepared.query_norm
            for j in range(ids.shape[1]):
                scores[start + i, j], ids[start + i, j] = <float>NAN, -1
                if j < found.count:
                    scores[start + i, j] = <float>farann_score(
                        self.batch.metric, found.entries[j].key, norm)
                    ids[start + i, j] = found.entries[j].id

    cdef write_keys(self, double[:, ::1] keys, int64_t start):
        """Write their keys, -infinity where there are fewer rows."""
        cdef int64_t i, j
        for i in range(self.count):
            for j in range(keys.shape[1]):
                keys[start + i, j] = -INFINITY
                if j < self.sets[i].found.count:
                    keys[start + i, j] = self.sets[i].found.entries[j].key

    cdef bint are_raw(self, const MemberSet *members) noexcept nogil:
        """Whether keys of a set are as they are in a search with its members as queries.

        Those of a single member always are, so that answers are those of `search_furthest`.
        """
        return self.raw or members.end - members.first == 1

    cdef bint lacks_rows(self) noexcept nogil:
        cdef int64_t s
        for s in range(self.count):
            if self.sets[s].found.count < self.sets[s].found.capacity:
                return True
        return False

    cdef double threshold_of(self, const MemberSet *members, int64_t i) noexcept nogil:
        """The set's threshold as a reduced key of one of its members."""
        cdef const farann_query *prepared = &self.batch.queries[i].prepared
        cdef double reduced = members.threshold
        if self.are_raw(members):
            reduced *= prepared.key_scale
        return (reduced + prepared.key_offset
                - ROUNDING * (fabs(reduced) + fabs(prepared.key_offset)))

    cdef void score_segment(self, const Segment *segment) noexcept nogil:
        """Give rows of a segment exact keys alone."""
        cdef int64_t start = 0, end, s, i, row, count
        while start < segment.count and not self.batch.stopped():
            end = min(start + self.batch.block_rows, segment.count)
            for s in range(self.count):
                count = 0
                for i in range(start, end):
                    row = i if segment.positions == NULL else segment.positions[i]
                    if farann_filter_allows(&self.sets[s].filter, segment.first + row):
                        self.kept[count] = row
                        count += 1
                self.batch.scanned += count
                self.score_kept(&self.sets[s], segment, count)
            start = end

    cdef void score_kept(self, MemberSet *members, const Segment *segment,
                         int64_t n) noexcept nogil:
        """Give n rows of a segment exact keys, member by member while they may be an answer."""
        cdef int64_t at, i, j, count
        cdef double scale
        cdef double *keys = self.candidates.exact_keys
        cdef Query *query
        cdef farann_block block
        cdef farann_filter all_allowed
        for j in range(n):
            self.least[j] = INFINITY
        for at in range(members.first, members.end):
            if n == 0:
                break
            i = self.order[at]
            query = &self.batch.queries[i]
            scale = 1.0
            if not self.are_raw(members):
                scale = query.prepared.query_norm
            self.candidates.rows.keys_at(segment, self.kept, n, self.batch.exact_query(query),
                                         keys)
            self.batch.rescored += n
            self.batch.bytes_read += n * self.batch.snapshot.row_bytes
            count = 0
            for j in range(n):
                self.least[count] = min(self.least[j], keys[j] / scale)
                self.kept[count] = self.kept[j]
                count += self.least[count] >= members.threshold
            self.seen[i] += n
            self.ruled_out[i] += n - count
            n = count
        self.sort_members(members)
        if n == 0:
            return
        block.first, block.positions, block.slots = segment.first, self.kept, NULL
        block.ids, block.end = self.batch.snapshot.ids_by_slot, self.batch.snapshot.n_slots
        all_allowed.alive, all_allowed.groups, all_allowed.excluded.bits = NULL, NULL, 0
        farann_topk_push_block(&members.found, self.least, n, 1.0, &block, &all_allowed)
        if members.found.count == members.found.capacity:
            members.threshold = members.found.entries[0].key

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
