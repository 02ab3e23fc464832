"""Scores whose terms have one sign: float32 is off by a share of them.

Histograms, counts and what else is never negative have such scores. The furthest rows share next to
nothing with a query, and their scores are 0 or nearly so: what float32 may be off by is then next to
nothing, too, where the lengths of rows and queries bound it by much more.
"""

cimport cython
from libc.stdint cimport int64_t

from farann.native.kernels cimport *
from farann.native.process cimport ONE_SIDED, uses
from farann.native.query_batch cimport Query, QueryBatch
from farann.native.snapshot cimport NOT_LOOKED_FOR, Segment, Snapshot

# Scores of one sign are worth it where float32 is off by such a share of what it is off otherwise, or
# where others have them, for which rows are packed anyway.
cdef double MUCH_LESS = 0.25
cdef double NOT_MUCH_MORE = 2.0


@cython.no_gc  # what parts refer to never refers to them
@cython.freelist(8)
cdef class OneSided:
    """Tells which queries have scores of one sign, and how far float32 is off then.

    Rows are not centred for these, so that terms keep their signs; the reduced key of a row is then
    never above 0.
    """

    @staticmethod
    cdef OneSided of(QueryBatch batch):
        cdef OneSided self = OneSided.__new__(OneSided)
        self.batch = batch
        return self

    cdef bint begins(self, Query *query, bint others) noexcept nogil:
        """Whether a query with k exact keys, whose rough scores are forgotten, is one from now on.

        `others`: some are.
        """
        cdef double least
        if query.found.count < query.found.capacity:
            return False
        least = query.found.entries[0].key * query.prepared.key_scale
        if not self.pays(query, least, others):
            return False
        query.one_sided, query.slack, query.best.count = True, self.slack_at(query, least), 0
        query.prepared.key_offset, query.threshold, query.ceiling_key = 0.0, least, 0.0
        query.select_at = 0
        return True

    cdef bint pays(self, const Query *query, double least, bint others) noexcept nogil:
        """Whether float32 is less off near the reduced key of uncentred rows, and may be so."""
        if not (self.allowed and uses(ONE_SIDED)) or query.one_sided or self.batch.metric == FARANN_L2 or (
                not self.slack_at(query, least)
                <= (NOT_MUCH_MORE if others else MUCH_LESS) * query.slack):
            return False
        return self.nothing_negative(query)

    cdef bint nothing_negative(self, const Query *query) noexcept nogil:
        """Whether neither rows nor the query, times the sign, have a number below 0."""
        cdef int64_t j
        for j in range(self.batch.dim):
            if self.batch.sign * query.given[j] < 0.0:
                return False
        return not has_negative(self.batch.snapshot)

    cdef double slack_at(self, const Query *query, double threshold) noexcept nogil:
        """How far rough scores near a threshold may be off."""
        return farann_query_slack_one_sided(&query.prepared, self.batch.dim,
                                            self.batch.packing.normalized, threshold)


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
