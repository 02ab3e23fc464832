"""Upper bounds on the keys of a block's rows, for a query.

A bound holds for exact keys, so it rules a block out whichever level would score it.
"""

cimport cython
from libc.float cimport DBL_MIN
from libc.math cimport INFINITY, NAN, fabs, isnan, sqrt
from libc.stdint cimport INT64_MAX

from farann.native.kernels cimport *
from farann.native.query_batch cimport CodedQuery, Query, reduced_key
from farann.native.snapshot cimport NOT_LOOKED_FOR, Segment

cdef enum:
    LARGEST_SUM = 1 << 24  # float32 has all whole numbers up to this one


@cython.final
@cython.no_gc  # references between parts form no cycles
@cython.freelist(8)
cdef class IntegerKeys:
    """Exact keys of a block of whole numbers for one query, in half the time of float64."""

    cdef bint are_exact(self, int64_t i) noexcept nogil:
        """Whether float32 holds all sums of a query exactly; if so there is memory for them."""
        cdef int64_t of_rows = self.batch.snapshot.largest_whole_number(), of_query, largest
        if of_rows < 0 or not uses(INTEGER_KEYS):
            return False
        of_query = farann_largest_integer(self.batch.queries[i].vector, FARANN_FLOAT32,
                                          self.batch.dim)
        if of_query < 0:
            return False
        if self.batch.traits.squared:  # squares and products are in one sum
            largest = of_rows * (of_rows + 2 * of_query)
        else:
            largest = of_rows * max(of_rows, of_query)
        return largest * self.batch.dim < LARGEST_SUM and make_room(self)

    cdef bint may_be_exact(self) noexcept nogil:
        """Whether rows are whole numbers, so that sums of some queries may be."""
        return uses(INTEGER_KEYS) and self.batch.snapshot.largest_whole_number() >= 0

    cdef void find(self, int64_t i, const RowBlock *rows, int64_t n, double *keys) noexcept nogil:
        """Write the exact keys of n rows for query i."""
        cdef const farann_kernels *kernels = self.batch.kernels
        cdef const Query *query = &self.batch.queries[i]
        cdef bint l2 = self.batch.traits.squared
        cdef float norms[2]
        cdef double of_query = 0.0
        cdef int64_t j
        for j in range(self.batch.dim):
            self.vector[j] = -2.0 * query.vector[j] if l2 else query.vector[j]
            of_query += <double>query.vector[j] * query.vector[j]
        kernels.score_rows_f32(rows.rows, rows.positions, n, self.batch.dim, self.zeros,
                               self.vector, False, 1.0 if l2 else 0.0, self.products, norms)
        if self.batch.traits.normalized:
            kernels.score_rows_f32(rows.rows, rows.positions, n, self.batch.dim, self.zeros,
                                   self.zeros, False, 1.0, self.squares, norms)
        farann_keys_of_integers(self.batch.metric, self.products, self.squares, n, of_query, keys)
        self.batch.count_products(n, self.batch.dim, 1, False)


cdef bint make_room(IntegerKeys keys) noexcept nogil:
    cdef int64_t width = padded(keys.batch.dim), n = keys.batch.block_rows
    if keys.zeros == NULL:
        keys.zeros = <float *>keys.batch.scratch.allocated(2 * width + 2 * n, sizeof(float), True)
        keys.batch.scratch.failed |= keys.zeros == NULL
        keys.vector = keys.zeros + width
        keys.products = keys.vector + width
        keys.squares = keys.products + n
    return keys.zeros != NULL


cdef double largest_sum(IntegerKeys keys, int64_t i) noexcept nogil:
    """|q|^2 plus the largest |x|^2 of all rows, whole numbers that float32 holds exactly.

    The largest |x|^2 is computed once for a snapshot.
    """
    cdef int64_t known = farann_load(&keys.batch.snapshot.largest_square), start, n, j
    cdef double largest = 0.0
    cdef float norms[2]
    cdef int s
    cdef const Segment *segment
    cdef const Query *query = &keys.batch.queries[i]
    cdef RowBlock rows
    if known == NOT_LOOKED_FOR:
        for s in range(2):
            start, segment = 0, &keys.batch.snapshot.segments[s]
            while start < segment.count:
                n = min(keys.batch.block_rows, segment.count - start)
                rows = keys.rows.block(segment, start, n)
                keys.batch.kernels.score_rows_f32(
                    rows.rows, NULL, n, keys.batch.dim, keys.zeros, keys.zeros, False, 0.0,
                    keys.products, norms)
                largest = max(largest, norms[1])
                start += n
        known = <int64_t>largest
        farann_store(&keys.batch.snapshot.largest_square, known)
    largest = <double>known
    for j in range(keys.batch.dim):
        largest += <double>query.vector[j] * query.vector[j]
    return largest


# Factor on bounds of exact keys, for the rounding of float64; that of others is in the slack.
cdef double BOUND_UP = 1.0 + 1e-9


@cython.no_gc  # references between parts form no cycles
cdef class Bound:
    """Rules out queries that a block can't answer, or with `from_here_on` nor the rows after it."""

    cdef void forget(self, int64_t i) noexcept nogil:
        """Query i was prepared."""

    cdef int64_t keep_open(self, const Block *block, int64_t *members, int64_t n,
                            Collector collector) noexcept nogil:
        """Move the members that these rows can answer to the front; return how many they are."""
        return n

    cdef int64_t n_within(self, int64_t start, const int64_t *members, int64_t n,
                          Collector collector) noexcept nogil:
        """Rows that can still answer, by this bound and the thresholds so far, from `start` on; of
        all queries together. 0 if that is not known."""
        return 0


@cython.final
@cython.no_gc
cdef class NormBound(Bound):
    """The norm bound, for rows sorted by norm: it holds for a block and all rows after it."""

    @staticmethod
    cdef NormBound of(CodedQueries coded):
        cdef NormBound self = NormBound.__new__(NormBound)
        self.batch, self.coded, self.codes = coded.batch, coded, coded.codes
        self.from_here_on = True
        return self

    cdef int64_t keep_open(self, const Block *block, int64_t *members, int64_t n,
                            Collector collector) noexcept nogil:
        cdef int64_t j, i, count = 0, panel = block.start // FARANN_CODE_PANEL
        for j in range(n):
            i = members[j]
            members[count] = i
            count += self.is_open(panel, i, collector)
        return count

    cdef int64_t n_within(self, int64_t start, const int64_t *members, int64_t n,
                          Collector collector) noexcept nogil:
        cdef int64_t j, first, middle, end, total = 0
        if self.codes is self.batch.snapshot.added:  # each run has an order of its own
            return 0
        for j in range(n):
            first, end = start // FARANN_CODE_PANEL, self.codes.max_norm.shape[0]
            while first < end:
                middle = (first + end) // 2
                if self.is_open(middle, members[j], collector):
                    first = middle + 1
                else:
                    end = middle
            total += max(first * FARANN_CODE_PANEL - start, <int64_t>0)
        return total

    cdef bint is_open(self, int64_t panel, int64_t i, Collector collector) noexcept nogil:
        """Whether rows from a panel on can answer a query."""
        cdef const farann_entry *last = NULL
        cdef double key = self.max_key(panel, i)
        # The rounding error of queries without codes is unknown.
        if self.coded.of[i].usable and key + self.coded.of[i].whole.slack < collector.bar(i):
            return False
        if self.codes.by_square:
            last = collector.kth_near(i, key)
        return last == NULL or last.key + self.batch.queries[i].prepared.key_offset <= key

    cdef double max_key(self, int64_t panel, int64_t i) noexcept nogil:
        """The largest reduced key that rows from a panel on can have."""
        cdef const CodedQuery *coded = &self.coded.of[i]
        cdef double norm = self.codes.max_norm[panel], along
        cdef double length = self.batch.queries[i].prepared.vector_norm
        if self.codes.by_square:
            return ((norm + 2.0 * sqrt(norm) * coded.across + coded.along) * BOUND_UP + DBL_MIN
                    + self.batch.queries[i].prepared.key_offset)
        if self.batch.traits.squared:
            return length * norm + norm * norm
        if self.codes.mean_query_direction is None:
            return length * norm
        # If `coded.along` is negative, the least <v, y> bounds the key: minus the largest |y|.
        along = coded.along * (self.codes.max_along[panel] if coded.along > 0.0
                               else -self.codes.bounds.norm)
        return along + norm * coded.across


@cython.final
@cython.no_gc
cdef class CeilingBound(Bound):
    """The largest key that any row can have: once k rows have it, only smaller ids count.

    Where no number is negative, rows that share no coordinate with the query tie there, and so do
    copies of it.
    """

    @staticmethod
    cdef CeilingBound of(QueryBatch batch, RowReader rows):
        cdef CeilingBound self = CeilingBound.__new__(CeilingBound)
        self.batch, self.integer_keys = batch, IntegerKeys.__new__(IntegerKeys)
        self.integer_keys.batch, self.integer_keys.rows = batch, rows
        self.ceilings = <double *>batch.scratch.allocate(batch.n_queries, sizeof(double))
        return self

    cdef void forget(self, int64_t i) noexcept nogil:
        self.ceilings[i], self.n_known = NAN, 0

    cdef void find(self, int64_t i) noexcept nogil:
        """Compute the ceiling of a query, once."""
        if isnan(self.ceilings[i]):
            self.ceilings[i] = of_query(self, i)
            self.n_known += self.ceilings[i] < INFINITY

    cdef int64_t keep_open(self, const Block *block, int64_t *members, int64_t n,
                            Collector collector) noexcept nogil:
        cdef int64_t j, i, count = 0, first_id = -1
        cdef const farann_entry *last
        if self.n_known == 0:
            return n
        for j in range(n):
            i = members[j]
            members[count] = i
            count += 1
            if not self.ceilings[i] < INFINITY:
                continue
            last = collector.kth_near(i, reduced_key(&self.batch.queries[i], self.ceilings[i]))
            if last == NULL or last.key < self.ceilings[i]:
                continue
            if first_id < 0:
                first_id = least_id(block)
            count -= last.id < first_id
        return count


cdef double of_query(CeilingBound bound, int64_t i) noexcept nogil:
    """An upper bound on exact keys times the sign, rounded as keys are; infinity: unknown."""
    if not uses(CEILINGS):
        return INFINITY
    if bound.batch.traits.squared:
        if bound.batch.sign < 0.0:
            return 0.0
        if bound.integer_keys.are_exact(i) and nothing_negative(bound, i):
            return largest_sum(bound.integer_keys, i)
        return INFINITY
    if nothing_negative(bound, i):
        return 0.0
    return of_axis(bound, i) if bound.batch.traits.normalized else INFINITY


cdef bint nothing_negative(CeilingBound bound, int64_t i) noexcept nogil:
    """Whether neither rows nor the query, times the sign, have a number below 0."""
    cdef const Query *query = &bound.batch.queries[i]
    cdef int64_t j
    for j in range(bound.batch.dim):
        if bound.batch.sign * query.vector[j] < 0.0:
            return False
    return not bound.batch.snapshot.has_negative()


cdef double of_axis(CeilingBound bound, int64_t i) noexcept nogil:
    """The ceiling under cosine of a query with one number other than 0: its absolute value.

    A row's norm is at least the size of each of its numbers, and rounding keeps order.
    """
    cdef const Query *query = &bound.batch.queries[i]
    cdef double size = 0.0
    cdef int64_t j
    for j in range(bound.batch.dim):
        if query.vector[j] != 0.0:
            if size > 0.0:
                return INFINITY
            size = fabs(query.vector[j])
    return size


cdef bint lie_by_norm(QueryBatch batch, Codes codes) noexcept nogil:
    """Whether rows are sorted by norm, and norms bound their keys (not for the nearest by l2)."""
    return (codes.max_norm is not None and uses(NORM_PRUNING)
            and (batch.sign > 0.0 or not batch.traits.squared))


cdef int64_t least_id(const Block *block) noexcept nogil:
    """The smallest id of the rows of a block."""
    cdef const farann_block *where = &block.where
    cdef int64_t i, slot, least = INT64_MAX
    if where.slots == NULL and where.positions == NULL and where.ids == NULL:
        return where.first
    for i in range(block.n):
        slot = farann_slot_of(where, i)
        if 0 <= slot < where.end:
            least = min(least, where.ids[slot] if where.ids != NULL else slot)
    return least
