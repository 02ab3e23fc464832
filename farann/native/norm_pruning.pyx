"""Norm pruning: which queries rows from a position on can still answer."""

cimport cython
from libc.math cimport fabs
from libc.stdint cimport int64_t

from farann.native.candidates cimport Candidates
from farann.native.coded_queries cimport CodedQueries
from farann.native.kernels cimport *
from farann.native.process cimport NORM_PRUNING, uses
from farann.native.query_batch cimport Query, QueryBatch

# Factor on norm bounds, for the rounding of float64.
cdef double BOUND_UP = 1.0 + 1e-9


@cython.no_gc  # what parts refer to never refers to them
@cython.freelist(8)
cdef class NormPruning:
    """The queries that rows can still answer, where these lie by the largest key they allow."""

    @staticmethod
    cdef NormPruning of(QueryBatch batch, Candidates candidates, CodedQueries coded):
        cdef NormPruning self = NormPruning.__new__(NormPruning)
        self.batch, self.candidates, self.coded = batch, candidates, coded
        self.active = <int64_t *>batch.scratch.allocate(batch.n_queries, sizeof(int64_t))
        self.see_norms()
        self.all_active()
        return self

    cdef void see_norms(self) noexcept nogil:
        """See whether norms tell what rows may reach."""
        # The nearest rows under l2 may have any norm.
        self.by_norm = self.coded.codes.max_norm is not None and (
            self.batch.sign > 0.0 or self.batch.metric != FARANN_L2)

    cdef void keep_active(self, int64_t start) noexcept nogil:
        """Where rows lie by norm: forget the queries that no row from a position on can answer."""
        cdef int64_t i, kept = 0, panel = start // FARANN_CODE_PANEL
        cdef const Query *query
        if not (self.by_norm and uses(NORM_PRUNING)):
            return
        for i in range(self.n_active):
            query = &self.batch.queries[self.active[i]]
            self.active[kept] = self.active[i]
            kept += query.coded and (
                self.max_key_bound(panel, query) + query.whole.slack
                >= self.candidates.admission_threshold(query))
        self.n_active = kept

    cdef double max_key_bound(self, int64_t panel, const Query *query) noexcept nogil:
        """The reduced key that rows from a panel on have at most."""
        cdef double norm = self.coded.codes.max_norm[panel], along
        cdef double length = query.prepared.vector_norm
        if self.batch.metric == FARANN_L2:
            return (length * norm + norm * norm) * BOUND_UP
        if self.coded.codes.mean_query_direction is None:
            return length * norm * BOUND_UP
        # Backwards rows may lie as far as any does.
        along = query.along * (self.coded.codes.max_along[panel] if query.along > 0.0
                               else -self.coded.codes.bounds.norm)
        norm *= query.across
        return along + norm + (BOUND_UP - 1.0) * (fabs(along) + norm)

    cdef bint all_are_coded(self) noexcept nogil:
        """Whether all queries have codes: of others all is known."""
        cdef int64_t i
        for i in range(self.batch.n_queries):
            if not self.batch.queries[i].coded:
                return False
        return True

    cdef void all_active(self) noexcept nogil:
        cdef int64_t i
        self.n_active = self.batch.n_queries
        for i in range(self.batch.n_queries):
            self.active[i] = i
