"""A collector, a bound and a level made as CONTRIBUTING says, for `test_recipes.py`.

They are compiled alone, against the core's declarations, and join searches from outside: what
passes a door by would give other answers.
"""

from libc.math cimport INFINITY, fabs
from libc.stdint cimport int64_t

from farann.native.bounds cimport Bound
from farann.native.collector cimport Collector
from farann.native.judge cimport CODES, FLOAT32
from farann.native.kernels cimport *
from farann.native.levels cimport Level
from farann.native.query_batch cimport Query, QueryBatch
from farann.native.search cimport Part
from farann.native.snapshot cimport Segment
from farann.native.sources cimport Block, RowBlock, Source
from farann.native.task cimport Task


cdef class EvenCollector(Collector):
    """Collects the k best of the rows with even slots."""

    cdef allocate_answers(self):
        cdef int64_t i
        Collector.allocate_answers(self)
        self.selects = False
        for i in range(self.batch.n_queries):
            self.answers[i].best.capacity = 0  # rough scores of odd rows tell nothing

    cdef void select(self, int64_t j, int64_t i, const float *scores, int64_t n,
                     const farann_block *where) noexcept nogil:
        self.batch.kernels.select_f32(scores, n, self.float_bar(i), &self.tile[j])

    cdef void take_passed(self, int64_t i, int64_t before,
                          const farann_block *where) noexcept nogil:
        cdef farann_candidates *passed = &self.answers[i].passed
        cdef int64_t at, count = before
        Collector.take_passed(self, i, before, where)
        for at in range(before, passed.count):
            passed.slots[count], passed.scores[count] = passed.slots[at], passed.scores[at]
            count += passed.slots[at] % 2 == 0
        passed.count = count

    cdef double keep_best(self, int64_t i) noexcept nogil:
        return INFINITY

    cdef void take(self, int64_t i, const double *keys, const int64_t *rows, int64_t n,
                   const farann_block *where, const farann_filter *filter) noexcept nogil:
        cdef int64_t at, row, count = 0
        for at in range(n):
            row = at if rows == NULL else rows[at]
            self.keys[count], self.places[count] = keys[at], row
            count += farann_slot_of(where, row) % 2 == 0
        Collector.take(self, i, self.keys, self.places, count, where, filter)


cdef class KnownBound(Bound):
    """Knows the key times the sign of each row, by query and slot; counts the blocks left out."""

    cdef const double *keys
    cdef int64_t n_slots
    cdef public int64_t left_out

    cdef int64_t keep_open(self, const Block *block, int64_t *members, int64_t n,
                           Collector collector) noexcept nogil:
        cdef int64_t j, i, row, slot, count = 0
        cdef double largest, key
        for j in range(n):
            i, largest = members[j], -INFINITY
            members[count] = i
            for row in range(block.n):
                slot = farann_slot_of(&block.where, row)
                if 0 <= slot < self.n_slots:
                    largest = max(largest, self.keys[i * self.n_slots + slot])
            key = (largest * self.batch.queries[i].prepared.key_scale
                   + self.batch.queries[i].prepared.key_offset)
            count += key + 1e-6 * (1.0 + fabs(key)) >= collector.bar(i)
        self.left_out += n - count
        return count


cdef class OwnLevel(Level):
    """Scores rows by their exact keys, rounded to float32; counts them."""

    cdef Collector collector
    cdef Segment rows
    cdef double *keys
    cdef public int64_t scored

    cdef void take_block(self, Source source, Block *block, int64_t n_members) noexcept nogil:
        self.rows = source.rows_of(block)

    cdef void scan(self, const Block *block, const int64_t *members, int64_t count,
                   Collector collector) noexcept nogil:
        cdef int64_t i = members[0], row, n = block.n
        cdef const Query *query = &self.batch.queries[i]
        cdef RowBlock rows = self.collector.rows.block(&self.rows, 0, n)
        cdef farann_candidates *passed = &collector.tile[0]
        cdef double largest = 0.0
        cdef float bar
        self.batch.kernels.keys_f64[<int>self.batch.metric](
            rows.rows, rows.positions, n, self.batch.dim, self.batch.exact_query(i), self.keys)
        for row in range(n):
            self.keys[row] = (self.batch.sign * self.keys[row] * query.prepared.key_scale
                              + query.prepared.key_offset)
            largest = max(largest, fabs(self.keys[row]))
        collector.allow(i, 1e-6 * largest)
        bar = collector.float_bar(i)
        for row in range(n):
            passed.scores[passed.count], passed.slots[passed.count] = self.keys[row], row
            passed.count += passed.scores[passed.count] > bar
        self.batch.count_rows(n, self.batch.snapshot.row_bytes)
        self.scored += n


def bind_everywhere(Task task, size_t keys, int64_t n_slots, bint from_here_on):
    """Bind a bound to each part; `keys` is the address of float64 (n_queries, n_slots)."""
    cdef KnownBound bound = KnownBound.__new__(KnownBound)
    cdef int s
    bound.batch, bound.keys, bound.n_slots = task.batch, <const double *>keys, n_slots
    bound.from_here_on = from_here_on
    for s in range(task.n_parts):
        (<Part>task.parts[s]).bind(bound)
    return bound


def put_levels(Task task):
    """Put a level in the place of each that goes by codes or float32; give those."""
    cdef OwnLevel level
    cdef Part part
    cdef int s, rung
    made = []
    for rung in (CODES, FLOAT32):
        level = OwnLevel.__new__(OwnLevel)
        level.batch, level.collector, level.most = task.batch, task.collector, task.batch.block_rows
        level.rung = rung
        level.keys = <double *>task.batch.scratch.allocate(level.most, sizeof(double))
        made.append(level)
        for s in range(task.n_parts):
            part = <Part>task.parts[s]
            part.whole = None
            if part.levels[rung] != NULL:
                part.take(level)
    return made
