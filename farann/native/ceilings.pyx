"""Keys that no row is above: where k rows have that key, only smaller ids are of interest.

Rows that share nothing with a query tie there, where nothing is negative, and so do copies of it.
"""

cimport cython
from libc.math cimport INFINITY, fabs, isnan
from libc.stdint cimport INT64_MAX, int64_t

from farann.native.candidates cimport Candidates
from farann.native.integer_keys cimport IntegerKeys
from farann.native.kernels cimport *
from farann.native.process cimport CEILINGS, uses
from farann.native.query_batch cimport Query, QueryBatch
from farann.native.snapshot cimport NOT_LOOKED_FOR, Segment, Snapshot


@cython.no_gc  # what parts refer to never refers to them
@cython.freelist(8)
cdef class Ceilings:
    """Tells which queries have the best answer that there can be, but for ids."""

    @staticmethod
    cdef Ceilings of(QueryBatch batch, Candidates candidates, IntegerKeys integer_keys):
        cdef Ceilings self = Ceilings.__new__(Ceilings)
        self.batch, self.candidates, self.integer_keys = batch, candidates, integer_keys
        return self

    cdef void find(self, Query *query) noexcept nogil:
        """Find the ceiling of a query, if nobody has."""
        if isnan(query.ceiling_key):
            query.ceiling_key = self.of_query(query)

    cdef double of_query(self, const Query *query) noexcept nogil:
        """What no exact key times the sign is above, as it is computed; infinity: nobody knows."""
        if not uses(CEILINGS):
            return INFINITY
        if self.batch.metric == FARANN_L2:
            if self.batch.sign < 0.0:
                return 0.0
            if self.integer_keys.are_exact(query) and self.nothing_negative(query):
                return self.integer_keys.largest_sum(query)
            return INFINITY
        if self.nothing_negative(query):
            return 0.0
        return self.of_axis(query) if self.batch.metric == FARANN_COSINE else INFINITY

    cdef bint nothing_negative(self, const Query *query) noexcept nogil:
        """Whether neither rows nor the query, times the sign, have a number below 0."""
        cdef int64_t j
        for j in range(self.batch.dim):
            if self.batch.sign * query.given[j] < 0.0:
                return False
        return not has_negative(self.batch.snapshot)

    cdef double of_axis(self, const Query *query) noexcept nogil:
        """The same under cosine of a query with one number other than 0: its size.

        A row's norm is at least the size of each of its numbers, and rounding keeps order.
        """
        cdef double size = 0.0
        cdef int64_t j
        for j in range(self.batch.dim):
            if query.given[j] != 0.0:
                if size > 0.0:
                    return INFINITY
                size = fabs(query.given[j])
        return size

    cdef int64_t leave_out(self, const Segment *segment, int64_t start, int64_t n) noexcept nogil:
        """Mark the queries whose answer no row of a block can change; gives how many there are."""
        cdef farann_block block = self.candidates.block_of(segment, start)
        cdef int64_t i, n_out = 0, first_id = -1
        cdef Query *query
        cdef const farann_entry *last
        for i in range(self.batch.n_queries):
            query, last = &self.batch.queries[i], &self.batch.queries[i].found.entries[0]
            query.left_out = False
            # As far as rough scores can tell.
            if query.ceiling_key == INFINITY or not query.threshold + query.slack >= (
                    query.ceiling_key * query.prepared.key_scale + query.prepared.key_offset):
                continue
            if query.candidates.count:
                self.candidates.rerank_all(query)
            if query.found.count < query.found.capacity or last.key < query.ceiling_key:
                continue
            if first_id < 0:
                first_id = least_id(&block, n)
            query.left_out = last.id < first_id
            n_out += query.left_out
        return n_out


cdef int64_t least_id(const farann_block *block, int64_t n) noexcept nogil:
    """The smallest id of n rows of a block."""
    cdef int64_t i, slot, least = INT64_MAX
    if block.positions == NULL and block.ids == NULL:
        return block.first
    for i in range(n):
        slot = block.first + (block.positions[i] if block.positions != NULL else i)
        least = min(least, block.ids[slot] if block.ids != NULL else slot)
    return least


cdef bint has_negative(Snapshot snapshot) noexcept nogil:
    """Whether any number of the rows is below 0; looked for only once, up to the first.

    Two threads may look at once, and find the same.
    """
    cdef int64_t known = farann_load(&snapshot.negative)
    cdef int s
    cdef const Segment *segment
    if known != NOT_LOOKED_FOR:
        return known
    known = 0
    for s in range(2):
        segment = &snapshot.segments[s]
        if known == 0 and segment.count:
            known = farann_has_negative(segment.rows, snapshot.row_type,
                                        segment.count * snapshot.dim)
    farann_store(&snapshot.negative, known)
    return known
